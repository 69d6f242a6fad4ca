/* rows.c: the row operations of every backend: each packs its arguments and has the backend run the
   team kernel over its units (rows, blocks of elements, blocks of columns). Checks what only the
   data can tell, indices in range, where the host can read it. Shapes were checked by ops.c. */
#include "core/device/backend.h"
#include "core/device/kernels/list.h"

/* kernel `name` over n units of about `cost` floats each */
#define RUN(d, name, args, n, cost) RUN_WITH(d, name, args, n, cost, 0)
/* the same, and a team has `bytes` of its own */
#define RUN_WITH(d, name, args, n, cost, bytes)                                                    \
    (d)->backend->launch((d), RT_KERNEL_##name, RT_F32, (args), (n), (cost), (bytes))
/* with activations as the tensor is */
#define RUN_AS(d, name, like, args, n, cost)                                                       \
    (d)->backend->launch((d), RT_KERNEL_##name, (like)->dtype, (args), (n), (cost), 0)

enum { EXP_COST = 8 }; /* of an exponential, in floats touched */

static int64_t flat_blocks(const rt_tensor *t)
{
    return rt_ceil_div(rt_tensor_elements(t), RT_FLAT_BLOCK);
}

/* Columns a unit takes when a sum runs over rows: cache lines of its own. */
static int64_t column_block(rt_dev *d, int64_t columns)
{
    return rt_align_up(rt_ceil_div(columns, rt_max(d->backend->teams(d, columns), 1)),
                       RT_CACHE_LINE / (int64_t)sizeof(float));
}

/* --- sums over rows in parts --------------------------------------------------------------------
 */

/* Rows of a part: about as many as there are parts, so that neither chain is long. */
static int64_t part_rows(int64_t rows)
{
    int64_t part = 128;
    while (part * part < rows)
        part *= 2;
    return part;
}

int64_t rt_rows_parts_bytes(int64_t rows, int64_t groups, int64_t columns)
{
    return (rt_ceil_div(rows, part_rows(rows)) + groups - 1) * columns * (int64_t)sizeof(float);
}

static struct rt_parts parts_of(rt_dev *d, int64_t rows, int64_t groups, int64_t columns)
{
    if (!d->backend->shared)
        return (struct rt_parts){ NULL, rt_max(rows, 1) };
    return (struct rt_parts){ d->backend->shared(d, rt_rows_parts_bytes(rows, groups, columns)),
                              part_rows(rows) };
}

/* What the parts come to, where there are any. */
static void add_parts(rt_dev *d, const struct rt_parts *parts, rt_tensor *sum,
                      const rt_tensor *offset, int64_t rows)
{
    int64_t columns = sum->dim[sum->rank - 1], block = column_block(d, columns);
    struct rt_args_sum_parts a = { *sum, offset ? *offset : (rt_tensor){ 0 }, *parts, rows, block };
    if (parts->at)
        RUN(d, sum_parts, &a, (offset ? offset->dim[0] - 1 : 1) * rt_ceil_div(columns, block),
            block);
}

static void check_range(rt_dev *d, const char *op, const rt_tensor *index, int64_t low, int64_t end)
{
    const int32_t *v = rt_i32(index);
    int64_t n = d->backend->maps_files ? rt_tensor_elements(index) : 0;
    for (int64_t i = 0; i < n; i++)
        if (v[i] < low || v[i] >= end)
            rt_bug("%s: index %lld is %d, outside [%lld, %lld)", op, (long long)i, v[i],
                   (long long)low, (long long)end);
}

/* --- rows --------------------------------------------------------------------------------------
 */

static void run_gather_rows(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *index)
{
    struct rt_args_gather_rows a = { *y, *x, *index, rt_dtype_bytes(x->dtype, x->dim[1]) };
    int64_t n = y->dim[0], c = y->dim[1];
    check_range(d, "gather_rows", index, 0, x->dim[0]);
    bool plain = x->dtype == RT_F32 || x->dtype == RT_F16 || x->dtype == RT_BF16;
    if (plain || !d->backend->maps_files) {
        RUN_AS(d, gather_rows, y, &a, n, c);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        rt_decode_f32(rt_f32(y) + i * c, (const uint8_t *)x->data + rt_i32(index)[i] * a.row_bytes,
                      x->dtype, c);
}

static void run_scatter_add_rows(rt_dev *d, rt_tensor *x, const rt_tensor *y,
                                 const rt_tensor *index)
{
    int64_t block = column_block(d, y->dim[1]);
    struct rt_args_scatter_add_rows a = { *x, *y, *index, block };
    check_range(d, "scatter_add_rows", index, 0, x->dim[0]);
    RUN_AS(d, scatter_add_rows, y, &a,
           d->backend->shared ? y->dim[0] : rt_ceil_div(y->dim[1], block), y->dim[0] * block);
}

static void run_unpermute_rows(rt_dev *d, rt_tensor *x, const rt_tensor *y, const rt_tensor *slot)
{
    struct rt_args_unpermute_rows a = { *x, *y, *slot };
    check_range(d, "unpermute_rows", slot, 0, y->dim[0]);
    RUN_AS(d, unpermute_rows, x, &a, x->dim[0], slot->dim[1] * x->dim[1]);
}

static void run_scale(rt_dev *d, rt_tensor *y, const rt_tensor *x, float s)
{
    struct rt_args_scale a = { *y, *x, s };
    RUN_AS(d, scale, y, &a, flat_blocks(y), 2 * RT_FLAT_BLOCK);
}

static void run_bias_forward(rt_dev *d, rt_tensor *y, const rt_tensor *b, const rt_tensor *offset)
{
    struct rt_args_bias a = { .y = *y, .b = *b, .offset = offset ? *offset : (rt_tensor){ 0 } };
    RUN_AS(d, bias_forward, y, &a, y->dim[0], y->dim[1]);
}

static void run_bias_backward(rt_dev *d, rt_tensor *db, const rt_tensor *dy,
                              const rt_tensor *offset)
{
    int64_t n = dy->dim[0], c = dy->dim[1], block = column_block(d, c);
    struct rt_parts parts = parts_of(d, n, offset ? offset->dim[0] - 1 : 1, c);
    struct rt_args_bias a = { *dy, *db, offset ? *offset : (rt_tensor){ 0 }, block, parts };
    RUN_AS(d, bias_backward, dy, &a, rt_ceil_div(n, parts.rows) * rt_ceil_div(c, block),
           rt_min(n, parts.rows) * block);
    add_parts(d, &parts, db, offset, n);
}

static void run_copy_columns(rt_dev *d, rt_tensor *y, int64_t y0, const rt_tensor *x, int64_t x0,
                             int64_t n)
{
    struct rt_args_copy_columns a = { *y, *x, y0, x0, n };
    RUN_AS(d, copy_columns, y, &a, y->dim[0], y->dim[1] * n);
}

static void run_mla_expand_forward(rt_dev *d, rt_tensor *k, rt_tensor *v, const rt_tensor *kvb,
                                   const rt_tensor *kr)
{
    struct rt_args_mla_expand_forward a = { *k, *v, *kvb, *kr };
    RUN_AS(d, mla_expand_forward, k, &a, k->dim[0], k->dim[1] * (k->dim[2] + v->dim[2]));
}

static void run_mla_expand_backward(rt_dev *d, rt_tensor *dkvb, rt_tensor *dkr, const rt_tensor *dk,
                                    const rt_tensor *dv)
{
    struct rt_args_mla_expand_backward a = { *dkvb, *dkr, *dk, *dv };
    RUN_AS(d, mla_expand_backward, dk, &a, dk->dim[0], dk->dim[1] * (dk->dim[2] + dv->dim[2]));
}

/* --- norm, rope, feed-forward ------------------------------------------------------------------
 */

static void run_rmsnorm_forward(rt_dev *d, rt_tensor *y, rt_tensor *rstd, const rt_tensor *x,
                                const rt_tensor *w, float eps)
{
    struct rt_args_rmsnorm_forward a = { *y, *rstd, *x, *w, eps };
    RUN_AS(d, rmsnorm_forward, y, &a, y->dim[0], 2 * y->dim[1]);
}

static void run_rmsnorm_backward(rt_dev *d, rt_tensor *dx, rt_tensor *dw, const rt_tensor *dy,
                                 const rt_tensor *x, const rt_tensor *w, const rt_tensor *rstd,
                                 float beta)
{
    int64_t n = dy->dim[0], c = dy->dim[1], block = column_block(d, c);
    struct rt_parts parts = parts_of(d, n, 1, c);
    struct rt_args_rmsnorm_backward a = { *dx, *dw, *dy, *x, *w, *rstd, beta, block, parts };
    /* dw first: dx may overwrite dy */
    if (dw->rank) {
        RUN_AS(d, rmsnorm_backward_w, dy, &a, rt_ceil_div(n, parts.rows) * rt_ceil_div(c, block),
               2 * rt_min(n, parts.rows) * block);
        add_parts(d, &parts, dw, NULL, n);
    }
    RUN_AS(d, rmsnorm_backward, dy, &a, n, 3 * c);
}

static void run_rope(rt_dev *d, rt_tensor *x, const rt_tensor *table, const rt_tensor *pos,
                     int64_t first, bool interleaved, bool backward)
{
    struct rt_args_rope a = { *x, *table, *pos, first, interleaved, backward };
    check_range(d, "rope", pos, 0, table->dim[0]);
    RUN_AS(d, rope, x, &a, x->dim[0], x->dim[1] * table->dim[1]);
}

static void run_sinks_backward(rt_dev *d, rt_tensor *dsinks, const rt_tensor *dout,
                               const rt_tensor *out, const rt_tensor *lse, const rt_tensor *sinks)
{
    int64_t n = out->dim[0], heads = out->dim[1];
    struct rt_parts parts = parts_of(d, n, 1, heads);
    struct rt_args_sinks_backward a = { *dsinks, *dout, *out, *lse, *sinks, parts };
    RUN_AS(d, sinks_backward, out, &a, rt_ceil_div(n, parts.rows) * heads,
           rt_min(n, parts.rows) * (2 * out->dim[2] + EXP_COST));
    add_parts(d, &parts, dsinks, NULL, n);
}

static void run_swiglu_forward(rt_dev *d, rt_tensor *y, const rt_tensor *gate, const rt_tensor *up,
                               const rt_swiglu_rule *rule)
{
    struct rt_args_swiglu_forward a = { *y, *gate, *up, *rule };
    RUN_AS(d, swiglu_forward, y, &a, flat_blocks(y), EXP_COST * RT_FLAT_BLOCK);
}

static void run_swiglu_backward(rt_dev *d, rt_tensor *dgate, rt_tensor *dup, const rt_tensor *dy,
                                const rt_tensor *gate, const rt_tensor *up,
                                const rt_swiglu_rule *rule)
{
    struct rt_args_swiglu_backward a = { *dgate, *dup, *dy, *gate, *up, *rule };
    RUN_AS(d, swiglu_backward, dy, &a, flat_blocks(dy), EXP_COST * RT_FLAT_BLOCK);
}

/* --- router ------------------------------------------------------------------------------------
 */

static void run_route_forward(rt_dev *d, rt_tensor *idx, rt_tensor *weight, rt_tensor *score,
                              const rt_tensor *logits, const rt_tensor *bias,
                              const rt_route_policy *p)
{
    struct rt_args_route_forward a = { *idx, *weight, *score, *logits, { 0 }, *p };
    if (bias)
        a.bias = *bias;
    RUN(d, route_forward, &a, idx->dim[0], p->experts * (EXP_COST + p->active));
}

static void run_route_backward(rt_dev *d, rt_tensor *dlogits, const rt_tensor *dweight,
                               const rt_tensor *idx, const rt_tensor *weight,
                               const rt_tensor *score, const rt_route_policy *p)
{
    struct rt_args_route_backward a = { *dlogits, *dweight, *idx, *weight, *score, *p };
    RUN(d, route_backward, &a, idx->dim[0], p->experts + EXP_COST * p->active);
}

int64_t rt_rows_sort_bytes(int64_t choices, int64_t experts)
{
    return rt_ceil_div(choices, RT_SORT_RUN) * experts * (int64_t)sizeof(int32_t);
}

static void run_route_sort(rt_dev *d, rt_tensor *offset, rt_tensor *row, rt_tensor *slot,
                           const rt_tensor *idx)
{
    int64_t n = rt_tensor_elements(idx), experts = offset->dim[0] - 1;
    struct rt_args_route_sort a = { *offset, *row, *slot, *idx, rt_i32(offset), rt_max(n, 1), 1 };
    check_range(d, "route_sort", idx, 0, experts);
    if (d->backend->shared && n > 0) {
        a.count = d->backend->shared(d, rt_rows_sort_bytes(n, experts));
        a.run = RT_SORT_RUN;
        a.runs = rt_ceil_div(n, a.run);
    }
    RUN(d, route_count, &a, a.runs, a.run);
    RUN(d, route_offsets, &a, 1, 1);
    RUN(d, route_place, &a, a.runs, a.run);
}

static void run_route_balance(rt_dev *d, rt_tensor *bias, const rt_tensor *load, float rate)
{
    struct rt_args_route_balance a = { *bias, *load, rate };
    RUN(d, route_balance, &a, 1, 1);
}

static void run_route_load(rt_dev *d, rt_tensor *load, const rt_tensor *offset)
{
    struct rt_args_route_load a = { *load, *offset };
    RUN(d, route_load, &a, 1, 1);
}

static void run_combine_forward(rt_dev *d, rt_tensor *y, const rt_tensor *ys, const rt_tensor *slot,
                                const rt_tensor *weight)
{
    struct rt_args_combine_forward a = { *y, *ys, *slot, *weight };
    RUN_AS(d, combine_forward, y, &a, y->dim[0], slot->dim[1] * y->dim[1]);
}

static void run_combine_backward(rt_dev *d, rt_tensor *dys, rt_tensor *dweight, const rt_tensor *dy,
                                 const rt_tensor *ys, const rt_tensor *slot,
                                 const rt_tensor *weight)
{
    struct rt_args_combine_backward a = { *dys, *dweight, *dy, *ys, *slot, *weight };
    RUN_AS(d, combine_backward, dy, &a, dy->dim[0], 2 * slot->dim[1] * dy->dim[1]);
}

/* --- head --------------------------------------------------------------------------------------
 */

/* Offsets, head sizes, ids and labels of the targets, before a kernel writes through them. */
static void check_targets(rt_dev *d, const rt_targets *t, int64_t rows, int64_t vocab)
{
    const int32_t *offset = rt_i32(&t->offset), *head = rt_i32(&t->head_n);
    rt_tensor id = t->id;
    check_range(d, "loss label", &t->label, -1, vocab);
    for (int64_t i = 0; i < rows; i++) {
        int64_t n = (int64_t)offset[i + 1] - offset[i];
        if (offset[i] < 0 || n < 0 || offset[i + 1] > t->id.dim[0])
            rt_bug("loss: items of row %lld leave the %lld given", (long long)i,
                   (long long)t->id.dim[0]);
        if (head[i] < 0 || (head[i] > 0 && (head[i] > n || n > RT_LOSS_ITEMS)))
            rt_bug("loss: row %lld has %lld items, head of %d: at most %d items a row",
                   (long long)i, (long long)n, head[i], RT_LOSS_ITEMS);
    }
    id.dim[0] = rows > 0 ? offset[rows] : 0;
    check_range(d, "loss item", &id, 0, vocab);
}

int64_t rt_rows_head_bytes(int64_t vocab)
{
    return 2 * rt_align_up(vocab, 16) * (int64_t)sizeof(float);
}

static void run_loss(rt_dev *d, rt_tensor *stats, rt_tensor *logits, const rt_targets *t,
                     const rt_loss_spec *spec, int64_t vocab, float scale, bool gradient)
{
    struct rt_args_loss a = { *stats, *logits, *t, *spec, vocab, scale, gradient };
    if (d->backend->maps_files)
        check_targets(d, t, logits->dim[0], vocab);
    bool aside = !gradient || spec->temperature != 1.0f;
    RUN_WITH(d, loss, &a, logits->dim[0], (EXP_COST + 4) * vocab,
             aside ? rt_rows_head_bytes(vocab) : 0);
}

static void run_sample(rt_dev *d, rt_tensor *token, const rt_tensor *logits, const rt_tensor *seed,
                       const rt_tensor *index, const rt_sampling *s, int64_t vocab)
{
    struct rt_args_sample a = { *token, *logits, *seed, *index, *s, vocab };
    RUN_WITH(d, sample, &a, logits->dim[0], (EXP_COST + (s->top_p < 1.0f ? 32 : 2)) * vocab,
             rt_rows_head_bytes(vocab));
}

static void run_capture(rt_dev *d, rt_capture *out, rt_tensor *logits, const rt_tensor *token,
                        const rt_tensor *seed, const rt_tensor *index, const rt_tensor *listed,
                        const rt_soft_config *c, int64_t vocab)
{
    struct rt_args_capture a = { .out = *out,
                                 .logits = *logits,
                                 .token = *token,
                                 .seed = *seed,
                                 .index = *index,
                                 .config = *c,
                                 .vocab = vocab };
    check_range(d, "capture token", token, -1, vocab);
    if (listed) {
        a.listed = *listed;
        check_range(d, "capture listed id", listed, -1, vocab);
    }
    RUN(d, capture, &a, logits->dim[0], (EXP_COST + 2) * vocab);
}

static void run_kl_rows(rt_dev *d, rt_tensor *kl, rt_tensor *agree, const rt_tensor *p,
                        const rt_tensor *q, int64_t vocab)
{
    struct rt_args_kl_rows a = { *kl, *agree, *p, *q, vocab };
    RUN(d, kl_rows, &a, p->dim[0], 4 * EXP_COST * vocab);
}

/* --- optimizer ---------------------------------------------------------------------------------
 */

static void run_sumsq(rt_dev *d, rt_tensor *partial, const rt_tensor *g)
{
    struct rt_args_sumsq a = { *partial, *g };
    RUN_AS(d, sumsq, g, &a, flat_blocks(g), RT_FLAT_BLOCK);
}

static void run_adamw(rt_dev *d, rt_tensor *w, rt_tensor *m, rt_tensor *v, const rt_tensor *g,
                      const rt_adamw *h)
{
    struct rt_args_adamw a = { *w, *m, *v, *g, *h };
    RUN_AS(d, adamw, g, &a, flat_blocks(w), (m->dtype == RT_F32 ? 8 : 64) * RT_FLAT_BLOCK);
}

static void run_momentum(rt_dev *d, rt_tensor *u, rt_tensor *m, const rt_tensor *g, float beta,
                         float grad_scale, bool nesterov)
{
    struct rt_args_momentum a = { *u, *m, *g, beta, grad_scale, nesterov };
    RUN_AS(d, momentum, g, &a, flat_blocks(u), (m->dtype == RT_F32 ? 4 : 32) * RT_FLAT_BLOCK);
}

static void run_unit_norm(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *partial)
{
    struct rt_args_unit_norm a = { *y, *x, *partial };
    RUN(d, unit_norm, &a, flat_blocks(y), 2 * RT_FLAT_BLOCK + partial->dim[0]);
}

static void run_axpby(rt_dev *d, rt_tensor *y, const rt_tensor *x, float alpha, float beta,
                    const rt_rounding *r)
{
    struct rt_args_axpby args = { *y, *x, alpha, beta, *r };
    RUN(d, axpby, &args, flat_blocks(y), 4 * RT_FLAT_BLOCK);
}

void rt_rows_ops(rt_ops *ops)
{
    ops->gather_rows = run_gather_rows;
    ops->scatter_add_rows = run_scatter_add_rows;
    ops->unpermute_rows = run_unpermute_rows;
    ops->scale = run_scale;
    ops->bias_forward = run_bias_forward;
    ops->bias_backward = run_bias_backward;
    ops->copy_columns = run_copy_columns;
    ops->mla_expand_forward = run_mla_expand_forward;
    ops->mla_expand_backward = run_mla_expand_backward;
    ops->rmsnorm_forward = run_rmsnorm_forward;
    ops->rmsnorm_backward = run_rmsnorm_backward;
    ops->rope = run_rope;
    ops->sinks_backward = run_sinks_backward;
    ops->swiglu_forward = run_swiglu_forward;
    ops->swiglu_backward = run_swiglu_backward;
    ops->route_forward = run_route_forward;
    ops->route_backward = run_route_backward;
    ops->route_sort = run_route_sort;
    ops->route_balance = run_route_balance;
    ops->route_load = run_route_load;
    ops->combine_forward = run_combine_forward;
    ops->combine_backward = run_combine_backward;
    ops->loss = run_loss;
    ops->sample = run_sample;
    ops->capture_rows = run_capture;
    ops->kl_rows = run_kl_rows;
    ops->sumsq = run_sumsq;
    ops->adamw_step = run_adamw;
    ops->momentum = run_momentum;
    ops->unit_norm = run_unit_norm;
    ops->axpby = run_axpby;
}
