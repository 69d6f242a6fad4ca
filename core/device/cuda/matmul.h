/* matmul.h: what the kernels of matrix products share: a product, or many of one shape whose rows
   experts or heads own, and where their operands lie. Private to matmul*.cu. */
#ifndef RT_CUDA_MATMUL_H
#define RT_CUDA_MATMUL_H

#include "core/device/cuda/cuda.h"

#include "core/device/kernels/decode.h"

/* Before a loop whose arrays are to be registers. */
#ifdef RT_EMULATE
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

enum { TABLE = 96 }; /* matrices of a stack that one launch may name: arguments are at most 4 KiB */

/* The matrices of a product's right operand: as `like`, but where they begin. */
struct matrices {
    rt_piece like;
    int64_t each; /* bytes between two when there is no table */
    bool table;
    struct {
        const uint8_t *data, *scale;
        int64_t first;
    } at[TABLE];
};

/* Products g of [first, first + count); c(M,N) = a·b + (add) c. offset: rows of a and c, or, with
   ta, of a and b, belong to product g from offset[g] - offset[0] on. */
struct products {
    const float *a;
    int64_t lda, a_step;
    bool ta, tb, add;
    int64_t b_step_rows, b_row0; /* of heads: rows of one piece between two products, the first */
    float *c;
    int64_t ldc, c_step;
    int64_t m, n, k;
    int64_t first, count;
    const int32_t *offset;
    struct matrices b;
};

struct tile { /* of product g: rows [m0, m0 + height) of m that begin at row0 */
    int64_t g, m0, m, k, row0, b_row0;
};

/* Rows of product g begin at row0 of all rows: its tiles are numbered from row0 / height + g on,
   which leaves each product numbers enough, one too many at most, and is found by halving. */
TEAM_FN int64_t first_tile(const struct products *p, int64_t g, int64_t height)
{
    return (p->offset[g] - p->offset[p->first]) / height + g - p->first;
}

/* Tile number t of `height` rows; false where there is none. */
TEAM_FN bool find_tile(const struct products *p, int64_t t, int64_t height, struct tile *out)
{
    out->k = p->k;
    out->m = p->m;
    out->row0 = out->b_row0 = 0;
    if (!p->offset || p->ta) {
        int64_t tiles = rt_ceil_div(p->m, height);
        out->g = p->first + t / tiles;
        out->m0 = t % tiles * height;
        if (p->offset) {
            out->row0 = out->b_row0 = p->offset[out->g] - p->offset[0];
            out->k = p->offset[out->g + 1] - p->offset[out->g];
        }
        return out->g < p->first + p->count;
    }
    int64_t g = p->first, end = p->first + p->count; /* the last whose tiles begin at or before t */
    while (end - g > 1) {
        int64_t middle = g + (end - g) / 2;
        if (first_tile(p, middle, height) <= t)
            g = middle;
        else
            end = middle;
    }
    out->g = g;
    out->m = p->offset[g + 1] - p->offset[g];
    out->m0 = (t - first_tile(p, g, height)) * height;
    out->row0 = p->offset[g] - p->offset[0];
    return out->m0 < out->m;
}

TEAM_FN rt_piece matrix_of_product(const struct products *p, int64_t g)
{
    rt_piece b = p->b.like;
    if (p->b.table) {
        b.data = p->b.at[g - p->first].data;
        b.scale = p->b.at[g - p->first].scale;
        b.first = p->b.at[g - p->first].first;
    } else {
        b.data += g * p->b.each;
    }
    return b;
}

/* Row 0 of product g's b, counted as rt_piece_row counts. */
TEAM_FN int64_t first_row_of_b(const struct products *p, const struct tile *t)
{
    return p->b_row0 + t->g * p->b_step_rows + t->b_row0;
}

/* At least as many as find_tile finds. rows: of all the products together where offset says whose
   they are. */
static inline int64_t rt_cuda_tiles_of_rows(const struct products *p, int64_t rows, int64_t height)
{
    return p->offset && !p->ta ? rt_ceil_div(rows, height) + p->count
                               : rt_ceil_div(p->m, height) * p->count;
}

/* Every matrix of b may be read by runs (kernels/decode.h). */
static inline bool rt_cuda_has_runs(const struct products *p)
{
    rt_piece b = p->b.like;
    if (!p->b.table)
        return decode_has_runs(&b) && p->b.each % decode_align(decode_form(&b)) == 0;
    for (int64_t i = 0; i < p->count; i++) {
        b.data = p->b.at[i].data;
        if (!decode_has_runs(&b))
            return false;
    }
    return true;
}

/* Weights are rows of f32, one after another, on 4 bytes. */
static inline bool rt_cuda_is_plain(const struct products *p)
{
    const rt_piece *b = &p->b.like;
    uintptr_t at = (uintptr_t)b->data | (uintptr_t)b->row_bytes;
    for (int64_t i = 0; p->b.table && i < p->count; i++)
        at |= (uintptr_t)p->b.at[i].data;
    return decode_form(b) == RT_F32 && b->step == 1 && !b->pair && !b->transposed && at % 4 == 0;
}

/* Rows of a may be read 16 bytes at a time. */
static inline bool rt_cuda_has_quads(const struct products *p)
{
    return (uintptr_t)p->a % 16 == 0 && p->lda % 4 == 0 && p->a_step % 4 == 0;
}

/* On tensor cores, operands rounded to bf16. */
void rt_cuda_product_tile(rt_dev *d, const struct products *p, int64_t rows);
/* Of few rows, in f32; false where it does not suit. */
bool rt_cuda_product_vector(rt_dev *d, const struct products *p, int64_t rows);
/* By cuBLASLt, operands rounded to bf16; false where it does not suit or is not there. */
bool rt_cuda_product_blas(rt_dev *d, const struct products *p);

#endif
