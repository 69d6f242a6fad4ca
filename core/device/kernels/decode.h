/* decode.h: one element of a weight in the bytes of its checkpoint, as f32: the bits of
   rt_decode_f32 and of rt_piece_decode (core/base/decode.c says what the layouts are), for kernels
   that read weights where they lie. Refuses: whole rows fast, which every backend does its own way. */
#ifndef RT_KERNELS_DECODE_H
#define RT_KERNELS_DECODE_H

#include "core/device/kernels/team.h"

TEAM_FN float decode_half(const uint8_t *p)
{
    uint32_t h = (uint32_t)p[0] | (uint32_t)p[1] << 8, u = (h & 0x7fff) << 13;
    float f = (h & 0x7c00) == 0x7c00 ? rt_float_of_bits(u | 0x7f800000u)
                                     : rt_float_of_bits(u) * 0x1p112f;
    return h & 0x8000 ? -f : f;
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
    case RT_Q4_K:
        return decode_q45_k(row + i / 256 * 144, i % 256, false);
    case RT_Q5_K:
        return decode_q45_k(row + i / 256 * 176, i % 256, true);
    case RT_Q6_K:
        return decode_q6_k(row + i / 256 * 210, i % 256);
    case RT_I32:
    case RT_U8:
    case RT_DTYPE_COUNT:
        break;
    }
    return rt_float_of_bits(0x7fc00000u);
}

/* Where row r lies, as rt_piece_row says it. */
TEAM_FN int64_t decode_row(const rt_piece *p, int64_t r)
{
    if (p->pair) {
        int64_t in = r % p->pair, half = p->pair / 2;
        r += in % half * 2 + in / half - in;
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
        uint32_t code = data[at / 2] >> (at % 2 * 4) & 15u;
        float size = 0.5f * (float)decode_e2m1(code);
        return decode_e8m0(p->scale[row * p->scale_ld + at / 32]) * (code & 8u ? -size : size);
    }
    int64_t i = row / p->scale_rows * p->scale_ld + at / p->scale_cols;
    float scale = decode_element(p->scale_dtype, p->scale, i);
    if (p->code == RT_CODE_INT4)
        return scale * (float)((data[at / 2] >> (at % 2 * 4) & 15) - 8);
    return decode_element(p->dtype, data, at) * scale;
}

#endif
