#include "teacher/scoring.h"

#include <string.h>

#include "core/network/finite.h"

/* Every position of the pass that wants a target, text by text. The row before a token predicts it.
 */
static int64_t list_wanted(rt_scoring *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t t = s->text[i].first; t < s->text[i].end; t++, n++) {
            s->wanted[n] = (int32_t)i;
            s->index[n] = (int32_t)(s->text[i].row + t - 1);
        }
    return n;
}

static void send_rows(rt_scoring *s, const int32_t *index, int64_t n)
{
    rt_model_logits(s->d, s->m, &s->acts, index, n);
    rt_capture_upload(s->d, &s->capture, n, true);
    rt_capture_run(s->d, &s->capture, &s->acts.logits, n, s->vocab);
}

static void capture_rows(rt_scoring *s, int64_t at, int64_t n)
{
    rt_capture_buffers *b = &s->capture;
    for (int64_t i = 0; i < n; i++) {
        const rt_scoring_text *t = &s->text[s->wanted[at + i]];
        int64_t token = s->index[at + i] + 1 - t->row;
        b->host_token[i] = t->token[token];
        rt_capture_set_seed(b, i, t->seed, token);
        if (b->cfg.listed)
            rt_capture_set_listed(b, i, t->listed, token - t->first);
    }
    send_rows(s, s->index + at, n);
}

int rt_scoring_take(rt_scoring *s, rt_err *err)
{
    rt_capture_buffers *b = &s->capture;
    int64_t wanted = list_wanted(s), chunk = b->rows;
    for (int64_t at = 0; at < wanted; at += chunk)
        capture_rows(s, at, rt_min(chunk, wanted - at));
    if (rt_sync(s->d, err))
        return -1;
    s->not_finite = !rt_capture_finite(b);
    if (s->not_finite)
        return rt_finite_fail(s->d, s->m, &s->acts, err);
    for (int64_t i = 0; i < b->n; i++)
        rt_capture_append(b, i, &s->text[s->wanted[i]].soft);
    rt_capture_clear(b);
    return 0;
}

void rt_scoring_clear(rt_scoring *s) { s->n = s->rows = 0; }

bool rt_scoring_fits(const rt_scoring *s, int64_t n)
{
    return s->n < s->acts.shape.segments && n <= s->acts.shape.rows - s->rows;
}

rt_scoring_text *rt_scoring_add(rt_scoring *s, const int32_t *token, int64_t n)
{
    rt_scoring_text *t = &s->text[s->n];
    if (!rt_scoring_fits(s, n))
        rt_bug("scoring: a text of %lld tokens beyond the plan of a pass", (long long)n);
    rt_soft_clear(&t->soft);
    *t = (rt_scoring_text){ .token = token, .n = n, .row = s->rows, .soft = t->soft };
    s->offset[s->n++] = (int32_t)s->rows;
    for (int64_t i = 0; i < n; i++, s->rows++) {
        s->token[s->rows] = token[i];
        s->pos[s->rows] = (int32_t)i;
    }
    s->offset[s->n] = (int32_t)s->rows;
    return t;
}

void rt_scoring_forward(rt_scoring *s)
{
    rt_acts_rows(&s->acts, s->rows, s->n, s->token, s->pos, s->offset, NULL);
    rt_model_forward(s->d, s->m, &s->acts);
}

/* ---- memory -------------------------------------------------------------------------------------
 */

static void plan_host(void *ctx, rt_arena *a)
{
    rt_scoring *s = ctx;
    int64_t rows = s->acts.shape.rows, texts = s->acts.shape.segments, word = sizeof *s->token;
    s->text = rt_arena_take(a, "texts", texts * (int64_t)sizeof *s->text);
    s->token = rt_arena_take(a, "pass", rows * word);
    s->pos = rt_arena_take(a, "pass", rows * word);
    s->offset = rt_arena_take(a, "pass", (texts + 1) * word);
    s->index = rt_arena_take(a, "pass", rows * word);
    s->wanted = rt_arena_take(a, "pass", rows * word);
}

/* A pass of as many rows as any, all of them captured. */
static void dry_run(rt_scoring *s)
{
    int64_t rows = s->acts.shape.rows, chunk = s->capture.rows;
    rt_dev_dry_begin(s->d);
    rt_acts_dry(&s->acts, s->m, rows, s->acts.shape.segments);
    for (int64_t at = 0; at < rows; at += chunk)
        send_rows(s, NULL, rt_min(chunk, rows - at));
    s->cost = rt_dev_dry_end(s->d);
    rt_capture_clear(&s->capture);
}

void rt_scoring_plan(rt_scoring *s, rt_arenas *l, rt_dev *d, const rt_model *m, int64_t vocab,
                     const rt_soft_config *cfg, int64_t rows, int64_t texts, int64_t longest,
                     int64_t head_rows)
{
    rt_pass_shape shape = { .mode = RT_PLAN_SCORE,
                            .rows = rows,
                            .segments = texts,
                            .longest = longest,
                            .head_rows = head_rows };
    memset(s, 0, sizeof *s);
    s->d = d;
    s->m = m;
    s->vocab = vocab;
    rt_acts_plan(&s->acts, l, d, m, &shape);
    rt_capture_plan(&s->capture, l, cfg, head_rows, rows);
    rt_arenas_add(l, &s->host, "host", RT_ON_HOST, plan_host, s);
    dry_run(s);
}

void rt_scoring_free(rt_scoring *s)
{
    for (int64_t i = 0; s->text && i < s->acts.shape.segments; i++)
        rt_soft_free(&s->text[i].soft);
    s->text = NULL;
    rt_acts_free(&s->acts);
}
