/* added.h: the added tokens of a tokenizer and how they are found in a text: leftmost, then
   longest, as huggingface/tokenizers : added_vocabulary does, with its single_word, lstrip and
   rstrip. */
#ifndef RT_ADDED_H
#define RT_ADDED_H

#include "corpora/text.h"
#include "corpora/tokenizer/regex.h"

RT_BEGIN

typedef struct rt_added {
    int32_t id;
    rt_str content; /* as in tokenizer.json */
    rt_str search;  /* what is looked for: content, or its normal form when `normalized` */
    bool special, single_word, lstrip, rstrip, normalized;
} rt_added;

/* Tokens ascending by search bytes, so that a walk narrows a range instead of a trie. */
typedef struct rt_added_set {
    const rt_added **token; /* (n) */
    int64_t n;
    bool first[256];
} rt_added_set;

/* Of `n` tokens, those whose `normalized` equals the argument. */
void rt_added_set_open(rt_added_set *set, const rt_added *token, int64_t n, bool normalized);
void rt_added_set_close(rt_added_set *set);

enum rt_added_want { RT_ADDED_NONE, RT_ADDED_ORDINARY, RT_ADDED_ALL };

/* Walks the tokens of one text; zero `at` and `done` to begin. */
typedef struct rt_added_walk {
    const rt_added_set *set;
    const rt_regex *word; /* a word character, for single_word tokens */
    const rt_matcher *matcher;
    enum rt_added_want want;
    const char *text; /* well-formed UTF-8 */
    int64_t bytes;
    int64_t at;   /* searched up to here */
    int64_t done; /* handed out up to here */
} rt_added_walk;

/* The next token, NULL at the end of the text; [*begin, *end) with the white space it takes along.
   Bytes walk->done (as before the call) .. *begin are ordinary text. -1 = failed. */
int rt_added_next(rt_added_walk *w, const rt_added **token, int64_t *begin, int64_t *end,
                  rt_err *err);

/* Appends text to out with guard behind the first character of every special token it spells, but
   of those in keep (n_keep), so that none is found any more. A token of one character cannot be
   guarded. 1 when a guard went in, 0 when none, -1 = failed. Without out: whether one would. */
int rt_added_guard(const rt_added_set *set, const char *text, int64_t bytes, const int32_t *keep,
                   int n_keep, const char *guard, rt_text *out, rt_err *err);

RT_END

#endif
