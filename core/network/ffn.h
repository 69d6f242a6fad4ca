/* ffn.h: the feed-forward layer: one SwiGLU, or routed experts with shared ones (DeepSeekMoE, arXiv
   2401.06066; selection bias of arXiv 2408.15664). It adds its output to the residual stream. Rows
   are sorted by expert, each expert is one slice of a grouped product, no row is dropped. */
#ifndef RT_FFN_H
#define RT_FFN_H

#include "core/network/mixer.h"

RT_BEGIN

typedef struct rt_mlp_w {
    rt_linear gate, up; /* (F,C), a stack of experts (E,F,C) */
    rt_linear down;     /* (C,F), (E,C,F) */
} rt_mlp_w;

typedef struct rt_ffn_w {
    rt_mlp_w dense;        /* dense layers */
    rt_mlp_w routed;       /* (E,F,C) (E,F,C) (E,C,F) */
    rt_mlp_w shared;       /* one SwiGLU of width shared * F */
    rt_linear router;      /* (E,C) */
    rt_linear gate;        /* (1,C) of the shared experts, Qwen2-MoE: a router with one expert */
    rt_tensor bias;        /* (E) selection bias, sigmoid routers only */
} rt_ffn_w;

typedef struct rt_mlp_saved {
    rt_tensor gate, up, act; /* (N,F) */
    rt_swiglu_rule rule;
} rt_mlp_saved;

/* The shared experts' gate, sigmoid(x · gateᵀ), as a router that has one expert to choose. */
typedef struct rt_gate_saved {
    rt_tensor logits, score, idx, weight, slot; /* (N,1) */
    rt_tensor offset, row;                      /* (2) (N) */
    rt_tensor ys;                               /* (N,C) the shared experts' output */
} rt_gate_saved;

typedef struct rt_ffn_saved {
    rt_mlp_saved dense, shared, routed; /* routed: (N*A,F) */
    rt_tensor logits, score;            /* (N,E) */
    rt_tensor idx, weight, slot;        /* (N,A) */
    rt_tensor offset, row;              /* (E+1) (N*A) */
    rt_tensor xs, ys;                   /* (N*A,C) rows sorted by expert, in and out */
    rt_gate_saved gate;                 /* where shared experts have a gate */
    rt_tensor load;                     /* (E) f32, rows an expert received since the last update */
} rt_ffn_saved;

void rt_ffn_params(rt_params *p, const rt_config *cfg, rt_ffn_w *w);
void rt_ffn_plan(const rt_plan *p, const rt_config *cfg, int64_t layer, rt_ffn_saved *s);
/* Gradients for layers of both kinds: one set serves every layer. */
void rt_ffn_plan_grads(const rt_plan *p, const rt_config *cfg, rt_ffn_saved *ds);
/* y(N,C) += ffn(x(N,C)). With visit, experts are multiplied as they become resident: -1 when they
   do not. */
int rt_ffn_forward(rt_dev *d, const rt_config *cfg, int64_t layer, const rt_ffn_w *w,
                   rt_ffn_saved *s, rt_tensor *y, const rt_tensor *x, const rt_visit *visit,
                   rt_err *err);
/* dw += , dx(N,C) = ; visit as in forward */
int rt_ffn_backward(rt_dev *d, const rt_config *cfg, int64_t layer, const rt_ffn_w *w, rt_ffn_w *dw,
                    rt_ffn_saved *s, rt_ffn_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                    const rt_tensor *x, const rt_visit *visit, rt_err *err);

RT_END

#endif
