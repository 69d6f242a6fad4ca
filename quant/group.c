#include "quant/group.h"

#include <math.h>
#include <string.h>

#include "core/base/dtype.h"

enum { GROUP_MAX = 256, CODES = 16 };

typedef struct fit {
    float scale; /* as stored */
    int zero;
    double error;
} fit;

static void round_codes(uint8_t *code, const float *x, int64_t n, float scale, int zero)
{
    for (int64_t i = 0; i < n; i++) {
        float q = scale != 0 ? rintf(x[i] / scale) + (float)zero : (float)zero;
        code[i] = (uint8_t)(q < 0 ? 0 : q > CODES - 1 ? CODES - 1 : q);
    }
}

static double error_of(const uint8_t *code, const float *x, const float *w, int64_t n, float scale, int zero)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = (double)x[i] - (double)scale * (code[i] - zero);
        sum += (w ? (double)w[i] : 1) * e * e;
    }
    return sum;
}

/* The scale that is best for these codes. */
static float refit(const uint8_t *code, const float *x, const float *w, int64_t n, int zero, float scale)
{
    double xq = 0, qq = 0;
    for (int64_t i = 0; i < n; i++) {
        double q = code[i] - zero, v = w ? (double)w[i] : 1;
        xq += v * q * (double)x[i];
        qq += v * q * q;
    }
    return qq > 0 ? (float)(xq / qq) : scale;
}

/* Keeps in *best what this start leads to, if it is better. */
static void attempt(fit *best, const float *x, const float *w, int64_t n, float scale, int zero)
{
    uint8_t code[GROUP_MAX];
    for (int round = 0; round < 2; round++) {
        scale = rt_f16_to_f32(rt_f32_to_f16(scale));
        if (!isfinite(scale) || scale == 0)
            return;
        round_codes(code, x, n, scale, zero);
        double error = error_of(code, x, w, n, scale, zero);
        if (error < best->error)
            *best = (fit){ scale, zero, error };
        scale = refit(code, x, w, n, zero, scale);
    }
}

static void search_symmetric(fit *best, const float *x, const float *w, int64_t n)
{
    float extreme = 0;
    for (int64_t i = 0; i < n; i++)
        extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
    for (int k = -9; k <= 9; k++) /* the extreme is the code with the longer side */
        attempt(best, x, w, n, extreme / (-8 + 0.1F * (float)k), 8);
}

static void search_asymmetric(fit *best, const float *x, const float *w, int64_t n)
{
    float low = 0, high = 0;
    for (int64_t i = 0; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    for (int k = 0; k <= 12; k++) {
        float scale = (high - low) * (1 - 0.03F * (float)k) / (CODES - 1);
        float zero = scale > 0 ? -low / scale : 0;
        for (int up = 0; up < 2; up++) {
            int z = (int)floorf(fminf(fmaxf(zero, 0), CODES - 1)) + up;
            attempt(best, x, w, n, scale, z < CODES ? z : CODES - 1);
        }
    }
}

int rt_group_fit(const float *x, const float *weight, int64_t n, bool symmetric, uint8_t *code,
                 uint16_t *scale, uint8_t *zero, rt_err *err)
{
    fit best = { 0, symmetric ? 8 : 0, 0 };
    if (n > GROUP_MAX)
        rt_bug("a group of %lld", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || fabsf(x[i]) > 65504 * 7)
            return rt_fail(err, "column %lld is %g, which an f16 scale cannot reach", (long long)i, (double)x[i]);
        best.error += (weight ? (double)weight[i] : 1) * (double)x[i] * (double)x[i];
    }
    if (symmetric)
        search_symmetric(&best, x, weight, n);
    else
        search_asymmetric(&best, x, weight, n);
    *scale = rt_f32_to_f16(best.scale);
    *zero = (uint8_t)best.zero;
    round_codes(code, x, n, best.scale, best.zero);
    return 0;
}
