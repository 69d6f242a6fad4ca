/* soft_map.h: soft targets of a teacher for the tokens of another vocabulary.

   Where a token s of the student's begins at a boundary of both sides and k tokens t_1 .. t_k of the
   teacher's cover it, the teacher's rows 1 .. k say how the text may go on: it leaves t_1 .. t_k at
   depth i by a token v, with probability p(t_1) .. p(t_i-1) p_i(v), or it does not. Every such text
   begins with one token of the student's, to which its probability goes; s gets what is left,
   p(t_1) .. p(t_k). Tails add up the same way, and probabilities of texts of which no token is known
   go to the tail (all sums in f64, exact: head and tail together are 1). With k = 1 and pieces that
   both sides have, this is the teacher's row under other names.
   Which token a text begins with (rt_unmatched):
     tail      the one of exactly its bytes or its role; other texts go to the tail
     first     else the first that the student's tokenizer cuts from it. What follows the last token
               is not known, so of the ways not taken this is an approximation.
     seen      a better one: the tokens that this text was seen to begin with in the documents
               (seen.h), each with its share; what `first` says counts as seen once more
   A token of the student's that begins inside one of the teacher's is one of several that follow the
   tokens before it in the group; of the ways above those count whose text is cut in the same tokens so
   far, each with its share of their sum. The share of the tail is that of its draws. (Not with `tail`,
   which leaves such a token to its label.)
   Drawn tokens stay drawn: at depth i each survives with probability p(t_1) .. p(t_i-1), by a
   uniform of (seed, row), so that sums over draws stay unbiased; one that becomes a token of the
   head adds its weight there and leaves the tail. Of the head the head_max heaviest stay.
   entropy is the one of the text's ways, less what is known to fall together.
   log Z of temperatures is not known of sums: there is none.
   Refuses: which tokens are covered (crossing.h). */
#ifndef RT_SOFT_MAP_H
#define RT_SOFT_MAP_H

#include "core/device/soft.h"
#include "corpora/crossing/seen.h"
#include "corpora/crossing/vocab_map.h"

RT_BEGIN

typedef struct rt_soft_mapper {
    const rt_vocab_map *map;
    rt_unmatched unmatched;
    rt_seen seen; /* the owner's to fill; what is empty changes nothing */
    rt_soft_config config; /* of the rows that are made */
    /* private: work of one row */
    struct rt_way *way; /* (n_ways) */
    int64_t n_ways, cap_ways;
    rt_text text;
    rt_ids ids;
} rt_soft_mapper;

/* teacher: capture settings of the rows that will be read. */
void rt_soft_mapper_open(rt_soft_mapper *m, const rt_vocab_map *map, rt_unmatched unmatched,
                         const rt_soft_config *teacher);
void rt_soft_mapper_close(rt_soft_mapper *m);
/* What rows that were made of rows of these settings keep at most. */
rt_soft_config rt_soft_mapped(const rt_soft_config *teacher);

/* Appends to out the row of `token`, which rows [row, row + k) of the teacher's, that predict
   taken[0 .. k), cover. seed: of the sample. */
int rt_soft_map_row(rt_soft_mapper *m, rt_soft *out, const rt_soft *teacher, int64_t row,
                    int64_t k, const int32_t *taken, int32_t token, uint64_t seed, rt_err *err);
/* The same of a token that follows before[0 .. n), n > 0, which begin where row's token does; all of
   them are covered by the k rows. */
int rt_soft_map_inner(rt_soft_mapper *m, rt_soft *out, const rt_soft *teacher, int64_t row,
                      int64_t k, const int32_t *taken, const int32_t *before, int64_t n,
                      int32_t token, rt_err *err);
/* Appends a row that is certain of token but for 2^-10, which keeps reverse objectives finite: where
   nothing but the label is known, its loss is the cross-entropy. c: temperatures to give log Z for. */
void rt_soft_certain_row(rt_soft *out, int32_t token, const rt_soft_config *c);

RT_END

#endif
