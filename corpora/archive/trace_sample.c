/* trace_sample.c: one sample <-> its pieces <-> the payload of a journal record. A shard holds the
   same pieces in columns, so both are checked by one content hash and decoded by one function.
   Also the names of verdicts. Refuses: files. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "corpora/archive/trace_inside.h"

#include "core/base/memory.h"

// ---- small things ----

static const char *const VERDICT[RT_VERDICT_COUNT] = { "unverified", "correct", "wrong",
                                                       "unfinished" };

const char *rt_verdict_name(rt_verdict v)
{
    if ((unsigned)v >= RT_VERDICT_COUNT)
        rt_bug("verdict %d", (int)v);
    return VERDICT[v];
}

static bool parse_verdict(rt_verdict *v, const char *name)
{
    for (int i = 0; i < RT_VERDICT_COUNT; i++)
        if (strcmp(VERDICT[i], name) == 0) {
            *v = (rt_verdict)i;
            return true;
        }
    return false;
}

int rt_verdict_mask(unsigned *mask, const char *flag, const char *list, rt_err *err)
{
    *mask = 0;
    if (strcmp(list, "auto") == 0)
        return 0;
    const char *p = list;
    do {
        size_t n = strcspn(p, ",");
        char word[32];
        rt_verdict v;
        snprintf(word, sizeof word, "%.*s", (int)rt_min((int64_t)n, 31), p);
        if (!parse_verdict(&v, word))
            return rt_usage(err, "%s: \"%s\" is none of correct, wrong, unverified, unfinished",
                            flag, word);
        *mask |= 1u << v;
        p += n + (p[n] == ',');
    } while (*p);
    return 0;
}

void rt_trace_sample_init(rt_trace_sample *s)
{
    memset(s, 0, sizeof *s);
    s->weight = 1;
    s->tag = "";
    rt_soft_init(&s->soft);
}

// Behind rt_trace_sample.memory.
typedef struct sample_memory {
    cJSON *line; // the texts point into it
    char *messages, *tools;
    char id[RT_TRACE_ID_MAX + 1];
    int32_t token[]; // (tokens), then the spans (n, 2), then their weights, f32 (n)
} sample_memory;

static void drop_texts(sample_memory *m)
{
    if (!m)
        return;
    cJSON_Delete(m->line);
    free(m->messages);
    free(m->tools);
    m->line = NULL;
    m->messages = m->tools = NULL;
}

void rt_trace_sample_free(rt_trace_sample *s)
{
    rt_soft_free(&s->soft);
    drop_texts(s->memory);
    free(s->memory);
    rt_trace_sample_init(s);
}

// ---- pieces <-> payload ----

typedef struct fixed_part {
    int64_t index;
    int32_t tokens, prompt_tokens, soft_first, rows, spans, verdict;
} fixed_part;
_Static_assert(sizeof(fixed_part) == RT_TRACE_FIXED, "struct <q6i has no padding");

static fixed_part fixed_of(const rt_trace_pieces *p)
{
    return (fixed_part){ p->index, p->tokens, p->prompt_tokens, p->soft_first,
                         p->rows,  p->spans,  p->verdict };
}

uint64_t rt_trace_pieces_hash(const rt_trace_pieces *p)
{
    fixed_part fixed = fixed_of(p);
    uint64_t h = rt_hash64(&fixed, sizeof fixed, 0);
    h = rt_hash64(p->id, p->id_bytes, h);
    h = rt_hash64(p->line, p->line_bytes, h);
    h = rt_hash64(p->token, 4 * (int64_t)p->tokens, h);
    h = rt_hash64(p->span, 8 * (int64_t)p->spans, h);
    h = rt_hash64(p->record, p->record_bytes, h);
    return p->weight ? rt_hash64(p->weight, 4 * (int64_t)p->spans, h) : h;
}

bool rt_trace_weighted(const void *weight, int64_t n)
{
    const float one = 1;
    for (int64_t i = 0; weight && i < n; i++)
        if (memcmp((const uint8_t *)weight + 4 * i, &one, 4) != 0)
            return true;
    return false;
}

int64_t rt_trace_payload_bytes(const rt_trace_pieces *p)
{
    return RT_TRACE_PAYLOAD_HEAD + p->id_bytes + p->line_bytes + 4 * (int64_t)p->tokens +
           8 * (int64_t)p->spans + p->record_bytes + (p->weight ? 4 * (int64_t)p->spans : 0);
}

int rt_trace_payload_add(rt_text *out, const rt_trace_pieces *p, rt_err *err)
{
    int64_t total = rt_trace_payload_bytes(p);
    if (total > RT_TRACE_PAYLOAD_MAX)
        return rt_fail(err, "the sample has %lld bytes, at most 1 GiB are kept", (long long)total);
    fixed_part fixed = fixed_of(p);
    uint32_t sizes[3] = { (uint32_t)p->id_bytes, (uint32_t)p->line_bytes,
                          (uint32_t)p->record_bytes };
    return rt_text_reserve(out, total, err) || rt_text_add(out, &fixed, sizeof fixed, err) ||
                   rt_text_add(out, sizes, sizeof sizes, err) ||
                   rt_text_add(out, p->id, p->id_bytes, err) ||
                   rt_text_add(out, p->line, p->line_bytes, err) ||
                   rt_text_add(out, p->token, 4 * (int64_t)p->tokens, err) ||
                   rt_text_add(out, p->span, 8 * (int64_t)p->spans, err) ||
                   rt_text_add(out, p->record, p->record_bytes, err) ||
                   (p->weight && rt_text_add(out, p->weight, 4 * (int64_t)p->spans, err))
               ? -1
               : 0;
}

int rt_trace_payload_parse(rt_trace_pieces *p, const uint8_t *payload, int64_t bytes, rt_err *err)
{
    fixed_part f;
    uint32_t sizes[3];
    if (bytes < RT_TRACE_PAYLOAD_HEAD)
        return rt_fail(err, "a sample of %lld bytes is too short", (long long)bytes);
    memcpy(&f, payload, sizeof f);
    memcpy(sizes, payload + RT_TRACE_FIXED, sizeof sizes);
    if (f.tokens < 0 || f.spans < 0)
        return rt_fail(err, "negative counts in a sample");
    *p = (rt_trace_pieces){ .index = f.index,
                            .tokens = f.tokens,
                            .prompt_tokens = f.prompt_tokens,
                            .soft_first = f.soft_first,
                            .rows = f.rows,
                            .spans = f.spans,
                            .verdict = f.verdict,
                            .id_bytes = sizes[0],
                            .line_bytes = sizes[1],
                            .record_bytes = sizes[2] };
    int64_t more = bytes - rt_trace_payload_bytes(p);
    if (more != 0 && more != 4 * (int64_t)f.spans)
        return rt_fail(err, "the lengths in a sample do not add up to its %lld bytes",
                       (long long)bytes);
    p->id = (const char *)payload + RT_TRACE_PAYLOAD_HEAD;
    p->line = (const uint8_t *)p->id + p->id_bytes;
    p->token = p->line + p->line_bytes;
    p->span = p->token + 4 * (int64_t)f.tokens;
    p->record = p->span + 8 * (int64_t)f.spans;
    p->weight = more ? p->record + p->record_bytes : NULL;
    if (more && !rt_trace_weighted(p->weight, f.spans))
        return rt_fail(err, "weights in a sample that are 1 each");
    p->hash = rt_trace_pieces_hash(p);
    return 0;
}

// ---- checks that hold for a sample on its way in and on its way out ----

static const char *id_problem(const char *id, int64_t bytes)
{
    if (bytes < 1 || bytes > RT_TRACE_ID_MAX)
        return "an id needs 1 to 1023 bytes";
    return rt_utf8_check_line(id, bytes) == bytes
               ? NULL
               : "an id may hold only UTF-8 without control characters";
}

static const char *layout_problem(const rt_trace_pieces *p, int32_t vocab)
{
    if (p->index < 0 || p->index > (1LL << 53))
        return "the plan index is out of range";
    if (p->tokens < 1 || p->tokens > RT_TRACE_TOKENS_MAX)
        return "the number of tokens is out of range";
    if (p->prompt_tokens < 0 || p->prompt_tokens > p->tokens)
        return "prompt_tokens is beyond the tokens";
    if (p->soft_first < 0 || p->soft_first > p->tokens || p->rows < 0 ||
        p->rows > p->tokens - p->soft_first)
        return "soft rows reach beyond the tokens";
    if (p->spans < 0 || p->spans > RT_TRACE_SPANS_MAX)
        return "too many loss spans";
    if ((uint32_t)p->verdict >= RT_VERDICT_COUNT)
        return "unknown verdict";
    for (int64_t i = 0; i < p->tokens; i++) {
        uint32_t token;
        memcpy(&token, p->token + 4 * i, 4);
        if (token >= (uint32_t)vocab)
            return "a token id is outside the vocabulary: the tokenizer is not the archive's";
    }
    int32_t last = 0;
    for (int64_t i = 0; i < p->spans; i++) {
        rt_trace_span span;
        memcpy(&span, p->span + 8 * i, 8);
        if (span.begin < last || span.end <= span.begin || span.end > p->tokens)
            return "loss spans must be ascending, disjoint, not empty and inside the tokens";
        last = span.end;
    }
    for (int64_t i = 0; p->weight && i < p->spans; i++) {
        float weight;
        memcpy(&weight, p->weight + 4 * i, 4);
        if (!(weight > 0 && weight <= RT_TRACE_WEIGHT_MAX))
            return "the weight of a span must be above 0 and at most 1e6";
    }
    return id_problem(p->id, p->id_bytes);
}

// ---- sample -> payload ----

/* text with U+FFFD in place of every byte that is not UTF-8; free() it. */
static char *clean_utf8(const char *text)
{
    static const char MARK[] = "\xEF\xBF\xBD";
    size_t n = strlen(text), at = 0;
    char *out = rt_alloc((int64_t)n + 1, 3, "a text");
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t used = utf8proc_iterate(p + i, (utf8proc_ssize_t)(n - i), &code);
        memcpy(out + at, used > 0 ? text + i : MARK, used > 0 ? (size_t)used : 3);
        at += used > 0 ? (size_t)used : 3;
        i += used > 0 ? (size_t)used : 1;
    }
    out[at] = '\0';
    return out;
}

static void put_clean(cJSON *obj, const char *key, const char *text)
{
    char *clean = clean_utf8(text ? text : "");
    rt_json_put_str(obj, key, clean);
    free(clean);
}

static int put_json(cJSON *obj, const char *key, const char *text, rt_err *err)
{
    cJSON *json;
    char *clean = clean_utf8(text);
    int rc = rt_json_parse(&json, clean, (int64_t)strlen(clean), key, err);
    free(clean);
    if (!rc)
        rt_json_put(obj, key, json);
    return rc;
}

static int make_line(char **line, const rt_trace_sample *s, rt_err *err)
{
    if (!isfinite(s->reward))
        return rt_fail(err, "the reward is not a finite number");
    if (!(s->weight >= 0 && s->weight <= RT_TRACE_WEIGHT_MAX))
        return rt_fail(err, "the weight is no number from 0 to 1e6");
    cJSON *obj = rt_json_object();
    rt_json_put_i64(obj, "index", s->index);
    rt_json_put_str(obj, "id", s->id);
    put_clean(obj, "prompt_id", s->prompt_id);
    int rc = put_json(obj, "messages", s->messages ? s->messages : "null", err) ||
             (s->tools && put_json(obj, "tools", s->tools, err));
    put_clean(obj, "reasoning", s->reasoning);
    put_clean(obj, "answer", s->answer);
    if (s->weight != 1)
        rt_json_put_num(obj, "weight", s->weight);
    if (s->tag && *s->tag)
        put_clean(obj, "tag", s->tag);
    put_clean(obj, "finish", s->finish);
    rt_json_put_str(obj, "verdict", rt_verdict_name(s->verdict));
    if (s->rule)
        rt_json_put_str(obj, "rule", rt_verify_rule_name(s->rule));
    rt_json_put_num(obj, "reward", s->reward);
    rt_json_put_u64(obj, "seed", s->seed);
    *line = rc ? NULL : rt_json_text(obj);
    cJSON_Delete(obj);
    return rc;
}

int rt_trace_sample_encode(const rt_trace_codec *c, rt_text *out, const rt_trace_sample *s,
                           rt_err *err)
{
    if (s->n_tokens > RT_TRACE_TOKENS_MAX || s->soft.n > s->n_tokens)
        return rt_fail(err, "more tokens than a sample may have, or more soft rows than tokens");
    rt_trace_pieces p = {
        .index = s->index,
        .tokens = (int32_t)s->n_tokens,
        .prompt_tokens = s->prompt_tokens,
        .soft_first = s->soft_first,
        .rows = (int32_t)s->soft.n,
        .spans = s->n_spans,
        .verdict = (int32_t)s->verdict,
        .id = s->id ? s->id : "",
        .token = (const uint8_t *)s->tokens,
        .span = (const uint8_t *)s->spans,
    };
    if (rt_trace_weighted(s->span_weight, s->n_spans))
        p.weight = (const uint8_t *)s->span_weight;
    p.id_bytes = (int64_t)strlen(p.id);
    const char *why = layout_problem(&p, c->vocab);
    if (why)
        return rt_fail(err, "%s", why);
    rt_text rows = { 0 };
    char *line = NULL;
    int rc = rt_trace_rows_encode(c, &rows, &s->soft, s->tokens + s->soft_first, err) ||
             make_line(&line, s, err);
    if (!rc) {
        p.line = (const uint8_t *)line;
        p.line_bytes = (int64_t)strlen(line);
        p.record = (const uint8_t *)rows.data;
        p.record_bytes = rows.bytes;
        rc = p.line_bytes > RT_TRACE_TEXT_MAX ? rt_fail(err, "the texts have more than 64 MiB")
                                              : rt_trace_record_add(out, &p, err);
    }
    free(line);
    rt_text_free(&rows);
    return rc ? -1 : 0;
}

// ---- pieces -> sample ----

static int decode_text(rt_trace_sample *s, sample_memory *m, const rt_trace_pieces *p, rt_err *err)
{
    int64_t index;
    rt_verdict verdict;
    const char *id, *name, *rule = "none";
    if (rt_json_parse(&m->line, (const char *)p->line, p->line_bytes, "JSON line", err))
        return -1;
    const cJSON *line = m->line, *messages = rt_json_find(line, "messages"),
                *tools = rt_json_find(line, "tools");
    if (rt_json_get_str(line, "id", &id, err) || rt_json_get_str(line, "verdict", &name, err) ||
        rt_json_get_str(line, "prompt_id", &s->prompt_id, err) ||
        rt_json_get_str(line, "reasoning", &s->reasoning, err) ||
        rt_json_get_str(line, "answer", &s->answer, err) ||
        rt_json_get_str(line, "finish", &s->finish, err) ||
        rt_json_opt_str(line, "rule", &rule, err) ||
        rt_json_opt_str(line, "tag", &s->tag, err) ||
        rt_json_opt_f64(line, "weight", &s->weight, err) ||
        rt_json_get_i64(line, "index", 0, 1LL << 53, &index, err) ||
        rt_json_get_f64(line, "reward", &s->reward, err) ||
        rt_json_get_u64(line, "seed", &s->seed, err))
        return rt_wrap(err, "JSON line");
    if (strcmp(id, s->id) != 0 || index != s->index || !parse_verdict(&verdict, name) ||
        verdict != s->verdict)
        return rt_fail(err, "the JSON line and the columns disagree on id, index or verdict");
    if (!(s->weight >= 0 && s->weight <= RT_TRACE_WEIGHT_MAX))
        return rt_fail(err, "JSON line: weight is no number from 0 to 1e6");
    s->rule = rt_verify_rule_of(rule);
    if (messages && !cJSON_IsNull(messages))
        s->messages = m->messages = rt_json_text(messages);
    if (tools && !cJSON_IsNull(tools))
        s->tools = m->tools = rt_json_text(tools);
    return 0;
}

int rt_trace_sample_decode(const rt_trace_codec *c, const rt_trace_pieces *p, int parts,
                           rt_trace_sample *s, int64_t *shorts, rt_err *err)
{
    const char *why = layout_problem(p, c->vocab);
    if (rt_trace_pieces_hash(p) != p->hash)
        why = "the content does not match its hash";
    if (p->line_bytes > RT_TRACE_TEXT_MAX)
        why = "the texts have more than 64 MiB";
    if (why)
        return rt_fail(err, "%s", why);
    int64_t tokens = 4 * (int64_t)p->tokens, spans = 8 * (int64_t)p->spans, ignored = 0;
    int64_t weights = p->weight ? 4 * (int64_t)p->spans : 0;
    drop_texts(s->memory);
    sample_memory *m = rt_realloc(s->memory, (int64_t)sizeof *m + tokens + spans + weights, 1, "a sample");
    m->line = NULL;
    m->messages = m->tools = NULL;
    memcpy(m->token, p->token, (size_t)tokens);
    if (spans)
        memcpy(m->token + p->tokens, p->span, (size_t)spans);
    int32_t *weight = m->token + p->tokens + 2 * (int64_t)p->spans;
    if (weights)
        memcpy(weight, p->weight, (size_t)weights);
    snprintf(m->id, sizeof m->id, "%.*s", (int)p->id_bytes, p->id);
    *s = (rt_trace_sample){
        .index = p->index,
        .id = m->id,
        .prompt_id = "",
        .reasoning = "",
        .answer = "",
        .weight = 1,
        .tag = "",
        .finish = "",
        .verdict = (rt_verdict)p->verdict,
        .tokens = m->token,
        .n_tokens = p->tokens,
        .prompt_tokens = p->prompt_tokens,
        .spans = (const rt_trace_span *)(void *)(m->token + p->tokens),
        .n_spans = p->spans,
        .span_weight = weights ? (const float *)(void *)weight : NULL,
        .soft_first = p->soft_first,
        .soft = s->soft,
        .hash = p->hash,
        .memory = m,
    };
    rt_soft_clear(&s->soft);
    if ((parts & RT_TRACE_TEXT) && decode_text(s, m, p, err))
        return -1;
    if (!(parts & RT_TRACE_SOFT))
        return 0;
    return rt_trace_rows_decode(c, &s->soft, p->record, p->record_bytes, p->rows,
                                p->token + 4 * (int64_t)p->soft_first, shorts ? shorts : &ignored,
                                err);
}

int rt_trace_pieces_place(const rt_trace_codec *c, rt_trace_pieces *p, rt_trace_place *place,
                          void *ctx, rt_text *line, rt_err *err)
{
    rt_trace_sample s;
    char *text = NULL;
    rt_trace_sample_init(&s);
    int bad = rt_trace_sample_decode(c, p, RT_TRACE_TEXT, &s, NULL, err);
    void *memory = s.memory; /* whatever place makes of the sample */
    const float *weight = s.span_weight;
    bad = bad || place(ctx, &s, err) || make_line(&text, &s, err);
    int64_t n = bad ? 0 : (int64_t)strlen(text);
    if (!bad && n > RT_TRACE_TEXT_MAX)
        bad = rt_fail(err, "sample %.80s: the texts have more than 64 MiB", s.id);
    bad = bad || rt_text_add(line, text, n, err);
    if (!bad) {
        p->index = s.index;
        p->verdict = (int32_t)s.verdict;
        p->line = (const uint8_t *)line->data + line->bytes - n;
        p->line_bytes = n;
        if (s.span_weight != weight) /* else those of p, which outlive s */
            p->weight = rt_trace_weighted(s.span_weight, s.n_spans)
                            ? (const uint8_t *)s.span_weight
                            : NULL;
        const char *why = s.n_spans == p->spans ? layout_problem(p, c->vocab)
                                                : "other turns of it are learned now";
        bad = why ? rt_fail(err, "sample %.80s: %s", s.id, why) : 0;
        p->hash = rt_trace_pieces_hash(p);
    }
    free(text);
    s.memory = memory;
    rt_trace_sample_free(&s);
    return bad ? -1 : 0;
}
