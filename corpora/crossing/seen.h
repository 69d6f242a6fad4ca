/* seen.h: which token of the student's a text of the teacher's tokens turned out to begin with, counted over
   the documents that were read: "1" of a teacher that writes digit by digit is mostly the beginning of "12" or
   "137" to a student that writes numbers in threes. An estimate of what follows a way not taken.
   Refuses: to know tokenizers. */
#ifndef RT_SEEN_H
#define RT_SEEN_H

#include "corpora/bytes_map.h"

RT_BEGIN

typedef struct rt_seen_token {
    int32_t id, next; /* of the same text, -1 = the last */
    int64_t times;
} rt_seen_token;

typedef struct rt_seen {
    rt_bytes_map text; /* value = its first in token */
    rt_seen_token *token;
    int64_t n, cap;
} rt_seen;

int rt_seen_add(rt_seen *s, const char *text, int64_t bytes, int32_t id, rt_err *err);
/* The first token seen of this text, or NULL; rt_seen_next: the next. */
const rt_seen_token *rt_seen_find(const rt_seen *s, const char *text, int64_t bytes);
const rt_seen_token *rt_seen_next(const rt_seen *s, const rt_seen_token *t);
void rt_seen_free(rt_seen *s);

RT_END

#endif
