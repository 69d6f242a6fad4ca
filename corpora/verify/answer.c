/* answer.c: scanners that never look back further than a token, nor far ahead. */
#include "corpora/verify/answer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/memory.h"
#include "corpora/verify/number.h"

#define THIN '\1'

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return isalpha((unsigned char)c); }
static bool is_word(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }

/* Whether only separators stand between two boxes: "}, ", "} \\quad \\text{and} \\quad \\boxed{".
 */
static bool joins(const char *s, const char *end)
{
    static const char *const words[] = { "and", "or", "quad", "qquad", "text", "boxed", "fbox" };
    bool only = end - s < 48;
    while (only && s < end) {
        size_t n = 0;
        while (is_letter(s[n]))
            n++;
        only = n == 0 && strchr(" ,;$\\(){}&~\n", *s);
        for (int i = 0; n && i < RT_COUNT(words) && !only; i++)
            only = strlen(words[i]) == n && memcmp(words[i], s, n) == 0;
        s += n ? n : 1;
    }
    return only;
}

bool rt_answer_boxed(const char *s, rt_str *out, bool *several)
{
    struct {
        const char *begin;
        int64_t depth;
    } open[64]; /* the innermost ones; more are not kept */
    int n = 0;
    int64_t depth = 0;
    const char *best = NULL;
    *several = false;
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
                if (!best || open[n].begin > best) {
                    rt_str last = *out;
                    *out = (rt_str){ open[n].begin, p - open[n].begin };
                    *several = best && joins(last.data + last.bytes, out->data) &&
                               (last.bytes != out->bytes ||
                                memcmp(last.data, out->data, (size_t)last.bytes) != 0);
                    best = out->data;
                }
            }
        }
    }
    return best != NULL;
}

bool rt_answer_marked(const char *text, bool hashes, rt_str *out)
{
    static const char *const marks[] = { "####", "answer is", "answer:" };
    const char *found = NULL;
    for (const char *p = text; *p; p++)
        for (int i = hashes ? 0 : 1; i < (hashes ? 1 : RT_COUNT(marks)); i++)
            if (strncasecmp(p, marks[i], strlen(marks[i])) == 0)
                found = p + strlen(marks[i]);
    if (!found)
        return false;
    found += strspn(found, " :*");
    *out = (rt_str){ found, (int64_t)strcspn(found, "\n") };
    return true;
}

/* Bytes of the {..} and [..] groups at s, none of them long. */
static size_t groups_at(const char *s)
{
    enum { LONG = 256 };
    size_t n = 0;
    while (s[n] == '{' || s[n] == '[') {
        int64_t depth = 0;
        size_t k = n;
        do
            depth += (s[k] == '{' || s[k] == '[') - (s[k] == '}' || s[k] == ']');
        while (s[k] && s[k++] && depth && k < LONG);
        if (depth)
            return n;
        n = k;
    }
    return n;
}

/* Whether what stands before s makes a number there an operand. */
static bool operand(const char *text, const char *s)
{
    static const char *const harmless[] = { "\\to",      "\\rightarrow", "\\Rightarrow",
                                            "\\implies", "\\sim",        "\\therefore" };
    const char *p = s;
    while (p > text && p[-1] == ' ')
        p--;
    if (p == text)
        return false;
    char c = p[-1];
    if (strchr("+*/^_<>!", c) || (c == '=' && p - 1 > text && strchr("<>!", p[-2])))
        return true;
    if (c == ':' || c == '(') /* 12:30, f(3) */
        return p - 1 > text && (c == ':' ? is_digit(p[-2]) : is_letter(p[-2]));
    if (c == '-' || is_letter(c)) {
        const char *q = p - (c == '-');
        while (q > text && q[-1] == ' ')
            q--;
        const char *word = q;
        while (word > text && is_letter(word[-1]))
            word--;
        if (word > text && word < q && word[-1] == '\\') {
            for (int i = 0; i < RT_COUNT(harmless); i++)
                if (strlen(harmless[i]) == (size_t)(q - word) + 1 &&
                    memcmp(harmless[i], word - 1, strlen(harmless[i])) == 0)
                    return false;
            return true;
        }
        if (q - word == 3 && memcmp(word, "not", 3) == 0)
            return true;
        bool sign = c == '-' || *s == '-' || *s == '+';
        bool single = q - word == 1 && (word == text || !is_word(word[-1]));
        return sign && q > text && (single || is_digit(q[-1]) || strchr(")}]", q[-1]));
    }
    return (*s == '-' || *s == '+') && (is_digit(c) || strchr(")}]", c));
}

/* Whether what follows a number goes on with it: an operator and an operand, a letter. */
static bool goes_on(const char *s)
{
    const char *p = s + strspn(s, " \1");
    const char *q = p + 1 + strspn(*p ? p + 1 : p, " ");
    size_t n = 0;
    while (is_word(p[n]))
        n++;
    if (*p == '^' || *p == '_' || (*p == '!' && p == s) || (*p == ':' && is_digit(p[1])))
        return true;
    if (*p == '+' || *p == '*' || *p == '/' || *p == '<' || *p == '>' || *p == '-')
        return is_digit(*q) || *q == '\\' || *q == '(' || (is_letter(*q) && !is_word(q[1]));
    if (*p == '\\')
        return strncmp(p, "\\frac", 5) == 0 || strncmp(p, "\\sqrt", 5) == 0 ||
               strncmp(p, "\\pi", 3) == 0;
    if (*p == '(')
        return p == s;
    if (n == 0)
        return false;
    char word[16] = { ' ' };
    rt_exact pool = { .budget = 1 << 12 };
    rt_unit unit;
    memcpy(word + 1, p, n < sizeof word - 2 ? n : sizeof word - 2);
    bool known = n < sizeof word - 1 &&
                 (rt_unit_read(&pool, p == s && n == 1 ? word + 1 : word, &unit));
    rt_exact_free(&pool);
    return !known && (p == s || (n == 1 && *p != 'a' && *p != 'I'));
}

/* Behind a number: a unit with its power, so that "12 m^2" does not end in a 2. */
static size_t unit_at(const char *s)
{
    const char *p = s + strspn(s, " \1");
    size_t n = 0;
    while (is_letter(p[n]))
        n++;
    if (n == 0 || n > 8 || p[n] != '^' || !(is_digit(p[n + 1]) || p[n + 1] == '{'))
        return 0;
    char word[16] = { ' ' };
    rt_exact pool = { .budget = 1 << 12 };
    rt_unit unit;
    memcpy(word + 1, p, n);
    bool known = rt_unit_read(&pool, word, &unit);
    rt_exact_free(&pool);
    size_t power = is_digit(p[n + 1]) ? 1 : groups_at(p + n + 1);
    return known && power ? (size_t)(p - s) + n + 1 + power : 0;
}

/* At most three words behind the number, when they are its unit. */
static void add_unit(rt_str *number)
{
    int64_t n[4] = { number->bytes };
    int words = 0;
    for (const char *s = number->data; words < 3; words++) {
        int64_t at = n[words] + (s[n[words]] == ' ');
        while (is_word(s[at]) || s[at] == '/' || s[at] == '%')
            at++;
        if (at == n[words] + (s[n[words]] == ' ') || at > 256)
            break;
        n[words + 1] = at;
    }
    for (bool unit = false; words > 0 && !unit; words--) {
        rt_exact pool = { .budget = 1 << 12 };
        rt_reading r;
        char *text = rt_strndup(number->data, n[words]);
        unit = rt_number_read(&pool, text, RT_STYLE_USUAL, &r) && rt_sum_constant(r.value);
        number->bytes = unit ? n[words] : number->bytes;
        free(text);
        rt_exact_free(&pool);
    }
}

/* Whether only a separator of a list stands between two numbers. */
static bool listed(const char *from, const char *to)
{
    static const char *const separators[] = { ",",      ", ",    " and ", " or ",
                                              ", and ", ", or ", ";",     "; " };
    bool named = from && to - from < 16 && to - from > 6 && /* "or x = " */
                 (strncmp(from, " or ", 4) == 0 || strncmp(from, " and ", 5) == 0) &&
                 memchr(from, '=', (size_t)(to - from));
    if (named)
        return true;
    for (int i = 0; from && i < RT_COUNT(separators); i++)
        if (strlen(separators[i]) == (size_t)(to - from) &&
            memcmp(separators[i], from, (size_t)(to - from)) == 0)
            return true;
    return false;
}

rt_found rt_answer_number(const char *text, bool first, rt_str *out)
{
    rt_found found = RT_FOUND_NOTHING;
    const char *p = text, *end = NULL, *fresh = text; /* nothing before it is a part of a word */
    while (*p && !(first && found)) {
        char before = p > fresh ? p[-1] : ' ', next = p[0] == '-' || p[0] == '+' ? p[1] : p[0];
        bool head = strncmp(p, "\\frac", 5) == 0 || strncmp(p, "\\sqrt", 5) == 0;
        bool sign = p[0] == '-' || p[0] == '+';
        bool number = head || is_digit(next) || (next == '.' && is_digit(p[1 + sign])) ||
                      (next == '$' && is_digit(p[1 + sign])) || (sign && next == '\\');
        if (is_word(before) && number && sign)
            number = false; /* 5-3: no sign */
        if (is_word(before) && is_word(*p)) {
            p++;
        } else if (number) {
            rt_exact pool = { .budget = 1 << 12 };
            rt_reading r;
            int64_t n = rt_number_prefix(&pool, p, &r);
            rt_exact_free(&pool);
            bool whole = n > 0 && !operand(text, p);
            if (n == 0) {
                n = 1;
                if (head)
                    n = (int64_t)(5 + groups_at(p + 5));
                while (is_digit(p[n]) || (is_digit(p[n - 1]) && p[n] == '.'))
                    n++;
            }
            size_t unit = unit_at(p + n);
            bool more = !unit && goes_on(p + n);
            found = whole && !more && !listed(end, p) ? RT_FOUND_NUMBER : RT_FOUND_EXPRESSION;
            *out = (rt_str){ p, n + (int64_t)unit };
            p += n + (int64_t)unit;
            end = p;
        } else if (*p == '\\' && is_letter(p[1])) {
            size_t n = 1;
            while (is_letter(p[n]))
                n++;
            size_t groups = groups_at(p + n);
            found = groups ? RT_FOUND_EXPRESSION : found;
            fresh = p += n + groups;
        } else if (*p == '^' || *p == '_') {
            size_t n = 1 + groups_at(p + 1);
            bool digits = n > 1;
            for (bool bare = !digits; bare && (is_word(p[n]) || p[n] == '-'); n++)
                digits |= is_digit(p[n]);
            found = digits ? RT_FOUND_EXPRESSION : found;
            p += n;
        } else if (is_word(*p)) { /* a word, "x2", "H2O", "v1.2" */
            while (is_word(*p) || (*p == '.' && is_digit(p[1])))
                p++;
        } else {
            p++;
        }
    }
    if (found == RT_FOUND_NUMBER)
        add_unit(out);
    return found;
}
