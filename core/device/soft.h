/* soft.h: soft targets in memory: what the teacher's last kernel leaves and what the student's loss
   reads. The archive (corpora/archive/trace.h) codes exactly this; distill/ uploads exactly this.

   One row describes one next-token distribution p over V at T = 1:
     exact head   the most probable tokens, absolute log-probabilities. It stops at `head_max` tokens
                  or as soon as the mass left over is below `head_floor`. Beside them may stand ids that
                  the caller lists, exact too: those that a student finds probable.
     exact tail   log of the mass outside the head, summed over the complement (never 1 - sum).
     drawn tail   systematic sampling of the tail: with one uniform u a row, the points (k + u) * spacing,
                  k = 0, 1, ..., are dropped on the tail's cumulative mass (ids ascending). Each hit
                  carries weight `spacing`, so E[hits_j * spacing] = p_j exactly for every j, with
                  less variance than independent draws and no draw at all where the tail is empty.
   So   sum_head p_i f(i) + spacing * sum_hits f(j)   is an unbiased estimate of sum_j p_j f(j). */
#ifndef RT_SOFT_H
#define RT_SOFT_H

#include "core/device/tensor.h"

RT_BEGIN

enum { RT_SOFT_HEAD_MAX = 64, RT_SOFT_TEMPERATURES_MAX = 4, RT_SOFT_DRAWS_MAX = 256 };

typedef struct rt_soft_config {
    int32_t head_max;     /* 1 .. RT_SOFT_HEAD_MAX, listed ones included */
    float head_floor;     /* >= 0: the head stops once the mass left is below this */
    float tail_spacing;   /* mass a draw stands for; 0 = no draws; else 1/RT_SOFT_DRAWS_MAX .. 1 */
    int32_t n_temperatures;
    float temperature[RT_SOFT_TEMPERATURES_MAX]; /* log Z kept for each: log sum_j p_j^(1/T) */
    int32_t listed; /* of head_max, so many are for ids that the caller lists; below head_max */
} rt_soft_config;

/* n rows of soft targets on the host, items in CSR form. Row r owns items offset[r] .. offset[r+1]:
   first head_n[r] exact ones, then the distinct drawn ids. Within each part ids ascend. */
typedef struct rt_soft {
    int64_t n, n_items;
    int64_t cap, cap_items; /* private, growth */
    int64_t *offset;  /* (n+1) */
    int32_t *head_n;  /* (n) */
    int32_t *id;      /* (n_items) */
    float *logp;      /* (n_items) natural log; exact items only, 0 for drawn ones */
    int32_t *hits;    /* (n_items) 0 for exact items, >= 1 draws on this id for drawn ones */
    float *tail_logmass; /* (n) -inf when nothing is left */
    float *entropy;      /* (n) nats, exact */
    float *taken_logp;   /* (n) log-probability of the token that followed */
    float *logz;         /* (n, n_temperatures) */
} rt_soft;

void rt_soft_init(rt_soft *s);
void rt_soft_free(rt_soft *s);
/* Bytes that growing to so many rows and items takes at most. */
int64_t rt_soft_most(int64_t rows, int64_t items);
void rt_soft_clear(rt_soft *s); /* n = 0, memory kept */
/* Append rows [first, first + count) of src. temps: n_temperatures of both. */
void rt_soft_append(rt_soft *s, const rt_soft *src, int64_t first, int64_t count, int32_t temps);
/* Append one empty row and reserve items for it; fill the returned row through the arrays, where
   items start at offset[row]. offset[row + 1] is set from n_items. */
int64_t rt_soft_add_row(rt_soft *s, int64_t items, int32_t temps);

RT_END

#endif
