/* math.h: exp, log, tanh, sigmoid, sine and cosine as our own polynomials made of fused
   multiply-adds, so that every instruction set, compiler and backend gives the same bits
   (ops.h). Plain C that gcc turns into vector code when called in a loop over an array, and
   that nvcc reads. No branches on data: special cases are selects. Coefficients: weighted minimax
   fits made for this file; largest errors seen, in units of the last place
   (tests/test_math.c): exp 1.02, log 0.8, tanh 1.3, sigmoid 2.3, silu 2.8 where the result is
   normal, sin and cos 0.501. */
#ifndef RT_KERNELS_MATH_H
#define RT_KERNELS_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define RT_MATH_FN __host__ __device__ static inline
#else
#define RT_MATH_FN static inline __attribute__((always_inline, unused))
#endif

RT_MATH_FN float rt_float_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

RT_MATH_FN uint32_t rt_bits_of_float(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

/* e^x = 2^n p with p = e^r, |r| <= ln(2)/2; returns p. n modulo 2^32. */
RT_MATH_FN float rt_exp_parts(float x, uint32_t *n)
{
    const float magic = 0x1.8p23f; /* adding it rounds to an integer, found in the low bits */
    float z = fmaf(x, 0x1.715476p+0f, magic);
    float whole = z - magic;
    float r = fmaf(whole, -0x1.62e400p-1f, x);
    r = fmaf(whole, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6db4e4p-10f;
    p = fmaf(p, r, 0x1.123be0p-7f);
    p = fmaf(p, r, 0x1.55545ep-5f);
    p = fmaf(p, r, 0x1.55548ep-3f);
    p = fmaf(p, r, 0x1.000000p-1f);
    *n = rt_bits_of_float(z) - rt_bits_of_float(magic);
    return fmaf(p, r * r, r) + 1.0f;
}

/* Subnormal results are rounded once. NaN stays NaN. */
RT_MATH_FN float rt_expf(float x)
{
    uint32_t n;
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float p = rt_exp_parts(x, &n);
    /* 2^n in two halves, so that neither factor leaves the normal range */
    uint32_t half = (uint32_t)((int32_t)n >> 1);
    return p * rt_float_of_bits((half + 127u) << 23) * rt_float_of_bits((n - half + 127u) << 23);
}

/* e^x of a softmax: x <= 0; 0 below -87, where results would become subnormal. NaN stays NaN. Two
   thirds of the instructions of rt_expf, and the same bits where it is not 0. */
RT_MATH_FN float rt_soft_expf(float x)
{
    uint32_t n;
    float p = rt_exp_parts(x, &n);
    float y = p * rt_float_of_bits((n + 127u) << 23);
    return x < -87.0f ? 0.0f : y;
}

/* log x = e ln 2 + log(1 + f), 1 + f in [sqrt(1/2), sqrt(2)). log 0 = -inf, log of less = NaN. */
RT_MATH_FN float rt_logf(float x)
{
    float scaled = x < 0x1p-126f ? x * 0x1p23f : x; /* subnormals */
    uint32_t u = rt_bits_of_float(scaled);
    int32_t e = (int32_t)(u - 0x3f3504f3u) >> 23;
    float f = rt_float_of_bits(u - ((uint32_t)e << 23)) - 1.0f;
    float k = (float)e - (x < 0x1p-126f ? 23.0f : 0.0f);
    float p = 0x1.14573ep-4f;
    p = fmaf(p, f, -0x1.de3bf8p-4f);
    p = fmaf(p, f, 0x1.e6f08cp-4f);
    p = fmaf(p, f, -0x1.fc220ep-4f);
    p = fmaf(p, f, 0x1.233766p-3f);
    p = fmaf(p, f, -0x1.555c4ep-3f);
    p = fmaf(p, f, 0x1.99a4b6p-3f);
    p = fmaf(p, f, -0x1.000006p-2f);
    p = fmaf(p, f, 0x1.555548p-2f);
    float z = f * f;
    float t = fmaf(k, 0x1.7f7d1cp-20f, p * (f * z));
    t = f + fmaf(-0.5f, z, t);
    t = fmaf(k, 0x1.62e400p-1f, t);
    t = x == INFINITY ? x : t;
    t = x == 0.0f ? -INFINITY : t;
    return x >= 0.0f ? t : NAN;
}

/* Both from e^-|x|, which cannot overflow. */
RT_MATH_FN float rt_sigmoidf(float x)
{
    float e = rt_expf(x < 0.0f ? x : -x);
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

RT_MATH_FN float rt_siluf(float x)
{
    float e = rt_expf(x < 0.0f ? x : -x);
    return (x < 0.0f ? x * e : x) / (1.0f + e);
}

RT_MATH_FN float rt_tanhf(float x)
{
    float a = x < 0.0f ? -x : x, z = x * x;
    float p = -0x1.825836p-8f;
    p = fmaf(p, z, 0x1.54b898p-6f);
    p = fmaf(p, z, -0x1.b898dcp-5f);
    p = fmaf(p, z, 0x1.1109aep-3f);
    p = fmaf(p, z, -0x1.55553ep-2f);
    p = fmaf(p, z * x, x);
    float q = 1.0f - 2.0f / (rt_expf(2.0f * a) + 1.0f);
    q = x < 0.0f ? -q : q;
    return a < 0.6f ? p : q;
}

/* sine and cosine of r in [-pi/4, pi/4], f64 inside */
RT_MATH_FN double rt_sin_octant(double r)
{
    double z = r * r, p = -0x1.a9615ecf208ebp-26;
    p = fma(p, z, 0x1.71d76c60740b5p-19);
    p = fma(p, z, -0x1.a019f93815a12p-13);
    p = fma(p, z, 0x1.1111110c863d1p-7);
    p = fma(p, z, -0x1.555555555222bp-3);
    return fma(p * z, r, r);
}

RT_MATH_FN double rt_cos_octant(double r)
{
    double z = r * r, p = 0x1.1bc79b61b343fp-29;
    p = fma(p, z, -0x1.27e02a0adf7bbp-22);
    p = fma(p, z, 0x1.a019faa94d9b5p-16);
    p = fma(p, z, -0x1.6c16c1676aafdp-10);
    p = fma(p, z, 0x1.5555555553109p-5);
    return fma(p * z, z, fma(-0.5, z, 1.0));
}

/* x = q pi/2 + r, then quadrant q + turn; angles of 2^30 and more have no meaning here: NaN. */
RT_MATH_FN float rt_sin_quadrant(float x, int64_t turn)
{
    if (!(x > -0x1p30f && x < 0x1p30f))
        return NAN;
    double k = (double)x * 0x1.45f306dc9c883p-1 + 0x1.8p52 - 0x1.8p52;
    double r = fma(k, -0x1.921fb54442d18p+0, (double)x);
    r = fma(k, -0x1.1a62633145c07p-54, r);
    int64_t q = (int64_t)k + turn;
    double y = q & 1 ? rt_cos_octant(r) : rt_sin_octant(r);
    return (float)(q & 2 ? -y : y);
}

RT_MATH_FN float rt_sinf(float x) { return rt_sin_quadrant(x, 0); }

RT_MATH_FN float rt_cosf(float x) { return rt_sin_quadrant(x, 1); }

#endif
