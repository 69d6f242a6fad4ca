/* mla.c: multi-head latent attention in its two equal forms:
     expanded  k = [kv_b_k latent | rope key], v = kv_b_v latent: training and scoring;
     absorbed  q' = [q_nope kv_b_k | q_rope] attends over [latent | rope key], and kv_b_v is applied
               to the result: decoding, where the cache is the latent itself (R + P a token).
   The two are different sums: their results agree to rounding, not to the bit. */
#include "core/network/mixer.h"

/* The norms inside MLA use the reference's class default, not the config's epsilon. */
static const float NORM_EPS = 1e-6f;

static void params(rt_params *p, const rt_config *c, rt_mixer_w *w)
{
    int64_t dk = c->nope_dim + c->rope_dim, h = c->heads, r = c->kv_rank;
    if (c->q_rank) {
        rt_linear_weight(p, &w->q_a, "self_attn.q_a_proj.weight", "attn_q_a", RT_INIT_NORMAL, 0,
                         c->q_rank, c->width);
        rt_param_add(p, &w->q_a_norm, "self_attn.q_a_layernorm.weight", "attn_q_a_norm",
                     RT_INIT_ONES, 0, c->q_rank, 0, 0);
        rt_linear_weight(p, &w->q, "self_attn.q_b_proj.weight", "attn_q_b", RT_INIT_NORMAL, 0,
                         h * dk, c->q_rank);
    } else {
        rt_linear_weight(p, &w->q, "self_attn.q_proj.weight", "attn_q", RT_INIT_NORMAL, 0, h * dk,
                         c->width);
    }
    rt_linear_weight(p, &w->kv_a, "self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa",
                     RT_INIT_NORMAL, 0, r + c->rope_dim, c->width);
    rt_param_add(p, &w->kv_a_norm, "self_attn.kv_a_layernorm.weight", "attn_kv_a_norm",
                 RT_INIT_ONES, 0, r, 0, 0);
    /* read by head, too */
    rt_param_add(p, &w->kv_b.w, "self_attn.kv_b_proj.weight", "attn_kv_b", RT_INIT_NORMAL,
                 RT_PARAM_DECAY | RT_PARAM_PRODUCT | RT_PARAM_RAW | RT_PARAM_LINEAR,
                 h * (c->nope_dim + c->v_dim), r, 0);
    rt_linear_weight(p, &w->o, "self_attn.o_proj.weight", "attn_output", RT_INIT_OUTPUT, 0,
                     c->width, h * c->v_dim);
    if (rt_config_output_bias(c))
        rt_linear_bias(p, &w->o, "self_attn.o_proj.bias", "attn_output", 0, c->width);
}

static rt_tensor kv_b_heads(const rt_config *c, const rt_tensor *kv_b)
{
    rt_tensor by_head = rt_tensor_3(kv_b->data, kv_b->dtype, c->heads, c->nope_dim + c->v_dim,
                                    c->kv_rank);
    by_head.piece = kv_b->piece;
    return by_head;
}

static void plan(const rt_plan *p, const rt_config *c, rt_mixer_saved *s)
{
    int64_t h = c->heads, dk = c->nope_dim + c->rope_dim, wide = c->kv_rank + c->rope_dim;
    rt_plan_rows(p, &s->q, "attention.q", p->act, 1, h, dk);
    if (c->q_rank) {
        rt_plan_rows(p, &s->q_lat, "attention.q_latent", p->act, 1, c->q_rank, 0);
        rt_plan_rows(p, &s->q_lat_n, "attention.q_latent", p->act, 1, c->q_rank, 0);
        rt_plan_rows(p, &s->q_lat_rstd, "attention.rstd", RT_F32, 1, 0, 0);
    }
    rt_plan_rows(p, &s->kv, "attention.latent", p->act, 1, 1, wide);
    rt_plan_rows(p, &s->kv_n, "attention.latent", p->act, 1, c->kv_rank, 0);
    rt_plan_rows(p, &s->kv_rstd, "attention.rstd", RT_F32, 1, 0, 0);
    if (p->mode == RT_PLAN_DECODE) {
        rt_plan_rows(p, &s->q_abs, "attention.q_absorbed", p->act, 1, h, wide);
        rt_plan_rows(p, &s->out_abs, "attention.out_absorbed", p->act, 1, h, c->kv_rank);
    } else {
        rt_plan_rows(p, &s->kvb, "attention.kv_b", p->act, 1, h, c->nope_dim + c->v_dim);
        rt_plan_rows(p, &s->k, "attention.k", p->act, 1, h, dk);
        rt_plan_rows(p, &s->v, "attention.v", p->act, 1, h, c->v_dim);
    }
    rt_mixer_plan_attention(p, c, s);
}

static void cache(const rt_config *c, rt_kv *kv)
{
    kv->heads = 1;
    kv->dk = c->kv_rank + c->rope_dim;
    kv->dv = c->kv_rank;
    kv->v_in_k = true;
}

/* Queries, and the latent with its rope key in place; keys and values are not expanded yet. */
static void latent_forward(rt_dev *d, const rt_config *c, const rt_mixer_w *w, rt_mixer_saved *s,
                           const rt_tensor *x, const rt_pass *pass)
{
    const rt_tensor *from = x;
    if (c->q_rank) {
        rt_linear_forward(d, &w->q_a, &s->q_lat, x, NULL, 0.0f);
        rt_rmsnorm_forward(d, &s->q_lat_n, &s->q_lat_rstd, &s->q_lat, &w->q_a_norm, NORM_EPS);
        from = &s->q_lat_n;
    }
    rt_linear_forward(d, &w->q, &s->q, from, NULL, 0.0f);
    rt_linear_forward(d, &w->kv_a, &s->kv, x, NULL, 0.0f);
    rt_tensor kv = rt_as_rows(&s->kv);
    rt_rmsnorm_forward(d, &s->kv_n, &s->kv_rstd, &kv, &w->kv_a_norm, NORM_EPS);
    rt_rope(d, &s->q, pass->rope, &pass->rows->pos, c->nope_dim, c->interleaved, false);
    rt_rope(d, &s->kv, pass->rope, &pass->rows->pos, c->kv_rank, c->interleaved, false);
}

/* out(N,H,Dv) by attending over the cached latents. */
static void absorbed_forward(rt_dev *d, const rt_config *c, const rt_mixer_w *w, rt_mixer_saved *s,
                             const rt_pass *pass)
{
    rt_tensor kv_b = kv_b_heads(c, &w->kv_b.w), latent = s->kv;
    if (w->kv_b.adapters)
        rt_bug("MLA: decoding through adapters that are not merged");
    rt_tensor kv_n = rt_tensor_3(s->kv_n.data, s->kv_n.dtype, s->kv_n.dim[0], 1, c->kv_rank);
    rt_copy_columns(d, &latent, 0, &kv_n, 0,
                    c->kv_rank); /* the cache holds the normalised latent */
    rt_kv_append(d, pass->kv, &latent, NULL, pass->rows);
    rt_matmul_heads(d, &s->q_abs, 0, &s->q, 0, &kv_b, 0, c->nope_dim, false);
    rt_copy_columns(d, &s->q_abs, c->kv_rank, &s->q, c->nope_dim, c->rope_dim);
    rt_attention_rule rule = rt_mixer_rule(c, w, pass);
    rt_attention_cached(d, &s->out_abs, &s->q_abs, pass->kv, pass->rows, &rule);
    rt_matmul_heads(d, &s->out, 0, &s->out_abs, 0, &kv_b, c->nope_dim, c->v_dim, true);
}

static void forward(rt_dev *d, const rt_config *c, const rt_mixer_w *w, rt_mixer_saved *s,
                    rt_tensor *y, const rt_tensor *x, const rt_pass *pass)
{
    latent_forward(d, c, w, s, x, pass);
    if (pass->kv) {
        absorbed_forward(d, c, w, s, pass);
    } else {
        rt_attention_rule rule = rt_mixer_rule(c, w, pass);
        rt_tensor kv = rt_as_rows(&s->kv);
        rt_linear_forward(d, &w->kv_b, &s->kvb, &s->kv_n, NULL, 0.0f);
        rt_mla_expand_forward(d, &s->k, &s->v, &s->kvb, &kv);
        rt_attention_forward(d, &s->out, &s->lse, &s->q, &s->k, &s->v, pass->rows, &rule);
    }
    rt_linear_forward(d, &w->o, y, &s->out, NULL, 1.0f);
}

static void backward(rt_dev *d, const rt_config *c, const rt_mixer_w *w, rt_mixer_w *dw,
                     rt_mixer_saved *s, rt_mixer_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                     const rt_tensor *x, const rt_pass *pass)
{
    rt_tensor kv = rt_as_rows(&s->kv), dkv = rt_as_rows(&ds->kv);
    rt_mixer_attention_backward(d, c, w, dw, s, ds, dy, pass);
    rt_mla_expand_backward(d, &ds->kvb, &dkv, &ds->k, &ds->v);
    rt_linear_backward(d, &w->kv_b, &dw->kv_b, &ds->kv_n, &ds->kvb, &s->kv_n, NULL, 0.0f);
    rt_rope(d, &ds->kv, pass->rope, &pass->rows->pos, c->kv_rank, c->interleaved, true);
    rt_rope(d, &ds->q, pass->rope, &pass->rows->pos, c->nope_dim, c->interleaved, true);
    rt_rmsnorm_backward(d, &dkv, &dw->kv_a_norm, &ds->kv_n, &kv, &w->kv_a_norm, &s->kv_rstd, 0.0f);
    rt_linear_backward(d, &w->kv_a, &dw->kv_a, dx, &ds->kv, x, NULL, 0.0f);
    if (c->q_rank) {
        rt_linear_backward(d, &w->q, &dw->q, &ds->q_lat_n, &ds->q, &s->q_lat_n, NULL, 0.0f);
        rt_rmsnorm_backward(d, &ds->q_lat, &dw->q_a_norm, &ds->q_lat_n, &s->q_lat, &w->q_a_norm,
                            &s->q_lat_rstd, 0.0f);
        rt_linear_backward(d, &w->q_a, &dw->q_a, dx, &ds->q_lat, x, NULL, 1.0f);
    } else {
        rt_linear_backward(d, &w->q, &dw->q, dx, &ds->q, x, NULL, 1.0f);
    }
}

const rt_mixer rt_mixer_mla = { "MLA", params, plan, cache, forward, backward };
