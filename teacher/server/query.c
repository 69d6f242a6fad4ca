#include "teacher/server/query.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/memory.h"
#include "core/base/suggest.h"

int rt_refuse(rt_refusal *r, int status, const char *code, const char *param, const char *fmt, ...)
{
    char text[sizeof r->err.text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    r->status = status;
    r->type = status == 401   ? "authentication_error"
              : status == 429 ? "rate_limit_error"
              : status >= 500 ? "server_error"
                              : "invalid_request_error";
    r->code = code;
    r->param = param;
    return rt_fail(&r->err, "%s", text);
}

/* The message that a reader left in r->err, as a refusal. */
static int refuse_value(rt_refusal *r, const char *param)
{
    return rt_refuse(r, 400, NULL, param, "%s", strdupa(r->err.text));
}

/* ---- keys ---------------------------------------------------------------------------------------
 */

enum rule {
    READ,
    UNUSED, /* says nothing of the answer */
    ONLY    /* null, false, 0, empty, or the value named, which ask for what is done anyway */
};

static const struct key {
    const char *name;
    bool chat, text; /* where it may stand */
    enum rule rule;
    const char *value; /* ONLY: as JSON */
} keys[] = {
    { "model", true, true, READ, NULL },
    { "messages", true, false, READ, NULL },
    { "prompt", false, true, READ, NULL },
    { "stream", true, true, READ, NULL },
    { "stream_options", true, true, READ, NULL },
    { "temperature", true, true, READ, NULL },
    { "top_p", true, true, READ, NULL },
    { "top_k", true, true, READ, NULL },
    { "min_p", true, true, READ, NULL },
    { "max_tokens", true, true, READ, NULL },
    { "max_completion_tokens", true, false, READ, NULL },
    { "stop", true, true, READ, NULL },
    { "seed", true, true, READ, NULL },
    { "n", true, true, READ, NULL },
    { "logprobs", true, true, READ, NULL },
    { "top_logprobs", true, false, READ, NULL },
    { "chat_template_kwargs", true, false, READ, NULL },
    { "user", true, true, UNUSED, NULL },
    { "metadata", true, true, UNUSED, NULL },
    { "store", true, true, UNUSED, NULL },
    { "service_tier", true, true, UNUSED, NULL },
    { "safety_identifier", true, true, UNUSED, NULL },
    { "prompt_cache_key", true, true, UNUSED, NULL },
    { "parallel_tool_calls", true, false, UNUSED, NULL },
    { "presence_penalty", true, true, ONLY, NULL },
    { "frequency_penalty", true, true, ONLY, NULL },
    { "repetition_penalty", true, true, ONLY, "1" },
    { "logit_bias", true, true, ONLY, NULL },
    { "tools", true, false, ONLY, NULL },
    { "functions", true, false, ONLY, NULL },
    { "tool_choice", true, false, ONLY, "\"none\"" },
    { "response_format", true, false, ONLY, "{\"type\":\"text\"}" },
    { "modalities", true, false, ONLY, "[\"text\"]" },
    { "echo", false, true, ONLY, NULL },
    { "suffix", false, true, ONLY, NULL },
    { "best_of", false, true, ONLY, "1" },
};

static bool asks_nothing(const cJSON *v, const char *value)
{
    if (cJSON_IsNull(v) || cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == 0) ||
        (cJSON_IsString(v) && !*v->valuestring) ||
        ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child))
        return true;
    char *text = rt_json_text(v);
    bool same = value && !strcmp(text, value);
    free(text);
    return same;
}

static int check_keys(const cJSON *body, bool chat, rt_refusal *r)
{
    const char *names[RT_COUNT(keys)];
    int n = 0;
    for (int i = 0; i < RT_COUNT(keys); i++)
        if (chat ? keys[i].chat : keys[i].text)
            names[n++] = keys[i].name;
    for (const cJSON *v = body->child; v; v = v->next) {
        int i = 0;
        while (i < RT_COUNT(keys) &&
               (strcmp(keys[i].name, v->string) || !(chat ? keys[i].chat : keys[i].text)))
            i++;
        if (i == RT_COUNT(keys)) {
            const char *near = rt_nearest(v->string, names, n);
            return rt_refuse(r, 400, "unknown_parameter", NULL, "unknown key \"%s\"%s%s%s",
                             v->string, near ? "; did you mean \"" : "", near ? near : "",
                             near ? "\"?" : "");
        }
        if (keys[i].rule == ONLY && !asks_nothing(v, keys[i].value))
            return rt_refuse(r, 400, "unsupported_value", keys[i].name,
                             "\"%s\" is not supported here: leave it out", keys[i].name);
    }
    return 0;
}

/* ---- settings -----------------------------------------------------------------------------------
 */

static int read_number(const cJSON *body, const char *key, double least, double most, float *out,
                       rt_refusal *r)
{
    double v = (double)*out;
    if (rt_json_opt_f64(body, key, &v, &r->err))
        return refuse_value(r, key);
    if (!(v >= least && v <= most))
        return rt_refuse(r, 400, NULL, key, "\"%s\": %g is not from %g to %g", key, v, least, most);
    *out = (float)v;
    return 0;
}

static int read_integer(const cJSON *body, const char *key, int64_t least, int64_t most,
                        int64_t *out, rt_refusal *r)
{
    return rt_json_opt_i64(body, key, least, most, out, &r->err) ? refuse_value(r, key) : 0;
}

static int read_flag(const cJSON *body, const char *key, bool *out, rt_refusal *r)
{
    return rt_json_opt_bool(body, key, out, &r->err) ? refuse_value(r, key) : 0;
}

static int read_sampling(rt_sampling *s, const cJSON *body, const rt_served *served, rt_refusal *r)
{
    int64_t top_k = served->defaults->top_k;
    *s = rt_sampling_of(served->defaults);
    if (read_number(body, "temperature", 0, 100, &s->temperature, r) ||
        read_number(body, "top_p", 0, 1, &s->top_p, r) ||
        read_number(body, "min_p", 0, 1, &s->min_p, r) ||
        read_integer(body, "top_k", -1, RT_VOCAB_MAX, &top_k, r))
        return -1;
    s->top_k = (int32_t)rt_max(top_k, 0); /* -1: all, as others spell it */
    return 0;
}

/* Seeds of the n choices of each prompt, which so depend on their number alone. */
static int read_seed(rt_ticket *t, const cJSON *body, int64_t n, rt_refusal *r)
{
    uint64_t seed = 0;
    const cJSON *given = rt_json_find(body, "seed");
    if (given && !cJSON_IsNull(given)) {
        int64_t v = 0;
        if (read_integer(body, "seed", -((int64_t)1 << 53), (int64_t)1 << 53, &v, r))
            return -1;
        seed = (uint64_t)v;
    } else if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        return rt_refuse(r, 500, NULL, NULL, "the system has no random numbers: give a \"seed\"");
    }
    for (int64_t i = 0; i < t->n; i++) {
        t->choice[i].prompt = &t->prompt[i / n];
        t->choice[i].seed = seed + (uint64_t)(i % n);
    }
    return 0;
}

/* A string or a list of them, else the server's own. */
static int read_stop(rt_ticket *t, const cJSON *body, const rt_served *s, rt_refusal *r)
{
    const cJSON *v = rt_json_find(body, "stop");
    bool given = v && !cJSON_IsNull(v);
    int n = !given ? s->defaults->stop.n : cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 1;
    if (n > RT_STOPS_MAX)
        return rt_refuse(r, 400, NULL, "stop", "\"stop\": %d texts, at most %d", n, RT_STOPS_MAX);
    t->stop.item = rt_alloc(n, sizeof *t->stop.item, "stop texts");
    for (int i = 0; i < n; i++) {
        const cJSON *one = cJSON_IsArray(v) ? cJSON_GetArrayItem(v, i) : v;
        const char *text = given ? cJSON_GetStringValue(one) : s->defaults->stop.item[i];
        if (!text)
            return rt_refuse(r, 400, NULL, "stop", "\"stop\": must be a string, or a list of them");
        t->stop.item[t->stop.n++] = rt_strdup(text);
    }
    if (rt_stops_open(&t->stops, s->chat->tokenizer, &t->stop, &r->err))
        return rt_refuse(r, 400, NULL, "stop", "\"stop\"%s",
                         strdupa(r->err.text + strlen("--stop")));
    return 0;
}

static int read_logprobs(rt_query *q, const cJSON *body, rt_refusal *r)
{
    q->top = 0;
    if (q->chat)
        return read_flag(body, "logprobs", &q->logprobs, r) ||
                       read_integer(body, "top_logprobs", 0, RT_TOP_LOGPROBS_MAX, &q->top, r) ||
                       (q->top && !q->logprobs &&
                        rt_refuse(r, 400, NULL, "top_logprobs",
                                  "\"top_logprobs\" needs \"logprobs\": true"))
                   ? -1
                   : 0;
    const cJSON *v = rt_json_find(body, "logprobs");
    q->logprobs = v && !cJSON_IsNull(v) && !cJSON_IsFalse(v);
    return q->logprobs ? read_integer(body, "logprobs", 0, RT_TOP_LOGPROBS_MAX, &q->top, r) : 0;
}

static int read_stream(rt_query *q, const cJSON *body, rt_refusal *r)
{
    const cJSON *options = rt_json_find(body, "stream_options");
    if (read_flag(body, "stream", &q->stream, r))
        return -1;
    if (!cJSON_IsObject(options))
        return 0;
    return read_flag(options, "include_usage", &q->usage, r);
}

/* ---- prompts ------------------------------------------------------------------------------------
 */

/* Content of a message: a string, or a list of parts that are all text. */
static int read_content(cJSON *message, const cJSON *content, rt_refusal *r)
{
    const char *text = cJSON_GetStringValue(content);
    rt_text all = { 0 };
    const cJSON *part;
    int bad = 0;
    if (text || !content || cJSON_IsNull(content)) {
        rt_json_put_str(message, "content", text ? text : "");
        return 0;
    }
    if (!cJSON_IsArray(content))
        return rt_refuse(r, 400, NULL, "messages", "\"content\" must be a string or a list");
    cJSON_ArrayForEach(part, content)
    {
        const char *type = cJSON_GetStringValue(rt_json_find(part, "type"));
        const char *one = cJSON_GetStringValue(rt_json_find(part, "text"));
        if (!bad && (!one || !type || strcmp(type, "text")))
            bad = rt_refuse(r, 400, "unsupported_value", "messages",
                            "a part of \"content\" is not {\"type\": \"text\", \"text\": ...}");
        if (!bad)
            bad = rt_text_puts(&all, one, &r->err) ? refuse_value(r, "messages") : 0;
    }
    rt_json_put_str(message, "content", all.data ? all.data : "");
    rt_text_free(&all);
    return bad;
}

static int read_message(cJSON *to, const cJSON *from, rt_refusal *r)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    const char *role = cJSON_GetStringValue(rt_json_find(from, "role"));
    const char *thought = cJSON_GetStringValue(rt_json_find(from, "reasoning_content"));
    int i = 0;
    if (role && !strcmp(role, "developer"))
        role = "system";
    while (role && i < RT_COUNT(roles) && strcmp(role, roles[i]))
        i++;
    if (!role || i == RT_COUNT(roles))
        return rt_refuse(r, 400, NULL, "messages",
                         "a message has no \"role\" of system, user, assistant, tool");
    cJSON *m = rt_json_object();
    rt_json_put(to, NULL, m);
    rt_json_put_str(m, "role", role);
    if (thought)
        rt_json_put_str(m, "reasoning_content", thought);
    return read_content(m, rt_json_find(from, "content"), r);
}

/* What the template may read: messages, and variables that the request sets. */
static int read_talk(cJSON *talk, const cJSON *body, rt_refusal *r)
{
    const cJSON *from = rt_json_find(body, "messages"), *m;
    const cJSON *set = rt_json_find(body, "chat_template_kwargs");
    if (!cJSON_IsArray(from) || !from->child)
        return rt_refuse(r, 400, NULL, "messages", "\"messages\" must be a list of messages");
    for (m = cJSON_IsObject(set) ? set->child : NULL; m; m = m->next)
        rt_json_put(talk, m->string, cJSON_Duplicate(m, true));
    cJSON *to = rt_json_array();
    cJSON_DeleteItemFromObjectCaseSensitive(talk, "messages");
    rt_json_put(talk, "messages", to);
    cJSON_ArrayForEach(m, from)
    {
        if (read_message(to, m, r))
            return -1;
    }
    return 0;
}

static int read_chat(rt_ids *ids, const rt_served *s, const cJSON *body, rt_refusal *r)
{
    cJSON *talk = rt_json_object();
    int bad = read_talk(talk, body, r);
    if (!bad && rt_chat_prompt(s->chat, talk, ids, &r->err))
        bad = refuse_value(r, "messages");
    cJSON_Delete(talk);
    return bad;
}

static int read_ids(rt_ids *ids, const rt_served *s, const cJSON *list, rt_refusal *r)
{
    for (const cJSON *v = list->child; v; v = v->next) {
        double id = cJSON_IsNumber(v) ? v->valuedouble : -1;
        if (!(id >= 0 && id < (double)s->vocab && id == (double)(int32_t)id))
            return rt_refuse(r, 400, NULL, "prompt", "\"prompt\": not a list of ids below %lld",
                             (long long)s->vocab);
        if (rt_ids_add(ids, (int32_t)id, &r->err))
            return refuse_value(r, "prompt");
    }
    return 0;
}

/* One prompt of /v1/completions: a text, which may spell special tokens, or ids. */
static int read_prompt(rt_ids *ids, const rt_served *s, const cJSON *v, rt_refusal *r)
{
    const char *text = cJSON_GetStringValue(v);
    if (cJSON_IsArray(v))
        return read_ids(ids, s, v, r);
    if (!text)
        return rt_refuse(r, 400, NULL, "prompt",
                         "\"prompt\" must be a string, a list of ids, or a list of such");
    return rt_tokenizer_encode(s->chat->tokenizer, text, (int64_t)strlen(text),
                               RT_TOKENIZE_BOS | RT_TOKENIZE_SPECIAL, ids, &r->err)
               ? refuse_value(r, "prompt")
               : 0;
}

static int check_prompt(const rt_ids *ids, const rt_served *s, const char *param, rt_refusal *r)
{
    if (ids->n < 1)
        return rt_refuse(r, 400, NULL, param, "the prompt has no tokens: give some text");
    if (ids->n >= s->length)
        return rt_refuse(r, 400, "context_length_exceeded", param,
                         "the prompt has %lld tokens, the context %lld: shorten it, or start the "
                         "server with a larger --context",
                         (long long)ids->n, (long long)s->length);
    return 0;
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

static int read_model(const rt_served *s, const cJSON *body, rt_refusal *r)
{
    const cJSON *v = rt_json_find(body, "model");
    const char *name = cJSON_GetStringValue(v);
    if (!v || cJSON_IsNull(v) || (name && !strcmp(name, s->name)))
        return 0;
    return rt_refuse(r, name ? 404 : 400, name ? "model_not_found" : NULL, "model",
                     "this server has one model: \"%s\"", s->name);
}

/* The values of `prompt`, one or many. */
static bool has_many(const cJSON *v)
{
    return cJSON_IsArray(v) && v->child && !cJSON_IsNumber(v->child);
}

static int read_prompts(rt_query *q, const rt_served *s, const cJSON *body, int64_t most,
                        rt_refusal *r)
{
    const char *param = q->chat ? "messages" : "prompt";
    const cJSON *v = rt_json_find(body, param), *one = has_many(v) ? v->child : v;
    rt_ticket *t = q->ticket;
    for (int64_t i = 0; i < t->n_prompts; i++, one = one ? one->next : NULL)
        if ((q->chat ? read_chat(&t->prompt[i], s, body, r)
                     : read_prompt(&t->prompt[i], s, one, r)) ||
            check_prompt(&t->prompt[i], s, param, r))
            return -1;
    for (int64_t i = 0; i < t->n; i++)
        t->choice[i].max_new = rt_min(most, s->length - t->choice[i].prompt->n);
    return 0;
}

static int read_body(rt_query *q, const rt_served *s, const cJSON *body, rt_refusal *r)
{
    const cJSON *prompt = rt_json_find(body, "prompt");
    int64_t n = 1, prompts = !q->chat && has_many(prompt) ? cJSON_GetArraySize(prompt) : 1;
    int64_t most = s->defaults->max_tokens;
    if (!cJSON_IsObject(body))
        return rt_refuse(r, 400, NULL, NULL, "the body is not a JSON object");
    if (check_keys(body, q->chat, r) || read_model(s, body, r) || read_stream(q, body, r) ||
        read_logprobs(q, body, r) || read_integer(body, "n", 1, s->most, &n, r) ||
        read_integer(body, "max_tokens", 1, INT32_MAX, &most, r) ||
        read_integer(body, "max_completion_tokens", 1, INT32_MAX, &most, r))
        return -1;
    if (prompts > s->most / n)
        return rt_refuse(r, 400, NULL, "n", "%lld answers at once, this server has room for %lld",
                         (long long)(prompts * n), (long long)s->most);
    q->ticket = rt_ticket_open(prompts, prompts * n);
    q->ticket->captured = q->logprobs;
    return read_sampling(&q->ticket->sampling, body, s, r) || read_seed(q->ticket, body, n, r) ||
                   read_stop(q->ticket, body, s, r) || read_prompts(q, s, body, most, r)
               ? -1
               : 0;
}

int rt_query_read(rt_query *q, const rt_served *s, bool chat, const char *body, int64_t bytes,
                  rt_refusal *r)
{
    cJSON *json = NULL;
    *q = (rt_query){ .chat = chat };
    *r = (rt_refusal){ 0 };
    int64_t good = rt_utf8_check(body, bytes);
    if (good < bytes)
        return rt_refuse(r, 400, NULL, NULL, "the body is not UTF-8 at byte %lld", (long long)good);
    if (rt_json_parse(&json, body, bytes, "body", &r->err))
        return refuse_value(r, NULL);
    int bad = read_body(q, s, json, r);
    cJSON_Delete(json);
    return bad;
}
