/* answer.h: which part of a text is the answer, and that part in one spelling: LaTeX, Unicode and
   markdown dressing off, nothing else changed. Refuses: reading values, judging. */
#ifndef RT_ANSWER_H
#define RT_ANSWER_H

#include "corpora/text.h"

RT_BEGIN

/* Braces of a set, which are not those that group: */
#define RT_SET_OPEN '\2'
#define RT_SET_CLOSE '\3'

/* The text in one spelling; free() it. Commands become signs where there is one (\times, \cdot: *;
   \leq: <=), \dfrac and the like \frac, \{ a set's brace, thin spaces '\1' between digits; wrappers
   (\text{}, \mathbf{}), sizes (\left) and paired '$' go; white space is one space; ends are
   trimmed of it, of periods, quotes and braces around the whole. */
char *rt_answer_clean(rt_str text);
/* A cleaned text without the spaces that mean nothing: those between letters or digits stay
   (p q, 1 2), a digit and a letter (5 m, 5m) need none. In place. */
void rt_answer_squeeze(char *clean);

/* The last \boxed{..} or \fbox{..} whose braces balance. */
bool rt_answer_boxed(const char *text, rt_str *out);
/* What follows the last "####" of the text to its line's end; or, without hashes, the last
   "answer is" or "answer:". */
bool rt_answer_marked(const char *text, bool hashes, rt_str *out);

typedef enum rt_found { RT_FOUND_NOTHING, RT_FOUND_NUMBER, RT_FOUND_EXPRESSION } rt_found;
/* The last number of a cleaned running text. EXPRESSION: the last one is part of something that the
   number alone does not say: an operand, an exponent, one of a list. */
rt_found rt_answer_number(const char *clean, rt_str *out);

RT_END

#endif
