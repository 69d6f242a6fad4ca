#include "core/network/attn.h"

static bool is_mla(const rt_config *c) { return c->family->attn == RT_ATTN_MLA; }

static void add_bias(rt_params *p, rt_tensor *b, const char *name, const char *gguf, int64_t n)
{
    rt_param_add(p, b, name, gguf, RT_INIT_ZEROS, RT_PARAM_BIAS, n, 0, 0);
}

void rt_attn_params(rt_params *p, const rt_config *c, rt_attn_w *w)
{
    const unsigned matrix = RT_PARAM_DECAY | RT_PARAM_PRODUCT;
    int64_t dk = rt_config_dk(c), dv = rt_config_dv(c), h = c->heads, k = c->kv_heads;
    if (is_mla(c)) {
        if (c->q_rank) {
            rt_param_add(p, &w->q_a, "self_attn.q_a_proj.weight", "attn_q_a", RT_INIT_NORMAL,
                         matrix, c->q_rank, c->width, 0);
            rt_param_add(p, &w->q_a_norm, "self_attn.q_a_layernorm.weight", "attn_q_a_norm",
                         RT_INIT_ONES, 0, c->q_rank, 0, 0);
            rt_param_add(p, &w->wq, "self_attn.q_b_proj.weight", "attn_q_b", RT_INIT_NORMAL, matrix,
                         h * dk, c->q_rank, 0);
        } else {
            rt_param_add(p, &w->wq, "self_attn.q_proj.weight", "attn_q", RT_INIT_NORMAL, matrix,
                         h * dk, c->width, 0);
        }
        rt_param_add(p, &w->kv_a, "self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa",
                     RT_INIT_NORMAL, matrix, c->kv_rank + c->rope_dim, c->width, 0);
        rt_param_add(p, &w->kv_a_norm, "self_attn.kv_a_layernorm.weight", "attn_kv_a_norm",
                     RT_INIT_ONES, 0, c->kv_rank, 0, 0);
        rt_param_add(p, &w->kv_b, "self_attn.kv_b_proj.weight", "attn_kv_b", RT_INIT_NORMAL,
                     matrix | RT_PARAM_RAW, h * (c->nope_dim + dv), c->kv_rank, 0);
    } else {
        rt_param_add(p, &w->wq, "self_attn.q_proj.weight", "attn_q", RT_INIT_NORMAL, matrix, h * dk,
                     c->width, 0);
        rt_param_add(p, &w->wk, "self_attn.k_proj.weight", "attn_k", RT_INIT_NORMAL, matrix, k * dk,
                     c->width, 0);
        rt_param_add(p, &w->wv, "self_attn.v_proj.weight", "attn_v", RT_INIT_NORMAL, matrix, k * dv,
                     c->width, 0);
        if (rt_config_qkv_bias(c)) {
            add_bias(p, &w->bq, "self_attn.q_proj.bias", "attn_q", h * dk);
            add_bias(p, &w->bk, "self_attn.k_proj.bias", "attn_k", k * dk);
            add_bias(p, &w->bv, "self_attn.v_proj.bias", "attn_v", k * dv);
        }
        if (c->family->sinks)
            rt_param_add(p, &w->sinks, "self_attn.sinks", "attn_sinks", RT_INIT_ZEROS, 0, h, 0, 0);
        rt_qk_norm norm = rt_config_qk_norm(c);
        if (norm) {
            rt_param_add(p, &w->q_norm, "self_attn.q_norm.weight", "attn_q_norm", RT_INIT_ONES, 0,
                         norm == RT_QK_WHOLE ? h * dk : dk, 0, 0);
            rt_param_add(p, &w->k_norm, "self_attn.k_norm.weight", "attn_k_norm", RT_INIT_ONES, 0,
                         norm == RT_QK_WHOLE ? k * dk : dk, 0, 0);
        }
    }
    rt_param_add(p, &w->wo, "self_attn.o_proj.weight", "attn_output", RT_INIT_OUTPUT, matrix,
                 c->width, h * dv, 0);
    if (rt_config_output_bias(c))
        add_bias(p, &w->bo, "self_attn.o_proj.bias", "attn_output", c->width);
}

/* ---- GQA ----------------------------------------------------------------------------------------
 */

static rt_attention_rule rule_of(const rt_config *c, const rt_attn_w *w, const rt_pass *pass)
{
    return (rt_attention_rule){ rt_config_softmax_scale(c), pass->window,
                                w->sinks.data ? &w->sinks : NULL };
}

/* A view of (N,H,D) with other dims of the same size, for products and per-head norms. */
static rt_tensor as_2(const rt_tensor *t, int64_t a, int64_t b)
{
    if (rt_tensor_elements(t) != a * b)
        rt_bug("a view of %lld elements as (%lld,%lld)", (long long)rt_tensor_elements(t),
               (long long)a, (long long)b);
    return rt_tensor_2(t->data, t->dtype, a, b);
}

static rt_tensor rows_of(const rt_tensor *t)
{
    return as_2(t, t->dim[0], rt_tensor_elements(t) / t->dim[0]);
}

/* What a norm of queries or keys sees as rows: heads, or all heads of a row. */
static rt_tensor normed(const rt_config *c, const rt_tensor *t)
{
    return rt_config_qk_norm(c) == RT_QK_WHOLE ? rows_of(t)
                                               : as_2(t, t->dim[0] * t->dim[1], t->dim[2]);
}

/* y(N,·) = x · wᵀ + beta y, whatever y's inner shape */
static void project(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *w, float beta)
{
    rt_tensor y2 = rows_of(y), x2 = rows_of(x);
    rt_matmul(d, &y2, &x2, false, w, true, beta);
}

/* dw += dyᵀ x; dx = dy · w + beta dx */
static void project_backward(rt_dev *d, rt_tensor *dx, rt_tensor *dw, const rt_tensor *dy,
                             const rt_tensor *x, const rt_tensor *w, float beta)
{
    rt_tensor dy2 = rows_of(dy), dx2 = rows_of(dx), x2 = rows_of(x);
    rt_matmul(d, dw, &dy2, true, &x2, false, 1.0f);
    rt_matmul(d, &dx2, &dy2, false, w, false, beta);
}

/* y(N,·) = x · wᵀ + beta y, plus the bias b(·) if there is one */
static void project_biased(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *w,
                           const rt_tensor *b, float beta)
{
    rt_tensor y2 = rows_of(y);
    project(d, y, x, w, beta);
    if (b->data)
        rt_bias_forward(d, &y2, b, NULL);
}

/* db += sum of the rows of dy */
static void bias_backward(rt_dev *d, rt_tensor *db, const rt_tensor *dy)
{
    rt_tensor dy2 = rows_of(dy);
    if (db->data)
        rt_bias_backward(d, db, &dy2, NULL);
}

static void plan_gqa(const rt_plan *p, const rt_config *c, rt_attn_saved *s)
{
    rt_arena *a = p->arena;
    int64_t n = p->n, h = c->heads, k = c->kv_heads, dk = c->head_dim;
    rt_qk_norm norm = rt_config_qk_norm(c);
    s->q = rt_plan_3(a, "attention.q", RT_F32, n, h, dk);
    s->k = rt_plan_3(a, "attention.k", RT_F32, n, k, dk);
    s->v = rt_plan_3(a, "attention.v", RT_F32, n, k, dk);
    if (norm) {
        s->q_raw = rt_plan_3(a, "attention.q_raw", RT_F32, n, h, dk);
        s->k_raw = rt_plan_3(a, "attention.k_raw", RT_F32, n, k, dk);
        s->q_rstd = rt_plan_1(a, "attention.rstd", RT_F32, norm == RT_QK_WHOLE ? n : n * h);
        s->k_rstd = rt_plan_1(a, "attention.rstd", RT_F32, norm == RT_QK_WHOLE ? n : n * k);
    }
    rt_dev_need_matmul(p->dev, n, h * dk, c->width);
    rt_dev_need_matmul(p->dev, n, k * dk, c->width);
}

static void gqa_qkv_forward(rt_dev *d, const rt_config *c, const rt_attn_w *w, rt_attn_saved *s,
                            const rt_tensor *x, const rt_pass *pass)
{
    bool norm = rt_config_qk_norm(c) != RT_QK_NONE;
    rt_tensor *q = norm ? &s->q_raw : &s->q, *k = norm ? &s->k_raw : &s->k;
    project_biased(d, q, x, &w->wq, &w->bq, 0.0f);
    project_biased(d, k, x, &w->wk, &w->bk, 0.0f);
    project_biased(d, &s->v, x, &w->wv, &w->bv, 0.0f);
    if (norm) {
        rt_tensor qn = normed(c, &s->q), kn = normed(c, &s->k), qr = normed(c, q),
                  kr = normed(c, k);
        rt_rmsnorm_forward(d, &qn, &s->q_rstd, &qr, &w->q_norm, (float)c->norm_eps);
        rt_rmsnorm_forward(d, &kn, &s->k_rstd, &kr, &w->k_norm, (float)c->norm_eps);
    }
    rt_rope(d, &s->q, pass->rope, &pass->rows->pos, 0, c->interleaved, false);
    rt_rope(d, &s->k, pass->rope, &pass->rows->pos, 0, c->interleaved, false);
}

static void gqa_qkv_backward(rt_dev *d, const rt_config *c, const rt_attn_w *w, rt_attn_w *dw,
                             rt_attn_saved *s, rt_attn_saved *ds, rt_tensor *dx, const rt_tensor *x,
                             const rt_pass *pass)
{
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
    bias_backward(d, &dw->bv, &ds->v);
    bias_backward(d, &dw->bk, dk);
    bias_backward(d, &dw->bq, dq);
    project_backward(d, dx, &dw->wv, &ds->v, x, &w->wv, 0.0f);
    project_backward(d, dx, &dw->wk, dk, x, &w->wk, 1.0f);
    project_backward(d, dx, &dw->wq, dq, x, &w->wq, 1.0f);
}

/* ---- MLA ----------------------------------------------------------------------------------------
 */

/* The norms inside MLA use the reference's class default, not the config's epsilon. */
static const float MLA_NORM_EPS = 1e-6f;

static rt_tensor kv_b_heads(const rt_config *c, const rt_tensor *kv_b)
{
    rt_tensor by_head = rt_tensor_3(kv_b->data, kv_b->dtype, c->heads, c->nope_dim + c->v_dim,
                                    c->kv_rank);
    by_head.piece = kv_b->piece;
    return by_head;
}

static void plan_mla(const rt_plan *p, const rt_config *c, rt_attn_saved *s)
{
    rt_arena *a = p->arena;
    int64_t n = p->n, h = c->heads, dk = c->nope_dim + c->rope_dim, wide = c->kv_rank + c->rope_dim;
    s->q = rt_plan_3(a, "attention.q", RT_F32, n, h, dk);
    if (c->q_rank) {
        s->q_lat = rt_plan_2(a, "attention.q_latent", RT_F32, n, c->q_rank);
        s->q_lat_n = rt_plan_2(a, "attention.q_latent", RT_F32, n, c->q_rank);
        s->q_lat_rstd = rt_plan_1(a, "attention.rstd", RT_F32, n);
        rt_dev_need_matmul(p->dev, n, c->q_rank, c->width);
    }
    s->kv = rt_plan_3(a, "attention.latent", RT_F32, n, 1, wide);
    s->kv_n = rt_plan_2(a, "attention.latent", RT_F32, n, c->kv_rank);
    s->kv_rstd = rt_plan_1(a, "attention.rstd", RT_F32, n);
    if (p->mode == RT_PLAN_DECODE) {
        s->q_abs = rt_plan_3(a, "attention.q_absorbed", RT_F32, n, h, wide);
        s->out_abs = rt_plan_3(a, "attention.out_absorbed", RT_F32, n, h, c->kv_rank);
        rt_dev_need_matmul(p->dev, n, c->kv_rank, c->nope_dim);
        rt_dev_need_matmul(p->dev, n, c->v_dim, c->kv_rank);
    } else {
        s->kvb = rt_plan_3(a, "attention.kv_b", RT_F32, n, h, c->nope_dim + c->v_dim);
        s->k = rt_plan_3(a, "attention.k", RT_F32, n, h, dk);
        s->v = rt_plan_3(a, "attention.v", RT_F32, n, h, c->v_dim);
    }
    rt_dev_need_matmul(p->dev, n, h * dk, c->q_rank ? c->q_rank : c->width);
    rt_dev_need_matmul(p->dev, n, wide, c->width);
    rt_dev_need_matmul(p->dev, n, h * (c->nope_dim + c->v_dim), c->kv_rank);
}

/* Queries, and the latent with its rope key in place; keys and values are not expanded yet. */
static void mla_latent_forward(rt_dev *d, const rt_config *c, const rt_attn_w *w, rt_attn_saved *s,
                               const rt_tensor *x, const rt_pass *pass)
{
    const rt_tensor *from = x;
    if (c->q_rank) {
        project(d, &s->q_lat, x, &w->q_a, 0.0f);
        rt_rmsnorm_forward(d, &s->q_lat_n, &s->q_lat_rstd, &s->q_lat, &w->q_a_norm, MLA_NORM_EPS);
        from = &s->q_lat_n;
    }
    project(d, &s->q, from, &w->wq, 0.0f);
    project(d, &s->kv, x, &w->kv_a, 0.0f);
    rt_tensor kv = rows_of(&s->kv);
    rt_rmsnorm_forward(d, &s->kv_n, &s->kv_rstd, &kv, &w->kv_a_norm, MLA_NORM_EPS);
    rt_rope(d, &s->q, pass->rope, &pass->rows->pos, c->nope_dim, c->interleaved, false);
    rt_rope(d, &s->kv, pass->rope, &pass->rows->pos, c->kv_rank, c->interleaved, false);
}

static void mla_latent_backward(rt_dev *d, const rt_config *c, const rt_attn_w *w, rt_attn_w *dw,
                                rt_attn_saved *s, rt_attn_saved *ds, rt_tensor *dx,
                                const rt_tensor *x, const rt_pass *pass)
{
    rt_rope(d, &ds->kv, pass->rope, &pass->rows->pos, c->kv_rank, c->interleaved, true);
    rt_rope(d, &ds->q, pass->rope, &pass->rows->pos, c->nope_dim, c->interleaved, true);
    rt_tensor kv = rows_of(&s->kv), dkv = rows_of(&ds->kv);
    rt_rmsnorm_backward(d, &dkv, &dw->kv_a_norm, &ds->kv_n, &kv, &w->kv_a_norm, &s->kv_rstd, 0.0f);
    project_backward(d, dx, &dw->kv_a, &ds->kv, x, &w->kv_a, 0.0f);
    if (c->q_rank) {
        project_backward(d, &ds->q_lat_n, &dw->wq, &ds->q, &s->q_lat_n, &w->wq, 0.0f);
        rt_rmsnorm_backward(d, &ds->q_lat, &dw->q_a_norm, &ds->q_lat_n, &s->q_lat, &w->q_a_norm,
                            &s->q_lat_rstd, 0.0f);
        project_backward(d, dx, &dw->q_a, &ds->q_lat, x, &w->q_a, 1.0f);
    } else {
        project_backward(d, dx, &dw->wq, &ds->q, x, &w->wq, 1.0f);
    }
}

/* out(N,H,Dv) by attending over the cached latents. */
static void mla_absorbed_forward(rt_dev *d, const rt_config *c, const rt_attn_w *w,
                                 rt_attn_saved *s, const rt_pass *pass)
{
    rt_tensor kv_b = kv_b_heads(c, &w->kv_b), latent = s->kv;
    rt_tensor kv_n = rt_tensor_3(s->kv_n.data, RT_F32, s->kv_n.dim[0], 1, c->kv_rank);
    rt_copy_columns(d, &latent, 0, &kv_n, 0,
                    c->kv_rank); /* the cache holds the normalised latent */
    rt_kv_append(d, pass->kv, &latent, NULL, pass->rows);
    rt_matmul_heads(d, &s->q_abs, 0, &s->q, 0, &kv_b, 0, c->nope_dim, false);
    rt_copy_columns(d, &s->q_abs, c->kv_rank, &s->q, c->nope_dim, c->rope_dim);
    rt_attention_rule rule = rule_of(c, w, pass);
    rt_attention_cached(d, &s->out_abs, &s->q_abs, pass->kv, pass->rows, &rule);
    rt_matmul_heads(d, &s->out, 0, &s->out_abs, 0, &kv_b, c->nope_dim, c->v_dim, true);
}

/* ---- the layer ----------------------------------------------------------------------------------
 */

void rt_attn_plan(const rt_plan *p, const rt_config *c, rt_attn_saved *s)
{
    int64_t dk = rt_config_dk(c), dv = rt_config_dv(c);
    if (is_mla(c))
        plan_mla(p, c, s);
    else
        plan_gqa(p, c, s);
    s->out = rt_plan_3(p->arena, "attention.out", RT_F32, p->n, c->heads, dv);
    if (p->mode != RT_PLAN_DECODE)
        s->lse = rt_plan_2(p->arena, "attention.lse", RT_F32, p->n, c->heads);
    rt_dev_need_matmul(p->dev, p->n, c->width, c->heads * dv);
    bool absorbed = is_mla(c) && p->mode == RT_PLAN_DECODE;
    rt_dev_need_attention(p->dev, p->n, p->longest, c->heads, absorbed ? 1 : c->kv_heads,
                          absorbed ? c->kv_rank + c->rope_dim : dk, absorbed ? c->kv_rank : dv,
                          p->mode == RT_PLAN_TRAIN);
}

void rt_attn_plan_grads(const rt_plan *p, const rt_config *c, rt_attn_saved *ds)
{
    rt_attn_plan(p, c, ds); /* every saved activation has a gradient of its own shape */
}

void rt_attn_forward(rt_dev *d, const rt_config *c, const rt_attn_w *w, rt_attn_saved *s,
                     rt_tensor *y, const rt_tensor *x, const rt_pass *pass)
{
    rt_attention_rule rule = rule_of(c, w, pass);
    if (is_mla(c) && pass->kv) {
        mla_latent_forward(d, c, w, s, x, pass);
        mla_absorbed_forward(d, c, w, s, pass);
    } else {
        if (is_mla(c)) {
            mla_latent_forward(d, c, w, s, x, pass);
            project(d, &s->kvb, &s->kv_n, &w->kv_b, 0.0f);
            rt_tensor kv = rows_of(&s->kv);
            rt_mla_expand_forward(d, &s->k, &s->v, &s->kvb, &kv);
        } else {
            gqa_qkv_forward(d, c, w, s, x, pass);
        }
        if (pass->kv) {
            rt_kv_append(d, pass->kv, &s->k, &s->v, pass->rows);
            rt_attention_cached(d, &s->out, &s->q, pass->kv, pass->rows, &rule);
        } else {
            rt_attention_forward(d, &s->out, &s->lse, &s->q, &s->k, &s->v, pass->rows, &rule);
        }
    }
    project_biased(d, y, &s->out, &w->wo, &w->bo, 1.0f);
}

void rt_attn_backward(rt_dev *d, const rt_config *c, const rt_attn_w *w, rt_attn_w *dw,
                      rt_attn_saved *s, rt_attn_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                      const rt_tensor *x, const rt_pass *pass)
{
    rt_attention_rule rule = rule_of(c, w, pass);
    bias_backward(d, &dw->bo, dy);
    project_backward(d, &ds->out, &dw->wo, dy, &s->out, &w->wo, 0.0f);
    rt_attention_backward(d, &ds->q, &ds->k, &ds->v, &ds->out, &s->out, &s->lse, &s->q, &s->k,
                          &s->v, pass->rows, &rule);
    if (rule.sinks)
        rt_sinks_backward(d, &dw->sinks, &ds->out, &s->out, &s->lse, rule.sinks);
    if (is_mla(c)) {
        rt_tensor dkv = rows_of(&ds->kv);
        rt_mla_expand_backward(d, &ds->kvb, &dkv, &ds->k, &ds->v);
        project_backward(d, &ds->kv_n, &dw->kv_b, &ds->kvb, &s->kv_n, &w->kv_b, 0.0f);
        mla_latent_backward(d, c, w, dw, s, ds, dx, x, pass);
    } else {
        gqa_qkv_backward(d, c, w, dw, s, ds, dx, x, pass);
    }
}
