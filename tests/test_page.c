/* test_page.c: the page of a run, from what a stranger may have left: every text stays text, what is
   missing or of another kind is left out, tags close, and a line is drawn where its numbers are. */
#include <ctype.h>
#include <math.h>

#include "core/base/json.h"
#include "core/base/memory.h"
#include "distill/chart.h"
#include "distill/html.h"
#include "distill/page.h"
#include "tests/suite.h"

static rt_err err;
extern const rt_command rt_command_train;

/* Tags of a page close in their order, and all are of those that a page is made of. */
static void check_tags(const char *html)
{
    static const char *const VOID[] = { "meta", "path", "circle", "!doctype" };
    static const char *const TAGS[] = { "html", "title", "style",      "h1",  "h2",  "p",    "div",
                                        "table", "tr",   "th",         "td",  "span", "b",   "small",
                                        "code", "pre",   "figure",     "svg", "text", "details",
                                        "summary", "figcaption" };
    char open[64][16];
    int depth = 0;
    for (const char *s = strchr(html, '<'); s; s = strchr(s + 1, '<')) {
        bool close = s[1] == '/', known = false, empty = false;
        char name[16] = "";
        const char *at = s + 1 + close;
        for (int i = 0; i < 15 && (isalnum((unsigned char)at[i]) || at[i] == '!'); i++)
            name[i] = at[i], name[i + 1] = 0;
        for (int i = 0; i < RT_COUNT(VOID); i++)
            empty = empty || !strcmp(VOID[i], name);
        for (int i = 0; i < RT_COUNT(TAGS); i++)
            known = known || !strcmp(TAGS[i], name);
        if (!strncmp(at, "title>", 6) && depth && !strcmp(open[depth - 1], "circle"))
            known = true;
        ck_assert_msg(known || empty, "a tag: %.40s", s);
        const char *end = strchr(s, '>');
        ck_assert(end);
        if (close && !strcmp(name, "circle"))
            continue;
        if (close) {
            ck_assert_msg(depth && !strcmp(open[depth - 1], name), "%s closed inside %s: %.60s", name,
                          depth ? open[depth - 1] : "nothing", s);
            depth--;
        } else if (!empty) {
            ck_assert(depth < 64);
            snprintf(open[depth++], sizeof open[0], "%s", name);
        }
    }
    ck_assert_int_eq(depth, 0);
}

START_TEST(text)
{
    static const char IN[] = "a<b>&\"'\n\x01\xff\xe7\x8c\xab";
    char *out;
    size_t bytes;
    FILE *f = rt_memory_stream(&out, &bytes);
    rt_html_text(f, IN);
    rt_memory_stream_close(f);
    ck_assert_str_eq(out, "a&#60;b&#62;&#38;&#34;&#39;\n\xef\xbf\xbd\xef\xbf\xbd\xe7\x8c\xab");
    free(out);
}
END_TEST

/* y = x from 0 to 10 goes from corner to corner, and a long line is thinned to its means. */
START_TEST(lines)
{
    double x[1001], y[1001];
    char *out;
    size_t bytes;
    for (int n = 2; n <= 1001; n += 999) {
        for (int i = 0; i < n; i++)
            x[i] = i, y[i] = 10.0 * i / (n - 1);
        FILE *f = rt_memory_stream(&out, &bytes);
        rt_chart_lines(f, "t", "steps", false, &(rt_series){ "s", 3, n > 2, x, y, n }, 1);
        rt_memory_stream_close(f);
        check_tags(out);
        double x0, y0, x1 = 0, y1 = 0;
        char *d = strstr(out, "class='line c3");
        ck_assert(d && sscanf(strchr(d, 'M'), "M%lf %lf", &x0, &y0) == 2);
        int points = 1;
        for (char *p = strchr(d, 'L'); p && p < strstr(d, "'/>"); p = strchr(p + 1, 'L'), points++)
            ck_assert(sscanf(p, "L%lf %lf", &x1, &y1) == 2);
        ck_assert_msg(points == (n == 2 ? 2 : 167), "%d points", points);
        double slack = n == 2 ? 0.11 : 1.5; /* half a stretch of six steps */
        ck_assert_msg(fabs(x0 - 46) <= slack && fabs(y0 - 206) <= slack && fabs(x1 - 404) <= slack &&
                          fabs(y1 - 10) <= slack,
                      "%g %g to %g %g", x0, y0, x1, y1);
        free(out);
    }
    y[0] = y[1] = NAN;
    FILE *f = rt_memory_stream(&out, &bytes);
    rt_chart_lines(f, "t", "steps", false, &(rt_series){ "s", 3, false, x, y, 2 }, 1);
    rt_memory_stream_close(f);
    ck_assert_uint_eq(bytes, 0);
    free(out);
}
END_TEST

static char *page_of(const rt_recipe *r, const char *report, const char *results)
{
    cJSON *a, *b;
    char *html;
    int64_t bytes;
    OK(rt_json_parse(&a, report, (int64_t)strlen(report), "report", &err));
    OK(rt_json_parse(&b, results, (int64_t)strlen(results), "results", &err));
    OK(rt_page_write(&(rt_page){ r, a, b }, &err));
    OK(rt_file_read(&html, &bytes, "report.html", 1 << 24, &err));
    ck_assert_int_eq((int64_t)strlen(html), bytes);
    cJSON_Delete(a);
    cJSON_Delete(b);
    check_tags(html);
    return html;
}

START_TEST(pages)
{
    static const char METRICS[] =
        "{\"step\":1,\"loss\":3,\"ce\":3,\"eval_ce\":2.5}\nnonsense\n[1]\n{\"step\":\"2\",\"loss\":1}\n"
        "{\"step\":2,\"loss\":2e999}\n{\"step\":3,\"loss\":1,\"ce\":\"x\",\"eval_ce\":1.5}\n{\"step\":4";
    static const char X[] = "</pre><script>alert(1)</script><img src=x onerror='a()'>";
    char name[] = "a<b", out[] = ".", results[4096], folder[] = ".";
    rt_stage stage = { .name = name, .command = &rt_command_train, .out = out };
    rt_recipe r = { .file = "x<y>.json", .folder = folder, .stage = &stage, .n = 1 };
    OK(rt_file_write("metrics.jsonl", METRICS, sizeof METRICS - 1, &err));
    OK(rt_dir_make("stages", &err));
    snprintf(results, sizeof results,
             "{\"a<b\":{\"accuracy\":0.5,\"accuracy_se\":\"x\",\"groups\":{\"%s\":1,\"k\":\"%s\"},\"pass_at\":[1],"
             "\"kl\":1,\"calibration\":[{\"confidence\":0.5,\"accuracy\":0.25,\"tokens\":9},{\"confidence\":[]},3],"
             "\"examples_by\":\"kl\",\"examples\":[{\"kind\":\"%s\",\"mean\":\"%s\",\"id\":\"%s\",\"prompt\":\"%s\","
             "\"pieces\":[\"%s\",3,\"\\u0001\"],\"values\":[9,1],\"said\":\"%s\",\"verdict\":\"%s\"},4,null]},"
             "\"empty\":{},\"odd\":3}", X, X, X, X, X, X, X, X, X);
    char *html = page_of(&r, "{\"kl\":{\"<i>\":1},\"archive\":{\"teacher\":\"<i>\",\"samples\":\"<i>\"}}",
                         results);
    ck_assert(!strstr(html, "<script") && !strstr(html, "<img") && !strstr(html, "<i>"));
    ck_assert(strstr(html, "&#60;script&#62;alert(1)") && strstr(html, "class=k9"));
    ck_assert(strstr(html, "class=x") && strstr(html, ">a&#60;b<"));
    ck_assert(!strstr(html, "http:") && !strstr(html, "https:"));
    free(html);
    /* and of nothing there is nothing */
    r.n = 0;
    html = page_of(&r, "{}", "{}");
    const char *const PARTS[] = { "Models", "Answers", "Training", "Calibration", "Traces", "<svg" };
    for (int i = 0; i < RT_COUNT(PARTS); i++)
        ck_assert_msg(!strstr(html, PARTS[i]), "%s of nothing", PARTS[i]);
    free(html);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { text, 1 }, { lines, 1 }, { pages, 1 } };
    return suite_run("page", NULL, tests, RT_COUNT(tests));
}
