/* linear.h: the one linear layer: y = x wᵀ + b, and what its gradient is. Every projection of the
   network is one: attention, feed-forward, experts, router. What is done to all of them (adapters,
   sums for calibration) is done here once.
   Refuses: knowing what its rows are. */
#ifndef RT_LINEAR_H
#define RT_LINEAR_H

#include "core/network/adapter.h"

RT_BEGIN

/* Who is shown the rows that a layer multiplies, before it does (sums for calibration). */
typedef struct rt_linear_watch {
    void *ctx;
    void (*see)(void *ctx, rt_dev *d, const rt_tensor *x); /* x(N,I) */
} rt_linear_watch;

/* Of the gradient of a layer that is frozen, w and b have rank 0. */
typedef struct rt_linear {
    rt_tensor w; /* (O,I), or a stack of experts (E,O,I) */
    rt_tensor b; /* (O) or (E,O); no data: there is none */
    rt_tensor down, up;          /* of an adapter (adapter.h) */
    const rt_adapters *adapters; /* its scale and scratch; NULL: there is none */
    const rt_linear_watch *watch; /* of one matrix; NULL: nobody */
} rt_linear;

static inline rt_linear *rt_linear_of(const rt_param *p) /* of RT_PARAM_LINEAR */
{
    return (rt_linear *)(void *)((char *)p->slot - offsetof(rt_linear, w));
}

/* What it reads or changes of others is their rows: a stack's are sorted by expert and offset (E+1)
   says which are whose; of one matrix offset is NULL. x and y may have any inner shape of the same
   size: (N,H,D) is (N,H*D). */

/* name: "self_attn.q_proj.weight"; of a stack with "%d" where the expert goes, in and out of one.
 */
void rt_linear_weight(rt_params *p, rt_linear *l, const char *name, const char *gguf,
                      rt_param_init init, int64_t experts, int64_t out, int64_t in);
/* Its bias, registered apart: the order of weights is that of their files. */
void rt_linear_bias(rt_params *p, rt_linear *l, const char *name, const char *gguf,
                    int64_t experts, int64_t out);
/* y(N,O) = x(N,I) wᵀ + b + beta y, and what its adapter adds */
void rt_linear_forward(rt_dev *d, const rt_linear *l, rt_tensor *y, const rt_tensor *x,
                       const rt_tensor *offset, float beta);
/* dl.w += dyᵀ x, dl.b += sums of dy, dx = dy w + beta dx; with t = s x downᵀ and dt = s dy up, of an
   adapter dl.up += dyᵀ t, dl.down += dtᵀ x, dx += dt down */
void rt_linear_backward(rt_dev *d, const rt_linear *l, rt_linear *dl, rt_tensor *dx,
                        const rt_tensor *dy, const rt_tensor *x, const rt_tensor *offset,
                        float beta);

/* Experts [first, first + n) of a stack. */
rt_linear rt_linear_experts(rt_dev *d, const rt_linear *l, int64_t first, int64_t n);

/* A view of t as (N, the rest). */
rt_tensor rt_as_rows(const rt_tensor *t);

RT_END

#endif
