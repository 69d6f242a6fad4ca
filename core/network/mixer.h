/* mixer.h: the half of a block in which rows see other rows: it adds its output to the residual
   stream. A mixer is a row of functions; it owns the shape of what it keeps of a sequence (its
   cache), of what backward needs, and what a new sequence starts from. Today all of them attend:

     GQA  grouped-query attention (gqa.c)
     MLA  multi-head latent attention (mla.c; DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and
          values are projections of a latent of width R, a rope key of width P is shared by all heads

   A document begins where a segment does: keys of other segments are not seen, so an attending mixer
   has nothing to reset. One with a running state starts it at zero at every row of position 0. */
#ifndef RT_MIXER_H
#define RT_MIXER_H

#include "core/network/linear.h"
#include "core/network/plan.h"
#include "core/network/visit.h"

RT_BEGIN

typedef struct rt_mixer_w {
    rt_linear q;                   /* (H*Dk, C), or (H*Dk, Q) after a query latent */
    rt_linear k, v;                /* (K*Dk, C) (K*Dv, C); GQA */
    rt_linear o;                   /* (C, H*Dv) */
    rt_tensor sinks;               /* (H) where there are */
    rt_tensor q_norm, k_norm;      /* (Dk) when heads are normalised, (H*Dk) (K*Dk) all together */
    rt_linear q_a, kv_a, kv_b;     /* (Q, C) (R+P, C) (H*(Dn+Dv), R); MLA */
    rt_tensor q_a_norm, kv_a_norm; /* (Q) (R) */
} rt_mixer_w;

/* Kept from forward for backward; the gradients of activations beside them. */
typedef struct rt_mixer_saved {
    rt_tensor q, k, v;                    /* (N,H,Dk) (N,K,Dk) (N,K,Dv), after norm and rope */
    rt_tensor out, lse;                   /* (N,H,Dv) (N,H) */
    rt_tensor q_raw, k_raw;               /* (N,H,Dk) (N,K,Dk) before the head norms */
    rt_tensor q_rstd, k_rstd;             /* (N*H) (N*K), or (N) each */
    rt_tensor q_lat, q_lat_n, q_lat_rstd; /* (N,Q) (N,Q) (N) */
    rt_tensor kv, kv_n, kv_rstd;          /* (N,R+P) (N,R) (N) */
    rt_tensor kvb;                        /* (N,H,Dn+Dv) */
    rt_tensor q_abs, out_abs;             /* (N,H,R+P) (N,H,R) absorbed decoding only */
} rt_mixer_saved;

/* What a block needs to know about the batch beside its rows. */
typedef struct rt_pass {
    const rt_rows *rows;
    const rt_tensor *rope; /* (T,P) */
    rt_kv *kv;             /* this layer's cache, or NULL: rows are whole sequences */
    int64_t window;        /* of this layer, 0 = none */
    const rt_visit *visit; /* of routed experts, or NULL: all are resident */
} rt_pass;

typedef struct rt_mixer {
    const char *name;
    void (*params)(rt_params *p, const rt_config *cfg, rt_mixer_w *w);
    void (*plan)(const rt_plan *p, const rt_config *cfg, rt_mixer_saved *s);
    /* The cache of a layer, but for how many sequences and how long. */
    void (*cache)(const rt_config *cfg, rt_kv *kv);
    /* y(N,C) += mixed x(N,C) */
    void (*forward)(rt_dev *d, const rt_config *cfg, const rt_mixer_w *w, rt_mixer_saved *s,
                    rt_tensor *y, const rt_tensor *x, const rt_pass *pass);
    /* dw += , dx(N,C) = ; dy(N,C) is the gradient of y and is left alone. ds: gradients of the
       activations, planned as they are; one set serves every layer. */
    void (*backward)(rt_dev *d, const rt_config *cfg, const rt_mixer_w *w, rt_mixer_w *dw,
                     rt_mixer_saved *s, rt_mixer_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                     const rt_tensor *x, const rt_pass *pass);
} rt_mixer;

extern const rt_mixer rt_mixer_gqa, rt_mixer_mla;

const rt_mixer *rt_mixer_of(const rt_config *cfg, int64_t layer);

/* Of the attending ones. */
rt_attention_rule rt_mixer_rule(const rt_config *cfg, const rt_mixer_w *w, const rt_pass *pass);
/* out(N,H,Dv), lse */
void rt_mixer_plan_attention(const rt_plan *p, const rt_config *cfg, rt_mixer_saved *s);
/* The output's and attention's own part of backward: ds->q, k, v from dy. */
void rt_mixer_attention_backward(rt_dev *d, const rt_config *cfg, const rt_mixer_w *w,
                                 rt_mixer_w *dw, rt_mixer_saved *s, rt_mixer_saved *ds,
                                 const rt_tensor *dy, const rt_pass *pass);

RT_END

#endif
