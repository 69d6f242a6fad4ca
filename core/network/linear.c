#include "core/network/linear.h"

static void add(rt_params *p, rt_tensor *slot, const char *name, const char *gguf,
                rt_param_init init, unsigned flags, int64_t experts, int64_t out, int64_t in)
{
    if (experts)
        rt_param_add(p, slot, name, gguf, init, flags, experts, out, in);
    else
        rt_param_add(p, slot, name, gguf, init, flags, out, in, 0);
}

void rt_linear_weight(rt_params *p, rt_linear *l, const char *name, const char *gguf,
                      rt_param_init init, int64_t experts, int64_t out, int64_t in)
{
    add(p, &l->w, name, gguf, init, RT_PARAM_DECAY | RT_PARAM_PRODUCT | RT_PARAM_LINEAR,
        experts, out, in);
}

void rt_linear_bias(rt_params *p, rt_linear *l, const char *name, const char *gguf,
                    int64_t experts, int64_t out)
{
    add(p, &l->b, name, gguf, RT_INIT_ZEROS, RT_PARAM_BIAS, experts, out, 0);
}

rt_linear rt_linear_experts(rt_dev *d, const rt_linear *l, int64_t first, int64_t n)
{
    rt_linear some = { .w = l->w };
    if (l->w.rank)
        some.w = rt_tensor_rows(&l->w, first, n);
    if (l->w.piece)
        some.w.piece = l->w.piece + first;
    if (l->w.panels)
        some.w.panels = (const uint8_t *)l->w.panels +
                        rt_panels_bytes(d, &l->w) / l->w.dim[0] * first;
    if (l->b.data)
        some.b = rt_tensor_rows(&l->b, first, n);
    if (l->adapters) {
        some.down = rt_tensor_rows(&l->down, first, n);
        some.up = rt_tensor_rows(&l->up, first, n);
        some.adapters = l->adapters;
    }
    return some;
}

rt_tensor rt_as_rows(const rt_tensor *t)
{
    rt_tensor rows = *t;
    if (t->rank <= 2)
        return rows;
    return rt_tensor_2(t->data, t->dtype, t->dim[0], t->dim[1] * t->dim[2]);
}

/* c = a bᵀ or a b, of one matrix or each row by its expert's. */
static void product(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                    bool tb, const rt_tensor *offset, float beta)
{
    if (offset)
        rt_matmul_grouped(d, c, a, ta, b, tb, offset, beta);
    else
        rt_matmul(d, c, a, ta, b, tb, beta);
}

/* As many rows of an adapters' scratch as x has. */
static rt_tensor scratch_rows(const rt_adapters *a, const rt_tensor *scratch, const rt_tensor *x)
{
    if (x->dim[0] > a->rows)
        rt_bug("adapters: %lld rows, planned for %lld", (long long)x->dim[0], (long long)a->rows);
    return rt_tensor_rows(scratch, 0, x->dim[0]);
}

static void adapter_inner(rt_dev *d, const rt_linear *l, rt_tensor *inner, const rt_tensor *x,
                          const rt_tensor *offset)
{
    *inner = scratch_rows(l->adapters, &l->adapters->inner, x);
    product(d, inner, x, false, &l->down, true, offset, 0.0f);
    rt_scale(d, inner, inner, l->adapters->scale);
}

static void adapter_backward(rt_dev *d, const rt_linear *l, rt_linear *dl, rt_tensor *dx,
                             const rt_tensor *dy, const rt_tensor *x, const rt_tensor *offset)
{
    rt_tensor inner, dinner = scratch_rows(l->adapters, &l->adapters->dinner, x);
    adapter_inner(d, l, &inner, x, offset);
    product(d, &dl->up, dy, true, &inner, false, offset, 1.0f);
    product(d, &dinner, dy, false, &l->up, false, offset, 0.0f);
    rt_scale(d, &dinner, &dinner, l->adapters->scale);
    product(d, &dl->down, &dinner, true, x, false, offset, 1.0f);
    product(d, dx, &dinner, false, &l->down, false, offset, 1.0f);
}

void rt_linear_forward(rt_dev *d, const rt_linear *l, rt_tensor *y, const rt_tensor *x,
                       const rt_tensor *offset, float beta)
{
    rt_tensor y2 = rt_as_rows(y), x2 = rt_as_rows(x);
    if (l->watch)
        l->watch->see(l->watch->ctx, d, &x2);
    product(d, &y2, &x2, false, &l->w, true, offset, beta);
    if (l->b.data)
        rt_bias_forward(d, &y2, &l->b, offset);
    if (l->adapters && !l->adapters->off) {
        rt_tensor inner;
        adapter_inner(d, l, &inner, &x2, offset);
        product(d, &y2, &inner, false, &l->up, true, offset, 1.0f);
    }
}

void rt_linear_backward(rt_dev *d, const rt_linear *l, rt_linear *dl, rt_tensor *dx,
                        const rt_tensor *dy, const rt_tensor *x, const rt_tensor *offset,
                        float beta)
{
    rt_tensor dy2 = rt_as_rows(dy), dx2 = rt_as_rows(dx), x2 = rt_as_rows(x);
    if (dl->b.data)
        rt_bias_backward(d, &dl->b, &dy2, offset);
    if (dl->w.rank)
        product(d, &dl->w, &dy2, true, &x2, false, offset, 1.0f);
    product(d, &dx2, &dy2, false, &l->w, false, offset, beta);
    if (l->adapters)
        adapter_backward(d, l, dl, &dx2, &dy2, &x2, offset);
}
