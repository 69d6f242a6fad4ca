/* matmul_fp8.cu: forward products y = x w^T in e4m3 (the format of arXiv 2209.05433): x and w are
   each divided by what makes its largest element 448, the largest of e4m3, and rounded to nearest
   even; products are exact, sums f32, multiplied by both divisors at the end. cuBLASLt multiplies
   the codes; where it is not there or refuses, the tiles of matmul_tile.cu multiply the same
   numbers as bf16, which holds each of them. A divisor belongs to the whole of x: a row's bits
   depend on the rows that come with it. What is not finite makes everything NaN.
     Chosen for what gives activations (c bf16) from many rows by rows of f32 or bf16, with widths
   that are multiples of 16; logits, routers and gradients keep bf16 operands. Refuses: deciding
   whether a device does this at all (RETORT_CUDA_PRECISION, --precision). */
#include "core/device/cuda/matmul.h"

enum { THREADS = 256, PARTS = THREADS };
static const float LARGEST = 448.0f;

/* Nearest code, ties to even; beyond the largest the largest; NaN stays NaN. */
LANES_FN uint32_t e4m3_bits(float x)
{
    uint32_t u = rt_bits_of_float(x), sign = u >> 24 & 128u, size = u & 0x7fffffffu;
    float mag = rt_float_of_bits(size);
    if (mag != mag)
        return sign | 127u;
    if (mag < 0x1p-6f) /* steps of 2^-9: those of a float from 2^14 on */
        return sign | (rt_bits_of_float(mag + 0x1p14f) - rt_bits_of_float(0x1p14f));
    uint32_t code = ((size + 0x7ffffu + (size >> 20 & 1u)) >> 20) - (120u << 3);
    return sign | (code < 126u ? code : 126u);
}

/* The largest of the block's, to all of it. */
LANES_FN uint32_t block_max(uint32_t x)
{
    BLOCK_SHARED(uint32_t, most, THREADS / 32);
    for (int step = 16; step > 0; step /= 2) {
        uint32_t y = __shfl_xor_sync(0xffffffffu, x, step);
        x = y > x ? y : x;
    }
    if (threadIdx.x % 32 == 0)
        most[threadIdx.x / 32] = x;
    __syncthreads();
    for (int i = 0; i < THREADS / 32; i++)
        x = most[i] > x ? most[i] : x;
    return x;
}

/* part[block] = the largest |x| of every gridDim-th piece, as bits: in their order NaN is above
   infinity. Of rows ld apart; columns a multiple of 4. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    largest_kernel(uint32_t *part, const T *x, int64_t ld, int64_t rows, int64_t columns)
{
    const int64_t across = columns / 4, all = rows * across;
    uint32_t most = 0;
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < all;
         i += gridDim.x * (int64_t)THREADS) {
        four<T> read;
        read.load(x + i / across * ld + i % across * 4, 4, true);
        const float4 v = read.floats();
        const float each[4] = { v.x, v.y, v.z, v.w };
        for (int e = 0; e < 4; e++) {
            uint32_t size = rt_bits_of_float(each[e]) & 0x7fffffffu;
            most = size > most ? size : most;
        }
    }
    most = block_max(most);
    if (threadIdx.x == 0)
        part[blockIdx.x] = most;
}

/* to (rows, columns) = x over the divisor that the parts say, which block 0 writes: codes, or their
   values as bf16. */
template <typename T, bool CODES>
static __global__ void __launch_bounds__(THREADS)
    quantize_kernel(void *to, float *divisor, const uint32_t *part, const T *x, int64_t ld,
                    int64_t rows, int64_t columns)
{
    const float largest = rt_float_of_bits(block_max(part[threadIdx.x]));
    const float most = largest < 0x1p-100f ? 0x1p-100f : largest; /* its inverse is a number */
    const float inverse = LARGEST / most;
    const int64_t across = columns / 4, all = rows * across;
    if (blockIdx.x == 0 && threadIdx.x == 0)
        *divisor = most / LARGEST;
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < all;
         i += gridDim.x * (int64_t)THREADS) {
        four<T> read;
        read.load(x + i / across * ld + i % across * 4, 4, true);
        const float4 v = read.floats();
        const uint32_t a = e4m3_bits(v.x * inverse), b = e4m3_bits(v.y * inverse);
        const uint32_t c = e4m3_bits(v.z * inverse), e = e4m3_bits(v.w * inverse);
        if (CODES)
            ((uint32_t *)to)[i] = a | b << 8 | c << 16 | e << 24;
        else
            ((uint2 *)to)[i] =
                make_uint2(bf16_pair(decode_e4m3_float(a), decode_e4m3_float(b)),
                           bf16_pair(decode_e4m3_float(c), decode_e4m3_float(e)));
    }
}

/* --- launches --------------------------------------------------------------------------------- */

/* An operand and its place in the workspace. */
struct operand {
    const uint8_t *data;
    int64_t ld, rows, columns; /* elements */
    bool half;                 /* bf16, else f32 */
    uint32_t *part;
    float *divisor;
    uint8_t *to;
};

static void find_largest(rt_dev *d, const struct operand *o)
{
    auto launch = [&](auto kernel, auto *x) {
        LAUNCH(kernel, PARTS, THREADS, 0, rt_cuda_of(d)->stream, o->part, x, o->ld, o->rows,
               o->columns);
    };
    if (o->half)
        launch(largest_kernel<uint16_t>, (const uint16_t *)(const void *)o->data);
    else
        launch(largest_kernel<float>, (const float *)(const void *)o->data);
    rt_cuda_launched(d, "the search for a scale");
}

/* Rows [first, first + rows). */
static void quantize(rt_dev *d, const struct operand *o, bool codes, int64_t first, int64_t rows)
{
    const uint8_t *x = o->data + first * o->ld * (o->half ? 2 : 4);
    int64_t blocks = rt_min(rt_ceil_div(rows * o->columns / 4, THREADS), rt_cuda_blocks(d, 0));
    auto launch = [&](auto kernel, auto *from) {
        LAUNCH(kernel, (unsigned)blocks, THREADS, 0, rt_cuda_of(d)->stream, (void *)o->to,
               o->divisor, o->part, from, o->ld, rows, o->columns);
    };
    if (o->half)
        launch(codes ? quantize_kernel<uint16_t, true> : quantize_kernel<uint16_t, false>,
               (const uint16_t *)(const void *)x);
    else
        launch(codes ? quantize_kernel<float, true> : quantize_kernel<float, false>,
               (const float *)(const void *)x);
    rt_cuda_launched(d, "rounding to e4m3");
}

/* Largest of both, divisors of both. */
enum { BESIDE = 2 * PARTS * 4 + 256 };

static int64_t bytes_of(const rt_dev *d, int64_t n, int64_t k)
{
    return (rt_cuda_of(d)->blas ? BLAS_OWN : 0) + BESIDE + rt_cuda_slice_of_a(k) +
           rt_cuda_slice_of_b(n, k);
}

/* Of a product of this shape that may be one of these. */
void rt_cuda_need_fp8(rt_dev *d, int64_t groups, int64_t n, int64_t k, const rt_tensor *b)
{
    struct rt_cuda *c = rt_cuda_of(d);
    const int form = b->piece ? decode_form(b->piece) : (int)b->dtype;
    if (c->fp8 && groups == 1 && n >= SLICED_LEAST && k >= SLICED_LEAST &&
        (form == RT_F32 || form == RT_BF16))
        c->product_need = rt_max(c->product_need, bytes_of(d, n, k));
}

/* The tiles' product of slices that hold bf16. */
static void multiply_tiles(rt_dev *d, const struct dense *s, void *c, const uint8_t *a,
                           const uint8_t *b)
{
    struct products p = {};
    p.a = a, p.a16 = true, p.lda = s->lda;
    p.b.like.code = RT_CODE_ROWS, p.b.like.dtype = RT_BF16, p.b.like.data = b;
    p.b.like.row_bytes = 2 * s->ldb, p.b.like.step = 1, p.tb = true;
    p.c = c, p.c16 = s->c16, p.ldc = s->ldc, p.add = s->add;
    p.m = s->m, p.n = s->n, p.k = s->k, p.count = 1;
    p.divisors = s->divisors;
    rt_cuda_product_tile(d, &p, p.m);
}

bool rt_cuda_product_fp8(rt_dev *d, const struct products *p)
{
    const bool b32 = rt_cuda_has_rows(p, RT_F32, 16);
    const rt_piece *like = &p->b.like;
    if (!rt_cuda_of(d)->fp8 || p->ta || !p->tb || !p->c16 || p->offset || p->count != 1 ||
        p->b.table || p->m < SLICED_LEAST || p->n < SLICED_LEAST || p->k < SLICED_LEAST ||
        p->n % 16 || p->k % 16 || p->ldc % 8 || (uintptr_t)p->c % 16 || !rt_cuda_a_is_by(p, 4) ||
        (!b32 && !rt_cuda_has_rows(p, RT_BF16, 16)))
        return false;
    uint8_t *own = rt_cuda_scratch(d, bytes_of(d, p->n, p->k));
    uint8_t *beside = own + (rt_cuda_of(d)->blas ? BLAS_OWN : 0);
    uint32_t *part = (uint32_t *)(void *)beside;
    float *divisors = (float *)(void *)(part + 2 * PARTS);
    struct operand a = {}, b = {};
    a.data = (const uint8_t *)p->a, a.half = p->a16, a.ld = p->lda, a.rows = p->m;
    a.part = part, a.divisor = divisors, a.to = beside + BESIDE;
    b.data = like->data + (like->first + p->b_row0) * like->row_bytes, b.half = !b32;
    b.ld = like->row_bytes / (b32 ? 4 : 2), b.rows = p->n;
    b.part = part + PARTS, b.divisor = divisors + 1, b.to = a.to + rt_cuda_slice_of_a(p->k);
    a.columns = b.columns = p->k;
    struct dense s = {};
    s.k = s.lda = s.ldb = p->k, s.ldc = p->ldc, s.tb = true;
    s.add = p->add, s.c16 = true, s.divisors = divisors;
    bool codes = true;
    for (int run = 0; run < 2; run++) { /* all in one way */
        if (run) {
            find_largest(d, &a);
            find_largest(d, &b);
        }
        for (int64_t n0 = 0; n0 < p->n; n0 += s.n) {
            s.n = rt_min(SLICE_COLUMNS, p->n - n0);
            if (run)
                quantize(d, &b, codes, n0, s.n);
            for (int64_t m0 = 0; m0 < p->m; m0 += s.m) {
                s.m = rt_min(SLICE_ROWS, p->m - m0);
                if (!run) {
                    codes = codes && rt_cuda_blas_fits(d, &s);
                    continue;
                }
                if (n0 == 0 || p->m > SLICE_ROWS)
                    quantize(d, &a, codes, m0, s.m);
                uint16_t *c = (uint16_t *)p->c + m0 * p->ldc + n0;
                if (codes)
                    rt_cuda_blas_multiply(d, &s, c, a.to, b.to, own);
                else
                    multiply_tiles(d, &s, c, a.to, b.to);
            }
        }
    }
    return true;
}
