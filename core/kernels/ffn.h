/* ffn.h: team kernels of SwiGLU, forward and backward. Shapes and aliasing: core/ops.h. */
#ifndef RT_KERNELS_FFN_H
#define RT_KERNELS_FFN_H

#include "core/kernels/data.h"

struct rt_args_swiglu_forward {
    rt_tensor y, gate, up; /* (N,F) each */
};

/* unit: block of elements */
TEAM_FN void rt_swiglu_forward_unit(const struct rt_args_swiglu_forward *a, int64_t unit,
                                    float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->y) - begin);
    float *y = team_f32(&a->y) + begin;
    const float *gate = team_f32(&a->gate) + begin, *up = team_f32(&a->up) + begin;
    (void)scratch;
    for (int64_t i = team_rank(); i < n; i += team_size())
        y[i] = rt_siluf(gate[i]) * up[i];
}

struct rt_args_swiglu_backward {
    rt_tensor dgate, dup, dy, gate, up; /* (N,F) each; dgate may be gate, dup may be up */
};

/* unit: block of elements. With s = sigmoid(gate): dup = dy gate s, dgate = dy up s (1 + gate (1 -
 * s)) */
TEAM_FN void rt_swiglu_backward_unit(const struct rt_args_swiglu_backward *a, int64_t unit,
                                     float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->dy) - begin);
    float *dgate = team_f32(&a->dgate) + begin, *dup = team_f32(&a->dup) + begin;
    const float *dy = team_f32(&a->dy) + begin;
    const float *gate = team_f32(&a->gate) + begin, *up = team_f32(&a->up) + begin;
    (void)scratch;
    for (int64_t i = team_rank(); i < n; i += team_size()) {
        float g = gate[i], u = up[i], s = rt_sigmoidf(g), t = dy[i] * s;
        dup[i] = t * g;
        dgate[i] = t * u * fmaf(g, 1.0f - s, 1.0f);
    }
}

#endif
