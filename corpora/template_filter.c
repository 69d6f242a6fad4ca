/* template_filter.c: the filters of jinja2 that chat templates use, one row each. What jinja2 makes
   lazily (map, select, ...) is made at once, but a failure while making an item waits until someone
   reads that far, as a generator's would. Refuses, by name: the filters for HTML, random choice and
   layout of prose. */
#include "corpora/template_impl.h"

#include <math.h>
#include <string.h>

enum { SLOTS = 4 };

bool rt_args_bind(rt_tpl *m, const char *what, const char *spec, const rt_args *args, rt_val *slot)
{
    int n = 0, used_kw = 0;
    bool optional = false, ok = true;
    for (const char *s = spec; *s; n++) {
        optional = optional || *s == '=';
        s += *s == '=';
        int len = (int)strcspn(s, " ");
        slot[n] = n < args->n_pos ? args->pos[n] : rt_val_missing();
        for (int i = 0; i < args->n_kw; i++)
            if (args->kw[i].key.n == (uint32_t)len &&
                !memcmp(args->kw[i].key.u.str, s, (size_t)len)) {
                ok = ok && slot[n].kind == V_MISSING;
                slot[n] = args->kw[i].value;
                used_kw++;
            }
        ok = ok && (optional || slot[n].kind != V_MISSING);
        s += len + (s[len] == ' ');
    }
    if (!ok || args->n_pos > n || used_kw < args->n_kw)
        rt_tpl_fail(m, "%s: wrong arguments, it takes (%s)", what, spec);
    return !m->failed;
}

/* ---- helpers --------------------------------------------------------------------------------- */

static rt_val fold(rt_tpl *m, rt_val v, bool sensitive)
{
    return sensitive || v.kind != V_STR ? v : rt_str_case(m, v, CASE_LOWER, CASE_LOWER);
}

/* item["a"]["b"][0] for attribute "a.b.0". fallback replaces what is undefined on the way. */
static rt_val get_path(rt_tpl *m, rt_val item, rt_val path, rt_val fallback)
{
    if (path.kind != V_STR)
        return path.kind == V_NONE || path.kind == V_MISSING ? item : rt_val_item(m, item, path);
    for (int64_t at = 0; at <= path.n && !m->failed;) {
        const char *s = path.u.str + at, *dot = memchr(s, '.', (size_t)(path.n - at));
        rt_val part = rt_val_str(s, dot ? dot - s : path.n - at);
        int64_t index;
        bool number = part.n > 0 && rt_str_int(part, 10, &index);
        for (uint32_t i = 0; i < part.n; i++)
            number = number && s[i] >= '0' && s[i] <= '9';
        item = rt_val_item(m, item, number ? rt_val_int(index) : part);
        if (item.kind == V_UNDEF && fallback.kind > V_NONE)
            item = fallback;
        at += part.n + 1;
    }
    return item;
}

/* The sort key: a list of one value for each attribute of "a,b". */
static rt_val get_key(rt_tpl *m, rt_val item, rt_val attribute, bool sensitive)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    for (int64_t at = 0; at <= attribute.n && !m->failed;) {
        rt_val path = attribute;
        if (attribute.kind == V_STR) {
            const char *s = attribute.u.str + at,
                       *comma = memchr(s, ',', (size_t)(attribute.n - at));
            path = rt_val_str(s, comma ? comma - s : attribute.n - at);
        }
        rt_val v = get_path(m, item, path, rt_val_missing());
        list = rt_seq_push(m, list, fold(m, v, sensitive));
        at += attribute.kind == V_STR ? path.n + 1 : 1;
    }
    return list;
}

static rt_val once(rt_tpl *m, rt_val list)
{
    rt_val v = rt_seq_new(m, SEQ_ONCE, 0);
    if (!m->failed) {
        *v.u.seq = *list.u.seq;
        v.u.seq->kind = SEQ_ONCE;
        v.u.seq->pos = 0;
    }
    return v;
}

static rt_val to_list(rt_tpl *m, rt_val v)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val list = rt_seq_new(m, SEQ_LIST, 0), item;
    for (int64_t i = 0; s && rt_seq_next(m, s, &i, &item);)
        list = rt_seq_push(m, list, item);
    return list;
}

/* Stable merge sort of list by key (both lists of n values); the result is a new list. */
static rt_val sort_by(rt_tpl *m, rt_val list, rt_val key, bool reverse)
{
    int64_t n = list.u.seq->n;
    rt_pair *from = rt_tpl_take(m, n * (int64_t)sizeof *from);
    rt_pair *to = rt_tpl_take(m, n * (int64_t)sizeof *to);
    rt_val out = rt_seq_new(m, SEQ_LIST, n);
    if (m->failed)
        return out;
    for (int64_t i = 0; i < n; i++)
        from[i] = (rt_pair){ key.u.seq->item[i], list.u.seq->item[i] };
    for (int64_t width = 1; width < n && !m->failed; width *= 2) {
        for (int64_t lo = 0; lo < n && !m->failed; lo += 2 * width) {
            int64_t mid = rt_min(lo + width, n), hi = rt_min(mid + width, n), a = lo, b = mid;
            for (int64_t k = lo; k < hi; k++) {
                bool right = a >= mid;
                if (!right && b < hi)
                    right = rt_val_order(m, from[b].key, from[a].key) == (reverse ? 1 : -1);
                to[k] = right ? from[b++] : from[a++];
            }
        }
        rt_pair *swap = from;
        from = to;
        to = swap;
    }
    for (int64_t i = 0; i < n; i++)
        out.u.seq->item[i] = from[i].value;
    return out;
}

/* ---- values ---------------------------------------------------------------------------------- */

typedef rt_val filter_fn(rt_tpl *m, rt_val v, const rt_val *a, const rt_args *raw);
#define SPARE __attribute__((unused)) /* not every row needs every argument */
#define FILTER(name)                                                                               \
    static rt_val name(rt_tpl *m SPARE, rt_val v SPARE, const rt_val *a SPARE,                     \
                       const rt_args *raw SPARE)

FILTER(do_abs)
{
    if (v.kind == V_FLOAT)
        return rt_val_float(fabs(v.u.f));
    if ((v.kind != V_INT && v.kind != V_BOOL) || v.u.i == INT64_MIN)
        return rt_tpl_fail(m, "abs of a %s", rt_val_type(v));
    return rt_val_int(v.u.i < 0 ? -v.u.i : v.u.i);
}

FILTER(do_default)
{
    bool use = v.kind == V_UNDEF || (rt_val_truth(m, a[1]) && !rt_val_truth(m, v));
    return !use ? v : a[0].kind == V_MISSING ? rt_val_lit("") : a[0];
}

FILTER(do_int)
{
    rt_val fallback = a[0].kind == V_MISSING ? rt_val_int(0) : a[0];
    int64_t i, base = 10;
    double f = NAN;
    if (v.kind == V_UNDEF)
        return rt_undef_fail(m, v);
    if (a[1].kind != V_MISSING && (!rt_val_integer(a[1], &base) || base < 2 || base > 36))
        return rt_tpl_fail(m, "int: base must be 2 to 36");
    if (rt_val_integer(v, &i) || (v.kind == V_STR && rt_str_int(v, (int)base, &i)))
        return rt_val_int(i);
    if (v.kind == V_FLOAT && isinf(v.u.f))
        return rt_tpl_fail(m, "int of infinity");
    if (v.kind == V_FLOAT)
        f = v.u.f;
    else if (v.kind != V_STR || !rt_str_float(v, &f))
        return fallback;
    if (!isfinite(f))
        return fallback;
    return fabs(f) < 0x1p63 ? rt_val_int((int64_t)f) : rt_tpl_fail(m, "integer beyond 64 bits");
}

FILTER(do_float)
{
    double f;
    if (v.kind == V_UNDEF)
        return rt_undef_fail(m, v);
    if (rt_val_number(v, &f) || (v.kind == V_STR && rt_str_float(v, &f)))
        return rt_val_float(f);
    return a[0].kind == V_MISSING ? rt_val_float(0) : a[0];
}

FILTER(do_length) { return rt_val_int(rt_val_length(m, v)); }
FILTER(do_string) { return rt_val_text(m, v); }
FILTER(do_upper) { return rt_str_case(m, rt_val_text(m, v), CASE_UPPER, CASE_UPPER); }
FILTER(do_lower) { return rt_str_case(m, rt_val_text(m, v), CASE_LOWER, CASE_LOWER); }
FILTER(do_capitalize) { return rt_str_case(m, rt_val_text(m, v), CASE_TITLE, CASE_LOWER); }
FILTER(do_escape) { return rt_str_escape(m, rt_val_text(m, v)); }
FILTER(do_tojson) { return rt_val_json(m, v, a); }

FILTER(do_safe)
{
    v = rt_val_text(m, v);
    v.flag = 1;
    return v;
}

FILTER(do_trim) { return rt_str_strip(m, rt_val_text(m, v), a[0], 3); }

FILTER(do_title)
{
    rt_val s = rt_val_text(m, v);
    rt_buf b = { 0 };
    uint32_t cp;
    bool begin = true;
    rt_tpl_scan(m, s.n);
    for (int64_t at = 0; at < s.n && !m->failed;) {
        int len = rt_cp_next(s.u.str + at, s.n - at, &cp);
        rt_buf_case(m, &b, s, at, at + len, begin ? CASE_UPPER : CASE_LOWER);
        begin = rt_cp_space(cp) || (cp && cp < 128 && strchr("-({[<", (int)cp));
        at += len;
    }
    return rt_buf_string(m, &b);
}

FILTER(do_replace)
{
    int64_t count = -1;
    rt_val s = rt_val_text(m, v), from = rt_val_text(m, a[0]), to = rt_val_text(m, a[1]);
    if (a[2].kind > V_NONE && !rt_val_integer(a[2], &count))
        return rt_tpl_fail(m, "replace: count must be an integer");
    s.flag = 0;
    return rt_str_replace(m, s, from, to, count);
}

FILTER(do_indent)
{
    int64_t width = 4;
    bool first = rt_val_truth(m, a[1]), blank = rt_val_truth(m, a[2]);
    if (v.kind != V_STR)
        return v.kind == V_UNDEF ? rt_undef_fail(m, v) : rt_tpl_fail(m, "indent needs a string");
    if (a[0].kind > V_NONE && a[0].kind != V_STR && !rt_val_integer(a[0], &width))
        return rt_tpl_fail(m, "indent: width must be an integer or a string");
    rt_val by = a[0].kind == V_STR ? a[0]
                                   : rt_val_binary(m, '*', rt_val_lit(" "), rt_val_int(width));
    rt_val lines = rt_str_lines(m, rt_val_concat(m, v, rt_val_lit("\n")), false);
    rt_buf b = { 0 };
    for (int64_t i = 0; !m->failed && i < lines.u.seq->n; i++) {
        rt_val line = lines.u.seq->item[i];
        rt_buf_puts(m, &b, i ? "\n" : "");
        if (i ? line.n || blank : first)
            rt_buf_add(m, &b, by.u.str, by.n);
        rt_buf_add(m, &b, line.u.str, line.n);
    }
    return rt_buf_string(m, &b);
}

/* ---- sequences ------------------------------------------------------------------------------- */

FILTER(do_list) { return to_list(m, v); }

FILTER(do_first)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val item;
    int64_t i = 0;
    if (s && rt_seq_next(m, s, &i, &item))
        return item;
    return rt_val_undef(UNDEF_HINT, rt_val_lit("no first item, the sequence was empty"));
}

FILTER(do_last)
{
    if (v.kind == V_SEQ && v.u.seq->kind == SEQ_ONCE)
        return rt_tpl_fail(m, "an iterator has no last item: pass it through |list first");
    rt_seq *s = rt_val_iterate(m, v);
    if (s && s->n)
        return rt_seq_at(s, s->n - 1);
    return rt_val_undef(UNDEF_HINT, rt_val_lit("no last item, the sequence was empty"));
}

FILTER(do_reverse)
{
    rt_val list = to_list(m, v);
    bool was_once = v.kind == V_SEQ && v.u.seq->kind == SEQ_ONCE;
    if (m->failed)
        return list;
    rt_val out = rt_seq_new(m, SEQ_LIST, list.u.seq->n);
    rt_buf b = { 0 };
    for (int64_t i = 0, n = list.u.seq->n; i < n && !m->failed; i++) {
        rt_val item = out.u.seq->item[i] = list.u.seq->item[n - 1 - i];
        if (v.kind == V_STR)
            rt_buf_add(m, &b, item.u.str, item.n);
    }
    if (v.kind == V_STR)
        return rt_buf_string(m, &b);
    return was_once || m->failed ? out : once(m, out);
}

FILTER(do_join)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val item, by = a[0].kind == V_MISSING ? rt_val_lit("") : rt_val_text(m, a[0]);
    rt_buf b = { 0 };
    for (int64_t i = 0; s && rt_seq_next(m, s, &i, &item);) {
        if (i > 1)
            rt_buf_add(m, &b, by.u.str, by.n);
        rt_buf_print(m, &b, get_path(m, item, a[1], rt_val_missing()));
    }
    return rt_buf_string(m, &b);
}

FILTER(do_items)
{
    if (v.kind != V_DICT && v.kind != V_UNDEF)
        return rt_tpl_fail(m, "items of a %s", rt_val_type(v));
    rt_args none = { 0 };
    rt_val list = v.kind == V_UNDEF
                      ? rt_seq_new(m, SEQ_LIST, 0)
                      : rt_method_call(m, v, rt_method_find(m, v, rt_val_lit("items")), &none);
    return once(m, list);
}

FILTER(do_sort)
{
    rt_val list = to_list(m, v), keys = rt_seq_new(m, SEQ_LIST, m->failed ? 0 : list.u.seq->n);
    for (int64_t i = 0; !m->failed && i < list.u.seq->n; i++)
        keys.u.seq->item[i] = get_key(m, list.u.seq->item[i], a[2], rt_val_truth(m, a[1]));
    return m->failed ? v : sort_by(m, list, keys, rt_val_truth(m, a[0]));
}

FILTER(do_dictsort)
{
    bool value = rt_val_is(a[1], "value"), sensitive = rt_val_truth(m, a[0]);
    if (v.kind != V_DICT || (!value && a[1].kind != V_MISSING && !rt_val_is(a[1], "key")))
        return v.kind == V_UNDEF ? rt_undef_fail(m, v)
                                 : rt_tpl_fail(m, "dictsort needs a dict, by \"key\" or \"value\"");
    rt_val list = to_list(m, do_items(m, v, NULL, NULL));
    rt_val keys = rt_seq_new(m, SEQ_LIST, v.u.dict->n);
    for (int64_t i = 0; !m->failed && i < v.u.dict->n; i++)
        keys.u.seq->item[i] = fold(m, value ? v.u.dict->pair[i].value : v.u.dict->pair[i].key,
                                   sensitive);
    return m->failed ? v : sort_by(m, list, keys, rt_val_truth(m, a[2]));
}

FILTER(do_unique)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val seen = rt_dict_new(m, 0), list = rt_seq_new(m, SEQ_LIST, 0), item;
    for (int64_t i = 0; s && rt_seq_next(m, s, &i, &item);) {
        rt_val key = get_path(m, item, a[1], rt_val_missing());
        key = fold(m, key, rt_val_truth(m, a[0]));
        int64_t before = m->failed ? 0 : seen.u.dict->n;
        rt_dict_put(m, seen.u.dict, key, rt_val_none());
        if (!m->failed && seen.u.dict->n > before)
            list = rt_seq_push(m, list, item);
    }
    return m->failed ? v : once(m, list);
}

static rt_val extreme(rt_tpl *m, rt_val v, const rt_val *a, int want)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val best = rt_val_undef(UNDEF_HINT, rt_val_lit("the sequence was empty")), best_key = best;
    rt_val item;
    for (int64_t i = 0; s && rt_seq_next(m, s, &i, &item);) {
        rt_val key = fold(m, get_path(m, item, a[1], rt_val_missing()), rt_val_truth(m, a[0]));
        if (i > 1 && rt_val_order(m, key, best_key) != want)
            continue;
        best = item;
        best_key = key;
    }
    return best;
}
FILTER(do_min) { return extreme(m, v, a, -1); }
FILTER(do_max) { return extreme(m, v, a, 1); }

FILTER(do_sum)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val item, sum = a[1].kind == V_MISSING ? rt_val_int(0) : a[1];
    if (sum.kind == V_STR)
        return rt_tpl_fail(m, "sum of strings: use |join");
    for (int64_t i = 0; s && rt_seq_next(m, s, &i, &item);)
        sum = rt_val_binary(m, '+', sum, get_path(m, item, a[0], rt_val_missing()));
    return sum;
}

/* One item of map, select, ... : the value to keep; V_MISSING drops it. */
static rt_val one_item(rt_tpl *m, int mode, rt_val item, const rt_args *raw)
{
    bool attribute = mode == 'a' || mode == 'r', reject = mode == 'R' || mode == 'r';
    int skip = attribute ? 2 : 1;
    rt_val v = attribute ? get_path(m, item, raw->pos[0], rt_val_missing()) : item, slot[2];
    rt_args rest = *raw;
    rest.pos += rt_min(skip, raw->n_pos);
    rest.n_pos -= (int)rt_min(skip, raw->n_pos);
    if (mode == 'm' && !raw->n_pos) {
        if (!rt_args_bind(m, "map", "attribute =default", raw, slot))
            return item;
        return get_path(m, item, slot[0], slot[1]);
    }
    if (raw->n_pos < skip)
        return rt_val_truth(m, v) != reject ? item : rt_val_missing();
    rt_val name = raw->pos[skip - 1];
    int row = name.kind != V_STR ? -1 : mode == 'm' ? rt_filter_find(name) : rt_test_find(name);
    if (row < 0)
        return rt_tpl_fail(m, "no %s named '%.*s'", mode == 'm' ? "filter" : "test",
                           (int)rt_min(name.n, 80), name.kind == V_STR ? name.u.str : "");
    if (mode == 'm')
        return rt_filter_apply(m, row, v, &rest);
    return rt_test_apply(m, row, v, &rest) != reject ? item : rt_val_missing();
}

rt_val rt_seq_late(rt_tpl *m, rt_val list, rt_err *late, rt_err *outer)
{
    m->err = outer;
    if (m->failed && m->spent)
        *outer = *late;
    if (m->spent || !m->failed)
        return m->failed ? list : once(m, list);
    m->failed = false;
    list = once(m, list);
    char *text = rt_tpl_take(m, (int64_t)strlen(late->text) + 1);
    if (text)
        list.u.seq->failure = strcpy(text, late->text);
    return list;
}

static rt_val each(rt_tpl *m, rt_val v, const rt_args *raw, int mode)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, 0), item;
    rt_err *outer = m->err, late = { 0 };
    if (!rt_val_truth(m, v))
        return once(m, list);
    if ((mode == 'a' || mode == 'r') && !raw->n_pos)
        return rt_tpl_fail(m, "the name of an attribute is missing");
    rt_seq *s = rt_val_iterate(m, v);
    if (!s)
        return list;
    m->err = &late;
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        rt_val kept = one_item(m, mode, item, raw);
        if (kept.kind != V_MISSING)
            list = rt_seq_push(m, list, kept);
    }
    return rt_seq_late(m, list, &late, outer);
}

FILTER(do_map) { return each(m, v, raw, 'm'); }
FILTER(do_select) { return each(m, v, raw, 's'); }
FILTER(do_reject) { return each(m, v, raw, 'R'); }
FILTER(do_selectattr) { return each(m, v, raw, 'a'); }
FILTER(do_rejectattr) { return each(m, v, raw, 'r'); }

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
    const char *name, *spec; /* spec NULL: the filter reads its arguments itself */
    filter_fn *fn;
} FILTERS[] = {
    { "abs", "", do_abs },
    { "capitalize", "", do_capitalize },
    { "count", "", do_length },
    { "d", "=default_value boolean", do_default },
    { "default", "=default_value boolean", do_default },
    { "dictsort", "=case_sensitive by reverse", do_dictsort },
    { "e", "", do_escape },
    { "escape", "", do_escape },
    { "first", "", do_first },
    { "float", "=default", do_float },
    { "forceescape", "", do_escape },
    { "indent", "=width first blank", do_indent },
    { "int", "=default base", do_int },
    { "items", "", do_items },
    { "join", "=d attribute", do_join },
    { "last", "", do_last },
    { "length", "", do_length },
    { "list", "", do_list },
    { "lower", "", do_lower },
    { "map", NULL, do_map },
    { "max", "=case_sensitive attribute", do_max },
    { "min", "=case_sensitive attribute", do_min },
    { "reject", NULL, do_reject },
    { "rejectattr", NULL, do_rejectattr },
    { "replace", "old new =count", do_replace },
    { "reverse", "", do_reverse },
    { "safe", "", do_safe },
    { "select", NULL, do_select },
    { "selectattr", NULL, do_selectattr },
    { "sort", "=reverse case_sensitive attribute", do_sort },
    { "string", "", do_string },
    { "sum", "=attribute start", do_sum },
    { "title", "", do_title },
    { "tojson", "=ensure_ascii indent separators sort_keys", do_tojson },
    { "trim", "=chars", do_trim },
    { "unique", "=case_sensitive attribute", do_unique },
    { "upper", "", do_upper },
};

/* jinja2 has these too. */
static const char *const REFUSED[] = { "attr",      "batch",   "center",    "filesizeformat",
                                       "format",    "groupby", "pprint",    "random",
                                       "round",     "slice",   "striptags", "truncate",
                                       "urlencode", "urlize",  "wordcount", "wordwrap",
                                       "xmlattr" };

int rt_filter_find(rt_val name)
{
    for (int i = 0; i < RT_COUNT(FILTERS); i++)
        if (rt_val_is(name, FILTERS[i].name))
            return i;
    for (int i = 0; i < RT_COUNT(REFUSED); i++)
        if (rt_val_is(name, REFUSED[i]))
            return -2;
    return -1;
}

rt_val rt_filter_apply(rt_tpl *m, int row, rt_val v, const rt_args *args)
{
    rt_val slot[SLOTS];
    for (int i = 0; i < SLOTS; i++)
        slot[i] = rt_val_missing();
    if (FILTERS[row].spec && !rt_args_bind(m, FILTERS[row].name, FILTERS[row].spec, args, slot))
        return v;
    return m->failed ? v : FILTERS[row].fn(m, v, slot, args);
}
