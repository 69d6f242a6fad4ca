/* template_json.c: JSON into values of a render, and values out as json.dumps writes them, which is
   transformers' tojson: ensure_ascii off, indent, separators, sort_keys. */
#include "corpora/template_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static rt_val new_text(rt_tpl *m, const char *s)
{
    int64_t n = (int64_t)strlen(s);
    if (rt_utf8_check(s, n) < n)
        return rt_tpl_fail(m, "a string of the context is not UTF-8");
    return rt_val_str(s, n);
}

static rt_val json_children(rt_tpl *m, const cJSON *json, bool object)
{
    int64_t n = 0;
    for (const cJSON *c = json->child; c; c = c->next)
        n++;
    rt_val v = object ? rt_dict_new(m, n) : rt_seq_new(m, SEQ_LIST, n);
    n = 0;
    for (const cJSON *c = json->child; c && !m->failed; c = c->next, n++) {
        rt_val item = rt_val_from_json(m, c);
        if (object) /* cJSON keys are unique (core/json.h), so no search */
            v.u.dict->pair[v.u.dict->n++] = (rt_pair){ new_text(m, c->string), item };
        else
            v.u.seq->item[n] = item;
    }
    return v;
}

rt_val rt_val_from_json(rt_tpl *m, const cJSON *json)
{
    rt_val v = rt_val_none();
    if (m->failed || !rt_tpl_enter(m))
        return v;
    if (cJSON_IsString(json))
        v = new_text(m, json->valuestring);
    else if (cJSON_IsBool(json))
        v = rt_val_bool(cJSON_IsTrue(json));
    else if (cJSON_IsNumber(json) && !rt_json_is_float(json) && fabs(json->valuedouble) < 0x1p53)
        v = rt_val_int((int64_t)json->valuedouble);
    else if (cJSON_IsNumber(json) && !rt_json_is_float(json))
        rt_tpl_fail(m, "an integer of the context is beyond 2^53: pass it as a string");
    else if (cJSON_IsNumber(json))
        v = rt_val_float(json->valuedouble);
    else if (cJSON_IsArray(json) || cJSON_IsObject(json))
        v = json_children(m, json, cJSON_IsObject(json));
    m->steps--; /* the context is not the template's work */
    m->nest--;
    return v;
}

/* ---- json.dumps() ---------------------------------------------------------------------------- */

typedef struct json_style {
    rt_val item, colon, indent; /* indent: V_MISSING for one line */
    bool ascii, sorted;
} json_style;

static void json_str(rt_tpl *m, rt_buf *b, rt_val s, bool ascii)
{
    char text[16];
    uint32_t cp;
    rt_buf_puts(m, b, "\"");
    for (int64_t at = 0; at < s.n && !m->failed;) {
        const char *p = s.u.str + at;
        int len = rt_cp_next(p, s.n - at, &cp);
        const char *known = cp && cp < 128 ? strchr("\"\\\b\f\n\r\t", (int)cp) : NULL;
        at += len;
        if (known) {
            text[0] = '\\';
            text[1] = "\"\\bfnrt"[known - strchr("\"\\\b\f\n\r\t", '"')];
            rt_buf_add(m, b, text, 2);
        } else if (cp < 0x20 || (ascii && cp >= 0x7F)) {
            if (cp >= 0x10000)
                snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD7C0 + (cp >> 10),
                         0xDC00 + (cp & 0x3FF));
            else
                snprintf(text, sizeof text, "\\u%04x", cp);
            rt_buf_puts(m, b, text);
        } else {
            rt_buf_add(m, b, p, len);
        }
    }
    rt_buf_puts(m, b, "\"");
}

static void json_break(rt_tpl *m, rt_buf *b, const json_style *style, int level)
{
    if (style->indent.kind == V_MISSING)
        return;
    rt_buf_puts(m, b, "\n");
    for (int i = 0; i < level && !m->failed; i++)
        rt_buf_add(m, b, style->indent.u.str, style->indent.n);
}

static void json_write(rt_tpl *m, rt_buf *b, rt_val v, const json_style *style, int level);

static void json_key(rt_tpl *m, rt_buf *b, rt_val key, const json_style *style)
{
    if (key.kind == V_STR) {
        json_str(m, b, key, style->ascii);
        return;
    }
    if (key.kind != V_NONE && key.kind != V_BOOL && key.kind != V_INT && key.kind != V_FLOAT) {
        rt_tpl_fail(m, "tojson: a key is a %s, not a string", rt_val_type(key));
        return;
    }
    rt_buf_puts(m, b, "\"");
    json_write(m, b, key, style, 0);
    rt_buf_puts(m, b, "\"");
}

static void json_dict(rt_tpl *m, rt_buf *b, const rt_dict *d, const json_style *style, int level)
{
    const rt_pair *pair = d->pair;
    if (style->sorted && d->n > 1) { /* insertion sort: keys are few; steps are charged by order */
        rt_pair *copy = rt_tpl_take(m, d->n * (int64_t)sizeof *copy);
        for (int64_t i = 0; copy && i < d->n && !m->failed; i++) {
            int64_t j = i;
            for (; j > 0 && !m->failed && rt_val_order(m, d->pair[i].key, copy[j - 1].key) < 0; j--)
                copy[j] = copy[j - 1];
            copy[j] = d->pair[i];
        }
        pair = copy;
    }
    rt_buf_puts(m, b, "{");
    for (int64_t i = 0; i < d->n && !m->failed; i++) {
        if (i)
            rt_buf_add(m, b, style->item.u.str, style->item.n);
        json_break(m, b, style, level + 1);
        json_key(m, b, pair[i].key, style);
        rt_buf_add(m, b, style->colon.u.str, style->colon.n);
        json_write(m, b, pair[i].value, style, level + 1);
    }
    if (d->n)
        json_break(m, b, style, level);
    rt_buf_puts(m, b, "}");
}

static void json_write(rt_tpl *m, rt_buf *b, rt_val v, const json_style *style, int level)
{
    if (!rt_tpl_enter(m))
        return;
    if (v.kind == V_STR) {
        json_str(m, b, v, style->ascii);
    } else if (v.kind == V_NONE) {
        rt_buf_puts(m, b, "null");
    } else if (v.kind == V_BOOL) {
        rt_buf_puts(m, b, v.u.i ? "true" : "false");
    } else if (v.kind == V_FLOAT && !isfinite(v.u.f)) {
        rt_buf_puts(m, b, isnan(v.u.f) ? "NaN" : v.u.f > 0 ? "Infinity" : "-Infinity");
    } else if (v.kind == V_INT || v.kind == V_FLOAT) {
        rt_buf_repr(m, b, v);
    } else if (v.kind == V_DICT) {
        json_dict(m, b, v.u.dict, style, level);
    } else if (v.kind == V_SEQ && v.u.seq->kind <= SEQ_TUPLE) {
        const rt_seq *s = v.u.seq;
        rt_buf_puts(m, b, "[");
        for (int64_t i = 0; i < s->n && !m->failed; i++) {
            if (i)
                rt_buf_add(m, b, style->item.u.str, style->item.n);
            json_break(m, b, style, level + 1);
            json_write(m, b, s->item[i], style, level + 1);
        }
        if (s->n)
            json_break(m, b, style, level);
        rt_buf_puts(m, b, "]");
    } else {
        rt_tpl_fail(m, "tojson: a %s cannot be written as JSON", rt_val_type(v));
    }
    m->nest--;
}

/* arg: ensure_ascii, indent, separators, sort_keys. */
rt_val rt_val_json(rt_tpl *m, rt_val v, const rt_val arg[4])
{
    json_style style = { .ascii = rt_val_truth(m, arg[0]), .sorted = rt_val_truth(m, arg[3]) };
    rt_buf b = { 0 };
    int64_t width;
    if (arg[1].kind == V_STR) {
        style.indent = arg[1];
    } else if (rt_val_integer(arg[1], &width)) {
        style.indent = rt_val_binary(m, '*', rt_val_lit(" "), rt_val_int(width));
    } else if (arg[1].kind != V_MISSING && arg[1].kind != V_NONE) {
        return rt_tpl_fail(m, "tojson: indent is a %s", rt_val_type(arg[1]));
    }
    style.item = rt_val_lit(style.indent.kind == V_MISSING ? ", " : ",");
    style.colon = rt_val_lit(": ");
    if (arg[2].kind != V_MISSING && arg[2].kind != V_NONE) {
        const rt_seq *s = arg[2].kind == V_SEQ ? arg[2].u.seq : NULL;
        if (!s || s->n != 2 || !s->item || s->item[0].kind != V_STR || s->item[1].kind != V_STR)
            return rt_tpl_fail(m, "tojson: separators must be two strings");
        style.item = s->item[0];
        style.colon = s->item[1];
    }
    json_write(m, &b, v, &style, 0);
    return rt_buf_string(m, &b);
}
