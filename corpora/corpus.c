#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "corpora/corpus_inside.h"
#include "corpora/record.h"
#include "corpora/source.h"

bool rt_corpus_full(const rt_corpus *c) { return c->o.limit && c->n >= c->o.limit; }

bool rt_corpus_add(rt_corpus *c, rt_corpus_entry e, int64_t learned)
{
    if (e.n > c->o.max_length || e.n < 2) {
        c->left_out++;
        return false;
    }
    c->learned += learned;
    c->learned_of[e.source] += learned;
    rt_grow(&c->entry, &c->cap, c->n + 1, sizeof *c->entry, "a list of documents");
    c->entry[c->n++] = e;
    c->tokens += e.n;
    c->longest = rt_max(c->longest, e.n);
    return true;
}

bool rt_corpus_source(rt_corpus *c, const char *tag, int32_t *source)
{
    int at = c->mixture.by_tag ? rt_mixture_find(&c->mixture, tag ? tag : "") : 0;
    *source = (int32_t)rt_max(at, 0);
    c->other_tags += at < 0;
    return at >= 0;
}

int64_t rt_corpus_learned(const rt_corpus *c, int64_t span, int32_t n)
{
    int64_t learned = 0;
    for (int64_t k = span; k < span + 2 * n; k += 2)
        learned += c->spans.id[k + 1] - rt_max(c->spans.id[k], 1);
    return learned;
}

void rt_corpus_weights_reserve(rt_corpus *c)
{
    rt_grow(&c->span_weight, &c->cap_weights, c->spans.n / 2, sizeof *c->span_weight,
            "weights of spans");
}

/* ---- JSONL and text
 * ------------------------------------------------------------------------------ */

/* The weights of the spans from `span` on; how many tokens count. message: whose spans they are;
   none of a text. */
static int64_t add_weights(rt_corpus *c, const rt_record *r, int64_t span, const rt_ids *message)
{
    int64_t first = span / 2, n = c->spans.n / 2, learned = 0;
    bool weighted = false;
    rt_corpus_weights_reserve(c);
    for (int64_t k = first; k < n; k++) {
        c->span_weight[k] = rt_record_weight(r, message->n ? message->id[k - first] : -1);
        weighted |= c->span_weight[k] != 1;
        if (c->span_weight[k] > 0)
            learned += rt_corpus_learned(c, 2 * k, 1);
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
    int32_t source;
    int bad;
    if (!rt_corpus_source(c, r->tag, &source))
        return 0;
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
        rt_corpus_add(c,
                  (rt_corpus_entry){ .archive = -1,
                           .n = (int32_t)rt_min(ids.n, INT32_MAX),
                           .token = at,
                           .span = span,
                           .n_spans = (int32_t)((c->spans.n - span) / 2),
                           .text = r->text != NULL,
                           .source = source },
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
    while (!rt_corpus_full(c) && (got = rt_source_next(s, &item, err)) != 0) {
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
    if (c->other_tags)
        rt_warn("%lld documents are left out: --mix has no share for their tag, or they have none",
                (long long)c->other_tags);
    if (c->left_out)
        rt_warn("%lld documents are left out: longer than %lld tokens (--max-length, or what the "
                "model was made for) or shorter than 2",
                (long long)c->left_out, (long long)c->o.max_length);
}

static int add_path(rt_corpus *c, const char *path, int index, rt_err *err)
{
    int64_t before = c->n, tokens = c->tokens, learned = c->learned;
    if (rt_trace_is(path) ? rt_corpus_add_archive(c, path, err) : add_source(c, path, err))
        return -1;
    if (c->mixture.n && !c->mixture.by_tag) {
        rt_mixture_source *s = &c->mixture.source[index];
        s->first = before, s->n = c->n - before, s->tokens = c->tokens - tokens;
        if (!s->n && rt_corpus_full(c))
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

/* The documents of each tag one behind another, in their order. */
static int sort_tags(rt_corpus *c, rt_err *err)
{
    rt_corpus_entry *sorted = rt_alloc(c->n, sizeof *sorted, "a list of documents");
    int64_t n = 0;
    for (int k = 0; k < c->mixture.n; k++) {
        rt_mixture_source *s = &c->mixture.source[k];
        s->first = n;
        for (int64_t i = 0; i < c->n; i++) {
            if (c->entry[i].source != k)
                continue;
            s->tokens += c->entry[i].n;
            sorted[n++] = c->entry[i];
        }
        s->n = n - s->first;
        c->hash = rt_hash64(&s->n, (int64_t)sizeof s->n, c->hash);
    }
    free(c->entry);
    c->entry = sorted;
    c->cap = n;
    for (int k = 0; k < c->mixture.n; k++)
        if (!c->learned_of[k])
            return rt_fail(err, "--mix: nothing to learn has the tag \"%s\"; %lld documents have another "
                                "than it names, or none", c->mixture.source[k].tag, (long long)c->other_tags);
    return 0;
}

static void share(rt_corpus *c, const char *const *paths)
{
    rt_mixture_share(&c->mixture);
    for (int i = 0; i < c->mixture.n; i++) {
        const rt_mixture_source *s = &c->mixture.source[i];
        rt_info("mix: %s is %.4g %% of the tokens: %.4g %% of the documents",
                c->mixture.by_tag ? s->tag : paths[i],
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
    if (!bad && c->mixture.by_tag)
        bad = sort_tags(c, err);
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

static void take_pooled(const rt_corpus *c, const rt_corpus_entry *e, rt_document *doc)
{
    doc->token = c->pool.id + e->token;
    doc->n = e->n;
    doc->span = (const rt_trace_span *)(const void *)(c->spans.id + e->span);
    doc->n_spans = e->n_spans;
}

/* The targets of the student's own tokens, from those of the archive's. */
static int cross_soft(const rt_corpus *c, const rt_corpus_entry *e, rt_document *doc, rt_err *err)
{
    const rt_corpus_archive *a = &c->archive[e->archive];
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
static void weigh(const rt_corpus *c, const rt_corpus_entry *e, rt_document *doc)
{
    bool text = e->archive < 0 ? e->text : doc->sample.prompt_tokens == 0;
    const rt_part_weights *parts = text ? NULL : c->o.parts;
    const float *own = e->token >= 0 ? (c->weighted ? c->span_weight + e->span / 2 : NULL)
                                     : doc->sample.span_weight;
    if (own && e->token < 0)
        own += doc->span - doc->sample.spans;
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
        double w = own ? (double)own[k] : 1;
        for (int64_t t = s->begin; t < s->end; t++)
            doc->weight[t] = (float)(w * (!parts       ? 1
                                          : t < answer ? parts->reasoning
                                                       : parts->answer));
    }
}

static int read_sample(const rt_corpus *c, const rt_corpus_entry *e, rt_document *doc, rt_err *err)
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
    const rt_corpus_entry *e = &c->entry[i];
    doc->crossed = false;
    doc->old_logp = doc->advantage = NULL;
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
