/* loss.h: the team kernel of the training loss: every term of rt_loss_spec and its gradient in one
   visit of a row of logits, in place.

   Let q be the student's softmax at temperature T (1 for ce), q_t the mass of the complement of the
   exact head, summed over the complement. Every term is a function of log q_i of listed ids and of
   log q_t; with g_i, g_t its derivatives by them and G their sum,
     dz_j = (q_j ([j not in head] g_t / q_t - G) + [j listed] g_j) / T.
     drawn    -sum_head p log q - spacing sum hits log q - entropy     g_i = -p_i, -hits spacing
     bucket   sum_head,t p log(p/q)                                    g = -p
     renorm   sum_head r log(r/q), r = p / sum_head p                  g = -r
     reverse  sum_head,t q log(q/p)                                    g = q log(q/p)
     jsd      sum_head,t b p log(p/m) + (1-b) q log(q/m), m = b p + (1-b) q    g = (1-b) q log(q/m)
     skew     sum_head,t p log(p/m), m = a p + (1-a) q             g = -(1-a) p q / m
     skew_reverse  sum_head,t q log(q/m), m = a q + (1-a) p        g = q (log(q/m) + 1 - a q / m)
     tvd      sum_head,t |p - q| / 2                                g = q / 2, -q / 2 where q < p
   All but drawn are multiplied by T^2, value and gradient alike. A tail lighter than e^-69 on
   either side counts as that heavy inside a logarithm; without a complement (head = V) it has no
   term.
   Two terms are at T = 1, as ce is, and know no head: with r the reference's probabilities
     reference  K = sum_V q log(q/r)                                dz_j = q_j (log(q_j/r_j) - K)
   and with A the label's advantage, o its probability when it was drawn and u = q/o
     policy   -min(u A, clip(u, 1 - low, 1 + high) A)      dz_j = (q_j - [j label]) u A, or 0
   the latter where the clipped one is the smaller (arXiv 1707.06347; 2503.14476 for two bounds). */
#ifndef RT_KERNELS_LOSS_H
#define RT_KERNELS_LOSS_H

#include "core/device/kernels/softmax.h"

/* Items of a row at most, a multiple of 16: exact head and distinct draws. */
enum { RT_LOSS_ITEMS = (RT_SOFT_HEAD_MAX + RT_SOFT_DRAWS_MAX + 1 + 15) / 16 * 16 };

struct rt_args_loss {
    rt_tensor stats, logits; /* (M, RT_LOSS_COLUMNS) (M, >= V) */
    rt_targets t;
    rt_loss_spec spec;
    int64_t vocab;
    float scale;
    bool gradient;
};

/* The listed items of a row; arrays are padded to lanes with items of no probability. */
struct loss_row {
    int64_t n, head, padded; /* items, exact ones, exact ones padded */
    const int32_t *id;
    float *g;    /* (n) d loss / d log q */
    float *lp;   /* (head) log p at T */
    float *lt;   /* (head) log q at T */
    float *sum;  /* (n) summands */
    float ratio; /* g_t / q_t */
    float g_sum; /* G */
};

TEAM_FN float loss_floor(float x) { return x < -1e4f ? -1e4f : x; } /* a -inf stays finite */

/* log(b e^x + (1-b) e^y) from lb = log b, lc = log(1-b); at b = 0 and 1 just y and x */
TEAM_FN float loss_mix(float x, float y, float lb, float lc)
{
    float u = x + lb, v = y + lc, hi = u > v ? u : v, lo = u > v ? v : u;
    return hi + rt_logf(1.0f + rt_expf(lo - hi));
}

TEAM_FN bool loss_has_skew(const rt_loss_spec *s)
{
    return s->skew != 0.0f || s->skew_reverse != 0.0f || s->tvd != 0.0f;
}

/* skew, skew_reverse and tvd of one outcome with log masses lp and lt: their sum, and *by: its
   derivative by log q, over q. */
TEAM_FN float loss_skew(const rt_loss_spec *s, float lp, float lt, float *by)
{
    float a = s->skew_alpha, b = 1.0f - a, la = rt_logf(a), lb = rt_logf(b);
    float lm = loss_mix(lp, lt, la, lb), lr = loss_mix(lt, lp, la, lb);
    float p = rt_expf(lp), q = rt_expf(lt), forward = lp - lm, reverse = lt - lr;
    float apart = p < q ? 0.5f : p > q ? -0.5f : 0.0f;
    *by = s->skew * (-b * rt_expf(forward)) +
          s->skew_reverse * (reverse + fmaf(-a, rt_expf(reverse), 1.0f)) + s->tvd * apart;
    return s->skew * p * forward + s->skew_reverse * q * reverse + s->tvd * apart * (q - p);
}

/* Value of all terms but drawn over the head, without T^2; adds their g. */
TEAM_FN float loss_head(const struct loss_row *r, const rt_loss_spec *s)
{
    float *sum = r->sum, *g = r->g;
    const float *lp = r->lp, *lt = r->lt;
    for (int64_t i = team_rank(); i < r->padded; i += team_size())
        sum[i] = rt_expf(lp[i]);
    float mass = team_sum(sum, r->padded);
    mass = mass < 1e-30f ? 1e-30f : mass;
    float p_share = s->bucket + s->renorm / mass;
    for (int64_t i = team_rank(); i < r->padded; i += team_size())
        sum[i] = rt_expf(lp[i]) * (lp[i] - lt[i]);
    float forward = team_sum(sum, r->padded);
    for (int64_t i = team_rank(); i < r->padded; i += team_size()) {
        sum[i] = rt_expf(lt[i]) * (lt[i] - lp[i]);
        g[i] += s->reverse * sum[i] - p_share * rt_expf(lp[i]);
    }
    float value = s->bucket * forward + s->renorm * (forward / mass - rt_logf(mass)) +
                  s->reverse * team_sum(sum, r->padded);
    if (loss_has_skew(s)) {
        for (int64_t i = team_rank(); i < r->padded; i += team_size()) {
            float by;
            sum[i] = loss_skew(s, lp[i], lt[i], &by);
            g[i] += by * rt_expf(lt[i]);
        }
        value += team_sum(sum, r->padded);
    }
    if (s->jsd == 0.0f)
        return value;
    float b = s->jsd_beta, c = 1.0f - b, lb = rt_logf(b), lc = rt_logf(c);
    for (int64_t i = team_rank(); i < r->padded; i += team_size()) {
        float lm = loss_mix(lp[i], lt[i], lb, lc), q = c * rt_expf(lt[i]) * (lt[i] - lm);
        sum[i] = fmaf(b * rt_expf(lp[i]), lp[i] - lm, q);
        g[i] += s->jsd * q;
    }
    return value + s->jsd * team_sum(sum, r->padded);
}

/* The same terms over the tail: log masses lp and lt of teacher and student. */
TEAM_FN float loss_tail(struct loss_row *r, const rt_loss_spec *s, float tail, float lt)
{
    float p = rt_expf(tail), lp = tail < -69.0f ? -69.0f : tail, q = rt_expf(lt);
    float value = (s->bucket * p - s->reverse * q) * (lp - lt);
    r->ratio = s->reverse * (lt - lp) - s->bucket * p / q;
    if (s->jsd != 0.0f) {
        float b = s->jsd_beta, c = 1.0f - b, lm = loss_mix(lp, lt, rt_logf(b), rt_logf(c));
        value += s->jsd * fmaf(b * p, lp - lm, c * q * (lt - lm));
        r->ratio += s->jsd * c * (lt - lm);
    }
    if (loss_has_skew(s)) {
        float by;
        value += loss_skew(s, lp, lt, &by);
        r->ratio += by;
    }
    r->g_sum += r->ratio * q;
    return value;
}

/* The policy term of a label, and *push: minus its derivative by log q. u stays finite, so that it is
   nothing where there is no advantage. */
TEAM_FN float loss_policy(const rt_loss_spec *s, float lq, float old_logp, float advantage, float *push)
{
    float apart = lq - old_logp, u = rt_expf(apart > 80.0f ? 80.0f : apart);
    float low = 1.0f - s->clip_low, high = 1.0f + s->clip_high;
    float clipped = u < low ? low : u > high ? high : u;
    float open = u * advantage, bound = clipped * advantage;
    *push = open <= bound ? s->policy * open : 0.0f;
    return -s->policy * (open <= bound ? open : bound);
}

/* r(n), the reference's logits, become (z_j - max) - (r_j - its own max), z the student's; returns the
   log of the reference's sum. */
TEAM_FN float loss_apart(float *r, const float *z, int64_t n, float max)
{
    float r_max = team_max(r, n);
    float log_r = rt_logf(team_exp_row(NULL, r, n, r_max, 1.0f).mass);
    lanes one = lanes_set(1.0f), top = lanes_set(max), r_top = lanes_set(r_max);
    for (int64_t i = lanes_first(); i < n; i += lanes_step())
        lanes_store(r + i,
                    lanes_sub(row_exponent(z + i, n - i, top, one),
                              row_exponent(r + i, n - i, r_top, one)),
                    n - i);
    return log_r;
}

/* The teacher's most probable token, the lowest id on ties: the first of the largest, as a head's
   ids ascend; -1 = no soft target. */
TEAM_FN int32_t loss_top(const int32_t *id, const float *logp, int64_t head)
{
    int64_t best = 0;
    for (int64_t i = 1; i < head; i++)
        best = logp[i] > logp[best] ? i : best;
    return head > 0 ? id[best] : -1;
}

/* unit: row. scratch: 2 rows of V; used when the gradient is not wanted and when T is not 1 */
TEAM_FN void rt_loss_unit(const struct rt_args_loss *a, int64_t unit, float *scratch)
{
    TEAM_SHARED(float, lq, RT_LOSS_ITEMS);
    TEAM_SHARED(float, g, RT_LOSS_ITEMS);
    TEAM_SHARED(float, lp, RT_LOSS_ITEMS);
    TEAM_SHARED(float, lt, RT_LOSS_ITEMS);
    TEAM_SHARED(float, sum, RT_LOSS_ITEMS);
    const rt_loss_spec *s = &a->spec;
    int64_t vocab = a->vocab, ld = a->logits.dim[1], first = team_i32(&a->t.offset)[unit];
    float *z = team_row(&a->logits, unit, ld), *e = a->gradient ? z : scratch, *et = e;
    float *stats = team_row(&a->stats, unit, RT_LOSS_COLUMNS);
    int32_t label = team_i32(&a->t.label)[unit];
    struct loss_row r;
    r.head = team_i32(&a->t.head_n)[unit];
    r.n = r.head > 0 ? team_i32(&a->t.offset)[unit + 1] - first : 0;
    r.padded = rt_align_up(r.head, 16);
    r.id = team_i32(&a->t.id) + first;
    r.g = g, r.lp = lp, r.lt = lt, r.sum = sum;
    r.ratio = 0.0f;
    bool whole = s->bucket != 0.0f || s->reverse != 0.0f || s->jsd != 0.0f || loss_has_skew(s);
    bool by_head = r.n > 0 && (whole || s->renorm != 0.0f);
    bool by_tail = by_head && whole && r.head < vocab;
    bool tempered = by_head && s->temperature != 1.0f;
    float t = tempered ? s->temperature : 1.0f, inverse_t = 1.0f / t;
    bool referred = s->reference != 0.0f;
    float *ref = referred ? team_row(&a->t.reference, unit, a->t.reference.dim[1]) : NULL;

    /* exponentials: z becomes e, what is needed of z is kept first */
    team_sync();
    for (int64_t i = team_rank(); i < r.n; i += team_size())
        lq[i] = z[r.id[i]];
    float z_label = label >= 0 ? z[label] : 0.0f, max = team_max(z, vocab);
    bool correct = label >= 0 && z_label == max && team_find(z, label + 1, max) == label;
    const float *logp = team_f32(&a->t.logp) + first;
    int32_t top = loss_top(r.id, logp, r.head);
    bool agrees = top >= 0 && z[top] == max && team_find(z, top + 1, max) == top;
    float log_r = referred ? loss_apart(ref, z, vocab, max) : 0.0f;
    team_sync();
    struct row_sums at_t = { 0.0f, 0.0f }, at_1;
    if (tempered) {
        et = scratch + rt_align_up(vocab, 16);
        at_t = team_exp_row(et, z, vocab, max, inverse_t);
    }
    at_1 = team_exp_row(e, z, vocab, max, 1.0f);
    at_t = tempered ? at_t : at_1;

    /* items */
    float log_1 = rt_logf(at_1.mass), log_t = rt_logf(at_t.mass), apart = 0.0f;
    if (referred) { /* before the head's exponentials go */
        team_sync();
        for (int64_t j = team_rank(); j < vocab; j += team_size())
            ref[j] = e[j] * (ref[j] - (log_1 - log_r));
        team_sync();
        apart = team_sum(ref, vocab) / at_1.mass;
    }
    float logz = tempered ? team_f32(&a->t.logz)[unit] : 0.0f;
    const int32_t *hits = team_i32(&a->t.hits) + first;
    for (int64_t i = team_rank(); i < rt_max(r.n, r.padded); i += team_size()) {
        float zi = i < r.n ? lq[i] - max : -INFINITY;
        lq[i] = loss_floor(zi - log_1);
        lt[i] = i < r.head ? loss_floor(fmaf(zi, inverse_t, -log_t)) : -1e4f;
        lp[i] = i < r.head ? loss_floor(fmaf(logp[i], inverse_t, -logz)) : -1e4f;
        float p = i < r.head ? rt_expf(logp[i]) : i < r.n ? (float)hits[i] * s->tail_spacing : 0.0f;
        sum[i] = p * lq[i];
        g[i] = -s->drawn * p;
    }
    float kl = r.n > 0 ? -team_sum(sum, r.n) - team_f32(&a->t.entropy)[unit] : 0.0f;
    float ce = label >= 0 ? log_1 - (z_label - max) : 0.0f, push = 0.0f, policy = 0.0f;
    if (label >= 0 && s->policy != 0.0f)
        policy = loss_policy(s, -ce, team_f32(&a->t.old_logp)[unit], team_f32(&a->t.advantage)[unit],
                             &push);
    float value = by_head ? loss_head(&r, s) : 0.0f;
    r.g_sum = team_sum(g, r.n);
    if (by_tail) {
        for (int64_t i = team_rank(); i < r.head; i += team_size())
            et[r.id[i]] = 0.0f;
        team_sync();
        float mass = team_sum(et, vocab);
        mass = mass < 1e-30f ? 1e-30f : mass;
        value += loss_tail(&r, s, team_f32(&a->t.tail)[unit], rt_logf(mass) - log_t);
    }
    if (team_rank() == 0) {
        stats[RT_LOSS_TOTAL] = s->ce * ce + s->drawn * kl + t * t * value + s->reference * apart +
                               policy;
        stats[RT_LOSS_CE] = ce;
        stats[RT_LOSS_KL] = kl;
        stats[RT_LOSS_ENTROPY] = log_1 - at_1.energy / at_1.mass;
        stats[RT_LOSS_CORRECT] = correct ? 1.0f : 0.0f;
        stats[RT_LOSS_LSE] = max + log_1;
        stats[RT_LOSS_CONFIDENCE] = 1.0f / at_1.mass;
        stats[RT_LOSS_AGREE] = agrees ? 1.0f : 0.0f;
        stats[RT_LOSS_REFERENCE] = apart;
    }
    if (!a->gradient)
        return;

    /* gradient; a masked row gets exact zeros whatever it held */
    float factor = a->scale * team_f32(&a->t.weight)[unit];
    float by_label = label >= 0 ? s->ce + push : 0.0f, by_one = by_label - s->reference * apart;
    if (factor == 0.0f) {
        for (int64_t j = team_rank(); j < ld; j += team_size())
            z[j] = 0.0f;
        return;
    }
    float c_1 = factor * by_one / at_1.mass, c_t = factor * t * (r.ratio - r.g_sum) / at_t.mass;
    team_sync();
    if (tempered)
        for (int64_t j = team_rank(); j < vocab; j += team_size())
            z[j] = fmaf(c_t, et[j], c_1 * z[j]);
    else
        for (int64_t j = team_rank(); j < vocab; j += team_size())
            z[j] *= c_1 + c_t;
    float c_r = factor * s->reference / at_1.mass;
    for (int64_t j = team_rank(); referred && j < vocab; j += team_size())
        z[j] = fmaf(c_r, ref[j], z[j]);
    for (int64_t j = vocab + team_rank(); j < ld; j += team_size())
        z[j] = 0.0f;
    team_sync();
    /* the head lost its share of -G, and of what is at T = 1 where both used one row of exponentials */
    float share = (tempered ? 0.0f : by_one) - r.g_sum;
    for (int64_t i = team_rank(); i < r.n; i += team_size()) {
        float d = by_tail && i < r.head ? fmaf(rt_expf(lt[i]), share, g[i]) : g[i];
        z[r.id[i]] = fmaf(factor * t, d, z[r.id[i]]);
    }
    team_sync();
    if (team_rank() == 0 && label >= 0)
        z[label] -= factor * by_label;
}

#endif
