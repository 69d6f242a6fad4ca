/* bytes_map.h: distinct byte strings and a number for each: the words and tokens of a tokenizer
   being learned, the ids of an archive. A zeroed map is empty. */
#ifndef RT_BYTES_MAP_H
#define RT_BYTES_MAP_H

#include "corpora/text.h"

RT_BEGIN

typedef struct rt_bytes {
    int64_t offset, bytes; /* in the pool */
    int64_t value;         /* the owner's */
} rt_bytes;

typedef struct rt_bytes_map {
    rt_text pool;
    rt_bytes *entry; /* (n) in the order put */
    int64_t n, cap;
    int64_t *slot; /* (slots) index or -1 */
    int64_t slots;
} rt_bytes_map;

/* Index of these bytes, -1 when they are not there. */
int64_t rt_bytes_map_find(const rt_bytes_map *m, const char *s, int64_t bytes);
/* Index of these bytes, put in with value 0 when new; -1 = failed. */
int64_t rt_bytes_map_put(rt_bytes_map *m, const char *s, int64_t bytes, rt_err *err);
void rt_bytes_map_free(rt_bytes_map *m);

RT_END

#endif
