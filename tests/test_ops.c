/* test_ops.c: every row operation, as rows of data (tests/ops_cases.h): outputs against f64,
   gradients against finite differences of f64, the same bits for threads 1 to 3 and every
   instruction set of this machine and device of this build. Then what rows cannot say: the router's
   order, dtypes of gather, refusals. `test_ops bench` prints bandwidths instead. */
#include "tests/device.h"
#include "tests/ops_cases.h"
#include "tests/suite.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const isas[] = { "scalar", "avx2", "avx512" };

/* --- a case on the host -------------------------------------------------------------------------
 */

struct world {
    const struct ops_case *c;
    struct ops_shape shape;
    struct ops_buffers host; /* in, dout, i; din: what the buffers hold before backward */
};

static float *floats(int64_t n) { return calloc((size_t)rt_max(n, 1), sizeof(float)); }

static void round_to(rt_dtype act, float *x, int64_t n)
{
    for (int64_t i = 0; i < n && act == RT_BF16; i++)
        x[i] = rt_bf16_to_f32(rt_f32_to_bf16(x[i]));
}

/* act: what activations are to be kept in without loss */
static void make_world(struct world *w, const struct ops_case *c, rt_dtype act)
{
    uint64_t seed = (uint64_t)(c - ops_cases) + 100;
    memset(w, 0, sizeof *w);
    w->c = c;
    c->kind->shape(c->p, &w->shape);
    uint64_t at = 0;
    for (int k = 0; k < OPS_IN; k++) {
        w->host.in[k] = floats(w->shape.in[k]);
        w->host.din[k] = floats(w->shape.in[k]);
        for (int64_t i = 0; i < w->shape.in[k]; i++) {
            float u = 2.0f * rt_rng_uniform(seed, RT_RNG_DATA, at++) - 1.0f;
            w->host.in[k][i] = u;
            w->host.din[k][i] = w->shape.fill[k] == ADDS             ? 0.5f * u + 0.1f
                                : w->shape.fill[k] == STARTS_AT_ZERO ? 0.0f
                                                                     : NAN;
        }
    }
    for (int k = 0; k < OPS_OUT; k++) {
        w->host.dout[k] = floats(w->shape.out[k]);
        for (int64_t i = 0; i < w->shape.out[k]; i++)
            w->host.dout[k][i] = 2.0f * rt_rng_uniform(seed, RT_RNG_DATA, at++) - 1.0f;
    }
    for (int k = 0; k < OPS_INT; k++)
        w->host.i[k] = calloc((size_t)rt_max(w->shape.i[k], 1), sizeof(int32_t));
    if (c->kind->fill)
        c->kind->fill(c, &w->host);
    w->host.act = act;
    for (int k = 0; k < OPS_IN; k++)
        if (w->shape.in_act[k]) {
            round_to(act, w->host.in[k], w->shape.in[k]);
            round_to(act, w->host.din[k], w->shape.in[k]);
        }
    for (int k = 0; k < OPS_OUT; k++)
        if (w->shape.out_act[k])
            round_to(act, w->host.dout[k], w->shape.out[k]);
}

static void free_buffers(struct ops_buffers *b)
{
    for (int k = 0; k < OPS_IN; k++)
        free(b->in[k]), free(b->din[k]);
    for (int k = 0; k < OPS_OUT; k++)
        free(b->out[k]), free(b->dout[k]);
    for (int k = 0; k < OPS_INT; k++)
        free(b->i[k]);
}

/* --- the case on a device: out and din come back in r -------------------------------------------
 */

static void *send(rt_dev *d, const void *from, int64_t n) { return put_bytes(d, from, n * 4); }

static void *receive(rt_dev *d, void *from, int64_t n)
{
    void *p = floats(n);
    get_bytes(d, p, from, n * 4);
    rt_dev_release(d, from);
    return p;
}

/* The same of floats that lie there as act. */
static void *send_as(rt_dev *d, rt_dtype act, const float *from, int64_t n)
{
    if (act == RT_F32)
        return send(d, from, n);
    uint16_t *bits = calloc((size_t)rt_max(n, 1), sizeof *bits);
    for (int64_t i = 0; i < n; i++)
        bits[i] = rt_f32_to_bf16(from[i]);
    void *p = put_bytes(d, bits, n * (int64_t)sizeof *bits);
    free(bits);
    return p;
}

static float *receive_as(rt_dev *d, rt_dtype act, void *from, int64_t n)
{
    if (act == RT_F32)
        return receive(d, from, n);
    float *p = floats(n);
    uint16_t *bits = calloc((size_t)rt_max(n, 1), sizeof *bits);
    get_bytes(d, bits, from, n * (int64_t)sizeof *bits);
    rt_dev_release(d, from);
    for (int64_t i = 0; i < n; i++)
        p[i] = rt_bf16_to_f32(bits[i]);
    free(bits);
    return p;
}

static rt_dtype dtype_in(const struct world *w, int k)
{
    return w->shape.in_act[k] ? w->host.act : RT_F32;
}
static rt_dtype dtype_out(const struct world *w, int k)
{
    return w->shape.out_act[k] ? w->host.act : RT_F32;
}

static void run_case(rt_dev *d, const struct world *w, struct ops_buffers *r)
{
    struct ops_buffers b = { .act = w->host.act };
    rt_err err = { 0 };
    memset(r, 0, sizeof *r);
    for (int k = 0; k < OPS_IN; k++) {
        b.in[k] = send_as(d, dtype_in(w, k), w->host.in[k], w->shape.in[k]);
        b.din[k] = send_as(d, dtype_in(w, k), w->host.din[k], w->shape.in[k]);
    }
    for (int k = 0; k < OPS_OUT; k++) {
        float *nan = floats(w->shape.out[k]);
        for (int64_t i = 0; i < w->shape.out[k]; i++)
            nan[i] = NAN;
        b.out[k] = send_as(d, dtype_out(w, k), nan, w->shape.out[k]);
        b.dout[k] = send_as(d, dtype_out(w, k), w->host.dout[k], w->shape.out[k]);
        free(nan);
    }
    for (int k = 0; k < OPS_INT; k++)
        b.i[k] = send(d, w->host.i[k], w->shape.i[k]);
    struct ops_buffers none = { .act = w->host.act };
    rt_dev_dry_begin(d);
    w->c->kind->run(d, w->c, &none);
    ck_assert_msg(rt_dev_dry_end(d).bytes > 0, "%s: costs nothing", w->c->name);
    ck_assert_int_eq(rt_dev_ready(d, &err), 0);
    w->c->kind->run(d, w->c, &b);
    for (int k = 0; k < OPS_IN; k++) {
        r->in[k] = receive_as(d, dtype_in(w, k), b.in[k], w->shape.in[k]);
        r->din[k] = receive_as(d, dtype_in(w, k), b.din[k], w->shape.in[k]);
    }
    for (int k = 0; k < OPS_OUT; k++) {
        r->out[k] = receive_as(d, dtype_out(w, k), b.out[k], w->shape.out[k]);
        r->dout[k] = receive_as(d, dtype_out(w, k), b.dout[k], w->shape.out[k]);
    }
    for (int k = 0; k < OPS_INT; k++)
        r->i[k] = receive(d, b.i[k], w->shape.i[k]);
}

/* --- the case in f64 ----------------------------------------------------------------------------
 */

struct exact {
    double *in[OPS_IN], *out[OPS_OUT];
};

static void make_exact(struct exact *e, const struct world *w)
{
    for (int k = 0; k < OPS_IN; k++) {
        e->in[k] = calloc((size_t)rt_max(w->shape.in[k], 1), sizeof(double));
        for (int64_t i = 0; i < w->shape.in[k]; i++)
            e->in[k][i] = (double)w->host.in[k][i];
    }
    for (int k = 0; k < OPS_OUT; k++)
        e->out[k] = calloc((size_t)rt_max(w->shape.out[k], 1), sizeof(double));
}

static void free_exact(struct exact *e)
{
    for (int k = 0; k < OPS_IN; k++)
        free(e->in[k]);
    for (int k = 0; k < OPS_OUT; k++)
        free(e->out[k]);
}

/* sum of dout times out */
static double exact_loss(struct exact *e, const struct world *w)
{
    double sum = 0.0;
    w->c->kind->reference(w->c, e->in, w->host.i, e->out);
    for (int k = 0; k < OPS_OUT; k++)
        for (int64_t i = 0; i < w->shape.out[k]; i++)
            sum += (double)w->host.dout[k][i] * e->out[k][i];
    return sum;
}

static void compare(const char *name, const char *what, int k, const float *got, const double *want,
                    int64_t n, double tolerance, rt_dtype act)
{
    double rounding = act == RT_BF16 ? 1.001 / 256.0 : 0.0; /* half a step of 8 bits, once */
    double largest = 1e-30;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance * largest + rounding * fabs(want[i])))
            ck_abort_msg("%s: %s %d element %lld is %.9g, f64 says %.9g (largest %.3g)", name, what,
                         k, (long long)i, (double)got[i], want[i], largest);
}

enum { DIFFERENCES_MAX = 1500 }; /* elements of an input worth a difference each */

static void check_gradients(const struct world *w, struct exact *e, const struct ops_buffers *r)
{
    for (int k = 0; k < OPS_IN; k++) {
        int64_t n = w->shape.in[k];
        enum ops_fill fill = w->shape.fill[k];
        if (fill == NO_GRADIENT || n > DIFFERENCES_MAX)
            continue;
        double *want = calloc((size_t)n, sizeof(double)), step = 1e-5;
        for (int64_t i = 0; i < n; i++) {
            double x = e->in[k][i];
            e->in[k][i] = x + step;
            double up = exact_loss(e, w);
            e->in[k][i] = x - step;
            want[i] = (up - exact_loss(e, w)) / (2.0 * step);
            want[i] += fill == ADDS ? (double)w->host.din[k][i] : 0.0;
            e->in[k][i] = x;
        }
        compare(w->c->name, "gradient", k, r->din[k], want, n, 10.0 * w->c->tolerance,
                dtype_in(w, k));
        free(want);
    }
}

static void check_same_bits(const struct world *w, const struct ops_buffers *a,
                            const struct ops_buffers *b, const char *isa, int threads)
{
    for (int k = 0; k < OPS_IN; k++)
        if (memcmp(a->din[k], b->din[k], (size_t)w->shape.in[k] * 4))
            ck_abort_msg("%s: gradient %d differs with %s, %d threads", w->c->name, k, isa,
                         threads);
    for (int k = 0; k < OPS_OUT; k++)
        if (memcmp(a->out[k], b->out[k], (size_t)w->shape.out[k] * 4))
            ck_abort_msg("%s: output %d differs with %s, %d threads", w->c->name, k, isa, threads);
    for (int k = 0; k < OPS_INT; k++)
        if (memcmp(a->i[k], b->i[k], (size_t)w->shape.i[k] * 4))
            ck_abort_msg("%s: integers %d differ with %s, %d threads", w->c->name, k, isa, threads);
}

/* Against f64, on the device that is opened by this name. */
static void check_exact(const struct world *w, const char *name, struct ops_buffers *r)
{
    struct exact e;
    rt_dev *d;
    ck_assert(open_device_named(&d, name, "scalar", 1));
    run_case(d, w, r);
    /* a team adds in as many chains as it has threads: few are long */
    double tolerance = w->c->tolerance * (rt_dev_get(d).cpu_bits ? 1.0 : 4.0);
    rt_dev_close(d);
    make_exact(&e, w);
    exact_loss(&e, w);
    for (int k = 0; k < OPS_OUT; k++)
        compare(w->c->name, "output", k, r->out[k], e.out[k], w->shape.out[k], tolerance,
                dtype_out(w, k));
    check_gradients(w, &e, r);
    free_exact(&e);
}

START_TEST(cases)
{
    struct world w;
    struct ops_buffers first, other, again;
    rt_dev *d;
    make_world(&w, &ops_cases[_i], RT_F32);
    check_exact(&w, "cpu", &first);
    check_exact(&w, NULL, &other);
    const char *name;
    for (int kind = 0; (name = next_device(&kind));)
        for (int i = 0; i < RT_COUNT(isas); i++)
            for (int threads = 1; threads <= 3; threads++) {
                if (!open_device_named(&d, name, isas[i], threads))
                    continue;
                run_case(d, &w, &again);
                check_same_bits(&w, rt_dev_get(d).cpu_bits ? &first : &other, &again, isas[i],
                                threads);
                free_buffers(&again);
                rt_dev_close(d);
            }
    free_buffers(&first);
    free_buffers(&other);
    free_buffers(&w.host);
}
END_TEST

/* The same with activations as a device prefers them: each element within one rounding of f64, what is
   f32 as exact as ever, and the same bits twice. */
START_TEST(cases_in_bf16)
{
    const char *name;
    for (int kind = 0; (name = next_device(&kind));) {
        struct world w;
        struct ops_buffers first, again;
        rt_dev *d;
        ck_assert(open_device_named(&d, name, NULL, 1));
        rt_dtype act = rt_dev_get(d).act;
        if (act != RT_F32) {
            make_world(&w, &ops_cases[_i], act);
            check_exact(&w, name, &first);
            run_case(d, &w, &again);
            check_same_bits(&w, &first, &again, name, 1);
            free_buffers(&first);
            free_buffers(&again);
            free_buffers(&w.host);
        }
        rt_dev_close(d);
    }
}
END_TEST

/* --- the router's order --------------------------------------------------------------------------
 */

/* Rows of 8 experts by hand: score + bias, groups of 2 or 4, what must be chosen, in order. */
static const struct {
    const char *name;
    rt_route_policy p;
    float logits[8], bias[8];
    int32_t chosen[3];
} routes[] = {
    { "ties go to the lowest index",
      { RT_ROUTE_SOFTMAX, 8, 3, 1, 1, false, 1.0f },
      { 0, 1, 0, 1, 0, 1, 0, 1 },
      { 0 },
      { 1, 3, 5 } },
    { "all equal", { RT_ROUTE_SIGMOID, 8, 3, 4, 2, true, 1.0f }, { 0 }, { 0 }, { 0, 1, 2 } },
    { "bias chooses, scores weigh",
      { RT_ROUTE_SIGMOID, 8, 3, 1, 1, false, 1.0f },
      { 3, 2, 1, 0, 0, -1, -2, -3 },
      { -1, 0, 0, 0, 0, 0, 0, 2 },
      { 7, 1, 2 } },
    { "a group's score is its best two under sigmoid: {0,1} and {6,7}",
      { RT_ROUTE_SIGMOID, 8, 3, 4, 2, false, 1.0f },
      { 1, 1, 4, -9, -9, -9, 0.9f, 0.9f },
      { 0 },
      { 0, 1, 6 } },
    { "and its best one under softmax: {0,1} and {2,3}",
      { RT_ROUTE_SOFTMAX, 8, 3, 4, 2, false, 1.0f },
      { 1, 1, 4, -9, -9, -9, 0.9f, 0.9f },
      { 0 },
      { 2, 0, 1 } },
    { "a kept group's negative choices beat masked groups",
      { RT_ROUTE_SIGMOID, 8, 3, 2, 1, true, 1.0f },
      { 0, 0, 0, 0, 0, 0, 0, 0 },
      { -0.9f, -0.8f, -0.7f, -0.6f, -2, -2, -2, -2 },
      { 3, 2, 1 } },
};

START_TEST(router_order)
{
    rt_dev *d;
    rt_route_policy p = routes[_i].p;
    int32_t idx[3] = { 0 };
    float weight[3] = { 0 }, score[8] = { 0 }, sum = 0.0f;
    rt_tensor ti = rt_tensor_2(idx, RT_I32, 1, 3), tw = rt_tensor_2(weight, RT_F32, 1, 3);
    rt_tensor ts = rt_tensor_2(score, RT_F32, 1, 8);
    rt_tensor logits = rt_tensor_2((void *)(uintptr_t)routes[_i].logits, RT_F32, 1, 8);
    rt_tensor bias = rt_tensor_1((void *)(uintptr_t)routes[_i].bias, RT_F32, 8);
    ck_assert(open_device_named(&d, NULL, isas[0], 1));
    rt_tensor di = put_tensor(d, &ti), dw = put_tensor(d, &tw), ds = put_tensor(d, &ts);
    rt_tensor dl = put_tensor(d, &logits), db = put_tensor(d, &bias);
    rt_route_forward(d, &di, &dw, &ds, &dl, &db, &p);
    get_tensor(d, &ti, &di);
    get_tensor(d, &tw, &dw);
    get_tensor(d, &ts, &ds);
    drop_tensor(d, &dl);
    drop_tensor(d, &db);
    for (int k = 0; k < 3; k++)
        sum += score[routes[_i].chosen[k]];
    for (int k = 0; k < 3; k++) {
        ck_assert_msg(idx[k] == routes[_i].chosen[k], "%s: choice %d is %d", routes[_i].name, k,
                      idx[k]);
        ck_assert_float_eq_tol(weight[k], score[idx[k]] / (p.normalize ? sum : 1.0f), 1e-6f);
    }
    rt_dev_close(d);
}
END_TEST

START_TEST(router_sort_and_balance)
{
    enum { N = 701, A = 3, E = 13 };
    rt_err err;
    int32_t idx[N * A], offset[E + 1] = { 0 }, row[N * A] = { 0 }, slot[N * A] = { 0 };
    float load[E], bias[E] = { 0 };
    rt_dev *d;
    rt_tensor ti = rt_tensor_2(idx, RT_I32, N, A), to = rt_tensor_1(offset, RT_I32, E + 1);
    rt_tensor tr = rt_tensor_1(row, RT_I32, N * A), ts = rt_tensor_2(slot, RT_I32, N, A);
    rt_tensor tl = rt_tensor_1(load, RT_F32, E), tb = rt_tensor_1(bias, RT_F32, E);
    for (int i = 0; i < N * A; i++) {
        int64_t e = ops_random(8, (uint64_t)i, E - 1);
        idx[i] = (int32_t)(e == 4 ? E - 1 : e); /* expert 4 gets nothing */
    }
    for (int e = 0; e < E; e++)
        load[e] = 5.0f;
    ck_assert(open_device_named(&d, NULL, isas[0], 2));
    rt_tensor di = put_tensor(d, &ti), off = put_tensor(d, &to), dr = put_tensor(d, &tr);
    rt_tensor ds = put_tensor(d, &ts), dl = put_tensor(d, &tl), db = put_tensor(d, &tb);
    rt_dev_dry_begin(d);
    rt_route_sort(d, &off, &dr, &ds, &di);
    rt_dev_dry_end(d);
    ck_assert_int_eq(rt_dev_ready(d, &err), 0);
    rt_route_sort(d, &off, &dr, &ds, &di);
    rt_route_load(d, &dl, &off);
    rt_route_balance(d, &db, &dl, 0.25f);
    get_tensor(d, &to, &off);
    get_tensor(d, &tr, &dr);
    get_tensor(d, &ts, &ds);
    get_tensor(d, &tl, &dl);
    get_tensor(d, &tb, &db);
    drop_tensor(d, &di);
    ck_assert_int_eq(offset[0], 0);
    ck_assert_int_eq(offset[E], N * A);
    bool taken[N * A] = { false };
    for (int i = 0; i < N * A; i++) {
        int e = idx[i], s = slot[i];
        ck_assert(s >= offset[e] && s < offset[e + 1] && !taken[s]);
        ck_assert_int_eq(row[s], i / A);
        ck_assert(s == offset[e] || row[s - 1] <= row[s]);
        taken[s] = true;
    }
    for (int e = 0; e < E; e++) {
        float n = (float)(offset[e + 1] - offset[e]), mean = (float)(N * A) / E;
        ck_assert(load[e] == 5.0f + n);
        ck_assert(bias[e] == (n < mean ? 0.25f : -0.25f));
    }
    ck_assert(load[4] == 5.0f);
    rt_dev_close(d);
}
END_TEST

/* --- the gradient of sinks -----------------------------------------------------------------------
 */

START_TEST(sinks)
{
    enum { N = 301, H = 3, D = 5 };
    const char *name;
    float dout[N * H * D], out[N * H * D], lse[N * H], sink[H] = { 0.5f, -1.0f, 2.0f };
    double want[H] = { 0.25, 0.25, 0.25 };
    uint64_t at = 0;
    for (int i = 0; i < N * H * D; i++) {
        dout[i] = 2.0f * rt_rng_uniform(3, RT_RNG_DATA, at++) - 1.0f;
        out[i] = 2.0f * rt_rng_uniform(3, RT_RNG_DATA, at++) - 1.0f;
    }
    for (int i = 0; i < N * H; i++) {
        lse[i] = 2.0f * rt_rng_uniform(3, RT_RNG_DATA, at++);
        double dot = 0.0;
        for (int k = 0; k < D; k++)
            dot += (double)dout[i * D + k] * (double)out[i * D + k];
        want[i % H] -= exp((double)sink[i % H] - (double)lse[i]) * dot;
    }
    for (int kind = 0; (name = next_device(&kind));) {
        rt_dev *d;
        rt_err err;
        float got[2][H];
        ck_assert(open_device_named(&d, name, NULL, 2));
        for (int k = 0; k < 2; k++) {
            for (int h = 0; h < H; h++)
                got[k][h] = 0.25f;
            rt_tensor host[] = { rt_tensor_1(got[k], RT_F32, H), rt_tensor_3(dout, RT_F32, N, H, D),
                                 rt_tensor_3(out, RT_F32, N, H, D), rt_tensor_2(lse, RT_F32, N, H),
                                 rt_tensor_1(sink, RT_F32, H) };
            rt_tensor t[RT_COUNT(host)];
            for (int i = 0; i < RT_COUNT(host); i++)
                t[i] = put_tensor(d, &host[i]);
            rt_dev_dry_begin(d);
            rt_sinks_backward(d, &t[0], &t[1], &t[2], &t[3], &t[4]);
            rt_dev_dry_end(d);
            ck_assert_int_eq(rt_dev_ready(d, &err), 0);
            rt_sinks_backward(d, &t[0], &t[1], &t[2], &t[3], &t[4]);
            for (int i = 0; i < RT_COUNT(host); i++)
                get_tensor(d, &host[i], &t[i]);
        }
        for (int h = 0; h < H; h++)
            ck_assert_msg(fabs((double)got[0][h] - want[h]) < 1e-5, "%s: head %d is %.9g, not %.9g",
                          name, h, (double)got[0][h], want[h]);
        ck_assert(!memcmp(got[0], got[1], sizeof got[0]));
        rt_dev_close(d);
    }
}
END_TEST

/* --- gather of any dtype -------------------------------------------------------------------------
 */

static const rt_dtype gathered[] = { RT_F32, RT_F16, RT_BF16, RT_Q8_0, RT_Q4_0, RT_Q4_K, RT_Q6_K };

/* Rows of random bytes (numbers of every kind, infinities and NaN too), as core/base/decode.c reads
 * them. */
START_TEST(gather_dtypes)
{
    enum { ROWS = 37, C = 512, M = 5 };
    rt_dtype t = gathered[_i];
    int64_t bytes = rt_dtype_bytes(t, C);
    uint8_t *x = malloc((size_t)(bytes * ROWS));
    float *y = floats((int64_t)M * C), *want = floats(C);
    int32_t index[M] = { 3, 36, 0, 3, 11 };
    for (int64_t i = 0; i < bytes * ROWS; i++)
        x[i] = (uint8_t)ops_random(9, (uint64_t)i, 256);
    rt_tensor tx = rt_tensor_2(x, t, ROWS, C), ty = rt_tensor_2(y, RT_F32, M, C);
    rt_tensor ti = rt_tensor_1(index, RT_I32, M);
    for (int i = 0; i < RT_COUNT(isas); i++) {
        rt_dev *d;
        if (!open_device_named(&d, NULL, isas[i], 2))
            continue;
        rt_tensor dx = put_tensor(d, &tx), dy = put_tensor(d, &ty), di = put_tensor(d, &ti);
        rt_gather_rows(d, &dy, &dx, &di);
        get_tensor(d, &ty, &dy);
        drop_tensor(d, &dx);
        drop_tensor(d, &di);
        for (int r = 0; r < M; r++) {
            rt_decode_f32(want, x + index[r] * bytes, t, C);
            for (int k = 0; k < C; k++)
                ck_assert_msg(!memcmp(&y[r * C + k], &want[k], 4) ||
                                  (isnan(y[r * C + k]) && isnan(want[k])),
                              "%s row %d column %d", rt_dtype_get(t)->name, r, k);
        }
        rt_dev_close(d);
    }
    free(x), free(y), free(want);
}
END_TEST

/* --- refusals ------------------------------------------------------------------------------------
 */

static float *storage; /* on the device of the child */
static int32_t *integers;

static void set_integer(rt_dev *d, int at, int32_t value)
{
    rt_err err;
    rt_upload(d, integers + at, &value, sizeof value);
    (void)rt_sync(d, &err);
}

static rt_tensor f2(int64_t a, int64_t b) { return rt_tensor_2(storage, RT_F32, a, b); }
static rt_tensor f1(int64_t a) { return rt_tensor_1(storage, RT_F32, a); }
static rt_tensor i1(int64_t a) { return rt_tensor_1(integers, RT_I32, a); }

static void bad_copy(rt_dev *d)
{
    rt_tensor y = f2(3, 5), x = f2(5, 3);
    rt_copy(d, &y, &x);
}
static void bad_alias(rt_dev *d)
{
    rt_tensor y = f2(3, 5), rstd = f1(3), w = f1(5);
    rt_rmsnorm_forward(d, &y, &rstd, &y, &w, 0.0f);
}
static void bad_dtype(rt_dev *d)
{
    rt_tensor y = f2(3, 5), x = f2(9, 5), index = f1(3);
    rt_gather_rows(d, &y, &x, &index);
}
static void bad_index(rt_dev *d)
{
    rt_tensor y = f2(3, 5), x = f2(9, 5), index = i1(3);
    set_integer(d, 2, 9);
    rt_gather_rows(d, &y, &x, &index);
}
static void bad_heads(rt_dev *d)
{
    rt_tensor y = rt_tensor_3(storage, RT_F32, 3, 4, 5), x = rt_tensor_3(storage, RT_F32, 3, 2, 5);
    rt_copy_columns(d, &y, 0, &x, 0, 5);
}
static void bad_matmul(rt_dev *d)
{
    rt_tensor c = f2(3, 4), a = f2(3, 5), b = f2(5, 4);
    rt_matmul(d, &c, &a, false, &b, true, 0.0f);
}
static void loss_of(rt_dev *d, rt_loss_spec s, int64_t vocab, bool gradient)
{
    rt_tensor stats = f2(1, RT_LOSS_COLUMNS), z = f2(1, 8);
    rt_targets t = { .label = i1(1), .weight = f1(1), .offset = i1(2), .head_n = i1(1), .id = i1(4),
                     .logp = f1(4), .hits = i1(4), .tail = f1(1), .entropy = f1(1), .logz = f1(1) };
    rt_loss(d, &stats, &z, &t, &s, vocab, 1.0f, gradient);
}
static void bad_temperature(rt_dev *d)
{
    loss_of(d, (rt_loss_spec){ .drawn = 1, .temperature = 2 }, 8, true);
}
static void no_advantage(rt_dev *d)
{
    loss_of(d, (rt_loss_spec){ .policy = 1, .temperature = 1 }, 8, true);
}
static void no_reference(rt_dev *d)
{
    loss_of(d, (rt_loss_spec){ .reference = 1, .temperature = 1 }, 8, true);
}
static void bad_vocab(rt_dev *d)
{
    loss_of(d, (rt_loss_spec){ .ce = 1, .temperature = 1 }, 9, true);
}
static void bad_scratch(rt_dev *d)
{
    loss_of(d, (rt_loss_spec){ .ce = 1, .temperature = 1 }, 8, false);
}
static void bad_label(rt_dev *d)
{
    set_integer(d, 0, 8);
    loss_of(d, (rt_loss_spec){ .ce = 1, .temperature = 1 }, 8, true);
}
static void bad_route(rt_dev *d)
{
    rt_tensor idx = rt_tensor_2(integers, RT_I32, 2, 5), w = f2(2, 5), s = f2(2, 8);
    rt_route_policy p = { RT_ROUTE_SIGMOID, 8, 5, 4, 2, true, 1.0f }; /* 2 groups hold 4 */
    rt_route_forward(d, &idx, &w, &s, &s, NULL, &p);
}

static const struct {
    void (*call)(rt_dev *d);
    const char *says;
    bool data; /* seen in the data, which a device of its own memory does not look through */
} refusals[] = {
    { bad_copy, "copy: y->dtype == x->dtype", false },
    { bad_alias, "f32(3,5)", false },
    { bad_dtype, "gather_rows:", false },
    { bad_index, "gather_rows: index 2 is 9, outside [0, 9)", true },
    { bad_heads, "copy_columns: x->dim[1] == y->dim[1]", false },
    { bad_matmul, "matmul:", false },
    { bad_temperature, "loss: spec->drawn == 0", false },
    { no_advantage, "loss: f32_n(&t->old_logp", false },
    { no_reference, "loss: f32(&t->reference", false },
    { bad_vocab, "loss: vocab > 0", false },
    { bad_scratch, "bytes of workspace", false },
    { bad_label, "loss label: index 0 is 8", true },
    { bad_route, "route_forward: p->active <=", false },
};

static void refusal(int i)
{
    static const int32_t zero[4096];
    rt_dev *d;
    rt_err err;
    if (!open_device_named(&d, NULL, isas[0], 1))
        return;
    storage = put_bytes(d, zero, sizeof zero);
    integers = put_bytes(d, zero, sizeof zero);
    refusals[i].call(d);
    (void)rt_sync(d, &err); /* a late device says it now */
}

/* The call ends the process with SIGABRT and says why. */
START_TEST(refused)
{
    char text[2048];
    rt_dev *d;
    ck_assert(open_device_named(&d, NULL, isas[0], 1));
    bool looks = rt_dev_get(d).cpu_bits;
    rt_dev_close(d);
    if (refusals[_i].data && !looks)
        return;
    text_of_abort(refusal, _i, text, sizeof text);
    ck_assert_msg(strstr(text, refusals[_i].says) != NULL, "it says: %s", text);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { cases, RT_COUNT(ops_cases) },
                                 { cases_in_bf16, RT_COUNT(ops_cases) },
                                 { router_order, RT_COUNT(routes) },
                                 { router_sort_and_balance, 1 },
                                 { sinks, 1 },
                                 { gather_dtypes, RT_COUNT(gathered) },
                                 { refused, RT_COUNT(refusals) } };
    return suite_run("ops", NULL, tests, RT_COUNT(tests));
}
