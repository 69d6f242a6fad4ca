/* peak.c: bursts of independent fused multiply-adds that stay in registers. */
#include "tests/bench/peak.h"

#include "core/base/log.h"
#include "core/base/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { STEPS = 2000, CHAINS = 24 };

#if defined(__x86_64__)

/* The chains start apart, or the compiler would compute one for all. */
__attribute__((target("avx512f"))) static float burst_avx512(void)
{
    __m512 sum[CHAINS], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-9f);
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (int s = 0; s < STEPS; s++)
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            sum[i] = _mm512_fmadd_ps(sum[i], x, y);
#pragma GCC unroll 24
    for (int i = 1; i < CHAINS; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_reduce_add_ps(sum[0]);
}

enum { CHAINS_AVX2 = 12 };

__attribute__((target("avx2,fma"))) static float burst_avx2(void)
{
    __m256 sum[CHAINS_AVX2], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-9f);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS_AVX2; i++)
        sum[i] = _mm256_set1_ps((float)i);
    for (int s = 0; s < STEPS; s++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS_AVX2; i++)
            sum[i] = _mm256_fmadd_ps(sum[i], x, y);
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS_AVX2; i++)
        sum[0] = _mm256_add_ps(sum[0], sum[i]);
    float out[8];
    _mm256_storeu_ps(out, sum[0]);
    return out[0];
}

#endif

/* operations of one burst */
static int64_t burst(const char *isa)
{
    volatile float sink;
#if defined(__x86_64__)
    if (!strcmp(isa, "avx512")) {
        sink = burst_avx512();
        return (int64_t)STEPS * CHAINS * 16 * 2;
    }
    if (!strcmp(isa, "avx2")) {
        sink = burst_avx2();
        return (int64_t)STEPS * CHAINS_AVX2 * 8 * 2;
    }
#endif
    float x = 1.0f;
    for (int s = 0; s < STEPS; s++)
        x = fmaf(x, 0.999f, 1e-9f);
    sink = x;
    (void)sink;
    return (int64_t)STEPS * 2;
}

struct bursts {
    const char *isa;
    double seconds, *rate;
};

static void burst_unit(void *ctx, int64_t unit, int member)
{
    const struct bursts *b = ctx;
    double start = rt_now(), now = start, operations = 0;
    (void)member;
    do {
        operations += (double)burst(b->isa);
        now = rt_now();
    } while (now < start + b->seconds);
    b->rate[unit] = operations / (now - start);
}

double rt_peak_rate(const char *isa, int threads, double seconds)
{
    rt_err err;
    rt_team *team;
    double rate[RT_THREADS_MAX], sum = 0;
    struct bursts b = { isa, seconds, rate };
    if (rt_team_open(&team, threads, &err))
        return 0;
    rt_team_run(team, burst_unit, &b, threads, threads);
    rt_team_close(team);
    for (int i = 0; i < threads; i++)
        sum += rate[i];
    return sum;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double rt_median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), by_value);
    return v[n / 2];
}
