/* choose.h: team kernels that choose a token from a row of logits, and that compare two rows.
   A sample is the inverse of the cumulative mass, ids ascending, over the kept set; top-k keeps the
   k most probable ids, then top-p the fewest of those whose mass reaches its share of theirs,
   lowest ids first among equals, then min-p those near enough to the most probable one. The set's
   edge is found by bisection over the bits of a float: at most 30 sums of a row, whatever its
   shape, and no sort. */
#ifndef RT_KERNELS_CHOOSE_H
#define RT_KERNELS_CHOOSE_H

#include "core/device/kernels/softmax.h"

struct rt_args_sample {
    rt_tensor token, logits, seed, index; /* (M) (M, >= V) (M,2) (M) */
    rt_sampling s;
    int64_t vocab;
};

/* Sum over e_j >= edge of e_j, or of 1 when counting. */
TEAM_FN float choose_above(const float *e, int64_t n, float edge, bool counting)
{
    double sum = 0.0;
    lanes one = lanes_set(1.0f), least = lanes_set(edge);
    for (int64_t b = 0; b < n; b += TEAM_BLOCK) {
        int64_t end = team_block_end(b, n);
        lanes s = lanes_set(0.0f);
        for (int64_t i = b + lanes_first(); i < end; i += lanes_step()) {
            lanes x = lanes_load(e + i, end - i, -1.0f);
            s = lanes_add(s, lanes_where_ge(counting ? one : x, x, least));
        }
        sum += (double)team_sum_lanes(s);
    }
    return (float)sum;
}

/* Keep in e (0 <= e <= 1) the largest entries whose mass (or count) reaches target; zero the rest.
 */
TEAM_FN void choose_keep(float *e, int64_t n, float target, bool counting)
{
    uint32_t low = 0, high = rt_bits_of_float(1.0f) + 1; /* above(low) >= target > above(high) */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (choose_above(e, n, rt_float_of_bits(middle), counting) >= target)
            low = middle;
        else
            high = middle;
    }
    float edge = rt_float_of_bits(low), unit = counting ? 1.0f : edge;
    if (low == 0)
        return;
    float above = choose_above(e, n, rt_float_of_bits(high), counting);
    float equal = choose_above(e, n, edge, true) - choose_above(e, n, rt_float_of_bits(high), true);
    float need = 1.0f; /* of the entries equal to edge */
    if (equal > 1.0f) {
        need = ceilf((target - above) / unit);
        while (need > 1.0f && fmaf(need - 1.0f, unit, above) >= target)
            need -= 1.0f;
        need = need < 1.0f ? 1.0f : need;
    }
    for (int64_t i = team_rank(); i < n; i += team_size())
        e[i] = e[i] >= edge ? e[i] : 0.0f;
    team_sync();
    if (need < equal && team_rank() == 0)
        for (int64_t i = 0; i < n; i++)
            if (e[i] == edge) {
                e[i] = need > 0.0f ? edge : 0.0f;
                need -= 1.0f;
            }
    team_sync();
}

/* unit: row. scratch: a row of V */
TEAM_FN void rt_sample_unit(const struct rt_args_sample *a, int64_t unit, float *scratch)
{
    TEAM_SHARED(float, part, RT_CHUNKS);
    int64_t vocab = a->vocab, width = chunk_width(vocab);
    const float *z = team_row(&a->logits, unit, a->logits.dim[1]);
    int32_t *token = team_i32(&a->token) + unit;
    float max = team_max(z, vocab);
    if (!team_finite(z, vocab)) {
        if (team_rank() == 0)
            *token = -1;
        return;
    }
    if (a->s.temperature == 0.0f || a->s.top_k == 1) {
        int64_t best = team_find(z, vocab, max);
        if (team_rank() == 0)
            *token = (int32_t)rt_min(best, vocab - 1);
        return;
    }
    team_sync();
    float mass = team_exp_row(scratch, z, vocab, max, 1.0f / a->s.temperature).mass;
    team_sync();
    if (a->s.top_k > 0 && a->s.top_k < vocab) {
        choose_keep(scratch, vocab, (float)a->s.top_k, true);
        mass = team_sum(scratch, vocab);
    }
    if (a->s.top_p < 1.0f) {
        float target = a->s.top_p * mass;
        choose_keep(scratch, vocab, target > 0x1p-126f ? target : 0x1p-126f, false);
    }
    if (a->s.min_p > 0.0f) { /* the most probable has mass 1 */
        for (int64_t i = team_rank(); i < vocab; i += team_size())
            scratch[i] = scratch[i] >= a->s.min_p ? scratch[i] : 0.0f;
        team_sync();
    }
    for (int64_t c = team_rank(); c * width < vocab; c += team_size())
        part[c] = solo_sum(scratch + c * width, rt_min(width, vocab - c * width));
    team_sync();
    double total = 0.0;
    for (int64_t c = 0; c * width < vocab; c++)
        total += (double)part[c];
    float u = rt_rng_uniform(team_seed(&a->seed, unit), RT_RNG_SAMPLE,
                             (uint64_t)(uint32_t)team_i32(&a->index)[unit]);
    struct walk w = { (double)u * total, total, 0.0, token, 0, 1 };
    if (team_rank() == 0)
        *token = 0; /* stays there only without mass */
    team_sync();
    for (int64_t c = 0; c * width < vocab; c++)
        if (walk_stops(&w, part[c]))
            walk_chunk(&w, scratch + c * width, rt_min(width, vocab - c * width), c * width,
                       part[c]);
}

struct rt_args_kl_rows {
    rt_tensor kl, agree, p, q; /* (M) (M) (M, >= V) (M, >= V) */
    int64_t vocab;
};

/* unit: row */
TEAM_FN void rt_kl_rows_unit(const struct rt_args_kl_rows *a, int64_t unit, float *scratch)
{
    int64_t n = a->vocab;
    const float *p = team_row(&a->p, unit, a->p.dim[1]), *q = team_row(&a->q, unit, a->q.dim[1]);
    float p_max = team_max(p, n), q_max = team_max(q, n);
    bool agree = team_find(p, n, p_max) == team_find(q, n, q_max);
    float p_log = rt_logf(team_exp_row(NULL, p, n, p_max, 1.0f).mass);
    float q_log = rt_logf(team_exp_row(NULL, q, n, q_max, 1.0f).mass);
    lanes one = lanes_set(1.0f), p_top = lanes_set(p_max), q_top = lanes_set(q_max);
    double kl = 0.0;
    (void)scratch;
    for (int64_t b = 0; b < n; b += TEAM_BLOCK) {
        int64_t end = team_block_end(b, n);
        lanes s = lanes_set(0.0f);
        for (int64_t i = b + lanes_first(); i < end; i += lanes_step()) {
            lanes lp = lanes_sub(row_exponent(p + i, end - i, p_top, one), lanes_set(p_log));
            lanes lq = lanes_sub(row_exponent(q + i, end - i, q_top, one), lanes_set(q_log));
            s = lanes_fma(lanes_exp(lp), lanes_sub(lp, lq), s);
        }
        kl += (double)team_sum_lanes(s);
    }
    if (team_rank() == 0) {
        team_f32(&a->kl)[unit] = (float)kl;
        team_f32(&a->agree)[unit] = agree ? 1.0f : 0.0f;
    }
}

#endif
