/* test_trace_rows.c: the bit code of soft rows: round trips within the stated error bounds for five
   vocabulary sizes, sizes, refusals, and random bits. */
#include "tests/trace_make.h"

START_TEST(rows_come_back_within_the_stated_bounds)
{
    static const int32_t VOCAB[] = { 97, 1024, 32000, 151936, 4000000 };
    rt_err err;
    for (int v = 0; v < RT_COUNT(VOCAB); v++)
        for (int temps = 0; temps <= 2; temps++) {
            rt_trace_manifest m;
            make_manifest(&m, VOCAB[v], temps);
            m.capture.head_max = 64;
            rt_trace_codec c;
            rt_trace_codec_init(&c, &m);
            rt_soft a, b;
            rt_soft_init(&a);
            rt_soft_init(&b);
            dice d = { .seed = (uint64_t)(100 * v + temps) };
            enum { ROWS = 400 };
            int32_t taken[ROWS];
            for (int r = 0; r < ROWS; r++) {
                taken[r] = roll_below(&d, VOCAB[v]);
                make_row(&a, &d, &m, taken[r]);
            }
            rt_text out = { 0 };
            int64_t shorts = 0;
            worst w = { 0 };
            OK(rt_trace_rows_encode(&c, &out, &a, taken, &err));
            OK(rt_trace_rows_decode(&c, &b, (uint8_t *)out.data, out.bytes, ROWS, (uint8_t *)taken,
                                    &shorts, &err));
            compare_soft(&a, &b, temps, &w);
            check_bounds(&w);
            ck_assert_int_gt(shorts, ROWS / 4);
            ck_assert_int_lt(shorts, ROWS / 2);
            // one byte less, one more, another number of rows: never accepted
            rt_soft_clear(&b);
            ck_assert(rt_trace_rows_decode(&c, &b, (uint8_t *)out.data, out.bytes - 1, ROWS,
                                           (uint8_t *)taken, &shorts, &err));
            OK(rt_text_add(&out, "", 1, &err));
            ck_assert(rt_trace_rows_decode(&c, &b, (uint8_t *)out.data, out.bytes, ROWS,
                                           (uint8_t *)taken, &shorts, &err));
            ck_assert(rt_trace_rows_decode(&c, &b, (uint8_t *)out.data, out.bytes - 1, ROWS - 1,
                                           (uint8_t *)taken, &shorts, &err));
            rt_text_free(&out);
            rt_soft_free(&a);
            rt_soft_free(&b);
        }
}
END_TEST

static void set_row(rt_soft *s, int32_t head, const int32_t *id, int32_t items)
{
    rt_soft_clear(s);
    rt_soft_add_row(s, items, 0);
    for (int32_t i = 0; i < items; i++) {
        s->id[i] = id[i];
        s->logp[i] = i < head ? -1.0f : 0;
        s->hits[i] = i < head ? 0 : 1;
    }
    s->head_n[0] = head;
    s->tail_logmass[0] = -1;
    s->entropy[0] = 2;
    s->taken_logp[0] = -1;
}

START_TEST(a_certain_row_costs_thirteen_bits_and_extremes_saturate)
{
    rt_err err;
    rt_trace_manifest m;
    make_manifest(&m, 151936, 0);
    rt_trace_codec c;
    rt_trace_codec_init(&c, &m);
    rt_soft s, back;
    rt_soft_init(&s);
    rt_soft_init(&back);
    const int32_t id = 151935;
    enum { ROWS = 80 };
    int32_t taken[ROWS];
    for (int r = 0; r < ROWS; r++) {
        rt_soft_add_row(&s, 1, 0);
        s.id[r] = taken[r] = id;
        s.head_n[r] = 1;
        s.tail_logmass[r] = r % 2 ? -INFINITY : -9;
        s.logp[r] = s.taken_logp[r] = r % 2 ? 0 : (float)log1p(-exp(-9.0));
        s.entropy[r] = r % 2 ? 0 : 0.0015f;
    }
    rt_text out = { 0 };
    int64_t shorts = 0;
    OK(rt_trace_rows_encode(&c, &out, &s, taken, &err));
    ck_assert_int_eq(out.bytes, ROWS * 13 / 8);
    OK(rt_trace_rows_decode(&c, &back, (uint8_t *)out.data, out.bytes, ROWS, (uint8_t *)taken,
                            &shorts, &err));
    ck_assert_int_eq(shorts, ROWS);
    ck_assert(isinf(back.tail_logmass[1]) && back.tail_logmass[0] == -9);

    set_row(&s, 1, &id, 1);
    s.logp[0] = -1000; // nobody's head, but finite and negative
    s.tail_logmass[0] = -INFINITY;
    s.taken_logp[0] = -INFINITY;
    taken[0] = 5;
    out.bytes = 0;
    rt_soft_clear(&back);
    OK(rt_trace_rows_encode(&c, &out, &s, taken, &err));
    OK(rt_trace_rows_decode(&c, &back, (uint8_t *)out.data, out.bytes, 1, (uint8_t *)taken, &shorts,
                            &err));
    ck_assert(back.logp[0] < -31.9f && back.taken_logp[0] < -31.9f && isinf(back.tail_logmass[0]));
    rt_text_free(&out);
    rt_soft_free(&s);
    rt_soft_free(&back);
}
END_TEST

START_TEST(the_short_form_gives_way_where_it_would_break_its_bounds)
{
    rt_err err;
    rt_trace_manifest m;
    make_manifest(&m, 1000, 0);
    rt_trace_codec c;
    rt_trace_codec_init(&c, &m);
    const struct {
        float tail, logp, entropy;
        int64_t shorts;
    } CASES[] = {
        { -9, -1.2341e-4f, 0.0015f, 1 }, // consistent
        { -9, -1.2341e-4f, 0.5f, 0 },    // an entropy this tail cannot have
        { -9, -0.01f, 0.0015f, 0 },      // a probability this tail does not leave
        { -5.3f, -0.005f, 0.05f, 0 },    // too much tail
        { -INFINITY, 0, 0, 1 },          { -INFINITY, 0, 0.1f, 0 },
    };
    for (int i = 0; i < RT_COUNT(CASES); i++) {
        rt_soft a, b;
        rt_soft_init(&a);
        rt_soft_init(&b);
        const int32_t id = 7;
        int64_t shorts = 0;
        worst w = { 0 };
        rt_text out = { 0 };
        set_row(&a, 1, &id, 1);
        a.tail_logmass[0] = CASES[i].tail;
        a.logp[0] = a.taken_logp[0] = CASES[i].logp;
        a.entropy[0] = CASES[i].entropy;
        OK(rt_trace_rows_encode(&c, &out, &a, &id, &err));
        OK(rt_trace_rows_decode(&c, &b, (uint8_t *)out.data, out.bytes, 1, (const uint8_t *)&id,
                                &shorts, &err));
        ck_assert_int_eq(shorts, CASES[i].shorts);
        compare_soft(&a, &b, 0, &w);
        check_bounds(&w);
        rt_text_free(&out);
        rt_soft_free(&a);
        rt_soft_free(&b);
    }
}
END_TEST

START_TEST(rows_that_break_the_contract_are_refused)
{
    rt_err err;
    rt_trace_manifest m;
    make_manifest(&m, 100, 0);
    rt_trace_codec c;
    rt_trace_codec_init(&c, &m);
    rt_soft s;
    rt_soft_init(&s);
    rt_text out = { 0 };
    const int32_t taken = 4;
#define REFUSED(words, head, change, ...)                                                          \
    do {                                                                                           \
        const int32_t ids[] = { __VA_ARGS__ };                                                     \
        set_row(&s, head, ids, RT_COUNT(ids));                                                     \
        change;                                                                                    \
        FAILS(rt_trace_rows_encode(&c, &out, &s, &taken, &err), words);                            \
    } while (0)
    REFUSED("ascending", 2, (void)0, 5, 3);
    REFUSED("ascending", 2, (void)0, 5, 5);
    REFUSED("ascending", 1, (void)0, 100);
    REFUSED("ascending", 1, (void)0, -1);
    REFUSED("also in the head", 2, (void)0, 3, 5, 5);
    REFUSED("without hits", 1, s.hits[1] = 0, 3, 5);
    REFUSED("too many draws", 1, s.hits[1] = 257, 3, 5);
    REFUSED("above 0 or NaN", 1, s.logp[0] = NAN, 3);
    REFUSED("above 0 or NaN", 1, s.logp[0] = 0.5f, 3);
    REFUSED("above 0 or NaN", 1, s.tail_logmass[0] = NAN, 3);
    REFUSED("entropy", 1, s.entropy[0] = NAN, 3);
    REFUSED("entropy", 1, s.entropy[0] = -1, 3);
    REFUSED("two different", 2, s.taken_logp[0] = -2, 3, 4);
    REFUSED("item counts", 0, (void)0, 3);
    REFUSED("item counts", 2, (void)0, 3);
    c.draws = false;
    REFUSED("tail_spacing is 0", 1, (void)0, 3, 5);
    c.soft = false;
    REFUSED("without capture", 1, (void)0, 3);
    rt_text_free(&out);
    rt_soft_free(&s);
}
END_TEST

START_TEST(random_bits_never_decode_to_a_broken_row)
{
    rt_trace_manifest m;
    make_manifest(&m, 1000, 1);
    rt_trace_codec c;
    rt_trace_codec_init(&c, &m);
    rt_soft s;
    rt_soft_init(&s);
    dice d = { .seed = 5 };
    int64_t accepted = 0;
    for (int k = 0; k < 20000; k++) {
        uint8_t bytes[64];
        int32_t taken[8], n = 1 + roll_below(&d, 64);
        for (int i = 0; i < n; i++)
            bytes[i] = (uint8_t)roll_below(&d, 256);
        for (int i = 0; i < 8; i++)
            taken[i] = roll_below(&d, 1000);
        rt_err err;
        int64_t shorts = 0;
        rt_soft_clear(&s);
        if (rt_trace_rows_decode(&c, &s, bytes, n, roll_below(&d, 8), (uint8_t *)taken, &shorts,
                                 &err))
            continue;
        accepted++;
        for (int64_t r = 0; r < s.n; r++)
            for (int64_t i = s.offset[r]; i < s.offset[r + 1]; i++) {
                bool first = i == s.offset[r] || i == s.offset[r] + s.head_n[r];
                ck_assert(s.id[i] >= 0 && s.id[i] < 1000);
                ck_assert(first || s.id[i] > s.id[i - 1]);
                ck_assert(i < s.offset[r] + s.head_n[r] ? s.logp[i] <= 0 : s.hits[i] >= 1);
            }
    }
    ck_assert_int_gt(accepted, 0);
    rt_soft_free(&s);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { rows_come_back_within_the_stated_bounds, 1 },
                                 { a_certain_row_costs_thirteen_bits_and_extremes_saturate, 1 },
                                 { the_short_form_gives_way_where_it_would_break_its_bounds, 1 },
                                 { rows_that_break_the_contract_are_refused, 1 },
                                 { random_bits_never_decode_to_a_broken_row, 1 } };
    return suite_run("trace_rows", NULL, tests, RT_COUNT(tests));
}
