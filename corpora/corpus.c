#include "corpora/corpus.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "corpora/crossing/crossing.h"
#include "corpora/record.h"
#include "corpora/source.h"

typedef struct entry {
    int32_t archive; /* index, or -1 */
    int32_t n;       /* tokens */
    int64_t at;      /* position in the archive */
    int64_t token;   /* the first of its tokens in the pool, or -1: the archive's are the document's */
    int64_t span;    /* pool: the first of its spans */
    int32_t n_spans; /* pool */
    bool text;       /* pool: no turns in it */
    int32_t n_stretches;
    int64_t stretch; /* pool: the first of its stretches */
} entry;

/* An archive, and how it is read when it is in other tokens than the student's. */
typedef struct archive {
    rt_trace_reader *r;
    rt_crossing *crossing; /* of the corpus, or NULL */
} archive;

struct rt_corpus {
    rt_corpus_options o;
    entry *entry;
    int64_t n, cap, tokens, longest, left_out;
    int64_t learned; /* tokens of spans that count, before what the parts of turns count */
    int64_t by_verdict[RT_VERDICT_COUNT]; /* samples that their verdict leaves out */
    rt_text sources;                      /* "900 of a.traces, 300 of b.jsonl" */
    rt_ids pool, spans; /* tokens; begin and end of what is learned, document by document */
    float *span_weight; /* (cap_weights) of the records' spans, where `weighted` */
    int64_t cap_weights;
    bool weighted; /* one of them is not 1 */
    rt_ids stretches;   /* rt_stretch, document by document */
    archive *archive;
    int n_archives;
    rt_crossing **crossing; /* (n_crossings) of o.teachers, opened when an archive asks */
    int n_crossings;
    rt_mixture mixture; /* of the paths; n = 0: there is none */
    rt_soft_config soft;
    uint64_t hash;
};

static bool full(const rt_corpus *c) { return c->o.limit && c->n >= c->o.limit; }

/* learned: how many of its tokens count. */
static bool add_entry(rt_corpus *c, entry e, int64_t learned)
{
    if (e.n > c->o.max_length || e.n < 2) {
        c->left_out++;
        return false;
    }
    c->learned += learned;
    rt_grow(&c->entry, &c->cap, c->n + 1, sizeof *c->entry, "a list of documents");
    c->entry[c->n++] = e;
    c->tokens += e.n;
    c->longest = rt_max(c->longest, e.n);
    return true;
}

/* ---- archives -----------------------------------------------------------------------------------
 */

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
    int32_t tokens, same;
    rt_crossing_sizes(crossing, &tokens, &same);
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

static int64_t count_learned(const rt_corpus *c, int64_t span, int32_t n)
{
    int64_t learned = 0;
    for (int64_t k = span; k < span + 2 * n; k += 2)
        learned += c->spans.id[k + 1] - rt_max(c->spans.id[k], 1);
    return learned;
}

/* Sample i of an archive in other tokens, in the student's: in the pool from here on. */
static int add_crossed(rt_corpus *c, int32_t index, int64_t i, rt_trace_sample *s,
                       rt_crossing_counts *counts, rt_err *err)
{
    const archive *a = &c->archive[index];
    entry e = { .archive = index, .at = i, .token = c->pool.n, .span = c->spans.n,
                .stretch = c->stretches.n };
    if (rt_trace_get(a->r, i, RT_TRACE_TEXT, s, err) ||
        rt_crossing_document(a->crossing, s, !c->o.last_turn, &c->pool, &c->spans, &c->stretches,
                             counts, err))
        return -1;
    e.n = (int32_t)rt_min(c->pool.n - e.token, INT32_MAX);
    e.n_spans = (int32_t)((c->spans.n - e.span) / 2);
    e.n_stretches = (int32_t)((c->stretches.n - e.stretch) / RT_STRETCH_IDS);
    c->hash = rt_hash64(c->pool.id + e.token, e.n * (int64_t)sizeof *c->pool.id, c->hash);
    if (!add_entry(c, e, count_learned(c, e.span, e.n_spans))) {
        c->pool.n = e.token;
        c->spans.n = e.span;
        c->stretches.n = e.stretch;
    }
    return 0;
}

static void tell_crossed(const char *path, const rt_crossing *crossing,
                         const rt_crossing_counts *n)
{
    int32_t tokens, same;
    double all = (double)rt_max(n->learned, 1);
    rt_crossing_sizes(crossing, &tokens, &same);
    rt_info("%s: in other tokens, %.1f %% of which the student has; of the tokens learned %.1f %% "
            "have a target of one of the teacher's, %.1f %% of several, %.1f %% their label alone",
            path, 100 * (double)same / (double)tokens, 100 * (double)n->one / all,
            100 * (double)n->merged / all, 100 * (double)(n->learned - n->one - n->merged) / all);
}

static int add_samples(rt_corpus *c, const char *path, int32_t index, rt_err *err)
{
    const archive *a = &c->archive[index];
    unsigned verdicts = choose_verdicts(c, path, a->r);
    rt_crossing_counts counts = { 0 };
    rt_trace_sample s;
    int bad = 0;
    rt_trace_sample_init(&s);
    for (int64_t i = 0; i < rt_trace_count(a->r) && !full(c) && !bad; i++) {
        if (!(verdicts & (1u << rt_trace_verdict(a->r, i)))) {
            c->by_verdict[rt_trace_verdict(a->r, i)]++;
            continue;
        }
        uint64_t content = rt_trace_hash(a->r, i);
        int64_t soft, learned = rt_trace_learned(a->r, i, c->o.last_turn, &soft);
        c->hash = rt_hash64(&content, (int64_t)sizeof content, c->hash);
        if (c->o.need_soft && soft < learned)
            bad = fail_soft(a->r, i, soft, learned, err);
        else if (a->crossing)
            bad = add_crossed(c, index, i, &s, &counts, err);
        else
            add_entry(c, (entry){ .archive = index,
                                  .n = (int32_t)rt_trace_tokens(a->r, i),
                                  .at = i,
                                  .token = -1 },
                      learned);
    }
    rt_trace_sample_free(&s);
    if (a->crossing && !bad)
        tell_crossed(path, a->crossing, &counts);
    return bad ? rt_wrap(err, "%s", path) : 0;
}

static int add_archive(rt_corpus *c, const char *path, rt_err *err)
{
    rt_trace_reader *r = NULL;
    if (rt_trace_open_read(&r, path, err))
        return -1;
    c->archive = rt_realloc(c->archive, c->n_archives + 1, sizeof *c->archive, "archives");
    int32_t index = c->n_archives++;
    c->archive[index] = (archive){ r, NULL };
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

/* ---- JSONL and text
 * ------------------------------------------------------------------------------ */

/* The weights of the spans from `span` on; how many tokens count. message: whose spans they are;
   none of a text. */
static int64_t add_weights(rt_corpus *c, const rt_record *r, int64_t span, const rt_ids *message)
{
    int64_t first = span / 2, n = c->spans.n / 2, learned = 0;
    bool weighted = false;
    rt_grow(&c->span_weight, &c->cap_weights, n, sizeof *c->span_weight, "weights of spans");
    for (int64_t k = first; k < n; k++) {
        double own = message->n ? r->message[message->id[k - first]].weight : 1;
        c->span_weight[k] = (float)(r->weight * own);
        weighted |= c->span_weight[k] != 1;
        if (c->span_weight[k] > 0)
            learned += count_learned(c, 2 * k, 1);
    }
    if (weighted)
        c->hash = rt_hash64(c->span_weight + first, (n - first) * (int64_t)sizeof *c->span_weight,
                            c->hash);
    c->weighted |= weighted;
    return learned;
}

static int add_record(rt_corpus *c, const rt_record *r, const char *where, rt_err *err)
{
    int64_t at = c->pool.n, span = c->spans.n;
    rt_ids ids = { 0 }, message = { 0 };
    int bad;
    if (r->text) {
        bad = rt_chat_text(c->o.chat, r->text, (int64_t)strlen(r->text), &ids, err) ||
              rt_ids_add(&c->spans, 1, err) ||
              rt_ids_add(&c->spans, (int32_t)rt_min(ids.n, INT32_MAX), err);
    } else {
        cJSON *root = rt_record_messages(r);
        bad = rt_chat_turns(c->o.chat, root, !c->o.last_turn, &ids, &c->spans, &message, err) &&
              rt_record_lacks(r, err);
        cJSON_Delete(root);
    }
    if (!bad && ids.n <= c->o.max_length) {
        bad = rt_ids_reserve(&c->pool, ids.n, err);
        for (int64_t i = 0; !bad && i < ids.n; i++)
            bad = rt_ids_add(&c->pool, ids.id[i], err);
    }
    if (!bad)
        add_entry(c,
                  (entry){ .archive = -1,
                           .n = (int32_t)rt_min(ids.n, INT32_MAX),
                           .token = at,
                           .span = span,
                           .n_spans = (int32_t)((c->spans.n - span) / 2),
                           .text = r->text != NULL },
                  add_weights(c, r, span, &message));
    c->hash = rt_hash64(ids.id, ids.n * (int64_t)sizeof *ids.id, c->hash);
    c->hash = rt_hash64(c->spans.id + span, (c->spans.n - span) * (int64_t)sizeof(int32_t),
                        c->hash);
    rt_ids_free(&ids);
    rt_ids_free(&message);
    return bad ? rt_wrap(err, "%s", where) : 0;
}

static int add_source(rt_corpus *c, const char *path, rt_err *err)
{
    rt_source *s = NULL;
    rt_item item;
    int got;
    if (!rt_path_exists(path))
        return rt_fail(err, "%s: not found", path);
    if (c->o.need_soft && !c->o.labels)
        return rt_fail(
            err,
            "%s: text has no soft targets: score it with the teacher first (retort score), learn from "
            "labels alone (--loss hard), or give it a share of its own beside an archive (--mix)",
            path);
    if (rt_source_open(&s, path, RT_SOURCE_RECORDS, err))
        return -1;
    while (!full(c) && (got = rt_source_next(s, &item, err)) != 0) {
        rt_record r = { 0 };
        if (got < 0 || rt_record_from_item(&r, &item, err)) {
            rt_source_close(s);
            return -1;
        }
        int bad = add_record(c, &r, item.where, err);
        rt_record_free(&r);
        if (bad) {
            rt_source_close(s);
            return -1;
        }
    }
    rt_source_close(s);
    return 0;
}

/* ---- the list -----------------------------------------------------------------------------------
 */

/* "7 wrong, 2 unfinished": what verdicts leave out; "" when nothing. */
static void tell_verdicts(const rt_corpus *c, char *text, size_t size)
{
    *text = 0;
    for (int v = 0; v < RT_VERDICT_COUNT; v++)
        if (c->by_verdict[v]) {
            size_t at = strlen(text);
            snprintf(text + at, size - at, "%s%lld %s", at ? ", " : "", (long long)c->by_verdict[v],
                     rt_verdict_name((rt_verdict)v));
        }
}

static int fail_empty(const rt_corpus *c, const char *path, rt_err *err)
{
    char verdicts[120], lengths[120] = "";
    tell_verdicts(c, verdicts, sizeof verdicts);
    if (c->left_out || !*verdicts)
        snprintf(lengths, sizeof lengths, "%s%lld are longer than %lld tokens or shorter than 2",
                 *verdicts ? "; " : "", (long long)c->left_out, (long long)c->o.max_length);
    return rt_fail(err, "%s: no documents to learn from (%s%s%s)", path,
                   *verdicts ? "--verdicts leaves out its samples: " : "", verdicts, lengths);
}

static void tell(const rt_corpus *c, int n_paths)
{
    if (n_paths > 1)
        rt_info("documents: %s", c->sources.data);
    if (c->left_out)
        rt_warn("%lld documents are left out: longer than %lld tokens (--max-length, or what the "
                "model was made for) or shorter than 2",
                (long long)c->left_out, (long long)c->o.max_length);
}

static int add_path(rt_corpus *c, const char *path, int index, rt_err *err)
{
    int64_t before = c->n, tokens = c->tokens, learned = c->learned;
    if (rt_trace_is(path) ? add_archive(c, path, err) : add_source(c, path, err))
        return -1;
    if (c->mixture.n) {
        rt_mixture_source *s = &c->mixture.source[index];
        s->first = before, s->n = c->n - before, s->tokens = c->tokens - tokens;
        if (!s->n && full(c))
            return rt_fail(err, "%s: nothing of it to mix in: --limit %lld is reached before it", path,
                           (long long)c->o.limit);
        if (!s->n)
            return fail_empty(c, path, err);
        if (c->learned == learned)
            return rt_fail(err, "%s: nothing to learn in its %lld documents, so it cannot have a share",
                           path, (long long)s->n);
    }
    return rt_text_printf(&c->sources, err, "%s%lld of %s", c->sources.bytes ? ", " : "",
                          (long long)(c->n - before), path);
}

static void share(rt_corpus *c, const char *const *paths)
{
    rt_mixture_share(&c->mixture);
    for (int i = 0; i < c->mixture.n; i++) {
        const rt_mixture_source *s = &c->mixture.source[i];
        rt_info("mix: %s is %.4g %% of the tokens: %.4g %% of the documents", paths[i],
                100 * s->weight, 100 * (double)s->slots / RT_MIXTURE_WINDOW);
    }
}

int rt_part_weights_check(const rt_chat *chat, rt_err *err)
{
    return chat->reasoning.kind != RT_REASONING_NONE
               ? 0
               : rt_fail(err, "--reasoning-weight and --answer-weight would do nothing: no token of this "
                              "tokenizer marks a thought");
}

int rt_corpus_open(rt_corpus **out, const char *const *paths, int n_paths,
                   const rt_corpus_options *o, rt_err *err)
{
    rt_corpus *c = rt_alloc(1, sizeof *c, "a corpus");
    int bad = 0;
    c->o = *o;
    if (o->mixture)
        c->mixture = *o->mixture;
    if (o->parts)
        bad = rt_part_weights_check(o->chat, err);
    for (int i = 0; i < n_paths && !bad; i++)
        bad = add_path(c, paths[i], i, err);
    if (!bad && c->n == 0)
        bad = fail_empty(c, n_paths ? paths[0] : "no --data", err);
    if (!bad && c->learned == 0)
        bad = rt_fail(err, "%s: nothing to learn in its %lld documents: no token of theirs is in a "
                           "turn of the assistant's that counts (their weights are 0, or the chat "
                           "template leaves them out)", paths[0], (long long)c->n);
    if (bad) {
        rt_corpus_close(c);
        return -1;
    }
    tell(c, n_paths);
    if (c->mixture.n)
        share(c, paths);
    c->hash = rt_hash64(&c->n, (int64_t)sizeof c->n, c->hash);
    c->hash = rt_hash64(&c->tokens, (int64_t)sizeof c->tokens, c->hash);
    *out = c;
    return 0;
}

void rt_corpus_close(rt_corpus *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_archives; i++)
        rt_trace_reader_close(c->archive[i].r);
    for (int i = 0; i < c->n_crossings; i++)
        rt_crossing_close(c->crossing[i]);
    free(c->archive);
    free(c->crossing);
    free(c->entry);
    rt_ids_free(&c->pool);
    rt_ids_free(&c->spans);
    free(c->span_weight);
    rt_ids_free(&c->stretches);
    rt_text_free(&c->sources);
    free(c);
}

int64_t rt_corpus_count(const rt_corpus *c) { return c->n; }
int64_t rt_corpus_tokens(const rt_corpus *c) { return c->tokens; }
int64_t rt_corpus_longest(const rt_corpus *c) { return c->longest; }
int64_t rt_corpus_left_out(const rt_corpus *c) { return c->left_out; }
rt_soft_config rt_corpus_soft(const rt_corpus *c) { return c->soft; }
int64_t rt_corpus_length(const rt_corpus *c, int64_t i) { return c->entry[i].n; }
uint64_t rt_corpus_hash(const rt_corpus *c) { return c->hash; }

rt_hash rt_corpus_teacher(const rt_corpus *c)
{
    rt_hash none = { "" }, hash = c->n_archives ? rt_trace_info(c->archive[0].r)->weights_hash : none;
    for (int i = 1; i < c->n_archives; i++)
        if (strcmp(rt_trace_info(c->archive[i].r)->weights_hash.hex, hash.hex))
            return none;
    return hash;
}

static void take_pooled(const rt_corpus *c, const entry *e, rt_document *doc)
{
    doc->token = c->pool.id + e->token;
    doc->n = e->n;
    doc->span = (const rt_trace_span *)(const void *)(c->spans.id + e->span);
    doc->n_spans = e->n_spans;
}

/* The targets of the student's own tokens, from those of the archive's. */
static int cross_soft(const rt_corpus *c, const entry *e, rt_document *doc, rt_err *err)
{
    const archive *a = &c->archive[e->archive];
    const rt_stretch *stretch = (const rt_stretch *)(const void *)(c->stretches.id + e->stretch);
    take_pooled(c, e, doc);
    doc->crossed = true;
    doc->soft_first = rt_max(doc->span[0].begin, 1);
    rt_soft_clear(&doc->mapped);
    return doc->sample.soft.n ? rt_crossing_soft(a->crossing, &doc->sample,
                                                 &rt_trace_info(a->r)->capture, doc->token, doc->n,
                                                 stretch, e->n_stretches, doc->soft_first,
                                                 &doc->mapped, err)
                              : 0;
}

/* A text beside archives under a soft loss. */
static void label_soft(rt_document *doc, const rt_soft_config *soft)
{
    doc->crossed = true;
    doc->soft_first = rt_max(doc->span[0].begin, 1);
    rt_soft_clear(&doc->mapped);
    for (int64_t i = doc->soft_first; i < doc->n; i++)
        rt_soft_certain_row(&doc->mapped, doc->token[i], soft);
}

/* What the tokens of doc count, where they do not all count 1. */
static void weigh(const rt_corpus *c, const entry *e, rt_document *doc)
{
    bool text = e->archive < 0 ? e->text : doc->sample.prompt_tokens == 0;
    const rt_part_weights *parts = text ? NULL : c->o.parts;
    bool own = c->weighted && e->archive < 0;
    if (!parts && !own) {
        free(doc->weight);
        doc->weight = NULL;
        doc->cap_weight = 0;
        return;
    }
    rt_grow(&doc->weight, &doc->cap_weight, doc->n, sizeof *doc->weight, "weights of tokens");
    memset(doc->weight, 0, (size_t)doc->n * sizeof *doc->weight);
    for (int32_t k = 0; k < doc->n_spans; k++) {
        const rt_trace_span *s = &doc->span[k];
        int64_t answer = parts ? rt_chat_answer(c->o.chat, doc->token, s->begin, s->end) : s->end;
        double w = own ? (double)c->span_weight[e->span / 2 + k] : 1;
        for (int64_t t = s->begin; t < s->end; t++)
            doc->weight[t] = (float)(w * (!parts       ? 1
                                          : t < answer ? parts->reasoning
                                                       : parts->answer));
    }
}

static int read_sample(const rt_corpus *c, const entry *e, rt_document *doc, rt_err *err)
{
    rt_trace_sample *s = &doc->sample;
    if (rt_trace_get(c->archive[e->archive].r, e->at, RT_TRACE_SOFT, s, err))
        return -1;
    snprintf(doc->id, sizeof doc->id, "%s", s->id);
    if (e->token >= 0)
        return cross_soft(c, e, doc, err);
    doc->token = s->tokens;
    doc->n = s->n_tokens;
    int32_t passed = c->o.last_turn && s->n_spans ? s->n_spans - 1 : 0;
    doc->span = s->spans + passed;
    doc->n_spans = s->n_spans - passed;
    doc->soft_first = s->soft_first;
    return 0;
}

int rt_corpus_get(const rt_corpus *c, int64_t i, rt_document *doc, rt_err *err)
{
    const entry *e = &c->entry[i];
    doc->crossed = false;
    if (e->archive < 0) {
        take_pooled(c, e, doc);
        doc->sample.soft.n = 0;
        doc->soft_first = 0;
        snprintf(doc->id, sizeof doc->id, "document %lld", (long long)i);
        if (c->o.need_soft)
            label_soft(doc, &c->soft);
    } else if (read_sample(c, e, doc, err)) {
        return -1;
    }
    weigh(c, e, doc);
    return 0;
}

const rt_soft *rt_document_soft(const rt_document *doc)
{
    const rt_soft *soft = doc->crossed ? &doc->mapped : &doc->sample.soft;
    return soft->n ? soft : NULL;
}

float *rt_document_weights(rt_document *doc)
{
    if (doc->weight)
        return doc->weight;
    rt_grow(&doc->weight, &doc->cap_weight, doc->n, sizeof *doc->weight, "weights of tokens");
    for (int32_t k = 0; k < doc->n_spans; k++)
        for (int64_t t = doc->span[k].begin; t < doc->span[k].end; t++)
            doc->weight[t] = 1;
    return doc->weight;
}

double rt_document_weight(const rt_document *doc)
{
    double sum = 0;
    for (int32_t i = 0; i < doc->n_spans; i++) {
        int64_t begin = rt_max(doc->span[i].begin, 1), end = doc->span[i].end;
        if (!doc->weight)
            sum += (double)(end - begin);
        for (int64_t t = begin; doc->weight && t < end; t++)
            sum += (double)doc->weight[t];
    }
    return sum;
}

void rt_document_free(rt_document *doc)
{
    free(doc->weight);
    rt_trace_sample_free(&doc->sample);
    rt_soft_free(&doc->mapped);
    memset(doc, 0, sizeof *doc);
}

int64_t rt_corpus_draw(const rt_corpus *c, uint64_t seed, int64_t index)
{
    return c->mixture.n ? rt_mixture_at(&c->mixture, seed, index)
                        : rt_corpus_shuffle(c->n, seed, index / c->n, index % c->n);
}

/* A document may be the first of one epoch and the last of the next. */
int64_t rt_corpus_round(const rt_corpus *c)
{
    return c->mixture.n ? rt_mixture_round(&c->mixture) : 2 * c->n;
}

int64_t rt_corpus_shuffle(int64_t n, uint64_t seed, int64_t epoch, int64_t at)
{
    int half = 1;
    while ((int64_t)1 << (2 * half) < n)
        half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t x = (uint64_t)at;
    do { /* a permutation of [0, 4^half); walk until it falls inside [0, n) */
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t index = ((uint64_t)epoch << 34) ^ (round << 32) ^ right;
            uint64_t mixed = left ^ (rt_rng_u32(seed, RT_RNG_SHUFFLE, index) & mask);
            left = right;
            right = mixed;
        }
        x = left << half | right;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}
