/* test_answer.c: stop texts against a search of everything that was said, across token borders and
   in tokens cut at random; and answers, from the example's teacher: in order, cut, judged, and each
   the same when it is asked for alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/network/weights.h"
#include "corpora/answer.h"
#include "tests/suite.h"

#define TEACHER RT_SOURCE_DIR "/examples/reasoning/teacher"

static rt_err err;

static int64_t below(uint64_t seed, uint64_t i, int64_t n)
{
    return (int64_t)rt_rng_below(seed, RT_RNG_DATA, i, (uint32_t)n);
}

/* ---- stop texts ---------------------------------------------------------------------------------
 */

static const char *const TOKENIZERS[] = { "tokenizers/qwen2", "tokenizers/llama-2", "tiny" };
static const char TEXT[] = "the cat said: stop.\n\nThen stopped, and the caf\xc3\xa9 st\xe2\x82\xac"
                           "p was \xe7\x8c\xab END of it; a a a aa.";

/* Tokens of pieces of TEXT, cut where no tokenizer would cut it. */
static void random_tokens(const rt_tokenizer *t, rt_ids *ids, uint64_t seed)
{
    int64_t bytes = (int64_t)strlen(TEXT), at = below(seed, 0, bytes);
    rt_ids_clear(ids);
    for (uint64_t i = 1; i < 14; i++, at = below(seed, 100 + i, 4) ? at : below(seed, i, bytes)) {
        int64_t n = rt_min(1 + below(seed, 200 + i, 7), bytes - at);
        OK(rt_tokenizer_encode(t, TEXT + at, n, 0, ids, &err));
        at = (at + n) % bytes;
    }
}

static int64_t text_of(const rt_tokenizer *t, const rt_ids *ids, int64_t from, int64_t n,
                       rt_text *out)
{
    rt_text_clear(out);
    OK(rt_tokenizer_decode(t, ids->id + from, n - from, RT_DETOKENIZE_SKIP_SPECIAL, out, &err));
    return out->bytes;
}

static int64_t first_of(const rt_strlist *list, const rt_text *text)
{
    int64_t first = -1;
    for (int64_t at = 0; at < text->bytes && first < 0; at++)
        for (int i = 0; i < list->n && first < 0; i++)
            if (strncmp(text->data + at, list->item[i], strlen(list->item[i])) == 0)
                first = at;
    return first;
}

START_TEST(stop_texts)
{
    char *texts[] = { "stop",
                      "\n\nTh",
                      "\xa9 s",
                      "\xc3\xa9 st",
                      "END of it; a",
                      "a a a",
                      "\xab E",
                      "aa",
                      "t",
                      " ",
                      "cat said: stop.\n\nThen stopped, and" };
    char path[512];
    rt_tokenizer *t;
    rt_ids ids = { 0 };
    rt_text text = { 0 };
    int stopped = 0, inside = 0;
    snprintf(path, sizeof path, "%s/tests/golden/%s", RT_SOURCE_DIR, TOKENIZERS[_i]);
    OK(rt_tokenizer_open(&t, path, &err));
    for (uint64_t seed = 0; seed < 1500; seed++) {
        int k = (int)below(seed, 900, RT_COUNT(texts));
        rt_strlist list = { texts + k, (int)rt_min(1 + below(seed, 901, 2), RT_COUNT(texts) - k) };
        rt_stops s;
        int64_t n_prompt, n, whole;
        if (rt_stops_open(&s, t, &list, &err)) { /* half a character */
            HAS(err, "not UTF-8");
            continue;
        }
        random_tokens(t, &ids, seed);
        n_prompt = rt_min(below(seed, 902, 5), ids.n - 1);
        for (n = n_prompt + 1; n <= ids.n; n++) {
            text_of(t, &ids, n_prompt, n, &text);
            int64_t at = first_of(&list, &text);
            ck_assert_int_eq(rt_stops_find(&s, text.data, text.bytes), at);
            ck_assert_int_eq(rt_stops_reached(&s, ids.id, n_prompt, n, &err), at >= 0);
            if (at < 0)
                continue;
            OK(rt_stops_before(&s, ids.id, n_prompt, n, &whole, &err));
            ck_assert_int_le(text_of(t, &ids, n_prompt, whole, &text), at);
            ck_assert(whole == n || text_of(t, &ids, n_prompt, whole + 1, &text) > at);
            stopped++;
            inside += whole < n - 1;
            break;
        }
        rt_stops_free(&s);
    }
    ck_assert_int_gt(stopped, 100);
    ck_assert_int_gt(inside, 20);
    rt_ids_free(&ids);
    rt_text_free(&text);
    rt_tokenizer_close(t);
}
END_TEST

START_TEST(pending_and_refused)
{
    char *texts[] = { "abab", "bc" }, *many[RT_STOPS_MAX + 1], *empty = "";
    char long_text[RT_STOPS_BYTES_MAX + 2];
    static const struct {
        const char *text;
        int64_t pending;
    } cases[] = { { "", 0 },     { "x", 0 },   { "a", 1 }, { "xab", 2 },
                  { "xaba", 3 }, { "aab", 2 }, { "b", 1 }, { "aabb", 1 } };
    rt_strlist list = { texts, 2 };
    rt_stops s;
    OK(rt_stops_open(&s, NULL, &list, &err));
    for (int i = 0; i < RT_COUNT(cases); i++)
        ck_assert_int_eq(rt_stops_pending(&s, cases[i].text, (int64_t)strlen(cases[i].text)),
                         cases[i].pending);
    for (int i = 0; i <= RT_STOPS_MAX; i++)
        many[i] = texts[0];
    list = (rt_strlist){ many, RT_STOPS_MAX + 1 };
    FAILS(rt_stops_open(&s, NULL, &list, &err), "17 texts, at most 16");
    list = (rt_strlist){ &empty, 1 };
    FAILS(rt_stops_open(&s, NULL, &list, &err), "0 bytes");
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    many[0] = long_text;
    list = (rt_strlist){ many, 1 };
    FAILS(rt_stops_open(&s, NULL, &list, &err), "257 bytes");
}
END_TEST

/* ---- answers ------------------------------------------------------------------------------------
 */

enum { QUESTIONS = 18, MOST = 400 };

typedef struct answered {
    int32_t token[MOST];
    int64_t n, learned;
    rt_finish finish;
    rt_verdict verdict;
    uint64_t soft;
    char text[256];
} answered;

typedef struct asker {
    rt_dev *dev;
    rt_model model;
    rt_chat chat;
    rt_ids prompt[QUESTIONS];
    char reference[QUESTIONS][16];
    int64_t first, taken; /* question 0 of a run is `first` here */
    answered got[QUESTIONS];
} asker;

static void open_asker(asker *a)
{
    memset(a, 0, sizeof *a);
    OK(rt_dev_open(&a->dev, NULL, 2, &err) || rt_chat_open(&a->chat, TEACHER, &err) ||
       rt_model_open(&a->model, a->dev, TEACHER, true, MOST, &err));
    for (int i = 0; i < QUESTIONS; i++) {
        int x = 110 + 37 * (i / 3), y = 3 + i / 3 % 4; /* three samples of each */
        char text[256];
        cJSON *talk;
        int n = snprintf(
            text, sizeof text,
            "{\"messages\":[{\"role\":\"user\",\"content\":\"Leo has %d eggs. Leo buys %d. "
            "Leo loses 7. How many now?\"}]}",
            x, y);
        snprintf(a->reference[i], sizeof a->reference[i], "%d", x + y - 7);
        OK(rt_json_parse(&talk, text, n, "talk", &err) ||
           rt_chat_prompt(&a->chat, talk, &a->prompt[i], &err));
        cJSON_Delete(talk);
    }
}

static void close_asker(asker *a)
{
    for (int i = 0; i < QUESTIONS; i++)
        rt_ids_free(&a->prompt[i]);
    rt_model_free(a->dev, &a->model);
    rt_chat_close(&a->chat);
    rt_dev_close(a->dev);
}

static void ask(void *ctx, int64_t question, rt_question *q)
{
    asker *a = ctx;
    int64_t i = a->first + question;
    *q = (rt_question){ a->prompt[i].id, a->prompt[i].n, 40 + (uint64_t)i, a->reference[i],
                        RT_VERIFY_NUMBER };
}

static int keep(void *ctx, const rt_answer *w, rt_err *e)
{
    asker *a = ctx;
    answered *g = &a->got[a->first + w->question];
    (void)e;
    ck_assert_int_eq(w->question, a->taken++); /* in order */
    ck_assert_int_eq(w->soft->n, w->n - w->n_prompt);
    g->n = w->n;
    g->learned = w->learned;
    g->finish = w->finish;
    g->verdict = w->verdict;
    g->soft = rt_hash64(w->soft->logp, 4 * w->soft->n_items,
                        rt_hash64(w->soft->id, 4 * w->soft->n_items, 0));
    memcpy(g->token, w->token, (size_t)w->n * sizeof *g->token);
    snprintf(g->text, sizeof g->text, "%s|%s", w->response->reasoning.data,
             w->response->answer.data);
    return 0;
}

static void run(asker *a, const rt_sampling_options *s, int64_t first, int64_t n, int64_t batch,
                int64_t cache_tokens)
{
    rt_answers *answers;
    rt_answers_io io = { .ctx = a, .ask = ask, .take = keep };
    rt_answers_options o = { .sampling = s,
                             .questions = n,
                             .longest = 40,
                             .positions = 300,
                             .batch = batch,
                             .prefill_tokens = 64,
                             .cache_tokens = cache_tokens,
                             .capture = { .head_max = 4, .tail_spacing = 0.125f } };
    a->first = first;
    a->taken = 0;
    OK(rt_answers_open(&answers, a->dev, &a->model, &a->chat, &o, &err) ||
       rt_answers_run(answers, n, &io, &err));
    ck_assert_int_eq(a->taken, n);
    rt_answers_close(answers);
}

/* Half of an answer's text as a stop: across the borders of its tokens. */
START_TEST(answers)
{
    static asker a;
    static answered free_run[QUESTIONS], want[QUESTIONS];
    char *stops[2] = { "\n1", "boxed{" };
    rt_sampling_options s = { .temperature = 0.8, .top_p = 1, .max_tokens = 150 };
    int seen[RT_FINISH_COUNT] = { 0 }, correct = 0, cut = 0;
    open_asker(&a);
    run(&a, &s, 0, QUESTIONS, 7, 0);
    memcpy(free_run, a.got, sizeof free_run);
    for (int i = 0; i < QUESTIONS; i++) {
        correct += free_run[i].verdict == RT_CORRECT;
        ck_assert((free_run[i].verdict != RT_UNFINISHED) == (free_run[i].finish == RT_FINISH_STOP));
        ck_assert_int_eq(free_run[i].learned, free_run[i].n);
    }
    ck_assert_int_gt(correct, QUESTIONS / 3);
    s.stop = (rt_strlist){ stops, 2 };
    s.max_tokens = 60;
    run(&a, &s, 0, QUESTIONS, 5, 0);
    memcpy(want, a.got, sizeof want);
    for (int i = 0; i < QUESTIONS; i++) {
        const answered *f = &free_run[i], *g = &want[i];
        ck_assert(g->n <= f->n && !memcmp(g->token, f->token, (size_t)g->n * sizeof *g->token));
        ck_assert(!strstr(g->text, stops[0]) && !strstr(g->text, stops[1]));
        ck_assert((g->finish == RT_FINISH_STOP_STRING) == (g->learned < g->n));
        size_t said = strcspn(g->text, "|");
        ck_assert_msg(strncmp(g->text, f->text, said) == 0, "%s\n%s", g->text, f->text);
        seen[g->finish]++;
        cut += strlen(g->text) < strlen(f->text);
    }
    ck_assert_int_gt(seen[RT_FINISH_STOP_STRING], QUESTIONS / 3);
    ck_assert_int_gt(cut, QUESTIONS / 3);
    for (int i = 0; i < QUESTIONS; i++) { /* each alone, with few pages or none to share */
        run(&a, &s, i, 1, 1, 64);
        ck_assert(!memcmp(&a.got[i], &want[i], sizeof want[i]));
    }
    run(&a, &s, 0, QUESTIONS, QUESTIONS, 1);
    ck_assert(!memcmp(a.got, want, sizeof want));
    close_asker(&a);
}
END_TEST

START_TEST(settings)
{
    char *stops[] = { "\n\n", "a \"b\"\xc3\xa9" }, control[251];
    rt_sampling_options s = { .temperature = 0.5, .top_p = 0.9, .top_k = 7, .max_tokens = 20 };
    rt_trace_manifest m;
    rt_trace_manifest_init(&m);
    OK(rt_answer_settings(&m, &s, &err));
    ck_assert_str_eq(m.stop, "");
    s.stop = (rt_strlist){ stops, 2 };
    s.min_p = 0.05;
    s.repetition = 64;
    OK(rt_answer_settings(&m, &s, &err));
    ck_assert_str_eq(m.stop, "[\"\\n\\n\",\"a \\\"b\\\"\xc3\xa9\"]");
    ck_assert(m.min_p == 0.05 && m.repetition == 64 && m.top_k == 7 && m.max_tokens == 20);
    memset(control, 1, sizeof control - 1); /* six bytes each in JSON */
    control[sizeof control - 1] = 0;
    stops[0] = control;
    FAILS(rt_answer_settings(&m, &s, &err), "longer than 1023 bytes");
    stops[0] = "";
    FAILS(rt_answer_settings(&m, &s, &err), "0 bytes");
    s.stop.n = 0;
    s.repetition = RT_CYCLES;
    OK(rt_answer_settings(&m, &s, &err));
    s.repetition = RT_CYCLES - 1; /* would never end anything */
    FAILS(rt_answer_settings(&m, &s, &err), "--stop-repetition 3: no cycle fits");
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { stop_texts, RT_COUNT(TOKENIZERS) },
                                 { pending_and_refused, 1 },
                                 { answers, 1 },
                                 { settings, 1 } };
    return suite_run("answer", NULL, tests, RT_COUNT(tests));
}
