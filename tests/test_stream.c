/* test_stream.c: a model whose weights are read as they are needed gives the bits of the one that
   is resident: for every form of a checkpoint, with two buffers for experts and with one for each,
   rows in one batch and layer by layer in several, whole sequences and through the cache; each
   weight is read once a pass, and experts without rows are not. A visitor that takes every weight
   away again gives the gradients of resident weights. */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/network/mapping.h"
#include "core/network/stream.h"
#include "core/network/weights.h"
#include "corpora/archive/npz.h"
#include "distill/step.h"
#include "teacher/residual.h"
#include "tests/suite.h"

static const char *const MODELS[] = {
    "deepseek_r1",
    "deepseek_q",
    "deepseek_yarn",
    "gpt_oss_mxfp4",
    "gpt_oss_full",
    "gpt_oss_clamped",
    "llama_tied",
    "llama_scaled",
    "qwen3",
    "kimi_k2",
    "glm4_moe",
    "qwen2_moe_gate",
    "olmoe_biases",
    "mixtral_two",
    "qwen3_moe_step",
    "gguf_mixtral",
    "gguf_olmoe",
    "gguf_qwen2moe",
    "gguf_glm45",
    "gguf_r1",
    "gguf_v2_lite",
    "gguf_gpt_oss",
    "gguf_qwen3moe",
    "../stored/deepseek", /* fp8 under e8m0 scales */
};
enum { TOKENS_MAX = 200, BATCHES = 3, PAGES = (TOKENS_MAX + RT_KV_PAGE - 1) / RT_KV_PAGE };

static rt_err err;

static const char *golden(const char *model, const char *file)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    if (rt_path_is_dir(model)) /* made here */
        snprintf(path[turn], sizeof path[turn], "%s/%s", model, file);
    else
        snprintf(path[turn], sizeof path[turn], "%s/tests/golden/models/%s/%s", RT_SOURCE_DIR,
                 model, file);
    return path[turn];
}

typedef struct bench {
    rt_dev *dev;
    rt_model model;
    rt_stream *stream;
    rt_acts acts;
    rt_arenas arenas;
    int32_t token[TOKENS_MAX], pos[TOKENS_MAX], offset[2], page[PAGES], index[TOKENS_MAX];
    int64_t n;
    bool few;    /* buffers than experts of a layer */
    float *kept; /* (n,C) of a flight */
} bench;

/* Those of the model, or some where it has none. */
static void read_tokens(bench *b, const char *name)
{
    rt_map map;
    rt_npy npy;
    rt_config cfg;
    if (!rt_path_exists(golden(name, "tokens.npy"))) {
        OK(rt_model_config(&cfg, golden(name, ""), &err));
        b->n = rt_min(rt_config_longest(&cfg, TOKENS_MAX), 60);
        for (int i = 0; i < b->n; i++)
            b->token[i] = (int32_t)(i * 37 % cfg.vocab);
        return;
    }
    OK(rt_map_open(&map, golden(name, "tokens.npy"), &err) ||
       rt_npy_parse(&npy, map.data, map.bytes, "tokens.npy", &err));
    b->n = rt_min(npy.dim[0], TOKENS_MAX);
    memcpy(b->token, npy.data, (size_t)b->n * 4);
    rt_map_close(&map);
}

/* slots 0: resident. hold: bytes for layers that stay. */
static void open_bench(bench *b, const char *name, int64_t slots, int64_t hold, rt_plan_mode mode,
                       int threads)
{
    rt_config cfg;
    memset(b, 0, sizeof *b);
    read_tokens(b, name);
    OK(rt_dev_open(&b->dev, NULL, threads, &err) || rt_model_config(&cfg, golden(name, ""), &err));
    if (slots)
        rt_model_plan_streamed(&b->model, b->dev, &cfg, golden(name, ""), TOKENS_MAX);
    else
        rt_model_plan_config(&b->model, b->dev, &cfg, golden(name, ""), true, TOKENS_MAX);
    if (slots) {
        b->stream = rt_stream_plan(&b->model, b->dev);
        rt_stream_slots(b->stream, slots);
        rt_stream_hold(b->stream, hold);
        b->few = slots < cfg.experts && rt_stream_held(b->stream) < 1;
    }
    OK(rt_model_read(&b->model, b->dev, golden(name, ""), &err));
    if (slots)
        OK(rt_stream_open(b->stream, &err));
    rt_pass_shape shape = { .mode = mode,
                            .rows = b->n,
                            .segments = 1,
                            .longest = TOKENS_MAX,
                            .head_rows = b->n,
                            .pages = PAGES };
    rt_acts_plan(&b->acts, &b->arenas, b->dev, &b->model, &shape);
    OK(rt_arenas_place(&b->arenas, b->dev, &err) || rt_dev_ready(b->dev, &err));
    for (int i = 0; i < TOKENS_MAX; i++)
        b->index[i] = b->pos[i] = i;
    for (int i = 0; i < PAGES; i++)
        b->page[i] = i;
}

static void close_bench(bench *b)
{
    rt_acts_free(&b->acts);
    rt_stream_close(b->stream);
    rt_model_free(b->dev, &b->model);
    rt_dev_close(b->dev);
    free(b->kept);
}

static void lay_rows(bench *b, int64_t first, int64_t n)
{
    b->offset[1] = (int32_t)n;
    rt_acts_rows(&b->acts, n, 1, b->token + first, b->pos + first, b->offset, b->page);
}

static void take_logits(bench *b, float *out, int64_t n)
{
    rt_model_logits(b->dev, &b->model, &b->acts, b->index, n);
    rt_download(b->dev, out, b->acts.logits.data, n * b->model.cfg.vocab * 4);
    OK(rt_sync(b->dev, &err));
}

/* A pass, and that it waited no more than it must: for tokens and rows of the embedding, for the
   routes of a layer and when it is left, and where experts are read over others. */
static void run_pass(bench *b, int64_t n)
{
    const rt_config *c = &b->model.cfg;
    int64_t most = b->stream ? 2 + n / 64 + c->layers : 0, waits = rt_dev_get(b->dev).waits;
    for (int64_t l = 0; b->stream && l < c->layers; l++)
        if (rt_config_routed(c, l))
            most += b->few ? rt_max(1, rt_min(c->experts, n * c->active)) : 1;
    OK(rt_model_pass(b->dev, &b->model, &b->acts, &err));
    waits = rt_dev_get(b->dev).waits - waits;
    ck_assert_msg(waits <= most, "%lld waits in a pass of %lld layers, %lld at most",
                  (long long)waits, (long long)c->layers, (long long)most);
}

/* Logits (n,V) of all rows; decoding in steps of 7, else in one pass. */
static float *logits_of(bench *b)
{
    int64_t step = b->acts.shape.mode == RT_PLAN_DECODE ? 7 : b->n;
    float *out = malloc((size_t)(b->n * b->model.cfg.vocab) * sizeof *out);
    for (int64_t at = 0; at < b->n; at += step) {
        int64_t n = rt_min(step, b->n - at);
        lay_rows(b, at, n);
        run_pass(b, n);
        take_logits(b, out + at * b->model.cfg.vocab, n);
    }
    return out;
}

static void same_bits(const bench *b, const float *got, const float *want, const char *what)
{
    for (int64_t i = 0; i < b->n * b->model.cfg.vocab; i++)
        ck_assert_msg(!memcmp(got + i, want + i, sizeof *got),
                      "%s: logit %lld: %.9g, resident %.9g", what, (long long)i, (double)got[i],
                      (double)want[i]);
}

static int64_t matrices(const rt_model *m, bool layers)
{
    int64_t sum = 0;
    for (int i = 0; i < m->w.params.n; i++)
        if (m->mapping->piece[i] && (m->w.params.item[i].layer >= 0) == layers)
            sum += rt_store_pieces(&m->w.params.item[i]);
    return sum;
}

/* No matrix of a layer is in memory but where it was read to. */
static void check_streamed(const rt_model *m)
{
    for (int i = 0; i < m->w.params.n; i++) {
        const rt_param *p = &m->w.params.item[i];
        if (p->flags & RT_PARAM_PRODUCT)
            ck_assert_msg(m->mapping->piece[i] && !p->slot->panels, "%s is held", p->name);
    }
}

/* Layers that stay are read once, however many passes there are. */
static void check_counts(bench *b, int64_t passes)
{
    const rt_stream_sizes *z = rt_stream_size(b->stream);
    rt_stream_counts c = rt_stream_count(b->stream);
    double held = rt_stream_held(b->stream), each = (double)(z->layers + z->experts);
    double most = each * held + (double)passes * each * (1 - held);
    int64_t rows = b->n * b->model.cfg.width * 4; /* of the embedding, at most */
    ck_assert_int_eq(c.layers, passes * b->model.cfg.layers);
    ck_assert(matrices(&b->model, true) > 0);
    ck_assert(c.bytes >= c.weights);
    ck_assert_msg((double)c.weights <= most + (double)rows + 1,
                  "%lld bytes read in %lld passes, %.0f at most", (long long)c.weights,
                  (long long)passes, most + (double)rows);
    if (c.unread == 0)
        ck_assert((double)c.weights >= most - 1);
}

static void check_model(const char *name)
{
    for (int mode = RT_PLAN_SCORE; mode <= RT_PLAN_DECODE; mode++) {
        bench b;
        open_bench(&b, name, 0, 0, (rt_plan_mode)mode, 2);
        float *want = logits_of(&b);
        close_bench(&b);
        for (int k = 0; k < 4; k++) {
            open_bench(&b, name, k % 2 ? 1024 : 2,
                       k < 2   ? 0
                       : k < 3 ? 60000
                               : INT64_MAX / 2,
                       (rt_plan_mode)mode, 2);
            float *got = logits_of(&b);
            same_bits(&b, got, want, name);
            check_streamed(&b.model);
            check_counts(&b, mode == RT_PLAN_DECODE ? rt_ceil_div(b.n, 7) : 1);
            free(got);
            close_bench(&b);
        }
        free(want);
    }
}

START_TEST(same_as_resident) { check_model(MODELS[_i]); }
END_TEST

// --------------------------------------------------------------------------------- forward and
// backward

/* A visitor for weights that live elsewhere: what is not entered, or not given out, is NaN. */
typedef struct elsewhere {
    bench *b;
    rt_visit visit;
    float **home; /* of each weight */
    int32_t offset[512];
    int64_t next, of;
} elsewhere;

static void put_weight(elsewhere *x, int i, int64_t first, int64_t n, bool poison)
{
    const rt_param *p = &x->b->model.w.params.item[i];
    int64_t each = rt_tensor_elements(p->slot) / rt_max(p->experts, 1);
    float *from = malloc((size_t)(each * n) * sizeof *from);
    for (int64_t k = 0; k < each * n; k++)
        from[k] = poison ? NAN : x->home[i][first * each + k];
    rt_upload(x->b->dev, rt_f32(p->slot) + first * each, from, each * n * 4);
    OK(rt_sync(x->b->dev, &err));
    free(from);
}

static void put_layer(elsewhere *x, int64_t layer, bool experts, int64_t first, int64_t n,
                      bool poison)
{
    for (int i = 0; i < x->b->model.w.params.n; i++) {
        const rt_param *p = &x->b->model.w.params.item[i];
        bool stack = p->experts && (p->flags & RT_PARAM_PRODUCT);
        if (p->layer == layer && stack == experts)
            put_weight(x, i, experts ? first : 0, experts ? n : rt_max(p->experts, 1), poison);
    }
}

static int enter_elsewhere(void *ctx, int64_t layer, rt_err *e)
{
    (void)e;
    put_layer(ctx, layer, false, 0, 0, false);
    return 0;
}

static int leave_elsewhere(void *ctx, int64_t layer, rt_err *e)
{
    elsewhere *x = ctx;
    (void)e;
    put_layer(x, layer, false, 0, 0, true);
    if (x->of)
        put_layer(x, layer, true, 0, x->of, true);
    return 0;
}

static int route_elsewhere(void *ctx, int64_t layer, rt_err *e)
{
    elsewhere *x = ctx;
    (void)layer;
    (void)e;
    x->of = x->b->model.cfg.experts;
    x->next = 0;
    return 0;
}

static int experts_elsewhere(void *ctx, int64_t layer, int64_t *first, int64_t *end, rt_err *e)
{
    elsewhere *x = ctx;
    (void)e;
    put_layer(x, layer, true, 0, x->of, true);
    if (x->next == x->of)
        return 0;
    *first = x->next;
    *end = x->next = rt_min(x->next + 3, x->of);
    put_layer(x, layer, true, *first, *end - *first, false);
    return 1;
}

static void send_away(elsewhere *x, bench *b)
{
    memset(x, 0, sizeof *x);
    x->b = b;
    x->visit = (rt_visit){ .ctx = x,
                           .offset = x->offset,
                           .enter = enter_elsewhere,
                           .route = route_elsewhere,
                           .experts = experts_elsewhere,
                           .leave = leave_elsewhere };
    x->home = calloc((size_t)b->model.w.params.n, sizeof *x->home);
    for (int i = 0; i < b->model.w.params.n; i++) {
        const rt_param *p = &b->model.w.params.item[i];
        int64_t bytes = rt_tensor_bytes(p->slot);
        if (p->layer < 0)
            continue;
        x->home[i] = malloc((size_t)bytes);
        rt_download(b->dev, x->home[i], p->slot->data, bytes);
        OK(rt_sync(b->dev, &err));
        put_weight(x, i, 0, rt_max(p->experts, 1), true);
    }
    b->model.visit = &x->visit;
}

/* All gradients of one step, one after the other; the loss first. */
static float *gradients_of(const char *name, bool away, rt_recompute recompute, int64_t *n)
{
    bench b = { .n = 0 };
    rt_step step;
    elsewhere x = { .b = NULL };
    read_tokens(&b, name);
    OK(rt_dev_open(&b.dev, NULL, 2, &err) ||
       rt_model_open(&b.model, b.dev, golden(name, ""), false, TOKENS_MAX, &err));
    rt_batch_shape shape = {
        .rows = b.n, .documents = 1, .head_rows = 37, .temperature = 1, .waiting = b.n
    };
    const rt_loss_spec spec = { .ce = 1, .temperature = 1 };
    rt_step_plan(&step, b.dev, &b.model, NULL, &shape, &spec, b.model.cfg.vocab, b.n, recompute, NULL);
    OK(rt_step_place(&step, &err) || rt_dev_ready(b.dev, &err));
    if (away)
        send_away(&x, &b);
    rt_trace_span span = { 1, (int32_t)b.n };
    rt_document doc = { .token = b.token, .n = b.n, .span = &span, .n_spans = 1 };
    OK(rt_step_run(&step, &doc, 1, &err) || rt_sync(b.dev, &err));
    float *out = malloc((size_t)(step.grads.params.total + 1) * sizeof *out);
    out[0] = (float)rt_step_totals(&step)->sum[RT_LOSS_TOTAL];
    *n = 1;
    for (int i = 0; i < step.grads.params.n; i++) {
        const rt_tensor *t = step.grads.params.item[i].slot;
        rt_download(b.dev, out + *n, t->data, rt_tensor_bytes(t));
        *n += rt_tensor_elements(t);
    }
    OK(rt_sync(b.dev, &err));
    for (int i = 0; away && i < b.model.w.params.n; i++)
        free(x.home[i]);
    free(x.home);
    rt_step_free(&step);
    rt_model_free(b.dev, &b.model);
    rt_dev_close(b.dev);
    return out;
}

static const char *const TRAINED[] = { "llama_tied", "deepseek_q", "qwen2_moe_gate",
                                       "gpt_oss_clamped", "glm4_moe" };

START_TEST(backward_visited)
{
    int64_t n, m;
    for (int recompute = 0; recompute <= RT_RECOMPUTE_OFFLOAD; recompute++) {
        float *want = gradients_of(TRAINED[_i], false, RT_RECOMPUTE_NONE, &n);
        float *got = gradients_of(TRAINED[_i], true, (rt_recompute)recompute, &m);
        ck_assert_int_eq(n, m);
        for (int64_t i = 0; i < n; i++)
            ck_assert_msg(!memcmp(got + i, want + i, sizeof *got),
                          "%s: number %lld: %.9g, resident %.9g", TRAINED[_i], (long long)i,
                          (double)got[i], (double)want[i]);
        free(want);
        free(got);
    }
}
END_TEST

// --------------------------------------------------------------------------------- several batches

static int64_t batch_of(const bench *b, int64_t i, int64_t *n)
{
    int64_t first = b->n * i / BATCHES;
    *n = b->n * (i + 1) / BATCHES - first;
    return first;
}

static int load_batch(void *ctx, int64_t layer, int64_t batch, rt_err *e)
{
    bench *b = ctx;
    int64_t n, first = batch_of(b, batch, &n), width = b->model.cfg.width;
    (void)e;
    b->offset[1] = (int32_t)n;
    rt_acts_rows(&b->acts, n, 1, b->token + first, b->pos, b->offset, b->page);
    if (layer)
        rt_upload(b->dev, b->acts.stream[0].data, b->kept + first * width, n * width * 4);
    return 0;
}

static int keep_batch(void *ctx, int64_t layer, int64_t batch, rt_err *e)
{
    bench *b = ctx;
    int64_t n, first = batch_of(b, batch, &n), width = b->model.cfg.width;
    (void)layer;
    OK(rt_sync(b->dev, e)); /* what load_batch sent has been read */
    rt_download(b->dev, b->kept + first * width, b->acts.stream[0].data, n * width * 4);
    return rt_sync(b->dev, e);
}

static float *fly(bench *b)
{
    const rt_config *c = &b->model.cfg;
    rt_flight f = { b, BATCHES, 0, load_batch, keep_batch, NULL };
    float *out = malloc((size_t)(b->n * c->vocab) * sizeof *out);
    b->kept = malloc((size_t)(b->n * c->width) * sizeof *out);
    OK(rt_model_fly(b->dev, &b->model, &b->acts, &f, &err));
    for (int64_t i = 0; i < BATCHES; i++) {
        int64_t n, first = batch_of(b, i, &n);
        OK(load_batch(b, c->layers, i, &err));
        rt_model_final(b->dev, &b->model, &b->acts);
        take_logits(b, out + first * c->vocab, n);
    }
    return out;
}

/* Each batch alone, through a resident model. */
static float *alone(bench *b)
{
    const rt_config *c = &b->model.cfg;
    float *out = malloc((size_t)(b->n * c->vocab) * sizeof *out);
    for (int64_t i = 0; i < BATCHES; i++) {
        int64_t n, first = batch_of(b, i, &n);
        OK(load_batch(b, 0, i, &err) || rt_model_pass(b->dev, &b->model, &b->acts, &err));
        take_logits(b, out + first * c->vocab, n);
    }
    return out;
}

START_TEST(layer_by_layer)
{
    const char *name = MODELS[_i];
    bench b;
    open_bench(&b, name, 0, 0, RT_PLAN_SCORE, 2);
    float *want = alone(&b);
    close_bench(&b);
    for (int64_t slots = 0; slots <= 1024; slots += 512) {
        open_bench(&b, name, slots ? rt_max(2, slots - 510) : 0, 0, RT_PLAN_SCORE, 3);
        float *got = fly(&b);
        same_bits(&b, got, want, name);
        if (slots == 1024) { /* a buffer for each: no weight is read for a second batch */
            rt_stream_counts c = rt_stream_count(b.stream);
            const rt_stream_sizes *z = rt_stream_size(b.stream);
            ck_assert_int_le(c.weights, z->layers + z->experts + b.n * b.model.cfg.width * 4);
            if (c.unread == 0)
                ck_assert_int_ge(c.weights, z->layers + z->experts);
        }
        free(got);
        close_bench(&b);
    }
    free(want);
}
END_TEST

/* One row of a routed model: what it is not routed to is not read. */
START_TEST(unrouted)
{
    bench b;
    open_bench(&b, "deepseek_r1", 2, 0, RT_PLAN_SCORE, 1);
    const rt_config *c = &b.model.cfg;
    const rt_stream_sizes *z = rt_stream_size(b.stream);
    lay_rows(&b, 0, 1);
    OK(rt_model_pass(b.dev, &b.model, &b.acts, &err));
    rt_stream_counts n = rt_stream_count(b.stream);
    int64_t routed = 0;
    for (int64_t l = 0; l < c->layers; l++)
        routed += rt_config_routed(c, l);
    ck_assert_int_eq(n.experts, routed * c->active);
    ck_assert_int_eq(n.unread, routed * (c->experts - c->active));
    ck_assert_int_eq(n.weights, z->layers + z->experts / c->experts * c->active +
                                    b.model.mapping->piece[0][0].row_bytes); /* the token's */
    close_bench(&b);
}
END_TEST

/* A file cut short after it was opened ends the pass with its name. */
START_TEST(cut_short)
{
    bench b;
    const char *folder = "copy";
    char command[1024];
    snprintf(command, sizeof command, "cp -rL %s copy", golden("deepseek_q", ""));
    ck_assert_int_eq(system(command), 0);
    rt_config cfg;
    memset(&b, 0, sizeof b);
    read_tokens(&b, "deepseek_q");
    OK(rt_dev_open(&b.dev, NULL, 1, &err) || rt_model_config(&cfg, folder, &err));
    rt_model_plan_streamed(&b.model, b.dev, &cfg, folder, TOKENS_MAX);
    b.stream = rt_stream_plan(&b.model, b.dev);
    OK(rt_model_read(&b.model, b.dev, folder, &err) || rt_stream_open(b.stream, &err));
    rt_pass_shape shape = { .rows = b.n, .segments = 1, .longest = TOKENS_MAX, .head_rows = b.n };
    rt_acts_plan(&b.acts, &b.arenas, b.dev, &b.model, &shape);
    OK(rt_arenas_place(&b.arenas, b.dev, &err) || rt_dev_ready(b.dev, &err));
    for (int i = 0; i < TOKENS_MAX; i++)
        b.pos[i] = i;
    ck_assert_int_eq(truncate("copy/model.safetensors", 40000), 0);
    lay_rows(&b, 0, b.n);
    ck_assert_int_eq(rt_model_pass(b.dev, &b.model, &b.acts, &err), -1);
    ck_assert_msg(strstr(err.text, "model.safetensors") && strstr(err.text, "shorter"), "%s",
                  err.text);
    close_bench(&b);
}
END_TEST

// --------------------------------------------------------------------------------- four bits

/* A checkpoint as compressed-tensors packs it: random codes and scales for the matrices of layers.
 */
static bool is_packed(const rt_param *p)
{
    return p->layer >= 0 && (p->flags & RT_PARAM_PRODUCT) && !strstr(p->name, "mlp.gate.weight");
}

static void each_tensor(rt_safetensors_writer *w, const rt_param *p, int64_t e, bool push)
{
    char name[160], part[180];
    bool stack = p->experts != 0;
    const int64_t *dim = p->slot->dim + stack;
    int64_t n = rt_tensor_elements(p->slot) / rt_max(p->experts, 1);
    snprintf(name, sizeof name, "%s", p->name);
    if (stack)
        rt_param_expert_name(p, e, name, sizeof name);
    uint32_t *data = calloc((size_t)n + 64, 4);
    for (int64_t i = 0; i < n; i++)
        data[i] = (uint32_t)((i + 7 * e) * 2654435761u);
    if (is_packed(p)) {
        const int64_t two = 2, packed[2] = { dim[0], rt_ceil_div(dim[1], 8) },
                      scales[2] = { dim[0], rt_ceil_div(dim[1], 32) };
        const int32_t shape[2] = { (int32_t)dim[0], (int32_t)dim[1] };
        uint16_t *scale = calloc((size_t)(scales[0] * scales[1]), 2);
        for (int64_t i = 0; i < scales[0] * scales[1]; i++)
            scale[i] = rt_f32_to_bf16(0.004f + 0.0001f * (float)(i % 50));
        const struct {
            const char *suffix;
            rt_dtype dtype;
            int rank;
            const int64_t *dim;
            const void *data;
        } parts[] = { { "_packed", RT_I32, 2, packed, data },
                      { "_scale", RT_BF16, 2, scales, scale },
                      { "_shape", RT_I32, 1, &two, shape } };
        for (int k = 0; k < 3; k++) {
            int64_t elements = parts[k].dim[0] * (parts[k].rank == 2 ? parts[k].dim[1] : 1);
            snprintf(part, sizeof part, "%s%s", name, parts[k].suffix);
            if (push)
                OK(rt_safetensors_writer_push(w, parts[k].data,
                                              rt_dtype_bytes(parts[k].dtype, elements), &err));
            else
                rt_safetensors_writer_add(w, part, parts[k].dtype, parts[k].rank, parts[k].dim);
        }
        free(scale);
    } else {
        float *x = (float *)(void *)data;
        for (int64_t i = 0; i < n; i++)
            x[i] = p->init == RT_INIT_ONES ? 1.0f
                                           : 0.02f * (float)((int)(data[i] >> 20) - 2048) / 1024;
        if (push)
            OK(rt_safetensors_writer_push(w, x, n * 4, &err));
        else
            rt_safetensors_writer_add(w, name, RT_F32, p->slot->rank - stack, dim);
    }
    free(data);
}

static void make_int4(void)
{
    rt_config cfg;
    rt_model m;
    rt_safetensors_writer w;
    char command[2048];
    OK(rt_config_load(&cfg, golden("kimi_k2", ""), &err));
    rt_model_init(&m, &cfg);
    OK(rt_dir_make("int4", &err));
    rt_safetensors_writer_init(&w, "int4", 0);
    for (int pass = 0; pass < 2; pass++) {
        if (pass)
            OK(rt_safetensors_writer_begin(&w, &err));
        for (int i = 0; i < m.w.params.n; i++)
            for (int64_t e = 0; e < rt_max(m.w.params.item[i].experts, 1); e++)
                each_tensor(&w, &m.w.params.item[i], e, pass);
    }
    OK(rt_safetensors_writer_commit(&w, &err));
    rt_weights_free(NULL, &m.w);
    snprintf(command, sizeof command,
             "sed '1s/{/{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", "
             "\"format\": \"pack-quantized\", \"config_groups\": {\"group_0\": {\"targets\": "
             "[\"Linear\"], \"weights\": {\"num_bits\": 4, \"type\": \"int\", \"symmetric\": "
             "true, \"dynamic\": false, \"actorder\": null, \"strategy\": \"group\", "
             "\"group_size\": 32}}}},/' %s >int4/config.json",
             golden("kimi_k2", "config.json"));
    ck_assert_int_eq(system(command), 0);
}

START_TEST(four_bits)
{
    make_int4();
    check_model("int4");
}
END_TEST

// --------------------------------------------------------------------------------- between layers

static void fill_rows(float *x, int64_t n, float from)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = from + (float)i;
}

/* A pass that is killed goes on at the last layer that was whole, with its numbers. */
START_TEST(residual)
{
    enum { ROWS = 7, WIDTH = 5, ALL = ROWS * WIDTH, ROW_BYTES = WIDTH * sizeof(float) };
    rt_residual r;
    rt_hash key = rt_hash_bytes("a", 1), other = rt_hash_bytes("b", 1);
    float x[ALL], y[ALL];
    ck_assert_int_eq(rt_residual_rows("p"), 0);
    OK(rt_residual_open(&r, "p", &key, ROWS, ROW_BYTES, &err));
    ck_assert_int_eq(r.layer, 0);
    for (int64_t layer = 1; layer <= 3; layer++) {
        fill_rows(x, ALL, (float)(100 * layer));
        OK(rt_residual_put(&r, layer, 0, 4, x, &err) ||
           rt_residual_put(&r, layer, 4, 3, x + 4 * WIDTH, &err));
        if (layer < 3)
            OK(rt_residual_commit(&r, layer, &err));
    }
    rt_residual_close(&r, false); /* killed before layer 3 was whole */
    ck_assert_int_eq(rt_residual_rows("p"), ROWS);
    OK(rt_residual_open(&r, "p", &key, ROWS, ROW_BYTES, &err));
    ck_assert_int_eq(r.layer, 2);
    fill_rows(x, ALL, 200);
    OK(rt_residual_get(&r, 2, 0, ROWS, y, &err));
    ck_assert(!memcmp(x, y, sizeof x));
    OK(rt_residual_get(&r, 2, 5, 2, y, &err));
    ck_assert(!memcmp(x + 5 * WIDTH, y, 2 * WIDTH * sizeof *y));
    rt_residual_close(&r, false);
    int fd = open("p", O_RDWR); /* layer 2's head is torn: layer 1's rows are layer 3's by now */
    ck_assert(fd >= 0 && pwrite(fd, "?", 1, 12) == 1 && close(fd) == 0);
    OK(rt_residual_open(&r, "p", &key, ROWS, ROW_BYTES, &err));
    ck_assert_int_eq(r.layer, 0);
    fill_rows(x, ALL, 1);
    OK(rt_residual_put(&r, 1, 0, ROWS, x, &err) || rt_residual_commit(&r, 1, &err));
    rt_residual_close(&r, false);
    OK(rt_residual_open(&r, "p", &other, ROWS, ROW_BYTES, &err)); /* other rows: begun anew */
    ck_assert_int_eq(r.layer, 0);
    rt_residual_close(&r, true);
    ck_assert_int_eq(access("p", F_OK), -1);
    ck_assert_int_eq(rt_residual_open(&r, "no/p", &key, ROWS, ROW_BYTES, &err), -1);
    rt_residual_close(&r, false);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { same_as_resident, RT_COUNT(MODELS) },
                                 { layer_by_layer, RT_COUNT(MODELS) },
                                 { backward_visited, RT_COUNT(TRAINED) },
                                 { unrouted, 1 },
                                 { four_bits, 1 },
                                 { residual, 1 },
                                 { cut_short, 1 } };
    return suite_run("stream", NULL, tests, RT_COUNT(tests));
}
