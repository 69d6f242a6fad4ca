/* template_text.c: values as text, the way Python writes them: str(), repr(), json.dumps(),
   shortest floats; and the character facts behind string methods: white space, case, code points.
   Refuses: upper-casing the rare letters (besides sharp s) that become several letters, since
   utf8proc has no table for them; printing what has no text of its own (iterators, functions). */
#include "corpora/template_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* ---- characters ------------------------------------------------------------------------------ */

bool rt_cp_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool rt_cp_word(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO) || k == UTF8PROC_CATEGORY_PC;
}

int rt_cp_next(const char *s, int64_t n, uint32_t *cp)
{
    *cp = (unsigned char)s[0];
    if (*cp < 0x80)
        return 1;
    int len = rt_utf8_decode(s, n, cp);
    if (len > 0)
        return len;
    *cp = 0xFFFD;
    return 1;
}

/* The last code point of s[0 .. n), n >= 1. */
static int last_cp(const char *s, int64_t n, uint32_t *cp)
{
    int back = 1;
    while (back < 4 && back < n && ((unsigned char)s[n - back] & 0xC0) == 0x80)
        back++;
    int len = rt_cp_next(s + n - back, back, cp);
    if (len == back)
        return len;
    *cp = 0xFFFD;
    return 1;
}

int64_t rt_space_begin(const char *s, int64_t n)
{
    int64_t at = 0;
    for (uint32_t cp; at < n;) {
        int len = rt_cp_next(s + at, n - at, &cp);
        if (!rt_cp_space(cp))
            break;
        at += len;
    }
    return at;
}

int64_t rt_space_end(const char *s, int64_t n)
{
    for (uint32_t cp; n > 0;) {
        int len = last_cp(s, n, &cp);
        if (!rt_cp_space(cp))
            break;
        n -= len;
    }
    return n;
}

/* Strings of a render are valid UTF-8, so a code point is a byte that does not continue one. */
int64_t rt_cp_count(const char *s, int64_t n)
{
    int64_t count = 0;
    for (int64_t at = 0; at < n; at++)
        count += ((unsigned char)s[at] & 0xC0) != 0x80;
    return count;
}

int64_t rt_cp_offset(const char *s, int64_t n, int64_t index)
{
    int64_t at = -1;
    while (index >= 0 && ++at < n)
        index -= ((unsigned char)s[at] & 0xC0) != 0x80;
    return rt_max(at, 0);
}

/* ---- case ------------------------------------------------------------------------------------ */

/* Letters whose upper or title case is several letters (Unicode SpecialCasing), besides U+00DF. */
static bool grows(uint32_t c)
{
    static const uint32_t range[][2] = { { 0x149, 0x149 },   { 0x1F0, 0x1F0 },   { 0x390, 0x390 },
                                         { 0x3B0, 0x3B0 },   { 0x587, 0x587 },   { 0x1E96, 0x1E9A },
                                         { 0x1F50, 0x1F50 }, { 0x1F52, 0x1F52 }, { 0x1F54, 0x1F54 },
                                         { 0x1F56, 0x1F56 }, { 0x1F80, 0x1FAF }, { 0x1FB2, 0x1FB4 },
                                         { 0x1FB6, 0x1FB7 }, { 0x1FBC, 0x1FBC }, { 0x1FC2, 0x1FC4 },
                                         { 0x1FC6, 0x1FC7 }, { 0x1FCC, 0x1FCC }, { 0x1FD2, 0x1FD3 },
                                         { 0x1FD6, 0x1FD7 }, { 0x1FE2, 0x1FE4 }, { 0x1FE6, 0x1FE7 },
                                         { 0x1FF2, 0x1FF4 }, { 0x1FF6, 0x1FF7 }, { 0x1FFC, 0x1FFC },
                                         { 0xFB00, 0xFB06 }, { 0xFB13, 0xFB17 } };
    for (int i = 0; i < RT_COUNT(range); i++)
        if (c >= range[i][0] && c <= range[i][1])
            return true;
    return false;
}

static bool case_ignorable(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' ||
           c == ':' || c == 0xB7 || c == 0x2019;
}

static bool is_letter(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT;
}

/* A Greek sigma at s[at .. at + 2) ends its word; marks between letters do not end a word. */
static bool final_sigma(const char *s, int64_t at, int64_t n)
{
    uint32_t before = 0, after = 0;
    for (int64_t i = at; i > 0 && !is_letter(before);) {
        i -= last_cp(s, i, &before);
        if (!is_letter(before) && !case_ignorable(before))
            break;
    }
    for (int64_t i = at + 2; i < n && !is_letter(after);) {
        i += rt_cp_next(s + i, n - i, &after);
        if (!is_letter(after) && !case_ignorable(after))
            break;
    }
    return is_letter(before) && !is_letter(after);
}

static char ascii_case(char c, rt_case how)
{
    bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    return (char)(!letter ? c : how == CASE_LOWER ? c | 0x20 : c & ~0x20);
}

void rt_buf_case(rt_tpl *m, rt_buf *b, rt_val s, int64_t at, int64_t end, rt_case how)
{
    char out[256];
    uint32_t cp;
    rt_tpl_scan(m, end - at);
    while (at < end && !m->failed) {
        const char *p = s.u.str + at;
        int n = 0;
        for (; n < RT_COUNT(out) && at + n < end && (unsigned char)p[n] < 0x80; n++)
            out[n] = ascii_case(p[n], how);
        rt_buf_add(m, b, out, n);
        at += n;
        if (n > 0 || !rt_tpl_step(m, 1))
            continue;
        at += rt_cp_next(p, end - at, &cp);
        if (cp == 0xDF && how != CASE_LOWER) {
            rt_buf_puts(m, b, how == CASE_UPPER ? "SS" : "Ss");
        } else if (cp == 0x130 && how == CASE_LOWER) {
            rt_buf_puts(m, b, "i\xCC\x87");
        } else if (cp == 0x3A3 && how == CASE_LOWER) {
            rt_buf_puts(m, b, final_sigma(s.u.str, p - s.u.str, s.n) ? "\xCF\x82" : "\xCF\x83");
        } else if (how != CASE_LOWER && grows(cp)) {
            rt_tpl_fail(m, "the capital of U+%04X is several letters, which is not supported", cp);
        } else {
            utf8proc_int32_t c = (utf8proc_int32_t)cp;
            c = how == CASE_LOWER   ? utf8proc_tolower(c)
                : how == CASE_UPPER ? utf8proc_toupper(c)
                                    : utf8proc_totitle(c);
            rt_buf_add(m, b, out, rt_utf8_encode((uint32_t)c, out));
        }
    }
}

rt_val rt_str_case(rt_tpl *m, rt_val s, rt_case first, rt_case rest)
{
    rt_buf b = { 0 };
    uint32_t cp;
    int64_t head = s.n > 0 ? rt_cp_next(s.u.str, s.n, &cp) : 0;
    rt_buf_case(m, &b, s, 0, head, first);
    rt_buf_case(m, &b, s, head, s.n, rest);
    rt_val v = rt_buf_string(m, &b);
    v.flag = s.flag;
    return v;
}

rt_val rt_str_escape(rt_tpl *m, rt_val s)
{
    static const char *const to[] = { "&amp;", "&lt;", "&gt;", "&#34;", "&#39;" };
    rt_buf b = { 0 };
    rt_tpl_scan(m, s.n);
    for (uint32_t i = 0; i < s.n && !s.flag; i++) {
        const char *p = s.u.str[i] ? strchr("&<>\"'", s.u.str[i]) : NULL;
        if (p)
            rt_buf_puts(m, &b, to[p - strchr("&<>\"'", '&')]);
        else
            rt_buf_add(m, &b, s.u.str + i, 1);
    }
    rt_val v = s.flag ? s : rt_buf_string(m, &b);
    v.flag = 1;
    return v;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The shortest digits that read back as f, in Python's layout. */
void rt_buf_float(rt_tpl *m, rt_buf *b, double f)
{
    char text[40], digits[24];
    int n = 0, exponent;
    if (!isfinite(f)) {
        rt_buf_puts(m, b, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    for (int p = 0; p < 17; p++) {
        snprintf(text, sizeof text, "%.*e", p, fabs(f));
        if (strtod(text, NULL) == fabs(f))
            break;
    }
    char *e = strchr(text, 'e');
    exponent = atoi(e + 1);
    for (char *c = text; c < e; c++)
        if (*c != '.')
            digits[n++] = *c;
    digits[n] = 0;
    if (signbit(f))
        rt_buf_puts(m, b, "-");
    if (exponent < -4 || exponent >= 16) {
        rt_buf_add(m, b, digits, 1);
        if (n > 1)
            rt_buf_puts(m, b, ".");
        rt_buf_add(m, b, digits + 1, n - 1);
        snprintf(text, sizeof text, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        rt_buf_puts(m, b, text);
        return;
    }
    if (exponent < 0) {
        rt_buf_puts(m, b, "0.");
        rt_buf_add(m, b, "000", -exponent - 1);
        rt_buf_add(m, b, digits, n);
        return;
    }
    for (int i = 0; i <= exponent || i < n; i++) {
        if (i == exponent + 1)
            rt_buf_puts(m, b, ".");
        rt_buf_add(m, b, i < n ? digits + i : "0", 1);
    }
    if (n <= exponent + 1)
        rt_buf_puts(m, b, ".0");
}

/* The characters of a Python number literal: trimmed, single underscores between digits dropped. */
static int number_text(rt_val s, char *out, int cap)
{
    int64_t at = rt_space_begin(s.u.str, s.n), end = rt_space_end(s.u.str, s.n);
    int n = 0;
    for (; at < end; at++) {
        char c = s.u.str[at];
        bool gap = n > 0 && at + 1 < end && c == '_' && s.u.str[at - 1] != '_';
        if (gap && (unsigned)(s.u.str[at - 1] - '0') < 10 && (unsigned)(s.u.str[at + 1] - '0') < 10)
            continue;
        if (n + 1 >= cap || c <= 0 || c == '_')
            return 0;
        out[n++] = c;
    }
    out[n] = 0;
    return n;
}

bool rt_str_int(rt_val s, int base, int64_t *out)
{
    char text[128], *p = text, *end;
    if (!number_text(s, text, sizeof text))
        return false;
    bool minus = *p == '-';
    p += *p == '-' || *p == '+';
    if (p[0] == '0' && p[1] &&
        ((base == 16 && (p[1] | 32) == 'x') || (base == 8 && (p[1] | 32) == 'o') ||
         (base == 2 && (p[1] | 32) == 'b')))
        p += 2;
    for (end = p; *end; end++) {
        int v = *end >= '0' && *end <= '9'                 ? *end - '0'
                : (*end | 32) >= 'a' && (*end | 32) <= 'z' ? (*end | 32) - 'a' + 10
                                                           : 99;
        if (v >= base)
            return false;
    }
    if (end == p || end - p > 60)
        return false;
    int64_t value = 0;
    for (; *p; p++) {
        int v = *p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10;
        if (__builtin_mul_overflow(value, (int64_t)base, &value) ||
            __builtin_sub_overflow(value, (int64_t)v, &value))
            return false;
    }
    if (!minus && value == INT64_MIN)
        return false;
    *out = minus ? value : -value;
    return true;
}

bool rt_str_float(rt_val s, double *out)
{
    char text[512], *p = text, *end;
    if (!number_text(s, text, sizeof text))
        return false;
    p += *p == '-' || *p == '+';
    static const char *const word[] = { "inf", "infinity", "nan" };
    for (int i = 0; i < RT_COUNT(word); i++) {
        const char *w = word[i];
        char *c = p;
        while (*w && (*c | 32) == *w)
            w++, c++;
        if (!*w && !*c) {
            *out = (*text == '-' ? -1 : 1) * (i == 2 ? (double)NAN : (double)INFINITY);
            return true;
        }
    }
    if (!*p || strspn(p, "0123456789.eE+-") != strlen(p) || *p == '+' || *p == '-')
        return false;
    *out = strtod(text, &end);
    return !*end;
}

/* ---- str() and repr() ------------------------------------------------------------------------ */

static bool printable(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return cp == ' ';
    default:
        return true;
    }
}

static void repr_str(rt_tpl *m, rt_buf *b, rt_val s)
{
    bool twin = s.n && memchr(s.u.str, '\'', s.n) && !memchr(s.u.str, '"', s.n);
    char quote = twin ? '"' : '\'', text[16];
    rt_buf_puts(m, b, s.flag ? "Markup(" : "");
    rt_buf_add(m, b, &quote, 1);
    uint32_t cp;
    for (int64_t at = 0; at < s.n && !m->failed;) {
        const char *p = s.u.str + at;
        int len = rt_cp_next(p, s.n - at, &cp);
        at += len;
        const char *known = cp && cp < 128 ? strchr("\n\r\t\\", (int)cp) : NULL;
        if (known || cp == (uint32_t)quote) {
            text[0] = '\\';
            text[1] = cp == '\n' ? 'n' : cp == '\r' ? 'r' : cp == '\t' ? 't' : (char)cp;
            rt_buf_add(m, b, text, 2);
        } else if (printable(cp)) {
            rt_buf_add(m, b, p, len);
        } else {
            const char *form = cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x";
            snprintf(text, sizeof text, form, cp);
            rt_buf_puts(m, b, text);
        }
    }
    rt_buf_add(m, b, &quote, 1);
    rt_buf_puts(m, b, s.flag ? ")" : "");
}

static void repr_seq(rt_tpl *m, rt_buf *b, const rt_seq *s)
{
    static const char *const open[] = {
        "[", "(", "", "dict_keys([", "dict_values([", "dict_items(["
    };
    static const char *const close[] = { "]", ")", "", "])", "])", "])" };
    char text[80];
    if (s->kind == SEQ_ONCE) {
        rt_tpl_fail(m, "an iterator has no text: pass it through |list or |join first");
        return;
    }
    if (s->kind == SEQ_RANGE) {
        snprintf(text, sizeof text, "range(%lld, %lld", (long long)s->start, (long long)s->stop);
        rt_buf_puts(m, b, text);
        snprintf(text, sizeof text, s->step == 1 ? ")" : ", %lld)", (long long)s->step);
        rt_buf_puts(m, b, text);
        return;
    }
    rt_buf_puts(m, b, open[s->kind]);
    for (int64_t i = 0; i < s->n && !m->failed; i++) {
        rt_buf_puts(m, b, i ? ", " : "");
        rt_buf_repr(m, b, rt_seq_at(s, i));
    }
    rt_buf_puts(m, b, s->kind == SEQ_TUPLE && s->n == 1 ? ",)" : close[s->kind]);
}

static void repr_dict(rt_tpl *m, rt_buf *b, const rt_dict *d)
{
    rt_buf_puts(m, b, "{");
    for (int64_t i = 0; i < d->n && !m->failed; i++) {
        rt_buf_puts(m, b, i ? ", " : "");
        rt_buf_repr(m, b, d->pair[i].key);
        rt_buf_puts(m, b, ": ");
        rt_buf_repr(m, b, d->pair[i].value);
    }
    rt_buf_puts(m, b, "}");
}

void rt_buf_repr(rt_tpl *m, rt_buf *b, rt_val v)
{
    char text[32];
    if (!rt_tpl_enter(m))
        return;
    switch ((rt_kind)v.kind) {
    case V_UNDEF:
        rt_buf_puts(m, b, "Undefined");
        break;
    case V_NONE:
        rt_buf_puts(m, b, "None");
        break;
    case V_BOOL:
        rt_buf_puts(m, b, v.u.i ? "True" : "False");
        break;
    case V_INT:
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
        rt_buf_puts(m, b, text);
        break;
    case V_FLOAT:
        rt_buf_float(m, b, v.u.f);
        break;
    case V_STR:
        repr_str(m, b, v);
        break;
    case V_SEQ:
        repr_seq(m, b, v.u.seq);
        break;
    case V_DICT:
        repr_dict(m, b, v.u.dict);
        break;
    case V_NAMESPACE:
        rt_buf_puts(m, b, "<Namespace ");
        repr_dict(m, b, v.u.dict);
        rt_buf_puts(m, b, ">");
        break;
    default:
        rt_tpl_fail(m, "a %s has no text of its own", rt_val_type(v));
        break;
    }
    m->nest--;
}

void rt_buf_print(rt_tpl *m, rt_buf *b, rt_val v)
{
    if (v.kind == V_STR)
        rt_buf_add(m, b, v.u.str, v.n);
    else if (v.kind != V_UNDEF)
        rt_buf_repr(m, b, v);
}

rt_val rt_val_text(rt_tpl *m, rt_val v)
{
    rt_buf b = { 0 };
    if (v.kind == V_STR)
        return v;
    rt_buf_print(m, &b, v);
    return rt_buf_string(m, &b);
}
