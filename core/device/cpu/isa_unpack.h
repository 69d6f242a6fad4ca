/* isa_unpack.h: weights in the bytes of checkpoints as columns of a panel, included by isa.c once
   an instruction set. Sixteen rows of the weight are sixteen lanes: their 32-bit words are turned
   into lanes once, and every code is then taken out of its word, so that a step of k costs a few
   instructions for 16 weights and no shuffle. The values are those of core/base/decode.c, bit for
   bit. Refuses: formats that are not here (taken[] is NULL; isa_matmul.h widens their rows). */
#include "core/device/cpu/simd.h"

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

enum { UNPACK = 32 /* elements of k an unpack function makes; k starts at a multiple */ };

/* Where the elements of 32 rows go, k ascending in each: the columns of a panel at out, or the
   chains of a product with one row, x, into sum. The rows are two sets of 16 (g), side by side
   wherever the registers allow: a chain waits for itself. */
struct sink {
    float *out;
    const float *x;
    rt_v16 sum[2];
    const float *scale; /* of each row, that multiplies elements; or NULL */
};

TAKE_FN void put(struct sink *o, int g, int64_t e, rt_v16 y)
{
    if (o->scale)
        y = v16_mul(y, v16_load(o->scale + 16 * g));
    if (o->out)
        v16_store(o->out + e * RT_PANEL + 16 * g, y);
    else
        o->sum[g] = v16_fma(v16_set1(o->x[e]), y, o->sum[g]);
}

#define BOTH UNROLL(2) for (int g = 0; g < 2; g++)

/* Code b of four in a word of bytes. */
RT_V16_FN rt_v16i byte_of(rt_v16i w, int b) { return v16i_and(v16i_shr(w, 8 * b), 255); }
RT_V16_FN rt_v16i int8_of(rt_v16i w, int b) { return v16i_sar(v16i_shl(w, 24 - 8 * b), 24); }
RT_V16_FN rt_v16i nibble_of(rt_v16i w, int b, int high)
{
    return v16i_and(v16i_shr(w, 8 * b + 4 * high), 15);
}

/* The 16 words at row[i] + at of every row: w[j] has word j of each. A line of a row is read whole:
   rows whose length is a power of two share a place in the cache, and would drive each other out.
 */
TAKE_FN void words_of(rt_v16 w[16], const uint8_t *const row[16], int64_t at)
{
    for (int i = 0; i < 16; i++)
        w[i] = v16_load_bytes(row[i] + at);
    v16_transpose(w);
}

TAKE_FN void take_f32(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    for (int at = 0; at < UNPACK; at += 16)
        for (int g = 0; g < 2; g++) {
            rt_v16 w[16];
            words_of(w, row + 16 * g, 4 * (k + at));
            for (int j = 0; j < 16; j++)
                put(o, g, at + j, w[j]);
        }
}

/* Two numbers a word. */
TAKE_FN void take_halves(struct sink *o, const uint8_t *const row[32], int64_t k, bool bf16)
{
    for (int g = 0; g < 2; g++) {
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

TAKE_FN void take_bf16(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    take_halves(o, row, k, true);
}

TAKE_FN void take_f16(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    take_halves(o, row, k, false);
}

/* Sign, 4 bits of exponent (bias 7), 3 of mantissa; all ones are not a number. */
TAKE_FN rt_v16 number_of_e4m3(rt_v16i code)
{
    rt_v16i size = v16i_and(code, 127);
    rt_v16 number = v16_from_int(size), small = v16_mul(number, v16_set1(0x1p-9f));
    /* exponent and mantissa in their places; below 8 is no exponent; 127 becomes infinity less
     * itself */
    rt_v16 y = v16_from_bits(v16i_add(v16i_shl(size, 20), 120u << 23));
    y = v16_add(v16_where_ge(y, number, v16_set1(8)), v16_where_ge(small, v16_set1(7), number));
    rt_v16 none = v16_where_ge(v16_set1(INFINITY), number, v16_set1(127));
    y = v16_add(y, v16_sub(none, none));
    return v16_from_bits(v16i_or(v16i_bits(y), v16i_shl(v16i_and(code, 128), 24)));
}

TAKE_FN void take_f8_e4m3(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    for (int at = 0; at < UNPACK; at += 16) {
        rt_v16i w[2][4];
        BOTH v16i_load4(w[g], row + 16 * g, k + at);
        for (int j = 0; j < 4; j++)
            UNROLL(4)
        for (int b = 0; b < 4; b++)
            BOTH put(o, g, at + 4 * j + b, number_of_e4m3(byte_of(w[g][j], b)));
    }
}

TAKE_FN void take_q8_0(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    int64_t at = k / 32 * 34;
    rt_v16 d[2];
    BOTH d[g] = v16_from_f16(v16i_load_half(row + 16 * g, at));
    for (int i = 0; i < 2; i++) {
        rt_v16i w[2][4];
        BOTH v16i_load4(w[g], row + 16 * g, at + 2 + 16 * i);
        for (int j = 0; j < 4; j++)
            UNROLL(4)
        for (int b = 0; b < 4; b++)
            BOTH put(o, g, 16 * i + 4 * j + b, v16_mul(d[g], v16_from_int(int8_of(w[g][j], b))));
    }
}

/* 16 bytes at `at`: low nibbles are elements 0 - 15, high ones 16 - 31. With fifth bits (a word a
   row, element j's at bit j), a value less, and m added where there is one. */
TAKE_FN void take_nibbles(struct sink *o, const uint8_t *const row[32], int64_t at,
                          const rt_v16 d[2], const rt_v16i *fifth, float less, const rt_v16 *m)
{
    rt_v16i w[2][4];
    BOTH v16i_load4(w[g], row + 16 * g, at);
    UNROLL(2)
    for (int high = 0; high < 2; high++)
        for (int j = 0; j < 4; j++)
            UNROLL(4)
    for (int b = 0; b < 4; b++) {
        int e = 16 * high + 4 * j + b;
        BOTH
        {
            rt_v16 y;
            if (fifth) {
                rt_v16i q = nibble_of(w[g][j], b, high);
                y = v16_from_int(v16i_or(q, v16i_shl(v16i_and(v16i_shr(fifth[g], e), 1), 4)));
                y = less != 0.0f ? v16_sub(y, v16_set1(less)) : y;
            } else {
                y = v16_nibble(w[g][j], 8 * b + 4 * high, less);
            }
            y = v16_mul(d[g], y);
            put(o, g, e, m ? v16_add(y, m[g]) : y);
        }
    }
}

TAKE_FN void take_q4_0(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    int64_t at = k / 32 * 18;
    rt_v16 d[2];
    BOTH d[g] = v16_from_f16(v16i_load_half(row + 16 * g, at));
    take_nibbles(o, row, at + 2, d, NULL, 8, NULL);
}

/* d in the low, m in the high half of a word */
TAKE_FN void load_d_m(rt_v16 d[2], rt_v16 m[2], const uint8_t *const row[32], int64_t at)
{
    BOTH
    {
        rt_v16i both = v16i_load1(row + 16 * g, at);
        d[g] = v16_from_f16(v16i_and(both, 0xffff));
        m[g] = v16_from_f16(v16i_shr(both, 16));
    }
}

TAKE_FN void take_q4_1(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    int64_t at = k / 32 * 20;
    rt_v16 d[2], m[2];
    load_d_m(d, m, row, at);
    take_nibbles(o, row, at + 4, d, NULL, 0, m);
}

TAKE_FN void take_q5_0(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    int64_t at = k / 32 * 22;
    rt_v16 d[2];
    rt_v16i fifth[2];
    BOTH d[g] = v16_from_f16(v16i_load_half(row + 16 * g, at));
    BOTH fifth[g] = v16i_load1(row + 16 * g, at + 2);
    take_nibbles(o, row, at + 6, d, fifth, 16, NULL);
}

TAKE_FN void take_q5_1(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    int64_t at = k / 32 * 24;
    rt_v16 d[2], m[2];
    rt_v16i fifth[2];
    load_d_m(d, m, row, at);
    BOTH fifth[g] = v16i_load1(row + 16 * g, at + 4);
    take_nibbles(o, row, at + 8, d, fifth, 0, m);
}

/* 16 bytes at `at`: a table's entries, low nibbles first. */
TAKE_FN void take_table(struct sink *o, const uint8_t *const row[32], int64_t at, const rt_v16 d[2],
                        const float table[16])
{
    rt_v16i w[2][4];
    BOTH v16i_load4(w[g], row + 16 * g, at);
    for (int high = 0; high < 2; high++)
        for (int j = 0; j < 4; j++)
            UNROLL(4)
    for (int b = 0; b < 4; b++)
        BOTH put(o, g, 16 * high + 4 * j + b,
                 v16_mul(d[g], v16_lookup(table, nibble_of(w[g][j], b, high))));
}

TAKE_FN void take_iq4_nl(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    static const float table[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113 };
    int64_t at = k / 32 * 18;
    rt_v16 d[2];
    BOTH d[g] = v16_from_f16(v16i_load_half(row + 16 * g, at));
    take_table(o, row, at + 2, d, table);
}

TAKE_FN void take_mxfp4(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    static const float table[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
    int64_t at = k / 32 * 17;
    float half[32]; /* of the scale: the table holds doubled numbers */
    for (int i = 0; i < 32; i++) {
        uint8_t e = row[i][at];
        uint32_t bits = e ? (uint32_t)e << 23 : 0x00400000u;
        memcpy(&half[i], &bits, 4);
        half[i] = e == 255 ? 0x1p127f : half[i] * 0.5f;
    }
    rt_v16 d[2] = { v16_load(half), v16_load(half + 16) };
    take_table(o, row, at + 1, d, table);
}

/* Scale and minimum of sub-block j of 8, from the three words of six-bit numbers behind d and dmin.
 */
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
}

/* Sub-block k / 32 of 8 in a super-block: four words of scales, then (q5: fifth bits[32],)
   nibbles[128]. */
TAKE_FN void take_q45_k(struct sink *o, const uint8_t *const row[32], int64_t k, bool five)
{
    int64_t at = k / 256 * (five ? 176 : 144);
    int j = (int)(k % 256 / 32), high = j % 2 * 4;
    int64_t codes = at + (five ? 48 : 16) + j / 2 * 32;
    rt_v16 s[2], m[2];
    BOTH
    {
        rt_v16i head[4];
        v16i_load4(head, row + 16 * g, at);
        scales_of_k(&s[g], &m[g], head, j);
    }
    for (int part = 0; part < 2; part++) {
        rt_v16i w[2][4], bit[2][4];
        BOTH v16i_load4(w[g], row + 16 * g, codes + 16 * part);
        if (five)
            BOTH v16i_load4(bit[g], row + 16 * g, at + 16 + 16 * part);
        for (int n = 0; n < 4; n++) {
            rt_v16i nibbles[2], fifth[2];
            BOTH nibbles[g] = v16i_shr(w[g][n], high);
            if (five)
                BOTH fifth[g] = v16i_shr(bit[g][n], j);
            UNROLL(4)
            for (int b = 0; b < 4; b++)
                BOTH
                {
                    rt_v16i q = v16i_shr(nibbles[g], 8 * b);
                    rt_v16 y = five ? v16_from_int(v16i_or(
                                          v16i_and(q, 15),
                                          v16i_shl(v16i_and(v16i_shr(fifth[g], 8 * b), 1), 4)))
                                    : v16_nibble(nibbles[g], 8 * b, 0);
                    put(o, g, 16 * part + 4 * n + b, v16_sub(v16_mul(s[g], y), m[g]));
                }
        }
    }
}

TAKE_FN void take_q4_k(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    take_q45_k(o, row, k, false);
}

TAKE_FN void take_q5_k(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    take_q45_k(o, row, k, true);
}

/* A quarter of half a super-block: low nibbles[128], high bits[64], int8 scales[16], d. */
TAKE_FN void take_q6_k(struct sink *o, const uint8_t *const row[32], int64_t k)
{
    int64_t at = k / 256 * 210, half = k % 256 / 128;
    int quarter = (int)(k % 128 / 32);
    rt_v16 d[2], less = v16_set1(32);
    rt_v16i scales[2];
    BOTH d[g] = v16_from_f16(v16i_load_half(row + 16 * g, at + 208));
    BOTH scales[g] = v16i_load_half(row + 16 * g, at + 192 + 8 * half + 2 * quarter);
    for (int part = 0; part < 2; part++) {
        rt_v16 s[2];
        rt_v16i low[2][4], high[2][4];
        BOTH s[g] = v16_mul(d[g], v16_from_int(int8_of(scales[g], part)));
        BOTH v16i_load4(low[g], row + 16 * g, at + 64 * half + quarter % 2 * 32 + 16 * part);
        BOTH v16i_load4(high[g], row + 16 * g, at + 128 + 32 * half + 16 * part);
        for (int n = 0; n < 4; n++) {
            rt_v16i nibbles[2], bits[2];
            BOTH nibbles[g] = v16i_shr(low[g][n], quarter / 2 * 4);
            BOTH bits[g] = v16i_shr(high[g][n], 2 * quarter);
            UNROLL(4)
            for (int b = 0; b < 4; b++)
                BOTH
                {
                    rt_v16i q = v16i_or(v16i_and(v16i_shr(nibbles[g], 8 * b), 15),
                                        v16i_shl(v16i_and(v16i_shr(bits[g], 8 * b), 3), 4));
                    put(o, g, 16 * part + 4 * n + b, v16_mul(s[g], v16_sub(v16_from_int(q), less)));
                }
        }
    }
}

/* Elements [k, k + 32) of 32 rows, whose first bytes are at row[i]: as columns of out(32,32), or
   their chains with x(32) on from sum(32). scale(32) of the rows, where codes have one, or NULL. */
typedef void unpack_fn(float *out, const uint8_t *const row[32], int64_t k, const float *scale);
typedef void dot_fn(float *sum, const float *x, const uint8_t *const row[32], int64_t k,
                    const float *scale);

#define TAKEN(name, scaled)                                                                        \
    static void unpack_##name(float *out, const uint8_t *const row[32], int64_t k,                 \
                              const float *scale)                                                  \
    {                                                                                              \
        struct sink o = { .out = out, .scale = (scaled) ? scale : NULL };                          \
        take_##name(&o, row, k);                                                                   \
    }                                                                                              \
    static void dot_##name(float *sum, const float *x, const uint8_t *const row[32], int64_t k,    \
                           const float *scale)                                                     \
    {                                                                                              \
        struct sink o = { .x = x, .sum = { v16_load(sum), v16_load(sum + 16) } };                  \
        o.scale = (scaled) ? scale : NULL;                                                         \
        take_##name(&o, row, k);                                                                   \
        v16_store(sum, o.sum[0]);                                                                  \
        v16_store(sum + 16, o.sum[1]);                                                             \
    }
TAKEN(f32, false)
TAKEN(f16, false)
TAKEN(bf16, false)
TAKEN(q8_0, false)
TAKEN(q4_0, false)
TAKEN(q4_1, false)
TAKEN(q5_0, false)
TAKEN(q5_1, false)
TAKEN(q4_k, false)
TAKEN(q5_k, false)
TAKEN(q6_k, false)
TAKEN(iq4_nl, false)
TAKEN(mxfp4, false)
TAKEN(f8_e4m3, true)

static const struct {
    unpack_fn *unpack;
    dot_fn *dot;
} taken[RT_DTYPE_COUNT] = {
    [RT_F32] = { unpack_f32, dot_f32 },       [RT_F16] = { unpack_f16, dot_f16 },
    [RT_BF16] = { unpack_bf16, dot_bf16 },    [RT_Q8_0] = { unpack_q8_0, dot_q8_0 },
    [RT_Q4_0] = { unpack_q4_0, dot_q4_0 },    [RT_Q4_1] = { unpack_q4_1, dot_q4_1 },
    [RT_Q5_0] = { unpack_q5_0, dot_q5_0 },    [RT_Q5_1] = { unpack_q5_1, dot_q5_1 },
    [RT_Q4_K] = { unpack_q4_k, dot_q4_k },    [RT_Q5_K] = { unpack_q5_k, dot_q5_k },
    [RT_Q6_K] = { unpack_q6_k, dot_q6_k },    [RT_IQ4_NL] = { unpack_iq4_nl, dot_iq4_nl },
    [RT_MXFP4] = { unpack_mxfp4, dot_mxfp4 }, [RT_F8_E4M3] = { unpack_f8_e4m3, dot_f8_e4m3 },
};
