#include "distill/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/archive/trace.h"

/* ---- names ---- */

/* Whether a stage is one of these commands, with that option set; names end with NULL. */
static int check_name(const rt_recipe *r, const cJSON *item, const char *const *commands,
                      const char *option, rt_err *err)
{
    const char *names[64];
    int n = 0;
    bool fits = false;
    if (!cJSON_IsString(item))
        return rt_usage(err, "%s: report: \"%s\" must name a stage", r->file, item->string);
    const rt_stage *s = rt_recipe_stage(r, item->valuestring);
    for (int i = 0; i < r->n && n < RT_COUNT(names); i++)
        names[n++] = r->stage[i].name;
    if (!s) {
        const char *near = rt_nearest(item->valuestring, names, n);
        return rt_usage(err, "%s: report: \"%s\": the recipe has no stage \"%s\"%s%s%s", r->file,
                        item->string, item->valuestring, near ? "; did you mean " : "",
                        near ? near : "", near ? "?" : "");
    }
    for (int i = 0; commands[i]; i++)
        fits = fits || !strcmp(commands[i], s->command->name);
    if (!fits || !s->out)
        return rt_usage(err, "%s: report: \"%s\": stage %s is no retort %s with an \"out\"",
                        r->file, item->string, s->name, commands[0]);
    const rt_option *o = option ? rt_option_find(s->command, option) : NULL;
    if (o && !rt_option_path(o, s->values, 0))
        return rt_usage(err, "%s: report: \"%s\": stage %s needs a \"%s\"", r->file, item->string,
                        s->name, option);
    return 0;
}

int rt_report_check(const rt_recipe *r, rt_err *err)
{
    static const char *const JUDGES[] = { "eval", NULL }, *const WRITERS[] = { "sample", "score",
                                                                               NULL };
    const cJSON *report = rt_json_find(r->json, "report"), *c, *k;
    if (report && !cJSON_IsObject(report))
        return rt_usage(err, "%s: \"report\" must be an object", r->file);
    for (c = report ? report->child : NULL; c; c = c->next) {
        bool models = !strcmp(c->string, "models"), kl = !strcmp(c->string, "kl");
        if (!strncmp(c->string, "//", 2))
            continue;
        if (!strcmp(c->string, "archive")) {
            if (check_name(r, c, WRITERS, NULL, err))
                return -1;
            continue;
        }
        if (!models && !kl)
            return rt_usage(err, "%s: report: unknown key \"%s\"; it has models, kl and archive",
                            r->file, c->string);
        if (!cJSON_IsObject(c))
            return rt_usage(err, "%s: report: \"%s\" must be an object of NAME: STAGE", r->file,
                            c->string);
        for (k = c->child; k; k = k->next)
            if (strncmp(k->string, "//", 2) &&
                check_name(r, k, JUDGES, kl ? "reference" : NULL, err))
                return -1;
    }
    return 0;
}

/* ---- gathering ---- */

static int load_result(cJSON **result, const rt_recipe *r, const cJSON *stage, rt_err *err)
{
    return rt_json_load(result, rt_recipe_stage(r, stage->valuestring)->out, err)
               ? rt_wrap(err, "report")
               : 0;
}

static int add_models(cJSON *out, const cJSON *models, const rt_recipe *r, rt_err *err)
{
    static const char *const keys[] = { "accuracy", "accuracy_se", "perplexity", "parameters",
                                        "bytes",    "entropy",     "top1",       "groups" };
    const cJSON *m;
    cJSON_ArrayForEach(m, models)
    {
        cJSON *result = NULL, *row;
        if (!cJSON_IsString(m))
            continue;
        row = rt_json_object();
        rt_json_put(out, m->string, row);
        if (load_result(&result, r, m, err))
            return -1;
        for (int i = 0; i < RT_COUNT(keys); i++)
            if (rt_json_find(result, keys[i]))
                rt_json_put(row, keys[i], cJSON_Duplicate(rt_json_find(result, keys[i]), true));
        cJSON_Delete(result);
    }
    return 0;
}

static int add_kl(cJSON *out, const cJSON *kl, const rt_recipe *r, rt_err *err)
{
    const cJSON *k;
    cJSON_ArrayForEach(k, kl)
    {
        cJSON *result = NULL;
        double value = 0;
        if (!strncmp(k->string, "//", 2))
            continue;
        if (load_result(&result, r, k, err))
            return -1;
        int bad = rt_json_get_f64(result, "kl", &value, err);
        cJSON_Delete(result);
        if (bad)
            return rt_wrap(err, "report: %s (its eval stage needs a \"reference\")", k->string);
        rt_json_put_num(out, k->string, value);
    }
    return 0;
}

static int add_archive(cJSON *out, const char *path, rt_err *err)
{
    rt_trace_reader *r = NULL;
    rt_trace_statistics s;
    int bad = rt_trace_open_read(&r, path, err) || rt_trace_stats(r, &s, err);
    rt_trace_reader_close(r);
    if (bad)
        return rt_wrap(err, "report");
    rt_trace_stats_put(out, &s);
    return 0;
}

static void add_seconds(cJSON *out, const rt_recipe *r, const double *seconds)
{
    double sum = 0;
    for (int i = 0; i < r->n; i++) {
        if (seconds[i] >= 0)
            rt_json_put_num(out, r->stage[i].name, seconds[i]);
        sum += seconds[i] > 0 ? seconds[i] : 0;
    }
    rt_json_put_num(out, "all", sum);
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
        if (!row)
            continue;
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

int rt_report(const rt_recipe *r, const double *seconds, bool as_json, rt_err *err)
{
    cJSON *json = rt_json_object(), *kl = rt_json_object(), *times = rt_json_object();
    const cJSON *report = rt_json_find(r->json, "report");
    const cJSON *models = rt_json_find(report, "models"),
                *archive = rt_json_find(report, "archive");
    int bad = add_models(json, models, r, err);
    if (!bad && archive) {
        cJSON *into = rt_json_object();
        rt_json_put(json, "archive", into);
        bad = add_archive(into, rt_recipe_stage(r, archive->valuestring)->out, err);
    }
    rt_json_put(json, "kl", kl);
    rt_json_put(json, "seconds", times);
    add_seconds(times, r, seconds);
    char *path = rt_path_join(r->folder, "report.json");
    bad = bad || add_kl(kl, rt_json_find(report, "kl"), r, err) || rt_json_save(json, path, err);
    if (!bad && as_json)
        rt_json_print(json);
    else if (!bad)
        print_table(json, models);
    free(path);
    cJSON_Delete(json);
    return bad ? -1 : 0;
}
