/* template_format.c: str.format of Python, as jinja2's sandbox runs it: {}, {0}, {name}, with
   attributes and items behind, and the common part of the format language: fill, alignment, sign,
   zeros, width, commas, precision, types s, d and f. Refuses: conversions but !s, fields inside a
   specification, other types. */
#include "corpora/template/template_builtin.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH_MAX = 4096, PRECISION_MAX = 100 };

typedef struct spec {
    char fill[5]; /* one character */
    char align, sign, type;
    bool comma;
    int64_t width, precision; /* precision -1: not given */
} spec;

static int64_t take_number(rt_tpl *m, const char **s, const char *end, int64_t max)
{
    int64_t n = 0;
    for (; *s < end && **s >= '0' && **s <= '9'; (*s)++)
        if ((n = 10 * n + (**s - '0')) > max)
            rt_tpl_fail(m, "format: a number of more than %lld in a specification", (long long)max);
    return n;
}

static spec read_spec(rt_tpl *m, const char *s, const char *end)
{
    spec f = { .fill = " ", .precision = -1 };
    uint32_t cp;
    int first = s < end ? rt_cp_next(s, end - s, &cp) : 0;
    if (first && s + first < end && strchr("<>^=", s[first])) {
        memcpy(f.fill, s, (size_t)first);
        f.align = s[first];
        s += first + 1;
    } else if (first && strchr("<>^=", *s)) {
        f.align = *s++;
    }
    if (s < end && *s && strchr("+- ", *s))
        f.sign = *s++;
    if (s < end && *s == '0') {
        if (!f.align)
            f.align = '0', f.fill[0] = '0';
        s++;
    }
    f.width = take_number(m, &s, end, WIDTH_MAX);
    f.comma = s < end && *s == ',';
    s += f.comma;
    if (s < end && *s == '.') {
        const char *digits = ++s;
        f.precision = take_number(m, &s, end, PRECISION_MAX);
        if (s == digits)
            rt_tpl_fail(m, "format: a point without a precision");
    }
    f.type = s < end ? *s++ : 0;
    if (s < end || (f.type && !strchr("sdf", f.type)))
        rt_tpl_fail(m, "format: this specification is not supported");
    return f;
}

/* sign and text, n characters in all, padded as the specification says. */
static void pad(rt_tpl *m, rt_buf *b, const spec *f, const char *sign, rt_val text, char align)
{
    int64_t n = (int64_t)strlen(sign) + rt_cp_count(text.u.str, text.n);
    int64_t room = rt_max(f->width - n, 0);
    int64_t left = align == '<' ? 0 : align == '^' ? room / 2 : room;
    bool inside = align == '=' || align == '0';
    rt_buf_puts(m, b, inside ? sign : "");
    for (int64_t i = 0; i < left; i++)
        rt_buf_puts(m, b, f->fill);
    rt_buf_puts(m, b, inside ? "" : sign);
    rt_buf_val(m, b, text);
    for (int64_t i = left; i < room; i++)
        rt_buf_puts(m, b, f->fill);
}

static void put_string(rt_tpl *m, rt_buf *b, const spec *f, rt_val v)
{
    if (f->sign || f->comma || f->align == '=' || f->align == '0' || (f->type && f->type != 's'))
        rt_tpl_fail(m, "format: a string cannot be written so");
    if (f->precision >= 0)
        v.n = (uint32_t)rt_cp_offset(v.u.str, v.n, f->precision);
    pad(m, b, f, "", v, f->align ? f->align : '<');
}

static void put_number(rt_tpl *m, rt_buf *b, const spec *f, rt_val v)
{
    char digits[512], grouped[768];
    double x = 0;
    int64_t i = 0;
    bool whole = rt_val_integer(v, &i) && f->type != 'f', negative;
    if (f->type == 's' || (whole ? f->precision >= 0 : f->type != 'f') || !rt_val_number(v, &x))
        rt_tpl_fail(m, "format: a %s cannot be written so", rt_val_type(v));
    if (!whole && !isfinite(x))
        rt_tpl_fail(m, "format: a number that is not finite");
    negative = whole ? i < 0 : signbit(x);
    if (f->comma && f->align == '0')
        rt_tpl_fail(m, "format: zeros with commas are not supported");
    int n = whole ? snprintf(digits, sizeof digits, "%llu",
                             (unsigned long long)(i < 0 ? 0 - (uint64_t)i : (uint64_t)i))
                  : snprintf(digits, sizeof digits, "%.*f",
                             (int)(f->precision < 0 ? 6 : f->precision), fabs(x));
    const char *point = memchr(digits, '.', (size_t)n);
    int64_t before = point ? point - digits : n, at = 0;
    for (int64_t k = 0; k < n; k++) {
        if (f->comma && k && k < before && (before - k) % 3 == 0)
            grouped[at++] = ',';
        grouped[at++] = digits[k];
    }
    const char *sign = negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
    pad(m, b, f, sign, rt_val_str(grouped, at), f->align ? f->align : '>');
}

static void put_field(rt_tpl *m, rt_buf *b, rt_val v, const char *s, const char *end)
{
    if (s == end) {
        rt_buf_print(m, b, v);
        return;
    }
    spec f = read_spec(m, s, end);
    if (v.kind == V_STR)
        put_string(m, b, &f, v);
    else
        put_number(m, b, &f, v);
}

typedef struct fields {
    const rt_args *args;
    int64_t next; /* of {}; -1 once numbers were given */
    bool counted;
} fields;

/* The value that "0.x[k]" names. */
static rt_val find_field(rt_tpl *m, fields *f, const char *s, const char *end)
{
    const char *at = s;
    rt_val v = rt_val_missing(), key;
    int64_t index = 0;
    while (at < end && *at != '.' && *at != '[')
        at++;
    rt_val name = rt_val_str(s, at - s);
    bool number = name.n && *s >= '0' && *s <= '9' && rt_str_int(name, 10, &index);
    if (!name.n || number) {
        if (name.n ? f->counted : f->next < 0)
            rt_tpl_fail(m, "format: {} and {0} in one string");
        f->counted = f->counted || !name.n;
        index = name.n ? index : f->next++;
        f->next = name.n ? -1 : f->next;
        if (index < f->args->n_pos)
            v = f->args->pos[index];
    }
    for (int i = 0; name.n && !number && i < f->args->n_kw; i++)
        if (rt_str_same(f->args->kw[i].key, name))
            v = f->args->kw[i].value;
    if (v.kind == V_MISSING)
        rt_tpl_fail(m, "format: no argument for {%.*s}", (int)rt_min(name.n, 80), name.u.str);
    while (at < end) {
        bool item = *at++ == '[';
        const char *from = at;
        while (at < end && (item ? *at != ']' : *at != '.' && *at != '['))
            at++;
        key = rt_val_str(from, at - from);
        if (!key.n || (item && at == end))
            rt_tpl_fail(m, "format: an empty attribute");
        at += item;
        number = item && *from >= '0' && *from <= '9' && rt_str_int(key, 10, &index);
        v = item ? rt_val_item(m, v, number ? rt_val_int(index) : key) : rt_val_attr(m, v, key);
    }
    return v;
}

rt_val rt_str_format(rt_tpl *m, rt_val s, const rt_args *args)
{
    fields f = { .args = args };
    rt_buf b = { 0 };
    const char *at = s.u.str, *end = s.u.str + s.n;
    if (s.flag)
        rt_tpl_fail(m, "format of a string marked safe is not supported");
    rt_tpl_scan(m, s.n);
    while (at < end) {
        const char *brace = at;
        while (brace < end && *brace != '{' && *brace != '}')
            brace++;
        rt_buf_add(m, &b, at, brace - at);
        if ((at = brace) == end)
            break;
        if (at + 1 < end && at[1] == *at) {
            rt_buf_add(m, &b, at, 1);
            at += 2;
            continue;
        }
        const char *close = *at == '{' ? memchr(at, '}', (size_t)(end - at)) : NULL;
        const char *name = at + 1, *colon = name;
        if (!close || memchr(name, '{', (size_t)(close - name)))
            rt_tpl_fail(m, "format: a brace without its other half");
        while (colon < close && *colon != ':' && *colon != '!')
            colon++;
        rt_val v = find_field(m, &f, name, colon);
        if (colon < close && *colon == '!') {
            if (colon + 2 > close || colon[1] != 's' || (colon + 2 < close && colon[2] != ':'))
                rt_tpl_fail(m, "format: conversions but !s are not supported");
            v = rt_val_text(m, v);
            colon += 2;
        }
        put_field(m, &b, v, colon < close ? colon + 1 : close, close);
        at = close + 1;
        rt_tpl_step(m, 1);
    }
    return rt_buf_string(m, &b);
}
