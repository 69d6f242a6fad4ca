/* score_pass.c: the passes of `retort score`: memory for them, within --memory where it is given,
   the ids that another model lists, and the targets that they leave. Resident weights: a batch of texts at once. Streamed weights
   (core/network/stream.h): as many rows as there is room for, in batches layer by layer where that
   is more than are computed at once. Refuses: choosing texts, and what of them is learned. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/identity.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "teacher/scorer.h"
#include "teacher/streaming.h"

enum {
    PASS_TOKENS = 4096,    /* where they are resident */
    FLIGHT_TOKENS = 65536, /* of a pass over streamed weights, unless it is said */
    EXPERTS_AHEAD = 8,     /* buffers for experts that are read while others are multiplied */
    BATCH_MIN = 256,       /* rows worth holding all experts of a layer for */
    HEAD_ROWS_MIN = 16,
    PROBE_ROWS = 512,
    HOLD_ASIDE = 1 << 20, /* bytes between two parts of a buffer */
    CHECKPOINT_S = 60     /* a pass that takes longer can be taken up where it was killed */
};

/* Soft rows stand for tokens [first, end): from the first token to learn to the last. */
static void soft_range(const rt_trace_sample *a, int64_t *first, int64_t *end)
{
    *end = a->n_spans ? a->spans[a->n_spans - 1].end : a->n_tokens;
    *first = a->n_spans ? rt_max(a->spans[0].begin, 1) : a->n_tokens;
}

/* ---- one pass -----------------------------------------------------------------------------------
 */

static void add_text(rt_scorer *s, const rt_score_text *t)
{
    rt_scoring_text *in = rt_scoring_add(&s->pass, t->sample.tokens, t->sample.n_tokens);
    soft_range(&t->sample, &in->first, &in->end);
    in->seed = t->sample.seed;
}

static int gather(rt_scorer *s, rt_err *err)
{
    rt_scoring_clear(&s->pass);
    while (s->pass.n < RT_SCORE_TEXTS && s->at < s->count) {
        rt_score_text *t = &s->text[s->pass.n];
        int got = rt_scorer_next(s, t, err);
        if (got <= 0)
            return got;
        if (!rt_scoring_fits(&s->pass, t->sample.n_tokens))
            break;
        s->at++;
        add_text(s, t);
    }
    return 0;
}

static int append_text(rt_scorer *s, int64_t i, rt_err *err)
{
    const rt_scoring_text *t = &s->pass.text[i];
    rt_trace_sample out = s->text[i].sample;
    out.soft = t->soft;
    out.soft_first = (int32_t)t->first;
    return rt_trace_append(s->writer, &out, err);
}

/* What the other model finds probable at the positions of the pass. */
static int list_ids(rt_scorer *s, rt_err *err)
{
    rt_scoring_clear(&s->list);
    for (int64_t i = 0; i < s->pass.n; i++) {
        const rt_scoring_text *t = &s->pass.text[i];
        rt_scoring_text *in = rt_scoring_add(&s->list, t->token, t->n);
        in->first = t->first;
        in->end = t->end;
    }
    rt_scoring_forward(&s->list);
    if (rt_scoring_take(&s->list, err))
        return -1;
    for (int64_t i = 0; i < s->pass.n; i++)
        s->pass.text[i].listed = &s->list.text[i].soft;
    return 0;
}

/* Targets of the rows in acts.hidden, and the texts into the archive. */
static int finish_pass(rt_scorer *s, rt_err *err)
{
    if ((s->lister.path && list_ids(s, err)) || rt_scoring_take(&s->pass, err))
        return -1;
    for (int64_t i = 0; i < s->pass.n; i++) {
        if (append_text(s, i, err))
            return -1;
        s->learned += s->pass.text[i].soft.n;
    }
    s->done += s->pass.n;
    return 0;
}

static int score_pass(rt_scorer *s, rt_err *err)
{
    rt_scoring_forward(&s->pass);
    return finish_pass(s, err);
}

/* ---- one pass over streamed weights -------------------------------------------------------------
 */

/* The next texts, of a pass that was killed as many as it had. */
static int gather_flight(rt_scorer *s, rt_err *err)
{
    int64_t killed = rt_residual_rows(s->pass_path), most = killed ? killed : s->flight;
    rt_score_text *t = &s->text[0];
    rt_inflight_clear(&s->fly);
    while (s->at < s->count) {
        int got = rt_scorer_next(s, t, err);
        if (got <= 0)
            return got;
        if (s->fly.rows && s->fly.rows + t->sample.n_tokens > most)
            break;
        rt_inflight_add(&s->fly, s->at++, t->sample.tokens, t->sample.n_tokens);
    }
    return 0;
}

static int finish_batch(rt_scorer *s, int64_t k, rt_err *err)
{
    const rt_inflight_batch *b = &s->fly.batch[k];
    if (rt_inflight_take(&s->fly, k, err))
        return -1;
    rt_scoring_clear(&s->pass); /* its rows are laid out again as they were */
    for (int64_t i = 0; i < b->texts; i++) {
        if (rt_scorer_load(s, &s->text[i], s->fly.text[b->text + i].at, err))
            return -1;
        add_text(s, &s->text[i]);
    }
    return finish_pass(s, err);
}

static int score_flight(rt_scorer *s, rt_err *err)
{
    bool kept = s->checkpoint || s->fly.batches > 1 || rt_path_exists(s->pass_path);
    int bad = rt_inflight_run(&s->fly, kept ? s->pass_path : NULL, &s->salt, err);
    for (int64_t b = 0; !bad && b < s->fly.batches; b++)
        bad = finish_batch(s, b, err);
    rt_inflight_end(&s->fly, !bad || s->pass.not_finite);
    return bad;
}

int rt_scorer_pass(rt_scorer *s, int64_t *texts, rt_err *err)
{
    if (s->teacher.stream) {
        if (gather_flight(s, err) || (s->fly.n && score_flight(s, err)))
            return -1;
        *texts = s->fly.n;
        return 0;
    }
    if (gather(s, err) || (s->pass.n && score_pass(s, err)))
        return -1;
    *texts = s->pass.n;
    return 0;
}

/* ---- memory -------------------------------------------------------------------------------------
 */

static void plan_host(void *ctx, rt_arena *a)
{
    rt_scorer *s = ctx;
    s->text = rt_arena_take(a, "texts", RT_SCORE_TEXTS * (int64_t)sizeof *s->text);
    if (s->teacher.stream)
        s->stream = rt_arena_take(a, "pass between layers",
                                  rt_dtype_bytes(rt_dev_get(s->teacher.dev).act,
                                                 s->pass.acts.shape.rows *
                                                     s->teacher.model.cfg.width));
}

static void free_rows(rt_scorer *s)
{
    rt_scoring_free(&s->pass);
    rt_scoring_free(&s->list);
    rt_arenas_free(&s->arenas, s->teacher.dev);
}

/* Activations and what goes with them; what was planned before goes. */
static void plan_rows(rt_scorer *s, int64_t rows)
{
    const rt_soft_config *c = &s->manifest.capture;
    rt_soft_config head = { .head_max = c->listed, .head_floor = c->head_floor };
    free_rows(s);
    rt_scoring_plan(&s->pass, &s->arenas, s->teacher.dev, &s->teacher.model, s->teacher.vocab, c,
                    rows, RT_SCORE_TEXTS, s->longest, s->head_rows);
    if (s->lister.path)
        rt_scoring_plan(&s->list, &s->arenas, s->teacher.dev, &s->lister.model, s->lister.vocab,
                        &head, rows, RT_SCORE_TEXTS, s->longest, s->head_rows);
    rt_arenas_add(&s->arenas, &s->host, "host", RT_ON_HOST, plan_host, s);
}

void rt_scorer_needs(const rt_scorer *s, rt_needs *p)
{
    int64_t rows = s->pass.acts.shape.rows;
    int64_t items = s->manifest.capture.head_max + s->pass.capture.draws;
    rt_needs_arenas(p, s->teacher.dev, &s->arenas);
    if (s->lister.path) {
        rt_needs_arenas(p, s->teacher.dev, &s->lister.model.arenas);
        rt_needs_add(p, RT_NEEDS_FILE, "student", "in their file", rt_model_mapped(&s->lister.model));
    }
    rt_teacher_needs(&s->teacher, p);
    rt_needs_add(p, RT_NEEDS_GROWS, "host", "targets of a pass",
                 rt_soft_most(rows, rows * items) +
                     rt_min(rows, RT_SCORE_TEXTS) * rt_soft_most(0, 0));
    rt_work_needs(&s->work, &s->o->a, &s->manifest, rt_ceil_div(s->count, s->manifest.parts),
                  s->longest, s->longest, p);
}

/* ---- what --memory is spent on ------------------------------------------------------------------
 */

/* Bytes left (rt_streaming_left) with so many rows a batch and buffers for experts. */
static int64_t measure(rt_scorer *s, int64_t rows, int64_t slots)
{
    rt_needs needs = { 0 };
    plan_rows(s, rows);
    rt_stream_slots(s->teacher.stream, slots);
    rt_scorer_needs(s, &needs);
    int64_t left = rt_streaming_left(&needs, s->o->a.memory);
    rt_needs_free(&needs);
    return left;
}

/* What was measured last is the least, and too much. */
static int refuse_least(const rt_scorer *s, bool plan, rt_err *err)
{
    char what[64];
    rt_needs needs = { 0 };
    rt_scorer_needs(s, &needs);
    snprintf(what, sizeof what, "texts of up to %lld tokens", (long long)s->longest);
    int bad = rt_streaming_refuse(&needs, s->o->a.memory, what, plan, err);
    rt_needs_free(&needs);
    return bad;
}

/* The most rows from `low`, which fits, to `high`. */
static int64_t most_rows(rt_scorer *s, int64_t low, int64_t high, int64_t slots)
{
    while (low < high) {
        int64_t mid = low + (high - low + 1) / 2;
        if (measure(s, mid, slots) >= 0)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

/* Rows of a batch, rows of a pass, buffers for experts. All rows of a pass in one batch need few
   buffers; several batches need one for each expert of a layer, or would read them several times.
 */
static int fit(rt_scorer *s, bool refuse, rt_err *err)
{
    int64_t e = rt_stream_size(s->teacher.stream)->a_layer;
    int64_t want = s->o->pass_tokens ? s->o->pass_tokens : FLIGHT_TOKENS;
    want = rt_max(s->longest, rt_min(want, rt_scorer_tokens(s)));
    int64_t left = measure(s, s->longest, 2);
    if (left < 0 && s->head_rows > HEAD_ROWS_MIN) {
        s->head_rows = HEAD_ROWS_MIN;
        left = measure(s, s->longest, 2);
    }
    if (left < 0 && refuse_least(s, !refuse, err))
        return -1;
    int64_t slots = measure(s, s->longest, EXPERTS_AHEAD) >= 0 ? EXPERTS_AHEAD : 2;
    int64_t rows = most_rows(s, s->longest, want, slots), all = rt_max(s->longest, BATCH_MIN);
    bool holds = !e || measure(s, rt_min(all, want), e) >= 0;
    if (rows < want && holds) {
        slots = e;
        rows = most_rows(s, rt_min(all, want), want, slots);
        s->flight = want;
    } else {
        s->flight = rows;
        while (slots < e && measure(s, rows, slots + 1) >= 0)
            slots++;
    }
    left = measure(s, rows, slots);
    if (s->flight < rt_scorer_tokens(s)) /* there will be other passes */
        rt_stream_hold(s->teacher.stream, left - HOLD_ASIDE);
    return 0;
}

int rt_scorer_plan(rt_scorer *s, bool refuse, rt_err *err)
{
    if (s->head_rows)
        return 0;
    s->head_rows = s->o->head_rows;
    if (s->lister.path)
        rt_teacher_plan(&s->lister, s->longest, false);
    rt_teacher_plan(&s->teacher, s->longest, s->o->a.memory > 0);
    if (s->teacher.stream)
        return fit(s, refuse, err);
    int64_t wanted = s->o->pass_tokens ? s->o->pass_tokens : PASS_TOKENS;
    plan_rows(s, rt_max(rt_min(wanted, rt_scorer_tokens(s)), s->longest));
    return 0;
}

static int forecast(rt_scorer *s, rt_err *err)
{
    rt_streaming_speed speed;
    rt_needs needs = { 0 };
    int64_t rows = rt_min(rt_min(s->pass.acts.shape.rows, s->flight), rt_max(PROBE_ROWS, s->longest));
    if (rt_streaming_probe(&speed, &s->teacher, rows, rt_min(s->longest, rows), err))
        return -1;
    rt_scorer_needs(s, &needs);
    rt_streaming_forecast(&speed, &s->teacher, s->o->a.memory, rt_scorer_tokens(s), s->flight,
                          rt_needs_sum(&needs, RT_NEEDS_ABOUT));
    rt_needs_free(&needs);
    s->checkpoint = rt_streaming_pass_s(&speed, &s->teacher, s->flight) > CHECKPOINT_S;
    return 0;
}

/* What the numbers of a pass depend on beside its tokens. */
static int read_salt(rt_scorer *s, rt_err *err)
{
    rt_identity_mark mark;
    if (rt_identity_mark_of(&mark, s->teacher.path, err))
        return -1;
    s->salt = mark.stat;
    return 0;
}

static void show_layer(void *ctx, int64_t layer)
{
    rt_scorer *s = ctx;
    rt_progress_update(&s->progress, s->done, "layer %lld of %lld of %lld tokens", (long long)layer,
                       (long long)s->teacher.model.cfg.layers, (long long)s->fly.rows);
}

int rt_scorer_place(rt_scorer *s, rt_err *err)
{
    if (s->text)
        return 0;
    if (rt_scorer_plan(s, true, err) ||
        (s->lister.path &&
         rt_model_read(&s->lister.model, s->teacher.dev, s->lister.path, err)) ||
        rt_teacher_read(&s->teacher, err) ||
        (s->teacher.stream && (read_salt(s, err) || forecast(s, err))) ||
        rt_arenas_place(&s->arenas, s->teacher.dev, err))
        return -1;
    s->fly = (rt_inflight){ .teacher = &s->teacher,
                            .acts = &s->pass.acts,
                            .token = s->pass.token,
                            .pos = s->pass.pos,
                            .offset = s->pass.offset,
                            .stream = s->stream,
                            .texts_most = RT_SCORE_TEXTS,
                            .ctx = s,
                            .tick = show_layer };
    return 0;
}

void rt_scorer_free(rt_scorer *s)
{
    for (int64_t i = 0; s->text && i < RT_SCORE_TEXTS; i++) {
        if (s->archive)
            rt_trace_sample_free(&s->text[i].sample);
        rt_response_free(&s->text[i].response);
    }
    rt_inflight_free(&s->fly);
    free_rows(s);
}
