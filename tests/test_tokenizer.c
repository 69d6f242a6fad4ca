/* test_tokenizer.c: text <-> ids against Hugging Face tokenizers (tests/golden/make_tokenizers.py)
   for every pipeline, every normalizer, pre-tokenizer, decoder and added-token flag; exact bytes
   back for any input; the learned vocabulary; GGUF parts; hostile files. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/rng.h"
#include "corpora/record.h"
#include "corpora/source.h"
#include "corpora/tokenizer/tokenizer.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/tokenizers/"
static const char *const NAMES[] = { "gpt-2",   "llama-bpe", "qwen2",   "deepseek-v3", "gpt-4o",
                                     "kimi-k2", "llama-2",   "mistral", "trained" };

static rt_tokenizer *open_golden(const char *name)
{
    rt_err err = { 0 };
    rt_tokenizer *t;
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    OK(rt_tokenizer_open(&t, path, &err));
    return t;
}

static cJSON *load(const char *name)
{
    rt_err err = { 0 };
    cJSON *json;
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    OK(rt_json_load(&json, path, &err));
    return json;
}

static void expect_ids(const cJSON *want, const rt_ids *got, int64_t skip, const char *what)
{
    char text[4096] = "";
    int64_t n = cJSON_GetArraySize(want);
    bool same = got->n - skip == n;
    const cJSON *v = want->child;
    for (int64_t i = skip; same && i < got->n; i++, v = v->next)
        same = got->id[i] == (int32_t)v->valuedouble;
    for (int64_t i = skip, at = 0; i < got->n && at < 4000 && !same; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%d,", got->id[i]);
    char *wanted = same ? NULL : rt_json_text(want);
    ck_assert_msg(same, "%s: got [%s] want %s", what, text, wanted ? wanted : "");
    free(wanted);
}

/* What Python's errors="replace" would make of our exact bytes, enough to compare by: every
   ill-formed byte counts as U+FFFD, and runs of them as one. */
static char *lossy(const char *s, int64_t n)
{
    rt_err err = { 0 };
    rt_text out = { 0 };
    bool bad = false;
    OK(rt_text_puts(&out, "", &err));
    for (int64_t i = 0; i < n;) {
        uint32_t cp;
        int len = rt_utf8_decode(s + i, n - i, &cp);
        bool replaced = len == 0 || cp == 0xfffd;
        if (!replaced)
            OK(rt_text_add(&out, s + i, len, &err));
        else if (!bad)
            OK(rt_text_puts(&out, "?", &err));
        bad = replaced;
        i += len ? len : 1;
    }
    return out.data;
}

static void expect_text(const char *want, const rt_text *got, const char *what)
{
    char *a = lossy(want, (int64_t)strlen(want)), *b = lossy(got->data, got->bytes);
    ck_assert_msg(strcmp(a, b) == 0, "%s: decoded \"%s\" want \"%s\"", what, b, a);
    free(a);
    free(b);
}

static void check_case(const rt_tokenizer *t, const cJSON *c, const char *name)
{
    rt_err err = { 0 };
    rt_ids ids = { 0 };
    rt_text text = { 0 };
    const char *s = rt_json_find(c, "text")->valuestring;
    int64_t n = (int64_t)strlen(s);
    char what[1024];
    snprintf(what, sizeof what, "%s: \"%s\"", name, s);
    const cJSON *plain = rt_json_find(c, "plain"), *special = rt_json_find(c, "special");
    const cJSON *decoded = rt_json_find(c, "decoded"), *skipped = rt_json_find(c, "skipped");
    OK(rt_tokenizer_encode(t, s, n, 0, &ids, &err));
    expect_ids(plain, &ids, 0, what);
    rt_ids_clear(&ids);
    OK(rt_tokenizer_encode(t, s, n, RT_TOKENIZE_SPECIAL, &ids, &err));
    expect_ids(special ? special : plain, &ids, 0, what);
    OK(rt_tokenizer_decode(t, ids.id, ids.n, 0, &text, &err));
    if (decoded) {
        expect_text(decoded->valuestring, &text, what);
    } else {
        ck_assert_msg(text.bytes == n && memcmp(text.data, s, (size_t)n) == 0, "%s: decoded \"%s\"",
                      what, text.data);
    }
    if (skipped) {
        rt_text_clear(&text);
        OK(rt_tokenizer_decode(t, ids.id, ids.n, RT_DETOKENIZE_SKIP_SPECIAL, &text, &err));
        expect_text(skipped->valuestring, &text, what);
    }
    rt_ids_clear(&ids);
    OK(rt_tokenizer_encode(t, s, n, RT_TOKENIZE_SPECIAL | RT_TOKENIZE_BOS, &ids, &err));
    expect_ids(special ? special : plain, &ids, (int64_t)rt_json_find(c, "bos")->valuedouble, what);
    rt_ids_free(&ids);
    rt_text_free(&text);
}

START_TEST(pipelines)
{
    for (int i = 0; i < RT_COUNT(NAMES); i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/cases.json", NAMES[i]);
        rt_tokenizer *t = open_golden(NAMES[i]);
        cJSON *cases = load(path), *c;
        ck_assert_int_ge(cJSON_GetArraySize(cases), 70);
        for (int pass = 0; pass < 2; pass++) /* the second out of the cache of pre-tokens */
            cJSON_ArrayForEach(c, cases) check_case(t, c, NAMES[i]);
        const char *pre = rt_tokenizer_pre(t);
        bool llama = strcmp(rt_tokenizer_model(t), "llama") == 0;
        ck_assert_str_eq(pre ? pre : "-", llama ? "-" : i == 8 ? "qwen2" : NAMES[i]);
        cJSON_Delete(cases);
        rt_tokenizer_close(t);
    }
}
END_TEST

/* The base of variants.json with one part replaced, through a file as everything else. */
START_TEST(variants)
{
    rt_err err = { 0 };
    cJSON *file = load("variants.json"), *v, *c;
    static const char *const parts[] = { "added_tokens", "normalizer", "pre_tokenizer", "decoder" };
    int n = 0;
    cJSON_ArrayForEach(v, rt_json_find(file, "variants"))
    {
        cJSON *json = cJSON_Duplicate(rt_json_find(file, "base"), true);
        const char *name = rt_json_find(v, "name")->valuestring;
        for (int i = 0; i < RT_COUNT(parts); i++)
            if (rt_json_find(v, parts[i]))
                cJSON_ReplaceItemInObject(json, parts[i],
                                          cJSON_Duplicate(rt_json_find(v, parts[i]), true));
        OK(rt_json_save(json, "tokenizer.json", &err));
        cJSON_Delete(json);
        rt_tokenizer *t;
        ck_assert_msg(!rt_tokenizer_open(&t, "tokenizer.json", &err), "%s: %s", name, err.text);
        cJSON_ArrayForEach(c, rt_json_find(v, "cases"))
        {
            rt_ids ids = { 0 };
            rt_text text = { 0 };
            const char *s = rt_json_find(c, "text")->valuestring;
            const cJSON *decoded = rt_json_find(c, "decoded");
            char what[1024];
            snprintf(what, sizeof what, "%s: \"%s\"", name, s);
            OK(rt_tokenizer_encode(t, s, (int64_t)strlen(s), RT_TOKENIZE_SPECIAL, &ids, &err));
            expect_ids(rt_json_find(c, "ids"), &ids, 0, what);
            OK(rt_tokenizer_decode(t, ids.id, ids.n, 0, &text, &err));
            if (decoded)
                expect_text(decoded->valuestring, &text, what);
            rt_ids_free(&ids);
            rt_text_free(&text);
            n++;
        }
        rt_tokenizer_close(t);
    }
    ck_assert_int_ge(n, 1000);
    cJSON_Delete(file);
}
END_TEST

/* Any bytes come back from a byte-level vocabulary, UTF-8 or not, special spellings or not. */
START_TEST(any_bytes)
{
    static const char *const byte_level[] = { "gpt-2", "llama-bpe", "deepseek-v3", "gpt-4o",
                                              "kimi-k2" };
    static const char *const scraps[] = { "<|endoftext|>", "\xf0\x9f\x98", "\xc3",
                                          "e\xcc\x81",     "   ",          "\n",
                                          "<|eot_id|>",    "\xed\xa0\x80", "word",
                                          "\xff\xfe" };
    for (int k = 0; k < RT_COUNT(byte_level); k++) {
        rt_err err = { 0 };
        rt_tokenizer *t = open_golden(byte_level[k]);
        for (uint64_t round = 0; round < 400; round++) {
            rt_ids ids = { 0 };
            rt_text in = { 0 }, out = { 0 };
            uint32_t n = rt_rng_below(7, RT_RNG_DATA, round << 20, 60);
            OK(rt_text_puts(&in, "", &err));
            for (uint32_t i = 1; i <= n; i++) {
                uint32_t r = rt_rng_u32(7, RT_RNG_DATA, (round << 20) + i);
                char byte = (char)(r >> 8);
                OK(r % 4 ? rt_text_add(&in, &byte, 1, &err)
                         : rt_text_puts(&in, scraps[(r >> 8) % RT_COUNT(scraps)], &err));
            }
            unsigned flags = round % 3 == 0   ? RT_TOKENIZE_PLAIN
                             : round % 3 == 1 ? 0
                                              : RT_TOKENIZE_SPECIAL;
            OK(rt_tokenizer_encode(t, in.data, in.bytes, flags, &ids, &err));
            OK(rt_tokenizer_decode(t, ids.id, ids.n, 0, &out, &err));
            ck_assert_int_eq(in.bytes, out.bytes);
            ck_assert_int_eq(memcmp(in.data, out.data, (size_t)in.bytes), 0);
            for (int64_t i = 0; i < ids.n && flags != RT_TOKENIZE_SPECIAL; i++)
                ck_assert_int_ne(rt_tokenizer_type(t, ids.id[i]), RT_TOKEN_CONTROL);
            rt_ids_free(&ids);
            rt_text_free(&in);
            rt_text_free(&out);
        }
        rt_tokenizer_close(t);
    }
}
END_TEST

START_TEST(strangers_text)
{
    rt_err err = { 0 };
    rt_tokenizer *t = open_golden("qwen2");
    static const char text[] = "</think><|im_end|>";
    int32_t think = rt_tokenizer_id(t, "</think>"), end = rt_tokenizer_id(t, "<|im_end|>");
    struct {
        unsigned flags;
        bool think, end;
    } want[] = { { 0, true, false },
                 { RT_TOKENIZE_SPECIAL, true, true },
                 { RT_TOKENIZE_PLAIN, false, false } };
    ck_assert_int_ge(think, 256);
    for (int i = 0; i < 3; i++) {
        rt_ids ids = { 0 };
        bool has_think = false, has_end = false;
        OK(rt_tokenizer_encode(t, text, sizeof text - 1, want[i].flags, &ids, &err));
        for (int64_t k = 0; k < ids.n; k++) {
            has_think = has_think || ids.id[k] == think;
            has_end = has_end || ids.id[k] == end;
        }
        ck_assert_int_eq(has_think, want[i].think);
        ck_assert_int_eq(has_end, want[i].end);
        rt_ids_free(&ids);
    }
    rt_text out = { 0 };
    ck_assert_int_eq(rt_tokenizer_decode(t, (int32_t[]){ rt_tokenizer_vocab(t) }, 1, 0, &out, &err),
                     -1);
    HAS(err, "outside the vocabulary");
    rt_text_free(&out);
    rt_tokenizer_close(t);
}
END_TEST

START_TEST(facts)
{
    rt_tokenizer *t = open_golden("qwen2");
    ck_assert_int_eq(rt_tokenizer_bos(t), -1);
    ck_assert_int_eq(rt_tokenizer_eos(t), rt_tokenizer_id(t, "<|im_end|>"));
    ck_assert_int_eq(rt_tokenizer_pad(t), rt_tokenizer_id(t, "<|endoftext|>"));
    ck_assert_int_eq(rt_tokenizer_type(t, rt_tokenizer_eos(t)), RT_TOKEN_CONTROL);
    ck_assert_int_eq(rt_tokenizer_type(t, rt_tokenizer_id(t, "<think>")), RT_TOKEN_USER);
    ck_assert_int_eq(rt_tokenizer_type(t, 0), RT_TOKEN_NORMAL);
    ck_assert_int_eq(rt_tokenizer_vocab(t), rt_tokenizer_id(t, "</think>") + 1);
    ck_assert_str_eq(rt_tokenizer_token(t, 0).data, "!");
    ck_assert_ptr_null(rt_tokenizer_token(t, rt_tokenizer_vocab(t)).data);
    ck_assert_int_eq(rt_tokenizer_id(t, "no such token"), -1);
    ck_assert_str_eq(rt_tokenizer_chat_template(t),
                     "{% for m in messages %}{{ m.content }}{% endfor %}");
    ck_assert(!rt_tokenizer_adds_bos(t));
    rt_tokenizer_close(t);
    t = open_golden("deepseek-v3"); /* BOS by tokenizer_config.json alone */
    ck_assert(rt_tokenizer_adds_bos(t) && !rt_tokenizer_adds_eos(t));
    rt_tokenizer_close(t);
    t = open_golden("llama-2");
    ck_assert(rt_tokenizer_adds_bos(t) && rt_tokenizer_space_prefix(t));
    ck_assert_int_eq(rt_tokenizer_type(t, rt_tokenizer_id(t, "<0x0A>")), RT_TOKEN_BYTE);
    ck_assert_int_eq(rt_tokenizer_type(t, rt_tokenizer_unk(t)), RT_TOKEN_UNKNOWN);
    rt_tokenizer_close(t);
}
END_TEST

/* ---- GGUF parts ------------------------------------------------------------------------------ */

typedef struct parts {
    rt_tokenizer_parts p;
    rt_str *token, *merge;
    int64_t *type;
    float *score;
    rt_text pool;
} parts;

static void take_parts(parts *x, const rt_tokenizer *t, int32_t padding)
{
    rt_err err = { 0 };
    int32_t n = rt_tokenizer_vocab(t);
    int64_t merges = rt_tokenizer_merges(t);
    x->token = calloc((size_t)(n + padding), sizeof *x->token);
    x->type = calloc((size_t)(n + padding), sizeof *x->type);
    x->score = calloc((size_t)(n + padding), sizeof *x->score);
    x->merge = calloc((size_t)merges + 1, sizeof *x->merge);
    for (int32_t i = 0; i < n + padding; i++) {
        x->token[i] = i < n ? rt_tokenizer_token(t, i) : (rt_str){ "[PAD]", 5 };
        x->type[i] = rt_tokenizer_type(t, i);
    }
    rt_tokenizer_scores(t, x->score);
    int64_t *end = calloc((size_t)merges + 1, sizeof *end);
    for (int64_t i = 0; i < merges; i++) {
        OK(rt_tokenizer_merge(t, i, &x->pool, &err));
        end[i] = x->pool.bytes;
    }
    for (int64_t i = 0; i < merges; i++) {
        int64_t begin = i ? end[i - 1] : 0;
        x->merge[i] = (rt_str){ x->pool.data + begin, end[i] - begin };
    }
    free(end);
    x->p = (rt_tokenizer_parts){ .model = rt_tokenizer_model(t),
                                 .pre = rt_tokenizer_pre(t),
                                 .n_tokens = n + padding,
                                 .token = x->token,
                                 .type = x->type,
                                 .score = x->score,
                                 .n_merges = merges,
                                 .merge = x->merge,
                                 .bos = rt_tokenizer_bos(t),
                                 .eos = rt_tokenizer_eos(t),
                                 .pad = rt_tokenizer_pad(t),
                                 .unk = rt_tokenizer_unk(t),
                                 .add_bos = rt_tokenizer_adds_bos(t),
                                 .space_prefix = rt_tokenizer_space_prefix(t),
                                 .chat_template = rt_tokenizer_chat_template(t) };
}

static void drop_parts(parts *x)
{
    free(x->token);
    free(x->type);
    free(x->score);
    free(x->merge);
    rt_text_free(&x->pool);
}

/* Written as Hugging Face's files and opened again it is the same tokenizer. */
static rt_tokenizer *save_and_open(const rt_tokenizer *t, const char *name)
{
    rt_err err = { 0 };
    rt_tokenizer *again;
    char dir[128];
    snprintf(dir, sizeof dir, "saved-%s", name);
    OK(rt_dir_make(dir, &err));
    OK(rt_tokenizer_save(t, dir, &err));
    OK(rt_tokenizer_open(&again, dir, &err));
    ck_assert_str_eq(rt_tokenizer_fingerprint(again).hex, rt_tokenizer_fingerprint(t).hex);
    ck_assert_str_eq(rt_tokenizer_model(again), rt_tokenizer_model(t));
    ck_assert_int_eq(rt_tokenizer_bos(again), rt_tokenizer_bos(t));
    ck_assert_int_eq(rt_tokenizer_eos(again), rt_tokenizer_eos(t));
    ck_assert_int_eq(rt_tokenizer_pad(again), rt_tokenizer_pad(t));
    ck_assert(rt_tokenizer_adds_bos(again) == rt_tokenizer_adds_bos(t));
    ck_assert(rt_tokenizer_adds_eos(again) == rt_tokenizer_adds_eos(t));
    const char *jinja = rt_tokenizer_chat_template(t);
    ck_assert(jinja ? !strcmp(rt_tokenizer_chat_template(again), jinja)
                    : !rt_tokenizer_chat_template(again));
    return again;
}

/* A tokenizer taken apart for a GGUF and put together again does the same and is the same. */
START_TEST(gguf_parts)
{
    for (int i = 0; i < RT_COUNT(NAMES); i++) {
        if (strcmp(NAMES[i], "mistral") == 0) /* first-word-only prefix has no GGUF key */
            continue;
        rt_err err = { 0 };
        parts x = { 0 };
        rt_tokenizer *t = open_golden(NAMES[i]), *again;
        take_parts(&x, t, 7);
        OK(rt_tokenizer_from_parts(&again, &x.p, "x.gguf", &err));
        char path[256];
        snprintf(path, sizeof path, "%s/cases.json", NAMES[i]);
        cJSON *cases = load(path), *c;
        cJSON_ArrayForEach(c, cases) check_case(again, c, NAMES[i]);
        rt_tokenizer *saved = save_and_open(again, NAMES[i]);
        cJSON_ArrayForEach(c, cases) check_case(saved, c, NAMES[i]);
        rt_tokenizer_close(saved);
        ck_assert_int_eq(rt_tokenizer_vocab(again), rt_tokenizer_vocab(t));
        if (strcmp(rt_tokenizer_model(t), "gpt2") == 0)
            ck_assert_str_eq(rt_tokenizer_fingerprint(again).hex, rt_tokenizer_fingerprint(t).hex);
        cJSON_Delete(cases);
        rt_tokenizer_close(again);
        drop_parts(&x);
        rt_tokenizer_close(t);
    }
}
END_TEST

/* SmolLM2 has no token for 21 of the 256 bytes, and is a byte-level vocabulary all the same. */
START_TEST(bytes_without_a_token)
{
    parts x = { 0 };
    rt_err err = { 0 };
    rt_ids ids = { 0 };
    rt_tokenizer *t = open_golden("qwen2"), *made;
    take_parts(&x, t, 0);
    const char *const missing[] = { "\xc3\x80", "\xc3\xbf" }; /* c0 and ff, as they are spelled */
    for (int i = 0; i < RT_COUNT(missing); i++)
        x.type[rt_tokenizer_id(t, missing[i])] = RT_TOKEN_UNUSED;
    x.p.type = x.type;
    OK(rt_tokenizer_from_parts(&made, &x.p, "x.gguf", &err));
    rt_tokenizer *saved = save_and_open(made, "without-bytes");
    ck_assert_str_eq(rt_tokenizer_model(saved), "gpt2");
    ck_assert_str_eq(rt_tokenizer_pre(saved), "qwen2");
    OK(rt_tokenizer_encode(saved, "a\xff", 2, 0, &ids, &err)); /* as U+FFFD */
    ck_assert_int_ge(ids.n, 2);
    rt_ids_free(&ids);
    rt_tokenizer_close(saved);
    rt_tokenizer_close(made);
    rt_tokenizer_close(t);
    drop_parts(&x);
}
END_TEST

/* A file by the gguf package: the same fingerprint as the tokenizer.json it was made from. */
START_TEST(gguf_file)
{
    rt_tokenizer *json = open_golden("qwen2"), *gguf = open_golden("qwen2.gguf");
    ck_assert_str_eq(rt_tokenizer_fingerprint(gguf).hex, rt_tokenizer_fingerprint(json).hex);
    ck_assert_int_eq(rt_tokenizer_vocab(gguf), rt_tokenizer_vocab(json));
    ck_assert_int_eq(rt_tokenizer_eos(gguf), rt_tokenizer_eos(json));
    ck_assert_int_eq(rt_tokenizer_pad(gguf), rt_tokenizer_pad(json));
    ck_assert_int_eq(rt_tokenizer_bos(gguf), -1);
    ck_assert_str_eq(rt_tokenizer_chat_template(gguf), "{{ messages }}");
    cJSON *cases = load("qwen2/cases.json"), *c;
    cJSON_ArrayForEach(c, cases) check_case(gguf, c, "gguf");
    cJSON_Delete(cases);
    rt_tokenizer_close(json);
    rt_tokenizer_close(gguf);
}
END_TEST

static rt_str *json_strings(const cJSON *list, int64_t *n)
{
    const cJSON *item;
    *n = 0;
    rt_str *s = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *s);
    cJSON_ArrayForEach(item, list)
        s[(*n)++] = (rt_str){ item->valuestring, (int64_t)strlen(item->valuestring) };
    return s;
}

/* Every name of tokenizer.ggml.pre cuts texts as llama.cpp does (golden/compare_pre.py): merges
   that cross any boundary tell where the cuts are. */
START_TEST(pre_names)
{
    cJSON *golden = load("pre.json"), *c, *name;
    const cJSON *text, *texts = rt_json_find(golden, "texts");
    rt_tokenizer_parts p = { .model = "gpt2", .bos = -1, .eos = -1, .pad = -1, .unk = -1 };
    rt_str *token = json_strings(rt_json_find(golden, "tokens"), &p.n_tokens);
    rt_str *merge = json_strings(rt_json_find(golden, "merges"), &p.n_merges);
    int names = 0;
    p.token = token;
    p.merge = merge;
    cJSON_ArrayForEach(c, rt_json_find(golden, "cases"))
        cJSON_ArrayForEach(name, rt_json_find(c, "names"))
    {
        rt_err err = { 0 };
        rt_tokenizer *t;
        rt_ids ids = { 0 };
        const cJSON *want = rt_json_find(c, "ids")->child;
        p.pre = name->valuestring;
        OK(rt_tokenizer_from_parts(&t, &p, "pre.gguf", &err));
        cJSON_ArrayForEach(text, texts)
        {
            const cJSON *id = want->child;
            rt_ids_clear(&ids);
            OK(rt_tokenizer_encode(t, text->valuestring, (int64_t)strlen(text->valuestring),
                                   RT_TOKENIZE_PLAIN, &ids, &err));
            for (int64_t i = 0; i < ids.n; i++, id = id->next)
                ck_assert_msg(id && ids.id[i] == id->valueint, "%s: %s", p.pre, text->valuestring);
            ck_assert_msg(!id, "%s: %s: fewer ids", p.pre, text->valuestring);
            want = want->next;
        }
        rt_ids_free(&ids);
        rt_tokenizer_close(t);
        names++;
    }
    ck_assert_int_gt(names, 60);
    free(token);
    free(merge);
    cJSON_Delete(golden);
}
END_TEST

START_TEST(gguf_refusals)
{
    parts x = { 0 };
    rt_tokenizer *t = open_golden("qwen2"), *again;
    take_parts(&x, t, 0);
    rt_tokenizer_parts good = x.p;
    rt_err err = { 0 };
    x.p.pre = "no-such-family";
    ck_assert_int_eq(rt_tokenizer_from_parts(&again, &x.p, "x.gguf", &err), -1);
    HAS(err, "no-such-family");
    x.p.pre = "deepseek-lm";
    ck_assert_int_eq(rt_tokenizer_from_parts(&again, &x.p, "x.gguf", &err), -1);
    HAS(err, "did you mean deepseek-llm?");
    x.p = good;
    x.p.model = "t5";
    ck_assert_int_eq(rt_tokenizer_from_parts(&again, &x.p, "x.gguf", &err), -1);
    HAS(err, "t5");
    x.p = good;
    x.p.eos = 1 << 20;
    ck_assert_int_eq(rt_tokenizer_from_parts(&again, &x.p, "x.gguf", &err), -1);
    HAS(err, "EOS");
    x.p = good;
    x.token[5] = x.token[4];
    ck_assert_int_eq(rt_tokenizer_from_parts(&again, &x.p, "x.gguf", &err), -1);
    HAS(err, "repeats");
    drop_parts(&x);
    rt_tokenizer_close(t);
}
END_TEST

/* The fingerprint tells a swapped merge, a renamed token and another pattern apart. */
START_TEST(fingerprints)
{
    parts x = { 0 };
    rt_err err = { 0 };
    rt_tokenizer *t = open_golden("qwen2"), *again;
    rt_hash base = rt_tokenizer_fingerprint(t);
    take_parts(&x, t, 0);
    for (int i = 0; i < 3; i++) {
        rt_tokenizer_parts p = x.p;
        rt_str *token = x.token + p.n_tokens - 1, old_token = *token, old_merge = x.merge[9];
        if (i == 0)
            p.pre = "llama-bpe";
        if (i == 1)
            *token = (rt_str){ "</thinks>", 9 };
        if (i == 2) {
            x.merge[9] = x.merge[10];
            x.merge[10] = old_merge;
        }
        OK(rt_tokenizer_from_parts(&again, &p, "x.gguf", &err));
        ck_assert_str_ne(rt_tokenizer_fingerprint(again).hex, base.hex);
        rt_tokenizer_close(again);
        *token = old_token;
        if (i == 2) {
            x.merge[10] = x.merge[9];
            x.merge[9] = old_merge;
        }
    }
    drop_parts(&x);
    rt_tokenizer_close(t);
}
END_TEST

/* ---- learning ---------------------------------------------------------------------------------
 */

static const char *const SPECIAL[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };
static const char *const ADDED[] = { "<think>", "</think>" };

static void learn_seed(const char *dir, int64_t vocab, bool backwards, int n_added)
{
    rt_err err = { 0 };
    rt_trainer_config c = { .pre = "qwen2",
                            .vocab = vocab,
                            .special = SPECIAL,
                            .n_special = n_added ? 3 : 0,
                            .added = ADDED,
                            .n_added = n_added,
                            .eos = n_added ? "<|im_end|>" : NULL,
                            .pad = n_added ? "<|endoftext|>" : NULL };
    rt_trainer *t;
    rt_source *s;
    rt_item item;
    char *text[64];
    int n = 0, more;
    OK(rt_trainer_open(&t, &c, &err));
    OK(rt_source_open(&s, GOLDEN "seed.jsonl", RT_SOURCE_RECORDS, &err));
    while ((more = rt_source_next(s, &item, &err)) > 0) {
        rt_record r;
        OK(rt_record_from_item(&r, &item, &err));
        text[n++] = strdup(r.text);
        rt_record_free(&r);
    }
    ck_assert_int_eq(more, 0);
    rt_source_close(s);
    for (int i = 0; i < n; i++) {
        const char *x = text[backwards ? n - 1 - i : i];
        OK(rt_trainer_add(t, x, (int64_t)strlen(x), &err));
    }
    for (int i = 0; i < n; i++)
        free(text[i]);
    OK(rt_trainer_write(t, dir, &err));
    rt_trainer_close(t);
}

static char *slurp(const char *dir, const char *name)
{
    rt_err err = { 0 };
    char *data, *path = rt_path_join(dir, name);
    int64_t bytes;
    OK(rt_file_read(&data, &bytes, path, 1 << 24, &err));
    free(path);
    return data;
}

/* The same merges as the reference learns, the same bytes whatever the order of the texts, and the
   files under tests/golden/tokenizers/trained, which transformers was asked about. */
START_TEST(learning)
{
    learn_seed(".", 500, false, 0);
    cJSON *want = load("merges.json"), *w;
    rt_err err = { 0 };
    rt_tokenizer *t;
    rt_text merge = { 0 };
    int64_t n = 0;
    OK(rt_tokenizer_open(&t, ".", &err));
    cJSON_ArrayForEach(w, want)
    {
        rt_text_clear(&merge);
        OK(rt_tokenizer_merge(t, n++, &merge, &err));
        char both[256];
        snprintf(both, sizeof both, "%s %s", w->child->valuestring, w->child->next->valuestring);
        ck_assert_str_eq(merge.data, both);
    }
    ck_assert_int_eq(n, rt_tokenizer_merges(t));
    rt_text_free(&merge);
    rt_tokenizer_close(t);
    cJSON_Delete(want);
    for (int backwards = 0; backwards < 2; backwards++) {
        learn_seed(".", 420, backwards, 2);
        static const char *const files[] = { "tokenizer.json", "tokenizer_config.json" };
        for (int i = 0; i < 2; i++) {
            char *a = slurp(".", files[i]), *b = slurp(GOLDEN "trained", files[i]);
            ck_assert_str_eq(a, b);
            free(a);
            free(b);
        }
    }
}
END_TEST

START_TEST(learning_refusals)
{
    rt_err err = { 0 };
    rt_trainer *t;
    const char *one[] = { "x" }, *twice[] = { "<a>", "<a>" };
    rt_trainer_config c = { .pre = "qwen3000", .vocab = 300 };
    ck_assert_int_eq(rt_trainer_open(&t, &c, &err), -1);
    HAS(err, "qwen3000");
    c = (rt_trainer_config){ .pre = "qwen2", .vocab = 255 };
    ck_assert_int_eq(rt_trainer_open(&t, &c, &err), -1);
    HAS(err, "255");
    c = (rt_trainer_config){ .pre = "qwen2", .vocab = 300, .special = one, .n_special = 1 };
    ck_assert_int_eq(rt_trainer_open(&t, &c, &err), -1);
    HAS(err, "\"x\"");
    c = (rt_trainer_config){ .pre = "qwen2", .vocab = 300, .special = twice, .n_special = 2 };
    ck_assert_int_eq(rt_trainer_open(&t, &c, &err), -1);
    HAS(err, "twice");
    c = (rt_trainer_config){ .pre = "qwen2", .vocab = 300, .bos = "<s>" };
    ck_assert_int_eq(rt_trainer_open(&t, &c, &err), -1);
    HAS(err, "<s>");
    ck_assert_int_eq(err.exit_code, 2);
}
END_TEST

/* ---- hostile files ----------------------------------------------------------------------------
 */

#define VOCAB "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}"
#define MODEL "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\"]}"

START_TEST(refusals)
{
    static const struct {
        const char *json, *names;
    } rows[] = {
        { "{}", "model" },
        { "[", "tokenizer.json" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "Unigram" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "empty" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "integer" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e15},\"merges\":[]}}", "integer" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
          "two tokens" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
          "not in the vocabulary" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", "a b" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[7]}}", "merge 0" },
        { "{\"model\":{\"type\":\"BPE\",\"dropout\":0.1," VOCAB ",\"merges\":[]}}", "dropout" },
        { "{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"," VOCAB ",\"merges\":[]}}",
          "end_of_word_suffix" },
        { "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"u\"," VOCAB ",\"merges\":[]}}",
          "unk_token" },
        { "{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\"}}", "normalizer Precompiled" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}",
          "pre-tokenizer UnicodeScripts" },
        { "{" MODEL ",\"decoder\":{\"type\":\"CTC\"}}", "decoder CTC" },
        { "{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}", "BertProcessing" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<n>a)\"}}}",
          "group" },
        { "{" MODEL
          ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[[:alpha:]]\"}}}",
          "POSIX" },
        { "{" MODEL
          ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{Nope}\"}}}",
          "Nope" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"}}}",
          "group" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a\"}}}",
          "class" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\q\"}}}",
          "escape" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Sideways\",\"pattern\":{"
          "\"String\":\"a\"}}}",
          "Sideways" },
        { "{" MODEL ",\"added_tokens\":[{\"id\":1,\"content\":\"<x>\"}]}", "<x>" },
        { "{" MODEL ",\"added_tokens\":[{\"id\":7,\"content\":\"ab\"}]}", "ab" },
        { "{" MODEL ",\"added_tokens\":[{\"id\":7,\"content\":\"\"}]}", "empty" },
        { "{" MODEL
          ",\"added_tokens\":[{\"id\":7,\"content\":\"x\"},{\"id\":7,\"content\":\"x\"}]}",
          "two added" },
        { "{" MODEL ",\"added_tokens\":[{\"id\":4294967296,\"content\":\"x\"}]}", "id" },
        { "{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
          "\"SpecialToken\":{\"id\":\"q\"}}],"
          "\"special_tokens\":{\"q\":{\"ids\":[99]}}}}",
          "id 99, which no token has" },
    };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        rt_err err = { 0 };
        rt_tokenizer *t;
        OK(rt_file_write("tokenizer.json", rows[i].json, (int64_t)strlen(rows[i].json), &err));
        ck_assert_msg(rt_tokenizer_open(&t, ".", &err) == -1, "accepted: %s", rows[i].json);
        ck_assert_msg(strstr(err.text, rows[i].names), "%s: %s", rows[i].json, err.text);
        ck_assert_ptr_null(t);
    }
    remove("tokenizer.json");
    rt_err err = { 0 };
    rt_tokenizer *t;
    ck_assert_int_eq(rt_tokenizer_open(&t, ".", &err), -1);
    HAS(err, "tokenizer.json");
}
END_TEST

/* Random damage to a tokenizer.json: an error or a tokenizer that encodes, nothing else. */
START_TEST(damage)
{
    static const char *const names[] = { "llama-2", "deepseek-v3" };
    static const char text[] = "Hello, w\xc3\xb6rld 123 <s> \xe4\xb8\xad";
    int opened = 0;
    for (int k = 0; k < RT_COUNT(names); k++) {
        rt_err err = { 0 };
        char name[256], *data;
        int64_t n;
        snprintf(name, sizeof name, GOLDEN "%s/tokenizer.json", names[k]);
        OK(rt_file_read(&data, &n, name, 1 << 24, &err));
        for (uint64_t round = 0; round < 200; round++) {
            uint64_t at = round << 8;
            char saved[3];
            int64_t where[3];
            for (int i = 0; i < 3; i++) {
                /* mostly in front of the model, where damage is not found by the first merge */
                int64_t span = round % 4 ? strstr(data, "\"model\":") - data : n;
                where[i] = rt_rng_below(23, RT_RNG_DATA, at++, (uint32_t)span);
                saved[i] = data[where[i]];
                uint32_t r = rt_rng_u32(23, RT_RNG_DATA, at++);
                bool soft = (saved[i] | 32) >= 'a' && (saved[i] | 32) <= 'z' && r % 8;
                data[where[i]] = soft ? "019aZ_ "[(r >> 8) % 7] : "7,:\"{}[]\\\x80"[(r >> 8) % 10];
            }
            OK(rt_file_write("tokenizer.json", data, n, &err));
            rt_tokenizer *t;
            rt_ids ids = { 0 };
            if (!rt_tokenizer_open(&t, "tokenizer.json", &err)) {
                opened++;
                (void)rt_tokenizer_encode(t, text, sizeof text - 1, RT_TOKENIZE_SPECIAL, &ids,
                                          &err);
                rt_tokenizer_close(t);
            }
            rt_ids_free(&ids);
            for (int i = 2; i >= 0; i--)
                data[where[i]] = saved[i];
        }
        free(data);
    }
    ck_assert_int_gt(opened, 5); /* else nothing behind the JSON parser was met */
}
END_TEST

/* Patterns and texts made to run long end soon: with ids, or with a limit named. */
START_TEST(bounded)
{
    static const char *const patterns[] = { "\\\\s+(?!\\\\S)|\\\\s+", "(a+)+$", "(a|aa)+b",
                                            "(?:a*)*c" };
    char json[512];
    int64_t n = 200000;
    char *text = malloc((size_t)n);
    for (int i = 0; i < RT_COUNT(patterns); i++)
        for (int k = 0; k < 2; k++) {
            rt_err err = { 0 };
            rt_tokenizer *t;
            rt_ids ids = { 0 };
            snprintf(json, sizeof json,
                     "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\","
                     "\"pattern\":{\"Regex\":\"%s\"}}}",
                     patterns[i]);
            OK(rt_file_write("tokenizer.json", json, (int64_t)strlen(json), &err));
            OK(rt_tokenizer_open(&t, ".", &err));
            memset(text, k ? ' ' : 'a', (size_t)n);
            if (rt_tokenizer_encode(t, text, n, 0, &ids, &err))
                HAS(err, "limit");
            else
                ck_assert_int_eq(ids.n, k ? 0 : n); /* spaces have no token here */
            rt_ids_free(&ids);
            rt_tokenizer_close(t);
        }
    free(text);
}
END_TEST

/* The heap and the scan merge alike: one long word, cut into ever longer pieces of itself. */
START_TEST(long_words)
{
    rt_err err = { 0 };
    rt_tokenizer *t = open_golden("qwen2");
    rt_text word = { 0 }, back = { 0 };
    rt_ids ids = { 0 };
    for (int i = 0; i < 20000; i++)
        OK(rt_text_add(&word, &"etaoinshrdlu"[rt_rng_below(3, RT_RNG_DATA, (uint64_t)i, 12)], 1,
                       &err));
    OK(rt_tokenizer_encode(t, word.data, word.bytes, 0, &ids, &err));
    OK(rt_tokenizer_decode(t, ids.id, ids.n, 0, &back, &err));
    ck_assert_int_eq(back.bytes, word.bytes);
    ck_assert_int_eq(memcmp(back.data, word.data, (size_t)word.bytes), 0);
    ck_assert_int_lt(ids.n, word.bytes * 9 / 10);
    for (int64_t i = 0; i < 50; i++) { /* no pair that has a merge is left */
        char both[256];
        snprintf(both, sizeof both, "%s %s", rt_tokenizer_token(t, ids.id[i]).data,
                 rt_tokenizer_token(t, ids.id[i + 1]).data);
        for (int64_t k = 0; k < rt_tokenizer_merges(t); k++) {
            rt_text m = { 0 };
            OK(rt_tokenizer_merge(t, k, &m, &err));
            ck_assert_str_ne(m.data, both);
            rt_text_free(&m);
        }
    }
    /* and the first 60 bytes, short enough to be scanned, begin with the same ids */
    rt_ids head = { 0 };
    OK(rt_tokenizer_encode(t, word.data, 60, 0, &head, &err));
    for (int64_t i = 0; i < head.n - 10; i++)
        ck_assert_int_eq(head.id[i], ids.id[i]);
    rt_ids_free(&head);
    rt_ids_free(&ids);
    rt_text_free(&word);
    rt_text_free(&back);
    rt_tokenizer_close(t);
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------------
 */

static void *encode_all(void *arg)
{
    const rt_tokenizer *t = arg;
    cJSON *cases = load("qwen2/cases.json"), *c;
    for (int pass = 0; pass < 5; pass++)
        cJSON_ArrayForEach(c, cases) check_case(t, c, "thread");
    cJSON_Delete(cases);
    return NULL;
}

START_TEST(threads)
{
    rt_tokenizer *t = open_golden("qwen2");
    pthread_t id[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&id[i], NULL, encode_all, t), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(id[i], NULL);
    rt_tokenizer_close(t);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { pipelines, 1 },    { variants, 1 },
                                 { any_bytes, 1 },    { strangers_text, 1 },
                                 { facts, 1 },        { gguf_parts, 1 },
                                 { gguf_file, 1 },    { bytes_without_a_token, 1 },
                                 { pre_names, 1 },    { gguf_refusals, 1 },
                                 { fingerprints, 1 }, { learning, 1 },
                                 { damage, 1 },       { learning_refusals, 1 },
                                 { refusals, 1 },     { bounded, 1 },
                                 { long_words, 1 },   { threads, 1 } };
    return suite_run("tokenizer", NULL, tests, RT_COUNT(tests));
}
