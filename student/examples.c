#include "student/examples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

static const char *const KEYS[] = { "cross_entropy", "kl_archive", "kl" };
enum by { BY_CROSS_ENTROPY, BY_ARCHIVE, BY_REFERENCE };

void rt_examples_init(rt_examples *x, const rt_chat *chat, const rt_problems *problems,
                      int64_t each, int64_t documents)
{
    *x = (rt_examples){ .chat = chat,
                        .problems = problems,
                        .each = each,
                        .n = documents,
                        .mean = rt_alloc(rt_max(documents, 1), sizeof *x->mean, "means of texts"),
                        .chosen = rt_alloc(2 * each + 1, sizeof *x->chosen, "texts to show"),
                        .ask = rt_alloc(2 * each + 1, sizeof *x->ask, "texts to show"),
                        .list = rt_json_array() };
    for (int64_t i = 0; i < documents; i++)
        x->mean[i] = -1;
}

void rt_examples_free(rt_examples *x)
{
    for (int64_t i = 0; i < x->n_ask; i++) {
        rt_ids_free(&x->ask[i].prompt);
        free(x->ask[i].answer);
    }
    free(x->ask);
    free(x->mean);
    free(x->chosen);
    cJSON_Delete(x->list);
    memset(x, 0, sizeof *x);
}

/* Of learned token i. A single estimate from an archive may be below 0, as its mean is not. */
static double value(const rt_examples *x, const rt_measured_document *m, int64_t i)
{
    const float *stats = m->stats + i * RT_LOSS_COLUMNS;
    double v = x->by == KEYS[BY_REFERENCE] ? (double)m->kl[i]
               : x->by == KEYS[BY_ARCHIVE] ? (double)stats[RT_LOSS_KL]
                                           : (double)stats[RT_LOSS_CE];
    return v > 0 ? v : 0;
}

int rt_examples_note(void *ctx, const rt_measured_document *m, rt_err *err)
{
    rt_examples *x = ctx;
    double sum[3] = { 0 };
    int64_t soft = 0;
    (void)err;
    for (int64_t i = 0; i < m->n; i++) {
        const float *stats = m->stats + i * RT_LOSS_COLUMNS;
        bool has = m->row[i].soft != NULL;
        sum[BY_CROSS_ENTROPY] += (double)stats[RT_LOSS_CE];
        sum[BY_ARCHIVE] += has ? (double)stats[RT_LOSS_KL] : 0;
        sum[BY_REFERENCE] += m->kl ? (double)m->kl[i] : 0;
        soft += has;
    }
    if (!m->n)
        return 0;
    double n = (double)m->n;
    x->mean[m->index] = m->kl ? sum[BY_REFERENCE] / n
                        : soft ? fmax(0, sum[BY_ARCHIVE] / (double)soft)
                               : sum[BY_CROSS_ENTROPY] / n;
    return 0;
}

/* ---- choosing ---- */

typedef struct ranked {
    double mean;
    int64_t index;
} ranked;

/* Largest first; of equals the earlier document. */
static int compare(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->mean != y->mean)
        return x->mean > y->mean ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static void choose(rt_examples *x)
{
    ranked *r = rt_alloc(rt_max(x->n, 1), sizeof *r, "ranked texts");
    int64_t n = 0;
    for (int64_t i = 0; i < x->n; i++)
        if (x->mean[i] >= 0)
            r[n++] = (ranked){ x->mean[i], i };
    qsort(r, (size_t)n, sizeof *r, compare);
    x->n_worst = rt_min(x->each, n);
    int64_t first = rt_max(x->n_worst, n / 2 - x->each / 2), end = rt_min(first + x->each, n);
    for (int64_t i = 0; i < x->n_worst; i++)
        x->chosen[x->n_chosen++] = r[i].index;
    for (int64_t i = first; i < end; i++)
        x->chosen[x->n_chosen++] = r[i].index;
    free(r);
}

/* ---- showing ---- */

/* Bytes that are no UTF-8, and zeros, become U+FFFD. */
static cJSON *json_text(const char *s, int64_t bytes)
{
    char *out = rt_alloc(3 * bytes + 1, 1, "a text");
    int64_t n = 0;
    for (int64_t i = 0; i < bytes;) {
        uint32_t cp;
        int len = rt_utf8_decode(s + i, bytes - i, &cp);
        if (len && cp) {
            memcpy(out + n, s + i, (size_t)len);
            n += len;
        } else {
            n += rt_utf8_encode(0xfffd, out + n);
        }
        i += len ? len : 1;
    }
    out[n] = 0;
    cJSON *text = cJSON_CreateString(out);
    free(out);
    return text;
}

static int put_decoded(const rt_examples *x, cJSON *json, const char *key, const int32_t *id,
                       int64_t n, rt_err *err)
{
    rt_text text = { 0 };
    int bad = rt_tokenizer_decode(x->chat->tokenizer, id, n, RT_DETOKENIZE_SKIP_SPECIAL, &text, err);
    if (!bad)
        rt_json_put(json, key, json_text(text.data ? text.data : "", text.bytes));
    rt_text_free(&text);
    return bad;
}

/* Tokens [begin, end) as pieces of whole characters, each with the largest value of its tokens, null
   where none was learned. A token's text is what it adds to the text before it. */
static int put_pieces(const rt_examples *x, cJSON *json, const rt_measured_document *m,
                      int64_t begin, int64_t end, rt_err *err)
{
    cJSON *pieces = rt_json_array(), *values = rt_json_array();
    rt_text text = { 0 };
    int64_t said = 0, row = 0;
    double most = -1;
    int bad = 0;
    for (int64_t t = begin; t < end && !bad; t++) {
        while (row < m->n && m->row[row].row - m->first + 1 < t)
            row++;
        if (row < m->n && m->row[row].row - m->first + 1 == t)
            most = fmax(most, value(x, m, row));
        rt_text_clear(&text);
        bad = rt_tokenizer_decode(x->chat->tokenizer, m->doc->token + begin, t + 1 - begin, 0,
                                  &text, err);
        if (bad || text.bytes <= said ||
            (t + 1 < end && text.bytes - said < 4 && rt_utf8_check(text.data, text.bytes) < text.bytes))
            continue;
        rt_json_put(pieces, NULL, json_text(text.data + said, text.bytes - said));
        rt_json_put(values, NULL, most < 0 ? cJSON_CreateNull() : cJSON_CreateNumber(most));
        said = text.bytes;
        most = -1;
    }
    rt_text_free(&text);
    rt_json_put(json, "pieces", pieces);
    rt_json_put(json, "values", values);
    return bad;
}

/* What a problem's first answer was; 1 when there was such a problem. */
static int put_answer(rt_examples *x, cJSON *json, const int32_t *prompt, int64_t n, rt_err *err)
{
    const rt_problem *p = x->problems ? rt_problems_find(x->problems, prompt, n) : NULL;
    if (!p)
        return 0;
    rt_json_put_str(json, "verdict", rt_verdict_name(p->verdict));
    rt_json_put_str(json, "reference_answer", p->answer);
    int64_t said = rt_min(p->said.n, RT_EXAMPLE_TOKENS);
    return put_decoded(x, json, "said", p->said.id, said, err) ? -1 : 1;
}

/* The prompt of a text, which begins its response at `begin`, for rt_examples_answer. */
static int add_ask(rt_examples *x, cJSON *json, const rt_document *doc, int64_t begin, rt_err *err)
{
    rt_example_ask *ask = &x->ask[x->n_ask++];
    rt_response r = { 0 };
    ask->json = json;
    if (rt_ids_reserve(&ask->prompt, begin, err) ||
        rt_chat_split(x->chat, doc->token, begin, doc->n, NULL, &r, err))
        return -1;
    memcpy(ask->prompt.id, doc->token, (size_t)begin * sizeof *doc->token);
    ask->prompt.n = begin;
    ask->answer = rt_strdup(r.answer.data ? r.answer.data : "");
    rt_response_free(&r);
    return ask->answer[0] ? rt_verify_choose(&ask->verify, "auto", NULL, ask->answer, err) : 0;
}

/* The second pass: one document. */
static int show(void *ctx, const rt_measured_document *m, rt_err *err)
{
    rt_examples *x = ctx;
    const rt_document *doc = m->doc;
    int64_t begin = doc->n_spans ? doc->span[doc->n_spans - 1].begin : 0;
    int64_t shown = rt_min(doc->n, begin + RT_EXAMPLE_TOKENS);
    int64_t k = cJSON_GetArraySize(x->list);
    cJSON *json = rt_json_object();
    rt_json_put(x->list, NULL, json);
    rt_json_put_str(json, "kind", k < x->n_worst ? "worst" : "typical");
    rt_json_put_i64(json, "index", m->index);
    if (doc->id[0])
        rt_json_put_str(json, "id", doc->id);
    rt_json_put_num(json, "mean", x->mean[m->index]);
    rt_json_put_i64(json, "tokens_left_out", doc->n - shown);
    if (put_decoded(x, json, "prompt", doc->token, begin, err) ||
        put_pieces(x, json, m, begin, shown, err))
        return -1;
    int put = put_answer(x, json, doc->token, begin, err);
    if (put)
        return put < 0 ? -1 : 0;
    return begin > 1 ? add_ask(x, json, doc, begin, err) : 0; /* a text has no prompt */
}

static void ask(void *ctx, int64_t question, rt_question *q)
{
    const rt_examples *x = ctx;
    const rt_example_ask *a = &x->ask[question];
    *q = (rt_question){ .prompt = a->prompt.id,
                        .n_prompt = a->prompt.n,
                        .seed = (uint64_t)question,
                        .reference = a->answer,
                        .verify = a->verify };
}

/* Without a reference the text's own answer is what is compared with. */
static int take(void *ctx, const rt_answer *a, rt_err *err)
{
    rt_examples *x = ctx;
    cJSON *json = x->ask[a->question].json;
    int64_t n = rt_min(a->learned - a->n_prompt, RT_EXAMPLE_TOKENS);
    if (x->ask[a->question].answer[0]) {
        const char *answer = x->ask[a->question].answer;
        rt_json_put_str(json, "verdict", rt_verdict_name(a->verdict));
        rt_json_put(json, "text_answer", json_text(answer, rt_min((int64_t)strlen(answer), 200)));
    }
    return put_decoded(x, json, "said", a->token + a->n_prompt, n, err);
}

int rt_examples_answer(rt_examples *x, rt_answers *answers, rt_err *err)
{
    rt_answers_io io = { .ctx = x, .ask = ask, .take = take };
    return rt_answers_run(answers, x->n_ask, &io, err);
}

int rt_examples_run(rt_examples *x, rt_measure *ms, const rt_corpus *c, bool soft, rt_err *err)
{
    rt_measured unused;
    x->by = KEYS[ms->reference ? BY_REFERENCE : soft ? BY_ARCHIVE : BY_CROSS_ENTROPY];
    choose(x);
    ms->watch = show;
    ms->watch_ctx = x;
    return rt_measure_these(ms, c, x->chosen, x->n_chosen, &unused, err);
}
