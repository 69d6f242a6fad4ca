/* calibrated.c: one matrix at a time; see calibrated.h. */
#include "quant/calibrated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/path.h"
#include "quant/compensate.h"
#include "quant/encode.h"

enum { CHUNK = 2048 }; /* rows of the head in f32 at a time */

struct rt_calibrated {
    const rt_export *job;
    const rt_config *cfg;
    rt_store *store;
    rt_chat chat;
    rt_calibration *texts;
    rt_compensation by;
    bool compensate;
    int64_t layer; /* entered; -1 none */
    uint8_t *block;
    int64_t block_bytes, back_floats;
    float *back, *importance;
    rt_importance_entry *seen; /* (n_seen) with names and sums of their own: what is written of them */
    int64_t n_seen, cap_seen;
};

int rt_calibrated_open(rt_calibrated **out, const rt_export *job, const rt_config *cfg,
                       rt_store *store, rt_team *team, int threads, rt_err *err)
{
    rt_calibrated *c = *out = rt_alloc(1, sizeof *c, "calibration");
    const rt_export_texts *t = job->texts;
    c->job = job;
    c->cfg = cfg;
    c->store = store;
    c->layer = -1;
    c->compensate = job->method == RT_METHOD_AUTO || job->method == RT_METHOD_COMPENSATE;
    if (rt_chat_open(&c->chat, job->dir, err))
        return -1;
    rt_calibration_options o = { .cfg = cfg,
                                 .store = store,
                                 .chat = &c->chat,
                                 .data = (const char *const *)t->data->item,
                                 .n_data = t->data->n,
                                 .tokens = t->tokens,
                                 .longest = t->longest,
                                 .seed = t->seed,
                                 .threads = threads };
    if (rt_calibration_open(&c->texts, &o, err))
        return -1;
    c->by = (rt_compensation){ rt_calibration_device(c->texts), team, threads };
    return 0;
}

void rt_calibrated_close(rt_calibrated *c)
{
    if (!c)
        return;
    rt_calibration_close(c->texts);
    rt_chat_close(&c->chat);
    free(c->block);
    free(c->back);
    free(c->importance);
    for (int64_t i = 0; i < c->n_seen; i++) {
        free((void *)(uintptr_t)c->seen[i].name);
        free((void *)(uintptr_t)c->seen[i].sums);
    }
    free(c->seen);
    free(c);
}

/* Sums of the layer entered, before they are damped. */
static void note_sums(rt_calibrated *c, const rt_params *list)
{
    for (int i = 0; i < list->n; i++) {
        const rt_curvature *curve = rt_calibration_curvature(c->texts, i);
        if (!curve || !c->job->importance_out)
            continue;
        char name[sizeof list->item[i].gguf + 8];
        float *sums = rt_alloc(curve->n, sizeof *sums, "importance of columns");
        for (int64_t k = 0; k < curve->n; k++)
            sums[k] = curve->h[k * curve->n + k];
        snprintf(name, sizeof name, "%s.weight", list->item[i].gguf);
        rt_grow(&c->seen, &c->cap_seen, c->n_seen + 1, sizeof *c->seen, "importance of columns");
        c->seen[c->n_seen++] = (rt_importance_entry){ .name = rt_strdup(name), .matrices = 1,
                                                      .width = curve->n, .sums = sums };
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const rt_importance_entry *)a)->name, ((const rt_importance_entry *)b)->name);
}

int rt_calibrated_write(rt_calibrated *c, rt_err *err)
{
    const rt_importance_about about = { .dataset = rt_path_base(c->job->texts->data->item[0]),
                                        .chunks = rt_calibration_documents(c->texts),
                                        .chunk_tokens = c->job->texts->longest };
    float count = (float)rt_calibration_tokens(c->texts);
    for (int64_t i = 0; i < c->n_seen; i++)
        c->seen[i].counts = &count;
    qsort(c->seen, (size_t)c->n_seen, sizeof *c->seen, compare_names);
    return rt_importance_write(c->job->importance_out, c->seen, c->n_seen, &about, err);
}

const rt_calibration *rt_calibrated_texts(const rt_calibrated *c) { return c->texts; }

bool rt_calibrated_takes(const rt_config *cfg, const rt_param *p)
{
    bool head = p->layer < 0 && !strcmp(p->gguf, cfg->tied ? "token_embd" : "output");
    return head || (p->layer >= 0 && (p->flags & RT_PARAM_LINEAR) && !p->experts &&
                    p->slot->rank == 2);
}

/* Mean squares of the inputs: llama.cpp's importance. */
static const float *importance_of(rt_calibrated *c, const rt_curvature *curve)
{
    free(c->importance);
    c->importance = rt_alloc(curve->n, sizeof *c->importance, "importance of columns");
    for (int64_t i = 0; i < curve->n; i++)
        c->importance[i] = curve->h[i * curve->n + i] / (float)rt_max(curve->rows, 1);
    return c->importance;
}

static int encode_rows(rt_calibrated *c, uint8_t *block, float *w, rt_dtype t, int64_t rows,
                       int64_t n, rt_curvature *curve, rt_calibrated_matrix *out, rt_err *err)
{
    if (c->compensate && curve && rt_compensate_supported(t)) {
        out->compensated = true;
        if (!curve->ut && rt_curvature_factor(curve, c->by.d, err))
            return -1;
        if (rt_compensate(&c->by, block, w, t, rows, curve, err))
            return -1;
    } else {
        bool blocks = rt_dtype_get(t)->block > 1;
        out->weighed = blocks && curve;
        rt_encode_fn *encode = c->job->encode ? c->job->encode : rt_encode;
        if (encode(block, w, t, rows, n, out->weighed ? importance_of(c, curve) : NULL, err))
            return -1;
    }
    rt_decode_f32(c->back, block, t, rows * n);
    for (int64_t i = 0; i < rows * n; i++) {
        double v = (double)w[i], e = v - (double)c->back[i];
        out->lost += e * e;
        out->all += v * v;
    }
    return 0;
}

static void make_room(rt_calibrated *c, int64_t bytes, int64_t floats)
{
    if (bytes > c->block_bytes) {
        free(c->block);
        c->block = rt_alloc(bytes, 1, "an encoded matrix");
        c->block_bytes = bytes;
    }
    if (floats > c->back_floats) {
        free(c->back);
        c->back = rt_alloc(2 * floats, sizeof *c->back, "a decoded matrix");
        c->back_floats = floats;
    }
}

/* Rows are read a few at a time: it is as large as many layers. */
static int head_encode(rt_calibrated *c, const rt_param *p, rt_curvature *curve, rt_dtype t,
                       rt_calibrated_matrix *out, rt_err *err)
{
    rt_stored source;
    int64_t rows = p->slot->dim[0], n = p->slot->dim[1];
    make_room(c, rt_dtype_bytes(t, rows * n), CHUNK * n);
    float *w = c->back + c->back_floats;
    int bad = rt_store_find(c->store, c->cfg, p, 0, &source, err);
    for (int64_t r = 0; !bad && r < rows; r += CHUNK) {
        int64_t some = rt_min(CHUNK, rows - r);
        bad = rt_interrupted() ? rt_fail(err, "interrupted; nothing was written")
                               : rt_stored_rows(&source, w, r, some, err);
        bad = bad || encode_rows(c, c->block + rt_dtype_bytes(t, r * n), w, t, some, n, curve, out, err);
    }
    return bad ? -1 : 0;
}

int rt_calibrated_matrix_of(rt_calibrated *c, const rt_param *p, int i, rt_dtype t,
                            rt_calibrated_matrix *out, rt_err *err)
{
    int64_t layer = p->layer < 0 ? c->cfg->layers : p->layer;
    *out = (rt_calibrated_matrix){ 0 };
    for (; c->layer < layer; c->layer++) {
        if (rt_calibration_enter(c->texts, c->layer + 1, err))
            return -1;
        note_sums(c, rt_calibration_list(c->texts));
    }
    rt_curvature *curve = rt_calibration_curvature(c->texts, i);
    int bad;
    if (p->layer < 0) {
        bad = head_encode(c, p, curve, t, out, err);
    } else {
        int64_t rows = p->slot->dim[0], n = p->slot->dim[1];
        float *w = rt_calibration_weight(c->texts, i);
        make_room(c, rt_dtype_bytes(t, rows * n), rows * n);
        bad = encode_rows(c, c->block, w, t, rows, n, curve, out, err);
        if (!bad)
            memcpy(w, c->back, (size_t)(rows * n) * sizeof *w);
    }
    out->block = c->block;
    return bad ? rt_wrap(err, "%s: %s", c->job->dir, p->name) : 0;
}
