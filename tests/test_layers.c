/* test_layers.c: the whole network's gradient against finite differences, for every combination of
   GQA | MLA and dense | routed, weight by weight; and that devices, memory modes, passes and
   threads change no bit of it. The directional derivative of each weight is compared along a random
   direction; the loss is summed in f64. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/network/linear.h"
#include "core/network/weights.h"
#include "distill/step.h"
#include "tests/device.h"
#include "tests/suite.h"

enum { DOCS = 5, VOCAB = 37 };

typedef struct bench {
    rt_dev *dev;
    rt_model model, other; /* the reference of a loss that has one */
    rt_step step;
    rt_document doc[DOCS];
    float old_logp[DOCS][16], advantage[DOCS][16];
    rt_trace_span span[DOCS];
    int32_t token[DOCS][16];
} bench;

static rt_err err;

/* Odd sizes on purpose. */
static rt_config tiny(const char *family, bool tied)
{
    rt_config c = { .layers = 2,
                    .width = 20,
                    .vocab = VOCAB,
                    .heads = 3,
                    .kv_heads = 3,
                    .ffn_width = 22,
                    .groups = 1,
                    .groups_kept = 1,
                    .route_scale = 1,
                    .norm_eps = 1e-5,
                    .init_std = 0.25,
                    .rope_theta = 100,
                    .max_positions = 64,
                    .bos = -1,
                    .pad = -1,
                    .tied = tied };
    c.family = rt_family_find(family);
    if (c.family->attn == RT_ATTN_MLA) {
        c.q_rank = tied ? 0 : 9;
        c.kv_rank = 7;
        c.nope_dim = 5;
        c.rope_dim = 4;
        c.v_dim = 6;
        c.interleaved = true;
    } else {
        c.heads = 4;
        c.kv_heads = 2;
        c.head_dim = 6;
        c.window = 4; /* of layer 0 in the families that have one */
        c.windowed[0] = !strcmp(family, "mistral") || !strcmp(family, "qwen2");
        c.rope_dim = !strcmp(family, "glm4_moe") ? 4 : 0;
        c.qk_norm = true;
        c.attention_bias = c.family->bias == RT_BIAS_QKV_OPTIONAL ||
                           (c.family->bias == RT_BIAS_ALL_OPTIONAL && tied);
    }
    if (c.family->routed) {
        bool deep = c.family->attn == RT_ATTN_MLA || c.family->scoring == RT_ROUTE_SIGMOID;
        c.experts = 6;
        c.active = 2;
        c.expert_width = 11;
        c.norm_topk = !deep || c.family->scoring == RT_ROUTE_SIGMOID;
        c.sparse_step = 1;
        c.shared = deep || c.family->names->shared_gate != NULL;
        if (deep) {
            c.dense_first = 1;
            c.groups = 3;
            c.groups_kept = 2;
            c.route_scale = 1.7;
        }
    }
    return c;
}

static const rt_loss_spec hard = { .ce = 1, .temperature = 1 };

static void open_step(bench *b, int64_t rows, rt_recompute recompute, const rt_loss_spec *spec)
{
    rt_batch_shape shape = {
        .rows = rows, .documents = DOCS, .head_rows = 9, .temperature = 1, .waiting = rows
    };
    rt_step_plan(&b->step, b->dev, &b->model, spec->reference != 0 ? &b->other : NULL, &shape, spec,
                 VOCAB - 2, 16, recompute, NULL);
    OK(rt_step_place(&b->step, &err) || rt_dev_ready(b->dev, &err));
    for (int i = 0; i < DOCS; i++) {
        int n = 5 + 2 * i;
        for (int t = 0; t < n; t++)
            b->token[i][t] = (int32_t)rt_rng_below(3, RT_RNG_DATA, (uint64_t)(i * 64 + t),
                                                   VOCAB - 2);
        b->span[i] = (rt_trace_span){ 1 + i % 3, n };
        b->doc[i] = (rt_document){
            .token = b->token[i], .n = n, .span = &b->span[i], .n_spans = 1
        };
    }
}

/* device NULL: the first of this build */
static void open_bench(bench *b, const rt_config *cfg, const char *device, int threads,
                       int64_t rows, rt_recompute recompute)
{
    memset(b, 0, sizeof *b);
    OK(rt_dev_open(&b->dev, device, threads, &err));
    rt_model_plan_config(&b->model, b->dev, cfg, NULL, false, 64);
    OK(rt_model_place(&b->model, &err));
    OK(rt_params_init(&b->model.w.params, b->dev, cfg, 7, &err));
    open_step(b, rows, recompute, &hard);
}

/* Adapters beside the model at path, neither of their matrices zero. */
static void open_adapted(bench *b, const char *path, int threads, rt_recompute recompute)
{
    const rt_adapter_spec spec = { 3, 5.0, threads > 1, "all" };
    memset(b, 0, sizeof *b);
    OK(rt_dev_open(&b->dev, NULL, threads, &err));
    OK(rt_model_plan_adapted(&b->model, b->dev, path, &spec, 64, &err));
    rt_adapters *a = b->model.w.adapters;
    rt_adapters_plan(a, &b->model.arenas, b->dev, 64 * rt_max(b->model.cfg.active, 1));
    OK(rt_model_read(&b->model, b->dev, path, &err));
    OK(rt_adapters_init(a, b->dev, 5, &err));
    for (int i = 1; i < a->params.n; i += 2) {
        const rt_tensor *up = a->params.item[i].slot;
        float *host = malloc((size_t)rt_tensor_bytes(up));
        for (int64_t k = 0; k < rt_tensor_elements(up); k++)
            host[k] = 0.4f * rt_rng_uniform(9, RT_RNG_DATA, ((uint64_t)i << 32) + (uint64_t)k) - 0.2f;
        rt_upload(b->dev, up->data, host, rt_tensor_bytes(up));
        OK(rt_sync(b->dev, &err));
        free(host);
    }
    open_step(b, 64, recompute, &hard);
}

static void close_bench(bench *b)
{
    rt_step_free(&b->step);
    rt_model_free(b->dev, &b->model);
    if (b->other.d)
        rt_model_free(b->dev, &b->other);
    rt_dev_close(b->dev);
}

/* Mean loss of all documents; the gradient is left in b->step.grads. */
static double loss(bench *b)
{
    OK(rt_step_run(&b->step, b->doc, DOCS, &err) || rt_sync(b->dev, &err));
    const rt_totals *t = rt_step_totals(&b->step);
    return t->sum[RT_LOSS_TOTAL] / (double)t->rows;
}

/* What a tensor of the device holds, to be freed. */
static void *copy_of(const bench *b, const rt_tensor *t)
{
    void *host = malloc((size_t)rt_tensor_bytes(t));
    get_bytes(b->dev, host, t->data, rt_tensor_bytes(t));
    return host;
}

static uint64_t hash_of(const bench *b, const rt_tensor *t, uint64_t h)
{
    void *host = copy_of(b, t);
    h = rt_hash64(host, rt_tensor_bytes(t), h);
    free(host);
    return h;
}

static uint64_t hash_gradients(const bench *b)
{
    uint64_t h = 0;
    for (int i = 0; i < b->step.grads.params.n; i++) {
        h = hash_of(b, b->step.grads.params.item[i].slot, h);
    }
    return h;
}

/* w = start + eps * direction */
static void shift(const bench *b, rt_tensor *w, const float *start, const float *direction,
                  double eps)
{
    int64_t n = rt_tensor_elements(w);
    float *host = malloc((size_t)n * sizeof *host);
    for (int64_t j = 0; j < n; j++)
        host[j] = (float)((double)start[j] + eps * (double)direction[j]);
    rt_upload(b->dev, w->data, host, rt_tensor_bytes(w));
    OK(rt_sync(b->dev, &err));
    free(host);
}

/* Which experts every routed layer chose: a step that changes them steps over a jump of the loss.
 */
static uint64_t hash_choices(const bench *b)
{
    uint64_t h = 0;
    for (int64_t l = 0; l < b->model.cfg.layers; l++) {
        const rt_tensor *idx = &b->step.acts.saved[l].ffn.idx;
        if (rt_config_routed(&b->model.cfg, l))
            h = hash_of(b, idx, h);
    }
    return h;
}

/* Central differences at two step sizes, extrapolated: the error term in eps^2 cancels. Steps begin
   where they move the loss by about 2e-3, far above f32 noise, and shrink until no choice changes.
 */
static double difference(bench *b, rt_tensor *w, const float *start, const float *direction,
                         double slope)
{
    uint64_t choices = hash_choices(b);
    double d[2];
    for (double size = fmin(1e-3, 2e-3 / slope); size > 1e-5; size /= 2) {
        bool moved = false;
        for (int k = 0; k < 2; k++) {
            double eps = k ? size : 2 * size;
            shift(b, w, start, direction, eps);
            double up = loss(b);
            moved = moved || hash_choices(b) != choices;
            shift(b, w, start, direction, -eps);
            double down = loss(b);
            moved = moved || hash_choices(b) != choices;
            d[k] = (up - down) / (2 * eps);
        }
        shift(b, w, start, direction, 0);
        if (!moved)
            return (4 * d[1] - d[0]) / 3;
    }
    return NAN;
}

/* Along the gradient, each element weighted at random: a large derivative, so that f32 noise stays
   far below 1e-3, in which every wrong element shows. */
static void check_weight(bench *b, int i)
{
    const rt_param *p = &b->model.w.params.item[i];
    int64_t count = rt_tensor_elements(p->slot);
    size_t bytes = (size_t)count * sizeof(float);
    float *start = copy_of(b, p->slot), *direction = malloc(bytes);
    loss(b);
    float *g = copy_of(b, b->step.grads.params.item[i].slot);
    double norm = 0, analytic = 0;
    for (int64_t j = 0; j < count; j++)
        norm += (double)g[j] * (double)g[j];
    double rms = sqrt(norm / (double)count);
    for (int64_t j = 0; j < count; j++) {
        float u = 0.5f + rt_rng_uniform(11, RT_RNG_DATA, ((uint64_t)i << 32) + (uint64_t)j);
        direction[j] = (float)((double)(g[j] * u) / rms);
        analytic += (double)g[j] * (double)direction[j];
    }
    double numeric = difference(b, p->slot, start, direction, analytic);
    /* the differences of the narrowest steps carry 1.2e-3 of noise where sums are in another order */
    double tolerance = rt_dev_get(b->dev).cpu_bits ? 1e-3 : 2e-3;
    if (!(rms > 1e-7) || !(fabs(numeric - analytic) <= tolerance * fabs(analytic)))
        ck_abort_msg("%s: %s: difference %.8g, gradient %.8g", b->model.cfg.family->model_type,
                     p->name, numeric, analytic);
    free(g);
    free(start);
    free(direction);
}

static void check_weights(bench *b)
{
    for (int i = 0; i < b->model.w.params.n; i++)
        if (!(b->model.w.params.item[i].flags & RT_PARAM_FIXED))
            check_weight(b, i);
}

static void check_gradient(const rt_config *cfg)
{
    bench b;
    open_bench(&b, cfg, NULL, 1, 64, false);
    check_weights(&b);
    close_bench(&b);
}

/* Tokens drawn when they were about as probable as now, much less and much more, of advantages of both
   signs: within the bounds of the ratio and beyond either. Returns the mean of the policy term. */
static double add_advantages(bench *b, const rt_loss_spec *s)
{
    static const float apart[] = { 0.05f, 0.9f, -0.9f };
    int64_t row = 0;
    double sum = 0, low = 1 - (double)s->clip_low, high = 1 + (double)s->clip_high;
    loss(b);
    for (int i = 0; i < DOCS; i++) {
        for (int64_t t = b->span[i].begin; t < b->span[i].end; t++, row++) {
            float ce = b->step.batch.h_stats[row * RT_LOSS_COLUMNS + RT_LOSS_CE];
            b->old_logp[i][t] = -ce - apart[row % 3];
            b->advantage[i][t] = row % 2 ? 1.3f : -0.4f;
            double u = exp((double)apart[row % 3]), a = (double)b->advantage[i][t];
            sum -= fmin(u * a, fmin(fmax(u, low), high) * a);
        }
        b->doc[i].old_logp = b->old_logp[i];
        b->doc[i].advantage = b->advantage[i];
    }
    return sum / (double)row;
}

/* A student, and a reference with a head of so much more padding whose weights begin at a seed. */
static void open_beside(bench *b, const rt_loss_spec *spec, int64_t padding, uint64_t seed)
{
    rt_config cfg = tiny("qwen3", false), wide = cfg;
    wide.vocab += padding;
    memset(b, 0, sizeof *b);
    OK(rt_dev_open(&b->dev, NULL, 1, &err));
    rt_model_plan_config(&b->model, b->dev, &cfg, NULL, false, 64);
    rt_model_plan_config(&b->other, b->dev, &wide, NULL, false, 64);
    OK(rt_model_place(&b->model, &err) || rt_model_place(&b->other, &err));
    OK(rt_params_init(&b->model.w.params, b->dev, &cfg, 7, &err) ||
       rt_params_init(&b->other.w.params, b->dev, &wide, seed, &err));
    open_step(b, 64, false, spec);
}

/* The rows of the reference are the student's: it is no distance from itself. */
START_TEST(beside_itself)
{
    const rt_loss_spec spec = { .reference = 1, .temperature = 1 };
    bench b;
    open_beside(&b, &spec, 0, 7);
    ck_assert_double_eq_tol(loss(&b), 0, 1e-9);
    close_bench(&b);
    open_beside(&b, &spec, 0, 8);
    ck_assert(loss(&b) > 0.1);
    close_bench(&b);
}
END_TEST

/* Terms of what stands beside the student: another model of the same rows, what documents say of their
   tokens. */
START_TEST(beside)
{
    static const rt_loss_spec cases[] = {
        { .reference = 1, .temperature = 1 },
        { .policy = 1, .clip_low = 0.2f, .clip_high = 0.28f, .temperature = 1 },
        { .ce = 0.2f, .reference = 0.3f, .policy = 0.7f, .clip_low = 0.1f, .clip_high = 0.2f,
          .temperature = 1 },
    };
    bench b;
    open_beside(&b, &cases[_i], 3, 8);
    double policy = cases[_i].policy != 0 ? add_advantages(&b, &cases[_i]) : 0;
    if (cases[_i].policy == 1)
        ck_assert_double_eq_tol(loss(&b), policy, 1e-5);
    check_weights(&b);
    close_bench(&b);
}
END_TEST

START_TEST(gradients)
{
    static const struct {
        const char *family;
        bool tied;
    } cases[] = { { "llama", false },     { "llama", true },        { "qwen3", false },
                  { "qwen3_moe", false }, { "deepseek_v3", false }, { "deepseek_v3", true },
                  { "qwen2", false },     { "mistral", false },     { "qwen2_moe", false },
                  { "olmoe", false },     { "mixtral", false },     { "deepseek_v2", true },
                  { "glm4_moe", false } };
    rt_config cfg = tiny(cases[_i].family, cases[_i].tied);
    check_gradient(&cfg);
}
END_TEST

/* MLA without any routed layer: the corner of the square that no family has by itself. */
START_TEST(mla_dense)
{
    rt_config cfg = tiny("deepseek_v3", false);
    cfg.dense_first = cfg.layers;
    check_gradient(&cfg);
}
END_TEST

START_TEST(same_bits)
{
    static const char *const families[] = { "llama", "qwen3", "qwen3_moe", "deepseek_v3" };
    static const struct {
        int threads;
        rt_recompute recompute;
    } modes[] = { { 1, RT_RECOMPUTE_NONE },    { 2, RT_RECOMPUTE_NONE },
                  { 3, RT_RECOMPUTE_NONE },    { 1, RT_RECOMPUTE_BLOCK },
                  { 2, RT_RECOMPUTE_BLOCK },   { 1, RT_RECOMPUTE_OFFLOAD },
                  { 2, RT_RECOMPUTE_OFFLOAD } };
    rt_config cfg = tiny(families[_i], false);
    uint64_t first[2] = { 0 }; /* of devices with bits of their own, and of those with the CPU's */
    const char *name;
    for (int i = 0; (name = next_device(&i));)
        for (int k = 0; k < RT_COUNT(modes); k++) {
            bench b;
            open_bench(&b, &cfg, name, modes[k].threads, 64, modes[k].recompute);
            loss(&b);
            loss(&b); /* a step leaves nothing to the next */
            uint64_t h = hash_gradients(&b);
            if (b.step.acts.load.data)
                h = hash_of(&b, &b.step.acts.load, h);
            uint64_t *want = &first[rt_dev_get(b.dev).cpu_bits];
            if (*want == 0)
                *want = h;
            else if (h != *want)
                ck_abort_msg("%s on %s: %d threads%s: other bits", families[_i], name,
                             modes[k].threads, modes[k].recompute ? ", recompute" : "");
            close_bench(&b);
        }
}
END_TEST

/* Inputs of layers that went to the host and came back are what they were: of few layers and many,
   pass after pass, and in a second backward pass of the same rows. */
START_TEST(offloaded)
{
    static const int layers[] = { 1, 2, 3, 4, 7 };
    rt_config cfg = tiny("qwen3", true);
    const char *name;
    cfg.layers = layers[_i];
    for (int i = 0; (name = next_device(&i));) {
        uint64_t hash[2];
        for (int off = 0; off < 2; off++) {
            bench b;
            open_bench(&b, &cfg, name, 1, 16, off ? RT_RECOMPUTE_OFFLOAD : RT_RECOMPUTE_BLOCK);
            ck_assert_int_eq(b.step.acts.inputs.arena.high > 0, off);
            loss(&b);
            loss(&b);
            OK(rt_model_backward(b.dev, &b.model, &b.step.grads, &b.step.acts, &err));
            hash[off] = hash_gradients(&b);
            close_bench(&b);
        }
        ck_assert_msg(hash[0] == hash[1], "%s, %d layers: other bits", name, layers[_i]);
    }
}
END_TEST

/* How documents fall into passes moves only the order of f32 sums. */
START_TEST(passes)
{
    rt_config cfg = tiny("deepseek_v3", false);
    bench one, many;
    open_bench(&one, &cfg, NULL, 1, 64, false);
    open_bench(&many, &cfg, NULL, 1, 16, false);
    double a = loss(&one), b = loss(&many);
    ck_assert_double_eq_tol(a, b, 1e-6);
    for (int i = 0; i < one.step.grads.params.n; i++) {
        const rt_tensor *g = one.step.grads.params.item[i].slot,
                        *h = many.step.grads.params.item[i].slot;
        float *x = copy_of(&one, g), *y = copy_of(&many, h);
        double error = 0, size = 0;
        for (int64_t j = 0; j < rt_tensor_elements(g); j++) {
            error += pow((double)(x[j] - y[j]), 2);
            size += pow((double)x[j], 2);
        }
        free(x);
        free(y);
        if (sqrt(error) > 1e-5 * sqrt(size))
            ck_abort_msg("%s: %.3g of %.3g", one.model.w.params.item[i].name, sqrt(error),
                         sqrt(size));
    }
    close_bench(&one);
    close_bench(&many);
}
END_TEST

/* (rows,cols) = s a(rows,n) b(n,cols), each step of ta a column of a. */
static void multiply(double *c, const float *a, bool ta, const float *b, bool tb, int64_t rows,
                     int64_t n, int64_t cols, double s)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double sum = 0;
            for (int64_t k = 0; k < n; k++)
                sum += (double)a[ta ? k * rows + i : i * n + k] *
                       (double)b[tb ? j * n + k : k * cols + j];
            c[i * cols + j] = s * sum;
        }
}

static void compare(const bench *b, const char *name, const float *got, const double *want,
                    int64_t n)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += pow((double)got[i] - want[i], 2);
        size += pow(want[i], 2);
    }
    if (!(size > 1e-16) || sqrt(error) > 2e-5 * sqrt(size))
        ck_abort_msg("%s: %s: %.3g of %.3g", b->model.cfg.family->model_type, name, sqrt(error),
                     sqrt(size));
}

/* The weights of `whole` become w + s up down of the adapters of b, in f64. */
static void merge(bench *whole, const bench *b)
{
    const rt_params *list = &whole->model.w.params;
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &b->model.w.params.item[i];
        if (!(p->flags & RT_PARAM_LINEAR) || !rt_linear_of(p)->adapters)
            continue;
        const rt_linear *l = rt_linear_of(p);
        int64_t r = 3, in = l->down.dim[l->down.rank - 1], out = l->up.dim[l->up.rank - 2];
        float *w = copy_of(whole, list->item[i].slot), *down = copy_of(b, &l->down),
              *up = copy_of(b, &l->up);
        double *add = malloc((size_t)(out * in) * sizeof *add);
        for (int64_t e = 0; e < rt_max(p->experts, 1); e++) {
            multiply(add, up + e * out * r, false, down + e * r * in, false, out, r, in,
                     (double)b->model.w.adapters->scale);
            for (int64_t k = 0; k < out * in; k++)
                w[e * out * in + k] = (float)((double)w[e * out * in + k] + add[k]);
        }
        rt_upload(whole->dev, list->item[i].slot->data, w, rt_tensor_bytes(list->item[i].slot));
        OK(rt_sync(whole->dev, &err));
        free(w), free(down), free(up), free(add);
    }
}

/* d up = s dW downᵀ, d down = s upᵀ dW, where dW is what the whole model's gradient is. */
static void check_adapters(const bench *whole, const bench *b)
{
    int at = 0, layers = 0;
    for (int i = 0; i < whole->model.w.params.n; i++) {
        const rt_param *p = &b->model.w.params.item[i];
        if (!(p->flags & RT_PARAM_LINEAR) || !rt_linear_of(p)->adapters)
            continue;
        const rt_linear *l = rt_linear_of(p);
        const rt_params *learned = rt_weights_learned(&b->step.grads);
        int64_t r = 3, in = l->down.dim[l->down.rank - 1], out = l->up.dim[l->up.rank - 2];
        int64_t matrices = rt_max(p->experts, 1);
        double s = (double)b->model.w.adapters->scale;
        float *dw = copy_of(whole, whole->step.grads.params.item[i].slot),
              *down = copy_of(b, &l->down), *up = copy_of(b, &l->up),
              *ddown = copy_of(b, learned->item[at].slot),
              *dup = copy_of(b, learned->item[at + 1].slot);
        double *want = malloc((size_t)(matrices * r * rt_max(in, out)) * sizeof *want);
        for (int64_t e = 0; e < matrices; e++)
            multiply(want + e * r * in, up + e * out * r, true, dw + e * out * in, false, r, out,
                     in, s);
        compare(b, learned->item[at].name, ddown, want, matrices * r * in);
        for (int64_t e = 0; e < matrices; e++)
            multiply(want + e * out * r, dw + e * out * in, false, down + e * r * in, true, out,
                     in, r, s);
        compare(b, learned->item[at + 1].name, dup, want, matrices * r * out);
        free(dw), free(down), free(up), free(ddown), free(dup), free(want);
        at += 2;
        layers++;
    }
    ck_assert_int_eq(layers, rt_adapters_layers(b->model.w.adapters));
    ck_assert_int_eq(at, rt_weights_learned(&b->step.grads)->n);
    ck_assert(layers > 0);
}

/* What is adapted has the loss of the merged model, and its gradients are those of the merged weights
   through up and down; the frozen weights lie in their file. Bits do not depend on threads or
   recompute. */
START_TEST(adapters)
{
    static const char *const families[] = { "llama",    "qwen3",       "mixtral", "deepseek_v3",
                                            "glm4_moe", "deepseek_v2", "olmoe" };
    rt_config cfg = tiny(families[_i], families[_i][0] == 'l');
    if (!strcmp(families[_i], "mixtral") || !strcmp(families[_i], "olmoe")) {
        cfg.expert_width = cfg.ffn_width; /* one key says both */
        cfg.shared = 0;
    }
    bench whole, b, again;
    open_bench(&whole, &cfg, NULL, 1, 64, false);
    OK(rt_model_save(&whole.model, whole.dev, "base", RT_F32, &err));
    for (int stable = 0; stable < 2; stable++) {
        open_adapted(&b, "base", 1 + stable, false);
        ck_assert(b.model.w.adapters->scale > (stable ? 2.0f : 1.0f));
        bench merged = { .dev = NULL };
        OK(rt_dev_open(&merged.dev, NULL, 1, &err) ||
           rt_model_open(&merged.model, merged.dev, "base", false, 64, &err));
        open_step(&merged, 64, false, &hard);
        merge(&merged, &b);
        double want = loss(&merged), got = loss(&b);
        ck_assert_double_eq_tol(want, got, 1e-5);
        check_adapters(&merged, &b);
        close_bench(&merged);
        if (rt_dev_get(b.dev).cpu_bits && stable) {
            open_adapted(&again, "base", 3, RT_RECOMPUTE_OFFLOAD);
            loss(&again);
            const rt_params *x = rt_weights_learned(&b.step.grads),
                            *y = rt_weights_learned(&again.step.grads);
            for (int i = 0; i < x->n; i++)
                ck_assert_msg(hash_of(&b, x->item[i].slot, 0) ==
                                  hash_of(&again, y->item[i].slot, 0),
                              "%s: other bits with recompute", x->item[i].name);
            close_bench(&again);
        }
        close_bench(&b);
    }
    close_bench(&whole);
}
END_TEST

/* The gradient of a step with the tokens' weights w: sum w g / sum w over the gradients g of single
   tokens; one that counts 0 has no row. The loss likewise. */
START_TEST(weights)
{
    enum { FIRST = 2, TOKENS = 4 };
    static const float w[TOKENS] = { 0.25f, 3, 0, 1.5f };
    const double sum = 4.75;
    rt_config cfg = tiny("qwen3", true);
    float weight[16] = { 0 };
    bench b;
    open_bench(&b, &cfg, NULL, 2, 64, false);
    const rt_param *p = &b.step.grads.params.item[1];
    int64_t n = rt_tensor_elements(p->slot);
    double *want = calloc((size_t)n, sizeof *want), loss_want = 0;
    b.span[3] = (rt_trace_span){ FIRST, FIRST + TOKENS };
    b.doc[3].weight = weight;
    for (int t = 0; t < TOKENS; t++) {
        memset(weight, 0, sizeof weight);
        weight[FIRST + t] = 1;
        OK(rt_step_run(&b.step, &b.doc[3], 1, &err) || rt_sync(b.dev, &err));
        float *g = copy_of(&b, p->slot);
        for (int64_t k = 0; k < n; k++)
            want[k] += (double)w[t] / sum * (double)g[k];
        loss_want += (double)w[t] / sum * rt_totals_mean(rt_step_totals(&b.step), RT_LOSS_TOTAL);
        free(g);
    }
    memset(weight, 0, sizeof weight);
    memcpy(weight + FIRST, w, sizeof w);
    OK(rt_step_run(&b.step, &b.doc[3], 1, &err) || rt_sync(b.dev, &err));
    const rt_totals *totals = rt_step_totals(&b.step);
    ck_assert_int_eq(totals->rows, 3);
    ck_assert_double_eq_tol(totals->weight, sum, 1e-12);
    ck_assert_double_eq_tol(rt_totals_mean(totals, RT_LOSS_TOTAL), loss_want, 1e-5);
    float *got = copy_of(&b, p->slot);
    compare(&b, p->name, got, want, n);

    /* all 1 is none, to the bit; another measure of the same weights is the same gradient */
    loss(&b);
    for (int t = 0; t < 16; t++)
        weight[t] = 1;
    loss(&b);
    uint64_t ones = hash_gradients(&b);
    b.doc[3].weight = NULL;
    loss(&b);
    ck_assert(hash_gradients(&b) == ones);
    memset(weight, 0, sizeof weight);
    b.doc[3].weight = weight;
    FAILS(rt_step_run(&b.step, &b.doc[3], 1, &err), "no token to learn");
    weight[FIRST] = 1e-30f;
    FAILS(rt_step_run(&b.step, &b.doc[3], 1, &err), "add up to 1e-30");
    weight[FIRST] = 1e-12f;
    OK(rt_step_run(&b.step, &b.doc[3], 1, &err) || rt_sync(b.dev, &err));
    ck_assert(isfinite(rt_totals_mean(rt_step_totals(&b.step), RT_LOSS_TOTAL)));
    free(got), free(want);
    close_bench(&b);
}
END_TEST

/* The tail of soft targets at a temperature, against the whole distribution in f64; where log Z's
   rounding eats it up it is still what it is at 1. */
START_TEST(tempered_tail)
{
    enum { HEAD = 4, ROWS = 6 };
    static const float temperature[] = { 2, 0.5f };
    double t = (double)temperature[_i];
    int32_t token[ROWS + 1] = { 0 };
    rt_trace_span span = { 1, ROWS + 1 };
    rt_document doc = { .token = token, .n = ROWS + 1, .span = &span, .n_spans = 1, .soft_first = 1 };
    rt_batch_shape shape = { .rows = 8, .documents = 1, .head_rows = 8, .temperature = t, .waiting = 8,
                             .soft = { .head_max = HEAD, .n_temperatures = 2, .temperature = { 3, temperature[_i] } } };
    double want[ROWS];
    rt_dev *d;
    rt_batch b;
    rt_arenas list = { 0 };
    const int32_t *index;
    float got[ROWS];
    rt_soft *soft = &doc.sample.soft;
    OK(rt_dev_open(&d, NULL, 1, &err));
    rt_soft_init(soft);
    for (int r = 0; r < ROWS; r++) {
        double p[VOCAB], sum = 0, z = 0, cold = 0, hot = 0;
        for (int j = 0; j < VOCAB; j++)
            sum += p[j] = exp(-(1 + r) * 0.4 * j * (0.7 + 0.3 * (double)rt_rng_uniform(4, RT_RNG_DATA, (uint64_t)j)));
        for (int j = 0; j < VOCAB; j++) {
            z += pow(p[j] /= sum, 1 / t);
            cold += j < HEAD ? 0 : p[j];
            hot += j < HEAD ? 0 : pow(p[j], 1 / t);
        }
        int64_t row = rt_soft_add_row(soft, HEAD, 2);
        for (int j = 0; j < HEAD; j++) {
            soft->id[soft->offset[row] + j] = j;
            soft->logp[soft->offset[row] + j] = (float)log(p[j]);
        }
        soft->head_n[row] = HEAD;
        soft->tail_logmass[row] = (float)log(cold);
        soft->logz[2 * row] = 9; /* of another temperature */
        soft->logz[2 * row + 1] = (float)log(z) - (r == ROWS - 1 ? 0.2f : 0);
        want[r] = r < ROWS - 1 ? hot / z : t > 1 ? cold : 0;
    }
    rt_batch_plan(&b, &list, &shape);
    rt_dev_dry_begin(d); /* a device makes room for what is put there */
    rt_batch_fill(&b);
    rt_batch_chunk(d, &b, 0, &index);
    (void)rt_dev_dry_end(d);
    OK(rt_batch_check(&b, &err) || rt_arenas_place(&list, d, &err) || rt_dev_ready(d, &err));
    rt_batch_clear(&b);
    rt_batch_add(&b, &doc);
    ck_assert_int_eq(rt_batch_chunk(d, &b, 0, &index), ROWS);
    get_bytes(d, got, b.targets.tail.data, sizeof got);
    for (int r = 0; r < ROWS; r++)
        ck_assert_msg(fabs(exp((double)got[r]) - want[r]) < 1e-6, "row %d: tail %g, not %g", r,
                      exp((double)got[r]), want[r]);
    rt_arenas_free(&list, d);
    rt_soft_free(soft);
    rt_dev_close(d);
}
END_TEST

START_TEST(adapters_refused)
{
    rt_config cfg = tiny("llama", false);
    bench b;
    rt_model m;
    rt_adapter_spec spec = { 3, 5.0, false, "q_proj,nothing" };
    open_bench(&b, &cfg, NULL, 1, 64, false);
    OK(rt_model_save(&b.model, b.dev, "base", RT_F32, &err));
    FAILS(rt_model_plan_adapted(&m, b.dev, "base", &spec, 64, &err), "no linear layer is called nothing");
    spec.targets = "embed_tokens";
    FAILS(rt_model_plan_adapted(&m, b.dev, "base", &spec, 64, &err), "called embed_tokens");
    spec.targets = "";
    FAILS(rt_model_plan_adapted(&m, b.dev, "base", &spec, 64, &err), "no layer is named");
    close_bench(&b);
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { gradients, 13 }, { mla_dense, 1 }, { beside, 3 }, { beside_itself, 1 },
        { same_bits, 4 }, { passes, 1 }, { offloaded, 5 },
        { weights, 1 },    { tempered_tail, 2 }, { adapters, 7 },  { adapters_refused, 1 }
    };
    return suite_run("layers", NULL, tests, RT_COUNT(tests));
}
