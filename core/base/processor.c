/* processor.c: see processor.h. */
#include "core/base/processor.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

static const char *const NAMES[RT_SIMD_KINDS] = { "scalar", "avx2", "avx512" };

const char *rt_simd_name(rt_simd simd) { return NAMES[simd]; }

static bool is_here(rt_simd simd)
{
#if defined(__x86_64__) || defined(__i386__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c");
    /* x86-64-v4; libgcc also asks the operating system for the wide registers */
    bool avx512 = avx2 && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx512f") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return simd == RT_SIMD_AVX512 ? avx512 : simd == RT_SIMD_AVX2 ? avx2 : true;
#else
    return simd == RT_SIMD_SCALAR;
#endif
}

int rt_simd_choose(rt_simd *simd, rt_err *err)
{
    const char *want = getenv("RETORT_ISA");
    bool any = !want || !*want;
    for (int i = RT_SIMD_KINDS - 1; i >= 0; i--) {
        if (!any && strcmp(want, NAMES[i]))
            continue;
        *simd = (rt_simd)i;
        if (is_here(*simd))
            return 0;
        if (!any)
            return rt_usage(err, "RETORT_ISA=%s: this CPU does not have it: unset the variable",
                            want);
    }
    return rt_usage(err, "RETORT_ISA=%s: unknown here: use scalar, avx2 or avx512, or unset it",
                    want);
}

#if defined(__x86_64__) || defined(__i386__)
static bool has_avx_vnni(void) /* not every compiler knows its name */
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}
#endif

bool rt_simd_vnni(rt_simd simd)
{
#if defined(__x86_64__) || defined(__i386__)
    return is_here(simd) && (simd == RT_SIMD_AVX512 ? __builtin_cpu_supports("avx512vnni")
                             : simd == RT_SIMD_AVX2 ? has_avx_vnni()
                                                    : false);
#else
    (void)simd;
    return false;
#endif
}

int rt_threads_here(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    int64_t n = text ? strtoll(text, NULL, 10) : 0;
    cpu_set_t set; /* of the first 1024; where there are more, ask for how many are there */
    if (n <= 0)
        n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                        : sysconf(_SC_NPROCESSORS_ONLN);
    return (int)rt_max(1, rt_min(n, RT_THREADS_MAX));
}
