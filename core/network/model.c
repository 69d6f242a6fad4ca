#include "core/network/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* ---- weights ------------------------------------------------------------------------------------
 */

void rt_weights_init(rt_weights *w, const rt_config *c)
{
    const unsigned matrix = RT_PARAM_DECAY | RT_PARAM_PRODUCT;
    memset(w, 0, sizeof *w);
    w->block = rt_alloc(c->layers, sizeof *w->block, "a list of layers");
    rt_params *p = &w->params;
    p->layer = -1;
    rt_param_add(p, &w->embed, "model.embed_tokens.weight", "token_embd", RT_INIT_NORMAL,
                 c->tied ? matrix | RT_PARAM_RAW : RT_PARAM_DECAY | RT_PARAM_RAW, c->vocab,
                 c->width, 0);
    for (int64_t l = 0; l < c->layers; l++) {
        p->layer = (int)l;
        rt_block_params(p, c, &w->block[l]);
    }
    p->layer = -1;
    rt_param_add(p, &w->final_norm, "model.norm.weight", "output_norm", RT_INIT_ONES, 0, c->width,
                 0, 0);
    if (!c->tied)
        rt_param_add(p, &w->head, "lm_head.weight", "output", RT_INIT_NORMAL, matrix, c->vocab,
                     c->width, 0);
    for (int i = 0; i < p->n; i++) {
        const rt_param *one = &p->item[i];
        int64_t n = rt_tensor_elements(one->slot);
        if (one->flags & RT_PARAM_PRODUCT)
            p->active += one->experts ? n / one->experts * c->active : n;
    }
}

static void plan_list(rt_weights *w, rt_params *list, rt_arenas *l, const rt_placing *how)
{
    list->form = how->form;
    list->where = how->where;
    list->in_turns = how->in_turns;
    rt_arenas_add(l, &w->arena, how->label, how->where, rt_params_plan, list);
}

void rt_weights_plan(rt_weights *w, rt_arenas *l, const rt_config *c, const rt_placing *how)
{
    rt_weights_init(w, c);
    plan_list(w, &w->params, l, how);
}

const rt_params *rt_weights_learned(const rt_weights *w)
{
    return w->adapters ? &w->adapters->params : &w->params;
}

void rt_weights_plan_like(rt_weights *g, rt_arenas *l, const rt_config *c, const rt_weights *w,
                          const rt_placing *how)
{
    rt_err ignored; /* its layers have been found before */
    if (!w->adapters) {
        rt_weights_plan(g, l, c, how);
        return;
    }
    rt_weights_init(g, c);
    if (rt_adapters_new(&g->adapters, &g->params, &w->adapters->spec, &ignored))
        rt_bug("adapters of %s: %s", how->label, ignored.text);
    for (int i = 0; i < g->params.n; i++)
        *g->params.item[i].slot = (rt_tensor){ .rank = 0 };
    rt_params_free(&g->params);
    plan_list(g, &g->adapters->params, l, how);
}

void rt_weights_free(rt_dev *d, rt_weights *w)
{
    rt_adapters_free(d, w->adapters);
    rt_dev_free(d, &w->arena);
    rt_params_free(&w->params);
    free(w->block);
    memset(w, 0, sizeof *w);
}

static rt_tensor *head_of(const rt_config *c, rt_weights *w)
{
    return c->tied ? &w->embed : &w->head;
}

/* ---- activations --------------------------------------------------------------------------------
 */

/* Without backward (or with recompute) the layers take turns in one set of buffers, as large as the
   largest layer needs. */
static void plan_blocks(rt_acts *a, const rt_plan *p)
{
    const rt_config *c = a->cfg;
    bool train = p->mode == RT_PLAN_TRAIN, shared = !train || a->shape.recompute;
    int64_t start = rt_arena_mark(p->arena), most = start;
    for (int64_t l = 0; l < c->layers; l++) {
        if (shared)
            rt_arena_release(p->arena, start);
        rt_block_plan(p, c, l, &a->saved[l]);
        if (a->load.data)
            a->saved[l].ffn.load = rt_tensor_1(rt_f32(&a->load) + l * c->experts, RT_F32,
                                               c->experts);
        if (a->choice.data)
            a->saved[l].ffn.idx.data = rt_i32(&a->choice) + l * p->n * c->active;
        most = rt_max(most, rt_arena_mark(p->arena));
    }
    if (shared) {
        rt_arena_release(p->arena, start);
        rt_arena_take(p->arena, "block", most - start);
    }
}

static bool offloads(const rt_acts *a)
{
    return a->shape.mode == RT_PLAN_TRAIN && a->shape.recompute == RT_RECOMPUTE_OFFLOAD;
}

/* Tensors of the residual stream on the device. */
static int64_t streams(const rt_acts *a)
{
    return a->shape.mode != RT_PLAN_TRAIN ? 1 : offloads(a) ? 3 : a->cfg->layers + 1;
}

/* The one that layer l reads. */
static rt_tensor *stream(const rt_acts *a, int64_t l)
{
    if (a->shape.mode != RT_PLAN_TRAIN)
        return &a->stream[0];
    return &a->stream[!offloads(a) ? l : l == a->cfg->layers ? 2 : l % 2];
}

static void plan_head(rt_acts *a, const rt_plan *p)
{
    static const char name[] = "head";
    int64_t rows = a->shape.head_rows, width = a->cfg->width;
    a->index = rt_plan_1(p->arena, name, RT_I32, rows);
    a->head_in = rt_plan_2(p->arena, name, p->act, rows, width);
    if (p->mode == RT_PLAN_TRAIN)
        a->dhead_in = rt_plan_2(p->arena, name, p->act, rows, width);
    a->logits = rt_plan_2(p->arena, "head.logits", RT_F32, rows, a->cfg->vocab);
}

/* The one description of a pass. */
static void plan_pass(void *ctx, rt_arena *arena)
{
    rt_acts *a = ctx;
    const rt_config *c = a->cfg;
    int64_t s = a->shape.segments;
    const rt_plan p = { .arena = arena,
                        .n = a->shape.rows,
                        .mode = a->shape.mode,
                        .act = rt_dev_get(a->d).act,
                        .batched = &a->batched };
    bool train = p.mode == RT_PLAN_TRAIN, routed = c->family->routed;
    a->batched.n = 0;
    a->rows.longest = a->shape.longest;
    if (train && routed)
        a->load = rt_plan_2(arena, "router.load", RT_F32, c->layers, c->experts);
    if (a->shape.choices && routed)
        a->choice = rt_plan_3(arena, "router.choices", RT_I32, c->layers, p.n, c->active);
    rt_plan_rows(&p, &a->rows.token, "rows", RT_I32, 1, 0, 0);
    rt_plan_rows(&p, &a->rows.pos, "rows", RT_I32, 1, 0, 0);
    a->rows.offset = rt_plan_1(arena, "rows", RT_I32, s + 1);
    if (p.mode == RT_PLAN_DECODE)
        a->rows.page = rt_plan_2(arena, "rows", RT_I32, s, rt_kv_pages(a->rows.longest));
    for (int64_t k = 0; k < streams(a); k++)
        rt_plan_rows(&p, &a->stream[k], "block.stream", p.act, 1, c->width, 0);
    rt_plan_rows(&p, &a->hidden, "head", p.act, 1, c->width, 0);
    rt_plan_rows(&p, &a->hidden_rstd, "head", RT_F32, 1, 0, 0);
    if (train) {
        rt_plan_rows(&p, &a->dhidden, "head", p.act, 1, c->width, 0);
        rt_plan_rows(&p, &a->dstream, "gradients.stream", p.act, 1, c->width, 0);
        rt_block_plan_grads(&p, c, &a->grads);
    }
    plan_head(a, &p);
    plan_blocks(a, &p);
}

static void plan_cache(void *ctx, rt_arena *arena)
{
    rt_acts *a = ctx;
    for (int64_t l = 0; l < a->cfg->layers; l++) {
        rt_kv *kv = &a->kv[l];
        kv->pages = a->shape.pages;
        rt_mixer_of(a->cfg, l)->cache(a->cfg, kv);
        kv->data = rt_arena_take(arena, "kv cache", rt_kv_bytes(a->d, kv));
    }
}

void rt_acts_plan(rt_acts *a, rt_arenas *l, rt_dev *d, const rt_model *m,
                  const rt_pass_shape *shape)
{
    memset(a, 0, sizeof *a);
    a->shape = *shape;
    a->d = d;
    a->cfg = &m->cfg;
    a->stream = rt_alloc(streams(a), sizeof *a->stream, "a list of layers");
    a->saved = rt_alloc(m->cfg.layers, sizeof *a->saved, "a list of layers");
    a->kv = rt_alloc(m->cfg.layers, sizeof *a->kv, "a list of layers");
    rt_arenas_add(l, &a->arena, "activations", RT_ON_DEVICE, plan_pass, a);
    if (offloads(a))
        rt_offload_plan(&a->inputs, l, d, m->cfg.layers, a->stream);
    if (shape->mode == RT_PLAN_DECODE) {
        rt_arenas_add(l, &a->cache, "kv cache", RT_ON_DEVICE, plan_cache, a);
        a->cache.sparse = true; /* as long as the longest answer may be */
    }
    rt_dev_dry_begin(d);
    rt_acts_dry(a, m, shape->rows, shape->segments);
    rt_model_logits(d, m, a, NULL, shape->head_rows);
    rt_dev_dry_end(d);
}

void rt_acts_dry(rt_acts *a, const rt_model *m, int64_t n, int64_t s)
{
    rt_model resident = *m;
    resident.visit = NULL;
    rt_acts_rows(a, n, s, NULL, NULL, NULL, NULL);
    rt_model_forward(a->d, &resident, a);
}

void rt_acts_free(rt_acts *a)
{
    rt_dev_free(a->d, &a->arena);
    rt_dev_free(a->d, &a->cache);
    rt_offload_free(&a->inputs);
    free(a->batched.item);
    free(a->stream);
    free(a->saved);
    free(a->kv);
    memset(a, 0, sizeof *a);
}

void rt_acts_rows(rt_acts *a, int64_t n, int64_t s, const int32_t *token, const int32_t *pos,
                  const int32_t *offset, const int32_t *page)
{
    if (n > a->shape.rows || s > a->shape.segments)
        rt_bug("a batch of %lld rows in %lld segments, planned for %lld in %lld", (long long)n,
               (long long)s, (long long)a->shape.rows, (long long)a->shape.segments);
    rt_rows *r = &a->rows;
    r->n = n;
    r->s = s;
    r->offset.dim[0] = s + 1;
    rt_batched_rows(&a->batched, n);
    rt_put(a->d, r->token.data, token, rt_tensor_bytes(&r->token));
    rt_put(a->d, r->pos.data, pos, rt_tensor_bytes(&r->pos));
    rt_put(a->d, r->offset.data, offset, rt_tensor_bytes(&r->offset));
    if (a->shape.mode == RT_PLAN_DECODE) {
        r->page.dim[0] = s;
        rt_put(a->d, r->page.data, page, rt_tensor_bytes(&r->page));
    }
    if (a->shape.mode == RT_PLAN_TRAIN)
        rt_zero(a->d, &a->dhidden);
}

void rt_acts_copy_page(rt_acts *a, int64_t to, int64_t from)
{
    for (int64_t l = 0; l < a->cfg->layers; l++)
        rt_kv_copy(a->d, &a->kv[l], to, from);
}

/* ---- forward and backward -----------------------------------------------------------------------
 */

static rt_pass pass_of(const rt_model *m, const rt_acts *a, int64_t layer)
{
    rt_pass pass = { &a->rows, &m->rope, a->shape.mode == RT_PLAN_DECODE ? &a->kv[layer] : NULL,
                     rt_config_window(&m->cfg, layer),
                     m->visit && m->visit->experts ? m->visit : NULL };
    return pass;
}

static int block_forward(rt_dev *d, const rt_model *m, rt_acts *a, int64_t l, rt_tensor *y,
                         rt_err *err)
{
    rt_pass pass = pass_of(m, a, l);
    return rt_block_forward(d, &m->cfg, l, &m->w.block[l], &a->saved[l], y, stream(a, l), &pass,
                            err);
}

int rt_model_embed(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err)
{
    const rt_visit *v = m->visit;
    if (v && v->embed)
        return v->embed(v->ctx, d, &a->stream[0], &a->rows.token, err);
    rt_gather_rows(d, &a->stream[0], &m->w.embed, &a->rows.token);
    return 0;
}

static int enter(const rt_model *m, int64_t l, rt_err *err)
{
    return m->visit ? m->visit->enter(m->visit->ctx, l, err) : 0;
}

static int leave(const rt_model *m, int64_t l, rt_err *err)
{
    return m->visit ? m->visit->leave(m->visit->ctx, l, err) : 0;
}

int rt_model_layer(rt_dev *d, const rt_model *m, rt_acts *a, int64_t layer, rt_err *err)
{
    if (enter(m, layer, err) || block_forward(d, m, a, layer, stream(a, layer + 1), err))
        return -1;
    if (offloads(a))
        rt_offload_keep(&a->inputs, layer);
    return leave(m, layer, err);
}

void rt_model_final(rt_dev *d, const rt_model *m, rt_acts *a)
{
    rt_rmsnorm_forward(d, &a->hidden, &a->hidden_rstd, stream(a, m->cfg.layers), &m->w.final_norm,
                       (float)m->cfg.norm_eps);
}

int rt_model_pass(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err)
{
    if (rt_model_embed(d, m, a, err))
        return -1;
    for (int64_t l = 0; l < m->cfg.layers; l++)
        if (rt_model_layer(d, m, a, l, err))
            return -1;
    rt_model_final(d, m, a);
    return 0;
}

void rt_model_forward(rt_dev *d, const rt_model *m, rt_acts *a)
{
    rt_err err;
    if (m->visit || rt_model_pass(d, m, a, &err))
        rt_bug("rt_model_forward: its weights are not all resident");
}

int rt_model_fly(rt_dev *d, const rt_model *m, rt_acts *a, const rt_flight *f, rt_err *err)
{
    for (int64_t l = f->layer; l < m->cfg.layers; l++) {
        if (enter(m, l, err))
            return -1;
        for (int64_t b = 0; b < f->batches; b++) {
            if (f->load(f->ctx, l, b, err) || (l == 0 && rt_model_embed(d, m, a, err)) ||
                block_forward(d, m, a, l, stream(a, l + 1), err))
                return -1;
            if (m->visit && m->visit->between)
                m->visit->between(m->visit->ctx, l);
            if (f->keep(f->ctx, l + 1, b, err))
                return -1;
        }
        if (leave(m, l, err) || (f->kept && f->kept(f->ctx, l + 1, err)))
            return -1;
    }
    return 0;
}

/* -1, or 1 as soon as a number of the layer's output is not finite. */
static int overflows(rt_dev *d, const rt_model *m, rt_acts *a, int64_t l, uint8_t *host,
                     float *row, rt_err *err)
{
    const rt_tensor *x = stream(a, l + 1);
    int64_t width = x->dim[1], each = rt_dtype_bytes(x->dtype, width);
    if (rt_model_layer(d, m, a, l, err))
        return -1;
    rt_download(d, host, x->data, rt_tensor_bytes(x));
    if (rt_sync(d, err))
        return -1;
    for (int64_t r = 0; r < x->dim[0]; r++) {
        rt_decode_f32(row, host + r * each, x->dtype, width);
        for (int64_t i = 0; i < width; i++)
            if (!isfinite(row[i]))
                return 1;
    }
    return 0;
}

int64_t rt_model_overflow(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err)
{
    int64_t layer = 0;
    uint8_t *host = rt_alloc(rt_tensor_bytes(&a->stream[0]), 1, "the activations of a layer");
    float *row = rt_alloc(m->cfg.width, sizeof *row, "a row of activations");
    int found = rt_model_embed(d, m, a, err);
    for (; !found && layer < m->cfg.layers; layer += !found)
        found = overflows(d, m, a, layer, host, row, err);
    free(host);
    free(row);
    return found < 0 ? -1 : layer;
}

void rt_model_logits(rt_dev *d, const rt_model *m, rt_acts *a, const int32_t *index, int64_t n)
{
    if (n > a->shape.head_rows)
        rt_bug("a head chunk of %lld rows, planned for %lld", (long long)n,
               (long long)a->shape.head_rows);
    a->index.dim[0] = a->head_in.dim[0] = a->logits.dim[0] = n;
    rt_put(d, a->index.data, index, n * (int64_t)sizeof *index);
    rt_gather_rows(d, &a->head_in, &a->hidden, &a->index);
    rt_matmul(d, &a->logits, &a->head_in, false, m->cfg.tied ? &m->w.embed : &m->w.head, true,
              0.0f);
}

void rt_model_logits_backward(rt_dev *d, const rt_model *m, rt_weights *dw, rt_acts *a)
{
    a->dhead_in.dim[0] = a->logits.dim[0];
    if (head_of(&m->cfg, dw)->rank)
        rt_matmul(d, head_of(&m->cfg, dw), &a->logits, true, &a->head_in, false, 1.0f);
    rt_matmul(d, &a->dhead_in, &a->logits, false, m->cfg.tied ? &m->w.embed : &m->w.head, false,
              0.0f);
    rt_scatter_add_rows(d, &a->dhidden, &a->dhead_in, &a->index);
}

static int layer_backward(rt_dev *d, const rt_model *m, rt_weights *dw, rt_acts *a, int64_t l,
                          rt_err *err)
{
    rt_pass pass = pass_of(m, a, l);
    if (offloads(a))
        rt_offload_bring(&a->inputs, l);
    if (a->shape.recompute) {
        rt_tensor load = a->saved[l].ffn.load;
        a->saved[l].ffn.load.data = NULL; /* counted once, in forward */
        /* the output of the last layer stays: a second backward pass of the same rows begins with it */
        int bad = block_forward(d, m, a, l, offloads(a) ? &a->hidden : stream(a, l + 1), err);
        a->saved[l].ffn.load = load;
        if (bad)
            return -1;
    }
    if (rt_block_backward(d, &m->cfg, l, &m->w.block[l], &dw->block[l], &a->saved[l], &a->grads,
                          &a->dstream, stream(a, l), &pass, err))
        return -1;
    if (offloads(a))
        rt_offload_done(&a->inputs, l);
    return 0;
}

int rt_model_backward(rt_dev *d, const rt_model *m, rt_weights *dw, rt_acts *a, rt_err *err)
{
    const rt_config *c = &m->cfg;
    rt_rmsnorm_backward(d, &a->dstream, &dw->final_norm, &a->dhidden, stream(a, c->layers),
                        &m->w.final_norm, &a->hidden_rstd, 0.0f);
    for (int64_t l = c->layers - 1; l >= 0; l--)
        if (enter(m, l, err) || layer_backward(d, m, dw, a, l, err) || leave(m, l, err))
            return -1;
    if (dw->embed.rank)
        rt_scatter_add_rows(d, &dw->embed, &a->dstream, &a->rows.token);
    return 0;
}
