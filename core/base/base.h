/* base.h: the few macros and checked-arithmetic helpers everything else stands on.
   Owns no state and includes nothing of ours. */
#ifndef RT_BASE_H
#define RT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define RT_BEGIN extern "C" {
#define RT_END }
#else
#define RT_BEGIN
#define RT_END
#endif

#define RT_COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define RT_PRINTF(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))
#define RT_CACHE_LINE 64
#define RT_THREADS_MAX 1024 /* of a device; the bound of --threads */
#define RT_VOCAB_MAX (1 << 20) /* ids: a row of logits in the chunks of softmax.h */
#define RT_EXPERTS_MAX 1024 /* of a layer: what a team's shared memory holds (route.h) */
#define RT_CHOICES_MAX 256  /* experts of a token, likewise */
#define RT_ADAPTER_RANK_MAX 4096

#ifdef __CUDACC__
#define RT_BOTH __host__ __device__ static inline
#else
#define RT_BOTH static inline
#endif

RT_BOTH int64_t rt_min(int64_t a, int64_t b) { return a < b ? a : b; }
RT_BOTH int64_t rt_max(int64_t a, int64_t b) { return a > b ? a : b; }
RT_BOTH int64_t rt_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
RT_BOTH int64_t rt_align_up(int64_t a, int64_t to) { return rt_ceil_div(a, to) * to; }

/* Checked arithmetic for every size that comes from a file or a server: true when *out is valid. */
static inline bool rt_mul_ok(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}
static inline bool rt_add_ok(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}

#endif
