/* qat.c: the grids of a file beside a model's matrices; see qat.h. Rows stand as the model has them;
   the file's own order is rt_stored's. */
#include "distill/qat.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/device/ops.h"
#include "core/network/weights.h"
#include "quant/export.h"
#include "quant/gguf_write.h"
#include "quant/grid.h"

enum { UNIT = 1 << 14 }; /* elements of a thread's turn */

/* One matrix that the file keeps in blocks. */
typedef struct matrix {
    int param;
    rt_stored stored;
    rt_dtype type;
    int64_t rows, width, block, sub; /* elements of a block, of a sub-block */
    int lo, hi;
    float *scale, *offset; /* (rows, width / sub): element = scale q - offset */
    void *shown, *home;    /* device: what passes read; what is learned, while that is shown */
} matrix;

struct rt_qat {
    rt_model *m;
    rt_store store;
    matrix *matrix; /* (n) */
    int n;
    rt_team *team;
    int threads;
    float *host; /* of the largest */
    int64_t largest;
    rt_arena arena;
    /* of a job */
    const matrix *at;
    bool clip; /* into cells of the file's codes, else onto the grid */
};

/* ---- opening ---- */

static const uint8_t *file_row(const matrix *x, int64_t row) /* of the file's own order */
{
    return x->stored.data + row * rt_dtype_bytes(x->type, x->width);
}

/* Row of the model that a row of the file is. */
static int64_t model_row(const matrix *x, int64_t row)
{
    return x->stored.heads ? rt_export_row(x->rows, x->stored.heads, row) : row;
}

static int matrix_open(rt_qat *q, int param, rt_err *err)
{
    matrix *x = &q->matrix[q->n];
    const rt_param *p = &q->m->w.params.item[param];
    *x = (matrix){ .param = param };
    if (rt_store_find(&q->store, &q->m->cfg, p, 0, &x->stored, err) ||
        rt_stored_check(&x->stored, err))
        return -1;
    x->type = x->stored.dtype;
    if (rt_dtype_get(x->type)->block == 1)
        return 0; /* learned as any other */
    if (!rt_grid_supported(x->type))
        return rt_fail(err, "%s: %s is %s, whose codes are no steps of one size: quantize to Q4_0, "
                            "Q4_K, Q5_K, Q6_K or Q8_0",
                       q->store.path, x->stored.name, rt_dtype_get(x->type)->name);
    q->n++;
    x->rows = p->slot->dim[0];
    x->width = p->slot->dim[1];
    int64_t bytes = rt_dtype_get(x->type)->block_bytes;
    rt_grid g;
    int8_t code[RT_GRID_MAX];
    rt_grid_read(&g, code, file_row(x, 0), x->type);
    x->block = g.n;
    x->sub = g.sub;
    x->lo = g.lo;
    x->hi = g.hi;
    int64_t subs = x->width / x->sub;
    x->scale = rt_alloc(2 * x->rows * subs, sizeof *x->scale, "scales of a file");
    x->offset = x->scale + x->rows * subs;
    for (int64_t f = 0; f < x->rows; f++)
        for (int64_t b = 0; b < x->width / x->block; b++) {
            rt_grid_read(&g, code, file_row(x, f) + b * bytes, x->type);
            for (int64_t j = 0; j < x->block / x->sub; j++) {
                int64_t at = model_row(x, f) * subs + b * (x->block / x->sub) + j;
                x->scale[at] = g.d * g.level[j];
                x->offset[at] = g.dmin * g.offset[j];
            }
        }
    q->largest = rt_max(q->largest, x->rows * x->width);
    return 0;
}

static int check_model(const rt_qat *q, const char *path, rt_err *err)
{
    rt_config c;
    const rt_config *m = &q->m->cfg;
    if (rt_model_config(&c, path, err))
        return -1;
    if (c.layers != m->layers || c.width != m->width || c.vocab != m->vocab || c.tied != m->tied)
        return rt_fail(err, "%s: a model of %lld layers, width %lld, %lld tokens; what is learned has "
                            "%lld, %lld, %lld: give the GGUF that was made of it",
                       path, (long long)c.layers, (long long)c.width, (long long)c.vocab,
                       (long long)m->layers, (long long)m->width, (long long)m->vocab);
    return 0;
}

int rt_qat_open(rt_qat **out, const char *path, rt_model *m, int threads, rt_err *err)
{
    rt_qat *q = *out = rt_alloc(1, sizeof *q, "a quantized model");
    const rt_params *list = &m->w.params;
    q->m = m;
    q->threads = threads ? threads : 1;
    q->matrix = rt_alloc(list->n, sizeof *q->matrix, "a list of matrices");
    if (!rt_gguf_is(path))
        return rt_fail(err, "%s: not a GGUF: retort quantize makes one", path);
    if (check_model(q, path, err) || rt_store_open(&q->store, path, err))
        return -1;
    for (int i = 0; i < list->n; i++)
        if (list->item[i].slot->rank == 2 && matrix_open(q, i, err))
            return -1;
    if (!q->n)
        return rt_fail(err, "%s: holds no matrix in blocks: nothing of it is quantized", path);
    q->host = rt_alloc(q->largest, sizeof *q->host, "a matrix");
    return rt_team_open(&q->team, q->threads, err);
}

void rt_qat_close(rt_qat *q)
{
    if (!q)
        return;
    for (int i = 0; i < q->n; i++)
        free(q->matrix[i].scale);
    free(q->matrix);
    free(q->host);
    rt_team_close(q->team);
    rt_store_close(&q->store);
    free(q);
}

static void plan(void *ctx, rt_arena *a)
{
    rt_qat *q = ctx;
    for (int i = 0; i < q->n; i++)
        q->matrix[i].shown = rt_arena_take(a, "as quantized", q->matrix[i].rows *
                                           q->matrix[i].width * (int64_t)sizeof(float));
}

void rt_qat_plan(rt_qat *q, rt_arenas *l)
{
    rt_arenas_add(l, &q->arena, "weights", RT_ON_DEVICE, plan, q);
}

int64_t rt_qat_host_bytes(const rt_qat *q)
{
    int64_t bytes = q->largest * (int64_t)sizeof(float);
    for (int i = 0; i < q->n; i++)
        bytes += 2 * q->matrix[i].rows * (q->matrix[i].width / q->matrix[i].sub) *
                 (int64_t)sizeof(float);
    return bytes;
}

/* ---- onto the grid ---- */

/* ties to even, as the rounding of the device would be */
static inline float code_of(float w, float scale, float offset, float lo, float hi)
{
    float v = scale != 0 ? (w + offset) / scale : 0;
    v = v < lo ? lo : v > hi ? hi : v;
    return rintf(v);
}

static void row_to_grid(const matrix *x, float *w, int64_t row)
{
    int64_t subs = x->width / x->sub;
    const float *scale = x->scale + row * subs, *offset = x->offset + row * subs;
    const float lo = (float)x->lo, hi = (float)x->hi;
    for (int64_t j = 0; j < subs; j++)
        for (int64_t i = j * x->sub; i < (j + 1) * x->sub; i++)
            w[i] = scale[j] * code_of(w[i], scale[j], offset[j], lo, hi) - offset[j];
}

/* Half a step around what the file holds, and a little less: the border is the neighbour's too. */
static void row_to_cells(const matrix *x, float *w, int64_t row, float *held)
{
    int64_t subs = x->width / x->sub;
    const float *scale = x->scale + row * subs;
    for (int64_t i = 0; i < x->width; i++) {
        float half = 0.49f * fabsf(scale[i / x->sub]);
        w[i] = fminf(fmaxf(w[i], held[i] - half), held[i] + half);
    }
}

static void rows_unit(void *ctx, int64_t unit, int member)
{
    const rt_qat *q = ctx;
    const matrix *x = q->at;
    int64_t each = rt_max(1, UNIT / x->width), end = rt_min(x->rows, (unit + 1) * each);
    (void)member;
    float *held = q->clip ? malloc((size_t)x->width * sizeof *held) : NULL;
    rt_err ignored; /* the file's bytes have been checked, and blocks cannot fail to decode */
    for (int64_t r = unit * each; r < end; r++) {
        float *w = q->host + r * x->width;
        if (!q->clip)
            row_to_grid(x, w, r);
        else if (held && !rt_stored_rows(&x->stored, held, r, 1, &ignored))
            row_to_cells(x, w, r, held);
    }
    free(held);
}

static int matrix_fetch(rt_qat *q, const matrix *x, rt_err *err)
{
    const rt_tensor *t = q->m->w.params.item[x->param].slot;
    rt_download(q->m->d, q->host, x->home ? x->home : t->data,
                x->rows * x->width * (int64_t)sizeof(float));
    return rt_sync(q->m->d, err);
}

static int matrix_pass(rt_qat *q, const matrix *x, bool clip, void *to, rt_err *err)
{
    if (matrix_fetch(q, x, err))
        return -1;
    q->at = x;
    q->clip = clip;
    rt_team_run(q->team, rows_unit, q, rt_ceil_div(x->rows, rt_max(1, UNIT / x->width)), q->threads);
    rt_upload(q->m->d, to, q->host, x->rows * x->width * (int64_t)sizeof(float));
    return rt_sync(q->m->d, err);
}

int rt_qat_begin(rt_qat *q, rt_err *err)
{
    for (int i = 0; i < q->n; i++) {
        void *data = q->m->w.params.item[q->matrix[i].param].slot->data;
        if (matrix_pass(q, &q->matrix[i], true, data, err))
            return -1;
    }
    return 0;
}

int rt_qat_show(rt_qat *q, rt_err *err)
{
    for (int i = 0; i < q->n; i++)
        if (matrix_pass(q, &q->matrix[i], false, q->matrix[i].shown, err))
            return -1;
    for (int i = 0; i < q->n; i++) {
        rt_tensor *t = q->m->w.params.item[q->matrix[i].param].slot;
        q->matrix[i].home = t->data;
        t->data = q->matrix[i].shown;
    }
    return 0;
}

void rt_qat_hide(rt_qat *q)
{
    for (int i = 0; i < q->n; i++)
        if (q->matrix[i].home) {
            q->m->w.params.item[q->matrix[i].param].slot->data = q->matrix[i].home;
            q->matrix[i].home = NULL;
        }
}

/* ---- writing ---- */

static int put_key(rt_gguf_writer *w, const rt_gguf_key *k, rt_err *err)
{
    if (!strcmp(k->name, RT_GGUF_HEADER_KEY) || !strcmp(k->name, RT_GGUF_SUMS_KEY))
        return 0;
    if (k->type != RT_GGUF_STR)
        return rt_gguf_put_raw(w, k->name, k->type, k->array, k->data, k->n, err);
    const uint8_t *p = k->data;
    if (k->array && rt_gguf_put_strs_begin(w, k->name, k->n, err))
        return -1;
    for (int64_t i = 0; i < k->n; i++) {
        uint64_t bytes = 0;
        for (int b = 0; b < 8; b++)
            bytes |= (uint64_t)p[b] << (8 * b);
        char *text = k->array ? NULL : rt_strndup((const char *)p + 8, (int64_t)bytes);
        int bad = k->array ? rt_gguf_put_strs_item(w, p + 8, (int64_t)bytes, err)
                           : rt_gguf_put_str(w, k->name, text, err);
        free(text);
        if (bad)
            return -1;
        p += 8 + bytes;
    }
    return 0;
}

/* The blocks of a matrix, with the codes of the weights that are learned. */
static int put_matrix(rt_qat *q, rt_gguf_writer *w, const matrix *x, rt_err *err)
{
    int64_t bytes = rt_dtype_get(x->type)->block_bytes, subs = x->width / x->sub;
    uint8_t block[512];
    int8_t code[RT_GRID_MAX];
    rt_grid g;
    if (matrix_fetch(q, x, err))
        return -1;
    for (int64_t f = 0; f < x->rows; f++) {
        int64_t r = model_row(x, f);
        for (int64_t b = 0; b < x->width / x->block; b++) {
            memcpy(block, file_row(x, f) + b * bytes, (size_t)bytes);
            rt_grid_read(&g, code, block, x->type);
            for (int64_t i = 0; i < x->block; i++) {
                int64_t at = b * x->block + i, sub = r * subs + at / x->sub;
                code[i] = (int8_t)code_of(q->host[r * x->width + at], x->scale[sub], x->offset[sub],
                                          (float)x->lo, (float)x->hi);
            }
            rt_grid_write(block, &g, code, x->type);
            if (rt_gguf_writer_push(w, block, bytes, err))
                return -1;
        }
    }
    return 0;
}

/* A vector, or a matrix of plain numbers. */
static int put_plain(rt_qat *q, rt_gguf_writer *w, const rt_gguf_tensor *t, int param, rt_err *err)
{
    const rt_param *p = &q->m->w.params.item[param];
    int64_t n = rt_tensor_elements(p->slot), rows = p->slot->dim[0], width = n / rows;
    int64_t heads = rt_export_heads(&q->m->cfg, p->gguf), bytes = rt_dtype_bytes(t->dtype, width);
    float *host = rt_alloc(n, sizeof *host, t->name), *row = rt_alloc(width, sizeof *row, t->name);
    int bad = rt_params_read(&q->m->w.params, param, 0, n, q->m->d, host, err);
    for (int64_t r = 0; !bad && r < rows; r++) {
        int64_t from = heads ? rt_export_row(rows, heads, r) : r;
        rt_encode_f32(row, host + from * width, width, t->dtype);
        bad = rt_gguf_writer_push(w, row, bytes, err);
    }
    free(host);
    free(row);
    return bad;
}

static int put_tensor(rt_qat *q, rt_gguf_writer *w, const rt_gguf_tensor *t, rt_err *err)
{
    const rt_params *list = &q->m->w.params;
    char name[80];
    for (int i = 0; i < q->n; i++)
        if (!strcmp(q->matrix[i].stored.name, t->name))
            return put_matrix(q, w, &q->matrix[i], err);
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        snprintf(name, sizeof name, "%s.%s", p->gguf, p->flags & RT_PARAM_BIAS ? "bias" : "weight");
        if (!strcmp(name, t->name))
            return put_plain(q, w, t, i, err);
    }
    return rt_gguf_writer_push(w, t->data, t->bytes, err); /* not learned: rotary factors */
}

int rt_qat_write(rt_qat *q, const char *out, rt_err *err)
{
    const rt_gguf *g = &q->store.gguf;
    rt_gguf_writer w = { 0 };
    int bad = rt_gguf_writer_open(&w, out, err);
    for (int64_t i = 0; !bad && i < g->n_keys; i++)
        bad = put_key(&w, &g->key[i], err);
    for (int64_t i = 0; !bad && i < g->n_tensors; i++)
        rt_gguf_writer_add(&w, g->tensor[i].name, g->tensor[i].dtype, g->tensor[i].rank,
                           g->tensor[i].dim);
    if (!bad) {
        rt_gguf_writer_checksums(&w);
        bad = rt_gguf_writer_begin(&w, err);
    }
    for (int64_t i = 0; !bad && i < g->n_tensors; i++)
        bad = put_tensor(q, &w, &g->tensor[i], err);
    bad = bad || rt_gguf_writer_commit(&w, err);
    rt_gguf_writer_abort(&w);
    return bad ? -1 : 0;
}
