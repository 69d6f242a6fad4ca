#include "quant/group.h"

#include <math.h>
#include <string.h>

#include "core/base/dtype.h"

enum { GROUP_MAX = 256, CODES = 16 };

typedef struct fit {
    float scale; /* as stored */
    int zero;
    float error;
} fit;

static void round_codes(uint8_t *code, const float *x, int64_t n, float scale, int zero)
{
    float inverse = scale != 0 ? 1 / scale : 0, shift = (float)zero + 0.5F;
    for (int64_t i = 0; i < n; i++) {
        float q = x[i] * inverse + shift; /* rounded down below: to nearest */
        q = q < 0 ? 0 : q > CODES - 1 ? CODES - 1 : q;
        code[i] = (uint8_t)(int)q;
    }
}

/* sum w (x - scale q)^2 and the scale that is best for these codes, in chains side by side. */
static float error_of(const uint8_t *code, const float *x, const float *w, int64_t n, float scale,
                      int zero, float *refit)
{
    enum { CHAINS = 16 };
    float error[CHAINS] = { 0 }, xq[CHAINS] = { 0 }, qq[CHAINS] = { 0 };
    for (int64_t i = 0; i < n; i += CHAINS)
        for (int k = 0; k < CHAINS; k++) {
            float q = (float)((int)code[i + k] - zero), e = x[i + k] - scale * q;
            error[k] += w[i + k] * e * e;
            xq[k] += w[i + k] * q * x[i + k];
            qq[k] += w[i + k] * q * q;
        }
    for (int k = 1; k < CHAINS; k++)
        error[0] += error[k], xq[0] += xq[k], qq[0] += qq[k];
    *refit = qq[0] > 0 ? xq[0] / qq[0] : scale;
    return error[0];
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
        float refit, error = error_of(code, x, w, n, scale, zero, &refit);
        if (error < best->error)
            *best = (fit){ scale, zero, error };
        scale = refit;
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
    for (int k = 0; k <= 8; k++) {
        float scale = (high - low) * (1 - 0.04F * (float)k) / (CODES - 1);
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
    float w[GROUP_MAX];
    if (n > GROUP_MAX || n % 16)
        rt_bug("a group of %lld", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || fabsf(x[i]) > 65504 * 7)
            return rt_fail(err, "column %lld is %g, which an f16 scale cannot reach", (long long)i,
                           (double)x[i]);
        w[i] = weight ? weight[i] : 1;
        best.error += w[i] * x[i] * x[i];
    }
    if (symmetric)
        search_symmetric(&best, x, w, n);
    else
        search_asymmetric(&best, x, w, n);
    *scale = rt_f32_to_f16(best.scale);
    *zero = (uint8_t)best.zero;
    round_codes(code, x, n, best.scale, best.zero);
    return 0;
}
