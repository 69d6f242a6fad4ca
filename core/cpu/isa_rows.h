/* isa_rows.h: the row operations, included by isa.c once an instruction set: fills `isa_rows`. */
#include "core/cpu/rows.h"

static void add_rows(const void *args, int64_t begin, int64_t end, uint8_t *scratch)
{
    const struct rt_args_add *a = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i++)
        a->y[i] += a->x[i];
}

static const struct rt_isa_rows isa_rows = { .add = add_rows };
