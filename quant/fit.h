/* fit.h: least-squares kernels of the encoders, over one sub-block of n <= 32 weights (a multiple
   of 8). Internal to quant/encode*.c. Four-lane vectors that every CPU has, explicit lane order and
   no contraction: the same bits everywhere. x, w: values and weights; q: codes, kept as whole
   floats. */
#ifndef RT_FIT_H
#define RT_FIT_H

#include <string.h>

#include "core/device/tensor.h"

enum { FIT_MAX = 32 };

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

static inline v4 v4_load(const float *p)
{
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void v4_store(float *p, v4 v) { memcpy(p, &v, sizeof v); }
static inline v4 v4_all(float f) { return (v4){ f, f, f, f }; }
static inline v4 v4_pick(v4i mask, v4 yes, v4 no)
{
    return (v4)((mask & (v4i)yes) | (~mask & (v4i)no));
}
/* clamp to lo .. hi, then to the nearest whole number, ties to even; |hi|, |lo| < 2^22 */
static inline v4 v4_code(v4 v, float lo, float hi)
{
    v = v4_pick(v < lo, v4_all(lo), v);
    v = v4_pick(v > hi, v4_all(hi), v);
    return (v + 12582912.0f) - 12582912.0f;
}
static inline float v4_sum(v4 a, v4 b)
{
    v4 s = a + b;
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* f16 and back, clamped to the largest finite scale. */
static inline float fit_f16(float d)
{
    d = d > 65504.0f ? 65504.0f : d < -65504.0f ? -65504.0f : d;
    return rt_f16_to_f32(rt_f32_to_f16(d));
}

/* q = code(inv * x); returns the scale that fits these codes best, sum wxq / sum wqq. */
static inline float fit_scale(float *q, const float *x, const float *w, int n, float inv, float lo,
                              float hi)
{
    v4 xq[2] = { 0 }, qq[2] = { 0 };
    for (int i = 0; i < n; i += 4) {
        v4 v = v4_load(x + i), c = v4_code(v * inv, lo, hi), wc = v4_load(w + i) * c;
        v4_store(q + i, c);
        xq[i / 4 % 2] += wc * v;
        qq[i / 4 % 2] += wc * c;
    }
    float den = v4_sum(qq[0], qq[1]);
    return den > 0 ? v4_sum(xq[0], xq[1]) / den : 0;
}

/* sum w (x - (d q - m))^2 */
static inline float fit_error(const float *q, const float *x, const float *w, int n, float d,
                              float m)
{
    v4 sum[2] = { 0 };
    for (int i = 0; i < n; i += 4) {
        v4 e = v4_load(x + i) - (v4_load(q + i) * d - m);
        sum[i / 4 % 2] += v4_load(w + i) * e * e;
    }
    return v4_sum(sum[0], sum[1]);
}

/* q = the best codes for decoded values d q - m, 0 <= q <= hi; returns their error. */
static inline float fit_code_affine(float *q, const float *x, const float *w, int n, float d,
                                    float m, float hi)
{
    float inv = d > 0 ? 1 / d : 0;
    v4 sum[2] = { 0 };
    for (int i = 0; i < n; i += 4) {
        v4 v = v4_load(x + i), c = v4_code((v + m) * inv, 0, hi), e = v - (c * d - m);
        v4_store(q + i, c);
        sum[i / 4 % 2] += v4_load(w + i) * e * e;
    }
    return v4_sum(sum[0], sum[1]);
}

typedef struct rt_affine {
    float d, m, err; /* decoded = d q - m, d >= 0, m >= 0 */
} rt_affine;

/* q = code(inv * (x + shift)) in 0 .. hi; the d and m that fit these codes best, and their error.
 */
rt_affine rt_fit_affine_codes(float *q, const float *x, const float *w, int n, float inv,
                              float shift, float hi);
/* Search over both ends of the range; n values, codes 0 .. hi. */
rt_affine rt_fit_affine(const float *x, const float *w, int n, int hi);

/* Symmetric codes lo .. hi. The largest magnitude is tried at codes from, from + step, ... to, and
   at every whole code below `from` when whole. f16: the scale is one. Returns it; *err if asked. */
typedef struct rt_symmetric {
    int lo, hi;
    float from, to, step;
    bool whole, f16;
} rt_symmetric;
float rt_fit_symmetric(float *q, float *err, const float *x, const float *w, int n,
                       const rt_symmetric *s);

/* The super-block encoders (encode_k.c): 256 values. */
void rt_encode_q4_k(uint8_t *p, const float *x, const float *w);
void rt_encode_q5_k(uint8_t *p, const float *x, const float *w);
void rt_encode_q6_k(uint8_t *p, const float *x, const float *w);

static inline void fit_put_f16(uint8_t *p, float d)
{
    uint16_t h = rt_f32_to_f16(d);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

#endif
