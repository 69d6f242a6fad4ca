/* optim.h: team kernels of optimizers: blocks of squared sums for the gradient norm, AdamW
   (Loshchilov and Hutter 2019: decay apart from the gradient), the pieces of Muon. Contract:
   core/device/ops.h. */
#ifndef RT_KERNELS_OPTIM_H
#define RT_KERNELS_OPTIM_H

#include "core/device/kernels/data.h"
#include "core/device/kernels/moment.h"

struct rt_args_sumsq {
    rt_tensor partial, g; /* (B) (...) */
};

/* unit: block of RT_FLAT_BLOCK elements */
TEAM_FN void rt_sumsq_unit(const struct rt_args_sumsq *a, int64_t unit, float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->g) - begin);
    const act *g = team_act(&a->g) + begin;
    float sum = team_dot(g, g, n);
    (void)scratch;
    if (team_rank() == 0)
        team_f32(&a->partial)[unit] = sum;
}

/* Weights are f32 or bf16. */
LANES_FN float weight_get(const rt_tensor *w, int64_t i)
{
    if (w->dtype == RT_F32)
        return team_f32(w)[i];
    return rt_float_of_bits((uint32_t)((const uint16_t *)w->data)[i] << 16);
}

/* Rounded up as often as it lies above the lower neighbour, so that many small steps add up to what
   they are together. NaN and infinity stay what they are. */
LANES_FN void weight_put(const rt_tensor *w, int64_t i, float x, const rt_rounding *r)
{
    if (w->dtype == RT_F32) {
        team_f32(w)[i] = x;
        return;
    }
    uint32_t up = rt_rng_u32(r->seed, RT_RNG_ROUND, r->first + (uint64_t)i) >> 16;
    uint32_t bits = rt_bits_of_float(x), finite = (bits & 0x7f800000u) != 0x7f800000u;
    uint32_t keep = x != x ? 0x00400000u : 0u;
    ((uint16_t *)w->data)[i] = (uint16_t)(((bits + (finite ? up : 0u)) | keep) >> 16);
}

struct rt_args_adamw {
    rt_tensor w, m, v, g; /* same shape */
    rt_adamw h;
};

LANES_FN float adamw_moved(const rt_adamw *h, float w, float m, float v)
{
    float step = m * (1.0f / h->bias1) / (sqrtf(v * (1.0f / h->bias2)) + h->eps);
    return fmaf(-h->lr, step, fmaf(-(h->lr * h->decay), w, w));
}

/* Elements [begin, begin + n) of moments in eight bits: one block of them at a time. */
TEAM_FN void adamw_coded(const struct rt_args_adamw *a, int64_t begin, int64_t n)
{
    TEAM_SHARED(float, m, RT_MOMENT_BLOCK);
    TEAM_SHARED(float, size, RT_MOMENT_BLOCK);
    TEAM_SHARED(float, root, RT_MOMENT_BLOCK);
    float b1 = a->h.beta1, b2 = a->h.beta2;
    const act *g = team_act(&a->g);
    for (int64_t at = begin; at < begin + n; at += RT_MOMENT_BLOCK) {
        uint8_t *mb = moment_block(&a->m, at), *vb = moment_block(&a->v, at);
        float m_scale = *(const float *)(const void *)mb, v_scale = *(const float *)(const void *)vb;
        team_sync(); /* the block before is stored */
        for (int64_t i = team_rank(); i < RT_MOMENT_BLOCK; i += team_size()) {
            float gi = g[at + i] * a->h.grad_scale, old = v_scale * v8_root(vb[4 + i]);
            float mi = fmaf(b1, m_scale * m8_value(mb[4 + i]), (1.0f - b1) * gi);
            float vi = fmaf(b2, old * old, (1.0f - b2) * gi * gi);
            weight_put(&a->w, at + i, adamw_moved(&a->h, weight_get(&a->w, at + i), mi, vi),
                       &a->h.rounding);
            m[i] = mi;
            size[i] = mi < 0.0f ? -mi : mi;
            root[i] = sqrtf(vi);
        }
        team_sync();
        m8_store(mb, m, size, RT_MOMENT_BLOCK);
        v8_store(vb, root, RT_MOMENT_BLOCK);
    }
}

/* unit: block of elements */
TEAM_FN void rt_adamw_unit(const struct rt_args_adamw *a, int64_t unit, float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->w) - begin);
    (void)scratch;
    if (a->m.dtype != RT_F32) {
        adamw_coded(a, begin, n);
        return;
    }
    float *__restrict__ m = team_f32(&a->m) + begin, *__restrict__ v = team_f32(&a->v) + begin;
    const act *__restrict__ g = team_act(&a->g) + begin;
    const rt_adamw h = a->h; /* what is stored may not change it */
    float b1 = h.beta1, b2 = h.beta2;
    if (a->w.dtype == RT_F32) {
        float *__restrict__ w = team_f32(&a->w) + begin;
        for (int64_t i = team_rank(); i < n; i += team_size()) {
            float gi = g[i] * h.grad_scale;
            m[i] = fmaf(b1, m[i], (1.0f - b1) * gi);
            v[i] = fmaf(b2, v[i], (1.0f - b2) * gi * gi);
            w[i] = adamw_moved(&h, w[i], m[i], v[i]);
        }
        return;
    }
    for (int64_t i = team_rank(); i < n; i += team_size()) {
        float gi = g[i] * h.grad_scale;
        m[i] = fmaf(b1, m[i], (1.0f - b1) * gi);
        v[i] = fmaf(b2, v[i], (1.0f - b2) * gi * gi);
        float x = adamw_moved(&h, weight_get(&a->w, begin + i), m[i], v[i]);
        weight_put(&a->w, begin + i, x, &h.rounding);
    }
}

struct rt_args_momentum {
    rt_tensor u, m, g; /* same shape */
    float beta, grad_scale;
    bool nesterov;
};

/* unit: block of elements */
TEAM_FN void rt_momentum_unit(const struct rt_args_momentum *a, int64_t unit, float *scratch)
{
    TEAM_SHARED(float, x, RT_MOMENT_BLOCK);
    TEAM_SHARED(float, size, RT_MOMENT_BLOCK);
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t end = begin + rt_min(RT_FLAT_BLOCK, team_elements(&a->u) - begin);
    const act *g = team_act(&a->g);
    float *u = team_f32(&a->u), b = a->beta;
    bool coded = a->m.dtype != RT_F32;
    (void)scratch;
    for (int64_t at = begin; at < end; at += RT_MOMENT_BLOCK) {
        int64_t n = rt_min((int64_t)RT_MOMENT_BLOCK, end - at);
        uint8_t *block = coded ? moment_block(&a->m, at) : NULL;
        float scale = coded ? *(const float *)(const void *)block : 1.0f;
        team_sync(); /* the block before is stored */
        for (int64_t i = team_rank(); i < n; i += team_size()) {
            float gi = g[at + i] * a->grad_scale;
            float old = coded ? scale * m8_value(block[4 + i]) : team_f32(&a->m)[at + i];
            float mi = fmaf(b, old, (1.0f - b) * gi);
            u[at + i] = a->nesterov ? fmaf(b, mi, (1.0f - b) * gi) : mi;
            x[i] = mi;
            size[i] = mi < 0.0f ? -mi : mi;
            if (!coded)
                team_f32(&a->m)[at + i] = mi;
        }
        team_sync();
        if (coded)
            m8_store(block, x, size, n);
    }
}

struct rt_args_unit_norm {
    rt_tensor y, x, partial; /* y, x of one shape; (B) */
};

/* unit: block of elements; each adds up the partial sums, which are few beside its elements */
TEAM_FN void rt_unit_norm_unit(const struct rt_args_unit_norm *a, int64_t unit, float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->y) - begin);
    float norm = sqrtf(team_sum(team_f32(&a->partial), a->partial.dim[0]));
    float by = 1.0f / (norm > 1e-7f ? norm : 1e-7f);
    const float *x = team_f32(&a->x) + begin;
    float *y = team_f32(&a->y) + begin;
    (void)scratch;
    for (int64_t i = team_rank(); i < n; i += team_size())
        y[i] = x[i] * by;
}

struct rt_args_axpby {
    rt_tensor y, x; /* of one shape */
    float alpha, beta;
    rt_rounding rounding;
};

/* unit: block of elements */
TEAM_FN void rt_axpby_unit(const struct rt_args_axpby *a, int64_t unit, float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t end = begin + rt_min(RT_FLAT_BLOCK, team_elements(&a->y) - begin);
    (void)scratch;
    for (int64_t i = begin + team_rank(); i < end; i += team_size()) {
        float old = a->beta == 0.0f ? 0.0f : a->beta * weight_get(&a->y, i);
        weight_put(&a->y, i, fmaf(a->alpha, weight_get(&a->x, i), old), &a->rounding);
    }
}

#endif
