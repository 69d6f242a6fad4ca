#include "distill/step.h"

#include <string.h>

static void lay_rows(rt_acts *a, const rt_batch *b)
{
    rt_acts_rows(a, b->n, b->s, b->token, b->pos, b->offset, NULL);
}

static int run_reference(rt_step *s, rt_err *err)
{
    rt_adapters *beside = s->reference == s->m ? s->m->w.adapters : NULL;
    lay_rows(&s->reference_acts, &s->batch);
    if (beside)
        beside->off = true;
    int bad = rt_model_pass(s->d, s->reference, &s->reference_acts, err);
    if (beside)
        beside->off = false;
    return bad;
}

/* Forward, loss and backward of the documents gathered in the batch. */
static int run_pass(rt_step *s, float scale, rt_err *err)
{
    rt_batch *b = &s->batch;
    if (!rt_batch_has_room(b)) {
        if (rt_sync(s->d, err))
            return -1;
        rt_batch_totals(b, &s->totals);
    }
    bool referred = s->spec.reference != 0;
    lay_rows(&s->acts, b);
    if ((referred && run_reference(s, err)) || rt_model_pass(s->d, s->m, &s->acts, err))
        return -1;
    for (int64_t first = 0; first < b->n_loss; first += b->shape.head_rows) {
        const int32_t *index;
        int64_t n = rt_batch_chunk(s->d, b, first, &index);
        rt_model_logits(s->d, s->m, &s->acts, index, n);
        if (referred)
            rt_model_logits(s->d, s->reference, &s->reference_acts, index, n);
        b->targets.reference = referred ? s->reference_acts.logits : (rt_tensor){ 0 };
        rt_loss(s->d, &b->stats, &s->acts.logits, &b->targets, &s->spec, s->vocab, scale, true);
        rt_batch_keep(s->d, b, first, n);
        rt_model_logits_backward(s->d, s->m, &s->grads, &s->acts);
    }
    if (s->backward ? s->backward(s->backward_ctx, s, err)
                    : rt_model_backward(s->d, s->m, &s->grads, &s->acts, err))
        return -1;
    rt_batch_clear(b);
    return 0;
}

/* As many full passes as a step may have. */
static void dry_run(rt_step *s)
{
    const rt_batch_shape *shape = &s->batch.shape;
    rt_err err; /* nothing is read */
    rt_dev_dry_begin(s->d);
    for (int64_t rows = 0; rows < shape->waiting; rows += shape->rows) {
        rt_batch_fill(&s->batch);
        (void)run_pass(s, 1.0f, &err);
    }
    s->cost = rt_dev_dry_end(s->d);
    rt_batch_clear(&s->batch);
    s->batch.kept = 0;
}

void rt_step_plan(rt_step *s, rt_dev *d, rt_model *m, const rt_model *reference,
                  const rt_batch_shape *shape, const rt_loss_spec *spec, int64_t vocab,
                  int64_t longest, rt_recompute recompute, const rt_placing *gradients)
{
    rt_pass_shape pass = { .mode = RT_PLAN_TRAIN,
                           .recompute = recompute,
                           .rows = shape->rows,
                           .segments = shape->documents,
                           .longest = longest,
                           .head_rows = shape->head_rows };
    memset(s, 0, sizeof *s);
    s->d = d;
    s->m = m;
    s->reference = reference;
    s->spec = *spec;
    s->vocab = vocab;
    rt_acts_plan(&s->acts, &s->arenas, d, m, &pass);
    pass.mode = RT_PLAN_SCORE;
    if (reference)
        rt_acts_plan(&s->reference_acts, &s->arenas, d, reference, &pass);
    rt_weights_plan_like(&s->grads, &s->arenas, &m->cfg, &m->w,
                         gradients ? gradients : &(rt_placing){ .label = "gradients" });
    rt_batch_plan(&s->batch, &s->arenas, shape);
    dry_run(s);
}

int rt_step_place(rt_step *s, rt_err *err)
{
    return rt_batch_check(&s->batch, err) || rt_arenas_place(&s->arenas, s->d, err) ? -1 : 0;
}

void rt_step_free(rt_step *s)
{
    rt_arenas_free(&s->arenas, s->d);
    rt_acts_free(&s->acts);
    rt_acts_free(&s->reference_acts);
    rt_weights_free(s->d, &s->grads);
    memset(s, 0, sizeof *s);
}

static void zero_gradients(rt_step *s)
{
    const rt_params *list = rt_weights_learned(&s->grads);
    for (int i = 0; i < list->n; i++)
        if (!list->in_turns || s->m->w.params.item[i].layer < 0)
            rt_zero(s->d, list->item[i].slot);
    if (s->acts.load.data)
        rt_zero(s->d, &s->acts.load);
}

int rt_step_run(rt_step *s, const rt_document *docs, int64_t n, rt_err *err)
{
    double tokens = 0;
    s->totals = (rt_totals){ 0 };
    s->batch.kept = 0;
    for (int64_t i = 0; i < n; i++)
        tokens += rt_document_weight(&docs[i]);
    if (!(tokens > 1e-20)) /* so that its inverse is a number */
        return rt_fail(err, "no token to learn in the %lld documents of a step (first %s): their "
                            "weights add up to %g",
                       (long long)n, n ? docs[0].id : "none", tokens);
    float scale = 1.0f / (float)tokens;
    zero_gradients(s);
    rt_batch_clear(&s->batch);
    for (int64_t i = 0; i < n; i++) {
        if (!rt_batch_fits(&s->batch, docs[i].n) && run_pass(s, scale, err))
            return -1;
        rt_batch_add(&s->batch, &docs[i]);
    }
    return s->batch.n ? run_pass(s, scale, err) : 0;
}

const rt_totals *rt_step_totals(rt_step *s)
{
    rt_batch_totals(&s->batch, &s->totals);
    return &s->totals;
}

void rt_step_balance(rt_step *s, double rate)
{
    const rt_config *c = &s->m->cfg;
    if (!s->acts.load.data || s->m->frozen || c->family->scoring != RT_ROUTE_SIGMOID || rate == 0)
        return;
    for (int64_t l = 0; l < c->layers; l++) {
        if (!rt_config_routed(c, l))
            continue;
        rt_tensor load = rt_tensor_1(rt_f32(&s->acts.load) + l * c->experts, RT_F32, c->experts);
        rt_route_balance(s->d, &s->m->w.block[l].ffn.bias, &load, (float)rate);
    }
}
