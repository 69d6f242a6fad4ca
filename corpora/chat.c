#include "corpora/chat.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/formats/gguf.h"
#include "corpora/turns.h"

/* ---- opening ------------------------------------------------------------------------------------
 */

static bool read_marker(const rt_tokenizer *t, const char *text, rt_marker *m)
{
    int32_t id = rt_tokenizer_id(t, text);
    m->n = id >= 0;
    m->id[0] = id;
    return id >= 0;
}

/* Which markers this vocabulary has decides the family; a model without any has no thoughts. */
static void find_markers(rt_chat *c)
{
    const rt_tokenizer *t = c->tokenizer;
    rt_reasoning *r = &c->reasoning;
    static const char *const stops[] = { "<|return|>",
                                         "<|call|>",
                                         "<|im_end|>",
                                         "<|eot_id|>",
                                         "<end_of_turn>",
                                         "<|eom_id|>",
                                         "<\xef\xbd\x9c"
                                         "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>" };
    memset(r, 0, sizeof *r);
    if (rt_tokenizer_eos(t) >= 0)
        r->stop[r->n_stops++] = rt_tokenizer_eos(t);
    for (int i = 0; i < RT_COUNT(stops); i++) {
        int32_t id = rt_tokenizer_id(t, stops[i]);
        if (id >= 0 && id != rt_tokenizer_eos(t) && r->n_stops < RT_REASONING_STOPS_MAX)
            r->stop[r->n_stops++] = id;
    }
    r->start = rt_tokenizer_id(t, "<|start|>");
    r->channel = rt_tokenizer_id(t, "<|channel|>");
    r->message = rt_tokenizer_id(t, "<|message|>");
    r->end = rt_tokenizer_id(t, "<|end|>");
    if (r->start >= 0 && r->channel >= 0 && r->message >= 0 && r->end >= 0 &&
        read_marker(t, "analysis", &r->analysis) && read_marker(t, "final", &r->final)) {
        read_marker(t, "commentary", &r->commentary);
        r->kind = RT_REASONING_HARMONY;
    } else if (read_marker(t, "</think>", &r->close)) {
        read_marker(t, "<think>", &r->open);
        r->kind = RT_REASONING_THINK;
    }
}

/* A GGUF keeps ids; templates want the tokens' text. */
static cJSON *gguf_context(const rt_tokenizer *t)
{
    const struct {
        const char *name;
        int32_t id;
    } names[] = { { "bos_token", rt_tokenizer_bos(t) },
                  { "eos_token", rt_tokenizer_eos(t) },
                  { "pad_token", rt_tokenizer_pad(t) },
                  { "unk_token", rt_tokenizer_unk(t) } };
    cJSON *json = rt_template_bare_context();
    for (int i = 0; i < RT_COUNT(names); i++)
        if (names[i].id >= 0)
            rt_json_put_str(json, names[i].name, rt_tokenizer_token(t, names[i].id).data);
    return json;
}

int rt_chat_open(rt_chat *c, const char *path, rt_err *err)
{
    return rt_chat_open_any(c, path, NULL, err);
}

int rt_chat_open_any(rt_chat *c, const char *path, rt_err *unread, rt_err *err)
{
    memset(c, 0, sizeof *c);
    bool gguf = rt_gguf_is(path);
    int bad = rt_tokenizer_open(&c->tokenizer, path, err);
    if (!bad && gguf)
        c->context = gguf_context(c->tokenizer);
    else if (!bad)
        bad = rt_template_context(&c->context, path, err);
    const char *source = bad ? NULL : rt_tokenizer_chat_template(c->tokenizer);
    if (source) {
        bad = rt_template_parse(&c->chat, source, (int64_t)strlen(source), err);
        if (bad)
            rt_wrap(err, "%s: chat template", path);
        else
            c->template_hash = rt_template_hash(c->chat);
        if (bad && unread) {
            *unread = *err;
            c->chat = NULL;
            bad = 0;
        }
    }
    if (bad) {
        rt_chat_close(c);
        return -1;
    }
    find_markers(c);
    return 0;
}

static int set_variable(cJSON *context, const char *word, rt_err *err)
{
    const char *equals = strchr(word, '=');
    cJSON *value;
    if (!equals || equals == word)
        return rt_usage(err, "--set %s: write NAME=JSON", word);
    if (rt_json_parse(&value, equals + 1, (int64_t)strlen(equals + 1), "value", err)) {
        rt_wrap(err, "--set %s", word);
        return rt_usage(err, "%s; a string needs its quotes: --set 'NAME=\"text\"'",
                        strdupa(err->text));
    }
    char *name = rt_strndup(word, equals - word);
    cJSON_DeleteItemFromObjectCaseSensitive(context, name);
    rt_json_put(context, name, value);
    free(name);
    return 0;
}

int rt_chat_set(rt_chat *c, const rt_strlist *set, rt_err *err)
{
    rt_text all = { 0 };
    if (set->n && !c->chat)
        return rt_usage(err, "--set %s: this model has no chat template", set->item[0]);
    int bad = rt_text_puts(&all, c->template_hash.hex, err);
    for (int i = 0; i < set->n && !bad; i++)
        bad = set_variable(c->context, set->item[i], err) || rt_text_puts(&all, "\n", err) ||
              rt_text_puts(&all, set->item[i], err);
    if (set->n && !bad)
        c->template_hash = rt_hash_bytes(all.data, all.bytes);
    rt_text_free(&all);
    return bad ? -1 : 0;
}

void rt_chat_close(rt_chat *c)
{
    rt_tokenizer_close(c->tokenizer);
    rt_template_free(c->chat);
    cJSON_Delete(c->context);
    memset(c, 0, sizeof *c);
}

/* ---- ids ----------------------------------------------------------------------------------------
 */

static int guard_text(const rt_chat *c, char **text, bool *guarded, rt_err *err)
{
    const rt_reasoning *r = &c->reasoning;
    const int32_t keep[] = { r->open.id[0], r->close.id[0] };
    rt_text out = { 0 };
    int found = rt_tokenizer_guard(c->tokenizer, *text, keep,
                                   r->kind == RT_REASONING_THINK ? RT_COUNT(keep) : 0, &out, err);
    if (found == 1) {
        free(*text); /* as cJSON would */
        *text = out.data;
        *guarded = true;
        return 0;
    }
    rt_text_free(&out);
    return found;
}

static int guard_strings(const rt_chat *c, cJSON *json, bool *guarded, rt_err *err)
{
    for (cJSON *m = json->child; m; m = m->next)
        if (guard_strings(c, m, guarded, err) ||
            (m->string && !(m->type & cJSON_StringIsConst) &&
             guard_text(c, &m->string, guarded, err)) ||
            (cJSON_IsString(m) && guard_text(c, &m->valuestring, guarded, err)))
            return -1;
    return 0;
}

static int render(const rt_chat *c, const cJSON *talk, bool generation_prompt, rt_text *out,
                  rt_err *err)
{
    char *text = NULL;
    int64_t bytes = 0;
    cJSON *context = cJSON_Duplicate(c->context, true);
    for (const cJSON *v = talk->child; v; v = v->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(context, v->string);
        cJSON_AddItemReferenceToObject(context, v->string, (cJSON *)(uintptr_t)v);
    }
    rt_json_put_bool(context, "add_generation_prompt", generation_prompt);
    int bad = rt_template_render(c->chat, context, &text, &bytes, err) ||
              rt_text_add(out, text, bytes, err);
    free(text);
    cJSON_Delete(context);
    return bad ? -1 : 0;
}

/* Messages are words of strangers: a special token that one of them spells stays text, but for the
   markers of thoughts, which templates look for. *copy: talk with guards in such tokens, to be
   encoded with *flags. */
static int guard(const rt_chat *c, const cJSON *talk, cJSON **copy, unsigned *flags, rt_err *err)
{
    bool guarded = false;
    rt_text text = { 0 };
    *copy = cJSON_Duplicate(talk, true);
    *flags = RT_TOKENIZE_SPECIAL;
    rt_template_alias_reasoning(cJSON_GetObjectItemCaseSensitive(*copy, "messages"));
    int bad = guard_strings(c, *copy, &guarded, err);
    if (guarded && !bad) {
        *flags |= RT_TOKENIZE_GUARDED; /* first without: the template may refuse such words */
        bad = render(c, talk, false, &text, err);
    }
    rt_text_free(&text);
    return bad;
}

/* A base model has no template: the contents one after the other. */
static int plain_message(const rt_chat *c, const cJSON *m, bool first, rt_ids *ids, rt_err *err)
{
    const char *content = cJSON_GetStringValue(rt_json_find(m, "content"));
    return content ? rt_tokenizer_encode(c->tokenizer, content, (int64_t)strlen(content),
                                         first ? RT_TOKENIZE_BOS : 0, ids, err)
                   : 0;
}

static int plain_prompt(const rt_chat *c, const cJSON *talk, rt_ids *ids, rt_err *err)
{
    const int64_t origin = ids->n;
    const cJSON *m;
    cJSON_ArrayForEach(m, rt_json_find(talk, "messages"))
    {
        if (plain_message(c, m, ids->n == origin, ids, err))
            return -1;
    }
    return 0;
}

int rt_chat_prompt(const rt_chat *c, const cJSON *talk, rt_ids *ids, rt_err *err)
{
    rt_text text = { 0 };
    cJSON *copy;
    unsigned flags;
    if (!c->chat)
        return plain_prompt(c, talk, ids, err);
    int bad = guard(c, talk, &copy, &flags, err) || render(c, copy, true, &text, err) ||
              rt_tokenizer_encode(c->tokenizer, text.data, text.bytes, flags, ids, err);
    rt_text_free(&text);
    cJSON_Delete(copy);
    return bad ? -1 : 0;
}

bool rt_chat_opened(const rt_chat *c, const int32_t *ids, int64_t n)
{
    const rt_reasoning *r = &c->reasoning;
    if (r->kind != RT_REASONING_THINK || r->open.n != 1)
        return false;
    for (int64_t i = n - 1; i >= 0 && i >= n - 4; i--) { /* the opener, then white space at most */
        if (ids[i] == r->open.id[0])
            return true;
        if (ids[i] == r->close.id[0])
            return false;
    }
    return false;
}

/* What the assistant would have generated, as the template writes it: the conversation's text after
   the prompt's. Some templates drop thoughts of finished turns; then the usual form is composed. */
static int response_text(const rt_chat *c, const cJSON *talk, const rt_text *prompt, bool opened,
                         const char *thought, const char *content, rt_text *out, rt_err *err)
{
    rt_text whole = { 0 };
    if (c->chat && render(c, talk, false, &whole, err)) {
        rt_text_free(&whole);
        return -1;
    }
    int bad;
    if (whole.bytes > prompt->bytes &&
        memcmp(whole.data, prompt->data, (size_t)prompt->bytes) == 0 &&
        (!thought || strstr(whole.data + prompt->bytes, thought)))
        bad = rt_text_add(out, whole.data + prompt->bytes, whole.bytes - prompt->bytes, err);
    else if (thought)
        bad = rt_text_printf(out, err, "%s%s\n</think>\n\n%s", opened ? "" : "<think>\n", thought,
                             content);
    else /* a prompt that opens the thought has said the marker already */
        bad = rt_text_puts(out, content + (opened && strncmp(content, "<think>", 7) == 0 ? 7 : 0),
                           err);
    rt_text_free(&whole);
    int32_t eos = rt_tokenizer_eos(c->tokenizer);
    rt_str end = eos >= 0 ? rt_tokenizer_token(c->tokenizer, eos) : (rt_str){ NULL, 0 };
    for (int64_t i = out->bytes - end.bytes;
         !bad && end.bytes && i >= 0 && i >= out->bytes - end.bytes - 2; i--)
        if (memcmp(out->data + i, end.data, (size_t)end.bytes) == 0) {
            out->data[out->bytes = i] = 0; /* the end token goes in as an id, not as text */
            break;
        }
    return bad;
}

static const char *last_string(const cJSON *talk, const char *key)
{
    const cJSON *messages = rt_json_find(talk, "messages");
    int n = cJSON_GetArraySize(messages);
    return n ? cJSON_GetStringValue(rt_json_find(cJSON_GetArrayItem(messages, n - 1), key)) : NULL;
}

/* ---- conversations to learn from ----------------------------------------------------------------
 */

typedef struct encoding {
    const rt_chat *c;
    const rt_text *text;
    unsigned flags;
    rt_ids *ids;
    int64_t from, first; /* ids from `first` on are the text from byte `from` on */
} encoding;

/* *index: how many ids stand before byte `at`. Where no token begins there the rest is encoded
   anew: nobody generates a token that began in the prompt. */
static int split_at(encoding *e, int64_t at, int64_t *index, rt_err *err)
{
    const rt_tokenizer *t = e->c->tokenizer;
    const char *text = e->text->data;
    rt_ids before = { 0 }, *ids = e->ids;
    int bad = rt_tokenizer_encode(t, text + e->from, at - e->from, e->flags, &before, err);
    bool clean = !bad && before.n <= ids->n - e->first &&
                 (before.n == 0 ||
                  memcmp(ids->id + e->first, before.id, (size_t)before.n * sizeof *before.id) == 0);
    *index = e->first + before.n;
    if (!bad && !clean) {
        ids->n = e->first;
        for (int64_t i = 0; !bad && i < before.n; i++)
            bad = rt_ids_add(ids, before.id[i], err);
        bad = bad || rt_tokenizer_encode(t, text + at, e->text->bytes - at, e->flags, ids, err);
        e->from = at;
        e->first = *index;
    }
    rt_ids_free(&before);
    return bad;
}

static int render_talk(const void *ctx, const cJSON *talk, bool generation_prompt, rt_text *out,
                       rt_err *err)
{
    return render(ctx, talk, generation_prompt, out, err);
}

static int add_span(rt_ids *spans, rt_ids *message, int64_t begin, int64_t end, int32_t i,
                    rt_err *err)
{
    return rt_ids_add(spans, (int32_t)begin, err) || rt_ids_add(spans, (int32_t)end, err) ||
                   (message && rt_ids_add(message, i, err))
               ? -1
               : 0;
}

/* The ids of a rendered prompt, and its finished turns as spans of them when `all`. */
static int encode_prompt(const rt_chat *c, cJSON *before, const rt_text *prompt, unsigned flags,
                         bool all, rt_ids *ids, rt_ids *spans, rt_ids *message, rt_err *err)
{
    const rt_turns turns = { c->tokenizer, &c->reasoning, render_talk, c };
    encoding e = { c, prompt, flags, ids, 0, ids->n };
    const int64_t origin = ids->n;
    rt_ids bounds = { 0 };
    int bad = rt_tokenizer_encode(c->tokenizer, prompt->data, prompt->bytes, flags, ids, err) ||
              (all && rt_turns_find(&turns, before, prompt, &bounds, err));
    for (int64_t i = 0; !bad && i < bounds.n; i += 3) {
        int64_t begin, end = 0;
        bad = split_at(&e, bounds.id[i], &begin, err) || split_at(&e, bounds.id[i + 1], &end, err);
        if (!bad && begin < end)
            bad = add_span(spans, message, begin - origin, end - origin, bounds.id[i + 2], err);
    }
    rt_ids_free(&bounds);
    return bad ? -1 : 0;
}

/* A base model's: what the assistant says is the content alone. */
static int plain_spans(const rt_chat *c, const cJSON *before, bool all, rt_ids *ids, rt_ids *spans,
                       rt_ids *message, rt_err *err)
{
    const int64_t origin = ids->n;
    const cJSON *m;
    int32_t i = 0;
    int bad = 0;
    cJSON_ArrayForEach(m, rt_json_find(before, "messages"))
    {
        const char *role = cJSON_GetStringValue(rt_json_find(m, "role"));
        int64_t begin = ids->n - origin;
        bad = bad || plain_message(c, m, begin == 0, ids, err);
        int64_t end = ids->n - origin;
        if (!bad && all && role && strcmp(role, "assistant") == 0 && end > begin)
            bad = add_span(spans, message, begin, end, i, err);
        i++;
    }
    return bad;
}

static int conversation(const rt_chat *c, const cJSON *talk, unsigned flags, bool all, rt_ids *ids,
                        rt_ids *spans, rt_ids *message, rt_err *err)
{
    const int64_t origin = ids->n;
    rt_text prompt = { 0 }, response = { 0 };
    cJSON *before = cJSON_Duplicate(talk, true);
    cJSON *messages = cJSON_GetObjectItemCaseSensitive(before, "messages");
    int32_t last = cJSON_GetArraySize(messages) - 1;
    cJSON_DeleteItemFromArray(messages, last);
    int bad = c->chat ? render(c, before, true, &prompt, err) ||
                            encode_prompt(c, before, &prompt, flags, all, ids, spans, message, err)
                      : plain_spans(c, before, all, ids, spans, message, err);
    cJSON_Delete(before);
    int64_t begin = ids->n;
    bool opened = !bad && rt_chat_opened(c, ids->id, ids->n);
    bad = bad ||
          response_text(c, talk, &prompt, opened, last_string(talk, "reasoning_content"),
                        last_string(talk, "content"), &response, err) ||
          rt_tokenizer_encode(c->tokenizer, response.data, response.bytes, flags, ids, err);
    if (!bad && rt_tokenizer_eos(c->tokenizer) >= 0)
        bad = rt_ids_add(ids, rt_tokenizer_eos(c->tokenizer), err);
    rt_text_free(&prompt);
    rt_text_free(&response);
    return bad || add_span(spans, message, begin - origin, ids->n - origin, last, err) ? -1 : 0;
}

int rt_chat_turns(const rt_chat *c, const cJSON *talk, bool all, rt_ids *ids, rt_ids *spans,
                  rt_ids *message, rt_err *err)
{
    const char *role = last_string(talk, "role");
    if (!role || strcmp(role, "assistant") != 0 || !last_string(talk, "content"))
        return rt_fail(err, "the last message is not the assistant's: there is nothing to learn");
    cJSON *copy;
    unsigned flags;
    if (!c->chat)
        return conversation(c, talk, 0, all, ids, spans, message, err);
    int bad = guard(c, talk, &copy, &flags, err) ||
              conversation(c, copy, flags, all, ids, spans, message, err);
    cJSON_Delete(copy);
    return bad ? -1 : 0;
}

int rt_chat_text(const rt_chat *c, const char *text, int64_t bytes, rt_ids *ids, rt_err *err)
{
    int32_t eos = rt_tokenizer_eos(c->tokenizer);
    if (rt_tokenizer_encode(c->tokenizer, text, bytes, RT_TOKENIZE_BOS, ids, err))
        return -1;
    if (eos >= 0 && (ids->n == 0 || ids->id[ids->n - 1] != eos))
        return rt_ids_add(ids, eos, err);
    return 0;
}

/* ---- responses ----------------------------------------------------------------------------------
 */

static void trim(rt_text *t)
{
    static const char space[] = " \t\r\n";
    int64_t from = 0;
    while (t->bytes > 0 && strchr(space, t->data[t->bytes - 1]))
        t->data[--t->bytes] = 0;
    while (from < t->bytes && strchr(space, t->data[from]))
        from++;
    if (from) {
        memmove(t->data, t->data + from, (size_t)(t->bytes - from) + 1);
        t->bytes -= from;
    }
}

/* Ends at a stop text, then without white space at both ends. */
static void cut(rt_text *t, const rt_stops *stops)
{
    int64_t at = stops ? rt_stops_find(stops, t->data, t->bytes) : -1;
    if (at >= 0)
        t->data[t->bytes = at] = 0;
    trim(t);
}

int64_t rt_chat_answer(const rt_chat *c, const int32_t *ids, int64_t begin, int64_t end)
{
    rt_reasoning_split s = rt_reasoning_find(&c->reasoning, ids + begin, end - begin,
                                             rt_chat_opened(c, ids, begin));
    return s.unfinished ? end : begin + s.answer.begin;
}

int rt_chat_split(const rt_chat *c, const int32_t *ids, int64_t n_prompt, int64_t n,
                  const rt_stops *stops, rt_response *r, rt_err *err)
{
    const int32_t *response = ids + n_prompt;
    rt_text_clear(&r->reasoning);
    rt_text_clear(&r->answer);
    rt_reasoning_split split = rt_reasoning_find(&c->reasoning, response, n - n_prompt,
                                                 rt_chat_opened(c, ids, n_prompt));
    r->unfinished = split.unfinished;
    const rt_tokenizer *t = c->tokenizer;
    if (rt_text_reserve(&r->reasoning, 1, err) || rt_text_reserve(&r->answer, 1, err) ||
        rt_tokenizer_decode(t, response + split.reasoning.begin,
                            split.reasoning.end - split.reasoning.begin, RT_DETOKENIZE_SKIP_SPECIAL,
                            &r->reasoning, err) ||
        rt_tokenizer_decode(t, response + split.answer.begin, split.answer.end - split.answer.begin,
                            RT_DETOKENIZE_SKIP_SPECIAL, &r->answer, err))
        return -1;
    cut(&r->reasoning, stops);
    cut(&r->answer, stops);
    return 0;
}

void rt_response_free(rt_response *r)
{
    rt_text_free(&r->reasoning);
    rt_text_free(&r->answer);
}

int rt_chat_save(const rt_chat *c, const char *from, const char *to, rt_err *err)
{
    if (rt_gguf_is(from))
        return rt_tokenizer_save(c->tokenizer, to, err);
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json",
                                         "chat_template.jinja", "special_tokens_map.json" };
    for (int i = 0; i < RT_COUNT(names); i++) {
        char *a = rt_path_join(from, names[i]), *b = rt_path_join(to, names[i]), *data = NULL;
        int64_t bytes = 0;
        int bad = 0;
        if (rt_path_exists(a))
            bad = rt_file_read(&data, &bytes, a, RT_JSON_MAX_BYTES, err) ||
                  rt_file_write(b, data, bytes, err);
        free(data);
        free(a);
        free(b);
        if (bad)
            return -1;
    }
    return 0;
}

void rt_chat_config(const rt_chat *c, rt_config *cfg)
{
    cfg->bos = rt_tokenizer_bos(c->tokenizer);
    cfg->pad = rt_tokenizer_pad(c->tokenizer);
    cfg->eos[0] = rt_tokenizer_eos(c->tokenizer);
    cfg->n_eos = cfg->eos[0] >= 0;
}
