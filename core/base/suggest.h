/* suggest.h: what somebody meant who wrote a word that we do not have: the nearest name by edits,
   and one closed table of what the same thing is called in other programs (`--lr`, `chat`). Both
   are only ever shown in an error; nothing is accepted for something else. Refuses: guessing. */
#ifndef RT_SUGGEST_H
#define RT_SUGGEST_H

#include "core/base/base.h"

RT_BEGIN

/* Nearest of n names to word (edit distance), or NULL when none is near. */
const char *rt_nearest(const char *word, const char *const *names, int n);

/* "; did you mean --learning-rate?" or "" into buf, which it returns. names: the n option names of
   a command in the spelling of a flag; prefix is "--" for a flag and "" for a recipe key, whose
   words are joined by '_'. */
const char *rt_suggest_option(char *buf, size_t size, const char *prefix, const char *word,
                              const char *const *names, int n);
/* The same for the name of a command, with what to do where there is none: "; see ..." */
const char *rt_suggest_command(char *buf, size_t size, const char *word, const char *const *names,
                               int n);
/* "; did you mean NAME?" or "". */
const char *rt_suggest_name(char *buf, size_t size, const char *word, const char *const *names,
                            int n);

RT_END

#endif
