/* digits.h: digits with what separates them, in a cleaned text. Refuses: values. */
#ifndef RT_DIGITS_H
#define RT_DIGITS_H

#include "core/base/base.h"

RT_BEGIN

/* What separates what, where it is in doubt. */
typedef enum rt_number_style {
    RT_STYLE_USUAL,    /* '.' decimal, ',' groups outside brackets */
    RT_STYLE_GROUPED,  /* ',' groups inside brackets too */
    RT_STYLE_LIST,     /* ',' never groups */
    RT_STYLE_EUROPEAN, /* '.' groups, ',' decimal */
    RT_STYLE_COUNT
} rt_number_style;

/* Digits at s with their separators and decimals: bytes (0 = none), how many are behind the decimal
   sign; more: what follows makes it no number ("1.2.3"). */
typedef struct rt_digits {
    int64_t bytes, decimals;
    bool more;
} rt_digits;
rt_digits rt_digits_read(const char *s, rt_number_style style);
int64_t rt_digits_count(const char *s); /* plain ones */

RT_END

#endif
