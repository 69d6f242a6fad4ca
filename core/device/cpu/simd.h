/* simd.h: rt_v16, sixteen f32 lanes, in three implementations with the same bits: one __m512, two
   __m256, or a float[16] with fmaf. Lane i is element i. The 16 lanes of the numeric contract
   (core/device/ops.h) are these lanes on every instruction set. For what is compiled once per
   instruction set (isa.c here and in quant/), and for kernels/team.h. */
#ifndef RT_CPU_SIMD_H
#define RT_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
#include <immintrin.h>
#endif

#include "core/base/dtype.h"

#define RT_V16_FN static inline __attribute__((always_inline, unused))

#if defined(RT_ISA_avx512)

typedef __m512 rt_v16;

RT_V16_FN rt_v16 v16_zero(void) { return _mm512_setzero_ps(); }
RT_V16_FN rt_v16 v16_set1(float x) { return _mm512_set1_ps(x); }
RT_V16_FN rt_v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
RT_V16_FN void v16_store(float *p, rt_v16 v) { _mm512_storeu_ps(p, v); }
/* first n <= 16 lanes; the others load as 0 and are not stored */
RT_V16_FN rt_v16 v16_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
}
RT_V16_FN void v16_store_n(float *p, rt_v16 v, int n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), v);
}
/* first n <= 16 lanes, the others are fill */
RT_V16_FN rt_v16 v16_load_fill(const float *p, int n, float fill)
{
    return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << n) - 1u), p);
}
RT_V16_FN rt_v16 v16_fma(rt_v16 a, rt_v16 b, rt_v16 c) { return _mm512_fmadd_ps(a, b, c); }
RT_V16_FN rt_v16 v16_add(rt_v16 a, rt_v16 b) { return _mm512_add_ps(a, b); }
RT_V16_FN rt_v16 v16_sub(rt_v16 a, rt_v16 b) { return _mm512_sub_ps(a, b); }
RT_V16_FN rt_v16 v16_mul(rt_v16 a, rt_v16 b) { return _mm512_mul_ps(a, b); }
RT_V16_FN rt_v16 v16_div(rt_v16 a, rt_v16 b) { return _mm512_div_ps(a, b); }
/* a > b ? a : b in every lane, so b where either is NaN */
RT_V16_FN rt_v16 v16_max(rt_v16 a, rt_v16 b) { return _mm512_max_ps(a, b); }
RT_V16_FN rt_v16 v16_min(rt_v16 a, rt_v16 b) { return _mm512_min_ps(a, b); } /* a < b ? a : b */
RT_V16_FN rt_v16 v16_sqrt(rt_v16 a) { return _mm512_sqrt_ps(a); }
/* a < b ? yes : no in every lane, so no where either is NaN */
RT_V16_FN rt_v16 v16_if_lt(rt_v16 a, rt_v16 b, rt_v16 yes, rt_v16 no)
{
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
}
/* bit i: a < b in lane i */
RT_V16_FN unsigned v16_lt_bits(rt_v16 a, rt_v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
/* to the nearest f16, ties to even; |a| <= 65504 */
RT_V16_FN rt_v16 v16_round_f16(rt_v16 a)
{
    return _mm512_cvtph_ps(_mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* x where key >= edge, else 0 */
RT_V16_FN rt_v16 v16_where_ge(rt_v16 x, rt_v16 key, rt_v16 edge)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(key, edge, _CMP_GE_OQ), x);
}
/* r[i] lane j <-> r[j] lane i */
RT_V16_FN void v16_transpose(rt_v16 r[16])
{
    rt_v16 t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
        /* r[i + j], i = 0, 4, 8, 12: column j of every quarter lane of rows i .. i + 3 */
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) {
        rt_v16 a = _mm512_shuffle_f32x4(r[j], r[j + 4], 0x88);
        rt_v16 b = _mm512_shuffle_f32x4(r[j], r[j + 4], 0xdd);
        rt_v16 c = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0x88);
        rt_v16 d = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0xdd);
        t[j] = _mm512_shuffle_f32x4(a, c, 0x88);
        t[j + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        t[j + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        t[j + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        r[i] = t[i];
}

#elif defined(RT_ISA_avx2)

typedef struct {
    __m256 lo, hi;
} rt_v16;

RT_V16_FN rt_v16 v16_of(__m256 lo, __m256 hi)
{
    rt_v16 v = { lo, hi };
    return v;
}
RT_V16_FN rt_v16 v16_zero(void) { return v16_of(_mm256_setzero_ps(), _mm256_setzero_ps()); }
RT_V16_FN rt_v16 v16_set1(float x) { return v16_of(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
RT_V16_FN rt_v16 v16_load(const float *p)
{
    return v16_of(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
RT_V16_FN void v16_store(float *p, rt_v16 v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
RT_V16_FN __m256i v16_first(int n) /* of 8 lanes; n may be less than 0 or more than 8 */
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
RT_V16_FN rt_v16 v16_load_n(const float *p, int n)
{
    return v16_of(_mm256_maskload_ps(p, v16_first(n)), _mm256_maskload_ps(p + 8, v16_first(n - 8)));
}
/* first n <= 16 lanes, the others are fill */
RT_V16_FN rt_v16 v16_load_fill(const float *p, int n, float fill)
{
    rt_v16 x = v16_load_n(p, n);
    __m256 f = _mm256_set1_ps(fill);
    return v16_of(_mm256_blendv_ps(f, x.lo, _mm256_castsi256_ps(v16_first(n))),
                  _mm256_blendv_ps(f, x.hi, _mm256_castsi256_ps(v16_first(n - 8))));
}
RT_V16_FN void v16_store_n(float *p, rt_v16 v, int n)
{
    float t[16];
    v16_store(t, v);
    memcpy(p, t, (size_t)n * sizeof(float));
}
RT_V16_FN rt_v16 v16_fma(rt_v16 a, rt_v16 b, rt_v16 c)
{
    return v16_of(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
RT_V16_FN rt_v16 v16_add(rt_v16 a, rt_v16 b)
{
    return v16_of(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
RT_V16_FN rt_v16 v16_sub(rt_v16 a, rt_v16 b)
{
    return v16_of(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
RT_V16_FN rt_v16 v16_mul(rt_v16 a, rt_v16 b)
{
    return v16_of(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
RT_V16_FN rt_v16 v16_div(rt_v16 a, rt_v16 b)
{
    return v16_of(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
RT_V16_FN rt_v16 v16_max(rt_v16 a, rt_v16 b)
{
    return v16_of(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
RT_V16_FN rt_v16 v16_min(rt_v16 a, rt_v16 b)
{
    return v16_of(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
RT_V16_FN rt_v16 v16_sqrt(rt_v16 a) { return v16_of(_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)); }
RT_V16_FN rt_v16 v16_if_lt(rt_v16 a, rt_v16 b, rt_v16 yes, rt_v16 no)
{
    return v16_of(_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                  _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)));
}
RT_V16_FN unsigned v16_lt_bits(rt_v16 a, rt_v16 b)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)) |
           (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)) << 8;
}
RT_V16_FN rt_v16 v16_round_f16(rt_v16 a)
{
    return v16_of(_mm256_cvtph_ps(_mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT)),
                  _mm256_cvtph_ps(_mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT)));
}
RT_V16_FN rt_v16 v16_where_ge(rt_v16 x, rt_v16 key, rt_v16 edge)
{
    return v16_of(_mm256_and_ps(x.lo, _mm256_cmp_ps(key.lo, edge.lo, _CMP_GE_OQ)),
                  _mm256_and_ps(x.hi, _mm256_cmp_ps(key.hi, edge.hi, _CMP_GE_OQ)));
}
RT_V16_FN void transpose_8x8(__m256 r[8])
{
    __m256 t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
            r[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
        }
#pragma GCC unroll 8
    for (int j = 0; j < 4; j++) {
        t[j] = _mm256_permute2f128_ps(r[j], r[j + 4], 0x20);
        t[j + 4] = _mm256_permute2f128_ps(r[j], r[j + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}
RT_V16_FN void v16_transpose(rt_v16 r[16])
{
    for (int i = 0; i < 2; i++) { /* rows 8 i .. 8 i + 7 become lanes 8 i .. of every row */
        __m256 lo[8], hi[8];
        for (int j = 0; j < 8; j++) {
            lo[j] = r[8 * i + j].lo;
            hi[j] = r[8 * i + j].hi;
        }
        transpose_8x8(lo);
        transpose_8x8(hi);
        for (int j = 0; j < 8; j++) {
            r[8 * i + j].lo = lo[j];
            r[8 * i + j].hi = hi[j];
        }
    }
    for (int j = 0; j < 8; j++) {
        __m256 t = r[j].hi;
        r[j].hi = r[8 + j].lo;
        r[8 + j].lo = t;
    }
}

#else

typedef struct {
    float v[16];
} rt_v16;

/* Sixteen checked copies of every lane would take the sanitizers' builds minutes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RT_V16_LOOP _Pragma("GCC unroll 1")
#else
#define RT_V16_LOOP
#endif
#define RT_V16_LANES(expression)                                                                   \
    rt_v16 r;                                                                                      \
    RT_V16_LOOP                                                                                    \
    for (int i = 0; i < 16; i++)                                                                   \
        r.v[i] = (expression);                                                                     \
    return r

/* Four lanes of what every CPU has: a compiler keeps four of these in registers, but not an array.
 */
typedef float rt_v4 __attribute__((vector_size(16)));
typedef int32_t rt_v4i __attribute__((vector_size(16)));

RT_V16_FN rt_v4 v4_load(const float *p)
{
    rt_v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
RT_V16_FN rt_v16 v16_of(rt_v4 a, rt_v4 b, rt_v4 c, rt_v4 d)
{
    rt_v16 r;
    memcpy(r.v, &a, sizeof a);
    memcpy(r.v + 4, &b, sizeof b);
    memcpy(r.v + 8, &c, sizeof c);
    memcpy(r.v + 12, &d, sizeof d);
    return r;
}
/* a < b ? yes : no */
RT_V16_FN rt_v4 v4_if_lt(rt_v4 a, rt_v4 b, rt_v4 yes, rt_v4 no)
{
    rt_v4i less = a < b;
    return (rt_v4)((less & (rt_v4i)yes) | (~less & (rt_v4i)no));
}
#define RT_V16_QUARTER(x, i) v4_load((x).v + 4 * (i))
/* a op b */
#define RT_V16_QUARTERS(op)                                                                        \
    return v16_of(RT_V16_QUARTER(a, 0) op RT_V16_QUARTER(b, 0),                                    \
                  RT_V16_QUARTER(a, 1) op RT_V16_QUARTER(b, 1),                                    \
                  RT_V16_QUARTER(a, 2) op RT_V16_QUARTER(b, 2),                                    \
                  RT_V16_QUARTER(a, 3) op RT_V16_QUARTER(b, 3))

RT_V16_FN rt_v16 v16_set1(float x)
{
    rt_v4 v = { x, x, x, x };
    return v16_of(v, v, v, v);
}
RT_V16_FN rt_v16 v16_zero(void) { return v16_set1(0); }
RT_V16_FN rt_v16 v16_load(const float *p)
{
    return v16_of(v4_load(p), v4_load(p + 4), v4_load(p + 8), v4_load(p + 12));
}
RT_V16_FN void v16_store(float *p, rt_v16 v)
{
    for (int i = 0; i < 4; i++) {
        rt_v4 q = RT_V16_QUARTER(v, i);
        memcpy(p + 4 * i, &q, sizeof q);
    }
}
RT_V16_FN rt_v16 v16_load_n(const float *p, int n) { RT_V16_LANES(i < n ? p[i] : 0.0f); }
RT_V16_FN rt_v16 v16_load_fill(const float *p, int n, float fill)
{
    RT_V16_LANES(i < n ? p[i] : fill);
}
RT_V16_FN void v16_store_n(float *p, rt_v16 v, int n) { memcpy(p, v.v, (size_t)n * sizeof(float)); }
RT_V16_FN rt_v16 v16_fma(rt_v16 a, rt_v16 b, rt_v16 c)
{
    RT_V16_LANES(fmaf(a.v[i], b.v[i], c.v[i]));
}
RT_V16_FN rt_v16 v16_add(rt_v16 a, rt_v16 b) { RT_V16_QUARTERS(+); }
RT_V16_FN rt_v16 v16_sub(rt_v16 a, rt_v16 b) { RT_V16_QUARTERS(-); }
RT_V16_FN rt_v16 v16_mul(rt_v16 a, rt_v16 b) { RT_V16_QUARTERS(*); }
RT_V16_FN rt_v16 v16_div(rt_v16 a, rt_v16 b) { RT_V16_QUARTERS(/); }
RT_V16_FN rt_v16 v16_if_lt(rt_v16 a, rt_v16 b, rt_v16 yes, rt_v16 no)
{
    return v16_of(v4_if_lt(RT_V16_QUARTER(a, 0), RT_V16_QUARTER(b, 0), RT_V16_QUARTER(yes, 0),
                           RT_V16_QUARTER(no, 0)),
                  v4_if_lt(RT_V16_QUARTER(a, 1), RT_V16_QUARTER(b, 1), RT_V16_QUARTER(yes, 1),
                           RT_V16_QUARTER(no, 1)),
                  v4_if_lt(RT_V16_QUARTER(a, 2), RT_V16_QUARTER(b, 2), RT_V16_QUARTER(yes, 2),
                           RT_V16_QUARTER(no, 2)),
                  v4_if_lt(RT_V16_QUARTER(a, 3), RT_V16_QUARTER(b, 3), RT_V16_QUARTER(yes, 3),
                           RT_V16_QUARTER(no, 3)));
}
RT_V16_FN rt_v16 v16_max(rt_v16 a, rt_v16 b) { return v16_if_lt(b, a, a, b); }
RT_V16_FN rt_v16 v16_min(rt_v16 a, rt_v16 b) { return v16_if_lt(a, b, a, b); }
RT_V16_FN rt_v16 v16_sqrt(rt_v16 a) { RT_V16_LANES(sqrtf(a.v[i])); }
RT_V16_FN unsigned v16_lt_bits(rt_v16 a, rt_v16 b)
{
    unsigned bits = 0;
    for (int i = 0; i < 16; i++)
        bits |= (unsigned)(a.v[i] < b.v[i]) << i;
    return bits;
}
RT_V16_FN rt_v16 v16_round_f16(rt_v16 a) { RT_V16_LANES(rt_f16_to_f32(rt_f32_to_f16(a.v[i]))); }
RT_V16_FN rt_v16 v16_where_ge(rt_v16 x, rt_v16 key, rt_v16 edge)
{
    RT_V16_LANES(key.v[i] >= edge.v[i] ? x.v[i] : 0.0f);
}
RT_V16_FN void v16_transpose(rt_v16 r[16])
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++) {
            float t = r[i].v[j];
            r[i].v[j] = r[j].v[i];
            r[j].v[i] = t;
        }
}

#endif

/* 64 bytes of any alignment and meaning, which are only moved */
RT_V16_FN rt_v16 v16_load_bytes(const uint8_t *p)
{
#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
    return v16_load((const float *)(const void *)p);
#else
    rt_v16 r;
    memcpy(r.v, p, sizeof r.v);
    return r;
#endif
}

/* The fixed tree of the contract over the 16 lanes: (l, l+8), (l, l+4), (l, l+2), (l, l+1). */
RT_V16_FN float v16_sum(rt_v16 x)
{
    float t[16];
    v16_store(t, x);
    for (int step = 8; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            t[i] += t[i + step];
    return t[0];
}

RT_V16_FN float v16_max_lane(rt_v16 x)
{
    float t[16];
    v16_store(t, x);
    for (int step = 8; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            t[i] = t[i] > t[i + step] ? t[i] : t[i + step];
    return t[0];
}

#endif
