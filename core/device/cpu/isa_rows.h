/* isa_rows.h: the row operations, included by isa.c once an instruction set: fills `isa_rows` with
   every team kernel in a loop over its units. */
#include "core/device/cpu/rows.h"

#define ROWS_LOOP(name, arguments)                                                                 \
    static void name##_rows(const void *args, int64_t begin, int64_t end, uint8_t *scratch)        \
    {                                                                                              \
        for (int64_t i = begin; i < end; i++)                                                      \
            rt_##name##_unit((const struct rt_args_##arguments *)args, i, (float *)scratch);       \
    }
RT_KERNELS(ROWS_LOOP)

#define ROWS_ENTRY(name, arguments) [RT_KERNEL_##name] = name##_rows,
static const struct rt_isa_rows isa_rows = { { RT_KERNELS(ROWS_ENTRY) } };
