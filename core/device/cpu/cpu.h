/* cpu.h: the CPU device behind rt_dev, and how its operations reach the threads. Private to
 * core/device/cpu. */
#ifndef RT_CPU_CPU_H
#define RT_CPU_CPU_H

#include "core/device/backend.h"
#include "core/device/cpu/isa.h"
#include "core/base/team.h"

struct rt_cpu { /* rt_dev.state */
    const struct rt_isa *isa;
    const struct rt_int8_isa *int8; /* of the precision "int8" (int8.h), or NULL: exact */
    rt_ops ops; /* rt_dev.ops: filled once by the rt_cpu_*_ops below */
    rt_team *team;
    int threads;
    int64_t scratch_need; /* bytes; grown while planning */
    int64_t scratch_size; /* bytes held since ready */
    uint8_t *scratch;     /* private workspace of operations (packed operands, score tiles) */
};

static inline struct rt_cpu *rt_cpu_of(const rt_dev *d) { return d->state; }
static inline const struct rt_isa *rt_cpu_isa(const rt_dev *d) { return rt_cpu_of(d)->isa; }

/* Units of an operation by at most `threads` threads; member is also whose workspace may be used.
 */
static inline void rt_cpu_run(const rt_dev *d, rt_unit_fn *fn, void *ctx, int64_t units,
                              int threads)
{
    rt_team_run(rt_cpu_of(d)->team, fn, ctx, units, threads);
}

/* Every file with operations writes its entries of the table, and what they need of workspace. */
void rt_cpu_matmul_ops(rt_ops *ops);    /* core/device/cpu/matmul.c */
void rt_cpu_attention_ops(rt_ops *ops); /* core/device/cpu/attention.c */
/* Bytes of workspace for one operation of all threads. */
void rt_cpu_need_scratch(rt_dev *d, int64_t bytes);
void rt_cpu_need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                         const rt_tensor *b);
void rt_cpu_need_attention(rt_dev *d, const rt_attention_shape *s);
/* Private rows of a thread. */
void rt_cpu_need_rows(rt_dev *d, int64_t bytes_per_thread);

/* Threads worth starting for `work` fused multiply-adds or floats touched. */
int rt_cpu_threads(const rt_dev *d, int64_t work);
/* Workspace of thread t when every thread gets the same share; 64-byte aligned. need: bytes the
   caller is about to use, rt_bug when the plan was smaller. */
uint8_t *rt_cpu_scratch(const rt_dev *d, int t, int64_t need);

#endif
