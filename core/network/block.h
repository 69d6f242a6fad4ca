/* block.h: the pre-norm residual block: x + attention(norm(x)), then + ffn(norm(.)). */
#ifndef RT_BLOCK_H
#define RT_BLOCK_H

#include "core/network/ffn.h"

RT_BEGIN

typedef struct rt_block_w {
    rt_tensor attn_norm, ffn_norm; /* (C) */
    rt_mixer_w mixer;
    rt_ffn_w ffn;
} rt_block_w;

typedef struct rt_block_saved {
    rt_tensor attn_in, attn_rstd; /* (N,C) (N) normalised input of attention */
    rt_tensor mid;                /* (N,C) residual stream between the two halves */
    rt_tensor ffn_in, ffn_rstd;   /* (N,C) (N) */
    rt_mixer_saved mixer;
    rt_ffn_saved ffn;
} rt_block_saved;

void rt_block_params(rt_params *p, const rt_config *cfg, rt_block_w *w);
/* With p->mode not TRAIN, `mid` is left unplanned: the stream is updated in place. */
void rt_block_plan(const rt_plan *p, const rt_config *cfg, int64_t layer, rt_block_saved *s);
void rt_block_plan_grads(const rt_plan *p, const rt_config *cfg, rt_block_saved *ds);
/* y(N,C) = block(x(N,C)); y may be x when not training. -1: what rt_ffn_forward says. */
int rt_block_forward(rt_dev *d, const rt_config *cfg, int64_t layer, const rt_block_w *w,
                     rt_block_saved *s, rt_tensor *y, const rt_tensor *x, const rt_pass *pass,
                     rt_err *err);
/* dw += ; dx(N,C) holds the gradient of y and becomes the gradient of x */
int rt_block_backward(rt_dev *d, const rt_config *cfg, int64_t layer, const rt_block_w *w,
                      rt_block_w *dw, rt_block_saved *s, rt_block_saved *ds, rt_tensor *dx,
                      const rt_tensor *x, const rt_pass *pass, rt_err *err);

RT_END

#endif
