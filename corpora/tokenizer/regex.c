/* regex.c: Oniguruma's syntax -> PCRE2's, one pass with a class parser, and matching with limits.
   Literal characters other than ASCII letters and digits are always written as \x{..}, so that no
   character of the input can turn into an operator, and equal patterns give equal text. */
#include "corpora/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/memory.h"

struct rt_regex {
    pcre2_code *code;
    bool jit;
    char *source; /* rewritten */
};

/* White_Space and Oniguruma's word class, as items of a class. PCRE2's own \s also takes U+180E and
   its \w leaves marks out. */
#define SPACE_ITEMS                                                                                \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define WORD_ITEMS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define LONE_WORD_ITEMS WORD_ITEMS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}" /* outside classes */
#define WORD "[" LONE_WORD_ITEMS "]"
#define ANY_CHAR "[\\x{0}-\\x{10ffff}]"

enum { MAX_PATTERN = 64 << 10, MAX_NESTING = 64 };

typedef struct rewriter {
    const char *begin, *at, *end;
    rt_text out;
    rt_err *err;
    int depth;
} rewriter;

static int refuse(rewriter *w, const char *what)
{
    return rt_fail(w->err, "split pattern: %s at byte %lld is not supported: %.200s", what,
                   (long long)(w->at - w->begin), w->begin);
}

static int put(rewriter *w, const char *s) { return rt_text_puts(&w->out, s, w->err); }

static int put_char(rt_text *out, uint32_t cp, rt_err *err)
{
    if (cp < 0x80 && isalnum((int)cp))
        return rt_text_printf(out, err, "%c", (int)cp);
    return rt_text_printf(out, err, "\\x{%x}", cp);
}

/* One character of the pattern, which was checked to be UTF-8. */
static uint32_t next_char(rewriter *w)
{
    uint32_t cp = 0;
    w->at += rt_utf8_decode(w->at, w->end - w->at, &cp);
    return cp;
}

static bool peek(const rewriter *w, const char *s)
{
    size_t n = strlen(s);
    return (size_t)(w->end - w->at) >= n && memcmp(w->at, s, n) == 0;
}

/* \xHH, \x{H..}, \uHHHH with `at` behind the letter. */
static int read_hex(rewriter *w, char letter, uint32_t *cp)
{
    bool braces = letter == 'x' && peek(w, "{");
    int most = braces ? 6 : letter == 'u' ? 4 : 2, n = 0;
    w->at += braces;
    *cp = 0;
    for (; n < most && w->at < w->end && isxdigit((unsigned char)*w->at); n++, w->at++) {
        int c = tolower((unsigned char)*w->at);
        *cp = *cp * 16 + (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (n == 0 || (letter == 'u' && n != 4) || (braces && !peek(w, "}")) || *cp > 0x10ffff)
        return refuse(w, "a malformed character code");
    w->at += braces;
    return 0;
}

/* \p{Name}, \P{Name}, \p{^Name} with `at` behind the letter: general categories as they are,
   anything else is a script (PCRE2 alone would take Script_Extensions, Oniguruma takes Script). */
static int read_property(rewriter *w, bool negative, rt_text *out)
{
    static const char *const plain[] = { "Any", "Alphabetic", "White_Space", "Lowercase",
                                         "Uppercase" };
    if (!peek(w, "{"))
        return refuse(w, "a property without braces");
    w->at++;
    if (peek(w, "^")) {
        negative = !negative;
        w->at++;
    }
    const char *name = w->at;
    while (w->at < w->end && (isalnum((unsigned char)*w->at) || *w->at == '_'))
        w->at++;
    int n = (int)(w->at - name);
    if (n == 0 || n > 40 || !peek(w, "}"))
        return refuse(w, "a malformed property name");
    w->at++;
    bool as_is = n <= 2;
    for (int i = 0; i < RT_COUNT(plain); i++)
        as_is = as_is ||
                ((int)strlen(plain[i]) == n && strncasecmp(plain[i], name, (size_t)n) == 0);
    return rt_text_printf(out, w->err, "\\%c{%s%.*s}", negative ? 'P' : 'p', as_is ? "" : "sc:", n,
                          name);
}

/* A control character by its escape letter, or -1. */
static int control_escape(char c)
{
    static const char letter[] = "nrtfvae0", control[] = "\n\r\t\f\v\a\033";
    const char *at = c ? strchr(letter, c) : NULL;
    return at ? control[at - letter] : -1;
}

/* What the letter escapes are outside a class, as items of one, and as a class to nest in one. */
static const struct {
    char letter;
    const char *outside, *items, *nested;
} escapes[] = {
    { 's', "[" SPACE_ITEMS "]", SPACE_ITEMS, NULL },
    { 'S', "[^" SPACE_ITEMS "]", "\\P{White_Space}", NULL },
    { 'd', "\\p{Nd}", "\\p{Nd}", NULL },
    { 'D', "\\P{Nd}", "\\P{Nd}", NULL },
    { 'w', WORD, WORD_ITEMS, NULL },
    { 'W', "[^" LONE_WORD_ITEMS "]", NULL, "|[^" WORD_ITEMS "]" },
    { 'h', "[0-9A-Fa-f]", "0-9A-Fa-f", NULL },
    { 'b', "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))", NULL, NULL },
    { 'B', "(?:(?<=" WORD ")(?=" WORD ")|(?<!" WORD ")(?!" WORD "))", NULL, NULL },
    { 'A', "\\A", NULL, NULL },
    { 'z', "\\z", NULL, NULL },
    { 'Z', "\\Z", NULL, NULL },
};

/* An operand of a class: plain items, and nested classes as expressions of their own. */
typedef struct operand {
    rt_text items, nested; /* nested: "|X|Y" */
} operand;

static int read_class(rewriter *w, rt_text *out);

/* One escape inside a class, `at` behind the backslash. *cp: the character it stands for, when one.
 */
static int class_escape(rewriter *w, operand *op, int64_t *cp)
{
    if (w->at >= w->end)
        return refuse(w, "a trailing backslash");
    char c = *w->at;
    *cp = control_escape(c);
    if (*cp >= 0) {
        w->at++;
        return 0;
    }
    if (!isalnum((unsigned char)c)) {
        *cp = next_char(w);
        return 0;
    }
    w->at++;
    if (c == 'p' || c == 'P')
        return read_property(w, c == 'P', &op->items);
    if (c == 'x' || c == 'u') {
        uint32_t code;
        int bad = read_hex(w, c, &code);
        *cp = code;
        return bad;
    }
    for (int i = 0; i < RT_COUNT(escapes); i++) {
        if (escapes[i].letter == c && escapes[i].items)
            return rt_text_puts(&op->items, escapes[i].items, w->err);
        if (escapes[i].letter == c && escapes[i].nested)
            return rt_text_puts(&op->nested, escapes[i].nested, w->err);
    }
    return refuse(w, "an unknown escape in a character class");
}

/* A single character, an escape or a range, up to "]" or "&&". */
static int class_item(rewriter *w, operand *op)
{
    int64_t cp = -1, high = -1;
    if (*w->at == '\\') {
        w->at++;
        if (class_escape(w, op, &cp))
            return -1;
        if (cp < 0)
            return 0;
    } else {
        cp = next_char(w);
    }
    if (put_char(&op->items, (uint32_t)cp, w->err))
        return -1;
    if (!peek(w, "-") || w->end - w->at < 2 || w->at[1] == ']' || w->at[1] == '[')
        return 0;
    w->at++;
    operand none = { 0 };
    if (*w->at == '\\') {
        w->at++;
        int bad = class_escape(w, &none, &high);
        rt_text_free(&none.items);
        rt_text_free(&none.nested);
        if (bad)
            return -1;
        if (high < 0)
            return refuse(w, "a range that ends in a class");
    } else {
        high = next_char(w);
    }
    if (high < cp)
        return refuse(w, "a range with its ends swapped");
    return rt_text_puts(&op->items, "-", w->err) || put_char(&op->items, (uint32_t)high, w->err)
               ? -1
               : 0;
}

/* Write an operand as an expression for one character. simple: nothing but items. */
static int put_operand(rewriter *w, rt_text *out, const operand *op, bool negative)
{
    if (op->items.bytes == 0 && op->nested.bytes == 0)
        return refuse(w, "an empty character class");
    if (op->nested.bytes == 0)
        return rt_text_printf(out, w->err, "[%s%s]", negative ? "^" : "", op->items.data);
    if (negative && rt_text_puts(out, "(?:(?!", w->err))
        return -1;
    int bad = op->items.bytes
                  ? rt_text_printf(out, w->err, "(?:[%s]%s)", op->items.data, op->nested.data)
                  : rt_text_printf(out, w->err, "(?:%s)", op->nested.data + 1);
    return bad || (negative && rt_text_puts(out, ")" ANY_CHAR ")", w->err)) ? -1 : 0;
}

static int read_operand(rewriter *w, operand *op, bool first)
{
    for (bool begin = first;; begin = false) {
        if (w->at >= w->end)
            return refuse(w, "a character class without its end");
        if ((*w->at == ']' && !begin) || peek(w, "&&"))
            return 0;
        if (peek(w, "[:"))
            return refuse(w, "a POSIX class");
        if (*w->at == '[') {
            if (rt_text_puts(&op->nested, "|", w->err) || read_class(w, &op->nested))
                return -1;
        } else if (class_item(w, op)) {
            return -1;
        }
    }
}

/* "[...]" with `at` on the bracket -> an expression for one character. A && B && C becomes
   (?:(?=A)(?=B)C). */
static int read_class(rewriter *w, rt_text *out)
{
    if (++w->depth > MAX_NESTING)
        return refuse(w, "nesting deeper than 64");
    w->at++;
    bool negative = peek(w, "^");
    w->at += negative;
    rt_text all = { 0 };
    int parts = 0, bad = 0;
    for (bool more = true; more && !bad; parts++) {
        operand op = { 0 };
        bad = read_operand(w, &op, parts == 0);
        more = !bad && *w->at == '&';
        w->at += bad ? 0 : more ? 2 : 1;
        bool alone = parts == 0 && !more;
        if (!bad && alone) {
            bad = put_operand(w, &all, &op, negative);
        } else if (!bad) {
            bad = (more && rt_text_puts(&all, "(?=", w->err)) || put_operand(w, &all, &op, false) ||
                  (more && rt_text_puts(&all, ")", w->err));
        }
        rt_text_free(&op.items);
        rt_text_free(&op.nested);
    }
    if (!bad)
        bad = parts == 1 ? rt_text_puts(out, all.data, w->err)
                         : rt_text_printf(out, w->err,
                                          negative ? "(?:(?!%s)" ANY_CHAR ")" : "(?:%s)", all.data);
    rt_text_free(&all);
    w->depth--;
    return bad ? -1 : 0;
}

/* An escape outside classes, `at` behind the backslash. */
static int read_escape(rewriter *w)
{
    if (w->at >= w->end)
        return refuse(w, "a trailing backslash");
    char c = *w->at;
    int control = control_escape(c);
    uint32_t code = (uint32_t)control;
    if (!isalnum((unsigned char)c))
        return put_char(&w->out, next_char(w), w->err);
    w->at++;
    if (control >= 0)
        return put_char(&w->out, code, w->err);
    if (c == 'p' || c == 'P')
        return read_property(w, c == 'P', &w->out);
    if (c == 'x' || c == 'u')
        return read_hex(w, c, &code) ? -1 : put_char(&w->out, code, w->err);
    for (int i = 0; i < RT_COUNT(escapes); i++)
        if (escapes[i].letter == c)
            return put(w, escapes[i].outside);
    w->at--;
    return refuse(w, "an unknown escape");
}

/* "(" and what follows it up to the group's content. */
static int read_group(rewriter *w)
{
    static const char *const known[] = { "(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>" };
    if (w->at == w->begin && peek(w, "(?i)")) {
        w->at += 4;
        return put(w, "(?i)");
    }
    for (int i = 0; i < RT_COUNT(known); i++)
        if (peek(w, known[i])) {
            w->at += strlen(known[i]);
            return put(w, known[i]);
        }
    if (peek(w, "(?") || peek(w, "(*"))
        return refuse(w, "this kind of group");
    w->at++;
    return put(w, "(");
}

/* The number at *p, which moves behind it; beyond what any engine repeats they are all the same. */
static int64_t read_count(const char **p)
{
    int64_t n = 0;
    for (; isdigit((unsigned char)**p); ++*p)
        n = rt_min(n * 10 + (**p - '0'), 1000000);
    return n;
}

/* A quantifier behind the atom that starts at out[atom]; 0 when there is none here. */
static int read_quantifier(rewriter *w, int64_t atom, bool *found)
{
    *found = true;
    int64_t low = 0, high = -1;
    bool interval = *w->at == '{', fixed = false;
    if (interval) {
        const char *p = w->at + 1;
        bool has_low = isdigit((unsigned char)*p), comma;
        low = read_count(&p);
        comma = *p == ',';
        p += comma;
        bool has_high = comma && isdigit((unsigned char)*p);
        high = has_high ? read_count(&p) : -1;
        if (*p != '}' || (!has_low && !has_high)) { /* a literal brace */
            *found = false;
            return 0;
        }
        w->at = p + 1;
        fixed = !comma;
    } else if (!strchr("*+?", *w->at)) {
        *found = false;
        return 0;
    }
    if (atom < 0)
        return refuse(w, "a quantifier without anything to repeat");
    char mark = interval ? 0 : *w->at++;
    char suffix = w->at < w->end && (*w->at == '+' || *w->at == '?') ? *w->at++ : 0;
    /* X{n,m}+ is (?:X{n,m})+ and X{n}? is (?:X{n})? to Oniguruma. */
    bool wrap = interval && (suffix == '+' || (suffix == '?' && fixed));
    if (wrap) {
        if (rt_text_reserve(&w->out, 3, w->err))
            return -1;
        memmove(w->out.data + atom + 3, w->out.data + atom, (size_t)(w->out.bytes - atom + 1));
        memcpy(w->out.data + atom, "(?:", 3);
        w->out.bytes += 3;
    }
    int bad = !interval ? rt_text_printf(&w->out, w->err, "%c", mark)
              : fixed   ? rt_text_printf(&w->out, w->err, "{%lld}", (long long)low)
              : high < 0
                  ? rt_text_printf(&w->out, w->err, "{%lld,}", (long long)low)
                  : rt_text_printf(&w->out, w->err, "{%lld,%lld}", (long long)low, (long long)high);
    if (!bad && suffix)
        bad = rt_text_printf(&w->out, w->err, wrap ? ")%c" : "%c", suffix);
    return bad;
}

static int rewrite(rewriter *w)
{
    int64_t group[MAX_NESTING]; /* where each open group began in out */
    int groups = 0;
    int64_t atom = -1; /* where the last atom began, -1: nothing to repeat */
    while (w->at < w->end) {
        bool found;
        if (read_quantifier(w, atom, &found))
            return -1;
        if (found) {
            atom = -1;
            continue;
        }
        int64_t here = w->out.bytes;
        int bad = 0;
        switch (*w->at) {
        case '(':
            if (groups == MAX_NESTING)
                return refuse(w, "nesting deeper than 64");
            group[groups++] = here;
            bad = read_group(w);
            groups -= w->out.bytes - here == 4 && w->at[-1] == ')'; /* "(?i)" opens nothing */
            here = -1;
            break;
        case ')':
            if (groups == 0)
                return refuse(w, "an unmatched parenthesis");
            here = group[--groups];
            w->at++;
            bad = put(w, ")");
            break;
        case '|':
        case '^':
        case '$':
            bad = rt_text_add(&w->out, w->at++, 1, w->err);
            here = -1;
            break;
        case '.':
            w->at++;
            bad = put(w, ".");
            break;
        case '[':
            bad = read_class(w, &w->out);
            break;
        case '\\':
            w->at++;
            bad = read_escape(w);
            break;
        default:
            bad = put_char(&w->out, next_char(w), w->err);
        }
        if (bad)
            return -1;
        atom = here;
    }
    return groups ? refuse(w, "a group without its end") : 0;
}

int rt_regex_rewrite(const char *pattern, bool literal, rt_text *out, rt_err *err)
{
    int64_t bytes = (int64_t)strlen(pattern);
    if (bytes == 0 || bytes > MAX_PATTERN || rt_utf8_check(pattern, bytes) != bytes)
        return rt_fail(err, "split pattern: must be 1 to %d bytes of UTF-8", MAX_PATTERN);
    rewriter w = {
        .begin = pattern, .at = pattern, .end = pattern + bytes, .out = *out, .err = err
    };
    int bad = 0;
    while (literal && !bad && w.at < w.end)
        bad = put_char(&w.out, next_char(&w), err);
    if (!literal)
        bad = rewrite(&w);
    *out = w.out;
    return bad;
}

int rt_regex_open(rt_regex **out, const char *pattern, bool literal, rt_err *err)
{
    rt_text made = { 0 };
    int bad = rt_regex_rewrite(pattern, literal, &made, err);
    pcre2_compile_context *context = bad ? NULL : pcre2_compile_context_create(NULL);
    if (!context) {
        rt_text_free(&made);
        return bad ? -1 : rt_fail_memory(err, -1, "a split pattern");
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    pcre2_code *compiled = pcre2_compile(
        (PCRE2_SPTR)made.data, (PCRE2_SIZE)made.bytes,
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!compiled) {
        char why[160];
        rt_text_free(&made);
        if (code == PCRE2_ERROR_HEAP_FAILED)
            return rt_fail_memory(err, -1, "a split pattern");
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return rt_fail(err, "split pattern: %s: %.300s", why, pattern);
    }
    rt_regex *re = rt_alloc(1, sizeof *re, "a split pattern");
    re->code = compiled;
    re->jit = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
    re->source = made.data;
    *out = re;
    return 0;
}

void rt_regex_close(rt_regex *re)
{
    if (!re)
        return;
    pcre2_code_free(re->code);
    free(re->source);
    free(re);
}

const char *rt_regex_source(const rt_regex *re) { return re->source; }

int rt_matcher_open(rt_matcher *m, rt_err *err)
{
    *m = (rt_matcher){ pcre2_match_data_create(1, NULL), pcre2_match_context_create(NULL),
                       pcre2_jit_stack_create(32 << 10, 4 << 20, NULL) };
    if (!m->data || !m->context) {
        rt_matcher_close(m);
        return rt_fail_memory(err, -1, "a split pattern");
    }
    pcre2_set_match_limit(m->context, 10000000);
    pcre2_set_depth_limit(m->context, 100000);
    pcre2_set_heap_limit(m->context, 64 << 10); /* KiB */
    if (m->stack)
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return 0;
}

void rt_matcher_close(rt_matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (rt_matcher){ 0 };
}

int rt_regex_find(const rt_regex *re, const rt_matcher *m, const char *text, int64_t bytes,
                  int64_t from, int64_t *start, int64_t *end, rt_err *err)
{
    int n = re->jit ? pcre2_jit_match(re->code, (PCRE2_SPTR)text, (PCRE2_SIZE)bytes,
                                      (PCRE2_SIZE)from, 0, m->data, m->context)
                    : pcre2_match(re->code, (PCRE2_SPTR)text, (PCRE2_SIZE)bytes, (PCRE2_SIZE)from,
                                  PCRE2_NO_UTF_CHECK, m->data, m->context);
    if (n == PCRE2_ERROR_NOMATCH)
        return 0;
    if (n < 0) {
        char why[160] = "?";
        pcre2_get_error_message(n, (PCRE2_UCHAR *)why, sizeof why);
        return rt_fail(err, "split pattern: %s at byte %lld of a text of %lld: %.200s", why,
                       (long long)from, (long long)bytes, re->source);
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->data);
    *start = (int64_t)v[0];
    *end = (int64_t)v[1];
    return 1;
}
