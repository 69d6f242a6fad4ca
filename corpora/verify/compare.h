/* compare.h: whether two answers are equal. Options by letter; sets, tuples, intervals and lists by
   their elements; values exactly; words but for the case of a first letter. A difference is NO only
   when no reading of the two texts (corpora/verify/number.h: styles) makes them equal.
   Refuses: finding the answer in a response. */
#ifndef RT_COMPARE_H
#define RT_COMPARE_H

#include "corpora/verify/verify.h"

RT_BEGIN

typedef struct rt_comparison {
    rt_judged result;
    rt_verify_rule rule;
    const char *reason; /* a literal */
} rt_comparison;

/* Both cleaned by corpora/verify/spelling.h and not empty. */
rt_comparison rt_compare(const char *answer, const char *reference);
/* Whether the part stands in the text as whole words. */
bool rt_compare_contains(const char *text, const char *part);

RT_END

#endif
