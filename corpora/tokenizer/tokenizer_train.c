/* tokenizer_train.c: from texts to the files of a tokenizer: pre-tokens are counted as the texts
   come, merges are learned at the end, and tokenizer_write.c writes what was made. */
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "corpora/tokenizer/bpe_learn.h"
#include "corpora/tokenizer/tokenizer_parts.h"

enum { WORD_BYTES_MAX = 4096, ADDED_MAX = 4096 };

struct rt_trainer {
    const rt_split *family;
    int64_t vocab;
    int n_special, n_added; /* n_added counts both */
    rt_added added[ADDED_MAX];
    rt_added_set set;
    char *bos, *eos, *pad, *chat_template;
    rt_steps normal, pre;
    rt_matcher matcher;
    rt_text text, spare, step[RT_STEPS_MAX];
    rt_learner learner;
};

/* ---- the files ------------------------------------------------------------------------------- */

/* Byte-level spelling of a token's raw bytes. */
static int spell(const rt_trainer *t, int64_t id, rt_text *out, rt_err *err)
{
    const rt_bytes *e = &t->learner.tokens.entry[id];
    return rt_bytes_spell(t->learner.tokens.pool.data + e->offset, e->bytes, out, err);
}

/* Spellings of all tokens, then of all merges, one after another in pool; cut[i] .. cut[i + 1]. */
static int spell_all(const rt_trainer *t, rt_text *pool, int64_t *cut, rt_err *err)
{
    const rt_learner *l = &t->learner;
    int64_t n = 0;
    for (int64_t i = 0; i < l->tokens.n; i++) {
        cut[n++] = pool->bytes;
        if (spell(t, i, pool, err))
            return -1;
    }
    for (int i = 0; i < t->n_added; i++) {
        cut[n++] = pool->bytes;
        if (rt_text_puts(pool, t->added[i].content.data, err))
            return -1;
    }
    for (int64_t i = 0; i < l->n_merges; i++) {
        cut[n++] = pool->bytes;
        if (spell(t, l->left[i], pool, err) || rt_text_puts(pool, " ", err) ||
            spell(t, l->right[i], pool, err))
            return -1;
    }
    cut[n] = pool->bytes;
    return 0;
}

static int32_t named(const rt_trainer *t, const char *name)
{
    for (int i = 0; name && i < t->n_special; i++)
        if (strcmp(t->added[i].content.data, name) == 0)
            return (int32_t)(t->learner.tokens.n + i);
    return -1;
}

/* What was learned as a tokenizer; that one is written. */
static int write_files(const rt_trainer *t, const char *dir, rt_err *err)
{
    int64_t learned = t->learner.tokens.n, tokens = learned + t->n_added;
    int64_t n = tokens + t->learner.n_merges;
    int64_t *cut = rt_alloc(n + 1, sizeof *cut, "a vocabulary");
    int64_t *type = rt_alloc(tokens, sizeof *type, "a vocabulary");
    rt_str *text = rt_alloc(n, sizeof *text, "a vocabulary");
    rt_text pool = { 0 };
    rt_tokenizer *made = NULL;
    int bad = spell_all(t, &pool, cut, err);
    for (int64_t i = 0; i < n && !bad; i++)
        text[i] = (rt_str){ pool.data + cut[i], cut[i + 1] - cut[i] };
    for (int64_t i = 0; i < tokens; i++)
        type[i] = i < learned                  ? RT_TOKEN_NORMAL
                  : i < learned + t->n_special ? RT_TOKEN_CONTROL
                                               : RT_TOKEN_USER;
    const rt_tokenizer_parts parts = { .model = "gpt2",
                                       .pre = t->family->name,
                                       .n_tokens = tokens,
                                       .token = text,
                                       .type = type,
                                       .n_merges = t->learner.n_merges,
                                       .merge = text + tokens,
                                       .bos = named(t, t->bos),
                                       .eos = named(t, t->eos),
                                       .pad = named(t, t->pad),
                                       .unk = -1,
                                       .chat_template = t->chat_template };
    bad = bad || rt_tokenizer_from_parts(&made, &parts, dir, err) ||
          rt_tokenizer_save(made, dir, err);
    rt_tokenizer_close(made);
    rt_text_free(&pool);
    free(cut);
    free(type);
    free(text);
    return bad ? -1 : 0;
}

/* ---- the trainer ----------------------------------------------------------------------------- */

static int copy_name(rt_trainer *t, char **out, const char *name, const char *what, rt_err *err)
{
    bool found = name == NULL;
    for (int i = 0; i < t->n_special; i++)
        found = found || strcmp(t->added[i].content.data, name) == 0;
    if (!found)
        return rt_usage(err, "the %s token %s is not among the special tokens", what, name);
    *out = name ? rt_strdup(name) : NULL;
    return 0;
}

static int add_token(rt_trainer *t, const char *token, rt_err *err)
{
    int64_t bytes = (int64_t)strlen(token);
    if (bytes < 2 || bytes > 256 || rt_utf8_check(token, bytes) != bytes)
        return rt_usage(
            err, "tokenizer: \"%s\" cannot be an added token; 2 to 256 bytes of UTF-8 can", token);
    for (int i = 0; i < t->n_added; i++)
        if (strcmp(t->added[i].content.data, token) == 0)
            return rt_usage(err, "the token %s is given twice", token);
    rt_str s = { rt_strdup(token), bytes };
    t->added[t->n_added] = (rt_added){ .id = t->n_added, .content = s, .search = s };
    t->n_added++;
    return 0;
}

static int configure(rt_trainer *t, const rt_trainer_config *c, rt_err *err)
{
    t->family = rt_split_find(c->pre);
    t->vocab = c->vocab;
    char nearest[80];
    if (!t->family)
        return rt_usage(err,
                        "tokenizer: pre \"%s\" is unknown%s; qwen2, llama-bpe, gpt-2, deepseek-v3, "
                        "gpt-4o and smollm are some",
                        c->pre, rt_split_suggest(nearest, sizeof nearest, c->pre));
    int n = c->n_special + c->n_added;
    if (n > ADDED_MAX || c->vocab < 256 + n || c->vocab > RT_VOCAB_MAX)
        return rt_usage(err,
                        "tokenizer: a vocabulary of %lld; it holds 256 bytes and %d added tokens",
                        (long long)c->vocab, n);
    for (int i = 0; i < n; i++)
        if (add_token(t, i < c->n_special ? c->special[i] : c->added[i - c->n_special], err))
            return -1;
    t->n_special = c->n_special;
    if (copy_name(t, &t->bos, c->bos, "bos", err) || copy_name(t, &t->eos, c->eos, "eos", err) ||
        copy_name(t, &t->pad, c->pad, "pad", err) || rt_matcher_open(&t->matcher, err))
        return -1;
    rt_added_set_open(&t->set, t->added, t->n_added, false);
    t->chat_template = c->chat_template ? rt_strdup(c->chat_template) : NULL;
    if (t->family->nfc && !rt_steps_add(&t->normal, RT_STEP_UNICODE, err))
        return -1;
    for (int i = 0; i < RT_COUNT(t->family->pattern) && t->family->pattern[i]; i++)
        if (rt_steps_add_split(&t->pre, t->family->pattern[i], err))
            return -1;
    return 0;
}

int rt_trainer_open(rt_trainer **out, const rt_trainer_config *config, rt_err *err)
{
    rt_trainer *t = rt_alloc(1, sizeof *t, "a tokenizer");
    *out = NULL;
    if (configure(t, config, err)) {
        rt_trainer_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

static int count_piece(void *user, const char *piece, int64_t bytes, rt_err *err)
{
    rt_trainer *t = user;
    if (bytes > WORD_BYTES_MAX)
        return 0;
    int64_t i = rt_bytes_map_put(&t->learner.words, piece, bytes, err);
    if (i >= 0)
        t->learner.words.entry[i].value++;
    return i < 0 ? -1 : 0;
}

static int add_text(rt_trainer *t, const char *text, int64_t bytes, rt_err *err)
{
    rt_pre_run run = { &t->pre, &t->matcher, t->step, count_piece, t };
    if (rt_normal_already(&t->normal, text, bytes))
        return rt_pre_tokenize(&run, text, bytes, true, err);
    rt_text_clear(&t->text);
    return rt_text_add(&t->text, text, bytes, err) ||
                   rt_normalize(&t->normal, &t->matcher, &t->text, &t->spare, err) ||
                   rt_pre_tokenize(&run, t->text.data, t->text.bytes, true, err)
               ? -1
               : 0;
}

/* Well-formed text between added tokens. */
int rt_trainer_add(rt_trainer *t, const char *text, int64_t bytes, rt_err *err)
{
    for (int64_t i = 0; i < bytes;) {
        int64_t good = rt_utf8_check(text + i, bytes - i);
        rt_added_walk w = { .set = &t->set,
                            .matcher = &t->matcher,
                            .want = RT_ADDED_ALL,
                            .text = text + i,
                            .bytes = good };
        for (const rt_added *token = &t->added[0]; token;) {
            int64_t done = w.done, begin = good, end;
            if (rt_added_next(&w, &token, &begin, &end, err) ||
                add_text(t, text + i + done, begin - done, err))
                return -1;
        }
        i += good + 1;
    }
    return 0;
}

int rt_trainer_write(rt_trainer *t, const char *dir, rt_err *err)
{
    if (rt_bpe_learn(&t->learner, t->vocab - t->n_added, err) || rt_dir_make(dir, err) ||
        write_files(t, dir, err))
        return -1;
    int64_t made = t->learner.tokens.n + t->n_added;
    if (made < t->vocab)
        rt_warn("the text has pairs for %lld tokens, not %lld", (long long)made,
                (long long)t->vocab);
    if (t->chat_template && !t->eos)
        rt_warn("a chat template without --eos: nothing says which token ends a turn, and a model "
                "with this tokenizer would not stop");
    return 0;
}

void rt_trainer_close(rt_trainer *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->n_added; i++)
        free((char *)t->added[i].content.data);
    rt_added_set_close(&t->set);
    rt_steps_free(&t->normal);
    rt_steps_free(&t->pre);
    rt_matcher_close(&t->matcher);
    rt_text_free(&t->text);
    rt_text_free(&t->spare);
    for (int i = 0; i < RT_STEPS_MAX; i++)
        rt_text_free(&t->step[i]);
    rt_learner_free(&t->learner);
    free(t->bos);
    free(t->eos);
    free(t->pad);
    free(t->chat_template);
    free(t);
}
