/* ops.c: calls the operations of a backend's table. Each rt_<op> checks shapes, dtypes and scalars
   against the contract of ops.h once, for every backend, and refuses a mistake with rt_bug: the
   operation, the rule that failed and the shapes that were given. In a dry run nothing runs and
   cost.c counts. Never looks into tensor data. */
#include "core/device/backend.h"
#include "core/device/cost.h"

#include "core/device/kernels/route.h"
#include "core/device/kernels/softmax.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- refusal -----------------------------------------------------------------------------------
 */

static void refuse(const char *op, const char *rule, const rt_tensor *const *t, int n)
{
    char text[512];
    int used = 0;
    for (int i = 0; i < n && used < (int)sizeof(text) - 100; i++) {
        used += snprintf(text + used, sizeof(text) - (size_t)used, " %s(",
                         rt_dtype_get(t[i]->dtype)->name);
        for (int k = 0; k < t[i]->rank && k < 4; k++)
            used += snprintf(text + used, sizeof(text) - (size_t)used, "%s%lld", k ? "," : "",
                             (long long)t[i]->dim[k]);
        used += snprintf(text + used, sizeof(text) - (size_t)used, ")");
    }
    rt_bug("%s: %s does not hold for%s", op, rule, text);
}

/* The rule must hold for the tensors named after it. */
#define NEED(op, rule, ...)                                                                        \
    do {                                                                                           \
        const rt_tensor *const given[] = { __VA_ARGS__ };                                          \
        if (!(rule))                                                                               \
            refuse(op, #rule, given, RT_COUNT(given));                                             \
    } while (0)
/* A backend under construction lacks entries. */
#define HAVE(d, name)                                                                              \
    do {                                                                                           \
        (d)->caller = __builtin_return_address(0);                                                 \
        if (!(d)->ops->name)                                                                       \
            rt_bug("%s: the backend does not have it", #name);                                     \
    } while (0)

/* Not in a dry run. */
#define RUN(d, name, ...)                                                                          \
    do {                                                                                           \
        if (!(d)->dry)                                                                             \
            (d)->ops->name((d), __VA_ARGS__);                                                      \
    } while (0)

/* Of a dry run: tensors that an operation reads or writes, one that is added to twice. */
#define MOVES(d, ...)                                                                              \
    do {                                                                                           \
        const rt_tensor *const moved[] = { __VA_ARGS__ };                                          \
        if ((d)->dry)                                                                              \
            rt_cost_moves(d, moved, RT_COUNT(moved));                                              \
    } while (0)

static bool is(const rt_tensor *t, rt_dtype dtype, int rank)
{
    return t->dtype == dtype && t->rank == rank;
}
static bool f32(const rt_tensor *t, int rank) { return is(t, RT_F32, rank); }
static bool i32(const rt_tensor *t, int rank) { return is(t, RT_I32, rank); }
/* activations of this device */
static bool is_act(const rt_dev *d, const rt_tensor *t, int rank)
{
    return (t->dtype == RT_F32 || t->dtype == d->act) && t->rank == rank;
}
/* of a learned weight */
static bool is_weight(const rt_tensor *t) { return t->dtype == RT_F32 || t->dtype == RT_BF16; }
/* what t is, in shape and dtype */
static bool like(const rt_tensor *a, const rt_tensor *t)
{
    return a->dtype == t->dtype && rt_tensor_same_shape(a, t);
}
/* of its dtype */
static bool as(const rt_tensor *a, const rt_tensor *t) { return a->dtype == t->dtype; }
/* vectors of n */
static bool f32_n(const rt_tensor *t, int64_t n) { return f32(t, 1) && t->dim[0] == n; }
static bool i32_n(const rt_tensor *t, int64_t n) { return i32(t, 1) && t->dim[0] == n; }
static bool i32_nk(const rt_tensor *t, int64_t n, int64_t k)
{
    return i32(t, 2) && t->dim[0] == n && t->dim[1] == k;
}
static bool f32_nk(const rt_tensor *t, int64_t n, int64_t k)
{
    return f32(t, 2) && t->dim[0] == n && t->dim[1] == k;
}

/* --- memory, matrix products -------------------------------------------------------------------
 */

void rt_copy(rt_dev *d, rt_tensor *y, const rt_tensor *x)
{
    HAVE(d, copy);
    NEED("copy", y->dtype == x->dtype && rt_tensor_same_shape(y, x), y, x);
    MOVES(d, y, x);
    RUN(d, copy, y, x);
}

void rt_zero(rt_dev *d, rt_tensor *y)
{
    HAVE(d, zero);
    MOVES(d, y);
    RUN(d, zero, y);
}

void rt_matmul(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b, bool tb,
               float beta)
{
    HAVE(d, matmul);
    NEED("matmul", is_act(d, c, 2) && is_act(d, a, 2) && b->rank == 2, c, a, b);
    NEED("matmul", a->dim[ta] == c->dim[0] && b->dim[!tb] == c->dim[1], c, a, b);
    NEED("matmul", a->dim[!ta] == b->dim[tb], c, a, b);
    NEED("matmul", beta == 0.0f || beta == 1.0f, c, a, b);
    rt_cost_product(d, c->dim[0], 1, c->dim[1], a->dim[!ta], a, b);
    RUN(d, matmul, c, a, ta, b, tb, beta);
}

void rt_matmul_grouped(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                       bool tb, const rt_tensor *offset, float beta)
{
    const char *op = "matmul_grouped";
    HAVE(d, matmul_grouped);
    NEED(op, i32(offset, 1) && is_act(d, a, 2) && is_act(d, c, ta ? 3 : 2), c, a, b, offset);
    NEED(op, beta == 0.0f || beta == 1.0f, c, a, b, offset);
    if (ta) {
        NEED(op, is_act(d, b, 2) && !tb, c, a, b, offset);
        NEED(op, offset->dim[0] == c->dim[0] + 1 && a->dim[0] == b->dim[0], c, a, b, offset);
        NEED(op, c->dim[1] == a->dim[1] && c->dim[2] == b->dim[1], c, a, b, offset);
    } else {
        NEED(op, b->rank == 3, c, a, b, offset);
        NEED(op, offset->dim[0] == b->dim[0] + 1 && a->dim[0] == c->dim[0], c, a, b, offset);
        NEED(op, c->dim[1] == b->dim[tb ? 1 : 2] && a->dim[1] == b->dim[tb ? 2 : 1], c, a, b,
             offset);
    }
    if (ta) /* of as many matrices, each over its rows: together over all */
        rt_cost_product(d, c->dim[1], 1, b->dim[1], a->dim[0], a, b);
    else
        rt_cost_product(d, a->dim[0], offset->dim[0] - 1, c->dim[1], a->dim[1], a, b);
    RUN(d, matmul_grouped, c, a, ta, b, tb, offset, beta);
}

void rt_matmul_heads(rt_dev *d, rt_tensor *c, int64_t c0, const rt_tensor *a, int64_t a0,
                     const rt_tensor *w, int64_t w0, int64_t n, bool tb)
{
    const char *op = "matmul_heads";
    HAVE(d, matmul_heads);
    NEED(op, is_act(d, c, 3) && is_act(d, a, 3) && w->rank == 3, c, a, w);
    NEED(op, c->dim[0] == a->dim[0] && c->dim[1] == a->dim[1] && c->dim[1] == w->dim[0], c, a, w);
    NEED(op, c0 >= 0 && a0 >= 0 && w0 >= 0 && n > 0 && w0 + n <= w->dim[1], c, a, w);
    NEED(op, c0 + (tb ? n : w->dim[2]) <= c->dim[2] && a0 + (tb ? w->dim[2] : n) <= a->dim[2], c, a,
         w);
    rt_cost_product(d, c->dim[0] * c->dim[1], c->dim[1], tb ? n : w->dim[2], tb ? w->dim[2] : n, a,
                    w);
    RUN(d, matmul_heads, c, c0, a, a0, w, w0, n, tb);
}

int64_t rt_panels_bytes(rt_dev *d, const rt_tensor *w)
{
    HAVE(d, panels_bytes);
    NEED("panels_bytes", w->rank == 2 || w->rank == 3, w);
    return d->ops->panels_bytes(d, w);
}

void rt_pack_weight(rt_dev *d, void *panels, const rt_tensor *w)
{
    HAVE(d, pack_weight);
    NEED("pack_weight", (w->rank == 2 || w->rank == 3) && panels, w);
    RUN(d, pack_weight, panels, w);
}

/* --- rows --------------------------------------------------------------------------------------
 */

void rt_gather_rows(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *index)
{
    HAVE(d, gather_rows);
    NEED("gather_rows", is_act(d, y, 2) && x->rank == 2 && i32_n(index, y->dim[0]), y, x, index);
    NEED("gather_rows", y->dim[1] == x->dim[1], y, x, index);
    MOVES(d, y, y, index);
    RUN(d, gather_rows, y, x, index);
}

void rt_scatter_add_rows(rt_dev *d, rt_tensor *x, const rt_tensor *y, const rt_tensor *index)
{
    HAVE(d, scatter_add_rows);
    NEED("scatter_add_rows", f32(x, 2) || as(x, y), x, y, index);
    NEED("scatter_add_rows", x->rank == 2 && is_act(d, y, 2) && i32_n(index, y->dim[0]), x, y, index);
    NEED("scatter_add_rows", x->dim[1] == y->dim[1], x, y, index);
    MOVES(d, y, y, y, index);
    RUN(d, scatter_add_rows, x, y, index);
}

void rt_scale(rt_dev *d, rt_tensor *y, const rt_tensor *x, float s)
{
    HAVE(d, scale);
    NEED("scale", is_act(d, y, y->rank) && like(x, y), y, x);
    MOVES(d, y, x);
    RUN(d, scale, y, x, s);
}

/* One row b, or a row an expert of sorted rows. */
static void check_bias(const rt_dev *d, const char *op, const rt_tensor *y, const rt_tensor *b,
                       const rt_tensor *offset)
{
    NEED(op, is_act(d, y, 2), y);
    if (offset)
        NEED(op, f32_nk(b, offset->dim[0] - 1, y->dim[1]) && offset->dtype == RT_I32, y, b, offset);
    else
        NEED(op, f32_n(b, y->dim[1]), y, b);
}

void rt_bias_forward(rt_dev *d, rt_tensor *y, const rt_tensor *b, const rt_tensor *offset)
{
    HAVE(d, bias_forward);
    check_bias(d, "bias_forward", y, b, offset);
    MOVES(d, y, y);
    RUN(d, bias_forward, y, b, offset);
}

void rt_bias_backward(rt_dev *d, rt_tensor *db, const rt_tensor *dy, const rt_tensor *offset)
{
    HAVE(d, bias_backward);
    check_bias(d, "bias_backward", dy, db, offset);
    MOVES(d, dy);
    rt_cost_parts(d, dy->dim[0], offset ? offset->dim[0] - 1 : 1, dy->dim[1]);
    RUN(d, bias_backward, db, dy, offset);
}

void rt_copy_columns(rt_dev *d, rt_tensor *y, int64_t y0, const rt_tensor *x, int64_t x0, int64_t n)
{
    HAVE(d, copy_columns);
    NEED("copy_columns", is_act(d, y, 3) && as(x, y) && x->rank == 3 && y->dim[0] == x->dim[0], y, x);
    NEED("copy_columns", x->dim[1] == y->dim[1] || x->dim[1] == 1, y, x);
    NEED("copy_columns", n >= 0 && y0 >= 0 && x0 >= 0 && y0 + n <= y->dim[2] && x0 + n <= x->dim[2],
         y, x);
    if (d->dry)
        d->cost.bytes += 2.0 * (double)rt_dtype_bytes(y->dtype, 1) * (double)y->dim[0] * (double)y->dim[1] * (double)n;
    RUN(d, copy_columns, y, y0, x, x0, n);
}

/* --- norm and rope -----------------------------------------------------------------------------
 */

void rt_rmsnorm_forward(rt_dev *d, rt_tensor *y, rt_tensor *rstd, const rt_tensor *x,
                        const rt_tensor *w, float eps)
{
    const char *op = "rmsnorm_forward";
    HAVE(d, rmsnorm_forward);
    NEED(op, is_act(d, y, 2) && as(x, y) && x->rank == 2, y, rstd, x, w);
    NEED(op, y->dim[0] == x->dim[0] && y->dim[1] <= x->dim[1], y, rstd, x, w);
    NEED(op, f32_n(rstd, y->dim[0]) && f32_n(w, y->dim[1]), y, rstd, x, w);
    NEED(op, d->dry || y->data != x->data, y, rstd, x, w);
    MOVES(d, y, x);
    RUN(d, rmsnorm_forward, y, rstd, x, w, eps);
}

void rt_rmsnorm_backward(rt_dev *d, rt_tensor *dx, rt_tensor *dw, const rt_tensor *dy,
                         const rt_tensor *x, const rt_tensor *w, const rt_tensor *rstd, float beta)
{
    const char *op = "rmsnorm_backward";
    HAVE(d, rmsnorm_backward);
    NEED(op, is_act(d, dx, 2) && as(dy, dx) && as(x, dx), dx, dw, dy, x, w, rstd);
    NEED(op, dy->rank == 2 && x->rank == 2, dx, dw, dy, x, w, rstd);
    NEED(op, dx->dim[0] == dy->dim[0] && x->dim[0] == dy->dim[0], dx, dw, dy, x, w, rstd);
    NEED(op, dx->dim[1] >= dy->dim[1] && x->dim[1] >= dy->dim[1], dx, dw, dy, x, w, rstd);
    NEED(op, !dw->rank || f32_n(dw, dy->dim[1]), dx, dw, dy, x, w, rstd);
    NEED(op, f32_n(w, dy->dim[1]) && f32_n(rstd, dy->dim[0]), dx, dw, dy, x, w, rstd);
    MOVES(d, dx, dx, dy, x);
    rt_cost_parts(d, dy->dim[0], 1, dy->dim[1]);
    RUN(d, rmsnorm_backward, dx, dw, dy, x, w, rstd, beta);
}

void rt_rope(rt_dev *d, rt_tensor *x, const rt_tensor *table, const rt_tensor *pos, int64_t first,
             bool interleaved, bool backward)
{
    HAVE(d, rope);
    NEED("rope", is_act(d, x, 3) && f32(table, 2) && i32_n(pos, x->dim[0]), x, table, pos);
    NEED("rope", table->dim[1] % 2 == 0 && first >= 0 && first + table->dim[1] <= x->dim[2], x,
         table, pos);
    MOVES(d, x, x);
    RUN(d, rope, x, table, pos, first, interleaved, backward);
}

/* --- attention ---------------------------------------------------------------------------------
 */

static rt_attention_shape shape_of(const rt_tensor *q, const rt_tensor *k, const rt_tensor *v,
                                   const rt_rows *rows)
{
    return (rt_attention_shape){ .rows = rows->n,
                                 .longest = rows->longest,
                                 .heads = q->dim[1],
                                 .kv_heads = k->dim[1],
                                 .dk = q->dim[2],
                                 .dv = v->dim[2],
                                 .act = q->dtype };
}

static void check_attention(const rt_dev *d, const char *op, const rt_tensor *out, const rt_tensor *lse,
                            const rt_tensor *q, const rt_tensor *k, const rt_tensor *v,
                            const rt_rows *rows, const rt_attention_rule *rule)
{
    NEED(op, !rule->sinks || f32_n(rule->sinks, q->dim[1]), rule->sinks, q);
    NEED(op, is_act(d, q, 3) && as(k, q) && as(v, q) && as(out, q), out, lse, q, k, v);
    NEED(op, k->rank == 3 && v->rank == 3 && out->rank == 3, out, lse, q, k, v);
    NEED(op, q->dim[0] == rows->n && k->dim[0] == rows->n && v->dim[0] == rows->n, out, lse, q, k,
         v);
    NEED(op, k->dim[1] > 0 && q->dim[1] % k->dim[1] == 0 && v->dim[1] == k->dim[1], out, lse, q, k,
         v);
    NEED(op, q->dim[2] == k->dim[2] && out->dim[2] == v->dim[2], out, lse, q, k, v);
    NEED(op, out->dim[0] == rows->n && out->dim[1] == q->dim[1], out, lse, q, k, v);
    NEED(op, f32_nk(lse, rows->n, q->dim[1]), out, lse, q, k, v);
    NEED(op, i32_n(&rows->offset, rows->s + 1), &rows->offset);
}

void rt_attention_forward(rt_dev *d, rt_tensor *out, rt_tensor *lse, const rt_tensor *q,
                          const rt_tensor *k, const rt_tensor *v, const rt_rows *rows,
                          const rt_attention_rule *rule)
{
    HAVE(d, attention_forward);
    check_attention(d, "attention_forward", out, lse, q, k, v, rows, rule);
    rt_attention_shape s = shape_of(q, k, v, rows);
    rt_cost_attention(d, &s);
    MOVES(d, out, q, k, v);
    RUN(d, attention_forward, out, lse, q, k, v, rows, rule);
}

void rt_attention_backward(rt_dev *d, rt_tensor *dq, rt_tensor *dk, rt_tensor *dv,
                           const rt_tensor *dout, const rt_tensor *out, const rt_tensor *lse,
                           const rt_tensor *q, const rt_tensor *k, const rt_tensor *v,
                           const rt_rows *rows, const rt_attention_rule *rule)
{
    const char *op = "attention_backward";
    HAVE(d, attention_backward);
    check_attention(d, op, out, lse, q, k, v, rows, rule);
    NEED(op, like(dq, q) && like(dk, k) && like(dv, v) && like(dout, out), dq, dk, dv, dout);
    rt_attention_shape s = shape_of(q, k, v, rows);
    s.backward = true;
    rt_cost_attention(d, &s);
    MOVES(d, dq, dk, dv, dout, out, q, k, v);
    RUN(d, attention_backward, dq, dk, dv, dout, out, lse, q, k, v, rows, rule);
}

void rt_sinks_backward(rt_dev *d, rt_tensor *dsinks, const rt_tensor *dout, const rt_tensor *out,
                       const rt_tensor *lse, const rt_tensor *sinks)
{
    const char *op = "sinks_backward";
    HAVE(d, sinks_backward);
    NEED(op, is_act(d, out, 3) && like(dout, out) && f32_nk(lse, out->dim[0], out->dim[1]), dout, out,
         lse);
    NEED(op, f32_n(dsinks, out->dim[1]) && f32_n(sinks, out->dim[1]), dsinks, sinks, out);
    MOVES(d, dout, out);
    rt_cost_parts(d, out->dim[0], 1, out->dim[1]);
    RUN(d, sinks_backward, dsinks, dout, out, lse, sinks);
}

int64_t rt_kv_bytes(rt_dev *d, const rt_kv *kv)
{
    HAVE(d, kv_bytes);
    return d->ops->kv_bytes(d, kv);
}

static void check_pages(const char *op, const rt_rows *rows)
{
    NEED(op, i32_n(&rows->pos, rows->n) && i32_n(&rows->offset, rows->s + 1), &rows->pos,
         &rows->offset);
    NEED(op, i32(&rows->page, 2) && rows->page.dim[0] == rows->s, &rows->page);
}

void rt_kv_append(rt_dev *d, rt_kv *kv, const rt_tensor *k, const rt_tensor *v, const rt_rows *rows)
{
    const char *op = "kv_append";
    HAVE(d, kv_append);
    NEED(op, is_act(d, k, 3) && k->dim[0] == rows->n && k->dim[1] == kv->heads && k->dim[2] == kv->dk, k);
    if (!kv->v_in_k)
        NEED(op, as(v, k) && v->rank == 3 && v->dim[0] == rows->n && v->dim[1] == kv->heads &&
                     v->dim[2] == kv->dv,
             k, v);
    check_pages(op, rows);
    MOVES(d, k, k);
    if (!kv->v_in_k)
        MOVES(d, v, v);
    RUN(d, kv_append, kv, k, v, rows);
}

void rt_kv_copy(rt_dev *d, rt_kv *kv, int64_t to, int64_t from)
{
    HAVE(d, kv_copy);
    if (to < 0 || from < 0 || to >= kv->pages || from >= kv->pages)
        rt_bug("kv_copy: page %lld to %lld of a cache of %lld", (long long)from, (long long)to,
               (long long)kv->pages);
    RUN(d, kv_copy, kv, to, from);
}

void rt_attention_cached(rt_dev *d, rt_tensor *out, const rt_tensor *q, const rt_kv *kv,
                         const rt_rows *rows, const rt_attention_rule *rule)
{
    const char *op = "attention_cached";
    HAVE(d, attention_cached);
    NEED(op, !rule->sinks || f32_n(rule->sinks, q->dim[1]), rule->sinks, q);
    NEED(op, is_act(d, out, 3) && as(q, out) && q->rank == 3 && q->dim[0] == rows->n && out->dim[0] == rows->n, out, q);
    NEED(op, q->dim[1] == out->dim[1] && q->dim[1] % kv->heads == 0, out, q);
    NEED(op, q->dim[2] == kv->dk && out->dim[2] == kv->dv, out, q);
    check_pages(op, rows);
    rt_attention_shape s = { .rows = rows->n,
                             .longest = rows->longest,
                             .heads = q->dim[1],
                             .kv_heads = kv->heads,
                             .dk = kv->dk,
                             .dv = kv->dv,
                             .pages = rows->page.dim[1],
                             .act = q->dtype };
    rt_cost_attention(d, &s);
    rt_cost_cache(d, &s, kv->v_in_k);
    MOVES(d, out, q);
    RUN(d, attention_cached, out, q, kv, rows, rule);
}

static void check_mla(const rt_dev *d, const char *op, const rt_tensor *k, const rt_tensor *v, const rt_tensor *kvb,
                      const rt_tensor *kr)
{
    NEED(op, is_act(d, k, 3) && as(v, k) && as(kvb, k) && as(kr, k), k, v, kvb, kr);
    NEED(op, v->rank == 3 && kvb->rank == 3 && kr->rank == 2, k, v, kvb, kr);
    NEED(op, k->dim[0] == v->dim[0] && k->dim[0] == kvb->dim[0] && k->dim[0] == kr->dim[0], k, v,
         kvb, kr);
    NEED(op, k->dim[1] == v->dim[1] && k->dim[1] == kvb->dim[1], k, v, kvb, kr);
    /* Dn = width of kvb - Dv, P = Dk - Dn */
    NEED(op, kvb->dim[2] >= v->dim[2] && k->dim[2] + v->dim[2] >= kvb->dim[2], k, v, kvb, kr);
    NEED(op, k->dim[2] + v->dim[2] - kvb->dim[2] <= kr->dim[1], k, v, kvb, kr);
}

void rt_mla_expand_forward(rt_dev *d, rt_tensor *k, rt_tensor *v, const rt_tensor *kvb,
                           const rt_tensor *kr)
{
    HAVE(d, mla_expand_forward);
    check_mla(d, "mla_expand_forward", k, v, kvb, kr);
    MOVES(d, k, v, kvb, kr);
    RUN(d, mla_expand_forward, k, v, kvb, kr);
}

void rt_mla_expand_backward(rt_dev *d, rt_tensor *dkvb, rt_tensor *dkr, const rt_tensor *dk,
                            const rt_tensor *dv)
{
    HAVE(d, mla_expand_backward);
    check_mla(d, "mla_expand_backward", dk, dv, dkvb, dkr);
    MOVES(d, dkvb, dkr, dk, dv);
    RUN(d, mla_expand_backward, dkvb, dkr, dk, dv);
}

/* --- feed-forward ------------------------------------------------------------------------------
 */

void rt_swiglu_forward(rt_dev *d, rt_tensor *y, const rt_tensor *gate, const rt_tensor *up,
                       const rt_swiglu_rule *rule)
{
    HAVE(d, swiglu_forward);
    NEED("swiglu_forward", is_act(d, y, y->rank) && like(gate, y) && like(up, y), y, gate, up);
    MOVES(d, y, gate, up);
    RUN(d, swiglu_forward, y, gate, up, rule);
}

void rt_swiglu_backward(rt_dev *d, rt_tensor *dgate, rt_tensor *dup, const rt_tensor *dy,
                        const rt_tensor *gate, const rt_tensor *up, const rt_swiglu_rule *rule)
{
    const char *op = "swiglu_backward";
    HAVE(d, swiglu_backward);
    NEED(op, is_act(d, dy, dy->rank) && like(dgate, dy) && like(dup, dy), dgate, dup, dy);
    NEED(op, like(gate, dy) && like(up, dy), gate, up, dy);
    MOVES(d, dgate, dup, dy, gate, up);
    RUN(d, swiglu_backward, dgate, dup, dy, gate, up, rule);
}

static void check_route(const char *op, const rt_tensor *idx, const rt_tensor *weight,
                        const rt_tensor *score, const rt_tensor *logits, const rt_route_policy *p)
{
    int64_t n = idx->dim[0];
    NEED(op, p->experts > 0 && p->experts <= RT_EXPERTS_MAX, idx, weight, score, logits);
    NEED(op, p->active > 0 && p->active <= p->experts, idx, weight, score, logits);
    NEED(op, p->groups > 0 && p->experts % p->groups == 0, idx, weight, score, logits);
    NEED(op, p->groups_kept > 0 && p->groups_kept <= p->groups, idx, weight, score, logits);
    NEED(op, p->active <= p->experts / p->groups * p->groups_kept, idx, weight, score, logits);
    NEED(op, i32_nk(idx, n, p->active) && f32_nk(weight, n, p->active), idx, weight, score, logits);
    NEED(op, f32_nk(score, n, p->experts) && f32_nk(logits, n, p->experts), idx, weight, score,
         logits);
}

void rt_route_forward(rt_dev *d, rt_tensor *idx, rt_tensor *weight, rt_tensor *score,
                      const rt_tensor *logits, const rt_tensor *bias, const rt_route_policy *p)
{
    HAVE(d, route_forward);
    check_route("route_forward", idx, weight, score, logits, p);
    if (bias)
        NEED("route_forward", f32_n(bias, p->experts), bias);
    MOVES(d, idx, weight, score, logits);
    RUN(d, route_forward, idx, weight, score, logits, bias, p);
}

void rt_route_backward(rt_dev *d, rt_tensor *dlogits, const rt_tensor *dweight,
                       const rt_tensor *idx, const rt_tensor *weight, const rt_tensor *score,
                       const rt_route_policy *p)
{
    HAVE(d, route_backward);
    check_route("route_backward", idx, weight, score, dlogits, p);
    NEED("route_backward", like(dweight, weight), dweight, weight);
    MOVES(d, dlogits, dweight, idx, weight, score);
    RUN(d, route_backward, dlogits, dweight, idx, weight, score, p);
}

void rt_route_sort(rt_dev *d, rt_tensor *offset, rt_tensor *row, rt_tensor *slot,
                   const rt_tensor *idx)
{
    const char *op = "route_sort";
    HAVE(d, route_sort);
    NEED(op, i32(idx, 2) && i32_nk(slot, idx->dim[0], idx->dim[1]), offset, row, slot, idx);
    NEED(op, i32_n(row, idx->dim[0] * idx->dim[1]) && i32(offset, 1), offset, row, slot, idx);
    NEED(op, offset->dim[0] > 1 && offset->dim[0] <= RT_EXPERTS_MAX + 1, offset, row, slot, idx);
    NEED(op, rt_tensor_elements(idx) <= INT32_MAX, offset, row, slot, idx);
    MOVES(d, row, slot, idx);
    rt_cost_sort(d, rt_tensor_elements(idx), offset->dim[0] - 1);
    RUN(d, route_sort, offset, row, slot, idx);
}

void rt_route_balance(rt_dev *d, rt_tensor *bias, const rt_tensor *load, float rate)
{
    HAVE(d, route_balance);
    NEED("route_balance", f32(bias, 1) && f32_n(load, bias->dim[0]), bias, load);
    RUN(d, route_balance, bias, load, rate);
}

void rt_route_load(rt_dev *d, rt_tensor *load, const rt_tensor *offset)
{
    HAVE(d, route_load);
    NEED("route_load", f32(load, 1) && i32_n(offset, load->dim[0] + 1), load, offset);
    RUN(d, route_load, load, offset);
}

void rt_unpermute_rows(rt_dev *d, rt_tensor *x, const rt_tensor *y, const rt_tensor *slot)
{
    HAVE(d, unpermute_rows);
    NEED("unpermute_rows", is_act(d, x, 2) && as(y, x) && y->rank == 2 && i32(slot, 2), x, y, slot);
    NEED("unpermute_rows", slot->dim[0] == x->dim[0] && y->dim[1] == x->dim[1], x, y, slot);
    NEED("unpermute_rows", y->dim[0] == x->dim[0] * slot->dim[1], x, y, slot);
    NEED("unpermute_rows", slot->dim[1] <= RT_CHOICES_MAX, x, y, slot);
    MOVES(d, x, x, y, slot);
    RUN(d, unpermute_rows, x, y, slot);
}

static void check_combine(const rt_dev *d, const char *op, const rt_tensor *y, const rt_tensor *ys,
                          const rt_tensor *slot, const rt_tensor *weight)
{
    NEED(op, is_act(d, y, 2) && as(ys, y) && ys->rank == 2, y, ys, slot, weight);
    NEED(op, i32(slot, 2) && f32(weight, 2), y, ys, slot, weight);
    NEED(op, slot->dim[0] == y->dim[0] && rt_tensor_same_shape(slot, weight), y, ys, slot, weight);
    NEED(op, ys->dim[0] == y->dim[0] * slot->dim[1] && ys->dim[1] == y->dim[1], y, ys, slot,
         weight);
}

void rt_combine_forward(rt_dev *d, rt_tensor *y, const rt_tensor *ys, const rt_tensor *slot,
                        const rt_tensor *weight)
{
    HAVE(d, combine_forward);
    check_combine(d, "combine_forward", y, ys, slot, weight);
    MOVES(d, y, y, ys, slot, weight);
    RUN(d, combine_forward, y, ys, slot, weight);
}

void rt_combine_backward(rt_dev *d, rt_tensor *dys, rt_tensor *dweight, const rt_tensor *dy,
                         const rt_tensor *ys, const rt_tensor *slot, const rt_tensor *weight)
{
    HAVE(d, combine_backward);
    check_combine(d, "combine_backward", dy, ys, slot, weight);
    NEED("combine_backward", like(dys, ys) && like(dweight, weight), dys, ys, dweight,
         weight);
    MOVES(d, dys, dweight, dy, ys, slot, weight);
    RUN(d, combine_backward, dys, dweight, dy, ys, slot, weight);
}

/* --- head --------------------------------------------------------------------------------------
 */

static void check_targets(const char *op, const rt_targets *t, int64_t m)
{
    int64_t items = t->id.dim[0];
    NEED(op, i32_n(&t->label, m) && f32_n(&t->weight, m), &t->label, &t->weight);
    NEED(op, i32_n(&t->offset, m + 1) && i32_n(&t->head_n, m), &t->offset, &t->head_n);
    NEED(op, i32(&t->id, 1) && f32_n(&t->logp, items) && i32_n(&t->hits, items), &t->id, &t->logp,
         &t->hits);
    NEED(op, f32_n(&t->tail, m) && f32_n(&t->entropy, m) && f32_n(&t->logz, m), &t->tail,
         &t->entropy, &t->logz);
}

void rt_loss(rt_dev *d, rt_tensor *stats, rt_tensor *logits, const rt_targets *t,
             const rt_loss_spec *spec, int64_t vocab, float scale, bool gradient)
{
    HAVE(d, loss);
    NEED("loss", f32(logits, 2) && f32_nk(stats, logits->dim[0], RT_LOSS_COLUMNS), stats, logits);
    NEED("loss", vocab > 0 && vocab <= logits->dim[1] && vocab <= RT_VOCAB_MAX, logits);
    NEED("loss", isfinite(spec->temperature) && spec->temperature > 0.0f, logits);
    NEED("loss", spec->drawn == 0.0f || spec->temperature == 1.0f, logits);
    NEED("loss", spec->jsd_beta >= 0.0f && spec->jsd_beta <= 1.0f, logits);
    NEED("loss", spec->skew_alpha >= 0.0f && spec->skew_alpha <= 1.0f, logits);
    NEED("loss", spec->clip_low >= 0.0f && spec->clip_low <= 1.0f && spec->clip_high >= 0.0f, logits);
    check_targets("loss", t, logits->dim[0]);
    if (spec->policy != 0.0f)
        NEED("loss", f32_n(&t->old_logp, logits->dim[0]) && f32_n(&t->advantage, logits->dim[0]),
             &t->old_logp, &t->advantage);
    if (spec->reference != 0.0f) {
        NEED("loss", f32(&t->reference, 2) && t->reference.dim[0] == logits->dim[0] &&
                         t->reference.dim[1] >= vocab, logits, &t->reference);
        MOVES(d, &t->reference);
        MOVES(d, &t->reference);
    }
    rt_cost_head(d, vocab);
    MOVES(d, logits);
    if (gradient)
        MOVES(d, logits);
    RUN(d, loss, stats, logits, t, spec, vocab, scale, gradient);
}

void rt_sample(rt_dev *d, rt_tensor *token, const rt_tensor *logits, const rt_tensor *seed,
               const rt_tensor *index, const rt_sampling *s, int64_t vocab)
{
    HAVE(d, sample);
    NEED("sample", f32(logits, 2) && i32_n(token, logits->dim[0]), token, logits);
    NEED("sample", i32_nk(seed, token->dim[0], 2) && i32_n(index, token->dim[0]), token, seed,
         index);
    NEED("sample", vocab > 0 && vocab <= logits->dim[1] && vocab <= RT_VOCAB_MAX, logits);
    NEED("sample", isfinite(s->temperature) && s->temperature >= 0.0f && s->top_k >= 0, logits);
    NEED("sample", s->min_p >= 0.0f && s->min_p <= 1.0f, logits);
    rt_cost_head(d, vocab);
    MOVES(d, logits);
    RUN(d, sample, token, logits, seed, index, s, vocab);
}

void rt_capture_rows(rt_dev *d, rt_capture *out, rt_tensor *logits, const rt_tensor *token,
                     const rt_tensor *seed, const rt_tensor *index, const rt_tensor *listed,
                     const rt_soft_config *c, int64_t vocab)
{
    const char *op = "capture";
    int64_t m = logits->dim[0];
    HAVE(d, capture_rows);
    NEED(op, f32(logits, 2) && i32_n(token, m) && i32_nk(seed, m, 2) && i32_n(index, m), logits,
         token, seed, index);
    NEED(op, vocab > 0 && vocab <= logits->dim[1] && vocab <= RT_VOCAB_MAX, logits);
    NEED(op, c->head_max >= 1 && c->head_max <= RT_SOFT_HEAD_MAX && c->head_floor >= 0.0f, logits);
    NEED(op, c->listed >= 0 && c->listed < c->head_max && !listed == !c->listed, logits);
    if (listed)
        NEED(op, i32_nk(listed, m, c->listed), listed);
    NEED(op, c->tail_spacing == 0.0f || c->tail_spacing >= 1.0f / RT_SOFT_DRAWS_MAX, logits);
    NEED(op, c->n_temperatures >= 0 && c->n_temperatures <= RT_SOFT_TEMPERATURES_MAX, logits);
    NEED(op, i32_n(&out->head_n, m) && i32_nk(&out->head_id, m, c->head_max), &out->head_n,
         &out->head_id);
    NEED(op, f32_nk(&out->head_logp, m, c->head_max) && f32_n(&out->tail, m), &out->head_logp,
         &out->tail);
    NEED(op, i32_n(&out->draw_n, m) && f32_n(&out->entropy, m) && f32_n(&out->taken, m),
         &out->draw_n, &out->entropy, &out->taken);
    if (c->tail_spacing > 0.0f)
        NEED(op,
             is(&out->draw_id, RT_I32, 2) && out->draw_id.dim[0] == m &&
                 out->draw_id.dim[1] >= (int64_t)ceilf(1.0f / c->tail_spacing) + 1,
             &out->draw_id);
    if (c->n_temperatures > 0)
        NEED(op, f32_nk(&out->logz, m, c->n_temperatures), &out->logz);
    rt_cost_head(d, vocab);
    MOVES(d, logits);
    RUN(d, capture_rows, out, logits, token, seed, index, listed, c, vocab);
}

void rt_kl_rows(rt_dev *d, rt_tensor *kl, rt_tensor *agree, const rt_tensor *p, const rt_tensor *q,
                int64_t vocab)
{
    HAVE(d, kl_rows);
    NEED("kl_rows", f32(p, 2) && f32(q, 2) && p->dim[0] == q->dim[0], kl, agree, p, q);
    NEED("kl_rows", f32_n(kl, p->dim[0]) && f32_n(agree, p->dim[0]), kl, agree, p, q);
    NEED("kl_rows", vocab > 0 && vocab <= p->dim[1] && vocab <= q->dim[1], kl, agree, p, q);
    MOVES(d, p, q);
    RUN(d, kl_rows, kl, agree, p, q, vocab);
}

/* --- optimizer ---------------------------------------------------------------------------------
 */

void rt_sumsq(rt_dev *d, rt_tensor *partial, const rt_tensor *g)
{
    HAVE(d, sumsq);
    NEED("sumsq", is_act(d, g, g->rank), partial, g);
    NEED("sumsq", f32_n(partial, rt_ceil_div(rt_tensor_elements(g), 4096)), partial, g);
    MOVES(d, g);
    RUN(d, sumsq, partial, g);
}

void rt_adamw_step(rt_dev *d, rt_tensor *w, rt_tensor *m, rt_tensor *v, const rt_tensor *g,
                   const rt_adamw *h)
{
    HAVE(d, adamw_step);
    NEED("adamw", is_weight(w) && is_act(d, g, w->rank), w, m, v, g);
    NEED("adamw", rt_tensor_same_shape(m, w) && rt_tensor_same_shape(v, w), w, m, v, g);
    NEED("adamw", rt_tensor_same_shape(g, w), w, m, v, g);
    NEED("adamw", m->dtype == RT_M8 ? v->dtype == RT_V8 : like(m, v) && v->dtype == RT_F32, m, v);
    NEED("adamw", h->bias1 > 0.0f && h->bias2 > 0.0f, w);
    MOVES(d, w, w, m, m, v, v, g);
    RUN(d, adamw_step, w, m, v, g, h);
}

void rt_momentum(rt_dev *d, rt_tensor *u, rt_tensor *m, const rt_tensor *g, float beta,
                 float grad_scale, bool nesterov)
{
    HAVE(d, momentum);
    NEED("momentum", u->dtype == RT_F32 && is_act(d, g, u->rank), u, m, g);
    NEED("momentum", rt_tensor_same_shape(m, u) && rt_tensor_same_shape(g, u), u, m, g);
    NEED("momentum", m->dtype == RT_M8 || m->dtype == RT_F32, u, m, g);
    MOVES(d, u, m, m, g);
    RUN(d, momentum, u, m, g, beta, grad_scale, nesterov);
}

void rt_unit_norm(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *partial)
{
    HAVE(d, unit_norm);
    NEED("unit_norm", y->dtype == RT_F32 && like(x, y) && f32(partial, 1), y, x, partial);
    MOVES(d, y, x);
    RUN(d, unit_norm, y, x, partial);
}

void rt_axpby(rt_dev *d, rt_tensor *y, const rt_tensor *x, float alpha, float beta,
            const rt_rounding *r)
{
    static const rt_rounding none;
    HAVE(d, axpby);
    NEED("axpby", is_weight(y) && is_weight(x) && rt_tensor_same_shape(y, x), y, x);
    NEED("axpby", r || y->dtype == RT_F32, y, x);
    MOVES(d, y, y, x);
    RUN(d, axpby, y, x, alpha, beta, r ? r : &none);
}
