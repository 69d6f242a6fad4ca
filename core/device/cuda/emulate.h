/* emulate.h: the part of CUDA that retort uses, on the host, for tests where there is no GPU: as
   unforgiving as one. Device memory cannot be touched by the host (protected pages), fresh memory
   is NaN, what streams hold runs when somebody waits and not before, each block's threads are
   fibers that run one after another up to a barrier, shared memory is NaN for each block. Who breaks
   a rule ends the process with one line. Environment:
     RETORT_EMULATE_TEAM    threads of a team kernel: 1 (the default) calls the CPU's form
     RETORT_EMULATE_ORDER   late (the default) | eager: when streams run; | ahead: all but the first run
                            as early as the events that they wait for allow; | backwards: last rank
                            first
     RETORT_EMULATE_MEMORY  bytes of device memory
     RETORT_EMULATE_FAIL    N: launch or copy N fails and everything after it, as on a lost GPU
     RETORT_EMULATE_ARCH    compute capability: 89 (the default)
     RETORT_EMULATE_GRAPHS  none: the driver has no room for a graph
     RETORT_EMULATE_DRIVER  none | old | unloaded: what opening a device finds
   Never part of the product. */
#ifndef RT_CUDA_EMULATE_H
#define RT_CUDA_EMULATE_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint2 {
    unsigned x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return { x, y }; }
static inline float4 make_float4(float x, float y, float z, float w) { return { x, y, z, w }; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return { x, y }; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return { x, y, z, w };
}

extern dim3 threadIdx, blockIdx, blockDim, gridDim; /* of the running fiber */

/* --- the runtime's calls ------------------------------------------------------------------------ */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorIllegalState = 401,
    cudaErrorIllegalAddress = 700,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaStreamNonBlocking = 1, cudaHostAllocDefault = 0 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaEventDisableTiming = 2 };
typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
typedef struct emu_graph *cudaGraph_t, *cudaGraphExec_t;

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
};

cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int i);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int i);
cudaError_t cudaDriverGetVersion(int *v);
cudaError_t cudaRuntimeGetVersion(int *v);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s);
cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventDestroy(cudaEvent_t e);
/* What a stream is given while it is captured is kept, not run. What CUDA forbids meanwhile breaks
   the capture; so do events in such a stream, which it allows. */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
template <typename T> cudaError_t cudaFuncSetAttribute(T *, cudaFuncAttribute, int)
{
    return cudaSuccess;
}

/* --- launches and what a kernel may call -------------------------------------------------------- */

void emu_launch(cudaStream_t s, const char *name, dim3 grid, dim3 block, size_t shared,
                std::function<void()> kernel);
template <typename F, typename... A>
void emu_launch_with(cudaStream_t s, const char *name, dim3 grid, dim3 block, size_t shared,
                     F kernel, A... args)
{
    emu_launch(s, name, grid, block, shared, [=] { kernel(args...); });
}
/* Host code in a stream, with device memory open to it: in place of a library or of a kernel. */
void emu_call(cudaStream_t s, const char *name, std::function<void()> call);
int emu_team(void); /* RETORT_EMULATE_TEAM */

void *emu_shared(const void *site, size_t bytes);
void *emu_dynamic(void);
void __syncthreads(void);
void __syncwarp(unsigned mask = 0xffffffffu);
/* Each lane's 32 bits as lane `from` of its warp gave them; NaN of a lane that is not there. */
uint32_t emu_exchange(uint32_t bits, unsigned from);

template <typename T> T emu_shuffle(T x, unsigned from)
{
    uint32_t bits;
    T y;
    static_assert(sizeof(T) == 4, "shuffles move 32 bits");
    __builtin_memcpy(&bits, &x, 4);
    bits = emu_exchange(bits, from);
    __builtin_memcpy(&y, &bits, 4);
    return y;
}
template <typename T> T __shfl_xor_sync(unsigned, T x, int step)
{
    return emu_shuffle(x, threadIdx.x % 32 ^ (unsigned)step);
}
template <typename T> T __shfl_sync(unsigned, T x, int from)
{
    return emu_shuffle(x, (unsigned)from % 32);
}

inline unsigned __ballot_sync(unsigned, int yes)
{
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; lane++) /* of a lane that is not there: NaN */
        votes |= (unsigned)(emu_exchange(yes != 0, lane) == 1) << lane;
    return votes;
}

/* Fibers change places at barriers only. */
template <typename T> T atomicMin(T *p, T x)
{
    T old = *p;
    *p = x < old ? x : old;
    return old;
}

/* What mma.h says, by every lane of a warp. */
void emu_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]);
void emu_ldmatrix(uint32_t *r, const void *row, int matrices, bool transposed);
/* cp.async: bytes arrive when their group is waited for. */
void emu_copy_async(void *shared, const void *global, size_t bytes, size_t valid);
void emu_copy_commit(void);
void emu_copy_wait(int left);

#endif
