/* page_curves.c: what training wrote down, as curves: metrics.jsonl of every stage that left one. Owns
   which columns are drawn together. Refuses: lines that are not of the format; they are passed over. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "distill/chart.h"
#include "distill/page_inside.h"

/* A drawing: a column of each step, and where there is one the same of the held-out text before it. */
static const struct curve {
    const char *title, *column, *held_out;
    bool percent;
} curves[] = {
    { "loss, what each minimised", "loss", NULL, false },
    { "KL to the teacher", "kl", "eval_kl", false },
    { "cross-entropy", "ce", "eval_ce", false },
    { "entropy of the student", "entropy", "eval_entropy", false },
    { "top-1 accuracy", "accuracy", "eval_accuracy", true },
    { "calibration error", NULL, "eval_ece", true },
    { "exact answers", NULL, "eval_answers", true },
    { "own answers: KL from student to teacher", "reverse_kl", NULL, false },
    { "own answers: what both find probable", "overlap", NULL, true },
};
enum { CURVES = RT_COUNT(curves), COLUMNS = 2 * CURVES, RUNS = RT_CHART_COLOURS };

typedef struct column {
    double *x, *y;
    int64_t n, cap_x, cap_y;
} column;

typedef struct run {
    const char *name;
    column column[COLUMNS];
} run;

static const char *key_of(int i) { return i % 2 ? curves[i / 2].held_out : curves[i / 2].column; }

static void add(column *c, double x, double y)
{
    rt_grow(&c->x, &c->cap_x, c->n + 1, sizeof *c->x, "steps");
    rt_grow(&c->y, &c->cap_y, c->n + 1, sizeof *c->y, "a curve");
    c->x[c->n] = x;
    c->y[c->n++] = y;
}

static void add_line(run *r, const char *line, int64_t bytes)
{
    rt_err none;
    cJSON *json;
    if (rt_json_parse(&json, line, bytes, "metrics.jsonl", &none))
        return;
    const cJSON *step = rt_json_find(json, "step");
    for (int i = 0; i < COLUMNS && cJSON_IsNumber(step); i++) {
        const cJSON *value = key_of(i) ? rt_json_find(json, key_of(i)) : NULL;
        if (cJSON_IsNumber(value))
            add(&r->column[i], step->valuedouble, value->valuedouble);
    }
    cJSON_Delete(json);
}

/* Whether the output of the stage has metrics. */
static bool read_run(run *r, const rt_stage *s)
{
    char *path = s->out ? rt_path_join(s->out, "metrics.jsonl") : NULL, *text = NULL;
    int64_t bytes = 0;
    rt_err none;
    bool found = path && rt_path_is_dir(s->out) && rt_path_exists(path) &&
                 rt_file_read(&text, &bytes, path, (int64_t)1 << 32, &none) == 0;
    r->name = s->name;
    for (const char *line = text, *end; found && line < text + bytes; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + bytes - line));
        if (!end)
            break;
        add_line(r, line, end - line);
    }
    free(text);
    free(path);
    return found;
}

static void put_curve(FILE *f, const rt_page *p, run *r, int n, int c)
{
    rt_series s[2 * RUNS];
    int k = 0;
    bool held_out = false, both = false;
    char title[128];
    for (int i = 0; i < n; i++) {
        held_out = held_out || r[i].column[2 * c + 1].n;
        both = both || r[i].column[2 * c].n;
    }
    for (int i = 0; i < n; i++)
        for (int b = 0; b < 2; b++) {
            const column *x = &r[i].column[2 * c + b];
            bool faint = b == 0 && held_out;
            bool named = !faint || !r[i].column[2 * c + 1].n; /* one word for both lines of a run */
            s[k++] = (rt_series){ named ? r[i].name : "", rt_page_colour(p, r[i].name), faint, x->x,
                                  x->y, x->n };
        }
    snprintf(title, sizeof title, "%s%s%s", curves[c].title, held_out ? ", held out" : "",
             held_out && both ? " (thin: while learning)" : "");
    rt_chart_lines(f, title, "steps", curves[c].percent, s, k);
}

void rt_page_curves(FILE *f, const rt_page *p)
{
    run *r = rt_alloc(RUNS, sizeof *r, "curves");
    int n = 0;
    for (int i = 0; i < p->recipe->n && n < RUNS; i++) {
        n += read_run(&r[n], &p->recipe->stage[i]);
    }
    if (n) {
        fputs("<h2>Training</h2><div class=grid>", f);
        for (int c = 0; c < CURVES; c++)
            put_curve(f, p, r, n, c);
        fputs("</div>", f);
    }
    for (int i = 0; i < n; i++)
        for (int c = 0; c < COLUMNS; c++) {
            free(r[i].column[c].x);
            free(r[i].column[c].y);
        }
    free(r);
}
