#include "core/network/block.h"

void rt_block_params(rt_params *p, const rt_config *c, rt_block_w *w)
{
    rt_param_add(p, &w->attn_norm, "input_layernorm.weight", "attn_norm", RT_INIT_ONES, 0, c->width,
                 0, 0);
    rt_mixer_of(c, p->layer)->params(p, c, &w->mixer);
    rt_param_add(p, &w->ffn_norm, "post_attention_layernorm.weight", "ffn_norm", RT_INIT_ONES, 0,
                 c->width, 0, 0);
    rt_ffn_params(p, c, &w->ffn);
}

static void plan_norms(const rt_plan *p, const rt_config *c, rt_block_saved *s)
{
    rt_plan_rows(p, &s->attn_in, "block.norm", p->act, 1, c->width, 0);
    rt_plan_rows(p, &s->attn_rstd, "block.norm", RT_F32, 1, 0, 0);
    rt_plan_rows(p, &s->ffn_in, "block.norm", p->act, 1, c->width, 0);
    rt_plan_rows(p, &s->ffn_rstd, "block.norm", RT_F32, 1, 0, 0);
}

void rt_block_plan(const rt_plan *p, const rt_config *c, int64_t layer, rt_block_saved *s)
{
    plan_norms(p, c, s);
    if (p->mode == RT_PLAN_TRAIN)
        rt_plan_rows(p, &s->mid, "block.stream", p->act, 1, c->width, 0);
    rt_mixer_of(c, layer)->plan(p, c, &s->mixer);
    rt_ffn_plan(p, c, layer, &s->ffn);
}

void rt_block_plan_grads(const rt_plan *p, const rt_config *c, rt_block_saved *ds)
{
    plan_norms(p, c, ds);
    rt_mixer_of(c, 0)->plan(p, c, &ds->mixer); /* all layers have the same */
    rt_ffn_plan_grads(p, c, &ds->ffn);
}

int rt_block_forward(rt_dev *d, const rt_config *c, int64_t layer, const rt_block_w *w,
                     rt_block_saved *s, rt_tensor *y, const rt_tensor *x, const rt_pass *pass,
                     rt_err *err)
{
    float eps = (float)c->norm_eps;
    rt_tensor *mid = s->mid.data ? &s->mid : y;
    rt_rmsnorm_forward(d, &s->attn_in, &s->attn_rstd, x, &w->attn_norm, eps);
    if (mid->data != x->data)
        rt_copy(d, mid, x);
    rt_mixer_of(c, layer)->forward(d, c, &w->mixer, &s->mixer, mid, &s->attn_in, pass);
    rt_rmsnorm_forward(d, &s->ffn_in, &s->ffn_rstd, mid, &w->ffn_norm, eps);
    if (y->data != mid->data)
        rt_copy(d, y, mid);
    return rt_ffn_forward(d, c, layer, &w->ffn, &s->ffn, y, &s->ffn_in, pass->visit, err);
}

int rt_block_backward(rt_dev *d, const rt_config *c, int64_t layer, const rt_block_w *w,
                      rt_block_w *dw, rt_block_saved *s, rt_block_saved *ds, rt_tensor *dx,
                      const rt_tensor *x, const rt_pass *pass, rt_err *err)
{
    if (rt_ffn_backward(d, c, layer, &w->ffn, &dw->ffn, &s->ffn, &ds->ffn, &ds->ffn_in, dx,
                        &s->ffn_in, pass->visit, err))
        return -1;
    rt_rmsnorm_backward(d, dx, &dw->ffn_norm, &ds->ffn_in, &s->mid, &w->ffn_norm, &s->ffn_rstd,
                        1.0f);
    rt_mixer_of(c, layer)->backward(d, c, &w->mixer, &dw->mixer, &s->mixer, &ds->mixer,
                                    &ds->attn_in, dx, &s->attn_in, pass);
    rt_rmsnorm_backward(d, dx, &dw->attn_norm, &ds->attn_in, x, &w->attn_norm, &s->attn_rstd, 1.0f);
    return 0;
}
