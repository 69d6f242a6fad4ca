/* test_entropy.c: the tokens of a step that are learned by the teacher's entropy, against counting
   for each token how many stand before it. */
#include <math.h>

#include "core/base/rng.h"
#include "distill/entropy.h"
#include "tests/suite.h"

enum { DOCS = 4, LENGTH = 23, ROWS = LENGTH - 3 };

typedef struct world {
    rt_document doc[DOCS];
    rt_trace_span span[DOCS][2];
    float entropy[DOCS][ROWS], before[DOCS][LENGTH];
} world;

/* Soft rows of tokens 3 on, spans [3, 7) and [9, ...); few values, so that some are equal. */
static void make_world(world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < DOCS; i++) {
        rt_document *doc = &w->doc[i];
        *doc = (rt_document){ .n = LENGTH - i, .span = w->span[i], .n_spans = 2, .soft_first = 3 };
        w->span[i][0] = (rt_trace_span){ 3, 7 };
        w->span[i][1] = (rt_trace_span){ 9, LENGTH - i };
        for (int r = 0; r < ROWS; r++)
            w->entropy[i][r] = (float)rt_rng_below(seed, RT_RNG_DATA, (uint64_t)(i * 64 + r), 9) / 4;
        doc->sample.soft.n = ROWS;
        doc->sample.soft.entropy = w->entropy[i];
        if (i == 2) /* one that counts otherwise, and not everywhere */
            for (int t = 0; t < doc->n; t++)
                rt_document_weights(doc)[t] *= t % 5 ? 2 : 0;
        for (int t = 0; t < doc->n; t++)
            w->before[i][t] = rt_document_weights(doc)[t];
    }
}

static bool counts(const world *w, int i, int t) { return w->before[i][t] > 0; }

/* Tokens that come before token t of document i: larger, or equal and earlier. */
static int rank(const world *w, int i, int t)
{
    int n = 0;
    for (int k = 0; k < DOCS; k++)
        for (int u = 3; u < w->doc[k].n; u++) {
            float a = w->entropy[k][u - 3], b = w->entropy[i][t - 3];
            n += counts(w, k, u) && (a > b || (a == b && (k < i || (k == i && u < t))));
        }
    return n;
}

START_TEST(shares)
{
    static const double share[] = { 1e-6, 0.05, 0.2, 0.5, 0.99, 1 }, rest[] = { 0, 0.25 };
    world w;
    for (int k = 0; k < RT_COUNT(share) * 2; k++) {
        int all = 0, kept = 0;
        make_world(&w, (uint64_t)k);
        for (int i = 0; i < DOCS; i++)
            for (int t = 0; t < w.doc[i].n; t++)
                all += counts(&w, i, t);
        rt_entropy_select(w.doc, DOCS, share[k / 2], rest[k % 2]);
        int want = (int)ceil(share[k / 2] * all);
        for (int i = 0; i < DOCS; i++)
            for (int t = 0; t < w.doc[i].n; t++) {
                bool chosen = counts(&w, i, t) && rank(&w, i, t) < want;
                double weight = (double)w.before[i][t] * (chosen ? 1 : rest[k % 2]);
                ck_assert_double_eq_tol((double)w.doc[i].weight[t], weight, 1e-7);
                kept += chosen;
            }
        ck_assert_int_eq(kept, want);
        for (int i = 0; i < DOCS; i++)
            free(w.doc[i].weight);
    }
}
END_TEST

/* 0.07 x 100 is a little more than 7 in f64, and means 7. */
START_TEST(round_shares)
{
    float entropy[100];
    const rt_trace_span span = { 1, 101 };
    rt_document doc = { .n = 101, .span = &span, .n_spans = 1, .soft_first = 1 };
    for (int i = 0; i < 100; i++)
        entropy[i] = (float)i;
    doc.sample.soft.n = 100;
    doc.sample.soft.entropy = entropy;
    rt_entropy_select(&doc, 1, 0.07, 0);
    ck_assert(rt_document_weight(&doc) == 7);
    ck_assert(doc.weight[100] == 1 && doc.weight[94] == 1 && doc.weight[93] == 0);
    free(doc.weight);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { shares, 1 }, { round_shares, 1 } };
    return suite_run("entropy", NULL, tests, RT_COUNT(tests));
}
