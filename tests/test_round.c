/* test_round.c: what a round tells of one position (distill/round.h) against f64 over the whole
   vocabulary: overlap of the two heads, KL on the student's head and tail, entropies. */
#include "distill/round.h"
#include "tests/head_rows.h"
#include "tests/suite.h"

static int by_id(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* One captured row as soft targets, ids ascending. */
static void add_row(rt_soft *s, const rt_capture *o)
{
    struct ranked item[RT_SOFT_HEAD_MAX];
    int32_t n = rt_i32(&o->head_n)[0];
    for (int32_t i = 0; i < n; i++)
        item[i] = (struct ranked){ (double)rt_f32(&o->head_logp)[i], rt_i32(&o->head_id)[i] };
    qsort(item, (size_t)n, sizeof *item, by_id);
    int64_t row = rt_soft_add_row(s, n, 0);
    s->head_n[row] = n;
    for (int32_t i = 0; i < n; i++) {
        s->id[s->offset[row] + i] = item[i].id;
        s->logp[s->offset[row] + i] = (float)item[i].p;
        s->hits[s->offset[row] + i] = 0;
    }
    s->tail_logmass[row] = rt_f32(&o->tail)[0];
    s->entropy[row] = rt_f32(&o->entropy)[0];
    s->taken_logp[row] = rt_f32(&o->taken)[0];
}

/* How many of the most probable make a head: the rule of soft.h. */
static int head_of(const struct ranked *r, int most, double floor)
{
    int n = 0;
    for (double left = 1; n < most && (n == 0 || left >= floor); n++)
        left -= r[n].p;
    return n;
}

static const struct {
    float scale, apart; /* of both; how far the student is from the teacher */
    int own, top;
    float floor;
} cases[] = { { 3, 0.5f, 8, 16, 0.001f }, { 3, 3, 8, 16, 0.001f }, { 0.5f, 0.5f, 4, 8, 0.01f },
              { 9, 4, 8, 16, 0.001f },    { 9, 9, 3, 5, 0 },       { 3, 0, 8, 8, 0.001f } };

START_TEST(views_against_f64)
{
    enum { V = SMALL, TOKEN = 7 };
    float z[V], y[V];
    double p[V], q[V], h_p = 0, h_q = 0, kl = 0, p_out = 1, q_out = 1;
    bool in_p[V] = { 0 }, in_q[V] = { 0 };
    int both = 0, either = 0;
    rt_soft_config student = { .head_max = cases[_i].top, .head_floor = cases[_i].floor };
    rt_soft_config teacher = { .head_max = cases[_i].own + cases[_i].top,
                               .head_floor = cases[_i].floor,
                               .listed = cases[_i].top };
    rt_dev *d;
    ck_assert(open_device(&d, NULL, 1));
    for (int i = 0; i < V; i++) {
        z[i] = cases[_i].scale * bell(1, (uint64_t)i);
        y[i] = z[i] + cases[_i].apart * bell(2, (uint64_t)i);
    }
    softmax(p, z, V, 1.0);
    softmax(q, y, V, 1.0);
    struct ranked *rp = rank_all(p, V), *rq = rank_all(q, V);
    for (int i = 0, n = head_of(rp, cases[_i].own, (double)cases[_i].floor); i < n; i++)
        in_p[rp[i].id] = true;
    for (int i = 0, n = head_of(rq, cases[_i].top, (double)cases[_i].floor); i < n; i++)
        in_q[rq[i].id] = true;
    for (int i = 0; i < V; i++) {
        h_p -= p[i] * log(p[i]);
        h_q -= q[i] * log(q[i]);
        both += in_p[i] && in_q[i];
        either += in_p[i] || in_q[i];
        if (!in_q[i])
            continue;
        kl += q[i] * log(q[i] / p[i]);
        p_out -= p[i];
        q_out -= q[i];
    }
    kl += q_out * log(q_out / p_out);

    rt_capture own = capture(d, y, 1, V, &student, TOKEN, 1, 1);
    int32_t list[RT_SOFT_HEAD_MAX];
    for (int i = 0; i < cases[_i].top; i++)
        list[i] = i < rt_i32(&own.head_n)[0] ? rt_i32(&own.head_id)[i] : -1;
    rt_capture its = capture_listed(d, z, 1, V, &teacher, TOKEN, 1, 1, list);
    rt_soft s = { 0 }, t = { 0 };
    rt_views v = { 0 };
    add_row(&s, &own);
    add_row(&t, &its);
    rt_round_compare(&v, &t, &teacher, &s, 0);
    ck_assert_double_eq_tol(v.overlap, (double)both / either, 1e-12);
    ck_assert_double_eq_tol(v.kl, kl, 1e-5 * fmax(1, kl));
    ck_assert_double_eq_tol(v.student_entropy, h_q, 1e-5);
    ck_assert_double_eq_tol(v.teacher_entropy, h_p, 1e-5);
    ck_assert_double_eq_tol(v.student_logp, log(q[TOKEN]), 1e-5 * fmax(1, -log(q[TOKEN])));
    ck_assert_double_eq_tol(v.teacher_logp, log(p[TOKEN]), 1e-5 * fmax(1, -log(p[TOKEN])));
    rt_soft_free(&s), rt_soft_free(&t), free_capture(&own), free_capture(&its), free(rp), free(rq);
    rt_dev_close(d);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { views_against_f64, RT_COUNT(cases) } };
    return suite_run("round", NULL, tests, RT_COUNT(tests));
}
