#include "corpora/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* Finished responses wait for those before them. Past this many bytes no new ones are begun, unless
   the options say another number. */
#define WAITING_BYTES ((int64_t)256 << 20)

typedef struct waiting {
    rt_completion c; /* .token and .soft are the copies below */
    rt_soft soft;
    int32_t *token;
    int64_t bytes;
} waiting;

struct rt_answers {
    rt_answers_options o;
    const rt_chat *chat;
    rt_generator *generator;
    rt_stops stops;
    const rt_answers_io *io; /* of the run */
    int64_t n, asked, taken; /* questions */
    waiting **done;          /* a ring of `room`: question k in place k % room */
    int64_t room, bytes;
    rt_response response;
};

int64_t rt_answers_longest(const rt_answers_options *o)
{
    return rt_min(o->longest + o->sampling->max_tokens, o->positions);
}

int rt_answers_open(rt_answers **out, rt_dev *d, const rt_model *m, const rt_chat *chat,
                    const rt_answers_options *o, rt_err *err)
{
    rt_answers *a = rt_alloc(1, sizeof *a, "answers");
    a->o = *o;
    a->o.waiting_bytes = o->waiting_bytes ? o->waiting_bytes : WAITING_BYTES;
    a->chat = chat;
    *out = a;
    if (rt_sampling_check(o->sampling, err) ||
        rt_stops_open(&a->stops, chat->tokenizer, &o->sampling->stop, err))
        return -1;
    rt_generate_options g = { .slots = rt_max(1, rt_min(o->batch, o->questions)),
                              .length = rt_answers_longest(o),
                              .prefill_rows = rt_min(o->prefill_tokens, o->batch * o->longest),
                              .cache_tokens = o->cache_tokens,
                              .vocab = rt_tokenizer_vocab(chat->tokenizer),
                              .repetition = o->sampling->repetition,
                              .sampling = rt_sampling_of(o->sampling),
                              .capture = o->capture };
    a->generator = rt_generator_open(d, m, &g);
    return 0;
}

void rt_answers_needs(const rt_answers *a, rt_needs *p)
{
    rt_generator_needs(a->generator, p);
    rt_needs_add(p, RT_NEEDS_GROWS, "host", "answers before their turn", a->o.waiting_bytes);
}

void rt_answers_cost(const rt_answers *a, int64_t n, int64_t prompts, rt_needs *p)
{
    int64_t each = rt_min(a->o.sampling->max_tokens, a->o.positions);
    rt_generator_cost(a->generator, (double)prompts, (double)n * (double)each, p);
    p->at_most = true;
}

const rt_generated *rt_answers_counts(const rt_answers *a)
{
    return rt_generator_counts(a->generator);
}

void rt_answers_forget(rt_answers *a) { rt_generator_forget(a->generator); }

static void free_waiting(waiting *w)
{
    if (!w)
        return;
    rt_soft_free(&w->soft);
    free(w->token);
    free(w);
}

/* What waits when a run fails. */
static void forget(rt_answers *a)
{
    for (int64_t i = 0; i < a->room; i++) {
        free_waiting(a->done[i]);
        a->done[i] = NULL;
    }
    a->bytes = 0;
}

void rt_answers_close(rt_answers *a)
{
    if (!a)
        return;
    forget(a);
    free(a->done);
    rt_generator_close(a->generator);
    rt_stops_free(&a->stops);
    rt_response_free(&a->response);
    free(a);
}

/* ---- one answer ---------------------------------------------------------------------------------
 */

rt_verdict rt_answer_judge(rt_verify_kind verify, const char *answer, const char *reference,
                           bool finished, rt_verify_rule *rule)
{
    *rule = RT_RULE_NONE;
    if (!finished)
        return RT_UNFINISHED;
    rt_judgement j = rt_verify(verify, answer, reference);
    *rule = j.rule;
    return j.result == RT_JUDGED_YES  ? RT_CORRECT
           : j.result == RT_JUDGED_NO ? RT_WRONG
                                      : RT_UNVERIFIED;
}

static int hand_over(rt_answers *a, int64_t question, const waiting *w, rt_err *err)
{
    const rt_completion *c = &w->c;
    rt_question q = { 0 };
    rt_answer answer = { .question = question,
                         .token = w->token,
                         .n_prompt = c->n_prompt,
                         .n = c->n_prompt + c->n_new,
                         .finish = c->finish,
                         .soft = &w->soft,
                         .response = &a->response };
    answer.learned = answer.n;
    if (rt_chat_split(a->chat, w->token, c->n_prompt, answer.n, &a->stops, &a->response, err) ||
        (c->finish == RT_FINISH_STOP_STRING &&
         rt_stops_before(&a->stops, w->token, c->n_prompt, answer.n, &answer.learned, err)))
        return -1;
    bool ended = c->finish == RT_FINISH_STOP || c->finish == RT_FINISH_STOP_STRING;
    a->io->ask(a->io->ctx, question, &q);
    answer.verdict = rt_answer_judge(q.verify, a->response.answer.data, q.reference,
                                     ended && !a->response.unfinished, &answer.rule);
    return a->io->take(a->io->ctx, &answer, err);
}

/* ---- generation's callbacks ---------------------------------------------------------------------
 */

/* Room for one more question that was asked and not taken. */
static void widen(rt_answers *a)
{
    int64_t room = rt_max(64, 2 * a->room);
    if (a->asked - a->taken < a->room)
        return;
    waiting **done = rt_alloc(room, sizeof *done, "a list of answers");
    for (int64_t k = a->taken; k < a->asked; k++)
        done[k % room] = a->done[k % a->room];
    free(a->done);
    a->done = done;
    a->room = room;
}

static int next_request(void *ctx, rt_request *r, rt_err *err)
{
    rt_answers *a = ctx;
    rt_question q = { 0 };
    (void)err;
    if (a->asked == a->n || a->bytes > a->o.waiting_bytes)
        return 0;
    widen(a);
    a->io->ask(a->io->ctx, a->asked, &q);
    *r = (rt_request){ .id = a->asked++,
                       .prompt = q.prompt,
                       .n_prompt = q.n_prompt,
                       .max_new = rt_min(a->o.sampling->max_tokens, a->o.positions - q.n_prompt),
                       .seed = q.seed };
    return 1;
}

static waiting *keep(const rt_completion *c, int32_t temperatures)
{
    int64_t n = c->n_prompt + c->n_new;
    waiting *w = rt_alloc(1, sizeof *w, "an answer");
    w->token = rt_alloc(n, sizeof *w->token, "the tokens of an answer");
    w->c = *c;
    memcpy(w->token, c->token, (size_t)n * sizeof *w->token);
    rt_soft_init(&w->soft);
    if (c->soft)
        rt_soft_append(&w->soft, c->soft, 0, c->soft->n, temperatures);
    w->bytes = 4 * n + 12 * w->soft.cap_items + 40 * w->soft.cap;
    return w;
}

static int take_completion(void *ctx, const rt_completion *c, rt_err *err)
{
    rt_answers *a = ctx;
    waiting *w = keep(c, a->o.capture.n_temperatures);
    a->done[c->id % a->room] = w;
    a->bytes += w->bytes;
    while (a->taken < a->asked && (w = a->done[a->taken % a->room]) != NULL) {
        if (hand_over(a, a->taken, w, err))
            return -1;
        a->done[a->taken++ % a->room] = NULL;
        a->bytes -= w->bytes;
        free_waiting(w);
    }
    return 0;
}

static int stop(void *ctx, int64_t id, const int32_t *token, int64_t n_prompt, int64_t n,
                rt_err *err)
{
    rt_answers *a = ctx;
    (void)id;
    return rt_stops_reached(&a->stops, token, n_prompt, n, err);
}

static void tick(void *ctx, int64_t tokens)
{
    const rt_answers *a = ctx;
    if (a->io->tick)
        a->io->tick(a->io->ctx, tokens);
}

int rt_answers_run(rt_answers *a, int64_t n, const rt_answers_io *io, rt_err *err)
{
    rt_generate_io g = {
        .ctx = a, .next = next_request, .done = take_completion, .stop = stop, .tick = tick
    };
    a->io = io;
    a->n = n;
    a->asked = a->taken = 0;
    int bad = rt_generator_run(a->generator, &g, err);
    forget(a);
    return bad;
}

/* ---- settings -----------------------------------------------------------------------------------
 */

int rt_answer_settings(rt_trace_manifest *m, const rt_sampling_options *o, rt_err *err)
{
    rt_stops stops;
    if (rt_sampling_check(o, err) || rt_stops_open(&stops, NULL, &o->stop, err))
        return -1;
    rt_stops_free(&stops);
    cJSON *list = rt_json_array();
    m->temperature = o->temperature;
    m->top_p = o->top_p;
    m->top_k = (int32_t)o->top_k;
    m->min_p = o->min_p;
    m->max_tokens = o->max_tokens;
    m->repetition = o->repetition;
    for (int i = 0; i < o->stop.n; i++)
        rt_json_put(list, NULL, cJSON_CreateString(o->stop.item[i]));
    char *text = o->stop.n ? rt_json_text(list) : rt_strdup("");
    bool fits = strlen(text) < sizeof m->stop;
    snprintf(m->stop, sizeof m->stop, "%s", text);
    free(text);
    cJSON_Delete(list);
    return fits ? 0
                : rt_usage(err, "--stop: the texts are longer than %d bytes together",
                           (int)sizeof m->stop - 1);
}
