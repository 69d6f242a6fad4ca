/* cpu.c: the CPU device: opening (which instruction set, how many threads), its memory, the
   workspace plan, and the split of rows over OpenMP threads. Holds no operation of its own beyond
   copying. Refuses an instruction set the machine lacks. */
#include "core/device/cpu/cpu.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

enum { SMALL_WORK = 1 << 15 };

/* --- which instruction set ----------------------------------------------------------------------
 */

static bool has_scalar(void) { return true; }
#if defined(__x86_64__) || defined(__i386__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}
/* x86-64-v4; libgcc also asks the operating system for the wide registers */
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static const struct {
    const struct rt_isa *isa;
    bool (*here)(void);
} isas[] = {
/* best first */
#if defined(__x86_64__) || defined(__i386__)
    { &rt_isa_avx512, has_avx512 },
    { &rt_isa_avx2, has_avx2 },
#endif
    { &rt_isa_scalar, has_scalar },
};

static const struct rt_isa *choose_isa(rt_err *err)
{
    const char *want = getenv("RETORT_ISA");
    for (int i = 0; i < RT_COUNT(isas); i++) {
        if (want && *want && strcmp(want, isas[i].isa->name))
            continue;
        if (isas[i].here())
            return isas[i].isa;
        if (want && *want) {
            rt_usage(err, "RETORT_ISA=%s: this CPU does not have it: unset the variable", want);
            return NULL;
        }
    }
    rt_usage(err, "RETORT_ISA=%s: unknown here: use scalar, avx2 or avx512, or unset it", want);
    return NULL;
}

/* --- memory --------------------------------------------------------------------------------------
 */

static void *alloc_bytes(rt_dev *d, int64_t bytes)
{
    (void)d;
    return rt_memory_alloc(bytes, false);
}

static void release_bytes(rt_dev *d, void *p)
{
    (void)d;
    rt_memory_free(p);
}

static void move_bytes(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    (void)d;
    if (bytes > 0)
        memmove(dst, src, (size_t)bytes);
}

static void copy_tensor(rt_dev *d, rt_tensor *y, const rt_tensor *x)
{
    move_bytes(d, y->data, x->data, rt_tensor_bytes(y));
}

static void zero_tensor(rt_dev *d, rt_tensor *y)
{
    (void)d;
    int64_t bytes = rt_tensor_bytes(y);
    if (bytes > 0)
        memset(y->data, 0, (size_t)bytes);
}

/* --- life ----------------------------------------------------------------------------------------
 */

int rt_dev_open(rt_dev *d, const char *name, int threads, rt_err *err)
{
    memset(d, 0, sizeof(*d));
    if (strcmp(name, "cpu"))
        return rt_usage(err, "device %s: not in this build: use cpu", name);
    if (threads < 0 || threads > RT_THREADS_MAX)
        return rt_usage(err, "threads %d: must be 0 (all cores) to %d", threads, RT_THREADS_MAX);
    threads = threads ? threads : (int)rt_min(omp_get_max_threads(), RT_THREADS_MAX);
    const struct rt_isa *isa = choose_isa(err);
    rt_team *team = NULL;
    if (!isa || rt_team_open(&team, threads, err))
        return -1;
    struct rt_cpu *cpu = rt_alloc(1, sizeof *cpu, "device cpu");
    cpu->team = team;
    cpu->isa = isa;
    cpu->ops = (rt_ops){
        .name = "cpu",
        .alloc = alloc_bytes,
        .release = release_bytes,
        .upload = move_bytes,
        .download = move_bytes,
        .copy = copy_tensor,
        .zero = zero_tensor,
    };
    rt_cpu_matmul_ops(&cpu->ops);
    rt_cpu_rows_ops(&cpu->ops);
    rt_cpu_attention_ops(&cpu->ops);
    d->ops = &cpu->ops;
    d->state = cpu;
    d->isa = isa->name;
    d->threads = threads;
    return 0;
}

void rt_dev_close(rt_dev *d)
{
    struct rt_cpu *cpu = d->state;
    if (cpu) {
        rt_team_close(cpu->team);
        release_bytes(d, d->scratch);
    }
    free(cpu);
    memset(d, 0, sizeof(*d));
}

int rt_dev_ready(rt_dev *d, rt_err *err)
{
    if (d->scratch_need <= d->scratch_size)
        return 0;
    release_bytes(d, d->scratch);
    d->scratch_size = 0;
    d->scratch = alloc_bytes(d, d->scratch_need);
    if (!d->scratch)
        return rt_fail(err,
                       "device cpu: no memory for %lld bytes of workspace: use fewer threads or "
                       "smaller batches",
                       (long long)d->scratch_need);
    d->scratch_size = d->scratch_need;
    return 0;
}

int rt_dev_place(rt_dev *d, rt_arena *a, rt_err *err)
{
    (void)d;
    return rt_arena_place(a, err);
}

void rt_dev_free(rt_dev *d, rt_arena *a)
{
    (void)d;
    rt_arena_free(a);
}

/* --- workspace and threads -----------------------------------------------------------------------
 */

void rt_dev_need_rows(rt_dev *d, int64_t bytes_per_thread)
{
    int64_t bytes = rt_align_up(bytes_per_thread, RT_CACHE_LINE) * d->threads;
    d->scratch_need = rt_max(d->scratch_need, bytes);
}

uint8_t *rt_cpu_scratch(const rt_dev *d, int t, int64_t need)
{
    int64_t share = d->scratch_size / d->threads / RT_CACHE_LINE * RT_CACHE_LINE;
    if (need > share)
        rt_bug("device cpu: an operation needs %lld bytes of workspace a thread, %lld were planned",
               (long long)need, (long long)share);
    return share ? d->scratch + share * t : NULL;
}

int rt_cpu_threads(const rt_dev *d, int64_t work)
{
    return (int)rt_max(1, rt_min(d->threads, work / SMALL_WORK));
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

void rt_cpu_run_rows(rt_dev *d, rt_row_fn *fn, const void *args, int64_t n, int64_t cost)
{
    enum { RANGES = 4 }; /* a thread: who comes late leaves less to wait for */
    int threads = (int)rt_min(n, rt_cpu_threads(d, n * cost));
    if (threads <= 1) {
        fn(args, 0, n, rt_cpu_scratch(d, 0, 0));
        return;
    }
    struct rows_job job = { d, fn, args, n, rt_min(n, threads * RANGES) };
    rt_cpu_run(d, rows_unit, &job, job.units, threads);
}
