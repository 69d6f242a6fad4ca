/* cuda.h: the CUDA device behind rt_dev, and how its operations reach the GPU. Private to
   core/device/cuda. */
#ifndef RT_CUDA_CUDA_H
#define RT_CUDA_CUDA_H

#include "core/device/cuda/gpu.h"

#include "core/device/backend.h"

struct rt_cuda { /* rt_dev.state */
    rt_ops ops;  /* rt_dev.ops: filled once by the rt_cuda_*_ops below */
    bool absent; /* planned for, and not there */
    rt_dev *cpu; /* emulation with a team of one: whose operations run; else NULL */
    cudaStream_t stream, beside; /* of operations; of copies beside them */
    cudaDeviceProp is;
    char isa[16]; /* "sm_89" */
    int index;            /* of the device */
    bool bf16;            /* products and attention round operands to bf16; else f32 throughout */
    bool fp8;             /* and products of the forward pass to e4m3 (matmul_fp8.cu) */
    struct rt_cuda_blas *blas; /* matmul_blas.cu's, or NULL */
    int64_t rows_need;    /* bytes of workspace a team */
    int64_t product_need; /* bytes of an operation: products, attention, sums over rows, sorts */
    int64_t scratch_size;
    uint8_t *scratch;
    cudaError_t lost;      /* the first failure, for ever */
    const char *lost_what; /* the call that met it */
};

static inline struct rt_cuda *rt_cuda_of(const rt_dev *d) { return (struct rt_cuda *)d->state; }

/* Remembers the first failure; true when all is well. */
bool rt_cuda_ok(rt_dev *d, cudaError_t e, const char *what);
/* After a launch: `what` is what went wrong if it did. */
void rt_cuda_launched(rt_dev *d, const char *what);
/* Blocks worth having at once when each has so many bytes of workspace. */
int64_t rt_cuda_blocks(const rt_dev *d, int64_t scratch);
/* `bytes` of the workspace that no other operation uses until this one has run. */
uint8_t *rt_cuda_scratch(rt_dev *d, int64_t bytes);

void rt_cuda_matmul_ops(rt_ops *ops);    /* matmul.cu */
void rt_cuda_attention_ops(rt_ops *ops); /* attention.cu */
void rt_cuda_blas_open(rt_dev *d); /* matmul_blas.cu; where it is missing others do its work */
void rt_cuda_blas_close(rt_dev *d);
void rt_cuda_need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                          const rt_tensor *b);
void rt_cuda_need_fp8(rt_dev *d, int64_t groups, int64_t n, int64_t k, const rt_tensor *b);
void rt_cuda_need_attention(rt_dev *d, const rt_attention_shape *s);
/* kernels.cu, kernels_bf16.cu: team kernel number `kernel` on so many blocks, each with
   scratch_floats of scratch, activations f32 and bf16. */
typedef void rt_cuda_launch_fn(rt_dev *d, int kernel, const void *args, int64_t units,
                               int64_t blocks, float *scratch, int64_t scratch_floats);
rt_cuda_launch_fn rt_cuda_launch_f32, rt_cuda_launch_bf16;

#ifdef RT_EMULATE
/* emulate_ops.cc: every operation as the CPU does it, in the stream, for its bits. */
void rt_cuda_emulated_ops(rt_ops *ops);
#endif

#endif
