#include "distill/page.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/path.h"
#include "distill/chart.h"
#include "distill/html.h"
#include "distill/page_inside.h"
#include "distill/page_style.h"
#include "student/results.h"

int rt_page_colour(const rt_page *p, const char *name)
{
    int k = 0;
    for (const cJSON *m = p->results->child; m; m = m->next, k++)
        if (!strcmp(m->string, name))
            return k % RT_CHART_COLOURS;
    for (int i = 0; i < p->recipe->n; i++) {
        bool model = rt_json_find(p->results, p->recipe->stage[i].name) != NULL;
        if (!strcmp(p->recipe->stage[i].name, name))
            return k % RT_CHART_COLOURS;
        k += !model && !strcmp(p->recipe->stage[i].command->name, "train");
    }
    return RT_CHART_COLOURS - 1;
}

static void put_name(FILE *f, const rt_page *p, const char *name)
{
    fprintf(f, "<td class=text><span class='dot c%d'><b>", rt_page_colour(p, name));
    rt_html_text(f, name);
    fputs("</b></span></td>", f);
}

static bool any_has(const cJSON *results, const char *key)
{
    for (const cJSON *m = results->child; m; m = m->next)
        if (cJSON_IsNumber(rt_json_find(m, key)))
            return true;
    return false;
}

/* A standard error stands beside its value. */
static bool is_error(const rt_result *r)
{
    size_t n = strlen(r->key);
    return n > 3 && !strcmp(r->key + n - 3, "_se");
}

static void put_cell(FILE *f, const rt_result *r, const cJSON *json)
{
    char text[64], error[64];
    const cJSON *item = rt_json_find(json, r->key);
    if (!cJSON_IsNumber(item)) {
        fputs("<td>", f);
    } else if (r->size) {
        fprintf(f, "<td>%s", r->size == RT_RESULT_BYTES
                                 ? rt_fmt_bytes(text, sizeof text, (int64_t)item->valuedouble)
                                 : rt_fmt_count(text, sizeof text, item->valuedouble));
    } else {
        rt_result_text(text, sizeof text, r, json);
        fprintf(f, "<td>%s", text);
    }
    bool last = r + 1 == rt_result_list + rt_result_count();
    if (!last && is_error(r + 1) && rt_result_text(error, sizeof error, r + 1, json))
        fprintf(f, " <small>&#177; %s</small>", error);
    fputs("</td>", f);
}

static void put_models(FILE *f, const rt_page *p)
{
    if (!p->results->child)
        return;
    fputs("<h2>Models</h2><div class=scroll><table><tr><th></th>", f);
    for (int i = 0; i < rt_result_count(); i++) {
        const rt_result *r = &rt_result_list[i];
        if (r->column && !is_error(r) && any_has(p->results, r->key))
            fprintf(f, "<th>%s</th>", r->column);
    }
    fputs("</tr>\n", f);
    for (const cJSON *m = p->results->child; m; m = m->next) {
        fputs("<tr>", f);
        put_name(f, p, m->string);
        for (int i = 0; i < rt_result_count(); i++) {
            const rt_result *r = &rt_result_list[i];
            if (r->column && !is_error(r) && any_has(p->results, r->key))
                put_cell(f, r, m);
        }
        fputs("</tr>\n", f);
    }
    fputs("</table></div>", f);
    const cJSON *kl = rt_json_find(p->report, "kl");
    if (!any_has(p->results, "kl"))
        return;
    fputs("<p class=soft>KL (nats a token) and agreement are to each model's own reference", f);
    for (const cJSON *k = kl ? kl->child : NULL; k; k = k->next) {
        fputs("; ", f);
        rt_html_text(f, k->string);
        fprintf(f, " %.4f", k->valuedouble);
    }
    fputs("</p>", f);
}

/* A table of shares: rows are the names that any model has, columns the models. */
static void put_shares(FILE *f, const rt_page *p, const char *key, const char *title,
                       const char *said, const char *before)
{
    cJSON *names = rt_json_object();
    for (const cJSON *m = p->results->child; m; m = m->next)
        for (const cJSON *c = rt_json_find(m, key) ? rt_json_find(m, key)->child : NULL; c; c = c->next)
            if (c->string && !rt_json_find(names, c->string))
                rt_json_put(names, c->string, cJSON_CreateNull());
    if (names->child) {
        fprintf(f, "<h2>%s</h2><p class=soft>%s</p><div class=scroll><table><tr><th></th>", title, said);
        for (const cJSON *m = p->results->child; m; m = m->next) {
            if (!rt_json_find(m, key) || !rt_json_find(m, key)->child)
                continue;
            fputs("<th>", f);
            rt_html_text(f, m->string);
            fputs("</th>", f);
        }
        fputs("</tr>\n", f);
    }
    for (const cJSON *c = names->child; c; c = c->next) {
        fprintf(f, "<tr><td class=text>%s", before);
        rt_html_text(f, c->string);
        fputs("</td>", f);
        for (const cJSON *m = p->results->child; m; m = m->next) {
            const cJSON *v = rt_json_find(rt_json_find(m, key), c->string);
            if (!rt_json_find(m, key) || !rt_json_find(m, key)->child)
                continue;
            if (cJSON_IsNumber(v))
                fprintf(f, "<td>%.1f %%<span class='bar c%d' style='width:%.1f%%'></span></td>",
                        100 * v->valuedouble, rt_page_colour(p, m->string), 100 * v->valuedouble);
            else
                fputs("<td></td>", f);
        }
        fputs("</tr>\n", f);
    }
    fputs(names->child ? "</table></div>" : "", f);
    cJSON_Delete(names);
}

static void put_calibration(FILE *f, const rt_page *p)
{
    rt_series s[RT_CHART_COLOURS] = { 0 };
    const double *weight[RT_CHART_COLOURS];
    double *memory[RT_CHART_COLOURS];
    int n = 0;
    for (const cJSON *m = p->results->child; m && n < RT_CHART_COLOURS; m = m->next) {
        const cJSON *bins = rt_json_find(m, "calibration"), *b;
        int64_t k = 0, size = cJSON_IsArray(bins) ? cJSON_GetArraySize(bins) : 0;
        if (!size)
            continue;
        double *x = memory[n] = rt_alloc(3 * size, sizeof *x, "bins");
        cJSON_ArrayForEach(b, bins)
        {
            const cJSON *c = rt_json_find(b, "confidence"), *a = rt_json_find(b, "accuracy"),
                        *t = rt_json_find(b, "tokens");
            if (cJSON_IsNumber(c) && cJSON_IsNumber(a) && cJSON_IsNumber(t)) {
                x[k] = c->valuedouble;
                x[size + k] = a->valuedouble;
                x[2 * size + k++] = t->valuedouble > 0 ? t->valuedouble : 0;
            }
        }
        weight[n] = x + 2 * size;
        s[n++] = (rt_series){ m->string, rt_page_colour(p, m->string), false, x, x + size, k };
    }
    if (rt_chart_any(s, n)) {
        fputs("<h2>Calibration</h2><p class=soft>On the diagonal a model is as often right as it is sure. Larger "
              "dots are more tokens; the calibration error in the table is the mean distance.</p><div class=grid>",
              f);
        rt_chart_reliability(f, s, weight, n);
        fputs("</div>", f);
    }
    for (int i = 0; i < n; i++)
        free(memory[i]);
}

static void put_page(FILE *f, const rt_page *p)
{
    fputs("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,"
          "initial-scale=1'><meta http-equiv=Content-Security-Policy content=\"default-src 'none';"
          "style-src 'unsafe-inline'\"><title>", f);
    char *folder = rt_path_resolve(p->recipe->folder);
    rt_html_text(f, rt_path_base(folder));
    fprintf(f, "</title><style>%s</style>\n<h1>", PAGE_STYLE);
    rt_html_text(f, rt_path_base(folder));
    fputs("</h1><p class=soft>a run of ", f);
    rt_html_text(f, rt_path_base(p->recipe->file));
    fputs(", by retort " RT_VERSION "</p>\n", f);
    free(folder);
    put_models(f, p);
    put_shares(f, p, "groups", "Answers by kind of problem", "share of exact answers", "");
    put_shares(f, p, "pass_at", "Several answers to a problem", "chance that one of k is right",
               "k = ");
    rt_page_curves(f, p);
    put_calibration(f, p);
    rt_page_examples(f, p);
    rt_page_stages(f, p);
    fputs("</html>\n", f);
}

int rt_page_write(const rt_page *p, rt_err *err)
{
    char *text = NULL, *path = rt_path_join(p->recipe->folder, "report.html");
    size_t bytes = 0;
    FILE *f = rt_memory_stream(&text, &bytes);
    put_page(f, p);
    rt_memory_stream_close(f);
    int bad = rt_file_write(path, text, (int64_t)bytes, err);
    free(text);
    free(path);
    return bad;
}
