/* data.h: team kernels that move rows and columns: gather, scatter, biases, column copies and
   the expansion of the MLA latent. Shapes and aliasing: ops.h. Holds no arithmetic but sums.
 */
#ifndef RT_KERNELS_DATA_H
#define RT_KERNELS_DATA_H

#include "core/device/kernels/decode.h"

/* Units of flat tensors are blocks of elements. Units of sums over rows are blocks of columns, as
   wide as the backend likes: their bits do not depend on it. */
enum { RT_FLAT_BLOCK = 4096 };

struct rt_args_gather_rows {
    rt_tensor y, x, index; /* (M,C) (·,C) (M) */
    int64_t row_bytes;     /* of x */
};

/* unit: row of y */
TEAM_FN void rt_gather_rows_unit(const struct rt_args_gather_rows *a, int64_t unit, float *scratch)
{
    int64_t c = a->y.dim[1], at = team_i32(&a->index)[unit] * c;
    float *__restrict__ y = team_row(&a->y, unit, c);
    (void)scratch;
    if (a->x.dtype == RT_F32) {
        const float *x = (const float *)a->x.data + at;
        for (int64_t i = team_rank(); i < c; i += team_size())
            y[i] = x[i];
    } else if (a->x.dtype == RT_BF16) {
        const uint16_t *x = (const uint16_t *)a->x.data + at;
        for (int64_t i = team_rank(); i < c; i += team_size())
            y[i] = rt_float_of_bits((uint32_t)x[i] << 16);
    } else {
        const uint8_t *x = (const uint8_t *)a->x.data + team_i32(&a->index)[unit] * a->row_bytes;
        for (int64_t i = team_rank(); i < c; i += team_size())
            y[i] = decode_element(a->x.dtype, x, i);
    }
}

struct rt_args_scatter_add_rows {
    rt_tensor x, y, index; /* (·,C) (M,C) (M) */
    int64_t block;         /* columns a unit */
};

/* unit: block of columns; every column is a chain over ascending rows of y */
TEAM_FN void rt_scatter_add_rows_unit(const struct rt_args_scatter_add_rows *a, int64_t unit,
                                      float *scratch)
{
    int64_t m = a->y.dim[0], c = a->y.dim[1];
    int64_t begin = unit * a->block, width = rt_min(a->block, c - begin);
    const int32_t *index = team_i32(&a->index);
    (void)scratch;
    for (int64_t r = 0; r < m; r++) {
        float *__restrict__ x = team_row(&a->x, index[r], c) + begin;
        const float *__restrict__ y = team_row(&a->y, r, c) + begin;
        for (int64_t i = team_rank(); i < width; i += team_size())
            x[i] += y[i];
    }
}

struct rt_args_bias {
    rt_tensor y;      /* (N,C), dy in backward */
    rt_tensor b;      /* (C) or (E,C), db in backward */
    rt_tensor offset; /* (E+1) where there are experts */
    int64_t block;    /* columns a unit of backward */
};

/* The expert of a row: the last one that begins at or before it. */
TEAM_FN int64_t bias_expert(const rt_tensor *offset, int64_t row)
{
    int64_t low = 0, high = offset->dim[0] - 1;
    const int32_t *begin = team_i32(offset);
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        *(begin[middle] <= row ? &low : &high) = middle;
    }
    return low;
}

/* unit: row */
TEAM_FN void rt_bias_forward_unit(const struct rt_args_bias *a, int64_t unit, float *scratch)
{
    int64_t c = a->y.dim[1];
    int64_t e = a->offset.data ? bias_expert(&a->offset, unit + team_i32(&a->offset)[0]) : 0;
    float *__restrict__ y = team_row(&a->y, unit, c);
    const float *__restrict__ b = team_row(&a->b, e, c);
    (void)scratch;
    for (int64_t i = team_rank(); i < c; i += team_size())
        y[i] += b[i];
}

/* unit: block of columns of one expert; every column is a chain over ascending rows */
TEAM_FN void rt_bias_backward_unit(const struct rt_args_bias *a, int64_t unit, float *scratch)
{
    int64_t c = a->y.dim[1], blocks = rt_ceil_div(c, a->block), e = unit / blocks;
    int64_t begin = unit % blocks * a->block, width = rt_min(a->block, c - begin);
    const int32_t *rows = a->offset.data ? team_i32(&a->offset) : NULL;
    int64_t first = rows ? rows[e] - rows[0] : 0, last = rows ? rows[e + 1] - rows[0] : a->y.dim[0];
    float *__restrict__ db = team_row(&a->b, e, c) + begin;
    (void)scratch;
    for (int64_t r = first; r < last; r++) {
        const float *__restrict__ dy = team_row(&a->y, r, c) + begin;
        for (int64_t i = team_rank(); i < width; i += team_size())
            db[i] += dy[i];
    }
}

struct rt_args_copy_columns {
    rt_tensor y, x; /* (N,H,·) (N,H|1,·) */
    int64_t y0, x0, n;
};

/* unit: row */
TEAM_FN void rt_copy_columns_unit(const struct rt_args_copy_columns *a, int64_t unit,
                                  float *scratch)
{
    int64_t heads = a->y.dim[1], dy = a->y.dim[2], hx = a->x.dim[1], dx = a->x.dim[2];
    (void)scratch;
    for (int64_t h = 0; h < heads; h++) {
        float *__restrict__ y = team_row(&a->y, unit * heads + h, dy) + a->y0;
        const float *__restrict__ x = team_row(&a->x, unit * hx + (hx > 1 ? h : 0), dx) + a->x0;
        for (int64_t i = team_rank(); i < a->n; i += team_size())
            y[i] = x[i];
    }
}

struct rt_args_mla_expand_forward {
    rt_tensor k, v, kvb, kr; /* (N,H,Dn+P) (N,H,Dv) (N,H,Dn+Dv) (N,R+P) */
};

/* unit: row */
TEAM_FN void rt_mla_expand_forward_unit(const struct rt_args_mla_expand_forward *a, int64_t unit,
                                        float *scratch)
{
    int64_t heads = a->k.dim[1], dk = a->k.dim[2], dv = a->v.dim[2], dn = a->kvb.dim[2] - dv;
    const float *rope = team_row(&a->kr, unit + 1, a->kr.dim[1]) - (dk - dn);
    (void)scratch;
    for (int64_t h = 0; h < heads; h++) {
        float *__restrict__ k = team_row(&a->k, unit * heads + h, dk);
        float *__restrict__ v = team_row(&a->v, unit * heads + h, dv);
        const float *__restrict__ kvb = team_row(&a->kvb, unit * heads + h, dn + dv);
        for (int64_t i = team_rank(); i < dn; i += team_size())
            k[i] = kvb[i];
        for (int64_t i = team_rank(); i < dk - dn; i += team_size())
            k[dn + i] = rope[i];
        for (int64_t i = team_rank(); i < dv; i += team_size())
            v[i] = kvb[dn + i];
    }
}

struct rt_args_mla_expand_backward {
    rt_tensor dkvb, dkr, dk, dv; /* shapes as forward */
};

/* unit: row; the shared rope key's gradient is a chain over ascending heads */
TEAM_FN void rt_mla_expand_backward_unit(const struct rt_args_mla_expand_backward *a, int64_t unit,
                                         float *scratch)
{
    int64_t heads = a->dk.dim[1], dk = a->dk.dim[2], dv = a->dv.dim[2];
    int64_t dn = a->dkvb.dim[2] - dv, p = dk - dn;
    float *__restrict__ rope = team_row(&a->dkr, unit + 1, a->dkr.dim[1]) - p;
    (void)scratch;
    for (int64_t i = team_rank(); i < p; i += team_size())
        rope[i] = 0.0f;
    for (int64_t h = 0; h < heads; h++) {
        const float *__restrict__ k = team_row(&a->dk, unit * heads + h, dk);
        const float *__restrict__ v = team_row(&a->dv, unit * heads + h, dv);
        float *__restrict__ kvb = team_row(&a->dkvb, unit * heads + h, dn + dv);
        for (int64_t i = team_rank(); i < dn; i += team_size())
            kvb[i] = k[i];
        for (int64_t i = team_rank(); i < p; i += team_size())
            rope[i] += k[dn + i];
        for (int64_t i = team_rank(); i < dv; i += team_size())
            kvb[dn + i] = v[i];
    }
}

#endif
