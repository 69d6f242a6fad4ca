/* utf8.h: UTF-8 as RFC 3629 has it, one character at a time and as a check of a whole text.
   Refuses: properties and normal forms (corpora/tokenizer/unicode.h). */
#ifndef RT_UTF8_H
#define RT_UTF8_H

#include "core/base/base.h"

RT_BEGIN

/* Decode one UTF-8 character of s[0 .. bytes), bytes >= 1: its length 1..4 and *cp, or 0 where the
   bytes are not well-formed UTF-8 (overlong, surrogate, above U+10FFFF, cut short). */
int rt_utf8_decode(const char *s, int64_t bytes, uint32_t *cp);
/* Encode cp (a scalar value, else U+FFFD) to out[4]; returns the length. */
int rt_utf8_encode(uint32_t cp, char out[4]);
bool rt_utf8_is_space(uint32_t cp); /* Unicode White_Space */
/* Offset of the first byte that is not well-formed UTF-8, or `bytes` when all is. */
int64_t rt_utf8_check(const char *s, int64_t bytes);
bool rt_utf8_is_control(uint32_t cp); /* C0, DEL, C1 */
/* The same for one line of text: the first control character too. */
int64_t rt_utf8_check_line(const char *s, int64_t bytes);

RT_END

#endif
