/* text.h: growing arrays, and the two that text work passes around: bytes and token ids.
   A zeroed struct is a valid empty buffer. Appending grows by half and fails only for memory.
   rt_text keeps data[bytes] == 0, so that it can be read as a C string when it holds no NUL. */
#ifndef RT_TEXT_H
#define RT_TEXT_H

#include "core/base/err.h"
#include "core/base/utf8.h"

RT_BEGIN

/* Borrowed bytes; not NUL-terminated unless said so. */
typedef struct rt_str {
    const char *data;
    int64_t bytes;
} rt_str;

typedef struct rt_text {
    char *data;
    int64_t bytes, cap;
} rt_text;

typedef struct rt_ids {
    int32_t *id; /* (n) */
    int64_t n, cap;
} rt_ids;

int rt_text_add(rt_text *t, const void *data, int64_t bytes, rt_err *err);
int rt_text_puts(rt_text *t, const char *s, rt_err *err);
int rt_text_printf(rt_text *t, rt_err *err, const char *fmt, ...) RT_PRINTF(3, 4);
int rt_text_reserve(rt_text *t, int64_t more, rt_err *err); /* room for `more` bytes and the NUL */
void rt_text_clear(rt_text *t);                             /* bytes = 0, memory kept */
void rt_text_free(rt_text *t);

int rt_ids_add(rt_ids *ids, int32_t id, rt_err *err);
int rt_ids_reserve(rt_ids *ids, int64_t more, rt_err *err);
void rt_ids_clear(rt_ids *ids);
void rt_ids_free(rt_ids *ids);

RT_END

#endif
