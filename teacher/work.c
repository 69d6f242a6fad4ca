#include "teacher/work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/utf8.h"
#include "corpora/record.h"
#include "corpora/source.h"
#include "teacher/streaming.h"

/* ---- settings -----------------------------------------------------------------------------------
 */

static int read_temperatures(rt_soft_config *c, const rt_strlist *list, rt_err *err)
{
    for (int i = 0; i < list->n; i++)
        for (const char *p = list->item[i]; *p;) {
            char *end;
            double t = strtod(p, &end);
            if (end == p || (*end && *end != ',') || !(t >= 0.1 && t <= 100))
                return rt_usage(err, "--temperatures: \"%s\" is no list of numbers from 0.1 to 100",
                                list->item[i]);
            if (c->n_temperatures == RT_SOFT_TEMPERATURES_MAX)
                return rt_usage(err, "--temperatures: at most %d", RT_SOFT_TEMPERATURES_MAX);
            c->temperature[c->n_temperatures++] = (float)t;
            p = end + (*end == ',');
        }
    return 0;
}

static int read_capture(rt_soft_config *c, const rt_archive_options *o, rt_err *err)
{
    memset(c, 0, sizeof *c);
    if (o->tail_spacing > 0 && o->tail_spacing < 1.0 / RT_SOFT_DRAWS_MAX)
        return rt_usage(err, "--tail-spacing %g: 0, or from 1/%d to 1", o->tail_spacing,
                        RT_SOFT_DRAWS_MAX);
    if (o->head_max == 0) /* the other settings mean nothing then */
        return 0;
    c->head_max = (int32_t)o->head_max;
    c->head_floor = (float)o->head_floor;
    c->tail_spacing = (float)o->tail_spacing;
    return read_temperatures(c, &o->temperatures, err);
}

/* A number from the environment. */
static bool read_env(const char *name, long long *value)
{
    const char *text = name ? getenv(name) : NULL;
    char *end;
    if (!text || !*text)
        return false;
    *value = strtoll(text, &end, 10);
    return !*end;
}

/* Both the index and the count must be there: an index alone does not say what is left to others.
 */
static bool shard_of_environment(long long *part, long long *parts)
{
    static const struct {
        const char *index, *count, *first, *step;
    } arrays[] = { { "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN",
                     "SLURM_ARRAY_TASK_STEP" },
                   { "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", NULL, NULL },
                   { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL, NULL },
                   { "PMI_RANK", "PMI_SIZE", NULL, NULL } };
    for (int i = 0; i < RT_COUNT(arrays); i++) {
        long long first = 0, step = 1;
        if (!read_env(arrays[i].index, part) || !read_env(arrays[i].count, parts) || *parts < 2)
            continue;
        read_env(arrays[i].first, &first);
        read_env(arrays[i].step, &step);
        *part = step > 0 ? (*part - first) / step : -1;
        rt_info("part %lld of %lld, as %s says", *part, *parts, arrays[i].index);
        return true;
    }
    return false;
}

static int read_shard(rt_trace_manifest *m, const char *text, rt_err *err)
{
    long long part = 0, parts = 1;
    int end = 0;
    if (text && (sscanf(text, "%lld/%lld%n", &part, &parts, &end) != 2 || text[end]))
        return rt_usage(err, "--shard %s: not of the form I/N, \"0/8\" to \"7/8\"", text);
    if (part < 0 || part >= parts || parts > INT32_MAX)
        return rt_usage(err, "part %lld of %lld: parts count from 0 to %lld", part, parts,
                        parts - 1);
    m->part = (int32_t)part;
    m->parts = (int32_t)parts;
    return 0;
}

void rt_archive_settle(void *options)
{
    rt_archive_options *o = options;
    char text[64];
    long long part, parts;
    if (o->shard || !shard_of_environment(&part, &parts))
        return;
    snprintf(text, sizeof text, "%lld/%lld", part, parts);
    o->shard = rt_strdup(text);
}

int rt_archive_settings(rt_trace_manifest *m, const rt_archive_options *o, rt_err *err)
{
    if (o->licence && strlen(o->licence) >= sizeof m->licence)
        return rt_usage(err, "--licence: at most %d bytes", (int)sizeof m->licence - 1);
    if (o->licence && rt_utf8_check_line(o->licence, (int64_t)strlen(o->licence)) <
                          (int64_t)strlen(o->licence))
        return rt_usage(err, "--licence: one line, without control characters");
    snprintf(m->licence, sizeof m->licence, "%s", o->licence ? o->licence : "");
    m->samples_per_shard = o->samples_per_shard;
    m->seed = o->seed;
    return read_capture(&m->capture, o, err) || read_shard(m, o->shard, err) ? -1 : 0;
}

/* ---- the list -----------------------------------------------------------------------------------
 */

static rt_work_item *add_item(rt_work *w)
{
    rt_grow(&w->item, &w->cap, w->n + 1, (int64_t)sizeof *w->item, "a list of texts");
    return &w->item[w->n++];
}

static int choose_verifier(rt_work *w, rt_work_item *item, const rt_record *r, const char *verify,
                           rt_err *err)
{
    if (rt_verify_choose(&item->verify, verify, r->verify, r->answer, err))
        return r->answer ? -1 : rt_record_lacks(r, err);
    item->answer = r->answer ? rt_strdup(r->answer) : NULL;
    w->answers += r->answer != NULL;
    if (w->n == 1)
        rt_record_unread(r, w->unread, sizeof w->unread);
    return 0;
}

/* What the item's spans count; those that count 0 go. message: whose they are; none of a text. */
static void weigh_spans(rt_work *w, const rt_work_item *item, const rt_record *r,
                        const rt_ids *message)
{
    int32_t *span = w->spans.id + item->span;
    int64_t n = (w->spans.n - item->span) / 2, kept = 0;
    rt_grow(&w->span_weight, &w->cap_weights, w->spans.n / 2, sizeof *w->span_weight,
            "weights of spans");
    for (int64_t k = 0; k < n; k++) {
        float weight = rt_record_weight(r, message->n ? message->id[k] : -1);
        if (!(weight > 0))
            continue;
        memmove(span + 2 * kept, span + 2 * k, 2 * sizeof *span);
        w->span_weight[item->span / 2 + kept++] = weight;
    }
    w->spans.n = item->span + 2 * kept;
}

/* What the messages of the assistant's count, the record's weight with them: so an export says it. */
static void put_weights(cJSON *root, const rt_record *r)
{
    cJSON *m = r->weight != 1 ? rt_json_find(root, "messages")->child : NULL;
    for (int i = 0; m; m = m->next, i++) {
        if (strcmp(r->message[i].role, "assistant") != 0)
            continue;
        cJSON_DeleteItemFromObjectCaseSensitive(m, "weight");
        rt_json_put_num(m, "weight", r->weight * r->message[i].weight);
    }
}

static int add_messages(rt_work *w, rt_work_item *item, const rt_chat *chat, rt_work_kind kind,
                        const rt_record *r, rt_err *err)
{
    cJSON *root = rt_record_messages(r);
    rt_ids turn = { 0 };
    int bad = 0;
    if (kind != RT_WORK_PROMPTS)
        bad = rt_chat_turns(chat, root, kind == RT_WORK_TEXTS, &w->pool, &w->spans, &turn,
                            err) &&
              rt_record_lacks(r, err);
    rt_record_drop_response(root);
    put_weights(root, r);
    if (kind == RT_WORK_PROMPTS)
        bad = rt_chat_prompt(chat, root, &w->pool, err);
    if (!bad)
        item->prompt = kind == RT_WORK_PROMPTS ? (int32_t)(w->pool.n - item->at)
                                               : w->spans.id[w->spans.n - 2];
    if (!bad && kind != RT_WORK_PROMPTS)
        weigh_spans(w, item, r, &turn);
    rt_ids_free(&turn);
    item->messages = rt_json_text(rt_json_find(root, "messages"));
    item->tools = r->tools ? rt_strdup(r->tools) : NULL;
    cJSON_Delete(root);
    return bad ? -1 : 0;
}

/* The prompt as the teacher sees it, behind the other. */
static int add_privileged(rt_work *w, rt_work_item *item, const rt_chat *chat, rt_work_kind kind,
                          const rt_record *r, rt_err *err)
{
    item->seen = item->at;
    item->n_seen = item->prompt;
    if (!r->privileged)
        return 0;
    if (kind != RT_WORK_PROMPTS)
        return rt_fail(err, "\"privileged\" is for prompts that are answered (sample, train "
                            "--teacher): given text is scored as it stands");
    cJSON *root = rt_record_messages(r->privileged);
    item->seen = w->pool.n;
    int bad = rt_chat_prompt(chat, root, &w->pool, err);
    item->n_seen = (int32_t)rt_min(w->pool.n - item->seen, RT_TRACE_TOKENS_MAX + 1);
    cJSON_Delete(root);
    return bad ? rt_wrap(err, "privileged") : 0;
}

static int add_text(rt_work *w, rt_work_item *item, const rt_chat *chat, rt_work_kind kind,
                    const rt_record *r, rt_err *err)
{
    if (kind == RT_WORK_PROMPTS)
        return rt_fail(err, "a \"text\" is not a prompt: give \"prompt\" or \"messages\", or score "
                            "it (retort score)");
    if (rt_chat_text(chat, r->text, (int64_t)strlen(r->text), &w->pool, err) ||
        rt_ids_add(&w->spans, 1, err) ||
        rt_ids_add(&w->spans, (int32_t)(w->pool.n - item->at), err))
        return -1;
    weigh_spans(w, item, r, &(rt_ids){ 0 });
    cJSON *text = cJSON_CreateString(r->text);
    item->messages = rt_json_text(text);
    cJSON_Delete(text);
    return 0;
}

static int add_record(rt_work *w, const rt_chat *chat, rt_work_kind kind, const char *verify,
                      const rt_record *r, rt_err *err)
{
    rt_work_item *item = add_item(w);
    const rt_message *last = r->n_messages ? &r->message[r->n_messages - 1] : NULL;
    bool given = kind != RT_WORK_PROMPTS && last && strcmp(last->role, "assistant") == 0;
    item->weight = r->weight * (given ? last->weight : 1);
    item->span_weight = (float)item->weight;
    item->tag = r->tag ? rt_strdup(r->tag) : NULL;
    item->id = rt_strdup(r->id);
    item->at = w->pool.n;
    item->span = w->spans.n;
    if (choose_verifier(w, item, r, verify, err) ||
        (r->text ? add_text(w, item, chat, kind, r, err)
                 : add_messages(w, item, chat, kind, r, err)))
        return -1;
    int64_t n = w->pool.n - item->at;
    if (!r->text && add_privileged(w, item, chat, kind, r, err))
        return -1;
    if (n < 1 || n > RT_TRACE_TOKENS_MAX)
        return rt_fail(err, "%lld tokens: from 1 to %d", (long long)n, RT_TRACE_TOKENS_MAX);
    item->n = (int32_t)n;
    item->n_spans = n > 1 ? (int32_t)((w->spans.n - item->span) / 2) : 0;
    if (item->n_spans > RT_TRACE_SPANS_MAX)
        return rt_fail(err, "%d turns of the assistant's: at most %d are kept", item->n_spans,
                       RT_TRACE_SPANS_MAX);
    w->longest = rt_max(w->longest, n);
    w->longest_seen = rt_max(w->longest_seen, item->n_seen);
    return 0;
}

/* 1: new; 0: a record without an id that says what an earlier one said. */
static int is_new(rt_work *w, const rt_record *r, rt_err *err)
{
    int64_t k = rt_bytes_map_put(&w->ids, r->id, (int64_t)strlen(r->id), err);
    if (k >= 0 && k < w->n && !r->id_made)
        return rt_fail(err,
                       "id %.80s occurs twice in the input: ids must differ; --samples takes "
                       "several answers to a prompt",
                       r->id);
    return k < 0 ? -1 : k == w->n;
}

bool rt_work_takes(const rt_strlist *tags, const char *tag)
{
    for (int i = 0; i < tags->n; i++)
        if (strcmp(tags->item[i], tag ? tag : "") == 0)
            return true;
    return tags->n == 0;
}

int rt_work_tell_tags(const rt_strlist *tags, const char *path, int64_t taken, int64_t left, rt_err *err)
{
    if (!tags->n)
        return 0;
    if (!taken)
        return rt_fail(err, "%s: none of %lld has the tag \"%s\"%s (--only-tag)", path, (long long)left,
                       tags->item[0], tags->n > 1 ? " or another that is asked for" : "");
    rt_info("%s: %lld have another tag than --only-tag, or none, and are left out", path, (long long)left);
    return 0;
}

static int read_path(rt_work *w, const rt_chat *chat, rt_work_kind kind, const char *path,
                     const rt_strlist *tags, int64_t limit, const char *verify, rt_err *err)
{
    rt_source *s = NULL;
    rt_item item;
    int got = 0, bad = rt_source_open(&s, path, RT_SOURCE_RECORDS, err);
    while (!bad && !(limit && w->n >= limit) && (got = rt_source_next(s, &item, err)) != 0) {
        rt_record r = { 0 };
        int fresh = 0;
        bad = got < 0 || rt_record_from_item(&r, &item, err);
        bool other = !bad && !rt_work_takes(tags, r.tag);
        w->other_tags += other;
        if (!bad && !other && ((fresh = is_new(w, &r, err)) < 0 ||
                     (fresh && add_record(w, chat, kind, verify, &r, err))))
            bad = rt_wrap(err, "%s", item.where);
        if (!bad && !other && !fresh && w->repeated++ == 0)
            snprintf(w->first_repeated, sizeof w->first_repeated, "%s", item.where);
        rt_record_free(&r);
    }
    rt_source_close(s);
    return bad ? -1 : 0;
}

void rt_work_weigh(const rt_work_item *item, rt_trace_sample *s)
{
    s->tag = item->tag ? item->tag : "";
    s->weight = item->weight;
    if (!(item->span_weight > 0))
        s->n_spans = 0;
    s->span_weight = s->n_spans ? &item->span_weight : NULL;
}

int rt_work_find(const rt_work *w, const rt_trace_sample *s, const rt_work_item **item, rt_err *err)
{
    int64_t k = rt_bytes_map_find(&w->ids, s->prompt_id, (int64_t)strlen(s->prompt_id));
    if (k < 0)
        return rt_fail(err,
                       "id %.80s of the archive is not in this input: an archive grows, it does "
                       "not shrink; name another output",
                       s->prompt_id);
    *item = &w->item[k];
    return 0;
}

int rt_work_check_part(const rt_trace_manifest *m, const rt_trace_sample *s, rt_err *err)
{
    return s->index % m->parts == m->part
               ? 0
               : rt_fail(err,
                         "sample %.80s would be another part's with this input: merge the parts, "
                         "then extend the whole",
                         s->id);
}

static rt_hash hash_list(const rt_work *w)
{
    uint64_t *each = rt_alloc(w->n, sizeof *each, "hashes");
    for (int64_t i = 0; i < w->n; i++) {
        const rt_work_item *t = &w->item[i];
        uint64_t h = rt_hash64(t->id, (int64_t)strlen(t->id), (uint64_t)t->prompt);
        h = rt_hash64(w->pool.id + t->at, t->n * (int64_t)sizeof(int32_t), h);
        if (t->seen != t->at)
            h = rt_hash64(w->pool.id + t->seen, t->n_seen * (int64_t)sizeof(int32_t), h);
        h = rt_hash64(w->spans.id + t->span, t->n_spans * (int64_t)sizeof(rt_trace_span), h);
        const float *weight = w->span_weight + t->span / 2;
        if (rt_trace_weighted(weight, t->n_spans))
            h = rt_hash64(weight, t->n_spans * (int64_t)sizeof *weight, h);
        if (t->weight != 1)
            h = rt_hash64(&t->weight, (int64_t)sizeof t->weight, h);
        if (t->tag)
            h = rt_hash64(t->tag, (int64_t)strlen(t->tag), h);
        if (t->answer)
            h = rt_hash64(t->answer, (int64_t)strlen(t->answer), h + 1 + (uint64_t)t->verify);
        each[i] = h;
    }
    rt_hash hash = rt_hash_bytes(each, w->n * (int64_t)sizeof *each);
    free(each);
    return hash;
}

int rt_work_read(rt_work *w, const rt_chat *chat, rt_work_kind kind, const rt_strlist *paths,
                 const rt_strlist *tags, int64_t limit, const char *verify, rt_err *err)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < paths->n; i++)
        if (read_path(w, chat, kind, paths->item[i], tags, limit, verify, err))
            return -1;
    if (rt_work_tell_tags(tags, paths->item[0], w->n, w->other_tags, err))
        return -1;
    if (w->n == 0)
        return rt_fail(err, "%s: no records in it", paths->item[0]);
    if (w->repeated)
        rt_warn("%lld records say what an earlier one said and are left out, the first of them %s; "
                "--samples takes several answers to a prompt",
                (long long)w->repeated, w->first_repeated);
    if (kind == RT_WORK_PROMPTS && !w->answers && *w->unread)
        rt_info("no prompt has an \"answer\", so none is judged; keys that are not read: %s",
                w->unread);
    w->hash = hash_list(w);
    return 0;
}

void rt_work_free(rt_work *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        free(w->item[i].id);
        free(w->item[i].messages);
        free(w->item[i].tools);
        free(w->item[i].answer);
        free(w->item[i].tag);
    }
    free(w->item);
    rt_ids_free(&w->pool);
    rt_ids_free(&w->spans);
    free(w->span_weight);
    rt_bytes_map_free(&w->ids);
    memset(w, 0, sizeof *w);
}

/* `prompt` tokens of the pool, then what stands behind the first `skip` of token. */
static int32_t *join(const rt_work *w, int64_t at, int64_t prompt, const int32_t *token,
                     int64_t skip, int64_t n_token, int64_t *n)
{
    *n = prompt + n_token - skip;
    int32_t *out = rt_alloc(*n, sizeof *out, "the tokens of an answer");
    memcpy(out, w->pool.id + at, (size_t)prompt * sizeof *out);
    memcpy(out + prompt, token + skip, (size_t)(n_token - skip) * sizeof *out);
    return out;
}

int32_t *rt_work_response(const rt_work *w, const rt_work_item *item, const int32_t *token,
                          int64_t n_token, int64_t *n)
{
    return join(w, item->at, item->prompt, token, item->n_seen, n_token, n);
}

int32_t *rt_work_seen(const rt_work *w, const rt_work_item *item, const int32_t *token,
                      int64_t n_token, int64_t *n)
{
    return join(w, item->seen, item->n_seen, token, item->prompt, n_token, n);
}

uint64_t rt_work_seed(uint64_t run_seed, const char *id, int64_t k)
{
    return rt_hash64(&k, (int64_t)sizeof k, rt_hash64(id, (int64_t)strlen(id), run_seed));
}

void rt_work_needs(const rt_work *w, const rt_archive_options *o, const rt_trace_manifest *m,
                   int64_t samples, int64_t tokens, int64_t rows, rt_needs *p)
{
    enum { ROW = 28, TEXT = 4, SAMPLE = 512, KNOWN = 128 }; /* bytes: budget of a row; estimates */
    double each = (m->capture.head_max ? ROW * (double)rows : 0) + (4 + TEXT) * (double)tokens;
    int64_t all = (int64_t)fmin((SAMPLE + each) * (double)samples, 1e15);
    rt_needs_add(p, RT_NEEDS_MEMORY, "host", "texts.list", w->cap * (int64_t)sizeof *w->item);
    rt_needs_add(p, RT_NEEDS_MEMORY, "host", "texts.tokens",
                 w->pool.cap * (int64_t)sizeof(int32_t));
    rt_needs_add(p, RT_NEEDS_GROWS, "archive", "shard that is open",
                 3 * rt_min(m->bytes_per_shard, all));
    rt_needs_add(p, RT_NEEDS_GROWS, "archive", "ids it has", KNOWN * samples);
    rt_needs_add(p, RT_NEEDS_ABOUT, "archive", "if all are the longest", all);
    p->output = (rt_needs_output){
        .path = o->out, .soft = m->capture, .samples = samples, .longest = tokens
    };
    p->units = samples;
}

/* ---- the table ----------------------------------------------------------------------------------
 */

static int count_tokens(const rt_trace_reader *r, int64_t *learned, rt_err *err)
{
    rt_trace_sample s;
    int bad = 0;
    rt_trace_sample_init(&s);
    *learned = 0;
    for (int64_t i = 0; !bad && i < rt_trace_count(r); i++) {
        bad = rt_trace_get(r, i, 0, &s, err);
        *learned += bad ? 0 : s.n_tokens - s.prompt_tokens;
    }
    rt_trace_sample_free(&s);
    return bad;
}

static void print_count(const char *label, int64_t n, int64_t of)
{
    printf("%-22s %lld", label, (long long)n);
    if (of > 0)
        printf(" (%.1f %%)", 100.0 * (double)n / (double)of);
    putchar('\n');
}

static void print_table(const rt_trace_statistics *s, double mean, int64_t tokens, double seconds)
{
    char text[32];
    printf("%-22s %lld\n", "samples", (long long)s->samples);
    for (int v = 0; v < RT_VERDICT_COUNT; v++)
        if (s->verdicts[v])
            print_count(rt_verdict_name((rt_verdict)v), s->verdicts[v], s->samples);
    for (int i = 0; i < RT_RULE_COUNT; i++)
        if (s->rules[i]) {
            snprintf(text, sizeof text, i ? "  judged by %s" : "  not compared",
                     rt_verify_rule_name((rt_verify_rule)i));
            print_count(text, s->rules[i], s->samples);
        }
    printf("%-22s %.1f\n", "tokens a response", mean);
    printf("%-22s %lld\n", "positions", (long long)s->positions);
    if (s->positions) {
        printf("%-22s %.2f\n", "bytes a position", s->bytes_per_position);
        printf("%-22s %.2f\n", "tokens kept of each", s->mean_unique_ids);
    }
    printf("%-22s %s\n", "size", rt_fmt_bytes(text, sizeof text, s->file_bytes));
    printf("%-22s %.1f\n", "seconds", seconds);
    if (tokens)
        printf("%-22s %.0f\n", "tokens a second", (double)tokens / (seconds > 0 ? seconds : 1));
}

static void print_json(const rt_archive_options *o, const rt_teacher *teacher,
                       const rt_trace_statistics *s, double mean, int64_t tokens, double seconds)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "archive", o->out);
    rt_trace_stats_put(json, s);
    rt_json_put_num(json, "tokens_per_response", mean);
    rt_json_put_num(json, "seconds", seconds);
    rt_json_put_i64(json, "new_tokens", tokens);
    if (teacher->stream)
        rt_streaming_put(json, teacher);
    rt_json_print(json);
    cJSON_Delete(json);
}

static int report(const rt_archive_options *o, const rt_teacher *teacher, int64_t tokens,
                  double seconds, rt_err *err)
{
    rt_trace_reader *r = NULL;
    rt_trace_statistics s;
    int64_t learned;
    if (rt_trace_open_read(&r, o->out, err))
        return -1;
    int bad = rt_trace_stats(r, &s, err) || count_tokens(r, &learned, err);
    rt_trace_reader_close(r);
    if (bad)
        return -1;
    double mean = (double)learned / (double)rt_max(s.samples, 1);
    if (o->json)
        print_json(o, teacher, &s, mean, tokens, seconds);
    else
        print_table(&s, mean, tokens, seconds);
    if (!o->json && teacher->stream)
        rt_streaming_print(teacher);
    return 0;
}

int rt_work_end(rt_trace_writer *w, const rt_teacher *teacher, int bad, bool done,
                const rt_archive_options *o, int64_t tokens, double begun, rt_err *err)
{
    int64_t n = rt_trace_written(w);
    rt_err closing = { 0 };
    bad = bad || rt_trace_finish(w, err);
    if (rt_trace_close(w, &closing) && !bad) {
        *err = closing;
        bad = -1;
    }
    if (!bad && done && !o->json) {
        printf("all %lld samples are there already; 'retort archive stats' describes them\n",
               (long long)n);
        return 0;
    }
    return bad ? -1 : report(o, teacher, tokens, rt_now() - begun, err);
}
