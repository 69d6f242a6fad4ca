/* test_ops.c: every row operation, as rows of data (tests/ops_cases.h): outputs against f64,
   gradients against finite differences of f64, the same bits for threads 1 to 3 and every
   instruction set of this machine. Then what rows cannot say: the router's order, dtypes of gather,
   refusals. `test_ops bench` prints bandwidths instead. */
#include "tests/ops_cases.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const isas[] = { "scalar", "avx2", "avx512" };

static bool open_device(rt_dev *d, const char *isa, int threads)
{
    rt_err err = { 0 };
    setenv("RETORT_ISA", isa, 1);
    bool ok = rt_dev_open(d, "cpu", threads, &err) == 0;
    unsetenv("RETORT_ISA");
    return ok; /* this machine may lack it */
}

/* --- a case on the host -------------------------------------------------------------------------
 */

struct world {
    const struct ops_case *c;
    struct ops_shape shape;
    struct ops_buffers host; /* in, dout, i; din: what the buffers hold before backward */
};

static float *floats(int64_t n) { return calloc((size_t)rt_max(n, 1), sizeof(float)); }

static void make_world(struct world *w, const struct ops_case *c)
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

static void *send(rt_dev *d, const void *from, int64_t n)
{
    void *p = d->ops->alloc(d, n * 4);
    d->ops->upload(d, p, from, n * 4);
    return p;
}

static void *receive(rt_dev *d, void *from, int64_t n)
{
    void *p = floats(n);
    d->ops->download(d, p, from, n * 4);
    d->ops->release(d, from);
    return p;
}

static void run_case(rt_dev *d, const struct world *w, struct ops_buffers *r)
{
    struct ops_buffers b;
    rt_err err = { 0 };
    memset(r, 0, sizeof *r);
    for (int k = 0; k < OPS_IN; k++) {
        b.in[k] = send(d, w->host.in[k], w->shape.in[k]);
        b.din[k] = send(d, w->host.din[k], w->shape.in[k]);
    }
    for (int k = 0; k < OPS_OUT; k++) {
        float *nan = floats(w->shape.out[k]);
        for (int64_t i = 0; i < w->shape.out[k]; i++)
            nan[i] = NAN;
        b.out[k] = send(d, nan, w->shape.out[k]);
        b.dout[k] = send(d, w->host.dout[k], w->shape.out[k]);
        free(nan);
    }
    for (int k = 0; k < OPS_INT; k++)
        b.i[k] = send(d, w->host.i[k], w->shape.i[k]);
    rt_dev_need_rows(d, w->shape.row_bytes);
    ck_assert_int_eq(rt_dev_ready(d, &err), 0);
    w->c->kind->run(d, w->c, &b);
    for (int k = 0; k < OPS_IN; k++) {
        r->in[k] = receive(d, b.in[k], w->shape.in[k]);
        r->din[k] = receive(d, b.din[k], w->shape.in[k]);
    }
    for (int k = 0; k < OPS_OUT; k++) {
        r->out[k] = receive(d, b.out[k], w->shape.out[k]);
        r->dout[k] = receive(d, b.dout[k], w->shape.out[k]);
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
                    int64_t n, double tolerance)
{
    double largest = 1e-30;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance * largest))
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
        compare(w->c->name, "gradient", k, r->din[k], want, n, 10.0 * w->c->tolerance);
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

START_TEST(cases)
{
    struct world w;
    struct ops_buffers first, again;
    struct exact e;
    rt_dev d;
    make_world(&w, &ops_cases[_i]);
    ck_assert(open_device(&d, "scalar", 1));
    run_case(&d, &w, &first);
    rt_dev_close(&d);
    make_exact(&e, &w);
    exact_loss(&e, &w);
    for (int k = 0; k < OPS_OUT; k++)
        compare(w.c->name, "output", k, first.out[k], e.out[k], w.shape.out[k], w.c->tolerance);
    check_gradients(&w, &e, &first);
    free_exact(&e);
    for (int i = 0; i < RT_COUNT(isas); i++)
        for (int threads = 1; threads <= 3; threads++) {
            if (!open_device(&d, isas[i], threads))
                continue;
            run_case(&d, &w, &again);
            check_same_bits(&w, &first, &again, isas[i], threads);
            free_buffers(&again);
            rt_dev_close(&d);
        }
    free_buffers(&first);
    free_buffers(&w.host);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("rows");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, cases, 0, RT_COUNT(ops_cases));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
