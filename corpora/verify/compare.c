/* compare.c: options, then names in front, then lists, then values, then words. */
#include "corpora/verify/compare.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/verify/number.h"
#include "corpora/verify/spelling.h"
#include "corpora/verify/words.h"

enum { PIECES_MAX = 32, DEPTH_MAX = 8, STRUCTURE_BYTES = 4096 };
#define BUDGET ((int64_t)1 << 22) /* of one comparison, and a unit for every byte of the texts */

typedef struct judge {
    rt_exact pool;
    rt_number_style style[2]; /* in which the answer and the reference are read */
    int depth;
    rt_verify_rule rule;
    const char *reason;
} judge;

static rt_judged decide(judge *j, rt_judged result, rt_verify_rule rule, const char *reason)
{
    j->rule = rule;
    j->reason = reason;
    return result;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_word(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }

/* ---- words ---------------------------------------------------------------------------------- */

static bool has_mathematics(const char *s) { return strpbrk(s, "\\^_+*=<>{}|\2\3") != NULL; }

static char *squeezed(const char *s)
{
    char *copy = rt_strdup(s);
    rt_spelling_squeeze(copy);
    return copy;
}

static rt_judged compare_text(judge *j, const char *a, const char *b)
{
    char *x = squeezed(a), *y = squeezed(b);
    rt_judged result;
    if (rt_words_same(x, y))
        result = decide(j, RT_JUDGED_YES, RT_RULE_TEXT, "equal");
    else if (rt_words_alike(x, y))
        result = decide(j, RT_JUDGED_UNKNOWN, RT_RULE_TEXT, "equal but for case, spaces or signs");
    else if (has_mathematics(y) || has_mathematics(x))
        result = decide(j, RT_JUDGED_UNKNOWN, RT_RULE_EXPRESSION, "an expression of another form");
    else if (rt_words_contain(a, b) || rt_words_contain(b, a) || rt_words_contain(x, y) ||
             rt_words_contain(y, x))
        result = decide(j, RT_JUDGED_UNKNOWN, RT_RULE_TEXT, "one is part of the other");
    else
        result = decide(j, RT_JUDGED_NO, RT_RULE_TEXT, "different");
    free(x);
    free(y);
    return result;
}

/* ---- options -------------------------------------------------------------------------------- */

/* -1 = not about options. */
static int compare_options(judge *j, const char *a, const char *b)
{
    rt_option_letter x, y;
    if (!rt_words_option(b, &y))
        return -1;
    if (!rt_words_option(a, &x))
        return (int)decide(j, RT_JUDGED_UNKNOWN, RT_RULE_OPTION, "no letter of an option");
    bool texts = *x.text && *y.text, same = texts && rt_words_same(x.text, y.text);
    if (x.letter == y.letter && (!texts || same))
        return (int)decide(j, RT_JUDGED_YES, RT_RULE_OPTION, "equal");
    if (x.letter == y.letter || same)
        return (int)decide(j, RT_JUDGED_UNKNOWN, RT_RULE_OPTION,
                           "the letter and the text disagree");
    return (int)decide(j, RT_JUDGED_NO, RT_RULE_OPTION, "different");
}

/* ---- values --------------------------------------------------------------------------------- */

/* A number with a unit against one without: which unit the other means is not known. */
static bool converts(judge *j, const rt_reading *with, rt_sum bare)
{
    rt_sum value = rt_sum_multiply(&j->pool, with->value, with->unit.factor), factor;
    for (int i = 0; rt_unit_other(&j->pool, &with->unit, &i, &factor);)
        if (rt_sum_same(&j->pool, value, rt_sum_multiply(&j->pool, bare, factor)) == RT_SAME_YES)
            return true;
    return false;
}

static rt_judged compare_values(judge *j, const rt_reading *x, const rt_reading *y)
{
    rt_exact *p = &j->pool;
    rt_sum a = x->value, b = y->value;
    bool constant = rt_sum_constant(a) && rt_sum_constant(b);
    rt_verify_rule rule = constant ? RT_RULE_NUMBER : RT_RULE_EXPRESSION;
    if (x->unit.given && y->unit.given) {
        if (!rt_unit_alike(&x->unit, &y->unit))
            return decide(j, RT_JUDGED_UNKNOWN, rule, "units that do not convert");
        a = rt_sum_multiply(p, a, x->unit.factor);
        b = rt_sum_multiply(p, b, y->unit.factor);
    }
    rt_same same = rt_sum_same(p, a, b);
    if (p->failed)
        return decide(j, RT_JUDGED_UNKNOWN, rule, "a number beyond the limits");
    if (same == RT_SAME_YES)
        return decide(j, RT_JUDGED_YES, rule, "equal");
    if (same == RT_SAME_UNKNOWN)
        return decide(j, RT_JUDGED_UNKNOWN, rule, "an expression of another form");
    rt_sum hundred = rt_sum_decimal(p, "100", 3, 0);
    if (x->percent != y->percent &&
        rt_sum_same(p, x->percent ? rt_sum_multiply(p, a, hundred) : a,
                    y->percent ? rt_sum_multiply(p, b, hundred) : b) == RT_SAME_YES)
        return decide(j, RT_JUDGED_UNKNOWN, rule, "per cent against a bare number");
    if (x->unit.given != y->unit.given && (x->unit.given ? converts(j, x, b) : converts(j, y, a)))
        return decide(j, RT_JUDGED_UNKNOWN, rule, "a unit against a bare number");
    return decide(j, RT_JUDGED_NO, rule, "different");
}

/* ---- structure ------------------------------------------------------------------------------ */

typedef struct pieces {
    char open, close; /* of a set, tuple or interval; 0 = a bare list */
    int n;
    char *piece[PIECES_MAX];
} pieces;

static void free_pieces(pieces *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->piece[i]);
    l->n = 0;
}

static bool opens(char c) { return c && strchr("([{\2", c); }
static bool closes(char c) { return c && strchr(")]}\3", c); }

/* Bytes of the separator of a list at s[i]. */
static size_t separator(const char *s, size_t i, char sign, bool bare)
{
    static const char *const words[] = { "and", "or", "\\cup" };
    for (int k = 0; bare && k < RT_COUNT(words); k++) {
        size_t n = strlen(words[k]);
        bool apart = i > 0 && !isalpha((unsigned char)s[i - 1]) && s[i - 1] != '\\';
        if (apart && strncmp(s + i, words[k], n) == 0 && !isalpha((unsigned char)s[i + n]))
            return n;
    }
    return s[i] == sign;
}

/* Elements of "{1,2}", "(1,2]", "1, 2 or 3" at the outermost depth; n = 0 where s is no list. */
static void split(pieces *l, const char *s, rt_number_style style)
{
    size_t n = strlen(s), from = 0;
    int depth = 0;
    char sign = ',';
    bool whole = n > 1 && n < STRUCTURE_BYTES && opens(s[0]) && s[0] != '{' && closes(s[n - 1]);
    *l = (pieces){ 0 };
    for (size_t i = 0; i < n; i++) {
        depth += opens(s[i]) - closes(s[i]);
        whole = whole && (depth > 0 || i == n - 1);
    }
    if (depth != 0 || n >= STRUCTURE_BYTES)
        return;
    for (size_t i = whole; i < n - whole; i++) {
        depth += opens(s[i]) - closes(s[i]);
        if (depth == 0 && s[i] == ';')
            sign = ';';
    }
    if (whole && style == RT_STYLE_USUAL)
        style = RT_STYLE_LIST;
    depth = 0;
    from = whole;
    for (size_t i = whole; i <= n - whole && l->n < PIECES_MAX; i++) {
        bool end = i == n - whole;
        size_t gap = end || depth ? 0 : separator(s, i, sign, !whole);
        if (end || gap) {
            while (from < i && s[from] == ' ')
                from++;
            size_t to = i;
            while (to > from && s[to - 1] == ' ')
                to--;
            if (to > from)
                l->piece[l->n++] = rt_strndup(s + from, (int64_t)(to - from));
            from = i + gap;
            i += gap ? gap - 1 : 0;
        } else if (is_digit(s[i])) {
            i += (size_t)rt_digits_read(s + i, style).bytes - 1;
        } else {
            depth += opens(s[i]) - closes(s[i]);
        }
    }
    l->open = whole ? s[0] : 0;
    l->close = whole ? s[n - 1] : 0;
    bool list = l->n < PIECES_MAX && (l->n > 1 || l->open == RT_SET_OPEN);
    if (!list)
        free_pieces(l);
}

static rt_judged compare(judge *j, const char *a, const char *b);

static rt_judged in_order(judge *j, const pieces *x, const pieces *y)
{
    rt_judged result = x->n == y->n ? RT_JUDGED_YES : RT_JUDGED_NO;
    for (int i = 0; i < x->n && i < y->n && result != RT_JUDGED_NO; i++) {
        rt_judged one = compare(j, x->piece[i], y->piece[i]);
        result = one == RT_JUDGED_YES ? result : one;
    }
    return result;
}

/* Every element of x among those of y. */
static rt_judged within(judge *j, const pieces *x, const pieces *y, bool swap)
{
    rt_judged result = RT_JUDGED_YES;
    for (int i = 0; i < x->n && result != RT_JUDGED_NO; i++) {
        rt_judged best = RT_JUDGED_NO;
        for (int k = 0; k < y->n && best != RT_JUDGED_YES; k++) {
            rt_judged one = swap ? compare(j, y->piece[k], x->piece[i])
                                 : compare(j, x->piece[i], y->piece[k]);
            best = one == RT_JUDGED_NO ? best : one;
        }
        result = best == RT_JUDGED_YES ? result : best;
    }
    return result;
}

static rt_judged any_order(judge *j, const pieces *x, const pieces *y)
{
    rt_judged there = within(j, x, y, false), back = within(j, y, x, true);
    return there == RT_JUDGED_NO || back == RT_JUDGED_NO ? RT_JUDGED_NO
           : there == RT_JUDGED_YES                      ? back
                                                         : there;
}

static rt_judged compare_lists(judge *j, const pieces *x, const pieces *y)
{
    bool same = x->open == y->open && x->close == y->close, set = x->open == RT_SET_OPEN;
    bool interval = x->n == 2 && y->n == 2 && x->open && y->open && !set && y->open != RT_SET_OPEN;
    if (interval && !same)
        return decide(j, RT_JUDGED_NO, RT_RULE_LIST, "other brackets");
    rt_judged result = same && set ? any_order(j, x, y) : in_order(j, x, y);
    if (same && (x->open || result == RT_JUDGED_YES))
        return decide(j, result, RT_RULE_LIST, result == RT_JUDGED_YES ? "equal" : "different");
    if (any_order(j, x, y) == RT_JUDGED_NO)
        return decide(j, RT_JUDGED_NO, RT_RULE_LIST, "different");
    return decide(j, RT_JUDGED_UNKNOWN, RT_RULE_LIST,
                  same ? "a list in another order" : "other brackets");
}

/* "x = 3", "(x, y) = (1, 2)", "x \\in [0, 1]": what stands behind the sign, when there is only one
   and a name before it. */
static const char *behind_name(const char *s)
{
    const char *sign = strchr(s, '='), *in = strstr(s, "\\in ");
    size_t bytes = sign ? 1 : 3, n;
    sign = sign ? sign : in;
    if (!sign || sign == s || (in && sign != in))
        return NULL;
    n = (size_t)(sign - s);
    if (n > 24 || strpbrk(sign + bytes, "=<>") || strchr("<>!:", sign[-1]) ||
        !(isalpha((unsigned char)*s) || *s == '\\' || *s == '('))
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (!is_word(s[i]) && !strchr(*s == '(' ? "_{}(),' " : "_(){}\\' ", s[i]))
            return NULL;
    return sign + bytes + strspn(sign + bytes, " ");
}

static rt_judged compare_equations(judge *j, const char *a, const char *x, const char *b,
                                   const char *y)
{
    if (x && y) {
        char *left = rt_strndup(a, x - a), *right = rt_strndup(b, y - b);
        rt_spelling_squeeze(left);
        rt_spelling_squeeze(right);
        bool same = strcmp(left, right) == 0;
        free(left);
        free(right);
        if (!same)
            return decide(j, RT_JUDGED_NO, RT_RULE_EXPRESSION, "of another name");
    }
    return compare(j, x ? x : a, y ? y : b);
}

/* Letters alone are words. */
static bool read_value(judge *j, const char *s, rt_number_style style, rt_reading *out)
{
    return rt_number_read(&j->pool, s, style, out) && !j->pool.failed &&
           (rt_sum_constant(out->value) || has_mathematics(s) || strpbrk(s, "0123456789"));
}

/* Digits and signs, and letters one by one: "5-3", "1/2x", "2 4/3". */
static bool is_calculation(const char *s)
{
    bool words = false;
    for (const char *p = s; *p; p++)
        words |= isalpha((unsigned char)p[0]) && isalpha((unsigned char)p[1]);
    return !words && strpbrk(s, "0123456789") && strpbrk(s, "+-/ ");
}

/* Both cleaned. */
static rt_judged compare_inside(judge *j, const char *a, const char *b)
{
    rt_reading x, y;
    const char *name_a = behind_name(a), *name_b = behind_name(b);
    pieces l, m;
    if (name_a ? name_b || !strpbrk(b, "=<>") : name_b && !strpbrk(a, "=<>"))
        return compare_equations(j, a, name_a, b, name_b);
    split(&l, a, j->style[0]);
    split(&m, b, j->style[1]);
    bool lists = l.n && m.n, one_list = (l.n > 0) != (m.n > 0);
    rt_judged result = lists ? compare_lists(j, &l, &m) : RT_JUDGED_UNKNOWN;
    free_pieces(&l);
    free_pieces(&m);
    if (lists)
        return result;
    bool number = read_value(j, a, j->style[0], &x);
    bool reference = read_value(j, b, j->style[1], &y);
    if (number && reference)
        return compare_values(j, &x, &y);
    if (one_list && (number || reference) && !has_mathematics(a) && !has_mathematics(b) &&
        !strpbrk(number ? b : a, "abcdefghijklmnopqrstuvwxyz"))
        return decide(j, RT_JUDGED_NO, RT_RULE_LIST, "a list against one number");
    if (j->pool.failed)
        return decide(j, RT_JUDGED_UNKNOWN, RT_RULE_NUMBER, "a number beyond the limits");
    if (number != reference && is_calculation(number ? b : a))
        return decide(j, RT_JUDGED_UNKNOWN, RT_RULE_EXPRESSION, "an expression that is not read");
    return compare_text(j, a, b);
}

static rt_judged compare(judge *j, const char *a, const char *b)
{
    int letters = compare_options(j, a, b);
    if (letters >= 0)
        return (rt_judged)letters;
    if (j->depth == DEPTH_MAX)
        return decide(j, RT_JUDGED_UNKNOWN, RT_RULE_LIST, "lists too deep in each other");
    j->depth++;
    rt_judged result = compare_inside(j, a, b);
    j->depth--;
    return result;
}

/* The same text is the same, whatever it means. */
static bool same_text(const char *a, const char *b)
{
    char *x = squeezed(a), *y = squeezed(b);
    bool same = strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

rt_comparison rt_compare(const char *a, const char *b)
{
    judge j = { .pool.budget = BUDGET + (int64_t)strlen(a) + (int64_t)strlen(b) };
    rt_comparison c = { .result = compare(&j, a, b) };
    c.rule = j.rule;
    c.reason = j.reason;
    if (c.result == RT_JUDGED_UNKNOWN && same_text(a, b)) {
        c.result = RT_JUDGED_YES;
        c.reason = "equal";
    }
    bool doubtful = strpbrk(a, ",. ") || strpbrk(b, ",. ");
    for (int i = 1; doubtful && i < RT_STYLE_COUNT * RT_STYLE_COUNT && c.result == RT_JUDGED_NO;
         i++) {
        j.style[0] = (rt_number_style)(i / RT_STYLE_COUNT);
        j.style[1] = (rt_number_style)(i % RT_STYLE_COUNT);
        if (compare(&j, a, b) == RT_JUDGED_YES) {
            c.result = RT_JUDGED_UNKNOWN;
            c.reason = "two readings of one text";
        }
    }
    rt_exact_free(&j.pool);
    return c;
}

bool rt_compare_contains(const char *text, const char *part)
{
    char *x = squeezed(text), *y = squeezed(part);
    bool found = rt_words_contain(x, y);
    free(x);
    free(y);
    return found;
}
