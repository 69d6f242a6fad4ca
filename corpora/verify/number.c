/* number.c: recursive descent over a cleaned text. false = not such an expression; a value that
   cannot be had marks the pool. */
#include "corpora/verify/number.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/verify/digits.h"

enum { DEPTH_MAX = 32, EXPONENT_MAX = 100000 };

#define THIN '\1'

typedef struct parser {
    rt_exact *pool;
    const char *at;
    rt_number_style style;
    int depth;
    bool running; /* stop before letters */
    bool letters; /* the last factor was letters: nothing may follow it without a sign */
    bool integer; /* the last product was nothing but an integer */
    rt_reading *out;
} parser;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return isalpha((unsigned char)c); }
static bool starts(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static void skip(parser *t) { t->at += strspn(t->at, " \1"); }

/* A decimal with its exponent: "1,234.50", ".5", "1.5e3". */
static bool read_literal(parser *t, rt_sum *out)
{
    const char *s = t->at;
    rt_digits d = rt_digits_read(s, t->style);
    if (d.bytes == 0 || d.more)
        return false;
    char *digits = rt_alloc(d.bytes + 1, 1, "digits of an answer");
    int64_t n = 0, e = 0;
    for (int64_t i = 0; i < d.bytes; i++)
        if (is_digit(s[i]))
            digits[n++] = s[i];
    *out = rt_sum_decimal(t->pool, digits, n, d.decimals);
    free(digits);
    s += d.bytes;
    t->integer = d.decimals == 0;
    bool minus = s[0] && s[1] == '-', sign = s[0] && (minus || s[1] == '+');
    if ((*s == 'e' || *s == 'E') && is_digit(s[1 + sign])) {
        for (s += 1 + sign; is_digit(*s); s++)
            e = rt_min(e * 10 + (*s - '0'), EXPONENT_MAX);
        rt_sum ten = rt_sum_power(t->pool, rt_sum_decimal(t->pool, "10", 2, 0), minus ? -e : e);
        *out = rt_sum_multiply(t->pool, *out, ten);
        t->integer = false;
    }
    t->at = s;
    return true;
}

/* ---- factors -------------------------------------------------------------------------------- */

static bool read_sum(parser *t, rt_sum *out);

/* A sum between the bracket at t->at and `close`. */
static bool read_inside(parser *t, char close, rt_sum *out)
{
    bool running = t->running;
    rt_number_style style = t->style;
    t->at++;
    t->running = false;
    t->style = close == ')' && style == RT_STYLE_USUAL ? RT_STYLE_LIST : style;
    if (++t->depth > DEPTH_MAX || !read_sum(t, out))
        return false;
    skip(t);
    t->depth--;
    t->running = running;
    t->style = style;
    t->letters = t->integer = false;
    return *t->at++ == close;
}

/* What follows \frac, \sqrt or ^: {..}, or one digit. */
static bool read_argument(parser *t, rt_sum *out)
{
    skip(t);
    if (*t->at == '{')
        return read_inside(t, '}', out);
    if (!is_digit(*t->at))
        return false;
    *out = rt_sum_decimal(t->pool, t->at++, 1, 0);
    return true;
}

static bool read_frac(parser *t, rt_sum *out)
{
    rt_sum below;
    if (!starts(t->at, "\\frac"))
        return false;
    t->at += 5;
    if (!read_argument(t, out) || !read_argument(t, &below))
        return false;
    *out = rt_sum_divide(t->pool, *out, below);
    t->integer = false;
    return true;
}

/* "^" and an integer: 2, {-2}, or in plain text -12. */
static bool read_power(parser *t, rt_sum *base)
{
    rt_sum e;
    int64_t power;
    const char *sign = t->at + strspn(t->at, " \1");
    if (*sign != '^')
        return true;
    t->at = sign + 1;
    skip(t);
    if (*t->at == '{') {
        bool letters = t->letters;
        if (!read_inside(t, '}', &e))
            return false;
        t->letters = letters;
    } else {
        bool minus = *t->at == '-';
        int64_t n = rt_digits_count(t->at += minus);
        if (n == 0)
            return false;
        e = rt_sum_decimal(t->pool, t->at, n, 0);
        e = minus ? rt_sum_add(t->pool, (rt_sum){ NULL, 0 }, e, true) : e;
        t->at += n;
    }
    if (!rt_sum_integer(e, &power) || power > EXPONENT_MAX || power < -EXPONENT_MAX)
        return false;
    *base = rt_sum_power(t->pool, *base, power);
    t->integer = false;
    return t->at[strspn(t->at, " \1")] != '^';
}

/* "xy" -> one name; "xy^2" -> x and y^2; "f(x+1)" -> one name, whatever it means. */
static bool read_letters(parser *t, rt_sum *out)
{
    const char *s = t->at;
    int64_t n = 0, depth = 0, last = 0;
    while (is_letter(s[n]))
        n++;
    if (s[n] == '(') {
        do
            depth += (s[n] == '(') - (s[n] == ')');
        while (s[n] && s[n++] && depth);
        if (depth)
            return false;
    } else if (s[n] == '_') {
        return false;
    } else if (s[n] == '^' && n > 1) {
        last = 1;
    }
    *out = rt_sum_letter(t->pool, s, n - last);
    if (last) {
        rt_sum power = rt_sum_letter(t->pool, s + n - 1, 1);
        t->at += n;
        if (!read_power(t, &power))
            return false;
        *out = rt_sum_multiply(t->pool, *out, power);
    } else {
        t->at += n;
    }
    t->letters = true;
    t->integer = false;
    return true;
}

/* Behind an integer: "\frac{1}{2}" or " 1/2", a proper fraction that belongs to it. */
static bool read_mixed(parser *t, rt_sum *whole)
{
    parser ahead = *t;
    rt_sum part, below;
    skip(&ahead);
    bool spaced = ahead.at > t->at;
    if (starts(ahead.at, "\\frac")) {
        const char *inside = ahead.at + 5;
        for (int i = 0; i < 2; i++) { /* only of plain integers: 2\frac{\pi}{3} is a product */
            bool brace = inside[0] == '{';
            int64_t n = brace ? rt_digits_count(inside + 1) : is_digit(*inside);
            if (n == 0 || (brace && inside[1 + n] != '}'))
                return true;
            inside += n + 2 * brace;
        }
        if (!read_frac(&ahead, &part))
            return false;
    } else if (spaced && is_digit(*ahead.at)) {
        ahead.style = RT_STYLE_LIST;
        if (!read_literal(&ahead, &part) || !ahead.integer || *ahead.at != '/' ||
            (ahead.at++, !read_literal(&ahead, &below)) || !ahead.integer)
            return t->running;
        part = rt_sum_divide(t->pool, part, below);
    } else {
        return true;
    }
    /* proper: 1 - part is positive, and then so is its numerator */
    rt_sum rest = rt_sum_add(t->pool, rt_sum_decimal(t->pool, "1", 1, 0), part, true);
    if (rest.n == 0 || rest.term[0].minus)
        return false;
    *whole = rt_sum_add(t->pool, *whole, part, false);
    t->at = ahead.at;
    t->integer = false;
    return true;
}

static void read_scale(parser *t, rt_sum *value)
{
    for (;;) {
        const char *word = t->at + (*t->at == ' ');
        size_t n = 0;
        while (is_letter(word[n]))
            n++;
        const char *scale = rt_scale_word(word, n);
        if (!scale)
            return;
        rt_sum times = rt_sum_decimal(t->pool, scale, (int64_t)strlen(scale), 0);
        *value = rt_sum_multiply(t->pool, *value, times);
        t->integer = false;
        t->at = word + n;
    }
}

static bool read_factor(parser *t, rt_sum *out)
{
    skip(t);
    t->letters = false;
    t->pool->budget -= 8;
    if (t->pool->budget < 0)
        t->pool->failed = true;
    if (t->pool->failed)
        return false;
    if (is_digit(*t->at) || *t->at == '.') {
        if (!read_literal(t, out) || (t->integer && !read_mixed(t, out)))
            return false;
        read_scale(t, out);
    } else if (starts(t->at, "\\frac")) {
        if (!read_frac(t, out))
            return false;
    } else if (starts(t->at, "\\sqrt")) {
        t->at += 5;
        if (*t->at == '(' ? !read_inside(t, ')', out) : !read_argument(t, out))
            return false;
        *out = rt_sum_root(t->pool, *out);
        t->integer = false;
    } else if ((starts(t->at, "\\pi") && !is_letter(t->at[3])) ||
               (starts(t->at, "\\infty") && !is_letter(t->at[6]))) {
        int64_t n = t->at[1] == 'p' ? 3 : 6;
        *out = rt_sum_letter(t->pool, t->at, n);
        t->at += n;
        t->integer = false;
    } else if (*t->at == '(' || *t->at == '{') {
        if (!read_inside(t, *t->at == '(' ? ')' : '}', out))
            return false;
    } else if (t->running || !is_letter(*t->at) || !read_letters(t, out)) {
        return false;
    }
    return read_power(t, out);
}

static bool is_percent(const char *s)
{
    static const char *const words[] = { "%", "percent", "per cent", "pct", "percentage" };
    for (int i = 0; i < RT_COUNT(words); i++)
        if (strcmp(s, words[i]) == 0)
            return true;
    return false;
}

/* Whether another factor follows without a sign. */
static bool joined(parser *t)
{
    static const char *const heads[] = { "(", "\\frac", "\\sqrt", "\\pi" };
    const char *s = t->at + strspn(t->at, " \1");
    rt_unit unit;
    for (int i = t->running && s > t->at; i < RT_COUNT(heads); i++) /* 8 (3 more) */
        if (starts(s, heads[i]))
            return true;
    return !t->running && is_letter(*s) &&
           (t->depth || !(is_percent(s) || rt_unit_read(t->pool, t->at, &unit)));
}

static bool read_product(parser *t, rt_sum *out)
{
    rt_sum next;
    bool divided = false;
    if (!read_factor(t, out))
        return false;
    for (;;) {
        const char *before = t->at;
        skip(t);
        char sign = *t->at;
        if (sign == '*' || sign == '/') {
            bool below = sign == '/';
            t->at++;
            if (below && divided)
                return false; /* a/b/c */
            if (!read_factor(t, &next)) {
                t->at = before;
                return t->running;
            }
            *out = below ? rt_sum_divide(t->pool, *out, next)
                         : rt_sum_multiply(t->pool, *out, next);
            divided = below;
        } else if ((t->at = before, joined(t))) {
            if (divided || t->letters || !read_factor(t, &next))
                return false; /* a/bc; "sin 2x" */
            *out = rt_sum_multiply(t->pool, *out, next);
        } else {
            return true;
        }
        t->integer = false;
    }
}

static bool read_sum(parser *t, rt_sum *out)
{
    bool minus, less = false, integers = true;
    rt_sum next;
    int n = 0;
    *out = (rt_sum){ NULL, 0 };
    for (;; n++) {
        const char *sign = t->at + strspn(t->at, " \1");
        minus = *sign == '-';
        if (minus || *sign == '+')
            t->at = sign + 1;
        else if (n)
            break;
        if (!read_product(t, &next))
            return false;
        *out = rt_sum_add(t->pool, *out, next, minus);
        less |= n && minus;
        integers &= t->integer;
    }
    return !(n > 1 && less && integers);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool read_currency(parser *t)
{
    static const char *const signs[] = { "$", "\xe2\x82\xac", "\xc2\xa3", "\xc2\xa5",
                                         "\xe2\x82\xb9" };
    const char *s = t->at + (*t->at == '-');
    for (int i = 0; i < RT_COUNT(signs); i++) {
        if (!starts(s, signs[i]))
            continue;
        const char *behind = s + strlen(signs[i]);
        behind += strspn(behind, " ");
        if (is_digit(*behind) || *behind == '.') {
            rt_unit_read(t->pool, signs[i], &t->out->unit);
            t->at = behind;
            return true;
        }
    }
    return false;
}

static rt_sum percent(rt_exact *p, rt_sum value)
{
    return rt_sum_divide(p, value, rt_sum_decimal(p, "100", 3, 0));
}

/* Behind the value: "%", " percent", a unit. */
static bool read_end(parser *t)
{
    const char *s = t->at + strspn(t->at, " \1");
    rt_reading *out = t->out;
    if (is_percent(s)) {
        out->percent = true;
        out->value = percent(t->pool, out->value);
        return true;
    }
    return *s == 0 || (!out->unit.given && rt_unit_read(t->pool, t->at, &out->unit));
}

bool rt_number_read(rt_exact *p, const char *s, rt_number_style style, rt_reading *out)
{
    parser t = { .pool = p, .at = s, .style = style, .out = out };
    char digits[24];
    int64_t numeral = rt_numeral(s, strlen(s));
    *out = (rt_reading){ .unit.thing = -1 };
    if (numeral >= 0) {
        int n = snprintf(digits, sizeof digits, "%lld", (long long)numeral);
        out->value = rt_sum_decimal(p, digits, n, 0);
        return true;
    }
    bool minus = *s == '-' && read_currency(&t);
    if (!minus)
        read_currency(&t);
    if (!read_sum(&t, &out->value))
        return false;
    if (minus)
        out->value = rt_sum_add(p, (rt_sum){ NULL, 0 }, out->value, true);
    return read_end(&t);
}

int64_t rt_number_prefix(rt_exact *p, const char *s, rt_reading *out)
{
    parser t = { .pool = p, .at = s, .running = true, .out = out };
    *out = (rt_reading){ .unit.thing = -1 };
    bool minus = *s == '-';
    if (!read_currency(&t))
        t.at += minus || *s == '+';
    if (!read_product(&t, &out->value))
        return 0;
    if (minus)
        out->value = rt_sum_add(p, (rt_sum){ NULL, 0 }, out->value, true);
    size_t gap = *t.at == ' ' || *t.at == THIN;
    if (t.at[gap] == '%') {
        out->percent = true;
        out->value = percent(p, out->value);
        t.at += gap + 1;
    }
    return t.at - s;
}
