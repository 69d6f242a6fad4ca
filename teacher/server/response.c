#include "teacher/server/response.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/base/memory.h"

/* ---- text and JSON ------------------------------------------------------------------------------
 */

/* What is no UTF-8, and NUL, which cJSON cannot hold, as U+FFFD. */
static void put_text(cJSON *to, const char *key, rt_str s)
{
    char *text = rt_alloc(s.bytes + 1, 3, "a text");
    int64_t n = 0;
    uint32_t cp;
    for (int64_t i = 0; i < s.bytes;) {
        int length = rt_utf8_decode(s.data + i, s.bytes - i, &cp);
        bool good = length > 0 && cp != 0;
        memcpy(text + n, good ? s.data + i : "\xef\xbf\xbd", good ? (size_t)length : 3);
        n += good ? length : 3;
        i += length > 0 ? length : 1;
    }
    text[n] = 0;
    rt_json_put_str(to, key, text);
    free(text);
}

static int64_t characters(rt_str s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s.bytes; i++)
        n += ((unsigned char)s.data[i] & 0xC0) != 0x80;
    return n;
}

static int add_json(rt_text *out, cJSON *json, const char *before, const char *after, rt_err *err)
{
    char *text = rt_json_text(json);
    int bad = rt_text_puts(out, before, err) || rt_text_puts(out, text, err) ||
              rt_text_puts(out, after, err);
    free(text);
    cJSON_Delete(json);
    return bad ? -1 : 0;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

void rt_response_open(rt_response_writer *w, const rt_served *s, const rt_query *q)
{
    uint64_t name[2] = { 0 };
    ssize_t got = getrandom(name, sizeof name, GRND_NONBLOCK);
    (void)got; /* a name, no secret */
    *w = (rt_response_writer){ .served = s, .query = q, .created = (int64_t)time(NULL) };
    snprintf(w->id, sizeof w->id, "%s-%016llx%016llx", q->chat ? "chatcmpl" : "cmpl",
             (unsigned long long)name[0], (unsigned long long)name[1]);
    w->choice = rt_alloc(q->ticket->n, sizeof *w->choice, "a response");
    for (int64_t k = 0; k < q->ticket->n; k++) {
        const rt_ids *prompt = q->ticket->choice[k].prompt;
        rt_reply_begin(&w->choice[k].reply, s->chat, &q->ticket->stops, prompt->id, prompt->n,
                       !q->chat);
    }
}

void rt_response_close(rt_response_writer *w)
{
    for (int64_t k = 0; w->choice && k < w->query->ticket->n; k++) {
        rt_reply_free(&w->choice[k].reply);
        cJSON_Delete(w->choice[k].logprobs);
    }
    free(w->choice);
    w->choice = NULL;
}

/* ---- tokens -------------------------------------------------------------------------------------
 */

typedef struct candidate {
    int32_t id;
    float logp;
} candidate;

static int by_logp(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return x->logp != y->logp ? (x->logp < y->logp ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

/* The most probable tokens of a row, best first, at most `top`. */
static int64_t best_of(const rt_soft *soft, int64_t row, int64_t top, candidate *out)
{
    int64_t n = soft->head_n[row], at = soft->offset[row];
    for (int64_t i = 0; i < n; i++)
        out[i] = (candidate){ soft->id[at + i], soft->logp[at + i] };
    qsort(out, (size_t)n, sizeof *out, by_logp);
    return rt_min(n, top);
}

static int spell(const rt_response_writer *w, int32_t id, rt_text *text, rt_err *err)
{
    rt_text_clear(text);
    return rt_text_reserve(text, 1, err) ||
                   rt_tokenizer_decode(w->served->chat->tokenizer, &id, 1, 0, text, err)
               ? -1
               : 0;
}

static rt_str str_of(const rt_text *t) { return (rt_str){ t->data, t->bytes }; }

/* {"token", "logprob", "bytes"} */
static int token_entry(const rt_response_writer *w, candidate c, rt_text *text, cJSON **out,
                       rt_err *err)
{
    if (spell(w, c.id, text, err))
        return -1;
    cJSON *entry = *out = rt_json_object(), *bytes = rt_json_array();
    put_text(entry, "token", str_of(text));
    rt_json_put_num(entry, "logprob", (double)c.logp);
    for (int64_t i = 0; i < text->bytes; i++)
        rt_json_put(bytes, NULL, cJSON_CreateNumber((unsigned char)text->data[i]));
    rt_json_put(entry, "bytes", bytes);
    return 0;
}

static int add_chat_logprob(const rt_response_writer *w, rt_written *c, candidate taken,
                            const candidate *best, int64_t n, rt_text *text, rt_err *err)
{
    cJSON *entry, *one, *top = rt_json_array();
    if (!c->logprobs)
        c->logprobs = rt_json_array();
    if (token_entry(w, taken, text, &entry, err)) {
        cJSON_Delete(top);
        return -1;
    }
    rt_json_put(entry, "top_logprobs", top);
    rt_json_put(c->logprobs, NULL, entry);
    for (int64_t i = 0; i < n; i++) {
        if (token_entry(w, best[i], text, &one, err))
            return -1;
        rt_json_put(top, NULL, one);
    }
    return 0;
}

/* The lists of /v1/completions; two tokens of one spelling are one key, the more probable. */
static int add_text_logprob(const rt_response_writer *w, rt_written *c, candidate taken,
                            const candidate *best, int64_t n, rt_text *text, rt_err *err)
{
    static const char *const lists[] = { "tokens", "token_logprobs", "top_logprobs",
                                         "text_offset" };
    if (!c->logprobs) {
        c->logprobs = rt_json_object();
        for (int i = 0; i < RT_COUNT(lists); i++)
            rt_json_put(c->logprobs, lists[i], rt_json_array());
    }
    cJSON *of[RT_COUNT(lists)], *top = rt_json_object(), *name = rt_json_object();
    for (int i = 0; i < RT_COUNT(lists); i++)
        of[i] = cJSON_GetObjectItemCaseSensitive(c->logprobs, lists[i]);
    rt_json_put(of[2], NULL, top);
    int bad = spell(w, taken.id, text, err);
    if (!bad) {
        put_text(name, "token", str_of(text));
        rt_json_put(of[0], NULL, cJSON_DetachItemFromObjectCaseSensitive(name, "token"));
        rt_json_put(of[1], NULL, cJSON_CreateNumber((double)taken.logp));
        rt_json_put(of[3], NULL, cJSON_CreateNumber((double)c->offset));
        c->offset += characters(str_of(text));
    }
    for (int64_t i = 0; i < n && !bad; i++) {
        bad = spell(w, best[i].id, text, err);
        if (bad)
            break;
        put_text(name, "token", str_of(text));
        const char *key = cJSON_GetStringValue(rt_json_find(name, "token"));
        if (!cJSON_HasObjectItem(top, key))
            rt_json_put_num(top, key, (double)best[i].logp);
        cJSON_DeleteItemFromObjectCaseSensitive(name, "token");
    }
    cJSON_Delete(name);
    return bad;
}

int rt_response_add(rt_response_writer *w, int64_t k, const rt_ids *ids, const rt_soft *soft,
                    rt_choice_state state, rt_err *err)
{
    rt_written *c = &w->choice[k];
    const rt_query *q = w->query;
    candidate best[RT_SOFT_HEAD_MAX];
    rt_text text = { 0 };
    int bad = 0;
    for (int64_t i = 0; i < ids->n && !bad; i++) {
        bad = rt_reply_add(&c->reply, ids->id[i], err);
        if (bad || !q->logprobs)
            continue;
        candidate taken = { ids->id[i], soft->taken_logp[i] };
        int64_t n = best_of(soft, i, q->top, best);
        bad = q->chat ? add_chat_logprob(w, c, taken, best, n, &text, err)
                      : add_text_logprob(w, c, taken, best, n, &text, err);
    }
    rt_text_free(&text);
    c->n_new += ids->n;
    c->state = state;
    if (state.done)
        rt_reply_end(&c->reply);
    return bad ? -1 : 0;
}

bool rt_response_done(const rt_response_writer *w, bool *aborted)
{
    *aborted = false;
    for (int64_t k = 0; k < w->query->ticket->n; k++) {
        if (!w->choice[k].state.done)
            return false;
        *aborted |= w->choice[k].state.aborted;
    }
    return true;
}

/* ---- shapes -------------------------------------------------------------------------------------
 */

static const char *reason_of(rt_finish f)
{
    return f == RT_FINISH_STOP || f == RT_FINISH_STOP_STRING ? "stop" : "length";
}

static cJSON *frame(const rt_response_writer *w)
{
    bool chat = w->query->chat;
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "id", w->id);
    rt_json_put_str(json, "object",
                    !chat              ? "text_completion"
                    : w->query->stream ? "chat.completion.chunk"
                                       : "chat.completion");
    rt_json_put_i64(json, "created", w->created);
    rt_json_put_str(json, "model", w->served->name);
    rt_json_put_str(json, "system_fingerprint", "retort-" RT_VERSION);
    rt_json_put(json, "choices", rt_json_array());
    return json;
}

static void put_usage(cJSON *json, const rt_response_writer *w)
{
    const rt_ticket *t = w->query->ticket;
    int64_t prompts = 0, new = 0, shared = 0, n = t->n / t->n_prompts;
    for (int64_t i = 0; i < t->n_prompts; i++)
        prompts += t->prompt[i].n;
    for (int64_t k = 0; k < t->n; k++) {
        new += w->choice[k].n_new;
        shared += k % n ? 0 : w->choice[k].state.shared; /* the others share with the first */
    }
    cJSON *usage = rt_json_object(), *details = rt_json_object();
    rt_json_put_i64(usage, "prompt_tokens", prompts);
    rt_json_put_i64(usage, "completion_tokens", new);
    rt_json_put_i64(usage, "total_tokens", prompts + new);
    rt_json_put_i64(details, "cached_tokens", shared);
    rt_json_put(usage, "prompt_tokens_details", details);
    rt_json_put(json, "usage", usage);
}

/* logprobs and finish_reason, which both forms end with; the logprobs are sent then. */
static void put_end(cJSON *choice, rt_written *c, bool chat)
{
    cJSON *logprobs = c->logprobs;
    if (logprobs && chat) {
        logprobs = rt_json_object();
        rt_json_put(logprobs, "content", c->logprobs);
    }
    rt_json_put(choice, "logprobs", logprobs ? logprobs : cJSON_CreateNull());
    c->logprobs = NULL;
    rt_json_put_str(choice, "finish_reason", c->state.done ? reason_of(c->state.finish) : NULL);
}

/* The texts of a choice since they were last sent, into a message or a delta. Whether there were
   any. */
static bool put_parts(cJSON *to, rt_written *c, bool always)
{
    rt_str thought = rt_reply_take(&c->reply, RT_REPLY_REASONING);
    if (thought.bytes)
        put_text(to, "reasoning_content", thought);
    rt_str answer = rt_reply_take(&c->reply, RT_REPLY_ANSWER);
    if (answer.bytes || always)
        put_text(to, "content", answer);
    return thought.bytes || answer.bytes;
}

static cJSON *whole_choice(const rt_response_writer *w, int64_t k)
{
    rt_written *c = &w->choice[k];
    cJSON *choice = rt_json_object();
    rt_json_put_i64(choice, "index", k);
    if (w->query->chat) {
        cJSON *message = rt_json_object();
        rt_json_put_str(message, "role", "assistant");
        put_parts(message, c, true);
        rt_json_put(choice, "message", message);
    } else {
        put_text(choice, "text", rt_reply_take(&c->reply, RT_REPLY_ANSWER));
    }
    put_end(choice, c, w->query->chat);
    return choice;
}

int rt_response_whole(rt_response_writer *w, rt_text *out, rt_err *err)
{
    cJSON *json = frame(w), *choices = cJSON_GetObjectItemCaseSensitive(json, "choices");
    for (int64_t k = 0; k < w->query->ticket->n; k++)
        rt_json_put(choices, NULL, whole_choice(w, k));
    put_usage(json, w);
    return add_json(out, json, "", "\n", err);
}

/* ---- events -------------------------------------------------------------------------------------
 */

static const char DATA[] = "data: ", END[] = "\n\n";

static int send_choice(rt_response_writer *w, cJSON *choice, rt_text *out, rt_err *err)
{
    cJSON *json = frame(w);
    rt_json_put(cJSON_GetObjectItemCaseSensitive(json, "choices"), NULL, choice);
    if (w->query->usage)
        rt_json_put(json, "usage", cJSON_CreateNull());
    return add_json(out, json, DATA, END, err);
}

/* As OpenAI does, a conversation's choice begins with its role. */
static int send_role(rt_response_writer *w, int64_t k, rt_text *out, rt_err *err)
{
    cJSON *choice = rt_json_object(), *delta = rt_json_object();
    rt_json_put_i64(choice, "index", k);
    rt_json_put_str(delta, "role", "assistant");
    rt_json_put_str(delta, "content", "");
    rt_json_put(choice, "delta", delta);
    rt_json_put(choice, "logprobs", cJSON_CreateNull());
    rt_json_put(choice, "finish_reason", cJSON_CreateNull());
    return send_choice(w, choice, out, err);
}

static int send_news(rt_response_writer *w, int64_t k, rt_text *out, rt_err *err)
{
    rt_written *c = &w->choice[k];
    cJSON *choice = rt_json_object(), *delta = rt_json_object();
    bool news;
    rt_json_put_i64(choice, "index", k);
    if (w->query->chat) {
        news = put_parts(delta, c, false);
        rt_json_put(choice, "delta", delta);
    } else {
        rt_str text = rt_reply_take(&c->reply, RT_REPLY_ANSWER);
        news = text.bytes > 0;
        put_text(choice, "text", text);
        cJSON_Delete(delta);
    }
    if (!news && !c->logprobs && !c->state.done) {
        cJSON_Delete(choice);
        return 0;
    }
    put_end(choice, c, w->query->chat);
    c->closed = c->state.done;
    return send_choice(w, choice, out, err);
}

static int send_last(rt_response_writer *w, bool aborted, rt_text *out, rt_err *err)
{
    rt_refusal r;
    cJSON *json;
    if (aborted) {
        rt_refuse(&r, 503, "server_stopping", NULL, "the server stopped before the end");
        return rt_text_puts(out, DATA, err) || rt_response_refusal(&r, out, err) ||
                       rt_text_puts(out, "\n", err)
                   ? -1
                   : 0;
    }
    if (w->query->usage) {
        json = frame(w);
        put_usage(json, w);
        if (add_json(out, json, DATA, END, err))
            return -1;
    }
    return rt_text_puts(out, "data: [DONE]\n\n", err);
}

int rt_response_events(rt_response_writer *w, rt_text *out, rt_err *err)
{
    int64_t n = w->query->ticket->n;
    bool aborted, done = rt_response_done(w, &aborted);
    for (int64_t k = 0; k < n && !w->begun && w->query->chat; k++)
        if (send_role(w, k, out, err))
            return -1;
    w->begun = true;
    for (int64_t k = 0; k < n; k++)
        if (!w->choice[k].closed && !w->choice[k].state.aborted && send_news(w, k, out, err))
            return -1;
    return done ? send_last(w, aborted, out, err) : 0;
}

/* ---- other answers ------------------------------------------------------------------------------
 */

int rt_response_models(const rt_served *s, rt_text *out, rt_err *err)
{
    cJSON *json = rt_json_object(), *list = rt_json_array(), *one = rt_json_object();
    rt_json_put_str(one, "id", s->name);
    rt_json_put_str(one, "object", "model");
    rt_json_put_i64(one, "created", s->created);
    rt_json_put_str(one, "owned_by", "retort");
    rt_json_put_i64(one, "max_model_len", s->length);
    rt_json_put(list, NULL, one);
    rt_json_put_str(json, "object", "list");
    rt_json_put(json, "data", list);
    return add_json(out, json, "", "\n", err);
}

int rt_response_refusal(const rt_refusal *r, rt_text *out, rt_err *err)
{
    cJSON *json = rt_json_object(), *error = rt_json_object();
    rt_json_put_str(error, "message", r->err.text);
    rt_json_put_str(error, "type", r->type);
    rt_json_put_str(error, "param", r->param);
    rt_json_put_str(error, "code", r->code);
    rt_json_put(json, "error", error);
    return add_json(out, json, "", "\n", err);
}
