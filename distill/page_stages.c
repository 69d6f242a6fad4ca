/* page_stages.c: what was made from what, how large, how long it took: the records of the stages. Refuses:
   a stage without a record. */
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "distill/html.h"
#include "distill/page_inside.h"
#include "distill/record.h"

enum { SHORT_HASH = 8 };

static void put_hash(FILE *f, const cJSON *json, const char *key)
{
    const char *hash = rt_record_text(json, key);
    if (hash[0]) {
        fputs(" <code>", f);
        for (int i = 0; i < SHORT_HASH && hash[i]; i++)
            rt_html_text(f, (char[]){ hash[i], 0 });
        fputs("</code>", f);
    }
}

static void put_bytes(FILE *f, const cJSON *json)
{
    char text[32];
    double bytes = rt_record_number(json, "bytes", -1);
    if (bytes >= 0)
        fprintf(f, " <small>%s</small>", rt_fmt_bytes(text, sizeof text, (int64_t)bytes));
}

/* Inputs, or outputs: a path, its size and the beginning of its hash, each on a line. */
static void put_paths(FILE *f, const cJSON *list, const char *path)
{
    fputs("<td class=text>", f);
    for (const cJSON *c = list ? list->child : NULL; c; c = c->next) {
        fputs("<div>", f);
        rt_html_text(f, rt_path_base(rt_record_text(c, path)));
        put_bytes(f, c);
        put_hash(f, c, "hash");
        fputs("</div>", f);
    }
    fputs("</td>", f);
}

static void put_bar(FILE *f, double value, double most, const char *text, int colour)
{
    if (value > 0 && most > 0)
        fprintf(f, "<td>%s<span class='bar c%d' style='width:%.1f%%'></span></td>", text, colour,
                100 * value / most);
    else
        fputs("<td></td>", f);
}

static void put_stage(FILE *f, const cJSON *r, double longest, double largest)
{
    char text[32];
    double seconds = rt_record_number(r, "seconds", 0), peak = rt_record_number(r, "peak_bytes", 0);
    fputs("<tr><td class=text><b>", f);
    rt_html_member(f, r, "stage");
    fputs("</b> <small>", f);
    rt_html_member(f, r, "command");
    fputs("</small></td>", f);
    put_bar(f, seconds, longest, rt_fmt_seconds(text, sizeof text, seconds), 0);
    put_bar(f, peak, largest, rt_fmt_bytes(text, sizeof text, (int64_t)peak), 1);
    put_paths(f, rt_json_find(r, "inputs"), "path");
    put_paths(f, rt_json_find(r, "outputs"), "at");
    fputs("</tr>\n", f);
}

/* A line of what is known of the archive. */
static void put_archive(FILE *f, const cJSON *a)
{
    static const struct {
        const char *key, *format, *after;
    } facts[] = { { "samples", "%.0f", " samples" },
                  { "positions", "%.0f", " positions" },
                  { "bytes_per_position", "%.2f", " bytes a position" },
                  { "mean_unique_ids", "%.2f", " ids a position" } };
    if (!a)
        return;
    fputs("<p>Teacher: <b>", f);
    rt_html_member(f, a, "teacher");
    fputs("</b>", f);
    put_hash(f, a, "weights_hash");
    fputs(". Archive: ", f);
    for (int i = 0; i < RT_COUNT(facts); i++) {
        fputs(i ? ", " : "", f);
        fprintf(f, facts[i].format, rt_record_number(a, facts[i].key, 0));
        fputs(facts[i].after, f);
    }
    double entropy = rt_record_number(rt_json_find(a, "entropy_nats"), "mean", -1);
    if (entropy >= 0)
        fprintf(f, ", entropy %.3f nats in the mean", entropy);
    if (rt_record_text(a, "licence")[0]) {
        fputs("; licence ", f);
        rt_html_member(f, a, "licence");
    }
    fputs(".</p>", f);
}

void rt_page_stages(FILE *f, const rt_page *p)
{
    double longest = 0, largest = 0;
    cJSON *records = rt_json_array();
    for (int i = 0; i < p->recipe->n; i++) {
        char *file = rt_record_file(p->recipe, RT_RECORD_STAGES, p->recipe->stage[i].name);
        rt_err none;
        cJSON *record = NULL;
        if (rt_record_load(&record, file, &none) == 0) {
            rt_json_put(records, NULL, record);
            double seconds = rt_record_number(record, "seconds", 0);
            double peak = rt_record_number(record, "peak_bytes", 0);
            longest = seconds > longest ? seconds : longest;
            largest = peak > largest ? peak : largest;
        }
        free(file);
    }
    fputs("<h2>What was made from what</h2>", f);
    put_archive(f, rt_json_find(p->report, "archive"));
    if (records->child) {
        fputs("<div class=scroll><table><tr><th>stage</th><th>time</th><th>peak memory</th>"
              "<th class=text>from</th><th class=text>made</th></tr>\n", f);
        for (const cJSON *r = records->child; r; r = r->next)
            put_stage(f, r, longest, largest);
        fputs("</table></div><p class=soft>Beside each file its size and the first digits of its "
              "XXH3-128.</p>", f);
    }
    cJSON_Delete(records);
}
