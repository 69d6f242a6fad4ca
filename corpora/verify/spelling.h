/* spelling.h: a text in one spelling, so that what is the same looks the same: LaTeX, Unicode and
   markdown dressing off, nothing else changed. Refuses: reading values, choosing what the answer
   is. */
#ifndef RT_SPELLING_H
#define RT_SPELLING_H

#include "corpora/text.h"

RT_BEGIN

/* Braces of a set, which are not those that group: */
#define RT_SET_OPEN '\2'
#define RT_SET_CLOSE '\3'

/* free() it. Commands become signs where there is one (\times, \cdot: *; \leq: <=), \dfrac and the
   like \frac, \{ a set's brace, thin spaces '\1' between digits; wrappers (\text{}, \mathbf{}),
   sizes (\left) and paired '$' go; white space is one space; ends are trimmed of it, of periods,
   quotes and braces around the whole. */
char *rt_spelling_clean(rt_str text);
/* A cleaned text without the spaces that mean nothing: those between letters or digits stay
   (p q, 1 2), a digit and a letter (5 m, 5m) need none. In place. */
void rt_spelling_squeeze(char *clean);

RT_END

#endif
