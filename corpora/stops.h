/* stops.h: texts that end a response where they begin. They are looked for in what the tokens stand
   for, so one may begin inside a token and end inside another; every token is kept, the text is
   cut. Special tokens are not text. What is said of a sequence is a function of its tokens alone.
   Refuses: end tokens, streaming to people. */
#ifndef RT_STOPS_H
#define RT_STOPS_H

#include "core/base/option.h"
#include "corpora/tokenizer/tokenizer.h"

RT_BEGIN

enum { RT_STOPS_MAX = 16, RT_STOPS_BYTES_MAX = 256 };

typedef struct rt_stops {
    const rt_tokenizer *tokenizer;
    rt_strlist list; /* borrowed */
    int64_t longest; /* bytes */
    rt_text work;
} rt_stops;

/* list: values of --stop; an empty text, a long one or too many are usage errors. */
int rt_stops_open(rt_stops *s, const rt_tokenizer *t, const rt_strlist *list, rt_err *err);
void rt_stops_free(rt_stops *s); /* accepts zeroed stops */

/* Where the first of them begins in text; -1 = none is there whole. */
int64_t rt_stops_find(const rt_stops *s, const char *text, int64_t bytes);
/* Bytes at the end of text that may become one: what is not to be shown yet. */
int64_t rt_stops_pending(const rt_stops *s, const char *text, int64_t bytes);
/* Whether one ends in the last of the tokens that follow the prompt, token[n_prompt .. n): 1, 0, or
   -1 = failed. */
int rt_stops_reached(rt_stops *s, const int32_t *token, int64_t n_prompt, int64_t n, rt_err *err);
/* Of such a sequence: *whole tokens, the prompt's included, come before the one it begins in. */
int rt_stops_before(rt_stops *s, const int32_t *token, int64_t n_prompt, int64_t n, int64_t *whole,
                    rt_err *err);

RT_END

#endif
