#include "core/device/arenas.h"

void rt_arenas_add(rt_arenas *l, rt_arena *a, const char *label, rt_arena_where where,
                   rt_arena_plan *plan, void *ctx)
{
    if (l->n == RT_COUNT(l->item))
        rt_bug("arena %s: the list is full", label);
    rt_arena_init(a, label);
    plan(ctx, a);
    l->item[l->n++] = (rt_arenas_item){ a, where, plan, ctx };
}

int rt_arenas_place(rt_arenas *l, rt_dev *d, rt_err *err)
{
    for (int i = 0; i < l->n; i++) {
        const rt_arenas_item *one = &l->item[i];
        if (one->arena->base)
            continue;
        if (one->where == RT_ON_HOST ? rt_dev_place_host(d, one->arena, err)
                                     : rt_dev_place(d, one->arena, err))
            return -1;
        one->plan(one->ctx, one->arena);
    }
    return 0;
}

int64_t rt_arenas_bytes(const rt_arenas *l)
{
    int64_t bytes = 0;
    for (int i = 0; i < l->n; i++)
        if (!rt_add_ok(bytes, l->item[i].arena->high, &bytes))
            return INT64_MAX;
    return bytes;
}

void rt_arenas_free(rt_arenas *l, rt_dev *d)
{
    for (int i = 0; i < l->n; i++)
        rt_dev_free(d, l->item[i].arena);
    l->n = 0;
}
