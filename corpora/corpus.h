/* corpus.h: what a trainer reads: documents as token ids with the tokens to learn marked, what each
   of them counts, and soft targets where an archive has them. Opens trace archives (decoded on
   access) and JSONL or text (rendered and tokenized once, kept in memory), any number of paths as one
   list.
   The order is a pure function of (seed, place), of a mixture too: nothing to save but a position.
   Refuses: losses, batches on a device, choosing which model a tokenizer belongs to. */
#ifndef RT_CORPUS_H
#define RT_CORPUS_H

#include "core/device/soft.h"
#include "corpora/archive/trace.h"
#include "corpora/chat.h"
#include "corpora/crossing/vocab_map.h"
#include "corpora/mixture.h"

RT_BEGIN

typedef struct rt_corpus rt_corpus;

/* How much the tokens of a turn's thought and of its answer count beside one another. */
typedef struct rt_part_weights {
    double reasoning, answer;
} rt_part_weights;
/* A tokenizer that marks no thought has no parts. */
int rt_part_weights_check(const rt_chat *chat, rt_err *err);

typedef struct rt_corpus_options {
    const rt_chat *chat; /* the student's: JSONL is tokenized with it, archives must match it */
    int64_t max_length;  /* longer documents are left out (counted, reported) */
    unsigned verdicts;   /* archives: rt_verdict_mask of the samples to take */
    bool last_turn;      /* learn the last turn of a conversation only */
    bool need_soft;      /* a token to learn without a soft target is an error ... */
    bool labels;         /* ... but for texts: targets that are certain of their tokens */
    bool mix_teachers;   /* need_soft: not all archives have to be of one teacher */
    const rt_mixture *mixture; /* weights of the paths, or NULL: every document once an epoch */
    const rt_part_weights *parts; /* NULL: 1 each; refused where no token marks a thought */
    int64_t limit;       /* documents taken at most, in order; 0 = all */
    rt_strlist teachers; /* borrowed: whose tokens other archives may be in (crossing/crossing.h);
                            none = an archive in other tokens than chat's is an error */
    rt_unmatched unmatched; /* of theirs: what becomes of tokens that chat has not */
} rt_corpus_options;

/* May be moved: nothing in it points into it. */
typedef struct rt_document {
    const int32_t *token; /* (n) */
    int64_t n;
    const rt_trace_span *span; /* (n_spans) tokens to learn */
    int32_t n_spans;
    int64_t soft_first; /* soft row r predicts token soft_first + r */
    float *weight;      /* (n) what each token of a span counts, 0 = it is not learned; NULL: 1 each */
    int64_t cap_weight; /* private */
    const float *old_logp, *advantage; /* (n) each, for the policy term: of every token the log of its
                                          probability when it was drawn, and its advantage; whoever
                                          sets both owns them, rt_corpus_get neither: NULL */
    char id[RT_TRACE_ID_MAX + 1];
    rt_trace_sample sample; /* private: memory of an archive's document */
    rt_soft mapped;         /* private: its targets, where it is in other tokens */
    bool crossed;
} rt_document;

int rt_corpus_open(rt_corpus **c, const char *const *paths, int n_paths, const rt_corpus_options *o,
                   rt_err *err);
void rt_corpus_close(rt_corpus *c); /* accepts NULL */
int64_t rt_corpus_count(const rt_corpus *c);
int64_t rt_corpus_tokens(const rt_corpus *c); /* over all documents */
int64_t rt_corpus_longest(const rt_corpus *c);
int64_t rt_corpus_left_out(const rt_corpus *c); /* longer than max_length */
uint64_t
rt_corpus_hash(const rt_corpus *c); /* identity of the list: what a checkpoint was trained on */
/* Capture settings of the list's archives, the longest head of them; zeroed when there is none. */
rt_soft_config rt_corpus_soft(const rt_corpus *c);
/* Weights of the teacher of all its archives; empty: there are several, none, or they are unknown. */
rt_hash rt_corpus_teacher(const rt_corpus *c);
int64_t rt_corpus_length(const rt_corpus *c, int64_t i); /* tokens, without decoding */
int rt_corpus_get(const rt_corpus *c, int64_t i, rt_document *doc,
                  rt_err *err);                          /* doc zeroed or reused */
const rt_soft *rt_document_soft(const rt_document *doc); /* NULL: hard labels only; in doc itself */
/* Its weights, to be changed: written down where they were 1 each. */
float *rt_document_weights(rt_document *doc);
/* What its tokens count together: the document's share of a mean over tokens. 0: nothing to learn. */
double rt_document_weight(const rt_document *doc);
void rt_document_free(rt_document *doc);

/* The document of place `index` in the order of a seed, which counts on over all epochs. */
int64_t rt_corpus_draw(const rt_corpus *c, uint64_t seed, int64_t index);
/* So many places in a row have every document, wherever they begin. */
int64_t rt_corpus_round(const rt_corpus *c);
/* Document of place `at` of an epoch: a permutation of [0, n) by cycle-walking a Feistel network.
 */
int64_t rt_corpus_shuffle(int64_t n, uint64_t seed, int64_t epoch, int64_t at);

RT_END

#endif
