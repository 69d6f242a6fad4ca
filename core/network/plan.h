/* plan.h: what layers plan their activations with. A tensor that has rows of the batch in its
   outermost dimension is planned for the most rows there may be, and listed: a batch of fewer
   changes dimensions alone, so pointers stay where they were placed. Refuses: knowing layers. */
#ifndef RT_PLAN_H
#define RT_PLAN_H

#include "core/device/tensor.h"

RT_BEGIN

typedef enum rt_plan_mode {
    RT_PLAN_SCORE,  /* forward over whole sequences */
    RT_PLAN_DECODE, /* forward through a cache */
    RT_PLAN_TRAIN   /* forward and backward */
} rt_plan_mode;

/* A tensor with `each` rows for a row of the batch. */
typedef struct rt_batched {
    rt_tensor *t;
    int64_t each;
} rt_batched;

typedef struct rt_batched_list {
    rt_batched *item; /* free() */
    int64_t n, cap;
} rt_batched_list;

typedef struct rt_plan {
    rt_arena *arena;
    int64_t n; /* rows at most */
    rt_plan_mode mode;
    rt_dtype act; /* of activations and their gradients; statistics and routes are f32 and i32 */
    rt_batched_list *batched;
} rt_plan;

/* *t = (each*N), (each*N, d1) or (each*N, d1, d2): d1 or d2 is 0 where there is none. It stays
   where it is while it is listed. */
void rt_plan_rows(const rt_plan *p, rt_tensor *t, const char *name, rt_dtype dtype, int64_t each,
                  int64_t d1, int64_t d2);
/* The listed tensors become those of n rows. */
void rt_batched_rows(const rt_batched_list *list, int64_t n);

RT_END

#endif
