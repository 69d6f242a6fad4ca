/* retort.c: the front door. Owns the command table, the global flags, signals, the check that
   stdout was really written, and the exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.
   Refuses to do any work itself: a command is its table and its run function, in its own folder.
   To add a command: one line in COMMANDS, and `const rt_command rt_command_NAME` in its file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/completion.h"
#include "core/base/help.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/manual.h"
#include "core/base/memory.h"
#include "core/base/option.h"
#include "core/base/process.h"
#include "core/base/section.h"
#include "core/formats/output.h"
#include "core/network/needs.h"
#include "distill/run.h"

// In the order `retort help` shows them, those of a group together.
// clang-format off
#define COMMANDS(X) \
    X(run)       \
    X(sample)    \
    X(score)     \
    X(archive)   \
    X(init)      \
    X(train)     \
    X(merge_adapter) \
    X(eval)      \
    X(quantize)  \
    X(generate)  \
    X(serve)     \
    X(inspect)   \
    X(verify)    \
    X(logits)    \
    X(tokenizer) \
    X(tokenize)  \
    X(render)    \
    X(doctor)
// clang-format on

#define DECLARE(name) extern const rt_command rt_command_##name;
COMMANDS(DECLARE)
#define ROW(name) &rt_command_##name,
static const rt_command *const TABLE[] = { COMMANDS(ROW) };

// The one command that lives here: a recipe's stages are commands of this table.
static int run_recipe(void *options, rt_err *err)
{
    return rt_run(options, TABLE, RT_COUNT(TABLE), err);
}
const rt_command rt_command_run = {
    .name = "run",
    .help = "every stage of a recipe, resumed where it stopped",
    .group = "the whole chain",
    .options = rt_run_table,
    .n_options = RT_RUN_OPTIONS,
    .struct_bytes = sizeof(rt_run_options),
    .positional = "file",
    .run = run_recipe,
    .example = "retort run examples/reasoning/recipe.json --plan",
};

// --------------------------------------------------------------------------------- global flags

typedef struct globals {
    bool print_recipe;
    const char *recipe, *section; // borrowed from argv
    rt_log_level level;
} globals;

/* Takes a global flag at argv[*i] unless the command has an option of that name; false when it is
   none of ours. */
static bool take_global(globals *g, const rt_command *cmd, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    const struct {
        const char *name, **value;
    } valued[] = { { "recipe", &g->recipe }, { "section", &g->section } };
    if (!strncmp(word, "--", 2) && cmd && rt_option_find(cmd, word + 2))
        return false;
    for (int k = 0; cmd && k < RT_COUNT(valued); k++) {
        size_t n = strlen(valued[k].name);
        if (strncmp(word, "--", 2) || strncmp(word + 2, valued[k].name, n) ||
            rt_option_find(cmd, valued[k].name))
            continue;
        if (word[2 + n] == '=') {
            *valued[k].value = word + 3 + n;
            return true;
        }
        if (!word[2 + n]) {
            *valued[k].value = *i + 1 < argc ? argv[++*i] : "";
            return true;
        }
    }
    if (!strcmp(word, "-q") || !strcmp(word, "--quiet"))
        g->level = RT_LOG_QUIET;
    else if (cmd && !strcmp(word, "--print-recipe"))
        g->print_recipe = true;
    else
        return false;
    return true;
}

// Moves the global flags out of argv and returns the new argc; a flag's value is never looked into.
static int take_globals(globals *g, const rt_command *cmd, int argc, char **argv)
{
    int kept = 0;
    bool flags = true;
    for (int i = 0; i < argc; i++) {
        if (flags && take_global(g, cmd, argc, argv, &i))
            continue;
        const rt_option *o = strncmp(argv[i], "--", 2) ? NULL : rt_option_find(cmd, argv[i] + 2);
        flags = flags && strcmp(argv[i], "--");
        argv[kept++] = argv[i];
        if (flags && o && o->kind != RT_OPT_BOOL && i + 1 < argc)
            argv[kept++] = argv[++i];
    }
    return kept;
}

// --------------------------------------------------------------------------------- help

static const rt_command *find_command(const char *name, rt_err *err)
{
    const char *names[RT_COUNT(TABLE) + 1] = { "help" };
    for (int i = 0; i < RT_COUNT(TABLE); i++) {
        if (!strcmp(TABLE[i]->name, name))
            return TABLE[i];
        names[i + 1] = TABLE[i]->name;
    }
    char hint[160];
    if (name[0] == '-')
        rt_usage(err, "unknown flag %s; the command comes first: retort COMMAND %s", name, name);
    else
        rt_usage(err, "unknown command \"%s\"%s (retort help lists them)", name,
                 rt_suggest_command(hint, sizeof hint, name, names, RT_COUNT(names)));
    return NULL;
}

static int check_tables(rt_err *err)
{
    for (int i = 0; i < RT_COUNT(TABLE); i++) {
        if (rt_options_check(TABLE[i], err))
            return -1;
        for (int k = 0; k < i; k++)
            if (!strcmp(TABLE[i]->name, TABLE[k]->name))
                return rt_fail(err, "command %s occurs twice", TABLE[i]->name);
        printf("%s: %d options\n", TABLE[i]->name, TABLE[i]->n_options);
    }
    return 0;
}

static int run_help(int argc, char **argv, rt_err *err)
{
    const bool shell = argc >= 1 && !strcmp(argv[0], "--completion");
    if (shell && argc == 2)
        return rt_completion(stdout, argv[1], TABLE, RT_COUNT(TABLE), err);
    if (shell)
        return rt_usage(err, "--completion needs the name of a shell: " RT_SHELLS);
    if (argc > 1)
        return rt_usage(err, "one command at a time: retort help %s", argv[0]);
    if (argc == 1 && !strcmp(argv[0], "--check-tables"))
        return check_tables(err);
    if (argc == 1 && !strcmp(argv[0], "--man")) {
        rt_manual(stdout, TABLE, RT_COUNT(TABLE));
        return 0;
    }
    if (argc == 0 || !strcmp(argv[0], "help") || argv[0][0] == '-') {
        rt_help_commands(stdout, TABLE, RT_COUNT(TABLE));
        return 0;
    }
    const rt_command *cmd = find_command(argv[0], err);
    if (cmd)
        rt_options_help(cmd);
    return cmd ? 0 : -1;
}

// --------------------------------------------------------------------------------- running

static bool is_set(const rt_command *cmd, const void *values, const char *name)
{
    const rt_option *o = rt_option_find(cmd, name);
    return o && o->kind == RT_OPT_BOOL && *((const bool *)values + o->offset);
}

// What the command would take, instead of doing it.
static int plan_command(const rt_command *cmd, void *values, rt_err *err)
{
    rt_needs p = { 0 };
    int rc = cmd->plan(values, &p, err);
    if (!rc)
        rt_needs_time(&p);
    if (!rc && is_set(cmd, values, "json")) {
        cJSON *json = rt_needs_json(&p);
        rt_json_print(json);
        cJSON_Delete(json);
    } else if (!rc) {
        rt_needs_print(&p, stdout);
    }
    rt_needs_free(&p);
    return rc;
}

static int act(const rt_command *cmd, void *values, const rt_origin *origin, rt_err *err)
{
    if (cmd->settle)
        cmd->settle(values);
    if (rt_section_places(cmd, values, origin, err) ||
        (cmd != &rt_command_run && rt_output_apart(cmd, values, err))) // it looks by itself
        return -1;
    return cmd->plan && is_set(cmd, values, "plan") ? plan_command(cmd, values, err)
                                                    : cmd->run(values, err);
}

static int run_command(const rt_command *cmd, globals *g, int argc, char **argv, rt_err *err)
{
    const char *name = g->section ? g->section : cmd->name;
    rt_section section = { 0 };
    bool help = false;
    void *values = rt_alloc(1, (int64_t)cmd->struct_bytes, "options");
    rt_origin *origin = rt_alloc(cmd->n_options, sizeof *origin, "options");
    rt_option *rows = rt_alloc(cmd->n_options, sizeof *rows, "options");
    rt_command shown = *cmd; // --print-recipe also prints what a required option still lacks
    memcpy(rows, cmd->options, (size_t)cmd->n_options * sizeof *rows);
    for (int i = 0; i < cmd->n_options; i++)
        rows[i].required = rows[i].required && !g->print_recipe;
    shown.options = rows;
    int rc = 0;
    if ((g->section && !g->recipe) || (g->recipe && !g->recipe[0]))
        rc = rt_usage(err, "%s",
                      g->recipe ? "--recipe needs a value: --recipe FILE"
                                : "--section needs --recipe FILE");
    if (!rc && g->recipe)
        rc = rt_section_open(&section, g->recipe, name, cmd, err);
    if (!rc)
        rc = rt_options_parse_origins(&shown, values, section.values, argc, argv, origin, &help,
                                      err);
    if (!rc && help)
        rt_options_help(cmd);
    else if (!rc && g->print_recipe)
        rt_section_print(cmd, name, values, origin);
    else if (!rc)
        rc = act(cmd, values, origin, err);
    rt_options_free(cmd, values);
    free(rows);
    free(origin);
    free(values);
    rt_section_close(&section);
    return rc ? -1 : 0;
}

static int finish(int rc, const char *name, rt_err *err)
{
    rt_err out = { 0 };
    if (rt_process_close_stdout(&out) && rc == 0) {
        *err = out;
        rc = -1;
    }
    if (rc == 0)
        return 0;
    if (err->exit_code == 0)
        rt_fail(err, "failed without saying why");
    fprintf(stderr, "retort%s%s: %s\n", name ? " " : "", name ? name : "", err->text);
    return rt_interrupted() ? 130 : err->exit_code;
}

int main(int argc, char **argv)
{
    rt_err err = { 0 };
    globals g = { .level = RT_LOG_NORMAL };
    if (rt_process_prepare(&err))
        return finish(-1, NULL, &err);
    int at = 1;
    while (at < argc && take_global(&g, NULL, argc, argv, &at))
        at++;
    const char *name = at < argc ? argv[at++] : NULL;
    argc -= at;
    argv += at;
    rt_log_set_level(g.level);
    if (!name) {
        rt_help_commands(stderr, TABLE, RT_COUNT(TABLE));
        return 2;
    }
    if (!strcmp(name, "--version")) {
        printf("retort %s\n", RT_VERSION);
        return finish(0, NULL, &err);
    }
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h"))
        return finish(run_help(argc, argv, &err), NULL, &err);
    const rt_command *cmd = find_command(name, &err);
    if (!cmd)
        return finish(-1, NULL, &err);
    argc = take_globals(&g, cmd, argc, argv);
    rt_log_set_level(g.level);
    return finish(run_command(cmd, &g, argc, argv, &err), name, &err);
}
