/* test_memory.c: the plan is what is allocated, to the byte, and a step allocates nothing: every
   call of the C library's allocator is counted by replacing it in this program. Sanitizers replace
   it themselves, so there the counting is off and only the code runs. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "core/weights.h"
#include "distill/optimizer.h"
#include "distill/step.h"

static int64_t calls, bytes;
static bool counting;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTED 1
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static void count(size_t n)
{
    if (counting) {
        calls++;
        bytes += (int64_t)n;
    }
}

void *malloc(size_t n)
{
    count(n);
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    count(n * size);
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    count(n);
    return __libc_realloc(p, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    count(n);
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}
#else
#define COUNTED 0
#endif

enum { DOCS = 4, LENGTH = 40, VOCAB = 61 };

typedef struct bench {
    rt_dev dev;
    rt_model model;
    rt_step step;
    rt_optimizer optimizer;
    rt_document doc[DOCS];
    rt_trace_span span;
    int32_t token[DOCS][LENGTH];
} bench;

static rt_err err;

static rt_config config(const char *family)
{
    rt_config c = { .layers = 3,
                    .width = 24,
                    .vocab = VOCAB,
                    .heads = 2,
                    .kv_heads = 2,
                    .head_dim = 12,
                    .ffn_width = 40,
                    .groups = 1,
                    .groups_kept = 1,
                    .route_scale = 1,
                    .norm_eps = 1e-5,
                    .init_std = 0.1,
                    .rope_theta = 100,
                    .max_positions = 64,
                    .bos = -1,
                    .pad = -1,
                    .kv_rank = 10,
                    .nope_dim = 6,
                    .rope_dim = 4,
                    .v_dim = 8,
                    .experts = 5,
                    .active = 2,
                    .expert_width = 9,
                    .shared = 1,
                    .dense_first = 1,
                    .sparse_step = 1 };
    c.family = rt_family_find(family);
    return c;
}

static void plan(bench *b, const rt_config *cfg, bool recompute)
{
    memset(b, 0, sizeof *b);
    ck_assert_int_eq(rt_dev_open(&b->dev, "cpu", 2, &err), 0);
    rt_model_init(&b->model, cfg);
    rt_batch_shape shape = { .rows = 100,
                             .documents = 8,
                             .head_rows = 17,
                             .temperature = 1,
                             .soft = { .head_max = 4, .tail_spacing = 0.125f } };
    rt_step_plan(&b->step, &b->dev, &b->model, &shape, LENGTH, recompute);
    rt_optimizer_plan(&b->optimizer, cfg, 0.9, 0.98, 1e-8, 0.05);
    b->step.spec = (rt_loss_spec){ .ce = 1, .temperature = 1 };
    b->step.vocab = VOCAB;
}

static int64_t planned(const bench *b)
{
    int64_t sum = b->dev.scratch_need + b->model.w.arena.high + b->optimizer.m.arena.high +
                  b->optimizer.v.arena.high + b->optimizer.arena.high +
                  b->optimizer.host_arena.high;
    const rt_arena *a;
    for (int i = 0; (a = rt_step_arena(&b->step, i)); i++)
        sum += a->high;
    return sum;
}

static void run_step(bench *b, int64_t step)
{
    rt_totals totals;
    rt_step_run(&b->step, b->doc, DOCS, &totals);
    rt_optimizer_norm(&b->dev, &b->optimizer, &b->step.grads);
    rt_optimizer_update(&b->dev, &b->optimizer, &b->model.w, &b->step.grads, 1e-3, 1, step);
    rt_step_balance(&b->step, 1e-3);
}

START_TEST(plan_is_what_is_allocated)
{
    static const char *const families[] = { "llama", "qwen3_moe", "deepseek_v3" };
    bench b;
    rt_config cfg = config(families[_i / 2]);
    plan(&b, &cfg, _i % 2 != 0);
    int64_t want = planned(&b);
    calls = bytes = 0;
    counting = true;
    int bad = rt_weights_place(&b.dev, &b.model.w, &err) || rt_step_place(&b.step, &err) ||
              rt_optimizer_place(&b.optimizer, &b.dev, &err) || rt_dev_ready(&b.dev, &err);
    counting = false;
    ck_assert_int_eq(bad, 0);
    if (COUNTED)
        ck_assert_int_eq(bytes, want);
    ck_assert_int_eq(rt_model_rope(&b.model, &b.dev, LENGTH, &err), 0);
    ck_assert_int_eq(rt_params_init(&b.model.w.params, &b.dev, &cfg, 1, &err), 0);
    b.span = (rt_trace_span){ 3, LENGTH };
    for (int i = 0; i < DOCS; i++) {
        for (int t = 0; t < LENGTH; t++)
            b.token[i][t] = (int32_t)rt_rng_below(5, RT_RNG_DATA, (uint64_t)(i * LENGTH + t),
                                                  VOCAB);
        b.doc[i] = (rt_document){ .token = b.token[i], .n = LENGTH, .span = &b.span, .n_spans = 1 };
    }
    run_step(&b, 1); /* OpenMP makes its threads here */
    calls = 0;
    counting = true;
    for (int step = 2; step <= 4; step++)
        run_step(&b, step);
    counting = false;
    ck_assert_int_eq(calls, 0);
    rt_step_free(&b.step);
    rt_optimizer_free(&b.optimizer, &b.dev);
    rt_model_free(&b.dev, &b.model);
    rt_dev_close(&b.dev);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, plan_is_what_is_allocated, 0, 6);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
