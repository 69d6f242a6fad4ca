#include "distill/forecast.h"

#include <stdio.h>

#include "core/base/log.h"

static int64_t disk_of(const rt_needs *p)
{
    return rt_needs_sum(p, RT_NEEDS_DISK) + rt_needs_sum(p, RT_NEEDS_ABOUT);
}

/* What it took, or what one that has not run is expected to take; < 0 = unknown. */
static double time_of(const rt_forecast *s)
{
    return s->seconds >= 0 || s->needs.seconds <= 0 ? s->seconds : s->needs.seconds;
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
            printf("  not planned: %s\n", s->why);
    }
    printf("%-24s %12s %12s %12s\n", "", "memory", "disk", "time");
    for (int i = 0; i < n; i++) {
        const rt_forecast *s = &stage[i];
        int64_t bytes = rt_needs_sum(&s->needs, RT_NEEDS_MEMORY);
        printf("%-24s %12s %12s %12s%s\n", s->name,
               s->planned ? rt_fmt_bytes(memory, sizeof memory, bytes) : "?",
               s->planned ? rt_fmt_bytes(disk, sizeof disk, disk_of(&s->needs)) : "?",
               time_of(s) < 0 ? "?" : rt_fmt_seconds(time, sizeof time, time_of(s)),
               s->done                 ? " (took)"
               : s->needs.seconds <= 0 ? ""
               : s->needs.at_most      ? " (at most)"
                                       : " (expected)");
        most = rt_max(most, bytes);
        all += disk_of(&s->needs);
        seconds += time_of(s) > 0 ? time_of(s) : 0;
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

void rt_forecast_print(const rt_forecast *stage, int n, bool json)
{
    if (json)
        print_json(stage, n);
    else
        print_tables(stage, n);
}
