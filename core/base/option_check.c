/* option_check.c: whether a command's table of options is sound: names, help, defaults, fields and roles.
   Run by tests and by who changes a table, never on a user's input. */
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/option_inside.h"

static size_t field_bytes(const rt_option *o)
{
    static const size_t BYTES[] = { sizeof(bool),    sizeof(int64_t),    sizeof(double),
                                    sizeof(char *),  sizeof(rt_strlist), sizeof(int64_t),
                                    sizeof(uint64_t) };
    return BYTES[o->kind];
}

/* Whether the word that stands for the value in help says that it is a path. */
static bool says_path(const char *arg)
{
    static const char *const WORDS[] = { "DIR",  "FILE",    "PATH", "GGUF",
                                         ".npy", ".traces", ".gguf" };
    for (int i = 0; arg && i < RT_COUNT(WORDS); i++)
        if (strstr(arg, WORDS[i]))
            return true;
    return false;
}

static int check_role(const rt_command *cmd, const rt_option *o, rt_err *err)
{
    bool path = o->role != RT_OPT_RESULT && o->role != RT_OPT_FREE;
    bool text = (o->kind == RT_OPT_STR && !o->choices) || o->kind == RT_OPT_LIST;
    if (path && !text)
        return rt_fail(err, "%s: --%s cannot be a path", cmd->name, o->name);
    if (text && says_path(o->arg) && !path)
        return rt_fail(err, "%s: --%s %s needs the role of an input or output", cmd->name, o->name,
                       o->arg);
    return 0;
}

static int check_row(const rt_command *cmd, int i, void *scratch, rt_err *err)
{
    const rt_option *o = &cmd->options[i];
    const char *at = cmd->name;
    if (!o->name || !o->name[0] || strlen(o->name) >= NAME_MAX_BYTES ||
        o->name[strspn(o->name, "abcdefghijklmnopqrstuvwxyz0123456789-")])
        return rt_fail(err, "%s: row %d: \"%s\" is no name", at, i, o->name ? o->name : "");
    if (!o->help || !o->help[0])
        return rt_fail(err, "%s: --%s has no help", at, o->name);
    if (!strcmp(o->name, "help") || !strcmp(o->name, "version") || !strncmp(o->name, "no-", 3))
        return rt_fail(err, "%s: --%s is reserved", at, o->name);
    if (o->offset + field_bytes(o) > cmd->struct_bytes)
        return rt_fail(err, "%s: --%s lies outside its struct", at, o->name);
    for (int k = 0; k < i; k++) {
        const rt_option *b = &cmd->options[k];
        if (!strcmp(o->name, b->name))
            return rt_fail(err, "%s: --%s occurs twice", at, o->name);
        if (o->offset < b->offset + field_bytes(b) && b->offset < o->offset + field_bytes(o))
            return rt_fail(err, "%s: --%s and --%s share a field", at, o->name, b->name);
    }
    if (rt_option_is_number(o) && (!(o->min <= o->max) || (!o->def && !o->required)))
        return rt_fail(err, "%s: --%s needs min <= max and a default", at, o->name);
    if (check_role(cmd, o, err))
        return -1;
    if (o->required && o->def)
        return rt_fail(err, "%s: --%s is required and has a default", at, o->name);
    int rc = o->def ? rt_option_set(o, scratch, o->def, o->name, err) : 0;
    rt_option_clear(o, scratch);
    return rc;
}

int rt_options_check(const rt_command *cmd, rt_err *err)
{
    if (!cmd->name || !cmd->help || !cmd->help[0] || !cmd->run)
        return rt_fail(err, "command %s: name, help or run is missing", cmd->name ? cmd->name : "");
    void *scratch = rt_alloc(1, (int64_t)cmd->struct_bytes, "options");
    int rc = 0;
    for (int i = 0; !rc && i < cmd->n_options; i++)
        rc = check_row(cmd, i, scratch, err);
    free(scratch);
    if (!rc && cmd->positional && !rt_option_find(cmd, cmd->positional))
        rc = rt_fail(err, "%s: no option is called \"%s\" as its positional says", cmd->name,
                     cmd->positional);
    return rc;
}
