/* crossing.h: an archive in the tokens of one model, read for a student that speaks in others: the
   document that the student learns and the soft targets of its tokens. What the other files of this
   folder know is put together here; a corpus asks nothing else.
   The document's target of each token to learn, first of these that holds:
     mapped    the row of soft_map.h, of the teacher's tokens that cover it from the last boundary of
               both sides on
     label     the token itself, for certain: where the teacher wrote no such bytes (a marker that it
               has not, a normal form that changes bytes), and inside one of its tokens with `tail`
   All of it is a pure function of both tokenizers, templates and the sample. Used by one thread.
   Refuses: files of archives, order of documents. */
#ifndef RT_CROSSING_H
#define RT_CROSSING_H

#include "corpora/crossing/respell.h"
#include "corpora/crossing/soft_map.h"

RT_BEGIN

typedef struct rt_crossing rt_crossing;

/* teacher: model directory or GGUF whose tokens the archives are in. student: borrowed. */
int rt_crossing_open(rt_crossing **c, const char *teacher, const rt_chat *student,
                     rt_unmatched unmatched, rt_err *err);
void rt_crossing_close(rt_crossing *c); /* accepts NULL */
rt_hash rt_crossing_fingerprint(const rt_crossing *c); /* of the teacher's tokenizer */
/* Tokens of the teacher's vocabulary, those that the student has, and those of the others whose first piece
   is a token of both. */
void rt_crossing_sizes(const rt_crossing *c, int32_t *tokens, int32_t *same, int32_t *begun);

/* The tokens of documents that are learned, by their target. */
typedef struct rt_crossing_counts {
    int64_t learned, one, merged; /* one: of one row of the teacher's, token for token */
} rt_crossing_counts;

/* s: with its texts. As rt_respell; counts are added to. */
int rt_crossing_document(rt_crossing *c, const rt_trace_sample *s, bool all, rt_ids *ids,
                         rt_ids *spans, rt_ids *stretches, rt_crossing_counts *counts,
                         rt_err *err);
/* ids (n) and stretches (n_stretches) of that document. out is filled anew: row r predicts token
   first + r, up to the last. config: capture settings of the archive. */
int rt_crossing_soft(rt_crossing *c, const rt_trace_sample *s, const rt_soft_config *config,
                     const int32_t *ids, int64_t n, const rt_stretch *stretch, int64_t n_stretches,
                     int64_t first, rt_soft *out, rt_err *err);

RT_END

#endif
