/* verify.c: which part of a response is compared with which part of the reference, and the names of
   kinds and rules. */
#include "corpora/verify/verify.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/verify/answer.h"
#include "corpora/verify/compare.h"
#include "corpora/verify/number.h"
#include "corpora/verify/spelling.h"

#define BUDGET ((int64_t)1 << 22)

static rt_judgement make(rt_comparison c, rt_str answer)
{
    rt_judgement v = { c.result, c.rule, c.reason, "" };
    while (answer.bytes && isspace((unsigned char)*answer.data)) {
        answer.data++;
        answer.bytes--;
    }
    while (answer.bytes && isspace((unsigned char)answer.data[answer.bytes - 1]))
        answer.bytes--;
    size_t n = (size_t)answer.bytes;
    if (n >= sizeof v.answer)
        for (n = sizeof v.answer - 1; n && ((unsigned char)answer.data[n] & 0xc0) == 0x80;)
            n--;
    if (n)
        memcpy(v.answer, answer.data, n);
    v.answer[n] = 0;
    return v;
}

/* The reference itself, its last box, or what stands behind "####". */
static char *clean_reference(const char *reference, bool *several)
{
    rt_str found = { reference, (int64_t)strlen(reference) };
    if (!rt_answer_boxed(reference, &found, several))
        rt_answer_marked(reference, true, &found);
    return rt_spelling_clean(found);
}

static rt_comparison compare_part(rt_str part, const char *reference)
{
    char *answer = rt_spelling_clean(part);
    rt_comparison c = { RT_JUDGED_NO, RT_RULE_MISSING, "an empty answer" };
    if (*answer)
        c = rt_compare(answer, reference);
    free(answer);
    return c;
}

/* By the last number of a running text, or the first. */
static rt_judgement judge_one_number(rt_str text, bool first, const char *reference)
{
    char *clean = rt_spelling_clean(text);
    rt_str number = { "", 0 };
    rt_comparison c = { RT_JUDGED_NO, RT_RULE_MISSING, "no number in the text" };
    rt_found found = rt_answer_number(clean, first, &number);
    if (found == RT_FOUND_EXPRESSION)
        c = (rt_comparison){ RT_JUDGED_UNKNOWN, RT_RULE_NUMBER,
                             "a part of an expression, or of a list" };
    else if (found == RT_FOUND_NUMBER)
        c = compare_part(number, reference);
    rt_judgement v = make(c, number);
    free(clean);
    return v;
}

/* By the last number, which must agree with the one behind "answer is" where there is one. */
static rt_judgement judge_number(rt_str text, const char *reference)
{
    char *copy = rt_strndup(text.data, text.bytes);
    rt_str marked;
    rt_judgement v = judge_one_number(text, false, reference);
    if (v.rule != RT_RULE_MISSING && rt_answer_marked(copy, false, &marked)) {
        rt_judgement there = judge_one_number(marked, true, reference);
        if (there.result != v.result && there.result != RT_JUDGED_UNKNOWN &&
            there.rule != RT_RULE_MISSING) {
            v.result = RT_JUDGED_UNKNOWN;
            v.reason = "the last number is not that of the answer";
        }
    }
    free(copy);
    return v;
}

static rt_judgement judge_exact(const char *s, const char *reference)
{
    const char *begin = s;
    rt_comparison c = { RT_JUDGED_YES, RT_RULE_EXACT, "equal" };
    while (*reference || *s) { /* white space at the ends is none, a run of it one space */
        size_t a = strspn(s, " \t\r\n\f\v"), b = strspn(reference, " \t\r\n\f\v");
        bool edge = s == begin || !s[a] || !reference[b];
        s += a;
        reference += b;
        if ((!edge && (a > 0) != (b > 0)) || *s != *reference) {
            c = (rt_comparison){ RT_JUDGED_NO, RT_RULE_EXACT, "different" };
            break;
        }
        s += *s != 0;
        reference += *reference != 0;
    }
    return make(c, (rt_str){ begin, (int64_t)strlen(begin) });
}

static bool part_of(const char *reference, const char *response)
{
    char *text = rt_spelling_clean((rt_str){ response, (int64_t)strlen(response) });
    bool part = rt_compare_contains(text, reference);
    free(text);
    return part;
}

static bool is_number(const char *reference)
{
    rt_exact pool = { .budget = BUDGET + (int64_t)strlen(reference) };
    rt_reading r;
    bool number = rt_number_read(&pool, reference, RT_STYLE_USUAL, &r) && rt_sum_constant(r.value);
    rt_exact_free(&pool);
    return number;
}

static rt_judgement judge_cleaned(rt_verify_kind kind, const char *response, const char *reference,
                                  bool several)
{
    rt_str part = { response, (int64_t)strlen(response) }, none = { "", 0 };
    bool number = is_number(reference), here = false,
         boxed = rt_answer_boxed(response, &part, &here);
    if (*reference == 0 || (kind == RT_VERIFY_NUMBER && !number))
        return make((rt_comparison){ RT_JUDGED_UNKNOWN, RT_RULE_NUMBER,
                                     "the reference is empty, or not a number" },
                    none);
    if (!boxed && kind == RT_VERIFY_BOXED)
        return make((rt_comparison){ RT_JUDGED_NO, RT_RULE_MISSING, "no \\boxed{} in the text" },
                    none);
    bool marked = !boxed && rt_answer_marked(response, true, &part);
    if (!boxed && number)
        return judge_number(part, reference);
    marked = marked || (!boxed && rt_answer_marked(response, false, &part));
    rt_comparison c = compare_part(part, reference);
    if (several || here) /* \boxed{1} and \boxed{2}: neither alone is the answer */
        c = (rt_comparison){ RT_JUDGED_UNKNOWN, c.rule, "several boxes are the answer" };
    if (!boxed && !marked && c.result == RT_JUDGED_NO && part_of(reference, response))
        c = (rt_comparison){ RT_JUDGED_UNKNOWN, c.rule, "the reference stands in a longer text" };
    return make(c, part);
}

rt_judgement rt_verify(rt_verify_kind kind, const char *response, const char *reference)
{
    bool several = false;
    if (kind == RT_VERIFY_NONE)
        return make((rt_comparison){ RT_JUDGED_UNKNOWN, RT_RULE_NONE, "not judged" },
                    (rt_str){ "", 0 });
    if (kind == RT_VERIFY_EXACT)
        return judge_exact(response, reference);
    char *clean = clean_reference(reference, &several);
    rt_judgement v = judge_cleaned(kind, response, clean, several);
    free(clean);
    return v;
}

/* ---- names ---------------------------------------------------------------------------------- */

static const char *const kinds[] = { "none", "auto", "number", "boxed", "exact" };
static const char *const rules[RT_RULE_COUNT] = { "none",   "no answer", "number", "expression",
                                                  "option", "list",      "text",   "exact" };

int rt_verify_kind_parse(rt_verify_kind *kind, const char *name, rt_err *err)
{
    for (int i = 0; i < RT_COUNT(kinds); i++)
        if (strcmp(name, kinds[i]) == 0) {
            *kind = (rt_verify_kind)i;
            return 0;
        }
    return rt_usage(err, "verify: \"%s\" is unknown; %s are", name, RT_VERIFY_KINDS);
}

const char *rt_verify_kind_name(rt_verify_kind kind) { return kinds[kind]; }
const char *rt_verify_rule_name(rt_verify_rule rule) { return rules[rule]; }

rt_verify_rule rt_verify_rule_of(const char *name)
{
    for (int i = 0; i < RT_RULE_COUNT; i++)
        if (strcmp(name, rules[i]) == 0)
            return (rt_verify_rule)i;
    return RT_RULE_NONE;
}

int rt_verify_choose(rt_verify_kind *kind, const char *flag, const char *record, const char *answer,
                     rt_err *err)
{
    bool given = strcmp(flag, "auto") != 0;
    if (rt_verify_kind_parse(kind, given ? flag : record ? record : "auto", err))
        return -1;
    if (!answer && !given) {
        *kind = RT_VERIFY_NONE;
        return 0;
    }
    return answer || *kind == RT_VERIFY_NONE
               ? 0
               : rt_fail(err,
                         "no \"answer\" to verify with --verify %s: add it, or take --verify none",
                         flag);
}
