#include "distill/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/base/path.h"
#include "distill/report.h"

/* ---- text ---- */

static char *replace_all(const char *text, const char *what, const char *with)
{
    size_t size = 0, n = strlen(what);
    char *out = NULL;
    FILE *f = rt_memory_stream(&out, &size);
    for (const char *hit; (hit = strstr(text, what)); text = hit + n)
        fprintf(f, "%.*s%s", (int)(hit - text), text, with);
    fputs(text, f);
    rt_memory_stream_close(f);
    return out;
}

/* {out} and {recipe} in every string of a section. */
static void expand(cJSON *node, const rt_recipe *r)
{
    for (; node; node = node->next) {
        if (cJSON_IsString(node)) {
            char *once = replace_all(node->valuestring, "{out}", r->folder);
            char *twice = replace_all(once, "{recipe}", r->home);
            if (!cJSON_SetValuestring(node, twice))
                rt_out_of_memory(-1, "a text of a recipe");
            free(once);
            free(twice);
        }
        expand(node->child, r);
    }
}

static const char *suggest(char *text, size_t size, const char *word, const char *const *names,
                           int n)
{
    const char *near = rt_nearest(word, names, n);
    snprintf(text, size, "%s%s%s", near ? "; did you mean " : "", near ? near : "",
             near ? "?" : "");
    return text;
}

static int set_value(cJSON *recipe, const char *word, rt_err *err)
{
    char section[96], key[96], hint[96];
    const char *dot = strchr(word, '.'), *equals = strchr(word, '=');
    if (!dot || !equals || dot > equals || dot - word > 90 || equals - dot > 90)
        return rt_usage(err, "--set %s: the form is STAGE.KEY=VALUE", word);
    snprintf(section, sizeof section, "%.*s", (int)(dot - word), word);
    snprintf(key, sizeof key, "%.*s", (int)(equals - dot - 1), dot + 1);
    cJSON *into = cJSON_GetObjectItemCaseSensitive(recipe, section);
    if (!cJSON_IsObject(into)) {
        const char *names[64];
        int n = 0;
        for (const cJSON *c = recipe->child; c && n < RT_COUNT(names); c = c->next)
            names[n++] = c->string;
        return rt_usage(err, "--set %s: the recipe has no stage \"%s\"%s", word, section,
                        suggest(hint, sizeof hint, section, names, n));
    }
    cJSON *value = cJSON_ParseWithOpts(equals + 1, NULL, true);
    if (!value || cJSON_IsArray(value) || cJSON_IsObject(value)) {
        cJSON_Delete(value);
        value = cJSON_CreateString(equals + 1);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(into, key);
    rt_json_put(into, key, value);
    return 0;
}

/* ---- places ---- */

static char *place_of(const rt_recipe *r, const char *real)
{
    size_t n = strlen(r->root);
    bool below = rt_path_holds(r->root, real) && real[n] && n > 1;
    return rt_strdup(below ? real + n + 1 : real);
}

char *rt_recipe_place(const rt_recipe *r, const char *path)
{
    char *real = rt_path_resolve_parent(path), *place = place_of(r, real);
    free(real);
    return place;
}

char *rt_recipe_path(const rt_recipe *r, const char *place)
{
    return place[0] == '/' ? rt_strdup(place) : rt_path_join(r->folder, place);
}

int rt_recipe_writer(const rt_recipe *r, int end, const char *path, bool *exact)
{
    char *real = rt_path_resolve_parent(path);
    int found = -1;
    for (int i = end - 1; found < 0 && i >= 0; i--)
        for (int k = 0; k < r->stage[i].n_outputs; k++)
            if (rt_path_overlap(r->stage[i].output[k].real, real)) {
                found = i;
                if (exact)
                    *exact = !strcmp(r->stage[i].output[k].real, real);
            }
    free(real);
    return found;
}

const rt_stage *rt_recipe_stage(const rt_recipe *r, const char *name)
{
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->stage[i].name, name))
            return &r->stage[i];
    return NULL;
}

/* ---- stages ---- */

static const rt_command *find_command(const rt_command *const *commands, int n, const char *name,
                                      const char *where, rt_err *err)
{
    const char *names[64];
    char hint[96];
    int known = 0;
    for (int i = 0; i < n && known < RT_COUNT(names); i++) {
        if (!strcmp(commands[i]->name, "run"))
            continue;
        if (!strcmp(commands[i]->name, name))
            return commands[i];
        names[known++] = commands[i]->name;
    }
    if (!strcmp(name, "run"))
        rt_usage(err,
                 "stage %s: a recipe cannot run recipes: write the stages out, or run one "
                 "after the other",
                 where);
    else
        rt_usage(err, "%s: no command \"%s\"%s; a stage names one with \"command\"", where, name,
                 suggest(hint, sizeof hint, name, names, known));
    return NULL;
}

/* Paths by one spelling: no "//", no "/" at the end. */
static void tidy_path(char *path)
{
    size_t to = 0;
    for (size_t i = 0; path[i]; i++)
        if (path[i] != '/' || to == 0 || path[to - 1] != '/')
            path[to++] = path[i];
    while (to > 1 && path[to - 1] == '/')
        to--;
    path[to] = 0;
}

static void list_paths(rt_stage *s)
{
    for (int i = 0; i < s->command->n_options; i++) {
        const rt_option *o = &s->command->options[i];
        const char *path;
        for (int k = 0; (path = rt_option_path(o, s->values, k)); k++) {
            if (o->role != RT_OPT_INPUT_WORDS)
                tidy_path((char *)path);
            if (o->role != RT_OPT_OUTPUT)
                continue;
            if (s->n_outputs == RT_STAGE_OUTPUTS_MAX)
                rt_bug("%s has more than %d outputs", s->command->name, RT_STAGE_OUTPUTS_MAX);
            if (!strcmp(o->name, "out"))
                s->out = path;
            s->output[s->n_outputs].option = o;
            s->output[s->n_outputs++].path = path;
        }
    }
}

static int add_stage(rt_recipe *r, cJSON *section, const rt_command *const *commands, int n,
                     rt_err *err)
{
    rt_stage *s = &r->stage[r->n];
    const char *name = section->string;
    bool help = false;
    s->name = section->string;
    if (!*name || strchr(name, '/') || strchr(name, '.') || strlen(name) > 64)
        return rt_usage(err, "%s: stage \"%s\": names have no '/' or '.' and 1 to 64 letters",
                        r->file, name);
    if (rt_json_opt_str(section, "command", &name, err) ||
        !(s->command = find_command(commands, n, name, s->name, err)))
        return rt_wrap(err, "%s", r->file);
    s->values = rt_alloc(1, (int64_t)s->command->struct_bytes + 1, "a stage's options");
    r->n++;
    cJSON *own = cJSON_DetachItemFromObjectCaseSensitive(section, "command");
    int bad = rt_options_parse(s->command, s->values, section, 0, NULL, &help, err);
    cJSON_Delete(own);
    if (bad)
        return rt_wrap(err, "%s: stage %s", r->file, s->name);
    if (s->command->settle)
        s->command->settle(s->values);
    const rt_option *plan = rt_option_find(s->command, "plan");
    if (plan && *((const bool *)s->values + plan->offset))
        return rt_usage(err,
                        "%s: stage %s: \"plan\" in a recipe would do nothing; retort run "
                        "--plan plans every stage",
                        r->file, s->name);
    list_paths(s);
    return 0;
}

static int read_stages(rt_recipe *r, const rt_command *const *commands, int n, rt_err *err)
{
    r->stage = rt_alloc(cJSON_GetArraySize(r->json) + 1, (int64_t)sizeof *r->stage, "stages");
    for (cJSON *c = r->json->child; c; c = c->next) {
        if (!strcmp(c->string, "run") || !strcmp(c->string, "report") ||
            !strncmp(c->string, "//", 2))
            continue;
        if (!cJSON_IsObject(c))
            return rt_usage(err, "%s: \"%s\" must be an object: one section per stage", r->file,
                            c->string);
        if (add_stage(r, c, commands, n, err))
            return -1;
    }
    return r->n ? 0 : rt_usage(err, "%s: no stages in it", r->file);
}

/* ---- outputs ---- */

/* What no stage may write, because it is somebody's, or the run's own. */
static int check_place(const rt_recipe *r, const rt_stage *s, const char *path, const char *real,
                       rt_err *err)
{
    static const char *const OWN[] = { "stages", "old", "lock", "report.json", "report.html" };
    const char *home = getenv("HOME");
    char *own[] = { rt_strdup(r->root), home && *home ? rt_path_resolve(home) : NULL, rt_path_resolve("."),
                    rt_path_resolve(r->file) };
    int bad = 0;
    for (int i = 0; !bad && i < RT_COUNT(own); i++)
        if (own[i] && rt_path_holds(real, own[i]))
            bad = rt_usage(err,
                           "stage %s: \"out\" %s is%s %s: name a path of its own below the run "
                           "folder",
                           s->name, path, strcmp(real, own[i]) ? " above" : "", own[i]);
    for (int i = 0; i < RT_COUNT(own); i++)
        free(own[i]);
    for (int i = 0; !bad && i < RT_COUNT(OWN); i++) {
        char *kept = rt_path_join(r->root, OWN[i]);
        if (rt_path_overlap(kept, real))
            bad = rt_usage(err, "stage %s: \"out\" %s: the run keeps its own files there", s->name,
                           path);
        free(kept);
    }
    return bad;
}

static int check_pair(const rt_stage *a, int i, const rt_stage *b, int k, rt_err *err)
{
    const char *one = a->output[i].real, *two = b->output[k].real;
    if (!rt_path_overlap(one, two))
        return 0;
    return rt_usage(err, "stages %s and %s both write %s: give each its own output", a->name,
                    b->name, rt_path_holds(one, two) ? b->output[k].path : a->output[i].path);
}

/* What a stage reads an earlier one may write, never itself or a later one. */
static int check_inputs(const rt_recipe *r, int at, rt_err *err)
{
    const rt_stage *s = &r->stage[at];
    int bad = 0, writer;
    for (int i = 0; i < s->command->n_options; i++) {
        const rt_option *o = &s->command->options[i];
        const char *path;
        for (int k = 0; !bad && (path = rt_option_path(o, s->values, k)); k++) {
            if (o->role == RT_OPT_OUTPUT)
                continue;
            writer = rt_recipe_writer(r, r->n, path, NULL);
            if (writer >= at)
                bad = rt_usage(err, "stage %s reads %s, where %s: %s", s->name, path,
                               writer == at ? "it also writes" : "a later stage writes",
                               writer == at ? "give another output" : "change their order");
        }
    }
    return bad;
}

static int check_outputs(rt_recipe *r, rt_err *err)
{
    for (int i = 0; i < r->n; i++) {
        rt_stage *s = &r->stage[i];
        for (int k = 0; k < s->n_outputs; k++) {
            s->output[k].real = rt_path_resolve_parent(s->output[k].path);
            s->output[k].place = place_of(r, s->output[k].real);
            if (check_place(r, s, s->output[k].path, s->output[k].real, err))
                return -1;
            for (int a = 0; a <= i; a++)
                for (int b = 0; b < (a < i ? r->stage[a].n_outputs : k); b++)
                    if (check_pair(&r->stage[a], b, s, k, err))
                        return -1;
        }
    }
    for (int i = 0; i < r->n; i++)
        if (check_inputs(r, i, err))
            return -1;
    return 0;
}

/* ---- the whole ---- */

static int find_folder(rt_recipe *r, const char *out, rt_err *err)
{
    const cJSON *run = rt_json_find(r->json, "run"), *c;
    for (c = run ? run->child : NULL; c; c = c->next)
        if (strcmp(c->string, "out") && strncmp(c->string, "//", 2))
            return rt_usage(err,
                            "%s: section \"run\": unknown key \"%s\"; it has \"out\", the run "
                            "folder",
                            r->file, c->string);
    if (!out && (!run || rt_json_opt_str(run, "out", &out, err)))
        out = NULL;
    if (!out)
        return rt_usage(err, "%s: give --out DIR, or \"run\": {\"out\": DIR} in the recipe",
                        r->file);
    if (!*out)
        return rt_usage(err, "%s: the run folder's name is empty: is a variable unset?", r->file);
    r->folder = rt_strdup(out);
    for (size_t n = strlen(out); n > 1 && r->folder[n - 1] == '/'; n--)
        r->folder[n - 1] = 0;
    r->root = rt_path_resolve(out);
    r->home = rt_path_parent(r->file);
    return 0;
}

int rt_recipe_open(rt_recipe *r, const char *file, const char *out, const rt_strlist *set,
                   const rt_command *const *commands, int n, rt_err *err)
{
    *r = (rt_recipe){ .file = file };
    if (rt_json_load(&r->json, file, err))
        return -1;
    if (!cJSON_IsObject(r->json))
        return rt_usage(err, "%s: a recipe is an object with one section per stage", file);
    for (int i = 0; i < set->n; i++)
        if (set_value(r->json, set->item[i], err))
            return -1;
    if (find_folder(r, out, err))
        return -1;
    expand(r->json->child, r);
    return read_stages(r, commands, n, err) || check_outputs(r, err) || rt_report_check(r, err) ? -1
                                                                                                : 0;
}

void rt_recipe_close(rt_recipe *r)
{
    for (int i = 0; i < r->n; i++) {
        for (int k = 0; k < r->stage[i].n_outputs; k++) {
            free(r->stage[i].output[k].real);
            free(r->stage[i].output[k].place);
        }
        rt_options_free(r->stage[i].command, r->stage[i].values);
        free(r->stage[i].values);
    }
    free(r->stage);
    free(r->folder);
    free(r->home);
    free(r->root);
    cJSON_Delete(r->json);
    *r = (rt_recipe){ 0 };
}
