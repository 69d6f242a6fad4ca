#include "distill/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/memory.h"

char *rt_record_file(const rt_recipe *r, const char *where, const char *name)
{
    char *folder = rt_path_join(r->folder, where), *path = rt_path_join(folder, name);
    size_t n = strlen(path);
    path = rt_realloc(path, (int64_t)n + 6, 1, "a path");
    memcpy(path + n, ".json", 6);
    free(folder);
    return path;
}

const char *rt_record_text(const cJSON *object, const char *key)
{
    const cJSON *item = rt_json_find(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

bool rt_record_true(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(rt_json_find(object, key));
}

double rt_record_number(const cJSON *object, const char *key, double none)
{
    const cJSON *item = rt_json_find(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : none;
}

int rt_record_load(cJSON **record, const char *file, rt_err *err)
{
    if (rt_json_load(record, file, err))
        return -1;
    const cJSON *outputs = rt_json_find(*record, "outputs");
    bool fit = rt_record_text(*record, "key")[0] && cJSON_IsBool(rt_json_find(*record, "done")) &&
               cJSON_IsObject(outputs);
    for (const cJSON *c = fit ? outputs->child : NULL; c; c = c->next)
        fit = fit && rt_record_text(c, "at")[0];
    if (fit)
        return 0;
    cJSON_Delete(*record);
    *record = NULL;
    return rt_fail(err, "%s: not a record of retort run", file);
}

/* The files of all records, those of stages/ first. */
char **rt_record_list(const rt_recipe *r, int *n)
{
    const char *const where[] = { RT_RECORD_STAGES, RT_RECORD_OLD };
    char **file = NULL;
    int64_t cap = 0;
    *n = 0;
    for (int k = 0; k < RT_COUNT(where); k++) {
        char **names = NULL, *folder = rt_path_join(r->folder, where[k]);
        rt_err none = { 0 };
        int count = 0;
        if (rt_path_is_dir(folder) && rt_dir_list(&names, &count, folder, &none) == 0)
            for (int i = 0; i < count; i++) {
                const char *dot = strrchr(names[i], '.');
                if (!dot || strcmp(dot, ".json"))
                    continue;
                rt_grow(&file, &cap, *n + 1, (int64_t)sizeof *file, "a list of records");
                file[(*n)++] = rt_path_join(folder, names[i]);
            }
        rt_names_free(names, count);
        free(folder);
    }
    return file;
}

bool rt_record_occupied(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* The record that speaks of a place, with its file; NULL = nobody's we know. */
cJSON *rt_record_at(const rt_recipe *r, const char *place, char **file)
{
    cJSON *found = NULL;
    int n;
    char **files = rt_record_list(r, &n);
    for (int i = 0; !found && i < n; i++) {
        rt_err none = { 0 };
        cJSON *record = NULL;
        if (rt_record_load(&record, files[i], &none))
            continue;
        for (const cJSON *c = rt_json_find(record, "outputs")->child; c && !found; c = c->next)
            if (!strcmp(rt_record_text(c, "at"), place))
                found = record;
        if (!found)
            cJSON_Delete(record);
        else if (file)
            *file = rt_strdup(files[i]);
    }
    rt_names_free(files, n);
    return found;
}

cJSON *rt_record_output(const cJSON *record, const char *option)
{
    return cJSON_GetObjectItemCaseSensitive(rt_json_find(record, "outputs"), option);
}

int rt_record_save(const rt_recipe *r, const char *where, const char *name, const cJSON *record,
                   rt_err *err)
{
    char *file = rt_record_file(r, where, name);
    int bad = rt_json_save(record, file, err);
    free(file);
    return bad;
}

void rt_record_put_place(cJSON *record, const char *option, const char *at)
{
    cJSON *row = rt_record_output(record, option);
    if (!row) {
        row = rt_json_object();
        rt_json_put(cJSON_GetObjectItemCaseSensitive(record, "outputs"), option, row);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(row, "at");
    rt_json_put_str(row, "at", at);
}
