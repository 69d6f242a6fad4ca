/* aside.c: outputs moved, never removed: what is replaced goes to old/ with its record, and comes
   back from there. The record is always written before the move, so a crash between leaves an
   output with one record too many, not one too few. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "distill/record.h"
#include "distill/stage.h"

static int sync_parent(const char *path, rt_err *err)
{
    const char *base = rt_path_base(path);
    char *dir = base == path ? rt_strdup(".") : rt_strndup(path, base - path);
    int bad = rt_dir_sync(dir, err);
    free(dir);
    return bad;
}

/* A folder for an output, without what a writer that was killed left in it. */
static int ready_parent(const char *path, bool ours, rt_err *err)
{
    const char *base = rt_path_base(path);
    if (base == path || base == path + 1)
        return 0;
    char *dir = rt_strndup(path, base - path - 1);
    int bad = rt_dir_make(dir, err) || (ours && rt_dir_clean_temps(dir, err));
    free(dir);
    return bad ? -1 : 0;
}

static int move(const char *from, const char *to, rt_err *err)
{
    int failed = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (failed && (errno == EINVAL || errno == ENOSYS) && !rt_record_occupied(to))
        failed = rename(from, to); /* a file system that does not know the flag */
    if (failed)
        return rt_fail(err, "%s: cannot be moved to %s: %s%s", from, to, rt_errno_text(errno),
                       errno == EXDEV ? " (another file system: move it yourself)" : "");
    return sync_parent(from, err) || sync_parent(to, err) ? -1 : 0;
}

/* Makes old/NAME.K for the first K that is free; name: "NAME.K". */
static int new_old(const rt_work_of *w, char *name, size_t size, char **folder, rt_err *err)
{
    char *old = rt_path_join(w->recipe->folder, RT_RECORD_OLD);
    int bad = rt_dir_make(old, err) || rt_dir_clean_temps(old, err);
    *folder = NULL;
    for (int k = 1; !bad && !*folder; k++) {
        snprintf(name, size, "%s.%d", w->stage->name, k);
        char *file = rt_record_file(w->recipe, RT_RECORD_OLD, name),
             *path = rt_path_join(old, name);
        if (rt_record_occupied(file) || (mkdir(path, 0777) && errno == EEXIST))
            free(path);
        else if (rt_path_is_dir(path))
            *folder = path;
        else {
            bad = rt_fail(err, "%s: cannot be made: %s", path, rt_errno_text(errno));
            free(path);
        }
        free(file);
    }
    bad = bad || rt_dir_sync(old, err);
    free(old);
    return bad ? -1 : 0;
}

/* The record of what stands at the stage's places, as a copy; never NULL. file: where it is kept,
   or NULL. */
static cJSON *occupant(const rt_work_of *w, char **file)
{
    cJSON *record = NULL;
    for (int k = 0; !record && k < w->stage->n_outputs; k++)
        if (rt_record_occupied(w->stage->output[k].path))
            record = rt_record_at(w->recipe, w->stage->output[k].place, file);
    if (record)
        return record;
    record = rt_json_object(); /* --fresh over a record that cannot be read */
    rt_json_put_str(record, "stage", w->stage->name);
    rt_json_put_str(record, "key", "unknown");
    rt_json_put_bool(record, "done", false);
    rt_json_put(record, "outputs", rt_json_object());
    return record;
}

/* Everything at the stage's places moves to old/NAME.K; its record first. */
static int set_aside(const rt_work_of *w, char *moved, size_t size, rt_err *err)
{
    char name[96], *folder = NULL, *file = NULL;
    char *own = rt_record_file(w->recipe, RT_RECORD_STAGES, w->stage->name);
    cJSON *record = occupant(w, &file);
    int bad = new_old(w, name, sizeof name, &folder, err);
    char *at[RT_STAGE_OUTPUTS_MAX] = { NULL };
    for (int k = 0; !bad && k < w->stage->n_outputs; k++)
        if (rt_record_occupied(w->stage->output[k].path)) {
            at[k] = rt_path_join(folder, rt_path_base(w->stage->output[k].real));
            char *place = rt_recipe_place(w->recipe, at[k]);
            rt_record_put_place(record, w->stage->output[k].option->name, place);
            free(place);
        }
    if (!bad && w->damaged)
        rt_json_put_bool(record, "damaged", true);
    bad = bad || rt_record_save(w->recipe, RT_RECORD_OLD, name, record, err);
    for (int k = 0; !bad && k < w->stage->n_outputs; k++)
        bad = at[k] && move(w->stage->output[k].path, at[k], err);
    if (!bad && file && strcmp(file, own) && unlink(file))
        bad = rt_fail(err, "%s: cannot be removed: %s", file, rt_errno_text(errno));
    if (!bad)
        snprintf(moved, size, "%s", folder);
    for (int k = 0; k < RT_COUNT(at); k++)
        free(at[k]);
    cJSON_Delete(record);
    free(file);
    free(own);
    free(folder);
    return bad ? -1 : 0;
}

/* The record of an output that stays where the recipe no longer names it, so that it stays known.
 */
static int remember(const rt_work_of *w, rt_err *err)
{
    char name[96], *folder = NULL;
    bool stands = false;
    if (!w->record || rt_work_in_place(w, w->record))
        return 0;
    for (const cJSON *c = rt_json_find(w->record, "outputs")->child; c; c = c->next) {
        char *path = rt_recipe_path(w->recipe, rt_record_text(c, "at"));
        stands = stands || rt_record_occupied(path);
        free(path);
    }
    if (!stands)
        return 0;
    int bad = new_old(w, name, sizeof name, &folder, err) ||
              rt_record_save(w->recipe, RT_RECORD_OLD, name, w->record, err) ||
              (rmdir(folder) && rt_fail(err, "%s: cannot be removed: %s", folder, rt_errno_text(errno)));
    free(folder);
    return bad ? -1 : 0;
}

/* The record of work that begins. */
static cJSON *new_record(const rt_work_of *w)
{
    cJSON *record = rt_json_object(), *outputs = rt_json_object();
    rt_json_put_str(record, "stage", w->stage->name);
    rt_json_put_str(record, "command", w->stage->command->name);
    rt_json_put_str(record, "key", w->key.hex);
    rt_json_put_bool(record, "done", false);
    rt_json_put_str(record, "made_by", "retort " RT_VERSION);
    rt_json_put(record, "outputs", outputs);
    for (int k = 0; k < w->stage->n_outputs; k++)
        rt_record_put_place(record, w->stage->output[k].option->name, w->stage->output[k].place);
    const char *const parts[] = { "options", "inputs" };
    for (int i = 0; i < RT_COUNT(parts); i++)
        rt_json_put(record, parts[i], cJSON_Duplicate(rt_json_find(w->identity, parts[i]), true));
    return record;
}

int rt_work_begin(rt_work_of *w, char *moved, size_t size, rt_err *err)
{
    cJSON *record = NULL;
    moved[0] = 0;
    for (int k = 0; k < w->stage->n_outputs; k++)
        if (ready_parent(w->stage->output[k].path, w->stage->output[k].place[0] != '/', err))
            return -1;
    if (w->state == RT_STAGE_CUT && !rt_work_finished(w))
        return 0;
    if (w->state == RT_STAGE_KEPT && rt_json_load(&record, w->kept, err))
        return -1;
    bool adopted = record && rt_work_in_place(w, record);
    int bad = (!adopted && w->state != RT_STAGE_CUT && rt_work_any_output(w) &&
               set_aside(w, moved, size, err)) ||
              (w->state != RT_STAGE_KEPT && remember(w, err));
    if (!bad && record) {
        cJSON_DeleteItemFromObjectCaseSensitive(record, "stage");
        rt_json_put_str(record, "stage", w->stage->name);
        for (int k = 0; k < w->stage->n_outputs; k++)
            rt_record_put_place(record, w->stage->output[k].option->name,
                                w->stage->output[k].place);
    } else if (!bad) {
        record = new_record(w);
    }
    bad = bad || (w->state != RT_STAGE_KEPT &&
                  rt_record_save(w->recipe, RT_RECORD_STAGES, w->stage->name, record, err));
    if (bad) {
        cJSON_Delete(record);
        return -1;
    }
    cJSON_Delete(w->record);
    w->record = record;
    return 0;
}

int rt_work_take_back(rt_work_of *w, rt_err *err)
{
    cJSON *kept = NULL;
    char *own = rt_record_file(w->recipe, RT_RECORD_STAGES, w->stage->name);
    int bad = rt_json_load(&kept, w->kept, err) ||
              rt_record_save(w->recipe, RT_RECORD_STAGES, w->stage->name, w->record, err);
    for (int k = 0; !bad && k < w->stage->n_outputs; k++) {
        const cJSON *row = rt_record_output(kept, w->stage->output[k].option->name);
        char *from = rt_recipe_path(w->recipe, rt_record_text(row, "at"));
        if (strcmp(rt_record_text(row, "at"), w->stage->output[k].place))
            bad = move(from, w->stage->output[k].path, err);
        free(from);
    }
    if (!bad && strcmp(own, w->kept)) {
        if (unlink(w->kept))
            bad = rt_fail(err, "%s: cannot be removed: %s", w->kept, rt_errno_text(errno));
        w->kept[strlen(w->kept) - strlen(".json")] = 0;
        rmdir(w->kept); /* empty now, unless somebody put something there */
    }
    cJSON_Delete(kept);
    free(own);
    return bad ? -1 : 0;
}

int rt_work_finish(rt_work_of *w, double seconds, int64_t peak, rt_err *err)
{
    cJSON *record = w->record;
    if (!rt_record_true(record, "done")) {
        cJSON_DeleteItemFromObjectCaseSensitive(record, "done");
        rt_json_put_bool(record, "done", true);
        cJSON_DeleteItemFromObjectCaseSensitive(record, "seconds");
        rt_json_put_num(record, "seconds", seconds);
        if (peak > 0)
            rt_json_put_i64(record, "peak_bytes", peak);
        if (rt_record_save(w->recipe, RT_RECORD_STAGES, w->stage->name, record,
                           err)) /* before the long reading */
            return -1;
    }
    bool added = false;
    for (cJSON *c = rt_json_find(record, "outputs")->child; c; c = c->next) {
        rt_identity id;
        if (rt_record_text(c, "hash")[0])
            continue;
        char *path = rt_recipe_path(w->recipe, rt_record_text(c, "at"));
        cJSON *files = rt_json_object();
        int bad = rt_identity_of(&id, path, RT_IDENTITY_READ, files, err);
        free(path);
        if (bad) {
            cJSON_Delete(files);
            return -1;
        }
        rt_json_put(c, "files", files);
        rt_json_put_num(c, "bytes", (double)id.bytes);
        rt_json_put_str(c, "hash", id.hash.hex);
        added = true;
    }
    w->state = RT_STAGE_DONE;
    return added ? rt_record_save(w->recipe, RT_RECORD_STAGES, w->stage->name, record, err) : 0;
}
