/* option_inside.h: what option.c and option_check.c share of single values. Private to them. */
#ifndef RT_OPTION_INSIDE_H
#define RT_OPTION_INSIDE_H

#include "core/base/option.h"

RT_BEGIN

enum { NAME_MAX_BYTES = 64 }; /* of an option */

bool rt_option_is_number(const rt_option *o);
/* The field of o in values from a text, checked; where: who said it, for the message. */
int rt_option_set(const rt_option *o, void *values, const char *text, const char *where, rt_err *err);
void rt_option_clear(const rt_option *o, void *values);

RT_END

#endif
