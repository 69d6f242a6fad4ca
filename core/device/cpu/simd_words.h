/* simd_words.h: rt_v16i, sixteen 32-bit words beside the lanes of simd.h, in the same three implementations
   with the same bits: words and bytes of sixteen rows brought into lanes, and what their bits mean as f32.
   For isa_unpack.h and isa_columns.h. */
#ifndef RT_CPU_SIMD_WORDS_H
#define RT_CPU_SIMD_WORDS_H

#include "core/device/cpu/simd.h"

#if defined(RT_ISA_avx512)

typedef __m512i rt_v16i;

RT_V16_FN rt_v16i v16i_words(const uint32_t w[16]) { return _mm512_loadu_si512(w); }
RT_V16_FN rt_v16i v16i_load_halves(const uint8_t *p) /* sixteen times 16 bits */
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
}
RT_V16_FN rt_v16i v16i_and(rt_v16i a, uint32_t mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi32((int)mask));
}
RT_V16_FN rt_v16i v16i_or(rt_v16i a, rt_v16i b) { return _mm512_or_si512(a, b); }
RT_V16_FN rt_v16i v16i_xor(rt_v16i a, uint32_t mask)
{
    return _mm512_xor_si512(a, _mm512_set1_epi32((int)mask));
}
RT_V16_FN rt_v16i v16i_shr(rt_v16i a, int n) { return _mm512_srli_epi32(a, (unsigned)n); }
RT_V16_FN rt_v16i v16i_shl(rt_v16i a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
RT_V16_FN rt_v16i v16i_sar(rt_v16i a, int n) { return _mm512_srai_epi32(a, (unsigned)n); }
RT_V16_FN rt_v16i v16i_add(rt_v16i a, uint32_t b)
{
    return _mm512_add_epi32(a, _mm512_set1_epi32((int)b));
}
RT_V16_FN rt_v16 v16_from_int(rt_v16i a) { return _mm512_cvtepi32_ps(a); }
RT_V16_FN rt_v16i v16i_bits(rt_v16 a) { return _mm512_castps_si512(a); }
RT_V16_FN rt_v16 v16_from_bits(rt_v16i a) { return _mm512_castsi512_ps(a); }
/* of the low halves */
RT_V16_FN rt_v16 v16_from_f16(rt_v16i a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }
/* (a & mask) | b */
RT_V16_FN rt_v16i v16i_and_or(rt_v16i a, uint32_t mask, uint32_t b)
{
    return _mm512_ternarylogic_epi32(a, _mm512_set1_epi32((int)mask), _mm512_set1_epi32((int)b),
                                     0xea);
}
/* the bits of a where mask has ones, of b elsewhere */
RT_V16_FN rt_v16i v16i_mix(uint32_t mask, rt_v16i a, rt_v16i b)
{
    return _mm512_ternarylogic_epi32(_mm512_set1_epi32((int)mask), a, b, 0xca);
}
/* table[the low four bits of a] */
RT_V16_FN rt_v16 v16_lookup(const float table[16], rt_v16i a)
{
    return _mm512_permutexvar_ps(a, _mm512_loadu_ps(table));
}
/* 16 bytes at `at` of rows i, i + 4, i + 8, i + 12. There are more rows than registers for their
   addresses: hidden from the compiler, which would keep all it ever loaded, they are loaded where
   they are used. */
RT_V16_FN __m512i load_quarters(const uint8_t *const row[16], int i, int64_t at)
{
    __asm__("" : "+r"(row));
    __m512i z = _mm512_castsi128_si512(_mm_loadu_si128((const void *)(row[i] + at)));
    z = _mm512_inserti32x4(z, _mm_loadu_si128((const void *)(row[i + 4] + at)), 1);
    z = _mm512_inserti32x4(z, _mm_loadu_si128((const void *)(row[i + 8] + at)), 2);
    return _mm512_inserti32x4(z, _mm_loadu_si128((const void *)(row[i + 12] + at)), 3);
}
/* out[j] = word j of the 16 bytes at row[i] + at, for the rows i */
RT_V16_FN void v16i_load4(rt_v16i out[4], const uint8_t *const row[16], int64_t at)
{
    __m512i z[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        z[i] = load_quarters(row, i, at);
    __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
    __m512i c = _mm512_unpacklo_epi32(z[2], z[3]), d = _mm512_unpackhi_epi32(z[2], z[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}
/* The same for 8 words and 32 bytes: half the loads. */
RT_V16_FN void v16i_load8(rt_v16i out[8], const uint8_t *const row[16], int64_t at)
{
    __m512i z[8], t[8];
    __asm__("" : "+r"(row));
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) { /* rows i and i + 4 of both halves of the sixteen */
        const uint8_t *const *r = row + i / 4 * 8 + i % 4;
        z[i] = _mm512_inserti64x4(
            _mm512_castsi256_si512(_mm256_loadu_si256((const void *)(r[0] + at))),
            _mm256_loadu_si256((const void *)(r[4] + at)), 1);
    }
#pragma GCC unroll 2
    for (int h = 0; h < 8; h += 4) {
        __m512i a = _mm512_unpacklo_epi32(z[h], z[h + 1]),
                b = _mm512_unpackhi_epi32(z[h], z[h + 1]),
                c = _mm512_unpacklo_epi32(z[h + 2], z[h + 3]),
                d = _mm512_unpackhi_epi32(z[h + 2], z[h + 3]);
        t[h] = _mm512_unpacklo_epi64(a, c);
        t[h + 1] = _mm512_unpackhi_epi64(a, c);
        t[h + 2] = _mm512_unpacklo_epi64(b, d);
        t[h + 3] = _mm512_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        out[j] = _mm512_shuffle_i32x4(t[j], t[j + 4], 0x88);
        out[j + 4] = _mm512_shuffle_i32x4(t[j], t[j + 4], 0xdd);
    }
}
#define RT_V16_LOAD8 1

#elif defined(RT_ISA_avx2)

typedef struct {
    __m256i lo, hi;
} rt_v16i;

RT_V16_FN rt_v16i v16i_of(__m256i lo, __m256i hi)
{
    rt_v16i v = { lo, hi };
    return v;
}
RT_V16_FN rt_v16i v16i_words(const uint32_t w[16])
{
    return v16i_of(_mm256_loadu_si256((const void *)w), _mm256_loadu_si256((const void *)(w + 8)));
}
RT_V16_FN rt_v16i v16i_load_halves(const uint8_t *p)
{
    return v16i_of(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)),
                   _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p + 16))));
}
RT_V16_FN rt_v16i v16i_and(rt_v16i a, uint32_t mask)
{
    __m256i m = _mm256_set1_epi32((int)mask);
    return v16i_of(_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m));
}
RT_V16_FN rt_v16i v16i_or(rt_v16i a, rt_v16i b)
{
    return v16i_of(_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi));
}
RT_V16_FN rt_v16i v16i_xor(rt_v16i a, uint32_t mask)
{
    __m256i m = _mm256_set1_epi32((int)mask);
    return v16i_of(_mm256_xor_si256(a.lo, m), _mm256_xor_si256(a.hi, m));
}
RT_V16_FN rt_v16i v16i_and_or(rt_v16i a, uint32_t mask, uint32_t b)
{
    return v16i_or(v16i_and(a, mask),
                   v16i_of(_mm256_set1_epi32((int)b), _mm256_set1_epi32((int)b)));
}
RT_V16_FN rt_v16i v16i_mix(uint32_t mask, rt_v16i a, rt_v16i b)
{
    return v16i_or(v16i_and(a, mask), v16i_and(b, ~mask));
}
RT_V16_FN rt_v16i v16i_add(rt_v16i a, uint32_t b)
{
    __m256i x = _mm256_set1_epi32((int)b);
    return v16i_of(_mm256_add_epi32(a.lo, x), _mm256_add_epi32(a.hi, x));
}
RT_V16_FN rt_v16i v16i_bits(rt_v16 a)
{
    return v16i_of(_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi));
}
RT_V16_FN rt_v16i v16i_shr(rt_v16i a, int n)
{
    return v16i_of(_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n));
}
RT_V16_FN rt_v16i v16i_shl(rt_v16i a, int n)
{
    return v16i_of(_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n));
}
RT_V16_FN rt_v16i v16i_sar(rt_v16i a, int n)
{
    return v16i_of(_mm256_srai_epi32(a.lo, n), _mm256_srai_epi32(a.hi, n));
}
RT_V16_FN rt_v16 v16_from_int(rt_v16i a)
{
    return v16_of(_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi));
}
RT_V16_FN rt_v16 v16_from_bits(rt_v16i a)
{
    return v16_of(_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi));
}
RT_V16_FN __m256 f16_low_halves(__m256i a)
{
    __m256i low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}
RT_V16_FN rt_v16 v16_from_f16(rt_v16i a)
{
    return v16_of(f16_low_halves(a.lo), f16_low_halves(a.hi));
}
RT_V16_FN rt_v16 v16_lookup(const float table[16], rt_v16i a)
{
    __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
    rt_v16i above = v16i_shl(a, 28); /* bit 3 as the sign that blendv looks at */
    return v16_of(
        _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, a.lo), _mm256_permutevar8x32_ps(high, a.lo),
                         _mm256_castsi256_ps(above.lo)),
        _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, a.hi), _mm256_permutevar8x32_ps(high, a.hi),
                         _mm256_castsi256_ps(above.hi)));
}
RT_V16_FN void load4_8(__m256i out[4], const uint8_t *const row[8], int64_t at)
{
    __m256i z[4];
    __asm__("" : "+r"(row)); /* addresses are loaded where they are used: too many to keep */
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        z[i] = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const void *)(row[i] + at))),
            _mm_loadu_si128((const void *)(row[i + 4] + at)), 1);
    __m256i a = _mm256_unpacklo_epi32(z[0], z[1]), b = _mm256_unpackhi_epi32(z[0], z[1]);
    __m256i c = _mm256_unpacklo_epi32(z[2], z[3]), d = _mm256_unpackhi_epi32(z[2], z[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[1] = _mm256_unpackhi_epi64(a, c);
    out[2] = _mm256_unpacklo_epi64(b, d);
    out[3] = _mm256_unpackhi_epi64(b, d);
}
RT_V16_FN void v16i_load4(rt_v16i out[4], const uint8_t *const row[16], int64_t at)
{
    __m256i lo[4], hi[4];
    load4_8(lo, row, at);
    load4_8(hi, row + 8, at);
    for (int j = 0; j < 4; j++)
        out[j] = v16i_of(lo[j], hi[j]);
}

#else

typedef struct {
    uint32_t v[16];
} rt_v16i;

/* Sixteen checked copies of every lane would take the sanitizers' builds minutes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RT_V16I_FN static __attribute__((noinline, unused))
#else
#define RT_V16I_FN RT_V16_FN
#endif
#define RT_V16I_LANES(expression)                                                                  \
    rt_v16i r;                                                                                     \
    RT_V16_LOOP                                                                                    \
    for (int i = 0; i < 16; i++)                                                                   \
        r.v[i] = (expression);                                                                     \
    return r

RT_V16I_FN rt_v16i v16i_words(const uint32_t w[16]) { RT_V16I_LANES(w[i]); }
RT_V16I_FN rt_v16i v16i_load_halves(const uint8_t *p)
{
    RT_V16I_LANES((uint32_t)(p[2 * i] | p[2 * i + 1] << 8));
}
RT_V16I_FN rt_v16i v16i_and(rt_v16i a, uint32_t mask) { RT_V16I_LANES(a.v[i] & mask); }
RT_V16I_FN rt_v16i v16i_xor(rt_v16i a, uint32_t mask) { RT_V16I_LANES(a.v[i] ^ mask); }
RT_V16I_FN rt_v16i v16i_or(rt_v16i a, rt_v16i b) { RT_V16I_LANES(a.v[i] | b.v[i]); }
RT_V16I_FN rt_v16i v16i_shr(rt_v16i a, int n) { RT_V16I_LANES(a.v[i] >> n); }
RT_V16I_FN rt_v16i v16i_shl(rt_v16i a, int n) { RT_V16I_LANES(a.v[i] << n); }
RT_V16I_FN rt_v16i v16i_sar(rt_v16i a, int n) { RT_V16I_LANES((uint32_t)((int32_t)a.v[i] >> n)); }
RT_V16I_FN rt_v16i v16i_add(rt_v16i a, uint32_t b) { RT_V16I_LANES(a.v[i] + b); }
RT_V16I_FN rt_v16 v16_from_int(rt_v16i a) { RT_V16_LANES((float)(int32_t)a.v[i]); }
RT_V16I_FN rt_v16i v16i_bits(rt_v16 a)
{
    rt_v16i r;
    memcpy(r.v, a.v, sizeof r.v);
    return r;
}
RT_V16I_FN rt_v16 v16_from_bits(rt_v16i a)
{
    rt_v16 r;
    memcpy(r.v, a.v, sizeof r.v);
    return r;
}
RT_V16I_FN rt_v16 v16_from_f16(rt_v16i a) { RT_V16_LANES(rt_f16_to_f32((uint16_t)a.v[i])); }
RT_V16I_FN rt_v16i v16i_mix(uint32_t mask, rt_v16i a, rt_v16i b)
{
    RT_V16I_LANES((a.v[i] & mask) | (b.v[i] & ~mask));
}
RT_V16I_FN rt_v16 v16_lookup(const float table[16], rt_v16i a) { RT_V16_LANES(table[a.v[i] & 15]); }
RT_V16I_FN void v16i_load4(rt_v16i out[4], const uint8_t *const row[16], int64_t at)
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 4; j++)
            memcpy(&out[j].v[i], row[i] + at + 4 * j, 4);
}

#endif

/* The `bits` bits of a from bit `at` on, less `less`: a small whole number, so exactly. Where they
   lie they are the last bits of a float whose exponent gives them their worth, so that a number
   costs a mask and a subtraction; those too high for that come down together. */
RT_V16_FN rt_v16 v16_field(rt_v16i a, int at, int bits, float less)
{
    uint32_t mask = (1u << bits) - 1;
#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
    int down = at + bits <= 23 ? 0 : at >= 16 ? 16 : 8, place = at - down;
    rt_v16 y = v16_from_bits(
        v16i_and_or(v16i_shr(a, down), mask << place, (uint32_t)(127 + 23 - place) << 23));
    return v16_sub(y, v16_set1((float)(1 << (23 - place)) + less));
#else
    return v16_sub(v16_from_int(v16i_and(v16i_shr(a, at), mask)), v16_set1(less));
#endif
}

/* a b + c where a b is exact, so that the sum is rounded once however it is made. */
RT_V16_FN rt_v16 v16_exact_fma(rt_v16 a, rt_v16 b, rt_v16 c)
{
#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
    return v16_fma(a, b, c);
#else
    return v16_add(v16_mul(a, b), c); /* fmaf of the oldest machines is a long function */
#endif
}

/* The four bits of a from bit `at` on, less `less`: a permutation looks at four bits only. */
RT_V16_FN rt_v16 v16_nibble(rt_v16i a, int at, float less)
{
#if defined(RT_ISA_avx512)
    const rt_v16 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(v16i_shr(a, at), _mm512_sub_ps(numbers, _mm512_set1_ps(less)));
#else
    return v16_field(a, at, 4, less);
#endif
}

RT_V16_FN rt_v16i v16i_lookup(const uint32_t table[16], rt_v16i a)
{
    float t[16];
    memcpy(t, table, sizeof t);
    return v16i_bits(v16_lookup(t, a));
}

#ifndef RT_V16_LOAD8
RT_V16_FN void v16i_load8(rt_v16i out[8], const uint8_t *const row[16], int64_t at)
{
    v16i_load4(out, row, at);
    v16i_load4(out + 4, row, at + 16);
}
#endif

/* The first or the last word of the 16 bytes at row[i] + at, for the rows i */
RT_V16_FN rt_v16i v16i_load_first(const uint8_t *const row[16], int64_t at)
{
    rt_v16i w[4];
    v16i_load4(w, row, at);
    return w[0];
}
RT_V16_FN rt_v16i v16i_load_last(const uint8_t *const row[16], int64_t at)
{
    rt_v16i w[4];
    v16i_load4(w, row, at);
    return w[3];
}

#endif
