/* softmax.h: what the head's kernels share: exponentials of a row of logits with their sums, and
   random points dropped on cumulative mass. A row of V is cut into at most RT_CHUNKS chunks, so
   that a walk over a row reads chunk sums first. */
#ifndef RT_KERNELS_SOFTMAX_H
#define RT_KERNELS_SOFTMAX_H

#include "core/device/kernels/team.h"

enum { RT_CHUNKS = 512 }; /* of at most RT_VOCAB_MAX / RT_CHUNKS logits */

struct row_sums {
    float mass;   /* sum of e_j = exp((z_j - max) / T) */
    float energy; /* sum of e_j (z_j - max) / T */
};

/* Logits of -inf count as 100 below the maximum: mass 0 and no 0 * inf. NaN stays NaN. */
LANES_FN lanes row_exponent(const float *z, int64_t left, lanes max, lanes inverse_t)
{
    lanes d = lanes_mul(lanes_sub(lanes_load(z, left, -INFINITY), max), inverse_t);
    return lanes_max(lanes_set(-100.0f), d);
}

/* Whether a row of logits makes a distribution: 0 z is 0 of a number, NaN of NaN and infinity. */
TEAM_FN bool team_finite(const float *z, int64_t n)
{
    lanes zero = lanes_set(0.0f), s = zero;
    for (int64_t i = lanes_first(); i < n; i += lanes_step())
        s = lanes_fma(lanes_load(z + i, n - i, 0.0f), zero, s);
    return team_sum_lanes(s) == 0.0f;
}

/* e = exp((z - max) inverse_t); e may be z, or NULL for the sums alone */
TEAM_FN struct row_sums team_exp_row(float *e, const float *z, int64_t n, float max,
                                     float inverse_t)
{
    double mass = 0.0, energy = 0.0;
    lanes top = lanes_set(max), it = lanes_set(inverse_t);
    for (int64_t b = 0; b < n; b += TEAM_BLOCK) {
        int64_t end = team_block_end(b, n);
        lanes m = lanes_set(0.0f), h = m;
        for (int64_t i = b + lanes_first(); i < end; i += lanes_step()) {
            lanes d = row_exponent(z + i, end - i, top, it), x = lanes_exp(d);
            m = lanes_add(m, x);
            h = lanes_fma(x, d, h);
            if (e)
                lanes_store(e + i, x, end - i);
        }
        mass += (double)team_sum_lanes(m);
        energy += (double)team_sum_lanes(h);
    }
    struct row_sums s = { (float)mass, (float)energy };
    return s;
}

/* A power of two, so that chunks do not straddle blocks of sums. */
TEAM_FN int64_t chunk_width(int64_t n)
{
    int64_t width = 64;
    while (width * RT_CHUNKS < n)
        width *= 2;
    return width;
}

TEAM_FN uint64_t team_seed(const rt_tensor *seed, int64_t row) /* (M,2) i32: low, high */
{
    const int32_t *s = team_i32(seed) + 2 * row;
    return (uint64_t)(uint32_t)s[0] | (uint64_t)(uint32_t)s[1] << 32;
}

/* Points first + k step, k = 0, 1, ... on the cumulative mass of a row, ids ascending. */
struct walk {
    double first, step, mass; /* mass: of the chunks walked so far */
    int32_t *id;              /* (max) where points fell */
    int64_t n, max;
};

/* Whether a point falls into the next chunk, which weighs `mass`; else it is passed over. */
TEAM_FN bool walk_stops(struct walk *w, float mass)
{
    if (w->n < w->max && w->first + (double)w->n * w->step < w->mass + (double)mass)
        return true;
    w->mass += (double)mass;
    return false;
}

/* Drop the points of a chunk e(len) that starts at column `start`. The chunk's mass is that of its
   lanes; what rounding leaves between it and the walk's f64 sum belongs to the last column with
   mass. Every rank walks, rank 0 writes. */
TEAM_FN void walk_chunk(struct walk *w, const float *e, int64_t len, int64_t start, float mass)
{
    double sum = w->mass, next = w->first + (double)w->n * w->step;
    int64_t last = 0;
    w->mass += (double)mass;
    for (int64_t i = 0; i < len && w->n < w->max; i++) {
        sum += (double)e[i];
        last = e[i] > 0.0f ? i : last;
        for (; next < sum && next < w->mass && w->n < w->max; w->n++) {
            if (team_rank() == 0)
                w->id[w->n] = (int32_t)(start + i);
            next = w->first + (double)(w->n + 1) * w->step;
        }
    }
    for (; next < w->mass && w->n < w->max; w->n++) {
        if (team_rank() == 0)
            w->id[w->n] = (int32_t)(start + last);
        next = w->first + (double)(w->n + 1) * w->step;
    }
}

#endif
