/* test_sample.c: tokens chosen from logits: draws against exact probabilities (chi-square), kept
   sets of top-k, top-p and min-p, ties, large vocabularies. */
#include "tests/head_rows.h"
#include "tests/suite.h"

/* p after temperature, top-k, top-p and min-p: zero outside the kept set */
static void kept(double *p, const float *z, int64_t n, const rt_sampling *s)
{
    softmax(p, z, n, (double)s->temperature);
    struct ranked *r = rank_all(p, n);
    int64_t k = s->top_k > 0 && s->top_k < n ? s->top_k : n, m = 0;
    double mass = 0.0, sum = 0.0;
    for (int64_t i = 0; i < k; i++)
        mass += r[i].p;
    while (m < k && (m == 0 || s->top_p >= 1.0f || sum < (double)s->top_p * mass))
        sum += r[m++].p;
    while (m > 1 && r[m - 1].p < (double)s->min_p * r[0].p)
        sum -= r[--m].p;
    for (int64_t i = 0; i < n; i++)
        p[r[i].id] = i < m ? r[i].p / sum : 0.0;
    free(r);
}

/* --- samples ------------------------------------------------------------------------------------
 */

/* m draws from one row of logits: alone at first, then ever more of them together, because a device
   that waits and guards its memory takes longer for a call than for its rows. */
static void draw(rt_dev *d, int32_t *token, const float *z, int64_t v, int64_t m,
                 const rt_sampling *s, uint64_t seed)
{
    int64_t most = rt_max(1, rt_min(m, (1 << 20) / v));
    rt_tensor all = new_rows(RT_F32, most, v);
    for (int64_t r = 0; r < most; r++)
        memcpy(rt_f32(&all) + r * v, z, (size_t)v * sizeof *z);
    for (int64_t at = 0, n = 1; at < m; at += n, n = rt_min(rt_min(2 * n, most), m - at)) {
        struct counters c = new_counters(n, seed, (int32_t)at);
        rt_tensor t = rt_tensor_1(token + at, RT_I32, n), logits = rt_tensor_rows(&all, 0, n);
        sample_rows(d, &t, &logits, &c, s, v);
        free_counters(&c);
    }
    free(all.data);
}

/* Pearson's statistic over classes of at least 5 expected draws; the rest is pooled. */
static double chi_square(const int32_t *token, int64_t m, const double *p, int64_t n, int *freedom)
{
    double *count = calloc((size_t)n, sizeof *count), sum = 0.0, rare = 0.0, rare_p = 0.0;
    for (int64_t r = 0; r < m; r++)
        count[token[r]]++;
    *freedom = -1;
    for (int64_t i = 0; i < n; i++) {
        double e = p[i] * (double)m;
        if (p[i] == 0.0 && count[i] > 0.0)
            ck_abort_msg("token %lld was drawn, but is not in the kept set", (long long)i);
        if (e < 5.0) {
            rare += count[i];
            rare_p += p[i];
            continue;
        }
        sum += (count[i] - e) * (count[i] - e) / e;
        ++*freedom;
    }
    if (rare_p * (double)m >= 5.0) {
        sum += pow(rare - rare_p * (double)m, 2.0) / (rare_p * (double)m);
        ++*freedom;
    }
    free(count);
    return sum;
}

static const rt_sampling samplings[] = {
    { 1.0f, 1.0f, 0, 0 },     { 0.6f, 1.0f, 0, 0 },    { 1.7f, 1.0f, 0, 0 },
    { 1.0f, 0.9f, 0, 0 },     { 0.8f, 0.5f, 0, 0 },    { 1.0f, 0.01f, 0, 0 },
    { 1.0f, 1.0f, 5, 0 },     { 1.3f, 0.8f, 20, 0 },   { 1.0f, 0.999f, 0, 0 },
    { 2.0f, 0.3f, 7, 0 },     { 1.0f, 1.0f, 500, 0 },  { 1.0f, 1.0f, 0, 0.1f },
    { 0.7f, 1.0f, 0, 0.02f }, { 1.5f, 0.9f, 0, 0.2f }, { 1.5f, 0.7f, 30, 0.15f },
    { 2.0f, 1.0f, 12, 0.3f }, { 1.0f, 1.0f, 0, 1.0f }, { 0.0f, 0.5f, 3, 0.5f },
};

START_TEST(samples_follow_the_distribution)
{
    enum { M = 20000 };
    const rt_sampling *s = &samplings[_i];
    float z[SMALL];
    double p[SMALL];
    static int32_t token[M];
    rt_dev *d;
    int freedom;
    for (int64_t i = 0; i < SMALL; i++)
        z[i] = 2.5f * bell(7, (uint64_t)i);
    ck_assert(open_device(&d, NULL, 1));
    draw(d, token, z, SMALL, M, s, 40 + (uint64_t)_i);
    if (s->temperature == 0.0f) {
        softmax(p, z, SMALL, 1.0);
        struct ranked *r = rank_all(p, SMALL);
        for (int64_t i = 0; i < M; i++)
            ck_assert_int_eq(token[i], r[0].id);
        free(r);
    } else {
        kept(p, z, SMALL, s);
        double x = chi_square(token, M, p, SMALL, &freedom);
        /* mean f, deviation sqrt(2 f): 4 deviations and the skew of few classes */
        if (freedom > 0 && x > freedom + 4.0 * sqrt(2.0 * freedom) + 6.0)
            ck_abort_msg("sampling %d: chi-square %.1f for %d degrees of freedom", _i, x, freedom);
    }
    rt_dev_close(d);
}
END_TEST

/* Over many random rows every token of the set turns up or could, none outside does. */
START_TEST(kept_sets)
{
    rt_dev *d;
    ck_assert(open_device(&d, NULL, 1));
    for (uint64_t row = 0; row < 400; row++) {
        float z[31];
        double p[31];
        int32_t token[40];
        int freedom;
        rt_sampling s = samplings[row % (RT_COUNT(samplings) - 1)];
        for (uint64_t i = 0; i < 31; i++)
            z[i] = 3.0f * bell(row + 1000, i);
        kept(p, z, 31, &s);
        draw(d, token, z, 31, 40, &s, row);
        chi_square(token, 40, p, 31, &freedom); /* aborts on a token outside */
    }
    rt_dev_close(d);
}
END_TEST

/* Equal logits: lowest ids first, in the kept set and in the greedy choice. */
START_TEST(ties)
{
    enum { V = 40, M = 3000 };
    float z[V];
    int32_t token[M];
    rt_dev *d;
    const struct {
        rt_sampling s;
        int kept;
    } rows[] = { { { 0.0f, 1.0f, 0, 0 }, 1 },   { { 1.0f, 1.0f, 7, 0 }, 7 },
                 { { 1.0f, 0.24f, 0, 0 }, 10 }, { { 1.0f, 0.25f, 0, 0 }, 10 },
                 { { 1.0f, 0.5f, 8, 0 }, 4 },   { { 3.0f, 1e-9f, 0, 0 }, 1 },
                 { { 1.0f, 1.0f, 7, 1.0f }, 7 } };
    ck_assert(open_device(&d, NULL, 1));
    for (int i = 0; i < V; i++)
        z[i] = -2.5f;
    for (int k = 0; k < RT_COUNT(rows); k++) {
        bool seen[V] = { false };
        draw(d, token, z, V, M, &rows[k].s, 5);
        for (int i = 0; i < M; i++)
            seen[token[i]] = true;
        for (int i = 0; i < V; i++)
            if (seen[i] != (i < rows[k].kept))
                ck_abort_msg("row %d: id %d is %s", k, i, seen[i] ? "drawn" : "never drawn");
    }
    z[11] = z[30] = 4.0f;
    draw(d, token, z, V, 1, &rows[0].s, 5);
    ck_assert_int_eq(token[0], 11);
    rt_dev_close(d);
}
END_TEST

/* A large vocabulary, flat and steep: the share of 16 ranges of ids. */
START_TEST(samples_of_a_large_vocabulary)
{
    enum { M = 1500, RANGES = 16 };
    float *z = take(LARGE);
    double *p = calloc(LARGE, sizeof *p), range[RANGES] = { 0 };
    int32_t token[M];
    rt_dev *d;
    int freedom;
    rt_sampling s = { 1.0f, _i == 1 ? 0.9f : 1.0f, 0, _i == 2 ? 0.01f : 0 };
    int64_t m = _i == 1 ? 300 : M;
    for (int64_t i = 0; i < LARGE; i++)
        z[i] = (_i == 2 ? 6.0f : 0.1f) * bell(3, (uint64_t)i);
    kept(p, z, LARGE, &s);
    ck_assert(open_device(&d, NULL, 1));
    draw(d, token, z, LARGE, m, &s, 9);
    for (int64_t i = 0; i < LARGE; i++)
        range[i * RANGES / LARGE] += p[i];
    for (int64_t i = 0; i < m; i++) {
        ck_assert(p[token[i]] > 0.0);
        token[i] = (int32_t)((int64_t)token[i] * RANGES / LARGE);
    }
    double x = chi_square(token, m, range, RANGES, &freedom);
    ck_assert_msg(x < 45.0, "chi-square %.1f for %d degrees of freedom", x, freedom);
    rt_dev_close(d);
    free(z), free(p);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { samples_follow_the_distribution, RT_COUNT(samplings) },
                                 { kept_sets, 1 },
                                 { ties, 1 },
                                 { samples_of_a_large_vocabulary, 3 } };
    return suite_run("sample", NULL, tests, RT_COUNT(tests));
}
