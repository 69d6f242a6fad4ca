/* gqa.c: grouped-query attention: projections with optional biases and head norms, rope, one
   attention. Its cache is keys and values of every key head. */
#include "core/network/mixer.h"

static void params(rt_params *p, const rt_config *c, rt_mixer_w *w)
{
    int64_t dk = c->head_dim, h = c->heads, k = c->kv_heads;
    rt_qk_norm norm = rt_config_qk_norm(c);
    rt_linear_weight(p, &w->q, "self_attn.q_proj.weight", "attn_q", RT_INIT_NORMAL, 0, h * dk,
                     c->width);
    rt_linear_weight(p, &w->k, "self_attn.k_proj.weight", "attn_k", RT_INIT_NORMAL, 0, k * dk,
                     c->width);
    rt_linear_weight(p, &w->v, "self_attn.v_proj.weight", "attn_v", RT_INIT_NORMAL, 0, k * dk,
                     c->width);
    if (rt_config_qkv_bias(c)) {
        rt_linear_bias(p, &w->q, "self_attn.q_proj.bias", "attn_q", 0, h * dk);
        rt_linear_bias(p, &w->k, "self_attn.k_proj.bias", "attn_k", 0, k * dk);
        rt_linear_bias(p, &w->v, "self_attn.v_proj.bias", "attn_v", 0, k * dk);
    }
    if (c->family->sinks)
        rt_param_add(p, &w->sinks, "self_attn.sinks", "attn_sinks", RT_INIT_ZEROS, 0, h, 0, 0);
    if (norm) {
        rt_param_add(p, &w->q_norm, "self_attn.q_norm.weight", "attn_q_norm", RT_INIT_ONES, 0,
                     norm == RT_QK_WHOLE ? h * dk : dk, 0, 0);
        rt_param_add(p, &w->k_norm, "self_attn.k_norm.weight", "attn_k_norm", RT_INIT_ONES, 0,
                     norm == RT_QK_WHOLE ? k * dk : dk, 0, 0);
    }
    rt_linear_weight(p, &w->o, "self_attn.o_proj.weight", "attn_output", RT_INIT_OUTPUT, 0,
                     c->width, h * dk);
    if (rt_config_output_bias(c))
        rt_linear_bias(p, &w->o, "self_attn.o_proj.bias", "attn_output", 0, c->width);
}

static void plan(const rt_plan *p, const rt_config *c, rt_mixer_saved *s)
{
    int64_t h = c->heads, k = c->kv_heads, dk = c->head_dim;
    rt_qk_norm norm = rt_config_qk_norm(c);
    rt_plan_rows(p, &s->q, "attention.q", p->act, 1, h, dk);
    rt_plan_rows(p, &s->k, "attention.k", p->act, 1, k, dk);
    rt_plan_rows(p, &s->v, "attention.v", p->act, 1, k, dk);
    if (norm) {
        rt_plan_rows(p, &s->q_raw, "attention.q_raw", p->act, 1, h, dk);
        rt_plan_rows(p, &s->k_raw, "attention.k_raw", p->act, 1, k, dk);
        rt_plan_rows(p, &s->q_rstd, "attention.rstd", RT_F32, norm == RT_QK_WHOLE ? 1 : h, 0, 0);
        rt_plan_rows(p, &s->k_rstd, "attention.rstd", RT_F32, norm == RT_QK_WHOLE ? 1 : k, 0, 0);
    }
    rt_mixer_plan_attention(p, c, s);
}

static void cache(const rt_config *c, rt_kv *kv)
{
    kv->heads = c->kv_heads;
    kv->dk = kv->dv = c->head_dim;
    kv->v_in_k = false;
}

/* What a norm of queries or keys sees as rows: heads, or all heads of a row. */
static rt_tensor normed(const rt_config *c, const rt_tensor *t)
{
    return rt_config_qk_norm(c) == RT_QK_WHOLE
               ? rt_as_rows(t)
               : rt_tensor_2(t->data, t->dtype, t->dim[0] * t->dim[1], t->dim[2]);
}

static void forward(rt_dev *d, const rt_config *c, const rt_mixer_w *w, rt_mixer_saved *s,
                    rt_tensor *y, const rt_tensor *x, const rt_pass *pass)
{
    rt_attention_rule rule = rt_mixer_rule(c, w, pass);
    bool norm = rt_config_qk_norm(c) != RT_QK_NONE;
    rt_tensor *q = norm ? &s->q_raw : &s->q, *k = norm ? &s->k_raw : &s->k;
    rt_linear_forward(d, &w->q, q, x, NULL, 0.0f);
    rt_linear_forward(d, &w->k, k, x, NULL, 0.0f);
    rt_linear_forward(d, &w->v, &s->v, x, NULL, 0.0f);
    if (norm) {
        rt_tensor qn = normed(c, &s->q), kn = normed(c, &s->k), qr = normed(c, q),
                  kr = normed(c, k);
        rt_rmsnorm_forward(d, &qn, &s->q_rstd, &qr, &w->q_norm, (float)c->norm_eps);
        rt_rmsnorm_forward(d, &kn, &s->k_rstd, &kr, &w->k_norm, (float)c->norm_eps);
    }
    rt_rope(d, &s->q, pass->rope, &pass->rows->pos, 0, c->interleaved, false);
    rt_rope(d, &s->k, pass->rope, &pass->rows->pos, 0, c->interleaved, false);
    if (pass->kv) {
        rt_kv_append(d, pass->kv, &s->k, &s->v, pass->rows);
        rt_attention_cached(d, &s->out, &s->q, pass->kv, pass->rows, &rule);
    } else {
        rt_attention_forward(d, &s->out, &s->lse, &s->q, &s->k, &s->v, pass->rows, &rule);
    }
    rt_linear_forward(d, &w->o, y, &s->out, NULL, 1.0f);
}

static void backward(rt_dev *d, const rt_config *c, const rt_mixer_w *w, rt_mixer_w *dw,
                     rt_mixer_saved *s, rt_mixer_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                     const rt_tensor *x, const rt_pass *pass)
{
    rt_mixer_attention_backward(d, c, w, dw, s, ds, dy, pass);
    rt_rope(d, &ds->k, pass->rope, &pass->rows->pos, 0, c->interleaved, true);
    rt_rope(d, &ds->q, pass->rope, &pass->rows->pos, 0, c->interleaved, true);
    const rt_tensor *dq = &ds->q, *dk = &ds->k;
    if (rt_config_qk_norm(c)) {
        rt_tensor gq = normed(c, &ds->q), gk = normed(c, &ds->k);
        rt_tensor oq = normed(c, &ds->q_raw), ok = normed(c, &ds->k_raw);
        rt_tensor qr = normed(c, &s->q_raw), kr = normed(c, &s->k_raw);
        rt_rmsnorm_backward(d, &ok, &dw->k_norm, &gk, &kr, &w->k_norm, &s->k_rstd, 0.0f);
        rt_rmsnorm_backward(d, &oq, &dw->q_norm, &gq, &qr, &w->q_norm, &s->q_rstd, 0.0f);
        dq = &ds->q_raw;
        dk = &ds->k_raw;
    }
    rt_linear_backward(d, &w->v, &dw->v, dx, &ds->v, x, NULL, 0.0f);
    rt_linear_backward(d, &w->k, &dw->k, dx, dk, x, NULL, 1.0f);
    rt_linear_backward(d, &w->q, &dw->q, dx, dq, x, NULL, 1.0f);
}

const rt_mixer rt_mixer_gqa = { "GQA", params, plan, cache, forward, backward };
