/* probe.c: how fast a device multiplies and copies: for forecasts, one wide product and one of a single
   row, each the best of a few, in a tenth of a second; for people, more of it. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/device/ops.h"

enum { RUNS = 4, WIDE = 512, INNER = 1024, LONG = 16384 };

/* Seconds of c(m,n) = a(m,k) bᵀ. */
static double time_product(rt_dev *d, rt_tensor *c, const rt_tensor *a, const rt_tensor *b,
                           rt_err *err)
{
    double best = 0;
    for (int i = 0; i < RUNS; i++) {
        double begun = rt_now();
        rt_matmul(d, c, a, false, b, true, 0.0f);
        if (rt_sync(d, err))
            return -1;
        double took = rt_now() - begun;
        best = i == 0 || took < best ? took : best;
    }
    return best > 1e-9 ? best : 1e-9;
}

/* memory: b (LONG, INNER) f32, a and c behind it. */
static int probe(rt_dev *d, float *memory, rt_cost *rate, rt_err *err)
{
    rt_tensor all = rt_tensor_1(memory, RT_F32, (int64_t)LONG * INNER + 2 * WIDE * INNER);
    float *a = memory + (int64_t)LONG * INNER, *c = a + WIDE * INNER;
    rt_tensor wide = rt_tensor_2(memory, RT_F32, INNER, INNER),
              many = rt_tensor_2(memory, RT_F32, LONG, INNER);
    rt_tensor a_wide = rt_tensor_2(a, RT_F32, WIDE, INNER), a_one = rt_tensor_2(a, RT_F32, 1, INNER);
    rt_tensor c_wide = rt_tensor_2(c, RT_F32, WIDE, INNER), c_one = rt_tensor_2(c, RT_F32, 1, LONG);
    rt_dev_dry_begin(d);
    rt_matmul(d, &c_wide, &a_wide, false, &wide, true, 0.0f);
    rt_matmul(d, &c_one, &a_one, false, &many, true, 0.0f);
    rt_dev_dry_end(d);
    if (rt_dev_ready(d, err))
        return -1;
    rt_zero(d, &all);
    double one = time_product(d, &c_one, &a_one, &many, err),
           wide_s = time_product(d, &c_wide, &a_wide, &wide, err);
    *rate = (rt_cost){ .flops = 2.0 * WIDE * INNER * INNER / wide_s,
                       .bytes = 4.0 * LONG * INNER / one };
    return one < 0 || wide_s < 0 ? -1 : 0;
}

int rt_dev_probe(rt_cost *rate, const char *name, int threads, rt_err *err)
{
    rt_dev *d;
    const int64_t bytes = 4 * ((int64_t)LONG * INNER + 2 * WIDE * INNER);
    if (rt_dev_open(&d, name, threads, err))
        return -1;
    float *memory = rt_dev_alloc(d, bytes);
    int bad = memory ? probe(d, memory, rate, err) : rt_fail(err, "no memory for a probe");
    rt_dev_release(d, memory);
    rt_dev_close(d);
    return bad ? -1 : 0;
}

/* --- for people ---------------------------------------------------------------------------------- */

static double time_copy(rt_dev *d, void *there, void *here, int64_t bytes, bool up, rt_err *err)
{
    double best = 0;
    for (int i = 0; i < RUNS; i++) {
        double begun = rt_now();
        if (up)
            rt_upload(d, there, here, bytes);
        else
            rt_download(d, here, there, bytes);
        if (rt_sync(d, err))
            return -1;
        double took = rt_now() - begun;
        best = i == 0 || took < best ? took : best;
    }
    return (double)bytes / (best > 1e-9 ? best : 1e-9);
}

/* there: n * n f32 of weights, of activations and of results */
static int measure_products(rt_dev *d, rt_dev_speed *s, float *there, int64_t n, rt_err *err)
{
    const rt_dtype types[] = { RT_F32, RT_BF16 };
    double *rate[] = { &s->f32, &s->bf16 };
    rt_tensor all = rt_tensor_1(there, RT_F32, 3 * n * n);
    rt_tensor a = rt_tensor_2(there + n * n, RT_F32, n, n);
    rt_tensor c = rt_tensor_2(there + 2 * n * n, RT_F32, n, n);
    rt_tensor one = rt_tensor_rows(&a, 0, 1), to = rt_tensor_rows(&c, 0, 1);
    rt_zero(d, &all);
    for (int i = 0; i < RT_COUNT(types); i++) {
        rt_tensor w = rt_tensor_2(there, types[i], n, n);
        double took = time_product(d, &c, &a, &w, err);
        if (took < 0)
            return -1;
        *rate[i] = 2.0 * (double)(n * n) * (double)n / took;
        took = time_product(d, &to, &one, &w, err);
        s->row = 2.0 * (double)(n * n) / took; /* of the last: bf16 */
    }
    return 0;
}

int rt_dev_measure(rt_dev_speed *s, rt_dev *d, rt_err *err)
{
    int64_t n = rt_dev_get(d).threads >= 16 ? 8192 : 512, bytes = 3 * n * n * (int64_t)sizeof(float);
    rt_tensor w = rt_tensor_2(NULL, RT_F32, n, n), x = w;
    rt_dev_dry_begin(d);
    rt_matmul(d, &x, &w, false, &w, true, 0.0f);
    rt_dev_dry_end(d);
    if (rt_dev_ready(d, err))
        return -1;
    float *there = rt_dev_alloc(d, bytes);
    void *here = rt_dev_host_alloc(d, bytes);
    int bad = 0;
    if (!there || !here) {
        bad = rt_fail_memory(err, bytes, "a measurement");
    } else {
        s->up = time_copy(d, there, here, bytes, true, err);
        s->down = time_copy(d, there, here, bytes, false, err);
        bad = s->up < 0 || s->down < 0 || measure_products(d, s, there, n, err);
    }
    rt_dev_release(d, there);
    rt_dev_host_release(d, here);
    return bad ? -1 : 0;
}
