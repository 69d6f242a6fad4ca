/* test_quant.c: the block encoders against f64 references written here (the exact optimum of a
   Q4_0 block by sweeping every rounding boundary; plain round-to-nearest for all types), the
   promise that trained grids survive, edge cases, instruction sets; and the type mix against
   published file sizes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/processor.h"
#include "core/base/rng.h"
#include "core/formats/safetensors.h"
#include "quant/encode.h"
#include "quant/ggml.h"
#include "quant/mix.h"
#include "tests/suite.h"

enum { ROWS = 8, WIDTH = 1024 };

static rt_err err;

/* Of four bits and more; then those of fewer, whose errors are no small matter. */
static const rt_dtype types[] = { RT_Q8_0,   RT_Q6_K,   RT_Q5_K,  RT_Q5_1,  RT_Q5_0, RT_Q4_K, RT_Q4_0,
                                  RT_Q4_1,   RT_IQ4_NL, RT_IQ4_XS, RT_MXFP4, RT_NVFP4,
                                  RT_Q3_K,   RT_Q2_K,   RT_TQ2_0, RT_Q2_0 };
enum { LIKE_NEAREST = 7, FINE = 10 }; /* of types: compared to a rounding here; of fine steps everywhere */

/* Kinds of rows: near normal, heavy tails, one outlier a block. Uniform draws only: no libm. */
static float draw(int kind, int64_t i)
{
    float sum = 0;
    for (uint64_t k = 0; k < 6; k++)
        sum += rt_rng_uniform(11, RT_RNG_DATA, (uint64_t)i * 8 + k) - 0.5f;
    float u = rt_rng_uniform(12, RT_RNG_DATA, (uint64_t)i);
    if (kind == 1)
        return 0.03f * sum * sum * sum;
    return 0.02f * sum * (kind == 2 && u < 0.03f ? 12.0f : 1.0f);
}

static float *sample(int kind)
{
    float *x = malloc((size_t)ROWS * WIDTH * sizeof *x);
    for (int64_t i = 0; i < (int64_t)ROWS * WIDTH; i++)
        x[i] = draw(kind, i);
    return x;
}

static void encode(uint8_t *out, const float *x, rt_dtype t, const float *importance)
{
    ck_assert_msg(rt_encode(out, x, t, ROWS, WIDTH, importance, &err) == 0, "%s", err.text);
}

/* The objective of encode.h, in f64. */
static double weight(const float *row, int64_t width, int64_t i, const float *importance)
{
    double square = 0;
    for (int64_t k = 0; k < width; k++)
        square += (double)row[k] * (double)row[k];
    double x = (double)row[i];
    return (importance ? (double)importance[i] : 1) * sqrt(square / (double)width + x * x);
}

static double total_error(const float *x, const float *y, const float *importance)
{
    double sum = 0;
    for (int r = 0; r < ROWS; r++) {
        double w0 = 0;
        const float *row = x + r * WIDTH;
        for (int64_t k = 0; k < WIDTH; k++)
            w0 += (double)row[k] * (double)row[k];
        for (int i = 0; i < WIDTH; i++) {
            double v = (double)row[i], e = v - (double)y[r * WIDTH + i];
            sum += (importance ? (double)importance[i] : 1) * sqrt(w0 / WIDTH + v * v) * e * e;
        }
    }
    return sum;
}

/* ---- round to nearest: the extremes of a block set its scale ---- */

static double f16(double d) { return (double)rt_f16_to_f32(rt_f32_to_f16((float)d)); }

static double clip(double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; }

static void nearest_symmetric(float *y, const float *x, int n, double lo, double hi, bool half)
{
    double top = 0;
    for (int i = 0; i < n; i++)
        top = fabs((double)x[i]) > fabs(top) ? (double)x[i] : top;
    double d = lo == -hi ? fabs(top) / hi : top / lo; /* the largest takes the extra code */
    if (half)
        d = f16(d);
    for (int i = 0; i < n; i++)
        y[i] = d == 0 ? 0 : (float)(d * clip(round((double)x[i] / d), lo, hi));
}

static void nearest_affine(float *y, const float *x, int n, double hi, double units)
{
    double lo[8] = { 0 }, top[8] = { 0 }, d = 0, m = 0;
    int subs = n / 32;
    for (int i = 0; i < n; i++) {
        lo[i / 32] = fmin(lo[i / 32], (double)x[i]);
        top[i / 32] = fmax(top[i / 32], (double)x[i]);
    }
    for (int j = 0; j < subs; j++) {
        d = fmax(d, (top[j] - lo[j]) / hi);
        m = fmax(m, -lo[j]);
    }
    d = f16(d / units);
    m = f16(m / units);
    for (int i = 0; i < n; i++) {
        int j = i / 32;
        double s = d * clip(round((top[j] - lo[j]) / hi / d), 0, units);
        double o = m == 0 ? 0 : m * clip(round(-lo[j] / m), 0, units);
        y[i] = (float)(s == 0 ? -o : s * clip(round(((double)x[i] + o) / s), 0, hi) - o);
    }
}

static void nearest(float *y, const float *x, rt_dtype t)
{
    for (int i = 0; i < ROWS * WIDTH; i += 256)
        switch (t) {
        case RT_Q4_K:
            nearest_affine(y + i, x + i, 256, 15, 63);
            break;
        case RT_Q5_K:
            nearest_affine(y + i, x + i, 256, 31, 63);
            break;
        case RT_Q6_K:
            for (int j = 0; j < 256; j += 16) /* even granted unquantized scales */
                nearest_symmetric(y + i + j, x + i + j, 16, -32, 31, false);
            break;
        default:
            for (int j = i; j < i + 256; j += 32)
                if (t == RT_Q5_1)
                    nearest_affine(y + j, x + j, 32, 31, 1);
                else
                    nearest_symmetric(y + j, x + j, 32,
                                      t == RT_Q8_0   ? -127
                                      : t == RT_Q5_0 ? -16
                                                     : -8,
                                      t == RT_Q8_0   ? 127
                                      : t == RT_Q5_0 ? 15
                                                     : 7,
                                      true);
        }
}

START_TEST(better_than_nearest)
{
    float *importance = malloc(WIDTH * sizeof *importance);
    float *y = malloc((size_t)ROWS * WIDTH * sizeof *y), *z = malloc((size_t)ROWS * WIDTH * 4);
    uint8_t *out = malloc((size_t)ROWS * WIDTH * 4);
    for (int i = 0; i < WIDTH; i++)
        importance[i] = (float)(1 + rt_rng_below(13, RT_RNG_DATA, (uint64_t)i, 16));
    for (int kind = 0; kind < 3; kind++) {
        float *x = sample(kind);
        for (int k = 0; k < LIKE_NEAREST; k++)
            for (int busy = 0; busy < 2; busy++) {
                const float *imp = busy ? importance : NULL;
                encode(out, x, types[k], imp);
                rt_decode_f32(y, out, types[k], (int64_t)ROWS * WIDTH);
                nearest(z, x, types[k]);
                double ours = total_error(x, y, imp), plain = total_error(x, z, imp);
                /* least gain over rounding, found by running: 6 % where codes are fine */
                ck_assert_msg(ours < 0.95 * plain, "%s, data %d, importance %d: %g against %g",
                              rt_dtype_get(types[k])->name, kind, busy, ours, plain);
                if (busy) { /* and knowing the columns must pay */
                    encode(out, x, types[k], NULL);
                    rt_decode_f32(z, out, types[k], (int64_t)ROWS * WIDTH);
                    ck_assert(ours < total_error(x, z, imp));
                }
            }
        free(x);
    }
    free(importance);
    free(y);
    free(z);
    free(out);
}
END_TEST

/* Every type errs no more than ggml's choice of it. */
START_TEST(no_worse_than_ggml)
{
    float *importance = malloc(WIDTH * sizeof *importance);
    float *y = malloc((size_t)ROWS * WIDTH * sizeof *y), *z = malloc((size_t)ROWS * WIDTH * 4);
    uint8_t *out = malloc((size_t)ROWS * WIDTH * 4);
    for (int i = 0; i < WIDTH; i++)
        importance[i] = (float)(1 + rt_rng_below(13, RT_RNG_DATA, (uint64_t)i, 16));
    for (int kind = 0; kind < 3; kind++) {
        float *x = sample(kind);
        for (int k = 0; k < RT_COUNT(types); k++)
            for (int busy = 0; busy < 2; busy++) {
                const float *imp = busy ? importance : NULL;
                encode(out, x, types[k], imp);
                rt_decode_f32(y, out, types[k], (int64_t)ROWS * WIDTH);
                OK(rt_encode_ggml(out, x, types[k], ROWS, WIDTH, imp, &err));
                rt_decode_f32(z, out, types[k], (int64_t)ROWS * WIDTH);
                double ours = total_error(x, y, imp), theirs = total_error(x, z, imp);
                ck_assert_msg(ours <= theirs, "%s, data %d, importance %d: %g of %g",
                              rt_dtype_get(types[k])->name, kind, busy, ours, theirs);
            }
        free(x);
    }
    free(importance);
    free(y);
    free(z);
    free(out);
}
END_TEST

/* ---- Q4_0: the exact optimum over all scales, before the scale is rounded to f16 ---- */

typedef struct event {
    double t;
    int i;
} event;

static int by_t(const void *a, const void *b)
{
    double x = ((const event *)a)->t, y = ((const event *)b)->t;
    return x < y ? -1 : x > y;
}

/* As 1/d grows from 0, codes change one at a time; between changes the best error is closed form.
 */
static double sweep(const double *x, const double *w)
{
    double whole = 0, best;
    for (int i = 0; i < 32; i++)
        whole += w[i] * x[i] * x[i];
    best = whole;
    for (int side = 1; side >= -1; side -= 2) {
        event e[32 * 8];
        int n = 0;
        double code[32] = { 0 }, xq = 0, qq = 0;
        for (int i = 0; i < 32; i++)
            for (int k = 0; x[i] != 0 && k < (x[i] * side > 0 ? 7 : 8); k++)
                e[n++] = (event){ (k + 0.5) / fabs(x[i]), i };
        qsort(e, (size_t)n, sizeof *e, by_t);
        for (int k = 0; k < n; k++) {
            int i = e[k].i;
            double s = x[i] * side > 0 ? 1 : -1, q = code[i] + s;
            xq += w[i] * x[i] * side * s;
            qq += w[i] * (q * q - code[i] * code[i]);
            code[i] = q;
            best = fmin(best, whole - xq * xq / qq);
        }
    }
    return best;
}

START_TEST(q4_0_is_the_optimum)
{
    float *y = malloc((size_t)ROWS * WIDTH * sizeof *y);
    uint8_t *out = malloc((size_t)ROWS * WIDTH);
    for (int kind = 0; kind < 3; kind++) {
        float *x = sample(kind);
        double best = 0;
        encode(out, x, RT_Q4_0, NULL);
        rt_decode_f32(y, out, RT_Q4_0, (int64_t)ROWS * WIDTH);
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < WIDTH; j += 32) {
                double xs[32], ws[32];
                for (int i = 0; i < 32; i++) {
                    xs[i] = (double)x[r * WIDTH + j + i];
                    ws[i] = weight(x + r * WIDTH, WIDTH, j + i, NULL);
                }
                best += sweep(xs, ws);
            }
        double ours = total_error(x, y, NULL);
        ck_assert_msg(ours >= best * (1 - 1e-6) && ours < best * 1.002, "data %d: %g, best %g",
                      kind, ours, best);
        free(x);
    }
    free(y);
    free(out);
}
END_TEST

/* ---- trained grids survive ---- */

enum { BLOCKS = 20000 };

/* A block of random codes no larger than a random reach, under a random scale of either sign. True
   when there is one way to spell it: code -8 has no mirror image, and with a code of 1 the codes
   have no common factor. */
static bool grid_block(uint8_t *block, int b)
{
    uint64_t at = (uint64_t)b * 64;
    int reach = 1 + (int)rt_rng_below(21, RT_RNG_DATA, at, 8); /* largest code, 1 .. 8 */
    float d = (0.001f + rt_rng_uniform(22, RT_RNG_DATA, at)) * (b % 2 ? 1.0f : -1.0f);
    uint16_t h = rt_f32_to_f16(d);
    bool one = false, low = false;
    unsigned code[32];
    block[0] = (uint8_t)h;
    block[1] = (uint8_t)(h >> 8);
    for (int i = 0; i < 32; i++) {
        int c = (int)rt_rng_below(23, RT_RNG_DATA, at + (uint64_t)i, (uint32_t)reach * 2) - reach;
        one = one || abs(c) == 1;
        low = low || c == -8;
        code[i] = (unsigned)(c + 8);
    }
    for (int i = 0; i < 16; i++)
        block[2 + i] = (uint8_t)(code[i] | code[i + 16] << 4);
    return one && (low || d > 0);
}

START_TEST(q4_0_grid_survives)
{
    uint8_t *block = malloc(BLOCKS * 18), *again = malloc(BLOCKS * 18);
    float *x = malloc(BLOCKS * 32 * sizeof *x), *y = malloc(BLOCKS * 32 * sizeof *y);
    bool *unique = malloc(BLOCKS);
    int same_bytes = 0;
    for (int b = 0; b < BLOCKS; b++)
        unique[b] = grid_block(block + 18 * b, b);
    rt_decode_f32(x, block, RT_Q4_0, BLOCKS * 32);
    ck_assert_int_eq(rt_encode(again, x, RT_Q4_0, BLOCKS, 32, NULL, &err), 0);
    rt_decode_f32(y, again, RT_Q4_0, BLOCKS * 32);
    for (int i = 0; i < BLOCKS * 32; i++)
        ck_assert_msg(x[i] == y[i], "block %d: values moved", i / 32);
    for (int b = 0; b < BLOCKS; b++)
        if (unique[b]) {
            ck_assert_msg(!memcmp(block + 18 * b, again + 18 * b, 18), "block %d: bytes moved", b);
            same_bytes++;
        }
    ck_assert_int_gt(same_bytes, BLOCKS / 3);
    free(block);
    free(again);
    free(x);
    free(y);
    free(unique);
}
END_TEST

START_TEST(encoding_what_was_decoded_changes_nothing)
{
    uint8_t *out = malloc((size_t)ROWS * WIDTH), *again = malloc((size_t)ROWS * WIDTH);
    float *y = malloc((size_t)ROWS * WIDTH * sizeof *y);
    for (int kind = 0; kind < 3; kind++) {
        float *x = sample(kind);
        memset(out, 0, (size_t)ROWS * WIDTH);
        memset(again, 0, (size_t)ROWS * WIDTH);
        encode(out, x, RT_Q4_0, NULL);
        rt_decode_f32(y, out, RT_Q4_0, (int64_t)ROWS * WIDTH);
        encode(again, y, RT_Q4_0, NULL);
        ck_assert(!memcmp(out, again, (size_t)ROWS * WIDTH));
        free(x);
    }
    free(out);
    free(again);
    free(y);
}
END_TEST

/* ---- edges ---- */

START_TEST(extreme_rows)
{
    float x[256], y[256];
    uint8_t out[1024];
    for (int k = 0; k < FINE; k++)
        for (int shape = 0; shape < 8; shape++) {
            for (int i = 0; i < 256; i++) {
                float wave = (float)(i * 37 % 64) / 64 - 0.5f;
                x[i] = shape == 0   ? 0
                       : shape == 1 ? 0.25f
                       : shape == 2 ? -0.25f
                       : shape == 3 ? (i == 100 ? 1.0f : 0)
                       : shape == 4 ? wave * 1e-38f
                       : shape == 5 ? wave * 120000
                       : shape == 6 ? wave * 1e-5f
                                    : fabsf(wave) + 1;
            }
            ck_assert_msg(rt_encode(out, x, types[k], 1, 256, NULL, &err) == 0, "%s", err.text);
            rt_decode_f32(y, out, types[k], 256);
            double error = 0, size = 1e-30;
            for (int i = 0; i < 256; i++) {
                ck_assert_msg(isfinite(y[i]), "%s shape %d", rt_dtype_get(types[k])->name, shape);
                error += pow((double)x[i] - (double)y[i], 2);
                size += pow((double)x[i], 2);
            }
            /* 1e-38 vanishes (f16 scales); 1e-5 lies among subnormal scales */
            double limit = shape == 4 ? 1.01 : shape == 6 ? 0.03 : shape == 5 ? 0.02 : 0.01;
            ck_assert_msg(error <= limit * size, "%s shape %d: %g of %g",
                          rt_dtype_get(types[k])->name, shape, error, size);
        }
}
END_TEST

START_TEST(values_that_do_not_fit)
{
    float x[512] = { 0 }, importance[256] = { 0 };
    uint8_t out[4096];
    x[256 + 7] = NAN;
    for (int k = 0; k < RT_COUNT(types); k++) {
        ck_assert_int_eq(rt_encode(out, x, types[k], 2, 256, NULL, &err), -1);
        ck_assert_ptr_nonnull(strstr(err.text, "row 1, column 7"));
    }
    ck_assert_int_eq(rt_encode(out, x, RT_F32, 2, 256, NULL, &err), -1);
    x[256 + 7] = 70000;
    ck_assert_int_eq(rt_encode(out, x, RT_F16, 2, 256, NULL, &err), -1);
    ck_assert_int_eq(rt_encode(out, x, RT_BF16, 2, 256, NULL, &err), 0);
    x[256 + 7] = 1;
    ck_assert_int_eq(rt_encode(out, x, RT_Q4_K, 2, 256, importance, &err), 0); /* all idle */
    importance[3] = 1;
    ck_assert_int_eq(rt_encode(out, x, RT_Q4_K, 2, 256, importance, &err), 0);
    float y[512];
    rt_decode_f32(y, out, RT_Q4_K, 512);
    ck_assert(fabsf(y[256 + 7] - 1) < 0.01f); /* an idle column is not thrown away */
    importance[4] = -1;
    ck_assert_int_eq(rt_encode(out, x, RT_Q4_K, 2, 256, importance, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "column 4"));
}
END_TEST

START_TEST(plain_types)
{
    float x[256], y[256];
    uint8_t out[1024];
    for (int i = 0; i < 256; i++)
        x[i] = draw(1, i);
    ck_assert_int_eq(rt_encode(out, x, RT_F32, 1, 256, NULL, &err), 0);
    ck_assert(!memcmp(out, x, sizeof x));
    for (int half = 0; half < 2; half++) {
        rt_dtype t = half ? RT_F16 : RT_BF16;
        ck_assert_int_eq(rt_encode(out, x, t, 1, 256, NULL, &err), 0);
        rt_decode_f32(y, out, t, 256);
        for (int i = 0; i < 256; i++)
            ck_assert(fabsf(y[i] - x[i]) <= fabsf(x[i]) * (half ? 0x1p-11f : 0x1p-8f) + 0x1p-25f);
    }
}
END_TEST

/* The same bytes on any machine: hashes of what this file encodes. On every instruction set that is
   here, and for rows encoded alone, so that blocks fill other lanes. */
START_TEST(same_bytes_everywhere)
{
    uint8_t *all = calloc(ROWS, WIDTH * 2), *alone = calloc(ROWS, WIDTH * 2);
    float *x = sample(2);
    static const uint64_t golden[RT_COUNT(types)] = {
        0xd7b9dab39ae9134a, 0x96e0c7ed39143ace, 0xe3884097c1d05435, 0x268bd2f59638db95,
        0xe1ed3163760746c7, 0x91e558d265b34c18, 0x4b4d8355486a8a12, 0x5147d69968dc580f,
        0xa599c9d07bc43180, 0x7d867a28340ddc98, 0xb300e5bce7d34a13, 0x4d4037f142641609,
        0x7f61fa2dfd92af23, 0x3c1adbc9749117d4, 0xd270b852bd4d0242, 0xb458c035e572b23f
    };
    int sets = 0;
    rt_simd simd;
    for (int i = 0; i < RT_SIMD_KINDS; i++) {
        setenv("RETORT_ISA", rt_simd_name((rt_simd)i), 1);
        if (rt_simd_choose(&simd, &err))
            continue;
        sets++;
        for (int k = 0; k < RT_COUNT(types); k++) {
            int64_t row = rt_dtype_bytes(types[k], WIDTH),
                    part = rt_dtype_bytes(types[k], WIDTH / 4);
            encode(all, x, types[k], NULL);
            uint64_t hash = rt_hash64(all, ROWS * row, 0);
            ck_assert_msg(hash == golden[k], "%s, %s: %#llx", rt_simd_name(simd),
                          rt_dtype_get(types[k])->name, (unsigned long long)hash);
            for (int r = 0; r < ROWS; r++)
                OK(rt_encode(alone + r * row, x + r * WIDTH, types[k], 1, WIDTH, NULL, &err));
            ck_assert(!memcmp(all, alone, (size_t)(ROWS * row)));
            /* rows of one super-block, whose lanes are half empty when alone */
            OK(rt_encode(all, x, types[k], 4 * ROWS, WIDTH / 4, NULL, &err));
            for (int r = 0; r < 4 * ROWS; r++)
                OK(rt_encode(alone + r * part, x + r * (WIDTH / 4), types[k], 1, WIDTH / 4, NULL,
                             &err));
            ck_assert(!memcmp(all, alone, (size_t)(4 * ROWS * part)));
        }
    }
    unsetenv("RETORT_ISA");
    ck_assert_int_ge(sets, 1);
    free(all);
    free(alone);
    free(x);
}
END_TEST

/* ---- ggml's choices ---- */

/* golden/ggml.safetensors: every row as every type that ggml writes, to the byte. Where its scale
   is beyond f16 the row is refused. */
START_TEST(ggml_to_the_byte)
{
    enum { COLUMNS = 512 };
    rt_safetensors st;
    uint8_t out[COLUMNS * 4];
    float x[COLUMNS], busy[COLUMNS], back[COLUMNS];
    int refused = 0, written = 0;
    OK(rt_safetensors_open(&st, RT_SOURCE_DIR "/tests/golden/ggml.safetensors", &err));
    const rt_st_tensor *rows = rt_safetensors_find(&st, "rows");
    memcpy(busy, rt_safetensors_find(&st, "importance")->data, sizeof busy);
    for (int t = 0; t < RT_DTYPE_COUNT; t++)
        for (int weighed = 0; weighed < 2 && rt_ggml_row((rt_dtype)t); weighed++) {
            char name[64];
            int64_t bytes = rt_dtype_bytes((rt_dtype)t, COLUMNS);
            snprintf(name, sizeof name, "%s%s", rt_dtype_get((rt_dtype)t)->name,
                     weighed ? ".importance" : "");
            const rt_st_tensor *want = rt_safetensors_find(&st, name);
            ck_assert_msg(want && want->bytes == rows->dim[0] * bytes, "%s", name);
            for (int64_t r = 0; r < rows->dim[0]; r++) {
                const uint8_t *row = want->data + r * bytes;
                bool finite = true;
                memcpy(x, rows->data + r * (int64_t)sizeof x, sizeof x);
                rt_ggml_row((rt_dtype)t)(out, x, COLUMNS, weighed ? busy : NULL);
                ck_assert_msg(!memcmp(out, row, (size_t)bytes), "%s: row %d", name, (int)r);
                rt_decode_f32(back, row, (rt_dtype)t, COLUMNS);
                for (int i = 0; i < COLUMNS; i++)
                    finite = finite && isfinite(back[i]);
                int rc = rt_encode_ggml(out, x, (rt_dtype)t, 1, COLUMNS, weighed ? busy : NULL, &err);
                ck_assert_msg((rc == 0) == finite, "%s: row %d: %d", name, (int)r, rc);
                refused += rc != 0;
                written += rc == 0;
            }
        }
    ck_assert_int_gt(refused, 5);
    ck_assert_int_gt(written, 16 * 2 * 9);
    rt_safetensors_close(&st);
}
END_TEST

/* ---- the mix ---- */

/* Bits a weight of a model of this shape, norms included. */
static double bits_per_weight(const char *mix, int64_t layers, int64_t c, int64_t f, int64_t kv,
                              int64_t vocab, bool qk_norm, bool weighed, int64_t *bytes)
{
    const rt_mix *m = rt_mix_find(mix);
    const rt_mix_model model = { layers, 32, 8, false, weighed, false };
    double elements = 0;
    *bytes = 0;
    ck_assert_ptr_nonnull(m);
    for (int64_t l = -1; l < layers; l++) {
        struct part {
            const char *name;
            int64_t rows, width;
        } inner[] = { { "attn_q", c, c },        { "attn_k", kv, c },      { "attn_v", kv, c },
                      { "attn_output", c, c },   { "ffn_gate", f, c },     { "ffn_up", f, c },
                      { "ffn_down", c, f },      { "attn_norm", 1, c },    { "ffn_norm", 1, c },
                      { "attn_q_norm", 1, 128 }, { "attn_k_norm", 1, 128 } },
          outer[] = { { "token_embd", vocab, c }, { "output", vocab, c }, { "output_norm", 1, c } };
        struct part *part = l < 0 ? outer : inner;
        int n = l < 0 ? 3 : qk_norm ? 11 : 9;
        for (int i = 0; i < n; i++) {
            char name[64];
            snprintf(name, sizeof name, l < 0 ? "%s" : "%s%lld.%s", l < 0 ? part[i].name : "blk.",
                     (long long)l, part[i].name);
            rt_dtype t = rt_mix_dtype(m, &model, name, part[i].rows > 1 ? 2 : 1, part[i].width, l);
            elements += (double)(part[i].rows * part[i].width);
            *bytes += rt_dtype_bytes(t, part[i].rows * part[i].width);
        }
    }
    return (double)*bytes * 8 / elements;
}

START_TEST(sizes_are_the_published_ones)
{
    static const struct {
        const char *mix;
        bool weighed;
        double llama_bits, llama_gib, qwen_bits, qwen_gib;
    } rows[] = {
        /* tools/quantize/README.md of llama.cpp and facts computed from its rules */
        { "Q4_0", false, 4.6358, 4.334, 4.6577, 4.441 },
        { "Q4_K_S", false, 4.6672, 4.363, 4.6843, 4.467 },
        { "Q4_K_M", false, 4.8944, 4.575, 4.9049, 4.677 },
        { "Q6_K", false, 6.5633, 6.136, 6.5634, 6.258 },
        { "Q8_0", false, 8.5008, 7.947, 8.5009, 8.106 },
        { "Q5_K_M", false, 5.7036, 0, 0, 0 },
        { "Q5_K_S", false, 5.5704, 0, 0, 0 },
        { "IQ4_NL", false, 4.6818, 0, 0, 0 },
        { "IQ4_XS", false, 4.4597, 0, 0, 0 },
        { "IQ4_XS", true, 4.4231, 4.135, 4.4498, 4.243 },
        { "Q3_K_L", false, 4.2979, 0, 0, 0 },
        { "Q3_K_M", false, 3.9960, 0, 0, 0 },
        { "Q3_K_S", false, 3.6429, 0, 0, 0 },
        { "Q2_K", false, 3.1593, 0, 0, 0 },
    };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        int64_t bytes;
        double bits = bits_per_weight(rows[i].mix, 32, 4096, 14336, 1024, 128256, false, rows[i].weighed, &bytes);
        ck_assert_msg(fabs(bits - rows[i].llama_bits) < 6e-5, "%s: %.5f", rows[i].mix, bits);
        if (!rows[i].qwen_bits)
            continue;
        ck_assert(fabs((double)bytes / 0x1p30 - rows[i].llama_gib) < 6e-4);
        bits = bits_per_weight(rows[i].mix, 36, 4096, 12288, 1024, 151936, true, rows[i].weighed, &bytes);
        ck_assert_msg(fabs(bits - rows[i].qwen_bits) < 1e-4, "%s: %.5f", rows[i].mix, bits);
        ck_assert(fabs((double)bytes / 0x1p30 - rows[i].qwen_gib) < 6e-4);
    }
}
END_TEST

START_TEST(mix_exceptions)
{
    static const struct {
        const char *name;
        int rank;
        int64_t width, layer;
        bool tied, pure;
        rt_dtype want;
        const char *mix; /* NULL: Q4_K_M */
        bool weighed;
    } rows[] = {
        { "blk.5.attn_q", 2, 4096, 5, false, false, RT_Q4_K, NULL, false },
        { "blk.6.attn_v", 2, 4096, 6, false, false, RT_Q6_K, NULL, false },
        { "blk.5.attn_v", 2, 4096, 5, false, false, RT_Q4_K, NULL, false },
        { "blk.6.attn_v", 2, 4096, 6, false, true, RT_Q4_K, NULL, false },
        { "blk.6.attn_v", 2, 96, 6, false, false, RT_Q8_0, NULL, false },
        { "blk.5.attn_v", 2, 96, 5, false, false, RT_Q5_0, NULL, false },
        { "blk.5.attn_v", 2, 40, 5, false, false, RT_F16, NULL, false },
        { "token_embd", 2, 4096, -1, false, false, RT_Q4_K, NULL, false },
        { "token_embd", 2, 4096, -1, true, false, RT_Q6_K, NULL, false },
        { "token_embd", 2, 96, -1, true, false, RT_Q8_0, NULL, false },
        { "output", 2, 4096, -1, false, false, RT_Q6_K, NULL, false },
        { "output", 2, 4096, -1, false, true, RT_Q4_K, NULL, false },
        { "output_norm", 1, 4096, -1, false, false, RT_F32, NULL, false },
        { "blk.5.attn_q_norm", 1, 128, 5, false, true, RT_F32, NULL, false },
        { "blk.5.ffn_gate_inp", 2, 4096, 5, false, false, RT_F32, NULL, false },
        { "blk.3.ffn_down", 2, 4096, 3, false, false, RT_Q4_1, "Q4_0", true },
        { "blk.3.ffn_down", 2, 4096, 3, false, false, RT_Q4_0, "Q4_0", false },
        { "blk.4.ffn_down", 2, 4096, 4, false, false, RT_Q4_0, "Q4_0", true },
        { "blk.3.ffn_down", 2, 4096, 3, false, false, RT_Q5_1, "Q5_0", true },
        { "blk.3.ffn_down", 2, 4096, 3, false, false, RT_IQ4_XS, "IQ4_XS", true },
        { "blk.3.ffn_down", 2, 4096, 3, false, false, RT_Q5_K, "IQ4_XS", false },
        { "blk.1.ffn_down", 2, 4096, 1, false, false, RT_Q5_K, "Q3_K_M", false },
        { "blk.2.ffn_down", 2, 4096, 2, false, false, RT_Q4_K, "Q3_K_M", false },
        { "blk.1.attn_output", 2, 4096, 1, false, false, RT_Q4_K, "Q3_K_M", false },
        { "blk.1.attn_q", 2, 96, 1, false, false, RT_Q4_0, "Q3_K_M", false },
        { "blk.1.attn_q", 2, 96, 1, false, false, RT_IQ4_NL, "IQ4_XS", false },
        { "blk.1.attn_q", 2, 96, 1, false, false, RT_Q4_0, "NVFP4", false },
        { "blk.1.attn_q", 2, 192, 1, false, false, RT_NVFP4, "NVFP4", false },
        { "blk.1.attn_q", 2, 192, 1, false, false, RT_Q4_0, "TQ2_0", false },
        { "output", 2, 96, -1, false, false, RT_Q8_0, "NVFP4", false },
        { "output", 2, 96, -1, false, false, RT_Q8_0, "Q4_0", false },
        { "token_embd", 2, 4096, -1, false, false, RT_Q4_K, "TQ2_0", false },
        { "token_embd", 2, 96, -1, false, false, RT_Q5_0, "TQ2_0", false },
    };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        const rt_mix *m = rt_mix_find(rows[i].mix ? rows[i].mix : "Q4_K_M");
        const rt_mix_model model = { 32, 32, 8, rows[i].tied, rows[i].weighed, rows[i].pure };
        ck_assert_msg(rt_mix_dtype(m, &model, rows[i].name, rows[i].rank, rows[i].width,
                                   rows[i].layer) == rows[i].want,
                      "row %d, %s", i, rows[i].name);
    }
    const rt_mix_model large = { 80, 64, 8, false, false, false };
    ck_assert(rt_mix_dtype(rt_mix_find("Q4_K_M"), &large, "blk.11.attn_v", 2, 4096, 11) == RT_Q5_K);
    ck_assert_ptr_null(rt_mix_find("Q4_K"));
    char all[] = RT_MIX_CHOICES;
    for (char *name = strtok(all, "|"); name; name = strtok(NULL, "|"))
        ck_assert_ptr_nonnull(rt_mix_find(name));
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { better_than_nearest, 1 },
                                 { no_worse_than_ggml, 1 },
                                 { q4_0_is_the_optimum, 1 },
                                 { q4_0_grid_survives, 1 },
                                 { encoding_what_was_decoded_changes_nothing, 1 },
                                 { extreme_rows, 1 },
                                 { values_that_do_not_fit, 1 },
                                 { plain_types, 1 },
                                 { same_bytes_everywhere, 1 },
                                 { ggml_to_the_byte, 1 },
                                 { sizes_are_the_published_ones, 1 },
                                 { mix_exceptions, 1 } };
    return suite_run("quant", NULL, tests, RT_COUNT(tests));
}
