/* isa_codes.h: codes of checkpoints taken out of their words, a function a format, included by isa.c
   once an instruction set. Sixteen rows of the weight are sixteen lanes: their 32-bit words are
   turned into lanes once, and every code is then taken out of its word, so that a step of k costs a
   few instructions for 16 weights and no shuffle. The values are those of core/base/decode.c and
   core/device/piece.c, bit for bit. Refuses: where rows lie, scales that lie apart (isa_unpack.h). */
#include "core/device/cpu/simd_words.h"

/* The scalar copy is for machines and sanitizers that have no time to unroll it sixteen lanes deep.
 */
#if (defined(RT_ISA_avx512) || defined(RT_ISA_avx2)) && !defined(__SANITIZE_ADDRESS__)
#define UNROLL_TEXT(text) _Pragma(#text)
#define UNROLL(n) UNROLL_TEXT(GCC unroll n)
#define TAKE_FN RT_V16_FN
#else
#define UNROLL(n) _Pragma("GCC unroll 1")
#define TAKE_FN static __attribute__((noinline, unused))
#endif

enum {
    UNPACK = 32, /* elements of k of the smallest step; k starts at a multiple of a format's */
    GROUPS = 2   /* sets of 16 rows in a panel */
};
#if defined(RT_ISA_avx512)
enum { DOT_GROUPS = 4 }; /* chains side by side, each of which waits for itself */
#else
enum { DOT_GROUPS = 2 };
#endif

/* Where the elements of sets of 16 rows (g) go, k ascending in each: the columns of a panel at out,
   or the chains of a product with one row, x, into sum. */
struct sink {
    int groups;
    float *out;
    const float *x;
    rt_v16 sum[DOT_GROUPS];
    const float *scale; /* of each row, that multiplies elements; or NULL */
    const uint8_t *line, *ahead; /* of what will be read: the lines before `ahead` are asked for */
    int64_t ahead_step;          /* bytes of four elements of all rows */
};

TAKE_FN void put(struct sink *o, int g, int64_t e, rt_v16 y)
{
    if (g == 0 && (e & 3) == 0) /* evenly: many at once would hold up other loads */
        for (o->ahead += o->ahead_step; o->line < o->ahead; o->line += 64)
            __builtin_prefetch(o->line, 0, 2);
    if (o->scale)
        y = v16_mul(y, v16_load(o->scale + 16 * g));
    if (o->out)
        v16_store(o->out + e * RT_PANEL + 16 * g, y);
    else
        o->sum[g] = v16_fma(v16_set1(o->x[e]), y, o->sum[g]);
}

#define EACH UNROLL(4) for (int g = 0; g < o->groups; g++)
#define BYTES UNROLL(4) for (int b = 0; b < 4; b++)

/* The 16 words at row[i] + at of every row: w[j] has word j of each. A line of a row is read whole:
   rows whose length is a power of two share a place in the cache, and would drive each other out.
 */
TAKE_FN void words_of(rt_v16 w[16], const uint8_t *const row[16], int64_t at)
{
    for (int i = 0; i < 16; i++)
        w[i] = v16_load_bytes(row[i] + at);
    v16_transpose(w);
}

/* w[0 .. n) = the n words at row[i] + at of every row, n >= 4 */
TAKE_FN void words_at(rt_v16i *w, const uint8_t *const row[16], int64_t at, int n)
{
    int j = 0;
    rt_v16i last[4];
    for (; j + 8 <= n; j += 8)
        v16i_load8(w + j, row, at + 4 * j);
    for (; j + 4 <= n; j += 4)
        v16i_load4(w + j, row, at + 4 * j);
    if (j == n)
        return;
    v16i_load4(last, row, at + 4 * (n - 4)); /* nothing past the last is read */
    for (; j < n; j++)
        w[j] = last[j - (n - 4)];
}

TAKE_FN void take_f32(struct sink *o, const uint8_t *const *row, int64_t k)
{
    for (int at = 0; at < UNPACK; at += 16)
        for (int g = 0; g < o->groups; g++) {
            rt_v16 w[16];
            words_of(w, row + 16 * g, 4 * (k + at));
            for (int j = 0; j < 16; j++)
                put(o, g, at + j, w[j]);
        }
}

/* Two numbers a word. */
TAKE_FN void take_halves(struct sink *o, const uint8_t *const *row, int64_t k, bool bf16)
{
    for (int g = 0; g < o->groups; g++) {
        rt_v16 w[16];
        words_of(w, row + 16 * g, 2 * k);
        for (int j = 0; j < 16; j++) {
            rt_v16i both = v16i_bits(w[j]);
            put(o, g, 2 * j,
                bf16 ? v16_from_bits(v16i_shl(both, 16)) : v16_from_f16(v16i_and(both, 0xffff)));
            put(o, g, 2 * j + 1,
                bf16 ? v16_from_bits(v16i_and(both, 0xffff0000u)) : v16_from_f16(v16i_shr(both, 16)));
        }
    }
}

TAKE_FN void take_bf16(struct sink *o, const uint8_t *const *row, int64_t k)
{
    take_halves(o, row, k, true);
}

TAKE_FN void take_f16(struct sink *o, const uint8_t *const *row, int64_t k)
{
    take_halves(o, row, k, false);
}

/* Byte b of a word: sign, 4 bits of exponent (bias 7), 3 of mantissa; all ones are not a number.
   With the exponent moved to f32's, below 2^-6 the mantissa wants no leading one: less 2^-6 twice
   the number is that, and is the larger above. */
TAKE_FN rt_v16 number_of_e4m3(rt_v16i w, int b)
{
    rt_v16i code = v16i_shl(w, 24 - 8 * b);
    rt_v16 y = v16_from_bits(v16i_add(v16i_and(v16i_shr(code, 4), 127u << 20), 120u << 23));
    rt_v16 small = v16_exact_fma(y, v16_set1(2), v16_set1(-0x1p-6f));
    small = v16_if_lt(y, v16_set1(480), small, v16_set1(NAN));
    return v16_from_bits(v16i_mix(0x80000000u, code, v16i_bits(v16_min(y, small))));
}

TAKE_FN void take_f8_e4m3(struct sink *o, const uint8_t *const *row, int64_t k)
{
    rt_v16i w[DOT_GROUPS][8];
    EACH v16i_load8(w[g], row + 16 * g, k);
    for (int j = 0; j < 8; j++)
        BYTES EACH put(o, g, 4 * j + b, number_of_e4m3(w[g][j], b));
}

TAKE_FN void take_q8_0(struct sink *o, const uint8_t *const *row, int64_t k)
{
    int64_t at = k / 32 * 34;
    rt_v16 d[DOT_GROUPS];
    EACH d[g] = v16_from_f16(v16i_load_first(row + 16 * g, at));
    rt_v16i w[DOT_GROUPS][8];
    EACH v16i_load8(w[g], row + 16 * g, at + 2);
    for (int j = 0; j < 8; j++) {
        rt_v16i code[DOT_GROUPS];
        EACH code[g] = v16i_xor(w[g][j], 0x80808080u); /* each more by 128 */
        BYTES EACH put(o, g, 4 * j + b, v16_mul(d[g], v16_field(code[g], 8 * b, 8, 128)));
    }
}

/* d times a code of at most 5 bits is exact in f32, as the product of 11 and 5 bits: one rounding
   after m was added is the rounding of the sum alone. m NULL = nothing is added. */
TAKE_FN rt_v16 scaled(rt_v16 d, rt_v16 code, const rt_v16 *m)
{
    return m ? v16_exact_fma(d, code, *m) : v16_mul(d, code);
}

/* Four words of a row: low nibbles are elements 0 - 15, high ones 16 - 31; less a
   value, and m added where there is one. */
TAKE_FN void take_nibbles(struct sink *o, rt_v16i (*w)[4], const rt_v16 *d, float less,
                          const rt_v16 *m)
{
    UNROLL(2)
    for (int high = 0; high < 2; high++)
        for (int j = 0; j < 4; j++)
            BYTES EACH put(
                o, g, 16 * high + 4 * j + b,
                scaled(d[g], v16_nibble(w[g][j], 8 * b + 4 * high, less), m ? &m[g] : NULL));
}

/* The same with fifth bits, element j's at bit j of a word a row. */
TAKE_FN void take_fives(struct sink *o, const rt_v16i *w, int ld, const rt_v16 *d,
                        const rt_v16i *fifth, float less, const rt_v16 *m)
{
    static const uint32_t spread[16] = { /* bit b as bit 4 of byte b */
                                         0x00000000, 0x00000010, 0x00001000, 0x00001010,
                                         0x00100000, 0x00100010, 0x00101000, 0x00101010,
                                         0x10000000, 0x10000010, 0x10001000, 0x10001010,
                                         0x10100000, 0x10100010, 0x10101000, 0x10101010
    };
    UNROLL(2)
    for (int high = 0; high < 2; high++)
        for (int j = 0; j < 4; j++) {
            rt_v16i code[DOT_GROUPS];
            EACH code[g] = v16i_mix(0x0f0f0f0f, v16i_shr(w[g * ld + j], 4 * high),
                                    v16i_lookup(spread, v16i_shr(fifth[g], 16 * high + 4 * j)));
            BYTES EACH put(o, g, 16 * high + 4 * j + b,
                           scaled(d[g], v16_field(code[g], 8 * b, 5, less), m ? &m[g] : NULL));
        }
}

TAKE_FN void take_q4_0(struct sink *o, const uint8_t *const *row, int64_t k)
{
    int64_t at = k / 32 * 18;
    rt_v16 d[DOT_GROUPS];
    rt_v16i w[DOT_GROUPS][4];
    EACH d[g] = v16_from_f16(v16i_load_first(row + 16 * g, at));
    EACH v16i_load4(w[g], row + 16 * g, at + 2);
    take_nibbles(o, w, d, 8, NULL);
}

/* d in the low, m in the high half of a word */
TAKE_FN void split_d_m(rt_v16 *d, rt_v16 *m, rt_v16i both)
{
    *d = v16_from_f16(v16i_and(both, 0xffff));
    *m = v16_from_f16(v16i_shr(both, 16));
}

TAKE_FN void take_q4_1(struct sink *o, const uint8_t *const *row, int64_t k)
{
    int64_t at = k / 32 * 20;
    rt_v16 d[DOT_GROUPS], m[DOT_GROUPS];
    rt_v16i w[DOT_GROUPS][4];
    EACH split_d_m(&d[g], &m[g], v16i_load_first(row + 16 * g, at));
    EACH v16i_load4(w[g], row + 16 * g, at + 4);
    take_nibbles(o, w, d, 0, m);
}

TAKE_FN void take_q5_0(struct sink *o, const uint8_t *const *row, int64_t k)
{
    int64_t at = k / 32 * 22;
    rt_v16 d[DOT_GROUPS];
    rt_v16i fifth[DOT_GROUPS], w[DOT_GROUPS][5];
    EACH d[g] = v16_from_f16(v16i_load_first(row + 16 * g, at));
    EACH
    {
        words_at(w[g], row + 16 * g, at + 2, 5);
        fifth[g] = w[g][0];
    }
    take_fives(o, &w[0][1], 5, d, fifth, 16, NULL);
}

TAKE_FN void take_q5_1(struct sink *o, const uint8_t *const *row, int64_t k)
{
    rt_v16 d[DOT_GROUPS], m[DOT_GROUPS];
    rt_v16i fifth[DOT_GROUPS], w[DOT_GROUPS][6];
    EACH
    {
        words_at(w[g], row + 16 * g, k / 32 * 24, 6);
        split_d_m(&d[g], &m[g], w[g][0]);
        fifth[g] = w[g][1];
    }
    take_fives(o, &w[0][2], 6, d, fifth, 0, m);
}

/* 16 bytes at `at`: a table's entries, low nibbles first. */
TAKE_FN void take_table(struct sink *o, const uint8_t *const *row, int64_t at, const rt_v16 *d,
                        const float table[16])
{
    rt_v16i w[DOT_GROUPS][4];
    EACH v16i_load4(w[g], row + 16 * g, at);
    UNROLL(2)
    for (int high = 0; high < 2; high++)
        for (int j = 0; j < 4; j++)
            BYTES EACH put(o, g, 16 * high + 4 * j + b,
                           v16_mul(d[g], v16_lookup(table, v16i_shr(w[g][j], 8 * b + 4 * high))));
}

TAKE_FN void take_iq4_nl(struct sink *o, const uint8_t *const *row, int64_t k)
{
    static const float table[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113 };
    int64_t at = k / 32 * 18;
    rt_v16 d[DOT_GROUPS];
    EACH d[g] = v16_from_f16(v16i_load_first(row + 16 * g, at));
    take_table(o, row, at + 2, d, table);
}

/* 2^(e - 126 - less) in two steps, because numbers below 2^-126 are in reach */
TAKE_FN rt_v16 power_of(rt_v16i e, uint32_t less)
{
    rt_v16i one = v16i_shr(e, 1), rest = v16i_shr(v16i_add(e, 1), 1);
    return v16_mul(v16_from_bits(v16i_shl(v16i_add(one, 64 - less), 23)),
                   v16_from_bits(v16i_shl(v16i_add(rest, 64), 23)));
}

TAKE_FN void take_mxfp4(struct sink *o, const uint8_t *const *row, int64_t k)
{
    static const float table[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
    int64_t at = k / 32 * 17;
    rt_v16 d[DOT_GROUPS]; /* half of the scale: the table holds doubled numbers */
    EACH d[g] = power_of(v16i_and(v16i_load_first(row + 16 * g, at), 255), 2);
    take_table(o, row, at + 1, d, table);
}

/* Codes two a byte, the low one first, whose scales are elsewhere. */
TAKE_FN void take_pairs(struct sink *o, const uint8_t *const *row, int64_t k, const float table[16])
{
    rt_v16i w[DOT_GROUPS][4];
    EACH v16i_load4(w[g], row + 16 * g, k / 2);
    for (int j = 0; j < 4; j++)
        UNROLL(8)
    for (int b = 0; b < 8; b++)
        EACH put(o, g, 8 * j + b, v16_lookup(table, v16i_shr(w[g][j], 4 * b)));
}

TAKE_FN void take_e2m1(struct sink *o, const uint8_t *const *row, int64_t k)
{
    static const float table[16] = { 0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f };
    take_pairs(o, row, k, table);
}

TAKE_FN void take_int4(struct sink *o, const uint8_t *const *row, int64_t k)
{
    static const float table[16] = { -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7 };
    take_pairs(o, row, k, table);
}

/* Scale and minus minimum of sub-block j of 8, from the three words of six-bit numbers behind d and
   dmin. */
TAKE_FN void scales_of_k(rt_v16 *s, rt_v16 *m, const rt_v16i head[4], int j)
{
    rt_v16i scale, min;
    int i = j % 4 * 8;
    if (j < 4) {
        scale = v16i_and(v16i_shr(head[1], i), 63);
        min = v16i_and(v16i_shr(head[2], i), 63);
    } else {
        scale = v16i_or(v16i_and(v16i_shr(head[3], i), 15),
                        v16i_shl(v16i_and(v16i_shr(head[1], i + 6), 3), 4));
        min = v16i_or(v16i_and(v16i_shr(head[3], i + 4), 15),
                      v16i_shl(v16i_and(v16i_shr(head[2], i + 6), 3), 4));
    }
    *s = v16_mul(v16_from_f16(v16i_and(head[0], 0xffff)), v16_from_int(scale));
    *m = v16_mul(v16_from_f16(v16i_shr(head[0], 16)), v16_from_int(min));
    *m = v16_sub(v16_set1(-0.0f), *m);
}

/* Two of the 8 sub-blocks of a super-block, the low and the high halves of 32 bytes: four words of
   scales, then (q5: fifth bits[32],) nibbles[128]. Scales have 17 bits, so that their products with
   codes are exact, as above. */
TAKE_FN void take_q45_k(struct sink *o, const uint8_t *const *row, int64_t k, bool five)
{
    int64_t at = k / 256 * (five ? 176 : 144);
    int first = (int)(k % 256 / 32);
    int64_t codes = at + (five ? 48 : 16) + first * 16;
    rt_v16i head[DOT_GROUPS][4], w[DOT_GROUPS][8], bit[DOT_GROUPS][8];
    EACH
    {
        v16i_load4(head[g], row + 16 * g, at);
        v16i_load8(w[g], row + 16 * g, codes);
        if (five)
            v16i_load8(bit[g], row + 16 * g, at + 16);
    }
    UNROLL(2)
    for (int high = 0; high < 2; high++) {
        rt_v16 s[DOT_GROUPS], m[DOT_GROUPS];
        EACH scales_of_k(&s[g], &m[g], head[g], first + high);
        for (int j = 0; j < 8; j++) {
            rt_v16i code[DOT_GROUPS];
            if (five)
                EACH code[g] = v16i_mix(
                    0x0f0f0f0f, v16i_shr(w[g][j], 4 * high),
                    v16i_shl(v16i_and(v16i_shr(bit[g][j], first + high), 0x01010101), 4));
            BYTES EACH put(o, g, 32 * high + 4 * j + b,
                           v16_exact_fma(s[g],
                                         five ? v16_field(code[g], 8 * b, 5, 0)
                                              : v16_nibble(w[g][j], 8 * b + 4 * high, 0),
                                         m[g]));
        }
    }
}

TAKE_FN void take_q4_k(struct sink *o, const uint8_t *const *row, int64_t k)
{
    take_q45_k(o, row, k, false);
}

TAKE_FN void take_q5_k(struct sink *o, const uint8_t *const *row, int64_t k)
{
    take_q45_k(o, row, k, true);
}

/* Two of the 4 quarters of half a super-block, the low (upper 0) or the high halves of its bytes:
   low nibbles[128], high bits[64], int8 scales[16], d. */
TAKE_FN void take_q6_k_quarters(struct sink *o, const uint8_t *const *row, int64_t k, int upper)
{
    int64_t at = k / 256 * 210, half = k % 256 / 128;
    rt_v16 d[DOT_GROUPS];
    rt_v16i low[DOT_GROUPS][16], high[DOT_GROUPS][8], scales[DOT_GROUPS];
    EACH
    {
        rt_v16i head[4];
        const uint8_t *const *r = row + 16 * g;
        d[g] = v16_from_f16(v16i_shr(v16i_load_last(r, at + 194), 16));
        v16i_load4(head, r, at + 184 + 8 * half); /* the half's are the last two words */
        scales[g] = head[2 + upper];
        words_at(low[g], r, at + 64 * half, 16);
        words_at(high[g], r, at + 128 + 32 * half, 8);
    }
    UNROLL(4)
    for (int part = 0; part < 4; part++) { /* 16 elements with a scale of their own */
        rt_v16 s[DOT_GROUPS];
        EACH s[g] = v16_mul(d[g], v16_from_int(v16i_sar(v16i_shl(scales[g], 24 - 8 * part), 24)));
        UNROLL(1) /* or the code leaves its cache */
        for (int j = 0; j < 4; j++) {
            rt_v16i code[DOT_GROUPS];
            EACH
            {
                rt_v16i bits = high[g][part % 2 * 4 + j]; /* two, to come above four */
                int from = 2 * (2 * upper + part / 2);
                bits = from < 4 ? v16i_shl(bits, 4 - from) : v16i_shr(bits, from - 4);
                code[g] = v16i_mix(0x0f0f0f0f, v16i_shr(low[g][4 * part + j], 4 * upper), bits);
            }
            BYTES EACH put(o, g, 16 * part + 4 * j + b,
                           v16_mul(s[g], v16_field(code[g], 8 * b, 6, 32)));
        }
    }
}

TAKE_FN void take_q6_k(struct sink *o, const uint8_t *const *row, int64_t k)
{
    if (k % 128)
        take_q6_k_quarters(o, row, k, 1);
    else
        take_q6_k_quarters(o, row, k, 0);
}
