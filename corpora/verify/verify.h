/* verify.h: is this answer right? Rules only, exact, no repair of malformed answers, and three
   results, because "cannot tell" must not count as wrong without being seen. Which part of a
   response is its answer: answer.h; when two answers are equal: compare.h; what
   people need to know: docs/verifiers.md. Refuses: rounding, and models as judges. */
#ifndef RT_VERIFY_H
#define RT_VERIFY_H

#include "core/base/err.h"

RT_BEGIN

typedef enum rt_verify_kind {
    RT_VERIFY_NONE,   /* never judged: cannot tell */
    RT_VERIFY_AUTO,   /* as number where the reference is one, else as text: the last \boxed{} or
                         the whole */
    RT_VERIFY_NUMBER, /* \boxed{} when there is one, else the last number of the text */
    RT_VERIFY_BOXED,  /* the last balanced \boxed{}; by value when both sides are numbers, else as
                         text */
    RT_VERIFY_EXACT   /* the whole text, white space at the ends and runs of it ignored */
} rt_verify_kind;

typedef enum rt_judged { RT_JUDGED_NO = 0, RT_JUDGED_YES = 1, RT_JUDGED_UNKNOWN = 2 } rt_judged;

typedef enum rt_verify_rule {
    RT_RULE_NONE,       /* nothing was compared */
    RT_RULE_MISSING,    /* the response holds no answer of the kind: wrong */
    RT_RULE_NUMBER,     /* by exact value */
    RT_RULE_EXPRESSION, /* by form */
    RT_RULE_OPTION,     /* by the letter of an option */
    RT_RULE_LIST,       /* by the elements of a set, tuple, interval or list */
    RT_RULE_TEXT,       /* as words */
    RT_RULE_EXACT,      /* character by character */
    RT_RULE_COUNT
} rt_verify_rule;
const char *rt_verify_rule_name(rt_verify_rule rule); /* "number" */
rt_verify_rule rt_verify_rule_of(const char *name);   /* unknown names: RT_RULE_NONE */

typedef struct rt_judgement {
    rt_judged result;
    rt_verify_rule rule;
    const char *reason; /* a literal: "equal", "different", "no \\boxed{} in the text", ... */
    char answer[256];   /* what was extracted, cut at a character boundary; "" = nothing */
} rt_judgement;

/* The choices of the option --verify of every command that judges. */
#define RT_VERIFY_KINDS "auto|none|number|boxed|exact"
#define RT_VERIFY_HELP                                                                             \
    "how a response is compared with the answer; auto: as the record's \"verify\" says, else as "  \
    "number or text"

/* How one record is judged. flag: the value of --verify, which wins unless it is "auto"; then what
   the record's "verify" says (or NULL), then auto. Without an answer there is nothing to compare:
   auto becomes none, another flag is an error. */
int rt_verify_choose(rt_verify_kind *kind, const char *flag, const char *record, const char *answer,
                     rt_err *err);

/* One of RT_VERIFY_KINDS -> kind; else a usage error that lists them. */
int rt_verify_kind_parse(rt_verify_kind *kind, const char *name, rt_err *err);
const char *rt_verify_kind_name(rt_verify_kind kind);

/* response: the text after the thought, NUL-terminated. A response without any answer is NO. Time
   and memory are bounded by the texts' length and a fixed budget of arithmetic; past it UNKNOWN. */
rt_judgement rt_verify(rt_verify_kind kind, const char *response, const char *reference);

RT_END

#endif
