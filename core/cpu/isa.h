/* isa.h: what one instruction set offers the CPU backend. core/cpu/isa.c is one text compiled three
   times (scalar, AVX2+FMA, AVX-512); each copy exports one constant rt_isa, and rt_dev_open chooses
   by feature bits. Everything outside isa.c is ordinary C for the oldest machine, so no function
   with newer instructions can leak into it. All copies give the same bits (core/ops.h). */
#ifndef RT_CPU_ISA_H
#define RT_CPU_ISA_H

#include "core/ops.h"

/* Rows [begin, end) of a row operation; scratch is private to the calling thread
 * (rt_dev_need_rows). */
typedef void rt_row_fn(const void *args, int64_t begin, int64_t end, uint8_t *scratch);

struct rt_isa_rows; /* core/cpu/rows.h: one rt_row_fn a row operation */

struct rt_isa {
    const char *name;
    const struct rt_isa_rows *rows;
};

extern const struct rt_isa rt_isa_scalar, rt_isa_avx2, rt_isa_avx512;

#endif
