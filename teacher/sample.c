/* sample.c: the command `retort sample`: a teacher answers prompts, and the soft targets of every
   token it chose are kept in the same pass. Each response is split into thought and answer, judged
   by rules and kept with its verdict, the wrong ones too.
   A sample's tokens and targets are a function of (teacher, prompt, settings, seed, k) alone, and
   samples are written in plan order, so a run that was killed ends in the same bytes as one that
   was not, whatever its batch and threads. Refuses: remote servers, filtering. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "corpora/answer.h"
#include "teacher/streaming.h"
#include "teacher/work.h"

typedef struct sample_options {
    rt_archive_options a;
    rt_strlist prompts;
    char *verify;
    rt_sampling_options sampling;
    int64_t samples, batch, prefill_tokens, cache_tokens;
} sample_options;

#define O sample_options
static const rt_option options[] = {
    OPT_NEED_LIST(O, prompts, "prompts", "FILE", "JSONL with prompt or messages, and answer",
                  RT_OPT_INPUT),
    RT_ARCHIVE_OPTIONS(O),
    OPT_INT(O, samples, "samples", "1", 1, 1e6, "responses to each prompt"),
    RT_SAMPLING_OPTIONS(O, sampling, "1", "1", "1024"),
    OPT_CHOICE(O, verify, "verify", "auto", RT_VERIFY_KINDS, RT_VERIFY_HELP),
    RT_ANSWER_OPTIONS(O, "16"),
    OPT_INT(O, prefill_tokens, "prefill-tokens", "512", 1, 1e6,
            "prompt tokens of one pass beside the running sequences", RT_OPT_FREE),
};
#undef O

enum { PREFILL_MIN = 16, EXPERTS_AHEAD = 8, PROBE_ROWS = 64 };
#define WAITING_MIN ((int64_t)1 << 20)
#define WAITING_MOST ((int64_t)256 << 20)
#define HOLD_ASIDE ((int64_t)1 << 20) /* between two parts of a buffer */

typedef struct sampler {
    const sample_options *o;
    rt_teacher teacher;
    rt_work work;
    rt_trace_manifest manifest;
    rt_trace_writer *writer;
    rt_answers *answers;
    int64_t batch, prefill, waiting; /* what answers are planned with; within --memory */
    int64_t mine;                    /* samples of this part */
    rt_arena lists;
    rt_arenas arenas;
    int64_t *todo, n_todo; /* (mine) plan indices that the archive lacks, ascending */
    int64_t appended, tokens, judged, correct;
    bool read;   /* the teacher's weights */
    bool turned; /* a sample that was taken over has another verdict now */
    rt_progress progress;
    double begun;
} sampler;

/* ---- the plan -----------------------------------------------------------------------------------
 */

static const rt_work_item *item_of(const sampler *s, int64_t index)
{
    return &s->work.item[index / s->o->samples];
}

static void sample_id(const sampler *s, int64_t index, char id[RT_TRACE_ID_MAX + 1])
{
    snprintf(id, RT_TRACE_ID_MAX + 1, "%s/%lld", item_of(s, index)->id,
             (long long)(index % s->o->samples));
}

static void plan_lists(void *ctx, rt_arena *a)
{
    sampler *s = ctx;
    s->todo = rt_arena_take(a, "samples", s->mine * (int64_t)sizeof *s->todo);
}

static int plan_work(sampler *s, rt_err *err)
{
    rt_trace_manifest *m = &s->manifest;
    if (!rt_mul_ok(s->work.n, s->o->samples, &m->planned))
        return rt_usage(err, "--samples %lld: too many in all", (long long)s->o->samples);
    s->mine = rt_ceil_div(rt_max(m->planned - m->part, 0), m->parts);
    rt_arenas_add(&s->arenas, &s->lists, "host", RT_ON_HOST, plan_lists, s);
    return 0;
}

static int list_todo(sampler *s, rt_err *err)
{
    char id[RT_TRACE_ID_MAX + 1];
    if (rt_arenas_place(&s->arenas, s->teacher.dev, err))
        return -1;
    for (int64_t i = s->manifest.part; i < s->manifest.planned; i += s->manifest.parts) {
        sample_id(s, i, id);
        if (!rt_trace_has(s->writer, id))
            s->todo[s->n_todo++] = i;
    }
    rt_progress_begin(&s->progress, "sample", s->mine - s->n_todo, s->mine);
    if (s->n_todo && s->mine > s->n_todo)
        rt_info("%lld of %lld samples are there already", (long long)(s->mine - s->n_todo),
                (long long)s->mine);
    return 0;
}

static int read_prompts(sampler *s, rt_err *err)
{
    const sample_options *o = s->o;
    if (rt_work_read(&s->work, &s->teacher.chat, RT_WORK_PROMPTS, &o->prompts, &o->a.tags,
                     o->a.limit, o->verify, err))
        return -1;
    int64_t most = s->teacher.positions;
    for (int64_t i = 0; i < s->work.n; i++)
        if (s->work.item[i].n_seen >= most)
            return rt_fail(err,
                           "prompt %s has %d tokens: this model was made for %lld, the response "
                           "included",
                           s->work.item[i].id, s->work.item[i].n_seen, (long long)most);
    return 0;
}

static int fill_manifest(sampler *s, rt_err *err)
{
    const sample_options *o = s->o;
    rt_trace_manifest *m = &s->manifest;
    s->teacher.unread = !o->a.identity;
    if (rt_teacher_manifest(m, &s->teacher, "sample", err) || rt_archive_settings(m, &o->a, err) ||
        rt_answer_settings(m, &o->sampling, err))
        return -1;
    m->samples_per_prompt = (int32_t)o->samples;
    m->prompts_hash = s->work.hash;
    return plan_work(s, err);
}

/* ---- samples ------------------------------------------------------------------------------------
 */

/* A sample that stands in the archive, in this plan: rt_trace_place. Judged anew, because the plan
   may know another answer now. */
static int place_sample(void *ctx, rt_trace_sample *t, rt_err *err)
{
    sampler *s = ctx;
    const rt_work_item *item;
    const char *slash = strrchr(t->id, '/');
    if (rt_work_find(&s->work, t, &item, err))
        return -1;
    int64_t draw = slash ? strtoll(slash + 1, NULL, 10) : -1;
    if (draw < 0 || draw >= s->o->samples)
        return rt_fail(err,
                       "sample %.80s of the archive is beyond --samples %lld: an archive grows, it "
                       "does not shrink; name another output",
                       t->id, (long long)s->o->samples);
    if (item->n != t->prompt_tokens ||
        memcmp(s->work.pool.id + item->at, t->tokens, (size_t)item->n * sizeof *t->tokens) != 0)
        return rt_fail(err,
                       "id %.80s is another prompt in the archive: give it a new id, or name "
                       "another output",
                       item->id);
    t->index = (item - s->work.item) * s->o->samples + draw;
    t->messages = item->messages;
    t->tools = item->tools;
    rt_work_weigh(item, t);
    rt_verdict before = t->verdict;
    t->verdict = rt_answer_judge(item->verify, t->answer, item->answer, before != RT_UNFINISHED,
                                 &t->rule);
    s->turned |= t->verdict != before;
    t->reward = t->verdict == RT_CORRECT;
    return rt_work_check_part(&s->manifest, t, err);
}

static void ask(void *ctx, int64_t question, rt_question *q)
{
    const sampler *s = ctx;
    int64_t index = s->todo[question];
    const rt_work_item *item = item_of(s, index);
    *q = (rt_question){ .prompt = s->work.pool.id + item->seen,
                        .n_prompt = item->n_seen,
                        .seed = rt_work_seed(s->o->a.seed, item->id, index % s->o->samples),
                        .reference = item->answer,
                        .verify = item->verify };
}

static int append_sample(void *ctx, const rt_answer *a, rt_err *err)
{
    sampler *s = ctx;
    int64_t index = s->todo[a->question];
    const rt_work_item *item = item_of(s, index);
    char id[RT_TRACE_ID_MAX + 1];
    rt_trace_span span = { item->prompt, (int32_t)a->learned - item->n_seen + item->prompt };
    int32_t *apart = NULL; /* what the teacher alone was told is no part of the sample */
    int64_t n = a->n;
    if (item->seen != item->at)
        apart = rt_work_response(&s->work, item, a->token, a->n, &n);
    rt_trace_sample t;
    rt_trace_sample_init(&t);
    sample_id(s, index, id);
    t.index = index;
    t.id = id;
    t.prompt_id = item->id;
    t.messages = item->messages;
    t.tools = item->tools;
    t.n_spans = span.end > span.begin;
    rt_work_weigh(item, &t);
    t.reasoning = a->response->reasoning.data;
    t.answer = a->response->answer.data;
    t.finish = rt_finish_name(a->finish);
    t.verdict = a->verdict;
    t.rule = a->rule;
    t.reward = t.verdict == RT_CORRECT;
    t.seed = rt_work_seed(s->o->a.seed, item->id, index % s->o->samples);
    t.tokens = apart ? apart : a->token;
    t.n_tokens = n;
    t.prompt_tokens = t.soft_first = span.begin;
    t.spans = &span;
    t.soft = *a->soft;
    s->judged += item->verify != RT_VERIFY_NONE;
    s->correct += t.verdict == RT_CORRECT;
    s->appended++;
    int bad = rt_trace_append(s->writer, &t, err);
    free(apart);
    return bad;
}

static void show_progress(void *ctx, int64_t tokens)
{
    sampler *s = ctx;
    char rate[32], share[32] = "";
    s->tokens = tokens;
    if (s->judged)
        snprintf(share, sizeof share, "%.1f %% correct | ",
                 100.0 * (double)s->correct / (double)s->judged);
    double seconds = rt_now() - s->progress.begun;
    rt_progress_update(
        &s->progress, s->progress.resumed_from + s->appended, "%s%s tok/s", share,
        rt_fmt_count(rate, sizeof rate, (double)tokens / (seconds > 0.01 ? seconds : 0.01)));
}

/* ---- the command --------------------------------------------------------------------------------
 */

static rt_answers_options answers_options(const sampler *s, int64_t samples)
{
    const sample_options *o = s->o;
    return (rt_answers_options){ .sampling = &o->sampling,
                                 .questions = samples,
                                 .longest = s->work.longest_seen,
                                 .positions = s->teacher.positions,
                                 .batch = s->batch,
                                 .prefill_tokens = s->prefill,
                                 .cache_tokens = o->cache_tokens,
                                 .waiting_bytes = s->waiting,
                                 .capture = s->manifest.capture };
}

static void list_needs(const sampler *s, rt_needs *p)
{
    rt_answers_options a = answers_options(s, s->mine);
    rt_teacher_needs(&s->teacher, p);
    rt_answers_needs(s->answers, p);
    rt_needs_arenas(p, s->teacher.dev, &s->arenas);
    rt_work_needs(&s->work, &s->o->a, &s->manifest, s->mine, rt_answers_longest(&a),
                  s->o->sampling.max_tokens, p);
}

/* So many sequences at once and prompt tokens a pass; what was planned before goes. */
static int plan_answers(sampler *s, int64_t batch, int64_t prefill, rt_err *err)
{
    s->batch = batch;
    s->prefill = prefill;
    rt_answers_options a = answers_options(s, batch);
    rt_answers_close(s->answers);
    return rt_answers_open(&s->answers, s->teacher.dev, &s->teacher.model, &s->teacher.chat, &a,
                           err);
}

/* Bytes left then (rt_streaming_left), with buffers for so many experts. */
static int64_t measure(sampler *s, int64_t batch, int64_t prefill, int64_t experts, rt_err *err)
{
    rt_needs needs = { 0 };
    if (plan_answers(s, batch, prefill, err))
        return INT64_MIN;
    rt_stream_slots(s->teacher.stream, experts);
    list_needs(s, &needs);
    int64_t left = rt_streaming_left(&needs, s->o->a.memory);
    rt_needs_free(&needs);
    return left;
}

/* What was measured last is the least, and too much. */
static int refuse_least(const sampler *s, bool plan, rt_err *err)
{
    char what[80];
    rt_needs needs = { 0 };
    rt_answers_options a = answers_options(s, 1);
    list_needs(s, &needs);
    snprintf(what, sizeof what, "a sequence of up to %lld tokens",
             (long long)rt_answers_longest(&a));
    int bad = rt_streaming_refuse(&needs, s->o->a.memory, what, plan, err);
    rt_needs_free(&needs);
    return bad;
}

/* What --memory is spent on: as many sequences as wanted and possible, then prompt tokens, then
   buffers for experts, then answers that wait for others, and layers that stay. */
static int fit(sampler *s, int64_t batch, bool refuse, rt_err *err)
{
    int64_t e = rt_stream_size(s->teacher.stream)->a_layer;
    int64_t prefill = s->o->prefill_tokens, few = rt_min(prefill, PREFILL_MIN), low = 1;
    int64_t ahead = EXPERTS_AHEAD, left;
    s->waiting = WAITING_MIN;
    left = measure(s, 1, few, 2, err);
    if (left == INT64_MIN || (left < 0 && refuse_least(s, !refuse, err)))
        return -1;
    if (measure(s, 1, few, ahead, err) < 0)
        ahead = 2;
    while (low < batch) {
        int64_t mid = low + (batch - low + 1) / 2;
        if (measure(s, mid, few, ahead, err) >= 0)
            low = mid;
        else
            batch = mid - 1;
    }
    while (prefill > few && measure(s, low, prefill, ahead, err) < 0)
        prefill = rt_max(few, prefill / 2);
    while (ahead < e && measure(s, low, prefill, ahead + 1, err) >= 0)
        ahead++;
    left = measure(s, low, prefill, ahead, err);
    s->waiting = rt_max(WAITING_MIN, rt_min(WAITING_MOST, left / 8));
    left = measure(s, low, prefill, ahead, err);
    rt_stream_hold(s->teacher.stream, left - HOLD_ASIDE);
    return 0;
}

static int plan_generation(sampler *s, int64_t samples, bool refuse, rt_err *err)
{
    rt_answers_options a = answers_options(s, samples);
    int64_t batch = rt_max(1, rt_min(s->o->batch, samples));
    rt_teacher_plan(&s->teacher, rt_answers_longest(&a), s->o->a.memory > 0);
    return s->teacher.stream ? fit(s, batch, refuse, err)
                             : plan_answers(s, batch, s->o->prefill_tokens, err);
}

static int forecast(sampler *s, rt_err *err)
{
    rt_streaming_speed speed;
    rt_needs needs = { 0 };
    int64_t rows = rt_min(s->batch, PROBE_ROWS), left = s->n_todo ? s->n_todo : s->mine;
    if (rt_streaming_probe(&speed, &s->teacher, rows, 1, err))
        return -1;
    list_needs(s, &needs);
    rt_streaming_forecast(&speed, &s->teacher, s->o->a.memory, left * s->o->sampling.max_tokens,
                          s->batch, rt_needs_sum(&needs, RT_NEEDS_ABOUT));
    rt_needs_free(&needs);
    return 0;
}

static int plan_once(sampler *s, rt_err *err)
{
    return s->answers ? 0 : plan_generation(s, s->n_todo ? s->n_todo : s->mine, true, err);
}

/* Before there is an archive, so that a teacher that cannot be read leaves none behind. */
static int read_teacher(sampler *s, rt_err *err)
{
    if (s->read)
        return 0;
    if (plan_once(s, err) || rt_teacher_read(&s->teacher, err) ||
        (s->teacher.stream && forecast(s, err)))
        return -1;
    s->read = true;
    return 0;
}

static int generate(sampler *s, rt_err *err)
{
    rt_answers_io io = { .ctx = s, .ask = ask, .take = append_sample, .tick = show_progress };
    if (read_teacher(s, err))
        return -1;
    rt_progress_begin(&s->progress, "sample", s->progress.done, s->progress.total);
    s->progress.together = s->batch;
    int bad = rt_answers_run(s->answers, s->n_todo, &io, err);
    rt_progress_end(&s->progress);
    if (bad && rt_interrupted()) {
        rt_fail(err, "interrupted: run the same command again to go on");
        err->exit_code = 130;
    }
    const rt_generated *c = rt_answers_counts(s->answers);
    if (!bad && c->shared > 0)
        rt_info("%lld of %lld prompt tokens were in the cache already, shared with other samples",
                (long long)c->shared, (long long)c->prompt);
    return bad;
}

static int write_archive(sampler *s, rt_err *err)
{
    bool fresh = !rt_path_exists(s->o->a.out);
    if (fill_manifest(s, err) || (fresh && plan_once(s, err)) ||
        rt_teacher_identity(&s->manifest.weights_hash, &s->teacher, err) || (fresh && read_teacher(s, err)) ||
        rt_trace_open_extend(&s->writer, s->o->a.out, &s->manifest, place_sample, s, err))
        return -1;
    if (s->turned)
        rt_info("%s: judged anew, because --verify or an answer changed: verdicts are others now",
                s->o->a.out);
    int bad = list_todo(s, err) || (s->n_todo && generate(s, err));
    return rt_work_end(s->writer, &s->teacher, bad, s->n_todo == 0, &s->o->a, s->tokens, s->begun,
                       err);
}

static void close_sampler(sampler *s)
{
    rt_arenas_free(&s->arenas, s->teacher.dev);
    rt_answers_close(s->answers);
    rt_work_free(&s->work);
    rt_teacher_close(&s->teacher);
}

static int open_sampler(sampler *s, const rt_needs *plan, rt_err *err)
{
    return rt_teacher_open(&s->teacher, s->o->a.teacher, &s->o->a.device, plan, err) ||
                   rt_chat_set(&s->teacher.chat, &s->o->a.set, err) || read_prompts(s, err)
               ? -1
               : 0;
}

static int run_sample(void *values, rt_err *err)
{
    sampler s = { .o = values, .begun = rt_now() };
    int bad = open_sampler(&s, NULL, err) || write_archive(&s, err);
    close_sampler(&s);
    return bad ? -1 : 0;
}

/* Of this part; samples of one prompt share it. */
static int64_t prompt_tokens(const sampler *s)
{
    int64_t all = 0;
    for (int64_t i = 0; i < s->work.n; i++)
        all += s->work.item[i].n_seen;
    return s->mine < s->work.n ? all / s->manifest.parts : all;
}

static int plan_sample(void *values, rt_needs *p, rt_err *err)
{
    sampler s = { .o = values };
    rt_trace_manifest_init(&s.manifest);
    int bad = open_sampler(&s, p, err) || rt_archive_settings(&s.manifest, &s.o->a, err) ||
              rt_answer_settings(&s.manifest, &s.o->sampling, err) || plan_work(&s, err);
    bad = bad || plan_generation(&s, s.mine, !s.o->a.plan, err);
    if (!bad)
        list_needs(&s, p);
    if (!bad && !s.teacher.stream) /* that has its own forecast */
        rt_answers_cost(s.answers, s.mine, prompt_tokens(&s), p);
    close_sampler(&s);
    return bad ? -1 : 0;
}

const rt_command rt_command_sample = {
    .name = "sample",
    .help = "a teacher answers prompts: traces with soft targets",
    .group = "a teacher's traces",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(sample_options),
    .resumes = "manifest.json",
    .run = run_sample,
    .settle = rt_archive_settle,
    .plan = plan_sample,
    .example = "retort sample --teacher DIR --prompts prompts.jsonl --out A.traces",
};
