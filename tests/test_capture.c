/* test_capture.c: soft targets from logits: against f64 for small, large, flat and nearly certain
   rows, with listed ids and without; systematic draws, and the reason for them: the mean gradient
   over draws is the dense gradient. Same bits for threads, instruction sets and batches, of samples
   too. */
#include "tests/head_rows.h"
#include "tests/suite.h"

enum { RANDOM, FLAT, CERTAIN, EQUAL, CLIFF };

static void make_logits(float *z, int64_t v, int kind)
{
    for (int64_t i = 0; i < v; i++) {
        float b = bell(11 + (uint64_t)kind, (uint64_t)i);
        z[i] = kind == FLAT ? 0.2f * b : kind == EQUAL ? 3.0f : kind == CERTAIN ? b : 4.0f * b;
    }
    if (kind == CERTAIN)
        z[v / 3] = 28.0f + logf((float)v); /* leaves about e^-28 */
    if (kind == CLIFF) /* two ids, the others out of reach of an f32 exponential */
        for (int64_t i = 0; i < v; i++)
            z[i] = i == 3 ? 1.0f : i == 1 ? 0.5f : -150.0f + z[i];
}

static const struct {
    int64_t v;
    int kind;
    rt_soft_config c;
} captures[] = {
    { SMALL, RANDOM, { 16, 0.0f, 0.02f, 2, { 2.0f, 0.5f }, 0 } },
    { SMALL, RANDOM, { 64, 0.05f, 1.0f / RT_SOFT_DRAWS_MAX, 0, { 0 }, 0 } },
    { SMALL, FLAT, { 8, 0.02f, 0.02f, 1, { 3.0f }, 0 } },
    { SMALL, CERTAIN, { 8, 1e-4f, 0.02f, 1, { 2.0f }, 0 } },
    { SMALL, EQUAL, { 5, 0.0f, 1.0f, 1, { 2.0f }, 0 } },
    { SMALL, CLIFF, { 8, 0.0f, 0.02f, 1, { 2.0f }, 0 } },
    { 5, RANDOM, { 64, 0.0f, 0.02f, 0, { 0 }, 0 } },
    { 1, RANDOM, { 4, 0.0f, 0.5f, 0, { 0 }, 0 } },
    { LARGE, RANDOM, { 64, 0.0f, 0.01f, 2, { 2.0f, 1.5f }, 0 } },
    { LARGE, FLAT, { 64, 0.01f, 1.0f / RT_SOFT_DRAWS_MAX, 1, { 2.0f }, 0 } },
    { LARGE, CERTAIN, { 64, 1e-5f, 0.02f, 1, { 2.0f }, 0 } },
    { LARGE, CERTAIN, { 32, 0.0f, 0.02f, 0, { 0 }, 0 } },
};

START_TEST(captures_against_f64)
{
    int64_t v = captures[_i].v;
    const rt_soft_config *c = &captures[_i].c;
    float *z = take(v);
    double *p = calloc((size_t)v, sizeof *p), entropy = 0.0, head = 0.0, tail = 0.0;
    int32_t token = (int32_t)(v / 2);
    rt_dev *d;
    ck_assert(open_device(&d, NULL, 1));
    make_logits(z, v, captures[_i].kind);
    rt_capture o = capture(d, z, 1, v, c, token, 77, 5);
    softmax(p, z, v, 1.0);
    struct ranked *r = rank_all(p, v);
    for (int64_t i = 0; i < v; i++)
        entropy -= p[i] > 0.0 ? p[i] * log(p[i]) : 0.0;

    int32_t n = rt_i32(&o.head_n)[0], draws = rt_i32(&o.draw_n)[0];
    ck_assert(n >= 1 && n <= c->head_max && n <= v);
    for (int64_t i = v - 1; i >= n; i--)
        tail += r[i].p;
    for (int32_t i = 0; i < n; i++) {
        int32_t id = rt_i32(&o.head_id)[i];
        ck_assert_int_eq(id, r[i].id);
        ck_assert_double_eq_tol((double)rt_f32(&o.head_logp)[i], log(r[i].p), 3e-6);
        head += exp((double)rt_f32(&o.head_logp)[i]);
    }
    /* it stopped where it should: full, at the end, or as soon as little was left, not before */
    double floor = (double)c->head_floor;
    ck_assert(n == c->head_max || n == v || tail < floor * (1.0 + 1e-5) || tail < 1e-37);
    ck_assert(n == 1 || tail + r[n - 1].p > floor * (1.0 - 1e-5));

    double got = (double)rt_f32(&o.tail)[0];
    if (tail > 1e-37)
        ck_assert_double_eq_tol(got, log(tail), 5e-6);
    else
        ck_assert(got == -INFINITY);
    ck_assert_double_eq_tol(head + exp(got), 1.0, 1e-6);
    ck_assert_double_eq_tol((double)rt_f32(&o.entropy)[0], entropy, 3e-6 * fmax(1.0, entropy));
    double taken = (double)rt_f32(&o.taken)[0], want = (double)z[token] - (double)z[r[0].id];
    want += log(r[0].p); /* p itself may underflow */
    ck_assert_double_eq_tol(taken, want, 3e-7 * fmax(10.0, fabs(want)));
    for (int32_t k = 0; k < c->n_temperatures; k++) {
        double sum = 0.0, t = (double)c->temperature[k];
        for (int64_t i = 0; i < v; i++)
            sum += pow(p[i], 1.0 / t);
        ck_assert_double_eq_tol((double)rt_f32(&o.logz)[k], log(sum), 3e-6 * fmax(1.0, log(sum)));
    }

    /* draws: ascending, outside the head, and of id j within one of p_j / spacing */
    double *hits = calloc((size_t)v, sizeof *hits), spacing = (double)c->tail_spacing;
    for (int32_t i = 0; i < draws; i++) {
        int32_t id = rt_i32(&o.draw_id)[i];
        ck_assert(i == 0 || id >= rt_i32(&o.draw_id)[i - 1]);
        hits[id]++;
    }
    for (int64_t i = 0; i < v; i++) {
        bool tail_id = i >= n;
        double expected = tail_id ? r[i].p / spacing : 0.0;
        ck_assert_double_lt(fabs(hits[r[i].id] - expected), tail_id ? 1.0 + 1e-6 : 1e-9);
    }
    ck_assert_double_lt(fabs(draws - tail / spacing), 1.0 + 1e-4);
    free(hits), free(r), free(p), free(z), free_capture(&o);
    rt_dev_close(d);
}
END_TEST

/* --- ids that are listed ------------------------------------------------------------------------
 */

static const struct {
    int64_t v;
    int kind;
    rt_soft_config c;
} listings[] = {
    { SMALL, RANDOM, { 24, 0.0f, 0.02f, 2, { 2.0f, 0.5f }, 8 } },
    { SMALL, FLAT, { 12, 0.02f, 0.02f, 0, { 0 }, 8 } },
    { SMALL, CERTAIN, { 16, 1e-4f, 0.02f, 0, { 0 }, 8 } },
    { SMALL, CLIFF, { 16, 0.0f, 0.02f, 0, { 0 }, 8 } },
    { 5, RANDOM, { 9, 0.3f, 0.05f, 0, { 0 }, 8 } },
    { LARGE, RANDOM, { 64, 0.0f, 0.01f, 1, { 2.0f }, 32 } },
    { HUGE_VOCAB, RANDOM, { 40, 0.001f, 0.01f, 0, { 0 }, 32 } },
    { HUGE_VOCAB, FLAT, { 64, 0.01f, 1.0f / RT_SOFT_DRAWS_MAX, 0, { 0 }, 63 } },
};

/* What another model would list: the first and the last id, some all over the vocabulary, the most
   probable ones, one of them twice, and places that are empty. */
static void make_list(int32_t *list, int32_t n, int64_t v, const struct ranked *r)
{
    for (int32_t i = 0; i < n; i++)
        list[i] = i % 4 == 3   ? -1
                  : i % 4 == 2 ? r[(i / 4) % v].id
                  : i == 0     ? (int32_t)(v - 1)
                  : i == 1     ? 0
                               : (int32_t)(rt_rng_u32(5, RT_RNG_DATA, (uint64_t)i) % (uint64_t)v);
    if (n > 4)
        list[4] = list[0];
}

START_TEST(listed_against_f64)
{
    int64_t v = listings[_i].v;
    const rt_soft_config *c = &listings[_i].c;
    rt_soft_config own = *c;
    int32_t list[RT_SOFT_HEAD_MAX];
    float *z = take(v);
    double *p = calloc((size_t)v, sizeof *p), tail = 0.0, head = 0.0;
    bool *taken = calloc((size_t)v, sizeof *taken);
    rt_dev *d;
    ck_assert(open_device(&d, NULL, 1));
    make_logits(z, v, listings[_i].kind);
    softmax(p, z, v, 1.0);
    struct ranked *r = rank_all(p, v);
    make_list(list, c->listed, v, r);
    rt_capture o = capture_listed(d, z, 1, v, c, 0, 77, 5, list);
    own.head_max -= c->listed;
    own.listed = 0;
    rt_capture alone = capture(d, z, 1, v, &own, 0, 77, 5);

    /* its own head is the one it has alone; then what was listed and is not in it, in that order */
    int32_t n = rt_i32(&o.head_n)[0], before = rt_i32(&alone.head_n)[0], at = 0;
    for (; at < before; at++) {
        ck_assert_int_eq(rt_i32(&o.head_id)[at], rt_i32(&alone.head_id)[at]);
        ck_assert(rt_f32(&o.head_logp)[at] == rt_f32(&alone.head_logp)[at]);
        taken[rt_i32(&o.head_id)[at]] = true;
    }
    for (int32_t i = 0; i < c->listed; i++)
        if (list[i] >= 0 && !taken[list[i]]) {
            ck_assert_int_lt(at, n);
            ck_assert_int_eq(rt_i32(&o.head_id)[at++], list[i]);
            taken[list[i]] = true;
        }
    ck_assert_int_eq(at, n);
    for (int32_t i = 0; i < n; i++) {
        int32_t id = rt_i32(&o.head_id)[i];
        double want = ((double)z[id] - (double)z[r[0].id]) + log(r[0].p); /* p may underflow */
        ck_assert_double_eq_tol((double)rt_f32(&o.head_logp)[i], want, 3e-7 * fmax(10, -want));
        head += exp((double)rt_f32(&o.head_logp)[i]);
    }
    for (int64_t i = v - 1; i >= 0; i--)
        tail += taken[r[i].id] ? 0.0 : r[i].p;
    double got = (double)rt_f32(&o.tail)[0];
    if (tail > 1e-37)
        ck_assert_double_eq_tol(got, log(tail), 5e-6);
    else
        ck_assert(got == -INFINITY);
    ck_assert_double_eq_tol(head + exp(got), 1.0, 1e-6);
    ck_assert(rt_f32(&o.entropy)[0] == rt_f32(&alone.entropy)[0]);

    int32_t draws = rt_i32(&o.draw_n)[0];
    for (int32_t i = 0; i < draws; i++) {
        int32_t id = rt_i32(&o.draw_id)[i];
        ck_assert(!taken[id] && (i == 0 || id >= rt_i32(&o.draw_id)[i - 1]));
    }
    ck_assert_double_lt(fabs(draws - tail / (double)c->tail_spacing), 1.0 + 1e-4);
    free(taken), free(r), free(p), free(z), free_capture(&o), free_capture(&alone);
    rt_dev_close(d);
}
END_TEST

/* --- draws and gradients on average -------------------------------------------------------------
 */

/* Targets of m captured rows: head, then distinct drawn ids, as the archive would deliver them. */
static rt_targets targets_of(const rt_capture *o, int64_t m, int32_t label)
{
    int64_t most = m * (o->head_id.dim[1] + o->draw_id.dim[1]), n = 0;
    rt_targets t = { .label = new_i32(m),
                     .weight = new_f32(m),
                     .offset = new_i32(m + 1),
                     .head_n = new_i32(m),
                     .id = new_i32(most),
                     .logp = new_f32(most),
                     .hits = new_i32(most),
                     .tail = new_f32(m),
                     .entropy = new_f32(m),
                     .logz = new_f32(m) };
    for (int64_t r = 0; r < m; r++) {
        const int32_t *draw_id = rt_i32(&o->draw_id) + r * o->draw_id.dim[1];
        rt_i32(&t.label)[r] = label;
        rt_f32(&t.weight)[r] = 1.0f;
        rt_f32(&t.tail)[r] = rt_f32(&o->tail)[r];
        rt_f32(&t.entropy)[r] = rt_f32(&o->entropy)[r];
        rt_i32(&t.head_n)[r] = rt_i32(&o->head_n)[r];
        for (int64_t i = 0; i < rt_i32(&o->head_n)[r]; i++, n++) {
            rt_i32(&t.id)[n] = rt_i32(&o->head_id)[r * o->head_id.dim[1] + i];
            rt_f32(&t.logp)[n] = rt_f32(&o->head_logp)[r * o->head_id.dim[1] + i];
        }
        for (int64_t i = 0; i < rt_i32(&o->draw_n)[r]; i++) {
            if (i > 0 && draw_id[i] == draw_id[i - 1]) {
                rt_i32(&t.hits)[n - 1]++;
                continue;
            }
            rt_i32(&t.id)[n] = draw_id[i];
            rt_i32(&t.hits)[n++] = 1;
        }
        rt_i32(&t.offset)[r + 1] = (int32_t)n;
    }
    return t;
}

enum { TARGETS = 10 };

static void list_targets(rt_targets *t, rt_tensor **list)
{
    rt_tensor *all[TARGETS] = { &t->label, &t->weight, &t->offset, &t->head_n,  &t->id,
                                &t->logp,  &t->hits,   &t->tail,   &t->entropy, &t->logz };
    memcpy(list, all, sizeof all);
}

static void free_targets(rt_targets *t)
{
    rt_tensor *p[TARGETS];
    list_targets(t, p);
    for (int i = 0; i < TARGETS; i++)
        free(p[i]->data);
}

/* Gradient (m, v) and statistics of the same student row against each target. */
static rt_tensor student_gradient(rt_dev *d, rt_tensor *stats, const float *q, int64_t m, int64_t v,
                                  const rt_targets *t, const rt_loss_spec *spec)
{
    rt_tensor z = new_rows(RT_F32, m, v);
    for (int64_t r = 0; r < m; r++)
        memcpy(rt_f32(&z) + r * v, q, (size_t)v * sizeof *q);
    *stats = new_rows(RT_F32, m, RT_LOSS_COLUMNS);
    rt_targets host = *t, there = *t;
    rt_tensor *from[TARGETS], *to[TARGETS], zd = put_tensor(d, &z), sd = put_tensor(d, stats);
    list_targets(&host, from);
    list_targets(&there, to);
    for (int i = 0; i < TARGETS; i++)
        *to[i] = put_tensor(d, from[i]);
    rt_loss(d, &sd, &zd, &there, spec, v, 1.0f, true);
    get_tensor(d, &z, &zd);
    get_tensor(d, stats, &sd);
    for (int i = 0; i < TARGETS; i++)
        drop_tensor(d, to[i]);
    return z;
}

/* Largest |mean - want| in standard errors. `least` is a variance known beforehand: an id that is
   seldom drawn shows none in the sample. */
static double largest_z(const float *x, int64_t m, int64_t v, const double *want,
                        const double *least)
{
    double worst = 0.0;
    for (int64_t j = 0; j < v; j++) {
        double mean = 0.0, square = 0.0;
        for (int64_t r = 0; r < m; r++) {
            mean += (double)x[r * v + j] / (double)m;
            square += (double)x[r * v + j] * (double)x[r * v + j] / (double)m;
        }
        double error = sqrt(fmax(square - mean * mean, least[j]) / (double)m) + 3e-8;
        worst = fmax(worst, fabs(mean - want[j]) / error);
    }
    return worst;
}

START_TEST(mean_gradient_is_dense)
{
    enum { M = 6000 };
    rt_soft_config c = { 6, 0.0f, 0.05f, 0, { 0 }, 0 };
    float z[SMALL], q[SMALL], *all = take((int64_t)M * SMALL);
    double p[SMALL], student[SMALL], want[SMALL], kl = 0.0, mean_kl = 0.0, mean_hits[SMALL];
    double least_hits[SMALL], least[SMALL];
    rt_dev *d;
    ck_assert(open_device(&d, NULL, 2));
    make_logits(z, SMALL, _i == 0 ? RANDOM : FLAT);
    for (int i = 0; i < SMALL; i++)
        q[i] = 0.5f * z[i] + bell(99, (uint64_t)i);
    for (int64_t i = 0; i < (int64_t)M * SMALL; i++)
        all[i] = z[i % SMALL];
    softmax(p, z, SMALL, 1.0);
    softmax(student, q, SMALL, 1.0);
    for (int i = 0; i < SMALL; i++) {
        want[i] = student[i] - p[i];
        kl += p[i] * log(p[i] / student[i]);
    }
    rt_capture o = capture(d, all, M, SMALL, &c, 0, 1234, 0);
    rt_targets t = targets_of(&o, M, -1);

    /* hits: expectation p / spacing for every id of the tail */
    float *hits = take((int64_t)M * SMALL);
    for (int64_t r = 0; r < M; r++)
        for (int32_t k = rt_i32(&t.offset)[r]; k < rt_i32(&t.offset)[r + 1]; k++)
            hits[r * SMALL + rt_i32(&t.id)[k]] = (float)rt_i32(&t.hits)[k];
    for (int i = 0; i < SMALL; i++) {
        double part = p[i] / 0.05 - floor(p[i] / 0.05);
        mean_hits[i] = p[i] / 0.05;
        least_hits[i] = part * (1.0 - part);
        least[i] = 0.05 * 0.05 * least_hits[i];
    }
    for (int i = 0; i < 6; i++) {
        int32_t id = rt_i32(&o.head_id)[i];
        mean_hits[id] = least_hits[id] = least[id] = 0.0;
    }
    ck_assert_double_lt(largest_z(hits, M, SMALL, mean_hits, least_hits), 4.5);

    rt_tensor stats;
    rt_loss_spec drawn = { .drawn = 1.0f, .temperature = 1.0f, .tail_spacing = 0.05f };
    rt_tensor g = student_gradient(d, &stats, q, M, SMALL, &t, &drawn);
    ck_assert_double_lt(largest_z(rt_f32(&g), M, SMALL, want, least), 4.5);
    double square = 0.0;
    for (int64_t r = 0; r < M; r++) {
        double x = (double)rt_f32(&stats)[r * RT_LOSS_COLUMNS + RT_LOSS_KL];
        ck_assert(x == (double)rt_f32(&stats)[r * RT_LOSS_COLUMNS + RT_LOSS_TOTAL]);
        mean_kl += x / M;
        square += x * x / M;
    }
    double error = sqrt(fmax(square - mean_kl * mean_kl, 0.0) / M) + 1e-6;
    ck_assert_msg(fabs(mean_kl - kl) < 4.5 * error, "KL %.6f, mean %.6f +- %.6f", kl, mean_kl,
                  error);
    free(g.data), free(stats.data);

    /* and the test can tell: the renormalised head is biased */
    rt_loss_spec renorm = { .renorm = 1.0f, .temperature = 1.0f, .tail_spacing = 0.05f };
    g = student_gradient(d, &stats, q, M, SMALL, &t, &renorm);
    ck_assert_double_gt(largest_z(rt_f32(&g), M, SMALL, want, least), 100.0);
    free(g.data), free(stats.data), free(all), free(hits);
    free_capture(&o), free_targets(&t);
    rt_dev_close(d);
}
END_TEST

static float head_loss(rt_dev *d, float *gradient, const float *q, int64_t v, const rt_targets *t,
                       const rt_loss_spec *spec)
{
    rt_tensor stats, g = student_gradient(d, &stats, q, 1, v, t, spec);
    float loss = rt_f32(&stats)[RT_LOSS_TOTAL];
    *gradient = 0.0f;
    for (int64_t i = 0; i < v; i++)
        *gradient = fmaxf(*gradient, fabsf(rt_f32(&g)[i]));
    free(g.data), free(stats.data);
    return loss;
}

/* bucket, reverse and jsd: zero with zero gradient where the student is the teacher, above
 * elsewhere */
START_TEST(divergences_vanish_at_the_teacher)
{
    static const rt_loss_spec specs[] = {
        { .bucket = 1.0f, .temperature = 1.0f },
        { .reverse = 1.0f, .temperature = 1.0f },
        { .jsd = 1.0f, .jsd_beta = 0.4f, .temperature = 1.0f },
    };
    float z[SMALL], q[SMALL], gradient;
    rt_soft_config c = { 6, 0.0f, 0.0f, 0, { 0 }, 0 };
    rt_dev *d;
    ck_assert(open_device(&d, NULL, 1));
    for (int kind = RANDOM; kind <= CLIFF; kind++) {
        make_logits(z, SMALL, kind);
        rt_capture o = capture(d, z, 1, SMALL, &c, 0, 1, 1);
        rt_targets t = targets_of(&o, 1, -1);
        float at_teacher = head_loss(d, &gradient, z, SMALL, &t, &specs[_i]);
        ck_assert_msg(fabsf(at_teacher) < 1e-6f && gradient < 1e-6f,
                      "kind %d: loss %g, gradient %g", kind, (double)at_teacher, (double)gradient);
        for (uint64_t k = 0; k < 50; k++) {
            for (int i = 0; i < SMALL; i++)
                q[i] = z[i] + bell(500 + k, (uint64_t)i);
            float loss = head_loss(d, &gradient, q, SMALL, &t, &specs[_i]);
            ck_assert_msg(loss > -1e-6f && isfinite(loss) && isfinite(gradient),
                          "kind %d: loss %g, gradient %g", kind, (double)loss, (double)gradient);
        }
        free_capture(&o), free_targets(&t);
    }
    rt_dev_close(d);
}
END_TEST

/* A student whose mass lies where the teacher's head does not look: reverse KL, JSD and skewed KL on
   head and tail are far off; with the student's ids listed they are those over all ids. */
START_TEST(divergences_where_the_student_is)
{
    static const rt_loss_spec specs[] = {
        { .reverse = 1.0f, .temperature = 1.0f },
        { .jsd = 1.0f, .jsd_beta = 0.5f, .temperature = 1.0f },
        { .skew_reverse = 1.0f, .skew_alpha = 0.1f, .temperature = 1.0f },
        { .skew = 1.0f, .skew_alpha = 0.1f, .temperature = 1.0f },
    };
    float z[SMALL], q[SMALL], unused;
    double p[SMALL], s[SMALL], want = 0.0;
    rt_soft_config own = { 6, 0.0f, 0.0f, 0, { 0 }, 0 }, listed = { 14, 0.0f, 0.0f, 0, { 0 }, 8 };
    int32_t list[8];
    rt_dev *d;
    ck_assert(open_device(&d, NULL, 1));
    make_logits(z, SMALL, RANDOM);
    for (int i = 0; i < SMALL; i++)
        q[i] = 12.0f * bell(77, (uint64_t)i);
    softmax(p, z, SMALL, 1.0);
    softmax(s, q, SMALL, 1.0);
    struct ranked *r = rank_all(s, SMALL);
    for (int i = 0; i < 8; i++)
        list[i] = r[i].id;
    for (int i = 0; i < SMALL; i++) {
        double m = 0.5 * p[i] + 0.5 * s[i];
        want += _i == 0   ? s[i] * log(s[i] / p[i])
                : _i == 1 ? 0.5 * p[i] * log(p[i] / m) + 0.5 * s[i] * log(s[i] / m)
                : _i == 2 ? s[i] * log(s[i] / (0.1 * s[i] + 0.9 * p[i]))
                          : p[i] * log(p[i] / (0.1 * p[i] + 0.9 * s[i]));
    }
    rt_capture with = capture_listed(d, z, 1, SMALL, &listed, 0, 1, 1, list);
    rt_capture without = capture(d, z, 1, SMALL, &own, 0, 1, 1);
    rt_targets t_with = targets_of(&with, 1, -1), t_without = targets_of(&without, 1, -1);
    double got = (double)head_loss(d, &unused, q, SMALL, &t_with, &specs[_i]);
    double blind = (double)head_loss(d, &unused, q, SMALL, &t_without, &specs[_i]);
    ck_assert_msg(fabs(got - want) < 0.02 * want && fabs(blind - want) > 5 * fabs(got - want),
                  "divergence %d: %.4f over all ids, %.4f with the student's, %.4f without", _i, want,
                  got, blind);
    free_capture(&with), free_capture(&without), free_targets(&t_with), free_targets(&t_without);
    free(r);
    rt_dev_close(d);
}
END_TEST

/* A tail of 1e-7 on both sides: its ids' gradient is q_j (r - G), relatively exact. */
START_TEST(light_tail_keeps_its_gradient)
{
    float z[SMALL], q[SMALL];
    double p[SMALL], s[SMALL], p_tail = 0.0, q_tail = 0.0, got = 0.0;
    rt_soft_config c = { 3, 0.0f, 0.0f, 0, { 0 }, 0 };
    rt_loss_spec bucket = { .bucket = 1.0f, .temperature = 1.0f };
    rt_dev *d;
    rt_tensor stats;
    ck_assert(open_device(&d, NULL, 1));
    for (int i = 0; i < SMALL; i++) {
        z[i] = (i < 3 ? 20.0f : 0.0f) + bell(4, (uint64_t)i);
        q[i] = (i < 3 ? 21.0f : 0.0f) + bell(5, (uint64_t)i);
    }
    softmax(p, z, SMALL, 1.0);
    softmax(s, q, SMALL, 1.0);
    rt_capture o = capture(d, z, 1, SMALL, &c, 0, 1, 1);
    rt_targets t = targets_of(&o, 1, -1);
    rt_tensor g = student_gradient(d, &stats, q, 1, SMALL, &t, &bucket);
    for (int i = 3; i < SMALL; i++) {
        p_tail += p[i];
        q_tail += s[i];
        got += (double)rt_f32(&g)[i];
    }
    ck_assert(p_tail > 1e-8 && p_tail < 1e-6);
    ck_assert_double_eq_tol(got / (q_tail - p_tail), 1.0, 1e-5);
    for (int i = 3; i < SMALL; i++)
        ck_assert_double_eq_tol((double)rt_f32(&g)[i] / (s[i] * (1.0 - p_tail / q_tail)), 1.0,
                                1e-5);
    free(g.data), free(stats.data), free_capture(&o), free_targets(&t);
    rt_dev_close(d);
}
END_TEST

/* --- bits ---------------------------------------------------------------------------------------
 */

static void check_bits(const char *what, const rt_tensor *a, const rt_tensor *b, int64_t row,
                       int64_t rows)
{
    int64_t width = rt_tensor_elements(a) / a->dim[0] * 4;
    if (memcmp((uint8_t *)a->data + row * width, b->data, (size_t)(rows * width)))
        ck_abort_msg("%s differs", what);
}

/* all rows of `a` from `row` on against b */
static void check_capture(const rt_capture *a, const rt_capture *b, int64_t row, int64_t rows)
{
    check_bits("head_n", &a->head_n, &b->head_n, row, rows);
    check_bits("head_id", &a->head_id, &b->head_id, row, rows);
    check_bits("head_logp", &a->head_logp, &b->head_logp, row, rows);
    check_bits("tail", &a->tail, &b->tail, row, rows);
    check_bits("draw_n", &a->draw_n, &b->draw_n, row, rows);
    check_bits("draw_id", &a->draw_id, &b->draw_id, row, rows);
    check_bits("logz", &a->logz, &b->logz, row, rows);
    check_bits("entropy", &a->entropy, &b->entropy, row, rows);
    check_bits("taken", &a->taken, &b->taken, row, rows);
}

START_TEST(same_bits)
{
    enum { M = 40, V = 1711 };
    static const char *const isas[] = { "scalar", "avx2", "avx512" };
    rt_soft_config c = { 28, 0.1f, 0.01f, 2, { 2.0f, 0.7f }, 4 };
    int32_t list[4 * M];
    rt_sampling s = { 0.9f, 0.8f, 300, 0 };
    float *z = take((int64_t)M * V);
    rt_capture first = { 0 };
    rt_tensor token = { 0 };
    rt_dev *d;
    for (int64_t i = 0; i < (int64_t)M * V; i++)
        z[i] = (float)(i / V % 9) * bell(21, (uint64_t)i);
    for (int i = 0; i < 4 * M; i++)
        list[i] = (int32_t)(rt_rng_u32(6, RT_RNG_DATA, (uint64_t)i) % V);
    for (int i = 0; i < RT_COUNT(isas); i++)
        for (int threads = 1; threads <= 3; threads++) {
            if (!open_device(&d, isas[i], threads))
                continue;
            rt_tensor logits = rt_tensor_2(z, RT_F32, M, V), t = new_i32(M);
            struct counters n = new_counters(M, 33, 100);
            sample_rows(d, &t, &logits, &n, &s, V);
            rt_capture o = capture_listed(d, z, M, V, &c, 17, 33, 100, list);
            if (!token.data) {
                token = t, first = o;
            } else {
                check_bits("token", &token, &t, 0, M);
                check_capture(&first, &o, 0, M);
                free(t.data), free_capture(&o);
            }
            for (int64_t r = 0; r < M; r += 7) { /* alone as among others */
                int32_t alone = 0;
                rt_tensor one = rt_tensor_1(&alone, RT_I32, 1), row = rt_tensor_rows(&logits, r, 1);
                struct counters at = new_counters(1, 33, 100 + (int32_t)r);
                sample_rows(d, &one, &row, &at, &s, V);
                ck_assert_int_eq(alone, rt_i32(&token)[r]);
                o = capture_listed(d, z + r * V, 1, V, &c, 17, 33, 100 + (int32_t)r,
                                   list + 4 * r);
                check_capture(&first, &o, r, 1);
                free_capture(&o), free_counters(&at);
            }
            free_counters(&n);
            rt_dev_close(d);
        }
    free(z), free(token.data), free_capture(&first);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { captures_against_f64, RT_COUNT(captures) },
                                 { listed_against_f64, RT_COUNT(listings) },
                                 { mean_gradient_is_dense, 2 },
                                 { divergences_vanish_at_the_teacher, 3 },
                                 { divergences_where_the_student_is, 4 },
                                 { light_tail_keeps_its_gradient, 1 },
                                 { same_bits, 1 } };
    return suite_run("capture", NULL, tests, RT_COUNT(tests));
}
