/* test_objective.c: the words of an objective and the loss of a step: what is read, what is refused
   and how it is said, where a mixture goes over to another. */
#include "distill/objective.h"
#include "tests/suite.h"

static const rt_soft_config archive = { .head_max = 4, .tail_spacing = 0.05f };

static rt_objective objective(const char *loss)
{
    return (rt_objective){ .loss = loss,
                           .first = "auto",
                           .change = RT_LOSS_CHANGE,
                           .temperature = 1,
                           .jsd_beta = 0.5,
                           .skew_alpha = 0.1 };
}

static rt_loss_spec at(const rt_objective *o, int64_t done, int64_t steps)
{
    rt_err err = { 0 };
    rt_loss_plan plan;
    OK(rt_objective_read(&plan, o, &err));
    OK(rt_loss_plan_fit(&plan, &archive, &err));
    return rt_loss_plan_at(&plan, done, steps);
}

/* Every term is a name of its own, and its weight goes into a field of its own. */
START_TEST(terms)
{
#define CHECK_TERM(name, field, soft, from_random, formula)                                        \
    {                                                                                              \
        rt_objective o = objective(name ":0.25");                                                  \
        rt_loss_spec s = at(&o, 0, 10), expected = { .field = 0.25f };                             \
        expected.temperature = 1, expected.jsd_beta = 0.5f, expected.skew_alpha = 0.1f;            \
        expected.tail_spacing = 0.05f;                                                             \
        ck_assert(memcmp(&s, &expected, sizeof s) == 0);                                           \
    }
    RT_LOSS_TERMS(CHECK_TERM)
}
END_TEST

START_TEST(mixtures)
{
    rt_objective o = objective("forward:0.7,reverse:0.3,hard:0.1");
    rt_loss_spec s = at(&o, 3, 10);
    ck_assert(s.drawn == 0.7f && s.reverse == 0.3f && s.ce == 0.1f && s.bucket == 0);
    o = objective("bucket");
    o.hard_weight = 0.25, o.temperature = 2; /* the short form: a share of one */
    s = at(&o, 3, 10);
    ck_assert(s.bucket == 0.75f && s.ce == 0.25f && s.temperature == 2);
    o.loss = "hard"; /* nothing to share with, and hard labels have no temperature */
    s = at(&o, 3, 10);
    ck_assert(s.ce == 1 && s.temperature == 1);
    o.loss = "bucket:2,jsd:4";
    s = at(&o, 3, 10);
    ck_assert(s.bucket == 1.5f && s.jsd == 3 && s.ce == 0.25f);
    o.loss = "bucket:2,reference:0.5"; /* what the share is of are the soft terms */
    s = at(&o, 3, 10);
    ck_assert(s.bucket == 1.5f && s.ce == 0.25f && s.reference == 0.5f);
}
END_TEST

START_TEST(changes)
{
    rt_objective o = objective("reverse,hard:0.5");
    o.first = "forward:2", o.change = "0.25:0.75";
    static const struct { int64_t done; float drawn, reverse, ce; } steps[] = {
        { 0, 2, 0, 0 },       { 25, 2, 0, 0 },   { 50, 1, 0.5f, 0.25f },
        { 60, 0.6f, 0.7f, 0.35f }, { 75, 0, 1, 0.5f }, { 99, 0, 1, 0.5f },
    };
    for (int i = 0; i < RT_COUNT(steps); i++) {
        rt_loss_spec s = at(&o, steps[i].done, 100);
        ck_assert_float_eq_tol(s.drawn, steps[i].drawn, 1e-6f);
        ck_assert_float_eq_tol(s.reverse, steps[i].reverse, 1e-6f);
        ck_assert_float_eq_tol(s.ce, steps[i].ce, 1e-6f);
    }
    o.change = "0.5:0.5"; /* at once */
    ck_assert(at(&o, 49, 100).drawn == 2 && at(&o, 50, 100).drawn == 0);
    o.change = "0:1";
    ck_assert(at(&o, 0, 100).reverse == 0 && at(&o, 99, 100).drawn > 0);
    /* soft targets are needed, and tempered, as long as one side has them */
    o = objective("hard");
    o.first = "bucket", o.temperature = 3, o.change = "0.25:0.75";
    ck_assert(at(&o, 0, 100).temperature == 3 && at(&o, 60, 100).temperature == 3);
    ck_assert(at(&o, 80, 100).temperature == 1);
}
END_TEST

/* Random weights and a loss that fades where q does: forward first; else the loss alone. */
START_TEST(chosen)
{
    rt_objective o = objective("reverse");
    ck_assert(at(&o, 0, 100).drawn == 0 && at(&o, 0, 100).reverse == 1);
    o.random = true;
    ck_assert(at(&o, 0, 100).drawn == 1 && at(&o, 0, 100).reverse == 0);
    o.temperature = 2;
    ck_assert(at(&o, 0, 100).drawn == 0 && at(&o, 0, 100).bucket == 1);
    o.first = "none";
    ck_assert(at(&o, 0, 100).bucket == 0 && at(&o, 0, 100).reverse == 1);
    o = objective("reverse,bucket:0.1");
    o.random = true;
    ck_assert(at(&o, 0, 100).reverse == 1);

    rt_err err = { 0 };
    rt_loss_plan plan;
    char text[200];
    o = objective("jsd");
    o.random = true;
    OK(rt_objective_read(&plan, &o, &err));
    rt_loss_plan_say(&plan, text, sizeof text);
    ck_assert_str_eq(text, "forward for 10 % of the steps, then over to jsd until 50 %");
    OK(rt_loss_plan_fit(&plan, &(rt_soft_config){ .head_max = 4 }, &err)); /* no draws */
    ck_assert(plan.first.bucket == 1 && plan.first.drawn == 0);
    o.random = false;
    OK(rt_objective_read(&plan, &o, &err));
    rt_loss_plan_say(&plan, text, sizeof text);
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(needs_soft)
{
    static const struct { const char *loss, *first; bool soft; } cases[] = {
        { "hard", "auto", false }, { "forward", "auto", true },  { "hard,tvd:0.1", "auto", true },
        { "hard", "bucket", true }, { "hard:0.5", "hard", false },
        { "hard,reference:0.1", "auto", false },
    };
    for (int i = 0; i < RT_COUNT(cases); i++) {
        rt_err err = { 0 };
        rt_loss_plan plan;
        rt_objective o = objective(cases[i].loss);
        o.first = cases[i].first;
        OK(rt_objective_read(&plan, &o, &err));
        ck_assert(rt_loss_plan_soft(&plan) == cases[i].soft);
    }
}
END_TEST

/* Of every step together: which terms there are, and what takes as much as any of them. */
START_TEST(over_all_steps)
{
    rt_err err = { 0 };
    rt_loss_plan plan;
    rt_objective o = objective("hard");
    o.first = "jsd,reference:0.1", o.temperature = 2;
    OK(rt_objective_read(&plan, &o, &err));
    ck_assert(RT_LOSS_HAS(&plan, ce) && RT_LOSS_HAS(&plan, jsd) && RT_LOSS_HAS(&plan, reference));
    ck_assert(!RT_LOSS_HAS(&plan, skew) && !RT_LOSS_HAS(&plan, drawn));
    rt_loss_spec most = rt_loss_plan_most(&plan);
    ck_assert(most.ce > 0 && most.jsd > 0 && most.reference > 0 && most.temperature == 2);
    o.first = "none";
    OK(rt_objective_read(&plan, &o, &err));
    ck_assert(!RT_LOSS_HAS(&plan, jsd) && !RT_LOSS_HAS(&plan, reference));
    ck_assert(rt_loss_plan_most(&plan).temperature == 1);
}
END_TEST

START_TEST(mistakes)
{
    static const struct { const char *loss, *first, *change, *message; double hard; } cases[] = {
        { "", "auto", RT_LOSS_CHANGE, "--loss: is empty", 0 },
        { "foward", "auto", "0:1", "did you mean forward?", 0 },
        { "forward,", "auto", "0:1", "no loss is called \"\"", 0 },
        { "forward:x", "auto", "0:1", "the weight of forward is \"x\"", 0 },
        { "forward:", "auto", "0:1", "the weight of forward is \"\"", 0 },
        { "forward:0", "auto", "0:1", "above 0", 0 },
        { "forward:-1", "auto", "0:1", "above 0", 0 },
        { "forward:nan", "auto", "0:1", "above 0", 0 },
        { "forward:inf", "auto", "0:1", "1000 at most", 0 },
        { "forward:1,bucket:1,forward:2", "auto", "0:1", "forward stands twice", 0 },
        { "forward,hard:0.1", "auto", "0:1", "--hard-weight", 0.1 },
        { "reverse", "forwards", "0:1", "--loss-first: no loss", 0 },
        { "reverse", "forward", "0.5:0.1", "--loss-change", 0 },
        { "reverse", "forward", "0.1", "--loss-change", 0 },
        { "reverse", "forward", "0.1:2", "--loss-change", 0 },
        { "reverse", "forward", "0:0", "--loss-change", 0 },
        { "reverse", "forward", "nan:0.5", "--loss-change", 0 },
        { "reverse", "forward", "0.1:0.5x", "--loss-change", 0 },
        { "reverse", "none", "0.2:0.5", "give --loss-first too", 0 },
        { "forward", "auto", "0.2:0.5", "nothing comes before --loss forward", 0 },
        { "forward,policy:0.1", "auto", RT_LOSS_CHANGE, "no command gives documents one", 0 },
    };
    for (int i = 0; i < RT_COUNT(cases); i++) {
        rt_err err = { 0 };
        rt_loss_plan plan;
        rt_objective o = objective(cases[i].loss);
        o.first = cases[i].first, o.change = cases[i].change, o.hard_weight = cases[i].hard;
        FAILS(rt_objective_read(&plan, &o, &err), cases[i].message);
        ck_assert_int_eq(err.exit_code, 2);
    }
    rt_err err = { 0 };
    rt_loss_plan plan;
    rt_objective o = objective("bucket,forward:0.1");
    o.temperature = 2;
    OK(rt_objective_read(&plan, &o, &err));
    FAILS(rt_loss_plan_fit(&plan, &archive, &err), "--temperature 1");
    o = objective("reverse");
    o.first = "forward";
    OK(rt_objective_read(&plan, &o, &err));
    FAILS(rt_loss_plan_fit(&plan, &(rt_soft_config){ .head_max = 4 }, &err), "--loss-first");
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { terms, 1 },  { mixtures, 1 },   { changes, 1 },
                                        { chosen, 1 }, { needs_soft, 1 }, { over_all_steps, 1 },
                                 { mistakes, 1 } };
    return suite_run("objective", NULL, tests, RT_COUNT(tests));
}
