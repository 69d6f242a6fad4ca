/* bpe_learn.h: byte-level BPE from counted pre-tokens: the most frequent pair first, on equal
   counts the smaller left id, then the smaller right id; a pair seen once is not learned. */
#ifndef RT_BPE_LEARN_H
#define RT_BPE_LEARN_H

#include "corpora/bytes_map.h"

RT_BEGIN

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
