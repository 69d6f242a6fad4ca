/* test_memory.c: the plan is what is allocated, to the byte, and a step allocates nothing: every
   call of the C library's allocator is counted by replacing it in this program. The same for
   generation, and for the commands sample and score as a whole. Sanitizers replace
   it themselves, so there the counting is off and only the code runs. Beside it, on every device:
   a step, a generated token batch and a scored pass wait for the device once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/option.h"
#include "core/base/rng.h"
#include "core/network/generate.h"
#include "core/network/weights.h"
#include "distill/trainer.h"
#include "student/measure.h"
#include "teacher/scorer.h"
#include "tests/suite.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int64_t calls, bytes, placed; /* placed: by rt_memory_alloc, as arenas and workspace are */
static int64_t grown[512];           /* sizes asked of realloc */
static int n_grown;
static bool counting;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(RT_STRICT_DEVICE) && !defined(RT_EMULATE)
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
    if (counting && n_grown < RT_COUNT(grown))
        grown[n_grown++] = (int64_t)n;
    return __libc_realloc(p, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    count(n - 64); /* what it remembers of the memory lies before it */
    placed += counting ? (int64_t)n - 64 : 0;
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}

/* Large memory, from a huge page's beginning on. */
void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    if (fd < 0) {
        count(n - 64 - (2 << 20));
        placed += counting ? (int64_t)n - 64 - (2 << 20) : 0;
    }
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}
#else
#define COUNTED 0
#endif

enum { DOCS = 4, LENGTH = 40, VOCAB = 61 };

typedef struct bench {
    rt_dev *dev;
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

static const rt_optimizer_spec PLAIN = { .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .decay = 0.05 };

static void plan(bench *b, const rt_config *cfg, rt_recompute recompute)
{
    memset(b, 0, sizeof *b);
    ck_assert_int_eq(rt_dev_open(&b->dev, NULL, 2, &err), 0);
    rt_model_plan_config(&b->model, b->dev, cfg, NULL, false, LENGTH);
    rt_batch_shape shape = { .rows = 100,
                             .documents = 8,
                             .head_rows = 17,
                             .waiting = DOCS * LENGTH,
                             .temperature = 1,
                             .soft = { .head_max = 4, .tail_spacing = 0.125f } };
    const rt_loss_spec spec = { .ce = 1, .temperature = 1 };
    rt_step_plan(&b->step, b->dev, &b->model, NULL, &shape, &spec, VOCAB, LENGTH, recompute, NULL);
    rt_optimizer_plan(&b->optimizer, cfg, &b->model.w, &PLAIN);
}

static int64_t planned(const bench *b)
{
    return rt_dev_workspace(b->dev) + rt_dev_stage(b->dev) + rt_arenas_bytes(&b->model.arenas) +
           rt_arenas_bytes(&b->step.arenas) + rt_arenas_bytes(&b->optimizer.arenas);
}

static void run_step(bench *b, int64_t step)
{
    int64_t waits = rt_dev_get(b->dev).waits;
    int bad = rt_step_run(&b->step, b->doc, DOCS, &err);
    rt_optimizer_sums(b->dev, &b->optimizer, &b->step.grads, RT_LAYERS_ALL);
    rt_optimizer_fetch(b->dev, &b->optimizer);
    bad = bad || rt_sync(b->dev, &err) || rt_step_totals(&b->step)->rows != DOCS * (LENGTH - 3) ||
          !(rt_optimizer_norm(&b->optimizer) > 0);
    rt_optimizer_update(b->dev, &b->optimizer, &b->step.grads, RT_LAYERS_ALL, 1e-3, 1, step);
    rt_step_balance(&b->step, 1e-3);
    if (bad || rt_dev_get(b->dev).waits != waits + 1) /* ck_assert would allocate */
        ck_abort_msg("%s; %lld waits a step", err.text,
                     (long long)(rt_dev_get(b->dev).waits - waits));
}

static void make_documents(bench *b)
{
    b->span = (rt_trace_span){ 3, LENGTH };
    for (int i = 0; i < DOCS; i++) {
        for (int t = 0; t < LENGTH; t++)
            b->token[i][t] = (int32_t)rt_rng_below(5, RT_RNG_DATA, (uint64_t)(i * LENGTH + t),
                                                   VOCAB);
        b->doc[i] = (rt_document){ .token = b->token[i], .n = LENGTH, .span = &b->span, .n_spans = 1 };
    }
}

START_TEST(plan_is_what_is_allocated)
{
    static const char *const families[] = { "llama", "qwen3_moe", "deepseek_v3" };
    bench b;
    rt_config cfg = config(families[_i / 3]);
    plan(&b, &cfg, (rt_recompute)(_i % 3));
    int64_t want = planned(&b);
    calls = bytes = 0;
    counting = true;
    int bad = rt_model_place(&b.model, &err) || rt_step_place(&b.step, &err) ||
              rt_optimizer_place(&b.optimizer, b.dev, &err) || rt_dev_ready(b.dev, &err);
    counting = false;
    ck_assert_int_eq(bad, 0);
    if (COUNTED) /* the rope table is made on the host first */
        ck_assert_int_eq(bytes, want + rt_tensor_bytes(&b.model.rope));
    ck_assert_int_eq(rt_params_init(&b.model.w.params, b.dev, &cfg, 1, &err), 0);
    make_documents(&b);
    run_step(&b, 1); /* what is made once is made here */
    calls = 0;
    counting = true;
    for (int step = 2; step <= 4; step++)
        run_step(&b, step);
    counting = false;
    ck_assert_int_eq(calls, 0);
    const char *file = "checkpoint.safetensors";
    rt_position at = { 4, 0, 0, 1 };
    rt_checkpoint_state state = rt_optimizer_state(&b.optimizer);
    int64_t size = 0;
    ck_assert_int_eq(
        rt_checkpoint_save(".", b.dev, &state, &at, &err) || rt_path_size(file, &size, &err), 0);
    ck_assert_int_eq(size, rt_checkpoint_bytes(&state));
    rt_step_free(&b.step);
    rt_optimizer_free(&b.optimizer, b.dev);
    rt_model_free(b.dev, &b.model);
    rt_dev_close(b.dev);
}
END_TEST

/* ---- memory modes: the same of a trainer, wherever what it learns lies ---------------------------- */

static const struct mode_case {
    rt_memory_mode mode;
    bool lean, muon, tied;
    rt_recompute recompute;
    double mean, clip;
    int64_t waits; /* a step: one, another for what the host keeps, one for the rows of an embedding,
                      and fused looks at the loss before weights move and at the norm before it clips */
} MODES[] = {
    { RT_MODE_RESIDENT, false, true, true, RT_RECOMPUTE_BLOCK, 0.9, 1, 1 },
    { RT_MODE_RESIDENT, true, false, false, RT_RECOMPUTE_BLOCK, 0, 1, 1 },
    { RT_MODE_STREAM, true, false, false, RT_RECOMPUTE_BLOCK, 0, 1, 3 },
    { RT_MODE_STREAM, true, true, true, RT_RECOMPUTE_OFFLOAD, 0.9, 1, 2 },
    { RT_MODE_STREAM, false, false, true, RT_RECOMPUTE_BLOCK, 0, 1, 2 },
    { RT_MODE_FUSED, true, false, false, RT_RECOMPUTE_BLOCK, 0, 0, 3 },
    { RT_MODE_FUSED, true, true, true, RT_RECOMPUTE_OFFLOAD, 0, 1, 4 },
};

static int all_documents(void *ctx, rt_position *at, const rt_document **docs, int64_t *n, rt_err *e)
{
    (void)at, (void)e;
    *docs = ((bench *)ctx)->doc;
    *n = DOCS;
    return 0;
}

static void train_steps(rt_trainer *t, bench *b, int64_t waits, int n)
{
    const rt_feed feed = { b, all_documents };
    rt_stepped out;
    for (int i = 0; i < n; i++) {
        int64_t before = rt_dev_get(b->dev).waits;
        if (rt_trainer_step(t, &feed, &out, &err) || rt_dev_get(b->dev).waits != before + waits)
            ck_abort_msg("%s; %lld waits a step", err.text,
                         (long long)(rt_dev_get(b->dev).waits - before));
    }
}

START_TEST(modes_are_what_is_planned)
{
    const struct mode_case *c = &MODES[_i];
    static bench b;
    static rt_trainer t;
    rt_config cfg = config("llama");
    cfg.width = 32, cfg.ffn_width = 48, cfg.tied = c->tied;
    memset(&b, 0, sizeof b);
    memset(&t, 0, sizeof t);
    OK(rt_dev_open(&b.dev, NULL, 2, &err));
    rt_placing how = rt_memory_placing(c->mode, c->lean);
    rt_model_plan_learned(&b.model, b.dev, &cfg, &how, LENGTH);
    rt_trainer_settings set = { .shape = { .rows = DOCS * LENGTH,
                                           .documents = 8,
                                           .head_rows = 17,
                                           .temperature = 1 },
                                .loss = { .last = { .ce = 1, .temperature = 1 } },
                                .vocab = VOCAB,
                                .longest = LENGTH,
                                .recompute = c->recompute,
                                .batch_tokens = DOCS * LENGTH,
                                .steps = 10,
                                .schedule = "constant",
                                .learning_rate = 1e-3,
                                .clip = c->clip,
                                .mode = c->mode,
                                .optimizer = PLAIN };
    set.optimizer.coded = c->lean, set.optimizer.muon = c->muon, set.optimizer.mean = c->mean;
    rt_trainer_plan(&t, b.dev, &b.model, &set);
    int64_t want = rt_dev_workspace(b.dev) + rt_dev_stage(b.dev) + rt_arenas_bytes(&b.model.arenas) +
                   rt_arenas_bytes(&t.step.arenas) + rt_arenas_bytes(&t.optimizer.arenas);
    calls = bytes = 0;
    counting = true;
    int bad = rt_model_place(&b.model, &err);
    counting = false;
    bad = bad || rt_params_init(&b.model.w.params, b.dev, &cfg, 1, &err);
    counting = true;
    bad = bad || rt_trainer_place(&t, &err) || rt_dev_ready(b.dev, &err);
    counting = false;
    ck_assert_msg(!bad, "%s", err.text);
    if (COUNTED) /* the rope table is made on the host first */
        ck_assert_int_eq(bytes, want + rt_tensor_bytes(&b.model.rope));
    make_documents(&b);
    train_steps(&t, &b, c->waits, 1); /* what is made once is made here */
    calls = 0;
    counting = true;
    train_steps(&t, &b, c->waits, 3);
    counting = false;
    ck_assert_int_eq(calls, 0);
    rt_trainer_free(&t);
    rt_model_free(b.dev, &b.model);
    rt_dev_close(b.dev);
}
END_TEST

/* ---- generation: everything but the targets of running sequences is placed before it begins ----
 */

typedef struct asked {
    int64_t left, done, passes;
    int32_t prompt[7];
} asked;

static int next_prompt(void *ctx, rt_request *r, rt_err *e)
{
    asked *a = ctx;
    (void)e;
    if (a->left == 0)
        return 0;
    *r = (rt_request){ .id = --a->left, .prompt = a->prompt, .n_prompt = 7, .max_new = 20 };
    return 1;
}

static int count_done(void *ctx, const rt_completion *c, rt_err *e)
{
    (void)c, (void)e;
    ((asked *)ctx)->done++;
    return 0;
}

static void count_pass(void *ctx, int64_t tokens)
{
    (void)tokens;
    ((asked *)ctx)->passes++;
}

START_TEST(generation_allocates_its_plan)
{
    bench b = { 0 };
    rt_config cfg = config(_i % 2 ? "deepseek_v3" : "llama");
    rt_generator *g = NULL;
    rt_needs p = { 0 };
    rt_generate_options o = {
        .slots = 3, .length = 30, .prefill_rows = 11, .vocab = VOCAB, .sampling = { 1, 1, 0, 0 }
    };
    if (_i / 2)
        o.capture = (rt_soft_config){ .head_max = 4, .tail_spacing = 0.125f };
    asked a = { .prompt = { 1, 2, 3, 4, 5, 6, 7 } };
    rt_generate_io io = {
        .ctx = &a, .next = next_prompt, .done = count_done, .tick = count_pass
    };
    ck_assert_int_eq(rt_dev_open(&b.dev, NULL, 2, &err), 0);
    rt_model_plan_config(&b.model, b.dev, &cfg, NULL, false, o.length);
    g = rt_generator_open(b.dev, &b.model, &o);
    rt_generator_needs(g, &p);
    int64_t want = rt_needs_sum(&p, RT_NEEDS_MEMORY) + rt_dev_workspace(b.dev);
    ck_assert_int_eq(rt_model_place(&b.model, &err), 0);
    ck_assert_int_eq(rt_params_init(&b.model.w.params, b.dev, &cfg, 1, &err), 0);
    calls = bytes = 0;
    counting = true;
    int bad = rt_generator_run(g, &io, &err); /* nothing asked: it only places */
    counting = false;
    ck_assert_int_eq(bad, 0);
    if (COUNTED)
        ck_assert_int_eq(bytes, want);
    a.left = 4;
    ck_assert_int_eq(rt_generator_run(g, &io, &err), 0); /* what is made once is made here */
    a.left = 4;
    a.passes = 0;
    int64_t waits = rt_dev_get(b.dev).waits;
    calls = bytes = 0;
    counting = true;
    bad = rt_generator_run(g, &io, &err);
    counting = false;
    /* one wait a token batch; a pass that only reads a prompt has none */
    ck_assert_int_gt(rt_dev_get(b.dev).waits - waits, 20);
    ck_assert_int_le(rt_dev_get(b.dev).waits - waits, a.passes);
    ck_assert_int_eq(bad, 0);
    ck_assert_int_eq(a.done, 8);
    ck_assert_int_le(bytes, rt_needs_sum(&p, RT_NEEDS_GROWS));
    if (!o.capture.head_max)
        ck_assert_int_eq(calls, 0);
    rt_needs_free(&p);
    rt_generator_close(g);
    rt_model_free(b.dev, &b.model);
    rt_dev_close(b.dev);
}
END_TEST

/* ---- sample and score: what a whole run places is the sum that --plan prints -------------------
 */

extern const rt_command rt_command_sample, rt_command_score;

static int64_t row_of(const rt_needs *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->row[i].name, name))
            return p->row[i].bytes;
    ck_abort_msg("no row %s", name);
}

static bool was_grown(int64_t size)
{
    for (int i = 0; i < n_grown; i++)
        if (grown[i] == size)
            return true;
    return false;
}

START_TEST(command_places_its_plan)
{
    char *argv[] = { "--teacher",
                     RT_SOURCE_DIR "/examples/reasoning/teacher",
                     _i ? "--data" : "--prompts",
                     "text.jsonl",
                     "--out",
                     "a.traces",
                     "--threads",
                     "2",
                     _i ? "--head-rows" : "--max-tokens",
                     "12" };
    const rt_command *cmd = _i ? &rt_command_score : &rt_command_sample;
    void *values = calloc(1, cmd->struct_bytes);
    rt_needs p = { 0 };
    bool help = false;
    FILE *f = fopen("text.jsonl", "w");
    for (int i = 0; i < 20; i++)
        fprintf(f, "{\"id\": \"p%d\", \"prompt\": \"What is %d + 7?\", \"response\": \"%d\"}\n", i,
                i, i + 7);
    fclose(f);
    ck_assert_int_eq(rt_options_parse(cmd, values, NULL, RT_COUNT(argv), argv, &help, &err), 0);
    ck_assert_int_eq(cmd->plan(values, &p, &err), 0);
    int64_t read = row_of(&p, "texts.list") + row_of(&p, "texts.tokens");
    placed = n_grown = 0;
    counting = true;
    int bad = cmd->run(values, &err);
    counting = false;
    ck_assert_msg(!bad, "%s", err.text);
    if (COUNTED) { /* reading weights borrows one tensor of the two it needs from the device */
        ck_assert_int_eq(placed, rt_needs_sum(&p, RT_NEEDS_MEMORY) - read +
                                     row_of(&p, "two tensors, while reading") / 2);
        ck_assert(was_grown(row_of(&p, "texts.list")));
        ck_assert(was_grown(row_of(&p, "texts.tokens")));
    }
    ck_assert_int_eq(p.units, 20);
    rt_needs_free(&p);
    rt_options_free(cmd, values);
    free(values);
}
END_TEST

/* ---- init: what a look at activations places ---------------------------------------------------
 */

extern const rt_command rt_command_init;

static void run_init(char **argv, int n, rt_needs *p)
{
    const rt_command *cmd = &rt_command_init;
    void *values = calloc(1, cmd->struct_bytes);
    bool help = false;
    ck_assert_int_eq(rt_options_parse(cmd, values, NULL, n, argv, &help, &err), 0);
    if (p)
        ck_assert_int_eq(cmd->plan(values, p, &err), 0);
    placed = 0;
    counting = true;
    int bad = cmd->run(values, &err);
    counting = false;
    ck_assert_msg(!bad, "%s", err.text);
    rt_options_free(cmd, values);
    free(values);
}

START_TEST(pruning_places_its_plan)
{
    char *teacher = RT_SOURCE_DIR "/examples/reasoning/teacher";
    char *start[] = { "--tokenizer", teacher, "--shape", "3m", "--width", "48", "--out", "s" };
    char *less[] = { "--from", "s",     "--data", "text.jsonl", "--width", "40",
                     "--out",  "small", "--threads", "2" };
    rt_needs p = { 0 };
    FILE *f = fopen("text.jsonl", "w");
    for (int i = 0; i < 20; i++)
        fprintf(f, "{\"text\": \"What is %d + 7? %d\"}\n", i, i + 7);
    fclose(f);
    run_init(start, RT_COUNT(start), NULL);
    run_init(less, RT_COUNT(less), &p);
    if (COUNTED)
        ck_assert_int_eq(placed, rt_needs_sum(&p, RT_NEEDS_MEMORY) +
                                     row_of(&p, "two tensors, while reading") / 2);
    rt_needs_free(&p);
}
END_TEST

/* ---- waits: the commands' own passes, seen by wrapping what runs them --------------------------
 */

int __real_rt_scorer_pass(rt_scorer *s, int64_t *texts, rt_err *e);
int __wrap_rt_scorer_pass(rt_scorer *s, int64_t *texts, rt_err *e);
int __real_rt_measure_run(rt_measure *ms, const rt_corpus *c, int64_t limit, const char *label,
                          rt_measured *out, rt_err *e);
int __wrap_rt_measure_run(rt_measure *ms, const rt_corpus *c, int64_t limit, const char *label,
                          rt_measured *out, rt_err *e);

static int64_t n_passes, n_waits;

int __wrap_rt_scorer_pass(rt_scorer *s, int64_t *texts, rt_err *e)
{
    int64_t before = rt_dev_get(s->teacher.dev).waits;
    int bad = __real_rt_scorer_pass(s, texts, e);
    n_waits += rt_dev_get(s->teacher.dev).waits - before;
    n_passes += *texts > 0;
    return bad;
}

/* Passes of one document each, as the lengths below make them. */
int __wrap_rt_measure_run(rt_measure *ms, const rt_corpus *c, int64_t limit, const char *label,
                          rt_measured *out, rt_err *e)
{
    int64_t before = rt_dev_get(ms->d).waits;
    int bad = __real_rt_measure_run(ms, c, limit, label, out, e);
    n_waits += rt_dev_get(ms->d).waits - before;
    n_passes += rt_corpus_count(c);
    return bad;
}

extern const rt_command rt_command_eval;

START_TEST(scored_pass_waits_once)
{
    char *teacher = RT_SOURCE_DIR "/examples/reasoning/teacher";
    char *score[] = { "--teacher",     teacher,    "--data",      "text.jsonl",
                      "--out",         "a.traces", "--threads",   "2",
                      "--pass-tokens", "60",       "--head-rows", "7" };
    char *eval[] = { "--model",   teacher, "--archive",     "text.jsonl", "--reference", teacher,
                     "--threads", "2",     "--pass-tokens", "2",          "--head-rows", "7" };
    const rt_command *cmd = _i ? &rt_command_eval : &rt_command_score;
    void *values = calloc(1, cmd->struct_bytes);
    bool help = false;
    FILE *f = fopen("text.jsonl", "w");
    for (int i = 10; i < 30; i++)
        fprintf(f, "{\"prompt\": \"What is %d + 7?\", \"response\": \"%d\"}\n", i, i + 7);
    fclose(f);
    n_passes = n_waits = 0;
    OK(rt_options_parse(cmd, values, NULL, RT_COUNT(score), _i ? eval : score, &help, &err));
    OK(cmd->run(values, &err));
    ck_assert_int_ge(n_passes, 5);
    ck_assert_int_eq(n_waits, n_passes);
    rt_options_free(cmd, values);
    free(values);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { plan_is_what_is_allocated, 9 },
                                 { modes_are_what_is_planned, RT_COUNT(MODES) },
                                 { generation_allocates_its_plan, 4 },
                                 { pruning_places_its_plan, 1 },
                                 { command_places_its_plan, 2 },
                                 { scored_pass_waits_once, 2 } };
    return suite_run("memory", NULL, tests, RT_COUNT(tests));
}
