/* isa_unpack.h: weights in the bytes of checkpoints as columns of a panel, included by isa.c once an
   instruction set. Sixteen rows of the weight are sixteen lanes: their 32-bit words are turned into
   lanes once, and every code is then taken out of its word, so that a step of k costs a few
   instructions for 16 weights and no shuffle. The values are those of core/base/decode.c, bit for bit.
   Refuses: formats that are not here (unpack_of is NULL; isa_matmul.h widens their rows). */
#include "core/device/cpu/simd.h"

enum { UNPACK = 32 /* elements of k an unpack function makes; k starts at a multiple */ };

/* out(32,32), 16 columns of it = elements [k, k + 32) of 16 rows; row[i]: first byte of a row. */
typedef void unpack_fn(float *out, const uint8_t *const row[16], int64_t k);

/* Code b of four in a word of bytes. */
RT_V16_FN rt_v16i byte_of(rt_v16i w, int b) { return v16i_and(v16i_shr(w, 8 * b), 255); }
RT_V16_FN rt_v16i int8_of(rt_v16i w, int b) { return v16i_sar(v16i_shl(w, 24 - 8 * b), 24); }
RT_V16_FN rt_v16i nibble_of(rt_v16i w, int b, int high)
{
    return v16i_and(v16i_shr(w, 8 * b + 4 * high), 15);
}

/* The 16 words at row[i] + at of every row: w[j] has word j of each. A line of a row is read whole: rows
   whose length is a power of two share a place in the cache, and would drive each other out. */
RT_V16_FN void words_of(rt_v16 w[16], const uint8_t *const row[16], int64_t at)
{
    for (int i = 0; i < 16; i++)
        w[i] = v16_load_bytes(row[i] + at);
    v16_transpose(w);
}

static void unpack_f32(float *out, const uint8_t *const row[16], int64_t k)
{
    for (int at = 0; at < UNPACK; at += 16) {
        rt_v16 w[16];
        words_of(w, row, 4 * (k + at));
        for (int j = 0; j < 16; j++)
            v16_store(out + (at + j) * RT_PANEL, w[j]);
    }
}

static void unpack_bf16(float *out, const uint8_t *const row[16], int64_t k)
{
    rt_v16 w[16];
    words_of(w, row, 2 * k);
    for (int j = 0; j < 16; j++) {
        rt_v16i both = v16i_bits(w[j]);
        v16_store(out + 2 * j * RT_PANEL, v16_from_bits(v16i_shl(both, 16)));
        v16_store(out + (2 * j + 1) * RT_PANEL, v16_from_bits(v16i_and(both, 0xffff0000u)));
    }
}

static void unpack_f16(float *out, const uint8_t *const row[16], int64_t k)
{
    rt_v16 w[16];
    words_of(w, row, 2 * k);
    for (int j = 0; j < 16; j++) {
        rt_v16i both = v16i_bits(w[j]);
        v16_store(out + 2 * j * RT_PANEL, v16_from_f16(v16i_and(both, 0xffff)));
        v16_store(out + (2 * j + 1) * RT_PANEL, v16_from_f16(v16i_shr(both, 16)));
    }
}

/* Four codes a word: sign, 4 bits of exponent (bias 7), 3 of mantissa; all ones are not a number. */
static void unpack_f8_e4m3(float *out, const uint8_t *const row[16], int64_t k)
{
    for (int at = 0; at < UNPACK; at += 16) {
        rt_v16i w[4];
        v16i_load4(w, row, k + at);
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) {
                rt_v16i code = byte_of(w[j], b), size = v16i_and(code, 127);
                rt_v16 number = v16_from_int(size);
                rt_v16 small = v16_mul(number, v16_set1(0x1p-9f));
                /* exponent and mantissa in their places, then 2^120 more; 127 is a NaN by 0 x infinity */
                rt_v16 y = v16_from_bits(v16i_add(v16i_shl(size, 20), 120u << 23));
                y = v16_add(v16_where_ge(y, number, v16_set1(8)),
                            v16_where_ge(small, v16_set1(7), number));
                rt_v16 none = v16_where_ge(v16_set1(INFINITY), number, v16_set1(127));
                y = v16_add(y, v16_sub(none, none));
                v16_store(out + (at + 4 * j + b) * RT_PANEL,
                          v16_from_bits(v16i_or(v16i_bits(y), v16i_shl(v16i_and(code, 128), 24))));
            }
    }
}

static void unpack_q8_0(float *out, const uint8_t *const row[16], int64_t k)
{
    int64_t at = k / 32 * 34;
    rt_v16 d = v16_from_f16(v16i_load_half(row, at));
    for (int i = 0; i < 2; i++) {
        rt_v16i w[4];
        v16i_load4(w, row, at + 2 + 16 * i);
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++)
                v16_store(out + (16 * i + 4 * j + b) * RT_PANEL,
                          v16_mul(d, v16_from_int(int8_of(w[j], b))));
    }
}

/* 16 bytes at `at`: low nibbles are elements 0 - 15, high ones 16 - 31. With fifth bits (a word a
   row, element j's at bit j), a value less, and m added where there is one. */
RT_V16_FN void unpack_nibbles(float *out, const uint8_t *const row[16], int64_t at, rt_v16 d,
                              const rt_v16i *fifth, float less, const rt_v16 *m)
{
    rt_v16i w[4];
    rt_v16 off = v16_set1(less);
    v16i_load4(w, row, at);
#pragma GCC unroll 2
    for (int high = 0; high < 2; high++)
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) {
                int e = 16 * high + 4 * j + b;
                rt_v16i q = nibble_of(w[j], b, high);
                if (fifth)
                    q = v16i_or(q, v16i_shl(v16i_and(v16i_shr(*fifth, e), 1), 4));
                rt_v16 y = v16_from_int(q);
                if (less != 0.0f)
                    y = v16_sub(y, off);
                y = v16_mul(d, y);
                v16_store(out + e * RT_PANEL, m ? v16_add(y, *m) : y);
            }
}

static void unpack_q4_0(float *out, const uint8_t *const row[16], int64_t k)
{
    int64_t at = k / 32 * 18;
    unpack_nibbles(out, row, at + 2, v16_from_f16(v16i_load_half(row, at)), NULL, 8, NULL);
}

static void unpack_q4_1(float *out, const uint8_t *const row[16], int64_t k)
{
    int64_t at = k / 32 * 20;
    rt_v16i both = v16i_load1(row, at);
    rt_v16 m = v16_from_f16(v16i_shr(both, 16));
    unpack_nibbles(out, row, at + 4, v16_from_f16(v16i_and(both, 0xffff)), NULL, 0, &m);
}

static void unpack_q5_0(float *out, const uint8_t *const row[16], int64_t k)
{
    int64_t at = k / 32 * 22;
    rt_v16i fifth = v16i_load1(row, at + 2);
    unpack_nibbles(out, row, at + 6, v16_from_f16(v16i_load_half(row, at)), &fifth, 16, NULL);
}

static void unpack_q5_1(float *out, const uint8_t *const row[16], int64_t k)
{
    int64_t at = k / 32 * 24;
    rt_v16i both = v16i_load1(row, at), fifth = v16i_load1(row, at + 4);
    rt_v16 m = v16_from_f16(v16i_shr(both, 16));
    unpack_nibbles(out, row, at + 8, v16_from_f16(v16i_and(both, 0xffff)), &fifth, 0, &m);
}

/* 16 bytes at `at`: a table's entries, low nibbles first. */
RT_V16_FN void unpack_table(float *out, const uint8_t *const row[16], int64_t at, rt_v16 d,
                            const float table[16])
{
    rt_v16i w[4];
    v16i_load4(w, row, at);
    for (int high = 0; high < 2; high++)
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++)
                v16_store(out + (16 * high + 4 * j + b) * RT_PANEL,
                          v16_mul(d, v16_lookup(table, v16i_and(v16i_shr(w[j], 8 * b + 4 * high), 15))));
}

static void unpack_iq4_nl(float *out, const uint8_t *const row[16], int64_t k)
{
    static const float table[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113 };
    int64_t at = k / 32 * 18;
    unpack_table(out, row, at + 2, v16_from_f16(v16i_load_half(row, at)), table);
}

static void unpack_mxfp4(float *out, const uint8_t *const row[16], int64_t k)
{
    static const float table[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
    int64_t at = k / 32 * 17;
    float d[16];
    for (int i = 0; i < 16; i++) {
        uint8_t e = row[i][at];
        uint32_t bits = e ? (uint32_t)e << 23 : 0x00400000u;
        memcpy(&d[i], &bits, 4);
        d[i] = e == 255 ? 0x1p127f : d[i] * 0.5f;
    }
    unpack_table(out, row, at + 1, v16_load(d), table);
}

/* Sub-block k / 32 of 8 in a super-block: d, dmin and the 12 bytes of six-bit scales and minima are
   four words, then (q5: fifth bits[32],) nibbles[128]. */
RT_V16_FN void unpack_q45_k(float *out, const uint8_t *const row[16], int64_t k, bool five)
{
    int64_t at = k / 256 * (five ? 176 : 144), j = k % 256 / 32;
    int64_t codes = at + (five ? 48 : 16) + j / 2 * 32;
    int i = (int)(j % 4) * 8, high = (int)(j % 2);
    rt_v16i head[4], w[4], bit[4], scale, min;
    v16i_load4(head, row, at);
    if (j < 4) {
        scale = v16i_and(v16i_shr(head[1], i), 63);
        min = v16i_and(v16i_shr(head[2], i), 63);
    } else {
        scale = v16i_or(v16i_and(v16i_shr(head[3], i), 15),
                        v16i_shl(v16i_and(v16i_shr(head[1], i + 6), 3), 4));
        min = v16i_or(v16i_and(v16i_shr(head[3], i + 4), 15),
                      v16i_shl(v16i_and(v16i_shr(head[2], i + 6), 3), 4));
    }
    rt_v16 s = v16_mul(v16_from_f16(v16i_and(head[0], 0xffff)), v16_from_int(scale));
    rt_v16 m = v16_mul(v16_from_f16(v16i_shr(head[0], 16)), v16_from_int(min));
    for (int part = 0; part < 2; part++) {
        v16i_load4(w, row, codes + 16 * part);
        if (five)
            v16i_load4(bit, row, at + 16 + 16 * part);
        for (int n = 0; n < 4; n++) {
            rt_v16i nibbles = v16i_shr(w[n], 4 * high), fifth;
            if (five)
                fifth = v16i_shr(bit[n], (int)j);
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) {
                rt_v16i q = v16i_and(v16i_shr(nibbles, 8 * b), 15);
                if (five)
                    q = v16i_or(q, v16i_shl(v16i_and(v16i_shr(fifth, 8 * b), 1), 4));
                v16_store(out + (16 * part + 4 * n + b) * RT_PANEL,
                          v16_sub(v16_mul(s, v16_from_int(q)), m));
            }
        }
    }
}

static void unpack_q4_k(float *out, const uint8_t *const row[16], int64_t k)
{
    unpack_q45_k(out, row, k, false);
}

static void unpack_q5_k(float *out, const uint8_t *const row[16], int64_t k)
{
    unpack_q45_k(out, row, k, true);
}

/* A quarter of half a super-block: low nibbles[128], high bits[64], int8 scales[16], d. */
static void unpack_q6_k(float *out, const uint8_t *const row[16], int64_t k)
{
    int64_t at = k / 256 * 210, half = k % 256 / 128;
    int quarter = (int)(k % 128 / 32);
    rt_v16 d = v16_from_f16(v16i_load_half(row, at + 208)), less = v16_set1(32);
    rt_v16i scales = v16i_load_half(row, at + 192 + 8 * half + 2 * quarter);
    for (int part = 0; part < 2; part++) {
        rt_v16 s = v16_mul(d, v16_from_int(int8_of(scales, part)));
        rt_v16i low[4], high[4];
        v16i_load4(low, row, at + 64 * half + quarter % 2 * 32 + 16 * part);
        v16i_load4(high, row, at + 128 + 32 * half + 16 * part);
        for (int n = 0; n < 4; n++) {
            rt_v16i nibbles = v16i_shr(low[n], quarter / 2 * 4), bits = v16i_shr(high[n], 2 * quarter);
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) {
                rt_v16i q = v16i_or(v16i_and(v16i_shr(nibbles, 8 * b), 15),
                                    v16i_shl(v16i_and(v16i_shr(bits, 8 * b), 3), 4));
                v16_store(out + (16 * part + 4 * n + b) * RT_PANEL,
                          v16_mul(s, v16_sub(v16_from_int(q), less)));
            }
        }
    }
}

static unpack_fn *const unpack_of[RT_DTYPE_COUNT] = {
    [RT_F32] = unpack_f32,       [RT_F16] = unpack_f16,   [RT_BF16] = unpack_bf16,
    [RT_Q8_0] = unpack_q8_0,     [RT_Q4_0] = unpack_q4_0, [RT_Q4_1] = unpack_q4_1,
    [RT_Q5_0] = unpack_q5_0,     [RT_Q5_1] = unpack_q5_1, [RT_Q4_K] = unpack_q4_k,
    [RT_Q5_K] = unpack_q5_k,     [RT_Q6_K] = unpack_q6_k, [RT_IQ4_NL] = unpack_iq4_nl,
    [RT_MXFP4] = unpack_mxfp4,   [RT_F8_E4M3] = unpack_f8_e4m3,
};
