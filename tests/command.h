/* command.h: a command of retort as a test runs it: by its words, in this process. Holds no check. */
#ifndef TESTS_COMMAND_H
#define TESTS_COMMAND_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/option.h"

/* Not 0 when its words or its work failed; *err says how. */
static inline int run_command(const rt_command *cmd, const char *words, rt_err *err)
{
    char text[1024], *argv[40];
    int n = 0;
    bool help = false;
    void *values = calloc(1, cmd->struct_bytes);
    snprintf(text, sizeof text, "%s", words);
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    *err = (rt_err){ .text = "" };
    int bad = rt_options_parse(cmd, values, NULL, n, argv, &help, err);
    if (!bad && cmd->settle)
        cmd->settle(values);
    bad = bad || cmd->run(values, err);
    rt_options_free(cmd, values);
    free(values);
    return bad;
}

#endif
