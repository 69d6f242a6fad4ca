#include "distill/fused.h"

#include <math.h>
#include <string.h>

static void zero_layer(rt_fused *f, int64_t layer)
{
    const rt_params *w = &f->step->m->w.params, *g = &f->step->grads.params;
    for (int i = 0; i < g->n; i++)
        if (w->item[i].layer == layer)
            rt_zero(f->step->d, g->item[i].slot);
}

static int enter(void *ctx, int64_t layer, rt_err *err)
{
    (void)err;
    zero_layer(ctx, layer);
    return 0;
}

static void done(rt_fused *f, int layer)
{
    rt_dev *d = f->step->d;
    if (!f->moving || f->clip == 0)
        rt_optimizer_sums(d, f->optimizer, &f->step->grads, layer);
    if (f->moving)
        rt_optimizer_update(d, f->optimizer, &f->step->grads, layer, f->lr, f->scale, f->number);
}

static int leave(void *ctx, int64_t layer, rt_err *err)
{
    (void)err;
    done(ctx, (int)layer);
    return 0;
}

/* Once the gradients outside layers are whole they stay so. */
static int pass(rt_fused *f, bool moving, bool again, rt_err *err)
{
    rt_step *s = f->step;
    rt_weights dw = s->grads;
    if (again)
        dw.embed.rank = dw.final_norm.rank = 0;
    f->moving = moving;
    if (rt_model_backward(s->d, s->m, &dw, &s->acts, err))
        return -1;
    done(f, -1);
    return 0;
}

/* Weights are moved by what is a number only. */
static int check_loss(rt_fused *f, rt_err *err)
{
    if (rt_sync(f->step->d, err))
        return -1;
    return isfinite(rt_step_totals(f->step)->sum[RT_LOSS_TOTAL]) ? 0 : 1;
}

static int measure_norm(rt_fused *f, rt_err *err)
{
    if (pass(f, false, false, err))
        return -1;
    rt_optimizer_fetch(f->step->d, f->optimizer);
    if (rt_sync(f->step->d, err))
        return -1;
    double norm = rt_optimizer_norm(f->optimizer);
    f->scale = norm > f->clip ? f->clip / norm : 1;
    return isfinite(norm) ? 0 : 1;
}

static int backward(void *ctx, rt_step *s, rt_err *err)
{
    rt_fused *f = ctx;
    const rt_visit *before = s->m->visit;
    s->m->visit = &f->visit;
    f->scale = 1;
    int bad = check_loss(f, err);
    if (!bad && f->clip > 0)
        bad = measure_norm(f, err);
    if (!bad)
        bad = pass(f, true, f->clip > 0, err);
    if (!bad && f->clip == 0)
        rt_optimizer_fetch(s->d, f->optimizer);
    s->m->visit = before;
    return bad < 0 ? -1 : 0; /* 1: whoever asked for the step sees that it is no number */
}

void rt_fused_init(rt_fused *f, rt_step *s, rt_optimizer *o, double clip)
{
    memset(f, 0, sizeof *f);
    f->optimizer = o;
    f->step = s;
    f->clip = clip;
    f->visit = (rt_visit){ .ctx = f, .enter = enter, .leave = leave };
    s->backward = backward;
    s->backward_ctx = f;
}
