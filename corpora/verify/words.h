/* words.h: answers that are words, and the letters of options. Refuses: mathematics. */
#ifndef RT_WORDS_H
#define RT_WORDS_H

#include "core/base/base.h"

RT_BEGIN

/* Equal, the first letter of a word in either case. Both squeezed (corpora/verify/spelling.h). */
bool rt_words_same(const char *a, const char *b);
/* Equal in everything but case, spaces and punctuation. */
bool rt_words_alike(const char *a, const char *b);
/* Whether b stands in a as whole words. */
bool rt_words_contain(const char *a, const char *b);

typedef struct rt_option_letter {
    char letter;      /* 'A' to 'J' */
    const char *text; /* behind it, "" = none */
} rt_option_letter;

/* "B", "(B)", "B) Paris", "B: Paris", "B. Paris", "B - Paris", "Option B", with no other letter. */
bool rt_words_option(const char *s, rt_option_letter *out);

RT_END

#endif
