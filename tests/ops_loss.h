/* ops_loss.h: the training loss as a kind of tests/ops_cases.h: random teacher and student, their
   soft targets made in f64, and every term of core/device/kernels/loss.h computed naively. */
#ifndef OPS_LOSS_H
#define OPS_LOSS_H

#include "tests/ops_kinds.h"

/* --- loss: p = M, V, width, head, drawn ids, no gradient ---------------------------------------
 */

enum { LOSS_LOGITS, LOSS_TEACHER, LOSS_LOGP, LOSS_TAIL, LOSS_ENTROPY, LOSS_LOGZ, LOSS_WEIGHT,
       LOSS_OLD, LOSS_ADVANTAGE, LOSS_REFERENCE };
enum { LOSS_OFFSET, LOSS_ITEM, LOSS_LABEL, LOSS_HEAD };
#define LOSS_SCALE 0.37f

static void loss_shape(const int64_t *p, struct ops_shape *s)
{
    s->in[LOSS_LOGITS] = p[0] * p[2], s->in[LOSS_TEACHER] = p[0] * p[1];
    s->in[LOSS_LOGP] = p[0] * (p[3] + p[4]);
    s->in[LOSS_TAIL] = s->in[LOSS_ENTROPY] = s->in[LOSS_LOGZ] = s->in[LOSS_WEIGHT] = p[0];
    s->in[LOSS_OLD] = s->in[LOSS_ADVANTAGE] = p[0], s->in[LOSS_REFERENCE] = p[0] * p[2];
    s->i[LOSS_OFFSET] = p[0] + 1, s->i[LOSS_ITEM] = 2 * p[0] * (p[3] + p[4]); /* ids, then hits */
    s->i[LOSS_LABEL] = s->i[LOSS_HEAD] = p[0];
    s->out[0] = p[0], s->out[1] = p[0] * RT_LOSS_COLUMNS;
    s->fill[0] = p[5] ? NO_GRADIENT : OVERWRITES;
}

/* A label drawn when it was as probable, less so or more than now, by rows: within the bounds of the
   ratio and well beyond either; advantages of both signs, and none in row 4. */
static void loss_fill_policy(const struct ops_case *c, struct ops_buffers *b, int64_t r)
{
    static const float apart[] = { 0.05f, 0.9f, -0.9f };
    double z[128] = { 0 };
    int32_t label = b->i[LOSS_LABEL][r];
    for (int64_t j = 0; j < c->p[1]; j++) {
        z[j] = (double)b->in[LOSS_LOGITS][r * c->p[2] + j];
        b->in[LOSS_REFERENCE][r * c->p[2] + j] *= (float)c->sharpness;
    }
    b->in[LOSS_OLD][r] = (float)(z[label < 0 ? 0 : label] - ops_lse(z, c->p[1], 1.0)) - apart[r % 3];
    b->in[LOSS_ADVANTAGE][r] = r == 4 ? 0.0f : r / 3 % 2 ? -0.8f : 1.3f;
}

/* Exact head, tail, entropy and log Z of the random teacher; hits on the next ids. Row 1 has no
   soft target, row 2 no label, row 3 no weight. */
static void loss_fill(const struct ops_case *c, struct ops_buffers *b)
{
    int64_t m = c->p[0], v = c->p[1], head = c->p[3], n = head + c->p[4];
    double t = (double)c->spec.temperature;
    int32_t *id = b->i[LOSS_ITEM], *hits = id + m * n, count = 0;
    for (int64_t r = 0; r < m; r++) {
        double z[128], p[128], lse, lse_t, tail = 0.0, entropy = 0.0;
        int64_t order[128], width = c->p[2];
        for (int64_t j = 0; j < v; j++) {
            z[j] = (double)(b->in[LOSS_TEACHER][r * v + j] *= (float)c->sharpness);
            b->in[LOSS_LOGITS][r * width + j] = 0.5f * b->in[LOSS_LOGITS][r * width + j] *
                                                    (float)c->sharpness +
                                                0.5f * (float)z[j];
            order[j] = j;
        }
        lse = ops_lse(z, v, 1.0), lse_t = ops_lse(z, v, t);
        for (int64_t j = 0; j < v; j++) {
            p[j] = z[j] - lse;
            entropy -= exp(p[j]) * p[j];
        }
        for (int64_t j = 0; j < v; j++)
            for (int64_t k = j + 1; k < v; k++)
                if (p[order[k]] > p[order[j]]) {
                    int64_t swap = order[j];
                    order[j] = order[k];
                    order[k] = swap;
                }
        for (int64_t j = head; j < v; j++)
            tail += exp(z[order[j]] / t - lse_t);
        b->i[LOSS_OFFSET][r] = count;
        b->i[LOSS_HEAD][r] = r == 1 ? 0 : (int32_t)head;
        for (int64_t j = 0; j < n && r != 1; j++, count++) {
            id[count] = (int32_t)order[j];
            hits[count] = j < head ? 0 : (int32_t)(1 + j % 3);
            b->in[LOSS_LOGP][count] = j < head ? (float)p[order[j]] : 0.0f;
        }
        b->in[LOSS_TAIL][r] = (float)log(tail);
        b->in[LOSS_ENTROPY][r] = (float)entropy;
        b->in[LOSS_LOGZ][r] = (float)(lse_t - lse / t);
        b->in[LOSS_WEIGHT][r] = r == 3 ? 0.0f : 1.0f + 0.25f * (float)(r % 3);
        b->i[LOSS_LABEL][r] = r == 2 ? -1 : (int32_t)(r % 2 ? order[0] : order[v - 1]);
        loss_fill_policy(c, b, r);
        b->dout[0][r] = LOSS_SCALE * b->in[LOSS_WEIGHT][r];
        for (int64_t k = 0; k < RT_LOSS_COLUMNS; k++)
            b->dout[1][r * RT_LOSS_COLUMNS + k] = 0.0f;
    }
    b->i[LOSS_OFFSET][m] = count;
}

static void loss_run(rt_dev *d, const struct ops_case *c, struct ops_buffers *b)
{
    int64_t m = c->p[0], items = m * (c->p[3] + c->p[4]);
    rt_tensor logits = rt_tensor_2(b->in[LOSS_LOGITS], RT_F32, m, c->p[2]), work = logits;
    rt_tensor stats = rt_tensor_2(b->out[1], RT_F32, m, RT_LOSS_COLUMNS);
    rt_targets t = {
        .label = rt_tensor_1(b->i[LOSS_LABEL], RT_I32, m),
        .weight = rt_tensor_1(b->in[LOSS_WEIGHT], RT_F32, m),
        .offset = rt_tensor_1(b->i[LOSS_OFFSET], RT_I32, m + 1),
        .head_n = rt_tensor_1(b->i[LOSS_HEAD], RT_I32, m),
        .id = rt_tensor_1(b->i[LOSS_ITEM], RT_I32, items),
        .logp = rt_tensor_1(b->in[LOSS_LOGP], RT_F32, items),
        .hits = rt_tensor_1(b->i[LOSS_ITEM] + items, RT_I32, items),
        .tail = rt_tensor_1(b->in[LOSS_TAIL], RT_F32, m),
        .entropy = rt_tensor_1(b->in[LOSS_ENTROPY], RT_F32, m),
        .logz = rt_tensor_1(b->in[LOSS_LOGZ], RT_F32, m),
        .old_logp = rt_tensor_1(b->in[LOSS_OLD], RT_F32, m),
        .advantage = rt_tensor_1(b->in[LOSS_ADVANTAGE], RT_F32, m),
        .reference = rt_tensor_2(b->in[LOSS_REFERENCE], RT_F32, m, c->p[2]),
    };
    if (!c->p[5]) {
        work.data = b->din[LOSS_LOGITS];
        rt_copy(d, &work, &logits);
    }
    rt_loss(d, &stats, &work, &t, &c->spec, c->p[1], LOSS_SCALE, !c->p[5]);
    rt_tensor total = rt_tensor_3(b->out[0], RT_F32, m, 1, 1);
    rt_tensor columns = rt_tensor_3(b->out[1], RT_F32, m, 1, RT_LOSS_COLUMNS);
    rt_copy_columns(d, &total, 0, &columns, RT_LOSS_TOTAL, 1);
}

/* x log(x/y) with a floor of e^-69 under both logarithms; 0 at x = 0 */
static double loss_term(double x, double lx, double ly) { return x > 0.0 ? x * (lx - ly) : 0.0; }

/* all but drawn and renorm of one outcome */
static double loss_outcome(const rt_loss_spec *s, double lp, double lq)
{
    double a = (double)s->skew_alpha;
    double skew = (double)s->skew * loss_term(exp(lp), lp, log(a * exp(lp) + (1.0 - a) * exp(lq))) +
                  (double)s->skew_reverse *
                      loss_term(exp(lq), lq, log(a * exp(lq) + (1.0 - a) * exp(lp))) +
                  (double)s->tvd * fabs(exp(lp) - exp(lq)) / 2.0;
    double b = (double)s->jsd_beta, p = exp(lp), q = exp(lq), lm = log(b * p + (1.0 - b) * q);
    return skew + (double)s->bucket * loss_term(p, lp, lq) + (double)s->reverse * loss_term(q, lq, lp) +
           (double)s->jsd * (b * loss_term(p, lp, lm) + (1.0 - b) * loss_term(q, lq, lm));
}

static void loss_reference(const struct ops_case *c, double *const *in, int32_t *const *i,
                           double **out)
{
    int64_t m = c->p[0], v = c->p[1];
    const rt_loss_spec *s = &c->spec;
    double t = (double)s->temperature;
    for (int64_t r = 0; r < m; r++) {
        const double *z = in[LOSS_LOGITS] + r * c->p[2];
        double *stats = out[1] + r * RT_LOSS_COLUMNS, ce = 0.0, kl = 0.0, value = 0.0, mass = 0.0;
        double lse = ops_lse(z, v, 1.0), lse_t = ops_lse(z, v, t), entropy = 0.0, renorm = 0.0;
        int32_t first = i[LOSS_OFFSET][r], end = i[LOSS_OFFSET][r + 1], label = i[LOSS_LABEL][r];
        bool listed[128] = { false };
        int64_t top = -1; /* the teacher's own */
        for (int64_t j = 0; j < v; j++)
            top = top < 0 || in[LOSS_TEACHER][r * v + j] > in[LOSS_TEACHER][r * v + top] ? j : top;
        for (int64_t j = 0; j < v; j++)
            entropy -= exp(z[j] - lse) * (z[j] - lse);
        for (int32_t k = first; k < end; k++) {
            int32_t id = i[LOSS_ITEM][k], hits = i[LOSS_ITEM][k + m * (c->p[3] + c->p[4])];
            double lp = in[LOSS_LOGP][k] / t - in[LOSS_LOGZ][r], lq = z[id] / t - lse_t;
            kl -= (hits ? hits * (double)s->tail_spacing : exp(in[LOSS_LOGP][k])) * (z[id] - lse);
            if (hits)
                continue;
            listed[id] = true;
            mass += exp(lp);
            renorm += exp(lp) * (lp - lq);
            value += loss_outcome(s, lp, lq);
        }
        if (end > first) {
            double tail[128], lt;
            int64_t n = 0;
            for (int64_t j = 0; j < v; j++)
                if (!listed[j])
                    tail[n++] = z[j];
            kl -= in[LOSS_ENTROPY][r];
            value += (double)s->renorm * (renorm / mass - log(mass));
            lt = n ? ops_lse(tail, n, t) - lse_t : 0.0;
            value += n ? loss_outcome(s, in[LOSS_TAIL][r], lt) : 0.0;
        }
        if (label >= 0)
            ce = lse - z[label];
        double apart = 0.0, policy = 0.0, u = exp(-ce - in[LOSS_OLD][r]), a = in[LOSS_ADVANTAGE][r];
        const double *ref = in[LOSS_REFERENCE] + r * c->p[2];
        double bounded = fmin(fmax(u, 1.0 - (double)s->clip_low), 1.0 + (double)s->clip_high);
        for (int64_t j = 0; s->reference != 0.0f && j < v; j++)
            apart += exp(z[j] - lse) * (z[j] - lse - ref[j] + ops_lse(ref, v, 1.0));
        if (label >= 0)
            policy = -(double)s->policy * fmin(u * a, bounded * a);
        stats[RT_LOSS_TOTAL] = (double)s->ce * ce + (double)s->drawn * kl + t * t * value +
                               (double)s->reference * apart + policy;
        stats[RT_LOSS_REFERENCE] = apart;
        stats[RT_LOSS_CE] = ce;
        stats[RT_LOSS_KL] = kl;
        stats[RT_LOSS_ENTROPY] = entropy;
        stats[RT_LOSS_CORRECT] = label >= 0 && ops_argmax(z, v) == label;
        stats[RT_LOSS_LSE] = lse;
        stats[RT_LOSS_CONFIDENCE] = exp(z[ops_argmax(z, v)] - lse);
        stats[RT_LOSS_AGREE] = end > first && ops_argmax(z, v) == top;
        out[0][r] = stats[RT_LOSS_TOTAL];
    }
}

static const struct ops_kind kind_loss = { loss_shape, loss_fill, loss_run, loss_reference };

#endif
