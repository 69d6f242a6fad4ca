/* manual.c: see manual.h. */
#include "core/base/manual.h"

#include <string.h>

#include "core/base/help.h"

// What is the same for every command; roff as it is.
static const char ENVIRONMENT[] =
    ".SH ENVIRONMENT\n"
    ".TP\n.B SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, OMPI_COMM_WORLD_RANK, PMI_RANK\n"
    "With the count that stands beside it: which part of the prompts this process takes, unless\n"
    "\\-\\-shard says so.\n"
    ".TP\n.B OMP_NUM_THREADS\nThreads, where \\-\\-threads is 0.\n"
    ".TP\n.B RETORT_ISA\nscalar, avx2 or avx512, to compare them; results are the same bits.\n";

static const char REST[] =
    ".SH EXIT STATUS\n"
    "0 done, 1 failed, 2 wrong usage, 130 interrupted: run the same command again to go on.\n"
    "stdout is data, stderr is for people; an error is one line.\n";

// Text as it is: '-' is a minus, '\\' itself, no line begins a request; it may break after a '|'.
static void put(FILE *f, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", f);
    for (; *text; text++)
        fprintf(f, *text == '-' ? "\\-" : *text == '\\' ? "\\e" : *text == '|' ? "|\\:" : "%c", *text);
}

static void put_option(FILE *f, const rt_option *o)
{
    char limits[RT_HELP_LIMITS];
    fputs(".TP\n\\fB\\-\\-", f);
    if (o->kind == RT_OPT_BOOL && o->def && !strcmp(o->def, "true"))
        fputs("[no\\-]", f);
    put(f, o->name);
    fputs("\\fR \\fI", f);
    put(f, o->arg ? o->arg : "");
    fputs("\\fR\n", f);
    put(f, o->help);
    put(f, rt_help_limits(o, limits));
    fputs("\n", f);
}

static void put_command(FILE *f, const rt_command *cmd)
{
    char usage[RT_HELP_USAGE];
    fputs(".SS ", f);
    put(f, cmd->name);
    fputs("\n.nf\n", f);
    put(f, rt_help_usage(cmd, usage));
    fputs("\n.fi\n.PP\n", f);
    put(f, cmd->help);
    fputs("\n", f);
    for (int i = 0; i < cmd->n_options; i++)
        put_option(f, &cmd->options[i]);
}

void rt_manual(FILE *f, const rt_command *const *table, int n)
{
    fprintf(f, ".\\\" written by: retort help --man\n.TH RETORT 1 \"\" \"retort %s\" \"\"\n.ad l\n",
            RT_VERSION);
    fputs(
        ".SH NAME\nretort \\- distil large mixture\\-of\\-experts language models into small dense "
        "ones\n.SH SYNOPSIS\n.B retort\n.I COMMAND\n[flags]\n.SH DESCRIPTION\n"
        "A teacher writes traces with soft targets into an archive, a student trains from the\n"
        "archive, the student is brought to 4 bits. Every flag is also a key of a recipe's\n"
        "section, its words joined by '_'; a flag beats the recipe, the recipe beats the\n"
        "default. A flag given again replaces the earlier one, a list grows.\n"
        ".SH FLAGS OF EVERY COMMAND\n",
        f);
    for (int i = 0; rt_help_common[i].flag; i++) {
        fputs(".TP\n.B ", f);
        put(f, rt_help_common[i].flag);
        fputs("\n", f);
        put(f, rt_help_common[i].help);
        fputs("\n", f);
    }
    fputs(".SH COMMANDS\n", f);
    for (int i = 0; i < n; i++)
        put_command(f, table[i]);
    fputs(".SH EXAMPLES\n.nf\n", f);
    for (int i = 0; i < n; i++)
        if (table[i]->example) {
            put(f, table[i]->example);
            fputs("\n", f);
        }
    fputs(".fi\n", f);
    fputs(ENVIRONMENT, f);
    fputs(REST, f);
    fputs(".SH SEE ALSO\n"
          "The pages on recipes, records, archives, verifiers and metrics in docs/.\n",
          f);
}
