/* ops_kinds.h: the kinds of rows of tests/ops_cases.h: each operation of ops.h names its
   buffers, runs forward and backward on a device, and computes forward again in f64, naively. The
   runner compares outputs with that, gradients with finite differences of that, and bits between
   threads and instruction sets. Odd sizes on purpose. Holds no check of its own. */
#ifndef OPS_KINDS_H
#define OPS_KINDS_H

#include "core/base/rng.h"
#include "core/device/ops.h"

#include <math.h>
#include <string.h>

enum { OPS_IN = 10, OPS_OUT = 3, OPS_INT = 4, OPS_P = 7 };

/* What a gradient buffer holds before backward: NaN (the operation overwrites), or a number (it
   adds to it, or leaves parts alone). */
enum ops_fill { NO_GRADIENT, OVERWRITES, ADDS, STARTS_AT_ZERO };

struct ops_case;

struct ops_buffers { /* device memory in run, f64 or host copies elsewhere */
    float *in[OPS_IN], *din[OPS_IN], *out[OPS_OUT], *dout[OPS_OUT];
    int32_t *i[OPS_INT];
    rt_dtype act; /* of the activations among them */
};

struct ops_shape {
    int64_t in[OPS_IN], out[OPS_OUT], i[OPS_INT];
    enum ops_fill fill[OPS_IN];
    bool in_act[OPS_IN], out_act[OPS_OUT]; /* activations, as their gradients are; else f32 */
};

struct ops_kind {
    void (*shape)(const int64_t *p, struct ops_shape *s);
    /* integers and inputs with a meaning; inputs arrive uniform in [-1, 1) */
    void (*fill)(const struct ops_case *c, struct ops_buffers *b);
    void (*run)(rt_dev *d, const struct ops_case *c, struct ops_buffers *b);
    void (*reference)(const struct ops_case *c, double *const *in, int32_t *const *i, double **out);
};

struct ops_case {
    const char *name;
    const struct ops_kind *kind;
    int64_t p[OPS_P];
    double tolerance; /* of outputs, relative to the largest; gradients get 10 times as much */
    rt_loss_spec spec;
    double sharpness; /* of random logits */
};

static int64_t ops_random(uint64_t seed, uint64_t i, int64_t n)
{
    return rt_rng_below(seed, RT_RNG_DATA, i, (uint32_t)n);
}

/* --- rmsnorm: p = N, C, width of x, dx adds ----------------------------------------------------
 */

static void rmsnorm_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = p[0] * p[2], s->in[1] = p[1];
    s->out[0] = p[0] * p[1], s->out[1] = p[0];
    s->in_act[0] = s->out_act[0] = true;
    s->fill[0] = p[3] ? ADDS : OVERWRITES, s->fill[1] = ADDS;
}

static void rmsnorm_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    int64_t n = c->p[0], w = c->p[1], ld = c->p[2];
    rt_tensor x = rt_tensor_2(b->in[0], b->act, n, ld), dx = rt_tensor_2(b->din[0], b->act, n, ld);
    rt_tensor y = rt_tensor_2(b->out[0], b->act, n, w), dy = rt_tensor_2(b->dout[0], b->act, n, w);
    rt_tensor g = rt_tensor_1(b->in[1], RT_F32, w), dg = rt_tensor_1(b->din[1], RT_F32, w);
    rt_tensor rstd = rt_tensor_1(b->out[1], RT_F32, n);
    rt_rmsnorm_forward(d, &y, &rstd, &x, &g, 1e-3f);
    rt_rmsnorm_backward(d, &dx, &dg, &dy, &x, &g, &rstd, c->p[3] ? 1.0f : 0.0f);
}

static void rmsnorm_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                              double **out)
{
    int64_t w = c->p[1], ld = c->p[2];
    (void)idx;
    for (int64_t r = 0; r < c->p[0]; r++) {
        double s = 0.0;
        for (int64_t i = 0; i < w; i++)
            s += in[0][r * ld + i] * in[0][r * ld + i];
        out[1][r] = 1.0 / sqrt(s / (double)w + (double)1e-3f);
        for (int64_t i = 0; i < w; i++)
            out[0][r * w + i] = in[0][r * ld + i] * out[1][r] * in[1][i];
    }
}

/* rstd is a statistic, not an output with a gradient of its own: its dout is 0 */
static void rmsnorm_fill(const struct ops_case *c, struct ops_buffers *b)
{
    for (int64_t r = 0; r < c->p[0]; r++)
        b->dout[1][r] = 0.0f;
}

static const struct ops_kind kind_rmsnorm = { rmsnorm_shape, rmsnorm_fill, rmsnorm_run,
                                              rmsnorm_reference };

/* --- rope: p = N, H, D, first, P, interleaved, table rows --------------------------------------
 */

static void rope_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = s->out[0] = p[0] * p[1] * p[2];
    s->in[1] = p[6] * p[4];
    s->i[0] = p[0];
    s->in_act[0] = s->out_act[0] = true;
    s->fill[0] = OVERWRITES;
}

static void rope_fill(const struct ops_case *c, struct ops_buffers *b)
{
    for (int64_t r = 0; r < c->p[0]; r++)
        b->i[0][r] = (int32_t)ops_random(1, (uint64_t)r, c->p[6]);
    for (int64_t i = 0; i < c->p[6] * c->p[4] / 2; i++) {
        int64_t half = c->p[4] / 2;
        float *row = b->in[1] + i / half * c->p[4], angle = (float)(i / half + 1) * 0.7f;
        row[i % half] = cosf(angle / (float)(i % half + 1));
        row[half + i % half] = sinf(angle / (float)(i % half + 1));
    }
}

static void rope_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor x = rt_tensor_3(b->in[0], b->act, c->p[0], c->p[1], c->p[2]), y = x, dx = x, dy = x;
    rt_tensor table = rt_tensor_2(b->in[1], RT_F32, c->p[6], c->p[4]);
    rt_tensor pos = rt_tensor_1(b->i[0], RT_I32, c->p[0]);
    y.data = b->out[0], dx.data = b->din[0], dy.data = b->dout[0];
    rt_copy(d, &y, &x);
    rt_rope(d, &y, &table, &pos, c->p[3], c->p[5], false);
    rt_copy(d, &dx, &dy);
    rt_rope(d, &dx, &table, &pos, c->p[3], c->p[5], true);
}

static void rope_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                           double **out)
{
    int64_t heads = c->p[1], width = c->p[2], half = c->p[4] / 2;
    for (int64_t r = 0; r < c->p[0] * heads; r++) {
        const double *x = in[0] + r * width, *t = in[1] + idx[0][r / heads] * 2 * half;
        double *y = out[0] + r * width;
        memcpy(y, x, (size_t)width * sizeof *y);
        for (int64_t i = 0; i < half; i++) {
            int64_t a = c->p[3] + (c->p[5] ? 2 * i : i),
                    b = c->p[3] + (c->p[5] ? 2 * i + 1 : i + half);
            y[a] = x[a] * t[i] - x[b] * t[half + i];
            y[b] = x[b] * t[i] + x[a] * t[half + i];
        }
    }
}

static const struct ops_kind kind_rope = { rope_shape, rope_fill, rope_run, rope_reference };

/* --- mla_expand: p = N, H, Dn, Dv, R, P --------------------------------------------------------
 */

static void mla_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = p[0] * p[1] * (p[2] + p[3]), s->in[1] = p[0] * (p[4] + p[5]);
    s->out[0] = p[0] * p[1] * (p[2] + p[5]), s->out[1] = p[0] * p[1] * p[3];
    s->in_act[0] = s->in_act[1] = s->out_act[0] = s->out_act[1] = true;
    s->fill[0] = OVERWRITES, s->fill[1] = STARTS_AT_ZERO;
}

static void mla_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    int64_t n = c->p[0], h = c->p[1], dn = c->p[2], dv = c->p[3], r = c->p[4], p = c->p[5];
    rt_tensor kvb = rt_tensor_3(b->in[0], b->act, n, h, dn + dv), dkvb = kvb;
    rt_tensor kr = rt_tensor_2(b->in[1], b->act, n, r + p), dkr = kr;
    rt_tensor k = rt_tensor_3(b->out[0], b->act, n, h, dn + p), dk = k;
    rt_tensor v = rt_tensor_3(b->out[1], b->act, n, h, dv), dvt = v;
    dkvb.data = b->din[0], dkr.data = b->din[1], dk.data = b->dout[0], dvt.data = b->dout[1];
    rt_mla_expand_forward(d, &k, &v, &kvb, &kr);
    rt_mla_expand_backward(d, &dkvb, &dkr, &dk, &dvt);
    rt_mla_expand_backward(d, &dkvb, &dkr, &dk, &dvt); /* twice: it overwrites */
}

static void mla_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                          double **out)
{
    int64_t dn = c->p[2], dv = c->p[3], r = c->p[4], p = c->p[5];
    (void)idx;
    for (int64_t i = 0; i < c->p[0] * c->p[1]; i++) {
        for (int64_t j = 0; j < dn + p; j++)
            out[0][i * (dn + p) + j] = j < dn ? in[0][i * (dn + dv) + j]
                                              : in[1][i / c->p[1] * (r + p) + r + j - dn];
        for (int64_t j = 0; j < dv; j++)
            out[1][i * dv + j] = in[0][i * (dn + dv) + dn + j];
    }
}

static const struct ops_kind kind_mla = { mla_shape, NULL, mla_run, mla_reference };

/* --- copy_columns, add, scale: p = N, H, Dy, y0, Hx, x0, n; Dx = 9 ------------------------------
 */

static void columns_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = p[0] * p[4] * 9, s->in[1] = s->out[0] = p[0] * p[1] * p[2];
    s->in_act[0] = s->in_act[1] = s->out_act[0] = true;
}

/* out = in1, its columns replaced */
static void columns_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor x = rt_tensor_3(b->in[0], b->act, c->p[0], c->p[4], 9);
    rt_tensor base = rt_tensor_3(b->in[1], b->act, c->p[0], c->p[1], c->p[2]), y = base;
    y.data = b->out[0];
    rt_copy(d, &y, &base);
    rt_copy_columns(d, &y, c->p[3], &x, c->p[5], c->p[6]);
}

static void columns_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                              double **out)
{
    int64_t w = c->p[2];
    (void)idx;
    for (int64_t r = 0; r < c->p[0] * c->p[1]; r++)
        for (int64_t i = 0; i < w; i++) {
            int64_t j = i - c->p[3], rx = c->p[4] == 1 ? r / c->p[1] : r;
            bool inside = j >= 0 && j < c->p[6];
            out[0][r * w + i] = inside ? in[0][rx * 9 + c->p[5] + j] : in[1][r * w + i];
        }
}

static const struct ops_kind kind_columns = { columns_shape, NULL, columns_run, columns_reference };

/* --- gather_rows, scatter_add_rows: p = M, C, rows ---------------------------------------------
 */

static void gather_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = p[2] * p[1], s->out[0] = p[0] * p[1];
    s->i[0] = p[0];
    s->out_act[0] = true; /* in and its gradient are an embedding */
    s->fill[0] = ADDS;
}

static void gather_fill(const struct ops_case *c, struct ops_buffers *b)
{
    for (int64_t r = 0; r < c->p[0]; r++)
        b->i[0][r] = (int32_t)ops_random(2, (uint64_t)r, c->p[2]);
}

static void gather_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor x = rt_tensor_2(b->in[0], RT_F32, c->p[2], c->p[1]), dx = x;
    rt_tensor y = rt_tensor_2(b->out[0], b->act, c->p[0], c->p[1]), dy = y;
    rt_tensor index = rt_tensor_1(b->i[0], RT_I32, c->p[0]);
    dx.data = b->din[0], dy.data = b->dout[0];
    rt_gather_rows(d, &y, &x, &index);
    rt_scatter_add_rows(d, &dx, &dy, &index);
}

static void gather_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                             double **out)
{
    for (int64_t i = 0; i < c->p[0] * c->p[1]; i++)
        out[0][i] = in[0][idx[0][i / c->p[1]] * c->p[1] + i % c->p[1]];
}

static const struct ops_kind kind_gather = { gather_shape, gather_fill, gather_run,
                                             gather_reference };

/* --- bias: p = N, C, experts (0 = one bias for all rows); the last but one expert has no rows
 * -----
 */

static void bias_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = s->out[0] = p[0] * p[1], s->in[1] = rt_max(1, p[2]) * p[1];
    s->i[0] = p[2] + 1;
    s->in_act[0] = s->out_act[0] = true;
    s->fill[1] = ADDS;
}

static void bias_fill(const struct ops_case *c, struct ops_buffers *b)
{
    int64_t e = c->p[2];
    for (int64_t i = 0; i <= e; i++)
        b->i[0][i] = (int32_t)(i >= e - 1 ? c->p[0] : c->p[0] * i * i / (e * e));
    if (e > 1)
        b->i[0][e - 1] = b->i[0][e - 2];
}

static void bias_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor x = rt_tensor_2(b->in[0], b->act, c->p[0], c->p[1]), y = x, dy = x;
    rt_tensor bias = rt_tensor_1(b->in[1], RT_F32, c->p[1]), dbias;
    rt_tensor offset = rt_tensor_1(b->i[0], RT_I32, c->p[2] + 1);
    if (c->p[2])
        bias = rt_tensor_2(b->in[1], RT_F32, c->p[2], c->p[1]);
    dbias = bias, dbias.data = b->din[1];
    y.data = b->out[0], dy.data = b->dout[0];
    rt_copy(d, &y, &x);
    rt_bias_forward(d, &y, &bias, c->p[2] ? &offset : NULL);
    rt_bias_backward(d, &dbias, &dy, c->p[2] ? &offset : NULL);
}

static void bias_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                           double **out)
{
    for (int64_t r = 0; r < c->p[0]; r++) {
        int64_t e = 0;
        while (e + 1 < c->p[2] && idx[0][e + 1] <= r)
            e++;
        for (int64_t i = 0; i < c->p[1]; i++)
            out[0][r * c->p[1] + i] = in[0][r * c->p[1] + i] + in[1][e * c->p[1] + i];
    }
}

static const struct ops_kind kind_bias = { bias_shape, bias_fill, bias_run, bias_reference };

/* --- swiglu: p = N, F, in place, clamped
 * ----------------------------------------------------------------
 */

static void swiglu_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = s->in[1] = s->out[0] = p[0] * p[1];
    s->in_act[0] = s->in_act[1] = s->out_act[0] = true;
    s->fill[0] = s->fill[1] = OVERWRITES;
}

static void swiglu_fill(const struct ops_case *c, struct ops_buffers *b)
{
    for (int64_t i = 0; i < c->p[0] * c->p[1]; i++)
        b->in[0][i] *= 7.0f;
}

static rt_swiglu_rule swiglu_rule(const struct ops_case *c)
{
    return c->p[3] ? (rt_swiglu_rule){ 1.702f, 0.9f, 1.0f } : (rt_swiglu_rule){ 1.0f, INFINITY, 0 };
}

static void swiglu_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor gate = rt_tensor_2(b->in[0], b->act, c->p[0], c->p[1]), up = gate, y = gate,
              dy = gate;
    rt_tensor dgate = gate, dup = gate;
    up.data = b->in[1], y.data = b->out[0], dy.data = b->dout[0];
    dgate.data = b->din[0], dup.data = b->din[1];
    rt_swiglu_rule rule = swiglu_rule(c);
    rt_swiglu_forward(d, &y, &gate, &up, &rule);
    if (!c->p[2]) {
        rt_swiglu_backward(d, &dgate, &dup, &dy, &gate, &up, &rule);
        return;
    }
    rt_copy(d, &dgate, &gate);
    rt_copy(d, &dup, &up);
    rt_swiglu_backward(d, &dgate, &dup, &dy, &dgate, &dup, &rule);
}

static void swiglu_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                             double **out)
{
    (void)idx;
    rt_swiglu_rule r = swiglu_rule(c);
    for (int64_t i = 0; i < c->p[0] * c->p[1]; i++) {
        double g = fmin(in[0][i], (double)r.limit);
        double u = fmax(fmin(in[1][i], (double)r.limit), -(double)r.limit);
        out[0][i] = g / (1.0 + exp(-(double)r.alpha * g)) * (u + (double)r.shift);
    }
}

static const struct ops_kind kind_swiglu = { swiglu_shape, swiglu_fill, swiglu_run,
                                             swiglu_reference };

/* --- combine: p = N, A, C ----------------------------------------------------------------------
 */

static void combine_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = p[0] * p[1] * p[2], s->in[1] = p[0] * p[1], s->in[2] = s->out[0] = p[0] * p[2];
    s->i[0] = p[0] * p[1];
    s->in_act[0] = s->in_act[2] = s->out_act[0] = true;
    s->fill[0] = s->fill[1] = OVERWRITES;
}

static void combine_fill(const struct ops_case *c, struct ops_buffers *b)
{
    int64_t n = c->p[0] * c->p[1];
    for (int64_t i = 0; i < n; i++)
        b->i[0][i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = ops_random(3, (uint64_t)i, i + 1);
        int32_t t = b->i[0][i];
        b->i[0][i] = b->i[0][j];
        b->i[0][j] = t;
    }
}

static void combine_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    int64_t n = c->p[0], a = c->p[1], w = c->p[2];
    rt_tensor ys = rt_tensor_2(b->in[0], b->act, n * a, w), dys = ys;
    rt_tensor weight = rt_tensor_2(b->in[1], RT_F32, n, a), dweight = weight;
    rt_tensor base = rt_tensor_2(b->in[2], b->act, n, w), y = base, dy = base;
    rt_tensor slot = rt_tensor_2(b->i[0], RT_I32, n, a);
    y.data = b->out[0], dy.data = b->dout[0], dys.data = b->din[0], dweight.data = b->din[1];
    rt_copy(d, &y, &base);
    rt_combine_forward(d, &y, &ys, &slot, &weight);
    rt_combine_backward(d, &dys, &dweight, &dy, &ys, &slot, &weight);
}

static void combine_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                              double **out)
{
    int64_t a = c->p[1], w = c->p[2];
    for (int64_t i = 0; i < c->p[0] * w; i++) {
        out[0][i] = in[2][i];
        for (int64_t k = i / w * a; k < (i / w + 1) * a; k++)
            out[0][i] += in[1][k] * in[0][idx[0][k] * w + i % w];
    }
}

static const struct ops_kind kind_combine = { combine_shape, combine_fill, combine_run,
                                              combine_reference };

/* --- unpermute: p = N, A, C --------------------------------------------------------------------
 */

static void unpermute_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = p[0] * p[1] * p[2], s->in[1] = s->out[0] = p[0] * p[2];
    s->in_act[0] = s->in_act[1] = s->out_act[0] = true;
    s->i[0] = p[0] * p[1];
}

static void unpermute_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    int64_t n = c->p[0], a = c->p[1], w = c->p[2];
    rt_tensor ys = rt_tensor_2(b->in[0], b->act, n * a, w);
    rt_tensor base = rt_tensor_2(b->in[1], b->act, n, w), x = base;
    rt_tensor slot = rt_tensor_2(b->i[0], RT_I32, n, a);
    x.data = b->out[0];
    rt_copy(d, &x, &base);
    rt_unpermute_rows(d, &x, &ys, &slot);
}

static void unpermute_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                                double **out)
{
    int64_t a = c->p[1], w = c->p[2];
    for (int64_t i = 0; i < c->p[0] * w; i++) {
        out[0][i] = in[1][i];
        for (int64_t k = i / w * a; k < (i / w + 1) * a; k++)
            out[0][i] += in[0][idx[0][k] * w + i % w];
    }
}

static const struct ops_kind kind_unpermute = { unpermute_shape, combine_fill, unpermute_run,
                                                unpermute_reference };

/* --- scale: p = elements -----------------------------------------------------------------------
 */

static void scale_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = s->out[0] = p[0];
    s->in_act[0] = s->out_act[0] = true;
    s->fill[0] = OVERWRITES;
}

static void scale_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor x = rt_tensor_1(b->in[0], b->act, c->p[0]), y = x, dx = x, dy = x;
    y.data = b->out[0], dx.data = b->din[0], dy.data = b->dout[0];
    rt_scale(d, &y, &x, 1.75f);
    rt_copy(d, &dx, &dy);
    rt_scale(d, &dx, &dx, 1.75f);
}

static void scale_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                            double **out)
{
    (void)idx;
    for (int64_t i = 0; i < c->p[0]; i++)
        out[0][i] = 1.75 * in[0][i];
}

static const struct ops_kind kind_scale = { scale_shape, NULL, scale_run, scale_reference };

/* --- route: p = N, E, A, groups, kept, sigmoid, normalize; scale 2.5 ----------------------------
 */

static rt_route_policy route_policy(const struct ops_case *c)
{
    rt_route_policy p = { c->p[5] ? RT_ROUTE_SIGMOID : RT_ROUTE_SOFTMAX,
                          (int32_t)c->p[1],
                          (int32_t)c->p[2],
                          (int32_t)c->p[3],
                          (int32_t)c->p[4],
                          c->p[6],
                          2.5f };
    return p;
}

static void route_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = p[0] * p[1], s->in[1] = p[1];
    s->out[0] = p[0] * p[2], s->out[1] = p[0] * p[1];
    s->i[0] = p[0] * p[2];
    s->fill[0] = OVERWRITES;
}

static void route_fill(const struct ops_case *c, struct ops_buffers *b)
{
    for (int64_t i = 0; i < c->p[0] * c->p[1]; i++) {
        b->in[0][i] *= 2.0f;
        b->dout[1][i] = 0.0f; /* score is a statistic */
    }
    for (int64_t e = 0; e < c->p[1]; e++)
        b->in[1][e] -= 0.3f; /* most choices negative */
}

static void route_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    int64_t n = c->p[0];
    rt_route_policy p = route_policy(c);
    rt_tensor logits = rt_tensor_2(b->in[0], RT_F32, n, c->p[1]), score = logits, dlogits = logits;
    rt_tensor bias = rt_tensor_1(b->in[1], RT_F32, c->p[1]);
    rt_tensor weight = rt_tensor_2(b->out[0], RT_F32, n, c->p[2]), dweight = weight;
    rt_tensor idx = rt_tensor_2(b->i[0], RT_I32, n, c->p[2]);
    score.data = b->out[1], dlogits.data = b->din[0], dweight.data = b->dout[0];
    rt_route_forward(d, &idx, &weight, &score, &logits, &bias, &p);
    rt_route_backward(d, &dlogits, &dweight, &idx, &weight, &score, &p);
}

/* k-th best of x by value, lowest index first, among those still true in `left` */
static int64_t route_best(const double *x, int64_t n, const bool *left)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (left[i] && (best < 0 || x[i] > x[best]))
            best = i;
    return best;
}

static void route_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                            double **out)
{
    int64_t experts = c->p[1], active = c->p[2], groups = c->p[3], size = experts / groups;
    double choice[64], group[64];
    bool left[64], group_left[64];
    (void)idx;
    for (int64_t r = 0; r < c->p[0]; r++) {
        const double *z = in[0] + r * experts;
        double *s = out[1] + r * experts, *w = out[0] + r * active, sum = 0.0, chosen = 0.0;
        for (int64_t e = 0; e < experts; e++)
            sum += exp(z[e]);
        for (int64_t e = 0; e < experts; e++) {
            s[e] = c->p[5] ? 1.0 / (1.0 + exp(-z[e])) : exp(z[e]) / sum;
            choice[e] = s[e] + in[1][e];
            left[e] = groups == 1;
        }
        for (int64_t g = 0; g < groups; g++) {
            bool all[64];
            memset(all, 1, sizeof all);
            int64_t best = route_best(choice + g * size, size, all);
            all[best] = false;
            int64_t next = route_best(choice + g * size, size, all);
            group[g] = choice[g * size + best];
            if (c->p[5] && next >= 0)
                group[g] += choice[g * size + next];
            group_left[g] = true;
        }
        for (int64_t k = 0; k < c->p[4] && groups > 1; k++) {
            int64_t g = route_best(group, groups, group_left);
            group_left[g] = false;
            for (int64_t e = g * size; e < (g + 1) * size; e++)
                left[e] = true;
        }
        for (int64_t k = 0; k < active; k++) {
            int64_t e = route_best(choice, experts, left);
            left[e] = false;
            w[k] = s[e];
            chosen += s[e];
        }
        for (int64_t k = 0; k < active; k++)
            w[k] *= 2.5 / (c->p[6] ? chosen + 1e-20 : 1.0);
    }
}

static const struct ops_kind kind_route = { route_shape, route_fill, route_run, route_reference };

/* --- adamw, sumsq: p = elements ----------------------------------------------------------------
 */

static const rt_adamw adamw_setting = { .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-6f, .decay = 0.1f,
                                        .bias1 = 0.271f, .bias2 = 0.142625f, .grad_scale = 0.5f };

static void adamw_shape(const int64_t *p, struct ops_shape *s)
{
    for (int i = 0; i < 4; i++)
        s->in[i] = p[0];
    s->out[0] = s->out[1] = p[0];
    s->out[2] = rt_ceil_div(p[0], 4096);
    s->in_act[3] = true;
}

static void adamw_fill(const struct ops_case *c, struct ops_buffers *b)
{
    for (int64_t i = 0; i < c->p[0]; i++)
        b->in[2][i] *= b->in[2][i];
}

static void adamw_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor w = rt_tensor_1(b->in[0], RT_F32, c->p[0]), m = w, v = w, w1 = w, m1 = w;
    rt_tensor g = rt_tensor_1(b->in[3], b->act, c->p[0]);
    rt_tensor partial = rt_tensor_1(b->out[2], RT_F32, rt_ceil_div(c->p[0], 4096));
    m.data = b->in[1], v.data = b->in[2], w1.data = b->out[0];
    m1.data = b->out[1];
    rt_copy(d, &w1, &w);
    rt_copy(d, &m1, &m);
    rt_adamw_step(d, &w1, &m1, &v, &g, &adamw_setting);
    rt_sumsq(d, &partial, &g);
}

static void adamw_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                            double **out)
{
    const rt_adamw *h = &adamw_setting;
    (void)idx;
    for (int64_t i = 0; i < rt_ceil_div(c->p[0], 4096); i++)
        out[2][i] = 0.0;
    for (int64_t i = 0; i < c->p[0]; i++) {
        double g = in[3][i] * (double)h->grad_scale;
        double m = (double)h->beta1 * in[1][i] + (1.0 - (double)h->beta1) * g;
        double v = (double)h->beta2 * in[2][i] + (1.0 - (double)h->beta2) * g * g;
        double step = m / (double)h->bias1 / (sqrt(v / (double)h->bias2) + (double)h->eps);
        out[0][i] = in[0][i] - (double)h->lr * ((double)h->decay * in[0][i] + step);
        out[1][i] = m;
        out[2][i / 4096] += in[3][i] * in[3][i];
    }
}

static const struct ops_kind kind_adamw = { adamw_shape, adamw_fill, adamw_run, adamw_reference };

/* --- kl_rows: p = M, V, width ------------------------------------------------------------------
 */

static void kl_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[0] = s->in[1] = p[0] * p[2];
    s->out[0] = s->out[1] = p[0];
}

static void kl_fill(const struct ops_case *c, struct ops_buffers *b)
{
    for (int64_t i = 0; i < c->p[0] * c->p[2]; i++)
        b->in[0][i] *= (float)c->sharpness;
    for (int64_t i = 0; i < c->p[0] * c->p[2] / 2; i++) /* half the rows are close */
        b->in[1][i] = b->in[0][i] + 0.1f * b->in[1][i];
}

static void kl_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    rt_tensor p = rt_tensor_2(b->in[0], RT_F32, c->p[0], c->p[2]), q = p;
    rt_tensor kl = rt_tensor_1(b->out[0], RT_F32, c->p[0]), agree = kl;
    q.data = b->in[1], agree.data = b->out[1];
    rt_kl_rows(d, &kl, &agree, &p, &q, c->p[1]);
}

static double ops_lse(const double *z, int64_t n, double t)
{
    double max = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        max = z[i] > max ? z[i] : max;
    for (int64_t i = 0; i < n; i++)
        sum += exp((z[i] - max) / t);
    return max / t + log(sum);
}

static int64_t ops_argmax(const double *z, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = z[i] > z[best] ? i : best;
    return best;
}

static void kl_reference(const struct ops_case *c, double *const *in, int32_t *const *idx,
                         double **out)
{
    int64_t n = c->p[1];
    (void)idx;
    for (int64_t r = 0; r < c->p[0]; r++) {
        const double *p = in[0] + r * c->p[2], *q = in[1] + r * c->p[2];
        double lp = ops_lse(p, n, 1.0), lq = ops_lse(q, n, 1.0), sum = 0.0;
        for (int64_t i = 0; i < n; i++)
            sum += exp(p[i] - lp) * (p[i] - lp - q[i] + lq);
        out[0][r] = sum;
        out[1][r] = ops_argmax(p, n) == ops_argmax(q, n);
    }
}

static const struct ops_kind kind_kl = { kl_shape, kl_fill, kl_run, kl_reference };

#endif
