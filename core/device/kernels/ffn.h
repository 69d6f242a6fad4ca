/* ffn.h: team kernels of SwiGLU, plain and clamped, forward and backward. Shapes and aliasing:
   core/device/ops.h. */
#ifndef RT_KERNELS_FFN_H
#define RT_KERNELS_FFN_H

#include "core/device/kernels/data.h"

struct rt_args_swiglu_forward {
    rt_tensor y, gate, up; /* (N,F) each */
    rt_swiglu_rule rule;
};

/* NaN stays NaN */
TEAM_FN float swiglu_clamp(float x, float limit, bool below)
{
    x = x > limit ? limit : x;
    return below && x < -limit ? -limit : x;
}

/* unit: block of elements */
TEAM_FN void rt_swiglu_forward_unit(const struct rt_args_swiglu_forward *a, int64_t unit,
                                    float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->y) - begin);
    act *y = team_act(&a->y) + begin;
    const act *gate = team_act(&a->gate) + begin, *up = team_act(&a->up) + begin;
    float alpha = a->rule.alpha, limit = a->rule.limit, shift = a->rule.shift, back = 1.0f / alpha;
    (void)scratch;
    for (int64_t i = team_rank(); i < n; i += team_size()) {
        float g = swiglu_clamp(gate[i], limit, false), u = swiglu_clamp(up[i], limit, true);
        y[i] = rt_siluf(alpha * g) * back * (u + shift);
    }
}

struct rt_args_swiglu_backward {
    rt_tensor dgate, dup, dy, gate, up; /* (N,F) each; dgate may be gate, dup may be up */
    rt_swiglu_rule rule;
};

/* unit: block of elements. With g and u clamped and s = sigmoid(alpha g): dup = dy g s,
   dgate = dy (u + shift) s (1 + alpha g (1 - s)); 0 beyond a limit */
TEAM_FN void rt_swiglu_backward_unit(const struct rt_args_swiglu_backward *a, int64_t unit,
                                     float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->dy) - begin);
    act *dgate = team_act(&a->dgate) + begin, *dup = team_act(&a->dup) + begin;
    const act *dy = team_act(&a->dy) + begin;
    const act *gate = team_act(&a->gate) + begin, *up = team_act(&a->up) + begin;
    float alpha = a->rule.alpha, limit = a->rule.limit, shift = a->rule.shift;
    (void)scratch;
    for (int64_t i = team_rank(); i < n; i += team_size()) {
        float g = swiglu_clamp(gate[i], limit, false), u = swiglu_clamp(up[i], limit, true);
        float s = rt_sigmoidf(alpha * g), t = dy[i] * s;
        float inside_g = gate[i] > limit ? 0.0f : t, inside_u = up[i] > limit ? 0.0f : t;
        inside_u = up[i] < -limit ? 0.0f : inside_u;
        dup[i] = inside_u * g;
        dgate[i] = inside_g * (u + shift) * fmaf(alpha * g, 1.0f - s, 1.0f);
    }
}

#endif
