#include "distill/stage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/archive/trace.h"
#include "distill/record.h"

const char *rt_stage_state_name(rt_stage_state state)
{
    static const char *const NAMES[RT_STAGE_STATES] = { "new",  "stale", "cut",
                                                        "kept", "waits", "done" };
    return NAMES[state];
}

/* ---- opening ---- */

int rt_work_open(rt_work_of *w, const rt_recipe *r, int stage, bool fresh, rt_err *err)
{
    *w = (rt_work_of){ .recipe = r, .stage = &r->stage[stage] };
    const rt_stage *s = w->stage;
    char *file = rt_record_file(r, RT_RECORD_STAGES, s->name);
    rt_err why = { 0 };
    bool unreadable = rt_record_occupied(file) && rt_record_load(&w->record, file, &why);
    int bad = 0;
    if (unreadable && !fresh)
        bad = rt_fail(err,
                      "stage %s: its record cannot be read (%.300s): remove it when the stage has "
                      "no output yet, or give --fresh, which moves what is there to %s/%s",
                      s->name, why.text, r->folder, RT_RECORD_OLD);
    for (int k = 0; !bad && k < s->n_outputs; k++) {
        const char *path = s->output[k].path;
        if (!rt_record_occupied(path) || (unreadable && fresh))
            continue;
        cJSON *known = rt_record_at(r, s->output[k].place, NULL);
        if (!known)
            bad = rt_fail(
                err,
                "stage %s: %s is there already, and this run folder has not made it: move "
                "it away, or give the stage another \"%s\"",
                s->name, path, s->output[k].option->name);
        cJSON_Delete(known);
    }
    free(file);
    return bad;
}

void rt_work_close(rt_work_of *w)
{
    cJSON_Delete(w->identity);
    cJSON_Delete(w->record);
    free(w->kept);
    memset(w, 0, sizeof *w);
}

/* ---- identity ---- */

/* What the record says of the same input, when that is spelled as it was. */
static const cJSON *recorded_input(const rt_work_of *w, const char *option, int k,
                                   const char *place)
{
    const cJSON *list = w->record ? rt_json_find(w->record, "inputs") : NULL;
    for (const cJSON *c = list ? list->child : NULL; c; c = c->next)
        if (!strcmp(rt_record_text(c, "option"), option) && k-- == 0)
            return !place || !strcmp(rt_record_text(c, "path"), place) ? c : NULL;
    return NULL;
}

/* An input that is not read: unknown, or gone since. */
static bool from_record(rt_identity *id, const cJSON *recorded)
{
    const char *hash = recorded ? rt_record_text(recorded, "hash") : "";
    if (strlen(hash) != 32)
        return false;
    memcpy(id->hash.hex, hash, 33);
    id->bytes = (int64_t)rt_record_number(recorded, "bytes", 0);
    return true;
}

/* An output of an earlier stage: that has been judged, and its record says what it holds. */
static bool written_before(const rt_work_of *w, rt_identity *id, const char *path,
                           const char *place)
{
    bool exact = false, known = false;
    cJSON *record = NULL;
    rt_err none = { 0 };
    int at = rt_recipe_writer(w->recipe, (int)(w->stage - w->recipe->stage), path, &exact);
    if (at < 0 || !exact)
        return false;
    char *file = rt_record_file(w->recipe, RT_RECORD_STAGES, w->recipe->stage[at].name);
    if (rt_record_load(&record, file, &none) == 0 && rt_record_true(record, "done"))
        for (const cJSON *c = rt_json_find(record, "outputs")->child; c; c = c->next)
            known = known || (!strcmp(rt_record_text(c, "at"), place) && from_record(id, c));
    cJSON_Delete(record);
    free(file);
    return known;
}

static int look_at(rt_work_of *w, cJSON *row, const rt_option *o, int k, const char *path,
                   const char *place, rt_identity_use use, rt_err *err)
{
    rt_identity id = { 0 };
    const char *dot = strrchr(rt_path_base(path), '.');
    if (!rt_path_exists(path)) {
        if (o->role == RT_OPT_INPUT_WORDS || strstr(path, "://")) {
            rt_json_put_str(row, "word", path);
            return 0;
        }
        if (!w->record || !rt_record_true(w->record, "done") ||
            !from_record(&id, recorded_input(w, o->name, k, place)))
            return rt_fail(err,
                           "stage %s: \"%s\": %s does not exist, and no earlier stage writes it",
                           w->stage->name, o->name, path);
        w->gone = path;
    } else if (!written_before(w, &id, path, place)) {
        if (rt_identity_of(&id, path, use, NULL, err))
            return rt_wrap(err, "stage %s", w->stage->name);
        const cJSON *before = recorded_input(w, o->name, k, NULL);
        if (!id.known && before && rt_record_number(before, "bytes", -1) == (double)id.bytes)
            from_record(&id, before);
    }
    rt_json_put_str(row, "path", place);
    rt_json_put_num(row, "bytes", (double)id.bytes);
    rt_json_put_str(row, "hash", id.hash.hex);
    if (o->role == RT_OPT_INPUT_NAMED)
        rt_json_put_str(row, "name", rt_path_base(path));
    else if (dot && !rt_path_is_dir(path)) /* how a file is read may depend on it */
        rt_json_put_str(row, "form", dot);
    return 0;
}

static rt_hash key_of(const cJSON *identity)
{
    cJSON *json = cJSON_Duplicate(identity, true);
    if (!json)
        rt_out_of_memory(-1, "a stage's identity");
    for (cJSON *row = cJSON_GetObjectItemCaseSensitive(json, "inputs")->child; row;
         row = row->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(row, "path");
        cJSON_DeleteItemFromObjectCaseSensitive(row, "bytes");
    }
    char *text = rt_json_text(json);
    rt_hash key = rt_hash_bytes(text, (int64_t)strlen(text));
    free(text);
    cJSON_Delete(json);
    return key;
}

static int find_identity(rt_work_of *w, rt_identity_use use, rt_err *err)
{
    const rt_command *cmd = w->stage->command;
    cJSON *inputs = rt_json_array();
    cJSON_Delete(w->identity);
    w->identity = rt_json_object();
    rt_json_put_str(w->identity, "command", cmd->name);
    rt_json_put(w->identity, "options", rt_options_result(cmd, w->stage->values));
    rt_json_put(w->identity, "inputs", inputs);
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *o = &cmd->options[i];
        const char *path;
        for (int k = 0; (path = rt_option_path(o, w->stage->values, k)); k++) {
            if (o->role == RT_OPT_OUTPUT || o->role == RT_OPT_MEASURE)
                continue;
            cJSON *row = rt_json_object();
            rt_json_put_str(row, "option", o->name);
            rt_json_put(inputs, NULL, row);
            char *place = rt_recipe_place(w->recipe, path);
            int bad = look_at(w, row, o, k, path, place, use, err);
            free(place);
            if (bad)
                return -1;
        }
    }
    w->key = key_of(w->identity);
    return 0;
}

/* ---- what changed ---- */

typedef struct words {
    char *text;
    size_t size, used;
} words;

static void add_words(words *t, const char *fmt, ...) RT_PRINTF(2, 3);
static void add_words(words *t, const char *fmt, ...)
{
    va_list args;
    if (t->used + 4 >= t->size)
        return;
    if (t->used)
        t->used += (size_t)snprintf(t->text + t->used, t->size - t->used, "; ");
    va_start(args, fmt);
    int n = t->used < t->size ? vsnprintf(t->text + t->used, t->size - t->used, fmt, args) : 0;
    va_end(args);
    t->used = t->used + (size_t)n < t->size ? t->used + (size_t)n : t->size - 1;
}

static void value_text(char *text, size_t size, const cJSON *value)
{
    if (!value || cJSON_IsNull(value)) {
        snprintf(text, size, "none");
    } else if (cJSON_IsString(value)) {
        snprintf(text, size, "%.60s", value->valuestring);
    } else {
        char *json = rt_json_text(value);
        snprintf(text, size, "%.60s", json);
        free(json);
    }
}

static void compare_options(words *t, const cJSON *was, const cJSON *is)
{
    char a[64], b[64];
    for (const cJSON *c = is->child; c; c = c->next) {
        const cJSON *old = rt_json_find(was, c->string);
        if (old ? cJSON_Compare(old, c, true) : cJSON_IsNull(c))
            continue;
        value_text(a, sizeof a, old);
        value_text(b, sizeof b, c);
        add_words(t, "%s %s -> %s", c->string, a, b);
    }
    for (const cJSON *c = was ? was->child : NULL; c; c = c->next)
        if (!rt_json_find(is, c->string))
            add_words(t, "%s is no longer an option", c->string);
}

static void compare_inputs(words *t, const rt_work_of *w)
{
    static const char *const PARTS[] = { "hash", "word", "name", "form" };
    const cJSON *is = rt_json_find(w->identity, "inputs"), *was = rt_json_find(w->record, "inputs");
    const char *option = "";
    int k = 0;
    for (const cJSON *c = is->child; c; c = c->next) {
        k = strcmp(option, rt_record_text(c, "option")) ? 0 : k + 1;
        option = rt_record_text(c, "option");
        const cJSON *old = recorded_input(w, option, k, NULL);
        bool same = old != NULL;
        for (int i = 0; same && i < RT_COUNT(PARTS); i++)
            same = !strcmp(rt_record_text(old, PARTS[i]), rt_record_text(c, PARTS[i]));
        if (!same)
            add_words(t, "input %s %s", rt_record_text(c, "path"), old ? "changed" : "is new");
    }
    if (cJSON_GetArraySize(was) > cJSON_GetArraySize(is))
        add_words(t, "fewer inputs");
}

static void explain(rt_work_of *w)
{
    words t = { w->why, sizeof w->why, 0 };
    const char *was = rt_record_text(w->record, "command");
    if (strcmp(was, w->stage->command->name))
        add_words(&t, "command %s -> %s", was, w->stage->command->name);
    else
        compare_options(&t, rt_json_find(w->record, "options"),
                        rt_json_find(w->identity, "options"));
    compare_inputs(&t, w);
    if (!t.used)
        add_words(&t, "its record is of another version");
}

/* ---- state ---- */

bool rt_work_any_output(const rt_work_of *w)
{
    bool any = false;
    for (int k = 0; k < w->stage->n_outputs; k++)
        any = any || rt_record_occupied(w->stage->output[k].path);
    return any;
}

bool rt_work_in_place(const rt_work_of *w, const cJSON *record)
{
    for (int k = 0; k < w->stage->n_outputs; k++) {
        const cJSON *o = rt_record_output(record, w->stage->output[k].option->name);
        if (!o || strcmp(rt_record_text(o, "at"), w->stage->output[k].place))
            return false;
    }
    return true;
}

/* Whether the recorded files of an output are what they were; what else stands there is somebody's
   own. why: else which is not. */
static bool compare_files(const cJSON *was, const cJSON *is, const char *path, char *why,
                          size_t size)
{
    for (const cJSON *c = was ? was->child : NULL; c; c = c->next) {
        const cJSON *now = rt_json_find(is, c->string);
        const char *a = rt_record_text(c, "hash"), *b = rt_record_text(now, "hash");
        bool single = !strcmp(c->string, ".");
        if (now && rt_record_number(c, "bytes", -1) == rt_record_number(now, "bytes", -2) &&
            (!a[0] || !b[0] || !strcmp(a, b)))
            continue;
        snprintf(why, size, "output %s%s%s is %s", path, single ? "" : "/", single ? "" : c->string,
                 now ? "damaged (not as it was written)" : "missing");
        return false;
    }
    return true;
}

/* Whether the outputs of a finished record stand where it says, byte for byte. */
static int check_outputs(const rt_work_of *w, const cJSON *record, rt_identity_use use, bool *whole,
                         char *why, size_t size, rt_err *err)
{
    int bad = 0;
    *whole = true;
    for (const cJSON *c = rt_json_find(record, "outputs")->child; c && *whole && !bad;
         c = c->next) {
        rt_identity id;
        char *path = rt_recipe_path(w->recipe, rt_record_text(c, "at"));
        cJSON *files = rt_json_object();
        *whole = rt_path_exists(path);
        if (!*whole)
            snprintf(why, size, "output %s is missing", path);
        else if (rt_record_true(record, "done"))
            bad = rt_identity_of(&id, path, use == RT_IDENTITY_STAT ? use : RT_IDENTITY_READ, files,
                                 err);
        *whole = *whole && (bad || compare_files(rt_json_find(c, "files"), files, path, why, size));
        cJSON_Delete(files);
        free(path);
    }
    return bad ? rt_wrap(err, "stage %s", w->stage->name) : 0;
}

/* Whether another stage of the recipe writes one of a record's places. */
static bool wanted_elsewhere(const rt_work_of *w, const cJSON *record)
{
    for (const cJSON *c = rt_json_find(record, "outputs")->child; c; c = c->next)
        for (int i = 0; i < w->recipe->n; i++)
            for (int k = 0; k < w->recipe->stage[i].n_outputs; k++)
                if (&w->recipe->stage[i] != w->stage &&
                    !strcmp(w->recipe->stage[i].output[k].place, rt_record_text(c, "at")))
                    return true;
    return false;
}

static bool same_outputs(const rt_work_of *w, const cJSON *record)
{
    bool same = cJSON_GetArraySize(rt_json_find(record, "outputs")) == w->stage->n_outputs;
    for (int k = 0; k < w->stage->n_outputs; k++)
        same = same && rt_record_output(record, w->stage->output[k].option->name);
    return same && w->stage->n_outputs;
}

/* stages/X.json of a stage X that the recipe still has speaks of that stage's output. */
static bool taken(const rt_work_of *w, const char *file)
{
    for (int i = 0; i < w->recipe->n; i++) {
        char *own = rt_record_file(w->recipe, RT_RECORD_STAGES, w->recipe->stage[i].name);
        bool same = !strcmp(own, file) && &w->recipe->stage[i] != w->stage;
        free(own);
        if (same)
            return true;
    }
    return false;
}

/* Whether the command takes up what stands at path. */
static bool resumable(const rt_work_of *w, const char *path)
{
    const char *begins = w->stage->command->resumes;
    char **names = NULL;
    rt_err none = { 0 };
    int n = 0;
    bool found = false;
    if (begins && rt_path_is_dir(path) && rt_dir_list(&names, &n, path, &none) == 0)
        for (int i = 0; i < n; i++)
            found = found || !strncmp(names[i], begins, strlen(begins));
    rt_names_free(names, n);
    return found;
}

/* A record of work that is finished, or that the command takes up. */
static bool worth(const rt_work_of *w, const cJSON *record)
{
    const cJSON *first = rt_json_find(record, "outputs")->child;
    if (rt_record_true(record, "done") || !first)
        return true;
    char *path = rt_recipe_path(w->recipe, rt_record_text(first, "at"));
    bool fits = resumable(w, path);
    free(path);
    return fits;
}

/* The same work elsewhere: replaced earlier, or of a stage that had another name or output. */
static int find_kept(rt_work_of *w, rt_identity_use use, rt_err *err)
{
    bool finished = false;
    int n, bad = 0;
    char **file = rt_record_list(w->recipe, &n), unused[512];
    char *own = rt_record_file(w->recipe, RT_RECORD_STAGES, w->stage->name);
    for (int i = 0; !bad && !finished && i < n; i++) {
        cJSON *record = NULL;
        rt_err none = { 0 };
        bool whole = false;
        if (rt_record_load(&record, file[i], &none))
            continue;
        bool fit = !strcmp(rt_record_text(record, "key"), w->key.hex) &&
                   !rt_record_true(record, "damaged") && same_outputs(w, record) &&
                   !wanted_elsewhere(w, record) && !taken(w, file[i]) &&
                   (strcmp(own, file[i]) || !rt_work_in_place(w, record)) &&
                   (!w->kept || rt_record_true(record, "done")) && worth(w, record);
        if (fit)
            bad = check_outputs(w, record, use, &whole, unused, sizeof unused, err);
        if (!bad && whole) {
            free(w->kept);
            w->kept = rt_strdup(file[i]);
            finished = rt_record_true(record, "done");
            w->state = RT_STAGE_KEPT;
        }
        cJSON_Delete(record);
    }
    free(own);
    rt_names_free(file, n);
    return bad;
}

static void ignore_finding(void *ctx, const char *id, const char *text)
{
    (void)ctx, (void)id, (void)text;
}

/* An archive may be worth weeks: one that is damaged is repaired by its owner, and what was
   repaired is taken up: only the samples that were lost are made again. */
static int judge_archive(rt_work_of *w, rt_err *err)
{
    rt_err none = { 0 };
    if (!w->stage->out || !resumable(w, w->stage->out) || !rt_trace_is(w->stage->out))
        return 0;
    int64_t problems = rt_trace_verify(w->stage->out, ignore_finding, NULL, &none);
    if (problems > 0)
        return rt_fail(err,
                       "stage %s: %s: 'retort archive repair %s' keeps every whole sample, and the "
                       "next run makes the lost ones again; or --fresh moves it to old/",
                       w->stage->name, w->why, w->stage->out);
    if (problems == 0) {
        w->damaged = false;
        w->state = RT_STAGE_CUT;
    }
    return 0;
}

int rt_work_judge(rt_work_of *w, rt_identity_use use, bool fresh, rt_err *err)
{
    bool whole = true;
    w->gone = NULL;
    w->damaged = false;
    w->why[0] = 0;
    free(w->kept);
    w->kept = NULL;
    if (find_identity(w, use, err))
        return -1;
    w->state = w->record || rt_work_any_output(w) ? RT_STAGE_STALE : RT_STAGE_NEW;
    if (fresh) {
        snprintf(w->why, sizeof w->why, "--fresh");
        return 0;
    }
    bool same = w->record && !strcmp(rt_record_text(w->record, "key"), w->key.hex);
    if (same && !rt_work_in_place(w, w->record)) {
        snprintf(w->why, sizeof w->why, "its output has another place");
    } else if (same && !rt_record_true(w->record, "done")) {
        snprintf(w->why, sizeof w->why, "it was not finished");
        if (w->stage->out && resumable(w, w->stage->out)) {
            w->state = RT_STAGE_CUT;
            return 0;
        }
    } else if (same) {
        if (check_outputs(w, w->record, use, &whole, w->why, sizeof w->why, err))
            return -1;
        if (whole) {
            w->state = RT_STAGE_DONE;
            return 0;
        }
        w->damaged = rt_work_any_output(w);
        if (use != RT_IDENTITY_STAT && w->damaged && judge_archive(w, err))
            return -1;
        if (w->state == RT_STAGE_CUT)
            return 0;
    } else if (w->record) {
        explain(w);
    }
    if (find_kept(w, use, err))
        return -1;
    if (w->gone && w->state != RT_STAGE_KEPT)
        return rt_fail(err,
                       "stage %s: %s does not exist, and no earlier stage writes it; it would "
                       "be needed because: %s",
                       w->stage->name, w->gone, w->why);
    return 0;
}

/* ---- telling ---- */

double rt_work_seconds(const rt_work_of *w)
{
    return w->record ? rt_record_number(w->record, "seconds", -1) : -1;
}

bool rt_work_finished(const rt_work_of *w)
{
    return w->record && rt_record_true(w->record, "done");
}

cJSON *rt_work_json(const rt_work_of *w)
{
    cJSON *json = rt_json_object(), *outputs = rt_json_object();
    rt_json_put_str(json, "stage", w->stage->name);
    rt_json_put_str(json, "command", w->stage->command->name);
    rt_json_put_str(json, "state", rt_stage_state_name(w->state));
    if (w->why[0])
        rt_json_put_str(json, "why", w->why);
    if (rt_work_seconds(w) >= 0)
        rt_json_put_num(json, "seconds", rt_work_seconds(w));
    for (int k = 0; k < w->stage->n_outputs; k++) {
        rt_identity id = { 0 };
        rt_err none = { 0 };
        cJSON *row = rt_json_object();
        rt_json_put_str(row, "path", w->stage->output[k].path);
        if (rt_path_exists(w->stage->output[k].path) &&
            rt_identity_of(&id, w->stage->output[k].path, RT_IDENTITY_STAT, NULL, &none) == 0)
            rt_json_put_num(row, "bytes", (double)id.bytes);
        rt_json_put(outputs, w->stage->output[k].option->name, row);
    }
    rt_json_put(json, "outputs", outputs);
    return json;
}
