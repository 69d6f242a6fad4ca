/* help.h: the option tables as people read them: the list of commands, the flags of one. Owns the
   words about flags that every command has. Refuses: saying anything that is not in a table. */
#ifndef RT_HELP_H
#define RT_HELP_H

#include <stdio.h>

#include "core/option.h"

RT_BEGIN

/* `retort help`: the commands under their groups, the common flags, the exit codes. */
void rt_help_commands(FILE *f, const rt_command *const *table, int n);
/* `retort help COMMAND`, to stdout: usage, flags with defaults and bounds, an example. */
void rt_options_help(const rt_command *cmd);

RT_END

#endif
