/* kernels.cu: every team kernel as a CUDA kernel, so that nvcc reads the one source from the first
   day. A block is a team; blocks walk the units with a grid stride. Holds no host code yet. */
#include "core/device/kernels/list.h"

/* scratch: scratch_floats for each block */
#define LAUNCHABLE(name, arguments)                                                                \
    extern "C" __global__ void rt_cuda_##name(const struct rt_args_##arguments args, int64_t n,    \
                                              float *scratch, int64_t scratch_floats)              \
    {                                                                                              \
        for (int64_t i = blockIdx.x; i < n; i += gridDim.x)                                        \
            rt_##name##_unit(&args, i, scratch + blockIdx.x * scratch_floats);                     \
    }
RT_KERNELS(LAUNCHABLE)
