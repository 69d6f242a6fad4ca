/* unicode.h: characters assigned in Unicode 15.0, 15.1 and 16.0, which PCRE2's tables (14.0 in
   Debian 12) do not class yet: new emoji and ideographs, above all. For matching they are replaced
   by old characters of the same general category, script Han or not, and length in UTF-8, so that
   offsets stay. Source: UnicodeData.txt 16.0. */
#ifndef RT_UNICODE_H
#define RT_UNICODE_H

#include "corpora/text.h"

RT_BEGIN

/* Whether text, well-formed UTF-8, holds a character of the list. */
bool rt_unicode_is_newer(const char *text, int64_t bytes);
/* Append text with the characters of the list replaced. */
int rt_unicode_stand_ins(const char *text, int64_t bytes, rt_text *out, rt_err *err);
/* Bytes before the first character whose combining class or decomposition the reference's
   normalizer (Unicode 9.0) does not know: it leaves such a character alone and composes nothing
   across it. */
int64_t rt_unicode_old_run(const char *text, int64_t bytes);

RT_END

#endif
