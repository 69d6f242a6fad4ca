/* decode.c: block formats to f32, the exact values that GGUF readers see, and the 8 and 4-bit codes
   of safetensors checkpoints. Owns the layouts of ggml-common.h and the order of operations: scale
   times sub-scale first, then times the code, each rounded to f32, so that results equal the `gguf`
   Python package bit for bit. Input may have any alignment. Refuses: encoding (quant/encode.h). All
   scales are little-endian f16. */
#include <math.h>
#include <string.h>

#include "core/base/dtype.h"
#include "core/base/err.h"

static const int8_t IQ4[16] = RT_IQ4_VALUES, FP4[16] = RT_FP4_VALUES;

static float load_f16(const uint8_t *p) { return rt_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

/* 16 bytes of codes: low nibbles are elements 0-15, high nibbles 16-31. */
static void unpack(uint8_t *q, const uint8_t *qs)
{
    for (int j = 0; j < 16; j++) {
        q[j] = qs[j] & 15;
        q[j + 16] = qs[j] >> 4;
    }
}

static void unpack_fifth(uint8_t *q, const uint8_t *qh, const uint8_t *qs)
{
    unpack(q, qs);
    for (int j = 0; j < 32; j++)
        q[j] = (uint8_t)(q[j] | (qh[j / 8] >> (j % 8) & 1) << 4);
}

static void decode_q8_0(float *y, const uint8_t *p) /* d, int8[32] */
{
    float d = load_f16(p);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)(int8_t)p[2 + j];
}

static void decode_q4_0(float *y, const uint8_t *p) /* d, nibbles */
{
    uint8_t q[32];
    float d = load_f16(p);
    unpack(q, p + 2);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)(q[j] - 8);
}

static void decode_q4_1(float *y, const uint8_t *p) /* d, m, nibbles */
{
    uint8_t q[32];
    float d = load_f16(p), m = load_f16(p + 2);
    unpack(q, p + 4);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)q[j] + m;
}

static void decode_q5_0(float *y, const uint8_t *p) /* d, fifth bits, nibbles */
{
    uint8_t q[32];
    float d = load_f16(p);
    unpack_fifth(q, p + 2, p + 6);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)(q[j] - 16);
}

static void decode_q5_1(float *y, const uint8_t *p) /* d, m, fifth bits, nibbles */
{
    uint8_t q[32];
    float d = load_f16(p), m = load_f16(p + 2);
    unpack_fifth(q, p + 4, p + 8);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)q[j] + m;
}

static void decode_iq4_nl(float *y, const uint8_t *p) /* d, nibbles that index a table */
{
    uint8_t q[32];
    float d = load_f16(p);
    unpack(q, p + 2);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)IQ4[q[j]];
}

/* d, high bits of scales u16, their low nibbles[4], codes of 8 sub-blocks of 32 */
static void decode_iq4_xs(float *y, const uint8_t *p)
{
    uint8_t q[32];
    float d = load_f16(p);
    for (int j = 0; j < 8; j++) {
        int high = (p[2] | p[3] << 8) >> (2 * j) & 3, low = p[4 + j / 2] >> (j % 2 * 4) & 15;
        float s = d * (float)((low | high << 4) - 32);
        unpack(q, p + 8 + 16 * j);
        for (int l = 0; l < 32; l++)
            y[32 * j + l] = s * (float)IQ4[q[l]];
    }
}

/* Sub-block j of 8: six-bit scale and minimum out of 12 bytes. */
static void scale_min(const uint8_t *s, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

/* d, dmin, scales[12], (q5: fifth bits[32],) nibbles[128]: bytes 32c .. 32c+31 hold sub-block 2c in
   their low halves and 2c+1 in their high halves; bit b of fifth byte l belongs to sub-block b. */
static void decode_q45_k(float *y, const uint8_t *p, bool five)
{
    float d = load_f16(p), dmin = load_f16(p + 2);
    const uint8_t *qh = p + 16, *qs = five ? p + 48 : p + 16;
    for (int j = 0; j < 8; j++) {
        int scale, min, shift = j % 2 * 4;
        scale_min(p + 4, j, &scale, &min);
        float s = d * (float)scale, m = dmin * (float)min;
        for (int l = 0; l < 32; l++) {
            int q = qs[j / 2 * 32 + l] >> shift & 15;
            if (five)
                q |= (qh[l] >> j & 1) << 4;
            y[32 * j + l] = s * (float)q - m;
        }
    }
}

static void decode_q4_k(float *y, const uint8_t *p) { decode_q45_k(y, p, false); }
static void decode_q5_k(float *y, const uint8_t *p) { decode_q45_k(y, p, true); }

/* low nibbles[128], high bits[64], int8 scales[16], d. Within each half of 128: quarter k (32
   elements) has its low bits in half k/2 of bytes k%2*32 .., its high bits at 2k of qh. */
static void decode_q6_k(float *y, const uint8_t *p)
{
    float d = load_f16(p + 208);
    for (int j = 0; j < 16; j++) {
        int half = j / 8, k = j % 8 / 2, at = j % 2 * 16;
        const uint8_t *low = p + 64 * half + k % 2 * 32 + at, *high = p + 128 + 32 * half + at;
        float s = d * (float)(int8_t)p[192 + j];
        for (int l = 0; l < 16; l++) {
            int q = (low[l] >> (k / 2 * 4) & 15) | (high[l] >> (2 * k) & 3) << 4;
            y[16 * j + l] = s * (float)(q - 32);
        }
    }
}

/* 2^(e - 127); 255 is not a number. */
static float e8m0(uint8_t e)
{
    uint32_t bits = e == 255 ? 0x7fc00000u : e ? (uint32_t)e << 23 : 0x00400000u;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void decode_mxfp4(float *y, const uint8_t *p) /* e, nibbles that index a doubled table */
{
    uint8_t q[32];
    float d = p[0] == 255 ? 0x1p127f : e8m0(p[0]) * 0.5f; /* GGUF gives 255 its plain meaning */
    unpack(q, p + 1);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)FP4[q[j]];
}

float rt_nvfp4_scale(uint8_t code)
{
    uint32_t mag = code & 127u, bits = (mag << 20) + (119u << 23);
    float f;
    memcpy(&f, &bits, sizeof f);
    return mag == 127 ? 0 : mag < 8 ? (float)mag * 0x1p-10f : f;
}

/* scales[4], nibbles[32]: 8 bytes a sub-block of 16, its first half in the low ones */
static void decode_nvfp4(float *y, const uint8_t *p)
{
    for (int j = 0; j < 64; j++) {
        int q = p[4 + j / 16 * 8 + j % 8] >> (j % 16 / 8 * 4) & 15;
        y[j] = rt_nvfp4_scale(p[j / 16]) * (float)FP4[q];
    }
}

/* Element i of 256 whose two-bit codes lie so: byte l of a half holds l, l + 32, l + 64, l + 96. */
static int two_bits(const uint8_t *qs, int i) { return qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3; }

static void decode_tq2_0(float *y, const uint8_t *p) /* codes, d */
{
    float d = load_f16(p + 64);
    for (int i = 0; i < 256; i++)
        y[i] = d * (float)(two_bits(p, i) - 1);
}

static void decode_q2_0(float *y, const uint8_t *p) /* d, four neighbours a byte */
{
    float d = load_f16(p);
    for (int i = 0; i < 64; i++)
        y[i] = d * (float)((p[2 + i / 4] >> (i % 4 * 2) & 3) - 1);
}

/* scales[16], a minimum in the high halves; codes[64], d, dmin */
static void decode_q2_k(float *y, const uint8_t *p)
{
    float d = load_f16(p + 80), dmin = load_f16(p + 82);
    for (int i = 0; i < 256; i++) {
        float s = d * (float)(p[i / 16] & 15), m = dmin * (float)(p[i / 16] >> 4);
        y[i] = s * (float)two_bits(p + 16, i) - m;
    }
}

/* third bits[32]: bit b of byte l is element 32 b + l; codes[64], scales[12]: low nibbles[8], high
   two bits[4]; d */
static void decode_q3_k(float *y, const uint8_t *p)
{
    const uint8_t *s = p + 96;
    float d = load_f16(p + 108);
    for (int i = 0; i < 256; i++) {
        int j = i / 16, scale = (s[j % 8] >> (j / 8 * 4) & 15) | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
        int q = two_bits(p + 32, i) | (p[i % 32] >> (i / 32) & 1) << 2;
        y[i] = d * (float)(scale - 32) * (float)(q - 4);
    }
}

void rt_decode_mxfp4(float *out, const uint8_t *codes, uint8_t exponent)
{
    static const float value[16] = { 0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f };
    float scale = e8m0(exponent);
    for (int j = 0; j < 16; j++) {
        out[2 * j] = scale * value[codes[j] & 15];
        out[2 * j + 1] = scale * value[codes[j] >> 4];
    }
}

void rt_decode_int4(float *out, const uint8_t *codes, int64_t first, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t at = first + i;
        out[i] = scale * (float)((codes[at / 2] >> (at % 2 * 4) & 15) - 8);
    }
}

/* Sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity; all ones are not a number. */
static void decode_e4m3(float *out, const uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t mag = p[i] & 127u, bits = (mag << 20) + (120u << 23);
        float f;
        memcpy(&f, &bits, sizeof f);
        f = mag == 127 ? NAN : mag < 8 ? (float)mag * 0x1p-9f : f;
        out[i] = p[i] & 128 ? -f : f;
    }
}

static void decode_f16(float *out, const uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = load_f16(p + 2 * i);
}

static void decode_bf16(float *out, const uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)p[2 * i] << 16 | (uint32_t)p[2 * i + 1] << 24;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

void rt_decode_f32(float *out, const void *data, rt_dtype t, int64_t n)
{
    static void (*const blocks[RT_DTYPE_COUNT])(float *, const uint8_t *) = {
        [RT_Q8_0] = decode_q8_0,     [RT_Q4_0] = decode_q4_0,     [RT_Q4_1] = decode_q4_1,
        [RT_Q5_0] = decode_q5_0,     [RT_Q5_1] = decode_q5_1,     [RT_Q2_K] = decode_q2_k,
        [RT_Q3_K] = decode_q3_k,     [RT_Q4_K] = decode_q4_k,     [RT_Q5_K] = decode_q5_k,
        [RT_Q6_K] = decode_q6_k,     [RT_IQ4_NL] = decode_iq4_nl, [RT_IQ4_XS] = decode_iq4_xs,
        [RT_MXFP4] = decode_mxfp4,   [RT_NVFP4] = decode_nvfp4,   [RT_TQ2_0] = decode_tq2_0,
        [RT_Q2_0] = decode_q2_0,
    };
    const rt_dtype_info *info = rt_dtype_get(t);
    const uint8_t *p = data;
    if (n < 0 || n % info->block)
        rt_bug("rt_decode_f32: %lld elements of %s", (long long)n, info->name);
    switch (t) {
    case RT_F32:
        if (n)
            memcpy(out, data, (size_t)n * sizeof *out);
        return;
    case RT_F16:
        decode_f16(out, p, n);
        return;
    case RT_BF16:
        decode_bf16(out, p, n);
        return;
    case RT_F8_E4M3:
        decode_e4m3(out, p, n);
        return;
    case RT_F8_E8M0:
        for (int64_t i = 0; i < n; i++)
            out[i] = e8m0(p[i]);
        return;
    default:
        if (!blocks[t])
            rt_bug("rt_decode_f32: %s are not weights", info->name);
        for (int64_t i = 0; i < n; i += info->block, p += info->block_bytes)
            blocks[t](out + i, p);
    }
}
