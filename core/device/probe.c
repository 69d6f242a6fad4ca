/* probe.c: how fast a device multiplies: one wide product and one of a single row, each the best of a
   few, in a tenth of a second. For forecasts, which say what it is they are made of. */
#include "core/base/log.h"
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
