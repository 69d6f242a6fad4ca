#include "distill/rollouts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"

enum {
    GROUP = 8,     /* answers of so many batches are scored and kept together */
    PREFILL = 512, /* prompt tokens of one pass beside the running answers */
    TEXTS = 1024   /* of a scored pass */
};

/* An answer that the teacher has not read yet. */
typedef struct rt_pending {
    rt_trace_sample sample; /* its texts and tokens are the copies below */
    char id[RT_TRACE_ID_MAX + 1];
    rt_trace_span span;
    int32_t *token, *seen; /* as the student has it; as the teacher reads it, n_seen */
    int64_t n_seen, seen_prompt;
    bool judged;
    char *reasoning, *answer;
    rt_soft soft; /* the student's */
} pending;

static void free_pending(rt_rollouts *r)
{
    for (int64_t i = 0; i < r->n_pending; i++) {
        pending *p = &r->pending[i];
        if (p->seen != p->token)
            free(p->seen);
        free(p->token);
        free(p->reasoning);
        free(p->answer);
        rt_soft_free(&p->soft);
    }
    r->n_pending = 0;
}

/* ---- rounds -------------------------------------------------------------------------------------
 */

int64_t rt_rollouts_rounds(const rt_rollouts *r)
{
    return r->of.o->rounds ? r->of.o->rounds : r->of.steps;
}

static int64_t first_step(const rt_rollouts *r, int64_t round)
{
    return (round - 1) * r->of.steps / rt_rollouts_rounds(r);
}

int64_t rt_rollouts_round_at(const rt_rollouts *r, int64_t step, int64_t *round, int64_t *first)
{
    int64_t k = 1 + step * rt_rollouts_rounds(r) / r->of.steps;
    while (first_step(r, k) > step)
        k--;
    while (first_step(r, k + 1) <= step)
        k++;
    *round = k;
    *first = first_step(r, k);
    return first_step(r, k + 1) - *first;
}

/* Prompt k of a round, and which of its answers that is: prompts come in a shuffled order, all of them
   before one comes again. */
static const rt_work_item *item_of(const rt_rollouts *r, int64_t round, int64_t k, int64_t *draw)
{
    int64_t at = (round - 1) * r->of.o->rollouts + k;
    *draw = at / r->work.n;
    return &r->work.item[rt_corpus_shuffle(r->work.n, r->of.seed, *draw, at % r->work.n)];
}

static void sample_id(const rt_rollouts *r, int64_t round, int64_t k, char id[RT_TRACE_ID_MAX + 1])
{
    int64_t draw;
    const rt_work_item *item = item_of(r, round, k, &draw);
    snprintf(id, RT_TRACE_ID_MAX + 1, "%s/%lld", item->id, (long long)draw);
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static void ask(void *ctx, int64_t question, rt_question *q)
{
    const rt_rollouts *r = ctx;
    int64_t draw;
    const rt_work_item *item = item_of(r, r->now.round, r->todo[r->asked + question], &draw);
    *q = (rt_question){ .prompt = r->work.pool.id + item->at,
                        .n_prompt = item->n,
                        .seed = rt_work_seed(r->of.seed, item->id, draw),
                        .reference = item->answer,
                        .verify = item->verify };
}

/* A copy, until the teacher has read it. */
static int take(void *ctx, const rt_answer *a, rt_err *err)
{
    rt_rollouts *r = ctx;
    int64_t draw, k = r->todo[r->asked + a->question], size = sizeof *a->token;
    const rt_work_item *item = item_of(r, r->now.round, k, &draw);
    (void)err;
    rt_grow(&r->pending, &r->cap_pending, r->n_pending + 1, (int64_t)sizeof *r->pending, "answers");
    pending *p = &r->pending[r->n_pending++];
    memset(p, 0, sizeof *p);
    sample_id(r, r->now.round, k, p->id);
    p->token = p->seen = rt_alloc(a->n, size, "an answer");
    memcpy(p->token, a->token, (size_t)(a->n * size));
    p->n_seen = a->n;
    p->seen_prompt = item->n_seen;
    if (item->seen != item->at)
        p->seen = rt_work_seen(&r->work, item, p->token, a->n, &p->n_seen);
    p->judged = item->verify != RT_VERIFY_NONE;
    p->reasoning = rt_strdup(a->response->reasoning.data ? a->response->reasoning.data : "");
    p->answer = rt_strdup(a->response->answer.data ? a->response->answer.data : "");
    rt_soft_append(&p->soft, a->soft, 0, a->soft->n, 0);
    p->span = (rt_trace_span){ (int32_t)a->n_prompt, (int32_t)a->learned };
    rt_trace_sample *t = &p->sample;
    rt_trace_sample_init(t);
    t->index = k;
    t->prompt_id = item->id;
    t->messages = item->messages;
    t->tools = item->tools;
    t->finish = rt_finish_name(a->finish);
    t->verdict = a->verdict;
    t->rule = a->rule;
    t->reward = t->verdict == RT_CORRECT;
    t->seed = rt_work_seed(r->of.seed, item->id, draw);
    t->n_tokens = a->n;
    t->prompt_tokens = t->soft_first = p->span.begin;
    t->n_spans = p->span.end > p->span.begin;
    rt_work_weigh(item, t);
    return 0;
}

/* ---- the teacher --------------------------------------------------------------------------------
 */

static int keep(rt_rollouts *r, pending *p, const rt_soft *targets, rt_err *err)
{
    rt_views sum = { 0 };
    rt_trace_sample t = p->sample;
    t.id = p->id;
    t.tokens = p->token;
    t.spans = &p->span;
    t.reasoning = p->reasoning;
    t.answer = p->answer;
    t.soft = *targets;
    for (int64_t i = 0; i < targets->n; i++)
        rt_round_compare(&sum, targets, &r->manifest.capture, &p->soft, i);
    return rt_round_put_line(r->lines, &t, p->judged, &sum, targets->n, p->n_seen, err) ||
                   rt_trace_append(r->writer, &t, err)
               ? -1
               : 0;
}

/* All that is pending, into the archive; what is told of a sample reaches the disk before it. */
static int score(rt_rollouts *r, rt_err *err)
{
    for (int64_t at = 0, n; at < r->n_pending; at += n) {
        rt_scoring_clear(&r->pass);
        for (n = 0; at + n < r->n_pending && rt_scoring_fits(&r->pass, r->pending[at + n].n_seen);
             n++) {
            const pending *p = &r->pending[at + n];
            rt_scoring_text *t = rt_scoring_add(&r->pass, p->seen, p->n_seen);
            t->first = p->seen_prompt;
            t->end = p->n_seen;
            t->seed = p->sample.seed;
            t->listed = &p->soft;
        }
        rt_scoring_forward(&r->pass);
        if (rt_scoring_take(&r->pass, err))
            return -1;
        for (int64_t i = 0; i < n; i++)
            if (keep(r, &r->pending[at + i], &r->pass.text[i].soft, err))
                return -1;
    }
    free_pending(r);
    return fflush(r->lines) || fsync(fileno(r->lines))
               ? rt_fail(err, "%s: the lines of round %lld cannot be written: %s", r->of.out,
                         (long long)r->now.round, rt_errno_text(errno))
               : rt_trace_flush(r->writer, err);
}

/* ---- one round ----------------------------------------------------------------------------------
 */

static int stopped(rt_err *err)
{
    rt_fail(err, "interrupted: run the same command again to go on");
    err->exit_code = 130;
    return -1;
}

/* The answers that the archive lacks. */
static int answer_all(rt_rollouts *r, rt_err *err)
{
    const rt_answers_io io = { .ctx = r, .ask = ask, .take = take };
    int64_t most = GROUP * r->of.o->batch, there = r->of.o->rollouts - r->n_todo;
    rt_progress progress;
    char label[32];
    snprintf(label, sizeof label, "round %lld", (long long)r->now.round);
    rt_progress_begin(&progress, label, there, r->of.o->rollouts);
    rt_answers_forget(r->answers);
    for (r->asked = 0; r->asked < r->n_todo;) {
        int64_t n = rt_min(most, r->n_todo - r->asked);
        int bad = rt_answers_run(r->answers, n, &io, err);
        if (bad && rt_interrupted())
            return stopped(err);
        if (bad || score(r, err))
            return -1;
        r->asked += n;
        if (rt_interrupted() && r->asked < r->n_todo)
            return stopped(err);
        if (r->n_todo > most) /* a short one is part of its step's line */
            rt_progress_update(&progress, there + r->asked, "answers");
    }
    if (r->n_todo > most)
        rt_progress_end(&progress);
    return 0;
}

static void list_todo(rt_rollouts *r)
{
    char id[RT_TRACE_ID_MAX + 1];
    r->n_todo = 0;
    for (int64_t k = 0; k < r->of.o->rollouts; k++) {
        sample_id(r, r->now.round, k, id);
        if (rt_trace_has(r->writer, id))
            continue;
        rt_grow(&r->todo, &r->cap_todo, r->n_todo + 1, (int64_t)sizeof *r->todo, "answers to come");
        r->todo[r->n_todo++] = k;
    }
}

static int fill_round(rt_rollouts *r, const char *path, bool ready, rt_err *err)
{
    rt_err closing = { 0 };
    if (!ready && !rt_trace_is(path))
        return rt_fail(err,
                       "%s: is gone, and the student has changed since it answered: delete %s to "
                       "begin anew",
                       path, r->of.out);
    if (rt_trace_open_append(&r->writer, path, &r->manifest, err))
        return -1;
    list_todo(r);
    int bad = 0;
    if (r->n_todo && !ready)
        bad = rt_fail(err,
                      "%s: lacks answers, and the student has changed since it gave the others: "
                      "delete %s to begin anew",
                      path, r->of.out);
    if (!bad && r->n_todo)
        bad = rt_round_open_lines(&r->lines, r->of.out, r->now.round, r->writer, err) ||
              answer_all(r, err);
    free_pending(r);
    if (r->lines)
        fclose(r->lines);
    r->lines = NULL;
    bad = bad || rt_trace_finish(r->writer, err);
    if (rt_trace_close(r->writer, &closing) && !bad) {
        *err = closing;
        bad = -1;
    }
    r->writer = NULL;
    return bad ? -1 : 0;
}

int rt_rollouts_begin(rt_rollouts *r, int64_t round, int64_t first, bool ready, rt_err *err)
{
    char *path = rt_round_path(r->of.out, round, "traces");
    const char *paths[] = { path };
    rt_corpus_options o = { .chat = r->of.chat,
                            .max_length = r->longest,
                            .verdicts = (1u << RT_VERDICT_COUNT) - 1,
                            .parts = r->of.parts,
                            .need_soft = true };
    r->now = (rt_round){ .round = round };
    r->manifest.sampler_step = first;
    rt_corpus_close(r->corpus);
    r->corpus = NULL;
    int bad = fill_round(r, path, ready, err) || rt_round_read(&r->now, r->of.out, round, err) ||
              rt_corpus_open(&r->corpus, paths, 1, &o, err);
    free(path);
    if (!bad && ready && round == 1)
        rt_round_warn(&r->now);
    return bad ? -1 : 0;
}

int rt_rollouts_print(const rt_rollouts *r, rt_err *err)
{
    enum { ROWS = 10 };
    int64_t rounds = rt_rollouts_rounds(r), tokens = 0, scored = 0;
    rt_round_print(NULL);
    for (int64_t k = 1; k <= rounds; k++) {
        rt_round one;
        if (rt_round_read(&one, r->of.out, k, err))
            return -1;
        tokens += one.tokens;
        scored += one.scored;
        if (rounds <= ROWS || k == 1 || k == rounds || k * ROWS / rounds > (k - 1) * ROWS / rounds)
            rt_round_print(&one);
    }
    printf("%-22s %lld\n%-22s %lld\n", "rollout tokens", (long long)tokens,
           "teacher tokens scored", (long long)scored);
    return 0;
}

int64_t rt_rollouts_scored(const rt_rollouts *r)
{
    rt_round one;
    rt_err none;
    int64_t scored = 0;
    for (int64_t k = 1; k <= rt_rollouts_rounds(r) && !rt_round_read(&one, r->of.out, k, &none); k++)
        scored += one.scored;
    return scored;
}

/* ---- opening ------------------------------------------------------------------------------------
 */

static int check(const rt_rollouts *r, rt_err *err)
{
    const rt_rollout_options *o = r->of.o;
    if (!o->prompts.n)
        return rt_usage(err, "--teacher needs --prompts FILE: what the student is to answer");
    if (o->rounds > r->of.steps)
        return rt_usage(err, "--rounds %lld: more than --steps %lld; a round has one step at least",
                        (long long)o->rounds, (long long)r->of.steps);
    if (o->head_max + o->student_top > RT_SOFT_HEAD_MAX)
        return rt_usage(err, "--head-max %lld and --student-top %lld: at most %d tokens together",
                        (long long)o->head_max, (long long)o->student_top, RT_SOFT_HEAD_MAX);
    if (o->tail_spacing > 0 && o->tail_spacing < 1.0 / RT_SOFT_DRAWS_MAX)
        return rt_usage(err, "--tail-spacing %g: 0, or from 1/%d to 1", o->tail_spacing,
                        RT_SOFT_DRAWS_MAX);
    return 0;
}

/* Ids must mean the same to both. */
static int open_teacher(rt_rollouts *r, const rt_needs *plan, rt_err *err)
{
    const char *path = r->of.o->teacher;
    if (rt_teacher_open_beside(&r->teacher, path, r->of.d, plan, err))
        return -1;
    rt_hash ours = rt_tokenizer_fingerprint(r->of.chat->tokenizer);
    rt_hash its = rt_tokenizer_fingerprint(r->teacher.chat.tokenizer);
    return strcmp(ours.hex, its.hex) == 0
               ? 0
               : rt_fail(err,
                         "--teacher %s: has another tokenizer (%.8s, the student has %.8s): take a "
                         "teacher with the student's vocabulary",
                         path, its.hex, ours.hex);
}

static int read_prompts(rt_rollouts *r, rt_err *err)
{
    const rt_rollout_options *o = r->of.o;
    int64_t most = rt_config_longest(&r->of.student->cfg, r->of.max_length), seen = 0;
    most = rt_min(most, r->teacher.positions);
    if (rt_work_read(&r->work, r->of.chat, RT_WORK_PROMPTS, &o->prompts, &(rt_strlist){ 0 }, 0,
                     o->verify, err))
        return -1;
    for (int64_t i = 0; i < r->work.n; i++) {
        const rt_work_item *item = &r->work.item[i];
        if (item->n >= most)
            return rt_fail(err,
                           "prompt %s has %d tokens: --max-length and what the models were made "
                           "for leave %lld, the answer included",
                           item->id, item->n, (long long)most);
        seen = rt_max(seen, item->n_seen + rt_min(o->tokens, most - item->n));
    }
    r->longest = rt_min(r->work.longest + o->tokens, most);
    r->longest_seen = seen;
    return seen <= r->teacher.positions
               ? 0
               : rt_fail(err,
                         "the teacher would read %lld tokens, privileged prompt and answer: it was "
                         "made for %lld",
                         (long long)seen, (long long)r->teacher.positions);
}

static void settle_manifest(rt_rollouts *r, rt_trace_manifest *m)
{
    const rt_rollout_options *o = r->of.o;
    m->capture = (rt_soft_config){ .head_max = (int32_t)(o->head_max + o->student_top),
                                   .head_floor = (float)o->head_floor,
                                   .tail_spacing = (float)o->tail_spacing,
                                   .listed = (int32_t)o->student_top };
    if (r->of.temperature != 1) {
        m->capture.n_temperatures = 1;
        m->capture.temperature[0] = (float)r->of.temperature;
    }
    m->temperature = o->temperature;
    m->max_tokens = o->tokens;
    m->seed = r->of.seed;
    m->prompts_hash = r->work.hash;
    m->planned = o->rollouts;
}

int rt_rollouts_plan(rt_rollouts *r, rt_err *err)
{
    const rt_rollout_options *o = r->of.o;
    r->sampling = (rt_sampling_options){ .temperature = o->temperature,
                                         .top_p = 1,
                                         .max_tokens = o->tokens };
    rt_answers_options a = { .sampling = &r->sampling,
                             .questions = o->rollouts,
                             .longest = r->work.longest,
                             .positions = r->longest,
                             .batch = o->batch,
                             .prefill_tokens = PREFILL,
                             .capture = { .head_max = (int32_t)o->student_top,
                                          .head_floor = (float)o->head_floor } };
    if (rt_answers_open(&r->answers, r->of.d, r->of.student, r->of.chat, &a, err))
        return -1;
    rt_teacher_plan(&r->teacher, r->longest_seen, false);
    rt_scoring_plan(&r->pass, &r->arenas, r->of.d, &r->teacher.model, r->teacher.vocab,
                    &r->manifest.capture, rt_max(r->of.pass_tokens, r->longest_seen), TEXTS,
                    r->longest_seen, r->of.head_rows);
    return 0;
}

int rt_rollouts_open(rt_rollouts *r, const rt_rollouts_of *of, const rt_needs *needs, rt_err *err)
{
    memset(r, 0, sizeof *r);
    r->of = *of;
    if (check(r, err) || open_teacher(r, needs, err) || read_prompts(r, err) ||
        (r->teacher.later ? (rt_trace_manifest_init(&r->manifest), 0)
                          : rt_teacher_manifest(&r->manifest, &r->teacher, "score", err)))
        return -1;
    rt_teacher_stops(&r->of.student->cfg, r->of.chat);
    settle_manifest(r, &r->manifest);
    return 0;
}

int64_t rt_rollouts_rows(const rt_rollouts *r) { return PREFILL + r->of.o->batch; }

int rt_rollouts_identity(rt_rollouts *r, cJSON *json, rt_err *err)
{
    rt_trace_manifest *m = &r->manifest;
    int64_t read;
    if (rt_teacher_identity(&m->weights_hash, &r->teacher, err) ||
        rt_model_identity(&m->sampler_hash, &read, r->of.base, err))
        return -1;
    m->listed_hash = m->sampler_hash;
    strcpy(m->sampler, "student");
    rt_json_put_str(json, "teacher", m->weights_hash.hex);
    rt_json_put_str(json, "prompts", m->prompts_hash.hex);
    return 0;
}

int rt_rollouts_place(rt_rollouts *r, rt_err *err)
{
    return rt_model_read(&r->teacher.model, r->of.d, r->of.o->teacher, err) ||
                   rt_arenas_place(&r->arenas, r->of.d, err)
               ? -1
               : 0;
}

void rt_rollouts_needs(const rt_rollouts *r, rt_needs *p)
{
    int64_t rounds = rt_rollouts_rounds(r), all = rounds * r->of.o->rollouts;
    int64_t prompts = all / rt_max(r->work.n, 1) * r->work.pool.n; /* privileged ones too */
    double rows = (double)r->pass.acts.shape.rows;
    enum { TOKEN = 40, ANSWER = 1024 }; /* bytes of a round, about */
    rt_needs_arenas(p, r->of.d, &r->teacher.model.arenas);
    rt_needs_add(p, RT_NEEDS_FILE, "teacher", "in its file", rt_model_mapped(&r->teacher.model));
    rt_needs_arenas(p, r->of.d, &r->arenas);
    rt_needs_add(p, RT_NEEDS_ABOUT, "rounds", "if all answers are the longest",
                 all * (ANSWER + TOKEN * r->longest));
    rt_answers_needs(r->answers, p);
    rt_answers_cost(r->answers, all, prompts, p);
    rt_needs_cost(p, r->of.d, r->pass.cost, (double)all * (double)r->longest_seen / rows);
}

void rt_rollouts_close(rt_rollouts *r)
{
    if (!r->of.d)
        return;
    free_pending(r);
    free(r->pending);
    free(r->todo);
    rt_corpus_close(r->corpus);
    rt_answers_close(r->answers);
    rt_scoring_free(&r->pass);
    rt_arenas_free(&r->arenas, r->of.d);
    rt_work_free(&r->work);
    rt_teacher_close(&r->teacher);
}
