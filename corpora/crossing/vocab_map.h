/* vocab_map.h: two vocabularies side by side: which token of the student's stands for the bytes, or
   plays the role, of a token of the teacher's. Bytes decide, not spellings: "Ġthe", "▁the" and
   " the" are one piece. Special tokens are equal by spelling; every token that ends a turn of the
   teacher's is the student's end of a turn, and the beginning of a text is the beginning of a text.
   Made from two open tokenizers, kept in memory, a pure function of them.
   Refuses: texts (respell.h), probabilities (soft_map.h). */
#ifndef RT_VOCAB_MAP_H
#define RT_VOCAB_MAP_H

#include "corpora/bytes_map.h"
#include "corpora/chat.h"

RT_BEGIN

/* What each id stands for inside a text (an id without text: no bytes), and back. */
typedef struct rt_pieces {
    const rt_tokenizer *tokenizer;
    int32_t vocab;
    rt_text pool;
    int64_t *offset; /* (vocab+1) id's bytes are pool [offset[id], offset[id+1]) */
    rt_bytes_map id; /* of ordinary tokens: bytes -> value = id */
} rt_pieces;

int rt_pieces_open(rt_pieces *p, const rt_tokenizer *t, rt_err *err);
void rt_pieces_close(rt_pieces *p);
rt_str rt_pieces_bytes(const rt_pieces *p, int32_t id);
/* The ordinary token of exactly these bytes, or -1. */
int32_t rt_pieces_find(const rt_pieces *p, const char *s, int64_t bytes);
/* Appends the tokens of these bytes, cut alone as they stand inside a text; none where they are other
   bytes (a normal form changed them). */
int rt_pieces_cut(const rt_pieces *p, const char *s, int64_t bytes, rt_ids *ids, rt_err *err);
/* Added and control tokens: never parts of words. */
bool rt_pieces_special(const rt_pieces *p, int32_t id);

/* What gets the probability of a way not taken (soft_map.h). */
typedef enum rt_unmatched { RT_UNMATCHED_SEEN, RT_UNMATCHED_FIRST, RT_UNMATCHED_TAIL } rt_unmatched;

/* The options of commands that read archives; S holds an rt_strlist and a char * there. */
#define RT_CROSSING_OPTIONS(S, teachers, unmatched)                                                \
    OPT_LIST(S, teachers, "teacher-tokenizer", "DIR|GGUF",                                         \
             "whose tokens archives of another vocabulary are in: their texts and targets are "    \
             "mapped to the student's",                                                            \
             RT_OPT_INPUT),                                                                        \
        OPT_CHOICE(S, unmatched, "unmatched", "seen", "seen|first|tail",                           \
                   "what gets the probability of a text that the teacher did not write: the tokens "  \
                   "that such texts were seen to begin with, the first that it is cut in, or, where " \
                   "it is none exactly, the tail")
rt_unmatched rt_unmatched_named(const char *name);

typedef struct rt_vocab_map {
    rt_pieces from, to; /* teacher's, student's */
    int32_t *same;      /* (from.vocab) the same bytes or role in the student's, or -1 */
    int32_t *first;     /* (from.vocab) same, else the first token of its bytes, or -1 */
    int32_t n_same;
    int32_t n_begun; /* of the others: their first piece is a token of both */
} rt_vocab_map;

int rt_vocab_map_open(rt_vocab_map *m, const rt_chat *teacher, const rt_chat *student,
                      rt_err *err);
void rt_vocab_map_close(rt_vocab_map *m);

RT_END

#endif
