/* step.h: one optimizer step: documents into passes, forward, the loss chunk by chunk, backward.
   A frozen reference model may run the same rows, for the loss alone.
   The denominator is one over the whole step: what its learned tokens count together, so how
   documents fall into passes changes memory and not the gradient's meaning.
   Refuses: order of documents, schedules, files. */
#ifndef RT_STEP_H
#define RT_STEP_H

#include "student/batch.h"

RT_BEGIN

struct rt_step;
/* In place of rt_model_backward: a->dhidden -> s->grads. */
typedef int rt_step_backward(void *ctx, struct rt_step *s, rt_err *err);

typedef struct rt_step {
    rt_dev *d;
    rt_model *m;
    rt_loss_spec spec;
    int64_t vocab; /* real ids */
    rt_acts acts;
    const rt_model *reference; /* m itself: what it was before its adapters; or NULL */
    rt_acts reference_acts;
    rt_weights grads;
    rt_batch batch;
    rt_arenas arenas;
    rt_totals totals;
    rt_cost cost; /* of a step of shape.waiting rows */
    rt_step_backward *backward; /* NULL: the plain one */
    void *backward_ctx;
} rt_step;

/* gradients: how they lie, NULL: f32 on the device. spec: of every step, or what takes as much. */
void rt_step_plan(rt_step *s, rt_dev *d, rt_model *m, const rt_model *reference,
                  const rt_batch_shape *shape, const rt_loss_spec *spec, int64_t vocab,
                  int64_t longest, rt_recompute recompute, const rt_placing *gradients);
int rt_step_place(rt_step *s, rt_err *err);
void rt_step_free(rt_step *s);

/* Gradients of the mean loss over the learned tokens of docs (n), each as it counts, are left in
   s->grads. Waits only when there are more loss rows than shape.waiting. Refuses documents in which
   nothing counts. */
int rt_step_run(rt_step *s, const rt_document *docs, int64_t n, rt_err *err);
/* After rt_sync: over the loss rows of the step. */
const rt_totals *rt_step_totals(rt_step *s);
/* Router bias of every routed layer moves by rate against the load of the step (arXiv 2408.15664).
 */
void rt_step_balance(rt_step *s, double rate);

RT_END

#endif
