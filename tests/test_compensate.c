/* test_compensate.c: grids of blocks against decoding; the factor of sums of inputs against f64; and
   rounding that carries errors: against the definition in f64 (each code is the nearest one to what
   its column is to hold), against the encoder's own choice by what outputs lose, and the same bytes
   on every instruction set and by any number of threads. */
#include <math.h>
#include <stdlib.h>

#include "core/base/memory.h"
#include "core/base/processor.h"
#include "core/base/rng.h"
#include "quant/compensate.h"
#include "quant/encode.h"
#include "quant/grid.h"
#include "tests/suite.h"

static rt_err err;

static const rt_dtype types[] = { RT_Q8_0, RT_Q6_K, RT_Q5_K, RT_Q5_1, RT_Q5_0, RT_Q4_K, RT_Q4_1, RT_Q4_0 };

static float draw(uint64_t seed, int64_t i)
{
    float sum = 0;
    for (uint64_t k = 0; k < 6; k++)
        sum += rt_rng_uniform(seed, RT_RNG_DATA, (uint64_t)i * 8 + k) - 0.5f;
    return sum;
}

/* What the mixes of four bits and more are made of; a file may hold any type beside. */
START_TEST(supported)
{
    for (int t = 0; t < RT_DTYPE_COUNT; t++)
        ck_assert(!rt_compensate_supported((rt_dtype)t) || rt_grid_supported((rt_dtype)t));
    for (int i = 0; i < RT_COUNT(types); i++)
        ck_assert(rt_compensate_supported(types[i]));
}
END_TEST

START_TEST(grids)
{
    for (int t = 0; t < RT_COUNT(types); t++) {
        rt_dtype type = types[t];
        int n = rt_dtype_get(type)->block;
        float x[256], y[256];
        uint8_t block[512], again[512];
        int8_t code[256];
        rt_grid g;
        for (int i = 0; i < n; i++)
            x[i] = draw((uint64_t)t, i) + (t % 2 ? 0.2f : 0);
        OK(rt_encode(block, x, type, 1, n, NULL, &err));
        rt_decode_f32(y, block, type, n);
        rt_grid_read(&g, code, block, type);
        ck_assert_int_eq(g.n, n);
        for (int i = 0; i < n; i++) {
            float v = rt_grid_value(&g, i, code[i]);
            ck_assert_msg(v == y[i], "%s %d: %g, %g", rt_dtype_get(type)->name, i, (double)v, (double)y[i]);
        }
        /* every code finds its place, and no other bit moves */
        for (int k = 0; k < n; k++) {
            int8_t was = code[k];
            for (int c = g.lo; c <= g.hi; c += g.hi - g.lo) {
                code[k] = (int8_t)c;
                memcpy(again, block, sizeof again);
                rt_grid_write(again, &g, code, type);
                rt_decode_f32(y, again, type, n);
                for (int i = 0; i < n; i++)
                    ck_assert(y[i] == rt_grid_value(&g, i, code[i]));
            }
            code[k] = was;
        }
        memcpy(again, block, sizeof again);
        rt_grid_write(again, &g, code, type);
        ck_assert_int_eq(memcmp(again, block, (size_t)rt_dtype_get(type)->block_bytes), 0);
    }
}
END_TEST

/* ---- inputs whose columns go together, as a layer's do ---- */

enum { TEXT = 700 };

static void inputs(rt_curvature *c, rt_dev *d, int64_t n)
{
    float *x = malloc((size_t)(TEXT * n) * sizeof *x);
    for (int64_t r = 0; r < TEXT; r++)
        for (int64_t i = 0; i < n; i++)
            x[r * n + i] = draw(3, r * n + i) + 0.7f * (i ? x[r * n + i - 1] : 0) +
                           0.3f * draw(4, r) * (i % 7 == 0 ? 5.0f : 1.0f);
    rt_tensor t = rt_tensor_2(x, RT_F32, TEXT, n);
    rt_curvature_init(c, n);
    rt_curvature_add(c, d, &t);
    free(x);
}

static rt_dev *device(int64_t n, int threads)
{
    rt_dev *d;
    OK(rt_dev_open(&d, "cpu", threads, &err));
    rt_dev_dry_begin(d);
    rt_curvature_dry(d, n, TEXT);
    rt_compensate_dry(d, n);
    rt_dev_dry_end(d);
    OK(rt_dev_ready(d, &err));
    return d;
}

/* H = U D Uᵀ, its diagonal larger the fewer rows there are; a column is always 0. */
START_TEST(factors)
{
    static const int64_t sizes[] = { 5, 64, 256, 300, 544 };
    int64_t n = sizes[_i];
    rt_curvature c;
    rt_dev *d = device(n, 2);
    inputs(&c, d, n);
    for (int64_t i = 0; i < n; i++)
        c.h[3 * n + i] = c.h[i * n + 3] = 0;
    double mean = 0, worst = 0, *want = malloc((size_t)(n * n) * sizeof *want);
    for (int64_t i = 0; i < n; i++)
        mean += (double)c.h[i * n + i] / (double)n;
    for (int64_t i = 0; i < n * n; i++)
        want[i] = (double)c.h[i];
    double share = (double)n / TEXT, own = 1.01 + fmin(4 * share, 0.99);
    for (int64_t i = 0; i < n; i++)
        want[i * n + i] = own * (want[i * n + i] + share * mean);
    OK(rt_curvature_factor(&c, d, &err));
    for (int64_t a = 0; a < n; a++) {
        ck_assert(c.weight[a] > 0 && c.ut[a * n + a] == 1);
        for (int64_t b = 0; b <= a; b++) {
            double sum = 0;
            for (int64_t k = a; k < n; k++)
                sum += (double)c.ut[k * n + a] * (double)c.weight[k] * (double)c.ut[k * n + b];
            worst = fmax(worst, fabs(sum - want[a * n + b]) / mean);
            ck_assert(b == a || c.ut[b * n + a] == 0);
        }
    }
    ck_assert_msg(worst < 3e-5, "off by %g of the mean", worst);
    free(want);
    rt_curvature_free(&c);
    rt_dev_close(d);
}
END_TEST

START_TEST(no_factor)
{
    rt_curvature c;
    rt_dev *d = device(32, 1);
    inputs(&c, d, 32);
    c.h[5] = NAN;
    c.h[5 * 32] = NAN;
    FAILS(rt_curvature_factor(&c, d, &err), "no factor");
    c.h[0] = INFINITY;
    FAILS(rt_curvature_factor(&c, d, &err), "not finite");
    rt_curvature_free(&c);
    rt_dev_close(d);
}
END_TEST

/* ---- rounding ---- */

enum { ROWS = 37, WIDTH = 512 };

static float *matrix(void)
{
    float *w = malloc(ROWS * WIDTH * sizeof *w);
    for (int64_t i = 0; i < ROWS * WIDTH; i++)
        w[i] = 0.02f * draw(7, i) * (i % 61 == 0 ? 6.0f : 1.0f);
    return w;
}

static double loss(const float *w, const uint8_t *block, rt_dtype t, const rt_curvature *c)
{
    double sum = 0, e[WIDTH];
    float y[WIDTH];
    for (int64_t r = 0; r < ROWS; r++) {
        rt_decode_f32(y, block + r * rt_dtype_bytes(t, WIDTH), t, WIDTH);
        for (int i = 0; i < WIDTH; i++)
            e[i] = (double)w[r * WIDTH + i] - (double)y[i];
        for (int i = 0; i < WIDTH; i++)
            for (int k = 0; k < WIDTH; k++)
                sum += e[i] * (double)c->h[i * WIDTH + k] * e[k];
    }
    return sum;
}

/* What column j of a row is to hold, given the errors before it, lies nearest to the code it got. */
static double farthest(const float *w, const uint8_t *block, rt_dtype t, const rt_curvature *c)
{
    int n = rt_dtype_get(t)->block;
    double worst = 0, e[WIDTH];
    rt_grid g;
    int8_t code[256];
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t j = 0; j < WIDTH; j++) {
            if (j % n == 0)
                rt_grid_read(&g, code, block + rt_dtype_bytes(t, r * WIDTH + j), t);
            double hold = (double)w[r * WIDTH + j];
            for (int64_t k = 0; k < j; k++)
                hold += e[k] * (double)c->ut[j * WIDTH + k];
            int sub = (int)(j % n) / g.sub;
            double s = (double)(g.d * g.level[sub]), o = (double)(g.dmin * g.offset[sub]);
            double q = s != 0 ? (hold + o) / s : 0;
            q = fmin(fmax(q, g.lo), g.hi);
            worst = fmax(worst, fabs(q - (double)code[j % n]));
            e[j] = (double)w[r * WIDTH + j] - (double)rt_grid_value(&g, (int)(j % n), code[j % n]);
        }
    return worst;
}

START_TEST(rounds_what_columns_are_to_hold)
{
    rt_dtype t = types[_i];
    int64_t bytes = rt_dtype_bytes(t, ROWS * WIDTH);
    uint8_t *block = malloc((size_t)bytes), *plain = malloc((size_t)bytes);
    float *w = matrix(), importance[WIDTH];
    rt_curvature c;
    rt_dev *d = device(WIDTH, 2);
    rt_team *team;
    OK(rt_team_open(&team, 2, &err));
    inputs(&c, d, WIDTH);
    for (int i = 0; i < WIDTH; i++)
        importance[i] = c.h[i * WIDTH + i];
    OK(rt_encode(plain, w, t, ROWS, WIDTH, importance, &err));
    c.rows *= 1000; /* as if they were many, and believed */
    OK(rt_curvature_factor(&c, d, &err));
    rt_compensation by = { d, team, 2 };
    OK(rt_compensate(&by, block, w, t, ROWS, &c, &err));
    double far = farthest(w, block, t, &c);
    ck_assert_msg(far < 0.5 + 2e-3, "%s: a code %g steps away", rt_dtype_get(t)->name, far);
    double was = loss(w, plain, t, &c), is = loss(w, block, t, &c);
    ck_assert_msg(is < 0.6 * was, "%s: outputs lose %g, by every block for itself %g",
                  rt_dtype_get(t)->name, is, was);
    w[ROWS * WIDTH - 2] = NAN;
    FAILS(rt_compensate(&by, block, w, t, ROWS, &c, &err), "row 36, column 510: nan");
    rt_curvature_free(&c);
    rt_team_close(team);
    rt_dev_close(d);
    free(block);
    free(plain);
    free(w);
}
END_TEST

/* Bytes of a row depend on the row alone: any threads, instructions, and rows around it. */
START_TEST(same_bytes_everywhere)
{
    static const char *const isa[] = { "scalar", "avx2", "avx512" };
    rt_dtype t = types[_i];
    int64_t bytes = rt_dtype_bytes(t, ROWS * WIDTH), row = rt_dtype_bytes(t, WIDTH);
    uint8_t *first = NULL, *block = malloc((size_t)bytes);
    float *w = matrix();
    for (int k = 0; k < 2 * RT_COUNT(isa); k++) {
        rt_simd simd;
        setenv("RETORT_ISA", isa[k / 2], 1);
        if (rt_simd_choose(&simd, &err))
            continue; /* not of this machine */
        rt_curvature c;
        rt_dev *d = device(WIDTH, 1 + k % 2);
        rt_team *team;
        OK(rt_team_open(&team, 1 + k % 2, &err));
        inputs(&c, d, WIDTH);
        OK(rt_curvature_factor(&c, d, &err));
        rt_compensation by = { d, team, 1 + k % 2 };
        OK(rt_compensate(&by, block, w, t, ROWS, &c, &err));
        if (!first) {
            first = block;
            block = malloc((size_t)bytes);
        } else {
            ck_assert_msg(!memcmp(first, block, (size_t)bytes), "%s", isa[k / 2]);
        }
        OK(rt_compensate(&by, block, w + 5 * WIDTH, t, 1, &c, &err));
        ck_assert(!memcmp(first + 5 * row, block, (size_t)row));
        rt_curvature_free(&c);
        rt_team_close(team);
        rt_dev_close(d);
    }
    unsetenv("RETORT_ISA");
    free(first);
    free(block);
    free(w);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { supported, 1 },
                                 { grids, 1 },
                                 { factors, 5 },
                                 { no_factor, 1 },
                                 { rounds_what_columns_are_to_hold, RT_COUNT(types) },
                                 { same_bytes_everywhere, RT_COUNT(types) } };
    return suite_run("compensate", NULL, tests, RT_COUNT(tests));
}
