#include "distill/forecast.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "distill/run.h"

/* What makes a stage of a command short; a command without a row runs whole. */
static const struct {
    const char *command, *key;
} SHORT[] = {
    { "sample", "limit" }, { "score", "limit" }, { "train", "steps" }, { "eval", "limit" }
};

/* ---- the probe ----------------------------------------------------------------------------------
 */

/* Below the run folder outputs, and inputs that are not there, move to `to`. */
static void move_path(cJSON *item, bool output, const char *from, const char *to)
{
    size_t n = strlen(from);
    const char *path = item->valuestring;
    if (!cJSON_IsString(item) || strncmp(path, from, n) != 0 || path[n] != '/' ||
        (!output && rt_path_exists(path)))
        return;
    char *moved = rt_path_join(to, path + n + 1);
    cJSON_SetValuestring(item, moved);
    free(moved);
}

/* The stage's options, made small and moved. */
static int shorten(const rt_forecast *s, void *values, int64_t size, const char *from,
                   const char *to, rt_err *err)
{
    cJSON *section = rt_options_json(s->command, s->values), *item;
    bool help = false;
    cJSON_ArrayForEach(item, section)
    {
        move_path(item, !strcmp(item->string, "out"), from, to);
        for (cJSON *c = item->child; c; c = c->next)
            move_path(c, false, from, to);
    }
    for (int i = 0; i < RT_COUNT(SHORT); i++) {
        item = cJSON_GetObjectItemCaseSensitive(section, SHORT[i].key);
        if (!strcmp(s->command->name, SHORT[i].command) && item &&
            (item->valuedouble == 0 || item->valuedouble > (double)size))
            cJSON_SetNumberValue(item, (double)size);
    }
    int bad = rt_options_parse(s->command, values, section, 0, NULL, &help, err);
    cJSON_Delete(section);
    return bad;
}

static int time_stage(const rt_forecast *s, int nowhere, int64_t size, const char *from,
                      const char *to, double *seconds, int64_t *units, rt_err *err)
{
    void *values = calloc(1, s->command->struct_bytes + 1);
    rt_needs needs = { 0 };
    if (!values)
        rt_bug("out of memory");
    int bad = shorten(s, values, size, from, to, err) ||
              (s->command->plan && s->command->plan(values, &needs, err));
    *units = needs.units;
    const rt_option *out = rt_option_find(s->command, "out");
    char *file = out ? *(char **)(void *)((uint8_t *)values + out->offset) : NULL;
    char *dir = file ? strndup(file, (size_t)(rt_path_base(file) - file)) : NULL;
    bad = bad || (dir && *dir && rt_dir_make(dir, err));
    free(dir);
    double begun = rt_now();
    bad = bad || rt_run_aside(s->command, values, nowhere, err);
    *seconds = rt_now() - begun;
    rt_needs_free(&needs);
    rt_options_free(s->command, values);
    free(values);
    return bad ? -1 : 0;
}

/* The line through both probes, at the units of the whole stage. */
static double extrapolate(const double t[2], const int64_t u[2], int64_t units)
{
    if (u[1] <= u[0] || t[1] <= t[0])
        return t[1] * (double)rt_max(units, 1) / (double)rt_max(u[1], 1);
    double slope = (t[1] - t[0]) / (double)(u[1] - u[0]);
    return t[1] + slope * (double)(units - u[1]);
}

static int probe_all(rt_forecast *stage, int n, const char *folder, const char *temp, int64_t size,
                     rt_err *err)
{
    double *seconds = calloc((size_t)n, 2 * sizeof *seconds);
    int64_t *units = calloc((size_t)n, 2 * sizeof *units);
    int bad = seconds && units ? 0 : rt_fail(err, "out of memory");
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0)
        bad = rt_fail(err, "/dev/null: cannot be opened");
    for (int round = 0; !bad && round < 2; round++) {
        char *to = rt_path_join(temp, round ? "3n" : "n");
        for (int i = 0; !bad && i < n; i++) {
            rt_forecast *s = &stage[i];
            rt_err failed = { 0 };
            if (s->done || (round && !s->timed))
                continue;
            rt_info("probe %d of 2: %s", round + 1, s->name);
            s->timed = !time_stage(s, nowhere, round ? 3 * size : size, folder, to,
                                   &seconds[2 * i + round], &units[2 * i + round], &failed);
            if (!s->timed)
                snprintf(s->why, sizeof s->why, "%s", failed.text);
            if (s->timed && round)
                s->seconds = extrapolate(&seconds[2 * i], &units[2 * i], s->needs.units);
            bad = rt_interrupted() ? (*err = failed, err->exit_code = 130, -1) : 0;
        }
        free(to);
    }
    if (nowhere >= 0)
        close(nowhere);
    free(seconds);
    free(units);
    return bad;
}

static int probe(rt_forecast *stage, int n, const char *folder, int64_t size, rt_err *err)
{
    size_t bytes = strlen(folder) + 16;
    char *temp = malloc(bytes);
    rt_err removing = { 0 };
    if (!temp)
        rt_bug("out of memory");
    snprintf(temp, bytes, "%s.probe-XXXXXX", folder); /* mkdtemp's template, not left-over work */
    int bad = mkdtemp(temp) ? probe_all(stage, n, folder, temp, size, err)
                            : rt_fail(err, "%s: cannot be made", temp);
    if (rt_run_remove(temp, &removing) && !bad) {
        *err = removing;
        bad = -1;
    }
    free(temp);
    return bad;
}

/* ---- the table ----------------------------------------------------------------------------------
 */

static int64_t disk_of(const rt_needs *p)
{
    return rt_needs_sum(p, RT_NEEDS_DISK) + rt_needs_sum(p, RT_NEEDS_ABOUT);
}

static void print_tables(const rt_forecast *stage, int n)
{
    char memory[32], disk[32], time[32];
    int64_t most = 0, all = 0;
    double seconds = 0;
    for (int i = 0; i < n; i++) {
        const rt_forecast *s = &stage[i];
        printf("[%d/%d] %s: retort %s%s\n", i + 1, n, s->name, s->command->name,
               s->done ? " (done)" : "");
        rt_needs_print(&s->needs, stdout);
        if (s->why[0])
            printf("  %s: %s\n", s->planned ? "not timed" : "cannot be planned", s->why);
    }
    printf("%-24s %12s %12s %12s\n", "", "memory", "disk", "time");
    for (int i = 0; i < n; i++) {
        const rt_forecast *s = &stage[i];
        int64_t bytes = rt_needs_sum(&s->needs, RT_NEEDS_MEMORY);
        printf("%-24s %12s %12s %12s%s\n", s->name,
               s->planned ? rt_fmt_bytes(memory, sizeof memory, bytes) : "?",
               s->planned ? rt_fmt_bytes(disk, sizeof disk, disk_of(&s->needs)) : "?",
               s->seconds < 0 ? "?" : rt_fmt_seconds(time, sizeof time, s->seconds),
               s->done ? " (took)" : "");
        most = rt_max(most, bytes);
        all += disk_of(&s->needs);
        seconds += s->seconds > 0 ? s->seconds : 0;
    }
    printf("%-24s %12s %12s %12s\n", "most, sum, sum of known",
           rt_fmt_bytes(memory, sizeof memory, most), rt_fmt_bytes(disk, sizeof disk, all),
           rt_fmt_seconds(time, sizeof time, seconds));
}

static void print_json(const rt_forecast *stage, int n)
{
    cJSON *json = rt_json_object(), *list = rt_json_array();
    for (int i = 0; i < n; i++) {
        const rt_forecast *s = &stage[i];
        cJSON *row = s->planned ? rt_needs_json(&s->needs) : rt_json_object();
        rt_json_put_str(row, "stage", s->name);
        rt_json_put_str(row, "command", s->command->name);
        rt_json_put_bool(row, "done", s->done);
        if (s->seconds >= 0)
            rt_json_put_num(row, "seconds", s->seconds);
        if (s->why[0])
            rt_json_put_str(row, "why", s->why);
        cJSON_AddItemToArray(list, row);
    }
    rt_json_put(json, "stages", list);
    rt_json_print(json);
    cJSON_Delete(json);
}

int rt_forecast_run(rt_forecast *stage, int n, const char *folder, int64_t size, bool json,
                    rt_err *err)
{
    for (int i = 0; i < n; i++) {
        rt_forecast *s = &stage[i];
        rt_err later = { 0 };
        s->needs.before = i ? &stage[i - 1].needs : NULL;
        s->planned = s->command->plan && !s->command->plan(s->values, &s->needs, &later);
        if (!s->planned)
            snprintf(s->why, sizeof s->why, "%s",
                     s->command->plan ? later.text : "the command has no plan");
    }
    int bad = size ? probe(stage, n, folder, size, err) : 0;
    if (!bad && json)
        print_json(stage, n);
    else if (!bad)
        print_tables(stage, n);
    for (int i = 0; i < n; i++)
        rt_needs_free(&stage[i].needs);
    return bad;
}
