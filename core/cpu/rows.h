/* rows.h: the row operations one instruction set offers (struct rt_isa.rows). Private to core/cpu.
 */
#ifndef RT_CPU_ROWS_H
#define RT_CPU_ROWS_H

#include "core/cpu/isa.h"

struct rt_isa_rows {
    rt_row_fn *add; /* struct rt_args_add */
};

struct rt_args_add {
    float *y;
    const float *x;
}; /* y(n) += x(n); a row is one element */

#endif
