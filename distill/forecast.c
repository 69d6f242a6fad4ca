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

/* A column of bytes; unknown where nothing was planned. */
static void print_bytes(bool known, int64_t bytes)
{
    char text[32];
    printf(" %12s", known ? rt_fmt_bytes(text, sizeof text, bytes) : "?");
}

static void print_tables(const rt_forecast *stage, int n)
{
    char time[32];
    int64_t most = 0, most_device = 0, all = 0;
    double seconds = 0;
    for (int i = 0; i < n; i++) {
        const rt_forecast *s = &stage[i];
        printf("[%d/%d] %s: retort %s%s\n", i + 1, n, s->name, s->command->name,
               s->done ? " (done)" : "");
        rt_needs_print(&s->needs, stdout);
        if (s->why[0])
            printf("  not planned: %s\n", s->why);
        most_device = rt_max(most_device, rt_needs_sum(&s->needs, RT_NEEDS_DEVICE));
    }
    printf("%-24s %12s%s %12s %12s\n", "", "memory", most_device ? "       device" : "", "disk",
           "time");
    for (int i = 0; i < n; i++) {
        const rt_forecast *s = &stage[i];
        printf("%-24s", s->name);
        print_bytes(s->planned, rt_needs_host(&s->needs));
        if (most_device)
            print_bytes(s->planned, rt_needs_sum(&s->needs, RT_NEEDS_DEVICE));
        print_bytes(s->planned, disk_of(&s->needs));
        printf(" %12s%s\n", time_of(s) < 0 ? "?" : rt_fmt_seconds(time, sizeof time, time_of(s)),
               s->done                 ? " (took)"
               : s->needs.seconds <= 0 ? ""
               : s->needs.at_most      ? " (at most)"
                                       : " (expected)");
        most = rt_max(most, rt_needs_host(&s->needs));
        all += disk_of(&s->needs);
        seconds += time_of(s) > 0 ? time_of(s) : 0;
    }
    printf("%-24s", "most, sum, sum of known");
    print_bytes(true, most);
    if (most_device)
        print_bytes(true, most_device);
    print_bytes(true, all);
    printf(" %12s\n", rt_fmt_seconds(time, sizeof time, seconds));
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
