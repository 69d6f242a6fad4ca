/* optim.h: team kernels of the optimizer: blocks of squared sums for the gradient norm, and AdamW
   (Loshchilov and Hutter 2019: decay apart from the gradient). Contract: core/device/ops.h. */
#ifndef RT_KERNELS_OPTIM_H
#define RT_KERNELS_OPTIM_H

#include "core/device/kernels/data.h"

struct rt_args_sumsq {
    rt_tensor partial, g; /* (B) (...) */
};

/* unit: block of RT_FLAT_BLOCK elements */
TEAM_FN void rt_sumsq_unit(const struct rt_args_sumsq *a, int64_t unit, float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->g) - begin);
    const float *g = team_f32(&a->g) + begin;
    float sum = team_dot(g, g, n);
    (void)scratch;
    if (team_rank() == 0)
        team_f32(&a->partial)[unit] = sum;
}

struct rt_args_adamw {
    rt_tensor w, m, v, g; /* same shape */
    rt_adamw h;
};

/* unit: block of elements */
TEAM_FN void rt_adamw_unit(const struct rt_args_adamw *a, int64_t unit, float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->w) - begin);
    float *__restrict__ w = team_f32(&a->w) + begin, *__restrict__ m = team_f32(&a->m) + begin;
    float *__restrict__ v = team_f32(&a->v) + begin;
    const float *__restrict__ g = team_f32(&a->g) + begin;
    float b1 = a->h.beta1, b2 = a->h.beta2, eps = a->h.eps, lr = a->h.lr;
    float unbias1 = 1.0f / a->h.bias1, unbias2 = 1.0f / a->h.bias2, shrink = lr * a->h.decay;
    (void)scratch;
    for (int64_t i = team_rank(); i < n; i += team_size()) {
        float gi = g[i] * a->h.grad_scale;
        float mi = fmaf(b1, m[i], (1.0f - b1) * gi);
        float vi = fmaf(b2, v[i], (1.0f - b2) * gi * gi);
        float step = mi * unbias1 / (sqrtf(vi * unbias2) + eps);
        m[i] = mi;
        v[i] = vi;
        w[i] = fmaf(-lr, step, fmaf(-shrink, w[i], w[i]));
    }
}

#endif
