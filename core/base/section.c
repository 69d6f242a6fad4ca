/* section.c: see section.h. */
#include "core/base/section.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

enum { NAMES_MAX = 64, HINT_BYTES = 160 };

int rt_section_open(rt_section *s, const char *file, const char *name, const rt_command *cmd,
                    rt_err *err)
{
    const char *names[NAMES_MAX], *command = NULL;
    char hint[HINT_BYTES];
    int n = 0;
    if (rt_json_load(&s->recipe, file, err))
        return -1;
    if (!cJSON_IsObject(s->recipe))
        return rt_usage(err, "%s: a recipe is an object with one section per stage", file);
    for (const cJSON *c = s->recipe->child; c && n < NAMES_MAX; c = c->next)
        names[n++] = c->string;
    s->values = cJSON_GetObjectItemCaseSensitive(s->recipe, name);
    if (!s->values)
        return rt_usage(err, "%s: has no section \"%s\"%s (--section NAME takes another)", file,
                        name, rt_suggest_name(hint, sizeof hint, name, names, n));
    cJSON *said = cJSON_IsObject(s->values)
                      ? cJSON_DetachItemFromObjectCaseSensitive(s->values, "command")
                      : NULL;
    if (said)
        command = cJSON_IsString(said) ? said->valuestring : "";
    int bad = command && strcmp(command, cmd->name)
                  ? rt_usage(err, "%s: section \"%s\" is for the command \"%s\", not for %s", file,
                             name, command, cmd->name)
                  : 0;
    cJSON_Delete(said);
    return bad;
}

void rt_section_close(rt_section *s)
{
    cJSON_Delete(s->recipe);
    *s = (rt_section){ 0 };
}

static bool has_place(const char *text)
{
    return text && (strstr(text, "{out}") || strstr(text, "{recipe}"));
}

int rt_section_places(const rt_command *cmd, const void *values, const rt_origin *origin,
                      rt_err *err)
{
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        const void *at = (const char *)values + o->offset;
        const char *text = NULL;
        if (origin[i] != RT_FROM_RECIPE)
            continue;
        if (o->kind == RT_OPT_STR)
            text = *(char *const *)at;
        const rt_strlist *list = o->kind == RT_OPT_LIST ? at : NULL;
        for (int k = 0; list && k < list->n && !has_place(text); k++)
            text = list->item[k];
        if (has_place(text))
            return rt_usage(err,
                            "\"%s\" of the recipe is %s: only \"retort run\" knows {out} and "
                            "{recipe}; give --%s",
                            o->name, text, o->name);
    }
    return 0;
}

void rt_section_print(const rt_command *cmd, const char *name, const void *values,
                      const rt_origin *origin)
{
    static const char *const FROM[] = { "", " (recipe)", " (flag)" };
    char *text = NULL;
    size_t size = 0;
    FILE *f = rt_memory_stream(&text, &size);
    for (int i = 0, n = 0; i < cmd->n_options; i++)
        if (origin[i] != RT_FROM_DEFAULT)
            fprintf(f, "%s %s%s", n++ ? "," : "not default:", cmd->options[i].name,
                    FROM[origin[i]]);
    rt_memory_stream_close(f);
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "//", text[0] ? text : "all defaults");
    rt_json_put(json, name, rt_options_json(cmd, values));
    free(text);
    text = rt_json_pretty(json);
    fputs(text, stdout);
    free(text);
    cJSON_Delete(json);
}
