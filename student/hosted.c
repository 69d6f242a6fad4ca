#include "student/hosted.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* As an arena hands them out, one after another. */
static int64_t taken(const rt_tensor *t) { return rt_align_up(rt_tensor_bytes(t), 64); }

static bool rows_only(const rt_hosted *h, const rt_param *p)
{
    return p->slot == &h->m->w.embed && !h->m->cfg.tied;
}

static int64_t bytes_of_layer(const rt_hosted *h, int64_t layer, bool wide)
{
    const rt_params *list = &h->m->w.params;
    int64_t bytes = 0;
    for (int i = 0; i < list->n; i++) {
        rt_tensor t = *list->item[i].slot;
        t.dtype = wide ? RT_F32 : t.dtype;
        if (list->item[i].layer == layer && !(layer < 0 && rows_only(h, &list->item[i])))
            bytes += taken(&t);
    }
    return bytes;
}

static int first_of_layer(const rt_hosted *h, int64_t layer)
{
    int i = 0;
    while (h->m->w.params.item[i].layer != layer)
        i++;
    return i;
}

static void plan_there(void *ctx, rt_arena *a)
{
    rt_hosted *h = ctx;
    for (int k = 0; k < RT_COUNT(h->buffer); k++)
        h->buffer[k].data = rt_arena_take(a, "layers", h->layer_bytes);
    h->outside = rt_arena_take(a, "outside layers", bytes_of_layer(h, -1, h->wide_too));
}

static void plan_here(void *ctx, rt_arena *a)
{
    rt_hosted *h = ctx;
    int64_t width = h->m->cfg.width;
    h->token = rt_arena_take(a, "rows of the embedding", h->rows * (int64_t)sizeof *h->token);
    h->gathered = rt_arena_take(a, "rows of the embedding",
                                h->rows * rt_dtype_bytes(rt_dev_get(h->m->d).act, width));
    h->wide = rt_arena_take(a, "rows of the embedding", width * (int64_t)sizeof *h->wide);
}

/* ---- the visitor ------------------------------------------------------------------------------ */

static void fill(rt_hosted *h, int64_t layer)
{
    struct rt_hosted_buffer *b = &h->buffer[layer % RT_COUNT(h->buffer)];
    if (b->layer == layer)
        return;
    rt_mark_follow(h->m->d, &b->done, RT_BESIDE);
    rt_upload_beside(h->m->d, b->data, h->home[first_of_layer(h, layer)], bytes_of_layer(h, layer, false));
    rt_mark_set(h->m->d, &b->ready, RT_BESIDE);
    b->layer = layer;
}

/* Weights of a layer are at `to`, in the order they lie in; NULL: at home. */
static void point(rt_hosted *h, int64_t layer, uint8_t *to)
{
    const rt_params *list = &h->m->w.params;
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        if (p->layer != layer || (layer < 0 && rows_only(h, p)))
            continue;
        p->slot->data = to ? to : h->home[i];
        to = to ? to + taken(p->slot) : NULL;
    }
}

static int enter(void *ctx, int64_t layer, rt_err *err)
{
    rt_hosted *h = ctx;
    struct rt_hosted_buffer *b = &h->buffer[layer % RT_COUNT(h->buffer)];
    int64_t next = layer == 0 || layer > h->last ? layer + 1 : layer - 1;
    (void)err;
    fill(h, layer);
    rt_mark_follow(h->m->d, &b->ready, RT_COMPUTE);
    if (next < h->m->cfg.layers)
        fill(h, next);
    h->last = layer;
    point(h, layer, b->data);
    return 0;
}

static int leave(void *ctx, int64_t layer, rt_err *err)
{
    rt_hosted *h = ctx;
    (void)err;
    rt_mark_set(h->m->d, &h->buffer[layer % RT_COUNT(h->buffer)].done, RT_COMPUTE);
    point(h, layer, NULL);
    return 0;
}

static int embed(void *ctx, rt_dev *d, rt_tensor *y, const rt_tensor *token, rt_err *err)
{
    rt_hosted *h = ctx;
    const rt_tensor *e = &h->m->w.embed;
    int64_t n = token->dim[0], width = y->dim[1], bytes = rt_dtype_bytes(y->dtype, width);
    rt_download(d, h->token, token->data, n * (int64_t)sizeof *h->token);
    if (rt_sync(d, err))
        return -1;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *row = (const uint8_t *)e->data +
                             rt_dtype_bytes(e->dtype, h->token[i] * width);
        if (e->dtype == y->dtype) {
            memcpy(h->gathered + i * bytes, row, (size_t)bytes);
            continue;
        }
        rt_decode_f32(h->wide, row, e->dtype, width);
        rt_encode_f32(h->gathered + i * bytes, h->wide, width, y->dtype);
    }
    rt_upload(d, y->data, h->gathered, n * bytes);
    return 0;
}

/* ---- between ---------------------------------------------------------------------------------- */

void rt_hosted_plan(rt_hosted *h, rt_arenas *l, rt_model *m, int64_t rows,
                    bool wide_too)
{
    memset(h, 0, sizeof *h);
    h->wide_too = wide_too;
    h->m = m;
    h->rows = rows;
    for (int64_t k = 0; k < m->cfg.layers; k++)
        h->layer_bytes = rt_max(h->layer_bytes, bytes_of_layer(h, k, wide_too));
    h->home = rt_alloc(m->w.params.n, sizeof *h->home, "a list of weights");
    h->visit = (rt_visit){ .ctx = h,
                           .embed = m->cfg.tied ? NULL : embed,
                           .enter = enter,
                           .leave = leave };
    rt_arenas_add(l, &h->there, "weights", RT_ON_DEVICE, plan_there, h);
    if (!m->cfg.tied)
        rt_arenas_add(l, &h->here, "weights", RT_ON_HOST, plan_here, h);
}

void rt_hosted_free(rt_hosted *h)
{
    for (int k = 0; h->m && k < RT_COUNT(h->buffer); k++) {
        rt_mark_free(h->m->d, &h->buffer[k].ready);
        rt_mark_free(h->m->d, &h->buffer[k].done);
    }
    free(h->home);
    memset(h, 0, sizeof *h);
}

void rt_hosted_begin(rt_hosted *h)
{
    if (!h->m || h->begun)
        return;
    const rt_params *list = &h->m->w.params;
    for (int i = 0; i < list->n; i++)
        h->home[i] = list->item[i].slot->data;
    for (int k = 0; k < RT_COUNT(h->buffer); k++)
        h->buffer[k].layer = -1;
    h->last = -1;
    point(h, -1, h->outside);
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        if (p->layer < 0 && !rows_only(h, p))
            rt_upload(h->m->d, p->slot->data, h->home[i], rt_tensor_bytes(p->slot));
    }
    h->m->visit = &h->visit;
    h->begun = true;
}

void rt_hosted_end(rt_hosted *h)
{
    if (!h->m || !h->begun)
        return;
    for (int i = 0; i < h->m->w.params.n; i++)
        h->m->w.params.item[i].slot->data = h->home[i];
    h->m->visit = NULL;
    h->begun = false;
}
