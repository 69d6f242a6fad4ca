/* option.c: one table per command, read three ways: defaults, recipe section, flags. All values,
   wherever they come from, pass through rt_option_set, so bounds and choices are checked once.
   Refuses: abbreviations, environment variables, options that are not in a table, and an empty text
   where a name belongs, which is what an unset shell variable leaves. help.c shows the tables. */
#include "core/base/option_inside.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/suggest.h"
#include "core/base/utf8.h"

enum { HINT_BYTES = 160 };

static void *field(void *values, const rt_option *o) { return (char *)values + o->offset; }

// learning-rate -> learning_rate
static void recipe_key(char key[NAME_MAX_BYTES], const char *name)
{
    snprintf(key, NAME_MAX_BYTES, "%s", name);
    for (char *p = key; *p; p++)
        if (*p == '-')
            *p = '_';
}

const rt_option *rt_option_find(const rt_command *cmd, const char *name)
{
    for (int i = 0; i < cmd->n_options; i++)
        if (!strcmp(cmd->options[i].name, name))
            return &cmd->options[i];
    return NULL;
}

// --------------------------------------------------------------------------------- values

static void list_add(rt_strlist *list, const char *text)
{
    list->item = rt_realloc(list->item, list->n + 1, sizeof *list->item, "options");
    list->item[list->n++] = rt_strdup(text);
}

static void list_clear(rt_strlist *list)
{
    for (int i = 0; i < list->n; i++)
        free(list->item[i]);
    free(list->item);
    *list = (rt_strlist){ 0 };
}

void rt_option_clear(const rt_option *o, void *values)
{
    void *at = field(values, o);
    if (o->kind == RT_OPT_LIST)
        list_clear(at);
    if (o->kind == RT_OPT_STR) {
        free(*(char **)at);
        *(char **)at = NULL;
    }
}

static int check_bounds(const rt_option *o, double v, const char *where, const char *text,
                        rt_err *err)
{
    if (v >= o->min && v <= o->max)
        return 0;
    return rt_usage(err, "%s: %s is out of bounds, it must be from %.15g to %.15g", where, text,
                    o->min, o->max);
}

// Splits "a|b|c" into at most 32 names; copy owns the characters.
static int split_choices(const char *choices, char copy[512], const char *names[32])
{
    int n = 0;
    snprintf(copy, 512, "%s", choices);
    for (char *save = NULL, *p = strtok_r(copy, "|", &save); p && n < 32;
         p = strtok_r(NULL, "|", &save))
        names[n++] = p;
    return n;
}

static int check_choice(const rt_option *o, const char *text, const char *where, rt_err *err)
{
    char copy[512], hint[HINT_BYTES];
    const char *names[32];
    int n = split_choices(o->choices, copy, names);
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], text))
            return 0;
    return rt_usage(err, "%s: \"%s\" is not one of %s%s", where, text, o->choices,
                    rt_suggest_name(hint, sizeof hint, text, names, n));
}

// An unset shell variable gives "": never a path, a name or a list, only a free text or what the
// default is already.
static int check_empty(const rt_option *o, const char *text, const char *where, rt_err *err)
{
    bool allowed = text[0] || (o->def && !o->def[0]) || (o->arg && !strcmp(o->arg, "TEXT"));
    return allowed ? 0
                   : rt_usage(err, "%s: is empty (an unset variable?); give %s, or leave it out",
                              where, o->arg ? o->arg : "a value");
}

// What is given stands later in JSON that is written: records of runs, reports, keys of a GGUF.
static int check_utf8(const char *text, const char *where, rt_err *err)
{
    int64_t n = (int64_t)strlen(text), at = rt_utf8_check(text, n);
    return at == n ? 0
                   : rt_usage(err, "%s: \"%s\" is not UTF-8 at byte %lld; rename what it names",
                              where, text, (long long)at);
}

// "2G", "512M", "1.5g" or plain bytes.
static int set_bytes(const rt_option *o, int64_t *at, const char *text, const char *where,
                     rt_err *err)
{
    static const char UNITS[] = "KMGT";
    char *end = NULL;
    double v = strtod(text, &end), unit = 1;
    bool plain = end != text && strspn(text, "0123456789.") == (size_t)(end - text);
    const char *found = *end ? strchr(UNITS, *end & ~0x20) : NULL;
    if (found) {
        unit = ldexp(1, 10 * (int)(found - UNITS + 1));
        end++;
    }
    if (*end || !plain || !isfinite(v))
        return rt_usage(err, "%s: \"%s\" is not a number of bytes: give 2G, 512M or 2147483648",
                        where, text);
    if (check_bounds(o, v * unit, where, text, err))
        return -1;
    *at = (int64_t)(v * unit);
    return 0;
}

bool rt_option_is_default(const rt_option *o, const void *values)
{
    const void *at = (const char *)values + o->offset;
    union { bool b; int64_t i; double d; uint64_t u; char *s; rt_strlist l; } def = { .l = { 0 } };
    rt_option alone = *o; /* a struct of this one field */
    rt_err ignored;
    alone.offset = 0;
    if (o->kind == RT_OPT_LIST)
        return ((const rt_strlist *)at)->n == 0;
    if (o->def)
        (void)rt_option_set(&alone, &def, o->def, o->name, &ignored);
    if (o->kind != RT_OPT_STR)
        return memcmp(at, &def, o->kind == RT_OPT_BOOL ? sizeof(bool) : sizeof(int64_t)) == 0;
    const char *text = *(char *const *)at;
    bool same = text && def.s ? strcmp(text, def.s) == 0 : text == def.s;
    rt_option_clear(&alone, &def);
    return same;
}

bool rt_option_is_number(const rt_option *o)
{
    return o->kind == RT_OPT_INT || o->kind == RT_OPT_FLOAT || o->kind == RT_OPT_BYTES ||
           o->kind == RT_OPT_SEED;
}

// Parses text into the field. where: how the user gave it, "--steps" or "recipe key \"steps\"".
int rt_option_set(const rt_option *o, void *values, const char *text, const char *where, rt_err *err)
{
    void *at = field(values, o);
    char *end = NULL;
    errno = 0;
    if (check_utf8(text, where, err))
        return -1;
    switch (o->kind) {
    case RT_OPT_BOOL:
        if (strcmp(text, "true") && strcmp(text, "false"))
            return rt_usage(err, "%s: \"%s\" is not true or false", where, text);
        *(bool *)at = text[0] == 't';
        return 0;
    case RT_OPT_INT: {
        long long v = strtoll(text, &end, 10);
        if (end != text && !*end && errno == ERANGE)
            return check_bounds(o, v < 0 ? -INFINITY : INFINITY, where, text, err);
        if (end == text || *end || errno)
            return rt_usage(err, "%s: \"%s\" is not an integer", where, text);
        if (check_bounds(o, (double)v, where, text, err))
            return -1;
        *(int64_t *)at = v;
        return 0;
    }
    case RT_OPT_SEED: {
        unsigned long long v = strtoull(text, &end, 10);
        if (end == text || *end || text[strspn(text, "0123456789")])
            return rt_usage(err, "%s: \"%s\" is not an integer from 0 to %llu", where, text,
                            ULLONG_MAX);
        if (errno)
            return rt_usage(err, "%s: %s is out of bounds, it must be from 0 to %llu", where, text,
                            ULLONG_MAX);
        *(uint64_t *)at = v;
        return 0;
    }
    case RT_OPT_BYTES:
        return set_bytes(o, at, text, where, err);
    case RT_OPT_FLOAT: {
        double v = strtod(text, &end);
        if (end == text || *end || !isfinite(v))
            return rt_usage(err, "%s: \"%s\" is not a number", where, text);
        if (check_bounds(o, v, where, text, err))
            return -1;
        *(double *)at = v;
        return 0;
    }
    case RT_OPT_STR:
        if (check_empty(o, text, where, err) || (o->choices && !o->open && check_choice(o, text, where, err)))
            return -1;
        free(*(char **)at);
        *(char **)at = rt_strdup(text);
        return 0;
    case RT_OPT_LIST:
        if (check_empty(o, text, where, err))
            return -1;
        list_add(at, text);
        return 0;
    }
    rt_bug("option %s: kind %d", o->name, (int)o->kind);
}

static int set_json(const rt_option *o, void *values, const cJSON *v, const char *where,
                    rt_err *err)
{
    static const char *const WANTED[] = { "true or false",
                                          "an integer",
                                          "a number",
                                          "a string",
                                          "a string or an array of strings",
                                          "a number of bytes, or a string (\"2G\")",
                                          "an integer" };
    // Integers beyond 2^53 come as strings, because JSON numbers are doubles.
    bool fits = o->kind == RT_OPT_BOOL ? cJSON_IsBool(v)
                : rt_option_is_number(o)
                    ? cJSON_IsNumber(v) || (o->kind != RT_OPT_FLOAT && cJSON_IsString(v))
                    : cJSON_IsString(v);
    if (o->kind == RT_OPT_LIST && cJSON_IsArray(v)) {
        for (const cJSON *c = v->child; c; c = c->next) {
            if (!cJSON_IsString(c))
                return rt_usage(err, "%s: every item must be a string", where);
            if (rt_option_set(o, values, c->valuestring, where, err))
                return -1;
        }
        return 0;
    }
    if (!fits)
        return rt_usage(err, "%s: must be %s", where, WANTED[o->kind]);
    if (cJSON_IsString(v))
        return rt_option_set(o, values, v->valuestring, where, err);
    char *text = rt_json_text(v);
    int rc = rt_option_set(o, values, text, where, err);
    free(text);
    return rc;
}

// --------------------------------------------------------------------------------- sources

static void set_defaults(const rt_command *cmd, void *values)
{
    rt_err err;
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        if (o->def && rt_option_set(o, values, o->def, o->name, &err))
            rt_bug("option table of %s: default of %s", cmd->name, err.text);
    }
}

// The names of a command's options, to look for what was meant; free() the list.
static const char **option_names(const rt_command *cmd)
{
    const char **names = rt_alloc(cmd->n_options, sizeof *names, "options");
    for (int i = 0; i < cmd->n_options; i++)
        names[i] = cmd->options[i].name;
    return names;
}

// The stage as the recipe calls it; a section that stands alone has its command's name.
static const char *section_name(const rt_command *cmd, const cJSON *section)
{
    return section->string ? section->string : cmd->name;
}

static int unknown_key(const rt_command *cmd, const char *section, const char *key, rt_err *err)
{
    const char **names = option_names(cmd);
    char hint[HINT_BYTES];
    rt_usage(err, "recipe section \"%s\": unknown key \"%s\"%s", section, key,
             rt_suggest_option(hint, sizeof hint, "", key, names, cmd->n_options));
    free(names);
    return -1;
}

static int read_section(const rt_command *cmd, void *values, const cJSON *section,
                        rt_origin *origin, rt_err *err)
{
    if (!cJSON_IsObject(section))
        return rt_usage(err, "recipe section \"%s\" must be an object", section_name(cmd, section));
    for (const cJSON *v = section->child; v; v = v->next) {
        if (!strncmp(v->string, "//", 2))
            continue;
        int i = 0;
        char key[NAME_MAX_BYTES], where[NAME_MAX_BYTES + 128];
        for (; i < cmd->n_options; i++) {
            recipe_key(key, cmd->options[i].name);
            if (!strcmp(key, v->string))
                break;
        }
        if (i == cmd->n_options)
            return unknown_key(cmd, section_name(cmd, section), v->string, err);
        if (cJSON_IsNull(v))
            continue;
        snprintf(where, sizeof where, "recipe section \"%s\": key \"%s\"",
                 section_name(cmd, section), key);
        if (set_json(&cmd->options[i], values, v, where, err))
            return -1;
        origin[i] = RT_FROM_RECIPE;
    }
    return 0;
}

const char *rt_command_program(const rt_command *cmd)
{
    return cmd->name[0] == '.' ? "" : "retort ";
}

// What one line of an error says about how the command is called.
static const char *example_of(const rt_command *cmd, char buf[512])
{
    buf[0] = 0;
    if (cmd->example)
        snprintf(buf, 512, "; e.g. %s", cmd->example);
    return buf;
}

static int unknown_flag(const rt_command *cmd, const char *word, rt_err *err)
{
    const char **names = option_names(cmd);
    char name[NAME_MAX_BYTES], hint[HINT_BYTES];
    snprintf(name, sizeof name, "%s", word + strspn(word, "-"));
    name[strcspn(name, "=")] = 0;
    rt_usage(err, "unknown flag %.80s%s (%s%s --help lists them)", word,
             rt_suggest_option(hint, sizeof hint, "--", name, names, cmd->n_options),
             rt_command_program(cmd), cmd->name);
    free(names);
    return -1;
}

// A flag or bare word sets option o; a list's first flag drops what default and recipe put there.
static int set_flag(const rt_command *cmd, void *values, const rt_option *o, const char *text,
                    const char *where, rt_origin *origin, rt_err *err)
{
    rt_origin *from = &origin[o - cmd->options];
    if (o->kind == RT_OPT_LIST && *from != RT_FROM_FLAG)
        list_clear(field(values, o));
    else if (o->kind != RT_OPT_LIST && *from == RT_FROM_FLAG)
        rt_info("note: %s is given twice; the last one counts", where);
    *from = RT_FROM_FLAG;
    return rt_option_set(o, values, text, where, err);
}

// One "--flag", "--flag=value", "--flag value" or "--no-flag" at argv[*i]; advances past its value.
static int read_flag(const rt_command *cmd, void *values, int argc, char **argv, int *i,
                     rt_origin *origin, rt_err *err)
{
    const char *word = argv[*i], *equals = strchr(word, '='), *text = equals ? equals + 1 : NULL;
    char name[NAME_MAX_BYTES], where[NAME_MAX_BYTES + 8];
    size_t length = (equals ? (size_t)(equals - word) : strlen(word)) - 2;
    if (word[1] != '-' || length >= sizeof name)
        return unknown_flag(cmd, word, err);
    memcpy(name, word + 2, length);
    name[length] = 0;
    snprintf(where, sizeof where, "--%s", name);
    const rt_option *o = rt_option_find(cmd, name);
    if (!o && !strncmp(name, "no-", 3) && !equals) {
        o = rt_option_find(cmd, name + 3);
        if (o && o->kind != RT_OPT_BOOL)
            return rt_usage(err, "%s: --%s takes a value, it cannot be switched off", where,
                            o->name);
        text = "false";
    }
    if (!o)
        return unknown_flag(cmd, word, err);
    if (!text && o->kind == RT_OPT_BOOL)
        text = "true";
    if (!text) {
        const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
        if (!next || (!strncmp(next, "--", 2) && rt_option_find(cmd, next + 2)))
            return rt_usage(err, "%s needs a value: %s %s", where, where,
                            o->arg ? o->arg : "VALUE");
        text = next;
        ++*i;
    }
    return set_flag(cmd, values, o, text, where, origin, err);
}

static int read_argv(const rt_command *cmd, void *values, int argc, char **argv, rt_origin *origin,
                     bool *help, rt_err *err)
{
    const rt_option *bare = cmd->positional ? rt_option_find(cmd, cmd->positional) : NULL;
    bool flags = true, bare_seen = false;
    char example[512];
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (flags && !strcmp(word, "--")) {
            flags = false;
        } else if (flags && (!strcmp(word, "--help") || !strcmp(word, "-h"))) {
            *help = true;
            return 0;
        } else if (flags && word[0] == '-' && word[1]) {
            if (read_flag(cmd, values, argc, argv, &i, origin, err))
                return -1;
        } else if (!bare || (bare_seen && bare->kind != RT_OPT_LIST)) {
            return rt_usage(err, "unexpected word \"%s\"; values follow their flag%s (%s%s --help)",
                            word, example_of(cmd, example), rt_command_program(cmd), cmd->name);
        } else {
            bare_seen = true;
            if (set_flag(cmd, values, bare, word, bare->arg ? bare->arg : bare->name, origin, err))
                return -1;
        }
    }
    return 0;
}

static int check_required(const rt_command *cmd, void *values, const rt_origin *origin, rt_err *err)
{
    char missing[512] = "", example[512];
    size_t used = 0;
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        bool given = o->kind == RT_OPT_LIST ? ((const rt_strlist *)field(values, o))->n > 0
                                            : origin[i] != RT_FROM_DEFAULT;
        if (!o->required || given || used >= sizeof missing)
            continue;
        bool bare = cmd->positional && !strcmp(o->name, cmd->positional);
        used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s%s%s",
                                 used ? ", " : "", bare ? "" : "--", bare ? "" : o->name,
                                 bare ? "" : " ");
        if (used < sizeof missing)
            used += (size_t)snprintf(missing + used, sizeof missing - used, "%s",
                                     o->arg ? o->arg : "VALUE");
    }
    if (!used)
        return 0;
    return rt_usage(err, "missing %s: give %s here or in recipe section \"%s\"%s", missing,
                    strchr(missing, ',') ? "them" : "it", cmd->name, example_of(cmd, example));
}

int rt_options_parse_origins(const rt_command *cmd, void *values, const cJSON *section, int argc,
                             char **argv, rt_origin *origin, bool *help, rt_err *err)
{
    size_t n = (size_t)cmd->n_options;
    rt_origin *from = rt_alloc((int64_t)n, sizeof *from, "options");
    memset(values, 0, cmd->struct_bytes);
    *help = false;
    set_defaults(cmd, values);
    int rc = (section && read_section(cmd, values, section, from, err)) ||
             read_argv(cmd, values, argc, argv, from, help, err) ||
             (!*help && check_required(cmd, values, from, err));
    if (origin)
        memcpy(origin, from, n * sizeof *from);
    free(from);
    return rc ? -1 : 0;
}

int rt_options_parse(const rt_command *cmd, void *values, const cJSON *section, int argc,
                     char **argv, bool *help, rt_err *err)
{
    return rt_options_parse_origins(cmd, values, section, argc, argv, NULL, help, err);
}

void rt_options_free(const rt_command *cmd, void *values)
{
    for (int i = 0; i < cmd->n_options; i++)
        rt_option_clear(&cmd->options[i], values);
}

// --------------------------------------------------------------------------------- showing

cJSON *rt_options_json(const rt_command *cmd, const void *values)
{
    cJSON *json = rt_json_object();
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        const void *at = (const char *)values + o->offset;
        char key[NAME_MAX_BYTES], text[32];
        recipe_key(key, o->name);
        if (o->kind == RT_OPT_BOOL) {
            rt_json_put_bool(json, key, *(const bool *)at);
        } else if (o->kind == RT_OPT_INT || o->kind == RT_OPT_BYTES) {
            int64_t v = *(const int64_t *)at;
            snprintf(text, sizeof text, "%lld", (long long)v);
            if (v > -(1LL << 53) && v < 1LL << 53)
                rt_json_put_i64(json, key, v);
            else
                rt_json_put_str(json, key, text);
        } else if (o->kind == RT_OPT_SEED) {
            uint64_t v = *(const uint64_t *)at;
            if (v < 1ULL << 53)
                rt_json_put_i64(json, key, (int64_t)v);
            else
                rt_json_put_u64(json, key, v);
        } else if (o->kind == RT_OPT_FLOAT) {
            rt_json_put_num(json, key, *(const double *)at);
        } else if (o->kind == RT_OPT_STR) {
            rt_json_put_str(json, key, *(char *const *)at);
        } else {
            const rt_strlist *list = at;
            cJSON *array = rt_json_array();
            for (int k = 0; k < list->n; k++)
                rt_json_put(array, NULL, cJSON_CreateString(list->item[k]));
            rt_json_put(json, key, array);
        }
    }
    return json;
}

cJSON *rt_options_result(const rt_command *cmd, const void *values)
{
    cJSON *json = rt_options_json(cmd, values);
    char key[NAME_MAX_BYTES];
    for (int i = 0; i < cmd->n_options; i++) {
        recipe_key(key, cmd->options[i].name);
        if (cmd->options[i].role != RT_OPT_RESULT)
            cJSON_DeleteItemFromObjectCaseSensitive(json, key);
    }
    return json;
}

const char *rt_option_path(const rt_option *o, const void *values, int k)
{
    const void *at = (const char *)values + o->offset;
    if (o->role == RT_OPT_RESULT || o->role == RT_OPT_FREE)
        return NULL;
    if (o->kind == RT_OPT_LIST)
        return k < ((const rt_strlist *)at)->n ? ((const rt_strlist *)at)->item[k] : NULL;
    return k == 0 && o->kind == RT_OPT_STR ? *(char *const *)at : NULL;
}
