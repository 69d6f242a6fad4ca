/* tokenizer_gguf.c: a tokenizer rebuilt from the keys tokenizer.ggml.*, and the scores for the
   other direction. A rebuilt tokenizer does what the Hugging Face one of the same family (split.c)
   does, Unicode normal form included, which llama.cpp leaves out. */
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/formats/gguf.h"
#include "corpora/tokenizer/tokenizer_parts.h"

/* ---- scores --------------------------------------------------------------------------------- */

/* SentencePiece runtimes merge the pair whose result has the highest score: minus the rank of the
   merge that makes it is the order of the merges, and what no merge makes comes after all. */
void rt_tokenizer_scores(const rt_tokenizer *t, float *out)
{
    int64_t n = t->bpe.n_merges;
    for (int32_t i = 0; i < t->vocab; i++)
        out[i] = t->type[i] == RT_TOKEN_NORMAL ? -(float)(n + 1) : 0.0f;
    for (int64_t k = n - 1; k >= 0; k--) /* the best rank that makes a token is written last */
        out[rt_bpe_merged(&t->bpe, t->bpe.left[k], t->bpe.right[k])] = -(float)(k + 1);
}

typedef struct scored_merge {
    float score;
    int32_t left, right, left_chars, right_chars;
    int64_t order;
} scored_merge;

/* Best score first; then as transformers' conversion of SentencePiece models orders equal ones. */
static int by_score(const void *a, const void *b)
{
    const scored_merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->left_chars != y->left_chars)
        return x->left_chars > y->left_chars ? -1 : 1;
    if (x->right_chars != y->right_chars)
        return x->right_chars > y->right_chars ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static int by_ids(const void *a, const void *b)
{
    const scored_merge *x = a, *y = b;
    return x->left != y->left ? (x->left > y->left) - (x->left < y->left)
                              : (x->right > y->right) - (x->right < y->right);
}

/* Every way to cut a token into two tokens is a merge, ranked by the token's score. */
static int merges_from_scores(rt_tokenizer *t, const float *score, rt_err *err)
{
    scored_merge *m = NULL;
    int64_t n = 0, cap = 0;
    int bad = 0;
    for (int32_t id = 0; id < t->vocab && !bad; id++) {
        rt_str s = t->token[id];
        if (t->type[id] != RT_TOKEN_NORMAL || s.bytes < 2)
            continue;
        if (s.bytes > 512)
            bad = rt_fail(err, "token %d is longer than 512 bytes", id);
        int64_t first = n;
        int32_t chars = 0, total = 0;
        for (int64_t i = 0; i < s.bytes; i++)
            total += ((uint8_t)s.data[i] & 0xc0) != 0x80;
        for (int64_t cut = 1; cut < s.bytes && !bad; cut++) {
            chars += ((uint8_t)s.data[cut - 1] & 0xc0) != 0x80;
            int32_t l = rt_bpe_find(&t->bpe, s.data, cut);
            int32_t r = l < 0 ? -1 : rt_bpe_find(&t->bpe, s.data + cut, s.bytes - cut);
            if (r < 0)
                continue;
            rt_grow(&m, &cap, n + 1, sizeof *m, "merges");
            m[n++] = (scored_merge){ score[id], l, r, chars, total - chars, 0 };
        }
        if (!bad && n > first)
            qsort(m + first, (size_t)(n - first), sizeof *m, by_ids);
        for (int64_t i = first; i < n; i++)
            m[i].order = i;
    }
    if (n)
        qsort(m, (size_t)n, sizeof *m, by_score);
    for (int64_t i = 0; i < n && !bad; i++)
        bad = rt_bpe_add_merge(&t->bpe, t->token[m[i].left], t->token[m[i].right], n, err);
    free(m);
    return bad;
}

/* ---- parts -> tokenizer --------------------------------------------------------------------- */

static int byte_level_pipeline(rt_tokenizer *t, const char *name, rt_err *err)
{
    const rt_split *f = name ? rt_split_find(name) : NULL;
    char nearest[80];
    if (!f)
        return rt_fail(err,
                       "tokenizer.ggml.pre %s is not a pre-tokenizer retort knows%s; use the "
                       "tokenizer.json of the original model",
                       name ? name : "is missing, and a missing one",
                       name ? rt_split_suggest(nearest, sizeof nearest, name) : "");
    t->bpe.ignore_merges = f->ignore_merges;
    rt_step *nfc = f->nfc ? rt_steps_add(&t->normal, RT_STEP_UNICODE, err) : NULL;
    if (f->nfc && !nfc)
        return -1;
    for (int i = 0; i < RT_COUNT(f->pattern) && f->pattern[i]; i++)
        if (rt_steps_add_split(&t->pre, f->pattern[i], err))
            return -1;
    return rt_steps_add(&t->decode, RT_STEP_BYTES, err) ? 0 : -1;
}

static int add_text_step(rt_steps *s, rt_step_kind kind, const char *find, const char *text,
                         rt_err *err)
{
    rt_step *step = rt_steps_add(s, kind, err);
    if (!step)
        return -1;
    step->start = kind == RT_STEP_TRIM;
    step->text = rt_strdup(text);
    return find ? rt_regex_open(&step->regex, find, true, err) : 0;
}

/* Spaces are written as U+2581, one is put in front, unknown characters become byte tokens. */
static int sentencepiece_pipeline(rt_tokenizer *t, bool space_prefix, rt_err *err)
{
    static const char mark[] = "\xe2\x96\x81";
    t->bpe.byte_fallback = t->bpe.fuse_unk = true;
    return (space_prefix && add_text_step(&t->normal, RT_STEP_PREPEND, NULL, mark, err)) ||
                   add_text_step(&t->normal, RT_STEP_REPLACE, " ", mark, err) ||
                   add_text_step(&t->decode, RT_STEP_REPLACE, mark, " ", err) ||
                   !rt_steps_add(&t->decode, RT_STEP_BYTE_FALLBACK, err) ||
                   !rt_steps_add(&t->decode, RT_STEP_FUSE, err) ||
                   (space_prefix && add_text_step(&t->decode, RT_STEP_TRIM, NULL, " ", err))
               ? -1
               : 0;
}

static int put_tokens(rt_tokenizer *t, const rt_tokenizer_parts *p, rt_err *err)
{
    t->added = rt_alloc(t->vocab, sizeof *t->added, "added tokens");
    for (int32_t i = 0; i < t->vocab; i++) {
        int64_t type = p->type ? p->type[i] : RT_TOKEN_NORMAL;
        if (type < RT_TOKEN_NORMAL || type > RT_TOKEN_BYTE)
            return rt_fail(err, "token %d has the unknown type %lld", i, (long long)type);
        if (type == RT_TOKEN_UNUSED)
            continue;
        if (rt_tokenizer_put(t, i, p->token[i].data, p->token[i].bytes, err))
            return -1;
        t->type[i] = (uint8_t)type;
        if (type != RT_TOKEN_NORMAL && type != RT_TOKEN_BYTE && t->token[i].bytes)
            t->added[t->n_added++] = (rt_added){ .id = i,
                                                 .content = t->token[i],
                                                 .search = t->token[i],
                                                 .special = type != RT_TOKEN_USER };
    }
    return 0;
}

static int put_merges(rt_tokenizer *t, const rt_tokenizer_parts *p, rt_err *err)
{
    for (int64_t i = 0; i < p->n_merges; i++)
        if (rt_bpe_add_merge_text(&t->bpe, p->merge[i], p->n_merges, err))
            return -1;
    return 0;
}

static int check_id(int32_t id, int64_t n, const char *name, rt_err *err)
{
    return id >= n ? rt_fail(err, "%s %d is outside the %lld tokens", name, id, (long long)n) : 0;
}

static int fill(rt_tokenizer *t, const rt_tokenizer_parts *p, rt_err *err)
{
    bool llama = strcmp(p->model, "llama") == 0;
    t->model = llama ? "llama" : "gpt2";
    t->space_prefix = llama && p->space_prefix;
    t->bos = p->bos < 0 ? -1 : p->bos;
    t->eos = p->eos < 0 ? -1 : p->eos;
    t->pad = p->pad < 0 ? -1 : p->pad;
    if (check_id(p->bos, t->vocab, "BOS", err) || check_id(p->eos, t->vocab, "EOS", err) ||
        check_id(p->pad, p->n_tokens, "padding", err) ||
        check_id(p->unk, t->vocab, "unknown token", err) || put_tokens(t, p, err) ||
        rt_bpe_set_vocab(&t->bpe, t->token, t->vocab, !llama, err) ||
        (llama ? sentencepiece_pipeline(t, p->space_prefix, err)
               : byte_level_pipeline(t, p->pre, err)) ||
        (llama ? merges_from_scores(t, p->score, err) : put_merges(t, p, err)))
        return -1;
    t->bpe.unk = llama && p->unk >= 0 ? p->unk : -1;
    const int32_t used[] = { p->add_bos ? t->bos : -1, p->add_eos ? t->eos : -1, t->bpe.unk };
    for (int i = 0; i < RT_COUNT(used); i++)
        if (used[i] >= 0 && !t->token[used[i]].data)
            return rt_fail(err, "token %d is put into texts, but its type says unused", used[i]);
    if ((p->add_bos && t->bos >= 0 && rt_ids_add(&t->prefix, t->bos, err)) ||
        (p->add_eos && t->eos >= 0 && rt_ids_add(&t->suffix, t->eos, err)))
        return -1;
    t->chat_template = p->chat_template ? rt_strdup(p->chat_template) : NULL;
    return rt_tokenizer_finish(t, err);
}

int rt_tokenizer_from_parts(rt_tokenizer **out, const rt_tokenizer_parts *p, const char *what,
                            rt_err *err)
{
    *out = NULL;
    bool llama = p->model && strcmp(p->model, "llama") == 0;
    if (!p->model || (!llama && strcmp(p->model, "gpt2") != 0))
        return rt_fail(err,
                       "%s: tokenizer.ggml.model %s is not supported; \"gpt2\" and \"llama\" are",
                       what, p->model ? p->model : "(absent)");
    if (llama && !p->score)
        return rt_fail(err, "%s: a \"llama\" tokenizer without tokenizer.ggml.scores", what);
    int64_t vocab = rt_min(p->n_tokens, RT_VOCAB_MAX), bytes = 0;
    while (vocab > 0 && p->type && p->type[vocab - 1] == RT_TOKEN_UNUSED)
        vocab--; /* rows an embedding was padded with */
    if (p->n_tokens > RT_VOCAB_MAX || vocab == 0)
        return rt_fail(err, "%s: %lld tokens; 1 to %d are possible", what, (long long)p->n_tokens,
                       RT_VOCAB_MAX);
    for (int64_t i = 0; i < vocab; i++)
        bytes += p->token[i].bytes + 1;
    rt_tokenizer *t = rt_tokenizer_alloc((int32_t)vocab, bytes);
    if (fill(t, p, err)) {
        rt_tokenizer_close(t);
        return rt_wrap(err, "%s: tokenizer", what);
    }
    *out = t;
    return 0;
}

/* ---- GGUF keys -> parts --------------------------------------------------------------------- */

static int read_strings(const rt_gguf *g, const char *key, rt_str **out, int64_t *n, rt_err *err)
{
    rt_gguf_str *s;
    if (rt_gguf_get_strs(g, key, &s, n, err))
        return -1;
    *out = rt_alloc(*n, sizeof **out, key);
    for (int64_t i = 0; i < *n; i++)
        (*out)[i] = (rt_str){ s[i].text, s[i].bytes };
    free(s);
    return 0;
}

static int read_text(const rt_gguf *g, const char *key, char **out, rt_err *err)
{
    rt_gguf_str s = { 0 };
    if (rt_gguf_opt_str(g, key, &s, err) || !s.text)
        return s.text || !rt_gguf_find_key(g, key) ? 0 : -1;
    *out = rt_strndup(s.text, s.bytes);
    return 0;
}

/* Settings that change ids and that no tokenizer here has; only their neutral value passes. */
static int refuse_flags(const rt_gguf *g, rt_err *err)
{
    static const struct {
        const char *key;
        bool neutral;
    } flags[] = { { "tokenizer.ggml.add_sep_token", false },
                  { "tokenizer.ggml.remove_extra_whitespaces", false },
                  { "tokenizer.ggml.escape_whitespaces", true },
                  { "tokenizer.ggml.normalizer.lowercase", false } };
    for (int i = 0; i < RT_COUNT(flags); i++) {
        bool value = flags[i].neutral;
        if (rt_gguf_opt_bool(g, flags[i].key, &value, err))
            return -1;
        if (value != flags[i].neutral)
            return rt_fail(err, "%s: key %s: %s is not supported", g->path, flags[i].key,
                           value ? "true" : "false");
    }
    return 0;
}

typedef struct gguf_keys {
    char *model, *pre, *chat_template;
    rt_str *token, *merge;
    int64_t *type, n_types, n_scores, bos, eos, pad, unk;
    float *score;
} gguf_keys;

static int read_keys(const rt_gguf *g, gguf_keys *k, rt_tokenizer_parts *p, rt_err *err)
{
    static const char T[] = "tokenizer.ggml.tokens", Y[] = "tokenizer.ggml.token_type",
                      S[] = "tokenizer.ggml.scores", M[] = "tokenizer.ggml.merges";
    if (refuse_flags(g, err) || read_text(g, "tokenizer.ggml.model", &k->model, err) ||
        read_text(g, "tokenizer.ggml.pre", &k->pre, err) ||
        read_text(g, "tokenizer.chat_template", &k->chat_template, err) ||
        read_strings(g, T, &k->token, &p->n_tokens, err) ||
        (rt_gguf_find_key(g, Y) && rt_gguf_get_i64s(g, Y, &k->type, &k->n_types, err)) ||
        (rt_gguf_find_key(g, S) && rt_gguf_get_f32s(g, S, &k->score, &k->n_scores, err)) ||
        (rt_gguf_find_key(g, M) && read_strings(g, M, &k->merge, &p->n_merges, err)) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.bos_token_id", 0, RT_VOCAB_MAX, &k->bos, err) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.eos_token_id", 0, RT_VOCAB_MAX, &k->eos, err) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.padding_token_id", 0, RT_VOCAB_MAX, &k->pad, err) ||
        rt_gguf_opt_i64(g, "tokenizer.ggml.unknown_token_id", 0, RT_VOCAB_MAX, &k->unk, err))
        return -1;
    /* What llama.cpp assumes when the key is absent. */
    bool llama = k->model && strcmp(k->model, "llama") == 0;
    const rt_split *split = k->pre ? rt_split_find(k->pre) : NULL;
    p->add_bos = llama || (split && split->add_bos);
    p->space_prefix = llama;
    if (rt_gguf_opt_bool(g, "tokenizer.ggml.add_bos_token", &p->add_bos, err) ||
        rt_gguf_opt_bool(g, "tokenizer.ggml.add_eos_token", &p->add_eos, err) ||
        rt_gguf_opt_bool(g, "tokenizer.ggml.add_space_prefix", &p->space_prefix, err))
        return -1;
    if ((k->type && k->n_types != p->n_tokens) || (k->score && k->n_scores != p->n_tokens))
        return rt_fail(err, "%s: token types or scores are not as many as tokens", g->path);
    return 0;
}

int rt_tokenizer_open_gguf(rt_tokenizer **out, const char *path, rt_err *err)
{
    rt_gguf g;
    if (rt_gguf_open(&g, path, err))
        return -1;
    gguf_keys k = { .bos = -1, .eos = -1, .pad = -1, .unk = -1 };
    rt_tokenizer_parts p = { 0 };
    int bad = read_keys(&g, &k, &p, err);
    if (!bad) {
        p.model = k.model;
        p.pre = k.pre;
        p.chat_template = k.chat_template;
        p.token = k.token;
        p.type = k.type;
        p.score = k.score;
        p.merge = k.merge;
        p.bos = (int32_t)k.bos;
        p.eos = (int32_t)k.eos;
        p.pad = (int32_t)k.pad;
        p.unk = (int32_t)k.unk;
        bad = rt_tokenizer_from_parts(out, &p, path, err);
    }
    free(k.model);
    free(k.pre);
    free(k.chat_template);
    free(k.token);
    free(k.merge);
    free(k.type);
    free(k.score);
    rt_gguf_close(&g);
    return bad;
}
