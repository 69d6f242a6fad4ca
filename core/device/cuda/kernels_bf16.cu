/* kernels_bf16.cu: the team kernels over activations that are stored as bf16. */
#define RT_ACT_BF16
#include "core/device/cuda/kernels.cu"
