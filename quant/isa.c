/* isa.c: the inner loops of the encoders, compiled once for each instruction set. CMake defines
   RT_ISA as scalar, avx2 or avx512 (and RT_ISA_<that>) and sets the compiler flags. Only static
   functions here and in the isa_*.h files it includes, so that the three copies never meet in the
   linker; what leaves is one table. */
#include "quant/isa.h"
#include "core/device/cpu/simd.h"
#include "quant/pack.h"
#include "quant/isa_fit.h"
#include "quant/isa_blocks.h"
#include "quant/isa_super.h"
#include "quant/isa_affine.h"
#include "quant/isa_table.h"
#include "quant/isa_signed.h"
#include "quant/isa_two.h"
#include "quant/isa_feedback.h"

enum { ROWS = 8 }; /* whose sums of squares are chains of their own, side by side */

static void squares(double sum[ROWS], const float *const row[ROWS], int64_t width)
{
    for (int r = 0; r < ROWS; r++)
        sum[r] = 0;
    for (int64_t i = 0; i < width; i++)
        for (int r = 0; r < ROWS; r++)
            sum[r] += (double)row[r][i] * (double)row[r][i];
}

static void weights(float *w, const float *x, int64_t rows, int64_t width, const float *importance,
                    float least)
{
    const rt_v16 floor = v16_set1(least), one = v16_set1(1);
    for (int64_t first = 0; first < rows; first += ROWS) {
        const float *row[ROWS];
        double sum[ROWS];
        for (int r = 0; r < ROWS; r++)
            row[r] = x + rt_min(first + r, rows - 1) * width;
        squares(sum, row, width);
        for (int r = 0; r < ROWS && first + r < rows; r++) {
            rt_v16 mean = v16_set1((float)(sum[r] / (double)width));
            float *out = w + (first + r) * width;
            for (int64_t i = 0; i < width; i += 16) {
                rt_v16 v = v16_load(row[r] + i);
                rt_v16 busy = importance ? v16_max(v16_load(importance + i), floor) : one;
                v16_store(out + i, v16_mul(busy, v16_sqrt(v16_add(mean, v16_mul(v, v)))));
            }
        }
    }
}

#define ISA_JOIN(a, b) a##b
#define ISA_NAME(isa) ISA_JOIN(rt_encode_, isa)

const struct rt_encode_isa ISA_NAME(RT_ISA) = {
    .blocks = { [RT_Q8_0] = q8_0_encode,     [RT_Q4_0] = q4_0_encode,     [RT_Q4_1] = q4_1_encode,
                [RT_Q5_0] = q5_0_encode,     [RT_Q5_1] = q5_1_encode,     [RT_Q2_K] = q2_k_encode,
                [RT_Q3_K] = q3_k_encode,     [RT_Q4_K] = q4_k_encode,     [RT_Q5_K] = q5_k_encode,
                [RT_Q6_K] = q6_k_encode,     [RT_IQ4_NL] = iq4_nl_encode, [RT_IQ4_XS] = iq4_xs_encode,
                [RT_MXFP4] = mxfp4_encode,   [RT_NVFP4] = nvfp4_encode,   [RT_TQ2_0] = tq2_0_encode,
                [RT_Q2_0] = q2_0_encode },
    .weights = weights,
    .carry = feedback_carry,
    .round = feedback_round,
    .spread = feedback_spread,
    .dot = feedback_dot,
};
