/* export.c: the tensors of an export: one list made from the registry, checked against the
   checkpoint, then streamed chunk by chunk through the encoders, a few rows a thread. Keys are
   export_keys.c. */
#include "quant/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/processor.h"
#include "core/base/team.h"
#include "core/network/stored.h"
#include "core/network/weights.h"
#include "quant/beside.h"
#include "quant/calibrated.h"
#include "quant/conversation.h"
#include "quant/encode.h"

enum {
    CHUNK_ELEMENTS = 1 << 22, /* encoded, then written */
    UNIT_ELEMENTS = 1 << 14,  /* of a chunk, by one thread: its rows stay in the cache */
    UNITS = 2 * CHUNK_ELEMENTS / UNIT_ELEMENTS, /* most of a chunk */
    ARRAYS = 3                                  /* of a thread's rows: read, weighed, decoded */
};

/* One tensor of the file. */
typedef struct item {
    char name[64 + 8]; /* with ".weight" */
    rt_stored source;
    rt_dtype dtype;
    int rank;
    int param;     /* of the registry */
    int64_t layer; /* -1 outside blocks */
    int64_t dim[4], rows, width;
    int64_t heads; /* rows are re-ordered inside this many heads; 0 = as they are */
} item;

typedef struct plan {
    const rt_export *job;
    rt_config cfg;
    rt_weights weights; /* registry only, nothing placed */
    rt_store store;
    rt_chat chat;
    item *item;
    int n_items;
    int64_t widest; /* elements of a row */
    int threads;
    float *rope;  /* (P/2) divisors, or NULL */
    rt_export_report report;
} plan;

static void rope_divisors(plan *p)
{
    int64_t half = rt_config_rope_dim(&p->cfg) / 2;
    if (p->cfg.rope_scaling != RT_ROPE_LLAMA3)
        return;
    p->rope = rt_alloc(half, sizeof *p->rope, "rope factors");
    for (int64_t i = 0; i < half; i++)
        p->rope[i] = (float)rt_config_rope_divisor(&p->cfg, i);
}

int64_t rt_export_heads(const rt_config *c, const char *gguf)
{
    const char *part = strrchr(gguf, '.');
    if (!c->family->gguf_interleaved || c->interleaved || !part)
        return 0;
    return !strcmp(part, ".attn_q") ? c->heads : !strcmp(part, ".attn_k") ? c->kv_heads : 0;
}

int64_t rt_export_row(int64_t rows, int64_t heads, int64_t row)
{
    int64_t h = rows / heads, in = row % h;
    return row - in + in % 2 * (h / 2) + in / 2;
}

static int item_fill(plan *p, int index, rt_err *err)
{
    const rt_param *param = &p->weights.params.item[index];
    item *it = &p->item[p->n_items];
    const rt_config *c = &p->cfg;
    const rt_tensor *want = param->slot;
    *it = (item){ .rank = want->rank, .param = index, .layer = param->layer };
    if (!p->job->later && rt_store_find(&p->store, c, param, 0, &it->source, err))
        return -1;
    bool bias = (param->flags & RT_PARAM_BIAS) != 0;
    if (bias && c->family->gguf_interleaved)
        return rt_fail(err, "%s: tensor %s: retort writes no GGUF of a %s model with biases",
                       p->job->dir, param->name, c->family->model_type);
    snprintf(it->name, sizeof it->name, "%s.%s", param->gguf, bias ? "bias" : "weight");
    memcpy(it->dim, want->dim, sizeof it->dim);
    it->width = want->dim[want->rank - 1];
    it->rows = rt_tensor_elements(want) / it->width;
    const rt_mix_model model = { c->layers, c->heads, c->kv_heads, c->tied, p->job->weighed,
                                 p->job->pure };
    it->dtype = rt_mix_dtype(p->job->mix, &model, param->gguf, want->rank, it->width, param->layer);
    it->heads = rt_export_heads(c, param->gguf);
    p->report.requantized += rt_dtype_get(it->source.dtype)->block > 1;
    if (rt_mix_dtype(p->job->mix, &model, param->gguf, want->rank, 256, param->layer) != it->dtype)
        p->report.fallbacks++;
    p->n_items++;
    p->report.tensors++;
    p->report.parameters += it->rows * it->width;
    p->report.type_tensors[it->dtype]++;
    p->report.type_bytes[it->dtype] += rt_dtype_bytes(it->dtype, it->rows * it->width);
    p->report.tensor_bytes += rt_dtype_bytes(it->dtype, it->rows * it->width);
    return 0;
}

static int vocabulary_check(const plan *p, rt_err *err)
{
    int64_t tokens = rt_tokenizer_vocab(p->chat.tokenizer);
    if (tokens > p->cfg.vocab)
        return rt_fail(
            err,
            "%s: the tokenizer has %lld tokens, the embedding %lld rows: they do not "
            "belong together; give the directory the tokenizer the model was trained with",
            p->job->dir, (long long)tokens, (long long)p->cfg.vocab);
    return 0;
}

/* What stands outside layers comes after them: the last of them is the head, which an embedding may be
   too, and what it multiplies is known when all layers are done. */
static void head_last(plan *p)
{
    item *sorted = rt_alloc(p->n_items, sizeof *sorted, "a list of tensors");
    int n = 0;
    for (int outside = 0; outside < 2; outside++)
        for (int i = 0; i < p->n_items; i++)
            if ((p->item[i].layer < 0) == outside)
                sorted[n++] = p->item[i];
    free(p->item);
    p->item = sorted;
}

static int plan_open(plan *p, const rt_export *job, rt_err *err)
{
    *p = (plan){ .job = job };
    if (job->later)
        p->cfg = job->later->cfg;
    else if (rt_model_config(&p->cfg, job->dir, err))
        return -1;
    if (!p->cfg.family->gguf || p->cfg.family->routed)
        return rt_fail(
            err,
            "%s: retort writes no GGUF of model_type %s (llama, mistral, qwen2 and qwen3 "
            "it does)",
            job->dir, p->cfg.family->model_type);
    for (int64_t l = 0; l < p->cfg.layers; l++) /* runtimes ignore windows: equal up to there */
        if (rt_config_window(&p->cfg, l))
            p->cfg.max_positions = rt_min(p->cfg.max_positions, p->cfg.window);
    p->report.cfg = p->cfg;
    if (!job->later && rt_store_open(&p->store, job->dir, err))
        return -1;
    if (!job->weights_only &&
        (rt_conversation_open(&p->chat, job->later ? job->later->tokenizer : job->dir, true, err) ||
         vocabulary_check(p, err)))
        return -1;
    rt_weights_init(&p->weights, &p->cfg);
    p->item = rt_alloc(p->weights.params.n, sizeof *p->item, "a list of tensors");
    for (int i = 0; i < p->weights.params.n; i++)
        if (item_fill(p, i, err))
            return -1;
    if (job->texts)
        head_last(p);
    for (int i = 0; i < p->n_items; i++)
        p->widest = rt_max(p->widest, p->item[i].width);
    p->threads = job->threads ? job->threads : rt_threads_here();
    p->report.host_bytes = (rt_max(CHUNK_ELEMENTS, p->widest) + p->widest +
                            p->threads * ARRAYS * rt_max(UNIT_ELEMENTS, p->widest)) *
                           (int64_t)sizeof(float);
    if (job->texts)
        p->report.host_bytes += rt_calibration_bytes(&p->cfg, job->texts->tokens);
    if (!job->later && rt_store_check(&p->store, &p->cfg, &p->weights.params, err))
        return -1;
    rope_divisors(p);
    return 0;
}

static void plan_close(plan *p)
{
    if (p->weights.block)
        rt_weights_free(NULL, &p->weights);
    rt_store_close(&p->store);
    rt_chat_close(&p->chat);
    free(p->item);
    free(p->rope);
}

/* ---- writing ------------------------------------------------------------------------------- */

/* What one thread works in. */
typedef struct worker {
    float *x, *back; /* rows, and what was stored of them */
    int64_t failed;  /* the first of its units of this chunk that did, or -1 */
    rt_err err;
} worker;

typedef struct stream {
    plan *p;
    rt_gguf_writer *w;
    rt_team *team;
    rt_calibrated *calibrated; /* or NULL */
    worker *worker;   /* (threads) */
    float *busy;      /* importance of the columns */
    int64_t done;     /* elements */
    double lost, all; /* sum (x - decoded)^2, sum x^2 over matrices */
    rt_progress progress;
    /* the chunk */
    const item *it;
    const float *importance;     /* busy, or NULL */
    int64_t first, n, unit_rows; /* rows */
    uint8_t *block;              /* encoded */
    double unit_lost[UNITS], unit_all[UNITS];
} stream;

static int rows_read(float *x, const item *it, int64_t first, int64_t n, rt_err *err)
{
    if (!it->heads)
        return rt_stored_rows(&it->source, x, first, n, err);
    for (int64_t r = 0; r < n; r++)
        if (rt_stored_rows(&it->source, x + r * it->width, rt_export_row(it->rows, it->heads, first + r), 1, err))
            return -1;
    return 0;
}

/* sum (x - back)^2 and sum x^2, in chains side by side. */
static void squares(double *lost, double *all, const float *x, const float *back, int64_t n)
{
    enum { CHAINS = 8 };
    double e2[CHAINS] = { 0 }, x2[CHAINS] = { 0 };
    for (int64_t i = 0; i < n; i += CHAINS)
        for (int64_t k = 0; k < rt_min(CHAINS, n - i); k++) {
            double v = (double)x[i + k], e = v - (double)back[i + k];
            e2[k] += e * e;
            x2[k] += v * v;
        }
    for (int k = 0; k < CHAINS; k++) {
        *lost += e2[k];
        *all += x2[k];
    }
}

/* A few rows of the chunk: read, encoded, and what that lost. */
static void rows_unit(void *ctx, int64_t unit, int member)
{
    stream *s = ctx;
    worker *me = &s->worker[member];
    const item *it = s->it;
    int64_t skip = unit * s->unit_rows, n = rt_min(s->unit_rows, s->n - skip);
    uint8_t *out = s->block + rt_dtype_bytes(it->dtype, skip * it->width);
    rt_encode_fn *encode = s->p->job->encode ? s->p->job->encode : rt_encode;
    rt_err err = { 0 };
    s->unit_lost[unit] = s->unit_all[unit] = 0;
    if (rows_read(me->x, it, s->first + skip, n, &err) ||
        encode(out, me->x, it->dtype, n, it->width, s->importance, &err)) {
        if (me->failed >= 0 && me->failed < unit)
            return;
        rt_wrap(&err, "%s: %s, rows from %lld", s->p->job->dir, it->source.name,
                (long long)(s->first + skip));
        me->failed = unit;
        me->err = err;
        return;
    }
    if (it->rank < 2)
        return;
    rt_decode_f32(me->back, out, it->dtype, n * it->width);
    squares(&s->unit_lost[unit], &s->unit_all[unit], me->x, me->back, n * it->width);
}

/* s->block = n rows of it from `first` on. */
static int chunk_encode(stream *s, const item *it, int64_t first, int64_t n, rt_err *err)
{
    int threads = s->p->threads, bad = -1;
    s->it = it;
    s->first = first;
    s->n = n;
    s->unit_rows = rt_max(1, UNIT_ELEMENTS / it->width);
    int64_t units = (n - 1) / s->unit_rows + 1;
    for (int i = 0; i < threads; i++)
        s->worker[i].failed = -1;
    rt_team_run(s->team, rows_unit, s, units, threads);
    for (int i = 0; i < threads; i++) {
        int64_t failed = s->worker[i].failed;
        if (failed >= 0 && (bad < 0 || failed < s->worker[bad].failed))
            bad = i;
    }
    if (bad >= 0) {
        *err = s->worker[bad].err;
        return -1;
    }
    for (int64_t u = 0; u < units; u++) {
        s->lost += s->unit_lost[u];
        s->all += s->unit_all[u];
    }
    return 0;
}

/* s->busy filled and returned in *out, or *out NULL when nothing is known of this tensor. */
static int importance_find(stream *s, const item *it, const float **out, rt_err *err)
{
    const rt_importance *importance = s->p->job->importance;
    bool found = false;
    *out = NULL;
    if (!importance || it->rank != 2)
        return 0;
    if (rt_importance_read(importance, it->name, 0, 1, s->busy, it->width, &found, err))
        return -1;
    if (found) {
        *out = s->busy;
        s->p->report.weighed++;
    }
    return 0;
}

/* Its rows are made all at once, in the registry's order. */
static int item_calibrated(stream *s, const item *it, rt_err *err)
{
    plan *p = s->p;
    rt_calibrated_matrix m;
    int64_t bytes = rt_dtype_bytes(it->dtype, it->width);
    if (rt_calibrated_matrix_of(s->calibrated, &p->weights.params.item[it->param], it->param,
                                it->dtype, &m, err))
        return -1;
    for (int64_t r = 0; r < it->rows; r++) {
        int64_t from = it->heads ? rt_export_row(it->rows, it->heads, r) : r;
        if (rt_gguf_writer_push(s->w, m.block + from * bytes, bytes, err))
            return -1;
    }
    s->lost += m.lost;
    s->all += m.all;
    p->report.compensated += m.compensated;
    p->report.weighed += m.weighed;
    s->done += it->rows * it->width;
    rt_progress_update(&s->progress, s->done, "%s", it->name);
    return 0;
}

static int item_write(stream *s, const item *it, rt_err *err)
{
    if (s->calibrated && rt_calibrated_takes(&s->p->cfg, &s->p->weights.params.item[it->param]))
        return item_calibrated(s, it, err);
    int64_t step = rt_max(1, CHUNK_ELEMENTS / it->width);
    if (importance_find(s, it, &s->importance, err))
        return -1;
    if (rt_stored_check(&it->source, err)) /* before threads read of it */
        return rt_wrap(err, "%s: %s", s->p->job->dir, it->source.name);
    for (int64_t r = 0; r < it->rows; r += step) {
        int64_t n = rt_min(step, it->rows - r);
        if (rt_interrupted())
            return rt_fail(err, "interrupted; nothing was written");
        if (chunk_encode(s, it, r, n, err) ||
            rt_gguf_writer_push(s->w, s->block, rt_dtype_bytes(it->dtype, n * it->width), err))
            return -1;
        s->done += n * it->width;
        rt_progress_update(&s->progress, s->done, "%s", it->name);
    }
    return 0;
}

static void declare(rt_gguf_writer *w, const plan *p)
{
    rt_gguf_writer_checksums(w);
    for (int i = 0; i < p->n_items; i++)
        rt_gguf_writer_add(w, p->item[i].name, p->item[i].dtype, p->item[i].rank, p->item[i].dim);
    if (p->rope) {
        int64_t half = rt_config_rope_dim(&p->cfg) / 2;
        rt_gguf_writer_add(w, "rope_freqs.weight", RT_F32, 1, &half);
    }
}

static int stream_open(stream *s, rt_err *err)
{
    static const char WHAT[] = "rows to quantize";
    const plan *p = s->p;
    int64_t rows = rt_max(UNIT_ELEMENTS, p->widest);
    s->worker = rt_alloc(p->threads, sizeof *s->worker, WHAT);
    for (int i = 0; i < p->threads; i++) {
        s->worker[i].x = rt_alloc(rows, sizeof(float), WHAT);
        s->worker[i].back = rt_alloc(rows, sizeof(float), WHAT);
    }
    s->busy = rt_alloc(p->widest, sizeof *s->busy, WHAT);
    s->block = rt_alloc(rt_max(CHUNK_ELEMENTS, p->widest), sizeof(float), WHAT);
    if (rt_team_open(&s->team, p->threads, err))
        return -1;
    if (!p->job->texts)
        return 0;
    if (rt_calibrated_open(&s->calibrated, p->job, &p->cfg, &s->p->store, s->team, p->threads, err))
        return -1;
    s->p->report.texts = rt_calibration_documents(rt_calibrated_texts(s->calibrated));
    s->p->report.text_tokens = rt_calibration_tokens(rt_calibrated_texts(s->calibrated));
    return 0;
}

static void stream_close(stream *s)
{
    rt_calibrated_close(s->calibrated);
    rt_team_close(s->team);
    for (int i = 0; s->worker && i < s->p->threads; i++) {
        free(s->worker[i].x);
        free(s->worker[i].back);
    }
    free(s->worker);
    free(s->busy);
    free(s->block);
}

static int tensors_write(stream *s, rt_err *err)
{
    plan *p = s->p;
    declare(s->w, p);
    if (stream_open(s, err) || rt_gguf_writer_begin(s->w, err))
        return -1;
    rt_progress_begin(&s->progress, "quantize", 0, p->report.parameters);
    for (int i = 0; i < p->n_items; i++)
        if (item_write(s, &p->item[i], err))
            return -1;
    rt_progress_end(&s->progress);
    int64_t half = rt_config_rope_dim(&p->cfg) / 2;
    if (p->rope && rt_gguf_writer_push(s->w, p->rope, half * (int64_t)sizeof *p->rope, err))
        return -1;
    p->report.error = s->all > 0 ? sqrt(s->lost / s->all) : 0;
    return 0;
}

rt_selftest rt_export_test(const rt_export *job)
{
    return (rt_selftest){ .source = job->dir,
                          .name = job->out,
                          .extent = job->test,
                          .text = job->test_text,
                          .weights_only = job->weights_only,
                          .forced_pre = job->pre != NULL,
                          .threads = job->threads };
}

static int self_test(plan *p, const char *written, rt_err *err)
{
    const rt_export *job = p->job;
    rt_selftest t = rt_export_test(job);
    t.written = written;
    t.error = p->report.error;
    return rt_selftest_run(&t, &p->report.test, err);
}

int rt_export_gguf(const rt_export *job, rt_export_report *report, rt_err *err)
{
    plan p;
    rt_gguf_writer w = { 0 };
    stream s = { .p = &p, .w = &w };
    int rc = plan_open(&p, job, err) || rt_gguf_writer_open(&w, job->out, err) ||
             rt_export_keys(&w, job, &p.cfg, &p.chat, p.report.parameters, err) ||
             tensors_write(&s, err) ||
             (job->importance_out && rt_calibrated_write(s.calibrated, err));
    p.report.file_bytes = w.out.bytes;
    w.out.keep = !job->overwrite;
    rc = rc || rt_gguf_writer_finish(&w, err) || self_test(&p, w.out.temp, err) ||
         rt_beside_write(job, &p.chat, &p.report, err) || rt_gguf_writer_commit(&w, err) ? -1 : 0;
    rt_gguf_writer_abort(&w);
    *report = p.report;
    stream_close(&s);
    plan_close(&p);
    return rc;
}

int rt_export_plan(const rt_export *job, rt_export_report *report, rt_err *err)
{
    plan p;
    rt_gguf_writer w = { 0 };
    int rc = plan_open(&p, job, err) || rt_gguf_writer_open(&w, NULL, err) ||
             rt_export_keys(&w, job, &p.cfg, &p.chat, p.report.parameters, err);
    if (!rc) {
        declare(&w, &p);
        rc = rt_gguf_writer_begin(&w, err);
        p.report.file_bytes = rt_gguf_writer_bytes(&w);
    }
    rt_gguf_writer_abort(&w);
    *report = p.report;
    plan_close(&p);
    return rc ? -1 : 0;
}
