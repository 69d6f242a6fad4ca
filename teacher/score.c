/* score.c: the command `retort score`: a teacher's soft targets for tokens that are given: training
   pairs, documents, or the samples of another archive, whose texts, ids and verdicts are kept. One
   forward pass over whole sequences, no cache; targets at the positions to be learned. With
   --student, that model runs over the same texts, and the teacher says of its most probable tokens
   too how probable they are.
   A text's targets do not depend on what is scored beside it, and texts are written in plan order,
   so a killed run ends in the same bytes as one that was not. With --memory, weights are read as
   they are needed, and the rows of a pass are as many as that allows. Refuses: choosing what to
   learn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "teacher/scorer.h"

#define O rt_score_options
static const rt_option options[] = {
    OPT_NEED_LIST(O, data, "data", "FILE|A.traces",
                  "JSONL of pairs, messages or texts (may repeat), or one archive", RT_OPT_INPUT),
    RT_TURNS_OPTION(O, turns),
    OPT_STR(O, listed, "student", NULL, "DIR|GGUF",
            "keep the teacher's exact probability of what this model finds probable too: reverse, "
            "jsd and skew losses need it there", RT_OPT_INPUT_NAMED),
    OPT_INT(O, listed_top, "student-top", "16", 1, RT_SOFT_HEAD_MAX - 1,
            "tokens of --student's at a position, at most; fewer where --head-floor is reached"),
    RT_ARCHIVE_OPTIONS(O),
    OPT_INT(O, pass_tokens, "pass-tokens", "0", 0, 1e9,
            "tokens of one pass over the weights; 0 = 4096, or what --memory has room for",
            RT_OPT_FREE),
    OPT_INT(O, head_rows, "head-rows", "256", 1, 65536, "rows of a chunk of the head", RT_OPT_FREE),
};
#undef O

/* ---- what is scored -----------------------------------------------------------------------------
 */

/* Of text i in the archive. */
static int64_t place_of(const rt_scorer *s, int64_t i) { return s->taken ? s->taken[i] : i; }

static int64_t length_of(const rt_scorer *s, int64_t i)
{
    return s->archive ? rt_trace_tokens(s->archive, place_of(s, i)) : s->work.item[i].n;
}

/* The archive's samples that have one of the tags, so many as --limit says. */
static int take_tags(rt_scorer *s, const char *path, rt_err *err)
{
    int64_t all = s->count, n = 0, left = 0, limit = s->o->a.limit;
    rt_trace_sample t;
    int bad = 0;
    s->taken = rt_alloc(all, sizeof *s->taken, "a list of samples");
    rt_trace_sample_init(&t);
    for (int64_t i = 0; !bad && i < all && !(limit && n >= limit); i++) {
        bad = rt_trace_get(s->archive, i, RT_TRACE_TEXT, &t, err);
        bool takes = !bad && rt_work_takes(&s->o->a.tags, t.tag);
        left += !takes;
        if (takes)
            s->taken[n++] = i;
    }
    rt_trace_sample_free(&t);
    s->count = n;
    return bad || rt_work_tell_tags(&s->o->a.tags, path, n, left, err) ? -1 : 0;
}

static int open_archive(rt_scorer *s, rt_err *err)
{
    const char *path = s->o->data.item[0];
    if (s->o->data.n > 1)
        return rt_usage(err, "--data: one archive, or any number of files");
    if (rt_trace_open_read(&s->archive, path, err))
        return -1;
    const rt_trace_manifest *m = rt_trace_info(s->archive);
    rt_hash ours = rt_tokenizer_fingerprint(s->teacher.chat.tokenizer);
    if (strcmp(m->tokenizer_hash.hex, ours.hex) != 0)
        return rt_fail(
            err,
            "%s: its tokens are of another tokenizer (%.8s, the teacher has %.8s): take a teacher "
            "with that vocabulary, or score the text itself (retort archive export, then --data "
            "the JSONL)",
            path, m->tokenizer_hash.hex, ours.hex);
    s->count = rt_trace_count(s->archive);
    if (s->o->a.tags.n)
        return take_tags(s, path, err);
    if (s->o->a.limit)
        s->count = rt_min(s->count, s->o->a.limit);
    return 0;
}

static int open_data(rt_scorer *s, const rt_needs *plan, rt_err *err)
{
    const rt_score_options *o = s->o;
    const rt_needs_output *later = rt_needs_find(plan, o->data.item[0]);
    if (o->a.head_max == 0)
        return rt_usage(err, "--head-max 0: scoring without soft targets has nothing to keep");
    if (later) {
        s->count = o->a.limit ? rt_min(o->a.limit, later->samples) : later->samples;
        s->longest = rt_min(later->longest, s->teacher.positions);
        return 0;
    }
    if (rt_trace_is(o->data.item[0])) {
        if (open_archive(s, err))
            return -1;
    } else {
        rt_work_kind kind = strcmp(o->turns, "last") == 0 ? RT_WORK_LAST : RT_WORK_TEXTS;
        if (rt_work_read(&s->work, &s->teacher.chat, kind, &o->data, &o->a.tags, o->a.limit,
                         "none", err))
            return -1;
        s->count = s->work.n;
    }
    for (int64_t i = 0; i < s->count; i++) {
        int64_t n = length_of(s, i);
        if (n > s->teacher.positions)
            s->left_out++;
        else
            s->longest = rt_max(s->longest, n);
    }
    if (s->longest < 2)
        return rt_fail(err, "%s: no text of 2 to %lld tokens in it", o->data.item[0],
                       (long long)s->teacher.positions);
    if (s->left_out)
        rt_warn("%lld texts are longer than the %lld tokens this model was made for and are left "
                "out",
                (long long)s->left_out, (long long)s->teacher.positions);
    return 0;
}

/* Identity of an archive's samples, in order. */
static int hash_samples(const rt_scorer *s, rt_hash *hash, rt_err *err)
{
    uint64_t *each = rt_alloc(s->count, sizeof *each, "hashes");
    rt_trace_sample t;
    int bad = 0;
    rt_trace_sample_init(&t);
    for (int64_t i = 0; !bad && i < s->count; i++) {
        bad = rt_trace_get(s->archive, place_of(s, i), 0, &t, err);
        each[i] = t.hash;
    }
    *hash = rt_hash_bytes(each, s->count * (int64_t)sizeof *each);
    rt_trace_sample_free(&t);
    free(each);
    return bad;
}

/* What is captured, of a manifest otherwise as rt_archive_settings has it. */
static int settle_capture(rt_scorer *s, rt_err *err)
{
    rt_soft_config *c = &s->manifest.capture;
    if (rt_archive_settings(&s->manifest, &s->o->a, err))
        return -1;
    if (!s->o->listed)
        return 0;
    c->listed = (int32_t)s->o->listed_top;
    c->head_max += c->listed;
    return c->head_max <= RT_SOFT_HEAD_MAX
               ? 0
               : rt_usage(err, "--head-max %lld and --student-top %lld: at most %d tokens together",
                          (long long)s->o->a.head_max, (long long)s->o->listed_top,
                          RT_SOFT_HEAD_MAX);
}

/* Who wrote the text of an archive. */
static void name_sampler(rt_trace_manifest *m, const rt_trace_manifest *from)
{
    bool sampled = strcmp(from->mode, "sample") == 0;
    memcpy(m->sampler, sampled ? from->teacher : from->sampler, sizeof m->sampler);
    m->sampler_hash = sampled ? from->weights_hash : from->sampler_hash;
    m->sampler_step = sampled ? 0 : from->sampler_step;
}

static int fill_manifest(rt_scorer *s, rt_err *err)
{
    rt_trace_manifest *m = &s->manifest;
    s->teacher.unread = !s->o->a.identity;
    if (rt_teacher_manifest(m, &s->teacher, "score", err) || settle_capture(s, err))
        return -1;
    m->planned = s->count;
    m->prompts_hash = s->work.hash;
    if (!s->archive)
        return 0;
    const rt_trace_manifest *from = rt_trace_info(s->archive);
    if (from->parts > 1 && m->parts > 1)
        return rt_usage(err, "%s is part %d of %d already: score it without --shard",
                        s->o->data.item[0], (int)from->part, (int)from->parts);
    if (from->parts > 1) {
        m->part = from->part;
        m->parts = from->parts;
    }
    m->planned = s->o->a.limit || s->taken ? s->count : from->planned;
    m->temperature = from->temperature;
    m->top_p = from->top_p;
    m->top_k = from->top_k;
    m->min_p = from->min_p;
    m->repetition = from->repetition;
    memcpy(m->stop, from->stop, sizeof m->stop);
    m->samples_per_prompt = from->samples_per_prompt;
    m->max_tokens = from->max_tokens;
    name_sampler(m, from);
    if (!m->licence[0])
        memcpy(m->licence, from->licence, sizeof m->licence);
    return hash_samples(s, &m->prompts_hash, err);
}

/* ---- one text -----------------------------------------------------------------------------------
 */

static int load_record(rt_scorer *s, rt_score_text *t, int64_t i, rt_err *err)
{
    const rt_work_item *item = &s->work.item[i];
    const int32_t *ids = s->work.pool.id + item->at;
    rt_trace_sample *a = &t->sample;
    rt_trace_sample_init(a);
    snprintf(t->id, sizeof t->id, "%s", item->id);
    a->index = i;
    a->id = a->prompt_id = t->id;
    a->messages = item->messages;
    a->tools = item->tools;
    if (item->prompt) {
        if (rt_chat_split(&s->teacher.chat, ids, item->prompt, item->n, NULL, &t->response, err))
            return -1;
        a->reasoning = t->response.reasoning.data;
        a->answer = t->response.answer.data;
    }
    a->finish = "given";
    a->seed = rt_work_seed(s->o->a.seed, item->id, 0);
    a->tokens = ids;
    a->n_tokens = item->n;
    a->prompt_tokens = item->prompt;
    a->spans = (const rt_trace_span *)(const void *)(s->work.spans.id + item->span);
    a->n_spans = item->n_spans;
    a->span_weight = s->work.span_weight + item->span / 2;
    a->weight = item->weight;
    a->tag = item->tag ? item->tag : "";
    return 0;
}

/* An archive that is a part already is done as it is. */
static bool divided(const rt_scorer *s)
{
    return s->manifest.parts > 1 && !(s->archive && rt_trace_info(s->archive)->parts > 1);
}

static bool ours(const rt_scorer *s, int64_t index)
{
    return !divided(s) || index % s->manifest.parts == s->manifest.part;
}

/* Place of a sample's text in what is scored now, -1 = failed. */
static int64_t find_text(rt_scorer *s, const rt_trace_sample *t, rt_err *err)
{
    const rt_work_item *item;
    if (!s->archive)
        return rt_work_find(&s->work, t, &item, err) ? -1 : item - s->work.item;
    for (int64_t i = s->ids.n; i < s->count; i++) {
        const rt_trace_sample *p = &s->placed.sample;
        if (rt_trace_get(s->archive, place_of(s, i), 0, &s->placed.sample, err) ||
            rt_bytes_map_put(&s->ids, p->id, (int64_t)strlen(p->id), err) < 0)
            return -1;
    }
    int64_t i = rt_bytes_map_find(&s->ids, t->id, (int64_t)strlen(t->id));
    return i >= 0 ? i
                  : rt_fail(err,
                            "sample %.80s of the archive is not in %s: an archive grows, it does "
                            "not shrink; name another output",
                            t->id, s->o->data.item[0]);
}

/* A sample that stands in the archive, in this plan: rt_trace_place. */
static int place_text(void *ctx, rt_trace_sample *t, rt_err *err)
{
    rt_scorer *s = ctx;
    int64_t i = find_text(s, t, err);
    if (i < 0 || (s->archive ? rt_trace_get(s->archive, place_of(s, i), RT_TRACE_TEXT,
                                               &s->placed.sample, err)
                             : load_record(s, &s->placed, i, err)))
        return -1;
    rt_trace_sample now = s->placed.sample;
    if (now.n_tokens != t->n_tokens || now.n_spans != t->n_spans ||
        memcmp(now.tokens, t->tokens, (size_t)now.n_tokens * sizeof *now.tokens) != 0 ||
        (now.n_spans && memcmp(now.spans, t->spans, (size_t)now.n_spans * sizeof *now.spans) != 0))
        return rt_fail(err,
                       "id %.80s is another text in the archive, or other turns of it are learned: "
                       "give it a new id, or name another output",
                       t->prompt_id);
    now.soft = t->soft;
    *t = now;
    return divided(s) ? rt_work_check_part(&s->manifest, t, err) : 0;
}

int rt_scorer_load(rt_scorer *s, rt_score_text *t, int64_t i, rt_err *err)
{
    return s->archive ? rt_trace_get(s->archive, place_of(s, i), RT_TRACE_TEXT, &t->sample, err)
                      : load_record(s, t, i, err);
}

/* The next text of this part that the archive lacks into *t: 1, 0 when there is none, -1. */
int rt_scorer_next(rt_scorer *s, rt_score_text *t, rt_err *err)
{
    for (; s->at < s->count; s->at++) {
        if (length_of(s, s->at) > s->teacher.positions)
            continue;
        if (!s->archive && !ours(s, s->at))
            continue;
        if (rt_scorer_load(s, t, s->at, err))
            return -1;
        if (s->archive && !ours(s, t->sample.index))
            continue;
        if (!rt_trace_has(s->writer, t->sample.id))
            return 1;
        s->done++;
    }
    return 0;
}

/* Tokens that this part has to score; of an archive that an earlier stage will write, at most. */
int64_t rt_scorer_tokens(const rt_scorer *s)
{
    int64_t all = 0;
    if (!s->archive && !s->work.n)
        all = s->count * s->longest;
    for (int64_t i = 0; (s->archive || s->work.n) && i < s->count; i++)
        if (length_of(s, i) <= s->teacher.positions)
            all += length_of(s, i);
    return rt_ceil_div(all, divided(s) ? s->manifest.parts : 1);
}

/* ---- the command --------------------------------------------------------------------------------
 */

/* The file of a pass that is under way. */
static char *pass_path(const char *out)
{
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        n--;
    char *path = rt_alloc((int64_t)n + 8, 1, "a path");
    snprintf(path, n + 8, "%.*s.pass", (int)n, out);
    return path;
}

static void show_progress(rt_scorer *s)
{
    char rate[32];
    double seconds = rt_now() - s->progress.begun;
    rt_progress_update(
        &s->progress, s->done, "%s positions/s",
        rt_fmt_count(rate, sizeof rate, (double)s->learned / (seconds > 0.01 ? seconds : 0.01)));
}

static int score_all(rt_scorer *s, rt_err *err)
{
    int64_t mine = rt_ceil_div(s->count - s->left_out, divided(s) ? s->manifest.parts : 1), texts;
    rt_progress_begin(&s->progress, "score", rt_trace_written(s->writer), mine);
    int bad = 0;
    do {
        if (rt_interrupted()) {
            rt_fail(err, "interrupted: run the same command again to go on");
            err->exit_code = 130;
            bad = -1;
        }
        texts = 0;
        bad = bad || rt_scorer_pass(s, &texts, err);
        show_progress(s);
    } while (!bad && texts);
    rt_progress_end(&s->progress);
    return bad ? -1 : 0;
}

/* Whether anything is left to do, without reading the weights first. */
static bool finished(const rt_scorer *s)
{
    return rt_trace_written(s->writer) == s->count - s->left_out && !divided(s);
}

static int write_archive(rt_scorer *s, rt_err *err)
{
    s->pass_path = pass_path(s->o->a.out);
    bool fresh = !rt_path_exists(s->o->a.out);
    if ((fresh && rt_scorer_plan(s, true, err)) ||
        rt_teacher_identity(&s->manifest.weights_hash, &s->teacher, err) ||
        (s->lister.path && rt_teacher_identity(&s->manifest.listed_hash, &s->lister, err)) ||
        (fresh && rt_scorer_place(s, err)) ||
        rt_trace_open_extend(&s->writer, s->o->a.out, &s->manifest, place_text, s, err))
        return -1;
    bool done = finished(s);
    int bad = !done && (rt_scorer_place(s, err) || score_all(s, err));
    if (!bad) /* killed when all was done but this */
        rt_residual_remove(s->pass_path);
    return rt_work_end(s->writer, &s->teacher, bad, done, &s->o->a, s->learned, s->begun, err);
}

static void close_scorer(rt_scorer *s)
{
    rt_scorer_free(s);
    if (s->archive)
        rt_trace_sample_free(&s->placed.sample);
    rt_response_free(&s->placed.response);
    rt_bytes_map_free(&s->ids);
    free(s->pass_path);
    rt_trace_reader_close(s->archive);
    free(s->taken);
    rt_work_free(&s->work);
    rt_teacher_close(&s->lister);
    rt_teacher_close(&s->teacher);
}

/* The model whose ids are listed: they must mean what the teacher's mean. */
static int open_lister(rt_scorer *s, const rt_needs *plan, rt_err *err)
{
    if (!s->o->listed)
        return 0;
    if (rt_teacher_open_beside(&s->lister, s->o->listed, s->teacher.dev, plan, err))
        return -1;
    s->lister.unread = !s->o->a.identity;
    rt_hash ours = rt_tokenizer_fingerprint(s->teacher.chat.tokenizer);
    rt_hash its = rt_tokenizer_fingerprint(s->lister.chat.tokenizer);
    if (strcmp(ours.hex, its.hex))
        return rt_fail(err,
                       "--student %s: has another tokenizer (%.8s, the teacher has %.8s): its tokens "
                       "mean nothing to this teacher",
                       s->o->listed, its.hex, ours.hex);
    s->teacher.positions = rt_min(s->teacher.positions, s->lister.positions);
    return 0;
}

static int open_scorer(rt_scorer *s, const rt_needs *plan, rt_err *err)
{
    return rt_teacher_open(&s->teacher, s->o->a.teacher, &s->o->a.device, plan, err) ||
                   rt_chat_set(&s->teacher.chat, &s->o->a.set, err) ||
                   open_lister(s, plan, err) || open_data(s, plan, err)
               ? -1
               : 0;
}

static int run_score(void *values, rt_err *err)
{
    rt_scorer s = { .o = values, .begun = rt_now() };
    int bad = open_scorer(&s, NULL, err) || fill_manifest(&s, err) || write_archive(&s, err);
    close_scorer(&s);
    return bad ? -1 : 0;
}

static int plan_score(void *values, rt_needs *p, rt_err *err)
{
    rt_scorer s = { .o = values };
    rt_trace_manifest_init(&s.manifest);
    int bad = open_scorer(&s, p, err) || settle_capture(&s, err);
    bool later = !s.archive && !s.work.n; /* its longest text may be shorter than planned */
    bad = bad || rt_scorer_plan(&s, !later && !s.o->a.plan, err);
    if (!bad) {
        rt_scorer_needs(&s, p);
        p->at_most = later;
        if (!s.teacher.stream) /* that has its own forecast */
            rt_needs_cost(p, s.teacher.dev, s.pass.cost,
                          (double)rt_scorer_tokens(&s) / (double)s.pass.acts.shape.rows);
    }
    close_scorer(&s);
    return bad ? -1 : 0;
}

const rt_command rt_command_score = {
    .name = "score",
    .help = "a teacher's soft targets for text or for another archive",
    .group = "a teacher's traces",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(rt_score_options),
    .resumes = "manifest.json",
    .run = run_score,
    .settle = rt_archive_settle,
    .plan = plan_score,
    .example = "retort score --teacher DIR --data texts.jsonl --out B.traces",
};
