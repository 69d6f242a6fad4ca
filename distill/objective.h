/* objective.h: which loss, and when: from the words of a recipe ("forward:0.7,reverse:0.3") to the
   weights of the loss operation at a step. What the terms are is one table: a term more is a line
   of it and its field in rt_loss_spec. Refuses: rows, what a token counts (corpora/corpus.h). */
#ifndef RT_OBJECTIVE_H
#define RT_OBJECTIVE_H

#include "core/device/ops.h"

RT_BEGIN

/* X(name, field of rt_loss_spec, needs soft targets, learns from random weights, formula): p the
   teacher's, q the student's, r the reference's probabilities. The gradient of the others fades with
   q, so that what the student does not expect yet it is not taught. */
#define RT_LOSS_TERMS(X)                                                                           \
    X("hard", ce, false, true, "-log q of the token that followed")                                \
    X("forward", drawn, true, true, "sum p log(p/q), over the exact head and the drawn tail")      \
    X("bucket", bucket, true, true, "the same over the head and the tail as one")                  \
    X("renorm", renorm, true, true, "the same over the head scaled up to 1")                       \
    X("reverse", reverse, true, false, "sum q log(q/p), over the head and the tail as one")        \
    X("jsd", jsd, true, false, "b KL(p|m) + (1-b) KL(q|m) with m = b p + (1-b) q, likewise")       \
    X("skew", skew, true, false, "KL(p | a p + (1-a) q), likewise")                                \
    X("skew-reverse", skew_reverse, true, false, "KL(q | a q + (1-a) p), likewise")                \
    X("tvd", tvd, true, false, "sum |p-q|/2, likewise")                                            \
    X("reference", reference, false, false, "sum q log(q/r), over the vocabulary, r of --reference")

#define RT_LOSS_CHANGE "0.1:0.5" /* of rt_objective.change, when nobody says */

typedef struct rt_objective {
    const char *loss;   /* "NAME" or "NAME:WEIGHT,NAME:WEIGHT..." */
    const char *first;  /* the same, of the first steps; "auto", "none" */
    const char *change; /* "A:B": the shares of the steps between which first goes over to loss */
    double hard_weight; /* share of -log q(label) beside the soft terms, 0 .. 1 */
    double temperature, jsd_beta, skew_alpha;
    bool random; /* the student starts from random weights */
} rt_objective;

/* The words read; zeroed but for `last` when the loss is the same all along. */
typedef struct rt_loss_plan {
    rt_loss_spec first, last;
    double begin, end; /* shares of the steps; end 0: it is `last` all along */
    bool chosen;       /* first is auto's */
} rt_loss_plan;

/* Before anything is opened. auto: where the student is random and no term of the loss learns from
   random weights, forward comes first (bucket, where forward does not fit). */
int rt_objective_read(rt_loss_plan *plan, const rt_objective *o, rt_err *err);
bool rt_loss_plan_soft(const rt_loss_plan *plan); /* needs soft targets */
/* Whether a term counts at some step: the field of it in rt_loss_spec, RT_LOSS_HAS(plan, jsd). */
bool rt_loss_plan_has(const rt_loss_plan *plan, size_t field);
#define RT_LOSS_HAS(plan, name) rt_loss_plan_has(plan, offsetof(rt_loss_spec, name))
/* What takes as much memory and work as the loss of any step. */
rt_loss_spec rt_loss_plan_most(const rt_loss_plan *plan);
/* For the archive's capture settings, or refused. */
int rt_loss_plan_fit(rt_loss_plan *plan, const rt_soft_config *archive, rt_err *err);
/* Of the step after `done` of `steps`. */
rt_loss_spec rt_loss_plan_at(const rt_loss_plan *plan, int64_t done, int64_t steps);
/* "forward for 10 % of the steps, then over to reverse until 50 %", or "" where nothing changes. */
void rt_loss_plan_say(const rt_loss_plan *plan, char *text, size_t size);

RT_END

#endif
