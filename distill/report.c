#include "distill/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/trace.h"

/* The stamp of a stage, and the file its --out names. */
static int load_stamp(cJSON **stamp, const char *stages, const char *name, rt_err *err)
{
    char file[96];
    snprintf(file, sizeof file, "%s.json", name);
    char *path = rt_path_join(stages, file);
    int bad = rt_path_exists(path) ? rt_json_load(stamp, path, err)
                                   : rt_fail(err, "report: the recipe has no stage \"%s\"", name);
    free(path);
    return bad;
}

static int stage_output(char **out, const char *stages, const char *name, rt_err *err)
{
    cJSON *stamp = NULL;
    const char *path = NULL;
    if (load_stamp(&stamp, stages, name, err))
        return -1;
    int bad = rt_json_get_str(rt_json_find(stamp, "options"), "out", &path, err);
    *out = bad ? NULL : strdup(path);
    cJSON_Delete(stamp);
    return bad ? rt_wrap(err, "report: stage %s", name) : 0;
}

static int load_result(cJSON **result, const char *stages, const cJSON *stage, rt_err *err)
{
    char *path = NULL;
    if (!cJSON_IsString(stage))
        return rt_usage(err, "report: %s must name a stage", stage->string);
    int bad = stage_output(&path, stages, stage->valuestring, err) ||
              rt_json_load(result, path, err);
    free(path);
    return bad ? -1 : 0;
}

static int add_models(cJSON *out, const cJSON *models, const char *stages, rt_err *err)
{
    static const char *const keys[] = { "accuracy", "accuracy_se", "perplexity", "parameters",
                                        "bytes",    "entropy",     "top1",       "groups" };
    const cJSON *m;
    cJSON_ArrayForEach(m, models)
    {
        cJSON *result = NULL, *row = rt_json_object();
        rt_json_put(out, m->string, row);
        if (load_result(&result, stages, m, err))
            return -1;
        for (int i = 0; i < RT_COUNT(keys); i++)
            if (rt_json_find(result, keys[i]))
                rt_json_put(row, keys[i], cJSON_Duplicate(rt_json_find(result, keys[i]), true));
        cJSON_Delete(result);
    }
    return 0;
}

static int add_kl(cJSON *out, const cJSON *kl, const char *stages, rt_err *err)
{
    const cJSON *k;
    cJSON_ArrayForEach(k, kl)
    {
        cJSON *result = NULL;
        double value = 0;
        if (load_result(&result, stages, k, err))
            return -1;
        int bad = rt_json_get_f64(result, "kl", &value, err);
        cJSON_Delete(result);
        if (bad)
            return rt_wrap(err, "report: %s (its eval stage needs a \"reference\")", k->string);
        rt_json_put_num(out, k->string, value);
    }
    return 0;
}

static int add_archive(cJSON *out, const char *stages, const char *stage, rt_err *err)
{
    char *path = NULL;
    rt_trace_reader *r = NULL;
    rt_trace_statistics s;
    if (stage_output(&path, stages, stage, err))
        return -1;
    int bad = rt_trace_open_read(&r, path, err) || rt_trace_stats(r, &s, err);
    rt_trace_reader_close(r);
    free(path);
    if (bad)
        return rt_wrap(err, "report");
    rt_trace_stats_put(out, &s);
    return 0;
}

static int add_seconds(cJSON *out, const char *stages, rt_err *err)
{
    char **names = NULL;
    int n = 0, bad = rt_dir_list(&names, &n, stages, err);
    double sum = 0;
    for (int i = 0; !bad && i < n; i++) {
        cJSON *stamp = NULL;
        const char *stage = NULL;
        double seconds = 0;
        char *path = rt_path_join(stages, names[i]);
        bad = rt_json_load(&stamp, path, err) || rt_json_get_str(stamp, "stage", &stage, err) ||
              rt_json_get_f64(stamp, "seconds", &seconds, err);
        if (!bad)
            rt_json_put_num(out, stage, seconds);
        sum += seconds;
        free(path);
        cJSON_Delete(stamp);
    }
    rt_names_free(names, n);
    rt_json_put_num(out, "all", sum);
    return bad ? -1 : 0;
}

static void print_number(const cJSON *row, const char *key, const char *format, double scale)
{
    const cJSON *item = rt_json_find(row, key);
    if (item)
        printf(format, item->valuedouble * scale);
    else
        printf(" %13s", "-");
}

static void print_table(const cJSON *json, const cJSON *models)
{
    const cJSON *m, *k;
    printf("%-12s %13s %13s %13s %13s %13s\n", "", "answers", "+-", "perplexity", "parameters",
           "bytes");
    cJSON_ArrayForEach(m, models)
    {
        const cJSON *row = rt_json_find(json, m->string);
        printf("%-12s", m->string);
        print_number(row, "accuracy", " %12.1f%%", 100);
        print_number(row, "accuracy_se", " %12.1f%%", 100);
        print_number(row, "perplexity", " %13.4f", 1);
        print_number(row, "parameters", " %13.0f", 1);
        print_number(row, "bytes", " %13.0f", 1);
        putchar('\n');
    }
    const cJSON *archive = rt_json_find(json, "archive");
    if (archive)
        printf("archive: %.0f samples, %.0f positions, %.2f bytes and %.2f ids a position\n",
               rt_json_find(archive, "samples")->valuedouble,
               rt_json_find(archive, "positions")->valuedouble,
               rt_json_find(archive, "bytes_per_position")->valuedouble,
               rt_json_find(archive, "mean_unique_ids")->valuedouble);
    cJSON_ArrayForEach(k, rt_json_find(json, "kl"))
        printf("KL %-20s %.4f\n", k->string, k->valuedouble);
    printf("seconds:");
    cJSON_ArrayForEach(k, rt_json_find(json, "seconds"))
        printf(" %s %.1f", k->string, k->valuedouble);
    putchar('\n');
}

int rt_report(const cJSON *report, const char *folder, const char *stages, bool as_json,
              rt_err *err)
{
    cJSON *json = rt_json_object(), *kl = rt_json_object(), *seconds = rt_json_object();
    const cJSON *models = rt_json_find(report, "models"),
                *archive = rt_json_find(report, "archive");
    int bad = add_models(json, models, stages, err);
    if (!bad && cJSON_IsString(archive)) {
        cJSON *into = rt_json_object();
        rt_json_put(json, "archive", into);
        bad = add_archive(into, stages, archive->valuestring, err);
    }
    rt_json_put(json, "kl", kl);
    rt_json_put(json, "seconds", seconds);
    char *path = rt_path_join(folder, "report.json");
    bad = bad || add_kl(kl, rt_json_find(report, "kl"), stages, err) ||
          add_seconds(seconds, stages, err) || rt_json_save(json, path, err);
    if (!bad && as_json)
        rt_json_print(json);
    else if (!bad)
        print_table(json, models);
    free(path);
    cJSON_Delete(json);
    return bad ? -1 : 0;
}
