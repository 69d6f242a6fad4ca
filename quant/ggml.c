/* ggml.c: ggml's choices, a function a type; see ggml.h. The searches are ggml_fit.h. */
#include "quant/ggml.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/ggml_fit.h"
#include "quant/pack.h"

static const rt_ggml_tries WEIGHED = { -0.9f, 0.05f, 36, false }; /* where importance is known */

static float as_f16(float d) { return rt_f16_to_f32(rt_f32_to_f16(d)); }

/* ---- blocks of 32 with a scale, or a scale and a minimum, of their own ---- */

enum { BLOCK = 32, SUPER = 256 };

/* d, codes whose largest magnitude is the lowest code, -n */
static float rounded_signed(uint8_t *code, const float *x, int n)
{
    float d = extreme(x, BLOCK) / (float)-n, inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < BLOCK; i++) {
        int q = (int8_t)truncated(x[i] * inverse + ((float)n + 0.5f));
        code[i] = (uint8_t)(q < 2 * n - 1 ? q : 2 * n - 1);
    }
    return d;
}

static float rounded_affine(uint8_t *code, float *low, const float *x, int n)
{
    float top = -FLT_MAX;
    *low = FLT_MAX;
    for (int i = 0; i < BLOCK; i++) {
        *low = x[i] < *low ? x[i] : *low;
        top = x[i] > top ? x[i] : top;
    }
    float d = (top - *low) / (float)n, inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < BLOCK; i++) {
        int q = truncated((x[i] - *low) * inverse + 0.5f);
        q = n == 15 ? (int8_t)q : (uint8_t)q;
        code[i] = (uint8_t)(n == 15 && q > n ? n : q);
    }
    return d;
}

/* Q4_0 (n = 8), Q5_0 (16) */
static void signed_row(uint8_t *p, const float *x, int64_t width, const float *busy, int n)
{
    uint8_t c[BLOCK];
    float w[BLOCK], square = busy ? sum_squares(x, width) / (float)width : 0;
    for (int64_t at = 0; at < width; at += BLOCK) {
        if (busy) {
            weigh(w, x + at, busy + at, square, BLOCK);
            pack_f16(p, rt_ggml_signed_fit(c, x + at, w, BLOCK, n));
        } else {
            pack_f16(p, rounded_signed(c, x + at, n));
        }
        if (n == 16)
            pack_fifth_bits(p + 2, c);
        pack_nibbles(p + (n == 16 ? 6 : 2), c);
        p += n == 16 ? 22 : 18;
    }
}

/* Q4_1 (n = 15), Q5_1 (31) */
static void affine_row(uint8_t *p, const float *x, int64_t width, const float *busy, int n)
{
    uint8_t c[BLOCK];
    float w[BLOCK], low, square = busy ? sum_squares(x, width) / (float)width : 0;
    for (int64_t at = 0; at < width; at += BLOCK) {
        if (busy) {
            weigh(w, x + at, busy + at, square, BLOCK);
            pack_f16(p, rt_ggml_affine_fit(c, &low, x + at, w, BLOCK, n, WEIGHED));
            low = -low;
        } else {
            pack_f16(p, rounded_affine(c, &low, x + at, n));
        }
        pack_f16(p + 2, low);
        if (n == 31)
            pack_fifth_bits(p + 4, c);
        pack_nibbles(p + (n == 31 ? 8 : 4), c);
        p += n == 31 ? 24 : 20;
    }
}

static void q4_0_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    signed_row(p, x, width, busy, 8);
}
static void q5_0_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    signed_row(p, x, width, busy, 16);
}
static void q4_1_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    affine_row(p, x, width, busy, 15);
}
static void q5_1_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    affine_row(p, x, width, busy, 31);
}

static void q8_0_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    (void)busy;
    for (int64_t at = 0; at < width; at += BLOCK, p += 34) {
        float d = fabsf(extreme(x + at, BLOCK)) / 127, inverse = d != 0 ? 1 / d : 0;
        pack_f16(p, d);
        for (int i = 0; i < BLOCK; i++)
            p[2 + i] = (uint8_t)truncated(roundf(x[at + i] * inverse));
    }
}

/* ---- super-blocks with a scale and a minimum a sub-block: Q4_K, Q5_K, Q2_K ---- */

typedef struct affine_super {
    uint8_t code[SUPER], sc[16], m[16];
    float d, dmin;
} affine_super;

/* Levels 0 .. n as fractions of the largest of x; the scale of one level. */
static float levels_of_largest(uint8_t *level, const float *x, int subs, int n)
{
    float top = 0;
    for (int j = 0; j < subs; j++)
        top = x[j] > top ? x[j] : top;
    float inverse = top > 0 ? (float)n / top : 0;
    for (int j = 0; j < subs; j++) {
        uint8_t q = (uint8_t)nearest(inverse * x[j]);
        level[j] = n == 63 && q > n ? (uint8_t)n : q;
    }
    return top / (float)n;
}

/* x (256), busy (256) or NULL: subs sub-blocks with codes 0 .. hi, levels 0 .. n, plain tries
   without importance. */
static void fit_super(affine_super *s, const float *x, const float *busy, int subs, int hi, int n,
                      rt_ggml_tries plain)
{
    float scale[16], low[16], total[16], w[BLOCK];
    int each = SUPER / subs;
    float square = sum_squares(x, SUPER) * (n == 63 ? 2.0f : 1.0f) / SUPER;
    for (int j = 0; j < subs; j++) {
        const float *xj = x + j * each;
        float mean = sqrtf(sum_squares(xj, each) / (float)each);
        if (busy)
            weigh(w, xj, busy + j * each, square, each);
        for (int i = 0; i < each && !busy; i++)
            w[i] = n == 63 ? mean + fabsf(xj[i]) : fabsf(xj[i]);
        total[j] = 0;
        for (int i = 0; i < each; i++)
            total[j] += w[i];
        scale[j] = rt_ggml_affine_fit(s->code + j * each, &low[j], xj, w, each, hi,
                                      busy ? WEIGHED : plain);
    }
    s->d = busy ? rt_ggml_levels_fit(s->sc, scale, total, subs, n)
                : levels_of_largest(s->sc, scale, subs, n);
    s->dmin = busy ? rt_ggml_levels_fit(s->m, low, total, subs, n)
                   : levels_of_largest(s->m, low, subs, n);
}

/* The codes again, under the levels as read from the block; a sub-block without a scale keeps its. */
static void recode(affine_super *s, const float *x, int j, int each, int sc, int m, int hi)
{
    float d = as_f16(s->d) * (float)sc, low = as_f16(s->dmin) * (float)m;
    for (int i = j * each; i < (j + 1) * each && d != 0; i++)
        s->code[i] = (uint8_t)clamp(nearest((x[i] + low) / d), 0, hi);
}

static void q45_k_row(uint8_t *p, const float *x, int64_t width, const float *busy, bool five)
{
    affine_super s;
    int hi = five ? 31 : 15;
    rt_ggml_tries plain = five ? (rt_ggml_tries){ -0.5f, 0.1f, 15, false }
                               : (rt_ggml_tries){ -1.0f, 0.1f, 20, false };
    for (int64_t at = 0; at < width; at += SUPER, p += five ? 176 : 144) {
        fit_super(&s, x + at, busy ? busy + at : NULL, 8, hi, 63, plain);
        for (int j = 0; j < 8; j++)
            recode(&s, x + at, j, 32, s.sc[j] & 63, s.m[j] & 63, hi);
        pack_q45_k(p, s.d, s.dmin, s.sc, s.m, s.code, five);
    }
}
static void q4_k_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    q45_k_row(p, x, width, busy, false);
}
static void q5_k_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    q45_k_row(p, x, width, busy, true);
}

static void q2_k_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    affine_super s;
    for (int64_t at = 0; at < width; at += SUPER, p += 84) {
        fit_super(&s, x + at, busy ? busy + at : NULL, 16, 3, 15,
                  (rt_ggml_tries){ -0.5f, 0.1f, 15, true });
        for (int j = 0; j < 16; j++)
            recode(&s, x + at, j, 16, s.sc[j] & 15, s.m[j] & 15, 3);
        pack_q2_k(p, s.d, s.dmin, s.sc, s.m, s.code);
    }
}

/* ---- super-blocks with a scale a sub-block of 16: Q6_K, Q3_K ---- */

/* codes -n .. n - 1, each + n, under scale d sc */
static void recode_signed(uint8_t *code, const float *x, float d, int sc, int n)
{
    float s = as_f16(d) * (float)sc;
    for (int i = 0; i < 16 && s != 0; i++)
        code[i] = (uint8_t)(clamp(nearest(x[i] / s), -n, n - 1) + n);
}

static void q6_k_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    for (int64_t at = 0; at < width; at += SUPER, p += 210) {
        uint8_t code[SUPER];
        uint8_t level[16];
        float scale[16];
        for (int j = 0; j < 16; j++)
            scale[j] = rt_ggml_signed_fit(code + 16 * j, x + at + 16 * j,
                                          busy ? busy + at + 16 * j : NULL, 16, 32);
        float top = extreme(scale, 16);
        if (fabsf(top) < RT_GGML_NOTHING) {
            memset(p, 0, 210);
            continue;
        }
        float inverse = -128.0f / top, d = 1 / inverse;
        for (int j = 0; j < 16; j++) {
            int q = nearest(inverse * scale[j]);
            q = (int8_t)(q < 127 ? q : 127);
            level[j] = (uint8_t)q;
            recode_signed(code + 16 * j, x + at + 16 * j, d, q, 32);
        }
        pack_q6_k(p, d, level, code);
    }
}

static void q3_k_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    for (int64_t at = 0; at < width; at += SUPER, p += 110) {
        uint8_t code[SUPER], level[16] = { 0 };
        float scale[16], total[16], w[16], d = 0;
        float square = 2 * sum_squares(x + at, SUPER) / SUPER;
        for (int j = 0; j < 16; j++) {
            const float *xj = x + at + 16 * j;
            if (!busy) {
                scale[j] = rt_ggml_descend_fit(code + 16 * j, xj, 16);
                continue;
            }
            weigh(w, xj, busy + at + 16 * j, square, 16);
            total[j] = 0;
            for (int i = 0; i < 16; i++)
                total[j] += w[i];
            scale[j] = rt_ggml_signed_fit(code + 16 * j, xj, w, 16, 4);
        }
        float top = extreme(scale, 16), inverse = top != 0 ? -32.0f / top : 0;
        if (busy)
            d = rt_ggml_signed_fit(level, scale, total, 16, 32);
        else if (top != 0)
            d = 1 / inverse;
        for (int j = 0; j < 16 && !busy && top != 0; j++)
            level[j] = (uint8_t)(clamp(nearest(inverse * scale[j]), -32, 31) + 32);
        for (int j = 0; j < 16; j++)
            recode_signed(code + 16 * j, x + at + 16 * j, d, level[j] - 32, 4);
        pack_q3_k(p, d, level, code);
    }
}

/* ---- tables of values: IQ4_NL, IQ4_XS, MXFP4, NVFP4 ---- */

static const int8_t iq4[16] = RT_IQ4_VALUES, fp4[16] = RT_FP4_VALUES;

static int iq4_code(float v)
{
    int lo = 0, hi = 15;
    if (v <= (float)iq4[0])
        return 0;
    if (v >= (float)iq4[15])
        return 15;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (v < (float)iq4[mid])
            hi = mid;
        else
            lo = mid;
    }
    return v - (float)iq4[hi - 1] < (float)iq4[hi] - v ? hi - 1 : hi;
}

typedef struct moments {
    float xq, qq; /* sum w x q, sum w q^2 */
} moments;

static moments iq4_moments(const float *x, const float *w, float inverse)
{
    moments m = { 0, 0 };
    for (int i = 0; i < BLOCK; i++) {
        float q = (float)iq4[iq4_code(inverse * x[i])];
        m.xq += w[i] * q * x[i];
        m.qq += w[i] * q * q;
    }
    return m;
}

static float iq4_fit(const float *x, const float *busy, float square)
{
    float w[BLOCK], top = extreme(x, BLOCK);
    if (busy)
        weigh(w, x, busy, square, BLOCK);
    for (int i = 0; i < BLOCK && !busy; i++)
        w[i] = x[i] * x[i];
    if (fabsf(top) < RT_GGML_NOTHING)
        return 0;
    moments m = iq4_moments(x, w, 1 / (-top / (float)iq4[0]));
    float d = m.qq > 0 ? m.xq / m.qq : 0, best = d * m.xq;
    for (int step = -7; step <= 7; step++) {
        m = iq4_moments(x, w, (float)(step + iq4[0]) / top);
        if (m.qq > 0 && m.xq * m.xq > best * m.qq) {
            d = m.xq / m.qq;
            best = d * m.xq;
        }
    }
    return d;
}

static void iq4_codes(uint8_t *code, const float *x, float d)
{
    float inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < BLOCK; i++)
        code[i] = (uint8_t)iq4_code(inverse * x[i]);
}

static void iq4_nl_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    for (int64_t at = 0; at < width; at += BLOCK, p += 18) {
        uint8_t code[BLOCK];
        float square = sum_squares(x + at, BLOCK) * (2.0f / BLOCK);
        float d = iq4_fit(x + at, busy ? busy + at : NULL, square);
        iq4_codes(code, x + at, d);
        pack_f16(p, d);
        pack_nibbles(p + 2, code);
    }
}

static void iq4_xs_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    for (int64_t at = 0; at < width; at += SUPER, p += 136) {
        uint8_t code[SUPER], level[8];
        float scale[8], square = sum_squares(x + at, SUPER) * (2.0f / SUPER);
        for (int j = 0; j < 8; j++)
            scale[j] = iq4_fit(x + at + 32 * j, busy ? busy + at + 32 * j : NULL, square);
        float d = -extreme(scale, 8) / 32, inverse = d != 0 ? 1 / d : 0;
        for (int j = 0; j < 8; j++) {
            int q = clamp(nearest(inverse * scale[j]), -32, 31);
            level[j] = (uint8_t)(q + 32);
            iq4_codes(code + 32 * j, x + at + 32 * j, d * (float)q);
        }
        pack_iq4_xs(p, d, level, code);
    }
}

/* Nearest of d times the values, the first of equals. */
static void fp4_codes(uint8_t *code, const float *x, int n, float d)
{
    for (int i = 0; i < n; i++) {
        float least = fabsf((float)fp4[0] * d - x[i]);
        code[i] = 0;
        for (int k = 1; k < 16; k++) {
            float e = fabsf((float)fp4[k] * d - x[i]);
            if (e < least) {
                least = e;
                code[i] = (uint8_t)k;
            }
        }
    }
}

static void mxfp4_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    (void)busy;
    for (int64_t at = 0; at < width; at += BLOCK, p += 17) {
        uint8_t code[BLOCK];
        float top = fabsf(extreme(x + at, BLOCK)), d;
        p[0] = top > 0 ? (uint8_t)(int)(floorf(log2f(top)) - 2 + 127) : 0;
        uint32_t bits = p[0] < 2 ? 0x00200000u << p[0] : (uint32_t)(p[0] - 1) << 23;
        memcpy(&d, &bits, sizeof d);
        fp4_codes(code, x + at, BLOCK, d);
        pack_nibbles(p + 1, code);
    }
}

/* An e4m3 code without sign, halves upwards, the largest finite one for what is above it. */
static uint8_t ue4m3_code(float v)
{
    uint32_t bits;
    if (!(v > 0))
        return 0;
    v = v > 448 ? 448 : v;
    memcpy(&bits, &v, sizeof bits);
    int exponent = (int)(bits >> 23) - 127 + 7;
    if (exponent <= 0)
        return (uint8_t)clamp((int)(v * 512 + 0.5f), 0, 7);
    int code = (exponent << 3 | (int)(bits >> 20 & 7)) + (int)(bits >> 19 & 1);
    return (uint8_t)(code < 0x78 ? code : 0x7e); /* 256 and more: all 448 */
}

static void nvfp4_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    (void)busy;
    for (int64_t at = 0; at < width; at += 64, p += 36)
        for (int j = 0; j < 4; j++) {
            uint8_t code[16];
            const float *xj = x + at + 16 * j;
            p[j] = ue4m3_code(fabsf(extreme(xj, 16)) / 6);
            fp4_codes(code, xj, 16, rt_nvfp4_scale(p[j]));
            pack_sixteen(p + 4 + 8 * j, code);
        }
}

/* ---- two bits: TQ2_0, Q2_0 ---- */

static void tq2_0_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    (void)busy;
    for (int64_t at = 0; at < width; at += SUPER, p += 66) {
        uint8_t code[SUPER];
        float d = fabsf(extreme(x + at, SUPER)), inverse = d != 0 ? 1 / d : 0;
        for (int i = 0; i < SUPER; i++) {
            float v = roundf(x[at + i] * inverse);
            code[i] = (uint8_t)((isfinite(v) ? (int)v + 1 : 1) & 3);
        }
        pack_twos(p, code);
        pack_f16(p + 64, d);
    }
}

static void q2_0_row(uint8_t *p, const float *x, int64_t width, const float *busy)
{
    (void)busy;
    for (int64_t at = 0; at < width; at += 64, p += 18) {
        uint8_t code[64];
        float d = fabsf(extreme(x + at, 64)), inverse = d > 0 ? 1 / d : 0;
        for (int i = 0; i < 64; i++) {
            float v = roundf(x[at + i] * inverse);
            code[i] = (uint8_t)(isfinite(v) ? clamp((int)v + 1, 0, 3) : 0);
        }
        pack_q2_0(p, d, code);
    }
}

rt_ggml_fn *rt_ggml_row(rt_dtype t)
{
    static rt_ggml_fn *const rows[RT_DTYPE_COUNT] = {
        [RT_Q8_0] = q8_0_row,     [RT_Q4_0] = q4_0_row,     [RT_Q4_1] = q4_1_row,
        [RT_Q5_0] = q5_0_row,     [RT_Q5_1] = q5_1_row,     [RT_Q2_K] = q2_k_row,
        [RT_Q3_K] = q3_k_row,     [RT_Q4_K] = q4_k_row,     [RT_Q5_K] = q5_k_row,
        [RT_Q6_K] = q6_k_row,     [RT_IQ4_NL] = iq4_nl_row, [RT_IQ4_XS] = iq4_xs_row,
        [RT_MXFP4] = mxfp4_row,   [RT_NVFP4] = nvfp4_row,   [RT_TQ2_0] = tq2_0_row,
        [RT_Q2_0] = q2_0_row,
    };
    return rows[t];
}
