#include "corpora/reply.h"

#include <string.h>

enum { WINDOW = 8 }; /* tokens decoded before a new one, so that joins come out as in one piece */

static const char SPACE[] = " \t\r\n";

void rt_reply_begin(rt_reply *r, const rt_chat *c, const rt_stops *stops, const int32_t *prompt,
                    int64_t n_prompt, bool whole)
{
    r->chat = c;
    r->stops = stops;
    r->whole = whole;
    r->part = !whole && rt_chat_opened(c, prompt, n_prompt) ? RT_REPLY_REASONING : RT_REPLY_ANSWER;
    r->header = !whole && c->reasoning.kind == RT_REASONING_HARMONY;
    r->stopped = r->ended = false;
    rt_ids_clear(&r->ids);
    for (int i = 0; i < RT_REPLY_PARTS; i++) {
        rt_text_clear(&r->text[i]);
        r->taken[i] = 0;
    }
}

void rt_reply_free(rt_reply *r)
{
    rt_ids_free(&r->ids);
    rt_text_free(&r->before);
    rt_text_free(&r->after);
    for (int i = 0; i < RT_REPLY_PARTS; i++)
        rt_text_free(&r->text[i]);
}

/* ---- marks --------------------------------------------------------------------------------------
 */

static bool ends_with(const rt_ids *ids, const rt_marker *m)
{
    return m->n > 0 && ids->n >= m->n &&
           !memcmp(ids->id + ids->n - m->n, m->id, (size_t)m->n * sizeof *ids->id);
}

static bool is_stop(const rt_reasoning *m, int32_t id)
{
    for (int32_t i = 0; i < m->n_stops; i++)
        if (m->stop[i] == id)
            return true;
    return false;
}

/* Headers of harmony name their channel: what the final one says is the answer. */
static bool read_harmony(rt_reply *r, const rt_reasoning *m, int32_t token)
{
    if (token == m->channel) {
        r->header = true;
        r->part = RT_REPLY_REASONING;
    } else if (r->header && ends_with(&r->ids, &m->final)) {
        r->part = RT_REPLY_ANSWER;
    } else if (token == m->message) {
        r->header = false;
        return true;
    } else if (token == m->end || token == m->start) {
        r->header = true;
    }
    return r->header;
}

/* Whether the last token only says where the next ones belong. */
static bool is_mark(rt_reply *r, int32_t token)
{
    const rt_reasoning *m = &r->chat->reasoning;
    if (r->whole)
        return false;
    if (is_stop(m, token))
        return true;
    if (m->kind == RT_REASONING_HARMONY)
        return read_harmony(r, m, token);
    if (m->kind == RT_REASONING_NONE)
        return false;
    if (ends_with(&r->ids, &m->close)) {
        r->part = RT_REPLY_ANSWER;
        return true;
    }
    if (ends_with(&r->ids, &m->open) && r->text[RT_REPLY_ANSWER].bytes == 0) {
        r->part = RT_REPLY_REASONING;
        return true;
    }
    return false;
}

/* ---- text ---------------------------------------------------------------------------------------
 */

/* The bytes that the last token adds: what its neighbourhood decodes to with it, less without. */
static int decode_last(rt_reply *r, rt_str *more, rt_err *err)
{
    const rt_tokenizer *t = r->chat->tokenizer;
    int64_t from = rt_max(0, r->ids.n - 1 - WINDOW), n = r->ids.n - from;
    rt_text_clear(&r->before);
    rt_text_clear(&r->after);
    if (rt_tokenizer_decode(t, r->ids.id + from, n - 1, RT_DETOKENIZE_SKIP_SPECIAL, &r->before,
                            err) ||
        rt_tokenizer_decode(t, r->ids.id + from, n, RT_DETOKENIZE_SKIP_SPECIAL, &r->after, err))
        return -1;
    int64_t old = r->before.bytes;
    *more = (rt_str){ r->after.data ? r->after.data + old : "", rt_max(0, r->after.bytes - old) };
    return 0;
}

static void skip_space(rt_str *s)
{
    while (s->bytes > 0 && *s->data && strchr(SPACE, *s->data)) {
        s->data++;
        s->bytes--;
    }
}

int rt_reply_add(rt_reply *r, int32_t token, rt_err *err)
{
    rt_str more;
    if (rt_ids_add(&r->ids, token, err))
        return -1;
    if (r->stopped || is_mark(r, token))
        return 0;
    rt_text *t = &r->text[r->part];
    if (decode_last(r, &more, err))
        return -1;
    if (!r->whole && t->bytes == 0)
        skip_space(&more);
    if (more.bytes == 0)
        return 0;
    int64_t from = r->taken[r->part]; /* a stop text that began before was held back */
    if (rt_text_add(t, more.data, more.bytes, err))
        return -1;
    int64_t at = r->stops ? rt_stops_find(r->stops, t->data + from, t->bytes - from) : -1;
    if (at >= 0) {
        t->data[t->bytes = from + at] = 0;
        r->stopped = true;
    }
    return 0;
}

void rt_reply_end(rt_reply *r) { r->ended = true; }

/* Bytes at the end that begin a character and do not end it. */
static int64_t open_character(const char *s, int64_t n)
{
    for (int64_t k = 1; k <= 3 && k <= n; k++) {
        unsigned char c = (unsigned char)s[n - k];
        int64_t whole = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
        if (c < 0x80 || whole > 1)
            return whole > k ? k : 0;
    }
    return 0;
}

rt_str rt_reply_take(rt_reply *r, rt_reply_part part)
{
    const rt_text *t = &r->text[part];
    int64_t from = r->taken[part], end = t->bytes;
    bool more = !r->ended && !r->stopped && part == r->part;
    if (end == from)
        return (rt_str){ "", 0 };
    if (more && r->stops)
        end -= rt_stops_pending(r->stops, t->data + from, end - from);
    if (more)
        end -= open_character(t->data + from, end - from);
    while (!r->whole && end > from && t->data[end - 1] && strchr(SPACE, t->data[end - 1]))
        end--;
    r->taken[part] = end;
    return (rt_str){ t->data + from, end - from };
}
