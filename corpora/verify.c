/* verify.c: an answer is cleaned of its dressing, read as an exact rational when it is one, and
   compared. The grammar is in verify.h. */
#include "corpora/verify.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "corpora/number.h"

enum { ANSWER_BYTES = 256 };

/* Thin spaces become this while cleaning: a thousands separator that is not a space. */
#define THIN '\1'

/* ---- cleaning ------------------------------------------------------------------------------- */

static const struct {
    const char *from, *to;
} dressing[] = {
    { "\\left", "" },
    { "\\right", "" },
    { "\\!", "" },
    { "\\(", "" },
    { "\\)", "" },
    { "\\[", "" },
    { "\\]", "" },
    { "\\$", "$" },
    { "\\%", "%" },
    { "\\,", "\1" },
    { "\\;", " " },
    { "\\:", " " },
    { "\\ ", " " },
    { "~", " " },
    { "{,}", "," },
    { "\\dfrac", "\\frac" },
    { "\\tfrac", "\\frac" },
    { "\\times", "*" },
    { "\\cdot", "*" },
    { "\xc3\x97", "*" },
    { "^\\circ", " deg" },
    { "^{\\circ}", " deg" },
    { "\\degree", " deg" },
    { "\xc2\xb0", " deg" },
    { "\xe2\x88\x92", "-" },
    { "\xc2\xa0", "\1" },
    { "\xe2\x80\x89", "\1" },
    { "\xe2\x80\xaf", "\1" },
    { "**", "" },
};
static const char *const wrappers[] = { "\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{",
                                        "\\mbox{" };

static bool starts(const char *s, size_t n, const char *with)
{
    size_t m = strlen(with);
    return m <= n && memcmp(s, with, m) == 0;
}

/* out without white space, periods and '$' pairs at its ends. */
static void trim(char *out, size_t used)
{
    size_t from = 0;
    for (bool again = true; again && from < used;) {
        bool pair = used - from > 1 && out[from] == '$' && out[used - 1] == '$';
        bool tail = strchr(" .\1", out[used - 1]) != NULL, head = out[from] == ' ';
        used -= pair || tail;
        from += pair || (head && from < used);
        again = pair || tail || head;
    }
    memmove(out, out + from, used - from);
    out[used - from] = 0;
}

/* Copy without dressing; false when it does not fit. out[ANSWER_BYTES] */
static bool clean(const char *s, size_t n, char *out)
{
    size_t used = 0;
    int depth = 0, open = 0, closing[16]; /* depths at which the brace of a wrapper closes */
    for (size_t i = 0, step; i < n; i += step) {
        char one[2] = { isspace((unsigned char)s[i]) ? ' ' : s[i], 0 };
        const char *to = NULL;
        step = 1;
        for (int k = 0; k < RT_COUNT(wrappers) && !to && open < RT_COUNT(closing); k++)
            if (starts(s + i, n - i, wrappers[k])) {
                to = " ";
                step = strlen(wrappers[k]);
                closing[open++] = depth++;
            }
        for (int k = 0; k < RT_COUNT(dressing) && !to; k++)
            if (starts(s + i, n - i, dressing[k].from)) {
                to = dressing[k].to;
                step = strlen(dressing[k].from);
            }
        if (!to) {
            depth += (s[i] == '{') - (s[i] == '}');
            bool wrapper = s[i] == '}' && open && closing[open - 1] == depth;
            open -= wrapper;
            to = wrapper || (one[0] == ' ' && used && out[used - 1] == ' ') ? "" : one;
        }
        size_t add = strlen(to);
        if (used + add >= ANSWER_BYTES)
            return false;
        memcpy(out + used, to, add);
        used += add;
    }
    trim(out, used);
    return true;
}

/* ---- extraction ----------------------------------------------------------------------------- */

/* The last \boxed{..} or \fbox{..} whose braces balance, in one pass. */
static bool find_boxed(const char *s, const char **begin, size_t *bytes)
{
    struct {
        const char *begin;
        int64_t depth;
    } open[64]; /* the innermost ones; more are not kept */
    int n = 0;
    int64_t depth = 0;
    *begin = NULL;
    for (const char *p = s; *p; p++) {
        if (*p == '\\') {
            size_t name = strncmp(p, "\\boxed", 6) == 0 ? 6 : strncmp(p, "\\fbox", 5) == 0 ? 5 : 0;
            const char *brace = p + name + strspn(p + name, " ");
            if (name && *brace == '{') {
                n -= n == RT_COUNT(open);
                open[n].begin = brace + 1;
                open[n++].depth = depth++;
                p = brace;
            } else if (p[1]) {
                p++;
            }
        } else if (*p == '{') {
            depth++;
        } else if (*p == '}') {
            depth--;
            if (n && open[n - 1].depth == depth) {
                n--;
                if (!*begin || open[n].begin > *begin) {
                    *begin = open[n].begin;
                    *bytes = (size_t)(p - *begin);
                }
            }
        }
    }
    return *begin != NULL;
}

/* The last number of a running text that is not glued to a word. */
static bool find_number(const char *s, const char **begin, size_t *bytes)
{
    bool found = false;
    for (const char *p = s; *p;) {
        char before = p > s ? p[-1] : ' ';
        bool glued = isalnum((unsigned char)before) || before == '_';
        size_t minus = strncmp(p, "\xe2\x88\x92", 3) == 0 ? 3 : 0;
        bool sign = (*p == '-' || minus) && !glued && before != ')';
        bool start = sign || (!glued &&
                              (isdigit((unsigned char)*p) || *p == '.' || *p == '$' || *p == '\\'));
        const char *end = p + minus;
        rt_number value;
        if (start && rt_number_read(&end, &value)) {
            *begin = p;
            *bytes = (size_t)(end - p);
            found = true;
            p = end;
        } else {
            p++;
        }
    }
    return found;
}

static bool has_mathematics(const char *s) { return strpbrk(s, "0123456789\\^_+*=<>{}") != NULL; }

/* Equal up to white space and, for words, case. */
static bool same_text(const char *a, const char *b)
{
    bool words = !has_mathematics(a) && !has_mathematics(b) && strlen(a) > 1;
    for (;; a++, b++) {
        a += strspn(a, " \1");
        b += strspn(b, " \1");
        int x = (unsigned char)*a, y = (unsigned char)*b;
        if (x != y && !(words && tolower(x) == tolower(y)))
            return false;
        if (x == 0)
            return true;
    }
}

/* ---- judging -------------------------------------------------------------------------------- */

static rt_judgement judge(rt_judgement v, rt_judged result, const char *reason)
{
    v.result = result;
    v.reason = reason;
    return v;
}

static void keep_answer(rt_judgement *v, const char *s, size_t n)
{
    while (n && isspace((unsigned char)*s)) {
        s++;
        n--;
    }
    while (n && isspace((unsigned char)s[n - 1]))
        n--;
    if (n >= sizeof v->answer)
        for (n = sizeof v->answer - 1; n && ((unsigned char)s[n] & 0xc0) == 0x80;)
            n--;
    memcpy(v->answer, s, n);
    v->answer[n] = 0;
}

/* "(A)" -> "A" */
static void bare_choice(char *s)
{
    if (s[0] == '(' && isalpha((unsigned char)s[1]) && s[2] == ')' && s[3] == 0) {
        s[0] = s[1];
        s[1] = 0;
    }
}

static rt_judgement compare(rt_judgement v, rt_verify_kind kind, const char *s, size_t n,
                            const char *reference)
{
    char answer[ANSWER_BYTES], gold[ANSWER_BYTES];
    rt_number x, y;
    if (!clean(reference, strlen(reference), gold) || gold[0] == 0)
        return judge(v, RT_JUDGED_UNKNOWN, "the reference is empty or longer than 255 bytes");
    if (!clean(s, n, answer))
        return judge(v, RT_JUDGED_UNKNOWN, "the answer is longer than 255 bytes");
    if (answer[0] == 0)
        return judge(v, RT_JUDGED_NO, "an empty answer");
    bare_choice(answer);
    bare_choice(gold);
    bool number = rt_number_answer(answer, &x), gold_number = rt_number_answer(gold, &y);
    if (kind == RT_VERIFY_NUMBER && !gold_number)
        return judge(v, RT_JUDGED_UNKNOWN, "the reference is not a number");
    if (number && gold_number && !x.overflow && !y.overflow)
        return x.num == y.num && x.den == y.den ? judge(v, RT_JUDGED_YES, "equal")
                                                : judge(v, RT_JUDGED_NO, "different");
    if (same_text(answer, gold))
        return judge(v, RT_JUDGED_YES, "equal");
    if (number && gold_number)
        return judge(v, RT_JUDGED_UNKNOWN, "a number beyond 128 bits");
    if (has_mathematics(answer) && (!number || has_mathematics(gold)))
        return judge(v, RT_JUDGED_UNKNOWN, "an expression that is not a number");
    return judge(v, RT_JUDGED_NO, "different");
}

rt_judgement rt_verify(rt_verify_kind kind, const char *response, const char *reference)
{
    rt_judgement v = { .result = RT_JUDGED_UNKNOWN, .reason = "not judged" };
    const char *s = response;
    size_t n = strlen(response);
    bool found = true;
    switch (kind) {
    case RT_VERIFY_NONE:
        return v;
    case RT_VERIFY_EXACT:
        keep_answer(&v, s, n);
        while (*reference || *s) { /* both without white space at the ends and runs as one space */
            size_t a = strspn(s, " \t\r\n\f\v"), b = strspn(reference, " \t\r\n\f\v");
            bool edge = s == response || !s[a] || !reference[b];
            s += a;
            reference += b;
            if ((!edge && (a > 0) != (b > 0)) || *s != *reference)
                return judge(v, RT_JUDGED_NO, "different");
            s += *s != 0;
            reference += *reference != 0;
        }
        return judge(v, RT_JUDGED_YES, "equal");
    case RT_VERIFY_BOXED:
        found = find_boxed(response, &s, &n);
        break;
    case RT_VERIFY_NUMBER:
        found = find_boxed(response, &s, &n) || find_number(response, &s, &n);
        break;
    }
    if (!found)
        return judge(v, RT_JUDGED_NO,
                     kind == RT_VERIFY_BOXED ? "no \\boxed{} in the text"
                                             : "no number in the text");
    keep_answer(&v, s, n);
    return compare(v, kind, s, n, reference);
}

static const char *const kinds[] = { "none", "number", "boxed", "exact" };

int rt_verify_kind_parse(rt_verify_kind *kind, const char *name, rt_err *err)
{
    for (int i = 0; i < RT_COUNT(kinds); i++)
        if (strcmp(name, kinds[i]) == 0) {
            *kind = (rt_verify_kind)i;
            return 0;
        }
    return rt_usage(err, "verify: \"%s\" is unknown; number, boxed, exact and none are", name);
}

const char *rt_verify_kind_name(rt_verify_kind kind) { return kinds[kind]; }
