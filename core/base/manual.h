/* manual.h: retort.1, the manual page, written from the option tables (man(7) macros). Refuses:
   saying anything about a flag that `retort help COMMAND` does not. */
#ifndef RT_MANUAL_H
#define RT_MANUAL_H

#include <stdio.h>

#include "core/base/option.h"

RT_BEGIN

void rt_manual(FILE *f, const rt_command *const *table, int n);

RT_END

#endif
