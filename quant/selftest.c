#include "quant/selftest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/formats/gguf.h"
#include "core/network/finite.h"
#include "core/network/stored.h"
#include "core/network/weights.h"
#include "corpora/corpus.h"
#include "quant/conversation.h"

enum {
    ROWS = 128,     /* tokens of a pass */
    HEAD_ROWS = 32, /* rows of logits that are held */
    SOME_ROWS = 8,  /* of a matrix that is looked at quickly */
    FULL_TEXTS = 64 /* of --test-text */
};

/* Relative error of rows: no type of 2 bits and more loses half of them, rows or blocks in another
   order lose 1.4 of 1. Vectors are kept as f32, or f16. */
static const double MATRIX_ERROR = 0.5, VECTOR_ERROR = 0.002;

/* What rounding can do to logits, as a share of the KL that chance would have: FLOOR + GROWTH
   error^2, error = the relative error of all matrices. SmolLM2-135M, which loses more than larger
   models do, has 10, 8 and 9 error^2 as Q8_0, Q4_K_M and Q4_0; miniatures with random weights up
   to 31. A lost rope base makes 0.008 of chance within 90 tokens, query and key rows in another
   order 0.19. */
static const double FLOOR = 0.002, GROWTH = 40, CEILING = 0.5;

static const char *const TEXTS[] = {
    "The quick brown fox jumps over the lazy dog. It's 12:45, and 3.14159 * 2 = 6.28318!\n",
    "def f(x):\n    return {\"a\": [x ** 2 for x in range(10)], 'b': None}\n\n\tif x>=0x1F&&!y){ "
    "// end\r\n",
    "Gr\xc3\xb6\xc3\x9f"
    "e, na\xc3\xafve caf\xc3\xa9, \xce\xb1\xce\xb2\xce\xb3, "
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d, "
    "\xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7",
    "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c\xe3\x80\x82"
    "\xe3\x81\x93\xe3\x82\x93\xe3\x81\xab\xe3\x81\xa1\xe3\x81\xaf "
    "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4",
    "\xf0\x9f\x98\x80\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb e\xcc\x81 \xef\xac\x81  \xc2\xa0 "
    "x\n\n\n  y   z \t",
    "1234567890 12345 100,000.00 1e-5 I'll we're DON'T they'Ve <html>&amp;</html> a_b-c/d\\e",
    " leading and trailing spaces  ",
};

rt_selftest_extent rt_selftest_named(const char *name)
{
    return !strcmp(name, "off")    ? RT_SELFTEST_OFF
           : !strcmp(name, "full") ? RT_SELFTEST_FULL
                                   : RT_SELFTEST_QUICK;
}

/* Whether retort runs what was written, or reads its rows alone. */
static bool runs(const rt_selftest *job)
{
    return job->packing != RT_PACK_GPTQ && job->packing != RT_PACK_AWQ;
}

/* ---- logits ---- */

typedef struct side {
    const char *path;
    rt_model model;
    rt_acts acts;
    float *logits; /* (HEAD_ROWS, V) host */
} side;

typedef struct test {
    const rt_selftest *job;
    rt_selftest_report *report;
    rt_dev *dev;
    rt_arenas arenas;
    side source, written;
    rt_chat chat, written_chat;
    int64_t vocab;           /* ids that both have */
    double kl, chance, top1; /* sums over report->tokens */
} test;

static void plan_side(test *t, side *s)
{
    rt_pass_shape shape = {
        .mode = RT_PLAN_SCORE, .rows = ROWS, .segments = 1, .longest = ROWS, .head_rows = HEAD_ROWS
    };
    rt_acts_plan(&s->acts, &t->arenas, t->dev, &s->model, &shape);
}

static int open_side(test *t, side *s, const char *path, rt_err *err)
{
    s->path = path;
    if (rt_model_open(&s->model, t->dev, path, true, ROWS, err))
        return -1;
    if (!runs(t->job))
        return 0;
    s->logits = rt_alloc(HEAD_ROWS * s->model.cfg.vocab, sizeof *s->logits, "logits");
    plan_side(t, s);
    return 0;
}

static int pass(test *t, side *s, const int32_t *id, int64_t n, rt_err *err)
{
    int32_t offset[2] = { 0, (int32_t)n }, pos[ROWS];
    for (int32_t i = 0; i < n; i++)
        pos[i] = i;
    rt_acts_rows(&s->acts, n, 1, id, pos, offset, NULL);
    return rt_model_pass(t->dev, &s->model, &s->acts, err);
}

static int head(test *t, side *s, const int32_t *index, int64_t n, rt_err *err)
{
    int64_t v = s->model.cfg.vocab;
    rt_model_logits(t->dev, &s->model, &s->acts, index, n);
    rt_download(t->dev, s->logits, s->acts.logits.data, n * v * (int64_t)sizeof *s->logits);
    if (rt_sync(t->dev, err))
        return -1;
    for (int64_t i = 0; i < n * v; i++)
        if (!isfinite(s->logits[i]))
            return rt_finite_fail(t->dev, &s->model, &s->acts, err);
    return 0;
}

/* log sum exp, and the first of the largest. */
static double log_sum(const float *x, int64_t n, int64_t *largest)
{
    double sum = 0;
    *largest = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[*largest])
            *largest = i;
    for (int64_t i = 0; i < n; i++)
        sum += (double)expf(x[i] - x[*largest]);
    return (double)x[*largest] + log(sum);
}

static void compare_row(test *t, const float *p, const float *q)
{
    int64_t v = t->vocab, best_p, best_q;
    double lp = log_sum(p, v, &best_p), lq = log_sum(q, v, &best_q), kl = 0, entropy = 0;
    for (int64_t i = 0; i < v; i++) {
        double log_p = (double)p[i] - lp, prob = (double)expf((float)log_p);
        kl += prob * (log_p - ((double)q[i] - lq));
        entropy -= prob * log_p;
    }
    t->kl += kl;
    t->chance += log((double)v) - entropy;
    t->top1 += best_p == best_q;
    t->report->tokens++;
}

static int compare_ids(test *t, const int32_t *id, int64_t n, rt_err *err)
{
    int32_t index[HEAD_ROWS];
    n = rt_min(n, rt_config_longest(&t->source.model.cfg, ROWS));
    n = rt_min(n, rt_config_longest(&t->written.model.cfg, ROWS)); /* a window ends it */
    if (n < 1)
        return 0;
    if (pass(t, &t->source, id, n, err) || pass(t, &t->written, id, n, err))
        return -1;
    for (int64_t first = 0; first < n; first += HEAD_ROWS) {
        int64_t m = rt_min(HEAD_ROWS, n - first);
        for (int64_t i = 0; i < m; i++)
            index[i] = (int32_t)(first + i);
        if (rt_interrupted())
            return rt_fail_interrupted(err, "testing", t->job->name);
        if (head(t, &t->source, index, m, err) || head(t, &t->written, index, m, err))
            return -1;
        for (int64_t i = 0; i < m; i++)
            compare_row(t, t->source.logits + i * t->source.model.cfg.vocab,
                        t->written.logits + i * t->written.model.cfg.vocab);
    }
    return 0;
}

/* ---- weights ---- */

/* Rows of one weight, spread over it; *error: relative. */
static int compare_rows(const test *t, const rt_stored *a, const rt_stored *b,
                        const rt_safetensors *packed, const rt_param *p, int64_t looks,
                        double *error, rt_err *err)
{
    char base[sizeof p->name];
    snprintf(base, sizeof base, "%.*s", (int)(strlen(p->name) - strlen(".weight")), p->name);
    float *x = rt_alloc(2 * a->cols, sizeof *x, "rows of a weight"), *y = x + a->cols;
    double lost = 0, all = 0;
    int bad = 0;
    for (int64_t k = 0; k < looks && !bad; k++) {
        int64_t row = looks > 1 ? k * (a->rows - 1) / (looks - 1) : 0;
        bad = rt_stored_rows(a, x, row, 1, err) ||
              (packed ? rt_pack_read_row(t->job->packing, packed, base, t->job->group, row, y,
                                         a->cols, err)
                      : rt_stored_rows(b, y, row, 1, err));
        for (int64_t i = 0; !bad && i < a->cols; i++) {
            double v = (double)x[i], e = v - (double)y[i];
            lost += e * e;
            all += v * v;
        }
    }
    *error = all > 0 ? sqrt(lost / all) : sqrt(lost);
    free(x);
    return bad;
}

static int compare_weights(test *t, rt_err *err)
{
    rt_store a = { 0 }, b = { 0 };
    rt_stored x, y;
    const rt_params *list = &t->source.model.w.params;
    int bad = rt_store_open(&a, t->job->source, err) || rt_store_open(&b, t->job->written, err);
    for (int i = 0; i < list->n && !bad; i++) {
        const rt_param *p = &list->item[i];
        double error = 0;
        bool packed = !runs(t->job) && (p->flags & RT_PARAM_LINEAR) && p->layer >= 0 &&
                      p->slot->rank == 2;
        bad = rt_store_find(&a, &t->source.model.cfg, p, 0, &x, err) ||
              (!packed && rt_store_find(&b, &t->written.model.cfg, p, 0, &y, err));
        int64_t looks = t->job->extent == RT_SELFTEST_FULL ? x.rows : rt_min(x.rows, SOME_ROWS);
        t->report->rows += looks;
        if (!bad)
            bad = compare_rows(t, &x, &y, packed ? &b.st : NULL, p, looks, &error, err);
        if (!bad && !(error <= (p->slot->rank < 2 ? VECTOR_ERROR : MATRIX_ERROR)))
            bad = rt_fail(
                err,
                "self-test: %s: %s is not the source's: it reads back with a relative error of "
                "%.3g; keep the source and report a fault of retort (--self-test off writes it "
                "all the same)",
                t->job->name, p->name, error);
    }
    rt_store_close(&a);
    rt_store_close(&b);
    return bad ? -1 : 0;
}

/* ---- texts ---- */

static int compare_made_up(test *t, rt_err *err)
{
    int32_t id[ROWS];
    for (int i = 0; i < ROWS; i++)
        id[i] = (int32_t)((uint32_t)i * 2654435761U % (uint32_t)t->vocab);
    return compare_ids(t, id, ROWS / 2, err);
}

/* All texts end to end, a pass at a time, each of which reads all weights of both; quickly the
 * first. */
static int compare_built_in(test *t, rt_err *err)
{
    rt_ids ids = { 0 };
    int bad = 0;
    for (int i = 0; i < RT_COUNT(TEXTS) && !bad; i++)
        bad = rt_tokenizer_encode(t->chat.tokenizer, TEXTS[i], (int64_t)strlen(TEXTS[i]),
                                  i ? 0 : RT_TOKENIZE_BOS, &ids, err);
    int64_t n = t->job->extent == RT_SELFTEST_FULL ? ids.n : rt_min(ids.n, ROWS);
    for (int64_t at = 0; at < n && !bad; at += ROWS)
        bad = compare_ids(t, ids.id + at, rt_min(ROWS, n - at), err);
    rt_ids_free(&ids);
    return bad ? -1 : 0;
}

static int compare_documents(test *t, rt_err *err)
{
    rt_corpus *c = NULL;
    rt_document doc = { 0 };
    rt_corpus_options o = { .chat = &t->chat,
                            .max_length = 1 << 20,
                            .limit = t->job->extent == RT_SELFTEST_FULL ? FULL_TEXTS : 1,
                            .verdicts = (1u << RT_VERDICT_COUNT) - 1 };
    int bad = rt_corpus_open(&c, &t->job->text, 1, &o, err);
    for (int64_t i = 0; !bad && i < rt_corpus_count(c); i++)
        bad = rt_corpus_get(c, i, &doc, err) || compare_ids(t, doc.token, doc.n, err);
    rt_document_free(&doc);
    rt_corpus_close(c);
    return bad ? -1 : 0;
}

/* ---- tokenizer ---- */

/* Ids and bytes of one text, by both. 0 = alike, 1 = not. */
static int differ(test *t, const char *text, unsigned flags, rt_err *err)
{
    rt_ids a = { 0 }, b = { 0 };
    rt_text x = { 0 }, y = { 0 };
    int64_t n = (int64_t)strlen(text);
    int rc = rt_tokenizer_encode(t->chat.tokenizer, text, n, flags, &a, err) ||
                     rt_tokenizer_encode(t->written_chat.tokenizer, text, n, flags, &b, err) ||
                     rt_tokenizer_decode(t->chat.tokenizer, a.id, a.n, 0, &x, err) ||
                     rt_tokenizer_decode(t->written_chat.tokenizer, b.id, b.n, 0, &y, err)
                 ? -1
                 : 0;
    if (!rc)
        rc = a.n != b.n || (a.n && memcmp(a.id, b.id, (size_t)a.n * sizeof *a.id)) ||
             x.bytes != y.bytes || (x.bytes && memcmp(x.data, y.data, (size_t)x.bytes));
    rt_ids_free(&a);
    rt_ids_free(&b);
    rt_text_free(&x);
    rt_text_free(&y);
    t->report->texts += rc == 0;
    return rc;
}

static int check_texts(test *t, rt_err *err)
{
    int unlike = 0, all = 0;
    const char *first = NULL;
    for (int i = 0; i < RT_COUNT(TEXTS); i++)
        for (unsigned flags = 0; flags < 4; flags++, all++) { /* special tokens parsed, BOS put */
            int rc = differ(t, TEXTS[i], flags, err);
            if (rc < 0)
                return -1;
            first = rc && !first ? TEXTS[i] : first;
            unlike += rc;
        }
    if (unlike && t->job->forced_pre) {
        rt_warn(
            "%s: %d of %d texts are split into other tokens than the source's: --pre is not its "
            "split pattern",
            t->job->name, unlike, all);
        return 0;
    }
    return unlike
               ? rt_fail(err,
                         "self-test: %s: its tokenizer is not the source's: \"%.24s...\" becomes "
                         "other tokens",
                         t->job->name, first)
               : 0;
}

/* What an answer ends with must end generation in every runtime that reads the keys. */
static int check_stop(test *t, rt_err *err)
{
    int32_t id = rt_conversation_end(&t->chat);
    if (id < 0)
        return 0;
    const rt_config *c = &t->written.model.cfg;
    snprintf(t->report->stop, sizeof t->report->stop, "%s",
             rt_tokenizer_token(t->chat.tokenizer, id).data);
    if (!rt_config_is_eos(c, id))
        return rt_fail(
            err,
            "self-test: %s: the chat template ends answers with %s (token %d), which is not "
            "among its end tokens: chats would never stop",
            t->job->name, t->report->stop, id);
    return 0;
}

static int check_counts(test *t, rt_err *err)
{
    int64_t rows = t->written.model.cfg.vocab, source = t->source.model.cfg.vocab, listed = -1;
    if (rows != source)
        return rt_fail(err, "self-test: %s: %lld rows of the embedding, the source has %lld",
                       t->job->name, (long long)rows, (long long)source);
    if (rt_gguf_is(t->job->written)) {
        rt_gguf g;
        if (rt_gguf_open(&g, t->job->written, err))
            return -1;
        const rt_gguf_key *k = rt_gguf_find_key(&g, "tokenizer.ggml.tokens");
        listed = k ? k->n : -1;
        rt_gguf_close(&g);
    } else if (!t->job->weights_only) {
        listed = rt_max(rows, rt_tokenizer_vocab(t->written_chat.tokenizer)); /* no padding there */
    }
    if (!t->job->weights_only && listed != rows)
        return rt_fail(err, "self-test: %s: lists %lld tokens for %lld rows of the embedding",
                       t->job->name, (long long)listed, (long long)rows);
    return 0;
}

/* What short texts do not show: every angle of the first ROWS positions, and the norm's epsilon. */
static int check_config(test *t, rt_err *err)
{
    const rt_config *a = &t->source.model.cfg, *b = &t->written.model.cfg;
    int64_t width = rt_config_rope_dim(a), n = ROWS * width, worst = 0;
    float *x = rt_alloc(2 * n, sizeof *x, "rope tables"), *y = x + n;
    bool same = rt_config_rope_dim(b) == width &&
                fabs(a->norm_eps - b->norm_eps) <= 1e-6 * a->norm_eps;
    if (same) {
        rt_config_rope_table(a, x, ROWS);
        rt_config_rope_table(b, y, ROWS);
    }
    for (int64_t i = 0; same && i < n; i++)
        worst = fabsf(x[i] - y[i]) > fabsf(x[worst] - y[worst]) ? i : worst;
    same = same && fabsf(x[worst] - y[worst]) < 1e-3F;
    free(x);
    return same ? 0
                : rt_fail(err,
                          "self-test: %s: its rotary angles or norm epsilon are not the source's "
                          "(rope base "
                          "%g and %g, epsilon %g and %g); report a fault of retort (--self-test "
                          "off writes "
                          "it all the same)",
                          t->job->name, b->rope_theta, a->rope_theta, b->norm_eps, a->norm_eps);
}

/* ---- all ---- */

static int judge(test *t, rt_err *err)
{
    rt_selftest_report *r = t->report;
    double n = (double)rt_max(1, r->tokens);
    r->kl = t->kl / n;
    r->chance = t->chance / n;
    r->top1 = t->top1 / n;
    double error = t->job->error, share = FLOOR + GROWTH * error * error;
    r->limit = r->chance * (share < CEILING ? share : CEILING);
    if (r->kl > r->limit)
        return rt_fail(
            err,
            "self-test: %s: this is not the model it was made from: KL %.4f nats to the source, "
            "rounding explains %.4f, chance has %.2f; keep the source and report a fault of retort "
            "(--self-test off writes it all the same)",
            t->job->name, r->kl, r->limit, r->chance);
    return 0;
}

/* config.json without what retort does not run. */
static int read_config(test *t, rt_err *err)
{
    char *path = rt_path_join(t->job->written, "config.json");
    cJSON *json = NULL;
    int bad = rt_json_load(&json, path, err);
    cJSON_DeleteItemFromObjectCaseSensitive(json, "quantization_config");
    bad = bad || rt_config_parse(&t->written.model.cfg, json, path, err);
    cJSON_Delete(json);
    free(path);
    return bad;
}

/* A directory's end tokens stand in generation_config.json too. */
static int read_ends(test *t, rt_err *err)
{
    char *path = rt_path_join(t->job->written, "generation_config.json");
    rt_config *c = &t->written.model.cfg;
    cJSON *json = NULL;
    const cJSON *id;
    int bad = rt_json_load(&json, path, err);
    cJSON_ArrayForEach(
        id, rt_json_find(json, "eos_token_id")) if (cJSON_IsNumber(id) &&
                                                    c->n_eos < RT_COUNT(c->eos) &&
                                                    !rt_config_is_eos(c, (int32_t)id->valuedouble))
        c->eos[c->n_eos++] = (int64_t)id->valuedouble;
    cJSON_Delete(json);
    free(path);
    return bad;
}

static int open_all(test *t, rt_err *err)
{
    const rt_selftest *job = t->job;
    if (rt_dev_open(&t->dev, NULL, job->threads, err) ||
        open_side(t, &t->source, job->source, err) ||
        (runs(job) ? open_side(t, &t->written, job->written, err) : read_config(t, err)))
        return -1;
    t->vocab = t->source.model.cfg.vocab;
    if (job->weights_only)
        return 0;
    if (rt_conversation_open(&t->chat, job->source, false, err) ||
        rt_conversation_open(&t->written_chat, job->written, false, err))
        return -1;
    t->vocab = rt_min(t->vocab, rt_tokenizer_vocab(t->chat.tokenizer));
    return 0;
}

static void close_all(test *t)
{
    side *both[] = { &t->source, &t->written };
    rt_arenas_free(&t->arenas, t->dev);
    for (int i = 0; i < 2; i++) {
        rt_acts_free(&both[i]->acts);
        rt_model_free(t->dev, &both[i]->model);
        free(both[i]->logits);
    }
    rt_chat_close(&t->chat);
    rt_chat_close(&t->written_chat);
    rt_dev_close(t->dev);
}

static int compare_logits(test *t, rt_err *err)
{
    return rt_arenas_place(&t->arenas, t->dev, err) || rt_dev_ready(t->dev, err) ||
           (t->job->weights_only ? compare_made_up(t, err)
            : t->job->text       ? compare_documents(t, err)
                                 : compare_built_in(t, err)) ||
           judge(t, err);
}

int rt_selftest_run(const rt_selftest *job, rt_selftest_report *report, rt_err *err)
{
    test t = { .job = job, .report = report };
    *report = (rt_selftest_report){ 0 };
    if (job->extent == RT_SELFTEST_OFF)
        return 0;
    int bad = open_all(&t, err) || (job->packing && read_ends(&t, err)) || check_counts(&t, err) ||
              check_config(&t, err) ||
              (!job->weights_only && (check_texts(&t, err) || check_stop(&t, err))) ||
              compare_weights(&t, err) || (runs(job) && compare_logits(&t, err));
    close_all(&t);
    return bad ? -1 : 0;
}

int rt_selftest_plan(const rt_selftest *job, rt_needs *needs, rt_err *err)
{
    test t = { .job = job };
    side *both[] = { &t.source, &t.written };
    int n = runs(job) ? 2 : 1;
    if (job->extent == RT_SELFTEST_OFF)
        return 0;
    int bad = rt_dev_open(&t.dev, NULL, job->threads, err);
    for (int i = 0; i < n && !bad; i++) { /* the written one is no larger */
        bad = rt_model_plan(&both[i]->model, t.dev, job->source, true, ROWS, err);
        if (!bad && runs(job))
            plan_side(&t, both[i]);
        if (!bad)
            rt_needs_arenas(needs, t.dev, &both[i]->model.arenas);
    }
    if (!bad && runs(job)) {
        rt_needs_arenas(needs, t.dev, &t.arenas);
        rt_needs_add(needs, RT_NEEDS_MEMORY, "self-test", "logits",
                     2 * HEAD_ROWS * t.source.model.cfg.vocab * (int64_t)sizeof(float));
        rt_needs_workspace(needs, t.dev);
    }
    close_all(&t);
    return bad ? -1 : 0;
}
