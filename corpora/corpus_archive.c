/* corpus_archive.c: the samples of trace archives as documents of a corpus: which archives are learned
   from together, which samples, and those in other tokens than the student's. Refuses: reading
   targets before a document is asked for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "corpora/corpus_inside.h"

/* Archives are learned from together when a draw stands for as much and log Z is kept for the same
   temperatures in all of them. Heads may differ: each row says how long its own is. */
static const char *mix_soft(rt_soft_config *all, const rt_soft_config *one)
{
    bool same = all->n_temperatures == one->n_temperatures;
    for (int32_t i = 0; same && i < all->n_temperatures; i++)
        same = all->temperature[i] == one->temperature[i];
    if (all->head_max == 0) {
        *all = *one;
        return NULL;
    }
    if (all->tail_spacing != one->tail_spacing)
        return "--tail-spacing";
    if (one->head_max > all->head_max)
        all->head_max = one->head_max;
    all->head_floor = fmaxf(all->head_floor, one->head_floor);
    return same ? NULL : "--temperatures";
}

/* Two teachers are told apart by their weights; where those were not read, by what is known. */
static bool one_teacher(const rt_trace_manifest *a, const rt_trace_manifest *b)
{
    if (a->weights_hash.hex[0] && b->weights_hash.hex[0])
        return !strcmp(a->weights_hash.hex, b->weights_hash.hex);
    return !strcmp(a->config_hash.hex, b->config_hash.hex) && !strcmp(a->teacher, b->teacher);
}

/* Against the first archive, when this one's soft targets are to be learned. */
static int check_teacher(const rt_corpus *c, const char *path, const rt_trace_manifest *m,
                         rt_err *err)
{
    const rt_trace_manifest *first = rt_trace_info(c->archive[0].r);
    if (!c->o.need_soft || c->o.mix_teachers || one_teacher(first, m))
        return 0;
    return rt_fail(err,
                   "%s: its teacher is %s (weights %.8s), that of the archives before it %s (%.8s): "
                   "score all of them with one (retort score), or say that two are meant "
                   "(--mix-teachers)",
                   path, m->teacher, m->weights_hash.hex[0] ? m->weights_hash.hex : "not read",
                   first->teacher, first->weights_hash.hex[0] ? first->weights_hash.hex : "not read");
}

/* All of them at once: which of them it is only their fingerprints tell. */
static int open_crossings(rt_corpus *c, rt_err *err)
{
    const rt_strlist *list = &c->o.teachers;
    if (c->n_crossings || !list->n)
        return 0;
    c->crossing = rt_alloc(list->n, sizeof(rt_crossing *), "tokenizers");
    for (; c->n_crossings < list->n; c->n_crossings++)
        if (rt_crossing_open(&c->crossing[c->n_crossings], list->item[c->n_crossings], c->o.chat,
                             c->o.unmatched, err))
            return -1;
    return 0;
}

/* The reader has seen that ids are below vocab_size; what is looked up is the tokenizer's. */
static int check_ids(const rt_crossing *crossing, const char *path, const rt_trace_manifest *m,
                     rt_err *err)
{
    int32_t tokens, same, begun;
    rt_crossing_sizes(crossing, &tokens, &same, &begun);
    return m->vocab_size <= tokens
               ? 0
               : rt_fail(err, "%s: manifest.json: vocab_size %d, but its tokenizer has %d tokens", path,
                         m->vocab_size, tokens);
}

/* *crossing: how archive m is read, NULL when it is in the student's own tokens. */
static int find_crossing(rt_crossing **crossing, rt_corpus *c, const char *path,
                         const rt_trace_manifest *m, rt_err *err)
{
    rt_hash ours = rt_tokenizer_fingerprint(c->o.chat->tokenizer);
    *crossing = NULL;
    if (strcmp(m->tokenizer_hash.hex, ours.hex) == 0)
        return 0;
    if (open_crossings(c, err))
        return -1;
    for (int i = 0; i < c->n_crossings; i++)
        if (strcmp(m->tokenizer_hash.hex, rt_crossing_fingerprint(c->crossing[i]).hex) == 0)
            *crossing = c->crossing[i];
    if (*crossing)
        return check_ids(*crossing, path, m, err);
    if (c->n_crossings)
        return rt_fail(err,
                       "%s: made with a tokenizer (%.8s) that is neither the student's (%.8s) nor "
                       "that of --teacher-tokenizer (%.8s): give its teacher's",
                       path, m->tokenizer_hash.hex, ours.hex,
                       rt_crossing_fingerprint(c->crossing[0]).hex);
    return rt_fail(err,
                   "%s: made with another tokenizer (%.8s, the student has %.8s): map its tokens "
                   "(--teacher-tokenizer TEACHER), give the student the teacher's (retort init --from "
                   "STUDENT --tokenizer TEACHER), or take the text alone (retort archive export)",
                   path, m->tokenizer_hash.hex, ours.hex);
}

static int check_archive(rt_corpus *c, const char *path, const rt_trace_manifest *m,
                         const rt_crossing *crossing, rt_err *err)
{
    rt_soft_config capture = crossing ? rt_soft_mapped(&m->capture) : m->capture;
    if (c->o.need_soft && m->capture.head_max == 0)
        return rt_fail(
            err, "%s: holds no soft targets: score it first (retort score), or learn from labels alone "
                 "(--loss hard)", path);
    if (check_teacher(c, path, m, err))
        return -1;
    const char *other = m->capture.head_max ? mix_soft(&c->soft, &capture) : NULL;
    return other ? rt_fail(err,
                           "%s: made with another %s than the archives before it: they cannot be "
                           "learned from together",
                           path, other)
                 : 0;
}

/* Which verdicts to take from this archive; what that leaves out is said. */
static unsigned choose_verdicts(const rt_corpus *c, const char *path, const rt_trace_reader *r)
{
    int64_t n[RT_VERDICT_COUNT] = { 0 }, out = 0;
    char text[160] = "";
    for (int64_t i = 0; i < rt_trace_count(r); i++)
        n[rt_trace_verdict(r, i)]++;
    unsigned take = c->o.verdicts                 ? c->o.verdicts
                    : n[RT_CORRECT] + n[RT_WRONG] ? 1u << RT_CORRECT
                                                  : ~(1u << RT_UNFINISHED);
    for (int v = 0; v < RT_VERDICT_COUNT; v++) {
        size_t used = strlen(text);
        if (n[v] == 0 || (take & (1u << v)))
            continue;
        out += n[v];
        snprintf(text + used, sizeof text - used, "%s%lld %s", used ? ", " : "", (long long)n[v],
                 rt_verdict_name((rt_verdict)v));
    }
    if (out)
        rt_info("%s: %lld of %lld samples are left out by their verdict: %s", path, (long long)out,
                (long long)rt_trace_count(r), text);
    return take;
}

static int fail_soft(const rt_trace_reader *r, int64_t i, int64_t soft, int64_t n, rt_err *err)
{
    rt_trace_sample s;
    rt_trace_sample_init(&s);
    int bad = rt_trace_get(r, i, 0, &s, err);
    if (!bad)
        rt_fail(err, "sample %s has soft targets for %lld of the %lld tokens it is to teach: score it "
                     "again (retort score), or learn from labels alone (--loss hard)",
                s.id, (long long)soft, (long long)n);
    rt_trace_sample_free(&s);
    return -1;
}

/* Its spans are the sample's or, where those were not found again, the last of them. */
static void weigh_crossed(rt_corpus *c, const rt_corpus_entry *e, const rt_trace_sample *s)
{
    rt_corpus_weights_reserve(c);
    for (int32_t k = 0; k < e->n_spans; k++)
        c->span_weight[e->span / 2 + k] = s->span_weight ? s->span_weight[s->n_spans - e->n_spans + k]
                                                         : 1;
    c->weighted |= s->span_weight != NULL;
}

/* Sample i of an archive in other tokens, in the student's: in the pool from here on. */
static int add_crossed(rt_corpus *c, int32_t index, int64_t i, int32_t source, rt_trace_sample *s,
                       rt_crossing_counts *counts, rt_err *err)
{
    const rt_corpus_archive *a = &c->archive[index];
    rt_corpus_entry e = { .archive = index, .at = i, .token = c->pool.n, .span = c->spans.n,
                .stretch = c->stretches.n, .source = source };
    if (rt_trace_get(a->r, i, RT_TRACE_TEXT, s, err) ||
        rt_crossing_document(a->crossing, s, !c->o.last_turn, &c->pool, &c->spans, &c->stretches,
                             counts, err))
        return -1;
    e.n = (int32_t)rt_min(c->pool.n - e.token, INT32_MAX);
    e.n_spans = (int32_t)((c->spans.n - e.span) / 2);
    weigh_crossed(c, &e, s);
    e.n_stretches = (int32_t)((c->stretches.n - e.stretch) / RT_STRETCH_IDS);
    c->hash = rt_hash64(c->pool.id + e.token, e.n * (int64_t)sizeof *c->pool.id, c->hash);
    if (!rt_corpus_add(c, e, rt_corpus_learned(c, e.span, e.n_spans))) {
        c->pool.n = e.token;
        c->spans.n = e.span;
        c->stretches.n = e.stretch;
    }
    return 0;
}

static void tell_crossed(const char *path, const rt_crossing *crossing,
                         const rt_crossing_counts *n)
{
    int32_t tokens, same, begun;
    double all = (double)rt_max(n->learned, 1);
    rt_crossing_sizes(crossing, &tokens, &same, &begun);
    rt_info("%s: in other tokens, %.1f %% of which the student has (of the rest %.1f %% begin with a token "
            "of both); of the tokens learned %.1f %% "
            "have a target of one of the teacher's, %.1f %% of several, %.1f %% their label alone",
            path, 100 * (double)same / (double)tokens,
            100 * (double)begun / (double)rt_max(tokens - same, 1), 100 * (double)n->one / all,
            100 * (double)n->merged / all, 100 * (double)(n->learned - n->one - n->merged) / all);
}

static int add_samples(rt_corpus *c, const char *path, int32_t index, rt_err *err)
{
    const rt_corpus_archive *a = &c->archive[index];
    unsigned verdicts = choose_verdicts(c, path, a->r);
    rt_crossing_counts counts = { 0 };
    rt_trace_sample s;
    int bad = 0;
    rt_trace_sample_init(&s);
    for (int64_t i = 0; i < rt_trace_count(a->r) && !rt_corpus_full(c) && !bad; i++) {
        if (!(verdicts & (1u << rt_trace_verdict(a->r, i)))) {
            c->by_verdict[rt_trace_verdict(a->r, i)]++;
            continue;
        }
        int32_t source = 0;
        if (c->mixture.by_tag) {
            if (rt_trace_get(a->r, i, RT_TRACE_TEXT, &s, err)) {
                bad = -1;
                break;
            }
            if (!rt_corpus_source(c, s.tag, &source))
                continue;
        }
        uint64_t content = rt_trace_hash(a->r, i);
        int64_t soft, learned = rt_trace_learned(a->r, i, c->o.last_turn, &soft);
        c->hash = rt_hash64(&content, (int64_t)sizeof content, c->hash);
        if (c->o.need_soft && soft < learned)
            bad = fail_soft(a->r, i, soft, learned, err);
        else if (a->crossing)
            bad = add_crossed(c, index, i, source, &s, &counts, err);
        else
            rt_corpus_add(c, (rt_corpus_entry){ .archive = index,
                                  .n = (int32_t)rt_trace_tokens(a->r, i),
                                  .at = i,
                                  .token = -1,
                                  .source = source },
                      learned);
    }
    rt_trace_sample_free(&s);
    if (a->crossing && !bad)
        tell_crossed(path, a->crossing, &counts);
    return bad ? rt_wrap(err, "%s", path) : 0;
}

int rt_corpus_add_archive(rt_corpus *c, const char *path, rt_err *err)
{
    rt_trace_reader *r = NULL;
    if (rt_trace_open_read(&r, path, err))
        return -1;
    c->archive = rt_realloc(c->archive, c->n_archives + 1, sizeof *c->archive, "archives");
    int32_t index = c->n_archives++;
    c->archive[index] = (rt_corpus_archive){ r, NULL };
    const rt_trace_manifest *m = rt_trace_info(r);
    if (find_crossing(&c->archive[index].crossing, c, path, m, err) ||
        check_archive(c, path, m, c->archive[index].crossing, err) ||
        add_samples(c, path, index, err))
        return -1;
    if (c->archive[index].crossing)
        c->hash = rt_hash64(&m->tokenizer_hash, (int64_t)sizeof m->tokenizer_hash, c->hash);
    c->hash = rt_hash64(&m->weights_hash, (int64_t)sizeof m->weights_hash, c->hash);
    size_t settings = offsetof(rt_soft_config, temperature) +
                      (size_t)m->capture.n_temperatures * sizeof m->capture.temperature[0];
    c->hash = rt_hash64(&m->capture, (int64_t)settings, c->hash);
    return 0;
}
