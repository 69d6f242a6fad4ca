/* help.c: see help.h. */
#include "core/help.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 30 };

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
    fputs("  help         this list, or the flags of one command: retort help COMMAND\n"
          "\nflags of every command:\n"
          "  --help, -h        its flags      --recipe FILE     take its section of a JSON recipe\n"
          "  --print-recipe    do not run; print the effective values as a recipe\n"
          "  --section NAME    the recipe section to take instead of the one named like the "
          "command\n"
          "  -q, --quiet       no chatter on stderr\n"
          "  --version         (without a command)\n"
          "\nA flag beats the recipe, the recipe beats the default. stdout is data, stderr is for "
          "people.\n"
          "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (run again to resume).\n",
          f);
}

// "(default 100, 1 to 1000)", each part only where it says something.
static void print_limits(const rt_option *o)
{
    bool number = o->kind == RT_OPT_INT || o->kind == RT_OPT_FLOAT, list = o->kind == RT_OPT_LIST;
    bool shown = o->def && o->def[0] && strcmp(o->def, "false"), bounds = number && o->max < 1e15;
    const char *comma = " (";
    if (o->required) {
        printf("%srequired", comma);
        comma = ", ";
    }
    if (list || shown) {
        printf("%s%s%s", comma, list ? "may be repeated" : "default ", list ? "" : o->def);
        comma = ", ";
    }
    if (bounds) {
        printf("%s%.6g to %.6g", comma, o->min, o->max);
        comma = ", ";
    }
    printf("%s", comma[0] == ',' ? ")" : "");
}

// "retort train --data PATH... --out DIR [flags]": what must be there, in the table's order.
static void print_usage(const rt_command *cmd, const rt_option *bare)
{
    printf("usage: %s%s", rt_command_program(cmd), cmd->name);
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        if (!o->required && o != bare)
            continue;
        const char *dots = o->kind == RT_OPT_LIST && !strstr(o->arg, "...") ? "..." : "";
        if (o == bare)
            printf(o->required ? " %s%s" : " [%s%s]", o->arg ? o->arg : o->name, dots);
        else
            printf(" --%s %s%s", o->name, o->arg ? o->arg : "VALUE", dots);
    }
    printf("%s\n%s\n\n", cmd->n_options ? " [flags]" : "", cmd->help);
}

void rt_options_help(const rt_command *cmd)
{
    const rt_option *bare = cmd->positional ? rt_option_find(cmd, cmd->positional) : NULL;
    print_usage(cmd, bare);
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        bool on = o->kind == RT_OPT_BOOL && o->def && !strcmp(o->def, "true");
        int n = printf("  --%s%s%s%s", on ? "[no-]" : "", o->name, o->arg ? " " : "",
                       o->arg ? o->arg : "");
        if (n >= HELP_COLUMN) {
            printf("\n");
            n = 0;
        }
        printf("%*s%s", HELP_COLUMN - n, "", o->help);
        print_limits(o);
        printf("\n");
    }
    if (rt_command_program(cmd)[0])
        printf("\nalso: -q --recipe FILE --section NAME --print-recipe (see retort help)\n");
    if (cmd->example)
        printf("\nexample:\n  %s\n", cmd->example);
}
