/* norm.h: team kernels around attention: RMSNorm and rotary positions, forward and backward, and
   the gradient of attention sinks. Shapes and aliasing: core/device/ops.h. */
#ifndef RT_KERNELS_NORM_H
#define RT_KERNELS_NORM_H

#include "core/device/kernels/data.h"

struct rt_args_rmsnorm_forward {
    rt_tensor y, rstd, x, w; /* (N,C) (N) (N,>=C) (C) */
    float eps;
};

/* unit: row */
TEAM_FN void rt_rmsnorm_forward_unit(const struct rt_args_rmsnorm_forward *a, int64_t unit,
                                     float *scratch)
{
    int64_t c = a->y.dim[1];
    act *__restrict__ y = act_row(&a->y, unit, c);
    const act *__restrict__ x = act_row(&a->x, unit, a->x.dim[1]);
    const float *__restrict__ w = team_f32(&a->w);
    float rstd = 1.0f / sqrtf(team_dot(x, x, c) / (float)c + a->eps);
    (void)scratch;
    if (team_rank() == 0)
        team_f32(&a->rstd)[unit] = rstd;
    for (int64_t i = team_rank(); i < c; i += team_size())
        y[i] = x[i] * rstd * w[i];
}

struct rt_args_rmsnorm_backward {
    rt_tensor dx, dw, dy, x, w, rstd; /* (N,>=C) (C) (N,C) (N,>=C) (C) (N) */
    float beta;
    int64_t block; /* columns a unit of dw */
    struct rt_parts parts;
};

/* unit: row. With g = dy w and h = x rstd: dx = rstd (g - h mean(g h)) + beta dx */
TEAM_FN void rt_rmsnorm_backward_unit(const struct rt_args_rmsnorm_backward *a, int64_t unit,
                                      float *scratch)
{
    int64_t c = a->dy.dim[1];
    act *__restrict__ dx = act_row(&a->dx, unit, a->dx.dim[1]);
    const act *__restrict__ dy = act_row(&a->dy, unit, c);
    const act *__restrict__ x = act_row(&a->x, unit, a->x.dim[1]);
    const float *__restrict__ w = team_f32(&a->w);
    float rstd = team_f32(&a->rstd)[unit];
    double sum = 0.0;
    (void)scratch;
    for (int64_t b = 0; b < c; b += TEAM_BLOCK) {
        int64_t end = team_block_end(b, c);
        lanes s = lanes_set(0.0f);
        for (int64_t i = b + lanes_first(); i < end; i += lanes_step()) {
            lanes g = lanes_mul(lanes_load(dy + i, end - i, 0.0f),
                                lanes_load(w + i, end - i, 0.0f));
            s = lanes_fma(g, lanes_load(x + i, end - i, 0.0f), s);
        }
        sum += (double)team_sum_lanes(s);
    }
    float back = (float)sum * rstd * rstd / (float)c; /* of x: mean(g h) rstd */
    if (a->beta == 0.0f)
        for (int64_t i = team_rank(); i < c; i += team_size())
            dx[i] = rstd * fmaf(-back, x[i], dy[i] * w[i]);
    else
        for (int64_t i = team_rank(); i < c; i += team_size())
            dx[i] = fmaf(rstd, fmaf(-back, x[i], dy[i] * w[i]), a->beta * dx[i]);
}

/* unit: block of columns of a part of the rows */
TEAM_FN void rt_rmsnorm_backward_w_unit(const struct rt_args_rmsnorm_backward *a, int64_t unit,
                                        float *scratch)
{
    int64_t c = a->dy.dim[1], blocks = rt_ceil_div(c, a->block), part = unit / blocks;
    int64_t begin = unit % blocks * a->block, width = rt_min(a->block, c - begin);
    int64_t first = part * a->parts.rows, last = rt_min(first + a->parts.rows, a->dy.dim[0]);
    float *__restrict__ dw = part_begin(&a->parts, team_f32(&a->dw), part, c, begin, width);
    (void)scratch;
    for (int64_t r = first; r < last; r++) {
        const act *__restrict__ dy = act_row(&a->dy, r, c) + begin;
        const act *__restrict__ x = act_row(&a->x, r, a->x.dim[1]) + begin;
        float rstd = team_f32(&a->rstd)[r];
        for (int64_t i = team_rank(); i < width; i += team_size())
            dw[i] = fmaf(dy[i], x[i] * rstd, dw[i]);
    }
}

struct rt_args_rope {
    rt_tensor x, table, pos; /* (N,H,D) (T,P) (N) */
    int64_t first;
    bool interleaved, backward;
};

/* unit: row */
TEAM_FN void rt_rope_unit(const struct rt_args_rope *a, int64_t unit, float *scratch)
{
    int64_t heads = a->x.dim[1], d = a->x.dim[2], half = a->table.dim[1] / 2;
    const float *__restrict__ cosine = team_row(&a->table, team_i32(&a->pos)[unit], 2 * half);
    const float *__restrict__ sine = cosine + half;
    float sign = a->backward ? -1.0f : 1.0f;
    (void)scratch;
    for (int64_t h = 0; h < heads; h++) {
        act *x = act_row(&a->x, unit * heads + h, d) + a->first;
        if (a->interleaved) {
            for (int64_t i = team_rank(); i < half; i += team_size()) {
                float even = x[2 * i], odd = x[2 * i + 1], s = sign * sine[i];
                x[2 * i] = fmaf(even, cosine[i], -(odd * s));
                x[2 * i + 1] = fmaf(odd, cosine[i], even * s);
            }
        } else {
            act *__restrict__ lo = x, *__restrict__ hi = x + half;
            for (int64_t i = team_rank(); i < half; i += team_size()) {
                float a0 = lo[i], a1 = hi[i], s = sign * sine[i];
                lo[i] = fmaf(a0, cosine[i], -(a1 * s));
                hi[i] = fmaf(a1, cosine[i], a0 * s);
            }
        }
    }
}

struct rt_args_sinks_backward {
    rt_tensor dsinks, dout, out, lse, sinks; /* (H) (N,H,Dv) (N,H,Dv) (N,H) (H) */
    struct rt_parts parts;
};

/* unit: head of a part of the rows. A sink's weight is p = exp(sink - lse) and its value 0, so that
   its share of the gradient is -p dout . out. */
TEAM_FN void rt_sinks_backward_unit(const struct rt_args_sinks_backward *a, int64_t unit,
                                    float *scratch)
{
    int64_t heads = a->out.dim[1], dv = a->out.dim[2], part = unit / heads, h = unit % heads;
    int64_t first = part * a->parts.rows, last = rt_min(first + a->parts.rows, a->out.dim[0]);
    float sink = team_f32(&a->sinks)[h], sum = a->parts.at ? 0.0f : team_f32(&a->dsinks)[h];
    (void)scratch;
    for (int64_t r = first; r < last; r++) {
        int64_t at = r * heads + h;
        float p = rt_expf(sink - team_f32(&a->lse)[at]);
        sum = fmaf(-p, team_dot(act_row(&a->dout, at, dv), act_row(&a->out, at, dv), dv), sum);
    }
    team_sync();
    if (team_rank() == 0)
        *(a->parts.at ? a->parts.at + unit : team_f32(&a->dsinks) + h) = sum;
}

#endif
