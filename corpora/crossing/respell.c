#include "corpora/crossing/respell.h"

#include <string.h>

#include "corpora/record.h"

/* ---- stretches ----------------------------------------------------------------------------------
 */

static int64_t piece_bytes(const rt_pieces *p, const int32_t *ids, int64_t n)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < n; i++)
        bytes += rt_pieces_bytes(p, ids[i]).bytes;
    return bytes;
}

void rt_stretch_ends(const rt_pieces *p, const int32_t *ids, int64_t n, int64_t skip, int64_t *end)
{
    int64_t at = -skip;
    for (int64_t i = 0; i < n; i++) {
        at += rt_pieces_bytes(p, ids[i]).bytes;
        end[i] = rt_max(at, 0);
    }
}

/* A place in the bytes of a list of tokens. */
typedef struct cursor {
    const rt_pieces *p;
    const int32_t *id, *end;
    rt_str left; /* of the token before id */
} cursor;

static void refill(cursor *c)
{
    while (c->left.bytes == 0 && c->id < c->end)
        c->left = rt_pieces_bytes(c->p, *c->id++);
}

static void pass(cursor *c, int64_t n)
{
    c->left.data += n;
    c->left.bytes -= n;
    refill(c);
}

bool rt_stretch_same(const rt_vocab_map *m, const int32_t *t, int64_t n_t, const int32_t *s,
                     int64_t n_s, int64_t *t_skip, int64_t *s_skip)
{
    int64_t extra = piece_bytes(&m->to, s, n_s) - piece_bytes(&m->from, t, n_t);
    cursor a = { &m->from, t, t + n_t, { 0 } }, b = { &m->to, s, s + n_s, { 0 } };
    *t_skip = extra == -1, *s_skip = extra == 1;
    refill(&a);
    refill(&b);
    if (extra < -1 || extra > 1 || (extra == -1 && *a.left.data != ' ') ||
        (extra == 1 && *b.left.data != ' '))
        return false;
    if (*t_skip)
        pass(&a, 1);
    if (*s_skip)
        pass(&b, 1);
    while (a.left.bytes && b.left.bytes) {
        int64_t n = rt_min(a.left.bytes, b.left.bytes);
        if (memcmp(a.left.data, b.left.data, (size_t)n) != 0)
            return false;
        pass(&a, n);
        pass(&b, n);
    }
    return a.left.bytes == 0 && b.left.bytes == 0;
}

/* ---- the response -------------------------------------------------------------------------------
 */

typedef struct respelling {
    const rt_vocab_map *m;
    const rt_chat *teacher, *student;
    const rt_trace_sample *s;
    rt_ids *ids, *stretches;
    int64_t origin; /* the document's first of ids */
    rt_text text;   /* of the teacher's tokens [from, ...), not encoded yet */
    int32_t from;
} respelling;

static int add_stretch(respelling *r, int64_t t_begin, int64_t t_end, int64_t s_begin, rt_err *err)
{
    const int32_t v[] = { (int32_t)t_begin, (int32_t)t_end, (int32_t)(s_begin - r->origin),
                          (int32_t)(r->ids->n - r->origin) };
    for (int i = 0; i < RT_STRETCH_IDS; i++)
        if (rt_ids_add(r->stretches, v[i], err))
            return -1;
    return 0;
}

/* The text that waits, which ends before the teacher's token `to`, as the student's tokens. */
static int flush(respelling *r, int32_t to, rt_err *err)
{
    int64_t s_begin = r->ids->n, t_skip, s_skip;
    int bad = 0;
    if (r->text.bytes)
        bad = rt_tokenizer_encode(r->student->tokenizer, r->text.data, r->text.bytes, 0, r->ids,
                                  err);
    if (!bad && r->ids->n > s_begin &&
        rt_stretch_same(r->m, r->s->tokens + r->from, to - r->from, r->ids->id + s_begin,
                        r->ids->n - s_begin, &t_skip, &s_skip))
        bad = add_stretch(r, r->from, to, s_begin, err);
    rt_text_clear(&r->text);
    r->from = to;
    return bad;
}

static int literal(respelling *r, const char *text, rt_err *err)
{
    return rt_tokenizer_encode(r->student->tokenizer, text, (int64_t)strlen(text), 0, r->ids, err);
}

/* The teacher's tokens [begin, end), special ones by what they are to the student. */
static int add_tokens(respelling *r, int32_t begin, int32_t end, rt_err *err)
{
    r->from = begin;
    for (int32_t i = begin; i < end; i++) {
        int32_t id = r->s->tokens[i];
        bool special = rt_pieces_special(&r->m->from, id);
        if (special && r->m->same[id] >= 0) {
            if (flush(r, i, err) || rt_ids_add(r->ids, r->m->same[id], err) ||
                add_stretch(r, i, i + 1, r->ids->n - 1, err))
                return -1;
            r->from = i + 1;
        } else {
            rt_str s = rt_pieces_bytes(&r->m->from, id);
            if (rt_text_add(&r->text, s.data, s.bytes, err))
                return -1;
        }
    }
    return flush(r, end, err);
}

/* The channels of harmony as a thought and an answer. */
static int add_channels(respelling *r, int32_t begin, int32_t end, bool opened, rt_err *err)
{
    rt_reasoning_split split = rt_reasoning_find(&r->teacher->reasoning, r->s->tokens + begin,
                                                 end - begin, false);
    const rt_reasoning_span thought = split.reasoning, answer = split.answer;
    if (thought.end > thought.begin &&
        ((!opened && literal(r, "<think>\n", err)) ||
         add_tokens(r, begin + (int32_t)thought.begin, begin + (int32_t)thought.end, err) ||
         literal(r, "\n</think>\n\n", err)))
        return -1;
    return add_tokens(r, begin + (int32_t)answer.begin, begin + (int32_t)answer.end, err) ||
                   (split.stopped && add_tokens(r, end - 1, end, err))
               ? -1
               : 0;
}

static int add_response(respelling *r, int32_t begin, int32_t end, rt_err *err)
{
    const rt_reasoning *ours = &r->student->reasoning, *theirs = &r->teacher->reasoning;
    bool opened = rt_chat_opened(r->student, r->ids->id + r->origin, r->ids->n - r->origin);
    bool was_opened = rt_chat_opened(r->teacher, r->s->tokens, begin);
    if (ours->kind == RT_REASONING_HARMONY && theirs->kind != RT_REASONING_HARMONY)
        return rt_fail(err, "the student speaks in channels (harmony) and the teacher does not: "
                            "its responses cannot be written that way");
    if (theirs->kind == RT_REASONING_HARMONY && ours->kind != RT_REASONING_HARMONY)
        return add_channels(r, begin, end, opened, err);
    if (was_opened && !opened && literal(r, "<think>\n", err))
        return -1;
    if (opened && !was_opened && theirs->open.n == 1 && begin < end &&
        r->s->tokens[begin] == theirs->open.id[0]) {
        rt_str next = begin + 1 < end ? rt_pieces_bytes(&r->m->from, r->s->tokens[begin + 1])
                                      : (rt_str){ "", 0 };
        begin += 1 + (next.bytes == 1 && *next.data == '\n');
    }
    return add_tokens(r, begin, end, err);
}

/* ---- the document -------------------------------------------------------------------------------
 */

/* Earlier turns are as each side's template writes them: where the words are the same they have the
   teacher's targets. The last id of both ends the turn. */
static int match_turn(respelling *r, const rt_trace_span *t, const int32_t *s, rt_err *err)
{
    const int32_t *ids = r->ids->id + r->origin, *tokens = r->s->tokens;
    int32_t t_end = t->end, s_end = s[1];
    int64_t t_skip, s_skip;
    bool ended = t_end > t->begin && s_end > s[0] && r->m->same[tokens[t_end - 1]] == ids[s_end - 1] &&
                 rt_pieces_special(&r->m->from, tokens[t_end - 1]);
    t_end -= ended, s_end -= ended;
    if (!rt_stretch_same(r->m, tokens + t->begin, t_end - t->begin, ids + s[0], s_end - s[0], &t_skip,
                         &s_skip))
        return 0;
    const int32_t v[] = { t->begin, t_end, s[0], s_end, t_end, t_end + 1, s_end, s_end + 1 };
    for (int i = 0; i < (ended ? 2 : 1) * RT_STRETCH_IDS; i++)
        if (rt_ids_add(r->stretches, v[i], err))
            return -1;
    return 0;
}

static int add_conversation(respelling *r, cJSON *messages, bool all, rt_ids *spans, rt_err *err)
{
    const rt_trace_sample *s = r->s;
    const int64_t before = spans->n;
    const rt_trace_span *last = &s->spans[s->n_spans - 1];
    if (last->begin < s->prompt_tokens) {
        cJSON_Delete(messages);
        return rt_fail(err, "its response is not learned (weight 0), and an earlier turn is: that cannot "
                            "be written in other tokens; train on the records, or end them at that turn");
    }
    cJSON *talk = rt_json_object(), *message = rt_json_object();
    rt_json_put(talk, "messages", messages);
    if (s->tools) {
        cJSON *tools = NULL;
        if (rt_json_parse(&tools, s->tools, (int64_t)strlen(s->tools), "tools", err)) {
            cJSON_Delete(talk);
            cJSON_Delete(message);
            return -1;
        }
        rt_json_put(talk, "tools", tools);
    }
    rt_record_drop_response(talk);
    rt_json_put_str(message, "role", "assistant");
    rt_json_put_str(message, "content", s->answer ? s->answer : "");
    if (s->reasoning && *s->reasoning)
        rt_json_put_str(message, "reasoning_content", s->reasoning);
    cJSON_AddItemToArray(messages, message);
    int bad = rt_chat_turns(r->student, talk, all, r->ids, spans, NULL, err);
    cJSON_Delete(talk);
    if (bad)
        return -1;
    int64_t turns = (spans->n - before) / 2;
    if (turns == s->n_spans) {
        for (int64_t i = 0; i + 1 < turns; i++)
            if (match_turn(r, &s->spans[i], spans->id + before + 2 * i, err))
                return -1;
    } else { /* which of the earlier ones the sample teaches is not known: the response alone */
        memmove(spans->id + before, spans->id + spans->n - 2, 2 * sizeof *spans->id);
        spans->n = before + 2;
    }
    r->ids->n = r->origin + spans->id[spans->n - 2]; /* the response as the teacher wrote it */
    if (add_response(r, last->begin, last->end, err))
        return -1;
    spans->id[spans->n - 1] = (int32_t)(r->ids->n - r->origin);
    return 0;
}

/* A document without roles: all of it but what either tokenizer puts around it. */
static int add_text(respelling *r, const char *text, rt_ids *spans, rt_err *err)
{
    const rt_tokenizer *ours = r->student->tokenizer;
    const int32_t *tokens = r->s->tokens;
    if (rt_chat_text(r->student, text, (int64_t)strlen(text), r->ids, err) ||
        rt_ids_add(spans, 1, err) || rt_ids_add(spans, (int32_t)(r->ids->n - r->origin), err))
        return -1;
    const int32_t *ids = r->ids->id + r->origin;
    int64_t t = 0, t_end = r->s->n_tokens, s = 0, s_end = r->ids->n - r->origin, skip[2];
    bool ended = t_end && s_end && r->m->same[tokens[t_end - 1]] == ids[s_end - 1] &&
                 ids[s_end - 1] == rt_tokenizer_eos(ours);
    t_end -= ended, s_end -= ended;
    t += t < t_end && tokens[t] == rt_tokenizer_bos(r->teacher->tokenizer);
    s += s < s_end && ids[s] == rt_tokenizer_bos(ours);
    if (!rt_stretch_same(r->m, tokens + t, t_end - t, ids + s, s_end - s, &skip[0], &skip[1]))
        return 0;
    const int32_t v[] = { (int32_t)t,     (int32_t)t_end,     (int32_t)s,     (int32_t)s_end,
                          (int32_t)t_end, (int32_t)t_end + 1, (int32_t)s_end, (int32_t)s_end + 1 };
    for (int i = 0; i < (ended ? 2 : 1) * RT_STRETCH_IDS; i++)
        if (rt_ids_add(r->stretches, v[i], err))
            return -1;
    return 0;
}

int rt_respell(const rt_vocab_map *m, const rt_chat *teacher, const rt_chat *student,
               const rt_trace_sample *s, bool all, rt_ids *ids, rt_ids *spans, rt_ids *stretches,
               rt_err *err)
{
    respelling r = { .m = m, .teacher = teacher, .student = student, .s = s, .ids = ids,
                     .stretches = stretches, .origin = ids->n };
    cJSON *messages = NULL;
    if (!s->n_spans)
        return 0;
    int bad = s->messages && rt_json_parse(&messages, s->messages, (int64_t)strlen(s->messages),
                                           "messages", err);
    if (!bad && cJSON_IsString(messages)) {
        bad = add_text(&r, messages->valuestring, spans, err);
        cJSON_Delete(messages);
    } else if (!bad && cJSON_IsArray(messages)) {
        bad = add_conversation(&r, messages, all, spans, err);
    } else {
        cJSON_Delete(messages);
        bad = bad || rt_fail(err, "keeps no messages: it cannot be written in other tokens");
    }
    rt_text_free(&r.text);
    return bad ? rt_wrap(err, "sample %s", s->id) : 0;
}
