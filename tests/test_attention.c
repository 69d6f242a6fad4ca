/* test_attention.c: attention on ragged rows against a naive f64 reference, forward and backward,
   and the bits: cached decoding in chunks of any size equals the whole sequence at once, a sequence
   alone equals the same among others, threads and instruction sets change nothing. Odd sizes on
   purpose. On a device that rounds operands to bf16 the reference rounds them too: what is left is
   the rounding of weights and their gradients, which are operands of the second products; and
   cached decoding, which has its own kernels there, is held to the reference. Where a device keeps
   activations in bf16, all of it once more with those. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/dtype.h"
#include "core/base/rng.h"
#include "tests/device.h"
#include "tests/suite.h"

typedef struct shape {
    int64_t heads, kv_heads, dk, dv;
    bool v_in_k;
    int64_t window;
    bool sinks;
} shape;

static const shape shapes[] = {
    { 3, 3, 7, 5, false, 0, false },    { 4, 2, 16, 16, false, 0, false },
    { 6, 1, 37, 33, true, 0, false },   { 8, 2, 64, 64, false, 0, false },
    { 1, 1, 1, 1, false, 0, false },    { 3, 3, 7, 5, false, 2, false },
    { 6, 2, 16, 16, false, 23, false }, { 3, 1, 9, 33, false, 32, false },
    { 2, 1, 20, 8, true, 50, false },   { 4, 2, 16, 16, false, 1000, false },
    { 6, 2, 16, 16, false, 23, true },  { 3, 1, 9, 33, false, 0, true },
    { 3, 1, 96, 80, false, 70, true },  { 4, 2, 128, 128, false, 0, false },
    { 3, 3, 192, 128, false, 0, true }, { 2, 1, 256, 230, false, 40, false },
    { 3, 1, 256, 256, false, 0, true }, { 2, 1, 320, 264, false, 70, false },
    { 19, 1, 576, 512, true, 0, true }
};
/* Every test runs over the shapes twice: with activations in f32, then in what the device keeps
   them in, where that is another. */
enum {
    SHAPES = RT_COUNT(shapes),
    ALL = 2 * SHAPES,
    NARROW = 12,       /* the first of the shapes, for what takes long */
    WHOLE = SHAPES - 1 /* all but the latent of MLA, which only a cache holds */
};
static const int lengths[] = { 1, 5, 33, 70, 131, 2200 };
enum {
    SEGMENTS = 5,
    LONG = 5 /* by itself: more keys than a block of the contract, rows in parts */
};

/* Tensors of the host; forward and backward send them to the device and bring back what is made. */
typedef struct bench {
    rt_dev *d;
    bool bf16;
    rt_dtype act;
    shape s;
    int64_t n;
    rt_arena a;
    rt_tensor q, k, v, out, lse, dout, dq, dk, dv, sinks, dsinks;
    rt_rows rows;
    rt_attention_rule rule;
} bench;

static rt_err err;

/* More keys than a block of the contract, or, in bf16, than a split of the keys; fewer of them where
   fibers are slow. */
static int64_t length_of(const bench *b, int segment)
{
    return !b->bf16 || segment != LONG ? lengths[segment] : getenv("RETORT_EMULATE_TEAM") ? 330 : 600;
}

/* Run i of a test has a shape of its own on this device. Where activations in f32 are rounded to
   bf16 before they are used, the wide shapes that then take the same way are run in `most` tests
   only once, and what has no form for tensor cores not at all: it is not rounded. */
static bool is_run(int i, bool most)
{
    rt_dev *d;
    if (rt_dev_open(&d, NULL, 1, &err))
        ck_abort_msg("%s", err.text);
    const rt_dtype act = rt_dev_get(d).act;
    const shape *s = &shapes[i % SHAPES];
    rt_dev_close(d);
    if (i >= SHAPES || act == RT_F32)
        return (i < SHAPES) == (act == RT_F32);
    return i < NARROW || (!most && (s->dk <= 256 || s->v_in_k));
}

static float bf16(float x) { return rt_bf16_to_f32(rt_f32_to_bf16(x)); }

/* An activation of the host as the device is to have it; there, and back. */
static rt_tensor as_act(const bench *b, const rt_tensor *host)
{
    rt_tensor t = *host;
    t.dtype = b->act;
    return t;
}

static rt_tensor put_act(const bench *b, const rt_tensor *host)
{
    rt_tensor t = as_act(b, host);
    int64_t n = rt_tensor_elements(host);
    if (b->act == RT_F32 || !host->data)
        return put_tensor(b->d, host);
    uint16_t *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = rt_f32_to_bf16(rt_f32(host)[i]);
    t.data = put_bytes(b->d, x, rt_tensor_bytes(&t));
    free(x);
    return t;
}

static void get_act(const bench *b, rt_tensor *host, rt_tensor *t)
{
    int64_t n = rt_tensor_elements(host);
    uint16_t *x = malloc((size_t)n * sizeof *x);
    if (b->act == RT_F32) {
        get_tensor(b->d, host, t);
    } else {
        get_bytes(b->d, x, t->data, rt_tensor_bytes(t));
        for (int64_t i = 0; i < n; i++)
            rt_f32(host)[i] = rt_bf16_to_f32(x[i]);
        drop_tensor(b->d, t);
    }
    free(x);
}

/* As products see it. */
static double value(const bench *b, const rt_tensor *t, int64_t i)
{
    return (double)(b->bf16 ? bf16(rt_f32(t)[i]) : rt_f32(t)[i]);
}

static void plan(bench *b)
{
    const shape *s = &b->s;
    b->q = rt_plan_3(&b->a, "q", RT_F32, b->n, s->heads, s->dk);
    b->k = rt_plan_3(&b->a, "k", RT_F32, b->n, s->kv_heads, s->dk);
    b->v = rt_plan_3(&b->a, "v", RT_F32, b->n, s->kv_heads, s->dv);
    b->out = rt_plan_3(&b->a, "out", RT_F32, b->n, s->heads, s->dv);
    b->dout = rt_plan_3(&b->a, "dout", RT_F32, b->n, s->heads, s->dv);
    b->lse = rt_plan_2(&b->a, "lse", RT_F32, b->n, s->heads);
    b->dq = rt_plan_3(&b->a, "dq", RT_F32, b->n, s->heads, s->dk);
    b->dk = rt_plan_3(&b->a, "dk", RT_F32, b->n, s->kv_heads, s->dk);
    b->dv = rt_plan_3(&b->a, "dv", RT_F32, b->n, s->kv_heads, s->dv);
    b->sinks = rt_plan_1(&b->a, "sinks", RT_F32, s->heads);
    b->dsinks = rt_plan_1(&b->a, "dsinks", RT_F32, s->heads);
    b->rows.token = rt_plan_1(&b->a, "token", RT_I32, b->n);
    b->rows.pos = rt_plan_1(&b->a, "pos", RT_I32, b->n);
    b->rows.offset = rt_plan_1(&b->a, "offset", RT_I32, b->rows.s + 1);
}

/* Values are a function of the segment, not of its place in the batch. */
static void fill(const bench *b, rt_tensor *t, int64_t row, int64_t segment, int64_t n,
                 uint64_t seed)
{
    int64_t width = rt_tensor_elements(t) / t->dim[0];
    for (int64_t i = 0; i < n * width; i++) {
        uint64_t at = ((uint64_t)segment << 32) + (uint64_t)i;
        float x = 3 * (rt_rng_uniform(seed, RT_RNG_DATA, at) - 0.5f);
        rt_f32(t)[row * width + i] = b->act == RT_BF16 ? bf16(x) : x;
    }
}

enum { TABLE = (2200 + RT_KV_PAGE - 1) / RT_KV_PAGE, SPARE = TABLE };

static rt_kv cache_of(const bench *b)
{
    return (rt_kv){ .pages = TABLE + 1,
                    .heads = b->s.kv_heads,
                    .dk = b->s.dk,
                    .dv = b->s.dv,
                    .v_in_k = b->s.v_in_k };
}

/* run: of a test */
static void open_bench(bench *b, int run, const int *segments, int n_segments, int threads)
{
    const shape *s = &shapes[run % SHAPES];
    memset(b, 0, sizeof *b);
    if (rt_dev_open(&b->d, NULL, threads, &err))
        ck_abort_msg("%s", err.text);
    b->bf16 = rt_dev_get(b->d).bf16;
    b->act = run < SHAPES ? RT_F32 : rt_dev_get(b->d).act;
    b->s = *s;
    b->rule = (rt_attention_rule){ 0.37f, s->window, s->sinks ? &b->sinks : NULL };
    b->rows.s = n_segments;
    for (int i = 0; i < n_segments; i++)
        b->n += length_of(b, segments[i]);
    b->rows.n = b->n;
    rt_arena_init(&b->a, "test");
    plan(b);
    ck_assert_int_eq(rt_arena_place(&b->a, &err), 0);
    plan(b);
    rt_tensor *const made[] = { &b->out, &b->lse, &b->dq, &b->dk, &b->dv };
    for (int i = 0; i < RT_COUNT(made); i++)
        memset(made[i]->data, 0xff, (size_t)rt_tensor_bytes(made[i]));
    int64_t row = 0;
    for (int i = 0; i < n_segments; i++) {
        int64_t n = length_of(b, segments[i]);
        rt_i32(&b->rows.offset)[i] = (int32_t)row;
        for (int64_t t = 0; t < n; t++)
            rt_i32(&b->rows.pos)[row + t] = (int32_t)t;
        fill(b, &b->q, row, segments[i], n, 1);
        fill(b, &b->k, row, segments[i], n, 2);
        fill(b, &b->v, row, segments[i], n, 3);
        fill(b, &b->dout, row, segments[i], n, 4);
        row += n;
    }
    rt_i32(&b->rows.offset)[n_segments] = (int32_t)row;
    for (int64_t h = 0; h < s->heads; h++) /* one far above all scores, one far below */
        rt_f32(&b->sinks)[h] = h == 0 ? 150.0f : h == 1 ? -150.0f : 0.7f * (float)h;
    if (s->v_in_k) /* the values are the first columns of the keys */
        for (int64_t i = 0; i < b->n * s->kv_heads; i++)
            memcpy(rt_f32(&b->v) + i * s->dv, rt_f32(&b->k) + i * s->dk,
                   (size_t)s->dv * sizeof(float));
    bool backward = segments[0] != LONG;
    b->rows.longest = length_of(b, segments[n_segments - 1]);
    rt_rows paged = b->rows;
    paged.page = rt_tensor_2(NULL, RT_I32, n_segments, TABLE);
    rt_kv kv = cache_of(b);
    rt_tensor q = as_act(b, &b->q), k = as_act(b, &b->k), v = as_act(b, &b->v);
    rt_tensor out = as_act(b, &b->out), dout = as_act(b, &b->dout);
    rt_tensor dq = as_act(b, &b->dq), dk = as_act(b, &b->dk), dv = as_act(b, &b->dv);
    rt_dev_dry_begin(b->d);
    rt_attention_cached(b->d, &out, &q, &kv, &paged, &b->rule);
    rt_attention_forward(b->d, &out, &b->lse, &q, &k, &v, &b->rows, &b->rule);
    if (backward)
        rt_attention_backward(b->d, &dq, &dk, &dv, &dout, &out, &b->lse, &q, &k, &v, &b->rows,
                              &b->rule);
    rt_sinks_backward(b->d, &b->dsinks, &dout, &out, &b->lse, &b->sinks);
    rt_dev_dry_end(b->d);
    ck_assert_int_eq(rt_dev_ready(b->d, &err), 0);
}

static void close_bench(bench *b)
{
    rt_arena_free(&b->a);
    rt_dev_close(b->d);
}

static rt_rows put_rows(rt_dev *d, const rt_rows *rows)
{
    return (rt_rows){ .n = rows->n,
                      .s = rows->s,
                      .token = put_tensor(d, &rows->token),
                      .pos = put_tensor(d, &rows->pos),
                      .offset = put_tensor(d, &rows->offset),
                      .page = put_tensor(d, &rows->page) };
}

static void drop_rows(rt_dev *d, rt_rows *rows)
{
    drop_tensor(d, &rows->token);
    drop_tensor(d, &rows->pos);
    drop_tensor(d, &rows->offset);
    drop_tensor(d, &rows->page);
}

static void forward(bench *b)
{
    rt_tensor q = put_act(b, &b->q), k = put_act(b, &b->k), v = put_act(b, &b->v);
    rt_tensor out = put_act(b, &b->out), lse = put_tensor(b->d, &b->lse);
    rt_tensor sinks = put_tensor(b->d, &b->sinks);
    rt_rows rows = put_rows(b->d, &b->rows);
    rt_attention_rule rule = b->rule;
    rule.sinks = rule.sinks ? &sinks : NULL;
    rt_attention_forward(b->d, &out, &lse, &q, &k, &v, &rows, &rule);
    get_act(b, &b->out, &out);
    get_tensor(b->d, &b->lse, &lse);
    drop_tensor(b->d, &q), drop_tensor(b->d, &k), drop_tensor(b->d, &v);
    drop_tensor(b->d, &sinks);
    drop_rows(b->d, &rows);
}

static void backward(bench *b)
{
    enum { ACTS = 8 }; /* the first */
    rt_tensor *const host[] = { &b->dq, &b->dk, &b->dv,  &b->dout,   &b->out,  &b->q,
                                &b->k,  &b->v,  &b->lse, &b->dsinks, &b->sinks };
    rt_tensor t[RT_COUNT(host)];
    rt_rows rows = put_rows(b->d, &b->rows);
    rt_attention_rule rule = b->rule;
    for (int i = 0; i < RT_COUNT(host); i++)
        t[i] = i < ACTS ? put_act(b, host[i]) : put_tensor(b->d, host[i]);
    rule.sinks = rule.sinks ? &t[10] : NULL;
    rt_attention_backward(b->d, &t[0], &t[1], &t[2], &t[3], &t[4], &t[8], &t[5], &t[6], &t[7],
                          &rows, &rule);
    if (rule.sinks)
        rt_sinks_backward(b->d, &t[9], &t[3], &t[4], &t[8], &t[10]);
    for (int i = 0; i < ACTS; i++)
        get_act(b, host[i], &t[i]);
    for (int i = ACTS; i < RT_COUNT(host); i++)
        get_tensor(b->d, host[i], &t[i]);
    drop_rows(b->d, &rows);
}

static const int all_segments[] = { 0, 1, 2, 3, 4 };

/* ---- f64 ----------------------------------------------------------------------------------------
 */

typedef struct reference {
    double *out, *lse, *dq, *dk, *dv, *dsinks;
} reference;

static void naive_row(const bench *b, const reference *r, int64_t first, int64_t row, int64_t h)
{
    const shape *s = &b->s;
    int64_t g = s->heads / s->kv_heads, kh = h / g, n = row - first + 1, qi = row * s->heads + h;
    int64_t begin = s->window ? rt_max(0, n - s->window) : 0;
    double p[640], sum = 0, most = -1e300, dot[640], delta = 0, exact = 0;
    for (int64_t j = begin; j < n; j++) {
        p[j] = 0;
        for (int64_t d = 0; d < s->dk; d++)
            p[j] += value(b, &b->q, qi * s->dk + d) *
                    value(b, &b->k, ((first + j) * s->kv_heads + kh) * s->dk + d);
        p[j] *= (double)b->rule.scale;
        most = fmax(most, p[j]);
    }
    double sink = s->sinks ? (double)rt_f32(&b->sinks)[h] : -INFINITY;
    most = fmax(most, sink);
    for (int64_t j = begin; j < n; j++)
        sum += exp(p[j] - most);
    sum += exp(sink - most);
    r->lse[qi] = most + log(sum);
    for (int64_t j = begin; j < n; j++) {
        p[j] = exp(p[j] - r->lse[qi]);
        dot[j] = 0;
        for (int64_t d = 0; d < s->dv; d++) {
            double v = value(b, &b->v, ((first + j) * s->kv_heads + kh) * s->dv + d);
            r->out[qi * s->dv + d] += p[j] * v;
            dot[j] += value(b, &b->dout, qi * s->dv + d) * v;
            exact += p[j] * (double)rt_f32(&b->dout)[qi * s->dv + d] * v;
        }
        delta += p[j] * dot[j];
    }
    r->dsinks[h] -= exp(sink - r->lse[qi]) * exact; /* its value is 0 */
    for (int64_t j = begin; j < n; j++) {
        int64_t ki = (first + j) * s->kv_heads + kh;
        double ds = p[j] * (dot[j] - delta) * (double)b->rule.scale;
        for (int64_t d = 0; d < s->dk; d++) {
            r->dq[qi * s->dk + d] += ds * value(b, &b->k, ki * s->dk + d);
            r->dk[ki * s->dk + d] += ds * value(b, &b->q, qi * s->dk + d);
        }
        for (int64_t d = 0; d < s->dv; d++)
            r->dv[ki * s->dv + d] += p[j] * value(b, &b->dout, qi * s->dv + d);
    }
}

/* Operands of half of 2^-8 relative error each: the weights of out and dv, whose sums are at most
   1; with them the slopes of dq and dk, to which the error of out adds its own. What is stored as
   bf16 is rounded once more, and out is then known so well to the slopes, which are differences.
   The log-sum-exp comes of exact products. */
static double tolerance(const bench *b, const char *name)
{
    if (!b->bf16 || !strcmp(name, "lse"))
        return 4e-6 * fmax(1, (double)b->s.dk / 128); /* scores are chains of the width */
    if (b->act == RT_F32)
        return 0x1p-8;
    return strcmp(name, "dq") && strcmp(name, "dk") ? 0x1.8p-8 : 0x1p-7;
}

static void compare(const char *name, const rt_tensor *t, const double *want, double most)
{
    double error = 0, size = 0;
    bool number = true;
    for (int64_t i = 0; i < rt_tensor_elements(t); i++) {
        number = number && isfinite(rt_f32(t)[i]);
        error = fmax(error, fabs((double)rt_f32(t)[i] - want[i]));
        size = fmax(size, fabs(want[i]));
    }
    if (!number || !(error <= most * size))
        ck_abort_msg("%s: largest error %.3g of %.3g%s", name, error, size,
                     number ? "" : ", and what is no number");
}

enum { PARTS = 6 };

static reference naive(const bench *b)
{
    reference r;
    double **const parts[PARTS] = { &r.out, &r.lse, &r.dq, &r.dk, &r.dv, &r.dsinks };
    const rt_tensor *const like[] = { &b->out, &b->lse, &b->dq, &b->dk, &b->dv, &b->dsinks };
    for (int i = 0; i < PARTS; i++)
        *parts[i] = calloc((size_t)rt_tensor_elements(like[i]), sizeof(double));
    for (int64_t s = 0; s < b->rows.s; s++)
        for (int64_t row = rt_i32(&b->rows.offset)[s]; row < rt_i32(&b->rows.offset)[s + 1]; row++)
            for (int64_t h = 0; h < b->s.heads; h++)
                naive_row(b, &r, rt_i32(&b->rows.offset)[s], row, h);
    return r;
}

static void free_reference(reference *r)
{
    free(r->out), free(r->lse), free(r->dq), free(r->dk), free(r->dv), free(r->dsinks);
}

START_TEST(against_f64)
{
    static const char *const names[] = { "out", "lse", "dq", "dk", "dv", "dsinks" };
    bench b;
    if (_i % SHAPES >= WHOLE || !is_run(_i, false))
        return;
    open_bench(&b, _i, all_segments, SEGMENTS, 2);
    forward(&b);
    backward(&b);
    reference r = naive(&b);
    const double *const want[PARTS] = { r.out, r.lse, r.dq, r.dk, r.dv, r.dsinks };
    const rt_tensor *const made[] = { &b.out, &b.lse, &b.dq, &b.dk, &b.dv, &b.dsinks };
    for (int i = 0; i < PARTS; i++)
        compare(names[i], made[i], want[i], tolerance(&b, names[i]));
    free_reference(&r);
    close_bench(&b);
}
END_TEST

/* ---- bits ---------------------------------------------------------------------------------------
 */

static void same(const char *what, const rt_tensor *a, int64_t row_a, const rt_tensor *b,
                 int64_t row_b, int64_t rows)
{
    size_t width = (size_t)(rt_tensor_bytes(a) / a->dim[0]);
    if (memcmp((const char *)a->data + (size_t)row_a * width,
               (const char *)b->data + (size_t)row_b * width, (size_t)rows * width))
        ck_abort_msg("%s: other bits", what);
}

START_TEST(same_bits)
{
    static const char *const isas[] = { "scalar", "avx2", "avx512" };
    bench first, other;
    if (_i % SHAPES >= WHOLE || !is_run(_i, true))
        return;
    if (getenv("RETORT_EMULATE_TEAM") && _i % 3) /* fibers are slow, and a second run of them is the first */
        return;
    open_bench(&first, _i, all_segments, SEGMENTS, 1);
    forward(&first);
    backward(&first);
    int kinds = rt_dev_get(first.d).cpu_bits ? 3 : 1; /* else it has none: a second run */
    for (int threads = 1; threads <= kinds; threads++)
        for (int isa = 0; isa < kinds; isa++) {
            rt_dev *probe;
            setenv("RETORT_ISA", isas[isa], 1);
            bool here = rt_dev_open(&probe, NULL, 1, &err) == 0;
            if (here) {
                rt_dev_close(probe);
                open_bench(&other, _i, all_segments, SEGMENTS, threads);
                forward(&other);
                backward(&other);
                same("out", &first.out, 0, &other.out, 0, first.n);
                same("lse", &first.lse, 0, &other.lse, 0, first.n);
                same("dq", &first.dq, 0, &other.dq, 0, first.n);
                same("dk", &first.dk, 0, &other.dk, 0, first.n);
                same("dv", &first.dv, 0, &other.dv, 0, first.n);
                same("dsinks", &first.dsinks, 0, &other.dsinks, 0, first.s.heads);
                close_bench(&other);
            }
            unsetenv("RETORT_ISA");
        }
    for (int s = 0; s < SEGMENTS; s++) { /* alone */
        open_bench(&other, _i, &all_segments[s], 1, 1);
        forward(&other);
        backward(&other);
        int64_t row = rt_i32(&first.rows.offset)[s], n = lengths[s];
        same("out alone", &first.out, row, &other.out, 0, n);
        same("dq alone", &first.dq, row, &other.dq, 0, n);
        same("dk alone", &first.dk, row, &other.dk, 0, n);
        same("dv alone", &first.dv, row, &other.dv, 0, n);
        close_bench(&other);
    }
    close_bench(&first);
}
END_TEST

static rt_kv new_cache(bench *b)
{
    rt_kv kv = cache_of(b);
    int64_t bytes = rt_kv_bytes(b->d, &kv);
    void *nan = malloc((size_t)bytes); /* what was not kept is not read */
    memset(nan, 0xff, (size_t)bytes);
    kv.data = put_bytes(b->d, nan, bytes);
    free(nan);
    return kv;
}

/* Keep n rows from `row` on, of s segments with tables of pages, then attend. */
static void decode_rows(bench *b, rt_kv *kv, int64_t s, int32_t *offset, int32_t *page, int64_t row,
                        int64_t n)
{
    rt_rows rows = { .n = n,
                     .s = s,
                     .token = rt_tensor_rows(&b->rows.token, row, n),
                     .pos = rt_tensor_rows(&b->rows.pos, row, n),
                     .offset = rt_tensor_1(offset, RT_I32, s + 1),
                     .page = rt_tensor_2(page, RT_I32, s, TABLE) };
    rt_tensor host[] = { rt_tensor_rows(&b->q, row, n), rt_tensor_rows(&b->k, row, n),
                         rt_tensor_rows(&b->v, row, n), rt_tensor_rows(&b->out, row, n), b->sinks };
    rt_tensor t[RT_COUNT(host)];
    rt_rows there = put_rows(b->d, &rows);
    rt_attention_rule rule = b->rule;
    for (int i = 0; i < RT_COUNT(host); i++)
        t[i] = i < 4 ? put_act(b, &host[i]) : put_tensor(b->d, &host[i]);
    rule.sinks = rule.sinks ? &t[4] : NULL;
    rt_kv_append(b->d, kv, &t[1], b->s.v_in_k ? NULL : &t[2], &there);
    rt_attention_cached(b->d, &t[3], &t[0], kv, &there, &rule);
    get_act(b, &host[3], &t[3]);
    for (int i = 0; i < RT_COUNT(host); i++)
        if (t[i].data)
            drop_tensor(b->d, &t[i]);
    drop_rows(b->d, &there);
}

/* Segment `which` through the cache, `chunk` rows at a time, in pages that lie about; each time the
   page that the chunk begins in is copied, and what goes on is the copy. */
static void decode(bench *b, int run, int which, int64_t chunk)
{
    int32_t page[TABLE], spare = SPARE;
    open_bench(b, run, &which, 1, 2);
    rt_kv kv = new_cache(b);
    for (int32_t i = 0; i < TABLE; i++)
        page[i] = (i * 8 + 3) % TABLE;
    for (int64_t row = 0; row < b->n; row += chunk) {
        int32_t *last = &page[row / RT_KV_PAGE], left = *last;
        rt_kv_copy(b->d, &kv, spare, *last);
        *last = spare;
        spare = left;
        int32_t offset[] = { 0, (int32_t)rt_min(chunk, b->n - row) };
        decode_rows(b, &kv, 1, offset, page, row, offset[1]);
    }
    rt_dev_release(b->d, kv.data);
}

/* The last segment, decoded in chunks of any size. */
static void decoded(int run, const int *segments, int n_segments, const int *chunks, int n)
{
    bench whole, b;
    const shape *s = &shapes[run % SHAPES];
    open_bench(&whole, run, segments, n_segments, 2);
    int64_t row = rt_i32(&whole.rows.offset)[n_segments - 1];
    reference r = { 0 };
    if (whole.bf16)
        r = naive(&whole);
    else
        forward(&whole);
    for (int k = 0; k < n; k++) {
        decode(&b, run, segments[n_segments - 1], chunks[k]);
        if (whole.bf16 && k == 0) {
            compare("cached", &b.out, r.out + row * s->heads * s->dv, tolerance(&b, "out"));
            memcpy(rt_f32(&whole.out) + row * s->heads * s->dv, b.out.data,
                   (size_t)rt_tensor_bytes(&b.out));
        }
        same("cached", &whole.out, row, &b.out, 0, b.n);
        close_bench(&b);
    }
    free_reference(&r);
    close_bench(&whole);
}

/* All segments in one call, each with pages of its own. */
START_TEST(cached_together)
{
    enum { PAGES = 3 };
    int32_t page[SEGMENTS * TABLE];
    bench whole, b;
    if (!is_run(_i, false))
        return;
    open_bench(&b, _i, all_segments, SEGMENTS, 2);
    open_bench(&whole, _i, all_segments, SEGMENTS, 2);
    rt_kv kv = new_cache(&b);
    for (int i = 0; i < SEGMENTS * TABLE; i++) /* past the last: not read */
        page[i] = i % TABLE < PAGES ? (i / TABLE * PAGES + i % TABLE) * 8 % TABLE : -1;
    decode_rows(&b, &kv, SEGMENTS, rt_i32(&b.rows.offset), page, 0, b.n);
    if (b.bf16) {
        reference r = naive(&whole);
        compare("cached", &b.out, r.out, tolerance(&b, "out"));
        free_reference(&r);
    } else {
        forward(&whole);
        same("cached", &whole.out, 0, &b.out, 0, b.n);
    }
    rt_dev_release(b.d, kv.data);
    close_bench(&b);
    close_bench(&whole);
}
END_TEST

START_TEST(cached)
{
    static const int chunks[] = { 1, 13, 131, 2, 40 }; /* fewer where fibers are slow */
    if (is_run(_i, true))
        decoded(_i, all_segments, SEGMENTS, chunks, getenv("RETORT_EMULATE_TEAM") ? 3 : RT_COUNT(chunks));
}
END_TEST

START_TEST(cached_long)
{
    static const int which = LONG, chunks[] = { 97, 600 };
    rt_dev *d;
    OK(rt_dev_open(&d, NULL, 1, &err));
    bool bf16_too = rt_dev_get(d).bf16;
    rt_dev_close(d);
    /* fibers are slow: a few of the shapes in either kind of activations, and the latent */
    bool short_run = getenv("RETORT_EMULATE_TEAM") && bf16_too;
    if (short_run && _i % 8 != 3 && _i != ALL - 1)
        return;
    if (is_run(_i, true) && (bf16_too || _i < NARROW))
        decoded(_i, &which, 1, chunks, bf16_too ? 2 : 1);
}
END_TEST

/* What a pass forward of activations of such a width needs of workspace. */
static int64_t workspace_of(rt_dtype act, int64_t width)
{
    rt_dev *d;
    OK(rt_dev_open(&d, NULL, 1, &err));
    rt_tensor q = rt_tensor_3(NULL, act, 40, 2, width), lse = rt_tensor_2(NULL, RT_F32, 40, 2);
    rt_rows rows = { .n = 40, .s = 1, .longest = 40, .offset = rt_tensor_1(NULL, RT_I32, 2) };
    rt_attention_rule rule = { .scale = 1 };
    rt_dev_dry_begin(d);
    rt_attention_forward(d, &q, &lse, &q, &q, &q, &rows, &rule);
    rt_dev_dry_end(d);
    int64_t bytes = rt_dev_workspace(d);
    rt_dev_close(d);
    return bytes;
}

/* Rows of bf16 on 16 bytes are read where they lie. */
START_TEST(copies)
{
    rt_dev *d;
    OK(rt_dev_open(&d, NULL, 1, &err));
    bool bf16_too = rt_dev_get(d).act == RT_BF16;
    rt_dev_close(d);
    if (!bf16_too)
        return;
    ck_assert_int_eq(workspace_of(RT_BF16, 64), 0);
    ck_assert_int_eq(workspace_of(RT_BF16, 320), 0);
    ck_assert_int_gt(workspace_of(RT_BF16, 20), 0);
    ck_assert_int_gt(workspace_of(RT_F32, 64), 0);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { against_f64, ALL },     { same_bits, ALL },   { cached, ALL },
                                 { cached_together, ALL }, { cached_long, ALL }, { copies, 1 } };
    return suite_run("attention", NULL, tests, RT_COUNT(tests));
}
