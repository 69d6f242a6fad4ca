/* completion.h: completion for bash, zsh and fish, written from the option tables: commands, flags,
   choices, directories and files. Refuses: asking the program while somebody types. */
#ifndef RT_COMPLETION_H
#define RT_COMPLETION_H

#include <stdio.h>

#include "core/base/option.h"

RT_BEGIN

#define RT_SHELLS "bash|zsh|fish"

/* The script of one shell of RT_SHELLS to f. */
int rt_completion(FILE *f, const char *shell, const rt_command *const *table, int n, rt_err *err);

RT_END

#endif
