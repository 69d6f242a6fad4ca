#include "distill/muon.h"

#include <math.h>

enum { STEPS = 5, BLOCK = 4096 /* elements of a partial sum (ops.h) */ };
static const float A = 3.4445f, B = -4.7750f, C = 2.0315f; /* of the quintic, x to A x + B x^3 + C x^5 */

void rt_muon_hold(rt_muon *o, int64_t out, int64_t in)
{
    o->most = rt_max(o->most, out * in);
    o->least = rt_max(o->least, rt_min(out, in));
}

static void plan(void *ctx, rt_arena *a)
{
    rt_muon *o = ctx;
    o->u = rt_plan_1(a, "muon", RT_F32, o->most);
    o->y = rt_plan_1(a, "muon", RT_F32, o->most);
    o->gram = rt_plan_1(a, "muon", RT_F32, o->least * o->least);
    o->step = rt_plan_1(a, "muon", RT_F32, o->least * o->least);
    o->partial = rt_plan_1(a, "muon", RT_F32, rt_ceil_div(o->most, BLOCK));
}

void rt_muon_plan(rt_muon *o, rt_arenas *l)
{
    rt_arenas_add(l, &o->arena, "optimizer", RT_ON_DEVICE, plan, o);
}

/* x(O,I) = A x + (B g + C g^2) x with g = x xᵀ, or on the side that is shorter. */
static void newton_schulz(rt_dev *d, rt_muon *o, rt_tensor *x)
{
    int64_t out = x->dim[0], in = x->dim[1], side = rt_min(out, in);
    bool tall = out > in;
    rt_tensor g = rt_tensor_2(o->gram.data, RT_F32, side, side), s = g, y = *x;
    s.data = o->step.data;
    y.data = o->y.data;
    for (int k = 0; k < STEPS; k++) {
        rt_matmul(d, &g, x, tall, x, !tall, 0.0f);
        rt_matmul(d, &s, &g, false, &g, false, 0.0f);
        rt_axpby(d, &s, &g, B, C, NULL);
        if (tall)
            rt_matmul(d, &y, x, false, &s, false, 0.0f);
        else
            rt_matmul(d, &y, &s, false, x, false, 0.0f);
        rt_axpby(d, x, &y, 1.0f, A, NULL);
    }
}

void rt_muon_update(rt_dev *d, rt_muon *o, rt_tensor *w, rt_tensor *m, const rt_tensor *g,
                    const rt_muon_step *s)
{
    int64_t out = w->dim[0], in = w->dim[1];
    rt_tensor u = rt_tensor_2(o->u.data, RT_F32, out, in), flat = rt_tensor_rows(&o->u, 0, out * in);
    rt_tensor partial = rt_tensor_rows(&o->partial, 0, rt_ceil_div(out * in, BLOCK));
    double by = s->lr * 0.2 * sqrt((double)rt_max(out, in));
    rt_momentum(d, &flat, m, g, (float)s->momentum, (float)s->grad_scale, true);
    rt_sumsq(d, &partial, &u);
    rt_unit_norm(d, &u, &u, &partial);
    newton_schulz(d, o, &u);
    rt_axpby(d, w, &u, (float)-by, (float)(1 - s->lr * s->decay), &s->rounding);
}
