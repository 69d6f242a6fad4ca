/* test_reply.c: a response that comes token by token, in vocabularies whose tokens are mostly
   single bytes: what is taken after each token is whole characters, nothing of a stop text, and
   together what rt_chat_split makes of the finished response. Any ids at all, whole, are what they
   decode to. */
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "corpora/reply.h"
#include "tests/suite.h"

static rt_err err;

enum { ROUNDS = 300 };

static const char *const KINDS[] = { "think", "harmony", "none" };

static void open_chat(rt_chat *c, const char *kind)
{
    static const char *const special[] = { "<|end|>", "<|start|>", "<|message|>", "<|channel|>",
                                           "<|return|>" },
                             *const think[] = { "<think>", "</think>" },
                             *const harmony[] = { "analysis", "final", "commentary" };
    bool h = !strcmp(kind, "harmony"), t = !strcmp(kind, "think");
    rt_trainer_config config = { .pre = "qwen2",
                                 .vocab = 269,
                                 .special = special,
                                 .n_special = 5,
                                 .added = h ? harmony : think,
                                 .n_added = h   ? 3
                                            : t ? 2
                                                : 0,
                                 .eos = "<|return|>" };
    rt_trainer *trainer;
    OK(rt_trainer_open(&trainer, &config, &err));
    OK(rt_trainer_add(trainer, "some text text some \xc3\xa9\xc3\xa9", 24, &err) ||
       rt_trainer_write(trainer, kind, &err));
    rt_trainer_close(trainer);
    OK(rt_chat_open(c, kind, &err));
}

/* Characters of one to four bytes, white space among them. */
static void random_text(rt_text *t, uint64_t seed)
{
    static const char *const parts[] = {
        "a",    "b",     " ",     "\n", "<", "\xc3\xa9", "\xe3\x81\x82", "\xf0\x9f\x91\x8d",
        "some", " text", ".\n\n", "\t"
    };
    int64_t n = 1 + rt_rng_below(seed, RT_RNG_DATA, 0, 40);
    for (int64_t i = 0; i < n; i++)
        OK(rt_text_puts(t, parts[rt_rng_below(seed, RT_RNG_DATA, (uint64_t)i + 1, RT_COUNT(parts))],
                        &err));
}

static void mark(const rt_chat *c, const char *token, rt_ids *ids)
{
    OK(rt_ids_add(ids, rt_tokenizer_id(c->tokenizer, token), &err));
}

static void say(const rt_chat *c, const rt_text *t, rt_ids *ids)
{
    OK(rt_tokenizer_encode(c->tokenizer, t->data, t->bytes, RT_TOKENIZE_PLAIN, ids, &err));
}

/* A response in the form of its kind; a thought in two rounds of three. */
static void compose(const rt_chat *c, const char *kind, uint64_t seed, rt_ids *ids)
{
    rt_text thought = { 0 }, answer = { 0 };
    bool thinks = seed % 3 != 0;
    random_text(&thought, 2 * seed);
    random_text(&answer, 2 * seed + 1);
    if (!strcmp(kind, "harmony")) {
        if (thinks) {
            mark(c, "<|channel|>", ids), mark(c, "analysis", ids), mark(c, "<|message|>", ids);
            say(c, &thought, ids);
            mark(c, "<|end|>", ids), mark(c, "<|start|>", ids);
        }
        mark(c, "<|channel|>", ids), mark(c, "final", ids), mark(c, "<|message|>", ids);
    } else if (!strcmp(kind, "think") && thinks) {
        mark(c, "<think>", ids);
        say(c, &thought, ids);
        mark(c, "</think>", ids);
    }
    say(c, &answer, ids);
    mark(c, "<|return|>", ids);
    rt_text_free(&thought);
    rt_text_free(&answer);
}

/* Feeds ids until a stop text, taking after each. Returns how many it took. */
static int64_t feed(rt_reply *r, const rt_ids *ids, rt_text got[RT_REPLY_PARTS], bool valid)
{
    int64_t n = 0;
    for (bool end = false; !end;) {
        end = n == ids->n || r->stopped;
        if (end)
            rt_reply_end(r);
        else
            OK(rt_reply_add(r, ids->id[n++], &err));
        for (int p = 0; p < RT_REPLY_PARTS; p++) {
            rt_str s = rt_reply_take(r, (rt_reply_part)p);
            ck_assert(!valid || rt_utf8_check(s.data, s.bytes) == s.bytes);
            OK(rt_text_add(&got[p], s.data, s.bytes, &err));
        }
    }
    return n;
}

static void check_response(const rt_chat *c, const rt_ids *ids, const rt_stops *stops,
                           uint64_t seed)
{
    rt_reply r = { 0 };
    rt_response want = { { 0 }, { 0 }, false };
    rt_text got[RT_REPLY_PARTS] = { { 0 } };
    rt_reply_begin(&r, c, stops, ids->id, 0, false);
    int64_t n = feed(&r, ids, got, true);
    OK(rt_chat_split(c, ids->id, 0, n, stops, &want, &err));
    ck_assert_msg(!strcmp(got[RT_REPLY_REASONING].data, want.reasoning.data), "%d: \"%s\", \"%s\"",
                  (int)seed, got[RT_REPLY_REASONING].data, want.reasoning.data);
    ck_assert_msg(!strcmp(got[RT_REPLY_ANSWER].data, want.answer.data), "%d: \"%s\", \"%s\"",
                  (int)seed, got[RT_REPLY_ANSWER].data, want.answer.data);
    for (int p = 0; p < RT_REPLY_PARTS; p++)
        rt_text_free(&got[p]);
    rt_response_free(&want);
    rt_reply_free(&r);
}

START_TEST(pieces)
{
    rt_chat c;
    open_chat(&c, KINDS[_i]);
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        rt_ids ids = { 0 };
        compose(&c, KINDS[_i], seed, &ids);
        check_response(&c, &ids, NULL, seed);
        rt_ids_free(&ids);
    }
    rt_chat_close(&c);
}
END_TEST

START_TEST(stops)
{
    static char *texts[] = { "ab", "some text", ".\n\n", "\xc3\xa9\xf0\x9f\x91\x8d", "<b", "aa<" };
    rt_chat c;
    int met = 0;
    open_chat(&c, KINDS[_i]);
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        rt_ids ids = { 0 };
        rt_stops s;
        rt_strlist list = { texts + seed % 4, 1 + (int)(seed % 3) };
        OK(rt_stops_open(&s, c.tokenizer, &list, &err));
        compose(&c, KINDS[_i], seed, &ids);
        check_response(&c, &ids, &s, seed);
        for (int64_t n = 1; n <= ids.n; n++)
            if (rt_stops_reached(&s, ids.id, 0, n, &err)) {
                met++;
                break;
            }
        rt_stops_free(&s);
        rt_ids_free(&ids);
    }
    ck_assert_int_gt(met, ROUNDS / 10);
    rt_chat_close(&c);
}
END_TEST

START_TEST(any_ids)
{
    rt_chat c;
    open_chat(&c, KINDS[_i]);
    uint32_t vocab = (uint32_t)rt_tokenizer_vocab(c.tokenizer);
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        rt_ids ids = { 0 };
        rt_text want = { 0 };
        for (uint64_t i = 0; i < 1 + seed % 50; i++)
            OK(rt_ids_add(&ids, (int32_t)rt_rng_below(seed, RT_RNG_DATA, i, vocab), &err));
        OK(rt_text_reserve(&want, 1, &err) ||
           rt_tokenizer_decode(c.tokenizer, ids.id, ids.n, RT_DETOKENIZE_SKIP_SPECIAL, &want,
                               &err));
        for (int whole = 0; whole < 2; whole++) {
            rt_reply r = { 0 };
            rt_text got[RT_REPLY_PARTS] = { { 0 } };
            rt_reply_begin(&r, &c, NULL, ids.id, 0, whole);
            feed(&r, &ids, got, false);
            ck_assert(!whole ||
                      (got[RT_REPLY_ANSWER].bytes == want.bytes &&
                       !memcmp(got[RT_REPLY_ANSWER].data, want.data, (size_t)want.bytes)));
            for (int p = 0; p < RT_REPLY_PARTS; p++)
                rt_text_free(&got[p]);
            rt_reply_free(&r);
        }
        rt_text_free(&want);
        rt_ids_free(&ids);
    }
    rt_chat_close(&c);
}
END_TEST

int main(void)
{
    const int n = RT_COUNT(KINDS);
    const suite_test tests[] = { { pieces, n }, { stops, n }, { any_ids, n } };
    return suite_run("reply", NULL, tests, RT_COUNT(tests));
}
