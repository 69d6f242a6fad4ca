#include "core/network/plan.h"

#include "core/base/memory.h"

void rt_plan_rows(const rt_plan *p, rt_tensor *t, const char *name, rt_dtype dtype, int64_t each,
                  int64_t d1, int64_t d2)
{
    rt_batched_list *b = p->batched;
    int64_t n = each * p->n;
    *t = d2   ? rt_plan_3(p->arena, name, dtype, n, d1, d2)
         : d1 ? rt_plan_2(p->arena, name, dtype, n, d1)
              : rt_plan_1(p->arena, name, dtype, n);
    rt_grow(&b->item, &b->cap, b->n + 1, sizeof *b->item, "tensors of a batch");
    b->item[b->n++] = (rt_batched){ t, each };
}

void rt_batched_rows(const rt_batched_list *list, int64_t n)
{
    for (int64_t i = 0; i < list->n; i++)
        list->item[i].t->dim[0] = list->item[i].each * n;
}
