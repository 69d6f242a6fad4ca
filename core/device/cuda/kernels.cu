/* kernels.cu: every team kernel (kernels/list.h) as a CUDA kernel: a block is a team, blocks walk
   the units with a grid stride. Activations are f32, or bf16 where kernels_bf16.cu includes it. */
#include "core/device/cuda/cuda.h"

#include "core/device/kernels/list.h"

#ifdef RT_ACT_BF16
#define KERNELS RT_KERNELS_ACT
#define LAUNCH_TEAM rt_cuda_launch_bf16
#else
#define KERNELS RT_KERNELS
#define LAUNCH_TEAM rt_cuda_launch_f32
#endif

enum { TEAM = 128 }; /* threads; a multiple of a warp */

static int team(void)
{
#ifdef RT_EMULATE
    return emu_team();
#else
    return TEAM;
#endif
}

/* scratch: scratch_floats for each block */
#define KERNEL(name, arguments)                                                                    \
    static __global__ void name##_kernel(const struct rt_args_##arguments args, int64_t n,         \
                                         float *scratch, int64_t scratch_floats)                   \
    {                                                                                              \
        for (int64_t i = blockIdx.x; i < n; i += gridDim.x)                                        \
            rt_##name##_unit(&args, i, scratch + blockIdx.x * scratch_floats);                     \
    }                                                                                              \
    static void launch_##name(cudaStream_t stream, const void *given, int64_t n, unsigned blocks,  \
                              float *scratch, int64_t floats)                                      \
    {                                                                                              \
        const struct rt_args_##arguments args = *(const struct rt_args_##arguments *)given;        \
        LAUNCH(name##_kernel, blocks, team(), 0, stream, args, n, scratch, floats);                \
    }
KERNELS(KERNEL)

static const struct {
    const char *name;
    void (*launch)(cudaStream_t, const void *, int64_t, unsigned, float *, int64_t);
} kernels[] = { /* the activations' come first in enum rt_kernel */
#define ENTRY(name, arguments) { #name, launch_##name },
    KERNELS(ENTRY)
#undef ENTRY
};

void LAUNCH_TEAM(rt_dev *d, int kernel, const void *args, int64_t units, int64_t blocks,
                 float *scratch, int64_t scratch_floats)
{
    kernels[kernel].launch(rt_cuda_of(d)->stream, args, units, (unsigned)blocks, scratch,
                           scratch_floats);
    rt_cuda_launched(d, kernels[kernel].name);
}
