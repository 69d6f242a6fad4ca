/* encode.c: rows into blocks: weights of the error, plain types, the 32-element types, threads. */
#include "quant/encode.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/memory.h"
#include "quant/fit.h"

enum { BLOCK = 32, SMALL = 1 << 15 }; /* elements that are not worth waking threads for */
static const float F16_MAX = 65504.0f;

typedef void (*block_encoder)(uint8_t *p, const float *x, const float *w);

static void put_nibbles(uint8_t *p, const unsigned *c)
{
    for (int j = 0; j < 16; j++)
        p[j] = (uint8_t)((c[j] & 15) | (c[j + 16] & 15) << 4);
}

static void put_fifth_bits(uint8_t *p, const unsigned *c)
{
    for (int j = 0; j < BLOCK; j++)
        p[j / 8] = (uint8_t)(p[j / 8] | (c[j] >> 4 & 1) << (j % 8));
}

static void encode_q8_0(uint8_t *p, const float *x, const float *w)
{
    static const rt_symmetric codes = { -127, 127, 124, 128.5f, 0.5f, false, true };
    float q[BLOCK];
    fit_put_f16(p, rt_fit_symmetric(q, NULL, x, w, BLOCK, &codes));
    for (int j = 0; j < BLOCK; j++)
        p[2 + j] = (uint8_t)(int8_t)q[j];
}

static void encode_q4_0(uint8_t *p, const float *x, const float *w)
{
    static const rt_symmetric codes = { -8, 7, 6.5f, 10.5f, 0.25f, true, true };
    float q[BLOCK];
    unsigned c[BLOCK];
    fit_put_f16(p, rt_fit_symmetric(q, NULL, x, w, BLOCK, &codes));
    for (int j = 0; j < BLOCK; j++)
        c[j] = (unsigned)((int)q[j] + 8);
    put_nibbles(p + 2, c);
}

static void encode_q5_0(uint8_t *p, const float *x, const float *w)
{
    static const rt_symmetric codes = { -16, 15, 14, 19, 0.25f, false, true };
    float q[BLOCK];
    unsigned c[BLOCK];
    fit_put_f16(p, rt_fit_symmetric(q, NULL, x, w, BLOCK, &codes));
    for (int j = 0; j < BLOCK; j++)
        c[j] = (unsigned)((int)q[j] + 16);
    put_fifth_bits(p + 2, c);
    put_nibbles(p + 6, c);
}

static void encode_q5_1(uint8_t *p, const float *x, const float *w)
{
    rt_affine f = rt_fit_affine(x, w, BLOCK, 31);
    float d = fit_f16(f.d), m = fit_f16(f.m), q[BLOCK];
    unsigned c[BLOCK];
    fit_code_affine(q, x, w, BLOCK, d, m, 31);
    fit_put_f16(p, d);
    fit_put_f16(p + 2, -m);
    for (int j = 0; j < BLOCK; j++)
        c[j] = (unsigned)q[j];
    put_fifth_bits(p + 4, c);
    put_nibbles(p + 8, c);
}

static block_encoder encoder_of(rt_dtype t)
{
    switch (t) {
    case RT_Q8_0:
        return encode_q8_0;
    case RT_Q4_0:
        return encode_q4_0;
    case RT_Q5_0:
        return encode_q5_0;
    case RT_Q5_1:
        return encode_q5_1;
    case RT_Q4_K:
        return rt_encode_q4_k;
    case RT_Q5_K:
        return rt_encode_q5_k;
    case RT_Q6_K:
        return rt_encode_q6_k;
    default:
        return NULL;
    }
}

bool rt_encode_supported(rt_dtype t)
{
    return t == RT_F32 || t == RT_F16 || t == RT_BF16 || encoder_of(t);
}

static void encode_plain(uint8_t *p, const float *x, rt_dtype t, int64_t n)
{
    if (t == RT_F32) {
        memcpy(p, x, (size_t)n * sizeof *x);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = t == RT_F16 ? rt_f32_to_f16(x[i]) : rt_f32_to_bf16(x[i]);
        p[2 * i] = (uint8_t)h;
        p[2 * i + 1] = (uint8_t)(h >> 8);
    }
}

/* w (width). A column that calibration never excited still has to be something: its importance is
   at least a millionth of the mean. */
static void row_weights(float *w, const float *x, int64_t width, const float *importance,
                        float least)
{
    double square = 0;
    for (int64_t i = 0; i < width; i++)
        square += (double)x[i] * (double)x[i];
    float mean = (float)(square / (double)width);
    for (int64_t i = 0; i < width; i++) {
        float busy = importance ? (importance[i] > least ? importance[i] : least) : 1;
        w[i] = busy * sqrtf(mean + x[i] * x[i]);
    }
}

static void encode_row(uint8_t *p, const float *x, float *w, rt_dtype t, int64_t width,
                       const float *importance, float least)
{
    const rt_dtype_info *info = rt_dtype_get(t);
    block_encoder encode = encoder_of(t);
    if (!encode) {
        encode_plain(p, x, t, width);
        return;
    }
    row_weights(w, x, width, importance, least);
    memset(p, 0, (size_t)rt_dtype_bytes(t, width));
    for (int64_t i = 0; i < width; i += info->block, p += info->block_bytes)
        encode(p, x + i, w + i);
}

/* Position of the first value that t cannot hold, or -1. */
static int64_t find_unfit(const float *x, rt_dtype t, int64_t n)
{
    float top = t == RT_F32 || t == RT_BF16 ? INFINITY : F16_MAX;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]) || fabsf(x[i]) > top)
            return i;
    return -1;
}

/* A millionth of the mean importance, scaled so that a busy-less tensor falls back to 1. */
static int importance_floor(const float *importance, int64_t width, float *out, rt_err *err)
{
    double sum = 0;
    for (int64_t i = 0; importance && i < width; i++) {
        if (!isfinite(importance[i]) || importance[i] < 0)
            return rt_fail(err, "importance of column %lld is %g; it must be >= 0 and finite",
                           (long long)i, (double)importance[i]);
        sum += (double)importance[i];
    }
    *out = sum > 0 ? (float)(1e-6 * sum / (double)width) : 1;
    return 0;
}

int rt_encode(void *out, const float *x, rt_dtype t, int64_t rows, int64_t width,
              const float *importance, rt_err *err)
{
    float least;
    if (!rt_encode_supported(t) || rows < 0 || width < 0)
        rt_bug("rt_encode: (%lld, %lld) as %s", (long long)rows, (long long)width,
               rt_dtype_get(t)->name);
    int64_t row_bytes = rt_dtype_bytes(t, width);
    if (importance_floor(importance, width, &least, err))
        return -1;
    int64_t unfit = find_unfit(x, t, rows * width);
    if (unfit >= 0)
        return rt_fail(err, "row %lld, column %lld: %g %s %s; is this checkpoint sound?",
                       (long long)(unfit / width), (long long)(unfit % width), (double)x[unfit],
                       isfinite(x[unfit]) ? "does not fit" : "is not finite and cannot be",
                       rt_dtype_get(t)->name);
#pragma omp parallel if (rows * width > SMALL)
    {
        float *w = rt_alloc(width, sizeof *w, "a row of weights");
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++)
            encode_row((uint8_t *)out + r * row_bytes, x + r * width, w, t, width, importance,
                       least);
        free(w);
    }
    return 0;
}
