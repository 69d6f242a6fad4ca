/* test_evaluate.c: what eval counts, against something slower: pass@k against every subset of answers,
   calibration against bins made one after another, and the tokens that are shown against the KL of
   two models' logits in f64. */
#include <math.h>

#include "core/base/rng.h"
#include "core/network/weights.h"
#include "corpora/corpus.h"
#include "student/examples.h"
#include "tests/command.h"
#include "tests/suite.h"

#define TEACHER RT_SOURCE_DIR "/examples/reasoning/teacher"

static rt_err err;
extern const rt_command rt_command_eval, rt_command_init, rt_command_logits;

static int run(const rt_command *cmd, const char *words) { return run_command(cmd, words, &err); }

/* Of all ways to take k of n answers, the first c right: how many hold a right one. */
START_TEST(pass_at)
{
    for (int n = 1; n <= 10; n++)
        for (int c = 0; c <= n; c++)
            for (int k = 1; k <= n; k++) {
                int all = 0, hit = 0;
                for (unsigned set = 0; set < 1u << n; set++) {
                    if (__builtin_popcount(set) != k)
                        continue;
                    all++;
                    hit += (set & ((1u << c) - 1)) != 0;
                }
                double want = (double)hit / (double)all;
                ck_assert_msg(fabs(rt_pass_at(n, c, k) - want) < 1e-12, "n %d c %d k %d: %g, %g", n,
                              c, k, rt_pass_at(n, c, k), want);
            }
    ck_assert(rt_pass_at(100000, 1, 50000) > 0.49999 && rt_pass_at(100000, 1, 50000) < 0.50001);
}
END_TEST

START_TEST(calibration)
{
    enum { N = 700 };
    static float stats[N][RT_LOSS_COLUMNS];
    static uint8_t soft[N];
    static float weight[N]; /* what a token counts: nothing of this */
    rt_totals t = { 0 };
    double want = 0;
    for (int i = 0; i < N; i++) {
        float u = rt_rng_uniform(5, RT_RNG_DATA, (uint64_t)i);
        stats[i][RT_LOSS_CONFIDENCE] = i < 3 ? 1.0f : u;
        stats[i][RT_LOSS_CORRECT] = rt_rng_uniform(6, RT_RNG_DATA, (uint64_t)i) < u * u;
    }
    stats[3][RT_LOSS_CONFIDENCE] = 0; /* beyond what a softmax gives */
    for (int b = 0; b < RT_CONFIDENCE_BINS; b++) {
        double low = b / (double)RT_CONFIDENCE_BINS, high = (b + 1) / (double)RT_CONFIDENCE_BINS;
        double n = 0, confidence = 0, right = 0;
        for (int i = 0; i < N; i++) {
            double c = (double)stats[i][RT_LOSS_CONFIDENCE];
            if (c < low || (c >= high && b + 1 < RT_CONFIDENCE_BINS))
                continue;
            n++;
            confidence += c;
            right += (double)stats[i][RT_LOSS_CORRECT];
        }
        if (n > 0)
            want += n / N * fabs(confidence / n - right / n);
    }
    rt_batch batch = { .h_stats = stats[0], .h_soft = soft, .h_weight = weight, .kept = N };
    rt_batch_totals(&batch, &t);
    ck_assert_msg(fabs(rt_totals_ece(&t) - want) < 1e-12, "%g, %g", rt_totals_ece(&t), want);
    ck_assert(want > 0.1 && want < 0.3);
}
END_TEST

/* ---- the tokens that are shown ---- */

static const char LINES[] =
    "{\"id\":\"a\",\"prompt\":\"Jon has 8 figs. Jon buys 3. How many now?\",\"answer\":\"11\","
    "\"response\":\"\\\\boxed{11} <b>&amp; caf\xc3\xa9\"}\n"
    "{\"id\":\"b\",\"prompt\":\"Kim has 80 cards. Kim buys 31. How many now?\",\"answer\":\"111\","
    "\"response\":\"\\\\boxed{111}\"}\n"
    "{\"id\":\"c\",\"prompt\":\"Leo has 5 keys. Leo finds 4. How many now?\",\"answer\":\"9\","
    "\"response\":\"nine \xe7\x8c\xab\"}\n";

/* (T) -> (T, V) logits of a model. */
static float *logits_of(const char *model, const rt_document *doc, int64_t *vocab)
{
    char words[512], head[128], *data;
    int64_t bytes;
    int n = snprintf(head + 10, 110, "{'descr': '<i4', 'fortran_order': False, 'shape': (%lld,), }",
                     (long long)doc->n);
    memset(head + 10 + n, ' ', (size_t)(118 - n));
    memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);
    head[127] = '\n';
    FILE *f = fopen("t.npy", "wb");
    fwrite(head, 1, 128, f);
    fwrite(doc->token, 4, (size_t)doc->n, f);
    fclose(f);
    snprintf(words, sizeof words, "--model %s --tokens t.npy --out l.npy --overwrite", model);
    OK(run(&rt_command_logits, words));
    OK(rt_file_read(&data, &bytes, "l.npy", 1 << 30, &err));
    int64_t first = 10 + (uint8_t)data[8] + 256 * (uint8_t)data[9];
    *vocab = (bytes - first) / 4 / doc->n;
    float *x = malloc((size_t)(bytes - first));
    memcpy(x, data + first, (size_t)(bytes - first));
    free(data);
    return x;
}

static double lse(const float *z, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, (double)z[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)z[i] - max);
    return max + log(sum);
}

static double kl_of(const float *p, const float *q, int64_t n)
{
    double lp = lse(p, n), lq = lse(q, n), kl = 0;
    for (int64_t i = 0; i < n; i++)
        kl += exp((double)p[i] - lp) * ((double)p[i] - lp - (double)q[i] + lq);
    return kl;
}

/* Pieces are what the document says from the answer on, whole characters each. */
static void check_example(const cJSON *x, const rt_document *doc, const rt_chat *chat)
{
    int64_t vp, vq, vocab = rt_tokenizer_vocab(chat->tokenizer), begin = doc->span[0].begin;
    float *p = logits_of(TEACHER, doc, &vp), *q = logits_of("s", doc, &vq);
    const cJSON *piece = rt_json_find(x, "pieces")->child, *value = rt_json_find(x, "values")->child;
    double sum = 0, held = 0;
    int64_t t = begin, n = doc->n - begin;
    for (; piece; piece = piece->next, value = value->next) {
        rt_text text = { 0 };
        double most = 0;
        do {
            most = fmax(most, kl_of(p + (t - 1) * vp, q + (t - 1) * vq, vocab));
            sum += kl_of(p + (t - 1) * vp, q + (t - 1) * vq, vocab);
            OK(rt_tokenizer_decode(chat->tokenizer, doc->token + t++, 1, 0, &text, &err));
        } while (text.bytes < (int64_t)strlen(piece->valuestring));
        ck_assert_str_eq(text.data, piece->valuestring);
        ck_assert_msg(fabs(value->valuedouble - most) < 1e-4 * (1 + most), "%s: %g, %g",
                      piece->valuestring, value->valuedouble, most);
        held = fmax(held, most);
        rt_text_free(&text);
    }
    ck_assert(!value && t == doc->n && held > 0.1);
    double mean = rt_json_find(x, "mean")->valuedouble;
    ck_assert_msg(fabs(mean - sum / (double)n) < 1e-4 * (1 + mean), "%g, %g", mean, sum / (double)n);
    free(p);
    free(q);
}

START_TEST(shown)
{
    rt_chat chat;
    rt_corpus *c;
    rt_document doc = { 0 };
    cJSON *json;
    const char *path = "d.jsonl", *const kinds[] = { "worst", "worst", "typical" };
    OK(rt_file_write(path, LINES, sizeof LINES - 1, &err));
    OK(run(&rt_command_init, "--shape 3m --layers 1 --width 32 --heads 2 --kv-heads 1 --head-dim 16 "
                             "--ffn-width 32 --tokenizer " TEACHER " --out s"));
    OK(run(&rt_command_eval, "--model s --reference " TEACHER " --archive d.jsonl --problems "
                             "d.jsonl --examples 2 --max-tokens 5 --out e.json"));
    OK(rt_json_load(&json, "e.json", &err));
    ck_assert_str_eq(rt_json_find(json, "examples_by")->valuestring, "kl");
    OK(rt_chat_open(&chat, TEACHER, &err));
    rt_corpus_options o = { .chat = &chat, .max_length = 512, .verdicts = ~0u };
    OK(rt_corpus_open(&c, &path, 1, &o, &err));
    const cJSON *list = rt_json_find(json, "examples");
    double before = INFINITY;
    ck_assert_int_eq(cJSON_GetArraySize(list), 3);
    for (int k = 0; k < 3; k++) {
        const cJSON *x = cJSON_GetArrayItem(list, k);
        OK(rt_corpus_get(c, (int64_t)rt_json_find(x, "index")->valuedouble, &doc, &err));
        check_example(x, &doc, &chat);
        ck_assert_str_eq(rt_json_find(x, "kind")->valuestring, kinds[k]);
        ck_assert(rt_json_find(x, "mean")->valuedouble <= before);
        before = rt_json_find(x, "mean")->valuedouble;
        ck_assert(strstr(rt_json_find(x, "prompt")->valuestring, "How many now?"));
        ck_assert(rt_json_find(x, "said") && rt_json_find(x, "verdict"));
    }
    /* asked for their prompts alone the answers are the same; judged by the text's own */
    cJSON *alone;
    OK(run(&rt_command_eval, "--model s --reference " TEACHER " --archive d.jsonl --examples 2 "
                             "--max-tokens 5 --out f.json"));
    OK(rt_json_load(&alone, "f.json", &err));
    for (int k = 0; k < 3; k++) {
        const cJSON *x = cJSON_GetArrayItem(list, k);
        const cJSON *y = cJSON_GetArrayItem(rt_json_find(alone, "examples"), k);
        ck_assert_str_eq(rt_json_find(x, "said")->valuestring, rt_json_find(y, "said")->valuestring);
        ck_assert(rt_json_find(y, "verdict") && rt_json_find(y, "text_answer"));
        ck_assert(!rt_json_find(y, "reference_answer") && !rt_json_find(x, "text_answer"));
    }
    cJSON_Delete(alone);
    cJSON_Delete(json);
    rt_document_free(&doc);
    rt_corpus_close(c);
    rt_chat_close(&chat);
}
END_TEST

/* Texts have no prompt, an answer may be missing, there may be fewer documents than are to be shown. */
START_TEST(bare)
{
    static const char BARE[] = "{\"text\":\"nine keys\"}\n{\"prompt\":\"a\",\"response\":\"<think>\"}\n";
    cJSON *json;
    OK(rt_file_write("d.jsonl", BARE, sizeof BARE - 1, &err));
    OK(run(&rt_command_eval, "--model " TEACHER " --archive d.jsonl --max-tokens 5 --out e.json"));
    OK(rt_json_load(&json, "e.json", &err));
    const cJSON *list = rt_json_find(json, "examples"), *x;
    ck_assert_int_eq(cJSON_GetArraySize(list), 2);
    ck_assert_str_eq(rt_json_find(json, "examples_by")->valuestring, "cross_entropy");
    cJSON_ArrayForEach(x, list)
    {
        bool text = rt_json_find(x, "index")->valuedouble == 0;
        ck_assert(text ? !rt_json_find(x, "said") : rt_json_find(x, "said") != NULL);
    }
    cJSON_Delete(json);
    OK(run(&rt_command_eval, "--model " TEACHER " --archive d.jsonl --examples 0 --out e.json"));
    OK(rt_json_load(&json, "e.json", &err));
    ck_assert(!rt_json_find(json, "examples"));
    cJSON_Delete(json);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { pass_at, 1 }, { calibration, 1 }, { shown, 1 }, { bare, 1 } };
    return suite_run("evaluate", NULL, tests, RT_COUNT(tests));
}
