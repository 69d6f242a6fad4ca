/* tokenizer.h: text <-> token ids exactly as the model was trained, from a Hugging Face
   tokenizer.json or from the vocabulary inside a GGUF. Follows huggingface/tokenizers: added tokens
   -> normalizer -> pre-tokenizer -> BPE -> post-processor, and the decoder back to bytes. Refuses:
   models other than BPE, and every pipeline part it does not know, by name. An open tokenizer is
   const: any number of threads may encode and decode with it at once. */
#ifndef RT_TOKENIZER_H
#define RT_TOKENIZER_H

#include "core/base/file.h"
#include "corpora/text.h"

RT_BEGIN

typedef struct rt_tokenizer rt_tokenizer;

/* dir_or_file: a model directory (tokenizer.json, and tokenizer_config.json, chat_template.jinja
   where present) or a tokenizer.json (its siblings are read too). */
int rt_tokenizer_open(rt_tokenizer **out, const char *dir_or_file, rt_err *err);
void rt_tokenizer_close(rt_tokenizer *t); /* accepts NULL */

enum rt_tokenize_flags {
    /* Parse every added token that the text spells, special ones too: for rendered templates. */
    RT_TOKENIZE_SPECIAL = 1,
    /* Apply the post-processor (BOS/EOS by the model's own template). A rendered chat template
       already holds its BOS: do not set this for it. */
    RT_TOKENIZE_BOS = 2,
    /* Parse no added token at all, not even the ordinary ones such as Qwen3's "</think>". */
    RT_TOKENIZE_PLAIN = 4,
    /* The text went through rt_tokenizer_guard: take the guards out where no token is any more. */
    RT_TOKENIZE_GUARDED = 8
};

/* Append the ids of text to *out. By default added tokens marked "special" are plain text and the
   others are parsed, which is what Hugging Face does with encode_special_tokens and llama.cpp with
   parse_special = false. Bytes that are not UTF-8 are each encoded as one byte-level token by
   byte-level vocabularies that have it and as U+FFFD by others. */
int rt_tokenizer_encode(const rt_tokenizer *t, const char *text, int64_t bytes, unsigned flags,
                        rt_ids *out, rt_err *err);

/* U+FDD0, which is no character; a guarded text loses those that it had itself. */
#define RT_TOKENIZE_GUARD "\xef\xb7\x90"
/* Words of strangers that go through a chat template: appends text to out with a guard inside each
   special token that it spells, but those of keep (n_keep ids). 1 when there was one: then encode
   what is rendered with RT_TOKENIZE_GUARDED; 0 when there was none; -1 = failed. */
int rt_tokenizer_guard(const rt_tokenizer *t, const char *text, const int32_t *keep, int n_keep,
                       rt_text *out, rt_err *err);

enum rt_detokenize_flags { RT_DETOKENIZE_SKIP_SPECIAL = 1 };

/* Append the exact bytes that the ids stand for: no replacement characters, so a piece that ends
   inside a UTF-8 character comes out as it is. An id outside the vocabulary is an error. */
int rt_tokenizer_decode(const rt_tokenizer *t, const int32_t *ids, int64_t n, unsigned flags,
                        rt_text *out, rt_err *err);

/* Real vocabulary: largest id + 1 over model and added tokens. A model's embedding may be larger.
 */
int32_t rt_tokenizer_vocab(const rt_tokenizer *t);
/* Id of a token by its spelling in tokenizer.json ("<|im_end|>", "Ġthe"), or -1. */
int32_t rt_tokenizer_id(const rt_tokenizer *t, const char *token);
/* Spelling of an id as in tokenizer.json; data is NULL for an unused id. NUL-terminated. */
rt_str rt_tokenizer_token(const rt_tokenizer *t, int32_t id);
int32_t rt_tokenizer_bos(const rt_tokenizer *t); /* -1 = none, also below */
int32_t rt_tokenizer_eos(const rt_tokenizer *t);
int32_t rt_tokenizer_pad(const rt_tokenizer *t);
int32_t rt_tokenizer_unk(const rt_tokenizer *t);
/* What RT_TOKENIZE_BOS puts around a text. */
bool rt_tokenizer_adds_bos(const rt_tokenizer *t);
bool rt_tokenizer_adds_eos(const rt_tokenizer *t);
/* Jinja source as found in tokenizer_config.json, chat_template.jinja or the GGUF; NULL = none. */
const char *rt_tokenizer_chat_template(const rt_tokenizer *t);
/* Hash over vocabulary, merges, added tokens and pipeline: equal means equal ids for every text.
   The chat template and bos/eos/pad are not part of it. */
rt_hash rt_tokenizer_fingerprint(const rt_tokenizer *t);

/* ---- for GGUF ------------------------------------------------------------------------------- */

typedef enum rt_token_type { /* values of tokenizer.ggml.token_type */
                             RT_TOKEN_NORMAL = 1,
                             RT_TOKEN_UNKNOWN = 2,
                             RT_TOKEN_CONTROL = 3,
                             RT_TOKEN_USER = 4,
                             RT_TOKEN_UNUSED = 5,
                             RT_TOKEN_BYTE = 6
} rt_token_type;

rt_token_type rt_tokenizer_type(const rt_tokenizer *t, int32_t id);
int64_t rt_tokenizer_merges(const rt_tokenizer *t);
/* Append merge i, best first, as "a b". A piece that holds a space cannot be written so: error. */
int rt_tokenizer_merge(const rt_tokenizer *t, int64_t i, rt_text *out, rt_err *err);
/* tokenizer.ggml.model: "gpt2" (byte-level) or "llama" (SentencePiece style). */
const char *rt_tokenizer_model(const rt_tokenizer *t);
/* tokenizer.ggml.pre: "qwen2", "llama-bpe", "gpt-2", "deepseek-v3", ... derived from the pipeline;
   NULL when no runtime knows this pipeline under a name. */
const char *rt_tokenizer_pre(const rt_tokenizer *t);
/* tokenizer.ggml.scores of a "llama" vocabulary: out[vocab], higher merges first. */
void rt_tokenizer_scores(const rt_tokenizer *t, float *out);
/* Whether a leading space is put before the first word ("llama" vocabularies). */
bool rt_tokenizer_space_prefix(const rt_tokenizer *t);

/* The same facts in the other direction: a GGUF's own tokenizer. Strings are copied. */
typedef struct rt_tokenizer_parts {
    const char *model; /* "gpt2" or "llama" */
    const char *pre;   /* for gpt2: a name that rt_tokenizer_pre may return */
    int64_t n_tokens;
    const rt_str *token; /* (n_tokens) */
    const int64_t *type; /* (n_tokens) rt_token_type, NULL = all normal */
    const float *score;  /* (n_tokens) llama only, else NULL */
    int64_t n_merges;
    const rt_str *merge;        /* (n_merges) "a b", gpt2 only */
    int32_t bos, eos, pad, unk; /* -1 = none */
    bool add_bos, add_eos, space_prefix;
    const char *chat_template; /* NULL = none */
} rt_tokenizer_parts;

/* what: the name in messages, the GGUF's path. */
int rt_tokenizer_from_parts(rt_tokenizer **out, const rt_tokenizer_parts *parts, const char *what,
                            rt_err *err);

/* tokenizer.json and tokenizer_config.json into dir, of a tokenizer that came out of a GGUF or of
   parts (tokenizer_write.c). Opened again they are the same tokenizer, fingerprint included. */
int rt_tokenizer_save(const rt_tokenizer *t, const char *dir, rt_err *err);

/* ---- training (corpora/tokenizer/tokenizer_train.c)
 * ---------------------------------------------------------- */

/* Byte-level BPE. Ids: the 256 bytes in byte-level order, then merges in order learned, then
   special and added tokens in the order given; these are cut out of the texts before learning. The
   same texts in any order give the same files: the most frequent pair wins, on equal counts the one
   with the smaller left id, then the smaller right id. A pair seen once is not learned; pre-tokens
   beyond 4096 bytes are left out. */
typedef struct rt_trainer_config {
    const char *pre;            /* split pattern by GGUF name, e.g. "qwen2" (single digits) */
    int64_t vocab;              /* all of it, added tokens included; fewer when pairs run out */
    const char *const *special; /* (n_special) control tokens, "<|im_end|>" */
    int n_special;
    const char *const *added; /* (n_added) parsed in any text, not special: "<think>" */
    int n_added;
    const char *bos, *eos, *pad; /* members of special, or NULL */
    const char *chat_template;   /* stored in tokenizer_config.json, or NULL */
} rt_trainer_config;

typedef struct rt_trainer rt_trainer;

int rt_trainer_open(rt_trainer **out, const rt_trainer_config *config, rt_err *err);
int rt_trainer_add(rt_trainer *t, const char *text, int64_t bytes, rt_err *err);
/* Learn the merges and write tokenizer.json and tokenizer_config.json into dir (made when absent).
 */
int rt_trainer_write(rt_trainer *t, const char *dir, rt_err *err);
void rt_trainer_close(rt_trainer *t); /* accepts NULL */

RT_END

#endif
