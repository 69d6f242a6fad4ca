/* isa_int8.c: the inner loops of int8 products (int8.h), compiled once for each instruction set and
   again where it multiplies bytes in one instruction. CMake defines RT_ISA_<scalar, avx2, avx512>,
   and RT_VNNI, and RT_INT8_EXPORT, the name of what leaves: one table. Integers are exact and every
   output is one chain, so all copies give the same bits. */
#include "core/device/cpu/int8.h"

#include <math.h>
#include <string.h>

#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
#include <immintrin.h>
#endif

#define FN static inline __attribute__((always_inline, unused))

/* --- lanes ---------------------------------------------------------------------------------------
   As many of a panel's 16 rows as a register has. vi: 32 bits each, or four bytes; vf: f32 each.
   dot: += the sum of four products of bytes; u is unsigned, and below 128 unless `wide`; those at q
   are signed and the same for all lanes. */

#if defined(RT_ISA_avx512)

enum { LANES = 16, ROWS = 8 };
typedef __m512i vi;
typedef __m512 vf;
FN vi vi_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
FN vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
FN vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
FN vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
FN vi vi_shr(vi a, int n) { return _mm512_srli_epi32(a, (unsigned)n); }
FN vi vi_shl(vi a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
FN vi vi_lookup(const uint8_t table[16], vi a)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), a);
}
FN vi vi_dot(vi s, vi u, const int8_t *q, bool wide)
{
    int32_t word;
    memcpy(&word, q, sizeof word);
#if defined(RT_VNNI)
    (void)wide;
    return _mm512_dpbusd_epi32(s, u, _mm512_set1_epi32(word));
#else
    const vi ones = _mm512_set1_epi16(1), x = _mm512_set1_epi32(word);
    vi low = wide ? _mm512_and_si512(u, _mm512_set1_epi8(127)) : u;
    s = _mm512_add_epi32(s, _mm512_madd_epi16(_mm512_maddubs_epi16(low, x), ones));
    if (wide) { /* bit 7 by itself: two products of it with bytes would not fit 16 bits */
        vi high = _mm512_and_si512(_mm512_srli_epi16(u, 7), _mm512_set1_epi8(1));
        s = _mm512_add_epi32(
            s, _mm512_madd_epi16(_mm512_maddubs_epi16(high, x), _mm512_set1_epi16(128)));
    }
    return s;
#endif
}
FN vf vf_zero(void) { return _mm512_setzero_ps(); }
FN vf vf_set1(float x) { return _mm512_set1_ps(x); }
FN vf vf_of(vi a) { return _mm512_cvtepi32_ps(a); }
FN vf vf_f16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
FN __m128i bytes(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }
FN vf vf_u8(const uint8_t *p) { return vf_of(_mm512_cvtepu8_epi32(bytes(p))); }
FN vf vf_i8(const uint8_t *p) { return vf_of(_mm512_cvtepi8_epi32(bytes(p))); }
FN vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
FN vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
FN void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }

#elif defined(RT_ISA_avx2)

enum { LANES = 8, ROWS = 4 };
typedef __m256i vi;
typedef __m256 vf;
FN vi vi_load(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }
FN vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
FN vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
FN vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
FN vi vi_shr(vi a, int n) { return _mm256_srli_epi32(a, n); }
FN vi vi_shl(vi a, int n) { return _mm256_slli_epi32(a, n); }
FN vi vi_lookup(const uint8_t table[16], vi a)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table)),
                               a);
}
FN vi vi_dot(vi s, vi u, const int8_t *q, bool wide)
{
    int32_t word;
    memcpy(&word, q, sizeof word);
#if defined(RT_VNNI)
    (void)wide;
    return _mm256_dpbusd_avx_epi32(s, u, _mm256_set1_epi32(word));
#else
    const vi ones = _mm256_set1_epi16(1), x = _mm256_set1_epi32(word);
    vi low = wide ? _mm256_and_si256(u, _mm256_set1_epi8(127)) : u;
    s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(low, x), ones));
    if (wide) { /* bit 7 by itself: two products of it with bytes would not fit 16 bits */
        vi high = _mm256_and_si256(_mm256_srli_epi16(u, 7), _mm256_set1_epi8(1));
        s = _mm256_add_epi32(
            s, _mm256_madd_epi16(_mm256_maddubs_epi16(high, x), _mm256_set1_epi16(128)));
    }
    return s;
#endif
}
FN vf vf_zero(void) { return _mm256_setzero_ps(); }
FN vf vf_set1(float x) { return _mm256_set1_ps(x); }
FN vf vf_of(vi a) { return _mm256_cvtepi32_ps(a); }
FN vf vf_f16(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
FN __m128i bytes(const uint8_t *p) { return _mm_loadl_epi64((const void *)p); }
FN vf vf_u8(const uint8_t *p) { return vf_of(_mm256_cvtepu8_epi32(bytes(p))); }
FN vf vf_i8(const uint8_t *p) { return vf_of(_mm256_cvtepi8_epi32(bytes(p))); }
FN vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
FN vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
FN void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }

#else

enum { LANES = 1, ROWS = 4 };
typedef uint32_t vi;
typedef float vf;
FN vi vi_load(const uint8_t *p)
{
    vi a;
    memcpy(&a, p, sizeof a);
    return a;
}
FN vi vi_set1(int32_t x) { return (vi)x; }
FN vi vi_and(vi a, vi b) { return a & b; }
FN vi vi_or(vi a, vi b) { return a | b; }
FN vi vi_shr(vi a, int n) { return a >> n; }
FN vi vi_shl(vi a, int n) { return a << n; }
FN vi vi_lookup(const uint8_t table[16], vi a)
{
    uint8_t byte[4];
    memcpy(byte, &a, sizeof byte);
    for (int i = 0; i < 4; i++)
        byte[i] = table[byte[i]];
    return vi_load(byte);
}
FN vi vi_dot(vi s, vi u, const int8_t *q, bool wide)
{
    uint8_t byte[4];
    memcpy(byte, &u, sizeof byte);
    (void)wide;
    for (int i = 0; i < 4; i++)
        s += (vi)(byte[i] * q[i]);
    return s;
}
FN vf vf_zero(void) { return 0; }
FN vf vf_set1(float x) { return x; }
FN vf vf_of(vi a) { return (float)(int32_t)a; }
FN vf vf_f16(const uint8_t *p) { return rt_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }
FN vf vf_u8(const uint8_t *p) { return (float)*p; }
FN vf vf_i8(const uint8_t *p) { return (float)(int8_t)*p; }
FN vf vf_mul(vf a, vf b) { return a * b; }
FN vf vf_fma(vf a, vf b, vf c) { return fmaf(a, b, c); }
FN void vf_store(float *p, vf a) { *p = a; }

#endif

/* --- a panel times a tile of rows ------------------------------------------------------------- */

/* What IQ4_NL's codes mean, plus 128. */
static const uint8_t NUMBERS[16] = { 1,   24,  45,  63,  79,  93,  106, 118,
                                     129, 141, 153, 166, 181, 197, 217, 241 };

/* Codes 4 g .. 4 g + 3 of the lanes, of a block whose codes begin at p. */
FN vi codes_at(const int bits, const enum rt_int8_scales scales, const uint8_t *p, const int g)
{
    if (bits == 8)
        return vi_load(p + 64 * g);
    const vi low = vi_set1(0x0f0f0f0f);
    vi both = vi_load(p + g / 2 * 64), code = vi_and(g % 2 ? vi_shr(both, 4) : both, low);
    if (bits == 5) {
        vi fifth = vi_load(p + 256);
        fifth = g < 4 ? vi_shl(fifth, 4 - g) : vi_shr(fifth, g - 4);
        return vi_or(code, vi_and(fifth, vi_set1(0x10101010)));
    }
    if (bits == 6) {
        vi high = vi_load(p + 256 + g / 4 * 64);
        high = g % 4 < 3 ? vi_shl(high, 4 - 2 * (g % 4)) : vi_shr(high, 2);
        return vi_or(code, vi_and(high, vi_set1(0x30303030)));
    }
    return scales == RT_INT8_TABLE ? vi_lookup(NUMBERS, code) : code;
}

enum { AHEAD = 2048 /* bytes: of the panel what is asked for before its turn */ };

/* LANES rows of the panel, from row `part` on. */
FN void dot_part(const int m, const int bits, const enum rt_int8_scales scales, const int part,
                 const uint8_t *p, int64_t blocks, const struct rt_int8_block *x, float *c)
{
    const bool k = scales == RT_INT8_K, halves = scales == RT_INT8_HALVES;
    const bool min = scales == RT_INT8_MIN || k;
    vf sum[ROWS], d = vf_zero(), dmin = vf_zero();
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        sum[i] = vf_zero();
    for (int64_t b = 0; b < blocks; b++, x += m) {
        vf s, s1 = vf_zero(), add = vf_zero(), first[ROWS];
        vi t[ROWS];
        if ((k || halves) && b % 8 == 0) {
            d = vf_f16(p + 2 * part);
            dmin = k ? vf_f16(p + 32 + 2 * part) : dmin;
            p += k ? 64 : 32;
        }
        if (k) {
            s = vf_mul(d, vf_u8(p + part));
            add = vf_mul(dmin, vf_u8(p + 16 + part));
        } else if (halves) {
            s = vf_i8(p + part);
            s1 = vf_i8(p + 16 + part);
        } else {
            s = vf_f16(p + 2 * part);
            add = min ? vf_f16(p + 32 + 2 * part) : add;
        }
        p += scales == RT_INT8_MIN ? 64 : 32;
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            t[i] = vi_set1(x[i].base[0]);
#pragma GCC unroll 8
        for (int g = 0; g < 8; g++) {
            vi u = codes_at(bits, scales, p + 4 * part, g);
            if (g <= bits) /* line by line; of 8 bits one is left to the hardware */
                __builtin_prefetch(p + AHEAD + 64 * g);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) {
                if (halves && g == 4) {
                    first[i] = vf_mul(vf_of(t[i]), s);
                    t[i] = vi_set1(x[i].base[1]);
                }
                t[i] = vi_dot(t[i], u, x[i].q + 4 * g, bits == 8 || scales == RT_INT8_TABLE);
            }
        }
        p += 64 * bits;
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            if (halves) /* whole numbers below 2^24: exactly */
                sum[i] = vf_fma(vf_fma(vf_of(t[i]), s1, first[i]), vf_mul(d, vf_set1(x[i].d)),
                                sum[i]);
            else
                sum[i] = vf_fma(vf_of(t[i]), vf_mul(s, vf_set1(x[i].d)), sum[i]);
            if (min)
                sum[i] = vf_fma(add, vf_set1(x[i].sum), sum[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        vf_store(c + i * RT_INT8_PANEL + part, sum[i]);
}

FN void dot(const int m, const int bits, const enum rt_int8_scales scales, const uint8_t *p,
            int64_t blocks, const struct rt_int8_block *x, float *c)
{
    for (int part = 0; part < RT_INT8_PANEL; part += LANES)
        dot_part(m, bits, scales, part, p, blocks, x, c);
}

#define DOT(name, bits, scales, m)                                                                 \
    static void dot_##name##_##m(const uint8_t *p, int64_t blocks, const struct rt_int8_block *x,  \
                                 float *c)                                                         \
    {                                                                                              \
        dot(m, bits, scales, p, blocks, x, c);                                                     \
    }
#if defined(RT_ISA_avx512)
#define DOT_8(name, bits, scales) DOT(name, bits, scales, 8)
#define NAME_8(name) dot_##name##_8
#else
#define DOT_8(name, bits, scales)
#define NAME_8(name) NULL
#endif
#define DOTS(name, dtype, bits, scales, zero)                                                      \
    DOT(name, bits, scales, 1)                                                                     \
    DOT(name, bits, scales, 2) DOT(name, bits, scales, 4) DOT_8(name, bits, scales)
RT_INT8_FORMS(DOTS)

static rt_int8_dot_fn *const dots[RT_INT8_KINDS][4] = {
#define NAMES(name, dtype, bits, scales, zero)                                                     \
    { dot_##name##_1, dot_##name##_2, dot_##name##_4, NAME_8(name) },
    RT_INT8_FORMS(NAMES)
};

/* --- activations ------------------------------------------------------------------------------ */

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* One block. Sizes are compared as the whole numbers that their bits are. A small number added to
   3 * 2^22 is rounded to a whole one, ties to even, whose low byte is that of the sum. */
FN void round_block(struct rt_int8_block *o, const float *x, int64_t zero, bool halves)
{
    uint32_t most = 0;
    for (int j = 0; j < RT_INT8_BLOCK; j++) {
        uint32_t size = bits_of(x[j]) & 0x7fffffff;
        most = most > size ? most : size;
    }
    float amax;
    memcpy(&amax, &most, sizeof amax);
    memset(o, 0, sizeof *o);
    if (most >= 0x7f800000)
        o->d = o->sum = NAN;
    if (most >= 0x7f800000 || amax < 0x1p-120f)
        return;
    float inverse = 127.0f / amax;
    int32_t sum[2] = { 0, 0 };
    for (int j = 0; j < RT_INT8_BLOCK; j++)
        o->q[j] = (int8_t)(uint8_t)bits_of(x[j] * inverse + 12582912.0f);
    for (int j = 0; j < RT_INT8_BLOCK / 2; j++) {
        sum[0] += o->q[j];
        sum[1] += o->q[RT_INT8_BLOCK / 2 + j];
    }
    o->d = amax / 127.0f;
    o->sum = o->d * (float)(sum[0] + sum[1]);
    o->base[0] = -(int32_t)zero * (halves ? sum[0] : sum[0] + sum[1]);
    o->base[1] = -(int32_t)zero * sum[1];
}

static void round_row(struct rt_int8_block *out, int64_t step, const float *x, int64_t n,
                      int64_t zero, bool halves)
{
    for (int64_t k = 0; k < n; k += RT_INT8_BLOCK, out += step)
        round_block(out, x + k, zero, halves);
}

/* --- the table -------------------------------------------------------------------------------- */

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#if defined(RT_ISA_avx512)
#define SIMD RT_SIMD_AVX512
#elif defined(RT_ISA_avx2)
#define SIMD RT_SIMD_AVX2
#else
#define SIMD RT_SIMD_SCALAR
#endif

const struct rt_int8_isa RT_INT8_EXPORT = {
    .name = &TEXT(RT_INT8_EXPORT)[sizeof "rt_int8"],
    .simd = SIMD,
#if defined(RT_VNNI)
    .vnni = true,
#endif
    .rows = ROWS,
    .dot = dots,
    .round = round_row,
};
