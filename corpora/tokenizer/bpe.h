/* bpe.h: the BPE model alone: one pre-token in, ids out. Lowest merge rank first, leftmost first on
   equal ranks, as huggingface/tokenizers : models/bpe does.
   Refuses: dropout, subword prefixes and suffixes (the loader names them). */
#ifndef RT_BPE_H
#define RT_BPE_H

#include "corpora/bytes_map.h"

RT_BEGIN

enum { RT_TOKEN_BYTES_MAX = 64 << 10 };

typedef struct rt_merge_slot {
    uint64_t pair;  /* left id << 32 | right id; RT_NO_PAIR = empty */
    uint64_t value; /* rank << 32 | id of the merged token */
} rt_merge_slot;

typedef struct rt_bpe {
    bool byte_level;    /* pieces are raw bytes and every byte is a symbol; else characters are */
    bool byte_fallback; /* characters without a token become <0xHH> tokens */
    bool fuse_unk, ignore_merges;
    int32_t unk;           /* id for what has no token, -1 = drop it */
    rt_bytes_map piece;    /* what a token spells, raw bytes when byte_level -> its id */
    int32_t byte_id[256];  /* byte or <0xHH> token, -1 = none */
    int32_t *left, *right; /* (n_merges) by rank */
    int64_t n_merges;
    rt_merge_slot *merge; /* (merge_slots) */
    int64_t merge_slots;
} rt_bpe;

/* token: (vocab) spelling as in tokenizer.json, data NULL = no such id. Call once, then the
   merges. */
int rt_bpe_set_vocab(rt_bpe *b, const rt_str *token, int32_t vocab, bool byte_level, rt_err *err);
/* Add the next merge by the spellings of its halves, or of both with a space between, in rank
   order; `most` merges in all, known from the first call on. */
int rt_bpe_add_merge(rt_bpe *b, rt_str left, rt_str right, int64_t most, rt_err *err);
int rt_bpe_add_merge_text(rt_bpe *b, rt_str both, int64_t most, rt_err *err);
void rt_bpe_free(rt_bpe *b);
/* Id of exactly these bytes, or -1. */
int32_t rt_bpe_find(const rt_bpe *b, const char *piece, int64_t bytes);

/* Id that a pair of tokens merges into, or -1. */
int32_t rt_bpe_merged(const rt_bpe *b, int32_t left, int32_t right);
/* Id of a token by its spelling in tokenizer.json, or -1. */
int32_t rt_bpe_find_spelled(const rt_bpe *b, rt_str spelling);

/* Work memory and the cache of pre-tokens, one per thread. */
typedef struct rt_bpe_work {
    struct rt_bpe_cached *cache;
    int64_t cap;             /* symbols the arrays hold; all stand in one block behind heap */
    struct rt_bpe_due *heap; /* (3 cap): every pair once, and two new ones a merge */
    int64_t heap_n;
    uint64_t *value; /* (cap) */
    int32_t *id, *next, *prev;
} rt_bpe_work;

void rt_bpe_work_open(rt_bpe_work *w);
void rt_bpe_work_close(rt_bpe_work *w);
/* Append the ids of one pre-token. piece is well-formed UTF-8 unless byte_level. */
int rt_bpe_encode(const rt_bpe *b, rt_bpe_work *w, const char *piece, int64_t bytes, rt_ids *out,
                  rt_err *err);

/* Byte-level spelling: the 256 bytes as printable characters (GPT-2). */
uint32_t rt_byte_char(uint8_t byte);
int rt_char_byte(uint32_t cp); /* -1 = not one of them */
int rt_bytes_spell(const char *s, int64_t bytes, rt_text *out, rt_err *err); /* append */
/* The bytes that a spelling stands for, into out (as long as s); their number, -1 when a character
   is none of the 256. */
int64_t rt_bytes_unspell(rt_str s, char *out);

RT_END

#endif
