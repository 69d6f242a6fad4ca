/* decode.h: weights in the bytes of their checkpoint as f32, for kernels that read them where they
   lie: one element, or a run of 16 neighbours at once. Both give the bits of rt_decode_f32 and of
   rt_piece_decode (core/base/decode.c says what the layouts are). Refuses: whole rows fast on the
   CPU (core/device/cpu/isa_unpack.h). */
#ifndef RT_KERNELS_DECODE_H
#define RT_KERNELS_DECODE_H

#include "core/device/kernels/team.h"

TEAM_FN float decode_half_bits(uint32_t h)
{
    uint32_t u = (h & 0x7fff) << 13;
    float f = (h & 0x7c00) == 0x7c00 ? rt_float_of_bits(u | 0x7f800000u)
                                     : rt_float_of_bits(u) * 0x1p112f;
    return h & 0x8000 ? -f : f;
}
TEAM_FN float decode_half(const uint8_t *p)
{
    return decode_half_bits((uint32_t)p[0] | (uint32_t)p[1] << 8);
}

TEAM_FN float decode_e4m3(uint32_t code)
{
    uint32_t mag = code & 127u;
    float f = mag == 127 ? rt_float_of_bits(0x7fc00000u)
              : mag < 8  ? (float)mag * 0x1p-9f
                         : rt_float_of_bits((mag << 20) + (120u << 23));
    return code & 128u ? -f : f;
}

/* 2^(e - 127); 255 is not a number */
TEAM_FN float decode_e8m0(uint32_t e)
{
    return rt_float_of_bits(e == 255 ? 0x7fc00000u : e ? e << 23 : 0x00400000u);
}

/* Twice the size of an E2M1 code: 0 1 2 3 4 6 8 12. */
TEAM_FN int32_t decode_e2m1(uint32_t code)
{
    uint32_t mag = code & 7u;
    return (int32_t)(mag < 4 ? mag : (2 + (mag & 1)) << (mag / 2 - 1));
}

/* Code j of 32 of a block whose nibbles begin at qs: low halves are 0-15, high halves 16-31. */
TEAM_FN int32_t decode_nibble(const uint8_t *qs, int64_t j) { return qs[j % 16] >> (j / 16 * 4) & 15; }
TEAM_FN int32_t decode_fifth(const uint8_t *qh, const uint8_t *qs, int64_t j)
{
    return decode_nibble(qs, j) | (qh[j / 8] >> (j % 8) & 1) << 4;
}

TEAM_FN int32_t decode_iq4(int32_t code)
{
    /* -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113, eight a word */
    const uint64_t low = 0xf6eaddcfbfad9881u, high = 0x7159453526190d01u;
    return (int8_t)((code < 8 ? low : high) >> (code % 8 * 8) & 255);
}

/* Element i of 256 of a q4_K or q5_K block. */
TEAM_FN float decode_q45_k(const uint8_t *p, int64_t i, bool five)
{
    const uint8_t *s = p + 4, *qs = five ? p + 48 : p + 16;
    int64_t j = i / 32, l = i % 32;
    int32_t scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    int32_t min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
    int32_t q = qs[j / 2 * 32 + l] >> (j % 2 * 4) & 15;
    if (five)
        q |= (p[16 + l] >> j & 1) << 4;
    float a = decode_half(p) * (float)scale, b = decode_half(p + 2) * (float)min;
    return a * (float)q - b;
}

TEAM_FN float decode_q6_k(const uint8_t *p, int64_t i)
{
    int64_t half = i / 128, k = i % 128 / 32, at = i % 32;
    int32_t low = p[64 * half + k % 2 * 32 + at] >> (k / 2 * 4) & 15;
    int32_t high = p[128 + 32 * half + at] >> (2 * k) & 3;
    float s = decode_half(p + 208) * (float)(int8_t)p[192 + i / 16];
    return s * (float)((low | high << 4) - 32);
}

/* Element i of 256 of codes of two bits: byte l of a half holds l, l + 32, l + 64, l + 96. */
TEAM_FN int32_t decode_two_bits(const uint8_t *qs, int64_t i)
{
    return qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

TEAM_FN float decode_q2_k(const uint8_t *p, int64_t i)
{
    uint32_t s = p[i / 16];
    float a = decode_half(p + 80) * (float)(s & 15), b = decode_half(p + 82) * (float)(s >> 4);
    return a * (float)decode_two_bits(p + 16, i) - b;
}

TEAM_FN float decode_q3_k(const uint8_t *p, int64_t i)
{
    const uint8_t *s = p + 96;
    int64_t j = i / 16;
    int32_t scale = (s[j % 8] >> (j / 8 * 4) & 15) | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
    int32_t q = decode_two_bits(p + 32, i) | (p[i % 32] >> (i / 32) & 1) << 2;
    float a = decode_half(p + 108) * (float)(scale - 32);
    return a * (float)(q - 4);
}

TEAM_FN float decode_iq4_xs(const uint8_t *p, int64_t i)
{
    int64_t j = i / 32;
    int32_t high = (p[2] | p[3] << 8) >> (2 * j) & 3, low = p[4 + j / 2] >> (j % 2 * 4) & 15;
    float a = decode_half(p) * (float)((low | high << 4) - 32);
    return a * (float)decode_iq4(decode_nibble(p + 8 + 16 * j, i % 32));
}

TEAM_FN float decode_nvfp4(const uint8_t *p, int64_t i)
{
    uint32_t mag = p[i / 16] & 127u, code = (uint32_t)p[4 + i / 16 * 8 + i % 8] >> (i % 16 / 8 * 4) & 15u;
    float scale = mag == 127u ? 0.0f : decode_e4m3(mag) * 0.5f;
    return scale * (float)(code & 8u ? -decode_e2m1(code) : decode_e2m1(code));
}

/* Element i of a row of dtype t that begins at `row`. */
TEAM_FN float decode_element(rt_dtype t, const uint8_t *row, int64_t i)
{
    const uint8_t *p;
    uint32_t code;
    switch (t) {
    case RT_F32: /* of a file: anywhere */
        if ((uintptr_t)row % sizeof(float) == 0)
            return ((const float *)(const void *)row)[i];
        p = row + 4 * i;
        return rt_float_of_bits((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                                (uint32_t)p[3] << 24);
    case RT_F16:
        return decode_half(row + 2 * i);
    case RT_BF16:
        return rt_float_of_bits((uint32_t)row[2 * i] << 16 | (uint32_t)row[2 * i + 1] << 24);
    case RT_F8_E4M3:
        return decode_e4m3(row[i]);
    case RT_F8_E8M0:
        return decode_e8m0(row[i]);
    case RT_Q8_0:
        p = row + i / 32 * 34;
        return decode_half(p) * (float)(int8_t)p[2 + i % 32];
    case RT_Q4_0:
        p = row + i / 32 * 18;
        return decode_half(p) * (float)(decode_nibble(p + 2, i % 32) - 8);
    case RT_Q4_1:
        p = row + i / 32 * 20;
        return decode_half(p) * (float)decode_nibble(p + 4, i % 32) + decode_half(p + 2);
    case RT_Q5_0:
        p = row + i / 32 * 22;
        return decode_half(p) * (float)(decode_fifth(p + 2, p + 6, i % 32) - 16);
    case RT_Q5_1:
        p = row + i / 32 * 24;
        return decode_half(p) * (float)decode_fifth(p + 4, p + 8, i % 32) + decode_half(p + 2);
    case RT_IQ4_NL:
        p = row + i / 32 * 18;
        return decode_half(p) * (float)decode_iq4(decode_nibble(p + 2, i % 32));
    case RT_MXFP4: /* GGUF gives exponent 255 its plain meaning */
        p = row + i / 32 * 17;
        code = (uint32_t)decode_nibble(p + 1, i % 32);
        return (p[0] == 255 ? 0x1p127f : decode_e8m0(p[0]) * 0.5f) *
               (float)(code & 8u ? -decode_e2m1(code) : decode_e2m1(code)); /* no zero below 0 */
    case RT_NVFP4:
        return decode_nvfp4(row + i / 64 * 36, i % 64);
    case RT_Q2_0:
        p = row + i / 64 * 18;
        return decode_half(p) * (float)((p[2 + i % 64 / 4] >> (i % 4 * 2) & 3) - 1);
    case RT_TQ2_0:
        p = row + i / 256 * 66;
        return decode_half(p + 64) * (float)(decode_two_bits(p, i % 256) - 1);
    case RT_IQ4_XS:
        return decode_iq4_xs(row + i / 256 * 136, i % 256);
    case RT_Q2_K:
        return decode_q2_k(row + i / 256 * 84, i % 256);
    case RT_Q3_K:
        return decode_q3_k(row + i / 256 * 110, i % 256);
    case RT_Q4_K:
        return decode_q45_k(row + i / 256 * 144, i % 256, false);
    case RT_Q5_K:
        return decode_q45_k(row + i / 256 * 176, i % 256, true);
    case RT_Q6_K:
        return decode_q6_k(row + i / 256 * 210, i % 256);
    case RT_I32:
    case RT_U8:
    case RT_M8:
    case RT_V8:
    case RT_DTYPE_COUNT:
        break;
    }
    return rt_float_of_bits(0x7fc00000u);
}

/* Rows and columns are fewer than 2^31, and a division of 64 bits is a hundred instructions. */

/* Where row r lies, as rt_piece_row says it. */
TEAM_FN int64_t decode_row(const rt_piece *p, int64_t r)
{
    if (p->pair) {
        uint32_t in = (uint32_t)r % (uint32_t)p->pair, half = (uint32_t)p->pair / 2;
        r += (int64_t)(in % half * 2 + in / half) - in;
    }
    return p->first + r * p->step;
}

/* Element `at` of row `row` of a latent in two parts. */
TEAM_FN float decode_latent(const rt_piece *p, int64_t row, int64_t at)
{
    int64_t keys = p->scale_rows, values = p->scale_cols, rank = p->transposed;
    int64_t head = row / (keys + values), in = row % (keys + values);
    if (in < keys)
        return decode_element(p->scale_dtype, p->scale, (head * rank + at) * keys + in);
    return decode_element(p->dtype, p->data, (head * values + in - keys) * rank + at);
}

/* The scale of stored row `row` in column `at`, of a form with f32, f16, bf16 ... scales. */
TEAM_FN float decode_scale(const rt_piece *p, int64_t row, int64_t at)
{
    uint32_t y = (uint32_t)row / (uint32_t)p->scale_rows,
             x = (uint32_t)at / (uint32_t)p->scale_cols;
    return decode_element(p->scale_dtype, p->scale, (int64_t)y * p->scale_ld + x);
}

/* Element `at` of what is stored as row, or transposed as column, `row` (of decode_row). */
TEAM_FN float decode_piece(const rt_piece *p, int64_t row, int64_t at)
{
    if (p->code == RT_CODE_LATENT)
        return decode_latent(p, row, at);
    if (p->transposed)
        return decode_element(p->dtype, p->data + at * p->row_bytes, row);
    const uint8_t *data = p->data + row * p->row_bytes;
    if (p->code == RT_CODE_ROWS)
        return decode_element(p->dtype, data, at);
    if (p->code == RT_CODE_MXFP4) {
        uint32_t code = (uint32_t)(data[at / 2] >> (at % 2 * 4)) & 15u;
        float size = 0.5f * (float)decode_e2m1(code);
        return decode_e8m0(p->scale[row * p->scale_ld + at / 32]) * (code & 8u ? -size : size);
    }
    float scale = decode_scale(p, row, at);
    if (p->code == RT_CODE_INT4)
        return scale * (float)((data[at / 2] >> (at % 2 * 4) & 15) - 8);
    return decode_element(p->dtype, data, at) * scale;
}

/* --- runs ---------------------------------------------------------------------------------------
   Run r of a row is its elements 16r .. 16r+15. A run is read by words and its codes become floats
   four a word, without a conversion of integers (a quarter of the rate of other instructions). */

enum { DECODE_RUN = 16 };

/* Element i is scale q[i], plus low where the form has one (decode_has_low), rounded after each. */
struct decoded {
    float q[DECODE_RUN], scale, low;
};

/* What a piece stores, as one number: a dtype, or a code with scales of its own. */
enum decode_form {
    DECODE_FP8 = (int)RT_DTYPE_COUNT + (int)RT_CODE_FP8,
    DECODE_MXFP4 = (int)RT_DTYPE_COUNT + (int)RT_CODE_MXFP4,
    DECODE_INT4 = (int)RT_DTYPE_COUNT + (int)RT_CODE_INT4
};
static inline int decode_form(const rt_piece *p)
{
    return p->code == RT_CODE_ROWS ? (int)p->dtype : (int)RT_DTYPE_COUNT + (int)p->code;
}

LANES_FN bool decode_has_low(int form)
{
    return form == RT_Q4_1 || form == RT_Q5_1 || form == RT_Q4_K || form == RT_Q5_K;
}

/* Two runs that share bytes are so many runs apart: their nibbles are the halves of the same bytes.
 */
LANES_FN int decode_apart(int form)
{
    return form == RT_Q6_K ? 4 : form == RT_Q4_K || form == RT_Q5_K ? 2 : 1;
}

/* Bytes on which every run of the form begins when its row does; 0: it has no runs. */
static inline int decode_align(int form)
{
    switch (form) {
    case RT_F32:
    case RT_F16:
    case RT_BF16:
    case RT_F8_E4M3:
    case DECODE_FP8:
    case RT_Q4_K:
    case RT_Q5_K:
        return 16;
    case DECODE_MXFP4:
    case DECODE_INT4:
    case RT_Q5_1:
        return 8;
    case RT_Q4_1:
        return 4;
    case RT_Q8_0:
    case RT_Q4_0:
    case RT_Q5_0:
    case RT_IQ4_NL:
    case RT_Q6_K:
        return 2;
    case RT_MXFP4:
        return 1;
    default:
        return 0;
    }
}

/* Whether decode_run may read the piece; elsewhere decode_piece does. */
static inline bool decode_has_runs(const rt_piece *p)
{
    int align = decode_align(decode_form(p));
    return align && !p->transposed && (uintptr_t)p->data % (align < 4 ? 4 : (unsigned)align) == 0 &&
           p->row_bytes % align == 0 &&
           (p->code == RT_CODE_ROWS || p->scale_cols % DECODE_RUN == 0);
}

#ifdef RT_TEAM_THREADS

/* Words that begin at p, which lies on `align` bytes: no byte outside [p, p + 4 n) but of the word
   that p lies in. */
LANES_FN void decode_words(uint32_t *w, const uint8_t *p, int n, int align)
{
    if (align >= 16) {
        for (int i = 0; i < n; i += 4) {
            uint4 v = *(const uint4 *)(const void *)(p + 4 * i);
            w[i] = v.x, w[i + 1] = v.y, w[i + 2] = v.z, w[i + 3] = v.w;
        }
        return;
    }
    if (align >= 4) {
        for (int i = 0; i < n; i++)
            w[i] = ((const uint32_t *)(const void *)p)[i];
        return;
    }
    unsigned over = (unsigned)((uintptr_t)p & 3);
    const uint32_t *at = (const uint32_t *)(const void *)(p - over);
    uint32_t next = 0;
    if (align == 2)
        next = *(const uint16_t *)(const void *)(p + 4 * n - 2);
    else
        for (unsigned i = 0; i < 3; i++)
            next |= i < over ? (uint32_t)p[4 * n - (int)over + (int)i] << 8 * i : 0;
    for (int i = n - 1; i >= 0; i--) {
        uint32_t v = at[i];
        w[i] = (uint32_t)(((uint64_t)next << 32 | v) >> 8 * over);
        next = v;
    }
}
LANES_FN uint32_t decode_u16(const uint8_t *p) { return *(const uint16_t *)(const void *)p; }

#else

LANES_FN void decode_words(uint32_t *w, const uint8_t *p, int n, int align)
{
    (void)align;
    for (int i = 0; i < n; i++, p += 4)
        w[i] = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
LANES_FN uint32_t decode_u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

#endif

/* The bytes of four words, each less `less`: a byte in the low bits of 2^23 is a float. */
LANES_FN void decode_bytes(float q[16], const uint32_t w[4], float less)
{
    for (int i = 0; i < 4; i++) {
        q[4 * i] = rt_float_of_bits(0x4b000000u | (w[i] & 255u)) - (0x1p23f + less);
        q[4 * i + 1] = fmaf(rt_float_of_bits(0x4b000000u | (w[i] & 0xff00u)), 0x1p-8f,
                            -(0x1p15f + less));
        q[4 * i + 2] = rt_float_of_bits(0x4b000000u | (w[i] >> 16 & 255u)) - (0x1p23f + less);
        q[4 * i + 3] = rt_float_of_bits(0x4b000000u | w[i] >> 24) - (0x1p23f + less);
    }
}

/* Nibbles of 16 bytes, the low ones or (high = 1) the others, as bytes. */
LANES_FN void decode_nibbles(uint32_t w[4], int high)
{
    for (int i = 0; i < 4; i++)
        w[i] = w[i] >> (4 * high) & 0x0f0f0f0fu;
}

/* Bits 4i .. 4i+3 become bit 4 of the bytes of word i. */
LANES_FN void decode_fifths(uint32_t w[4], uint32_t bits)
{
    for (int i = 0; i < 4; i++)
        w[i] |= ((bits >> (4 * i) & 15u) * 0x00204081u & 0x01010101u) << 4;
}

/* The value of an E2M1 code: its bits are those of a small float. */
LANES_FN float decode_e2m1_float(uint32_t code)
{
    return rt_float_of_bits((code & 7u) << 22 | (code & 8u) << 28) * 0x1p126f;
}

LANES_FN float decode_e4m3_float(uint32_t code)
{
    float f = rt_float_of_bits((code & 127u) << 20 | (code & 128u) << 24) * 0x1p120f;
    return (code & 127u) == 127u ? rt_float_of_bits(0x7fc00000u) : f;
}

LANES_FN uint32_t decode_byte(uint32_t w, int i) { return w >> (8 * i) & 255u; }

LANES_FN void decode_run_q45_k(struct decoded *y, const uint8_t *p, int s, bool five)
{
    uint32_t head[4], w[4], h[4];
    int j = s / 2, half = s % 2, i = j % 4;
    decode_words(head, p, 4, 16); /* d, dmin; six-bit scales and minima */
    decode_words(w, p + (five ? 48 : 16) + j / 2 * 32 + half * 16, 4, 16);
    uint32_t a = decode_byte(head[1], i), b = decode_byte(head[2], i), c = decode_byte(head[3], i);
    uint32_t scale = j < 4 ? a & 63u : (c & 15u) | a >> 6 << 4;
    uint32_t low = j < 4 ? b & 63u : c >> 4 | b >> 6 << 4;
    y->scale = decode_half_bits(head[0] & 0xffffu) * (float)scale;
    y->low = -(decode_half_bits(head[0] >> 16) * (float)low);
    decode_nibbles(w, j % 2);
    if (five) {
        decode_words(h, p + 16 + half * 16, 4, 16);
        for (int k = 0; k < 4; k++)
            w[k] |= (h[k] >> j & 0x01010101u) << 4;
    }
    decode_bytes(y->q, w, 0.0f);
}

LANES_FN void decode_run_q6_k(struct decoded *y, const uint8_t *p, int s)
{
    uint32_t w[4], h[4];
    int half = s / 8, k = s % 8 / 2, at = s % 2 * 16;
    decode_words(w, p + 64 * half + k % 2 * 32 + at, 4, 2);
    decode_words(h, p + 128 + 32 * half + at, 4, 2);
    decode_nibbles(w, k / 2);
    for (int i = 0; i < 4; i++)
        w[i] |= (h[i] >> (2 * k) & 0x03030303u) << 4;
    y->scale = decode_half_bits(decode_u16(p + 208)) * (float)(int8_t)p[192 + s];
    decode_bytes(y->q, w, 32.0f);
}

/* Run r of what is stored as row `row` (of decode_row) of a piece that has runs; form is
   decode_form's, best a constant. */
LANES_FN void decode_run(struct decoded *y, int form, const rt_piece *piece, int64_t row, int r)
{
    const uint8_t *data = piece->data + row * piece->row_bytes, *p;
    uint32_t w[16];
    y->scale = 1.0f;
    y->low = 0.0f;
    switch (form) {
    case RT_F32:
        decode_words(w, data + (int64_t)r * 64, 16, 16);
        for (int i = 0; i < 16; i++)
            y->q[i] = rt_float_of_bits(w[i]);
        return;
    case RT_F16:
    case RT_BF16:
        decode_words(w, data + (int64_t)r * 32, 8, 16);
        for (int i = 0; i < 8; i++) {
            bool half = form == RT_F16;
            y->q[2 * i] = half ? decode_half_bits(w[i] & 0xffffu) : rt_float_of_bits(w[i] << 16);
            y->q[2 * i + 1] = half ? decode_half_bits(w[i] >> 16)
                                   : rt_float_of_bits(w[i] & 0xffff0000u);
        }
        return;
    case RT_F8_E4M3:
    case DECODE_FP8:
        decode_words(w, data + (int64_t)r * 16, 4, 16);
        for (int i = 0; i < 16; i++)
            y->q[i] = decode_e4m3_float(decode_byte(w[i / 4], i % 4));
        if (form == DECODE_FP8)
            y->scale = decode_scale(piece, row, (int64_t)r * 16);
        return;
    case DECODE_MXFP4:
    case DECODE_INT4: /* neighbours share a byte */
        decode_words(w, data + (int64_t)r * 8, 2, 8);
        for (int i = 0; i < 16; i++) {
            uint32_t code = w[i / 8] >> (i % 8 * 4) & 15u;
            y->q[i] = form == DECODE_MXFP4
                          ? decode_e2m1_float(code)
                          : rt_float_of_bits(0x4b000000u | code) - (0x1p23f + 8.0f);
        }
        y->scale = form == DECODE_MXFP4 ? decode_e8m0(piece->scale[row * piece->scale_ld + r / 2])
                                        : decode_scale(piece, row, (int64_t)r * 16);
        return;
    case RT_Q8_0:
        p = data + r / 2 * (int64_t)34;
        decode_words(w, p + 2 + r % 2 * 16, 4, 2);
        for (int i = 0; i < 4; i++)
            w[i] ^= 0x80808080u;
        y->scale = decode_half_bits(decode_u16(p));
        decode_bytes(y->q, w, 128.0f);
        return;
    case RT_Q4_0:
    case RT_IQ4_NL:
        p = data + r / 2 * (int64_t)18;
        decode_words(w, p + 2, 4, 2);
        decode_nibbles(w, r % 2);
        y->scale = decode_half_bits(decode_u16(p));
        if (form == RT_Q4_0)
            decode_bytes(y->q, w, 8.0f);
        else
            for (int i = 0; i < 16; i++)
                y->q[i] = (float)decode_iq4((int32_t)decode_byte(w[i / 4], i % 4));
        return;
    case RT_Q4_1:
        p = data + r / 2 * (int64_t)20;
        decode_words(w, p + 4, 4, 4);
        decode_nibbles(w, r % 2);
        y->scale = decode_half_bits(decode_u16(p));
        y->low = decode_half_bits(decode_u16(p + 2));
        decode_bytes(y->q, w, 0.0f);
        return;
    case RT_Q5_0:
        p = data + r / 2 * (int64_t)22;
        decode_words(w, p + 6, 4, 2);
        decode_nibbles(w, r % 2);
        decode_fifths(w, decode_u16(p + 2 + r % 2 * 2));
        y->scale = decode_half_bits(decode_u16(p));
        decode_bytes(y->q, w, 16.0f);
        return;
    case RT_Q5_1:
        p = data + r / 2 * (int64_t)24;
        decode_words(w, p + 8, 4, 8);
        decode_nibbles(w, r % 2);
        decode_fifths(w, decode_u16(p + 4 + r % 2 * 2));
        y->scale = decode_half_bits(decode_u16(p));
        y->low = decode_half_bits(decode_u16(p + 2));
        decode_bytes(y->q, w, 0.0f);
        return;
    case RT_MXFP4: /* twice the value under half the scale; no zero below 0 */
        p = data + r / 2 * (int64_t)17;
        decode_words(w, p + 1, 4, 1);
        decode_nibbles(w, r % 2);
        for (int i = 0; i < 16; i++)
            y->q[i] = decode_e2m1_float(decode_byte(w[i / 4], i % 4)) * 2.0f + 0.0f;
        y->scale = p[0] == 255 ? 0x1p127f : decode_e8m0(p[0]) * 0.5f;
        return;
    case RT_Q4_K:
        decode_run_q45_k(y, data + r / 16 * (int64_t)144, r % 16, false);
        return;
    case RT_Q5_K:
        decode_run_q45_k(y, data + r / 16 * (int64_t)176, r % 16, true);
        return;
    case RT_Q6_K:
        decode_run_q6_k(y, data + r / 16 * (int64_t)210, r % 16);
        return;
    default:
        for (int i = 0; i < 16; i++)
            y->q[i] = rt_float_of_bits(0x7fc00000u);
    }
}

/* Element i of it. */
LANES_FN float decode_run_at(const struct decoded *y, int form, int i)
{
    float x = y->scale * y->q[i];
    return decode_has_low(form) ? x + y->low : x;
}

#endif
