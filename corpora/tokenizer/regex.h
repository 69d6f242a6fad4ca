/* regex.h: the split patterns of tokenizer.json, which are written for Oniguruma, run by PCRE2.
   Every construct is either known to mean the same, rewritten (white space, word characters,
   scripts, class intersection and nesting, line anchors, interval suffixes), or refused by name.
   Follows doc/RE of kkos/oniguruma and pcre2pattern(3). Matching is bounded by match, depth and
   heap limits, so a hostile pattern ends in an error and not in a hang. Unicode: the tables are
   PCRE2's (14.0 in Debian 12), so a character assigned since is a symbol of no class here. */
#ifndef RT_REGEX_H
#define RT_REGEX_H

#include "corpora/text.h"

RT_BEGIN

typedef struct rt_regex rt_regex;

/* literal: the pattern is the text to find. The pattern is at most 64 KiB of UTF-8. */
int rt_regex_open(rt_regex **out, const char *pattern, bool literal, rt_err *err);
/* Only the rewriting: append what rt_regex_source would give. */
int rt_regex_rewrite(const char *pattern, bool literal, rt_text *out, rt_err *err);
void rt_regex_close(rt_regex *re); /* accepts NULL */
/* The rewritten pattern: the same text for the same meaning however it was escaped. */
const char *rt_regex_source(const rt_regex *re);

/* What one thread needs for matching with any number of patterns. */
typedef struct rt_matcher {
    void *data, *context, *stack; /* private */
} rt_matcher;

int rt_matcher_open(rt_matcher *m, rt_err *err);
void rt_matcher_close(rt_matcher *m); /* accepts a zeroed one */

/* First match at or after byte `from` of text, which must be well-formed UTF-8: 1 and
   [*start, *end), 0 = none, -1 = a limit was hit. */
int rt_regex_find(const rt_regex *re, const rt_matcher *m, const char *text, int64_t bytes,
                  int64_t from, int64_t *start, int64_t *end, rt_err *err);

RT_END

#endif
