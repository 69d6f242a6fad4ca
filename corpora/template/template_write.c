/* template_write.c: values as text: as Python's str() and repr() print them, and as json.dumps
   writes them, which is transformers' tojson; and JSON into values. Refuses: printing what has no
   text of its own (iterators, views, ranges, namespaces, functions). */
#include "corpora/template/template_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <utf8proc.h>

/* ---- JSON into values ------------------------------------------------------------------------ */

static rt_val new_text(rt_tpl *m, const char *s)
{
    int64_t n = (int64_t)strlen(s);
    if (rt_utf8_check(s, n) < n)
        rt_tpl_fail(m, "a string of the context is not UTF-8");
    return rt_val_str(s, n);
}

static rt_val json_children(rt_tpl *m, const cJSON *json, bool object)
{
    int64_t n = 0;
    for (const cJSON *c = json->child; c; c = c->next)
        n++;
    rt_val v = object ? rt_dict_new(m, n) : rt_seq_new(m, SEQ_LIST, n);
    n = 0;
    for (const cJSON *c = json->child; c; c = c->next) {
        rt_val item = rt_val_from_json(m, c);
        if (object) /* cJSON keys are unique (core/base/json.h), so no search */
            v.u.dict->pair[v.u.dict->n++] = (rt_pair){ new_text(m, c->string), item };
        else
            v.u.seq->item[n++] = item;
    }
    return v;
}

rt_val rt_val_from_json(rt_tpl *m, const cJSON *json)
{
    rt_val v = rt_val_none();
    rt_tpl_enter(m);
    if (cJSON_IsString(json))
        v = new_text(m, json->valuestring);
    else if (cJSON_IsBool(json))
        v = rt_val_bool(cJSON_IsTrue(json));
    else if (cJSON_IsNumber(json) && rt_json_is_float(json))
        v = rt_val_float(json->valuedouble);
    else if (cJSON_IsNumber(json) && fabs(json->valuedouble) >= 0x1p53)
        rt_tpl_fail(m, "an integer of the context is beyond 2^53: pass it as a string");
    else if (cJSON_IsNumber(json))
        v = rt_val_int((int64_t)json->valuedouble);
    else if (cJSON_IsArray(json) || cJSON_IsObject(json))
        v = json_children(m, json, cJSON_IsObject(json));
    m->steps--; /* the context is not the template's work */
    m->nest--;
    return v;
}

/* ---- values out ------------------------------------------------------------------------------ */

typedef struct style {
    bool json, ascii, sorted;
    rt_val item, colon, indent; /* indent: V_MISSING for one line */
} style;

/* The shortest digits that read back as f, in Python's layout. */
static void write_float(rt_tpl *m, rt_buf *b, double f)
{
    char text[40], digits[24];
    int n = 0, p = 0;
    do
        snprintf(text, sizeof text, "%.*e", p, fabs(f));
    while (strtod(text, NULL) != fabs(f) && ++p < 17);
    char *e = strchr(text, 'e');
    int exponent = atoi(e + 1);
    for (char *c = text; c < e; c++)
        if (*c != '.')
            digits[n++] = *c;
    digits[n] = 0;
    rt_buf_puts(m, b, signbit(f) ? "-" : "");
    if (exponent < -4 || exponent >= 16) {
        rt_buf_add(m, b, digits, 1);
        rt_buf_puts(m, b, n > 1 ? "." : "");
        rt_buf_puts(m, b, digits + 1);
        snprintf(text, sizeof text, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        rt_buf_puts(m, b, text);
        return;
    }
    for (int i = exponent < 0 ? exponent : 0; i <= exponent || i < n; i++) {
        rt_buf_puts(m, b, i == exponent + 1 ? "." : "");
        rt_buf_add(m, b, i >= 0 && i < n ? digits + i : "0", 1);
    }
    if (n <= exponent + 1)
        rt_buf_puts(m, b, ".0");
}

static bool printable(uint32_t cp)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
    return k == UTF8PROC_CATEGORY_ZS ? cp == ' '
                                     : k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS;
}

static void write_str(rt_tpl *m, rt_buf *b, rt_val s, const style *how)
{
    static const char from[] = "\n\r\t\\\b\f", to[] = "nrt\\bf";
    bool twin = how->json || (s.n && memchr(s.u.str, '\'', s.n) && !memchr(s.u.str, '"', s.n));
    char quote = twin ? '"' : '\'', text[16];
    uint32_t cp;
    rt_buf_add(m, b, &quote, 1);
    for (int64_t at = 0, len; at < s.n; at += len) {
        len = rt_cp_next(s.u.str + at, s.n - at, &cp);
        const char *known = cp && cp < 128 ? strchr(from, (int)cp) : NULL;
        bool plain = how->json ? cp >= 0x20 && (!how->ascii || cp < 0x7F) : printable(cp);
        const char *form = how->json || cp >= 0x100 ? "\\u%04x" : "\\x%02x";
        if (cp == (uint32_t)quote)
            snprintf(text, sizeof text, "\\%c", quote);
        else if (known && (how->json || known < from + 4))
            snprintf(text, sizeof text, "\\%c", to[known - from]);
        else if (plain)
            rt_buf_add(m, b, s.u.str + at, len);
        else if (cp < 0x10000)
            snprintf(text, sizeof text, form, cp);
        else if (how->json)
            snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD7C0 + (cp >> 10),
                     0xDC00 + (cp & 0x3FF));
        else
            snprintf(text, sizeof text, "\\U%08x", cp);
        if (!plain || cp == (uint32_t)quote || cp == '\\')
            rt_buf_puts(m, b, text);
    }
    rt_buf_add(m, b, &quote, 1);
}

static void write_break(rt_tpl *m, rt_buf *b, const style *how, int level)
{
    if (how->indent.kind == V_MISSING)
        return;
    rt_buf_puts(m, b, "\n");
    for (int i = 0; i < level; i++)
        rt_buf_val(m, b, how->indent);
}

static void write_value(rt_tpl *m, rt_buf *b, rt_val v, const style *how, int level);

static void write_key(rt_tpl *m, rt_buf *b, rt_val key, const style *how)
{
    bool quote = how->json && key.kind != V_STR;
    if (quote && (key.kind < V_NONE || key.kind > V_FLOAT))
        rt_tpl_fail(m, "tojson: a key is a %s, not a string", rt_val_type(key));
    rt_buf_puts(m, b, quote ? "\"" : "");
    write_value(m, b, key, how, 0);
    rt_buf_puts(m, b, quote ? "\"" : "");
}

/* The pairs of d by key. Insertion sort: keys are few; steps are charged by order. */
static const rt_pair *sorted_pairs(rt_tpl *m, const rt_dict *d)
{
    rt_pair *copy = rt_tpl_take(m, d->n * (int64_t)sizeof *copy);
    for (int64_t i = 0, j; i < d->n; i++) {
        for (j = i; j > 0 && rt_val_order(m, d->pair[i].key, copy[j - 1].key) < 0; j--)
            copy[j] = copy[j - 1];
        copy[j] = d->pair[i];
    }
    return copy;
}

/* The items of a list, tuple or dict between brackets. */
static void write_items(rt_tpl *m, rt_buf *b, rt_val v, const style *how, int level)
{
    bool dict = v.kind == V_DICT, tuple = !dict && v.u.seq->kind == SEQ_TUPLE && !how->json;
    const rt_pair *pair = !dict ? NULL : how->sorted ? sorted_pairs(m, v.u.dict) : v.u.dict->pair;
    int64_t n = dict ? v.u.dict->n : v.u.seq->n;
    rt_buf_puts(m, b, dict ? "{" : tuple ? "(" : "[");
    for (int64_t i = 0; i < n; i++) {
        if (i)
            rt_buf_val(m, b, how->item);
        write_break(m, b, how, level + 1);
        if (dict) {
            write_key(m, b, pair[i].key, how);
            rt_buf_val(m, b, how->colon);
        }
        write_value(m, b, dict ? pair[i].value : v.u.seq->item[i], how, level + 1);
    }
    if (n)
        write_break(m, b, how, level);
    rt_buf_puts(m, b, dict ? "}" : tuple && n == 1 ? ",)" : tuple ? ")" : "]");
}

static void write_value(rt_tpl *m, rt_buf *b, rt_val v, const style *how, int level)
{
    char text[32];
    bool json = how->json;
    rt_tpl_enter(m);
    if (v.kind == V_STR) {
        rt_buf_puts(m, b, v.flag && !json ? "Markup(" : "");
        write_str(m, b, v, how);
        rt_buf_puts(m, b, v.flag && !json ? ")" : "");
    } else if (v.kind == V_NONE) {
        rt_buf_puts(m, b, json ? "null" : "None");
    } else if (v.kind == V_BOOL) {
        rt_buf_puts(m, b, json ? (v.u.i ? "true" : "false") : (v.u.i ? "True" : "False"));
    } else if (v.kind == V_INT) {
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
        rt_buf_puts(m, b, text);
    } else if (v.kind == V_FLOAT && isfinite(v.u.f)) {
        write_float(m, b, v.u.f);
    } else if (v.kind == V_FLOAT) {
        rt_buf_puts(m, b, v.u.f < 0 ? "-" : "");
        rt_buf_puts(m, b, isnan(v.u.f) ? (json ? "NaN" : "nan") : (json ? "Infinity" : "inf"));
    } else if (v.kind == V_DICT || rt_val_is_list(v)) {
        write_items(m, b, v, how, level);
    } else if (v.kind == V_UNDEF && !json) {
        rt_buf_puts(m, b, "Undefined");
    } else {
        rt_tpl_fail(m,
                    json ? "tojson: a %s cannot be written as JSON" : "a %s has no text of its own",
                    rt_val_type(v));
    }
    m->nest--;
}

void rt_buf_print(rt_tpl *m, rt_buf *b, rt_val v)
{
    style python = { .item = rt_val_lit(", "), .colon = rt_val_lit(": ") };
    if (v.kind == V_STR)
        rt_buf_val(m, b, v);
    else if (v.kind != V_UNDEF)
        write_value(m, b, v, &python, 0);
}

rt_val rt_val_text(rt_tpl *m, rt_val v)
{
    rt_buf b = { 0 };
    if (v.kind == V_STR)
        return v;
    rt_buf_print(m, &b, v);
    return rt_buf_string(m, &b);
}

/* a: ensure_ascii, indent, separators, sort_keys. */
rt_val rt_val_json(rt_tpl *m, rt_val v, const rt_val a[4])
{
    style how = { .json = true, .ascii = rt_val_truth(a[0]), .sorted = rt_val_truth(a[3]) };
    rt_buf b = { 0 };
    int64_t width;
    if (a[1].kind == V_STR)
        how.indent = a[1];
    else if (rt_val_integer(a[1], &width))
        how.indent = rt_val_binary(m, '*', rt_val_lit(" "), a[1]);
    else if (a[1].kind > V_NONE)
        rt_tpl_fail(m, "tojson: indent is a %s", rt_val_type(a[1]));
    how.item = rt_val_lit(how.indent.kind == V_MISSING ? ", " : ",");
    how.colon = rt_val_lit(": ");
    if (a[2].kind > V_NONE) {
        const rt_seq *s = rt_val_is_list(a[2]) ? a[2].u.seq : NULL;
        if (!s || s->n != 2 || s->item[0].kind != V_STR || s->item[1].kind != V_STR)
            rt_tpl_fail(m, "tojson: separators must be two strings");
        how.item = s->item[0];
        how.colon = s->item[1];
    }
    write_value(m, &b, v, &how, 0);
    return rt_buf_string(m, &b);
}
