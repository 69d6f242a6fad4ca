/* number.h: exact numbers out of answers, for corpora/verify.h, which holds the grammar. */
#ifndef RT_NUMBER_H
#define RT_NUMBER_H

#include "core/base.h"

RT_BEGIN

__extension__ typedef __int128 rt_i128;

typedef struct rt_number {
    rt_i128 num, den; /* lowest terms, den > 0: equal numbers are equal pairs */
    bool overflow;    /* a number, but beyond 128 bits; num and den say nothing */
} rt_number;

/* The longest number at *at, percent sign included, without unit; *at moves behind it. */
bool rt_number_read(const char **at, rt_number *out);
/* The whole of a cleaned answer as a number, with "x =" in front and a unit behind. */
bool rt_number_answer(const char *s, rt_number *out);

RT_END

#endif
