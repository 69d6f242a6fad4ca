#include "core/network/offload.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

static void plan_home(void *ctx, rt_arena *a)
{
    rt_offload *o = ctx;
    for (int64_t l = 0; l < o->layers; l++)
        o->home[l] = rt_arena_take(a, "block.stream", o->bytes);
}

void rt_offload_plan(rt_offload *o, rt_arenas *l, rt_dev *d, int64_t layers, const rt_tensor *x)
{
    memset(o, 0, sizeof *o);
    o->d = d;
    o->layers = layers;
    o->bytes = rt_tensor_bytes(x);
    o->home = rt_alloc(layers, sizeof *o->home, "a list of layers");
    for (int k = 0; k < RT_COUNT(o->turn); k++)
        o->turn[k].x = &x[k];
    rt_arenas_add(l, &o->arena, "activations", RT_ON_HOST, plan_home, o);
}

void rt_offload_free(rt_offload *o)
{
    for (int k = 0; o->d && k < RT_COUNT(o->turn); k++) {
        rt_mark_free(o->d, &o->turn[k].ready);
        rt_mark_free(o->d, &o->turn[k].done);
    }
    if (o->d)
        rt_dev_free(o->d, &o->arena);
    free(o->home);
    memset(o, 0, sizeof *o);
}

static struct rt_offload_turn *turn_of(rt_offload *o, int64_t layer)
{
    return &o->turn[layer % RT_COUNT(o->turn)];
}

void rt_offload_keep(rt_offload *o, int64_t layer)
{
    struct rt_offload_turn *t = turn_of(o, layer);
    rt_download(o->d, o->home[layer], t->x->data, rt_tensor_bytes(t->x));
    t->layer = layer;
}

/* The two that forward used last are there still; so the first copy follows the backward of a layer,
   which is behind every keep: what it reads at home has been written. */
static void fill(rt_offload *o, int64_t layer)
{
    struct rt_offload_turn *t = turn_of(o, layer);
    if (t->layer == layer)
        return;
    rt_mark_follow(o->d, &t->done, RT_BESIDE);
    rt_upload_beside(o->d, t->x->data, o->home[layer], rt_tensor_bytes(t->x));
    rt_mark_set(o->d, &t->ready, RT_BESIDE);
    t->layer = layer;
}

void rt_offload_bring(rt_offload *o, int64_t layer)
{
    fill(o, layer);
    rt_mark_follow(o->d, &turn_of(o, layer)->ready, RT_COMPUTE);
    if (layer > 0)
        fill(o, layer - 1);
}

void rt_offload_done(rt_offload *o, int64_t layer)
{
    rt_mark_set(o->d, &turn_of(o, layer)->done, RT_COMPUTE);
}
