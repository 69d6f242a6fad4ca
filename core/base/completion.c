/* completion.c: see completion.h. Each shell has one function; what a value may be is decided once,
   in value_of. */
#include "core/base/completion.h"

#include <string.h>

#include "core/base/help.h"

typedef enum value { VALUE_NONE, VALUE_TEXT, VALUE_CHOICE, VALUE_DIR, VALUE_FILE } value;

static value value_of(const rt_option *o)
{
    if (o->kind == RT_OPT_BOOL)
        return VALUE_NONE;
    if (o->choices)
        return VALUE_CHOICE;
    if (!o->arg || strchr(o->arg, '='))
        return VALUE_TEXT;
    if (!strcmp(o->arg, "DIR"))
        return VALUE_DIR;
    bool file = strstr(o->arg, "FILE") || strstr(o->arg, "PATH") || strstr(o->arg, "DIR") ||
                strstr(o->arg, "ARCHIVE") || strchr(o->arg, '.');
    return file ? VALUE_FILE : VALUE_TEXT;
}

// A positional option needs no flag where a path may stand bare.
static const rt_option *bare_of(const rt_command *cmd)
{
    return cmd->positional ? rt_option_find(cmd, cmd->positional) : NULL;
}

// Text within '...' of a shell; zsh's descriptions escape their brackets and colons too.
static void put_quoted(FILE *f, const char *text, const char *escape)
{
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", f);
        else
            fprintf(f, strchr(escape, *text) ? "\\%c" : "%c", *text);
}

static void put_words(FILE *f, const char *choices)
{
    for (; *choices; choices++)
        fputc(*choices == '|' ? ' ' : *choices, f);
}

// --------------------------------------------------------------------------------- bash

static void bash_flags(FILE *f, const rt_command *cmd)
{
    fprintf(f, "    %s) ", cmd->name);
    if (cmd->verbs) {
        fputs("[ \"$COMP_CWORD\" = 2 ] && words='", f);
        put_words(f, cmd->verbs);
        fputs("'; ", f);
    }
    fputs("flags='", f);
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        bool on = o->kind == RT_OPT_BOOL && o->def && !strcmp(o->def, "true");
        fprintf(f, "--%s%s ", on ? "no-" : "", o->name);
    }
    fputs(RT_COMMON_FLAGS "' ;;\n", f);
}

static void bash_values(FILE *f, const rt_command *cmd)
{
    static const char *const DO[] = { "", "return", "", "dirs", "files" };
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        value v = value_of(o);
        if (v == VALUE_NONE)
            continue;
        fprintf(f, "    '%s --%s') ", cmd->name, o->name);
        if (v == VALUE_CHOICE) {
            fputs("words='", f);
            put_words(f, o->choices);
            fputs("' ;;\n", f);
        } else {
            fprintf(f, "%s%s ;;\n", v == VALUE_TEXT ? "" : "kind=", DO[v]);
        }
    }
}

static void write_bash(FILE *f, const rt_command *const *table, int n)
{
    fputs("# bash completion of retort, written by: retort help --completion bash\n"
          "_retort() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local command=${COMP_WORDS[1]} flags= words= kind=files\n"
          "    COMPREPLY=()\n"
          "    if [ \"$cur\" = = ]; then cur=\n"
          "    elif [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
          "        COMPREPLY=($(compgen -W '",
          f);
    for (int i = 0; i < n; i++)
        fprintf(f, "%s ", table[i]->name);
    fputs("help --version' -- \"$cur\"))\n        return\n    fi\n    case $command in\n", f);
    for (int i = 0; i < n; i++)
        bash_flags(f, table[i]);
    fputs("    help) [ \"$COMP_CWORD\" = 2 ] && words='", f);
    for (int i = 0; i < n; i++)
        fprintf(f, "%s ", table[i]->name);
    fputs("' ;;\n    *) return ;;\n    esac\n    case \"$command $prev\" in\n", f);
    for (int i = 0; i < n; i++)
        bash_values(f, table[i]);
    fputs("    *' --section') return ;;\n"
          "    *) case $cur in -*) words=$flags ;; esac ;;\n"
          "    esac\n"
          "    if [ -n \"$words\" ]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "        return\n"
          "    fi\n"
          "    [ $kind = dirs ] && kind=-d || kind=-f\n"
          "    compopt -o filenames 2>/dev/null\n"
          "    while IFS= read -r words; do COMPREPLY+=(\"$words\"); done "
          "< <(compgen $kind -- \"$cur\")\n"
          "}\n"
          "complete -F _retort retort\n",
          f);
}

// --------------------------------------------------------------------------------- zsh

static void zsh_option(FILE *f, const rt_option *o)
{
    bool list = o->kind == RT_OPT_LIST;
    bool on = o->kind == RT_OPT_BOOL && o->def && !strcmp(o->def, "true");
    value v = value_of(o);
    fprintf(f, " \\\n            '%s--%s%s%s[", list ? "*" : "", on ? "no-" : "", o->name,
            v == VALUE_NONE ? "" : "=");
    put_quoted(f, o->help, "[]:\\");
    fputs("]", f);
    if (v != VALUE_NONE) {
        fputs(":", f);
        put_quoted(f, v == VALUE_CHOICE ? o->name : o->arg, "[]:\\");
        fputs(":", f);
    }
    if (v == VALUE_CHOICE) {
        fputs("(", f);
        put_words(f, o->choices);
        fputs(")", f);
    }
    fputs(v == VALUE_DIR ? "_files -/'" : v == VALUE_FILE ? "_files'" : "'", f);
}

static void write_zsh(FILE *f, const rt_command *const *table, int n)
{
    fputs("#compdef retort\n# written by: retort help --completion zsh\n"
          "_retort() {\n    local curcontext=$curcontext state line\n    local -a commands common\n"
          "    commands=(\n",
          f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "        '%s:", table[i]->name);
        put_quoted(f, table[i]->help, ":\\");
        fputs("'\n", f);
    }
    fputs("        'help:the commands, or the flags of one'\n    )\n"
          "    common=('(-h --help)'{-h,--help}'[its flags]' '(-q --quiet)'{-q,--quiet}'[no "
          "chatter]'\n"
          "        '--recipe=[take its section of a JSON recipe]:FILE:_files'\n"
          "        '--section=[another section of the recipe]:NAME:' \\\n"
          "        '--print-recipe[print the effective values]')\n"
          "    _arguments -C '--version[print the version]' '1:command:->command' '*::arg:->args'\n"
          "    case $state in\n"
          "    command) _describe command commands ;;\n"
          "    args)\n        case $line[1] in\n        help) _describe command commands ;;\n",
          f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "        %s) _arguments $common", table[i]->name);
        for (int k = 0; k < table[i]->n_options; k++)
            zsh_option(f, &table[i]->options[k]);
        if (table[i]->verbs) {
            fputs(" \\\n            '1:verb:(", f);
            put_words(f, table[i]->verbs);
            fputs(")'", f);
        }
        fputs(bare_of(table[i]) ? " \\\n            '*:path:_files' ;;\n" : " ;;\n", f);
    }
    fputs("        esac ;;\n    esac\n}\n_retort \"$@\"\n", f);
}

// --------------------------------------------------------------------------------- fish

static void fish_option(FILE *f, const rt_command *cmd, const rt_option *o)
{
    bool on = o->kind == RT_OPT_BOOL && o->def && !strcmp(o->def, "true");
    value v = value_of(o);
    fprintf(f, "complete -c retort -n '__fish_seen_subcommand_from %s' -l %s%s", cmd->name,
            on ? "no-" : "", o->name);
    if (v == VALUE_CHOICE) {
        fputs(" -x -a '", f);
        put_words(f, o->choices);
        fputs("'", f);
    } else {
        static const char *const TAKES[] = { "", " -x", "",
                                             " -x -a '(__fish_complete_directories)'", " -r -F" };
        fputs(TAKES[v], f);
    }
    fputs(" -d '", f);
    for (const char *p = o->help; *p; p++) // fish knows \' within '...'
        fprintf(f, strchr("\\'", *p) ? "\\%c" : "%c", *p);
    fputs("'\n", f);
}

static void write_fish(FILE *f, const rt_command *const *table, int n)
{
    fputs("# fish completion of retort, written by: retort help --completion fish\n", f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "complete -c retort -n __fish_use_subcommand -f -a %s -d '", table[i]->name);
        put_quoted(f, table[i]->help, "");
        fputs("'\n", f);
    }
    fputs(
        "complete -c retort -n __fish_use_subcommand -f -a help -d 'the commands, or the flags of "
        "one'\n"
        "complete -c retort -s h -l help -d 'its flags'\n"
        "complete -c retort -s q -l quiet -d 'no chatter on stderr'\n"
        "complete -c retort -l recipe -r -F -d 'take its section of a JSON recipe'\n"
        "complete -c retort -l section -x -d 'another section of the recipe'\n"
        "complete -c retort -l print-recipe -d 'print the effective values as a recipe'\n",
        f);
    for (int i = 0; i < n; i++) {
        if (!bare_of(table[i]))
            fprintf(f, "complete -c retort -n '__fish_seen_subcommand_from %s' -f\n",
                    table[i]->name);
        if (table[i]->verbs) {
            fprintf(f,
                    "complete -c retort -n '__fish_seen_subcommand_from %s; and not "
                    "__fish_seen_subcommand_from ",
                    table[i]->name);
            put_words(f, table[i]->verbs);
            fputs("' -f -a '", f);
            put_words(f, table[i]->verbs);
            fputs("'\n", f);
        }
        for (int k = 0; k < table[i]->n_options; k++)
            fish_option(f, table[i], &table[i]->options[k]);
    }
}

int rt_completion(FILE *f, const char *shell, const rt_command *const *table, int n, rt_err *err)
{
    if (!strcmp(shell, "bash"))
        write_bash(f, table, n);
    else if (!strcmp(shell, "zsh"))
        write_zsh(f, table, n);
    else if (!strcmp(shell, "fish"))
        write_fish(f, table, n);
    else
        return rt_usage(err, "--completion: \"%s\" is not one of " RT_SHELLS, shell);
    return 0;
}
