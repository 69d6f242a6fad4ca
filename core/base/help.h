/* help.h: the option tables as people read them: the list of commands, the flags of one. Owns the
   words about flags that every command has; manual.c and completion.c take them from here. Refuses:
   saying anything that is not in a table. */
#ifndef RT_HELP_H
#define RT_HELP_H

#include <stdio.h>

#include "core/base/option.h"

RT_BEGIN

enum { RT_HELP_LIMITS = 160, RT_HELP_USAGE = 512 };

/* The flags that every command takes, as one word list and for people (flag NULL ends). */
#define RT_COMMON_FLAGS "--help --quiet --recipe --section --print-recipe"
extern const struct rt_help_common {
    const char *flag, *help;
} rt_help_common[];

/* `retort help`: the commands under their groups, the common flags, the exit codes. */
void rt_help_commands(FILE *f, const rt_command *const *table, int n);
/* `retort help COMMAND`, to stdout: usage, flags with defaults and bounds, an example. */
void rt_options_help(const rt_command *cmd);

/* " (default 100, 1 to 1000)", each part only where it says something; buf[RT_HELP_LIMITS]. */
const char *rt_help_limits(const rt_option *o, char *buf);
/* "retort train --data PATH... --out DIR [flags]"; buf[RT_HELP_USAGE]. */
const char *rt_help_usage(const rt_command *cmd, char *buf);

RT_END

#endif
