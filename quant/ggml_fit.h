/* ggml_fit.h: the searches of ggml's quantizer that several types share: codes on both sides of zero under
   one scale, codes from zero on under a scale and a minimum, and levels of such scales under another.
   Owns their order of operations, each rounded to f32. Refuses: layouts and types (ggml.c). */
#ifndef RT_QUANT_GGML_FIT_H
#define RT_QUANT_GGML_FIT_H

#include <math.h>
#include <string.h>

#include "core/base/base.h"

#define RT_GGML_NOTHING 1e-15f /* a group whose largest magnitude is below it is all zero */

/* Nearest whole number, ties to even, out of the low bits of v + 1.5 * 2^23. */
static inline int nearest(float v)
{
    uint32_t bits;
    v += 12582912.0f;
    memcpy(&bits, &v, sizeof bits);
    return (int)(bits & 0x7fffff) - 0x400000;
}

/* Towards zero; what an int cannot hold is what x86 makes of it. */
static inline int truncated(float v)
{
    return v >= -2147483648.0f && v < 2147483648.0f ? (int)v : INT32_MIN;
}

static inline int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static inline float sum_squares(const float *x, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

/* The element of largest magnitude, the first of equals. */
static inline float extreme(const float *x, int n)
{
    float top = 0, at = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > top) {
            top = fabsf(x[i]);
            at = x[i];
        }
    return at;
}

/* importance * sqrt(square + x^2) */
static inline void weigh(float *w, const float *x, const float *importance, float square, int n)
{
    for (int i = 0; i < n; i++)
        w[i] = importance[i] * sqrtf(square + x[i] * x[i]);
}

/* Codes -n .. n - 1, each + n, of x (count): the scale, of 19 that put the extreme at -n and 0.1 .. 0.9
   beside it. w (count); NULL: x^2. */
float rt_ggml_signed_fit(uint8_t *code, const float *x, const float *w, int count, int n);

/* The same for n = 4 by coordinate descent under weights x^2: Q3_K without importance. */
float rt_ggml_descend_fit(uint8_t *code, const float *x, int count);

/* Candidates: inverse scales (n + from + step * k) / range, k = 0 .. last. */
typedef struct rt_ggml_tries {
    float from, step;
    int last;
    bool absolute; /* errors count by size, not by square */
} rt_ggml_tries;

/* Codes 0 .. n of x (count <= 32) under the scale that is returned; *minus: what is subtracted, the
   minimum's negative, at least 0. */
float rt_ggml_affine_fit(uint8_t *code, float *minus, const float *x, const float *w, int count, int n,
                         rt_ggml_tries t);

/* Levels 0 .. n of the scales (or minima) x (count) of a super-block, and the scale of one level. */
float rt_ggml_levels_fit(uint8_t *level, const float *x, const float *w, int count, int n);

#endif
