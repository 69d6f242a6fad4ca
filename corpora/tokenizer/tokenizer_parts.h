/* tokenizer_parts.h: the inside of a tokenizer, for the files that fill one: tokenizer_json.c from
   Hugging Face files, tokenizer_gguf.c from a GGUF's keys. Everybody else includes tokenizer.h.
   Order of filling: alloc, put every token, rt_bpe_set_vocab with the model's, merges, pipelines,
   added tokens, finish. */
#ifndef RT_TOKENIZER_PARTS_H
#define RT_TOKENIZER_PARTS_H

#include <pthread.h>

#include "corpora/tokenizer/added.h"
#include "corpora/tokenizer/bpe.h"
#include "corpora/tokenizer/pipeline.h"
#include "corpora/tokenizer/tokenizer.h"

RT_BEGIN

/* What one thread works with; kept between calls for its cache. */
typedef struct rt_scratch {
    struct rt_scratch *next;
    rt_matcher matcher;
    rt_bpe_work work;
    rt_text clean, normal, spare;
    rt_text step[RT_STEPS_MAX];
} rt_scratch;

struct rt_tokenizer {
    int32_t vocab;
    rt_str *token; /* (vocab) spellings, NUL-terminated; data NULL = no such id */
    uint8_t *type; /* (vocab) rt_token_type */
    char *pool;    /* memory of token */
    int64_t pool_used, pool_bytes;
    rt_bpe bpe;
    rt_steps normal, pre, decode;
    rt_added *added; /* (n_added) ascending by content */
    int64_t n_added;
    rt_added_set set[2];   /* [0] found in the text as it is, [1] in its normal form */
    rt_regex *word;        /* a word character, when some token is single_word */
    rt_ids prefix, suffix; /* the post-processor */
    int32_t bos, eos, pad, unk;
    bool space_prefix;
    char *chat_template;
    const char *model, *family; /* "gpt2" | "llama"; name for tokenizer.ggml.pre or NULL */
    rt_hash fingerprint;
    pthread_mutex_t lock; /* of scratch */
    rt_scratch *scratch;
};

rt_tokenizer *rt_tokenizer_alloc(int32_t vocab, int64_t pool_bytes);
/* Spelling of an id: 0 <= id < vocab, not put before, UTF-8, no NUL. */
int rt_tokenizer_put(rt_tokenizer *t, int64_t id, const char *spelling, int64_t bytes, rt_err *err);
/* Everything derived: types, search sets, family, fingerprint. t->added is filled and complete. */
int rt_tokenizer_finish(rt_tokenizer *t, rt_err *err);

/* tokenizer.ggml.* of a GGUF (tokenizer_gguf.c). */
int rt_tokenizer_open_gguf(rt_tokenizer **out, const char *path, rt_err *err);

/* The byte-level families by the name GGUF has for them (split.c). */
typedef struct rt_split {
    const char *name;
    bool nfc, ignore_merges;
    bool add_bos;           /* where the file does not say */
    const char *pattern[6]; /* splits in order; byte-level spelling follows */
} rt_split;
const rt_split *rt_split_find(const char *name); /* or NULL; aliases are known too */
/* "; did you mean NAME?" or "" into buf, which it returns. */
const char *rt_split_suggest(char *buf, size_t size, const char *name);
/* The family whose splits and normal form a byte-level tokenizer has, or NULL. */
const rt_split *rt_split_of(const rt_tokenizer *t, rt_err *err);

RT_END

#endif
