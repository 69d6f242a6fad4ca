/* template_lex.c: template text to tokens, following jinja2's lexer with trim_blocks and
   lstrip_blocks: where white space around tags goes, comments, string escapes, and
   which brackets must close before a tag may end. Refuses: raw blocks, escapes \N{...} and \ooo,
   lone surrogates, numbers that are not decimal, names that are not ASCII. */
#include <stdlib.h>

#include "corpora/template/template_parse.h"

static bool at_text(const rt_lexer *x, int64_t at, const char *s)
{
    return !strncmp(x->src + at, s, strlen(s));
}

static void advance(rt_lexer *x, int64_t to)
{
    for (; x->at < to; x->at++)
        x->line += x->src[x->at] == '\n';
}

static int64_t skip_space(const rt_lexer *x, int64_t at)
{
    return at + rt_space_begin(x->src + at, x->n - at);
}

static int64_t skip_sign(const rt_lexer *x, int64_t at)
{
    return at + (x->src[at] == '-' || x->src[at] == '+');
}

/* The end of a closing tag at `at` ("%}", "#}"): "+%}" keeps, "-%}" eats all white space after it,
   plain eats one newline. 0 when there is none. */
static int64_t close_tag(const rt_lexer *x, int64_t at, const char *tag)
{
    char sign = x->src[at];
    int64_t end = skip_sign(x, at) + 2;
    if (!at_text(x, end - 2, tag))
        return 0;
    return sign == '-' ? skip_space(x, end) : end + (sign != '+' && x->src[end] == '\n');
}

/* The text before a tag: a "-" after "{%" strips it, a block or comment strips the spaces that open
   its line. */
static void lex_data(rt_lexer *x, rt_token *t, int64_t tag)
{
    const char *s = x->src + x->at;
    int64_t n = tag - x->at, line = n;
    char sign = tag < x->n ? x->src[tag + 2] : '+';
    t->kind = T_DATA;
    while (line > 0 && s[line - 1] != '\n')
        line--;
    bool starts = line > 0 || x->at == 0 || s[-1] == '\n';
    if (sign == '-')
        n = rt_space_end(s, n);
    else if (sign != '+' && x->src[tag + 1] != '{' && starts &&
             rt_space_begin(s + line, n - line) == n - line)
        n = line;
    t->val = rt_val_str(s, n);
    advance(x, tag);
}

static void skip_comment(rt_lexer *x, int64_t at)
{
    const char *close = memmem(x->src + at, (size_t)(x->n - at), "#}", 2);
    if (!close)
        rt_tpl_fail(x->m, "comment without \"#}\"");
    int64_t end = close - x->src;
    /* the sign before "#}" belongs to it when it is not the opening sign itself */
    bool sign = end > at && (close[-1] == '-' || close[-1] == '+');
    advance(x, close_tag(x, end - sign, "#}"));
}

/* Text up to the next tag; the tag's opener is consumed by the call after it. */
static void lex_text(rt_lexer *x, rt_token *t)
{
    while (x->at < x->n) {
        int64_t tag = x->at;
        const char *s = x->src;
        while (tag < x->n && !(s[tag] == '{' && s[tag + 1] && strchr("%{#", s[tag + 1])))
            tag++;
        if (tag > x->at) {
            lex_data(x, t, tag);
            if (t->val.n)
                return;
        }
        t->line = x->m->line = x->line;
        int64_t after = skip_sign(x, tag + 2);
        if (s[tag + 1] == '#') {
            skip_comment(x, after);
            continue;
        }
        x->state = s[tag + 1] == '%' ? LEX_BLOCK : LEX_PRINT;
        t->kind = x->state == LEX_BLOCK ? T_BLOCK_BEGIN : T_PRINT_BEGIN;
        advance(x, after);
        return;
    }
    t->kind = T_EOF;
}

/* One escape, s after its backslash: writes to out, returns the bytes read, 0 when bad. */
static int unescape(const char *s, char *out, int64_t *used)
{
    static const char from[] = "\n\\'\"abfnrtv", to[] = "\0\\'\"\a\b\f\n\r\t\v";
    const char *p = strchr(from, *s);
    char hex[9] = { 0 };
    int digits = *s == 'x' ? 2 : *s == 'u' ? 4 : *s == 'U' ? 8 : 0;
    if (!*s || *s == 'N' || (*s >= '0' && *s <= '7') || (unsigned char)*s >= 0x80)
        return 0;
    if (!digits) { /* an unknown escape keeps its backslash */
        if (!p)
            out[(*used)++] = '\\';
        if (*s != '\n')
            out[(*used)++] = p ? to[p - from] : *s;
        return 1;
    }
    strncpy(hex, s + 1, (size_t)digits);
    unsigned long cp = strtoul(hex, NULL, 16);
    if ((int)strspn(hex, "0123456789abcdefABCDEF") != digits || cp > 0x10FFFF ||
        (cp >= 0xD800 && cp < 0xE000))
        return 0;
    *used += rt_utf8_encode((uint32_t)cp, out + *used);
    return 1 + digits;
}

static void lex_string(rt_lexer *x, rt_token *t)
{
    int64_t at = x->at + 1, end = at, used = 0;
    char quote = x->src[x->at];
    while (end < x->n && x->src[end] != quote)
        end += x->src[end] == '\\' ? 2 : 1;
    if (end >= x->n)
        rt_tpl_fail(x->m, "string without its closing %c", quote);
    char *out = rt_tpl_take(x->m, end - at + 4); /* no escape is shorter than what it stands for */
    while (at < end) {
        if (x->src[at] != '\\') {
            out[used++] = x->src[at++];
            continue;
        }
        int read = unescape(x->src + at + 1, out, &used);
        if (!read)
            rt_tpl_fail(x->m, "string escape that is not understood: write the character itself");
        at += 1 + read;
    }
    t->kind = T_STRING;
    t->val = rt_val_str(out, used);
    advance(x, end + 1);
}

static int64_t digits_end(const rt_lexer *x, int64_t at)
{
    return at + (int64_t)strspn(x->src + at, "0123456789");
}

static void lex_number(rt_lexer *x, rt_token *t)
{
    const char *s = x->src;
    int64_t begin = x->at, at = digits_end(x, begin), value = 0;
    bool real = false;
    if (begin == 0 || s[begin - 1] != '.') { /* the 1 in a.1.2 is an integer */
        int64_t point = s[at] == '.' ? digits_end(x, at + 1) : at;
        at = point > at + 1 ? point : at;
        real = at == point && s[begin + (int64_t)strspn(s + begin, "0123456789")] == '.';
        int64_t e = (s[at] | 0x20) == 'e' ? skip_sign(x, at + 1) : at;
        if (e > at && digits_end(x, e) > e) {
            at = digits_end(x, e);
            real = true;
        }
    }
    rt_val text = rt_val_str(s + begin, at - begin);
    if (!real && !rt_str_int(text, 10, &value))
        rt_tpl_fail(x->m, "integer beyond 64 bits");
    if (!real && s[begin] == '0' && value)
        rt_tpl_fail(x->m, "a number with a zero in front");
    t->kind = T_NUMBER;
    t->val = real ? rt_val_float(strtod(text.u.str, NULL)) : rt_val_int(value);
    advance(x, at);
}

static void lex_operator(rt_lexer *x, rt_token *t)
{
    static const char pair[][4] = { "//D", "==E", "!=N", ">=G", "<=L", "**P" };
    const char *s = x->src + x->at, c = *s;
    t->kind = T_OP;
    t->op = c;
    for (int i = 0; i < RT_COUNT(pair); i++)
        if (!strncmp(s, pair[i], 2))
            t->op = pair[i][2];
    t->val = rt_val_str(s, t->op == c ? 1 : 2);
    x->at += t->val.n;
    if (t->op != c)
        return;
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c))
        rt_tpl_fail(x->m, "unexpected character 0x%02x in a tag", (unsigned)(unsigned char)c);
    if (strchr("([{", c)) {
        if (x->n_open == RT_COUNT(x->open))
            rt_tpl_fail(x->m, "more than %d brackets inside one another", RT_COUNT(x->open));
        x->open[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c) && (!x->n_open || x->open[--x->n_open] != c)) {
        rt_tpl_fail(x->m, "unexpected '%c'", c);
    }
}

static void lex_tag(rt_lexer *x, rt_token *t)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    int64_t end = 0;
    advance(x, skip_space(x, x->at));
    t->line = x->m->line = x->line;
    if (!x->n_open && x->state == LEX_BLOCK)
        end = close_tag(x, x->at, "%}");
    else if (!x->n_open)
        end = at_text(x, x->at, "-}}") ? skip_space(x, x->at + 3)
                                       : (x->at + 2) * at_text(x, x->at, "}}");
    const char *s = x->src + x->at;
    int64_t n = (int64_t)strspn(s, name);
    if (end) {
        t->kind = x->state == LEX_BLOCK ? T_BLOCK_END : T_PRINT_END;
        t->val = rt_val_lit(x->state == LEX_BLOCK ? "%}" : "}}");
        x->state = LEX_TEXT;
        advance(x, end);
    } else if (x->at >= x->n) {
        t->kind = T_EOF;
    } else if (*s >= '0' && *s <= '9') {
        lex_number(x, t);
    } else if (*s == '"' || *s == '\'') {
        lex_string(x, t);
    } else if (n) {
        t->kind = T_NAME;
        t->val = rt_val_str(s, n);
        x->at += n;
    } else {
        lex_operator(x, t);
    }
}

rt_token rt_lexer_next(rt_lexer *x)
{
    rt_token t = { .line = x->line };
    if (x->state == LEX_TEXT)
        lex_text(x, &t);
    else
        lex_tag(x, &t);
    return t;
}
