#include "core/network/ffn.h"

static bool has_gate(const rt_config *c) { return c->shared && c->family->names->shared_gate; }

static void mlp_params(rt_params *p, rt_mlp_w *w, const char *const names[3],
                       const char *const gguf[3], int64_t experts, int64_t f, int64_t c)
{
    rt_linear_weight(p, &w->gate, names[0], gguf[0], RT_INIT_NORMAL, experts, f, c);
    rt_linear_weight(p, &w->up, names[1], gguf[1], RT_INIT_NORMAL, experts, f, c);
    rt_linear_weight(p, &w->down, names[2], gguf[2], RT_INIT_OUTPUT, experts, c, f);
}

void rt_ffn_params(rt_params *p, const rt_config *c, rt_ffn_w *w)
{
    static const char *const dense[] = { "mlp.gate_proj.weight", "mlp.up_proj.weight",
                                         "mlp.down_proj.weight" };
    static const char *const dense_gguf[] = { "ffn_gate", "ffn_up", "ffn_down" };
    static const char *const routed_gguf[] = { "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps" };
    static const char *const shared_gguf[] = { "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp" };
    if (!rt_config_routed(c, p->layer)) {
        mlp_params(p, &w->dense, dense, dense_gguf, 0, c->ffn_width, c->width);
        return;
    }
    const rt_moe_names *names = c->family->names;
    rt_linear_weight(p, &w->router, names->router, "ffn_gate_inp", RT_INIT_NORMAL, 0, c->experts,
                     c->width);
    if (c->family->scoring == RT_ROUTE_SIGMOID)
        rt_param_add(p, &w->bias, "mlp.gate.e_score_correction_bias", "exp_probs_b", RT_INIT_ZEROS,
                     RT_PARAM_FIXED | RT_PARAM_RAW | RT_PARAM_BIAS, c->experts, 0, 0);
    mlp_params(p, &w->routed, names->expert, routed_gguf, c->experts, c->expert_width, c->width);
    if (names->router_bias)
        rt_linear_bias(p, &w->router, names->router_bias, "ffn_gate_inp", 0, c->experts);
    rt_linear *const expert[] = { &w->routed.gate, &w->routed.up, &w->routed.down };
    for (int i = 0; i < 3 && names->expert_bias[i]; i++)
        rt_linear_bias(p, expert[i], names->expert_bias[i], routed_gguf[i], c->experts,
                       i < 2 ? c->expert_width : c->width);
    if (c->shared)
        mlp_params(p, &w->shared, names->shared, shared_gguf, 0, rt_config_shared_width(c),
                   c->width);
    if (has_gate(c))
        rt_linear_weight(p, &w->gate, names->shared_gate, "ffn_gate_inp_shexp", RT_INIT_NORMAL, 0,
                         1, c->width);
}

/* ---- one SwiGLU ---------------------------------------------------------------------------------
 */

static void mlp_plan(const rt_plan *p, const rt_config *c, rt_mlp_saved *s, int64_t each, int64_t f)
{
    s->rule = rt_config_swiglu(c);
    rt_plan_rows(p, &s->gate, "ffn.gate", p->act, each, f, 0);
    rt_plan_rows(p, &s->up, "ffn.up", p->act, each, f, 0);
    rt_plan_rows(p, &s->act, "ffn.act", p->act, each, f, 0);
}

/* y = ... + beta y; offset: of a stack of experts, whose rows x holds */
static void mlp_forward(rt_dev *d, const rt_mlp_w *w, rt_mlp_saved *s, rt_tensor *y,
                        const rt_tensor *x, const rt_tensor *offset, float beta)
{
    rt_linear_forward(d, &w->gate, &s->gate, x, offset, 0.0f);
    rt_linear_forward(d, &w->up, &s->up, x, offset, 0.0f);
    rt_swiglu_forward(d, &s->act, &s->gate, &s->up, &s->rule);
    rt_linear_forward(d, &w->down, y, &s->act, offset, beta);
}

/* dx = ... + beta dx */
static void mlp_backward(rt_dev *d, const rt_mlp_w *w, rt_mlp_w *dw, const rt_mlp_saved *s,
                         rt_mlp_saved *ds, rt_tensor *dx, const rt_tensor *dy, const rt_tensor *x,
                         const rt_tensor *offset, float beta)
{
    rt_linear_backward(d, &w->down, &dw->down, &ds->act, dy, &s->act, offset, 0.0f);
    rt_swiglu_backward(d, &ds->gate, &ds->up, &ds->act, &s->gate, &s->up, &s->rule);
    rt_linear_backward(d, &w->gate, &dw->gate, dx, &ds->gate, x, offset, beta);
    rt_linear_backward(d, &w->up, &dw->up, dx, &ds->up, x, offset, 1.0f);
}

/* ---- shared experts behind a gate ---------------------------------------------------------------
 */

static const rt_route_policy gate_policy = { RT_ROUTE_SIGMOID, 1, 1, 1, 1, false, 1.0f };

static void shared_plan(const rt_plan *p, const rt_config *c, rt_ffn_saved *s)
{
    static const char name[] = "shared.gate";
    rt_gate_saved *g = &s->gate;
    mlp_plan(p, c, &s->shared, 1, rt_config_shared_width(c));
    if (!has_gate(c))
        return;
    rt_tensor *const floats[] = { &g->logits, &g->score, &g->weight };
    for (int i = 0; i < RT_COUNT(floats); i++)
        rt_plan_rows(p, floats[i], name, RT_F32, 1, 1, 0);
    rt_plan_rows(p, &g->idx, name, RT_I32, 1, 1, 0);
    rt_plan_rows(p, &g->slot, name, RT_I32, 1, 1, 0);
    g->offset = rt_plan_1(p->arena, name, RT_I32, 2);
    rt_plan_rows(p, &g->row, name, RT_I32, 1, 0, 0);
    rt_plan_rows(p, &g->ys, "shared.out", p->act, 1, c->width, 0);
}

/* y += sigmoid(x · gateᵀ) shared(x) */
static void gated_forward(rt_dev *d, const rt_ffn_w *w, rt_ffn_saved *s, rt_tensor *y,
                          const rt_tensor *x)
{
    rt_gate_saved *g = &s->gate;
    rt_linear_forward(d, &w->gate, &g->logits, x, NULL, 0.0f);
    rt_route_forward(d, &g->idx, &g->weight, &g->score, &g->logits, NULL, &gate_policy);
    rt_route_sort(d, &g->offset, &g->row, &g->slot, &g->idx);
    mlp_forward(d, &w->shared, &s->shared, &g->ys, x, NULL, 0.0f);
    rt_combine_forward(d, y, &g->ys, &g->slot, &g->weight);
}

/* dx += */
static void gated_backward(rt_dev *d, const rt_ffn_w *w, rt_ffn_w *dw, rt_ffn_saved *s,
                           rt_ffn_saved *ds, rt_tensor *dx, const rt_tensor *dy, const rt_tensor *x)
{
    rt_gate_saved *g = &s->gate, *dg = &ds->gate;
    rt_combine_backward(d, &dg->ys, &dg->weight, dy, &g->ys, &g->slot, &g->weight);
    rt_route_backward(d, &dg->logits, &dg->weight, &g->idx, &g->weight, &g->score, &gate_policy);
    rt_linear_backward(d, &w->gate, &dw->gate, dx, &dg->logits, x, NULL, 1.0f);
    mlp_backward(d, &w->shared, &dw->shared, &s->shared, &ds->shared, dx, &dg->ys, x, NULL, 1.0f);
}

/* ---- routed experts -----------------------------------------------------------------------------
 */

/* Experts [first, first + n) of a layer and their rows, sorted: all of them, or what a visitor has
   resident now. */
typedef struct group {
    int64_t first, n, row, rows;
    rt_tensor offset; /* (n+1) on the device */
} group;

typedef struct groups {
    const rt_visit *visit; /* NULL: one group of all */
    int64_t layer, begin, end;
    bool over;
} groups;

/* 1: the next one; 0: there was the last; -1. */
static int next_group(groups *all, group *g, const rt_ffn_saved *s, rt_err *err)
{
    const rt_visit *v = all->visit;
    if (!v) {
        *g = (group){ 0, s->offset.dim[0] - 1, 0, s->xs.dim[0], s->offset };
        return !all->over && (all->over = true);
    }
    int more = v->experts(v->ctx, all->layer, &all->begin, &all->end, err);
    if (more > 0)
        *g = (group){ all->begin, all->end - all->begin, v->offset[all->begin],
                      v->offset[all->end] - v->offset[all->begin],
                      rt_tensor_rows(&s->offset, all->begin, all->end - all->begin + 1) };
    return more;
}

static rt_tensor rows_of(const group *g, const rt_tensor *t)
{
    return rt_tensor_rows(t, g->row, g->rows);
}

static rt_mlp_w experts_of(rt_dev *d, const group *g, const rt_mlp_w *w)
{
    return (rt_mlp_w){ rt_linear_experts(d, &w->gate, g->first, g->n),
                       rt_linear_experts(d, &w->up, g->first, g->n),
                       rt_linear_experts(d, &w->down, g->first, g->n) };
}

static rt_mlp_saved saved_of(const group *g, const rt_mlp_saved *s)
{
    return (rt_mlp_saved){ rows_of(g, &s->gate), rows_of(g, &s->up), rows_of(g, &s->act), s->rule };
}

/* Group by group the same bits as all at once: experts do not meet. */
static int experts_forward(rt_dev *d, const rt_mlp_w *w, rt_ffn_saved *s, int64_t layer,
                           const rt_visit *v, rt_err *err)
{
    groups all = { v, layer, 0, 0, false };
    group g;
    int more;
    while ((more = next_group(&all, &g, s, err)) > 0) {
        rt_mlp_w some = experts_of(d, &g, w);
        rt_mlp_saved its = saved_of(&g, &s->routed);
        rt_tensor xs = rows_of(&g, &s->xs), ys = rows_of(&g, &s->ys);
        mlp_forward(d, &some, &its, &ys, &xs, &g.offset, 0.0f);
    }
    return more;
}

static int experts_backward(rt_dev *d, const rt_mlp_w *w, rt_mlp_w *dw, rt_ffn_saved *s,
                            rt_ffn_saved *ds, int64_t layer, const rt_visit *v, rt_err *err)
{
    groups all = { v, layer, 0, 0, false };
    group g;
    int more;
    while ((more = next_group(&all, &g, s, err)) > 0) {
        rt_mlp_w some = experts_of(d, &g, w), dsome = experts_of(d, &g, dw);
        rt_mlp_saved its = saved_of(&g, &s->routed), dits = saved_of(&g, &ds->routed);
        rt_tensor xs = rows_of(&g, &s->xs), dxs = rows_of(&g, &ds->xs), dys = rows_of(&g, &ds->ys);
        mlp_backward(d, &some, &dsome, &its, &dits, &dxs, &dys, &xs, &g.offset, 0.0f);
    }
    return more;
}

static void routed_plan(const rt_plan *p, const rt_config *c, rt_ffn_saved *s)
{
    int64_t e = c->experts, k = c->active;
    rt_plan_rows(p, &s->logits, "router.logits", RT_F32, 1, e, 0);
    rt_plan_rows(p, &s->score, "router.score", RT_F32, 1, e, 0);
    rt_plan_rows(p, &s->idx, "router.choice", RT_I32, 1, k, 0);
    rt_plan_rows(p, &s->weight, "router.choice", RT_F32, 1, k, 0);
    rt_plan_rows(p, &s->slot, "router.choice", RT_I32, 1, k, 0);
    s->offset = rt_plan_1(p->arena, "router.choice", RT_I32, e + 1);
    rt_plan_rows(p, &s->row, "router.choice", RT_I32, k, 0, 0);
    rt_plan_rows(p, &s->xs, "experts.rows", p->act, k, c->width, 0);
    rt_plan_rows(p, &s->ys, "experts.rows", p->act, k, c->width, 0);
    mlp_plan(p, c, &s->routed, k, c->expert_width);
    if (c->shared)
        shared_plan(p, c, s);
}

/* What s says of routes is wanted of the visitor: one wait for the device a layer. */
static int route_visit(rt_dev *d, const rt_ffn_saved *s, int64_t layer, const rt_visit *v,
                       rt_err *err)
{
    rt_download(d, v->offset, s->offset.data, rt_tensor_bytes(&s->offset));
    return rt_sync(d, err) || v->route(v->ctx, layer, err) ? -1 : 0;
}

static int routed_forward(rt_dev *d, const rt_config *c, int64_t layer, const rt_ffn_w *w,
                          rt_ffn_saved *s, rt_tensor *y, const rt_tensor *x, const rt_visit *v,
                          rt_err *err)
{
    rt_route_policy policy = rt_config_route(c);
    const rt_tensor *bias = c->family->scoring == RT_ROUTE_SIGMOID ? &w->bias : NULL;
    rt_linear_forward(d, &w->router, &s->logits, x, NULL, 0.0f);
    rt_route_forward(d, &s->idx, &s->weight, &s->score, &s->logits, bias, &policy);
    rt_route_sort(d, &s->offset, &s->row, &s->slot, &s->idx);
    if (s->load.data)
        rt_route_load(d, &s->load, &s->offset);
    if (v && route_visit(d, s, layer, v, err))
        return -1;
    rt_gather_rows(d, &s->xs, x, &s->row);
    if (has_gate(c)) /* while a visitor reads the others */
        gated_forward(d, w, s, y, x);
    else if (c->shared)
        mlp_forward(d, &w->shared, &s->shared, y, x, NULL, 1.0f);
    if (experts_forward(d, &w->routed, s, layer, v, err))
        return -1;
    rt_combine_forward(d, y, &s->ys, &s->slot, &s->weight);
    return 0;
}

static int routed_backward(rt_dev *d, const rt_config *c, int64_t layer, const rt_ffn_w *w,
                           rt_ffn_w *dw, rt_ffn_saved *s, rt_ffn_saved *ds, rt_tensor *dx,
                           const rt_tensor *dy, const rt_tensor *x, const rt_visit *v, rt_err *err)
{
    rt_route_policy policy = rt_config_route(c);
    if (v && route_visit(d, s, layer, v, err))
        return -1;
    rt_combine_backward(d, &ds->ys, &ds->weight, dy, &s->ys, &s->slot, &s->weight);
    rt_route_backward(d, &ds->logits, &ds->weight, &s->idx, &s->weight, &s->score, &policy);
    rt_linear_backward(d, &w->router, &dw->router, dx, &ds->logits, x, NULL, 0.0f);
    if (has_gate(c))
        gated_backward(d, w, dw, s, ds, dx, dy, x);
    else if (c->shared)
        mlp_backward(d, &w->shared, &dw->shared, &s->shared, &ds->shared, dx, dy, x, NULL, 1.0f);
    if (experts_backward(d, &w->routed, &dw->routed, s, ds, layer, v, err))
        return -1;
    rt_unpermute_rows(d, dx, &ds->xs, &s->slot);
    return 0;
}

/* ---- the layer ----------------------------------------------------------------------------------
 */

static void dense_plan(const rt_plan *p, const rt_config *c, rt_ffn_saved *s)
{
    mlp_plan(p, c, &s->dense, 1, c->ffn_width);
}

void rt_ffn_plan(const rt_plan *p, const rt_config *c, int64_t layer, rt_ffn_saved *s)
{
    if (rt_config_routed(c, layer))
        routed_plan(p, c, s);
    else
        dense_plan(p, c, s);
}

void rt_ffn_plan_grads(const rt_plan *p, const rt_config *c, rt_ffn_saved *ds)
{
    bool dense = false, routed = false;
    for (int64_t l = 0; l < c->layers; l++)
        *(rt_config_routed(c, l) ? &routed : &dense) = true;
    if (dense)
        dense_plan(p, c, ds);
    if (routed)
        routed_plan(p, c, ds);
}

int rt_ffn_forward(rt_dev *d, const rt_config *c, int64_t layer, const rt_ffn_w *w, rt_ffn_saved *s,
                   rt_tensor *y, const rt_tensor *x, const rt_visit *visit, rt_err *err)
{
    if (rt_config_routed(c, layer))
        return routed_forward(d, c, layer, w, s, y, x, visit, err);
    mlp_forward(d, &w->dense, &s->dense, y, x, NULL, 1.0f);
    return 0;
}

int rt_ffn_backward(rt_dev *d, const rt_config *c, int64_t layer, const rt_ffn_w *w, rt_ffn_w *dw,
                    rt_ffn_saved *s, rt_ffn_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                    const rt_tensor *x, const rt_visit *visit, rt_err *err)
{
    if (rt_config_routed(c, layer))
        return routed_backward(d, c, layer, w, dw, s, ds, dx, dy, x, visit, err);
    mlp_backward(d, &w->dense, &dw->dense, &s->dense, &ds->dense, dx, dy, x, NULL, 0.0f);
    return 0;
}
