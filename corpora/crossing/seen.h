/* seen.h: which token of the student's a text of the teacher's tokens turned out to begin with, counted
   over the documents that were read: "1" of a teacher that writes digit by digit is mostly the
   beginning of "12" or "137" to a student that writes numbers in threes. An estimate of what follows
   a way not taken. Refuses: to know tokenizers. */
#ifndef RT_SEEN_H
#define RT_SEEN_H

#include "corpora/bytes_map.h"

RT_BEGIN

typedef struct rt_seen_token {
    int32_t id, next; /* of the same text, the most frequent first; -1 = the last */
    int64_t times;
} rt_seen_token;

typedef struct rt_seen_text {
    int32_t first; /* of its tokens */
    int64_t times; /* of all of them */
} rt_seen_text;

typedef struct rt_seen {
    rt_bytes_map map; /* value = index into text */
    rt_seen_text *text;
    int64_t cap_text; /* as many as the map has */
    rt_seen_token *token;
    int64_t n, cap;
} rt_seen;

int rt_seen_add(rt_seen *s, const char *text, int64_t bytes, int32_t id, rt_err *err);
/* NULL: never seen. */
const rt_seen_text *rt_seen_find(const rt_seen *s, const char *text, int64_t bytes);
void rt_seen_free(rt_seen *s);

RT_END

#endif
