/* spelling.c: one pass that rewrites by tables. */
#include "corpora/verify/spelling.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

#define THIN '\1'

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return isalpha((unsigned char)c); }
static bool is_word(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }
static bool starts(const char *s, const char *end, const char *with)
{
    size_t n = strlen(with);
    return n <= (size_t)(end - s) && memcmp(s, with, n) == 0;
}

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
    { "frac", "\\frac" },
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
    { "^\\circ", " deg " },
    { "^{\\circ}", " deg " },
    { "\xc2\xb0", " deg " },
    { "\\left.", "" },
    { "\\right.", "" },
    { "\\! ", "" },
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
    if (!look_up(commands, RT_COUNT(commands), name, n, &to)) {
        put(c, name - 1, n + 1);
        return;
    }
    put(c, to, strlen(to));
    for (int i = 0; i < 2 && strcmp(to, "\\frac") == 0; i++) { /* \frac12 -> \frac{1}{2} */
        const char *digit = c->at;
        while (digit < c->end && *digit == ' ')
            digit++;
        if (digit == c->end || !is_digit(*digit))
            return;
        put(c, (const char[]){ '{', *digit, '}' }, 3);
        c->at = digit + 1;
    }
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

char *rt_spelling_clean(rt_str text)
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

void rt_spelling_squeeze(char *clean)
{
    char *out = clean;
    int depth = 0;
    for (const char *s = clean; *s; s++) {
        depth += (strchr("([\2", *s) != NULL) - (strchr(")]\3", *s) != NULL);
        char before = out > clean ? out[-1] : 0, after = s[1];
        if (*s == ' ') {
            bool list = depth < 1 && before == ',' && is_digit(after); /* 1, 234 is not 1,234 */
            bool words = (is_word(before) || before == '.') && (is_word(after) || after == '.');
            bool apart = is_digit(before) && is_letter(after);
            if (!list && (!words || apart))
                continue;
        }
        *out++ = *s;
        bool raised = out - clean > 1 && (out[-2] == '^' || out[-2] == '_');
        if (*s == '{' && raised && s[1] && s[2] == '}') { /* x_{1} is x_1 */
            out[-1] = s[1];
            s += 2;
        }
    }
    *out = 0;
}
