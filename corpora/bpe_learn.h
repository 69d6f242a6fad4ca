/* bpe_learn.h: byte-level BPE from counted pre-tokens: the most frequent pair first, on equal
   counts the smaller left id, then the smaller right id; a pair seen once is not learned. */
#ifndef RT_BPE_LEARN_H
#define RT_BPE_LEARN_H

#include "corpora/text.h"

RT_BEGIN

typedef struct rt_bytes {
    int64_t offset, bytes; /* in the pool */
    int64_t count;         /* the owner's */
} rt_bytes;

/* Distinct byte strings, numbered in the order put. */
typedef struct rt_bytes_map {
    rt_text pool;
    rt_bytes *entry; /* (n) */
    int64_t n, cap;
    int64_t *slot; /* (slots) index or -1 */
    int64_t slots;
} rt_bytes_map;

/* Index of these bytes, put in with count 0 when new; -1 = failed. */
int64_t rt_bytes_map_put(rt_bytes_map *m, const char *s, int64_t bytes, rt_err *err);
void rt_bytes_map_free(rt_bytes_map *m);

typedef struct rt_learner {
    rt_bytes_map words;    /* in: pre-tokens with counts */
    rt_bytes_map tokens;   /* out: raw bytes of each id; the 256 bytes first, in byte-level order */
    int32_t *left, *right; /* out: (n_merges) */
    int64_t n_merges;
} rt_learner;

/* Learn until there are `tokens` tokens or no pair is left. */
int rt_bpe_learn(rt_learner *t, int64_t tokens, rt_err *err);
void rt_learner_free(rt_learner *t);

RT_END

#endif
