/* trainer.h: training as an object: a model, its gradients and moments, a position; documents go in
   step by step, and what a step was comes out. A step is a function of the documents, the settings
   and the position, so a run that was saved and opened again goes on to the same bytes.
   `retort train` feeds it from archives; whatever learns from its own samples feeds it too.
   Refuses: where documents come from, options, what is printed. */
#ifndef RT_TRAINER_H
#define RT_TRAINER_H

#include "core/network/needs.h"
#include "distill/optimizer.h"
#include "distill/step.h"
#include "student/checkpoint.h"

RT_BEGIN

typedef struct rt_trainer_settings {
    rt_batch_shape shape; /* waiting is filled in: from batch_tokens */
    rt_loss_spec spec;
    int64_t vocab, longest; /* real ids; tokens of a document at most */
    bool recompute;         /* keep only each block's input */
    int64_t batch_tokens;   /* of a step, about */
    int64_t steps, warmup;
    const char *schedule; /* one of RT_SCHEDULES */
    double learning_rate, min_rate, clip, balance_rate;
    double beta1, beta2, eps, weight_decay;
} rt_trainer_settings;

/* The documents of the next step: *docs (n), the feed's own until it is asked again. It moves
   at->document on by what it took. */
typedef struct rt_feed {
    void *ctx;
    int (*next)(void *ctx, rt_position *at, const rt_document **docs, int64_t *n, rt_err *err);
} rt_feed;

typedef struct rt_trainer {
    rt_trainer_settings set;
    rt_dev *d;
    rt_model *m;
    rt_step step;
    rt_optimizer optimizer;
    rt_cost update; /* of the optimizer, a step */
    rt_position at;
} rt_trainer;

/* What one step was. */
typedef struct rt_stepped {
    rt_totals totals;
    double norm, rate; /* of the gradient before clipping; learning rate */
    int64_t tokens;    /* of its documents, prompts too */
} rt_stepped;

/* Plans; nothing is allocated before rt_trainer_place, which zeroes the moments. m is the caller's,
   with weights of f32, or adapters beside frozen ones, that are placed when the first step is made.
   */
void rt_trainer_plan(rt_trainer *t, rt_dev *d, rt_model *m, const rt_trainer_settings *set);
void rt_trainer_needs(const rt_trainer *t, rt_needs *p); /* without the model's own */
int rt_trainer_place(rt_trainer *t, rt_err *err);
void rt_trainer_free(rt_trainer *t);

/* at->recipe is set by the caller before both. load: 1 loaded, 0 there is none, -1. */
int rt_trainer_load(rt_trainer *t, const char *dir, rt_err *err);
int rt_trainer_save(const rt_trainer *t, const char *dir, rt_err *err);

/* One step; waits for the device once. A loss or gradient that is not a number is an error, which
   says whether a weight is why, and changes nothing. */
int rt_trainer_step(rt_trainer *t, const rt_feed *feed, rt_stepped *out, rt_err *err);

RT_END

#endif
