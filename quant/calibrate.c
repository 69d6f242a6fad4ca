/* calibrate.c: texts in flight through one layer's memory, and sums of what its matrices multiply. */
#include "quant/calibrate.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "quant/compensate.h"

enum { PASS_ROWS = 2048, PASS_DOCUMENTS = 64 };

/* One pass: documents [first, first + s) whole. */
typedef struct text_pass {
    int64_t first, s, row, n; /* rows [row, row + n) of all */
} text_pass;

/* Sums of the inputs of one matrix, or of several that read the same. */
typedef struct sum {
    rt_curvature curve;
    rt_linear_watch watch;
    bool summing; /* else the texts only go through */
} sum;

struct rt_calibration {
    rt_calibration_options o;
    rt_dev *d;
    rt_model m;
    rt_acts acts;
    rt_visit visit;
    rt_stored embed;
    int32_t *token, *pos; /* (tokens) */
    int32_t *length;      /* (documents) */
    int64_t tokens, documents, longest;
    text_pass *pass;
    int64_t passes;
    float *state; /* (tokens, C) input of the layer entered */
    int64_t layer;
    sum *sum;         /* (weights), of the layer entered */
    int *leader;      /* (weights) whose sums are its own too, or -1 */
    sum head;
};

/* ---- which matrices read the same ---- */

/* Parts of GGUF names: the second reads what the first does. */
static const char *const alike[][2] = { { "attn_q", "attn_k" }, { "attn_q", "attn_v" },
                                        { "attn_q_a", "attn_kv_a_mqa" },
                                        { "attn_q", "attn_kv_a_mqa" },
                                        { "ffn_gate", "ffn_up" },
                                        { "ffn_gate_shexp", "ffn_up_shexp" } };

static const char *part_of(const rt_param *p)
{
    const char *dot = strrchr(p->gguf, '.');
    return dot ? dot + 1 : p->gguf;
}

static bool is_summed(const rt_param *p)
{
    return p->layer >= 0 && (p->flags & RT_PARAM_LINEAR) && !p->experts && p->slot->rank == 2;
}

static int find_leader(const rt_params *list, int i)
{
    for (int k = 0; k < i; k++)
        for (int a = 0; a < RT_COUNT(alike); a++)
            if (list->item[k].layer == list->item[i].layer && is_summed(&list->item[k]) &&
                !strcmp(part_of(&list->item[k]), alike[a][0]) &&
                !strcmp(part_of(&list->item[i]), alike[a][1]))
                return k;
    return i;
}

/* ---- texts ---- */

static int take_texts(rt_calibration *c, rt_err *err)
{
    const rt_calibration_options *o = &c->o;
    rt_corpus *corpus = NULL;
    rt_corpus_options co = { .chat = o->chat,
                             .max_length = INT32_MAX,
                             .verdicts = (1u << RT_VERDICT_COUNT) - 1 };
    rt_document doc = { 0 };
    int bad = rt_corpus_open(&corpus, o->data, o->n_data, &co, err);
    if (bad)
        return -1;
    int64_t n = rt_corpus_count(corpus);
    c->token = rt_alloc(o->tokens, sizeof *c->token, "calibration texts");
    c->pos = rt_alloc(o->tokens, sizeof *c->pos, "calibration texts");
    c->length = rt_alloc(rt_max(n, 1), sizeof *c->length, "calibration texts");
    for (int64_t i = 0; !bad && i < n && c->tokens < o->tokens; i++) {
        bad = rt_corpus_get(corpus, rt_corpus_shuffle(n, o->seed, 0, i), &doc, err);
        int64_t take = bad ? 0 : rt_min(rt_min(doc.n, o->longest), o->tokens - c->tokens);
        for (int64_t k = 0; k < take; k++) {
            c->token[c->tokens + k] = doc.token[k];
            c->pos[c->tokens + k] = (int32_t)k;
        }
        c->tokens += take;
        c->longest = rt_max(c->longest, take);
        if (take)
            c->length[c->documents++] = (int32_t)take;
    }
    rt_document_free(&doc);
    rt_corpus_close(corpus);
    if (!bad && !c->tokens)
        return rt_fail(err, "%s: no text in it to calibrate on", o->data[0]);
    return bad ? -1 : 0;
}

static void cut_passes(rt_calibration *c)
{
    text_pass p = { 0 };
    c->pass = rt_alloc(c->documents, sizeof *c->pass, "passes of calibration texts");
    for (int64_t i = 0; i < c->documents; i++) {
        if (p.s && (p.s == PASS_DOCUMENTS || p.n + c->length[i] > PASS_ROWS)) {
            c->pass[c->passes++] = p;
            p = (text_pass){ i, 0, p.row + p.n, 0 };
        }
        p.s++;
        p.n += c->length[i];
    }
    c->pass[c->passes++] = p;
}

/* ---- one layer's memory ---- */

/* The embedding is read row by row, the head by whoever encodes it. */
static rt_dtype form(const rt_param *p)
{
    bool wide = p->layer < 0 && p->slot->rank == 2;
    return wide ? RT_DTYPE_COUNT : RT_F32;
}

static int gather(void *ctx, rt_dev *d, rt_tensor *y, const rt_tensor *token, rt_err *err)
{
    rt_calibration *c = ctx;
    (void)d; /* its memory is the host's */
    for (int64_t r = 0; r < y->dim[0]; r++)
        if (rt_stored_rows(&c->embed, rt_f32(y) + r * y->dim[1], rt_i32(token)[r], 1, err))
            return -1;
    return 0;
}

static int resident(void *ctx, int64_t layer, rt_err *err)
{
    (void)ctx, (void)layer, (void)err;
    return 0;
}

/* Shapes of what has no memory, for dry runs and for reading. */
static void describe_wide(rt_model *m)
{
    const rt_config *c = &m->cfg;
    m->w.embed = rt_tensor_2(NULL, RT_F32, c->vocab, c->width);
    if (!c->tied)
        m->w.head = rt_tensor_2(NULL, RT_F32, c->vocab, c->width);
}

static int64_t widest(const rt_config *cfg, const rt_params *list)
{
    int64_t n = cfg->width;
    for (int i = 0; i < list->n; i++)
        if (is_summed(&list->item[i]))
            n = rt_max(n, list->item[i].slot->dim[1]);
    return n;
}

static int plan_model(rt_calibration *c, rt_err *err)
{
    const rt_placing how = { "weights", form, RT_ON_DEVICE, true };
    rt_pass_shape shape = { .mode = RT_PLAN_SCORE,
                            .rows = rt_max(PASS_ROWS, c->longest),
                            .segments = PASS_DOCUMENTS,
                            .longest = c->longest,
                            .head_rows = 1 };
    rt_model_plan_learned(&c->m, c->d, c->o.cfg, &how, c->longest);
    describe_wide(&c->m);
    rt_acts_plan(&c->acts, &c->m.arenas, c->d, &c->m, &shape);
    rt_dev_dry_begin(c->d);
    int64_t n = widest(c->o.cfg, &c->m.w.params);
    rt_curvature_dry(c->d, n, shape.rows);
    rt_compensate_dry(c->d, n);
    rt_dev_dry_end(c->d);
    if (rt_model_place(&c->m, err) || rt_dev_ready(c->d, err))
        return -1;
    describe_wide(&c->m);
    c->visit = (rt_visit){ .ctx = c, .embed = gather, .enter = resident, .leave = resident };
    c->m.visit = &c->visit;
    return 0;
}

int rt_calibration_open(rt_calibration **out, const rt_calibration_options *o, rt_err *err)
{
    rt_calibration *c = *out = rt_alloc(1, sizeof *c, "calibration");
    c->o = *o;
    c->layer = -1;
    c->o.longest = rt_config_longest(o->cfg, o->longest);
    if (take_texts(c, err) || rt_dev_open(&c->d, "cpu", o->threads, err) || plan_model(c, err))
        return -1;
    cut_passes(c);
    const rt_params *list = &c->m.w.params;
    c->sum = rt_alloc(list->n, sizeof *c->sum, "sums of inputs");
    c->leader = rt_alloc(list->n, sizeof *c->leader, "sums of inputs");
    for (int i = 0; i < list->n; i++)
        c->leader[i] = is_summed(&list->item[i]) ? find_leader(list, i) : -1;
    c->state = rt_alloc(c->tokens * o->cfg->width, sizeof *c->state, "calibration texts in flight");
    return rt_store_find(o->store, o->cfg, &list->item[0], 0, &c->embed, err);
}

void rt_calibration_close(rt_calibration *c)
{
    if (!c)
        return;
    for (int i = 0; c->sum && i < c->m.w.params.n; i++)
        rt_curvature_free(&c->sum[i].curve);
    rt_curvature_free(&c->head.curve);
    if (c->m.w.block) {
        rt_acts_free(&c->acts);
        rt_model_free(c->d, &c->m);
    }
    rt_dev_close(c->d);
    free(c->token);
    free(c->pos);
    free(c->length);
    free(c->pass);
    free(c->state);
    free(c->sum);
    free(c->leader);
    free(c);
}

int64_t rt_calibration_tokens(const rt_calibration *c) { return c->tokens; }
int64_t rt_calibration_documents(const rt_calibration *c) { return c->documents; }
rt_dev *rt_calibration_device(const rt_calibration *c) { return c->d; }
const rt_params *rt_calibration_list(const rt_calibration *c) { return &c->m.w.params; }

int64_t rt_calibration_bytes(const rt_config *cfg, int64_t tokens)
{
    rt_model m;
    int64_t layer = 0, sums = 0, most = 0;
    rt_model_init(&m, cfg);
    const rt_params *list = &m.w.params;
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        if (i && p->layer != list->item[i - 1].layer)
            layer = sums = 0;
        layer += p->layer >= 0 ? rt_tensor_bytes(p->slot) : 0;
        if (is_summed(p) && find_leader(list, i) == i)
            sums += 2 * p->slot->dim[1] * p->slot->dim[1] * (int64_t)sizeof(float);
        most = rt_max(most, layer + sums);
    }
    int64_t n = widest(cfg, list);
    rt_weights_free(NULL, &m.w);
    return most + tokens * cfg->width * (int64_t)sizeof(float) + rt_compensate_bytes(n);
}

/* ---- layers ---- */

static void see(void *ctx, rt_dev *d, const rt_tensor *x)
{
    sum *s = ctx;
    if (s->summing)
        rt_curvature_add(&s->curve, d, x);
}

static void pass_rows(rt_calibration *c, const text_pass *p)
{
    int32_t offset[PASS_DOCUMENTS + 1] = { 0 };
    for (int64_t i = 0; i < p->s; i++)
        offset[i + 1] = offset[i] + c->length[p->first + i];
    rt_acts_rows(&c->acts, p->n, p->s, c->token + p->row, c->pos + p->row, offset, NULL);
}

/* All texts through `layer`; keep: what it gives is the input of the next. */
static int go_through(rt_calibration *c, int64_t layer, bool keep, rt_err *err)
{
    int64_t width = c->o.cfg->width;
    for (int64_t i = 0; i < c->passes; i++) {
        const text_pass *p = &c->pass[i];
        float *state = c->state + p->row * width;
        size_t bytes = (size_t)(p->n * width) * sizeof *state;
        if (rt_interrupted())
            return rt_fail(err, "interrupted; nothing was written");
        pass_rows(c, p);
        memcpy(c->acts.stream[0].data, state, bytes);
        if (rt_model_layer(c->d, &c->m, &c->acts, layer, err) || rt_sync(c->d, err))
            return -1;
        if (keep)
            memcpy(state, c->acts.stream[0].data, bytes);
    }
    return 0;
}

static int begin_texts(rt_calibration *c, rt_err *err)
{
    int64_t width = c->o.cfg->width;
    for (int64_t i = 0; i < c->passes; i++) {
        const text_pass *p = &c->pass[i];
        pass_rows(c, p);
        if (rt_model_embed(c->d, &c->m, &c->acts, err) || rt_sync(c->d, err))
            return -1;
        memcpy(c->state + p->row * width, c->acts.stream[0].data,
               (size_t)(p->n * width) * sizeof(float));
    }
    return 0;
}

/* The layer's own weights, and nothing summed yet of what they multiply. */
static int layer_read(rt_calibration *c, int64_t layer, rt_err *err)
{
    const rt_params *list = &c->m.w.params;
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        rt_curvature_free(&c->sum[i].curve);
        if (p->layer != layer)
            continue;
        if (rt_store_rows(c->o.store, c->o.cfg, p, rt_f32(p->slot), err))
            return -1;
        if (c->leader[i] != i)
            continue;
        rt_curvature_init(&c->sum[i].curve, p->slot->dim[1]);
        c->sum[i].watch = (rt_linear_watch){ &c->sum[i], see };
        c->sum[i].summing = true;
        rt_linear_of(p)->watch = &c->sum[i].watch;
    }
    return 0;
}

static int head_sums(rt_calibration *c, rt_err *err)
{
    const rt_params *list = &c->m.w.params;
    int64_t width = c->o.cfg->width;
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        rt_curvature_free(&c->sum[i].curve);
        if (p->slot == &c->m.w.final_norm &&
            rt_store_rows(c->o.store, c->o.cfg, p, rt_f32(p->slot), err))
            return -1;
    }
    rt_curvature_init(&c->head.curve, width);
    for (int64_t i = 0; i < c->passes; i++) {
        const text_pass *p = &c->pass[i];
        pass_rows(c, p);
        memcpy(c->acts.stream[0].data, c->state + p->row * width,
               (size_t)(p->n * width) * sizeof(float));
        rt_model_final(c->d, &c->m, &c->acts);
        rt_curvature_add(&c->head.curve, c->d, &c->acts.hidden);
        if (rt_sync(c->d, err))
            return -1;
    }
    return 0;
}

int rt_calibration_enter(rt_calibration *c, int64_t layer, rt_err *err)
{
    if (layer != c->layer + 1)
        rt_bug("calibration: layer %lld after %lld", (long long)layer, (long long)c->layer);
    for (int i = 0; i < c->m.w.params.n; i++)
        c->sum[i].summing = false;
    if (layer == 0 ? begin_texts(c, err) : go_through(c, layer - 1, true, err))
        return -1;
    c->layer = layer;
    if (layer == c->o.cfg->layers)
        return head_sums(c, err);
    return layer_read(c, layer, err) || go_through(c, layer, false, err) ? -1 : 0;
}

float *rt_calibration_weight(rt_calibration *c, int i)
{
    const rt_param *p = &c->m.w.params.item[i];
    return p->layer == c->layer ? rt_f32(p->slot) : NULL;
}

rt_curvature *rt_calibration_curvature(rt_calibration *c, int i)
{
    const rt_param *p = &c->m.w.params.item[i];
    const rt_tensor *head = c->o.cfg->tied ? &c->m.w.embed : &c->m.w.head;
    if (c->layer == c->o.cfg->layers)
        return p->slot == head ? &c->head.curve : NULL;
    return p->layer == c->layer && c->leader[i] >= 0 ? &c->sum[c->leader[i]].curve : NULL;
}
