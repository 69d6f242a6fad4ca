/* tokenizer_train.c: from texts to the files of a tokenizer: pre-tokens are counted as the texts
   come, merges are learned at the end, and tokenizer.json is written as Hugging Face reads it. */
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/log.h"
#include "core/memory.h"
#include "corpora/bpe_learn.h"
#include "corpora/tokenizer_parts.h"

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

static cJSON *typed(const char *type)
{
    cJSON *o = rt_json_object();
    rt_json_put_str(o, "type", type);
    return o;
}

static cJSON *byte_level(void)
{
    cJSON *o = typed("ByteLevel");
    rt_json_put_bool(o, "add_prefix_space", false);
    rt_json_put_bool(o, "trim_offsets", false);
    rt_json_put_bool(o, "use_regex", false);
    return o;
}

static cJSON *pre_tokenizer(const rt_split *f)
{
    cJSON *o = typed("Sequence"), *list = rt_json_array();
    for (int i = 0; i < RT_COUNT(f->pattern) && f->pattern[i]; i++) {
        cJSON *split = typed("Split"), *pattern = rt_json_object();
        rt_json_put_str(pattern, "Regex", f->pattern[i]);
        rt_json_put(split, "pattern", pattern);
        rt_json_put_str(split, "behavior", "Isolated");
        rt_json_put_bool(split, "invert", false);
        rt_json_put(list, NULL, split);
    }
    rt_json_put(list, NULL, byte_level());
    rt_json_put(o, "pretokenizers", list);
    return o;
}

static cJSON *added_tokens(const rt_trainer *t)
{
    cJSON *list = rt_json_array();
    for (int i = 0; i < t->n_added; i++) {
        cJSON *o = rt_json_object();
        rt_json_put_i64(o, "id", t->learner.tokens.n + i);
        rt_json_put_str(o, "content", t->added[i].content.data);
        rt_json_put_bool(o, "single_word", false);
        rt_json_put_bool(o, "lstrip", false);
        rt_json_put_bool(o, "rstrip", false);
        rt_json_put_bool(o, "normalized", false);
        rt_json_put_bool(o, "special", i < t->n_special);
        rt_json_put(list, NULL, o);
    }
    return list;
}

static cJSON *model(const rt_trainer *t, rt_err *err)
{
    cJSON *o = typed("BPE"), *vocab = rt_json_object(), *merges = rt_json_array();
    rt_text s = { 0 };
    int bad = 0;
    for (int64_t i = 0; i < t->learner.tokens.n && !bad; i++) {
        rt_text_clear(&s);
        bad = spell(t, i, &s, err);
        if (!bad)
            rt_json_put_i64(vocab, s.data, i);
    }
    for (int64_t i = 0; i < t->learner.n_merges && !bad; i++) {
        rt_text_clear(&s);
        bad = spell(t, t->learner.left[i], &s, err) || rt_text_puts(&s, " ", err) ||
              spell(t, t->learner.right[i], &s, err);
        if (!bad)
            rt_json_put_str(merges, NULL, s.data);
    }
    static const char *const none[] = { "dropout", "unk_token", "continuing_subword_prefix",
                                        "end_of_word_suffix" };
    for (int i = 0; i < RT_COUNT(none); i++)
        rt_json_put(o, none[i], cJSON_CreateNull());
    rt_json_put_bool(o, "fuse_unk", false);
    rt_json_put_bool(o, "byte_fallback", false);
    rt_json_put_bool(o, "ignore_merges", t->family->ignore_merges);
    rt_json_put(o, "vocab", vocab);
    rt_json_put(o, "merges", merges);
    rt_text_free(&s);
    if (!bad)
        return o;
    cJSON_Delete(o);
    return NULL;
}

static int save(const char *dir, const char *name, cJSON *json, rt_err *err)
{
    char *path = rt_path_join(dir, name);
    int bad = rt_json_save(json, path, err);
    free(path);
    cJSON_Delete(json);
    return bad;
}

static int write_files(const rt_trainer *t, const char *dir, rt_err *err)
{
    cJSON *m = model(t, err), *root = rt_json_object(), *config = rt_json_object();
    if (!m) {
        cJSON_Delete(root);
        cJSON_Delete(config);
        return -1;
    }
    rt_json_put_str(root, "version", "1.0");
    rt_json_put(root, "truncation", cJSON_CreateNull());
    rt_json_put(root, "padding", cJSON_CreateNull());
    rt_json_put(root, "added_tokens", added_tokens(t));
    rt_json_put(root, "normalizer", t->family->nfc ? typed("NFC") : cJSON_CreateNull());
    rt_json_put(root, "pre_tokenizer", pre_tokenizer(t->family));
    rt_json_put(root, "post_processor", byte_level());
    rt_json_put(root, "decoder", byte_level());
    rt_json_put(root, "model", m);
    rt_json_put_str(config, "tokenizer_class", "PreTrainedTokenizerFast");
    rt_json_put_str(config, "bos_token", t->bos);
    rt_json_put_str(config, "eos_token", t->eos);
    rt_json_put_str(config, "pad_token", t->pad);
    rt_json_put_bool(config, "clean_up_tokenization_spaces", false);
    if (t->chat_template)
        rt_json_put_str(config, "chat_template", t->chat_template);
    int bad = save(dir, "tokenizer_config.json", config, err);
    if (bad)
        cJSON_Delete(root);
    return bad ? bad : save(dir, "tokenizer.json", root, err);
}

/* ---- the trainer ----------------------------------------------------------------------------- */

static int copy_name(rt_trainer *t, char **out, const char *name, const char *what, rt_err *err)
{
    bool found = name == NULL;
    for (int i = 0; i < t->n_special; i++)
        found = found || strcmp(t->added[i].content.data, name) == 0;
    if (!found)
        return rt_usage(err, "tokenizer: the %s token %s is not among the special tokens", what,
                        name);
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
            return rt_usage(err, "tokenizer: the token %s is given twice", token);
    rt_str s = { rt_strdup(token), bytes };
    t->added[t->n_added] = (rt_added){ .id = t->n_added, .content = s, .search = s };
    t->n_added++;
    return 0;
}

static int configure(rt_trainer *t, const rt_trainer_config *c, rt_err *err)
{
    t->family = rt_split_find(c->pre);
    t->vocab = c->vocab;
    if (!t->family)
        return rt_usage(err,
                        "tokenizer: pre \"%s\" is unknown; qwen2, llama-bpe, gpt-2, deepseek-v3, "
                        "gpt-4o and smollm are known",
                        c->pre);
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
