/* entropy.h: which tokens of a step are learned, by how uncertain the teacher was before them. Most
   tokens of a thought follow from what stands before; the few where the teacher's entropy is large
   are where it chooses (arXiv 2506.01939, 2602.01395). A token without a soft target comes behind
   all others. Refuses: losses. */
#ifndef RT_ENTROPY_H
#define RT_ENTROPY_H

#include "corpora/corpus.h"

RT_BEGIN

/* Of the tokens of docs (n) that count, the ceil(share of them) with the largest teacher's entropy
   count as they did, and the others rest times that. Of equal ones the first, in the order of docs.
   0 < share <= 1. */
void rt_entropy_select(rt_document *docs, int64_t n, double share, double rest);

RT_END

#endif
