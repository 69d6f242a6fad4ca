/* head_rows.h: what the tests of the head's operations share: an open device, tensors, near-normal
   logits, counters, distributions in f64, and calls of capture that keep their logits. */
#ifndef HEAD_ROWS_H
#define HEAD_ROWS_H

#include "core/base/rng.h"
#include "tests/device.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 118, LARGE = 151936, HUGE_VOCAB = 262144 };

/* The workspace of the head's rows. */
static inline void dry_head(rt_dev *d, int64_t vocab)
{
    rt_tensor z = rt_tensor_2(NULL, RT_F32, 1, vocab), i = rt_tensor_1(NULL, RT_I32, 1);
    rt_tensor seed = rt_tensor_2(NULL, RT_I32, 1, 2);
    rt_sampling s = { .temperature = 1, .top_p = 1 };
    rt_dev_dry_begin(d);
    rt_sample(d, &i, &z, &seed, &i, &s, vocab);
    rt_dev_dry_end(d);
}

static inline bool open_device(rt_dev **d, const char *isa, int threads)
{
    rt_err err = { 0 };
    bool ok = open_device_named(d, NULL, isa, threads);
    if (ok) {
        dry_head(*d, LARGE);
        ck_assert_int_eq(rt_dev_ready(*d, &err), 0);
    }
    return ok; /* this machine may lack it */
}

static inline void *take(int64_t n) { return calloc((size_t)rt_max(n, 1), 4); }
static inline rt_tensor new_f32(int64_t n) { return rt_tensor_1(take(n), RT_F32, n); }
static inline rt_tensor new_i32(int64_t n) { return rt_tensor_1(take(n), RT_I32, n); }
static inline rt_tensor new_rows(rt_dtype t, int64_t m, int64_t n)
{
    return rt_tensor_2(take(m * n), t, m, n);
}

/* near normal, from three uniforms */
static inline float bell(uint64_t seed, uint64_t i)
{
    rt_u32x4 b = rt_rng_bits(seed, RT_RNG_DATA, i);
    double s = (double)b.v[0] + b.v[1] + b.v[2];
    return (float)((s / 4294967296.0 - 1.5) * 2.0);
}

/* seeds and indices of m rows: the same sample, ascending positions */
struct counters {
    rt_tensor seed, index;
};

static inline struct counters new_counters(int64_t m, uint64_t seed, int32_t first)
{
    struct counters c = { new_rows(RT_I32, m, 2), new_i32(m) };
    for (int64_t r = 0; r < m; r++) {
        rt_i32(&c.seed)[2 * r] = (int32_t)(uint32_t)seed;
        rt_i32(&c.seed)[2 * r + 1] = (int32_t)(uint32_t)(seed >> 32);
        rt_i32(&c.index)[r] = first + (int32_t)r;
    }
    return c;
}

static inline void free_counters(struct counters *c) { free(c->seed.data), free(c->index.data); }

/* --- exact distributions in f64 -----------------------------------------------------------------
 */

static inline void softmax(double *p, const float *z, int64_t n, double t)
{
    double max = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, (double)z[i]);
    for (int64_t i = 0; i < n; i++)
        sum += p[i] = exp(((double)z[i] - max) / t);
    for (int64_t i = 0; i < n; i++)
        p[i] /= sum;
}

struct ranked {
    double p;
    int32_t id;
};

static inline int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->p != y->p)
        return x->p > y->p ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static inline struct ranked *rank_all(const double *p, int64_t n)
{
    struct ranked *r = calloc((size_t)n, sizeof *r);
    for (int64_t i = 0; i < n; i++)
        r[i] = (struct ranked){ p[i], (int32_t)i };
    qsort(r, (size_t)n, sizeof *r, by_rank);
    return r;
}

/* --- capture ------------------------------------------------------------------------------------
 */

static inline rt_capture new_capture(int64_t m, const rt_soft_config *c)
{
    int64_t draws = c->tail_spacing > 0.0f ? (int64_t)ceilf(1.0f / c->tail_spacing) + 1 : 0;
    rt_capture o = { new_i32(m),
                     new_rows(RT_I32, m, c->head_max),
                     new_rows(RT_F32, m, c->head_max),
                     new_f32(m),
                     new_i32(m),
                     new_rows(RT_I32, m, draws),
                     new_rows(RT_F32, m, c->n_temperatures),
                     new_f32(m),
                     new_f32(m) };
    return o;
}

enum { CAPTURED = 9 };

static inline void captured(rt_capture *o, rt_tensor **t)
{
    rt_tensor *all[CAPTURED] = { &o->head_n,  &o->head_id, &o->head_logp, &o->tail, &o->draw_n,
                                 &o->draw_id, &o->logz,    &o->entropy,   &o->taken };
    memcpy(t, all, sizeof all);
}

static inline void free_capture(rt_capture *o)
{
    rt_tensor *t[CAPTURED];
    captured(o, t);
    for (int i = 0; i < CAPTURED; i++)
        free(t[i]->data);
}

/* logits on the host, token drawn into the host */
static inline void sample_rows(rt_dev *d, rt_tensor *token, const rt_tensor *logits,
                               const struct counters *n, const rt_sampling *s, int64_t vocab)
{
    rt_tensor t = put_tensor(d, token), z = put_tensor(d, logits);
    rt_tensor seed = put_tensor(d, &n->seed), index = put_tensor(d, &n->index);
    rt_sample(d, &t, &z, &seed, &index, s, vocab);
    get_tensor(d, token, &t);
    drop_tensor(d, &z), drop_tensor(d, &seed), drop_tensor(d, &index);
}

/* logits (m, v) are kept; listed (m, c->listed) or NULL */
static inline rt_capture capture_listed(rt_dev *d, const float *z, int64_t m, int64_t v,
                                        const rt_soft_config *c, int32_t token, uint64_t seed,
                                        int32_t first, const int32_t *listed)
{
    rt_capture o = new_capture(m, c), there = o;
    rt_tensor logits = rt_tensor_2((void *)(uintptr_t)z, RT_F32, m, v), t = new_i32(m);
    struct counters n = new_counters(m, seed, first);
    for (int64_t r = 0; r < m; r++)
        rt_i32(&t)[r] = token;
    rt_tensor work = put_tensor(d, &logits), tokens = put_tensor(d, &t);
    rt_tensor seeds = put_tensor(d, &n.seed), index = put_tensor(d, &n.index);
    rt_tensor list = rt_tensor_2((void *)(uintptr_t)listed, RT_I32, m, c->listed), ids = { 0 };
    if (listed)
        ids = put_tensor(d, &list);
    rt_tensor *host[CAPTURED], *on[CAPTURED];
    captured(&o, host);
    captured(&there, on);
    for (int i = 0; i < CAPTURED; i++)
        *on[i] = put_tensor(d, host[i]);
    rt_capture_rows(d, &there, &work, &tokens, &seeds, &index, listed ? &ids : NULL, c, v);
    for (int i = 0; i < CAPTURED; i++)
        get_tensor(d, host[i], on[i]);
    drop_tensor(d, &work), drop_tensor(d, &tokens), drop_tensor(d, &seeds), drop_tensor(d, &index);
    if (listed)
        drop_tensor(d, &ids);
    free(t.data), free_counters(&n);
    return o;
}

static inline rt_capture capture(rt_dev *d, const float *z, int64_t m, int64_t v,
                                 const rt_soft_config *c, int32_t token, uint64_t seed,
                                 int32_t first)
{
    return capture_listed(d, z, m, v, c, token, seed, first, NULL);
}

#endif
