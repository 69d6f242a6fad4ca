/* test_optim.c: what optimizers are made of, where rows of ops_cases.h cannot say it: moments in
   eight bits against the codes of their paper made here in f64, bf16 weights that are rounded at
   random, the pieces of Muon against f64; the same bits for all threads, instruction sets and
   devices that promise them. */
#include "tests/device.h"
#include "tests/suite.h"

#include "core/base/rng.h"

#include <math.h>

static const char *const isas[] = { "scalar", "avx2", "avx512" };

/* ---- the codes, by the words of arXiv 2110.02861 ----------------------------------------------- */

/* Ascending: middles of 2^k (twice as many unsigned) equal parts of (0.1, 1] times 10^(k-6), k = 0
   .. 6; 0, 1 and, signed, the same below 0 but for -1. */
static int make_map(double *map, bool is_signed)
{
    int n = 0;
    for (int k = 0; k < 7; k++) {
        int parts = is_signed ? 1 << k : 2 << k;
        for (int j = 0; j < parts; j++) {
            double x = pow(10.0, k - 6) * (0.1 + 0.9 * (j + 0.5) / parts);
            map[n++] = x;
            if (is_signed)
                map[n++] = -x;
        }
    }
    map[n++] = 0.0;
    map[n++] = 1.0;
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && map[k - 1] > map[k]; k--) {
            double t = map[k];
            map[k] = map[k - 1], map[k - 1] = t;
        }
    return n;
}

static double nearest(const double *map, double x)
{
    double best = map[0];
    for (int i = 1; i < 256; i++)
        if (fabs(map[i] - x) < fabs(best - x))
            best = map[i];
    return best;
}

/* Of elements x in blocks of 256, each as its block's largest times a point of the map. never_zero:
   what is not 0 is not made 0. */
static void code(double *x, int64_t n, const double *map, bool never_zero)
{
    for (int64_t b = 0; b < n; b += 256) {
        double most = 0;
        for (int64_t i = b; i < b + 256; i++)
            most = fmax(most, fabs(x[i]));
        for (int64_t i = b; i < b + 256 && most > 0; i++) {
            double was = x[i];
            x[i] = nearest(map, x[i] / most) * most;
            if (never_zero && was > 0 && x[i] == 0.0)
                x[i] = map[1] * most;
        }
    }
}

/* ---- AdamW with coded moments ------------------------------------------------------------------ */

enum { ELEMENTS = 256 * 37, STEPS = 5 };

/* Magnitudes over many decades, whole blocks of zeros, zeros within blocks. */
static double gradient(int64_t i, int step)
{
    double u = rt_rng_uniform(7, RT_RNG_DATA, (uint64_t)(i * STEPS + step));
    double size = pow(10.0, -8.0 * rt_rng_uniform(8, RT_RNG_DATA, (uint64_t)i));
    return i / 256 == 5 || i % 19 == step ? 0.0 : (2 * u - 1) * size;
}

static rt_adamw setting(int step)
{
    return (rt_adamw){ .lr = 0.01f,
                       .beta1 = 0.9f,
                       .beta2 = 0.95f,
                       .eps = 1e-8f,
                       .decay = 0.1f,
                       .bias1 = (float)(1 - pow(0.9, step)),
                       .bias2 = (float)(1 - pow(0.95, step)),
                       .grad_scale = 0.5f,
                       .rounding = { .seed = 99 + (uint64_t)step } };
}

struct state {
    rt_tensor w, m, v;
};

static void step_on(rt_dev *d, struct state *s, rt_dtype weights, int64_t piece)
{
    float *host = calloc(ELEMENTS, sizeof *host);
    uint8_t *zeros = calloc(ELEMENTS, 4);
    *s = (struct state){ rt_tensor_1(NULL, weights, ELEMENTS), rt_tensor_1(NULL, RT_M8, ELEMENTS),
                         rt_tensor_1(NULL, RT_V8, ELEMENTS) };
    void *start = calloc(ELEMENTS, sizeof *host);
    for (int64_t i = 0; i < ELEMENTS; i++)
        host[i] = 2.0f * rt_rng_uniform(9, RT_RNG_DATA, (uint64_t)i) - 1.0f;
    rt_encode_f32(start, host, ELEMENTS, weights);
    s->w.data = put_bytes(d, start, rt_tensor_bytes(&s->w));
    s->m.data = put_bytes(d, zeros, rt_tensor_bytes(&s->m));
    s->v.data = put_bytes(d, zeros, rt_tensor_bytes(&s->v));
    for (int step = 1; step <= STEPS; step++) {
        for (int64_t i = 0; i < ELEMENTS; i++)
            host[i] = (float)gradient(i, step);
        rt_tensor g = rt_tensor_1(put_bytes(d, host, ELEMENTS * 4), RT_F32, ELEMENTS);
        for (int64_t at = 0; at < ELEMENTS; at += piece) {
            int64_t n = rt_min(piece, ELEMENTS - at);
            rt_adamw h = setting(step);
            h.rounding.first = (uint64_t)at;
            rt_tensor w = rt_tensor_rows(&s->w, at, n), gr = rt_tensor_rows(&g, at, n);
            rt_tensor m = rt_tensor_1((uint8_t *)s->m.data + at / 256 * 260, RT_M8, n);
            rt_tensor v = rt_tensor_1((uint8_t *)s->v.data + at / 256 * 260, RT_V8, n);
            rt_adamw_step(d, &w, &m, &v, &gr, &h);
        }
        drop_tensor(d, &g);
    }
    rt_tensor *const all[] = { &s->w, &s->m, &s->v };
    for (int k = 0; k < 3; k++) {
        void *back = calloc(1, (size_t)rt_tensor_bytes(all[k]));
        rt_tensor there = *all[k];
        all[k]->data = back;
        get_tensor(d, all[k], &there);
    }
    free(start);
    free(zeros);
    free(host);
}

static void free_state(struct state *s)
{
    free(s->w.data);
    free(s->m.data);
    free(s->v.data);
}

/* Weights beside f64 whose moments go through the codes of the paper. Where an element lies between
   two points either may be taken, so a few may move otherwise, by one code. */
START_TEST(coded_adamw)
{
    static double w[ELEMENTS], m[ELEMENTS], root[ELEMENTS], m_map[256], v_map[256];
    rt_dev *d;
    struct state s;
    ck_assert(open_device_named(&d, NULL, "scalar", 1));
    step_on(d, &s, RT_F32, ELEMENTS);
    rt_dev_close(d);
    ck_assert_int_eq(make_map(m_map, true), 256);
    ck_assert_int_eq(make_map(v_map, false), 256);
    for (int64_t i = 0; i < ELEMENTS; i++) {
        w[i] = (double)(2.0f * rt_rng_uniform(9, RT_RNG_DATA, (uint64_t)i) - 1.0f);
        m[i] = root[i] = 0;
    }
    for (int step = 1; step <= STEPS; step++) {
        for (int64_t i = 0; i < ELEMENTS; i++) {
            double g = 0.5 * gradient(i, step), v = 0.95 * root[i] * root[i] + 0.05 * g * g;
            m[i] = 0.9 * m[i] + 0.1 * g;
            root[i] = sqrt(v);
            double move = m[i] / (1 - pow(0.9, step)) /
                          (sqrt(v / (1 - pow(0.95, step))) + 1e-8);
            w[i] -= 0.01 * (0.1 * w[i] + move);
        }
        code(m, ELEMENTS, m_map, false);
        code(root, ELEMENTS, v_map, true);
    }
    int64_t off = 0;
    double most = 0;
    for (int64_t i = 0; i < ELEMENTS; i++) {
        double away = fabs((double)rt_f32(&s.w)[i] - w[i]);
        off += away > 1e-6;
        most = fmax(most, away);
    }
    ck_assert_msg(off <= ELEMENTS / 500, "%lld of %d weights moved otherwise", (long long)off,
                  ELEMENTS);
    ck_assert_msg(most < 0.02, "a weight is off by %g", most);
    for (int64_t b = 0; b < ELEMENTS; b += 256) { /* scales */
        double m_most = 0, v_most = 0;
        for (int64_t i = b; i < b + 256; i++)
            m_most = fmax(m_most, fabs(m[i])), v_most = fmax(v_most, root[i]);
        float m_scale, v_scale;
        memcpy(&m_scale, (uint8_t *)s.m.data + b / 256 * 260, 4);
        memcpy(&v_scale, (uint8_t *)s.v.data + b / 256 * 260, 4);
        ck_assert_double_le(fabs((double)m_scale - m_most), 0.02 * m_most);
        ck_assert_double_le(fabs((double)v_scale - v_most), 0.02 * v_most);
    }
    free_state(&s);
}
END_TEST

/* Pieces of a tensor, threads and instruction sets change no bit. */
START_TEST(coded_adamw_same_bits)
{
    rt_dtype weights = _i ? RT_BF16 : RT_F32;
    const char *name;
    for (int kind = 0; (name = next_device(&kind));) {
        struct state first, again;
        rt_dev *d;
        ck_assert(open_device_named(&d, name, "scalar", 1));
        step_on(d, &first, weights, ELEMENTS);
        rt_dev_close(d);
        for (int i = 0; i < RT_COUNT(isas); i++)
            for (int threads = 1; threads <= 3; threads++) {
                if (!open_device_named(&d, name, isas[i], threads))
                    continue;
                step_on(d, &again, weights, threads == 2 ? 4096 : 4096 + 256 * threads);
                rt_dev_close(d);
                ck_assert(!memcmp(first.w.data, again.w.data, (size_t)rt_tensor_bytes(&first.w)));
                ck_assert(!memcmp(first.m.data, again.m.data, (size_t)rt_tensor_bytes(&first.m)));
                ck_assert(!memcmp(first.v.data, again.v.data, (size_t)rt_tensor_bytes(&first.v)));
                free_state(&again);
            }
        free_state(&first);
    }
}
END_TEST

/* ---- bf16 weights ------------------------------------------------------------------------------ */

/* y = 1 x: each becomes one of its two neighbours, on average itself; numbers that bf16 has, zero and
   what is not finite stay. */
START_TEST(rounding_at_random)
{
    enum { N = 40000 };
    static float x[N];
    static uint16_t y[N], z[N];
    rt_dev *d;
    ck_assert(open_device_named(&d, NULL, NULL, 2));
    const float target = 1.0f + 0.3f / 128.0f;
    for (int i = 0; i < N; i++)
        x[i] = i % 2 ? -target : target;
    const float special[] = { 0.0f, -0.0f, 1.5f, -3.0f, INFINITY, -INFINITY, NAN, 0x1p-133f };
    memcpy(x, special, sizeof special);
    rt_tensor from = rt_tensor_1(x, RT_F32, N), to = rt_tensor_1(y, RT_BF16, N);
    rt_tensor there = put_tensor(d, &from), back = put_tensor(d, &to);
    rt_axpby(d, &back, &there, 1.0f, 0.0f, &(rt_rounding){ 5, 0 });
    get_bytes(d, y, back.data, sizeof y);
    rt_axpby(d, &back, &there, 1.0f, 0.0f, &(rt_rounding){ 6, 0 });
    get_tensor(d, &(rt_tensor){ .data = z, .dtype = RT_BF16, .rank = 1, .dim = { N, 1, 1, 1 } },
               &back);
    drop_tensor(d, &there);
    rt_dev_close(d);
    double sum = 0;
    int other = 0;
    for (int i = 0; i < N; i++) {
        float got = rt_bf16_to_f32(y[i]);
        if (i < RT_COUNT(special)) {
            ck_assert(isnan(special[i]) ? isnan(got) : got == special[i]);
            continue;
        }
        ck_assert(fabsf(got) == 1.0f || fabsf(got) == 1.0f + 1.0f / 128.0f);
        ck_assert((got < 0) == (x[i] < 0));
        sum += fabs((double)got);
        other += y[i] != z[i];
    }
    double mean = sum / (N - RT_COUNT(special)), sigma = sqrt(0.3 * 0.7 / N) / 128.0;
    ck_assert_msg(fabs(mean - (double)target) < 4 * sigma, "mean %.7f of %.7f", mean,
                  (double)target);
    ck_assert(abs(other - (int)(2 * 0.3 * 0.7 * N)) < N / 50); /* another seed, other draws */
}
END_TEST

/* ---- the pieces of Muon ------------------------------------------------------------------------ */

START_TEST(momentum_and_norm)
{
    enum { N = 256 * 50 };
    static float g[N], u[N], y[N];
    static double m[N], want[N], size[N], map[256];
    const double b = (double)0.95f;
    static uint8_t zeros[N * 4];
    bool coded = _i % 2, nesterov = _i / 2;
    const char *name;
    ck_assert_int_eq(make_map(map, true), 256);
    for (int kind = 0; (name = next_device(&kind));) {
        rt_dev *d;
        ck_assert(open_device_named(&d, name, NULL, 2));
        memset(m, 0, sizeof m);
        rt_tensor t = rt_tensor_1(u, RT_F32, N), there = put_tensor(d, &t);
        rt_tensor mt = rt_tensor_1(zeros, coded ? RT_M8 : RT_F32, N), mom = put_tensor(d, &mt);
        rt_tensor part = rt_tensor_1(y, RT_F32, rt_ceil_div(N, 4096)), sums = put_tensor(d, &part);
        for (int step = 0; step < 3; step++) {
            for (int i = 0; i < N; i++) {
                g[i] = (float)gradient(i, step);
                double gi = 0.5 * (double)g[i];
                size[i] = (step ? size[i] : 0) + fabs(gi); /* what rounds, where terms cancel */
                m[i] = b * m[i] + (1 - b) * gi;
                want[i] = nesterov ? b * m[i] + (1 - b) * gi : m[i];
            }
            if (coded)
                code(m, N, map, false);
            rt_tensor gt = rt_tensor_1(g, RT_F32, N), grad = put_tensor(d, &gt);
            rt_momentum(d, &there, &mom, &grad, 0.95f, 0.5f, nesterov);
            drop_tensor(d, &grad);
        }
        get_bytes(d, u, there.data, sizeof u);
        rt_sumsq(d, &sums, &there);
        rt_unit_norm(d, &there, &there, &sums);
        get_bytes(d, y, there.data, sizeof y);
        double norm = 0, most = 0;
        int off = 0;
        for (int i = 0; i < N; i++)
            norm += want[i] * want[i], most = fmax(most, fabs(want[i]));
        for (int i = 0; i < N; i++) {
            off += fabs((double)u[i] - want[i]) > 1e-6 * size[i];
            ck_assert_double_le(fabs((double)y[i] * sqrt(norm) - want[i]), 1e-3 * most);
        }
        ck_assert_int_le(off, coded ? N / 500 : 0);
        drop_tensor(d, &there);
        drop_tensor(d, &mom);
        drop_tensor(d, &sums);
        rt_dev_close(d);
    }
}
END_TEST

START_TEST(axpby)
{
    enum { N = 5003 };
    static float x[N], y[N];
    const char *name;
    for (int kind = 0; (name = next_device(&kind));) {
        rt_dev *d;
        ck_assert(open_device_named(&d, name, NULL, 2));
        for (int i = 0; i < N; i++)
            x[i] = (float)i - 2000.0f, y[i] = _i ? 0.5f * (float)i : NAN;
        rt_tensor xt = rt_tensor_1(x, RT_F32, N), yt = rt_tensor_1(y, RT_F32, N);
        rt_tensor a = put_tensor(d, &xt), b = put_tensor(d, &yt);
        rt_axpby(d, &b, &a, 3.0f, _i ? -2.0f : 0.0f, NULL);
        get_tensor(d, &yt, &b);
        drop_tensor(d, &a);
        for (int i = 0; i < N; i++)
            ck_assert_float_eq(y[i], 3.0f * x[i] - (_i ? (float)i : 0.0f));
        rt_dev_close(d);
    }
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { coded_adamw, 1 },
                                 { coded_adamw_same_bits, 2 },
                                 { rounding_at_random, 1 },
                                 { momentum_and_norm, 4 },
                                 { axpby, 2 } };
    return suite_run("optim", NULL, tests, RT_COUNT(tests));
}
