/* rows.h: the row operations one instruction set offers (struct rt_isa.rows): every team kernel of
   core/device/kernels/list.h, over a range of units. Private to core/device/cpu. */
#ifndef RT_CPU_ROWS_H
#define RT_CPU_ROWS_H

#include "core/device/cpu/isa.h"
#include "core/device/kernels/list.h"

struct rt_isa_rows {
#define RT_ROWS_FIELD(name, args) rt_row_fn *name; /* struct rt_args_<args> */
    RT_KERNELS(RT_ROWS_FIELD)
#undef RT_ROWS_FIELD
};

#endif
