#include "distill/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/archive/trace.h"
#include "distill/page.h"
#include "student/results.h"

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

/* All that the stages of the models left. */
static int load_results(cJSON *results, const cJSON *models, const rt_recipe *r, rt_err *err)
{
    const cJSON *m;
    cJSON_ArrayForEach(m, models)
    {
        cJSON *result = NULL;
        if (!cJSON_IsString(m))
            continue;
        if (load_result(&result, r, m, err))
            return -1;
        rt_json_put(results, m->string, result);
    }
    return 0;
}

/* Their numbers, without what is there to be looked at. */
static void add_models(cJSON *out, const cJSON *results)
{
    static const char *const parts[] = { "groups", "pass_at", "calibration" };
    for (const cJSON *m = results->child; m; m = m->next) {
        cJSON *row = rt_json_object();
        rt_json_put(out, m->string, row);
        for (int i = 0; i < rt_result_count(); i++) {
            const char *key = rt_result_list[i].key;
            if (cJSON_IsNumber(rt_json_find(m, key)))
                rt_json_put(row, key, cJSON_Duplicate(rt_json_find(m, key), true));
        }
        for (int i = 0; i < RT_COUNT(parts); i++)
            if (rt_json_find(m, parts[i]))
                rt_json_put(row, parts[i], cJSON_Duplicate(rt_json_find(m, parts[i]), true));
    }
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
    if (!bad) {
        const rt_trace_manifest *m = rt_trace_info(r);
        rt_json_put_str(out, "teacher", m->teacher);
        rt_json_put_str(out, "weights_hash", m->weights_hash.hex);
        rt_json_put_str(out, "licence", m->licence);
        rt_trace_stats_put(out, &s);
    }
    rt_trace_reader_close(r);
    return bad ? rt_wrap(err, "report") : 0;
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

static void print_table(const cJSON *json, const cJSON *results)
{
    const cJSON *k;
    char text[64];
    printf("%-12s", "");
    for (int i = 0; i < rt_result_count(); i++)
        if (rt_result_list[i].column && !rt_result_list[i].page)
            printf(" %13s", rt_result_list[i].column);
    putchar('\n');
    for (const cJSON *m = results->child; m; m = m->next) {
        printf("%-12s", m->string);
        for (int i = 0; i < rt_result_count(); i++) {
            const rt_result *r = &rt_result_list[i];
            if (r->column && !r->page)
                printf(" %13s", rt_result_text(text, sizeof text, r, m) ? text : "-");
        }
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
    cJSON *results = rt_json_object();
    const cJSON *report = rt_json_find(r->json, "report");
    const cJSON *archive = rt_json_find(report, "archive");
    int bad = load_results(results, rt_json_find(report, "models"), r, err);
    add_models(json, results);
    if (!bad && archive) {
        cJSON *into = rt_json_object();
        rt_json_put(json, "archive", into);
        bad = add_archive(into, rt_recipe_stage(r, archive->valuestring)->out, err);
    }
    rt_json_put(json, "kl", kl);
    rt_json_put(json, "seconds", times);
    add_seconds(times, r, seconds);
    char *path = rt_path_join(r->folder, "report.json");
    bad = bad || add_kl(kl, rt_json_find(report, "kl"), r, err) || rt_json_save(json, path, err) ||
          rt_page_write(&(rt_page){ r, json, results }, err);
    if (!bad && as_json)
        rt_json_print(json);
    else if (!bad)
        print_table(json, results);
    free(path);
    cJSON_Delete(json);
    cJSON_Delete(results);
    return bad ? -1 : 0;
}
