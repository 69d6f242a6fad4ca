/* matmul_vector.cu: products of one to eight rows by weights whose rows are the sums' (tb), in f32
   from the codes themselves: decoding, where time is the bytes of the weights. A warp makes the
   elements of EACH rows of weights for all rows of a: a lane takes 32 codes of each at a time (two
   runs that share bytes: 16 bytes of 4-bit codes, one load where the block allows it), and lanes
   neighbouring ones. x waits in shared memory, in the order in which lanes take it. Sums are
   chains over a lane's runs, then shuffles: neither the other rows of a nor of b change them.
   Experts without rows cost a look at their offsets.
     Bytes under way: a lane asks for EACH 16 bytes and their scales before it needs the first, and
   the loop over units is unrolled twice, so the 16 warps of two blocks (what 40 KiB of shared
   memory each allow on sm_89, and 128 registers on sm_90) hold 16 x 32 x 2 x 2 x 16 = 32 KiB of
   q4_K a multiprocessor; 1 TB/s at 600 ns over 128 of them want 5 KiB, 4.8 TB/s at 700 ns over 132
   want 25. Instructions of a code of q4_K and one row: 1.5 to cut it out, 1 to make it a float, 1
   to multiply, 0.3 of scales: 128 lanes do 33 codes a clock; the memory of sm_90 brings 38, of
   sm_89 6.
     A run of x is 20 floats: 16, their sum (what a minimum is multiplied by), and 3 that put the
   eight lanes of a 16-byte phase into different banks (0 20 8 28 16 4 24 12). */
#include "core/device/cuda/matmul.h"

enum { WARPS = 8, EACH = 2, RUN = 20, UNITS_MAX = 256, ROWS_MAX = 8, GROUPED_MAX = 64 };

/* The run that is number `half` of unit u, and back. */
LANES_FN int run_of_unit(int u, int half, int apart)
{
    return u / apart * apart * 2 + u % apart + half * apart;
}
LANES_FN int slot_of_run(int run, int units, int apart)
{
    int in = run % (2 * apart);
    return in / apart * units + run / (2 * apart) * apart + in % apart;
}

/* Units [first, first + n) of so many rows of x; x: their first column of their first row. */
template <typename T>
LANES_FN void stage(float *to, const T *x, int64_t ld, int rows, int n, int units, int apart,
                    bool quads)
{
    int across = n * 8, all = rows * across; /* loads of 4 floats */
    for (int base = 0; base < all; base += WARPS * 32) {
        int i = base + (int)threadIdx.x, row = i / across, column = i % across * 4;
        four<T> read;
        read.load(x + row * ld + column, i < all ? 4 : 0, quads);
        const float4 v = read.floats();
        float sum = (v.x + v.y) + (v.z + v.w);
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (i < all) {
            float *run = to + (row * 2 * units + slot_of_run(column / 16, units, apart)) * RUN;
            *(float4 *)(void *)(run + column % 16) = v;
            if (column % 16 == 0)
                run[16] = sum;
        }
    }
}

/* ROWS: the most of a that registers hold at once; more are taken in turns. */
template <int FORM, int ROWS>
static __global__ void __launch_bounds__(WARPS * 32, 2)
    vector_kernel(const struct products p, bool quads)
{
    BLOCK_SHARED(float4, shared, UNITS_MAX * 2 * RUN / 4);
    float *xs = (float *)shared;
    const int64_t g = p.first + blockIdx.y;
    const int64_t row0 = p.offset ? p.offset[g] - p.offset[0] : 0;
    const int m_all = (int)(p.offset ? p.offset[g + 1] - p.offset[g] : p.m);
    const rt_piece b = matrix_of_product(&p, g);
    const int lane = (int)threadIdx.x % 32, apart = decode_apart(FORM), k_units = (int)(p.k / 32);
    const int64_t n0 = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * EACH;
    const int64_t a0 = g * p.a_step + row0 * p.lda, c0 = g * p.c_step + row0 * p.ldc;
    int64_t stored[EACH];
    UNROLL for (int e = 0; e < EACH; e++)
        stored[e] = decode_row(&b, p.b_row0 + g * p.b_step_rows + rt_min(n0 + e, p.n - 1));

    for (int m0 = 0; m0 < m_all; m0 += ROWS) {
        const int rows = ROWS == 1 ? 1 : m_all - m0 < ROWS ? m_all - m0 : ROWS;
        const int units = UNITS_MAX / (rows > 4 ? 8 : rows > 2 ? 4 : rows);
        float sum[ROWS][EACH];
        UNROLL for (int m = 0; m < ROWS; m++)
            UNROLL for (int e = 0; e < EACH; e++)
                sum[m][e] = 0.0f;
        for (int u0 = 0; u0 < k_units; u0 += units) {
            int n = k_units - u0 < units ? k_units - u0 : units;
            __syncthreads();
            const int64_t at = a0 + m0 * p.lda + (int64_t)u0 * 32;
            if (p.a16)
                stage(xs, (const uint16_t *)p.a + at, p.lda, rows, n, units, apart, quads);
            else
                stage(xs, (const float *)p.a + at, p.lda, rows, n, units, apart, quads);
            __syncthreads();
#ifndef RT_EMULATE
#pragma unroll(FORM == RT_F32 ? 1 : 2)
#endif
            for (int u = lane; u < n; u += 32)
                UNROLL for (int half = 0; half < 2; half++) {
                    struct decoded y[EACH];
                    UNROLL for (int e = 0; e < EACH; e++)
                        decode_run(&y[e], FORM, &b, stored[e], run_of_unit(u0 + u, half, apart));
                    UNROLL for (int m = 0; m < ROWS; m++) {
                        if (m >= rows) /* of all lanes */
                            break;
                        const float *x = xs + (m * 2 * units + half * units + u) * RUN;
                        float dot[EACH];
                        UNROLL for (int e = 0; e < EACH; e++)
                            dot[e] = 0.0f;
                        UNROLL for (int i = 0; i < 16; i += 4) {
                            float4 v = *(const float4 *)(const void *)(x + i);
                            UNROLL for (int e = 0; e < EACH; e++) {
                                dot[e] = fmaf(y[e].q[i], v.x, dot[e]);
                                dot[e] = fmaf(y[e].q[i + 1], v.y, dot[e]);
                                dot[e] = fmaf(y[e].q[i + 2], v.z, dot[e]);
                                dot[e] = fmaf(y[e].q[i + 3], v.w, dot[e]);
                            }
                        }
                        UNROLL for (int e = 0; e < EACH; e++) {
                            sum[m][e] = fmaf(y[e].scale, dot[e], sum[m][e]);
                            if (decode_has_low(FORM))
                                sum[m][e] = fmaf(y[e].low, x[16], sum[m][e]);
                        }
                    }
                }
        }
        UNROLL for (int m = 0; m < ROWS; m++)
            UNROLL for (int e = 0; e < EACH; e++) {
                if (m >= rows)
                    break;
                float total = warp_sum(sum[m][e]);
                if (lane == 0 && n0 + e < p.n)
                    put_sum(&p, c0 + (m0 + m) * p.ldc + n0 + e, total);
            }
    }
}

/* --- launches --------------------------------------------------------------------------------- */

template <int FORM> static void launch(rt_dev *d, const struct products *p, int64_t rows)
{
    const struct products args = *p;
    auto kernel = rows == 1 ? vector_kernel<FORM, 1> : vector_kernel<FORM, ROWS_MAX>;
    dim3 grid((unsigned)rt_ceil_div(p->n, WARPS * EACH), (unsigned)p->count);
    LAUNCH(kernel, grid, WARPS * 32, 0, rt_cuda_of(d)->stream, args,
           rt_cuda_a_is_by(p, 4));
    rt_cuda_launched(d, "a product of few rows");
}

/* rows: of all experts together, which are seldom one's; or of each head. */
bool rt_cuda_product_vector(rt_dev *d, const struct products *p, int64_t rows)
{
    if (p->ta || !p->tb || p->k % 32 || rows > (p->offset ? GROUPED_MAX : ROWS_MAX) ||
        p->count > 65535 || !rt_cuda_has_runs(p))
        return false;
    switch (decode_form(&p->b.like)) {
#define FORM(form)                                                                                 \
    case form:                                                                                     \
        launch<form>(d, p, rows);                                                                  \
        return true;
        FORM(RT_F32)
        FORM(RT_F16)
        FORM(RT_BF16)
        FORM(RT_F8_E4M3)
        FORM(RT_Q8_0)
        FORM(RT_Q4_0)
        FORM(RT_Q4_1)
        FORM(RT_Q5_0)
        FORM(RT_Q5_1)
        FORM(RT_IQ4_NL)
        FORM(RT_MXFP4)
        FORM(RT_Q4_K)
        FORM(RT_Q5_K)
        FORM(RT_Q6_K)
        FORM(DECODE_FP8)
        FORM(DECODE_MXFP4)
        FORM(DECODE_INT4)
#undef FORM
    default:
        return false;
    }
}
