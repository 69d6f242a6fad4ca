/* visit.h: who makes weights resident while a pass goes through the layers. A model whose weights
   are all in memory has no visitor; one whose weights are read as they are needed (stream.h) says
   in enter() when a layer's own are there, and in experts() which of the routed ones are. Refuses:
   computing, and knowing which rows a pass has. */
#ifndef RT_VISIT_H
#define RT_VISIT_H

#include "core/device/ops.h"

RT_BEGIN

/* Calls of one layer, in this order: enter; for each batch of rows, in a routed layer, route and
   then experts until it returns 0 (in backward again, and once more before it where the layer is
   computed again); leave. Layers ascend in forward and descend in backward. Each returns -1 with
   err when it failed. */
typedef struct rt_visit {
    void *ctx;
    int32_t
        *offset; /* host (E+1): before route() the caller puts here where each expert's rows begin
                  */
    /* y(N,C) = rows token(N) of the embedding; NULL: it is resident. */
    int (*embed)(void *ctx, rt_dev *d, rt_tensor *y, const rt_tensor *token, rt_err *err);
    /* The layer's weights but its routed experts are resident on return, until leave. */
    int (*enter)(void *ctx, int64_t layer, rt_err *err);
    /* From now on the experts that have rows are wanted. Does not wait for them. */
    int (*route)(void *ctx, int64_t layer, rt_err *err); /* NULL, as experts: all are resident */
    /* 1: of experts [*first, *end) those that have rows are resident, until the next call;
       ascending. 0: all have been. */
    int (*experts)(void *ctx, int64_t layer, int64_t *first, int64_t *end, rt_err *err);
    /* A batch's operations of a layer are called, and the host is about to wait for them: what is
       for the next layer may be begun. Or NULL. */
    void (*between)(void *ctx, int64_t layer);
    int (*leave)(void *ctx, int64_t layer, rt_err *err);
} rt_visit;

RT_END

#endif
