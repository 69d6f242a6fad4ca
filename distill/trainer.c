#include "distill/trainer.h"

#include <math.h>
#include <string.h>

#include "core/network/finite.h"
#include "distill/schedule.h"

enum { WAITING_MAX = 1 << 20 }; /* loss rows of a step whose statistics are kept for one wait */

rt_placing rt_memory_placing(rt_memory_mode mode, bool bf16)
{
    return (rt_placing){ .label = "weights",
                         .form = bf16 ? rt_param_form_bf16 : NULL,
                         .where = mode == RT_MODE_STREAM ? RT_ON_HOST : RT_ON_DEVICE };
}

/* bf16 where every byte of the device counts and its products write it; their sums over a step's
   passes are rounded then. */
static rt_placing gradients(const rt_trainer *t)
{
    bool lean = t->set.mode != RT_MODE_RESIDENT && rt_dev_get(t->d).act == RT_BF16;
    return (rt_placing){ .label = "gradients",
                         .form = lean ? rt_param_form_bf16 : NULL,
                         .in_turns = t->set.mode == RT_MODE_FUSED };
}

void rt_trainer_plan(rt_trainer *t, rt_dev *d, rt_model *m, const rt_trainer_settings *set)
{
    rt_position at = t->at;
    memset(t, 0, sizeof *t);
    t->set = *set;
    t->d = d;
    t->m = m;
    t->at = at;
    rt_batch_shape *shape = &t->set.shape;
    shape->waiting = rt_max(shape->rows, rt_min(set->batch_tokens, WAITING_MAX));
    rt_placing how = gradients(t);
    const rt_loss_spec most = rt_loss_plan_most(&set->loss);
    rt_step_plan(&t->step, d, m, set->reference, shape, &most, set->vocab, set->longest,
                 set->recompute, &how);
    rt_optimizer_spec *spec = &t->set.optimizer;
    spec->where = set->mode == RT_MODE_RESIDENT ? RT_ON_DEVICE : RT_ON_HOST;
    rt_optimizer_plan(&t->optimizer, &m->cfg, &m->w, spec);
    if (set->mode == RT_MODE_STREAM)
        rt_hosted_plan(&t->hosted, &t->step.arenas, m, rt_max(shape->rows, set->longest_pass),
                       set->optimizer.mean > 0);
    if (set->qat)
        rt_qat_plan(set->qat, &t->step.arenas);
    rt_dev_dry_begin(d);
    rt_optimizer_sums(d, &t->optimizer, &t->step.grads, RT_LAYERS_ALL);
    rt_optimizer_update(d, &t->optimizer, &t->step.grads, RT_LAYERS_ALL, 0, 1, 1);
    t->update = rt_dev_dry_end(d);
    if (set->mode == RT_MODE_FUSED)
        rt_fused_init(&t->fused, &t->step, &t->optimizer, set->clip);
}

void rt_trainer_needs(const rt_trainer *t, rt_needs *p)
{
    rt_needs_arenas(p, t->d, &t->optimizer.arenas);
    rt_needs_arenas(p, t->d, &t->step.arenas);
    double rows = (double)(rt_ceil_div(t->set.shape.waiting, t->set.shape.rows) *
                           t->set.shape.rows);
    rt_needs_cost(p, t->d, t->update, (double)t->set.steps);
    rt_needs_cost(p, t->d, t->step.cost, (double)t->set.steps * (double)t->set.batch_tokens / rows);
}

int rt_trainer_place(rt_trainer *t, rt_err *err)
{
    return rt_step_place(&t->step, err) || rt_optimizer_place(&t->optimizer, t->d, err) ? -1 : 0;
}

void rt_trainer_free(rt_trainer *t)
{
    if (!t->d)
        return;
    rt_step_free(&t->step); /* the arenas of hosted among its own */
    rt_hosted_free(&t->hosted);
    rt_optimizer_free(&t->optimizer, t->d);
}

int rt_trainer_load(rt_trainer *t, const char *dir, rt_err *err)
{
    if (!rt_checkpoint_there(dir))
        return 0;
    rt_checkpoint_state s = rt_optimizer_state(&t->optimizer);
    return rt_checkpoint_load(dir, t->d, &s, &t->at, err) ? -1 : 1;
}

int rt_trainer_save(rt_trainer *t, const char *dir, rt_err *err)
{
    rt_checkpoint_state s = rt_optimizer_state(&t->optimizer);
    return rt_checkpoint_save(dir, t->d, &s, &t->at, err);
}

void rt_trainer_show_mean(rt_trainer *t) { rt_optimizer_swap_mean(&t->optimizer); }

void rt_trainer_lend(rt_trainer *t)
{
    rt_err late; /* what fails is said by the next wait, too */
    rt_optimizer_swap_mean(&t->optimizer);
    if (t->set.qat)
        (void)rt_qat_show(t->set.qat, &late);
    rt_hosted_begin(&t->hosted);
}

void rt_trainer_take_back(rt_trainer *t)
{
    rt_hosted_end(&t->hosted);
    if (t->set.qat)
        rt_qat_hide(t->set.qat);
    rt_optimizer_swap_mean(&t->optimizer);
}

/* Nothing of such a step is kept. */
static int not_finite(rt_trainer *t, const rt_document *docs, int64_t n, rt_err *err)
{
    long long step = (long long)t->at.step + 1;
    if (rt_finite_weights(t->d, t->m, err) ||
        (t->set.reference && rt_finite_weights(t->d, t->set.reference, err)))
        return rt_wrap(err, "step %lld", step);
    return rt_fail(err,
                   "step %lld: the loss or its gradient is not finite (first document %s): lower "
                   "--learning-rate",
                   step, n ? docs[0].id : "none");
}

/* Forward, loss and backward of the documents; fused moves the weights, too. */
static int run_documents(rt_trainer *t, const rt_document *docs, int64_t n, double rate, rt_err *err)
{
    t->fused.lr = rate;
    t->fused.number = t->at.step + 1;
    if (rt_step_run(&t->step, docs, n, err))
        return -1;
    if (t->set.mode != RT_MODE_FUSED) {
        rt_optimizer_sums(t->d, &t->optimizer, &t->step.grads, RT_LAYERS_ALL);
        rt_optimizer_fetch(t->d, &t->optimizer);
    }
    return rt_sync(t->d, err);
}

int rt_trainer_step(rt_trainer *t, const rt_feed *feed, rt_stepped *out, rt_err *err)
{
    const rt_trainer_settings *set = &t->set;
    rt_position next = t->at;
    const rt_document *docs;
    int64_t n;
    double rate = rt_schedule_rate(set->schedule, set->learning_rate, set->min_rate, set->cooldown,
                                   set->warmup, set->steps, t->at.step + 1);
    t->step.spec = rt_loss_plan_at(&set->loss, t->at.step, set->steps);
    rt_hosted_begin(&t->hosted); /* a feed may ask the model, too */
    int bad = feed->next(feed->ctx, &next, &docs, &n, err) ||
              (set->qat && rt_qat_show(set->qat, err)) || run_documents(t, docs, n, rate, err);
    if (set->qat)
        rt_qat_hide(set->qat);
    rt_hosted_end(&t->hosted);
    if (bad)
        return -1;
    *out = (rt_stepped){ .totals = *rt_step_totals(&t->step),
                         .referred = t->step.spec.reference != 0,
                         .norm = rt_optimizer_norm(&t->optimizer) };
    if (!isfinite(out->norm) || !isfinite(out->totals.sum[RT_LOSS_TOTAL]))
        return not_finite(t, docs, n, err);
    for (int64_t i = 0; i < n; i++)
        out->tokens += docs[i].n;
    next.step++;
    next.tokens += out->totals.rows;
    t->at = next;
    out->rate = rate;
    double scale = set->clip > 0 && out->norm > set->clip ? set->clip / out->norm : 1;
    if (set->mode != RT_MODE_FUSED)
        rt_optimizer_update(t->d, &t->optimizer, &t->step.grads, RT_LAYERS_ALL, rate, scale,
                            t->at.step);
    if (set->mode != RT_MODE_RESIDENT && rt_sync(t->d, err)) /* what the host keeps is whole */
        return -1;
    if (out->rate > 0)
        rt_step_balance(&t->step, set->learning_rate > 0
                                      ? set->balance_rate * out->rate / set->learning_rate
                                      : 0);
    return 0;
}
