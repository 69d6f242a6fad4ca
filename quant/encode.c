/* encode.c: rows into blocks: which instruction set, weights of the error, plain types, refusals.
   The searches are isa_*.h. */
#include "quant/encode.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/processor.h"
#include "quant/ggml.h"
#include "quant/isa.h"

enum {
    GROUP = 1 << 14
}; /* elements that are weighed at a time: blocks of several rows fill lanes */
static const float F16_MAX = 65504.0f;

static const struct rt_encode_isa *const isas[RT_SIMD_KINDS] = {
    [RT_SIMD_SCALAR] = &rt_encode_scalar,
#if defined(__x86_64__) || defined(__i386__)
    [RT_SIMD_AVX2] = &rt_encode_avx2,
    [RT_SIMD_AVX512] = &rt_encode_avx512,
#endif
};

int rt_encode_choose(const struct rt_encode_isa **isa, rt_err *err)
{
    rt_simd simd;
    if (rt_simd_choose(&simd, err))
        return -1;
    *isa = isas[simd];
    return 0;
}

bool rt_encode_supported(rt_dtype t)
{
    return t == RT_F32 || t == RT_F16 || t == RT_BF16 || rt_ggml_row(t);
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

/* Position of the first value that t cannot hold, or -1. */
static int64_t find_unfit(const float *x, rt_dtype t, int64_t n)
{
    enum { STRETCH = 1024 };
    float top = t == RT_F32 || t == RT_BF16 ? FLT_MAX : F16_MAX;
    for (int64_t at = 0; at < n; at += STRETCH) {
        int64_t end = rt_min(n, at + STRETCH);
        int bad = 0;
        for (int64_t i = at; i < end; i++)
            bad |= !(fabsf(x[i]) <= top);
        for (int64_t i = at; bad && i < end; i++)
            if (!(fabsf(x[i]) <= top))
                return i;
    }
    return -1;
}

/* A column that calibration never excited still has to be something: its importance is at least a
   millionth of the mean, and 1 where all are idle. */
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

/* Everything that must hold before rows are encoded as t: values that `like` holds; *least of
   importance_floor. */
static int check_rows(const float *x, rt_dtype t, rt_dtype like, int64_t rows, int64_t width,
                      const float *importance, float *least, rt_err *err)
{
    const rt_dtype_info *info = rt_dtype_get(t);
    if (!rt_encode_supported(t) || rows < 0 || width < 0 || width % info->block)
        rt_bug("rt_encode: (%lld, %lld) as %s", (long long)rows, (long long)width, info->name);
    if (importance_floor(importance, width, least, err))
        return -1;
    int64_t unfit = find_unfit(x, like, rows * width);
    return unfit < 0 ? 0
                     : rt_fail(err, "row %lld, column %lld: %g %s %s; is this checkpoint sound?",
                               (long long)(unfit / width), (long long)(unfit % width),
                               (double)x[unfit],
                               isfinite(x[unfit]) ? "does not fit" : "is not finite and cannot be",
                               info->name);
}

/* sum w (x - decoded)^2 of a row. */
static double row_error(const uint8_t *row, const float *x, const float *w, rt_dtype t, int64_t width,
                        float *back)
{
    double sum = 0;
    rt_decode_f32(back, row, t, width);
    for (int64_t i = 0; i < width; i++)
        sum += (double)w[i] * ((double)x[i] - (double)back[i]) * ((double)x[i] - (double)back[i]);
    return sum;
}

/* Q3_K: with importance the search loses to ggml's now and then, by a part in a hundred; the better of
   both is kept, row by row. */
static void keep_better(uint8_t *out, const float *x, const float *w, rt_dtype t, int64_t rows,
                        int64_t width, const float *importance)
{
    int64_t bytes = rt_dtype_bytes(t, width);
    float *back = rt_alloc(width, sizeof *back, "a row as it was stored");
    uint8_t *other = rt_alloc(bytes, 1, "another choice of a row");
    for (int64_t r = 0; r < rows; r++, x += width, w += width, out += bytes) {
        rt_ggml_row(t)(other, x, width, importance);
        if (row_error(other, x, w, t, width, back) < row_error(out, x, w, t, width, back))
            memcpy(out, other, (size_t)bytes);
    }
    free(back);
    free(other);
}

int rt_encode(void *out, const float *x, rt_dtype t, int64_t rows, int64_t width,
              const float *importance, rt_err *err)
{
    float least = 0;
    rt_simd simd;
    if (check_rows(x, t, t, rows, width, importance, &least, err) || rt_simd_choose(&simd, err))
        return -1;
    rt_blocks_fn *blocked = isas[simd]->blocks[t];
    if (!blocked) {
        encode_plain(out, x, t, rows * width);
        return 0;
    }
    int64_t group = rt_max(1, GROUP / rt_max(1, width));
    float *w = rt_alloc(rt_min(group, rows) * width, sizeof *w, "rows of weights");
    for (int64_t r = 0; r < rows; r += group) {
        int64_t n = rt_min(group, rows - r);
        isas[simd]->weights(w, x + r * width, n, width, importance, least);
        blocked((uint8_t *)out + rt_dtype_bytes(t, r * width), x + r * width, w,
                n * width / rt_dtype_get(t)->block);
        if (t == RT_Q3_K && importance)
            keep_better((uint8_t *)out + rt_dtype_bytes(t, r * width), x + r * width, w, t, n, width,
                        importance);
    }
    free(w);
    return 0;
}

int rt_encode_ggml(void *out, const float *x, rt_dtype t, int64_t rows, int64_t width,
                   const float *importance, rt_err *err)
{
    float least = 0;
    rt_ggml_fn *row = rt_ggml_row(t);
    if (!row)
        return rt_encode(out, x, t, rows, width, importance, err);
    if (check_rows(x, t, RT_F32, rows, width, importance, &least, err))
        return -1;
    int64_t bytes = rt_dtype_bytes(t, width), bad = -1;
    float *back = rt_alloc(width, sizeof *back, "a row as it was stored");
    for (int64_t r = 0; r < rows && bad < 0; r++) {
        row((uint8_t *)out + r * bytes, x + r * width, width, importance);
        rt_decode_f32(back, (uint8_t *)out + r * bytes, t, width);
        if (find_unfit(back, RT_F32, width) >= 0)
            bad = r;
    }
    free(back);
    return bad < 0 ? 0
                   : rt_fail(err, "row %lld: ggml's scale for it is beyond f16; --method search "
                                  "finds one that is not",
                             (long long)bad);
}
