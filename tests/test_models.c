/* test_models.c: the network against Hugging Face transformers (tests/golden/models): logits,
   chosen experts and gradients of every golden model; decoding through the cache against whole
   sequences; and that a sequence's logits, tokens and soft targets have the same bits whatever runs
   beside it, for any chunk of its prompt and any number of threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/rng.h"
#include "core/formats/safetensors.h"
#include "core/network/generate.h"
#include "core/network/weights.h"
#include "corpora/archive/npz.h"
#include "distill/step.h"
#include "tests/device.h"
#include "tests/suite.h"

static const char *const MODELS[] = {
    "llama_scaled",     "llama_tied",      "qwen3",
    "qwen3_tied",       "qwen3_moe_norm",  "qwen3_moe_step",
    "deepseek_q",       "deepseek_yarn",   "qwen2_window",
    "qwen2_tied",       "qwen2_yarn",      "mistral_window",
    "mistral_plain",    "mistral_long",    "mixtral_two",
    "mixtral_window",   "mixtral_one",     "qwen2_moe_gate",
    "qwen2_moe_mean",   "qwen2_moe_step",  "olmoe",
    "olmoe_two",        "olmoe_biases",    "deepseek_lite",
    "deepseek_limited", "deepseek_greedy", "glm4_moe",
    "glm4_moe_bias",    "glm4_moe_twelve", "deepseek_r1",
    "kimi_k2",          "kimi_k2_plain",   "kimi_k2_three",
    "llama_linear",     "qwen3_window",    "qwen3_moe_stretch",
    "gpt_oss_clamped",  "gpt_oss_full",    "gpt_oss_mxfp4",
};
/* The same from GGUF files (golden/make_gguf_models.py), one of them in three parts. */
static const char *const GGUFS[] = { "gguf_mixtral",  "gguf_olmoe",  "gguf_qwen2moe",
                                     "gguf_qwen3moe", "gguf_glm45",  "gguf_v2_lite",
                                     "gguf_r1",       "gguf_gpt_oss" };
static const char *const WITH_GRADIENTS[] = { "llama_tied",     "qwen3",          "qwen3_moe_step",
                                              "deepseek_q",     "qwen2_window",   "mistral_window",
                                              "qwen2_moe_gate", "olmoe",          "deepseek_lite",
                                              "glm4_moe",       "gpt_oss_clamped" };
enum { TOKENS_MAX = 200, PAGES = (TOKENS_MAX + RT_KV_PAGE - 1) / RT_KV_PAGE };

static rt_err err;

// --------------------------------------------------------------------------------- golden files

static const char *golden(const char *model, const char *file)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/tests/golden/models/%s/%s", RT_SOURCE_DIR, model,
             file);
    return path[turn];
}

/* All elements of an .npy of 4-byte items; free() it. */
static void *load_npy(const char *model, const char *file, int64_t *n)
{
    rt_map map;
    rt_npy npy;
    OK(rt_map_open(&map, golden(model, file), &err) ||
       rt_npy_parse(&npy, map.data, map.bytes, file, &err));
    ck_assert_int_eq(npy.item, 4);
    void *copy = malloc((size_t)npy.bytes);
    memcpy(copy, npy.data, (size_t)npy.bytes);
    *n = npy.bytes / 4;
    rt_map_close(&map);
    return copy;
}

typedef struct bench {
    rt_dev *dev;
    rt_model model;
    int32_t *token; /* (n) */
    int64_t n, vocab;
} bench;

static void open_bench(bench *b, const char *name, int threads, bool frozen)
{
    memset(b, 0, sizeof *b);
    OK(rt_dev_open(&b->dev, NULL, threads, &err));
    OK(rt_model_open(&b->model, b->dev, golden(name, ""), frozen, TOKENS_MAX + 64, &err));
    b->token = load_npy(name, "tokens.npy", &b->n);
    b->vocab = b->model.cfg.vocab;
}

static void close_bench(bench *b)
{
    free(b->token);
    rt_model_free(b->dev, &b->model);
    rt_dev_close(b->dev);
}

// --------------------------------------------------------------------------------- passes

typedef struct batch {
    int32_t token[512], pos[512], offset[17], page[16][PAGES];
    int64_t n, s;
} batch;

/* The pages of a slot are scattered: i-th pages of all slots lie side by side, last ones first. */
static void add_segment(batch *p, const int32_t *token, int64_t first, int64_t n, int slot)
{
    for (int64_t i = 0; i < n; i++) {
        p->token[p->n] = token[first + i];
        p->pos[p->n++] = (int32_t)(first + i);
    }
    for (int i = 0; i < PAGES; i++)
        p->page[p->s][i] = 3 * (PAGES - 1 - i) + slot;
    p->offset[++p->s] = (int32_t)p->n;
}

static void open_acts(bench *b, rt_acts *a, rt_plan_mode mode, int64_t rows)
{
    rt_pass_shape shape = { .mode = mode,
                            .rows = rows,
                            .segments = 16,
                            .longest = TOKENS_MAX,
                            .head_rows = rows,
                            .pages = 3 * PAGES,
                            .choices = true };
    rt_arenas arenas = { 0 };
    rt_acts_plan(a, &arenas, b->dev, &b->model, &shape);
    OK(rt_arenas_place(&arenas, b->dev, &err) || rt_dev_ready(b->dev, &err));
}

/* Logits (n,V) of rows [first, first + n) of the pass. */
static void run_pass(bench *b, rt_acts *a, const batch *p, int64_t first, int64_t n, float *logits)
{
    int32_t index[512];
    for (int64_t i = 0; i < n; i++)
        index[i] = (int32_t)(first + i);
    rt_acts_rows(a, p->n, p->s, p->token, p->pos, p->offset, p->page[0]);
    rt_model_forward(b->dev, &b->model, a);
    rt_model_logits(b->dev, &b->model, a, index, n);
    get_bytes(b->dev, logits, a->logits.data, n * b->vocab * 4);
}

static float *whole_logits(bench *b)
{
    rt_acts a;
    batch p = { 0 };
    float *logits = malloc((size_t)(b->n * b->vocab) * sizeof *logits);
    open_acts(b, &a, RT_PLAN_SCORE, b->n);
    add_segment(&p, b->token, 0, b->n, 0);
    run_pass(b, &a, &p, 0, b->n, logits);
    rt_acts_free(&a);
    return logits;
}

/* Largest difference, relative to the largest of want. */
static double difference(const float *got, const float *want, int64_t n)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        worst = d > worst || isnan(d) ? d : worst;
        size = fmax(size, fabs((double)want[i]));
    }
    return isnan(worst) || worst == 0 ? worst : worst / size; /* an unused expert's gradient is 0 */
}

// --------------------------------------------------------------------------------- transformers

static int ascending(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

static void check_choices(bench *b, rt_acts *a, const char *name)
{
    const rt_config *c = &b->model.cfg;
    int64_t n, row = c->active, at = 0;
    int32_t *want = load_npy(name, "experts.npy", &n);
    int32_t *all = malloc((size_t)rt_tensor_bytes(&a->choice));
    get_bytes(b->dev, all, a->choice.data, rt_tensor_bytes(&a->choice));
    for (int64_t l = 0; l < c->layers; l++) {
        if (!rt_config_routed(c, l))
            continue;
        for (int64_t i = 0; i < b->n; i++, at += row) {
            int32_t *got = all + (l * b->n + i) * row;
            qsort(got, (size_t)row, sizeof *got, ascending);
            ck_assert_msg(!memcmp(got, want + at, (size_t)row * 4), "%s: layer %d, position %d",
                          name, (int)l, (int)i);
        }
    }
    ck_assert_int_eq(at, n);
    free(all);
    free(want);
}

/* At the last position and every eighth before it, or all. */
static void check_logits(const char *name)
{
    bench b;
    rt_acts a;
    batch p = { 0 };
    int64_t n;
    open_bench(&b, name, 2, true);
    float *got = malloc((size_t)(b.n * b.vocab) * sizeof *got);
    float *want = load_npy(name, "logits.npy", &n);
    int64_t kept = n / b.vocab, step = kept == b.n ? 1 : 8; /* the last one and each 8th before */
    ck_assert_int_eq(kept, (b.n - 1) / step + 1);
    open_acts(&b, &a, RT_PLAN_SCORE, b.n);
    add_segment(&p, b.token, 0, b.n, 0);
    run_pass(&b, &a, &p, 0, b.n, got);
    for (int64_t i = 0; i < kept; i++)
        memmove(got + i * b.vocab, got + ((b.n - 1) % step + i * step) * b.vocab,
                (size_t)b.vocab * sizeof *got);
    double d = difference(got, want, n);
    ck_assert_msg(d < 1e-5, "%s: logits differ by %.3g", name, d);
    if (b.model.cfg.family->routed)
        check_choices(&b, &a, name);
    free(got);
    free(want);
    rt_acts_free(&a);
    close_bench(&b);
}

START_TEST(logits) { check_logits(MODELS[_i]); }
END_TEST

START_TEST(gguf_logits) { check_logits(GGUFS[_i]); }
END_TEST

/* The teacher that comes with the example and a student trained from it: every fourth position is
   stored. */
static const char *const TRAINED[][2] = {
    { "../example", RT_SOURCE_DIR "/examples/reasoning/teacher" },
    { "../student", RT_SOURCE_DIR "/tests/golden/student" },
};

START_TEST(trained)
{
    const char *name = TRAINED[_i][0];
    bench b = { .vocab = 0 };
    rt_acts a;
    batch p = { 0 };
    int64_t n;
    OK(rt_dev_open(&b.dev, NULL, 2, &err) ||
       rt_model_open(&b.model, b.dev, TRAINED[_i][1], true, 256, &err));
    b.token = load_npy(name, "tokens.npy", &b.n);
    b.vocab = b.model.cfg.vocab;
    float *got = malloc((size_t)(b.n * b.vocab) * sizeof *got);
    float *want = load_npy(name, "logits.npy", &n);
    ck_assert_int_eq(n, b.n / 4 * b.vocab);
    open_acts(&b, &a, RT_PLAN_SCORE, b.n);
    add_segment(&p, b.token, 0, b.n, 0);
    run_pass(&b, &a, &p, 0, b.n, got);
    for (int64_t i = 0; i < b.n / 4; i++)
        memmove(got + i * b.vocab, got + 4 * i * b.vocab, (size_t)b.vocab * sizeof *got);
    double d = difference(got, want, n);
    ck_assert_msg(d < 1e-5, "%s: logits differ by %.3g", name, d);
    if (b.model.cfg.family->routed)
        check_choices(&b, &a, name);
    free(got);
    free(want);
    rt_acts_free(&a);
    close_bench(&b);
}
END_TEST

/* On the device. */
static const float *gradient_of(const rt_weights *g, const char *name)
{
    for (int i = 0; i < g->params.n; i++) {
        const rt_param *p = &g->params.item[i];
        char one[160];
        if (!strcmp(p->name, name))
            return rt_f32(p->slot);
        for (int64_t e = 0; e < p->experts; e++) {
            rt_param_expert_name(p, e, one, sizeof one);
            if (!strcmp(one, name))
                return rt_f32(p->slot) + e * (rt_tensor_elements(p->slot) / p->experts);
        }
    }
    return NULL;
}

/* One document, all tokens after the first learned: the loss that autograd differentiated. */
START_TEST(gradients)
{
    const char *name = WITH_GRADIENTS[_i];
    bench b;
    rt_step step;
    rt_safetensors st;
    open_bench(&b, name, 2, false);
    rt_batch_shape shape = {
        .rows = b.n, .documents = 1, .head_rows = 37, .temperature = 1, .waiting = b.n
    };
    const rt_loss_spec spec = { .ce = 1, .temperature = 1 };
    rt_step_plan(&step, b.dev, &b.model, NULL, &shape, &spec, b.vocab, b.n, false, NULL);
    OK(rt_step_place(&step, &err) || rt_dev_ready(b.dev, &err));
    rt_trace_span span = { 1, (int32_t)b.n };
    rt_document doc = { .token = b.token, .n = b.n, .span = &span, .n_spans = 1 };
    OK(rt_step_run(&step, &doc, 1, &err) || rt_sync(b.dev, &err));
    const rt_totals *totals = rt_step_totals(&step);
    OK(rt_safetensors_open(&st, golden(name, "gradients.safetensors"), &err));
    for (int64_t i = 0; i < st.n_tensors; i++) {
        const rt_st_tensor *t = &st.tensor[i];
        float *want = malloc((size_t)t->elements * sizeof *want);
        OK(rt_safetensors_read_f32(want, t, 0, t->elements, &err));
        bool is_loss = !strcmp(t->name, "loss");
        const float *there = is_loss ? NULL : gradient_of(&step.grads, t->name);
        float *got = malloc((size_t)t->elements * sizeof *got);
        ck_assert_msg(is_loss || there != NULL, "%s: no weight %s", name, t->name);
        if (is_loss)
            got[0] = (float)(totals->sum[RT_LOSS_TOTAL] / (double)totals->rows);
        else
            get_bytes(b.dev, got, there, t->elements * 4);
        double d = difference(got, want, t->elements);
        ck_assert_msg(d < (is_loss ? 1e-6 : 1e-4), "%s: %s differs by %.3g", name, t->name, d);
        free(want);
        free(got);
    }
    rt_safetensors_close(&st);
    rt_step_free(&step);
    close_bench(&b);
}
END_TEST

// --------------------------------------------------------------------------------- cache and batch

/* The sequence through the cache in chunks of every kind, beside two others. */
START_TEST(decoding)
{
    static const int64_t chunk[] = { 1, 7, 2, 40, 1, 1, 13 };
    bench b;
    rt_acts a;
    open_bench(&b, MODELS[_i], 2, true);
    bool mla = b.model.cfg.family->attn == RT_ATTN_MLA;
    float *whole = whole_logits(&b), *part = malloc((size_t)(b.n * b.vocab) * sizeof *part);
    open_acts(&b, &a, RT_PLAN_DECODE, 128);
    for (int64_t at = 0, k = 0; at < b.n; k++) {
        int64_t n = rt_min(chunk[k % RT_COUNT(chunk)], b.n - at);
        batch p = { 0 };
        add_segment(&p, b.token, k, 1, 0);
        add_segment(&p, b.token, at, n, 2);
        if (k % 2)
            add_segment(&p, b.token, k / 2, 1, 1);
        run_pass(&b, &a, &p, 1, n, part + at * b.vocab);
        at += n;
    }
    double d = difference(part, whole, b.n * b.vocab);
    ck_assert_msg(d < 1e-5, "%s: cached logits differ by %.3g", MODELS[_i], d);
    ck_assert_msg(mla || !memcmp(part, whole, (size_t)(b.n * b.vocab) * 4),
                  "%s: cached logits have other bits", MODELS[_i]);
    free(whole);
    free(part);
    rt_acts_free(&a);
    close_bench(&b);
}
END_TEST

/* A batch of fewer rows changes dimensions alone, as a captured graph of operations needs it. */
START_TEST(pointers_stay)
{
    static const int64_t rows[] = { 64, 1, 40, 64 };
    bench b;
    rt_acts a;
    open_bench(&b, WITH_GRADIENTS[_i], 1, false);
    for (int mode = RT_PLAN_SCORE; mode <= RT_PLAN_TRAIN; mode++) {
        open_acts(&b, &a, (rt_plan_mode)mode, rows[0]);
        int64_t n = a.batched.n, high = a.arena.high, used = a.arena.used;
        void **data = calloc((size_t)n, sizeof *data);
        for (int64_t i = 0; i < n; i++)
            data[i] = a.batched.item[i].t->data;
        ck_assert_int_gt(n, 10 * b.model.cfg.layers);
        for (int k = 0; k < RT_COUNT(rows); k++) {
            batch p = { 0 };
            add_segment(&p, b.token, 0, rows[k], 0);
            rt_acts_rows(&a, p.n, p.s, p.token, p.pos, p.offset, p.page[0]);
            for (int64_t i = 0; i < n; i++) {
                const rt_batched *one = &a.batched.item[i];
                ck_assert(data[i] && one->t->data == data[i]);
                ck_assert_int_eq(one->t->dim[0], one->each * rows[k]);
            }
            ck_assert(a.batched.n == n && a.arena.high == high && a.arena.used == used);
            OK(rt_sync(b.dev, &err)); /* before p goes */
        }
        free(data);
        rt_acts_free(&a);
    }
    close_bench(&b);
}
END_TEST

/* A sequence alone, and third among others, with 1, 2 and 3 threads. */
START_TEST(scoring_bits)
{
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        bench b;
        rt_acts a;
        batch p = { 0 };
        open_bench(&b, MODELS[_i], threads, true);
        int64_t bytes = b.n * b.vocab * 4;
        float *alone = whole_logits(&b), *among = malloc((size_t)bytes);
        open_acts(&b, &a, RT_PLAN_SCORE, 400);
        add_segment(&p, b.token + 3, 0, 11, 0);
        add_segment(&p, b.token + 31, 0, 29, 0);
        add_segment(&p, b.token, 0, b.n, 0);
        add_segment(&p, b.token + 7, 0, 50, 0);
        run_pass(&b, &a, &p, 40, b.n, among);
        ck_assert_msg(!memcmp(alone, among, (size_t)bytes), "%s: other bits among others",
                      MODELS[_i]);
        if (first)
            ck_assert_msg(!memcmp(first, alone, (size_t)bytes), "%s: other bits with %d threads",
                          MODELS[_i], threads);
        else
            first = alone;
        if (first != alone)
            free(alone);
        free(among);
        rt_acts_free(&a);
        close_bench(&b);
    }
    free(first);
}
END_TEST

// --------------------------------------------------------------------------------- generation

enum { REQUESTS = 7 };

typedef struct generated {
    const bench *b;
    int order[REQUESTS]; /* in which they are asked for */
    int asked, n;        /* n: how many of them */
    int32_t token[REQUESTS][TOKENS_MAX];
    int64_t length[REQUESTS];
    rt_soft soft[REQUESTS];
} generated;

static int next_request(void *ctx, rt_request *r, rt_err *e)
{
    generated *g = ctx;
    (void)e;
    if (g->asked == g->n)
        return 0;
    int i = g->order[g->asked++];
    *r = (rt_request){ .id = i,
                       .prompt = g->b->token + 3 * i,
                       .n_prompt = 1 + 5 * i,
                       .max_new = 9 + 4 * (i % 4),
                       .seed = 100 + (uint64_t)i };
    return 1;
}

static int take(void *ctx, const rt_completion *c, rt_err *e)
{
    generated *g = ctx;
    g->length[c->id] = c->n_prompt + c->n_new;
    memcpy(g->token[c->id], c->token, (size_t)g->length[c->id] * 4);
    ck_assert_int_eq(c->soft->n, c->n_new);
    ck_assert((c->finish == RT_FINISH_STOP) ==
              rt_config_is_eos(&g->b->model.cfg, c->token[g->length[c->id] - 1]));
    rt_soft_append(&g->soft[c->id], c->soft, 0, c->soft->n, 1);
    (void)e;
    return 0;
}

static const rt_soft_config CAPTURE = { .head_max = 5,
                                        .head_floor = 1e-3f,
                                        .tail_spacing = 0.125f,
                                        .n_temperatures = 1,
                                        .temperature = { 2 } };

static void generate(bench *b, generated *g, int slots, int prefill, int n, bool backwards)
{
    rt_generate_options o = { .slots = slots,
                              .length = 64,
                              .prefill_rows = prefill,
                              .vocab = b->vocab,
                              .sampling = { 0.9f, 0.95f, 40, 0.01f },
                              .capture = CAPTURE };
    rt_generate_io io = { .ctx = g, .next = next_request, .done = take };
    rt_generator *gen = NULL;
    memset(g, 0, sizeof *g);
    g->b = b;
    g->n = n;
    for (int i = 0; i < n; i++)
        g->order[i] = backwards ? n - 1 - i : i;
    gen = rt_generator_open(b->dev, &b->model, &o);
    OK(rt_generator_run(gen, &io, &err));
    rt_generator_close(gen);
}

static void free_generated(generated *g)
{
    for (int i = 0; i < REQUESTS; i++)
        rt_soft_free(&g->soft[i]);
}

#define SAME(field, count)                                                                         \
    ck_assert_msg(!memcmp(a->field, b->field, (size_t)(count) * sizeof *a->field),                 \
                  "%s: " #field " has other bits", what)

static void same_soft(const rt_soft *a, const rt_soft *b, const char *what)
{
    ck_assert_msg(a->n == b->n && a->n_items == b->n_items, "%s: other rows", what);
    SAME(offset, a->n + 1);
    SAME(head_n, a->n);
    SAME(id, a->n_items);
    SAME(logp, a->n_items);
    SAME(hits, a->n_items);
    SAME(tail_logmass, a->n);
    SAME(entropy, a->n);
    SAME(taken_logp, a->n);
    SAME(logz, a->n);
}

START_TEST(generation_bits)
{
    static const struct {
        int threads, slots, prefill, n;
        bool backwards;
    } ways[] = { { 1, 1, 64, REQUESTS, false },
                 { 2, 3, 5, REQUESTS, false },
                 { 3, 7, 1, REQUESTS, true },
                 { 2, 2, 64, 2, true } };
    generated first, other;
    for (int k = 0; k < RT_COUNT(ways); k++) {
        bench b;
        generated *g = k ? &other : &first;
        open_bench(&b, MODELS[_i], ways[k].threads, true);
        generate(&b, g, ways[k].slots, ways[k].prefill, ways[k].n, ways[k].backwards);
        for (int i = 0; k && i < ways[k].n; i++) {
            char what[64];
            snprintf(what, sizeof what, "%s, way %d, request %d", MODELS[_i], k, i);
            ck_assert_msg(first.length[i] == other.length[i] &&
                              !memcmp(first.token[i], other.token[i], (size_t)first.length[i] * 4),
                          "%s: other tokens", what);
            same_soft(&first.soft[i], &other.soft[i], what);
        }
        if (k)
            free_generated(&other);
        close_bench(&b);
    }
    free_generated(&first);
}
END_TEST

/* What was captured while generating is what scoring the finished text captures: to the bit where
   the cache holds keys and values, to rounding where it holds the latent. */
START_TEST(generated_and_scored)
{
    bench b;
    generated g;
    rt_acts a;
    rt_arenas arenas = { 0 };
    rt_capture_buffers cap;
    open_bench(&b, MODELS[_i], 2, true);
    bool mla = b.model.cfg.family->attn == RT_ATTN_MLA;
    generate(&b, &g, 4, 16, REQUESTS, false);
    open_acts(&b, &a, RT_PLAN_SCORE, 64);
    rt_capture_plan(&cap, &arenas, &CAPTURE, 64, 64);
    OK(rt_arenas_place(&arenas, b.dev, &err));
    for (int i = 0; i < REQUESTS; i++) {
        batch p = { 0 };
        rt_soft soft;
        float *unused = malloc((size_t)(64 * b.vocab) * 4);
        int64_t prompt = 1 + 5 * i, n = g.length[i] - prompt;
        add_segment(&p, g.token[i], 0, g.length[i], 0);
        run_pass(&b, &a, &p, prompt - 1, n, unused);
        for (int64_t t = 0; t < n; t++) {
            cap.host_token[t] = g.token[i][prompt + t];
            rt_capture_set_seed(&cap, t, 100 + (uint64_t)i, prompt + t);
        }
        rt_capture_upload(b.dev, &cap, n, true);
        rt_capture_run(b.dev, &cap, &a.logits, n, b.vocab);
        OK(rt_sync(b.dev, &err));
        rt_soft_init(&soft);
        for (int64_t t = 0; t < n; t++)
            rt_capture_append(&cap, t, &soft);
        rt_capture_clear(&cap);
        if (mla)
            ck_assert(difference(g.soft[i].taken_logp, soft.taken_logp, n) < 1e-4 &&
                      difference(g.soft[i].entropy, soft.entropy, n) < 1e-4);
        else
            same_soft(&g.soft[i], &soft, MODELS[_i]);
        rt_soft_free(&soft);
        free(unused);
    }
    rt_arenas_free(&arenas, b.dev);
    rt_acts_free(&a);
    free_generated(&g);
    close_bench(&b);
}
END_TEST

/* A description that was written says what the one that was read says. */
START_TEST(written_configs)
{
    rt_config read, again;
    OK(rt_config_load(&read, golden(MODELS[_i], ""), &err));
    cJSON *json = rt_config_json(&read, "float32");
    OK(rt_config_parse(&again, json, "written", &err));
    cJSON_Delete(json);
    again.window_first = read.window_first;
    again.quantization = read.quantization; /* of the weights, which are written as they are */
    ck_assert_msg(!memcmp(&read, &again, sizeof read), "%s: another description", MODELS[_i]);
}
END_TEST

/* A checkpoint that says its head is tied and holds one: a head equal to the embedding is the
   embedding, another one is used (as transformers 5 does). */
START_TEST(own_heads)
{
    rt_dev *d;
    rt_safetensors st;
    rt_safetensors_writer w;
    char *data;
    int64_t bytes, head_dim[2];
    OK(rt_file_read(&data, &bytes, golden("llama_tied", "config.json"), 1 << 20, &err));
    OK(rt_dir_make("own", &err));
    OK(rt_file_write("own/config.json", data, bytes, &err));
    free(data);
    OK(rt_dev_open(&d, NULL, 1, &err));
    for (int own = 0; own < 2; own++) {
        rt_model m;
        float first = 0;
        OK(rt_safetensors_open(&st, golden("llama_tied", ""), &err));
        const rt_st_tensor *embed = rt_safetensors_find(&st, "model.embed_tokens.weight");
        memcpy(head_dim, embed->dim, sizeof head_dim);
        rt_safetensors_writer_init(&w, "own", 0);
        for (int64_t i = 0; i < st.n_tensors; i++)
            rt_safetensors_writer_add(&w, st.tensor[i].name, st.tensor[i].dtype, st.tensor[i].rank,
                                      st.tensor[i].dim);
        rt_safetensors_writer_add(&w, "lm_head.weight", RT_F32, 2, head_dim);
        OK(rt_safetensors_writer_begin(&w, &err));
        for (int64_t i = 0; i < st.n_tensors; i++)
            OK(rt_safetensors_writer_push(&w, st.tensor[i].data, st.tensor[i].bytes, &err));
        float *head = malloc((size_t)embed->elements * 4);
        OK(rt_safetensors_read_f32(head, embed, 0, embed->elements, &err));
        head[embed->elements - 1] += own ? 1 : 0;
        first = head[0];
        OK(rt_safetensors_writer_push(&w, head, embed->elements * 4, &err));
        OK(rt_safetensors_writer_commit(&w, &err));
        OK(rt_model_open(&m, d, "own", false, 16, &err));
        ck_assert(m.cfg.tied == !own);
        float *got = calloc((size_t)embed->elements, 4);
        if (own)
            get_bytes(d, got, m.w.head.data, embed->elements * 4);
        ck_assert(!own ||
                  (got[0] == first && got[embed->elements - 1] == head[embed->elements - 1]));
        free(got);
        rt_model_free(d, &m);
        rt_safetensors_close(&st);
        free(head);
    }
    rt_dev_close(d);
}
END_TEST

/* Ids that end a text: config.json's first, then those that only generation_config.json names. */
START_TEST(end_tokens)
{
    static const struct {
        const char *config, *generation;
        int n;
        int64_t eos[4];
    } cases[] = { { "1", NULL, 1, { 1 } },
                  { "1", "{\"eos_token_id\": 5}", 2, { 1, 5 } },
                  { "[1, 2]", "{\"eos_token_id\": [5, 2, 1, 7]}", 4, { 1, 2, 5, 7 } },
                  { "null", "{\"eos_token_id\": [5]}", 1, { 5 } },
                  { "3", "{\"temperature\": 0.6}", 1, { 3 } },
                  { "3", "{\"eos_token_id\": [-1, \"7\", 1e300, null]}", 1, { 3 } },
                  { "3", "{\"eos_token_id\": [4,", -1, { 0 } } };
    static const char generation[] = "generation_config.json";
    char text[512];
    for (int i = 0; i < RT_COUNT(cases); i++) {
        rt_config cfg;
        int n = snprintf(
            text, sizeof text,
            "{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 8, "
            "\"num_attention_heads\": 2, \"intermediate_size\": 8, \"vocab_size\": 9, "
            "\"rms_norm_eps\": 1e-6, \"max_position_embeddings\": 16, "
            "\"eos_token_id\": %s}",
            cases[i].config);
        OK(rt_file_write("config.json", text, n, &err));
        unlink(generation);
        if (cases[i].generation)
            OK(rt_file_write(generation, cases[i].generation, (int64_t)strlen(cases[i].generation),
                             &err));
        int bad = rt_config_load(&cfg, ".", &err);
        ck_assert_int_eq(bad, cases[i].n < 0 ? -1 : 0);
        if (bad) {
            ck_assert_ptr_nonnull(strstr(err.text, "generation_config.json"));
            continue;
        }
        ck_assert_int_eq(cfg.n_eos, cases[i].n);
        for (int k = 0; k < cases[i].n; k++)
            ck_assert_int_eq(cfg.eos[k], cases[i].eos[k]);
    }
}
END_TEST

/* Configs that would give other numbers than the model's own code, or none: refused by name. */
START_TEST(refused_configs)
{
    static const struct {
        const char *model, *without, *with, *says;
    } cases[] = {
        { "llama_tied", "", "{\"rope_parameters\": {\"rope_theta\": -5}}", "rope base of -5" },
        { "llama_tied", "", "{\"rope_parameters\": {\"full_attention\": {}}}", "full_attention" },
        { "llama_tied", "", "{\"hidden_size\": 16777216, \"intermediate_size\": 16777216}",
          "describes a model of about" },
        { "qwen3_moe_step", "", "{\"mlp_only_layers\": 3}", "\"mlp_only_layers\" must be a list" },
        { "qwen3_window", "", "{\"layer_types\": 3}", "\"layer_types\" must be a list" },
        { "mistral_window", "sliding_window", "{}", "no \"sliding_window\"" },
        { "mixtral_two", "rope_parameters", "{}", "no \"rope_theta\"" },
        { "deepseek_r1", "n_group", "{}", "no \"n_group\"" },
        { "deepseek_r1", "", "{\"routed_scaling_factor\": 0}", "between 1e-06" },
        { "deepseek_r1", "", "{\"n_routed_experts\": 2048}", "n_routed_experts" },
        { "llama_tied", "", "{\"vocab_size\": 1048577}", "vocab_size" },
    };
    for (int i = 0; i < RT_COUNT(cases); i++) {
        rt_config cfg;
        cJSON *json = NULL, *with = cJSON_Parse(cases[i].with);
        OK(rt_json_load(&json, golden(cases[i].model, "config.json"), &err));
        cJSON_DeleteItemFromObjectCaseSensitive(json, cases[i].without);
        while (with->child) {
            cJSON *item = cJSON_DetachItemViaPointer(with, with->child);
            cJSON_DeleteItemFromObjectCaseSensitive(json, item->string);
            rt_json_put(json, item->string, item);
        }
        OK(rt_json_save(json, "config.json", &err));
        cJSON_Delete(json);
        cJSON_Delete(with);
        FAILS(rt_config_load(&cfg, ".", &err), cases[i].says);
    }
}
END_TEST

int main(void)
{
    const int n = RT_COUNT(MODELS);
    const suite_test tests[] = { { logits, n },          { gguf_logits, RT_COUNT(GGUFS) },
                                 { written_configs, n }, { trained, RT_COUNT(TRAINED) },
                                 { end_tokens, 1 },      { own_heads, 1 },
                                 { refused_configs, 1 }, { gradients, RT_COUNT(WITH_GRADIENTS) },
                                 { decoding, n },        { pointers_stay, RT_COUNT(WITH_GRADIENTS) },
                                 { scoring_bits, n },
                                 { generation_bits, n }, { generated_and_scored, n } };
    return suite_run("models", NULL, tests, RT_COUNT(tests));
}
