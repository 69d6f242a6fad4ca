/* cuda.cu: the CUDA device: which GPU, its memory, transfers and waiting, the workspace. One stream
   holds operations and transfers in the order of the calls, a second one the copies beside them;
   marks are events. A failure is remembered and said by
   every wait from then on, in words that tell what to do. Holds no operation but copying. */
#include "core/device/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* A driver keeps this much of a device's memory for itself as kernels are loaded. */
static const int64_t SPARE = (int64_t)256 << 20;

/* --- failures ----------------------------------------------------------------------------------- */

bool rt_cuda_ok(rt_dev *d, cudaError_t e, const char *what)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (e != cudaSuccess && c->lost == cudaSuccess) {
        c->lost = e;
        c->lost_what = what;
    }
    return c->lost == cudaSuccess;
}

void rt_cuda_launched(rt_dev *d, const char *what) { (void)rt_cuda_ok(d, cudaGetLastError(), what); }

static int say_lost(const struct rt_cuda *c, rt_err *err)
{
    return rt_fail(err,
                   "device cuda:%d (%s): %s failed: %s. What was finished is kept: start the "
                   "command again",
                   c->index, c->is.name, c->lost_what, cudaGetErrorString(c->lost));
}

/* --- life --------------------------------------------------------------------------------------- */

static int say_none(cudaError_t e, rt_err *err)
{
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (e == cudaErrorInsufficientDriver && driver > 0)
        return rt_fail(err,
                       "device cuda: the driver speaks CUDA %d.%d, this build needs %d.%d: update "
                       "the NVIDIA driver",
                       driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (e == cudaErrorInsufficientDriver)
        return rt_fail(err, "device cuda: no NVIDIA driver is loaded: install it, or use --device cpu");
    return rt_fail(err, "device cuda: no GPU was found (%s): use --device cpu", cudaGetErrorName(e));
}

static int choose(struct rt_cuda *c, rt_err *err)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n == 0) {
        (void)cudaGetLastError();
        return say_none(e, err);
    }
    if (c->index >= n)
        return rt_usage(err, "device cuda:%d: there %s %d: use cuda:0 to cuda:%d", c->index,
                        n == 1 ? "is" : "are", n, n - 1);
    e = cudaSetDevice(c->index);
    if (e == cudaSuccess)
        e = cudaGetDeviceProperties(&c->is, c->index);
    if (e == cudaSuccess)
        e = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess)
        e = cudaStreamCreateWithFlags(&c->beside, cudaStreamNonBlocking);
    if (e != cudaSuccess)
        return rt_fail(err, "device cuda:%d: %s", c->index, cudaGetErrorString(e));
    if (c->is.major < 8)
        return rt_fail(err,
                       "device cuda:%d: %s has compute capability %d.%d, retort needs 8.0 (RTX 30, "
                       "A100) or newer",
                       c->index, c->is.name, c->is.major, c->is.minor);
    if (c->fp8 && c->is.major == 8 && c->is.minor < 9)
        return rt_usage(err,
                        "device cuda:%d: %s has compute capability %d.%d, fp8 needs 8.9 (RTX 40) or "
                        "newer: use --precision bf16",
                        c->index, c->is.name, c->is.major, c->is.minor);
    return 0;
}

/* The card that plans are made for where there is none: figures of its data sheet, and of products
   and copies what a good kernel reaches of them. */
static void suppose(struct rt_cuda *c)
{
    c->absent = true;
    snprintf(c->is.name, sizeof c->is.name, "NVIDIA GeForce RTX 4090 (not here)");
    c->is.major = 8, c->is.minor = 9;
    c->is.multiProcessorCount = 128;
    c->is.totalGlobalMem = (size_t)24 << 30;
}
static const rt_cost SUPPOSED_RATE = { .flops = 0.7 * 165e12, .bytes = 0.8 * 1008e9 };

static int64_t free_bytes(const struct rt_cuda *c)
{
    if (c->absent)
        return (int64_t)c->is.totalGlobalMem - SPARE;

    size_t left = 0, total = 0;
    if (cudaMemGetInfo(&left, &total) != cudaSuccess)
        return 0;
    return rt_max(0, (int64_t)left - SPARE);
}

static void copy_tensor(rt_dev *d, rt_tensor *y, const rt_tensor *x);
static void zero_tensor(rt_dev *d, rt_tensor *y);
static int64_t panels_bytes(rt_dev *d, const rt_tensor *w);
static void pack_weight(rt_dev *d, void *panels, const rt_tensor *w);

/* --precision, else RETORT_CUDA_PRECISION. Tensor cores are what the device is for, parity with the
   CPU what its emulation is for. */
static int choose_precision(struct rt_cuda *c, const char *said, rt_err *err)
{
    const char *p = said ? said : getenv("RETORT_CUDA_PRECISION");
#ifdef RT_EMULATE
    c->bf16 = false;
#else
    c->bf16 = true;
#endif
    if (!p || !*p)
        return 0;
    c->fp8 = !strcmp(p, "fp8");
    c->bf16 = c->fp8 || !strcmp(p, "bf16");
    if (!c->bf16 && strcmp(p, "f32"))
        return rt_usage(err, "RETORT_CUDA_PRECISION=%s: use f32, bf16 or fp8", p);
    return 0;
}

static int open_cuda(rt_dev *d, int index, int threads, rt_err *err)
{
    struct rt_cuda *c = (struct rt_cuda *)rt_alloc(1, sizeof *c, "device cuda");
    d->state = c;
    c->index = index;
    if (choose_precision(c, d->precision, err)) {
        free(c);
        return -1;
    }
    if (choose(c, err)) {
        if (!d->dry || c->is.major) {
            free(c);
            return -1;
        }
        suppose(c);
        err->text[0] = 0, err->exit_code = 0;
    }
    snprintf(c->isa, sizeof c->isa, "sm_%d%d", c->is.major, c->is.minor);
    (void)threads;
    rt_rows_ops(&c->ops);
    rt_cuda_matmul_ops(&c->ops);
    rt_cuda_attention_ops(&c->ops);
    c->ops.copy = copy_tensor;
    c->ops.zero = zero_tensor;
    c->ops.panels_bytes = panels_bytes;
    c->ops.pack_weight = pack_weight;
    d->ops = &c->ops;
    if (c->bf16) {
        d->act = RT_BF16;
        rt_cuda_blas_open(d);
    }
#ifdef RT_EMULATE
    if (emu_team() == 1) {
        d->act = RT_F32;
        rt_cuda_emulated_ops(&c->ops);
    }
    if (emu_team() == 1 && rt_dev_open(&c->cpu, "cpu", threads, err)) {
        free(c);
        return -1;
    }
#endif
    return 0;
}

/* Waits for both streams. */
static cudaError_t settle(const struct rt_cuda *c)
{
    cudaError_t e = cudaStreamSynchronize(c->stream), beside = cudaStreamSynchronize(c->beside);
    return e != cudaSuccess ? e : beside;
}

static void close_cuda(rt_dev *d)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (!c->absent) {
        (void)settle(c);
        rt_cuda_blas_close(d);
        rt_dev_release(d, c->scratch);
        (void)cudaStreamDestroy(c->beside);
        (void)cudaStreamDestroy(c->stream);
    }
    rt_dev_close(c->cpu);
    free(c);
}

static void facts(rt_dev *d, rt_dev_facts *f)
{
    const struct rt_cuda *c = rt_cuda_of(d);
    f->isa = c->isa;
    f->chip = c->is.name;
    f->memory = (int64_t)c->is.totalGlobalMem;
    f->threads = c->is.multiProcessorCount;
    f->cpu_bits = c->cpu != NULL;
    if (c->cpu)
        c->cpu->backend->facts(c->cpu, f);
    f->bf16 = c->bf16 && !c->cpu;
    f->fp8 = c->fp8 && !c->cpu;
    f->free = free_bytes(c);
#ifdef RT_EMULATE
    f->rate = SUPPOSED_RATE; /* an emulated product takes minutes, and says nothing of a GPU */
#endif
    if (c->absent)
        f->rate = SUPPOSED_RATE;
}

/* --- memory ------------------------------------------------------------------------------------- */

static void *alloc_bytes(rt_dev *d, int64_t bytes, bool sparse, const char *label)
{
    void *p = NULL;
    (void)sparse, (void)label;
    if (bytes < 0 || bytes > INT64_MAX / 2 || rt_cuda_of(d)->absent)
        return NULL;
    cudaError_t e = cudaMalloc(&p, (size_t)rt_max(bytes, 1));
    if (e != cudaSuccess) {
        (void)cudaGetLastError(); /* lack of memory leaves the device well */
        if (e != cudaErrorMemoryAllocation)
            (void)rt_cuda_ok(d, e, "memory");
        return NULL;
    }
    return p;
}

static void release_bytes(rt_dev *d, void *p)
{
    (void)settle(rt_cuda_of(d));
    (void)rt_cuda_ok(d, cudaFree(p), "giving memory back");
}

static void *host_alloc(rt_dev *d, int64_t bytes)
{
    void *p = NULL;
    (void)d;
    if (bytes < 0 || cudaHostAlloc(&p, (size_t)rt_max(bytes, 1), cudaHostAllocDefault) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    memset(p, 0, (size_t)bytes);
    return p;
}

static void host_release(rt_dev *d, void *p)
{
    (void)settle(rt_cuda_of(d));
    (void)cudaFreeHost(p);
}

static void copy_bytes(rt_dev *d, void *dst, const void *src, int64_t bytes, cudaMemcpyKind kind,
                       const char *what)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (c->lost == cudaSuccess)
        (void)rt_cuda_ok(d, cudaMemcpyAsync(dst, src, (size_t)bytes, kind, c->stream), what);
}

static void upload(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    copy_bytes(d, dst, src, bytes, cudaMemcpyHostToDevice, "a copy to the device");
}

static void download(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    copy_bytes(d, dst, src, bytes, cudaMemcpyDeviceToHost, "a copy from the device");
}

static void copy_tensor(rt_dev *d, rt_tensor *y, const rt_tensor *x)
{
    if (rt_tensor_bytes(y) > 0)
        copy_bytes(d, y->data, x->data, rt_tensor_bytes(y), cudaMemcpyDeviceToDevice, "a copy");
}

static void zero_tensor(rt_dev *d, rt_tensor *y)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (rt_tensor_bytes(y) > 0 && c->lost == cudaSuccess)
        (void)rt_cuda_ok(d, cudaMemsetAsync(y->data, 0, (size_t)rt_tensor_bytes(y), c->stream),
                         "zeroing");
}

/* Weights are read as they lie: nothing is packed for them but a copy. */
static int64_t panels_bytes(rt_dev *d, const rt_tensor *w)
{
    (void)d;
    return rt_tensor_bytes(w);
}

static void pack_weight(rt_dev *d, void *panels, const rt_tensor *w)
{
    copy_bytes(d, panels, w->data, rt_tensor_bytes(w), cudaMemcpyDeviceToDevice, "a copy");
}

static int sync_cuda(rt_dev *d, rt_err *err)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (!rt_cuda_ok(d, cudaStreamSynchronize(c->stream), "an operation"))
        return say_lost(c, err);
    return 0;
}

/* --- beside --------------------------------------------------------------------------------------- */

static cudaStream_t stream_of(const struct rt_cuda *c, rt_order order)
{
    return order == RT_COMPUTE ? c->stream : c->beside;
}

static void upload_beside(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (c->lost == cudaSuccess)
        (void)rt_cuda_ok(
            d, cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyHostToDevice, c->beside),
            "a copy to the device");
}

static void mark_set(rt_dev *d, rt_mark *m, rt_order of)
{
    struct rt_cuda *c = rt_cuda_of(d);
    cudaEvent_t event = (cudaEvent_t)m->at;
    if (c->lost != cudaSuccess)
        return;
    if (!event && !rt_cuda_ok(d, cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "a mark"))
        return;
    m->at = event;
    (void)rt_cuda_ok(d, cudaEventRecord(event, stream_of(c, of)), "a mark");
}

static void mark_follow(rt_dev *d, const rt_mark *m, rt_order order)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (c->lost == cudaSuccess)
        (void)rt_cuda_ok(d, cudaStreamWaitEvent(stream_of(c, order), (cudaEvent_t)m->at, 0),
                         "a mark");
}

static int mark_wait(rt_dev *d, const rt_mark *m, rt_err *err)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (!rt_cuda_ok(d, cudaEventSynchronize((cudaEvent_t)m->at), "an operation"))
        return say_lost(c, err);
    return 0;
}

static void mark_free(rt_dev *d, rt_mark *m)
{
    (void)d;
    (void)cudaEventDestroy((cudaEvent_t)m->at);
}

/* --- what repeats --------------------------------------------------------------------------------- */

struct recorded {
    cudaGraphExec_t graph;  /* NULL = none */
    const uint8_t *scratch; /* the workspace that it was recorded with */
    bool met;               /* its operations have run: their kernels are loaded */
    bool recording, refused;
};

static void forget(struct recorded *r)
{
    if (r->graph)
        (void)cudaGraphExecDestroy(r->graph);
    r->graph = NULL;
}

static bool record(rt_dev *d)
{
    struct rt_cuda *c = rt_cuda_of(d);
    const cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
    return c->lost == cudaSuccess &&
           rt_cuda_ok(d, cudaStreamBeginCapture(c->stream, mode), "recording");
}

/* Ends recording. false: the driver had no room for the graph, and nothing has run. */
static bool keep(rt_dev *d, struct recorded *r)
{
    struct rt_cuda *c = rt_cuda_of(d);
    cudaGraph_t graph = NULL;
    cudaError_t e = cudaStreamEndCapture(c->stream, &graph);
    if (e == cudaSuccess)
        e = cudaGraphInstantiate(&r->graph, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    r->recording = false;
    r->refused = e == cudaErrorMemoryAllocation;
    if (r->refused)
        (void)cudaGetLastError();
    else
        (void)rt_cuda_ok(d, e, "recording");
    return !r->refused;
}

static bool repeat(rt_dev *d, rt_graph *g)
{
    struct rt_cuda *c = rt_cuda_of(d);
    struct recorded *r = (struct recorded *)g->recorded;
    if (!r)
        g->recorded = r = (struct recorded *)rt_alloc(1, sizeof *r, "a graph");
    if (!g->open && r->scratch != c->scratch)
        forget(r);
    if (!g->open && !r->graph) {
        r->scratch = c->scratch;
        r->recording = r->met && !r->refused && record(d);
        r->met = true;
        return true;
    }
    if (g->open && !r->recording)
        return false;
    if (g->open && !keep(d, r))
        return true; /* once more, as they are */
    if (c->lost == cudaSuccess)
        (void)rt_cuda_ok(d, cudaGraphLaunch(r->graph, c->stream), "operations that repeat");
    return false;
}

static void graph_free(rt_dev *d, rt_graph *g)
{
    struct recorded *r = (struct recorded *)g->recorded;
    (void)settle(rt_cuda_of(d)); /* it may be running */
    forget(r);
    free(r);
}

/* --- workspace and launches ---------------------------------------------------------------------- */

int64_t rt_cuda_blocks(const rt_dev *d, int64_t scratch)
{
    enum { BLOCKS = 8, WIDE = 2 }; /* of a team kernel on a multiprocessor; with rows of its own */
    return (int64_t)rt_cuda_of(d)->is.multiProcessorCount * (scratch ? WIDE : BLOCKS);
}

static void need_rows(rt_dev *d, int64_t bytes)
{
    struct rt_cuda *c = rt_cuda_of(d);
    c->rows_need = rt_max(c->rows_need, rt_align_up(bytes, 256));
    if (c->cpu)
        c->cpu->backend->need_rows(c->cpu, bytes);
}

static void need_shared(rt_dev *d, int64_t bytes)
{
    struct rt_cuda *c = rt_cuda_of(d);
    c->product_need = rt_max(c->product_need, bytes);
}

static void need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                         const rt_tensor *b)
{
    struct rt_cuda *c = rt_cuda_of(d);
    rt_cuda_need_product(d, groups, n, k, a, b);
    rt_cuda_need_fp8(d, groups, n, k, b);
    if (c->cpu)
        c->cpu->backend->need_product(c->cpu, groups, n, k, a, b);
}

static void need_attention(rt_dev *d, const rt_attention_shape *s)
{
    struct rt_cuda *c = rt_cuda_of(d);
    rt_cuda_need_attention(d, s);
    if (c->cpu)
        c->cpu->backend->need_attention(c->cpu, s);
}

static int64_t workspace(const rt_dev *d)
{
    const struct rt_cuda *c = rt_cuda_of(d);
    if (c->cpu)
        return rt_dev_workspace(c->cpu);
    return rt_max(c->product_need, c->rows_need * rt_cuda_blocks(d, 1));
}

static int ready(rt_dev *d, rt_err *err)
{
    struct rt_cuda *c = rt_cuda_of(d);
    int64_t need = workspace(d);
    if (c->cpu)
        return rt_dev_ready(c->cpu, err);
    if (need <= c->scratch_size)
        return 0;
    if (c->scratch)
        rt_dev_release(d, c->scratch);
    c->scratch_size = 0;
    c->scratch = (uint8_t *)rt_dev_alloc(d, need);
    if (!c->scratch)
        return rt_fail(err,
                       "device cuda:%d: no memory for %lld bytes of workspace: use smaller batches",
                       c->index, (long long)need);
    c->scratch_size = need;
    return 0;
}

uint8_t *rt_cuda_scratch(rt_dev *d, int64_t bytes)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (bytes > c->scratch_size)
        rt_bug("device cuda: an operation needs %lld bytes of workspace, %lld were planned",
               (long long)bytes, (long long)c->scratch_size);
    return c->scratch;
}

static void launch(rt_dev *d, int kernel, rt_dtype act, const void *args, int64_t units,
                   int64_t cost, int64_t scratch)
{
    (void)cost;
    if (units <= 0)
        return;
    int64_t blocks = rt_min(units, rt_cuda_blocks(d, scratch)), each = rt_align_up(scratch, 256);
    uint8_t *own = rt_cuda_scratch(d, each * blocks);
    (act == RT_F32 ? rt_cuda_launch_f32 : rt_cuda_launch_bf16)(d, kernel, args, units, blocks,
                                                               (float *)(void *)own, each / 4);
}

static void *shared(rt_dev *d, int64_t bytes) { return rt_cuda_scratch(d, bytes); }

static int64_t teams(rt_dev *d, int64_t columns)
{
    (void)d;
    return rt_ceil_div(columns, 128); /* a column a thread */
}

const rt_backend rt_backend_cuda = {
    .name = "cuda",
    .maps_files = false,
    .precisions = "f32|bf16|fp8",
    .late = true,
    .open = open_cuda,
    .close = close_cuda,
    .facts = facts,
    .alloc = alloc_bytes,
    .release = release_bytes,
    .host_alloc = host_alloc,
    .host_release = host_release,
    .upload = upload,
    .download = download,
    .sync = sync_cuda,
    .upload_beside = upload_beside,
    .mark_set = mark_set,
    .mark_follow = mark_follow,
    .mark_wait = mark_wait,
    .mark_free = mark_free,
    .repeat = repeat,
    .graph_free = graph_free,
    .need_product = need_product,
    .need_attention = need_attention,
    .need_rows = need_rows,
    .need_shared = need_shared,
    .launch = launch,
    .teams = teams,
    .shared = shared,
    .ready = ready,
    .workspace = workspace,
};
