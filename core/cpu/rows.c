/* rows.c: the row operations of the CPU backend: each packs its arguments and runs the chosen
   instruction set's kernel over the rows. */
#include "core/cpu/rows.h"
#include "core/cpu/cpu.h"

static void run_add(rt_dev *d, rt_tensor *y, const rt_tensor *x)
{
    struct rt_args_add a = { rt_f32(y), rt_f32(x) };
    rt_cpu_run_rows(d, rt_cpu_isa(d)->rows->add, &a, rt_tensor_elements(y), 1);
}

void rt_cpu_rows_ops(rt_ops *ops) { ops->add = run_add; }
