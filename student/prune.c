#include "student/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* ---- the shape ---- */

static int64_t either(int64_t asked, int64_t is) { return asked ? asked : is; }

int rt_prune_config(rt_config *cfg, const rt_config *source, const rt_prune_shape *shape,
                    const char *path, rt_err *err)
{
    const rt_config *s = source;
    *cfg = *s;
    cfg->layers = either(shape->layers, s->layers);
    cfg->width = either(shape->width, s->width);
    cfg->heads = either(shape->heads, s->heads);
    cfg->kv_heads = either(shape->kv_heads, s->kv_heads);
    cfg->ffn_width = either(shape->ffn_width, s->ffn_width);
    memset(&cfg->quantization, 0, sizeof cfg->quantization);
    const struct {
        const char *flag;
        int64_t asked, has;
    } each[] = { { "layers", cfg->layers, s->layers },
                 { "width", cfg->width, s->width },
                 { "heads", cfg->heads, s->heads },
                 { "kv-heads", cfg->kv_heads, s->kv_heads },
                 { "ffn-width", cfg->ffn_width, s->ffn_width } };
    if (s->family->routed || s->family->attn != RT_ATTN_GQA || s->family->sinks ||
        rt_config_qk_norm(s) == RT_QK_WHOLE)
        return rt_fail(err, "--from %s: a %s model: only dense ones with grouped-query attention are pruned",
                       path, s->family->model_type);
    for (int i = 0; i < RT_COUNT(each); i++)
        if (each[i].asked > each[i].has)
            return rt_usage(err, "--%s %lld: %s has %lld, and pruning adds none", each[i].flag,
                            (long long)each[i].asked, path, (long long)each[i].has);
    if (shape->head_dim && shape->head_dim != s->head_dim)
        return rt_usage(err, "--head-dim %lld: pruning takes whole heads, which are %lld wide in %s",
                        (long long)shape->head_dim, (long long)s->head_dim, path);
    if (cfg->heads % cfg->kv_heads || cfg->heads / cfg->kv_heads > s->heads / s->kv_heads)
        return rt_usage(err,
                        "--heads %lld --kv-heads %lld: each of the key heads that stay keeps equally many "
                        "of its %lld query heads",
                        (long long)cfg->heads, (long long)cfg->kv_heads,
                        (long long)(s->heads / s->kv_heads));
    return 0;
}

bool rt_prune_any(const rt_config *a, const rt_config *b)
{
    return a->layers != b->layers || a->width != b->width || a->heads != b->heads ||
           a->kv_heads != b->kv_heads || a->ffn_width != b->ffn_width;
}

static double *zeros(int64_t n) { return rt_alloc(rt_max(n, 1), sizeof(double), "scores"); }
static int64_t *places(int64_t n) { return rt_alloc(rt_max(n, 1), sizeof(int64_t), "what stays"); }

int rt_prune_open(rt_prune *p, const char *path, const rt_config *source, const rt_model *model,
                  rt_err *err)
{
    const rt_config *c = source, *n = &model->cfg;
    int64_t most = 0;
    *p = (rt_prune){ .path = path, .cfg = *source, .model = model };
    rt_weights_init(&p->source, c);
    if (rt_store_open(&p->store, path, err) ||
        rt_store_check(&p->store, c, &p->source.params, err))
        return -1;
    for (int i = 0; i < p->source.params.n; i++)
        most = rt_max(most, rt_tensor_elements(p->source.params.item[i].slot));
    p->rows = rt_alloc(most, sizeof *p->rows, "a weight");
    p->scores = (rt_prune_scores){ .influence = zeros(c->layers),
                                   .norm = zeros((2 * c->layers + 1) * c->width),
                                   .square = zeros((2 * c->layers + 1) * c->width),
                                   .head = zeros(c->layers * c->heads),
                                   .neuron = zeros(c->layers * c->ffn_width) };
    p->layer = places(n->layers);
    p->channel = places(n->width);
    p->query = places(n->layers * n->heads * n->head_dim);
    p->key = places(n->layers * n->kv_heads * n->head_dim);
    p->neuron = places(n->layers * n->ffn_width);
    p->scale = zeros(2 * n->layers + 1);
    return 0;
}

void rt_prune_close(rt_prune *p)
{
    void *const memory[] = { p->scores.influence, p->scores.norm, p->scores.square, p->scores.head,
                             p->scores.neuron,    p->layer,       p->channel,       p->query,
                             p->key,              p->neuron,      p->scale,         p->rows };
    for (int i = 0; i < RT_COUNT(memory); i++)
        free(memory[i]);
    rt_store_close(&p->store);
    rt_weights_free(NULL, &p->source);
    memset(p, 0, sizeof *p);
}

/* ---- choosing ---- */

typedef struct ranked {
    double score;
    int64_t at;
} ranked;

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static int by_place(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The k of n with the largest scores, of equals the first, ascending. */
static void keep(int64_t *kept, int64_t k, const double *score, int64_t n)
{
    ranked *r = rt_alloc(n, sizeof *r, "ranks");
    for (int64_t i = 0; i < n; i++)
        r[i] = (ranked){ score[i], i };
    qsort(r, (size_t)n, sizeof *r, by_score);
    for (int64_t i = 0; i < k; i++)
        kept[i] = r[i].at;
    free(r);
    qsort(kept, (size_t)k, sizeof *kept, by_place);
}

static void choose_channels(rt_prune *p)
{
    const rt_config *n = &p->model->cfg;
    int64_t width = p->cfg.width;
    double *score = zeros(width);
    for (int64_t l = 0; l < n->layers; l++)
        for (int64_t i = 0; i < 2 * width; i++)
            score[i % width] += p->scores.norm[2 * p->layer[l] * width + i];
    for (int64_t i = 0; i < width; i++)
        score[i] += p->scores.norm[2 * p->cfg.layers * width + i];
    keep(p->channel, n->width, score, width);
    free(score);
}

/* Rows of the projections of layer l of the result. */
static void choose_heads(rt_prune *p, int64_t l)
{
    const rt_config *c = &p->cfg, *n = &p->model->cfg;
    int64_t each = c->heads / c->kv_heads, left = n->heads / n->kv_heads, dim = c->head_dim;
    const double *score = p->scores.head + p->layer[l] * c->heads;
    double *group = zeros(c->kv_heads);
    int64_t *kept = places(n->kv_heads), *query = places(left);
    for (int64_t h = 0; h < c->heads; h++)
        group[h / each] += score[h];
    keep(kept, n->kv_heads, group, c->kv_heads);
    for (int64_t k = 0; k < n->kv_heads; k++) {
        keep(query, left, score + kept[k] * each, each);
        for (int64_t i = 0; i < dim; i++)
            p->key[(l * n->kv_heads + k) * dim + i] = kept[k] * dim + i;
        for (int64_t q = 0; q < left; q++)
            for (int64_t i = 0; i < dim; i++)
                p->query[(l * n->heads + k * left + q) * dim + i] =
                    (kept[k] * each + query[q]) * dim + i;
    }
    free(group);
    free(kept);
    free(query);
}

/* With mean square m' of the channels that stay and m of all, rstd' sqrt(m'/m) is rstd. */
static double norm_scale(const rt_prune *p, int64_t norm)
{
    const double *square = p->scores.square + norm * p->cfg.width;
    int64_t n = p->model->cfg.width;
    double all = 0, kept = 0;
    if (n == p->cfg.width)
        return 1;
    for (int64_t i = 0; i < p->cfg.width; i++)
        all += square[i];
    for (int64_t i = 0; i < n; i++)
        kept += square[p->channel[i]];
    return all > 0 ? sqrt(kept / (double)n / (all / (double)p->cfg.width)) : 1;
}

static void choose_layers(rt_prune *p, rt_config *cfg)
{
    int64_t below = 0; /* of the first windowed layer */
    keep(p->layer, cfg->layers, p->scores.influence, p->cfg.layers);
    memset(cfg->windowed, 0, sizeof cfg->windowed);
    for (int64_t l = 0; l < cfg->layers; l++) {
        cfg->windowed[l] = p->cfg.windowed[p->layer[l]];
        below += p->layer[l] < p->cfg.window_first;
    }
    if (p->cfg.window_first < p->cfg.layers)
        cfg->window_first = below;
}

void rt_prune_choose(rt_prune *p, rt_config *cfg)
{
    const rt_config *c = &p->cfg, *n = &p->model->cfg;
    choose_layers(p, cfg);
    choose_channels(p);
    for (int64_t l = 0; l < n->layers; l++) {
        choose_heads(p, l);
        keep(p->neuron + l * n->ffn_width, n->ffn_width, p->scores.neuron + p->layer[l] * c->ffn_width,
             c->ffn_width);
        p->scale[2 * l] = norm_scale(p, 2 * p->layer[l]);
        p->scale[2 * l + 1] = norm_scale(p, 2 * p->layer[l] + 1);
    }
    p->scale[2 * n->layers] = norm_scale(p, 2 * c->layers);
}

/* ---- slicing ---- */

enum axis { ONE, WHOLE, WIDTH, QUERY, KEY, NEURON };

/* What the rows and columns of a block's weights are. A weight more is a line here. */
static const struct sliced {
    size_t at; /* of its rt_tensor in rt_block_w */
    enum axis rows, cols;
    int norm; /* 1 attention's, 2 the feed-forward's; 0 none */
} sliced[] = {
#define W(name) offsetof(rt_block_w, name)
    { W(attn_norm), WIDTH, ONE, 1 },     { W(ffn_norm), WIDTH, ONE, 2 },
    { W(mixer.q.w), QUERY, WIDTH, 0 },   { W(mixer.q.b), QUERY, ONE, 0 },
    { W(mixer.k.w), KEY, WIDTH, 0 },     { W(mixer.k.b), KEY, ONE, 0 },
    { W(mixer.v.w), KEY, WIDTH, 0 },     { W(mixer.v.b), KEY, ONE, 0 },
    { W(mixer.q_norm), WHOLE, ONE, 0 },  { W(mixer.k_norm), WHOLE, ONE, 0 },
    { W(mixer.o.w), WIDTH, QUERY, 0 },   { W(mixer.o.b), WIDTH, ONE, 0 },
    { W(ffn.dense.gate.w), NEURON, WIDTH, 0 }, { W(ffn.dense.up.w), NEURON, WIDTH, 0 },
    { W(ffn.dense.down.w), WIDTH, NEURON, 0 },
#undef W
};

/* The places that stay of an axis, of layer l of the result; NULL = all. */
static const int64_t *kept_of(const rt_prune *p, enum axis axis, int64_t l)
{
    const rt_config *n = &p->model->cfg;
    return axis == WIDTH    ? p->channel
           : axis == QUERY  ? p->query + l * n->heads * n->head_dim
           : axis == KEY    ? p->key + l * n->kv_heads * n->head_dim
           : axis == NEURON ? p->neuron + l * n->ffn_width
                            : NULL;
}

/* The source's weight whose tensor lies there. */
static const rt_param *param_at(const rt_prune *p, const void *slot)
{
    for (int i = 0; i < p->source.params.n; i++)
        if (p->source.params.item[i].slot == slot)
            return &p->source.params.item[i];
    rt_bug("pruning: a weight that the source does not have");
}

static int slice(rt_prune *p, const rt_param *from, const rt_param *to, const int64_t *rows,
                 const int64_t *cols, double scale, float *host, rt_err *err)
{
    const rt_tensor *a = from->slot, *b = to->slot;
    int64_t wide = a->rank > 1 ? a->dim[1] : 1, n = b->dim[0], width = b->rank > 1 ? b->dim[1] : 1;
    if (rt_store_rows(&p->store, &p->cfg, from, p->rows, err))
        return -1;
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < width; i++) {
            float x = p->rows[(rows ? rows[r] : r) * wide + (cols ? cols[i] : i)];
            host[r * width + i] = scale == 1 ? x : (float)(scale * (double)x);
        }
    return 0;
}

int rt_prune_rows(void *ctx, int i, float *host, rt_err *err)
{
    rt_prune *p = ctx;
    const rt_weights *w = &p->model->w;
    const rt_param *to = &w->params.item[i];
    const int64_t *channel = p->channel;
    if (to->layer < 0) {
        bool norm = to->slot == &w->final_norm;
        const rt_tensor *from = norm                      ? &p->source.final_norm
                                : to->slot == &w->embed ? &p->source.embed
                                                          : &p->source.head;
        return slice(p, param_at(p, from), to, norm ? channel : NULL, norm ? NULL : channel,
                     norm ? p->scale[2 * p->model->cfg.layers] : 1, host, err);
    }
    size_t at = (size_t)((const char *)to->slot - (const char *)&w->block[to->layer]);
    for (int k = 0; k < RT_COUNT(sliced); k++) {
        const struct sliced *s = &sliced[k];
        if (s->at != at)
            continue;
        const char *block = (const char *)&p->source.block[p->layer[to->layer]];
        double scale = s->norm ? p->scale[2 * to->layer + s->norm - 1] : 1;
        return slice(p, param_at(p, block + at), to, kept_of(p, s->rows, to->layer),
                     kept_of(p, s->cols, to->layer), scale, host, err);
    }
    rt_bug("pruning: %s is not in the table of what is sliced", to->name);
}
