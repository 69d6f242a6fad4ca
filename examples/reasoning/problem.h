/* problem.h: one word problem and its thought, drawn at random and worked out digit by digit.
   Five families (chain, together, boxes, units; compare is the hard slice), numbers and results
   2 .. 999, and free wording so that a teacher has something to be uncertain about: the opener and
   the result word of each step and the closing word, each with probability proportional to
   rank^-0.3, and in compare whose sum comes first.
   All text is made of a small closed set of pre-tokens under the Qwen2 pattern.
   Refuses: choosing which problems are printed (problems.c), judging anybody's answers. */
#ifndef REASONING_PROBLEM_H
#define REASONING_PROBLEM_H

#include "core/base/base.h"

enum { RT_STEPS_MAX = 3, RT_PROBLEM_TEXT_MAX = 1024 };

typedef enum rt_family {
    RT_CHAIN,
    RT_TOGETHER,
    RT_BOXES,
    RT_UNITS,
    RT_COMPARE,
    RT_FAMILIES
} rt_family;

typedef struct rt_line {
    char data[RT_PROBLEM_TEXT_MAX]; /* NUL-terminated */
    int bytes;
} rt_line;

typedef struct rt_step {
    int a, b;
    char op;          /* '+', '-', '*' (a is one digit then) */
    const char *name; /* whose numbers these are, or NULL */
} rt_step;

typedef struct rt_problem {
    rt_family family;
    rt_step step[RT_STEPS_MAX];
    int n_steps, answer;
    rt_line prompt, reasoning;
    rt_line key;         /* family, numbers and operations, without names and objects */
    double nats;         /* -log probability of the free wording as drawn */
    double entropy_nats; /* its expectation, given the steps */
} rt_problem;

extern const char *const rt_family_names[RT_FAMILIES];

/* Everything but the reasoning, from (seed, index, attempt); attempt < 60000, index < 2^39.
   family RT_FAMILIES: chain, together, boxes, units with weights 4:2:3:2. */
void rt_problem_draw(rt_problem *p, int64_t seed, int64_t index, int attempt, rt_family family);
/* The reasoning of a drawn problem, with wording from (seed, index). */
void rt_problem_word(rt_problem *p, int64_t seed, int64_t index);

/* Calls emit(word) for every distinct pre-token that prompts, reasoning and \\boxed{N} can hold. */
void rt_problem_words(void (*emit)(const char *word));
/* Pre-tokens of ASCII text without apostrophes under the Qwen2 pattern. */
int rt_pretoken_count(const char *text);

#endif
