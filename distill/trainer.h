/* trainer.h: training as an object: a model, its gradients and moments, a position; documents go in
   step by step, and what a step was comes out. A step is a function of the documents, the settings
   and the position, so a run that was saved and opened again goes on to the same bytes.
   `retort train` feeds it from archives; whatever learns from its own samples feeds it too.
   Refuses: where documents come from, options, what is printed. */
#ifndef RT_TRAINER_H
#define RT_TRAINER_H

#include "core/network/needs.h"
#include "distill/fused.h"
#include "distill/objective.h"
#include "distill/qat.h"
#include "student/hosted.h"

RT_BEGIN

/* Where what is learned lies, and so what a step costs; the numbers are the same.
   resident  weights, gradients and the optimizer's state on the device
   stream    weights and state in the host's memory, copied through two layers' worth of buffers
   fused     state in the host's memory, weights moved in the backward pass: no gradients but a
             layer's, one pass a step, clipping by a second backward pass */
#define RT_MEMORY_MODES "resident|stream|fused"
typedef enum rt_memory_mode { RT_MODE_RESIDENT, RT_MODE_STREAM, RT_MODE_FUSED } rt_memory_mode;
/* How the weights of a model lie that is learned so, of bf16 or of f32. */
rt_placing rt_memory_placing(rt_memory_mode mode, bool bf16);

typedef struct rt_trainer_settings {
    rt_batch_shape shape; /* waiting is filled in: from batch_tokens */
    rt_loss_plan loss;
    const rt_model *reference; /* of the term that needs one (step.h), or NULL; its weights are the
                                  caller's */
    rt_qat *qat; /* passes read the weights as it shows them, or NULL; the caller's */
    int64_t vocab, longest; /* real ids; tokens of a document at most */
    int64_t longest_pass;   /* rows of a pass of others (rt_trainer_lend) at most */
    rt_recompute recompute;
    int64_t batch_tokens;   /* of a step, about */
    int64_t steps, warmup;
    const char *schedule; /* one of RT_SCHEDULES */
    double learning_rate, min_rate, cooldown, clip, balance_rate;
    rt_memory_mode mode;
    rt_optimizer_spec optimizer; /* where: filled in, from mode */
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
    rt_hosted hosted; /* of stream */
    rt_fused fused;   /* of fused */
    rt_cost update; /* of the optimizer, a step */
    rt_position at;
} rt_trainer;

/* What one step was. */
typedef struct rt_stepped {
    rt_totals totals;
    double norm, rate; /* of the gradient before clipping; learning rate */
    int64_t tokens;    /* of its documents, prompts too */
    bool referred;     /* RT_LOSS_REFERENCE of the totals was measured */
} rt_stepped;

/* Plans; nothing is allocated before rt_trainer_place, which begins the optimizer's state. m is the
   caller's: its weights were planned by rt_memory_placing, or are adapters beside frozen ones, and
   are placed and filled by then. The trainer stays where it is. */
void rt_trainer_plan(rt_trainer *t, rt_dev *d, rt_model *m, const rt_trainer_settings *set);
void rt_trainer_needs(const rt_trainer *t, rt_needs *p); /* without the model's own */
int rt_trainer_place(rt_trainer *t, rt_err *err);
void rt_trainer_free(rt_trainer *t);

/* at->recipe is set by the caller before both. load: 1 loaded, 0 there is none, -1. */
int rt_trainer_load(rt_trainer *t, const char *dir, rt_err *err);
int rt_trainer_save(rt_trainer *t, const char *dir, rt_err *err);

/* Between the two, passes of others read the weights as they would be written: where there is a
   running mean it stands in their place. */
void rt_trainer_lend(rt_trainer *t);
void rt_trainer_take_back(rt_trainer *t);
/* And the same for who saves them. */
void rt_trainer_show_mean(rt_trainer *t);

/* One step; waits for the device once. A loss or gradient that is not a number is an error, which
   says whether a weight is why, and changes nothing. */
int rt_trainer_step(rt_trainer *t, const rt_feed *feed, rt_stepped *out, rt_err *err);

RT_END

#endif
