/* prune_measure.c: what texts do to the model that is pruned: one forward pass over them, whose
   activations are looked at layer by layer. Sums in f64, in the order of the tokens. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/device/arenas.h"
#include "core/network/weights.h"
#include "student/prune.h"

enum { DOCUMENTS = 64 /* of a pass at most */ };

typedef struct looking {
    rt_prune_scores *s;
    rt_dev *d;
    rt_model model;
    rt_acts acts;
    rt_batch batch;
    rt_arenas arenas;
    rt_arena host;
    rt_document docs[DOCUMENTS];
    uint8_t *raw;            /* of the largest activation */
    float *x, *y, *any;      /* the stream before a layer and behind it; another activation */
} looking;

/* The activation t, (N, ...) as f32 rows. */
static int fetch(looking *k, float *to, const rt_tensor *t, rt_err *err)
{
    rt_download(k->d, k->raw, t->data, rt_tensor_bytes(t));
    if (rt_sync(k->d, err))
        return -1;
    rt_decode_f32(to, k->raw, t->dtype, rt_tensor_elements(t));
    return 0;
}

/* sum(width / each) += |t| over rows; each: neighbours that are one. */
static int add_absolute(looking *k, double *sum, const rt_tensor *t, int64_t each, rt_err *err)
{
    int64_t rows = t->dim[0], width = rt_tensor_elements(t) / rt_max(rows, 1);
    if (fetch(k, k->any, t, err))
        return -1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            sum[i / each] += fabs((double)k->any[r * width + i]);
    return 0;
}

static void add_squares(double *sum, const float *x, int64_t rows, int64_t width, double share)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            sum[i] += share * (double)x[r * width + i] * (double)x[r * width + i];
}

static double influence(const float *x, const float *y, int64_t rows, int64_t width)
{
    double sum = 0;
    for (int64_t r = 0; r < rows; r++, x += width, y += width) {
        double xx = 0, yy = 0, xy = 0;
        for (int64_t i = 0; i < width; i++) {
            xx += (double)x[i] * (double)x[i];
            yy += (double)y[i] * (double)y[i];
            xy += (double)x[i] * (double)y[i];
        }
        sum += xx > 0 && yy > 0 ? 1 - xy / sqrt(xx * yy) : 0;
    }
    return sum;
}

/* The stream between attention and feed-forward is written in place: its squares are taken as the mean
   of those before and behind the layer. */
static int look_at_layer(looking *k, int64_t l, rt_err *err)
{
    const rt_config *c = &k->model.cfg;
    const rt_block_saved *a = &k->acts.saved[l];
    rt_prune_scores *s = k->s;
    int64_t rows = k->batch.n, width = c->width;
    if (rt_model_layer(k->d, &k->model, &k->acts, l, err) || fetch(k, k->y, &k->acts.stream[0], err))
        return -1;
    s->influence[l] += influence(k->x, k->y, rows, width);
    add_squares(s->square + 2 * l * width, k->x, rows, width, 1);
    add_squares(s->square + (2 * l + 1) * width, k->x, rows, width, 0.5);
    add_squares(s->square + (2 * l + 1) * width, k->y, rows, width, 0.5);
    if (add_absolute(k, s->norm + 2 * l * width, &a->attn_in, 1, err) ||
        add_absolute(k, s->norm + (2 * l + 1) * width, &a->ffn_in, 1, err) ||
        add_absolute(k, s->head + l * c->heads, &a->mixer.out, c->head_dim, err) ||
        add_absolute(k, s->neuron + l * c->ffn_width, &a->ffn.dense.act, 1, err))
        return -1;
    float *swap = k->x;
    k->x = k->y;
    k->y = swap;
    return 0;
}

static int look(looking *k, rt_err *err)
{
    const rt_batch *b = &k->batch;
    const rt_config *c = &k->model.cfg;
    rt_acts_rows(&k->acts, b->n, b->s, b->token, b->pos, b->offset, NULL);
    if (rt_model_embed(k->d, &k->model, &k->acts, err) || fetch(k, k->x, &k->acts.stream[0], err))
        return -1;
    for (int64_t l = 0; l < c->layers; l++)
        if (look_at_layer(k, l, err))
            return -1;
    rt_model_final(k->d, &k->model, &k->acts);
    add_squares(k->s->square + 2 * c->layers * c->width, k->x, b->n, c->width, 1);
    k->s->tokens += b->n;
    return add_absolute(k, k->s->norm + 2 * c->layers * c->width, &k->acts.hidden, 1, err);
}

static void plan_host(void *ctx, rt_arena *a)
{
    looking *k = ctx;
    const rt_config *c = &k->model.cfg;
    int64_t rows = k->batch.shape.rows, word = (int64_t)sizeof(float);
    int64_t most = rt_max(rt_max(c->width, c->ffn_width), c->heads * c->head_dim);
    k->raw = rt_arena_take(a, "activations", rows * most * word);
    k->any = rt_arena_take(a, "activations", rows * most * word);
    k->x = rt_arena_take(a, "activations", rows * c->width * word);
    k->y = rt_arena_take(a, "activations", rows * c->width * word);
}

static int plan_all(looking *k, const char *path, int64_t longest, int64_t pass_tokens, rt_err *err)
{
    int64_t rows = rt_max(pass_tokens, longest);
    rt_batch_shape shape = {
        .rows = rows, .documents = DOCUMENTS, .head_rows = 1, .temperature = 1, .waiting = rows
    };
    rt_pass_shape pass = { .mode = RT_PLAN_SCORE,
                           .rows = rows,
                           .segments = DOCUMENTS,
                           .longest = longest,
                           .head_rows = 1 };
    if (rt_model_plan(&k->model, k->d, path, true, longest, err))
        return -1;
    rt_acts_plan(&k->acts, &k->arenas, k->d, &k->model, &pass);
    rt_batch_plan(&k->batch, &k->arenas, &shape);
    rt_arenas_add(&k->arenas, &k->host, "host", RT_ON_HOST, plan_host, k);
    return 0;
}

static void close_all(looking *k)
{
    for (int i = 0; i < DOCUMENTS; i++)
        rt_document_free(&k->docs[i]);
    rt_arenas_free(&k->arenas, k->d);
    rt_acts_free(&k->acts);
    rt_model_free(k->d, &k->model);
    free(k);
}

int rt_prune_needs(const char *path, rt_dev *d, const rt_corpus *c, int64_t pass_tokens, rt_needs *p,
                   rt_err *err)
{
    looking *k = rt_alloc(1, sizeof *k, "a look at activations");
    k->d = d;
    int bad = plan_all(k, path, rt_corpus_longest(c), pass_tokens, err);
    int64_t most = 0;
    for (int i = 0; !bad && i < k->model.w.params.n; i++)
        most = rt_max(most, rt_tensor_elements(k->model.w.params.item[i].slot));
    if (!bad) {
        rt_needs_add(p, RT_NEEDS_GROWS, "host", "a weight, and what stays of it",
                     2 * most * (int64_t)sizeof(float));
        rt_needs_add(p, RT_NEEDS_FILE, "weights", "in their file", rt_model_mapped(&k->model));
        rt_needs_arenas(p, d, &k->model.arenas);
        rt_needs_arenas(p, d, &k->arenas);
        rt_needs_add(p, RT_NEEDS_GROWS, "weights", "two tensors, while reading",
                     2 * rt_model_reading(&k->model));
        rt_needs_workspace(p, d);
    }
    close_all(k);
    return bad;
}

int rt_prune_measure(rt_prune *p, rt_dev *d, const rt_corpus *c, int64_t pass_tokens, rt_err *err)
{
    looking *k = rt_alloc(1, sizeof *k, "a look at activations");
    rt_progress progress;
    int64_t n = rt_corpus_count(c), held = 0;
    k->s = &p->scores;
    k->d = d;
    int bad = plan_all(k, p->path, rt_corpus_longest(c), pass_tokens, err) ||
              rt_model_read(&k->model, d, p->path, err) || rt_arenas_place(&k->arenas, d, err) ||
              rt_dev_ready(d, err);
    rt_progress_begin(&progress, "measuring", 0, n);
    for (int64_t i = 0; i < n && !bad; i++) {
        if (!rt_batch_fits(&k->batch, rt_corpus_length(c, i))) {
            bad = look(k, err) || (rt_interrupted() && rt_fail_interrupted(err, "measuring", p->path));
            rt_batch_clear(&k->batch);
            held = 0;
        }
        bad = bad || rt_corpus_get(c, i, &k->docs[held], err);
        if (!bad)
            rt_batch_add(&k->batch, &k->docs[held++]);
        rt_progress_update(&progress, i + 1, "%lld tokens", (long long)(k->s->tokens + k->batch.n));
    }
    bad = bad || look(k, err);
    rt_progress_end(&progress);
    close_all(k);
    for (int64_t i = 0; i < (2 * p->cfg.layers + 1) * p->cfg.width && !bad; i++)
        if (!isfinite(p->scores.norm[i]) || !isfinite(p->scores.square[i]))
            bad = rt_fail(err, "%s: its activations are not finite: it cannot be measured", p->path);
    return bad ? -1 : 0;
}
