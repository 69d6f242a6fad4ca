/* fused.h: a backward pass that moves the weights of a layer as soon as their gradient is whole, so
   that the gradients of one layer alone are held. A step is one pass then, and clipping by the
   norm of all gradients takes a backward pass of its own before. Owns the visitor of such a pass.
   Refuses: more than one pass a step. */
#ifndef RT_FUSED_H
#define RT_FUSED_H

#include "distill/optimizer.h"
#include "distill/step.h"

RT_BEGIN

typedef struct rt_fused {
    rt_optimizer *optimizer;
    rt_step *step;
    rt_visit visit;
    double clip; /* largest norm; 0 = the second backward pass is not wanted */
    double lr, scale; /* of the running step: set before it; found in it */
    int64_t number;
    bool moving; /* the pass moves weights; else it adds up the norm */
} rt_fused;

/* From now on the step's backward passes are this; both stay where they are. s keeps only each
   block's input (recompute) where clip is above 0. */
void rt_fused_init(rt_fused *f, rt_step *s, rt_optimizer *o, double clip);

RT_END

#endif
