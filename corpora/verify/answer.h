/* answer.h: which part of a text is the answer. Refuses: judging. */
#ifndef RT_ANSWER_H
#define RT_ANSWER_H

#include "corpora/text.h"

RT_BEGIN

/* The last \boxed{..} or \fbox{..} whose braces balance. several: only separators stand between it
   and the one before. */
bool rt_answer_boxed(const char *text, rt_str *out, bool *several);
/* What follows the last "####" of the text to its line's end; or, without hashes, the last
   "answer is" or "answer:". */
bool rt_answer_marked(const char *text, bool hashes, rt_str *out);

typedef enum rt_found { RT_FOUND_NOTHING, RT_FOUND_NUMBER, RT_FOUND_EXPRESSION } rt_found;
/* The last number of a cleaned running text, or the first. EXPRESSION: it is part of something that
   the number alone does not say: an operand, an exponent, one of a list. */
rt_found rt_answer_number(const char *clean, bool first, rt_str *out);

RT_END

#endif
