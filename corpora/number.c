/* number.c: the grammar of verify.h as a recursive descent over exact rationals. Every operation is
   checked; one overflow marks the number and everything made from it. */
#include "corpora/number.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

typedef rt_i128 i128;

#define THIN '\1'

static i128 gcd(i128 a, i128 b)
{
    while (b) {
        i128 t = a % b;
        a = b;
        b = t;
    }
    return a < 0 ? -a : a;
}

static rt_number reduce(i128 num, i128 den, bool overflow)
{
    i128 g = overflow ? 1 : gcd(num, den);
    return overflow || den == 0 ? (rt_number){ 0, 1, true }
                                : (rt_number){ num / g, den / g, false };
}

/* a * b and a + b in lowest terms. */
static rt_number times(rt_number a, rt_number b)
{
    i128 num, den, g = gcd(a.num, b.den), h = gcd(b.num, a.den);
    if (a.overflow || b.overflow)
        return reduce(0, 1, true);
    g = g ? g : 1;
    h = h ? h : 1;
    bool over = __builtin_mul_overflow(a.num / g, b.num / h, &num) |
                __builtin_mul_overflow(a.den / h, b.den / g, &den);
    return reduce(num, den, over);
}

static rt_number plus(rt_number a, rt_number b)
{
    i128 x, y, num, den;
    bool over = a.overflow | b.overflow | __builtin_mul_overflow(a.num, b.den, &x) |
                __builtin_mul_overflow(b.num, a.den, &y) | __builtin_add_overflow(x, y, &num) |
                __builtin_mul_overflow(a.den, b.den, &den);
    return reduce(num, den, over);
}

static rt_number inverse(rt_number a)
{
    return a.num < 0 ? reduce(-a.den, -a.num, a.overflow) : reduce(a.den, a.num, a.overflow);
}

static rt_number power_of_ten(int64_t e)
{
    rt_number r = { 1, 1, e > 38 || e < -38 };
    for (int64_t i = 0; i < (e < 0 ? -e : e) && !r.overflow; i++)
        r.num *= 10;
    return e < 0 ? inverse(r) : r;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The separator between groups of three digits at s: its length and kind, or 0. */
static size_t read_separator(const char *s, int *kind)
{
    static const char *const known[] = { ",",       "{,}",          "\1",
                                         "\\,",     "\xe2\x80\x89", "\xe2\x80\xaf",
                                         "\xc2\xa0" };
    for (int i = 0; i < RT_COUNT(known); i++) {
        size_t n = strlen(known[i]);
        if (strncmp(s, known[i], n) == 0 && is_digit(s[n]) && is_digit(s[n + 1]) &&
            is_digit(s[n + 2]) && !is_digit(s[n + 3])) {
            *kind = i < 2 ? 1 : 2; /* commas, thin spaces */
            return n;
        }
    }
    return 0;
}

/* Append digits to n; how many. */
static int64_t read_digits(const char **at, i128 *n, bool *over)
{
    const char *p = *at;
    for (; is_digit(*p); p++)
        *over |= __builtin_mul_overflow(*n, 10, n) | __builtin_add_overflow(*n, *p - '0', n);
    int64_t count = p - *at;
    *at = p;
    return count;
}

/* Digits with groups, and a fraction part: "1,234.50", ".5". *whole: no fraction part. */
static bool read_decimal(const char **at, rt_number *out, bool *whole)
{
    const char *p = *at;
    i128 n = 0;
    bool over = false;
    int kind = 0, seen = 0;
    int64_t scale = 0, lead = read_digits(&p, &n, &over);
    for (size_t skip; lead > 0 && lead <= 3 && (skip = read_separator(p, &kind)); seen = kind) {
        if (seen && kind != seen)
            break;
        p += skip;
        read_digits(&p, &n, &over);
    }
    *whole = !(*p == '.' && is_digit(p[1]));
    if (!*whole) {
        p++;
        scale = read_digits(&p, &n, &over);
    }
    if (lead == 0 && *whole)
        return false;
    *out = times((rt_number){ n, 1, over }, power_of_ten(-scale));
    *at = p;
    return true;
}

static bool read_signed(const char **at, rt_number *out)
{
    const char *p = *at;
    bool minus = *p == '-', whole;
    p += *p == '-' || *p == '+';
    if (!read_decimal(&p, out, &whole))
        return false;
    out->num = minus ? -out->num : out->num;
    *at = p;
    return true;
}

/* \frac{a}{b} or \frac12 */
static bool read_frac(const char **at, rt_number *out)
{
    const char *p = *at;
    rt_number part[2];
    if (strncmp(p, "\\frac", 5) != 0)
        return false;
    p += 5;
    for (int i = 0; i < 2; i++) {
        if (*p == '{') {
            p++;
            if (!read_signed(&p, &part[i]) || *p++ != '}')
                return false;
        } else if (is_digit(*p)) {
            part[i] = (rt_number){ *p++ - '0', 1, false };
        } else {
            return false;
        }
    }
    if (part[1].num == 0 && !part[1].overflow)
        return false;
    *out = times(part[0], inverse(part[1]));
    *at = p;
    return true;
}

/* "e3", "*10^3", "*10^{-3}" behind a decimal. */
static void read_exponent(const char **at, rt_number *value)
{
    const char *p = *at;
    while (*p == ' ')
        p++;
    bool letter = (*p == 'e' || *p == 'E') && p == *at, braces = false;
    if (letter) {
        p++;
    } else {
        if (*p++ != '*')
            return;
        while (*p == ' ')
            p++;
        if (strncmp(p, "10^", 3) != 0)
            return;
        p += 3;
        braces = *p == '{';
        p += braces;
    }
    bool minus = *p == '-';
    p += *p == '-' || *p == '+';
    int64_t e = 0;
    if (!is_digit(*p))
        return;
    for (; is_digit(*p); p++)
        e = e < 1000 ? e * 10 + (*p - '0') : e;
    if (braces && *p++ != '}')
        return;
    *value = times(*value, power_of_ten(minus ? -e : e));
    *at = p;
}

bool rt_number_read(const char **at, rt_number *out)
{
    const char *p = *at;
    bool minus = *p == '-', whole = false;
    static const char *const currency[] = { "$", "\xe2\x82\xac", "\xc2\xa3", "\xc2\xa5" };
    p += *p == '-' || *p == '+';
    for (int i = 0; i < RT_COUNT(currency); i++)
        if (strncmp(p, currency[i], strlen(currency[i])) == 0) {
            p += strlen(currency[i]);
            break;
        }
    if (!read_frac(&p, out)) {
        if (!read_decimal(&p, out, &whole))
            return false;
        const char *q = p;
        rt_number part;
        while (*q == ' ')
            q++;
        if (whole && read_frac(&q, &part) && part.num > 0) { /* 1\frac{1}{2} */
            *out = plus(*out, part);
            p = q;
        } else if (*q == '/' || (whole && q > p && is_digit(*q))) { /* 3/4, 1 1/2 */
            bool mixed = *q != '/', whole_top = true, whole_bottom;
            rt_number top = *out, bottom;
            if ((!mixed || read_decimal(&q, &top, &whole_top)) && whole_top && *q++ == '/') {
                while (*q == ' ')
                    q++;
                if (read_decimal(&q, &bottom, &whole_bottom) && bottom.num != 0) {
                    part = times(top, inverse(bottom));
                    *out = mixed ? plus(*out, part) : part;
                    p = q;
                }
            }
        } else {
            read_exponent(&p, out);
        }
    }
    size_t gap = *p == ' ' || *p == '\\';
    if (p[gap] == '%') {
        p += gap + 1;
        *out = times(*out, power_of_ten(-2));
    }
    if (minus)
        out->num = -out->num;
    *at = p;
    return true;
}

/* Whether s is nothing but a unit: see verify.h. */
static bool is_unit(const char *s)
{
    static const char *const values[] = { "million", "billion", "trillion", "thousand", "hundred",
                                          "dozen",   "half",    "pi",       "percent",  "and",
                                          "or",      "to",      "mod",      "base" };
    bool spaced = *s == ' ' || *s == THIN;
    int words = 0;
    while (*s) {
        while (*s == ' ' || *s == THIN)
            s++;
        const char *word = s;
        while (isalpha((unsigned char)*s) || (s > word && *s == '/'))
            s++;
        size_t n = (size_t)(s - word);
        if (n == 0)
            return *s == 0 && words > 0;
        if (++words > 3 || (n == 1 && !strchr("mgshlLNJWVAKCF", *word)) ||
            (n == 1 && !spaced && words > 1))
            return false;
        for (int i = 0; i < RT_COUNT(values); i++)
            if (strlen(values[i]) == n && strncasecmp(values[i], word, n) == 0)
                return false;
        if (*s == '^') { /* m^2, m^{2} */
            bool braces = s[1] == '{';
            if (!is_digit(s[1 + braces]) || (braces && s[3] != '}'))
                return false;
            s += braces ? 4 : 2;
        }
        if (*s && *s != ' ' && *s != THIN)
            return false;
    }
    return words > 0;
}

bool rt_number_answer(const char *s, rt_number *out)
{
    if (isalpha((unsigned char)s[0])) {
        const char *p = s + 1;
        while (*p == ' ')
            p++;
        if (*p == '=')
            s = p + 1 + strspn(p + 1, " ");
    }
    return rt_number_read(&s, out) && (*s == 0 || is_unit(s));
}
