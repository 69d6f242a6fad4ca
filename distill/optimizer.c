#include "distill/optimizer.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 4096 }; /* elements a partial sum of the norm covers (ops.h) */

/* Without a gradient it has none. */
static int64_t blocks_of(const rt_param *p)
{
    return p->flags & RT_PARAM_FIXED ? 0 : rt_ceil_div(rt_tensor_elements(p->slot), BLOCK);
}

static void plan_there(void *ctx, rt_arena *a)
{
    rt_optimizer *o = ctx;
    o->partial = rt_plan_1(a, "norm", RT_F32, o->blocks);
}

static void plan_here(void *ctx, rt_arena *a)
{
    rt_optimizer *o = ctx;
    o->host = rt_arena_take(a, "norm", o->blocks * (int64_t)sizeof *o->host);
}

void rt_optimizer_plan(rt_optimizer *o, const rt_config *cfg, const rt_weights *w, double beta1,
                       double beta2, double eps, double decay)
{
    memset(o, 0, sizeof *o);
    rt_weights_plan_like(&o->m, &o->arenas, cfg, w, "moment 1");
    rt_weights_plan_like(&o->v, &o->arenas, cfg, w, "moment 2");
    const rt_params *list = rt_weights_learned(&o->m);
    for (int i = 0; i < list->n; i++)
        o->blocks += blocks_of(&list->item[i]);
    rt_arenas_add(&o->arenas, &o->there, "optimizer", RT_ON_DEVICE, plan_there, o);
    rt_arenas_add(&o->arenas, &o->here, "host", RT_ON_HOST, plan_here, o);
    o->beta1 = beta1;
    o->beta2 = beta2;
    o->eps = eps;
    o->decay = decay;
}

int rt_optimizer_place(rt_optimizer *o, rt_dev *d, rt_err *err)
{
    if (rt_arenas_place(&o->arenas, d, err))
        return -1;
    const rt_params *m = rt_weights_learned(&o->m), *v = rt_weights_learned(&o->v);
    for (int i = 0; i < m->n; i++) {
        rt_zero(d, m->item[i].slot);
        rt_zero(d, v->item[i].slot);
    }
    return 0;
}

void rt_optimizer_free(rt_optimizer *o, rt_dev *d)
{
    rt_arenas_free(&o->arenas, d);
    rt_weights_free(d, &o->m);
    rt_weights_free(d, &o->v);
    memset(o, 0, sizeof *o);
}

void rt_optimizer_sums(rt_dev *d, rt_optimizer *o, const rt_weights *grads)
{
    const rt_params *list = rt_weights_learned(grads);
    int64_t at = 0;
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        rt_tensor part = rt_tensor_rows(&o->partial, at, blocks_of(p));
        at += part.dim[0];
        if (part.dim[0])
            rt_sumsq(d, &part, p->slot);
    }
    rt_download(d, o->host, o->partial.data, rt_tensor_bytes(&o->partial));
}

double rt_optimizer_norm(const rt_optimizer *o)
{
    double sum = 0;
    for (int64_t b = 0; b < o->blocks; b++)
        sum += (double)o->host[b];
    return sqrt(sum);
}

void rt_optimizer_update(rt_dev *d, rt_optimizer *o, rt_weights *w, const rt_weights *grads,
                         double lr, double scale, int64_t step)
{
    rt_adamw h = { .lr = (float)lr,
                   .beta1 = (float)o->beta1,
                   .beta2 = (float)o->beta2,
                   .eps = (float)o->eps,
                   .bias1 = (float)(1 - pow(o->beta1, (double)step)),
                   .bias2 = (float)(1 - pow(o->beta2, (double)step)),
                   .grad_scale = (float)scale };
    const rt_params *list = rt_weights_learned(w), *m = rt_weights_learned(&o->m),
                    *v = rt_weights_learned(&o->v), *g = rt_weights_learned(grads);
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        if (p->flags & RT_PARAM_FIXED)
            continue;
        h.decay = p->flags & RT_PARAM_DECAY ? (float)o->decay : 0.0f;
        rt_adamw_step(d, p->slot, m->item[i].slot, v->item[i].slot, g->item[i].slot, &h);
    }
}
