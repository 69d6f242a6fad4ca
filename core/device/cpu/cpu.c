/* cpu.c: the CPU device: opening (which instruction set, how many threads), its memory, the
   workspace plan, and the split of rows over threads. Holds no operation of its own beyond
   copying. */
#include "core/device/cpu/cpu.h"
#include "core/device/cpu/int8.h"
#include "core/device/cpu/rows.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/base/processor.h"

enum { SMALL_WORK = 1 << 15 };

/* --- which instruction set ----------------------------------------------------------------------
 */

static const struct rt_isa *const isas[RT_SIMD_KINDS] = {
    [RT_SIMD_SCALAR] = &rt_isa_scalar,
#if defined(__x86_64__) || defined(__i386__)
    [RT_SIMD_AVX2] = &rt_isa_avx2,
    [RT_SIMD_AVX512] = &rt_isa_avx512,
#endif
};

/* --- memory: the host's ------------------------------------------------------------------------
 */

static void *alloc_bytes(rt_dev *d, int64_t bytes, bool sparse, const char *label)
{
    (void)d, (void)label;
    return rt_memory_alloc(bytes, sparse);
}

static void release_bytes(rt_dev *d, void *p)
{
    (void)d;
    rt_memory_free(p);
}

static void move_bytes(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    (void)d;
    memmove(dst, src, (size_t)bytes);
}

static void copy_tensor(rt_dev *d, rt_tensor *y, const rt_tensor *x)
{
    int64_t bytes = rt_tensor_bytes(y);
    if (bytes > 0)
        move_bytes(d, y->data, x->data, bytes);
}

static void zero_tensor(rt_dev *d, rt_tensor *y)
{
    (void)d;
    int64_t bytes = rt_tensor_bytes(y);
    if (bytes > 0)
        memset(y->data, 0, (size_t)bytes);
}

/* Every call has done its work when it returns. */
static int sync_cpu(rt_dev *d, rt_err *err)
{
    (void)d, (void)err;
    return 0;
}

/* --- life --------------------------------------------------------------------------------------
 */

static int open_cpu(rt_dev *d, int index, int threads, rt_err *err)
{
    if (index)
        return rt_usage(err, "device cpu:%d: there is one cpu: use --threads", index);
    if (threads < 0 || threads > RT_THREADS_MAX)
        return rt_usage(err, "threads %d: must be 0 (all cores) to %d", threads, RT_THREADS_MAX);
    threads = threads ? threads : rt_threads_here();
    rt_simd simd;
    rt_team *team = NULL;
    if (rt_simd_choose(&simd, err) || rt_team_open(&team, threads, err))
        return -1;
    const struct rt_isa *isa = isas[simd];
    struct rt_cpu *cpu = rt_alloc(1, sizeof *cpu, "device cpu");
    cpu->team = team;
    cpu->isa = isa;
    if (d->precision && !strcmp(d->precision, "int8"))
        cpu->int8 = rt_int8_get(simd, 0);
    cpu->threads = threads;
    cpu->ops = (rt_ops){ .copy = copy_tensor, .zero = zero_tensor };
    rt_cpu_matmul_ops(&cpu->ops);
    rt_rows_ops(&cpu->ops);
    rt_cpu_attention_ops(&cpu->ops);
    d->ops = &cpu->ops;
    d->state = cpu;
    return 0;
}

static void close_cpu(rt_dev *d)
{
    struct rt_cpu *cpu = d->state;
    rt_team_close(cpu->team);
    rt_memory_free(cpu->scratch);
    free(cpu);
}

static void facts(rt_dev *d, rt_dev_facts *f)
{
    f->isa = rt_cpu_isa(d)->name;
    f->threads = rt_cpu_of(d)->threads;
    f->int8 = rt_cpu_of(d)->int8 != NULL;
    f->free = rt_memory_available();
}

/* --- workspace and threads ---------------------------------------------------------------------
 */

static int ready(rt_dev *d, rt_err *err)
{
    struct rt_cpu *cpu = rt_cpu_of(d);
    if (cpu->scratch_need <= cpu->scratch_size)
        return 0;
    rt_memory_free(cpu->scratch);
    cpu->scratch_size = 0;
    cpu->scratch = rt_memory_alloc(cpu->scratch_need, false);
    if (!cpu->scratch)
        return rt_fail(err,
                       "device cpu: no memory for %lld bytes of workspace: use fewer threads or "
                       "smaller batches",
                       (long long)cpu->scratch_need);
    cpu->scratch_size = cpu->scratch_need;
    return 0;
}

static int64_t workspace(const rt_dev *d) { return rt_cpu_of(d)->scratch_need; }

void rt_cpu_need_scratch(rt_dev *d, int64_t bytes)
{
    struct rt_cpu *cpu = rt_cpu_of(d);
    cpu->scratch_need = rt_max(cpu->scratch_need, bytes);
}

void rt_cpu_need_rows(rt_dev *d, int64_t bytes_per_thread)
{
    rt_cpu_need_scratch(d, rt_align_up(bytes_per_thread, RT_CACHE_LINE) * rt_cpu_of(d)->threads);
}

uint8_t *rt_cpu_scratch(const rt_dev *d, int t, int64_t need)
{
    const struct rt_cpu *cpu = rt_cpu_of(d);
    int64_t share = cpu->scratch_size / cpu->threads / RT_CACHE_LINE * RT_CACHE_LINE;
    if (need > share)
        rt_bug("device cpu: an operation needs %lld bytes of workspace a thread, %lld were planned",
               (long long)need, (long long)share);
    return share ? cpu->scratch + share * t : NULL;
}

int rt_cpu_threads(const rt_dev *d, int64_t work)
{
    return (int)rt_max(1, rt_min(rt_cpu_of(d)->threads, work / SMALL_WORK));
}

struct rows_job {
    const rt_dev *d;
    rt_row_fn *fn;
    const void *args;
    int64_t n, units;
};

static void rows_unit(void *ctx, int64_t unit, int member)
{
    const struct rows_job *j = ctx;
    j->fn(j->args, j->n * unit / j->units, j->n * (unit + 1) / j->units,
          rt_cpu_scratch(j->d, member, 0));
}

static void launch(rt_dev *d, int kernel, rt_dtype dtype, const void *args, int64_t n, int64_t cost,
                   int64_t scratch)
{
    enum { RANGES = 4 }; /* a thread: who comes late leaves less to wait for */
    rt_row_fn *fn = rt_cpu_isa(d)->rows->kernel[kernel];
    int threads = (int)rt_min(n, rt_cpu_threads(d, n * cost));
    (void)dtype; /* of activations: f32 */
    uint8_t *own = rt_cpu_scratch(d, 0, scratch);
    if (threads <= 1) {
        fn(args, 0, n, own);
        return;
    }
    struct rows_job job = { d, fn, args, n, rt_min(n, threads * RANGES) };
    rt_cpu_run(d, rows_unit, &job, job.units, threads);
}

static int64_t teams(rt_dev *d, int64_t columns)
{
    (void)columns;
    return rt_cpu_of(d)->threads;
}

const rt_backend rt_backend_cpu = {
    .name = "cpu",
    .maps_files = true,
    .precisions = "exact|int8",
    .open = open_cpu,
    .close = close_cpu,
    .facts = facts,
    .alloc = alloc_bytes,
    .release = release_bytes,
    .upload = move_bytes,
    .download = move_bytes,
    .sync = sync_cpu,
    .need_product = rt_cpu_need_product,
    .need_attention = rt_cpu_need_attention,
    .need_rows = rt_cpu_need_rows,
    .launch = launch,
    .teams = teams,
    .ready = ready,
    .workspace = workspace,
};
