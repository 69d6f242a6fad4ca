/* capture.h: from logits on the device to soft targets on the host: the buffers of the capture
   operation (ops.h), chunk after chunk without a wait, and the rows they become (soft.h) after one.
   Used while generating and while scoring, so both leave the same kind of row.
   Refuses: choosing positions, files. */
#ifndef RT_CAPTURE_H
#define RT_CAPTURE_H

#include "core/device/arenas.h"
#include "core/device/ops.h"

RT_BEGIN

typedef struct rt_capture_buffers {
    rt_soft_config cfg;
    int64_t rows, waiting, draws;    /* of a chunk, between two waits, draws a row: at most */
    int64_t n;                       /* rows captured since rt_capture_clear */
    rt_tensor token, seed, index;    /* (M) i32, (M,2) i32, (M) i32 */
    int32_t *host_seed, *host_index; /* (M,2) (M), filled by the caller */
    int32_t *host_token;             /* (M) */
    rt_tensor listed;                /* (M, cfg.listed) i32 */
    int32_t *host_listed;            /* filled by rt_capture_set_listed */
    uint8_t *there, *here;           /* the block of a chunk on the device; of all chunks here */
    rt_arena device, host;
} rt_capture_buffers;

/* Plans memory, which the list places and frees. cfg->head_max 0: only token, seed and index
   (sampling without soft targets). */
void rt_capture_plan(rt_capture_buffers *b, rt_arenas *l, const rt_soft_config *cfg, int64_t rows,
                     int64_t waiting);

/* Put n seeds and indices (and tokens when they are given rather than drawn, and listed ids where
   there are some) on the device. */
void rt_capture_upload(rt_dev *d, rt_capture_buffers *b, int64_t n, bool tokens);
/* Capture n more rows of logits (clobbered) against the first n of b->token: a whole chunk, or the
   last one before rt_capture_clear. They are here after the next rt_sync, until rt_capture_clear: */
void rt_capture_run(rt_dev *d, rt_capture_buffers *b, rt_tensor *logits, int64_t n, int64_t vocab);
/* Whether the logits of all captured rows were finite. */
bool rt_capture_finite(const rt_capture_buffers *b);
void rt_capture_clear(rt_capture_buffers *b);
/* Append captured row i to s. */
void rt_capture_append(const rt_capture_buffers *b, int64_t i, rt_soft *s);

/* What is listed for row i of the next upload: the ids of the head of a row of s; s NULL: none. */
void rt_capture_set_listed(rt_capture_buffers *b, int64_t i, const rt_soft *s, int64_t row);

static inline void rt_capture_set_seed(rt_capture_buffers *b, int64_t i, uint64_t seed,
                                       int64_t index)
{
    b->host_seed[2 * i] = (int32_t)(uint32_t)seed;
    b->host_seed[2 * i + 1] = (int32_t)(uint32_t)(seed >> 32);
    b->host_index[i] = (int32_t)index;
}

RT_END

#endif
