/* tensor.c: shapes and planned tensors.
   Sizes of absurd shapes saturate at INT64_MAX, so that rt_arena_place can refuse them in words. */
#include "core/device/tensor.h"

#include <string.h>

static rt_tensor make(void *data, rt_dtype t, int rank, int64_t a, int64_t b, int64_t c)
{
    rt_tensor x = { .data = data, .dtype = t, .rank = rank, .dim = { a, b, c, 1 } };
    const rt_dtype_info *info = rt_dtype_get(t);
    if (a < 0 || b < 0 || c < 0 || x.dim[rank - 1] % info->block)
        rt_bug("(%lld, %lld, %lld) is no shape for %s", (long long)a, (long long)b, (long long)c,
               info->name);
    return x;
}

rt_tensor rt_tensor_1(void *data, rt_dtype t, int64_t a) { return make(data, t, 1, a, 1, 1); }

rt_tensor rt_tensor_2(void *data, rt_dtype t, int64_t a, int64_t b)
{
    return make(data, t, 2, a, b, 1);
}

rt_tensor rt_tensor_3(void *data, rt_dtype t, int64_t a, int64_t b, int64_t c)
{
    return make(data, t, 3, a, b, c);
}

int64_t rt_tensor_elements(const rt_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] == 0)
            return 0;
    for (int i = 0; i < t->rank; i++)
        if (!rt_mul_ok(n, t->dim[i], &n))
            return INT64_MAX;
    return n;
}

int64_t rt_tensor_bytes(const rt_tensor *t)
{
    return rt_dtype_bytes(t->dtype, rt_tensor_elements(t));
}

rt_tensor rt_tensor_rows(const rt_tensor *t, int64_t first, int64_t n)
{
    if (first < 0 || n < 0 || n > t->dim[0] || first > t->dim[0] - n)
        rt_bug("rows %lld + %lld of %lld", (long long)first, (long long)n, (long long)t->dim[0]);
    rt_tensor view = *t;
    view.panels = NULL;
    view.piece = NULL;
    view.dim[0] = first;
    int64_t skip = rt_tensor_bytes(&view);
    view.dim[0] = n;
    rt_tensor_bytes(&view); // whole blocks
    if (t->data)
        view.data = (uint8_t *)t->data + skip;
    return view;
}

bool rt_tensor_same_shape(const rt_tensor *a, const rt_tensor *b)
{
    return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]);
}

static rt_tensor place(rt_arena *a, const char *name, rt_tensor t)
{
    t.data = rt_arena_take(a, name, rt_tensor_bytes(&t));
    return t;
}

rt_tensor rt_plan_1(rt_arena *a, const char *name, rt_dtype t, int64_t d0)
{
    return place(a, name, rt_tensor_1(NULL, t, d0));
}

rt_tensor rt_plan_2(rt_arena *a, const char *name, rt_dtype t, int64_t d0, int64_t d1)
{
    return place(a, name, rt_tensor_2(NULL, t, d0, d1));
}

rt_tensor rt_plan_3(rt_arena *a, const char *name, rt_dtype t, int64_t d0, int64_t d1, int64_t d2)
{
    return place(a, name, rt_tensor_3(NULL, t, d0, d1, d2));
}
