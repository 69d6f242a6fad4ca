/* page_examples.c: held-out documents as text, each piece shaded by how far the model was from its
   reference there, and beside it what the model says itself. Owns the shades. Everything in it was
   written by strangers or by models: it stays text. */
#include <string.h>

#include "distill/html.h"
#include "distill/page_inside.h"

/* From so many nats on the shade is k1, k2, ... */
static const double SHADES[] = { 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8 };

static int shade(double nats)
{
    int k = 0;
    while (k < RT_COUNT(SHADES) && nats >= SHADES[k])
        k++;
    return k;
}

static const char *words(const char *by)
{
    return !strcmp(by, "kl")           ? "KL to the reference"
           : !strcmp(by, "kl_archive") ? "KL from the archive, an estimate"
                                       : "cross-entropy";
}

static void put_pieces(FILE *f, const cJSON *x)
{
    const cJSON *pieces = rt_json_find(x, "pieces"), *values = rt_json_find(x, "values");
    const cJSON *p = cJSON_IsArray(pieces) ? pieces->child : NULL;
    const cJSON *v = cJSON_IsArray(values) ? values->child : NULL;
    for (; p; p = p->next, v = v ? v->next : NULL) {
        int k = cJSON_IsNumber(v) ? shade(v->valuedouble) : 0;
        if (!cJSON_IsString(p))
            continue;
        if (k)
            fprintf(f, "<span class=k%d title='%.3g'>", k, v->valuedouble);
        rt_html_text(f, p->valuestring);
        fputs(k ? "</span>" : "", f);
    }
}

/* Against the problem's answer, or where there is none against the text's. */
static void put_verdict(FILE *f, const cJSON *x)
{
    bool known = rt_json_find(x, "reference_answer") != NULL;
    if (!rt_json_find(x, "verdict"))
        return;
    fputs(": ", f);
    rt_html_member(f, x, "verdict");
    fputs(known ? "; the right answer is " : "; the text's answer is ", f);
    rt_html_member(f, x, known ? "reference_answer" : "text_answer");
}

static void put_example(FILE *f, const char *model, const cJSON *x)
{
    const cJSON *mean = rt_json_find(x, "mean"), *index = rt_json_find(x, "index");
    fputs("<div class=prompt>", f);
    rt_html_member(f, x, "prompt");
    fputs("</div><p class=soft>", f);
    rt_html_member(f, x, "kind");
    if (cJSON_IsNumber(mean))
        fprintf(f, ", %.4f nats a token in the mean", mean->valuedouble);
    if (cJSON_IsString(rt_json_find(x, "id"))) {
        fputs("; ", f);
        rt_html_member(f, x, "id");
    } else if (cJSON_IsNumber(index)) {
        fprintf(f, "; document %.0f", index->valuedouble + 1);
    }
    fputs("</p><div class=pair><div><p class=soft>the text that was held out</p><pre>", f);
    put_pieces(f, x);
    const cJSON *left = rt_json_find(x, "tokens_left_out");
    if (cJSON_IsNumber(left) && left->valuedouble > 0)
        fprintf(f, " [and %.0f tokens]", left->valuedouble);
    fputs("</pre></div>", f);
    if (rt_json_find(x, "said")) {
        fputs("<div><p class=soft>what ", f);
        rt_html_text(f, model);
        fputs(" says itself", f);
        put_verdict(f, x);
        fputs("</p><pre>", f);
        rt_html_member(f, x, "said");
        fputs("</pre></div>", f);
    }
    fputs("</div>\n", f);
}

static void put_key(FILE *f)
{
    fputs("<p class='soft key'>nats from ", f);
    for (int k = 0; k < RT_COUNT(SHADES); k++)
        fprintf(f, "<span class=k%d>%g</span>", k + 1, SHADES[k]);
    fputs("</p>", f);
}

/* Of a model that is nowhere far from what it is compared with there is little to see: a teacher and
   its own traces. The worst stands first. */
static bool worth(const cJSON *m)
{
    const cJSON *list = rt_json_find(m, "examples"), *by = rt_json_find(m, "examples_by");
    const cJSON *mean = cJSON_IsArray(list) ? rt_json_find(list->child, "mean") : NULL;
    return cJSON_IsArray(list) && list->child && cJSON_IsString(by) &&
           !(cJSON_IsNumber(mean) && mean->valuedouble < SHADES[0]);
}

void rt_page_examples(FILE *f, const rt_page *p)
{
    bool any = false;
    for (const cJSON *m = p->results->child; m; m = m->next) {
        const cJSON *x;
        if (!worth(m))
            continue;
        if (!any) {
            fputs("<h2>Traces</h2>", f);
            put_key(f);
        }
        fprintf(f, "<details%s><summary><span class='dot c%d'><b>", any ? "" : " open",
                rt_page_colour(p, m->string));
        rt_html_text(f, m->string);
        fprintf(f, "</b></span> <span class=soft>%s, token by token</span></summary>",
                words(rt_json_find(m, "examples_by")->valuestring));
        cJSON_ArrayForEach(x, rt_json_find(m, "examples"))
            put_example(f, m->string, x);
        fputs("</details>\n", f);
        any = true;
    }
}
