/* units.h: the closed table of units, counted things, scale words and numerals that an answer may
   carry. What is not in it is no unit. Refuses: reading numbers (corpora/verify/number.h). */
#ifndef RT_UNITS_H
#define RT_UNITS_H

#include "corpora/verify/exact.h"

RT_BEGIN

typedef struct rt_unit {
    int8_t power[26]; /* of each dimension, by its letter in the table */
    rt_sum factor;    /* in units of those dimensions */
    int thing;        /* row of a counted thing ("apples"), else -1 */
    bool given;
} rt_unit;

/* The whole of s (cleaned: number.h) as a unit: "km", " km/h", "square feet", "m^2", " $".
   A single letter right behind a number is a letter, not a unit. */
bool rt_unit_read(rt_exact *p, const char *s, rt_unit *out);
/* Same dimensions and thing. */
bool rt_unit_alike(const rt_unit *a, const rt_unit *b);
/* i-th unit of the table with these dimensions, for a number that was given without: its factor. */
bool rt_unit_other(rt_exact *p, const rt_unit *like, int *i, rt_sum *factor);

/* "dozen" -> "12": the digits of a scale word of `bytes` letters, else NULL. */
const char *rt_scale_word(const char *s, size_t bytes);
/* "seven" -> 7; -1 = no numeral. */
int64_t rt_numeral(const char *s, size_t bytes);

RT_END

#endif
