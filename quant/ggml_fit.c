/* ggml_fit.c: the searches; see ggml_fit.h. */
#include "quant/ggml_fit.h"

/* ---- codes -n .. n - 1 under one scale ---- */

typedef struct moments {
    float xq, qq; /* sum w x q, sum w q^2 */
} moments;

/* Codes at this inverse scale, each + n; w NULL: x^2. */
static moments signed_codes(uint8_t *code, const float *x, const float *w, int count, int n,
                            float inverse)
{
    moments m = { 0, 0 };
    for (int i = 0; i < count; i++) {
        int q = clamp(nearest(inverse * x[i]), -n, n - 1);
        float wi = w ? w[i] : x[i] * x[i];
        m.xq += wi * x[i] * (float)q;
        m.qq += wi * (float)q * (float)q;
        code[i] = (uint8_t)(q + n);
    }
    return m;
}

/* The scale; of 19 that put the extreme at -n and 0.1 .. 0.9 beside it. */
float rt_ggml_signed_fit(uint8_t *code, const float *x, const float *w, int count, int n)
{
    uint8_t now[256];
    float top = extreme(x, count);
    memset(code, 0, count > 0 ? (size_t)count : 0);
    if (fabsf(top) < RT_GGML_NOTHING)
        return 0;
    moments m = signed_codes(code, x, w, count, n, (float)-n / top);
    float scale = m.qq != 0 ? m.xq / m.qq : 0, best = scale * m.xq;
    for (int step = -9; step <= 9; step++) {
        if (step == 0)
            continue;
        m = signed_codes(now, x, w, count, n, -((float)n + 0.1f * (float)step) / top);
        if (m.qq > 0 && m.xq * m.xq > best * m.qq) {
            memcpy(code, now, (size_t)count);
            scale = m.xq / m.qq;
            best = scale * m.xq;
        }
    }
    return scale;
}

/* Q3_K without importance: codes -4 .. 3 by coordinate descent under weights x^2. */
float rt_ggml_descend_fit(uint8_t *code, const float *x, int count)
{
    enum { N = 4, PASSES = 5 };
    float top = extreme(x, count);
    memset(code, 0, count > 0 ? (size_t)count : 0);
    if (fabsf(top) < RT_GGML_NOTHING)
        return 0;
    moments m = signed_codes(code, x, NULL, count, N, (float)-N / top);
    for (int pass = 0, changed = 1; pass < PASSES && changed; pass++) {
        changed = 0;
        for (int i = 0; i < count; i++) {
            float w = x[i] * x[i], old = (float)(code[i] - N);
            moments rest = { m.xq - w * x[i] * old, 0 };
            if (!(rest.xq > 0))
                continue;
            rest.qq = m.qq - w * old * old;
            int q = clamp(nearest(x[i] * rest.qq / rest.xq), -N, N - 1);
            if (q == code[i] - N)
                continue;
            rest.xq += w * x[i] * (float)q;
            rest.qq += w * (float)q * (float)q;
            if (rest.qq > 0 && rest.xq * rest.xq * m.qq > m.xq * m.xq * rest.qq) {
                code[i] = (uint8_t)(q + N);
                m = rest;
                changed = 1;
            }
        }
    }
    return m.qq > 0 ? m.xq / m.qq : 0;
}

/* ---- codes 0 .. n under a scale and a minimum at or below zero ---- */

static float affine_error(const uint8_t *code, const float *x, const float *w, int count,
                          float scale, float low, bool absolute)
{
    float sum = 0;
    for (int i = 0; i < count; i++) {
        float e = scale * (float)code[i] + low - x[i];
        sum += w[i] * (absolute ? fabsf(e) : e * e);
    }
    return sum;
}

static void affine_codes(uint8_t *code, const float *x, int count, int n, float inverse, float low)
{
    for (int i = 0; i < count; i++)
        code[i] = (uint8_t)clamp(nearest(inverse * (x[i] - low)), 0, n);
}

/* The scale and minimum that fit these codes best; false: none does. */
static bool affine_solve(const uint8_t *code, const float *x, const float *w, int count,
                         float sum_w, float sum_x, float *scale, float *low)
{
    float l = 0, l2 = 0, xl = 0;
    for (int i = 0; i < count; i++) {
        float q = (float)code[i];
        l += w[i] * q;
        l2 += w[i] * q * q;
        xl += w[i] * q * x[i];
    }
    float det = sum_w * l2 - l * l;
    if (!(det > 0))
        return false;
    *scale = (sum_w * xl - sum_x * l) / det;
    *low = (l2 * sum_x - l * xl) / det;
    if (*low > 0) {
        *low = 0;
        *scale = xl / l2;
    }
    return true;
}

/* *minus: what is subtracted, the minimum's negative. */
float rt_ggml_affine_fit(uint8_t *code, float *minus, const float *x, const float *w, int count, int n,
                         rt_ggml_tries t)
{
    uint8_t now[32];
    float low = x[0], top = x[0], sum_w = w[0], sum_x = sum_w * x[0];
    for (int i = 1; i < count; i++) {
        low = x[i] < low ? x[i] : low;
        top = x[i] > top ? x[i] : top;
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    low = low > 0 ? 0 : low;
    memset(code, 0, count > 0 ? (size_t)count : 0);
    *minus = -low;
    if (top <= low)
        return 0;
    float inverse = (float)n / (top - low), scale = 1 / inverse;
    affine_codes(code, x, count, n, inverse, low);
    float best = affine_error(code, x, w, count, scale, low, t.absolute);
    for (int k = 0; k <= t.last; k++) {
        float s, m;
        inverse = (t.from + t.step * (float)k + (float)n) / (top - low);
        affine_codes(now, x, count, n, inverse, low);
        if (!affine_solve(now, x, w, count, sum_w, sum_x, &s, &m))
            continue;
        float e = affine_error(now, x, w, count, s, m, t.absolute);
        if (e < best) { /* the next candidates start at this minimum */
            memcpy(code, now, (size_t)count);
            best = e;
            scale = s;
            low = m;
        }
    }
    *minus = -low;
    return scale;
}

/* ---- levels 0 .. n of the scales (or minima) of a super-block, under one scale ---- */

/* Of 9 inverse scales the one that errs least when rounded. */
static float levels_inverse(const float *x, const float *w, int count, int n, float top)
{
    float best = 0, inverse = (float)n / top;
    for (int k = 0; k <= 8; k++) { /* the plain one first, whose levels need no bound */
        int step = k == 0 ? 0 : k <= 4 ? k - 5 : k - 4;
        float at = step ? (0.1f * (float)step + (float)n) / top : inverse, scale = 1 / at, sum = 0;
        for (int i = 0; i < count; i++) {
            int q = nearest(at * x[i]);
            float e = x[i] - scale * (float)(step == 0 ? (uint8_t)q : q < n ? q : n);
            sum += w[i] * e * e;
        }
        if (step == 0 || sum < best) {
            best = sum;
            inverse = at;
        }
    }
    return inverse;
}

float rt_ggml_levels_fit(uint8_t *level, const float *x, const float *w, int count, int n)
{
    enum { PASSES = 5 };
    float top = 0, xq = 0, qq = 0;
    for (int i = 0; i < count; i++)
        top = x[i] > top ? x[i] : top;
    memset(level, 0, count > 0 ? (size_t)count : 0);
    if (top < RT_GGML_NOTHING)
        return 0;
    float inverse = levels_inverse(x, w, count, n, top);
    for (int i = 0; i < count; i++) {
        int q = nearest(inverse * x[i]);
        q = q < n ? q : n;
        level[i] = (uint8_t)q;
        xq += w[i] * x[i] * (float)q;
        qq += w[i] * (float)q * (float)q;
    }
    for (int pass = 0, changed = 1; pass < PASSES && changed; pass++) {
        changed = 0;
        for (int i = 0; i < count; i++) {
            float old = (float)level[i];
            float new_xq = xq - w[i] * x[i] * old, new_qq = qq - w[i] * old * old;
            if (!(new_xq > 0 && new_qq > 0))
                continue;
            int q = nearest(x[i] * new_qq / new_xq);
            q = q < n ? q : n;
            if (q == level[i])
                continue;
            new_xq += w[i] * x[i] * (float)q;
            new_qq += w[i] * (float)q * (float)q;
            if (new_xq * new_xq * qq > xq * xq * new_qq) {
                level[i] = (uint8_t)q;
                xq = new_xq;
                qq = new_qq;
                changed = 1;
            }
        }
    }
    return qq > 0 ? xq / qq : 0;
}
