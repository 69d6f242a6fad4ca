/* text.h: the two growable buffers that text work passes around: bytes and token ids.
   A zeroed struct is a valid empty buffer. Appending grows by half and fails only for memory.
   rt_text keeps data[bytes] == 0, so that it can be read as a C string when it holds no NUL. */
#ifndef RT_TEXT_H
#define RT_TEXT_H

#include "core/err.h"

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

/* Decode one UTF-8 character of s[0 .. bytes), bytes >= 1: its length 1..4 and *cp, or 0 where the
   bytes are not well-formed UTF-8 (overlong, surrogate, above U+10FFFF, cut short). */
int rt_utf8_decode(const char *s, int64_t bytes, uint32_t *cp);
/* Encode cp (a scalar value, else U+FFFD) to out[4]; returns the length. */
int rt_utf8_encode(uint32_t cp, char out[4]);
bool rt_utf8_is_space(uint32_t cp); /* Unicode White_Space */
/* Offset of the first byte that is not well-formed UTF-8, or `bytes` when all is. */
int64_t rt_utf8_check(const char *s, int64_t bytes);

RT_END

#endif
