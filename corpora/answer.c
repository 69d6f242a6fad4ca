/* answer.c: one pass that rewrites by tables, and scanners that never look back further than a
   token. */
#include "corpora/answer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "corpora/number.h"

#define THIN '\1'

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return isalpha((unsigned char)c); }
static bool is_word(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }
static bool starts(const char *s, const char *end, const char *with)
{
    size_t n = strlen(with);
    return n <= (size_t)(end - s) && memcmp(s, with, n) == 0;
}

/* ---- one spelling --------------------------------------------------------------------------- */

typedef struct rewrite {
    const char *from, *to;
} rewrite;

/* Commands by their whole name. */
static const rewrite commands[] = {
    { "left", "" },
    { "right", "" },
    { "big", "" },
    { "Big", "" },
    { "bigl", "" },
    { "bigr", "" },
    { "Bigl", "" },
    { "Bigr", "" },
    { "bigg", "" },
    { "displaystyle", "" },
    { "textstyle", "" },
    { "limits", "" },
    { "dfrac", "\\frac" },
    { "tfrac", "\\frac" },
    { "cfrac", "\\frac" },
    { "times", "*" },
    { "cdot", "*" },
    { "ast", "*" },
    { "div", "/" },
    { "le", "<=" },
    { "leq", "<=" },
    { "leqslant", "<=" },
    { "ge", ">=" },
    { "geq", ">=" },
    { "geqslant", ">=" },
    { "ne", "!=" },
    { "neq", "!=" },
    { "lt", "<" },
    { "gt", ">" },
    { "quad", " " },
    { "qquad", " " },
    { "degree", " deg" },
    { "lbrace", "\2" },
    { "rbrace", "\3" },
    { "lbrack", "[" },
    { "rbrack", "]" },
    { "colon", ":" },
    { "euro", "\xe2\x82\xac" },
    { "pounds", "\xc2\xa3" },
};
/* Commands whose argument stays. */
static const char *const wrappers[] = {
    "text",   "textbf",       "textit", "textrm", "textsf", "texttt",     "textnormal",
    "mathrm", "mathbf",       "mathit", "mathsf", "mathtt", "mbox",       "hbox",
    "emph",   "operatorname", "boxed",  "fbox",   "bm",     "boldsymbol", "underline",
};
/* Anything else, the first that fits. */
static const rewrite signs[] = {
    { "^\\circ", " deg" },
    { "^{\\circ}", " deg" },
    { "\xc2\xb0", " deg" },
    { "\\!", "" },
    { "\\,", "\1" },
    { "\\;", " " },
    { "\\:", " " },
    { "\\ ", " " },
    { "\\>", " " },
    { "\\\\", " " },
    { "\\(", "" },
    { "\\)", "" },
    { "\\[", "" },
    { "\\]", "" },
    { "\\$", "$" },
    { "\\%", "%" },
    { "\\#", "#" },
    { "\\&", "&" },
    { "\\{", "\2" },
    { "\\}", "\3" },
    { "{,}", "\1" },
    { "{ , }", "\1" },
    { "~", " " },
    { "\xc2\xa0", "\1" },
    { "\xe2\x80\x89", "\1" },
    { "\xe2\x80\xaf", "\1" },
    { "\xe2\x88\x92", "-" },
    { "\xc3\x97", "*" },
    { "\xc2\xb7", "*" },
    { "\xe2\x8b\x85", "*" },
    { "\xc3\xb7", "/" },
    { "\xe2\x89\xa4", "<=" },
    { "\xe2\x89\xa5", ">=" },
    { "\xe2\x89\xa0", "!=" },
    { "\xcf\x80", "\\pi " },
    { "\xe2\x88\x9e", "\\infty " },
    { "\xe2\x88\x9a", "\\sqrt " },
    { "\xc2\xb2", "^2" },
    { "\xc2\xb3", "^3" },
    { "\xc2\xbd", "\\frac{1}{2}" },
    { "\xc2\xbc", "\\frac{1}{4}" },
    { "\xc2\xbe", "\\frac{3}{4}" },
};
/* Words that are written for a command. */
static const rewrite spelled[] = { { "sqrt", "\\sqrt" },
                                   { "pi", "\\pi" },
                                   { "infinity", "\\infty" } };

typedef struct cleaner {
    const char *begin, *at, *end;
    char *out;
    size_t used;
    int depth, open, closing[16]; /* depths at which the brace of a wrapper closes */
    bool dollars;                 /* '$' come in pairs: mathematics, not money */
} cleaner;

static void put(cleaner *c, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char last = c->used ? c->out[c->used - 1] : ' ', x = s[i];
        bool space = isspace((unsigned char)x) || (x == THIN && !is_digit(last));
        if (last == THIN && !is_digit(x)) /* a thin space separates digits, or nothing */
            c->out[c->used - 1] = last = ' ';
        if (space && last == ' ')
            continue;
        c->out[c->used++] = space ? ' ' : x;
    }
}

static bool look_up(const rewrite *table, int n, const char *name, size_t bytes, const char **to)
{
    for (int i = 0; i < n; i++)
        if (strlen(table[i].from) == bytes && memcmp(table[i].from, name, bytes) == 0) {
            *to = table[i].to;
            return true;
        }
    return false;
}

static size_t letters_at(const char *s, const char *end)
{
    size_t n = 0;
    while (s + n < end && is_letter(s[n]))
        n++;
    return n;
}

static void put_command(cleaner *c)
{
    const char *name = c->at + 1, *to;
    size_t n = letters_at(name, c->end);
    const char *brace = name + n;
    while (brace < c->end && *brace == ' ')
        brace++;
    c->at = name + n;
    for (int i = 0; i < RT_COUNT(wrappers) && c->open < RT_COUNT(c->closing); i++)
        if (strlen(wrappers[i]) == n && memcmp(wrappers[i], name, n) == 0 && brace < c->end &&
            *brace == '{') {
            put(c, " ", 1);
            c->closing[c->open++] = c->depth++;
            c->at = brace + 1;
            return;
        }
    if (look_up(commands, RT_COUNT(commands), name, n, &to))
        put(c, to, strlen(to));
    else
        put(c, name - 1, n + 1);
}

/* "**": a power between operands, else markdown's bold. */
static void put_stars(cleaner *c)
{
    const char *s = c->at;
    char before = s > c->begin ? s[-1] : 0, after = s + 2 < c->end ? s[2] : 0;
    if (before == ' ' && after == ' ') {
        before = s - 1 > c->begin ? s[-2] : 0;
        after = s + 3 < c->end ? s[3] : 0;
    }
    if ((is_word(before) || before == ')') && (is_word(after) || after == '(' || after == '-'))
        put(c, "^", 1);
    c->at += 2;
}

static void put_next(cleaner *c)
{
    const char *s = c->at, *to;
    for (int i = 0; i < RT_COUNT(signs) && !isalnum((unsigned char)*s); i++)
        if (*s == *signs[i].from && starts(s, c->end, signs[i].from)) {
            put(c, signs[i].to, strlen(signs[i].to));
            c->at += strlen(signs[i].from);
            return;
        }
    size_t n = letters_at(s, c->end);
    if (*s == '\\' && s + 1 < c->end && is_letter(s[1])) {
        put_command(c);
    } else if (n) {
        bool word = look_up(spelled, RT_COUNT(spelled), s, n, &to) &&
                    !(c->used && is_letter(c->out[c->used - 1]));
        put(c, word ? to : s, word ? strlen(to) : n);
        c->at += n;
    } else if (starts(s, c->end, "**")) {
        put_stars(c);
    } else {
        c->depth += (*s == '{') - (*s == '}');
        bool wrapper = *s == '}' && c->open && c->closing[c->open - 1] == c->depth;
        c->open -= wrapper;
        if (!wrapper && !(*s == '$' && c->dollars))
            put(c, s, 1);
        c->at++;
    }
}

/* Whether the brace at s closes at the last byte. */
static bool braced(const char *s, size_t n)
{
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        depth += (s[i] == '{') - (s[i] == '}');
        if (depth == 0)
            return i == n - 1;
    }
    return false;
}

static void trim(char *out, size_t used)
{
    char *s = out;
    for (bool again = true; again && used;) {
        bool pair = used > 1 && ((s[0] == '{' && braced(s, used)) ||
                                 (strchr("\"`", s[0]) && s[used - 1] == s[0]));
        bool tail = strchr(" .\1", s[used - 1]) != NULL, head = used > 1 && *s == ' ';
        again = pair || tail || head;
        if (pair && s[0] == '{' && memchr(s, ',', used)) { /* {1,2}: a set */
            s[0] = RT_SET_OPEN;
            s[used - 1] = RT_SET_CLOSE;
            break;
        }
        used -= (size_t)(pair || tail) + (size_t)(pair || head);
        s += pair || head;
    }
    memmove(out, s, used);
    out[used] = 0;
}

char *rt_answer_clean(rt_str text)
{
    cleaner c = { .begin = text.data, .at = text.data, .end = text.data + text.bytes };
    int64_t dollars = 0, longest = 6; /* bytes for one: a sign of two as \frac{1}{2} */
    for (const char *s = c.begin; s < c.end; s++)
        dollars += *s == '$' && !(s > c.begin && s[-1] == '\\');
    c.dollars = dollars && dollars % 2 == 0;
    c.out = rt_alloc(text.bytes + 1, longest, "an answer");
    while (c.at < c.end)
        put_next(&c);
    trim(c.out, c.used);
    return c.out;
}

void rt_answer_squeeze(char *clean)
{
    char *out = clean;
    for (const char *s = clean; *s; s++) {
        char before = out > clean ? out[-1] : 0, after = s[1];
        if (*s == ' ') {
            bool list = before == ',' && is_digit(after); /* 1, 234 is not 1,234 */
            bool words = (is_word(before) || before == '.') && (is_word(after) || after == '.');
            bool apart = is_digit(before) && is_letter(after);
            if (!list && (!words || apart))
                continue;
        }
        *out++ = *s;
    }
    *out = 0;
}

/* ---- extraction ----------------------------------------------------------------------------- */

bool rt_answer_boxed(const char *s, rt_str *out)
{
    struct {
        const char *begin;
        int64_t depth;
    } open[64]; /* the innermost ones; more are not kept */
    int n = 0;
    int64_t depth = 0;
    const char *best = NULL;
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
                    best = open[n].begin;
                    *out = (rt_str){ best, p - best };
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
    static const char *const harmless[] = { "\\approx",  "\\to",  "\\rightarrow", "\\Rightarrow",
                                            "\\implies", "\\sim", "\\therefore" };
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
    for (int i = 0; from && i < RT_COUNT(separators); i++)
        if (strlen(separators[i]) == (size_t)(to - from) &&
            memcmp(separators[i], from, (size_t)(to - from)) == 0)
            return true;
    return false;
}

rt_found rt_answer_number(const char *text, rt_str *out)
{
    rt_found found = RT_FOUND_NOTHING;
    const char *p = text, *end = NULL;
    while (*p) {
        char before = p > text ? p[-1] : ' ', next = p[0] == '-' || p[0] == '+' ? p[1] : p[0];
        bool head = strncmp(p, "\\frac", 5) == 0 || strncmp(p, "\\sqrt", 5) == 0;
        bool sign = p[0] == '-' || p[0] == '+';
        bool number = head || is_digit(next) || (next == '.' && is_digit(p[1 + sign])) ||
                      (next == '$' && is_digit(p[1 + sign])) || (sign && next == '\\');
        if (is_word(before) && p > text && (number || is_word(*p)) && sign)
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
            p += n + groups;
        } else if (*p == '^' || *p == '_') {
            size_t groups = groups_at(p + 1);
            found = RT_FOUND_EXPRESSION;
            p += 1 + groups;
            while (!groups && (is_word(*p) || *p == '-'))
                p++;
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
