/* test_math.c: the polynomials of math.h against the C library in f64, over floats of
   every exponent, and their special cases. That every instruction set gives the same bits is shown
   where they are used (test_attention.c). */
#include "core/device/kernels/math.h"
#include "tests/suite.h"

#include <stdlib.h>

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
static double silu(double x) { return x / (1.0 + exp(-x)); }

/* One function, its reference, the largest error allowed in units of the last place of the result,
   and the arguments it is held to. */
static const struct row {
    const char *name;
    float (*ours)(float);
    double (*exact)(double);
    double ulps;
    float from, to;
} rows[] = {
    { "exp", rt_expf, exp, 1.05, -INFINITY, INFINITY },
    { "soft exp", rt_soft_expf, exp, 1.05, -87.0f, 0.0f },
    { "log", rt_logf, log, 0.85, 0.0f, INFINITY },
    { "tanh", rt_tanhf, tanh, 1.4, -INFINITY, INFINITY },
    { "sigmoid", rt_sigmoidf, sigmoid, 2.4, -INFINITY, INFINITY },
    { "silu", rt_siluf, silu, 2.9, -86.0f, 0x1p126f },
    { "sin", rt_sinf, sin, 0.502, -0x1p29f, 0x1p29f },
    { "cos", rt_cosf, cos, 0.502, -0x1p29f, 0x1p29f },
};

static double error_ulps(float got, double want)
{
    float rounded = (float)want;
    if (isinf(rounded) || isinf(got))
        return got == rounded ? 0.0 : INFINITY;
    int e;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1.0, (e < -125 ? -125 : e) - 24);
}

START_TEST(accuracy)
{
    const struct row *r = &rows[_i];
    double worst = 0.0;
    float at = 0.0f;
    for (uint64_t u = 0; u <= UINT32_MAX; u += 3989) {
        float x = rt_float_of_bits((uint32_t)u);
        if (!(x >= r->from && x <= r->to))
            continue;
        double e = error_ulps(r->ours(x), r->exact((double)x));
        if (!(e <= worst)) {
            worst = e;
            at = x;
        }
    }
    ck_assert_msg(worst <= r->ulps, "%s: %.3f ulp at %a, allowed %.3f", r->name, worst, (double)at,
                  r->ulps);
    ck_assert_msg(worst > 0.3, "%s: %.3f ulp: the test saw nothing", r->name, worst);
}
END_TEST

START_TEST(special_cases)
{
    ck_assert(rt_expf(0.0f) == 1.0f && rt_expf(-INFINITY) == 0.0f && rt_expf(INFINITY) == INFINITY);
    ck_assert(rt_expf(-103.9f) > 0.0f && rt_expf(-104.5f) == 0.0f && isnan(rt_expf(NAN)));
    ck_assert(rt_soft_expf(-87.01f) == 0.0f && rt_soft_expf(-INFINITY) == 0.0f);
    ck_assert(isnan(rt_soft_expf(NAN)) && isnan(rt_soft_expf(-NAN)));
    ck_assert(isnan(rt_soft_expf(rt_float_of_bits(UINT32_MAX))));
    for (float x = 0.0f; x >= -87.0f; x -= 0.37f)
        ck_assert(rt_soft_expf(x) == rt_expf(x));
    ck_assert(rt_logf(1.0f) == 0.0f && rt_logf(0.0f) == -INFINITY && rt_logf(-0.0f) == -INFINITY);
    ck_assert(rt_logf(INFINITY) == INFINITY && isnan(rt_logf(-1.0f)) && isnan(rt_logf(NAN)));
    ck_assert(rt_tanhf(20.0f) == 1.0f && rt_tanhf(-INFINITY) == -1.0f && isnan(rt_tanhf(NAN)));
    ck_assert(rt_sigmoidf(0.0f) == 0.5f && rt_sigmoidf(-INFINITY) == 0.0f);
    ck_assert(rt_siluf(-200.0f) == 0.0f && rt_siluf(200.0f) == 200.0f);
    ck_assert(rt_sinf(0.0f) == 0.0f && rt_cosf(0.0f) == 1.0f && isnan(rt_cosf(INFINITY)));
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { accuracy, (int)(sizeof(rows) / sizeof(rows[0])) },
                                 { special_cases, 1 } };
    return suite_run("math", NULL, tests, RT_COUNT(tests));
}
