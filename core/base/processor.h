/* processor.h: what this machine computes with: the instruction set that kernels are chosen for and
   the threads that are started when nobody says how many. RETORT_ISA and OMP_NUM_THREADS say
   otherwise. Refuses an instruction set that the machine lacks. */
#ifndef RT_PROCESSOR_H
#define RT_PROCESSOR_H

#include "core/base/err.h"

RT_BEGIN

/* Kernels are one text compiled for each of these; all give the same bits. */
typedef enum rt_simd {
    RT_SIMD_SCALAR,
    RT_SIMD_AVX2,   /* AVX2, FMA, F16C */
    RT_SIMD_AVX512, /* x86-64-v4 */
    RT_SIMD_KINDS
} rt_simd;

int rt_simd_choose(rt_simd *simd, rt_err *err); /* the best here, or what RETORT_ISA says */
const char *rt_simd_name(rt_simd simd);
bool rt_simd_vnni(rt_simd simd); /* and four products of bytes in one instruction */
/* 1 .. RT_THREADS_MAX: OMP_NUM_THREADS, or the cores that this process may run on. */
int rt_threads_here(void);

RT_END

#endif
