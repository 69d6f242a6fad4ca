/* template_filter.c: the filters of jinja2 that chat templates use, one row each. What jinja2 makes
   lazily (map, select, ...) is made at once, so an item that fails does so even when nobody reads
   it. Refuses: the filters for HTML, random choice and layout of prose, several sort keys. */
#include "corpora/template/template_builtin.h"

#include <math.h>

/* ---- helpers --------------------------------------------------------------------------------- */

/* item["a"]["b"][0] for attribute "a.b.0". fallback replaces what is undefined on the way. */
static rt_val get_path(rt_tpl *m, rt_val item, rt_val path, rt_val fallback)
{
    if (path.kind != V_STR)
        return path.kind <= V_NONE ? item : rt_val_item(m, item, path);
    for (int64_t at = 0, n; at <= path.n; at += n + 1) {
        const char *s = path.u.str + at, *dot = memchr(s, '.', (size_t)(path.n - at));
        n = dot ? dot - s : path.n - at;
        rt_val part = rt_val_str(s, n);
        int64_t index;
        bool number = n > 0 && *s >= '0' && *s <= '9' && rt_str_int(part, 10, &index);
        item = rt_val_item(m, item, number ? rt_val_int(index) : part);
        if (item.kind == V_UNDEF && fallback.kind > V_NONE)
            item = fallback;
    }
    return item;
}

/* What an item is sorted or compared by. */
static rt_val get_key(rt_tpl *m, rt_val item, rt_val attribute, rt_val sensitive)
{
    rt_val v = get_path(m, item, attribute, rt_val_missing());
    return v.kind != V_STR || rt_val_truth(sensitive) ? v
                                                      : rt_str_case(m, v, CASE_LOWER, CASE_LOWER);
}

static rt_val to_list(rt_tpl *m, rt_val v)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val list = rt_seq_new(m, SEQ_LIST, 0), item;
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);)
        list = rt_seq_push(m, list, item);
    return list;
}

/* Stable merge sort of list by key (both lists of n values); the result is a new list. */
static rt_val sort_by(rt_tpl *m, const rt_seq *list, const rt_seq *key, bool reverse)
{
    int64_t n = list->n;
    rt_pair *from = rt_tpl_take(m, n * (int64_t)sizeof *from);
    rt_pair *to = rt_tpl_take(m, n * (int64_t)sizeof *to);
    rt_val out = rt_seq_new(m, SEQ_LIST, n);
    for (int64_t i = 0; i < n; i++)
        from[i] = (rt_pair){ key->item[i], list->item[i] };
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t lo = 0; lo < n; lo += 2 * width) {
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

BUILTIN(do_default)
{
    bool use = self.kind == V_UNDEF || (rt_val_truth(a[1]) && !rt_val_truth(self));
    return !use ? self : a[0].kind == V_MISSING ? rt_val_lit("") : a[0];
}

BUILTIN(do_int)
{
    int64_t i, base = 10;
    double f = NAN;
    if (self.kind == V_UNDEF)
        rt_undef_fail(m, self);
    if (a[1].kind != V_MISSING && (!rt_val_integer(a[1], &base) || (base != 10 && base != 16)))
        rt_tpl_fail(m, "int: base must be 10 or 16");
    if (rt_val_integer(self, &i) || (self.kind == V_STR && rt_str_int(self, (int)base, &i)))
        return rt_val_int(i);
    if (self.kind == V_FLOAT && isinf(self.u.f))
        rt_tpl_fail(m, "int of infinity");
    if (self.kind == V_STR && !rt_str_float(self, &f))
        f = NAN;
    if (self.kind == V_FLOAT)
        f = self.u.f;
    if (!isfinite(f))
        return a[0].kind == V_MISSING ? rt_val_int(0) : a[0];
    return fabs(f) < 0x1p63 ? rt_val_int((int64_t)f) : rt_tpl_fail(m, "integer beyond 64 bits");
}

BUILTIN(do_length) { return rt_val_int(rt_val_length(m, self)); }
BUILTIN(do_string) { return rt_val_text(m, self); }
BUILTIN(do_upper) { return rt_str_case(m, rt_val_text(m, self), CASE_UPPER, CASE_UPPER); }
BUILTIN(do_lower) { return rt_str_case(m, rt_val_text(m, self), CASE_LOWER, CASE_LOWER); }
BUILTIN(do_capitalize) { return rt_str_case(m, rt_val_text(m, self), CASE_TITLE, CASE_LOWER); }
BUILTIN(do_title) { return rt_str_title(m, rt_val_text(m, self), true); }
BUILTIN(do_tojson) { return rt_val_json(m, self, a); }
BUILTIN(do_trim) { return rt_str_strip(m, rt_val_text(m, self), a[0], 3); }

BUILTIN(do_safe)
{
    self = rt_val_text(m, self);
    self.flag = 1;
    return self;
}

BUILTIN(do_replace)
{
    return rt_str_replace(m, rt_val_text(m, self), rt_val_text(m, a[0]), rt_val_text(m, a[1]),
                          a[2]);
}

BUILTIN(do_indent)
{
    rt_val by = a[0].kind == V_MISSING ? rt_val_int(4) : a[0];
    if (self.kind != V_STR)
        rt_tpl_fail(m, "indent needs a string, not a %s", rt_val_type(self));
    if (by.kind != V_STR)
        by = rt_val_binary(m, '*', by, rt_val_lit(" "));
    rt_val lines = rt_str_lines(m, rt_val_concat(m, self, rt_val_lit("\n")));
    rt_buf b = { 0 };
    for (int64_t i = 0; i < lines.u.seq->n; i++) {
        rt_val line = lines.u.seq->item[i];
        rt_buf_puts(m, &b, i ? "\n" : "");
        if (i ? line.n || rt_val_truth(a[2]) : rt_val_truth(a[1]))
            rt_buf_val(m, &b, by);
        rt_buf_val(m, &b, line);
    }
    return rt_buf_string(m, &b);
}

BUILTIN(do_escape) { return rt_str_escape(m, rt_val_text(m, self)); }

BUILTIN(do_forceescape)
{
    self = rt_val_text(m, self);
    self.flag = 0;
    return rt_str_escape(m, self);
}

BUILTIN(do_abs)
{
    int64_t i;
    if (self.kind == V_FLOAT)
        return rt_val_float(fabs(self.u.f));
    if (!rt_val_integer(self, &i))
        rt_tpl_fail(m, "abs of a %s", rt_val_type(self));
    return i == INT64_MIN ? rt_tpl_fail(m, "integer beyond 64 bits") : rt_val_int(i < 0 ? -i : i);
}

/* ---- sequences ------------------------------------------------------------------------------- */

BUILTIN(do_list) { return to_list(m, self); }

BUILTIN(do_first)
{
    rt_val item;
    int64_t i = 0;
    return rt_seq_next(m, rt_val_iterate(m, self), &i, &item)
               ? item
               : rt_val_hint("no first item, the sequence was empty");
}

BUILTIN(do_last)
{
    const rt_seq *s = rt_val_iterate(m, self);
    if (s->kind == SEQ_ONCE)
        rt_tpl_fail(m, "an iterator has no last item: pass it through |list first");
    return s->n ? rt_seq_at(s, s->n - 1) : rt_val_hint("no last item, the sequence was empty");
}

BUILTIN(do_reverse)
{
    const rt_seq *list = to_list(m, self).u.seq;
    bool once = self.kind != V_SEQ || self.u.seq->kind != SEQ_ONCE;
    rt_val out = rt_seq_new(m, once ? SEQ_ONCE : SEQ_LIST, list->n);
    rt_buf b = { 0 };
    for (int64_t i = 0, n = list->n; i < n; i++) {
        out.u.seq->item[i] = list->item[n - 1 - i];
        if (self.kind == V_STR)
            rt_buf_val(m, &b, out.u.seq->item[i]);
    }
    return self.kind == V_STR ? rt_buf_string(m, &b) : out;
}

BUILTIN(do_join)
{
    rt_seq *s = rt_val_iterate(m, self);
    rt_val item, by = a[0].kind == V_MISSING ? rt_val_lit("") : rt_val_text(m, a[0]);
    rt_buf b = { 0 };
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        if (i > 1)
            rt_buf_val(m, &b, by);
        rt_buf_print(m, &b, get_path(m, item, a[1], rt_val_missing()));
    }
    return rt_buf_string(m, &b);
}

BUILTIN(do_items)
{
    if (self.kind != V_DICT && self.kind != V_UNDEF)
        rt_tpl_fail(m, "items of a %s", rt_val_type(self));
    rt_val items = rt_seq_new(m, SEQ_ONCE, 0);
    if (self.kind == V_UNDEF)
        return items;
    items = rt_builtin_call(m, rt_method_find(self, rt_val_lit("items")), self, &(rt_args){ 0 });
    return rt_seq_as(m, SEQ_ONCE, items.u.seq);
}

BUILTIN(do_sort)
{
    const rt_seq *list = to_list(m, self).u.seq;
    rt_seq *keys = rt_seq_new(m, SEQ_LIST, list->n).u.seq;
    if (a[2].kind == V_STR && a[2].n && memchr(a[2].u.str, ',', a[2].n))
        rt_tpl_fail(m, "sort by several attributes is not supported: sort twice");
    for (int64_t i = 0; i < list->n; i++)
        keys->item[i] = get_key(m, list->item[i], a[2], a[1]);
    return sort_by(m, list, keys, rt_val_truth(a[0]));
}

/* The first of the least (want -1) or greatest (1) items. */
static rt_val extreme(rt_tpl *m, rt_val v, const rt_val a[4], int want)
{
    rt_seq *s = rt_val_iterate(m, v);
    rt_val item, best;
    int64_t i = 0;
    if (!rt_seq_next(m, s, &i, &best))
        return rt_val_hint("no least or greatest item, the sequence was empty");
    rt_val least = get_key(m, best, a[1], a[0]);
    while (rt_seq_next(m, s, &i, &item)) {
        rt_val key = get_key(m, item, a[1], a[0]);
        if (rt_val_order(m, key, least) == want) {
            best = item;
            least = key;
        }
    }
    return best;
}
BUILTIN(do_min) { return extreme(m, self, a, -1); }
BUILTIN(do_max) { return extreme(m, self, a, 1); }

BUILTIN(do_unique)
{
    rt_seq *s = rt_val_iterate(m, self);
    rt_val list = rt_seq_new(m, SEQ_ONCE, 0), seen = rt_dict_new(m, 0), item;
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        rt_val key = get_key(m, item, a[1], a[0]);
        if (rt_dict_find(m, seen.u.dict, key))
            continue;
        rt_dict_put(m, seen.u.dict, key, rt_val_none());
        list = rt_seq_push(m, list, item);
    }
    return list;
}

BUILTIN(do_sum)
{
    rt_seq *s = rt_val_iterate(m, self);
    rt_val item, sum = a[1].kind == V_MISSING ? rt_val_int(0) : a[1];
    if (sum.kind == V_STR)
        rt_tpl_fail(m, "sum cannot join strings: use join");
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);)
        sum = rt_val_binary(m, '+', sum, get_path(m, item, a[0], rt_val_missing()));
    return sum;
}

BUILTIN(do_dictsort)
{
    bool value = rt_val_is(a[1], "value");
    if (self.kind == V_UNDEF)
        rt_undef_fail(m, self);
    if (self.kind != V_DICT || (!value && a[1].kind != V_MISSING && !rt_val_is(a[1], "key")))
        rt_tpl_fail(m, "dictsort needs a dict, by \"key\" or \"value\"");
    const rt_seq *list = do_items(m, self, NULL, NULL).u.seq;
    rt_seq *keys = rt_seq_new(m, SEQ_LIST, list->n).u.seq;
    for (int64_t i = 0; i < list->n; i++)
        keys->item[i] = get_key(m, list->item[i], rt_val_int(value), a[0]);
    return sort_by(m, list, keys, rt_val_truth(a[2]));
}

/* The row that the argument `at` of map, select, ... names. */
static const rt_builtin *named(rt_tpl *m, const rt_builtin *table, const rt_args *raw, int at)
{
    const rt_builtin *fn = rt_builtin_find(table, raw->pos[at]);
    if (!fn)
        rt_tpl_fail(m, "there is no filter or test of that name in chat templates");
    return fn;
}

/* The arguments after the first n. */
static rt_args after(const rt_args *raw, int n)
{
    rt_args rest = *raw;
    rest.pos += n;
    rest.n_pos -= n;
    return rest;
}

BUILTIN(do_map)
{
    static const rt_builtin by_attribute = { "map", "attribute =default", NULL };
    rt_val list = rt_seq_new(m, SEQ_ONCE, 0), item, slot[4] = { { 0 } };
    if (!rt_val_truth(self))
        return list;
    rt_seq *s = rt_val_iterate(m, self);
    const rt_builtin *fn = raw->n_pos ? named(m, rt_filters, raw, 0) : NULL;
    rt_args rest = after(raw, fn != NULL);
    if (!fn)
        rt_builtin_bind(m, &by_attribute, raw, slot);
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);)
        list = rt_seq_push(m, list,
                           fn ? rt_builtin_call(m, fn, item, &rest)
                              : get_path(m, item, slot[0], slot[1]));
    return list;
}

/* select, reject and their kin by attribute: the items whose test says `keep`. */
static rt_val choose(rt_tpl *m, rt_val v, const rt_args *raw, bool attribute, bool keep)
{
    rt_val list = rt_seq_new(m, SEQ_ONCE, 0), item;
    if (!rt_val_truth(v))
        return list;
    if (raw->n_pos < attribute)
        rt_tpl_fail(m, "the name of an attribute is missing");
    rt_seq *s = rt_val_iterate(m, v);
    const rt_builtin *fn = raw->n_pos > attribute ? named(m, rt_tests, raw, attribute) : NULL;
    rt_args rest = after(raw, attribute + (fn != NULL));
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        rt_val of = attribute ? get_path(m, item, raw->pos[0], rt_val_missing()) : item;
        if (rt_val_truth(fn ? rt_builtin_call(m, fn, of, &rest) : of) == keep)
            list = rt_seq_push(m, list, item);
    }
    return list;
}
BUILTIN(do_select) { return choose(m, self, raw, false, true); }
BUILTIN(do_reject) { return choose(m, self, raw, false, false); }
BUILTIN(do_selectattr) { return choose(m, self, raw, true, true); }
BUILTIN(do_rejectattr) { return choose(m, self, raw, true, false); }

const rt_builtin rt_filters[] = {
    { "abs", "", do_abs },
    { "capitalize", "", do_capitalize },
    { "default d", "=default_value boolean", do_default },
    { "dictsort", "=case_sensitive by reverse", do_dictsort },
    { "escape e", "", do_escape },
    { "first", "", do_first },
    { "forceescape", "", do_forceescape },
    { "indent", "=width first blank", do_indent },
    { "int", "=default base", do_int },
    { "items", "", do_items },
    { "join", "=d attribute", do_join },
    { "last", "", do_last },
    { "length count", "", do_length },
    { "list", "", do_list },
    { "lower", "", do_lower },
    { "map", "*", do_map },
    { "max", "=case_sensitive attribute", do_max },
    { "min", "=case_sensitive attribute", do_min },
    { "reject", "*", do_reject },
    { "rejectattr", "*", do_rejectattr },
    { "replace", "old new =count", do_replace },
    { "reverse", "", do_reverse },
    { "safe", "", do_safe },
    { "select", "*", do_select },
    { "selectattr", "*", do_selectattr },
    { "sort", "=reverse case_sensitive attribute", do_sort },
    { "string", "", do_string },
    { "sum", "=attribute start", do_sum },
    { "title", "", do_title },
    { "tojson", "=ensure_ascii indent separators sort_keys", do_tojson },
    { "trim", "=chars", do_trim },
    { "unique", "=case_sensitive attribute", do_unique },
    { "upper", "", do_upper },
    { 0 },
};
