/* bench_device.c: what a device does in a second at the shapes of an 8B model, a JSON object a line:
   {"name", "seconds", "rate", "unit"}. tests/gpu/peer.py prints the same names from PyTorch.
     bench_device [--device NAME] [--rows N] [--scale K]
   N: rows of a batch (4096). K divides every width, for machines that are no GPU. Not a test. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/device/ops.h"
#include "tests/bench/peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM = 2, RUNS = 7 };

static rt_dev *d;
static int64_t rows = 4096, scale = 1;
static rt_err err;

static void must(int bad)
{
    if (bad) {
        fprintf(stderr, "bench_device: %s\n", err.text);
        exit(1);
    }
}

/* --- memory: one block, taken from its beginning for each row ------------------------------------ */

static uint8_t *memory;
static int64_t memory_bytes, used;

static void *take(int64_t bytes)
{
    void *p = memory + used;
    used += rt_align_up(bytes, 256);
    if (used > memory_bytes) {
        fprintf(stderr, "bench_device: %lld bytes are too few\n", (long long)memory_bytes);
        exit(1);
    }
    return p;
}

/* Random bytes that are small numbers in every dtype: the same megabyte again and again. */
static void fill(void *to, int64_t bytes, rt_dtype t)
{
    enum { PIECE = 1 << 20 };
    static uint8_t *piece;
    if (!piece && !(piece = rt_dev_host_alloc(d, PIECE)))
        exit(1);
    for (int64_t i = 0; i < PIECE / 4; i++) {
        float u = rt_rng_uniform(7, RT_RNG_DATA, (uint64_t)i) - 0.5f;
        uint32_t bits = (uint32_t)(rt_rng_uniform(8, RT_RNG_DATA, (uint64_t)i) * 0x1p24f);
        if (t == RT_F32)
            memcpy(piece + 4 * i, &u, 4);
        else if (t == RT_BF16)
            for (int k = 0; k < 2; k++)
                memcpy(piece + 4 * i + 2 * k, &(uint16_t){ rt_f32_to_bf16(u) }, 2);
        else /* no byte begins a large f16 */
            memcpy(piece + 4 * i, &(uint32_t){ bits & 0x3b3b3b3bu }, 4);
    }
    for (int64_t at = 0; at < bytes; at += PIECE)
        rt_upload(d, (uint8_t *)to + at, piece, rt_min(PIECE, bytes - at));
    must(rt_sync(d, &err));
}

static rt_tensor tensor(rt_dtype t, int64_t a, int64_t b)
{
    rt_tensor x = rt_tensor_2(NULL, t, a, b);
    x.data = take(rt_tensor_bytes(&x));
    fill(x.data, rt_tensor_bytes(&x), t);
    return x;
}

static rt_tensor tensor_3(int64_t a, int64_t b, int64_t c)
{
    rt_tensor x = tensor(RT_F32, a, b * c);
    return rt_tensor_3(x.data, RT_F32, a, b, c);
}

/* --- a row ---------------------------------------------------------------------------------------- */

typedef void run_fn(void *context);

/* units: of one run (flops or bytes); rates are printed in units of `per` a second. */
static void measure(const char *name, run_fn *run, void *context, double units, double per,
                    const char *unit)
{
    double seconds[RUNS];
    rt_dev_dry_begin(d);
    run(context);
    rt_dev_dry_end(d);
    must(rt_dev_ready(d, &err));
    int64_t times = 1;
    for (int i = -WARM; i < RUNS; i++) {
        double begun = rt_now();
        for (int64_t k = 0; k < times; k++)
            run(context);
        must(rt_sync(d, &err));
        double took = (rt_now() - begun) / (double)times;
        if (i < 0)
            times = rt_max(1, rt_min(200, (int64_t)(0.02 / took)));
        else
            seconds[i] = took;
    }
    double median = rt_median(seconds, RUNS);
    printf("{\"name\": \"%s\", \"seconds\": %.3e, \"rate\": %.1f, \"unit\": \"%s\"}\n", name, median,
           units / median / per, unit);
    fflush(stdout);
}

struct product {
    rt_tensor c, a, b;
    bool ta, tb;
    float beta;
};

static void run_product(void *context)
{
    struct product *p = context;
    rt_matmul(d, &p->c, &p->a, p->ta, &p->b, p->tb, p->beta);
}

static void products(void)
{
    static const struct {
        const char *name;
        int64_t n, k;
    } shapes[] = { { "attention", 4096, 4096 }, { "gate", 14336, 4096 }, { "down", 4096, 14336 } };
    static const struct {
        const char *name;
        rt_dtype t;
    } forms[] = { { "bf16", RT_BF16 }, { "q8_0", RT_Q8_0 }, { "q4_0", RT_Q4_0 }, { "q4_K", RT_Q4_K },
                  { "q6_K", RT_Q6_K } };
    char name[64];
    for (int i = 0; i < RT_COUNT(shapes); i++) {
        int64_t n = shapes[i].n / scale, k = shapes[i].k / scale;
        double flops = 2.0 * (double)rows * (double)n * (double)k;
        used = 0;
        rt_tensor x = tensor(RT_F32, rows, k), y = tensor(RT_F32, rows, n);
        rt_tensor w = tensor(RT_BF16, n, k), dw = tensor(RT_F32, n, k);
        struct product forward = { y, x, w, false, true, 0.0f }, dx = { x, y, w, false, false, 0.0f },
                       weight = { dw, y, x, true, false, 1.0f };
        snprintf(name, sizeof name, "forward %s", shapes[i].name);
        measure(name, run_product, &forward, flops, 1e12, "TFLOP/s");
        snprintf(name, sizeof name, "dx %s", shapes[i].name);
        measure(name, run_product, &dx, flops, 1e12, "TFLOP/s");
        snprintf(name, sizeof name, "dw %s", shapes[i].name);
        measure(name, run_product, &weight, flops, 1e12, "TFLOP/s");
        for (int f = 0; i == 1 && f < RT_COUNT(forms); f++) {
            used = 0;
            rt_tensor one = tensor(RT_F32, 1, k), to = tensor(RT_F32, 1, n);
            struct product row = { to, one, tensor(forms[f].t, n, k), false, true, 0.0f };
            snprintf(name, sizeof name, "one row %s", forms[f].name);
            measure(name, run_product, &row, (double)rt_tensor_bytes(&row.b), 1e9, "GB/s");
        }
    }
}

struct attention {
    rt_tensor q, k, v, out, lse, dq, dk, dv, dout;
    rt_rows rows;
    rt_attention_rule rule;
};

static void run_attention(void *context)
{
    struct attention *a = context;
    rt_attention_forward(d, &a->out, &a->lse, &a->q, &a->k, &a->v, &a->rows, &a->rule);
}

static void run_attention_backward(void *context)
{
    struct attention *a = context;
    rt_attention_backward(d, &a->dq, &a->dk, &a->dv, &a->dout, &a->out, &a->lse, &a->q, &a->k, &a->v,
                          &a->rows, &a->rule);
}

static void attention(void)
{
    static const struct {
        int64_t heads, kv_heads, width_k, width_v;
    } shapes[] = { { 32, 8, 64, 64 }, { 32, 8, 128, 128 }, { 16, 16, 192, 128 }, { 16, 8, 256, 256 } };
    char name[64];
    for (int i = 0; i < RT_COUNT(shapes); i++) {
        int64_t n = rows, h = shapes[i].heads, g = shapes[i].kv_heads, dk = shapes[i].width_k,
                dv = shapes[i].width_v;
        const int32_t offset[] = { 0, (int32_t)n };
        used = 0;
        struct attention a = { .q = tensor_3(n, h, dk),
                               .k = tensor_3(n, g, dk),
                               .v = tensor_3(n, g, dv),
                               .out = tensor_3(n, h, dv),
                               .lse = tensor(RT_F32, n, h),
                               .dq = tensor_3(n, h, dk),
                               .dk = tensor_3(n, g, dk),
                               .dv = tensor_3(n, g, dv),
                               .dout = tensor_3(n, h, dv),
                               .rows = { .n = n, .s = 1, .longest = n },
                               .rule = { .scale = 0.1f } };
        a.rows.offset = rt_tensor_1(take(sizeof offset), RT_I32, 2);
        rt_upload(d, a.rows.offset.data, offset, sizeof offset);
        must(rt_sync(d, &err));
        double flops = (double)n * (double)n * (double)h * (double)(dk + dv); /* half is masked */
        snprintf(name, sizeof name, "attention %lld/%lld", (long long)dk, (long long)dv);
        measure(name, run_attention, &a, flops, 1e12, "TFLOP/s");
        snprintf(name, sizeof name, "attention backward %lld/%lld", (long long)dk, (long long)dv);
        measure(name, run_attention_backward, &a, 2.5 * flops, 1e12, "TFLOP/s");
    }
}

struct adamw {
    rt_tensor w, m, v, g;
    rt_adamw h;
};

static void run_adamw(void *context)
{
    struct adamw *a = context;
    rt_adamw_step(d, &a->w, &a->m, &a->v, &a->g, &a->h);
}

static void optimizer(void)
{
    used = 0;
    struct adamw a = { .h = { 1e-5f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.1f, 0.05f, 1.0f } };
    rt_tensor *all[] = { &a.w, &a.m, &a.v, &a.g };
    for (int i = 0; i < RT_COUNT(all); i++)
        *all[i] = tensor(RT_F32, 4096 / scale, 14336 / scale);
    measure("adamw", run_adamw, &a, 28.0 * (double)rt_tensor_elements(&a.w), 1e9, "GB/s");
}

int main(int argc, char **argv)
{
    const char *name = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--device"))
            name = argv[i + 1];
        else if (!strcmp(argv[i], "--rows"))
            rows = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--scale"))
            scale = atoll(argv[i + 1]);
    }
    must(rt_dev_open(&d, name, 0, &err));
    memory_bytes = (int64_t)1 << (scale > 1 ? 30 : 32);
    memory = rt_dev_alloc(d, memory_bytes);
    if (!memory)
        must(rt_fail_memory(&err, memory_bytes, "a bench"));
    rt_dev_speed s = { 0 };
    must(rt_dev_measure(&s, d, &err));
    printf("{\"name\": \"copy there\", \"seconds\": 0, \"rate\": %.1f, \"unit\": \"GB/s\"}\n"
           "{\"name\": \"copy back\", \"seconds\": 0, \"rate\": %.1f, \"unit\": \"GB/s\"}\n",
           s.up / 1e9, s.down / 1e9);
    products();
    attention();
    optimizer();
    rt_dev_release(d, memory);
    rt_dev_close(d);
    return 0;
}
