/* exact.h: numbers as answers give them, exact: sums of q * sqrt(n) * letters, q a fraction of
   integers of any length. Two sums are compared without rounding and without factoring.
   Every limb costs a unit of the pool's budget, so that hostile text is bounded in time and memory;
   past it, or where a result has no such form, the pool is marked failed and values say nothing. */
#ifndef RT_EXACT_H
#define RT_EXACT_H

#include "core/base/base.h"

RT_BEGIN

enum { RT_SUM_TERMS = 16, RT_TERM_FACTORS = 4 };

typedef struct rt_exact {
    void *block; /* everything made, freed at once */
    int64_t budget;
    bool failed;
} rt_exact;

void rt_exact_free(rt_exact *p);

/* Limbs of nine decimal digits, the lowest first; no limbs = 0. */
typedef struct rt_natural {
    uint32_t *limb;
    int64_t n;
} rt_natural;

/* A letter, or a run of them, by its spelling; "\pi" and "\infty" are known not to be numbers. */
typedef struct rt_factor {
    const char *name;
    int64_t bytes, power;
} rt_factor;

typedef struct rt_term {
    rt_natural num, den; /* not reduced; den > 0 */
    bool minus;
    uint64_t radicand; /* under the square root, >= 1 */
    rt_factor factor[RT_TERM_FACTORS];
    int n_factors;
} rt_term;

/* n = 0 is zero; terms with a common root and letters are one term. */
typedef struct rt_sum {
    rt_term *term;
    int n;
} rt_sum;

/* digits / 10^scale; digits are n characters '0' to '9'. */
rt_sum rt_sum_decimal(rt_exact *p, const char *digits, int64_t n, int64_t scale);
rt_sum rt_sum_letter(rt_exact *p, const char *name, int64_t bytes);
rt_sum rt_sum_add(rt_exact *p, rt_sum a, rt_sum b, bool minus);
rt_sum rt_sum_multiply(rt_exact *p, rt_sum a, rt_sum b);
rt_sum rt_sum_divide(rt_exact *p, rt_sum a, rt_sum b); /* b: one term */
rt_sum rt_sum_power(rt_exact *p, rt_sum a, int64_t e);
rt_sum rt_sum_root(rt_exact *p, rt_sum a);   /* a fraction >= 0 */
bool rt_sum_integer(rt_sum a, int64_t *out); /* |a| < 10^9 and written as an integer */
bool rt_sum_constant(rt_sum a);              /* no letters but pi and infinity */

typedef enum rt_same { RT_SAME_NO, RT_SAME_YES, RT_SAME_UNKNOWN } rt_same;
/* NO where the difference cannot be 0: a constant, or one term. */
rt_same rt_sum_same(rt_exact *p, rt_sum a, rt_sum b);

RT_END

#endif
