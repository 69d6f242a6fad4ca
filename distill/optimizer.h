/* optimizer.h: moves what is learned against its gradient: AdamW (arXiv 1711.05101), or Muon (muon.h)
   for the matrices of the layers and AdamW for the rest; a running mean of the weights; clipping by
   the global norm of the gradient. Its state is more placements of the list of what is learned.
   Where weights or state lie in the host's memory they pass through the device's in pieces, copied
   while the piece before is worked on.
   Refuses: schedules, deciding whether a gradient is good. */
#ifndef RT_OPTIMIZER_H
#define RT_OPTIMIZER_H

#include "core/network/model.h"
#include "distill/muon.h"
#include "student/checkpoint.h"

RT_BEGIN

#define RT_OPTIMIZERS "adamw|muon"

typedef struct rt_optimizer_spec {
    bool muon;            /* for hidden matrices; not of adapters */
    bool coded;           /* moments of matrices in eight bits (kernels/moment.h) */
    rt_arena_where where; /* the state lies */
    double beta1, beta2, eps, decay, momentum; /* momentum: Muon's */
    double mean;   /* share that the running mean of the weights keeps a step; 0 = there is none */
    uint64_t seed; /* of bf16 weights' rounding */
} rt_optimizer_spec;

enum { RT_OPTIMIZER_STATE = 4 }; /* weights, moments 1 and 2, mean */

typedef struct rt_optimizer {
    rt_optimizer_spec spec;
    rt_weights *w;          /* what is moved, the caller's */
    rt_weights m, v, mean;  /* mean: planned when spec.mean > 0 */
    rt_muon matrix;
    int64_t blocks;         /* B, of all gradients */
    rt_tensor partial;      /* (B) squares, one weight after another */
    float *host;            /* (B) */
    struct rt_optimizer_turn { /* a piece on its way through the device */
        uint8_t *at[RT_OPTIMIZER_STATE];
        rt_mark ready, done;
    } turn[2];
    int64_t piece, pieces; /* elements of one at most; how many there have been */
    rt_arena there, here, staging;
    rt_arenas arenas;
} rt_optimizer;

/* For what w learns (rt_weights_learned); w is placed and filled when this is placed. */
void rt_optimizer_plan(rt_optimizer *o, const rt_config *cfg, rt_weights *w,
                       const rt_optimizer_spec *spec);
int rt_optimizer_place(rt_optimizer *o, rt_dev *d, rt_err *err);
void rt_optimizer_free(rt_optimizer *o, rt_dev *d);

/* What a checkpoint keeps. */
rt_checkpoint_state rt_optimizer_state(rt_optimizer *o);

/* layer: of the weights meant; -1 those outside layers. */
enum { RT_LAYERS_ALL = -2 };

/* Euclidean norm over all gradients: their sums, layer by layer or at once; then they are on their
   way; and after the next rt_sync added in f64 in registry order. */
void rt_optimizer_sums(rt_dev *d, rt_optimizer *o, const rt_weights *grads, int layer);
void rt_optimizer_fetch(rt_dev *d, rt_optimizer *o);
double rt_optimizer_norm(const rt_optimizer *o);
/* step 1, 2, ...; scale multiplies the gradients. State of the host is whole after the next
   rt_sync. */
void rt_optimizer_update(rt_dev *d, rt_optimizer *o, const rt_weights *grads, int layer, double lr,
                         double scale, int64_t step);
/* The mean takes the weights' place, and gives it back. Nothing where there is none. */
void rt_optimizer_swap_mean(rt_optimizer *o);

RT_END

#endif
