/* data.h: team kernels that move rows and columns: gather, scatter, biases, column copies and
   the expansion of the MLA latent. Shapes and aliasing: ops.h. Holds no arithmetic but sums.
 */
#ifndef RT_KERNELS_DATA_H
#define RT_KERNELS_DATA_H

#include "core/device/kernels/decode.h"

/* Units of flat tensors are blocks of elements. Units of sums over rows are blocks of columns, as
   wide as the backend likes: their bits do not depend on it. */
enum { RT_FLAT_BLOCK = 4096 };

/* Sums over rows: one chain a column, which continues what the sum held; or, so that many teams
   have work, chains from 0 over `rows` rows each, which sum_parts adds in order. Part p of expert e
   is row p + e of `at`: as rows go on either grows, so that no two meet. */
struct rt_parts {
    float *at; /* (·,C) of the workspace, or NULL: one chain */
    int64_t rows;
};

/* Where a part of columns [begin, begin + width) is added up: 0, or the sum itself. */
TEAM_FN float *part_begin(const struct rt_parts *p, float *sum, int64_t part, int64_t c,
                          int64_t begin, int64_t width)
{
    if (!p->at)
        return sum + begin;
    float *at = p->at + part * c + begin;
    for (int64_t i = team_rank(); i < width; i += team_size())
        at[i] = 0.0f;
    return at;
}

struct rt_args_sum_parts {
    rt_tensor sum;    /* (C) or (E,C) */
    rt_tensor offset; /* (E+1) where there are experts */
    struct rt_parts parts;
    int64_t n, block; /* rows that were added up; columns a unit */
};

/* unit: block of columns of one expert */
TEAM_FN void rt_sum_parts_unit(const struct rt_args_sum_parts *a, int64_t unit, float *scratch)
{
    int64_t c = a->sum.dim[a->sum.rank - 1], blocks = rt_ceil_div(c, a->block), e = unit / blocks;
    int64_t begin = unit % blocks * a->block, width = rt_min(a->block, c - begin);
    const int32_t *rows = a->offset.data ? team_i32(&a->offset) : NULL;
    int64_t first = rows ? rows[e] - rows[0] : 0, last = rows ? rows[e + 1] - rows[0] : a->n;
    int64_t from = first / a->parts.rows, to = last > first ? (last - 1) / a->parts.rows + 1 : from;
    float *__restrict__ sum = team_row(&a->sum, e, c) + begin;
    (void)scratch;
    for (int64_t i = team_rank(); i < width; i += team_size()) {
        const float *__restrict__ part = a->parts.at + e * c + begin + i;
        float x = sum[i];
        for (int64_t p = from; p < to; p++)
            x += part[p * c];
        sum[i] = x;
    }
}

struct rt_args_gather_rows {
    rt_tensor y, x, index; /* (M,C) (·,C) (M) */
    int64_t row_bytes;     /* of x */
};

/* unit: row of y */
TEAM_FN void rt_gather_rows_unit(const struct rt_args_gather_rows *a, int64_t unit, float *scratch)
{
    int64_t c = a->y.dim[1], at = team_i32(&a->index)[unit] * c;
    act *__restrict__ y = act_row(&a->y, unit, c);
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

/* Columns of row r of y added to those of its row of x. */
TEAM_FN void scatter_row(const struct rt_args_scatter_add_rows *a, int64_t r, int64_t begin,
                         int64_t width)
{
    int64_t c = a->y.dim[1], to = team_i32(&a->index)[r];
    const act *__restrict__ y = act_row(&a->y, r, c) + begin;
    if (a->x.dtype == RT_F32) {
        float *__restrict__ x = team_row(&a->x, to, c) + begin;
        for (int64_t i = team_rank(); i < width; i += team_size())
            x[i] += y[i];
    } else {
        act *__restrict__ x = act_row(&a->x, to, c) + begin;
        for (int64_t i = team_rank(); i < width; i += team_size())
            x[i] += y[i];
    }
}

/* Every element of x is a chain over ascending rows of y. */
#ifdef RT_TEAM_THREADS
/* unit: row of y. Of the rows that go to one row of x the first adds them all: each warp looks
   through the index by itself. */
TEAM_FN void rt_scatter_add_rows_unit(const struct rt_args_scatter_add_rows *a, int64_t unit,
                                      float *scratch)
{
    const int32_t *index = team_i32(&a->index);
    int lane = (int)threadIdx.x % 32;
    int lanes_here = (int)rt_min(32, (int)blockDim.x - (int)threadIdx.x + lane);
    (void)scratch;
    for (int64_t r = 0; r < a->y.dim[0]; r += lanes_here) {
        bool same = r + lane < a->y.dim[0] && index[r + lane] == index[unit];
        unsigned votes = __ballot_sync(0xffffffffu, same);
        for (int64_t i = r; votes; i++, votes >>= 1) {
            if ((votes & 1) && i < unit)
                return;
            if (votes & 1)
                scatter_row(a, i, 0, a->y.dim[1]);
        }
    }
}
#else
/* unit: block of columns */
TEAM_FN void rt_scatter_add_rows_unit(const struct rt_args_scatter_add_rows *a, int64_t unit,
                                      float *scratch)
{
    int64_t begin = unit * a->block, width = rt_min(a->block, a->y.dim[1] - begin);
    (void)scratch;
    for (int64_t r = 0; r < a->y.dim[0]; r++)
        scatter_row(a, r, begin, width);
}
#endif

struct rt_args_unpermute_rows {
    rt_tensor x, y, slot; /* (N,C) (N*A,C) (N,A) */
};

/* unit: row */
TEAM_FN void rt_unpermute_rows_unit(const struct rt_args_unpermute_rows *a, int64_t unit,
                                    float *scratch)
{
    TEAM_SHARED(int32_t, order, RT_CHOICES_MAX);
    int64_t c = a->x.dim[1], active = a->slot.dim[1];
    const int32_t *slot = team_i32(&a->slot) + unit * active;
    act *__restrict__ x = act_row(&a->x, unit, c);
    (void)scratch;
    team_sync(); /* the unit before may still read */
    if (team_rank() == 0)
        for (int64_t k = 0; k < active; k++) {
            int64_t at = k;
            for (; at > 0 && order[at - 1] > slot[k]; at--)
                order[at] = order[at - 1];
            order[at] = slot[k];
        }
    team_sync();
    for (int64_t i = lanes_first(); i < c; i += lanes_step()) {
        lanes sum = lanes_load(x + i, c - i, 0.0f);
        for (int64_t k = 0; k < active; k++)
            sum = lanes_add(sum, lanes_load(act_row(&a->y, order[k], c) + i, c - i, 0.0f));
        lanes_store(x + i, sum, c - i);
    }
}

struct rt_args_scale {
    rt_tensor y, x; /* of one shape */
    float s;
};

/* unit: block of elements */
TEAM_FN void rt_scale_unit(const struct rt_args_scale *a, int64_t unit, float *scratch)
{
    int64_t begin = unit * RT_FLAT_BLOCK;
    int64_t n = rt_min(RT_FLAT_BLOCK, team_elements(&a->y) - begin);
    act *y = team_act(&a->y) + begin;
    const act *x = team_act(&a->x) + begin;
    (void)scratch;
    for (int64_t i = team_rank(); i < n; i += team_size())
        y[i] = a->s * x[i];
}

struct rt_args_bias {
    rt_tensor y;      /* (N,C), dy in backward */
    rt_tensor b;      /* (C) or (E,C), db in backward */
    rt_tensor offset; /* (E+1) where there are experts */
    int64_t block;    /* columns a unit of backward */
    struct rt_parts parts;
};

/* The expert of a row: the last one that begins at or before it. */
TEAM_FN int64_t bias_expert(const rt_tensor *offset, int64_t row)
{
    int64_t low = 0, high = offset->dim[0] - 1;
    const int32_t *begin = team_i32(offset);
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (begin[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* unit: row */
TEAM_FN void rt_bias_forward_unit(const struct rt_args_bias *a, int64_t unit, float *scratch)
{
    int64_t c = a->y.dim[1];
    int64_t e = a->offset.data ? bias_expert(&a->offset, unit + team_i32(&a->offset)[0]) : 0;
    act *__restrict__ y = act_row(&a->y, unit, c);
    const float *__restrict__ b = team_row(&a->b, e, c);
    (void)scratch;
    for (int64_t i = team_rank(); i < c; i += team_size())
        y[i] += b[i];
}

/* unit: block of columns of a part of the rows */
TEAM_FN void rt_bias_backward_unit(const struct rt_args_bias *a, int64_t unit, float *scratch)
{
    int64_t c = a->y.dim[1], blocks = rt_ceil_div(c, a->block), part = unit / blocks;
    int64_t begin = unit % blocks * a->block, width = rt_min(a->block, c - begin);
    int64_t r = part * a->parts.rows, last = rt_min(r + a->parts.rows, a->y.dim[0]);
    const int32_t *rows = a->offset.data ? team_i32(&a->offset) : NULL;
    (void)scratch;
    if (rows)
        last = rt_min(last, rows[a->offset.dim[0] - 1] - rows[0]);
    for (int64_t e = rows ? bias_expert(&a->offset, r + rows[0]) : 0; r < last; e++) {
        int64_t end = rows ? rt_min(last, rows[e + 1] - rows[0]) : last;
        float *__restrict__ db = part_begin(&a->parts, team_row(&a->b, e, c), part + e, c, begin,
                                            width);
        for (; r < end; r++) {
            const act *__restrict__ dy = act_row(&a->y, r, c) + begin;
            for (int64_t i = team_rank(); i < width; i += team_size())
                db[i] += dy[i];
        }
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
        act *__restrict__ y = act_row(&a->y, unit * heads + h, dy) + a->y0;
        const act *__restrict__ x = act_row(&a->x, unit * hx + (hx > 1 ? h : 0), dx) + a->x0;
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
    const act *rope = act_row(&a->kr, unit + 1, a->kr.dim[1]) - (dk - dn);
    (void)scratch;
    for (int64_t h = 0; h < heads; h++) {
        act *__restrict__ k = act_row(&a->k, unit * heads + h, dk);
        act *__restrict__ v = act_row(&a->v, unit * heads + h, dv);
        const act *__restrict__ kvb = act_row(&a->kvb, unit * heads + h, dn + dv);
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
    act *__restrict__ rope = act_row(&a->dkr, unit + 1, a->dkr.dim[1]) - p;
    (void)scratch;
    for (int64_t i = lanes_first(); i < p; i += lanes_step()) {
        lanes sum = lanes_set(0.0f);
        for (int64_t h = 0; h < heads; h++)
            sum = lanes_add(sum, lanes_load(act_row(&a->dk, unit * heads + h, dk) + dn + i, p - i, 0.0f));
        lanes_store(rope + i, sum, p - i);
    }
    for (int64_t h = 0; h < heads; h++) {
        const act *__restrict__ k = act_row(&a->dk, unit * heads + h, dk);
        const act *__restrict__ v = act_row(&a->dv, unit * heads + h, dv);
        act *__restrict__ kvb = act_row(&a->dkvb, unit * heads + h, dn + dv);
        for (int64_t i = team_rank(); i < dn; i += team_size())
            kvb[i] = k[i];
        for (int64_t i = team_rank(); i < dv; i += team_size())
            kvb[dn + i] = v[i];
    }
}

#endif
