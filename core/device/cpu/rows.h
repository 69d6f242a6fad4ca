/* rows.h: the row operations one instruction set offers (struct rt_isa.rows): every team kernel of
   core/device/kernels/list.h, over a range of units. Private to core/device/cpu. */
#ifndef RT_CPU_ROWS_H
#define RT_CPU_ROWS_H

#include "core/device/cpu/isa.h"
#include "core/device/kernels/list.h"

struct rt_isa_rows {
    rt_row_fn *kernel[RT_KERNEL_COUNT]; /* struct rt_args_<args> of its entry in the list */
};

#endif
