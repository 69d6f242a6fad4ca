#include "core/device/cost.h"

void rt_cost_moves(rt_dev *d, const rt_tensor *const *t, int n)
{
    for (int i = 0; d->dry && i < n; i++)
        d->cost.bytes += (double)rt_tensor_bytes(t[i]);
}

static double weight_bytes(const rt_tensor *w)
{
    int64_t cols = w->dim[w->rank - 1], rows = rt_tensor_elements(w) / rt_max(cols, 1);
    return (double)(w->piece ? rt_piece_bytes(w->piece, rows, cols) : rt_tensor_bytes(w));
}

void rt_cost_product(rt_dev *d, int64_t rows, int64_t groups, int64_t n, int64_t k,
                     const rt_tensor *a, const rt_tensor *b)
{
    if (!d->dry)
        return;
    double share = groups > rows ? (double)rows / (double)groups : 1;
    d->cost.flops += 2.0 * (double)rows * (double)n * (double)k;
    d->cost.bytes += weight_bytes(b) * share + 4.0 * (double)rows * (double)(n + k);
    d->backend->need_product(d, groups, n, k, a->dtype, b);
}

static double keys_seen(const rt_attention_shape *s) /* by all rows */
{
    return (double)s->rows * 0.5 * (double)(s->longest + 1);
}

void rt_cost_attention(rt_dev *d, const rt_attention_shape *s)
{
    if (!d->dry)
        return;
    d->cost.flops += (s->backward ? 5.0 : 2.0) * keys_seen(s) * (double)s->heads *
                     (double)(s->dk + s->dv);
    d->backend->need_attention(d, s);
}

void rt_cost_cache(rt_dev *d, const rt_attention_shape *s, bool v_in_k)
{
    if (d->dry)
        d->cost.bytes += (double)rt_dtype_bytes(d->act, 1) * keys_seen(s) * (double)s->kv_heads *
                         (double)(s->dk + (v_in_k ? 0 : s->dv));
}

void rt_cost_head(rt_dev *d, int64_t vocab)
{
    if (d->dry)
        d->backend->need_rows(d, rt_rows_head_bytes(vocab));
}

void rt_cost_parts(rt_dev *d, int64_t rows, int64_t groups, int64_t columns)
{
    if (d->dry && d->backend->need_shared)
        d->backend->need_shared(d, rt_rows_parts_bytes(rows, groups, columns));
}

void rt_cost_sort(rt_dev *d, int64_t choices, int64_t experts)
{
    if (d->dry && d->backend->need_shared)
        d->backend->need_shared(d, rt_rows_sort_bytes(choices, experts));
}
