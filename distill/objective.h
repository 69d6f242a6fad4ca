/* objective.h: which loss: from the words of a recipe to the weights of the loss operation. */
#ifndef RT_OBJECTIVE_H
#define RT_OBJECTIVE_H

#include "core/device/ops.h"

RT_BEGIN

typedef struct rt_objective {
    const char *kind;   /* one of RT_OBJECTIVES */
    double hard_weight; /* share of -log q(label) beside the soft term, 0 .. 1 */
    double temperature, jsd_beta, skew_alpha;
} rt_objective;

/* hard     cross-entropy with the token that followed
   forward  forward KL on the exact head plus the drawn tail: unbiased, the default
   bucket   forward KL with the tail as one bucket: does not say who owns the tail
   renorm   forward KL on the head scaled up to 1: biased, for comparison only
   reverse  reverse KL on head + bucket        jsd  generalised Jensen-Shannon on head + bucket
   skew     KL(p | a p + (1-a) q), skew-reverse  KL(q | a q + (1-a) p), tvd  sum |p - q| / 2, likewise */
#define RT_OBJECTIVES "hard|forward|bucket|renorm|reverse|jsd|skew|skew-reverse|tvd"

int rt_objective_spec(rt_loss_spec *spec, const rt_objective *o, const rt_soft_config *archive,
                      rt_err *err);
bool rt_objective_soft(const rt_objective *o); /* needs soft targets */

RT_END

#endif
