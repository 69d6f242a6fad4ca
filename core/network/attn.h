/* attn.h: the attention layer, grouped-query (GQA) or multi-head latent (MLA), around one
   attention operation. It adds its output to the residual stream.

   MLA (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values are projections of a latent of
   width R; a rope key of width P is shared by all heads. Two equal forms:
     expanded  k = [kv_b_k latent | rope key], v = kv_b_v latent: training and scoring;
     absorbed  q' = [q_nope kv_b_k | q_rope] attends over [latent | rope key], and kv_b_v is applied
               to the result: decoding, where the cache is the latent itself (R + P a token).
   The two are different sums: their results agree to rounding, not to the bit. */
#ifndef RT_ATTN_H
#define RT_ATTN_H

#include "core/network/params.h"

RT_BEGIN

typedef struct rt_attn_w {
    rt_tensor wq;              /* (H*Dk, C), or (H*Dk, Q) after a query latent */
    rt_tensor wk, wv;          /* (K*Dk, C) (K*Dv, C); GQA */
    rt_tensor wo;              /* (C, H*Dv) */
    rt_tensor bq, bk, bv, bo;  /* (H*Dk) (K*Dk) (K*Dv) (C) where there are biases */
    rt_tensor sinks;           /* (H) where there are */
    rt_tensor q_norm, k_norm;  /* (Dk) when heads are normalised, (H*Dk) (K*Dk) all together */
    rt_tensor q_a, q_a_norm;   /* (Q, C) (Q) */
    rt_tensor kv_a, kv_a_norm; /* (R+P, C) (R) */
    rt_tensor kv_b;            /* (H, Dn+Dv, R) */
} rt_attn_w;

/* Kept from forward for backward; the gradients of activations beside them. */
typedef struct rt_attn_saved {
    rt_tensor q, k, v;                    /* (N,H,Dk) (N,K,Dk) (N,K,Dv), after norm and rope */
    rt_tensor out, lse;                   /* (N,H,Dv) (N,H) */
    rt_tensor q_raw, k_raw;               /* (N,H,Dk) (N,K,Dk) before the head norms */
    rt_tensor q_rstd, k_rstd;             /* (N*H) (N*K), or (N) each */
    rt_tensor q_lat, q_lat_n, q_lat_rstd; /* (N,Q) (N,Q) (N) */
    rt_tensor kv, kv_n, kv_rstd;          /* (N,R+P) (N,R) (N) */
    rt_tensor kvb;                        /* (N,H,Dn+Dv) */
    rt_tensor q_abs, out_abs;             /* (N,H,R+P) (N,H,R) absorbed decoding only */
} rt_attn_saved;

/* What a block needs to know about the batch beside its rows. */
typedef struct rt_pass {
    const rt_rows *rows;
    const rt_tensor *rope; /* (T,P) */
    rt_kv *kv;             /* this layer's cache, or NULL: rows are whole sequences */
    int64_t window;        /* of this layer, 0 = none */
} rt_pass;

typedef enum rt_plan_mode {
    RT_PLAN_SCORE,  /* forward over whole sequences */
    RT_PLAN_DECODE, /* forward through a cache */
    RT_PLAN_TRAIN   /* forward and backward */
} rt_plan_mode;

typedef struct rt_plan {
    rt_arena *arena;
    rt_dev *dev;
    int64_t n;       /* rows */
    int64_t longest; /* longest segment */
    rt_plan_mode mode;
} rt_plan;

void rt_attn_params(rt_params *p, const rt_config *cfg, rt_attn_w *w);
void rt_attn_plan(const rt_plan *p, const rt_config *cfg, rt_attn_saved *s);
/* Gradients of the activations that backward needs; one set serves every layer. */
void rt_attn_plan_grads(const rt_plan *p, const rt_config *cfg, rt_attn_saved *ds);
/* y(N,C) += attention(x(N,C)) */
void rt_attn_forward(rt_dev *d, const rt_config *cfg, const rt_attn_w *w, rt_attn_saved *s,
                     rt_tensor *y, const rt_tensor *x, const rt_pass *pass);
/* dw += , dx(N,C) = ; dy(N,C) is the gradient of y and is left alone */
void rt_attn_backward(rt_dev *d, const rt_config *cfg, const rt_attn_w *w, rt_attn_w *dw,
                      rt_attn_saved *s, rt_attn_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                      const rt_tensor *x, const rt_pass *pass);

RT_END

#endif
