/* template_builtin.c: what a template may call besides filters and methods of str: tests, methods
   of list, tuple and dict, and the functions range, namespace, dict, raise_exception, strftime_now;
   and how arguments reach any of them. Methods that change a list or a dict are unsafe, as in
   jinja2's immutable sandbox; other methods of Python are undefined. */
#include "corpora/template/template_builtin.h"

#include <time.h>

/* ---- finding and calling --------------------------------------------------------------------- */

const rt_builtin *rt_builtin_find(const rt_builtin *table, rt_val name)
{
    for (; table->fn; table++)
        if (rt_val_among(name, table->names))
            return table;
    return NULL;
}

/* Arguments by name: spec "a b=c": names in order, those after '=' optional. */
void rt_builtin_bind(rt_tpl *m, const rt_builtin *fn, const rt_args *args, rt_val slot[4])
{
    int n = 0, used_kw = 0;
    bool optional = false, ok = true;
    for (const char *s = fn->spec; *s; n++) {
        optional = optional || *s == '=';
        s += *s == '=';
        rt_val name = rt_val_str(s, (int64_t)strcspn(s, " "));
        if (n < args->n_pos)
            slot[n] = args->pos[n];
        for (int i = 0; i < args->n_kw; i++)
            if (rt_str_same(args->kw[i].key, name)) {
                ok = ok && slot[n].kind == V_MISSING;
                slot[n] = args->kw[i].value;
                used_kw++;
            }
        ok = ok && (optional || slot[n].kind != V_MISSING);
        s += name.n + (s[name.n] == ' ');
    }
    if (!ok || args->n_pos > n || used_kw < args->n_kw)
        rt_tpl_fail(m, "%.*s: wrong arguments, it takes (%s)", (int)strcspn(fn->names, " "),
                    fn->names, fn->spec);
}

rt_val rt_builtin_call(rt_tpl *m, const rt_builtin *fn, rt_val self, const rt_args *args)
{
    rt_val slot[4] = { { 0 } };
    if (*fn->spec != '*')
        rt_builtin_bind(m, fn, args, slot);
    return fn->fn(m, self, slot, args);
}

rt_val rt_function_new(rt_tpl *m, rt_val self, const rt_builtin *fn)
{
    rt_function *f = rt_tpl_take(m, sizeof *f);
    *f = (rt_function){ self, fn };
    return (rt_val){ .kind = V_FUNCTION, .u.function = f };
}

/* ---- tests ----------------------------------------------------------------------------------- */

BUILTIN(is_defined) { return rt_val_bool(self.kind != V_UNDEF); }
BUILTIN(is_undefined) { return rt_val_bool(self.kind == V_UNDEF); }
BUILTIN(is_none) { return rt_val_bool(self.kind == V_NONE); }
BUILTIN(is_boolean) { return rt_val_bool(self.kind == V_BOOL); }
BUILTIN(is_true) { return rt_val_bool(self.kind == V_BOOL && self.u.i); }
BUILTIN(is_false) { return rt_val_bool(self.kind == V_BOOL && !self.u.i); }
BUILTIN(is_integer) { return rt_val_bool(self.kind == V_INT); }
BUILTIN(is_float) { return rt_val_bool(self.kind == V_FLOAT); }
BUILTIN(is_number) { return rt_val_bool(self.kind >= V_BOOL && self.kind <= V_FLOAT); }
BUILTIN(is_string) { return rt_val_bool(self.kind == V_STR); }
BUILTIN(is_mapping) { return rt_val_bool(self.kind == V_DICT); }
BUILTIN(is_in) { return rt_val_bool(rt_val_in(m, self, a[0])); }
BUILTIN(is_equal) { return rt_val_bool(rt_val_equal(m, self, a[0])); }
BUILTIN(is_unequal) { return rt_val_bool(!rt_val_equal(m, self, a[0])); }
BUILTIN(is_less) { return rt_val_bool(rt_val_order(m, self, a[0]) == -1); }
BUILTIN(is_more) { return rt_val_bool(rt_val_order(m, self, a[0]) == 1); }
BUILTIN(is_at_most) { return rt_val_bool(rt_val_order(m, self, a[0]) <= 0); }
BUILTIN(is_at_least) { return rt_val_bool((rt_val_order(m, self, a[0]) & 2) == 0); }
/* An undefined value has a length and items in jinja2, which fail. */
BUILTIN(is_sequence)
{
    return rt_val_bool(self.kind == V_STR || self.kind == V_DICT || self.kind == V_UNDEF ||
                       (self.kind == V_SEQ && self.u.seq->kind <= SEQ_RANGE));
}
BUILTIN(is_iterable)
{
    return rt_val_bool(self.kind == V_SEQ || self.kind == V_LOOP ||
                       is_sequence(m, self, a, raw).u.i);
}
static rt_val remainder_is(rt_tpl *m, rt_val v, rt_val by, int64_t want)
{
    return rt_val_bool(rt_val_equal(m, rt_val_binary(m, '%', v, by), rt_val_int(want)));
}
BUILTIN(is_odd) { return remainder_is(m, self, rt_val_int(2), 1); }
BUILTIN(is_even) { return remainder_is(m, self, rt_val_int(2), 0); }
BUILTIN(is_divisible) { return remainder_is(m, self, a[0], 0); }

const rt_builtin rt_tests[] = {
    { "odd", "", is_odd },
    { "even", "", is_even },
    { "divisibleby", "value", is_divisible },
    { "defined", "", is_defined },
    { "undefined", "", is_undefined },
    { "none", "", is_none },
    { "boolean", "", is_boolean },
    { "false", "", is_false },
    { "true", "", is_true },
    { "integer", "", is_integer },
    { "float", "", is_float },
    { "string", "", is_string },
    { "mapping", "", is_mapping },
    { "number", "", is_number },
    { "sequence", "", is_sequence },
    { "iterable", "", is_iterable },
    { "in", "value", is_in },
    { "equalto == eq", "value", is_equal },
    { "ne !=", "value", is_unequal },
    { "greaterthan > gt", "value", is_more },
    { "ge >=", "value", is_at_least },
    { "lessthan < lt", "value", is_less },
    { "le <=", "value", is_at_most },
    { 0 },
};

/* ---- methods of dict --------------------------------------------------------- */

BUILTIN(dict_get)
{
    if (!rt_val_in(m, a[0], self))
        return a[1].kind == V_MISSING ? rt_val_none() : a[1];
    return *rt_dict_find(m, self.u.dict, a[0]);
}

BUILTIN(dict_items)
{
    const rt_dict *d = self.u.dict;
    rt_seq *view = rt_seq_new(m, SEQ_VIEW, d->n).u.seq;
    for (int64_t i = 0; i < d->n; i++, rt_tpl_step(m, 1)) {
        view->item[i] = rt_seq_new(m, SEQ_TUPLE, 2);
        view->item[i].u.seq->item[0] = d->pair[i].key;
        view->item[i].u.seq->item[1] = d->pair[i].value;
    }
    return (rt_val){ .kind = V_SEQ, .u.seq = view };
}

static rt_val half_view(rt_tpl *m, const rt_dict *d, bool values)
{
    rt_val view = rt_seq_new(m, SEQ_VIEW, d->n);
    for (int64_t i = 0; i < d->n; i++)
        view.u.seq->item[i] = values ? d->pair[i].value : d->pair[i].key;
    return view;
}
BUILTIN(dict_keys) { return half_view(m, self.u.dict, false); }
BUILTIN(dict_values) { return half_view(m, self.u.dict, true); }

const rt_builtin *rt_method_find(rt_val self, rt_val name)
{
    static const rt_builtin dict[] = { { "get", "<key> =<default>", dict_get },
                                       { "items", "", dict_items },
                                       { "keys", "", dict_keys },
                                       { "values", "", dict_values },
                                       { 0 } };
    if (self.kind == V_STR)
        return rt_builtin_find(rt_str_methods, name);
    return self.kind == V_DICT ? rt_builtin_find(dict, name) : NULL;
}

/* ---- functions ------------------------------------------------------------------------------- */

BUILTIN(range)
{
    int64_t at[3] = { 0, 0, 1 }, n = 0;
    bool ok = raw->n_pos >= 1 && raw->n_pos <= 3 && !raw->n_kw;
    for (int i = 0; ok && i < raw->n_pos; i++)
        ok = rt_val_integer(raw->pos[i], &at[raw->n_pos == 1 ? 1 : i]);
    if (!ok || !at[2])
        rt_tpl_fail(m, "range needs one to three integers and a step that is not zero");
    bool down = at[2] < 0;
    int64_t lo = down ? at[1] : at[0], hi = down ? at[0] : at[1];
    uint64_t by = down ? 0 - (uint64_t)at[2] : (uint64_t)at[2];
    if (hi > lo) {
        uint64_t items = ((uint64_t)hi - (uint64_t)lo - 1) / by + 1;
        n = items > 100000 ? rt_tpl_fail(m, "range of more than 100000 items").n : (int64_t)items;
    }
    rt_val v = rt_seq_new(m, SEQ_RANGE, 0);
    v.u.seq->n = n;
    v.u.seq->start = at[0];
    v.u.seq->step = at[2];
    return v;
}

/* A mapping or pairs, then keywords. */
BUILTIN(dict)
{
    rt_val v = rt_dict_new(m, raw->n_kw), item;
    if (raw->n_pos > 1)
        rt_tpl_fail(m, "dict and namespace take one mapping or list of pairs, and keywords");
    if (raw->n_pos && raw->pos[0].kind == V_UNDEF)
        rt_undef_fail(m, raw->pos[0]);
    rt_val from = !raw->n_pos                  ? rt_seq_new(m, SEQ_LIST, 0)
                  : raw->pos[0].kind == V_DICT ? dict_items(m, raw->pos[0], NULL, NULL)
                                               : raw->pos[0];
    rt_seq *s = rt_val_iterate(m, from);
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        const rt_seq *pair = rt_val_iterate(m, item);
        if (pair->n != 2)
            rt_tpl_fail(m, "dict: item %lld is not a pair", (long long)i - 1);
        rt_dict_put(m, v.u.dict, rt_seq_at(pair, 0), rt_seq_at(pair, 1));
    }
    for (int i = 0; i < raw->n_kw; i++)
        rt_dict_put(m, v.u.dict, raw->kw[i].key, raw->kw[i].value);
    return v;
}

BUILTIN(namespace)
{
    rt_val v = dict(m, self, a, raw);
    for (int64_t i = 0; i < v.u.dict->n; i++) {
        rt_val key = v.u.dict->pair[i].key;
        if (key.kind == V_STR && key.n && key.u.str[0] == '_')
            rt_tpl_fail(m, "a namespace cannot store names that begin with an underscore");
    }
    v.kind = V_NAMESPACE;
    return v;
}

/* "2026-11-26" or "2026-11-26T08:30:00" from the context, else the machine's clock. */
static struct tm read_clock(rt_tpl *m)
{
    struct tm now = { .tm_isdst = -1 };
    time_t t = time(NULL);
    const cJSON *clock = rt_json_find(m->context, "strftime_now");
    if (!clock) {
        localtime_r(&t, &now);
        return now;
    }
    const char *end = cJSON_IsString(clock) ? strptime(clock->valuestring, "%Y-%m-%d", &now) : NULL;
    if (end && (*end == 'T' || *end == ' '))
        end = strptime(end + 1, "%H:%M:%S", &now);
    if (!end || *end)
        rt_tpl_fail(m, "strftime_now in the context must be like \"2026-11-26T08:30:00\"");
    now.tm_isdst = 0;
    timegm(&now); /* fills in the day of the week and of the year */
    return now;
}

BUILTIN(strftime_now)
{
    char format[256], text[1024];
    rt_val f = a[0];
    struct tm now = read_clock(m);
    if (f.kind != V_STR || f.n >= sizeof format)
        rt_tpl_fail(m, "strftime_now needs a format of at most 255 bytes");
    memcpy(format, f.u.str, f.n);
    format[f.n] = 0;
    for (const char *c = format; (c = strchr(c, '%')); c++) { /* no dialect of libc: no widths */
        c += c[1] == '-' ? 2 : 1;
        if (!*c || !strchr("aAbBcdHIjmMpSUwWxXyYZzeFTDRkl%", *c))
            rt_tpl_fail(m, "strftime_now: this conversion is not supported");
    }
    size_t n = strftime(text, sizeof text, format, &now);
    return rt_val_str(memcpy(rt_tpl_take(m, (int64_t)n), text, n), (int64_t)n);
}

BUILTIN(raise_exception)
{
    rt_val message = rt_val_text(m, a[0]);
    return rt_tpl_fail(m, "%.*s", (int)rt_min(message.n, 800), message.u.str);
}

const rt_builtin rt_functions[] = {
    { "range", "*", range },
    { "namespace", "*", namespace },
    { "dict", "*", dict },
    { "raise_exception", "message", raise_exception },
    { "strftime_now", "format", strftime_now },
    { 0 },
};
