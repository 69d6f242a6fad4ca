/* template_lex.c: template text to tokens, following jinja2's lexer with trim_blocks and
   lstrip_blocks: where white space around tags goes, raw blocks, comments, string escapes, and
   which brackets must close before a tag may end. Refuses: escapes \N{...}, lone surrogates. */
#include "corpora/template_impl.h"

#include <stdlib.h>
#include <string.h>

static bool at_text(const rt_lexer *x, int64_t at, const char *s)
{
    int64_t n = (int64_t)strlen(s);
    return n <= x->n - at && !memcmp(x->src + at, s, (size_t)n);
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

/* The end of a closing tag at `at` ("%}", "#}"): "+%}" keeps, "-%}" eats all white space after it,
   plain eats one newline. 0 when there is none. */
static int64_t close_tag(const rt_lexer *x, int64_t at, const char *tag)
{
    if (at < x->n && x->src[at] == '+' && at_text(x, at + 1, tag))
        return at + 3;
    if (at < x->n && x->src[at] == '-' && at_text(x, at + 1, tag))
        return skip_space(x, at + 3);
    if (!at_text(x, at, tag))
        return 0;
    return at + 2 + (at + 2 < x->n && x->src[at + 2] == '\n');
}

/* The end of the text before a tag whose sign is at src[sign]: "-" strips it, a block or comment
   strips the spaces that open its line. */
static int64_t text_end(const rt_lexer *x, int64_t begin, int64_t tag, int64_t sign, bool print)
{
    const char *s = x->src + begin;
    int64_t n = tag - begin, line = n;
    char c = sign < x->n ? x->src[sign] : 0;
    if (c == '-')
        return begin + rt_space_end(s, n);
    if (c == '+' || print)
        return tag;
    while (line > 0 && s[line - 1] != '\n')
        line--;
    if (line == 0 && begin > 0 && x->src[begin - 1] != '\n')
        return tag;
    return rt_space_begin(s + line, n - line) == n - line ? begin + line : tag;
}

static void give_text(rt_lexer *x, rt_token *t, int64_t begin, int64_t end)
{
    t->kind = T_DATA;
    t->line = x->line;
    t->s = x->src + begin;
    t->n = end - begin;
}

/* "{% raw %}" at `at` (after "{%"): the end of it, else 0. */
static int64_t raw_begin(const rt_lexer *x, int64_t at)
{
    if (at < x->n && (x->src[at] == '-' || x->src[at] == '+'))
        at++;
    at = skip_space(x, at);
    if (!at_text(x, at, "raw"))
        return 0;
    at = skip_space(x, at + 3);
    if (at_text(x, at, "-%}"))
        return skip_space(x, at + 3);
    return at_text(x, at, "%}") ? at + 2 : 0;
}

static void lex_raw(rt_lexer *x, rt_token *t)
{
    for (int64_t i = x->at; i + 1 < x->n; i++) {
        if (!at_text(x, i, "{%"))
            continue;
        int64_t j = i + 2;
        if (j < x->n && (x->src[j] == '-' || x->src[j] == '+'))
            j++;
        j = skip_space(x, j);
        if (!at_text(x, j, "endraw"))
            continue;
        int64_t end = close_tag(x, skip_space(x, j + 6), "%}");
        if (!end)
            continue;
        give_text(x, t, x->at, text_end(x, x->at, i, i + 2, false));
        advance(x, end);
        x->state = LEX_TEXT;
        return;
    }
    x->m->line = x->line;
    rt_tpl_fail(x->m, "raw block without {%% endraw %%}");
}

static bool skip_comment(rt_lexer *x, int64_t at)
{
    for (int64_t i = at; i + 1 < x->n; i++) {
        if (x->src[i] != '#' || x->src[i + 1] != '}')
            continue;
        /* the sign before "#}" belongs to the tag when it is not the opening sign itself */
        bool sign = i > at && (x->src[i - 1] == '-' || x->src[i - 1] == '+');
        advance(x, close_tag(x, sign ? i - 1 : i, "#}"));
        return true;
    }
    x->m->line = x->line;
    rt_tpl_fail(x->m, "comment without \"#}\"");
    return false;
}

/* Text up to the next tag; the tag's opener is consumed by the call after it. */
static void lex_text(rt_lexer *x, rt_token *t)
{
    while (x->at < x->n && !x->m->failed) {
        int64_t begin = x->at, i = begin;
        while (i < x->n &&
               !(x->src[i] == '{' && i + 1 < x->n && strchr("%{#", x->src[i + 1]) && x->src[i + 1]))
            i++;
        if (i >= x->n) {
            give_text(x, t, begin, x->n);
            advance(x, x->n);
            return;
        }
        char what = x->src[i + 1];
        int64_t end = text_end(x, begin, i, i + 2, what == '{');
        if (end > begin) {
            give_text(x, t, begin, end);
            advance(x, i);
            return;
        }
        advance(x, i);
        int64_t raw = what == '%' ? raw_begin(x, i + 2) : 0;
        if (raw) {
            advance(x, raw);
            x->state = LEX_RAW;
            lex_raw(x, t);
            return;
        }
        int64_t after = i + 2;
        if (after < x->n && (x->src[after] == '-' || x->src[after] == '+'))
            after++;
        if (what == '#') {
            if (!skip_comment(x, after))
                return;
            continue;
        }
        x->state = what == '%' ? LEX_BLOCK : LEX_PRINT;
        t->kind = what == '%' ? T_BLOCK_BEGIN : T_PRINT_BEGIN;
        t->line = x->line;
        advance(x, after);
        return;
    }
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One escape after a backslash at s[0 .. n): writes to out, returns bytes read, 0 when bad. */
static int64_t unescape(const char *s, int64_t n, char *out, int64_t *used)
{
    static const char from[] = "\n\\'\"abfnrtv", to[] = "\0\\'\"\a\b\f\n\r\t\v";
    const char *p = n > 0 && s[0] ? memchr(from, s[0], sizeof from - 1) : NULL;
    int64_t read = 1;
    int digits = n > 0 && s[0] == 'x' ? 2 : n > 0 && s[0] == 'u' ? 4 : n > 0 && s[0] == 'U' ? 8 : 0;
    uint32_t cp = 0;
    if (n < 1 || s[0] == 'N' || (unsigned char)s[0] >= 0x80)
        return 0;
    if (p) {
        if (s[0] != '\n')
            out[(*used)++] = to[p - from];
        return 1;
    }
    if (digits) {
        for (; digits; digits--, read++) {
            int v = read < n ? hex_value(s[read]) : -1;
            if (v < 0)
                return 0;
            cp = cp << 4 | (uint32_t)v;
        }
    } else if (s[0] >= '0' && s[0] <= '7') {
        for (read = 0; read < 3 && read < n && s[read] >= '0' && s[read] <= '7'; read++)
            cp = cp << 3 | (uint32_t)(s[read] - '0');
    } else { /* an unknown escape keeps its backslash */
        out[(*used)++] = '\\';
        cp = (unsigned char)s[0];
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        return 0;
    *used += rt_utf8_encode(cp, out + *used);
    return read;
}

static void lex_string(rt_lexer *x, rt_token *t)
{
    int64_t begin = x->at + 1, end = begin, used = 0;
    char quote = x->src[x->at];
    while (end < x->n && x->src[end] != quote)
        end += x->src[end] == '\\' ? 2 : 1;
    if (end >= x->n) {
        rt_tpl_fail(x->m, "string without its closing %c", quote);
        return;
    }
    char *out = rt_tpl_take(x->m,
                            end - begin + 4); /* no escape is shorter than what it stands for */
    if (!out)
        return;
    for (int64_t i = begin; i < end;) {
        if (x->src[i] != '\\') {
            out[used++] = x->src[i++];
            continue;
        }
        int64_t read = unescape(x->src + i + 1, end - i - 1, out, &used);
        if (!read) {
            rt_tpl_fail(x->m, "string escape that is not understood: write the character itself");
            return;
        }
        i += 1 + read;
    }
    t->kind = T_STRING;
    t->s = out;
    t->n = used;
    advance(x, end + 1);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits with single underscores between them, copied to out; 0 when there is none. */
static int64_t take_digits(const rt_lexer *x, int64_t at, char *out, int *used, int base)
{
    int64_t i = at;
    while (i < x->n && *used < 300) {
        int64_t j = i + (i > at && x->src[i] == '_');
        int v = j < x->n ? hex_value(x->src[j]) : -1;
        if (v < 0 || v >= base)
            break;
        out[(*used)++] = x->src[j];
        i = j + 1;
    }
    return i - at;
}

static void lex_number(rt_lexer *x, rt_token *t)
{
    char text[340];
    int used = 0, base = 10;
    int64_t at = x->at, n;
    char kind = at + 1 < x->n ? (char)(x->src[at + 1] | 0x20) : 0;
    if (x->src[at] == '0' && (kind == 'x' || kind == 'o' || kind == 'b')) {
        base = kind == 'x' ? 16 : kind == 'o' ? 8 : 2;
        at += 2;
        at += at < x->n && x->src[at] == '_';
    }
    at += take_digits(x, at, text, &used, base);
    bool real = false;
    if (base == 10 && !(x->at > 0 && x->src[x->at - 1] == '.')) {
        int mark = used;
        if (at + 1 < x->n && x->src[at] == '.' && is_digit(x->src[at + 1])) {
            text[used++] = '.';
            at += 1 + take_digits(x, at + 1, text, &used, 10);
            real = true;
            mark = used;
        }
        int64_t e = at + 1;
        if (at < x->n && (x->src[at] == 'e' || x->src[at] == 'E')) {
            text[used++] = 'e';
            if (e < x->n && (x->src[e] == '+' || x->src[e] == '-'))
                text[used++] = x->src[e++];
            n = take_digits(x, e, text, &used, 10);
            real = real || n > 0;
            at = n > 0 ? e + n : at;
            used = n > 0 ? used : mark;
        }
    }
    text[used] = 0;
    t->kind = T_NUMBER;
    if (real)
        t->num = rt_val_float(strtod(text, NULL));
    int64_t value = 0;
    for (int i = 0; !real && i < used; i++)
        if (__builtin_mul_overflow(value, (int64_t)base, &value) ||
            __builtin_add_overflow(value, (int64_t)hex_value(text[i]), &value))
            rt_tpl_fail(x->m, "integer beyond 64 bits");
    if (!used || (!real && base == 10 && text[0] == '0' && value))
        rt_tpl_fail(x->m, "a number without digits, or with a zero in front");
    if (!real)
        t->num = rt_val_int(value);
    advance(x, at);
}

static bool name_char(const rt_lexer *x, int64_t at, bool first, int *len)
{
    char c = x->src[at];
    *len = 1;
    if ((unsigned char)c >= 0x80) {
        uint32_t cp;
        *len = rt_cp_next(x->src + at, x->n - at, &cp);
        return rt_cp_word(cp);
    }
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && is_digit(c));
}

static void lex_operator(rt_lexer *x, rt_token *t)
{
    static const char pair[][3] = { "//D", "**P", "==E", "!=N", ">=G", "<=L" };
    char c = x->src[x->at];
    t->kind = T_OP;
    t->s = x->src + x->at;
    t->n = 1;
    for (int i = 0; i < RT_COUNT(pair); i++)
        if (c == pair[i][0] && x->at + 1 < x->n && x->src[x->at + 1] == pair[i][1]) {
            t->op = pair[i][2];
            t->n = 2;
            x->at += 2;
            return;
        }
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c)) {
        rt_tpl_fail(x->m, "unexpected character 0x%02x in a tag", (unsigned)(unsigned char)c);
        return;
    }
    t->op = c;
    x->at++;
    if (strchr("([{", c)) {
        if (x->n_open == RT_COUNT(x->open))
            rt_tpl_fail(x->m, "more than %d brackets inside one another", RT_COUNT(x->open));
        else
            x->open[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c) && (!x->n_open || x->open[--x->n_open] != c)) {
        rt_tpl_fail(x->m, "unexpected '%c'", c);
    }
}

static void lex_tag(rt_lexer *x, rt_token *t)
{
    bool block = x->state == LEX_BLOCK;
    for (;;) {
        int64_t end = 0;
        if (!x->n_open && block)
            end = close_tag(x, x->at, "%}");
        else if (!x->n_open)
            end = at_text(x, x->at, "-}}")  ? skip_space(x, x->at + 3)
                  : at_text(x, x->at, "}}") ? x->at + 2
                                            : 0;
        t->line = x->m->line = x->line;
        if (end) {
            t->kind = block ? T_BLOCK_END : T_PRINT_END;
            t->s = block ? "%}" : "}}";
            t->n = 2;
            x->state = LEX_TEXT;
            advance(x, end);
            return;
        }
        int64_t space = skip_space(x, x->at);
        if (space == x->at)
            break;
        advance(x, space);
    }
    int len;
    if (x->at >= x->n)
        return;
    char c = x->src[x->at];
    if (is_digit(c)) {
        lex_number(x, t);
    } else if (c == '"' || c == '\'') {
        lex_string(x, t);
    } else if (name_char(x, x->at, true, &len)) {
        t->kind = T_NAME;
        t->s = x->src + x->at;
        for (; x->at < x->n && name_char(x, x->at, false, &len); x->at += len)
            ;
        t->n = x->src + x->at - t->s;
    } else {
        lex_operator(x, t);
    }
}

void rt_lexer_next(rt_lexer *x, rt_token *token)
{
    *token = (rt_token){ .kind = T_EOF, .line = x->line };
    if (!x->m->failed) {
        if (x->state == LEX_TEXT)
            lex_text(x, token);
        else if (x->state == LEX_RAW)
            lex_raw(x, token);
        else
            lex_tag(x, token);
    }
    if (x->m->failed)
        *token = (rt_token){ .kind = T_EOF, .line = x->line };
}
