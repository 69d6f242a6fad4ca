/* gpu.h: the words of CUDA that files here are written in, for two compilers: nvcc, and the host's
   C++ compiler with emulate.h, which runs the same text without a GPU (RETORT_CUDA=EMULATE). The
   forms that only nvcc can parse stand here and nowhere else. */
#ifndef RT_CUDA_GPU_H
#define RT_CUDA_GPU_H

#ifdef RT_EMULATE

#include "core/device/cuda/emulate.h"

/* The arguments are worked out and copied now, the kernel runs when its stream does. */
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                           \
    emu_launch_with(stream, #kernel, grid, block, shared, kernel, __VA_ARGS__)
/* Memory of a block: of its own size to the byte, NaN until it is written. */
#define BLOCK_SHARED(type, name, count)                                                            \
    static char name##_site;                                                                       \
    type *const name = (type *)emu_shared(&name##_site, sizeof(type) * (size_t)(count))
/* What the launch gave as `shared` bytes. */
#define BLOCK_DYNAMIC(type, name) type *const name = (type *)emu_dynamic()

#else

#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, shared, stream, ...)                                           \
    kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define BLOCK_SHARED(type, name, count) __shared__ type name[count]
#define BLOCK_DYNAMIC(type, name)                                                                  \
    extern __shared__ __align__(128) unsigned char block_dynamic[];                                \
    type *const name = (type *)block_dynamic

#endif

/* kernels/team.h: a team is a block of threads */
#define RT_TEAM_THREADS

#endif
