/* help.c: see help.h. */
#include "core/base/help.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 30 };

const struct rt_help_common rt_help_common[] = {
    { "-h, --help", "the flags of the command" },
    { "-q, --quiet", "no chatter on stderr" },
    { "--recipe FILE", "take the command's section of a JSON recipe" },
    { "--section NAME", "the section to take instead of the one named like the command" },
    { "--print-recipe", "do not run; print the effective values as a recipe" },
    { NULL, NULL },
};

void rt_help_commands(FILE *f, const rt_command *const *table, int n)
{
    fputs("retort distils large mixture-of-experts language models into small dense ones.\n\n"
          "usage: retort COMMAND [flags]\n",
          f);
    for (int i = 0; i < n; i++) {
        if (!i || strcmp(table[i]->group, table[i - 1]->group) != 0)
            fprintf(f, "\n%s\n", table[i]->group);
        fprintf(f, "  %-12s %s\n", table[i]->name, table[i]->help);
    }
    fputs("  help         this list; help COMMAND: its flags; help --man: a manual page;\n"
          "               help --completion bash|zsh|fish: a script for that shell\n"
          "\nflags of every command\n",
          f);
    for (int i = 0; rt_help_common[i].flag; i++)
        fprintf(f, "  %-16s %s\n", rt_help_common[i].flag, rt_help_common[i].help);
    fputs("  --version        (without a command)\n"
          "\nA flag beats the recipe, the recipe the default; of a flag given twice the last "
          "counts.\n"
          "stdout is data, stderr is for people.\n"
          "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (run again to resume).\n",
          f);
}

// Adds to a text of size bytes, cut where it is full.
static void add(char *buf, size_t size, const char *fmt, ...) RT_PRINTF(3, 4);
static void add(char *buf, size_t size, const char *fmt, ...)
{
    size_t used = strlen(buf);
    va_list args;
    va_start(args, fmt);
    vsnprintf(buf + used, size - used, fmt, args);
    va_end(args);
}

const char *rt_help_limits(const rt_option *o, char *buf)
{
    const size_t size = RT_HELP_LIMITS;
    bool number = o->kind == RT_OPT_INT || o->kind == RT_OPT_FLOAT, list = o->kind == RT_OPT_LIST;
    bool shown = o->def && o->def[0] && strcmp(o->def, "false"), bounds = number && o->max < 1e15;
    buf[0] = 0;
    if (o->required)
        add(buf, size, ", required");
    if (list)
        add(buf, size, ", may be repeated");
    else if (shown)
        add(buf, size, ", default %s", o->def);
    if (bounds)
        add(buf, size, ", %.6g to %.6g", o->min, o->max);
    if (!buf[0])
        return buf;
    buf[0] = ' '; // over the first ", "
    buf[1] = '(';
    add(buf, size, ")");
    return buf;
}

const char *rt_help_usage(const rt_command *cmd, char *buf)
{
    const rt_option *bare = cmd->positional ? rt_option_find(cmd, cmd->positional) : NULL;
    buf[0] = 0;
    add(buf, RT_HELP_USAGE, "%s%s", rt_command_program(cmd), cmd->name);
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        const char *arg = o->arg ? o->arg : "VALUE";
        const char *dots = o->kind == RT_OPT_LIST && !strstr(arg, "...") ? "..." : "";
        if (o == bare)
            add(buf, RT_HELP_USAGE, o->required ? " %s%s" : " [%s%s]", arg, dots);
        else if (o->required)
            add(buf, RT_HELP_USAGE, " --%s %s%s", o->name, arg, dots);
    }
    add(buf, RT_HELP_USAGE, "%s", cmd->n_options ? " [flags]" : "");
    return buf;
}

void rt_options_help(const rt_command *cmd)
{
    char text[RT_HELP_USAGE];
    printf("usage: %s\n%s\n\n", rt_help_usage(cmd, text), cmd->help);
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        bool on = o->kind == RT_OPT_BOOL && o->def && !strcmp(o->def, "true");
        int n = printf("  --%s%s%s%s", on ? "[no-]" : "", o->name, o->arg ? " " : "",
                       o->arg ? o->arg : "");
        if (n >= HELP_COLUMN) {
            printf("\n");
            n = 0;
        }
        printf("%*s%s%s\n", HELP_COLUMN - n, "", o->help, rt_help_limits(o, text));
    }
    if (rt_command_program(cmd)[0])
        printf("\nalso: -q --recipe FILE --section NAME --print-recipe (see retort help)\n");
    if (cmd->example)
        printf("\nexample:\n  %s\n", cmd->example);
}
