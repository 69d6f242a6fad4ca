#include "teacher/inflight.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"

void rt_inflight_clear(rt_inflight *f) { f->n = f->batches = f->rows = 0; }

void rt_inflight_free(rt_inflight *f)
{
    rt_inflight_end(f, false);
    free(f->text);
    free(f->batch);
    free(f->id);
}

void rt_inflight_add(rt_inflight *f, int64_t at, const int32_t *token, int64_t n)
{
    rt_inflight_batch *b = f->batches ? &f->batch[f->batches - 1] : NULL;
    if (!b || b->rows + n > f->acts->shape.rows || b->texts == f->texts_most) {
        rt_grow(&f->batch, &f->cap_batches, f->batches + 1, sizeof *f->batch, "batches of a pass");
        b = &f->batch[f->batches++];
        *b = (rt_inflight_batch){ f->n, 0, f->rows, 0 };
    }
    rt_grow(&f->text, &f->cap, f->n + 1, sizeof *f->text, "texts of a pass");
    rt_grow(&f->id, &f->cap_rows, f->rows + n, sizeof *f->id, "tokens of a pass");
    memcpy(f->id + f->rows, token, (size_t)n * sizeof *token);
    f->text[f->n++] = (rt_inflight_text){ at, b->rows, f->rows, n };
    f->rows += n;
    b->rows += n;
    b->texts++;
}

static void lay_rows(rt_inflight *f, const rt_inflight_batch *b)
{
    for (int64_t i = 0; i < b->texts; i++) {
        const rt_inflight_text *t = &f->text[b->text + i];
        f->offset[i] = (int32_t)t->row;
        for (int64_t k = 0; k < t->n; k++)
            f->pos[t->row + k] = (int32_t)k;
    }
    f->offset[b->texts] = (int32_t)b->rows;
    memcpy(f->token, f->id + b->row, (size_t)b->rows * sizeof *f->token);
    rt_acts_rows(f->acts, b->rows, b->texts, f->token, f->pos, f->offset, NULL);
}

static int64_t stream_bytes(const rt_inflight *f, int64_t rows)
{
    return rt_dtype_bytes(f->acts->stream[0].dtype, rows * f->teacher->model.cfg.width);
}

static int load(void *ctx, int64_t layer, int64_t batch, rt_err *err)
{
    rt_inflight *f = ctx;
    const rt_inflight_batch *b = &f->batch[batch];
    if (rt_sync(f->teacher->dev, err)) /* the batch before is read no more */
        return -1;
    lay_rows(f, b);
    if (layer == 0)
        return 0;
    if (rt_residual_get(&f->residual, layer, b->row, b->rows, f->stream, err))
        return -1;
    rt_upload(f->teacher->dev, f->acts->stream[0].data, f->stream, stream_bytes(f, b->rows));
    return 0;
}

static int keep(void *ctx, int64_t layer, int64_t batch, rt_err *err)
{
    rt_inflight *f = ctx;
    const rt_inflight_batch *b = &f->batch[batch];
    if (rt_sync(f->teacher->dev, err)) /* what load() sent has been read */
        return -1;
    rt_download(f->teacher->dev, f->stream, f->acts->stream[0].data, stream_bytes(f, b->rows));
    return rt_sync(f->teacher->dev, err) ||
                   rt_residual_put(&f->residual, layer, b->row, b->rows, f->stream, err)
               ? -1
               : 0;
}

static int kept(void *ctx, int64_t layer, rt_err *err)
{
    rt_inflight *f = ctx;
    if (rt_residual_commit(&f->residual, layer, err))
        return -1;
    if (f->tick)
        f->tick(f->ctx, layer);
    return 0;
}

static rt_hash key_of(const rt_inflight *f, const rt_hash *salt)
{
    rt_hasher h = { 0 };
    rt_hasher_begin(&h);
    rt_hasher_add(&h, salt, (int64_t)sizeof *salt);
    for (int64_t i = 0; i < f->n; i++)
        rt_hasher_add(&h, &f->text[i].n, (int64_t)sizeof f->text[i].n);
    rt_hasher_add(&h, f->id, f->rows * (int64_t)sizeof *f->id);
    rt_hash key = rt_hasher_end(&h);
    rt_hasher_free(&h);
    return key;
}

int rt_inflight_run(rt_inflight *f, const char *path, const rt_hash *salt, rt_err *err)
{
    const rt_model *m = &f->teacher->model;
    if (!path) {
        lay_rows(f, &f->batch[0]);
        return rt_model_pass(f->teacher->dev, m, f->acts, err);
    }
    rt_hash key = key_of(f, salt);
    if (rt_residual_open(&f->residual, path, &key, f->rows, stream_bytes(f, 1), err))
        return -1;
    if (f->residual.layer)
        rt_info("%s: a pass of %lld tokens goes on at layer %lld of %lld", path, (long long)f->rows,
                (long long)f->residual.layer, (long long)m->cfg.layers);
    rt_flight flight = { f, f->batches, f->residual.layer, load, keep, kept };
    return rt_model_fly(f->teacher->dev, m, f->acts, &flight, err);
}

int rt_inflight_take(rt_inflight *f, int64_t batch, rt_err *err)
{
    const rt_model *m = &f->teacher->model;
    if (!f->residual.path)
        return 0;
    if (load(f, m->cfg.layers, batch, err))
        return -1;
    rt_model_final(f->teacher->dev, m, f->acts);
    return 0;
}

void rt_inflight_end(rt_inflight *f, bool done) { rt_residual_close(&f->residual, done); }
