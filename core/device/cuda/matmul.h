/* matmul.h: what the kernels of matrix products share: a product, or many of one shape whose rows
   experts or heads own, and where their operands lie. Private to matmul*.cu. */
#ifndef RT_CUDA_MATMUL_H
#define RT_CUDA_MATMUL_H

#include "core/device/cuda/cuda.h"

#include "core/device/cuda/mma.h"
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
    const void *a;
    int64_t lda, a_step;
    bool a16, c16; /* a, c are bf16; else f32 */
    bool ta, tb, add;
    int64_t b_step_rows, b_row0; /* of heads: rows of one piece between two products, the first */
    void *c;
    int64_t ldc, c_step;
    int64_t m, n, k;
    int64_t first, count;
    const int32_t *offset;
    const float *divisors; /* of a and of b: both multiply the sums; NULL = 1 */
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

/* b is rows of a dtype, one after another, each on so many bytes. */
static inline bool rt_cuda_has_rows(const struct products *p, rt_dtype dtype, unsigned bytes)
{
    const rt_piece *b = &p->b.like;
    uintptr_t at = (uintptr_t)b->data | (uintptr_t)b->row_bytes;
    if (!p->b.table)
        at |= (uintptr_t)p->b.each;
    for (int64_t i = 0; p->b.table && i < p->count; i++)
        at |= (uintptr_t)p->b.at[i].data;
    return decode_form(b) == (int)dtype && b->step == 1 && !b->pair && !b->transposed &&
           at % bytes == 0;
}

/* Rows of a may be read so many elements at a time, a power of two. */
static inline bool rt_cuda_a_is_by(const struct products *p, unsigned elements)
{
    return (uintptr_t)p->a % ((p->a16 ? 2 : 4) * elements) == 0 &&
           ((uintptr_t)p->lda | (uintptr_t)p->a_step) % elements == 0;
}

/* Four neighbours of a row, as they were read: f32, or bf16 two a word. */
template <typename T> struct four {
    float4 v;
    /* left: how many there are, 0 beyond; whole: the row may be read by fours */
    __device__ void load(const float *x, int left, bool whole)
    {
        v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (whole && left >= 4) {
            v = *(const float4 *)(const void *)x;
            return;
        }
        v.x = left > 0 ? x[0] : 0.0f;
        v.y = left > 1 ? x[1] : 0.0f;
        v.z = left > 2 ? x[2] : 0.0f;
        v.w = left > 3 ? x[3] : 0.0f;
    }
    __device__ float4 floats() const { return v; }
    __device__ uint2 bf16() const { return make_uint2(bf16_pair(v.x, v.y), bf16_pair(v.z, v.w)); }
};
template <> struct four<uint16_t> {
    uint2 v;
    __device__ void load(const uint16_t *x, int left, bool whole)
    {
        v = make_uint2(0, 0);
        if (whole && left >= 4) {
            v = *(const uint2 *)(const void *)x;
            return;
        }
        v.x = (left > 0 ? x[0] : 0u) | (left > 1 ? (uint32_t)x[1] << 16 : 0u);
        v.y = (left > 2 ? x[2] : 0u) | (left > 3 ? (uint32_t)x[3] << 16 : 0u);
    }
    __device__ float4 floats() const
    {
        return make_float4(bf16_value(v.x & 0xffffu), bf16_value(v.x >> 16),
                           bf16_value(v.y & 0xffffu), bf16_value(v.y >> 16));
    }
    __device__ uint2 bf16() const { return v; }
};

/* Element `at` of c = sum, or += sum: f32 arithmetic, rounded once. */
LANES_FN void put_sum(const struct products *p, int64_t at, float sum)
{
    if (p->c16) {
        uint16_t *to = (uint16_t *)p->c + at;
        *to = (uint16_t)bf16_bits(p->add ? bf16_value(*to) + sum : sum);
    } else {
        float *to = (float *)p->c + at;
        *to = p->add ? *to + sum : sum;
    }
}

/* Products whose operands are converted first are made of slices, rows of a by columns of c, so
   that the workspace does not depend on how many rows there will be. Emulation has them small. */
#ifdef RT_EMULATE
enum { SLICE_ROWS = 128, SLICE_COLUMNS = 64, SLICED_LEAST = 64 };
#else
enum {
    SLICE_ROWS = 2048, /* enough that converting them hides behind their product */
    SLICE_COLUMNS = 4096,
    SLICED_LEAST = 256 /* rows, columns and k: below, a tile kernel is as good */
};
#endif
enum { BLAS_OWN = 32 << 20 }; /* bytes for cuBLASLt, as it advises for sm_90 */
static inline int64_t rt_cuda_slice_of_a(int64_t k) /* bytes, of bf16 */
{
    return rt_align_up((int64_t)SLICE_ROWS * k * 2, 256);
}
static inline int64_t rt_cuda_slice_of_b(int64_t n, int64_t k)
{
    return rt_align_up(rt_min(n, SLICE_COLUMNS) * k * 2, 256);
}

/* A product of slices, row-major: c(m,n) = a b + beta c, of bf16; or of e4m3, with divisors as in
   struct products, when tb. */
struct dense {
    int64_t m, n, k, lda, ldb, ldc;
    bool ta, tb, add, c16;
    const float *divisors;
};
/* Whether cuBLASLt is there and takes it. */
bool rt_cuda_blas_fits(rt_dev *d, const struct dense *s);
/* own: BLAS_OWN bytes */
void rt_cuda_blas_multiply(rt_dev *d, const struct dense *s, void *c, const void *a, const void *b,
                           void *own);

/* On tensor cores, operands rounded to bf16. */
void rt_cuda_product_tile(rt_dev *d, const struct products *p, int64_t rows);
/* Of few rows, in f32; false where it does not suit. */
bool rt_cuda_product_vector(rt_dev *d, const struct products *p, int64_t rows);
/* By cuBLASLt, operands rounded to bf16; false where it does not suit or is not there. */
bool rt_cuda_product_blas(rt_dev *d, const struct products *p);
/* Operands rounded to e4m3; false where it does not suit, or the device does not do this. */
bool rt_cuda_product_fp8(rt_dev *d, const struct products *p);

#endif
