/* capture.h: the team kernel that leaves the soft targets of a row (soft.h) when a teacher's
   logits pass by: the exact head, the exact mass outside it, systematic draws from the tail,
   entropy, log Z at other temperatures, the log-probability of the token that followed.

   Ids that are listed (of another model's head, say) are taken out of what the head leaves in the same
   way, so head, listed ids and tail are a partition, too.

   One pass takes the largest logit of every chunk of the row, one the exponentials' sums. A head
   item is the best of the chunks' best; it is taken out of its chunk, whose sum is then made anew,
   so what is left over is always a sum over the complement. Draws read only chunks that a point
   falls into. */
#ifndef RT_KERNELS_CAPTURE_H
#define RT_KERNELS_CAPTURE_H

#include "core/device/kernels/softmax.h"

struct rt_args_capture {
    rt_capture out;
    rt_tensor logits, token, seed, index; /* (M, >= V) (M) (M,2) (M) */
    rt_tensor listed;                     /* (M, config.listed), -1 = none */
    rt_soft_config config;
    int64_t vocab;
};

struct capture_row {
    float *z; /* (V); head items become -inf */
    int64_t vocab, width, chunks;
    float *best, *part; /* (chunks) largest logit, sum of exponentials */
    float max, log_mass;
};

/* Takes an id out of its chunk; returns the mass of what is left in all. */
TEAM_FN float capture_take(struct capture_row *r, int64_t id, int32_t *head_id, float *head_logp)
{
    int64_t chunk = id / r->width, start = chunk * r->width;
    int64_t len = rt_min(r->width, r->vocab - start);
    team_sync();
    if (team_rank() == 0) {
        *head_id = (int32_t)id;
        *head_logp = (r->z[id] - r->max) - r->log_mass;
        r->z[id] = -INFINITY;
    }
    team_sync();
    float best = team_max(r->z + start, len);
    float part = team_exp_row(NULL, r->z + start, len, r->max, 1.0f).mass;
    if (team_rank() == 0) {
        r->best[chunk] = best;
        r->part[chunk] = part;
    }
    team_sync();
    return team_sum(r->part, r->chunks);
}

/* Moves the most probable ids into the head; returns their number, *left = mass of the others. */
TEAM_FN int64_t capture_head(struct capture_row *r, const rt_soft_config *c, float mass,
                             int32_t *head_id, float *head_logp, float *left)
{
    int64_t n = 0, most = rt_min(c->head_max - c->listed, r->vocab);
    *left = mass;
    while (n < most && (n == 0 || *left >= c->head_floor * mass) && *left > 0.0f) {
        float top = team_max(r->best, r->chunks);
        int64_t chunk = team_find(r->best, r->chunks, top), start = chunk * r->width;
        if (chunk == r->chunks)
            break; /* only NaN is not found */
        int64_t len = rt_min(r->width, r->vocab - start), at = team_find(r->z + start, len, top);
        *left = capture_take(r, start + at, head_id + n, head_logp + n);
        n++;
    }
    return n;
}

/* Moves those of the listed ids that are not there yet behind the n of the head; returns how many
   there are then. An id of probability 0 stays where it is: in the tail. */
TEAM_FN int64_t capture_listed(struct capture_row *r, const rt_tensor *listed, int64_t unit,
                               int64_t n, int32_t *head_id, float *head_logp, float *left)
{
    const int32_t *list = team_i32(listed) + unit * listed->dim[1];
    for (int64_t i = 0; i < listed->dim[1]; i++) {
        int32_t id = list[i];
        bool out = id < 0 || r->z[id] == -INFINITY; /* of all threads, before one of them takes it */
        if (out)
            continue;
        *left = capture_take(r, id, head_id + n, head_logp + n);
        n++;
    }
    return n;
}

/* Points (k + u) spacing on the tail's cumulative probability; returns their number. */
TEAM_FN int64_t capture_draws(struct capture_row *r, double first, double step, int32_t *id,
                              int64_t most)
{
    struct walk w = { first, step, 0.0, id, 0, most };
    for (int64_t c = 0; c < r->chunks; c++) {
        if (!walk_stops(&w, r->part[c]))
            continue;
        float *z = r->z + c * r->width;
        int64_t len = rt_min(r->width, r->vocab - c * r->width);
        team_sync();
        team_exp_row(z, z, len, r->max, 1.0f);
        team_sync();
        walk_chunk(&w, z, len, c * r->width, r->part[c]);
    }
    return w.n;
}

/* Fills best, part and max of a row; its sums as team_exp_row makes them, on the CPU bit for bit. */
#ifdef RT_TEAM_THREADS

TEAM_FN struct row_sums capture_sums(struct capture_row *r)
{
    /* a warp a chunk: neighbours read neighbours */
    int64_t warp = team_rank() / 32, warps = rt_ceil_div(team_size(), 32), lane = team_rank() % 32;
    int64_t lanes_here = rt_min(32, team_size() - 32 * warp);
    double energy = 0.0;
    for (int64_t c = warp; c < r->chunks; c += warps) {
        const float *z = r->z + c * r->width;
        int64_t len = rt_min(r->width, r->vocab - c * r->width);
        float most = -INFINITY;
        for (int64_t i = lane; i < len; i += lanes_here)
            most = lanes_max(z[i], most);
        most = warp_max(most);
        if (lane == 0)
            r->best[c] = most;
    }
    team_sync();
    r->max = team_max(r->best, r->chunks);
    for (int64_t c = warp; c < r->chunks; c += warps) {
        const float *z = r->z + c * r->width;
        int64_t len = rt_min(r->width, r->vocab - c * r->width);
        float m = 0.0f, h = 0.0f;
        for (int64_t i = lane; i < len; i += lanes_here) {
            float d = row_exponent(z + i, len - i, r->max, 1.0f), x = rt_soft_expf(d);
            m += x;
            h = fmaf(x, d, h);
        }
        m = warp_sum(m);
        energy += (double)h;
        if (lane == 0)
            r->part[c] = m;
    }
    team_sync();
    struct row_sums s = { team_sum(r->part, r->chunks), team_sum_lanes((float)energy) };
    return s;
}

#else

TEAM_FN struct row_sums capture_sums(struct capture_row *r)
{
    for (int64_t c = 0; c < r->chunks; c++)
        r->best[c] = solo_max(r->z + c * r->width, rt_min(r->width, r->vocab - c * r->width));
    r->max = team_max(r->best, r->chunks);
    lanes m = lanes_set(0.0f), h = m, top = lanes_set(r->max), one = lanes_set(1.0f);
    double mass = 0.0, energy = 0.0;
    for (int64_t c = 0; c < r->chunks; c++) {
        const float *z = r->z + c * r->width;
        int64_t len = rt_min(r->width, r->vocab - c * r->width);
        lanes here = lanes_set(0.0f);
        for (int64_t i = 0; i < len; i += TEAM_LANES) {
            lanes d = row_exponent(z + i, len - i, top, one), x = lanes_exp(d);
            m = lanes_add(m, x);
            h = lanes_fma(x, d, h);
            here = lanes_add(here, x);
        }
        r->part[c] = solo_sum_lanes(here);
        if ((c + 1) * r->width % TEAM_BLOCK == 0) {
            mass += (double)solo_sum_lanes(m);
            energy += (double)solo_sum_lanes(h);
            m = h = lanes_set(0.0f);
        }
    }
    struct row_sums s = { (float)(mass + (double)solo_sum_lanes(m)),
                          (float)(energy + (double)solo_sum_lanes(h)) };
    return s;
}

#endif

/* unit: row */
TEAM_FN void rt_capture_unit(const struct rt_args_capture *a, int64_t unit, float *scratch)
{
    TEAM_SHARED(float, best, RT_CHUNKS);
    TEAM_SHARED(float, part, RT_CHUNKS);
    const rt_soft_config *config = &a->config;
    struct capture_row r;
    (void)scratch;
    r.z = team_row(&a->logits, unit, a->logits.dim[1]);
    r.vocab = a->vocab;
    r.width = chunk_width(r.vocab);
    r.chunks = rt_ceil_div(r.vocab, r.width);
    r.best = best;
    r.part = part;
    team_sync();

    struct row_sums sums = capture_sums(&r);
    float total = sums.mass, e = sums.energy;
    r.log_mass = rt_logf(total);
    for (int32_t k = 0; k < config->n_temperatures; k++) {
        float t = 1.0f / config->temperature[k];
        float at_t = team_exp_row(NULL, r.z, r.vocab, r.max, t).mass;
        if (team_rank() == 0)
            team_f32(&a->out.logz)[unit * config->n_temperatures + k] = fmaf(-t, r.log_mass,
                                                                             rt_logf(at_t));
    }
    int32_t token = team_i32(&a->token)[unit];
    if (team_rank() == 0) {
        team_f32(&a->out.entropy)[unit] = r.log_mass - e / total;
        team_f32(&a->out.taken)[unit] = token >= 0 ? (r.z[token] - r.max) - r.log_mass : 0.0f;
    }
    team_sync();

    int64_t ld = a->out.head_id.dim[1], n_head, n_draw = 0;
    float left;
    n_head = capture_head(&r, config, total, team_i32(&a->out.head_id) + unit * ld,
                          team_row(&a->out.head_logp, unit, ld), &left);
    if (config->listed > 0)
        n_head = capture_listed(&r, &a->listed, unit, n_head,
                                team_i32(&a->out.head_id) + unit * ld,
                                team_row(&a->out.head_logp, unit, ld), &left);
    if (config->tail_spacing > 0.0f && left > 0.0f) {
        double u = (double)rt_rng_uniform(team_seed(&a->seed, unit), RT_RNG_TAIL,
                                          (uint64_t)(uint32_t)team_i32(&a->index)[unit]);
        double step = (double)config->tail_spacing * (double)total;
        int64_t most = a->out.draw_id.dim[1];
        n_draw = capture_draws(&r, u * step, step, team_i32(&a->out.draw_id) + unit * most, most);
    }
    if (team_rank() == 0) {
        team_i32(&a->out.head_n)[unit] = (int32_t)n_head;
        team_i32(&a->out.draw_n)[unit] = (int32_t)n_draw;
        team_f32(&a->out.tail)[unit] = rt_logf(left) - r.log_mass;
    }
}

#endif
