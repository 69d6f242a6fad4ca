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
    add(p, &l->w, name, gguf, init, RT_PARAM_DECAY | RT_PARAM_PRODUCT, experts, out, in);
}

void rt_linear_bias(rt_params *p, rt_linear *l, const char *name, const char *gguf,
                    int64_t experts, int64_t out)
{
    add(p, &l->b, name, gguf, RT_INIT_ZEROS, RT_PARAM_BIAS, experts, out, 0);
}

rt_linear rt_linear_experts(rt_dev *d, const rt_linear *l, int64_t first, int64_t n)
{
    rt_linear some = { .w = rt_tensor_rows(&l->w, first, n) };
    if (l->w.piece)
        some.w.piece = l->w.piece + first;
    if (l->w.panels)
        some.w.panels = (const uint8_t *)l->w.panels +
                        rt_panels_bytes(d, &l->w) / l->w.dim[0] * first;
    if (l->b.data)
        some.b = rt_tensor_rows(&l->b, first, n);
    return some;
}

rt_tensor rt_as_rows(const rt_tensor *t)
{
    rt_tensor rows = *t;
    if (t->rank <= 2)
        return rows;
    return rt_tensor_2(t->data, t->dtype, t->dim[0], t->dim[1] * t->dim[2]);
}

void rt_linear_forward(rt_dev *d, const rt_linear *l, rt_tensor *y, const rt_tensor *x,
                       const rt_tensor *offset, float beta)
{
    rt_tensor y2 = rt_as_rows(y), x2 = rt_as_rows(x);
    if (offset)
        rt_matmul_grouped(d, &y2, &x2, false, &l->w, true, offset, beta);
    else
        rt_matmul(d, &y2, &x2, false, &l->w, true, beta);
    if (l->b.data)
        rt_bias_forward(d, &y2, &l->b, offset);
}

void rt_linear_backward(rt_dev *d, const rt_linear *l, rt_linear *dl, rt_tensor *dx,
                        const rt_tensor *dy, const rt_tensor *x, const rt_tensor *offset,
                        float beta)
{
    rt_tensor dy2 = rt_as_rows(dy), dx2 = rt_as_rows(dx), x2 = rt_as_rows(x);
    if (dl->b.data)
        rt_bias_backward(d, &dl->b, &dy2, offset);
    if (offset) {
        rt_matmul_grouped(d, &dl->w, &dy2, true, &x2, false, offset, 1.0f);
        rt_matmul_grouped(d, &dx2, &dy2, false, &l->w, false, offset, beta);
    } else {
        rt_matmul(d, &dl->w, &dy2, true, &x2, false, 1.0f);
        rt_matmul(d, &dx2, &dy2, false, &l->w, false, beta);
    }
}
