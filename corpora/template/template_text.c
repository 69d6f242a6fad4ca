/* template_text.c: the character facts behind string methods: white space, code points, case, and
   numbers read from text. Refuses: upper-casing the rare small letters (besides sharp s) that have
   no capital or become several letters, since utf8proc has no table to tell them apart. */
#include "corpora/template/template_impl.h"

#include <stdlib.h>

#include <utf8proc.h>

/* ---- characters ------------------------------------------------------------------------------ */

bool rt_cp_space(uint32_t c)
{
    return rt_utf8_is_space(c) || (c >= 28 && c <= 31); /* Python's isspace has four more */
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

static bool is_letter(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT;
}

/* Marks that may stand inside a word. */
static bool case_ignorable(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' ||
           c == ':' || c == 0xB7 || c == 0x2019;
}

/* A Greek sigma at s[at .. at + 2) ends its word. */
static bool final_sigma(rt_val s, int64_t at)
{
    uint32_t before = 0, after = 0;
    int64_t i = at;
    do
        i -= i > 0 ? last_cp(s.u.str, i, &before) : 0;
    while (i > 0 && case_ignorable(before));
    i = at + 2;
    do
        i += i < s.n ? rt_cp_next(s.u.str + i, s.n - i, &after) : 0;
    while (i < s.n && case_ignorable(after));
    return is_letter(before) && !is_letter(after);
}

/* One character that is not ASCII, at s[at]. */
static void add_case(rt_tpl *m, rt_buf *b, rt_val s, int64_t at, uint32_t cp, rt_case how)
{
    char out[4];
    utf8proc_int32_t c = (utf8proc_int32_t)cp;
    utf8proc_int32_t to = how == CASE_LOWER   ? utf8proc_tolower(c)
                          : how == CASE_UPPER ? utf8proc_toupper(c)
                                              : utf8proc_totitle(c);
    utf8proc_category_t k = utf8proc_category(to);
    if (cp == 0xDF && how != CASE_LOWER)
        rt_buf_puts(m, b, how == CASE_UPPER ? "SS" : "Ss");
    else if (cp == 0x130 && how == CASE_LOWER)
        rt_buf_puts(m, b, "i\xCC\x87");
    else if (cp == 0x3A3 && how == CASE_LOWER)
        rt_buf_puts(m, b, final_sigma(s, at) ? "\xCF\x82" : "\xCF\x83");
    else if (how == CASE_UPPER
                 ? k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT
                 : how == CASE_TITLE && k == UTF8PROC_CATEGORY_LL && utf8proc_toupper(c) == c)
        rt_tpl_fail(m, "U+%04X has no capital that is one letter, which is not supported", cp);
    else
        rt_buf_add(m, b, out, rt_utf8_encode((uint32_t)to, out));
}

static void buf_case(rt_tpl *m, rt_buf *b, rt_val s, int64_t at, int64_t end, rt_case how)
{
    char out[256];
    uint32_t cp;
    rt_tpl_scan(m, end - at);
    while (at < end) {
        const char *p = s.u.str + at;
        int n = 0;
        for (; n < RT_COUNT(out) && at + n < end && (unsigned char)p[n] < 0x80; n++) {
            bool letter = (p[n] | 0x20) >= 'a' && (p[n] | 0x20) <= 'z';
            out[n] = (char)(!letter ? p[n] : how == CASE_LOWER ? p[n] | 0x20 : p[n] & ~0x20);
        }
        rt_buf_add(m, b, out, n);
        if (n == 0) {
            rt_tpl_step(m, 1);
            n = rt_cp_next(p, end - at, &cp);
            add_case(m, b, s, at, cp, how);
        }
        at += n;
    }
}

rt_val rt_str_case(rt_tpl *m, rt_val s, rt_case first, rt_case rest)
{
    rt_buf b = { 0 };
    uint32_t cp;
    int64_t head = s.n > 0 ? rt_cp_next(s.u.str, s.n, &cp) : 0;
    buf_case(m, &b, s, 0, head, first);
    buf_case(m, &b, s, head, s.n, rest);
    rt_val v = rt_buf_string(m, &b);
    v.flag = s.flag;
    return v;
}

/* The method: a capital wherever a letter follows something that is not one. The filter: where
   something follows white space, a dash or an opening bracket. */
rt_val rt_str_title(rt_tpl *m, rt_val s, bool filter)
{
    rt_buf b = { 0 };
    uint32_t cp;
    bool begin = true;
    rt_tpl_scan(m, s.n);
    for (int64_t at = 0, len; at < s.n; at += len) {
        len = rt_cp_next(s.u.str + at, s.n - at, &cp);
        buf_case(m, &b, s, at, at + len, !begin ? CASE_LOWER : filter ? CASE_UPPER : CASE_TITLE);
        begin = filter ? rt_cp_space(cp) || (cp && cp < 128 && strchr("-({[<", (int)cp))
                       : !is_letter(cp);
    }
    return rt_buf_string(m, &b);
}

rt_val rt_str_escape(rt_tpl *m, rt_val s)
{
    static const char from[] = "&<>\"'";
    static const char *const to[] = { "&amp;", "&lt;", "&gt;", "&#34;", "&#39;" };
    rt_buf b = { 0 };
    rt_tpl_scan(m, s.n);
    for (uint32_t i = 0; i < s.n && !s.flag; i++) {
        const char *p = s.u.str[i] ? strchr(from, s.u.str[i]) : NULL;
        rt_buf_add(m, &b, p ? to[p - from] : s.u.str + i, p ? (int64_t)strlen(to[p - from]) : 1);
    }
    rt_val v = s.flag ? s : rt_buf_string(m, &b);
    v.flag = 1;
    return v;
}

/* ---- numbers in text ------------------------------------------------------------------------- */

/* The characters of a Python number literal: trimmed, single underscores between digits dropped;
   their count, 0 when there are none. */
static int64_t number_text(rt_val s, char *out, int64_t cap)
{
    int64_t at = rt_space_begin(s.u.str, s.n), end = rt_space_end(s.u.str, s.n), n = 0;
    for (const char *c = s.u.str + at; at < end; at++, c++) {
        bool gap = *c == '_' && n > 0 && at + 1 < end && (unsigned)(c[-1] - '0') < 10 &&
                   (unsigned)(c[1] - '0') < 10;
        if (!*c || n + 1 >= cap)
            return 0;
        if (!gap)
            out[n++] = *c;
    }
    out[n] = 0;
    return n;
}

bool rt_str_int(rt_val s, int base, int64_t *out)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char text[128], *p = text;
    if (!number_text(s, text, sizeof text))
        return false;
    bool minus = *p == '-';
    p += *p == '-' || *p == '+';
    if (base == 16 && p[0] == '0' && (p[1] | 0x20) == 'x')
        p += 2;
    *out = 0;
    for (const char *begin = p; *p || p == begin; p++) { /* downwards, where there is one more */
        const char *d = *p ? strchr(digits, *p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p) : NULL;
        if (!d || d - digits >= base || __builtin_mul_overflow(*out, (int64_t)base, out) ||
            __builtin_sub_overflow(*out, (int64_t)(d - digits), out))
            return false;
    }
    return minus || !__builtin_sub_overflow((int64_t)0, *out, out);
}

bool rt_str_float(rt_val s, double *out)
{
    char text[512], *end;
    int64_t n = number_text(s, text, sizeof text);
    *out = n ? strtod(text, &end) : 0; /* only libc knows "0x1p3" and "nan(1)" */
    return n && end == text + n && !strpbrk(text, "xX(");
}
