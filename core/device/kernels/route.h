/* route.h: team kernels of the router of a mixture of experts: choice, its gradient, the sort of
   choices by expert, the weighted return, and the bias that balances load. Policies: softmax and
   sigmoid scoring, selection bias, group-limited choice (DeepSeek-V3 report, section 2.1.2).
   Contract: core/device/ops.h. */
#ifndef RT_KERNELS_ROUTE_H
#define RT_KERNELS_ROUTE_H

#include "core/device/kernels/team.h"

struct rt_args_route_forward {
    rt_tensor idx, weight, score, logits, bias; /* (N,A) (N,A) (N,E) (N,E) (E, data NULL = none) */
    rt_route_policy p;
};

TEAM_FN void route_score(float *score, const float *logits, int64_t experts, rt_router scoring)
{
    if (scoring == RT_ROUTE_SIGMOID) {
        for (int64_t e = team_rank(); e < experts; e += team_size())
            score[e] = rt_sigmoidf(logits[e]);
        return;
    }
    float max = team_max(logits, experts);
    for (int64_t e = team_rank(); e < experts; e += team_size())
        score[e] = rt_expf(logits[e] - max);
    float inverse = 1.0f / team_sum(score, experts);
    for (int64_t e = team_rank(); e < experts; e += team_size())
        score[e] *= inverse;
}

/* The best choice of a group, plus the second best under sigmoid scoring. One rank alone. */
TEAM_FN float route_group_score(const float *choice, int64_t size, rt_router scoring)
{
    float best = -INFINITY, second = -INFINITY;
    for (int64_t e = 0; e < size; e++) {
        float low = choice[e] > best ? best : choice[e];
        best = choice[e] > best ? choice[e] : best;
        second = low > second ? low : second;
    }
    return scoring == RT_ROUTE_SIGMOID && size > 1 ? best + second : best;
}

/* Choices outside the best groups become -inf (never 0: a kept choice may be negative). */
TEAM_FN void route_keep_groups(float *choice, const rt_route_policy *p)
{
    TEAM_SHARED(float, group, RT_EXPERTS_MAX);
    TEAM_SHARED(uint8_t, kept, RT_EXPERTS_MAX);
    int64_t size = p->experts / p->groups;
    for (int64_t g = team_rank(); g < p->groups; g += team_size()) {
        group[g] = route_group_score(choice + g * size, size, p->scoring);
        kept[g] = 0;
    }
    team_sync();
    for (int64_t k = 0; k < p->groups_kept; k++) {
        int64_t g = team_find(group, p->groups, team_max(group, p->groups));
        team_sync();
        if (team_rank() == 0 && g < p->groups) {
            kept[g] = 1;
            group[g] = -INFINITY;
        }
        team_sync();
    }
    for (int64_t e = team_rank(); e < p->experts; e += team_size())
        choice[e] = kept[e / size] ? choice[e] : -INFINITY;
    team_sync();
}

/* unit: row */
TEAM_FN void rt_route_forward_unit(const struct rt_args_route_forward *a, int64_t unit,
                                   float *scratch)
{
    TEAM_SHARED(float, choice, RT_EXPERTS_MAX);
    int64_t experts = a->p.experts, active = a->p.active;
    float *score = team_row(&a->score, unit, experts), *weight = team_row(&a->weight, unit, active);
    int32_t *idx = team_i32(&a->idx) + unit * active;
    const float *bias = team_f32(&a->bias);
    (void)scratch;
    team_sync();
    route_score(score, team_row(&a->logits, unit, experts), experts, a->p.scoring);
    for (int64_t e = team_rank(); e < experts; e += team_size())
        choice[e] = bias ? score[e] + bias[e] : score[e];
    team_sync();
    if (a->p.groups > 1 && a->p.groups_kept < a->p.groups)
        route_keep_groups(choice, &a->p);
    for (int64_t k = 0; k < active; k++) {
        int64_t e = team_find(choice, experts, team_max(choice, experts));
        e = rt_min(e, experts - 1); /* only NaN is not found: keep it in range, weights carry it */
        team_sync();
        if (team_rank() == 0) {
            idx[k] = (int32_t)e;
            weight[k] = score[e];
            choice[e] = -INFINITY;
        }
        team_sync();
    }
    if (team_rank() == 0) {
        float sum = 0.0f;
        for (int64_t k = 0; k < active; k++)
            sum += weight[k];
        float factor = a->p.normalize ? a->p.scale / (sum + 1e-20f) : a->p.scale;
        for (int64_t k = 0; k < active; k++)
            weight[k] *= factor;
    }
}

struct rt_args_route_backward {
    rt_tensor dlogits, dweight, idx, weight, score; /* (N,E) (N,A) (N,A) (N,A) (N,E) */
    rt_route_policy p;
};

/* unit: row. d score[k] = scale dweight[k], or with normalisation by D = sum + 1e-20
   (scale dweight[k] - sum_j dweight[j] weight[j]) / D; then through softmax or sigmoid. */
TEAM_FN void rt_route_backward_unit(const struct rt_args_route_backward *a, int64_t unit,
                                    float *scratch)
{
    int64_t experts = a->p.experts, active = a->p.active;
    float *dlogits = team_row(&a->dlogits, unit, experts);
    const float *score = team_row(&a->score, unit, experts);
    const float *dweight = team_row(&a->dweight, unit, active);
    const float *weight = team_row(&a->weight, unit, active);
    const int32_t *idx = team_i32(&a->idx) + unit * active;
    float sum = 0.0f, back = 0.0f, mean = 0.0f;
    (void)scratch;
    for (int64_t k = 0; k < active; k++) {
        sum += score[idx[k]];
        back = fmaf(dweight[k], weight[k], back);
    }
    sum = a->p.normalize ? sum + 1e-20f : 1.0f;
    back = a->p.normalize ? back : 0.0f;
    if (a->p.scoring == RT_ROUTE_SOFTMAX)
        for (int64_t k = 0; k < active; k++)
            mean = fmaf(fmaf(a->p.scale, dweight[k], -back) / sum, score[idx[k]], mean);
    for (int64_t e = team_rank(); e < experts; e += team_size())
        dlogits[e] = -mean * score[e];
    team_sync();
    for (int64_t k = team_rank(); k < active; k += team_size()) {
        float s = score[idx[k]], ds = fmaf(a->p.scale, dweight[k], -back) / sum;
        dlogits[idx[k]] += a->p.scoring == RT_ROUTE_SIGMOID ? ds * s * (1.0f - s) : ds * s;
    }
}

/* A counting sort in three kernels: runs of choices are counted apart, the counts become places,
   each run goes to its own. So choices keep their order inside an expert. */
enum { RT_SORT_RUN = 512 };

struct rt_args_route_sort {
    rt_tensor offset, row, slot, idx; /* (E+1) (N*A) (N,A) (N,A) */
    int32_t *count;                   /* (runs,E): then where an expert's choices of a run begin */
    int64_t run, runs;
};

/* A rank has experts to itself: the choices of others are not its. */
TEAM_FN void route_mine(const struct rt_args_route_sort *a, int64_t *low, int64_t *high)
{
    int64_t experts = a->offset.dim[0] - 1;
    *low = experts * team_rank() / team_size();
    *high = experts * (team_rank() + 1) / team_size();
}

/* unit: run */
TEAM_FN void rt_route_count_unit(const struct rt_args_route_sort *a, int64_t unit, float *scratch)
{
    int64_t low, high, end = rt_min((unit + 1) * a->run, team_elements(&a->idx));
    const int32_t *__restrict__ idx = team_i32(&a->idx);
    int32_t *__restrict__ count = a->count + unit * (a->offset.dim[0] - 1);
    (void)scratch;
    route_mine(a, &low, &high);
    for (int64_t e = low; e < high; e++)
        count[e] = 0;
    for (int64_t i = unit * a->run; i < end; i++)
        if (idx[i] >= low && idx[i] < high)
            count[idx[i]]++;
}

/* unit: all runs. The one run of a single count may lie where the offsets go. */
TEAM_FN void rt_route_offsets_unit(const struct rt_args_route_sort *a, int64_t unit, float *scratch)
{
    TEAM_SHARED(int32_t, begin, RT_EXPERTS_MAX);
    int64_t low, high, experts = a->offset.dim[0] - 1;
    int32_t *offset = team_i32(&a->offset), *count = a->count;
    (void)unit, (void)scratch;
    route_mine(a, &low, &high);
    for (int64_t e = low; e < high; e++) {
        int32_t n = 0;
        for (int64_t b = 0; b < a->runs; b++)
            n += count[b * experts + e];
        begin[e] = n;
    }
    team_sync();
    if (team_rank() == 0) {
        int32_t total = 0;
        for (int64_t e = 0; e < experts; e++) {
            int32_t n = begin[e];
            begin[e] = offset[e] = total;
            total += n;
        }
        offset[experts] = total;
    }
    team_sync();
    for (int64_t e = low; e < high; e++) {
        int32_t at = begin[e];
        for (int64_t b = 0; b < a->runs; b++) {
            int32_t n = count[b * experts + e];
            count[b * experts + e] = at;
            at += n;
        }
    }
}

/* unit: run */
TEAM_FN void rt_route_place_unit(const struct rt_args_route_sort *a, int64_t unit, float *scratch)
{
    TEAM_SHARED(int32_t, at, RT_EXPERTS_MAX);
    int64_t low, high, experts = a->offset.dim[0] - 1, active = a->idx.dim[1];
    int64_t end = rt_min((unit + 1) * a->run, team_elements(&a->idx));
    const int32_t *__restrict__ idx = team_i32(&a->idx);
    int32_t *__restrict__ row = team_i32(&a->row), *__restrict__ slot = team_i32(&a->slot);
    (void)scratch;
    route_mine(a, &low, &high);
    for (int64_t e = low; e < high; e++)
        at[e] = a->count[unit * experts + e];
    for (int64_t i = unit * a->run; i < end; i++)
        if (idx[i] >= low && idx[i] < high) {
            int32_t s = at[idx[i]]++;
            slot[i] = s;
            row[s] = (int32_t)(i / active);
        }
}

struct rt_args_route_balance {
    rt_tensor bias, load; /* (E) (E) */
    float rate;
};

/* unit: all experts */
TEAM_FN void rt_route_balance_unit(const struct rt_args_route_balance *a, int64_t unit,
                                   float *scratch)
{
    int64_t experts = a->bias.dim[0];
    float *bias = team_f32(&a->bias);
    const float *load = team_f32(&a->load);
    float mean = team_sum(load, experts) / (float)experts;
    (void)unit, (void)scratch;
    for (int64_t e = team_rank(); e < experts; e += team_size())
        bias[e] += load[e] < mean ? a->rate : load[e] > mean ? -a->rate : 0.0f;
}

struct rt_args_route_load {
    rt_tensor load, offset; /* (E) (E+1) */
};

/* unit: all experts */
TEAM_FN void rt_route_load_unit(const struct rt_args_route_load *a, int64_t unit, float *scratch)
{
    float *load = team_f32(&a->load);
    const int32_t *offset = team_i32(&a->offset);
    (void)unit, (void)scratch;
    for (int64_t e = team_rank(); e < a->load.dim[0]; e += team_size())
        load[e] += (float)(offset[e + 1] - offset[e]);
}

struct rt_args_combine_forward {
    rt_tensor y, ys, slot, weight; /* (N,C) (N*A,C) (N,A) (N,A) */
};

/* unit: row; y continues as a chain of fused multiply-adds over ascending choices */
TEAM_FN void rt_combine_forward_unit(const struct rt_args_combine_forward *a, int64_t unit,
                                     float *scratch)
{
    int64_t c = a->y.dim[1], active = a->slot.dim[1];
    const int32_t *slot = team_i32(&a->slot) + unit * active;
    const float *weight = team_f32(&a->weight) + unit * active;
    act *__restrict__ y = act_row(&a->y, unit, c);
    (void)scratch;
    for (int64_t i = lanes_first(); i < c; i += lanes_step()) {
        lanes sum = lanes_load(y + i, c - i, 0.0f);
        for (int64_t k = 0; k < active; k++)
            sum = lanes_fma(lanes_set(weight[k]),
                            lanes_load(act_row(&a->ys, slot[k], c) + i, c - i, 0.0f), sum);
        lanes_store(y + i, sum, c - i);
    }
}

struct rt_args_combine_backward {
    rt_tensor dys, dweight, dy, ys, slot, weight; /* (N*A,C) (N,A) (N,C) (N*A,C) (N,A) (N,A) */
};

/* unit: row; a slot belongs to one choice, so rows never write the same slot */
TEAM_FN void rt_combine_backward_unit(const struct rt_args_combine_backward *a, int64_t unit,
                                      float *scratch)
{
    int64_t c = a->dy.dim[1], active = a->slot.dim[1];
    const act *__restrict__ dy = act_row(&a->dy, unit, c);
    (void)scratch;
    for (int64_t k = 0; k < active; k++) {
        int64_t slot = team_i32(&a->slot)[unit * active + k];
        act *__restrict__ dys = act_row(&a->dys, slot, c);
        float w = team_f32(&a->weight)[unit * active + k];
        float dot = team_dot(dy, act_row(&a->ys, slot, c), c);
        if (team_rank() == 0)
            team_f32(&a->dweight)[unit * active + k] = dot;
        for (int64_t i = team_rank(); i < c; i += team_size())
            dys[i] = w * dy[i];
    }
}

#endif
