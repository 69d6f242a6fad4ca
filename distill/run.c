#include "distill/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "distill/forecast.h"
#include "distill/report.h"

#define O rt_run_options
const rt_option rt_run_table[RT_RUN_OPTIONS] = {
    OPT_NEED(O, recipe, "file", "RECIPE.json", "the recipe; a bare word will do", RT_OPT_INPUT),
    OPT_STR(O, out, "out", NULL, "DIR", "run folder; default is the recipe's run.out",
            RT_OPT_OUTPUT),
    OPT_LIST(O, set, "set", "STAGE.KEY=VALUE", "change one value of the recipe; may repeat"),
    OPT_BOOL(O, fresh, "fresh", "false", "remove what an earlier run left and start over"),
    OPT_BOOL(O, plan, "plan", "false", "print memory and disk of each stage by name, and stop"),
    OPT_INT(
        O, probe, "probe", "0", 0, 1e6,
        "with --plan: time N and 3 N prompts or steps of each stage, in a folder that is removed"),
    OPT_BOOL(O, json, "json", "false", "the report as JSON on stdout"),
};
#undef O

typedef struct stage {
    const char *name;
    const rt_command *command;
    void *values;
    const char *out; /* its --out, inside values, or NULL */
    char *stamp;     /* path */
    rt_hash key;
} stage;

typedef struct runner {
    const rt_run_options *o;
    cJSON *recipe;
    char *folder, *home, *stages; /* run folder, recipe's folder, stamps */
    stage *stage;
    int n;
} runner;

/* ---- the recipe
 * ---------------------------------------------------------------------------------- */

static char *replace_all(const char *text, const char *what, const char *with)
{
    size_t size = 0, n = strlen(what);
    char *out = NULL;
    FILE *f = open_memstream(&out, &size);
    if (!f)
        rt_bug("out of memory");
    for (const char *hit; (hit = strstr(text, what)); text = hit + n)
        fprintf(f, "%.*s%s", (int)(hit - text), text, with);
    fputs(text, f);
    fclose(f);
    return out;
}

/* {out} and {recipe} in every string of a section. */
static void expand(cJSON *node, const runner *r)
{
    for (; node; node = node->next) {
        if (cJSON_IsString(node)) {
            char *once = replace_all(node->valuestring, "{out}", r->folder);
            char *twice = replace_all(once, "{recipe}", r->home);
            cJSON_SetValuestring(node, twice);
            free(once);
            free(twice);
        }
        expand(node->child, r);
    }
}

static int set_value(cJSON *recipe, const char *word, rt_err *err)
{
    char section[96], key[96];
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
        const char *near = rt_nearest(section, names, n);
        return rt_usage(err, "--set %s: the recipe has no stage \"%s\"%s%s%s", word, section,
                        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    cJSON *value = cJSON_ParseWithOpts(equals + 1, NULL, true);
    if (!value || cJSON_IsArray(value) || cJSON_IsObject(value)) {
        cJSON_Delete(value);
        value = cJSON_CreateString(equals + 1);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(into, key);
    cJSON_AddItemToObject(into, key, value);
    return 0;
}

static char *folder_of(const char *path)
{
    const char *base = rt_path_base(path);
    char *dir = base == path ? strdup(".") : strndup(path, (size_t)(base - path - 1));
    if (!dir)
        rt_bug("out of memory");
    return dir;
}

static int load_recipe(runner *r, rt_err *err)
{
    const char *out = r->o->out;
    if (rt_json_load(&r->recipe, r->o->recipe, err))
        return -1;
    if (!cJSON_IsObject(r->recipe))
        return rt_usage(err, "%s: a recipe is an object with one section per stage", r->o->recipe);
    for (int i = 0; i < r->o->set.n; i++)
        if (set_value(r->recipe, r->o->set.item[i], err))
            return -1;
    if (!out && rt_json_get_str(rt_json_find(r->recipe, "run"), "out", &out, err))
        return rt_usage(err, "%s: give --out DIR, or \"run\": {\"out\": DIR} in the recipe",
                        r->o->recipe);
    r->folder = strdup(out);
    r->home = folder_of(r->o->recipe);
    r->stages = rt_path_join(out, "stages");
    expand(r->recipe->child, r);
    return 0;
}

static const rt_command *find_command(const rt_command *const *commands, int n, const char *name,
                                      const char *where, rt_err *err)
{
    const char *names[64];
    for (int i = 0; i < n; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
        names[i] = commands[i]->name;
    }
    const char *near = rt_nearest(name, names, n);
    rt_usage(err, "%s: no command \"%s\"%s%s%s; a stage names one with \"command\"", where, name,
             near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}

static const char *string_option(const stage *s, const char *name)
{
    const rt_option *o = rt_option_find(s->command, name);
    return o && o->kind == RT_OPT_STR
               ? *(char *const *)(const void *)((const uint8_t *)s->values + o->offset)
               : NULL;
}

static int add_stage(runner *r, cJSON *section, const rt_command *const *commands, int n,
                     rt_err *err)
{
    stage *s = &r->stage[r->n];
    const char *name = section->string;
    bool help = false;
    s->name = section->string;
    if (strchr(name, '/') || strchr(name, '.') || strlen(name) > 64)
        return rt_usage(err, "%s: stage \"%s\": names have no '/' or '.' and at most 64 letters",
                        r->o->recipe, name);
    if (rt_json_opt_str(section, "command", &name, err) ||
        !(s->command = find_command(commands, n, name, s->name, err)))
        return -1;
    s->values = calloc(1, s->command->struct_bytes + 1);
    if (!s->values)
        rt_bug("out of memory");
    r->n++;
    cJSON *own = cJSON_DetachItemFromObjectCaseSensitive(section, "command");
    int bad = rt_options_parse(s->command, s->values, section, 0, NULL, &help, err);
    cJSON_Delete(own);
    if (bad)
        return rt_wrap(err, "%s: stage %s", r->o->recipe, s->name);
    char file[80];
    snprintf(file, sizeof file, "%s.json", s->name);
    s->stamp = rt_path_join(r->stages, file);
    s->out = string_option(s, "out");
    return 0;
}

static int read_stages(runner *r, const rt_command *const *commands, int n, rt_err *err)
{
    r->stage = calloc((size_t)cJSON_GetArraySize(r->recipe) + 1, sizeof *r->stage);
    if (!r->stage)
        rt_bug("out of memory");
    for (cJSON *c = r->recipe->child; c; c = c->next) {
        if (strcmp(c->string, "run") == 0 || strcmp(c->string, "report") == 0 ||
            strncmp(c->string, "//", 2) == 0)
            continue;
        if (!cJSON_IsObject(c))
            return rt_usage(err, "%s: \"%s\" must be an object: one section per stage",
                            r->o->recipe, c->string);
        if (add_stage(r, c, commands, n, err))
            return -1;
    }
    return r->n ? 0 : rt_usage(err, "%s: no stages in it", r->o->recipe);
}

/* ---- what a stage depends on
 * --------------------------------------------------------------------- */

static int hash_path(uint64_t *h, const char *path, int depth, rt_err *err)
{
    char **names = NULL;
    int n = 0, bad = 0;
    if (!rt_path_exists(path) || depth > 8)
        return 0;
    if (!rt_path_is_dir(path)) {
        rt_hash file;
        if (rt_hash_file(&file, path, err))
            return -1;
        *h = rt_hash64(&file, (int64_t)sizeof file, *h);
        return 0;
    }
    if (rt_dir_list(&names, &n, path, err))
        return -1;
    for (int i = 0; !bad && i < n; i++) {
        if (strcmp(names[i], "metrics.jsonl") == 0 || strcmp(names[i], "lock") == 0)
            continue; /* of the run, not of the result */
        char *inner = rt_path_join(path, names[i]);
        *h = rt_hash64(names[i], (int64_t)strlen(names[i]), *h);
        bad = hash_path(h, inner, depth + 1, err);
        free(inner);
    }
    rt_names_free(names, n);
    return bad;
}

/* Settings, and the content of everything an option names except the stage's own output. */
static int make_key(stage *s, rt_err *err)
{
    cJSON *json = rt_options_json(s->command, s->values);
    char *text = rt_json_text(json);
    uint64_t h = rt_hash64(text, (int64_t)strlen(text), 0);
    cJSON_Delete(json);
    free(text);
    for (int i = 0; i < s->command->n_options; i++) {
        const rt_option *o = &s->command->options[i];
        const void *field = (const uint8_t *)s->values + o->offset;
        if (strcmp(o->name, "out") == 0)
            continue;
        if (o->kind == RT_OPT_STR && *(char *const *)field &&
            hash_path(&h, *(char *const *)field, 0, err))
            return -1;
        const rt_strlist *list = field;
        for (int k = 0; o->kind == RT_OPT_LIST && k < list->n; k++)
            if (hash_path(&h, list->item[k], 0, err))
                return -1;
    }
    snprintf(s->key.hex, sizeof s->key.hex, "%016llx", (unsigned long long)h);
    return 0;
}

/* ---- stamps
 * -------------------------------------------------------------------------------------- */

static int write_stamp(const stage *s, bool done, double seconds, rt_err *err)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "stage", s->name);
    rt_json_put_str(json, "command", s->command->name);
    rt_json_put_str(json, "key", s->key.hex);
    rt_json_put_bool(json, "done", done);
    rt_json_put_num(json, "seconds", seconds);
    rt_json_put(json, "options", rt_options_json(s->command, s->values));
    int bad = rt_json_save(json, s->stamp, err);
    cJSON_Delete(json);
    return bad;
}

typedef enum stage_state { STAGE_NEW, STAGE_STALE, STAGE_CUT, STAGE_DONE } stage_state;

static stage_state state_of(const stage *s)
{
    cJSON *json = NULL;
    rt_err ignored = { 0 };
    const char *key = "";
    bool done = false;
    if (!rt_path_exists(s->stamp) || rt_json_load(&json, s->stamp, &ignored))
        return STAGE_NEW;
    int bad = rt_json_opt_str(json, "key", &key, &ignored) ||
              rt_json_opt_bool(json, "done", &done, &ignored);
    bool same = !bad && strcmp(key, s->key.hex) == 0;
    cJSON_Delete(json);
    if (!same)
        return STAGE_STALE;
    return done && (!s->out || rt_path_exists(s->out)) ? STAGE_DONE : STAGE_CUT;
}

int rt_run_remove(const char *path, rt_err *err)
{
    struct stat st;
    char **names = NULL;
    int n = 0, bad = 0;
    if (lstat(path, &st))
        return 0;
    if (!S_ISDIR(st.st_mode))
        return unlink(path) ? rt_fail(err, "%s: cannot be removed", path) : 0;
    if (rt_dir_list(&names, &n, path, err))
        return -1;
    for (int i = 0; !bad && i < n; i++) {
        char *inner = rt_path_join(path, names[i]);
        bad = rt_run_remove(inner, err);
        free(inner);
    }
    rt_names_free(names, n);
    return bad ? bad : rmdir(path) ? rt_fail(err, "%s: cannot be removed", path) : 0;
}

static int remove_output(const runner *r, const stage *s, rt_err *err)
{
    size_t n = strlen(r->folder);
    if (!s->out || !rt_path_exists(s->out))
        return 0;
    if (strncmp(s->out, r->folder, n) != 0 || s->out[n] != '/' || strstr(s->out, ".."))
        return rt_fail(err,
                       "stage %s: %s was made by other settings and lies outside %s: remove it "
                       "yourself, or give "
                       "another \"out\"",
                       s->name, s->out, r->folder);
    return rt_run_remove(s->out, err);
}

/* ---- running
 * ------------------------------------------------------------------------------------- */

int rt_run_aside(const rt_command *command, void *values, int to, rt_err *err)
{
    fflush(stdout);
    int own = dup(STDOUT_FILENO);
    if (own < 0 || dup2(to, STDOUT_FILENO) < 0)
        return rt_fail(err, "stdout: cannot be set aside: %s", strerror(errno));
    int bad = command->run(values, err);
    fflush(stdout);
    if (dup2(own, STDOUT_FILENO) < 0)
        bad = bad ? bad : rt_fail(err, "stdout: cannot be restored: %s", strerror(errno));
    close(own);
    return bad;
}

static int run_stage(runner *r, stage *s, int number, rt_err *err)
{
    char took[32];
    if (make_key(s, err))
        return -1;
    stage_state state = state_of(s);
    if (state == STAGE_DONE) {
        rt_info("[%d/%d] %s: nothing has changed", number, r->n, s->name);
        return 0;
    }
    if ((state == STAGE_STALE || state == STAGE_NEW) && remove_output(r, s, err))
        return -1;
    rt_info("[%d/%d] %s: retort %s%s", number, r->n, s->name, s->command->name,
            state == STAGE_CUT ? " (taking it up where it stopped)" : "");
    if (write_stamp(s, false, 0, err))
        return -1;
    if (s->out) { /* a folder for the output, so that recipes may nest them */
        char *dir = folder_of(s->out);
        int bad = rt_dir_make(dir, err);
        free(dir);
        if (bad)
            return -1;
    }
    double start = rt_now();
    int to = rt_log_quiet() ? open("/dev/null", O_WRONLY | O_CLOEXEC) : STDERR_FILENO;
    if (to < 0)
        return rt_fail(err, "/dev/null: %s", strerror(errno));
    int bad = rt_run_aside(s->command, s->values, to, err);
    if (to != STDERR_FILENO)
        close(to);
    if (bad)
        return rt_wrap(err, "stage %s", s->name);
    rt_info("[%d/%d] %s: done in %s", number, r->n, s->name,
            rt_fmt_seconds(took, sizeof took, rt_now() - start));
    return write_stamp(s, true, rt_now() - start, err);
}

static int run_stages(runner *r, rt_err *err)
{
    for (int i = 0; i < r->n; i++)
        if (run_stage(r, &r->stage[i], i + 1, err))
            return -1;
    return 0;
}

static double recorded_seconds(const stage *s)
{
    cJSON *json = NULL;
    rt_err ignored = { 0 };
    double seconds = -1;
    if (rt_json_load(&json, s->stamp, &ignored) ||
        rt_json_get_f64(json, "seconds", &seconds, &ignored))
        seconds = -1;
    cJSON_Delete(json);
    return seconds;
}

static int plan_stages(runner *r, rt_err *err)
{
    rt_forecast *list = calloc((size_t)r->n, sizeof *list);
    if (!list)
        rt_bug("out of memory");
    int bad = 0;
    for (int i = 0; !bad && i < r->n; i++) {
        stage *s = &r->stage[i];
        bad = make_key(s, err);
        bool done = !bad && !r->o->fresh && state_of(s) == STAGE_DONE;
        list[i] = (rt_forecast){ .name = s->name,
                                 .command = s->command,
                                 .values = s->values,
                                 .done = done,
                                 .seconds = done ? recorded_seconds(s) : -1 };
    }
    bad = bad || rt_forecast_run(list, r->n, r->folder, r->o->probe, r->o->json, err);
    free(list);
    return bad ? -1 : 0;
}

int rt_run(const rt_run_options *o, const rt_command *const *commands, int n, rt_err *err)
{
    runner r = { .o = o };
    if (o->probe && !o->plan)
        return rt_usage(err, "--probe N goes with --plan: it only measures");
    int bad = load_recipe(&r, err) || read_stages(&r, commands, n, err);
    for (int i = 0; !bad && o->fresh && !o->plan && i < r.n; i++)
        bad = remove_output(&r, &r.stage[i], err) ||
              (rt_path_exists(r.stage[i].stamp) && unlink(r.stage[i].stamp));
    if (!bad && !o->plan)
        bad = rt_dir_make(r.stages, err);
    bad = bad || (o->plan ? plan_stages(&r, err) : run_stages(&r, err));
    const cJSON *report = rt_json_find(r.recipe, "report");
    if (!bad && !o->plan && report)
        bad = rt_report(report, r.folder, r.stages, o->json, err);
    for (int i = 0; i < r.n; i++) {
        rt_options_free(r.stage[i].command, r.stage[i].values);
        free(r.stage[i].values);
        free(r.stage[i].stamp);
    }
    free(r.stage);
    free(r.folder);
    free(r.home);
    free(r.stages);
    cJSON_Delete(r.recipe);
    return bad ? -1 : 0;
}
