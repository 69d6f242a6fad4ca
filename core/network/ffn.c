#include "core/network/ffn.h"

static const unsigned matrix = RT_PARAM_DECAY | RT_PARAM_PRODUCT;

static bool has_gate(const rt_config *c) { return c->shared && c->family->names->shared_gate; }

static void mlp_params(rt_params *p, rt_mlp_w *w, const char *const names[3],
                       const char *const gguf[3], int64_t experts, int64_t f, int64_t c)
{
    if (experts) {
        rt_param_add(p, &w->gate, names[0], gguf[0], RT_INIT_NORMAL, matrix, experts, f, c);
        rt_param_add(p, &w->up, names[1], gguf[1], RT_INIT_NORMAL, matrix, experts, f, c);
        rt_param_add(p, &w->down, names[2], gguf[2], RT_INIT_OUTPUT, matrix, experts, c, f);
    } else {
        rt_param_add(p, &w->gate, names[0], gguf[0], RT_INIT_NORMAL, matrix, f, c, 0);
        rt_param_add(p, &w->up, names[1], gguf[1], RT_INIT_NORMAL, matrix, f, c, 0);
        rt_param_add(p, &w->down, names[2], gguf[2], RT_INIT_OUTPUT, matrix, c, f, 0);
    }
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
    rt_param_add(p, &w->router, names->router, "ffn_gate_inp", RT_INIT_NORMAL, matrix, c->experts,
                 c->width, 0);
    if (c->family->scoring == RT_ROUTE_SIGMOID)
        rt_param_add(p, &w->bias, "mlp.gate.e_score_correction_bias", "exp_probs_b", RT_INIT_ZEROS,
                     RT_PARAM_FIXED | RT_PARAM_RAW | RT_PARAM_BIAS, c->experts, 0, 0);
    mlp_params(p, &w->routed, names->expert, routed_gguf, c->experts, c->expert_width, c->width);
    if (names->router_bias)
        rt_param_add(p, &w->router_bias, names->router_bias, "ffn_gate_inp", RT_INIT_ZEROS,
                     RT_PARAM_BIAS, c->experts, 0, 0);
    for (int i = 0; i < 3 && names->expert_bias[i]; i++)
        rt_param_add(p, &w->routed.bias[i], names->expert_bias[i], routed_gguf[i], RT_INIT_ZEROS,
                     RT_PARAM_BIAS, c->experts, i < 2 ? c->expert_width : c->width, 0);
    if (c->shared)
        mlp_params(p, &w->shared, names->shared, shared_gguf, 0, rt_config_shared_width(c),
                   c->width);
    if (has_gate(c))
        rt_param_add(p, &w->gate, names->shared_gate, "ffn_gate_inp_shexp", RT_INIT_NORMAL, matrix,
                     1, c->width, 0);
}

/* ---- one SwiGLU ---------------------------------------------------------------------------------
 */

static void mlp_plan(const rt_plan *p, const rt_config *c, rt_mlp_saved *s, int64_t rows, int64_t f)
{
    s->rule = rt_config_swiglu(c);
    s->gate = rt_plan_2(p->arena, "ffn.gate", RT_F32, rows, f);
    s->up = rt_plan_2(p->arena, "ffn.up", RT_F32, rows, f);
    s->act = rt_plan_2(p->arena, "ffn.act", RT_F32, rows, f);
}

/* y = ... + beta y */
static void mlp_forward(rt_dev *d, const rt_mlp_w *w, rt_mlp_saved *s, rt_tensor *y,
                        const rt_tensor *x, float beta)
{
    rt_matmul(d, &s->gate, x, false, &w->gate, true, 0.0f);
    rt_matmul(d, &s->up, x, false, &w->up, true, 0.0f);
    rt_swiglu_forward(d, &s->act, &s->gate, &s->up, &s->rule);
    rt_matmul(d, y, &s->act, false, &w->down, true, beta);
}

/* dx = ... + beta dx */
static void mlp_backward(rt_dev *d, const rt_mlp_w *w, rt_mlp_w *dw, const rt_mlp_saved *s,
                         rt_mlp_saved *ds, rt_tensor *dx, const rt_tensor *dy, const rt_tensor *x,
                         float beta)
{
    rt_matmul(d, &dw->down, dy, true, &s->act, false, 1.0f);
    rt_matmul(d, &ds->act, dy, false, &w->down, false, 0.0f);
    rt_swiglu_backward(d, &ds->gate, &ds->up, &ds->act, &s->gate, &s->up, &s->rule);
    rt_matmul(d, &dw->gate, &ds->gate, true, x, false, 1.0f);
    rt_matmul(d, &dw->up, &ds->up, true, x, false, 1.0f);
    rt_matmul(d, dx, &ds->gate, false, &w->gate, false, beta);
    rt_matmul(d, dx, &ds->up, false, &w->up, false, 1.0f);
}

/* ---- shared experts behind a gate ---------------------------------------------------------------
 */

static const rt_route_policy gate_policy = { RT_ROUTE_SIGMOID, 1, 1, 1, 1, false, 1.0f };

static void shared_plan(const rt_plan *p, const rt_config *c, rt_ffn_saved *s)
{
    int64_t n = p->n, f = rt_config_shared_width(c);
    rt_gate_saved *g = &s->gate;
    mlp_plan(p, c, &s->shared, n, f);
    rt_dev_need_matmul(p->dev, n, f, c->width);
    rt_dev_need_matmul(p->dev, n, c->width, f);
    if (!has_gate(c))
        return;
    rt_tensor *const floats[] = { &g->logits, &g->score, &g->weight };
    for (int i = 0; i < RT_COUNT(floats); i++)
        *floats[i] = rt_plan_2(p->arena, "shared.gate", RT_F32, n, 1);
    g->idx = rt_plan_2(p->arena, "shared.gate", RT_I32, n, 1);
    g->slot = rt_plan_2(p->arena, "shared.gate", RT_I32, n, 1);
    g->offset = rt_plan_1(p->arena, "shared.gate", RT_I32, 2);
    g->row = rt_plan_1(p->arena, "shared.gate", RT_I32, n);
    g->ys = rt_plan_2(p->arena, "shared.out", RT_F32, n, c->width);
    rt_dev_need_matmul(p->dev, n, 1, c->width);
}

/* y += sigmoid(x · gateᵀ) shared(x) */
static void gated_forward(rt_dev *d, const rt_ffn_w *w, rt_ffn_saved *s, rt_tensor *y,
                          const rt_tensor *x)
{
    rt_gate_saved *g = &s->gate;
    rt_matmul(d, &g->logits, x, false, &w->gate, true, 0.0f);
    rt_route_forward(d, &g->idx, &g->weight, &g->score, &g->logits, NULL, &gate_policy);
    rt_route_sort(d, &g->offset, &g->row, &g->slot, &g->idx);
    mlp_forward(d, &w->shared, &s->shared, &g->ys, x, 0.0f);
    rt_combine_forward(d, y, &g->ys, &g->slot, &g->weight);
}

/* dx += */
static void gated_backward(rt_dev *d, const rt_ffn_w *w, rt_ffn_w *dw, rt_ffn_saved *s,
                           rt_ffn_saved *ds, rt_tensor *dx, const rt_tensor *dy, const rt_tensor *x)
{
    rt_gate_saved *g = &s->gate, *dg = &ds->gate;
    rt_combine_backward(d, &dg->ys, &dg->weight, dy, &g->ys, &g->slot, &g->weight);
    rt_route_backward(d, &dg->logits, &dg->weight, &g->idx, &g->weight, &g->score, &gate_policy);
    rt_matmul(d, &dw->gate, &dg->logits, true, x, false, 1.0f);
    rt_matmul(d, dx, &dg->logits, false, &w->gate, false, 1.0f);
    mlp_backward(d, &w->shared, &dw->shared, &s->shared, &ds->shared, dx, &dg->ys, x, 1.0f);
}

/* ---- routed experts -----------------------------------------------------------------------------
 */

/* One of a stack's three products, with its bias where there is one. */
static void expert_forward(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *w,
                           const rt_tensor *bias, const rt_tensor *offset)
{
    rt_matmul_grouped(d, y, x, false, w, true, offset, 0.0f);
    if (bias->data)
        rt_bias_forward(d, y, bias, offset);
}

/* dx = ... + beta dx */
static void expert_backward(rt_dev *d, rt_tensor *dx, rt_tensor *dw, rt_tensor *dbias,
                            const rt_tensor *dy, const rt_tensor *x, const rt_tensor *w,
                            const rt_tensor *offset, float beta)
{
    if (dbias->data)
        rt_bias_backward(d, dbias, dy, offset);
    rt_matmul_grouped(d, dw, dy, true, x, false, offset, 1.0f);
    rt_matmul_grouped(d, dx, dy, false, w, false, offset, beta);
}

/* Experts [first, first + n) of a stack. */
static rt_tensor experts_of(rt_dev *d, const rt_tensor *w, int64_t first, int64_t n)
{
    rt_tensor some = rt_tensor_rows(w, first, n);
    if (w->piece)
        some.piece = w->piece + first;
    if (w->panels)
        some.panels = (const uint8_t *)w->panels + rt_panels_bytes(d, w) / w->dim[0] * first;
    return some;
}

/* Experts [first, end) of a stack, and their rows: offset is on the host. */
typedef struct some {
    int64_t first, end, row, rows;
    const int32_t *offset;
    rt_tensor where; /* (end - first + 1) of offset, on the device */
} some;

static some some_of(const rt_ffn_saved *s, const int32_t *offset, int64_t first, int64_t end)
{
    return (some){ first,         end,
                   offset[first], offset[end] - offset[first],
                   offset,        rt_tensor_rows(&s->offset, first, end - first + 1) };
}

static rt_tensor its_rows(const some *g, const rt_tensor *t)
{
    return rt_tensor_rows(t, g->row, g->rows);
}

/* Rows of one expert of g among its_rows, and its bias of a stack; false when it has none. */
static bool one_bias(const some *g, int64_t e, const rt_tensor *all, const rt_tensor *biases,
                     rt_tensor *rows, rt_tensor *bias)
{
    if (!biases->data || g->offset[e] == g->offset[e + 1])
        return false;
    *rows = rt_tensor_rows(all, g->offset[e] - g->row, g->offset[e + 1] - g->offset[e]);
    *bias = rt_tensor_rows(biases, e, 1);
    *bias = rt_tensor_1(bias->data, bias->dtype, biases->dim[1]);
    return true;
}

/* y = x · wᵀ + bias of the rows of g. */
static void some_forward(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *w,
                         const rt_tensor *bias, const some *g)
{
    rt_tensor experts = experts_of(d, w, g->first, g->end - g->first), rows, one;
    rt_matmul_grouped(d, y, x, false, &experts, true, &g->where, 0.0f);
    for (int64_t e = g->first; e < g->end; e++)
        if (one_bias(g, e, y, bias, &rows, &one))
            rt_bias_forward(d, &rows, &one, NULL);
}

/* The same products in groups of experts, as the visitor has them: the same bits. */
static int experts_visited(rt_dev *d, const rt_mlp_w *w, rt_ffn_saved *s, int64_t layer,
                           const rt_visit *v, rt_err *err)
{
    rt_mlp_saved *m = &s->routed;
    int64_t first = 0, end = 0;
    int more;
    while ((more = v->experts(v->ctx, layer, &first, &end, err)) > 0) {
        some g = some_of(s, v->offset, first, end);
        rt_tensor gate = its_rows(&g, &m->gate), up = its_rows(&g, &m->up),
                  act = its_rows(&g, &m->act), xs = its_rows(&g, &s->xs), ys = its_rows(&g, &s->ys);
        some_forward(d, &gate, &xs, &w->gate, &w->bias[0], &g);
        some_forward(d, &up, &xs, &w->up, &w->bias[1], &g);
        rt_swiglu_forward(d, &act, &gate, &up, &m->rule);
        some_forward(d, &ys, &act, &w->down, &w->bias[2], &g);
    }
    return more;
}

static void experts_forward(rt_dev *d, const rt_mlp_w *w, rt_ffn_saved *s)
{
    rt_mlp_saved *m = &s->routed;
    expert_forward(d, &m->gate, &s->xs, &w->gate, &w->bias[0], &s->offset);
    expert_forward(d, &m->up, &s->xs, &w->up, &w->bias[1], &s->offset);
    rt_swiglu_forward(d, &m->act, &m->gate, &m->up, &m->rule);
    expert_forward(d, &s->ys, &m->act, &w->down, &w->bias[2], &s->offset);
}

static void experts_backward(rt_dev *d, const rt_mlp_w *w, rt_mlp_w *dw, rt_ffn_saved *s,
                             rt_ffn_saved *ds)
{
    rt_mlp_saved *m = &s->routed, *dm = &ds->routed;
    const rt_tensor *o = &s->offset;
    expert_backward(d, &dm->act, &dw->down, &dw->bias[2], &ds->ys, &m->act, &w->down, o, 0.0f);
    rt_swiglu_backward(d, &dm->gate, &dm->up, &dm->act, &m->gate, &m->up, &m->rule);
    expert_backward(d, &ds->xs, &dw->gate, &dw->bias[0], &dm->gate, &s->xs, &w->gate, o, 0.0f);
    expert_backward(d, &ds->xs, &dw->up, &dw->bias[1], &dm->up, &s->xs, &w->up, o, 1.0f);
}

/* dbias += , dw += , dx = ... + beta dx of the rows of g. */
static void some_backward(rt_dev *d, rt_tensor *dx, rt_tensor *dw, rt_tensor *dbias,
                          const rt_tensor *dy, const rt_tensor *x, const rt_tensor *w,
                          const some *g, float beta)
{
    rt_tensor experts = experts_of(d, w, g->first, g->end - g->first), rows, one;
    rt_tensor dexperts = rt_tensor_rows(dw, g->first, g->end - g->first);
    for (int64_t e = g->first; e < g->end; e++)
        if (one_bias(g, e, dy, dbias, &rows, &one))
            rt_bias_backward(d, &one, &rows, NULL);
    rt_matmul_grouped(d, &dexperts, dy, true, x, false, &g->where, 1.0f);
    rt_matmul_grouped(d, dx, dy, false, &experts, false, &g->where, beta);
}

static int experts_backward_visited(rt_dev *d, const rt_mlp_w *w, rt_mlp_w *dw, rt_ffn_saved *s,
                                    rt_ffn_saved *ds, int64_t layer, const rt_visit *v, rt_err *err)
{
    rt_mlp_saved *m = &s->routed, *dm = &ds->routed;
    int64_t first = 0, end = 0;
    int more;
    while ((more = v->experts(v->ctx, layer, &first, &end, err)) > 0) {
        some g = some_of(s, v->offset, first, end);
        rt_tensor gate = its_rows(&g, &m->gate), up = its_rows(&g, &m->up),
                  act = its_rows(&g, &m->act), xs = its_rows(&g, &s->xs);
        rt_tensor dgate = its_rows(&g, &dm->gate), dup = its_rows(&g, &dm->up),
                  dact = its_rows(&g, &dm->act), dxs = its_rows(&g, &ds->xs),
                  dys = its_rows(&g, &ds->ys);
        some_backward(d, &dact, &dw->down, &dw->bias[2], &dys, &act, &w->down, &g, 0.0f);
        rt_swiglu_backward(d, &dgate, &dup, &dact, &gate, &up, &m->rule);
        some_backward(d, &dxs, &dw->gate, &dw->bias[0], &dgate, &xs, &w->gate, &g, 0.0f);
        some_backward(d, &dxs, &dw->up, &dw->bias[1], &dup, &xs, &w->up, &g, 1.0f);
    }
    return more;
}

static void routed_plan(const rt_plan *p, const rt_config *c, rt_ffn_saved *s)
{
    rt_arena *a = p->arena;
    int64_t n = p->n, e = c->experts, k = c->active;
    s->logits = rt_plan_2(a, "router.logits", RT_F32, n, e);
    s->score = rt_plan_2(a, "router.score", RT_F32, n, e);
    s->idx = rt_plan_2(a, "router.choice", RT_I32, n, k);
    s->weight = rt_plan_2(a, "router.choice", RT_F32, n, k);
    s->slot = rt_plan_2(a, "router.choice", RT_I32, n, k);
    s->offset = rt_plan_1(a, "router.choice", RT_I32, e + 1);
    s->row = rt_plan_1(a, "router.choice", RT_I32, n * k);
    s->xs = rt_plan_2(a, "experts.rows", RT_F32, n * k, c->width);
    s->ys = rt_plan_2(a, "experts.rows", RT_F32, n * k, c->width);
    mlp_plan(p, c, &s->routed, n * k, c->expert_width);
    rt_dev_need_matmul(p->dev, n, e, c->width);
    rt_dev_need_grouped(p->dev, n * k, e, c->expert_width, c->width);
    rt_dev_need_grouped(p->dev, n * k, e, c->width, c->expert_width);
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
    rt_matmul(d, &s->logits, x, false, &w->router, true, 0.0f);
    if (w->router_bias.data)
        rt_bias_forward(d, &s->logits, &w->router_bias, NULL);
    rt_route_forward(d, &s->idx, &s->weight, &s->score, &s->logits, bias, &policy);
    rt_route_sort(d, &s->offset, &s->row, &s->slot, &s->idx);
    if (s->load.data)
        rt_route_load(d, &s->load, &s->offset);
    if (v && route_visit(d, s, layer, v, err))
        return -1;
    rt_gather_rows(d, &s->xs, x, &s->row);
    if (!v)
        experts_forward(d, &w->routed, s);
    if (has_gate(c))
        gated_forward(d, w, s, y, x);
    else if (c->shared)
        mlp_forward(d, &w->shared, &s->shared, y, x, 1.0f);
    if (v && experts_visited(d, &w->routed, s, layer, v, err))
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
    if (dw->router_bias.data)
        rt_bias_backward(d, &dw->router_bias, &ds->logits, NULL);
    rt_matmul(d, &dw->router, &ds->logits, true, x, false, 1.0f);
    rt_matmul(d, dx, &ds->logits, false, &w->router, false, 0.0f);
    if (has_gate(c))
        gated_backward(d, w, dw, s, ds, dx, dy, x);
    else if (c->shared)
        mlp_backward(d, &w->shared, &dw->shared, &s->shared, &ds->shared, dx, dy, x, 1.0f);
    if (!v)
        experts_backward(d, &w->routed, &dw->routed, s, ds);
    else if (experts_backward_visited(d, &w->routed, &dw->routed, s, ds, layer, v, err))
        return -1;
    rt_scatter_add_rows(d, dx, &ds->xs, &s->row);
    return 0;
}

/* ---- the layer ----------------------------------------------------------------------------------
 */

static void dense_plan(const rt_plan *p, const rt_config *c, rt_ffn_saved *s)
{
    mlp_plan(p, c, &s->dense, p->n, c->ffn_width);
    rt_dev_need_matmul(p->dev, p->n, c->ffn_width, c->width);
    rt_dev_need_matmul(p->dev, p->n, c->width, c->ffn_width);
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
    mlp_forward(d, &w->dense, &s->dense, y, x, 1.0f);
    return 0;
}

int rt_ffn_backward(rt_dev *d, const rt_config *c, int64_t layer, const rt_ffn_w *w, rt_ffn_w *dw,
                    rt_ffn_saved *s, rt_ffn_saved *ds, rt_tensor *dx, const rt_tensor *dy,
                    const rt_tensor *x, const rt_visit *visit, rt_err *err)
{
    if (rt_config_routed(c, layer))
        return routed_backward(d, c, layer, w, dw, s, ds, dx, dy, x, visit, err);
    mlp_backward(d, &w->dense, &dw->dense, &s->dense, &ds->dense, dx, dy, x, 0.0f);
    return 0;
}
