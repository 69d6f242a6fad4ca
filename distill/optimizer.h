/* optimizer.h: AdamW over the registry of what is learned (arXiv 1711.05101), in f32: first and second
   moments are two more placements of the same list. Clipping by the global norm of the gradient.
   Refuses: schedules, deciding whether a gradient is good. */
#ifndef RT_OPTIMIZER_H
#define RT_OPTIMIZER_H

#include "core/network/model.h"

RT_BEGIN

typedef struct rt_optimizer {
    rt_weights m, v;
    rt_arena there, here; /* partial sums of the norm */
    rt_arenas arenas;
    int64_t blocks;    /* B, of all weights */
    rt_tensor partial; /* (B) one weight after another */
    float *host;       /* (B) */
    double beta1, beta2, eps, decay;
} rt_optimizer;

/* For what w learns (rt_weights_learned). */
void rt_optimizer_plan(rt_optimizer *o, const rt_config *cfg, const rt_weights *w, double beta1,
                       double beta2, double eps, double decay);
int rt_optimizer_place(rt_optimizer *o, rt_dev *d, rt_err *err);
void rt_optimizer_free(rt_optimizer *o, rt_dev *d);

/* Euclidean norm over all gradients: its partial sums are on their way; and after the next rt_sync,
   added in f64 in registry order. */
void rt_optimizer_sums(rt_dev *d, rt_optimizer *o, const rt_weights *grads);
double rt_optimizer_norm(const rt_optimizer *o);
/* step 1, 2, ...; scale multiplies the gradients. */
void rt_optimizer_update(rt_dev *d, rt_optimizer *o, rt_weights *w, const rt_weights *grads,
                         double lr, double scale, int64_t step);

RT_END

#endif
