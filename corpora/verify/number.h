/* number.h: the one reading of numbers that every verifier uses, for text cleaned by
   answer.h. Closed expressions with exact values; letters stay letters. Text that has no
   such reading, or not one that everybody would share, is refused.

   A number: digits with '.', a sign, groups of exactly three digits (',', a space, a thin space;
   '.' where more than one, or a decimal comma, leaves no doubt), 1.5e3, a currency sign in front, a
   numeral up to twenty, a scale word behind (million), per cent, a unit of corpora/verify/units.h.
   An expression: + - * / ^ ( ) { } \frac \sqrt \pi, mixed numbers (1 1/2, 1\frac{1}{2}), products
   without sign (2\pi, 6xy, 2(3)), letters at the end of such a product only. Refused: a/bc, a/b/c,
   letters before digits, differences of plain integers (dates, scores), x^n, other commands. */
#ifndef RT_NUMBER_H
#define RT_NUMBER_H

#include "corpora/verify/digits.h"
#include "corpora/verify/units.h"

RT_BEGIN

typedef struct rt_reading {
    rt_sum value; /* percent and scale words included */
    rt_unit unit;
    bool percent;
} rt_reading;

/* The whole of s. */
bool rt_number_read(rt_exact *p, const char *s, rt_number_style style, rt_reading *out);
/* The longest number at s in running text: a product of numbers, without letters; its bytes, or 0.
 */
int64_t rt_number_prefix(rt_exact *p, const char *s, rt_reading *out);
RT_END

#endif
