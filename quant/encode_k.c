/* encode_k.c: super-blocks of 256 (Q4_K, Q5_K, Q6_K). The sub-blocks are fitted freely first; then
   the 6-bit (8-bit) sub-scales are chosen by the exact error of the values as decoded, the f16
   super scales re-solved by least squares over all 256 weights, and so on until nothing improves.
 */
#include <math.h>

#include "quant/fit.h"

enum { SUB = 32, SUBS = 8, LEVELS = 63, STARTS = 3, PASSES = 4 };

/* decoded = (d sc_j) q - (dmin m_j) in sub-block j */
typedef struct super {
    float d, dmin, err;
    int sc[SUBS], m[SUBS];
} super;

static int clamp_int(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static int level_of(float value, float unit)
{
    return unit > 0 ? clamp_int((int)(value / unit + 0.5f), 0, LEVELS) : 0;
}

/* The f16 super scale under which `value` is about `level`. Where it would vanish, the smallest f16
   stands in: tiny weights then use few levels instead of being lost. */
static float super_scale(float value, int level)
{
    float d = fit_f16(value / (float)level);
    return d != 0 || value == 0 ? d : value / (float)level > 0 ? 0x1p-24f : -0x1p-24f;
}

/* The best levels of every sub-block within one step of where k has them. */
static void levels_choose(super *k, const float *x, const float *w, float hi)
{
    float q[SUB];
    k->err = 0;
    for (int j = 0; j < SUBS; j++) {
        float best = INFINITY;
        int s0 = k->sc[j], m0 = k->m[j];
        for (int s = clamp_int(s0 - 1, 0, LEVELS); s <= clamp_int(s0 + 1, 0, LEVELS); s++)
            for (int m = clamp_int(m0 - 1, 0, LEVELS); m <= clamp_int(m0 + 1, 0, LEVELS); m++) {
                float e = fit_code_affine(q, x + SUB * j, w + SUB * j, SUB, k->d * (float)s,
                                          k->dmin * (float)m, hi);
                if (e < best) {
                    best = e;
                    k->sc[j] = s;
                    k->m[j] = m;
                }
            }
        k->err += best;
    }
}

/* d and dmin that fit the present codes and levels best: minimise sum w (x - d u + dmin m)^2 with
   u = sc q, two normal equations over the super-block. */
static void scales_solve(super *k, const float *x, const float *w, float hi)
{
    double uu = 0, um = 0, mm = 0, xu = 0, xm = 0;
    float q[SUB];
    for (int j = 0; j < SUBS; j++) {
        const float *xj = x + SUB * j, *wj = w + SUB * j;
        float s = (float)k->sc[j], m = (float)k->m[j];
        v4 sw = { 0 }, su = { 0 }, suu = { 0 }, sx = { 0 }, sxu = { 0 };
        fit_code_affine(q, xj, wj, SUB, k->d * s, k->dmin * m, hi);
        for (int i = 0; i < SUB; i += 4) {
            v4 u = v4_load(q + i) * s, wi = v4_load(wj + i), v = v4_load(xj + i);
            sw += wi;
            su += wi * u;
            suu += wi * u * u;
            sx += wi * v;
            sxu += wi * u * v;
        }
        v4 zero = { 0 };
        uu += (double)v4_sum(suu, zero);
        um += (double)(m * v4_sum(su, zero));
        mm += (double)(m * m * v4_sum(sw, zero));
        xu += (double)v4_sum(sxu, zero);
        xm += (double)(m * v4_sum(sx, zero));
    }
    double det = uu * mm - um * um;
    if (det > 1e-9 * uu * mm) {
        k->d = fit_f16((float)((xu * mm - um * xm) / det));
        k->dmin = fit_f16((float)((um * xu - uu * xm) / det));
    } else if (uu > 0) {
        k->d = fit_f16((float)(xu / uu));
    }
}

static super fit_super(const float *x, const float *w, int hi)
{
    rt_affine f[SUBS];
    float top_d = 0, top_m = 0;
    for (int j = 0; j < SUBS; j++) {
        f[j] = rt_fit_affine(x + SUB * j, w + SUB * j, SUB, hi);
        top_d = f[j].d > top_d ? f[j].d : top_d;
        top_m = f[j].m > top_m ? f[j].m : top_m;
    }
    super best = { .err = INFINITY };
    for (int start = 0; start < STARTS; start++) { /* the largest level: 63, 61, 59 */
        super k = { 0 };
        k.d = super_scale(top_d, LEVELS - 2 * start);
        k.dmin = super_scale(top_m, LEVELS - 2 * start);
        for (int j = 0; j < SUBS; j++) {
            k.sc[j] = level_of(f[j].d, k.d);
            k.m[j] = level_of(f[j].m, k.dmin);
        }
        levels_choose(&k, x, w, (float)hi);
        for (int pass = 0; pass < PASSES; pass++) {
            super next = k;
            scales_solve(&next, x, w, (float)hi);
            if (!(next.d >= 0) || !(next.dmin >= 0))
                break;
            levels_choose(&next, x, w, (float)hi);
            if (!(next.err < k.err))
                break;
            k = next;
        }
        if (k.err < best.err)
            best = k;
    }
    return best;
}

/* Layout in core/base/decode.c. p was zeroed. */
static void encode_q45_k(uint8_t *p, const float *x, const float *w, bool five)
{
    float hi = five ? 31 : 15, q[SUB];
    super k = fit_super(x, w, (int)hi);
    uint8_t *s = p + 4, *qh = p + 16, *qs = five ? p + 48 : p + 16;
    fit_put_f16(p, k.d);
    fit_put_f16(p + 2, k.dmin);
    for (int j = 0; j < SUBS; j++) {
        unsigned sc = (unsigned)k.sc[j], m = (unsigned)k.m[j];
        if (j < 4) {
            s[j] = (uint8_t)(s[j] | sc);
            s[j + 4] = (uint8_t)(s[j + 4] | m);
        } else {
            s[j + 4] = (uint8_t)((sc & 15) | (m & 15) << 4);
            s[j - 4] = (uint8_t)(s[j - 4] | sc >> 4 << 6);
            s[j] = (uint8_t)(s[j] | m >> 4 << 6);
        }
        fit_code_affine(q, x + SUB * j, w + SUB * j, SUB, k.d * (float)sc, k.dmin * (float)m, hi);
        for (int l = 0; l < SUB; l++) {
            unsigned c = (unsigned)q[l];
            uint8_t *b = &qs[j / 2 * SUB + l];
            *b = (uint8_t)(*b | (c & 15) << (j % 2 * 4));
            if (five)
                qh[l] = (uint8_t)(qh[l] | c >> 4 << j);
        }
    }
}

void rt_encode_q4_k(uint8_t *p, const float *x, const float *w) { encode_q45_k(p, x, w, false); }
void rt_encode_q5_k(uint8_t *p, const float *x, const float *w) { encode_q45_k(p, x, w, true); }

/* ---- Q6_K: 16 sub-blocks of 16, signed 8-bit scales, codes -32 .. 31 ---- */

enum { SUB6 = 16, SUBS6 = 16 };

typedef struct super6 {
    float d, err;
    int sc[SUBS6];
} super6;

static float error6(float *q, const float *x, const float *w, float s)
{
    fit_scale(q, x, w, SUB6, s != 0 ? 1 / s : 0, -32, 31);
    return fit_error(q, x, w, SUB6, s, 0);
}

static void levels_choose6(super6 *k, const float *x, const float *w)
{
    float q[SUB6];
    k->err = 0;
    for (int j = 0; j < SUBS6; j++) {
        float best = INFINITY;
        int s0 = k->sc[j];
        for (int s = clamp_int(s0 - 1, -128, 127); s <= clamp_int(s0 + 1, -128, 127); s++) {
            float e = error6(q, x + SUB6 * j, w + SUB6 * j, k->d * (float)s);
            if (e < best) {
                best = e;
                k->sc[j] = s;
            }
        }
        k->err += best;
    }
}

static void scale_solve6(super6 *k, const float *x, const float *w)
{
    double uu = 0, xu = 0;
    float q[SUB6];
    for (int j = 0; j < SUBS6; j++) {
        float s = (float)k->sc[j];
        v4 suu = { 0 }, sxu = { 0 }, zero = { 0 };
        error6(q, x + SUB6 * j, w + SUB6 * j, k->d * s);
        for (int i = 0; i < SUB6; i += 4) {
            v4 u = v4_load(q + i) * s, wu = v4_load(w + SUB6 * j + i) * u;
            suu += wu * u;
            sxu += wu * v4_load(x + SUB6 * j + i);
        }
        uu += (double)v4_sum(suu, zero);
        xu += (double)v4_sum(sxu, zero);
    }
    if (uu > 0)
        k->d = fit_f16((float)(xu / uu));
}

static super6 fit_super6(const float *x, const float *w)
{
    static const rt_symmetric codes = { -32, 31, 29, 35, 0.25f, false, false };
    super6 best = { .err = INFINITY };
    float free_scale[SUBS6], top = 0, q[SUB6];
    for (int j = 0; j < SUBS6; j++) {
        free_scale[j] = rt_fit_symmetric(q, NULL, x + SUB6 * j, w + SUB6 * j, SUB6, &codes);
        top = fabsf(free_scale[j]) > fabsf(top) ? free_scale[j] : top;
    }
    for (int start = 0; start < STARTS; start++) { /* the largest level: -128, -126, -124 */
        super6 k = { .d = super_scale(top, 2 * start - 128) };
        for (int j = 0; j < SUBS6; j++)
            k.sc[j] = k.d != 0 ? clamp_int((int)lrintf(free_scale[j] / k.d), -128, 127) : 0;
        levels_choose6(&k, x, w);
        for (int pass = 0; pass < PASSES; pass++) {
            super6 next = k;
            scale_solve6(&next, x, w);
            levels_choose6(&next, x, w);
            if (!(next.err < k.err))
                break;
            k = next;
        }
        if (k.err < best.err)
            best = k;
    }
    return best;
}

void rt_encode_q6_k(uint8_t *p, const float *x, const float *w)
{
    super6 k = fit_super6(x, w);
    float q[SUB6];
    fit_put_f16(p + 208, k.d);
    for (int j = 0; j < SUBS6; j++) {
        p[192 + j] = (uint8_t)(int8_t)k.sc[j];
        error6(q, x + SUB6 * j, w + SUB6 * j, k.d * (float)k.sc[j]);
        for (int l = 0; l < SUB6; l++) {
            int i = SUB6 * j + l, half = i / 128, quarter = i % 128 / 32;
            unsigned c = (unsigned)((int)q[l] + 32);
            uint8_t *low = &p[64 * half + quarter % 2 * 32 + i % 32];
            uint8_t *high = &p[128 + 32 * half + i % 32];
            *low = (uint8_t)(*low | (c & 15) << (quarter / 2 * 4));
            *high = (uint8_t)(*high | c >> 4 << (2 * quarter));
        }
    }
}
