/* bench_device.c: what a device does in a second at the shapes of an 8B model, a JSON object a line:
   {"name", "seconds", "rate", "unit"}. tests/gpu/peer.py prints the same names from PyTorch.
     bench_device [--device NAME] [--rows N] [--scale K]
   N: rows of a batch (4096). K divides every width, for machines that are no GPU. Activations are
   what the device keeps them in. Rows of the head are those of a distillation step: logits, loss with
   its gradient, and the gradients of rows and weights, by chunks of 512 rows; "dense" is the products
   alone. Rows that the device has no memory for are left out. Not a test. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/device/ops.h"
#include "tests/bench/peak.h"

#include <math.h>
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
    used += rt_align_up(bytes, 256);
    if (used > memory_bytes) {
        fprintf(stderr, "bench_device: %lld bytes are too few\n", (long long)memory_bytes);
        exit(1);
    }
    return memory + used - rt_align_up(bytes, 256);
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

static rt_tensor activations(int64_t a, int64_t b) { return tensor(rt_dev_get(d).act, a, b); }

static rt_tensor activations_3(int64_t a, int64_t b, int64_t c)
{
    rt_tensor x = activations(a, b * c);
    return rt_tensor_3(x.data, x.dtype, a, b, c);
}

/* n integers below `below`, or what fn says of each. */
static rt_tensor integers(int64_t n, int32_t (*fn)(int64_t i, int64_t of), int64_t of)
{
    rt_tensor x = rt_tensor_1(take(n * 4), RT_I32, n);
    int32_t *host = rt_dev_host_alloc(d, rt_max(n * 4, 4));
    if (!host)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        host[i] = fn(i, of);
    rt_upload(d, x.data, host, n * 4);
    must(rt_sync(d, &err));
    rt_dev_host_release(d, host);
    return x;
}

static int32_t times(int64_t i, int64_t of) { return (int32_t)(i * of); }
static int32_t always(int64_t i, int64_t of)
{
    (void)i;
    return (int32_t)of;
}
static int32_t spread(int64_t i, int64_t of) { return (int32_t)(i * 7919 % of); }

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
        rt_tensor x = activations(rows, k), y = activations(rows, n);
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
            rt_tensor one = activations(1, k), to = activations(1, n);
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
        used = 0;
        struct attention a = { .q = activations_3(n, h, dk),
                               .k = activations_3(n, g, dk),
                               .v = activations_3(n, g, dv),
                               .out = activations_3(n, h, dv),
                               .lse = tensor(RT_F32, n, h),
                               .dq = activations_3(n, h, dk),
                               .dk = activations_3(n, g, dk),
                               .dv = activations_3(n, g, dv),
                               .dout = activations_3(n, h, dv),
                               .rows = { .n = n, .s = 1, .longest = n },
                               .rule = { .scale = 0.1f } };
        a.rows.offset = integers(2, times, n);
        double flops = (double)n * (double)n * (double)h * (double)(dk + dv); /* half is masked */
        snprintf(name, sizeof name, "attention %lld/%lld", (long long)dk, (long long)dv);
        measure(name, run_attention, &a, flops, 1e12, "TFLOP/s");
        snprintf(name, sizeof name, "attention backward %lld/%lld", (long long)dk, (long long)dv);
        measure(name, run_attention_backward, &a, 2.5 * flops, 1e12, "TFLOP/s");
    }
}

/* --- the head of a distillation step -------------------------------------------------------------- */

enum { CHUNK = 512, ITEMS = 64 };

struct head {
    int64_t rows;
    rt_tensor x, dx, w, dw, logits, stats;
    rt_targets t;
    rt_loss_spec spec;
    bool loss;
};

static void run_head(void *context)
{
    struct head *h = context;
    for (int64_t first = 0; first < h->rows; first += CHUNK) {
        rt_tensor x = rt_tensor_rows(&h->x, first, CHUNK), dx = rt_tensor_rows(&h->dx, first, CHUNK);
        rt_matmul(d, &h->logits, &x, false, &h->w, true, 0.0f);
        if (h->loss)
            rt_loss(d, &h->stats, &h->logits, &h->t, &h->spec, h->w.dim[0], 1.0f, true);
        rt_matmul(d, &h->dw, &h->logits, true, &x, false, 1.0f);
        rt_matmul(d, &dx, &h->logits, false, &h->w, false, 0.0f);
    }
}

static void head(void)
{
    static const int64_t vocabularies[] = { 128256, 248320 }, counts[] = { 1024, 8192, 32768 };
    char name[64];
    for (int i = 0; i < RT_COUNT(vocabularies); i++)
        for (int k = 0; k < RT_COUNT(counts); k++) {
            int64_t v = vocabularies[i] / scale, c = 4096 / scale, n = counts[k] / scale;
            n = rt_align_up(n, CHUNK);
            int64_t weights = v * c * 6, beside = CHUNK * v * 4 + 2 * n * c * 4 + (1 << 20);
            used = 0;
            if (weights + beside > memory_bytes)
                continue;
            struct head h = { .rows = n,
                              .x = activations(n, c),
                              .dx = activations(n, c),
                              .w = tensor(RT_BF16, v, c),
                              .dw = tensor(RT_F32, v, c),
                              .logits = tensor(RT_F32, CHUNK, v),
                              .stats = tensor(RT_F32, CHUNK, RT_LOSS_COLUMNS),
                              .spec = { .bucket = 1, .temperature = 1 } };
            rt_tensor floats = tensor(RT_F32, 4, CHUNK), logp = tensor(RT_F32, CHUNK, ITEMS);
            rt_tensor one[4];
            for (int f = 0; f < 4; f++)
                one[f] = rt_tensor_1(rt_f32(&floats) + f * CHUNK, RT_F32, CHUNK);
            h.t = (rt_targets){ .label = integers(CHUNK, spread, v),
                                .weight = one[0],
                                .offset = integers(CHUNK + 1, times, ITEMS),
                                .head_n = integers(CHUNK, always, ITEMS),
                                .id = integers(CHUNK * ITEMS, spread, v),
                                .logp = rt_tensor_1(logp.data, RT_F32, CHUNK * ITEMS),
                                .hits = integers(CHUNK * ITEMS, always, 0),
                                .tail = one[1],
                                .entropy = one[2],
                                .logz = one[3] };
            double flops = 6.0 * (double)n * (double)v * (double)c;
            for (int loss = 0; loss < 2; loss++) {
                h.loss = loss;
                snprintf(name, sizeof name, "head %s %lldk x %lldk", loss ? "kd" : "dense",
                         (long long)(n / 1024), (long long)(v / 1000));
                measure(name, run_head, &h, flops, 1e12, "TFLOP/s");
            }
            printf("{\"name\": \"head bytes %lldk x %lldk beside weights\", \"seconds\": 0, "
                   "\"rate\": %.3f, \"unit\": \"GB\"}\n",
                   (long long)(n / 1024), (long long)(v / 1000),
                   (double)(used - weights + rt_dev_workspace(d)) / 1e9);
        }
}

/* --- a routed layer of DeepSeek-V3: 256 experts, 8 a row, fp8 under 128 x 128 blocks ---------------- */

struct moe {
    rt_tensor x, xs, gate, up, ys, y, idx, weight, offset, row, slot, w[3];
    rt_swiglu_rule rule;
};

static void run_moe(void *context)
{
    struct moe *m = context;
    rt_route_sort(d, &m->offset, &m->row, &m->slot, &m->idx);
    rt_gather_rows(d, &m->xs, &m->x, &m->row);
    rt_matmul_grouped(d, &m->gate, &m->xs, false, &m->w[0], true, &m->offset, 0.0f);
    rt_matmul_grouped(d, &m->up, &m->xs, false, &m->w[1], true, &m->offset, 0.0f);
    rt_swiglu_forward(d, &m->gate, &m->gate, &m->up, &m->rule);
    rt_matmul_grouped(d, &m->ys, &m->gate, false, &m->w[2], true, &m->offset, 0.0f);
    rt_combine_forward(d, &m->y, &m->ys, &m->slot, &m->weight);
}

static rt_tensor experts_fp8(rt_piece *piece, int64_t experts, int64_t o, int64_t i)
{
    int64_t blocks = rt_ceil_div(o, 128) * rt_ceil_div(i, 128);
    uint8_t *codes = take(experts * o * i);
    rt_tensor scale_of = tensor(RT_F32, experts, blocks), w = rt_tensor_3(NULL, RT_F32, experts, o, i);
    fill(codes, experts * o * i, RT_F8_E4M3);
    for (int64_t e = 0; e < experts; e++)
        piece[e] = (rt_piece){ .code = RT_CODE_FP8,
                               .dtype = RT_F8_E4M3,
                               .scale_dtype = RT_F32,
                               .data = codes + e * o * i,
                               .scale = (const uint8_t *)(rt_f32(&scale_of) + e * blocks),
                               .row_bytes = i,
                               .step = 1,
                               .scale_rows = 128,
                               .scale_cols = 128,
                               .scale_ld = rt_ceil_div(i, 128) };
    w.piece = piece;
    return w;
}

static void moe(void)
{
    static rt_piece piece[3][256];
    int64_t experts = scale > 1 ? 16 : 256, a = 8, c = 7168 / scale, f = 2048 / scale, n = rows;
    used = 0;
    if (3 * experts * c * f * 11 / 10 + n * a * (2 * c + 2 * f) * 4 > memory_bytes)
        return;
    struct moe m = { .x = activations(n, c),
                     .xs = activations(n * a, c),
                     .gate = activations(n * a, f),
                     .up = activations(n * a, f),
                     .ys = activations(n * a, c),
                     .y = activations(n, c),
                     .idx = integers(n * a, spread, experts),
                     .weight = tensor(RT_F32, n, a),
                     .offset = integers(experts + 1, always, 0),
                     .row = integers(n * a, always, 0),
                     .slot = integers(n * a, always, 0),
                     .rule = { 1.0f, INFINITY, 0.0f } };
    m.idx = rt_tensor_2(m.idx.data, RT_I32, n, a);
    m.slot = rt_tensor_2(m.slot.data, RT_I32, n, a);
    m.w[0] = experts_fp8(piece[0], experts, f, c);
    m.w[1] = experts_fp8(piece[1], experts, f, c);
    m.w[2] = experts_fp8(piece[2], experts, c, f);
    double flops = 6.0 * (double)(n * a) * (double)c * (double)f;
    measure("routed layer fp8", run_moe, &m, flops, 1e12, "TFLOP/s");
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
    memory_bytes = (int64_t)1 << (scale > 1 ? 30 : 34);
    while (!(memory = rt_dev_alloc(d, memory_bytes)) && memory_bytes > (int64_t)1 << 30)
        memory_bytes /= 2;
    if (!memory)
        must(rt_fail_memory(&err, memory_bytes, "a bench"));
    rt_dev_speed s = { 0 };
    must(rt_dev_measure(&s, d, &err));
    printf("{\"name\": \"copy there\", \"seconds\": 0, \"rate\": %.1f, \"unit\": \"GB/s\"}\n"
           "{\"name\": \"copy back\", \"seconds\": 0, \"rate\": %.1f, \"unit\": \"GB/s\"}\n",
           s.up / 1e9, s.down / 1e9);
    products();
    attention();
    head();
    moe();
    optimizer();
    rt_dev_release(d, memory);
    rt_dev_close(d);
    return 0;
}
