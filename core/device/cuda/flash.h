/* flash.h: what the kernels of attention on tensor cores are made of: tiles of bf16 in shared
   memory, their products by fragments (mma.h), which rows and keys a tile holds, and whose rows are
   read as they lie. Private to attention_flash*.cu and attention_paged.cu.

   A tile is rows of D bf16 in chunks of 16 bytes, which is what cp.async moves and what ldmatrix
   reads of each of 8 rows at once. Chunks are exchanged inside a row so that those 8 lie in
   different banks, for reading as for writing. */
#ifndef RT_CUDA_FLASH_H
#define RT_CUDA_FLASH_H

#include "core/device/cuda/attention.h"
#include "core/device/cuda/mma.h"

#ifdef RT_EMULATE
#define UNROLL
#define UNROLL_NOT
LANES_FN float exp2_fast(float x) { return exp2f(x); }
#else
#define UNROLL _Pragma("unroll") /* arrays of fragments are registers only then */
#define UNROLL_NOT _Pragma("unroll 1") /* addresses of many rounds would take fragments' room */
/* Within 2^-22 of the value; 0 where it would be subnormal. */
LANES_FN float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

/* Widths of keys and values that kernels are made for; keys that the forward reads at a time; warps
   of a block of the gradients, 16 rows each, rows that it reads at a time, parts in which the
   columns of dk and dv are made. Heads of any width take the first form that holds them; the
   columns past theirs are 0. What bounds a form: 99 KB shared, 255 registers a thread. */
#define FLASH_FORMS(X)                                                                             \
    X(64, 64, 64, 8, 32, 1)                                                                        \
    X(96, 96, 64, 8, 32, 1)                                                                        \
    X(128, 128, 64, 8, 32, 1)                                                                      \
    X(192, 128, 64, 4, 16, 1)                                                                      \
    X(256, 256, 32, 4, 16, 2)

/* One call. Rows of bf16 in whole chunks of 16 bytes are read as they lie, others as copies in the
   workspace whose width is the form's. */
struct flash {
    struct attention a;
    const uint16_t *q, *k, *v, *dout; /* (N,H,dk) (N,K,dk) (N,K,dv) (N,H,dv) bf16 */
    int dk, dv;                       /* multiples of 8 */
    const float *lse2, *delta;        /* (H,N): lse / ln 2, dout . out */
    float scale2;                     /* of scores, / ln 2: weights are powers of 2 */
    int window;                       /* INT32_MAX / 2 = all */
};

static const float LN_2 = 0x1.62e430p-1f, INV_LN_2 = 0x1.715476p+0f;

/* --- tiles --------------------------------------------------------------------------------------
 */

/* Rows of 64, 128, 192, 256 begin in the same bank: 8 chunks change places by the row. Of rows of
   96 every second begins half of the banks on: 4 chunks change places by the pair of rows. */
template <int D> LANES_FN int chunk_at(int row, int chunk)
{
    static_assert(D % 32 == 0, "rows of whole groups of 4 chunks");
    return row * D + (chunk ^ (D % 64 ? row / 2 % 4 : row % 8)) * 8;
}

/* ROWS rows of `width`, `step` bf16 apart, on their way into a tile; those from `rows` on, and
   columns past the width, are 0. */
template <int D, int ROWS, int THREADS>
LANES_FN void load_tile(uint16_t *tile, const uint16_t *from, int64_t step, int rows, int width)
{
    const int apart = (int)step; /* at most 256 columns of heads that a grid has room for */
    UNROLL_NOT
    for (int i = threadIdx.x; i < ROWS * D / 8; i += THREADS) {
        int row = i / (D / 8), chunk = i % (D / 8);
        bool is = row < rows && chunk * 8 < width;
        copy_async(tile + chunk_at<D>(row, chunk), from + (is ? row * apart + chunk * 8 : 0),
                   is ? 16 : 0);
    }
}

/* Operand a of 16 rows from `row`, 16 columns from `k`. */
template <int D> LANES_FN void load_a(uint32_t a[4], const uint16_t *tile, int row, int k)
{
    int lane = threadIdx.x % 32;
    load_matrices(a, tile + chunk_at<D>(row + lane % 16, k / 8 + lane / 16));
}

/* Two operands b: 8 rows of the tile are the columns of each, k its columns. */
template <int D> LANES_FN void load_b(uint32_t b[4], const uint16_t *tile, int row, int k)
{
    int lane = threadIdx.x % 32;
    load_matrices(b, tile + chunk_at<D>(row + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
}

/* Two operands b: 8 columns of the tile are the columns of each, k its rows. */
template <int D> LANES_FN void load_b_t(uint32_t b[4], const uint16_t *tile, int row, int column)
{
    int lane = threadIdx.x % 32;
    load_matrices_t(b, tile + chunk_at<D>(row + lane % 16, column / 8 + lane / 16));
}

/* s(16,N) += x[row .. row + 16](16,D) y(N,D)^T */
template <int D, int N>
LANES_FN void add_dots(float s[][4], const uint16_t *x, int row, const uint16_t *y)
{
    UNROLL
    for (int k = 0; k < D; k += 16) {
        uint32_t a[4], b[4];
        load_a<D>(a, x, row, k);
        UNROLL
        for (int n = 0; n < N; n += 16) {
            load_b<D>(b, y, n, k);
            mma_bf16(s[n / 8], a, b);
            mma_bf16(s[n / 8 + 1], a, b + 2);
        }
    }
}

/* o(16,N) += w(16,K) y(K,D)[.., column .. column + N], w rounded to bf16 as it lies in the
   accumulators of its own product. */
template <int D, int K, int N>
LANES_FN void add_weighted(float o[][4], const float w[][4], const uint16_t *y, int column)
{
    UNROLL
    for (int k = 0; k < K; k += 16) {
        const float *low = w[k / 8], *high = w[k / 8 + 1];
        uint32_t a[4] = { bf16_pair(low[0], low[1]), bf16_pair(low[2], low[3]),
                          bf16_pair(high[0], high[1]), bf16_pair(high[2], high[3]) };
        UNROLL
        for (int n = 0; n < N; n += 16) {
            uint32_t b[4];
            load_b_t<D>(b, y, k, column + n);
            mma_bf16(o[n / 8], a, b);
            mma_bf16(o[n / 8 + 1], a, b + 2);
        }
    }
}

/* Rows g and g + 8 of a warp's 16, of which `rows` are there and begin `step` apart: the first
   `width` columns of o(16,N) * by[i] from `column` on. */
template <int N>
LANES_FN void put_rows(struct elements to, int64_t step, int64_t width, int rows, int column,
                       const float o[][4], const float by[2])
{
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    UNROLL
    for (int i = 0; i < 2; i++) {
        if (g + 8 * i >= rows)
            continue;
        const struct elements row = to.from((g + 8 * i) * step);
        UNROLL
        for (int n = 0; n < N / 8; n++) {
            int c = column + n * 8 + t * 2;
            float x = o[n][2 * i] * by[i], y = o[n][2 * i + 1] * by[i];
            if (width % 2 == 0 && c < width) {
                if (row.bf16)
                    ((uint32_t *)row.data)[c / 2] = bf16_pair(x, y);
                else
                    ((float2 *)row.data)[c / 2] = make_float2(x, y);
            } else {
                if (c < width)
                    row.put(c, x);
                if (c + 1 < width)
                    row.put(c + 1, y);
            }
        }
    }
}

/* 8 elements of a row from `column` on, rounded to bf16; 0 past its width. */
LANES_FN uint4 chunk_of(struct elements row, int column, int width)
{
    float f[8];
    if (row.bf16 && width % 8 == 0) /* rows begin on 16 bytes */
        return column < width ? ((const uint4 *)row.data)[column / 8] : make_uint4(0, 0, 0, 0);
    if (!row.bf16 && width % 4 == 0 && column + 8 <= width) {
        const float4 *at = (const float4 *)row.data + column / 4;
        const float4 a = at[0], b = at[1];
        f[0] = a.x, f[1] = a.y, f[2] = a.z, f[3] = a.w;
        f[4] = b.x, f[5] = b.y, f[6] = b.z, f[7] = b.w;
    } else {
        UNROLL
        for (int j = 0; j < 8; j++)
            f[j] = column + j < width ? row[column + j] : 0.0f;
    }
    return make_uint4(bf16_pair(f[0], f[1]), bf16_pair(f[2], f[3]), bf16_pair(f[4], f[5]),
                      bf16_pair(f[6], f[7]));
}

/* --- which rows ---------------------------------------------------------------------------------
 */

struct span {      /* of one segment */
    int64_t first; /* its first row */
    int n;         /* its rows */
    int at;        /* the tile's first, counted from there */
};

/* Tile t of segment s is slot offset[s] / size + s + t, so that no two meet and none is counted
   for: flash_slots() of them, some empty: false. */
LANES_FN bool find_span(const struct attention *p, int slot, int size, struct span *out)
{
    int low = 0, high = (int)p->segments;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (p->offset[middle] / size + middle <= slot)
            low = middle;
        else
            high = middle;
    }
    out->first = p->offset[low];
    out->n = p->offset[low + 1] - p->offset[low];
    out->at = (slot - (p->offset[low] / size + low)) * size;
    return out->at < out->n;
}
static inline unsigned flash_slots(const struct attention *p, int size)
{
    return (unsigned)(p->n / size + p->segments);
}

LANES_FN bool sees(const struct flash *p, int row, int key)
{
    return key <= row && row - key < p->window;
}
/* Every of a warp's 16 rows from `row` every of the keys. */
LANES_FN bool sees_all(const struct flash *p, int row, int key, int keys)
{
    return key + keys - 1 <= row && row + 15 - key < p->window;
}

/* --- launches -----------------------------------------------------------------------------------
 */

/* More than 48 KB of dynamic shared memory is had by asking. */
template <typename K> static void ask_shared(rt_dev *d, K *kernel, int64_t bytes)
{
    cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)bytes);
    (void)rt_cuda_ok(d, e, "attention");
}

/* Puts the copies of q, k, v and, for gradients, of dout into the workspace where there are to be
   any, and calls the form of the heads' widths out of a table in the order of FLASH_FORMS; false
   where there is none. */
typedef void rt_flash_form(rt_dev *d, const struct flash *p);
bool rt_flash_run(rt_dev *d, const struct attention *a, rt_flash_form *const *form);

#endif
