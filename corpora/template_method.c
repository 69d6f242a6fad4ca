/* template_method.c: what a template may call: methods of str, list, tuple and dict, the loop
   object, and the functions range, namespace, dict, raise_exception, strftime_now. Methods that
   change a list or a dict exist but are unsafe, as in jinja2's immutable sandbox. Refuses: methods
   of Python that no chat template uses, by name, rather than calling them undefined. */
#include "corpora/template_impl.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- methods --------------------------------------------------------------------------------- */

typedef rt_val method_fn(rt_tpl *m, rt_val self, const rt_val *a, const rt_args *raw);
#define SPARE __attribute__((unused)) /* not every row needs every argument */
#define METHOD(name)                                                                               \
    static rt_val name(rt_tpl *m SPARE, rt_val self SPARE, const rt_val *a SPARE,                  \
                       const rt_args *raw SPARE)

METHOD(s_strip) { return rt_str_strip(m, self, a[0], 3); }
METHOD(s_lstrip) { return rt_str_strip(m, self, a[0], 1); }
METHOD(s_rstrip) { return rt_str_strip(m, self, a[0], 2); }
METHOD(s_split) { return rt_str_split(m, self, a, false); }
METHOD(s_rsplit) { return rt_str_split(m, self, a, true); }
METHOD(s_lines) { return rt_str_lines(m, self, rt_val_truth(m, a[0])); }
METHOD(s_starts) { return rt_str_affix(m, self, a[0], false); }
METHOD(s_ends) { return rt_str_affix(m, self, a[0], true); }
METHOD(s_upper) { return rt_str_case(m, self, CASE_UPPER, CASE_UPPER); }
METHOD(s_lower) { return rt_str_case(m, self, CASE_LOWER, CASE_LOWER); }
METHOD(s_capitalize) { return rt_str_case(m, self, CASE_TITLE, CASE_LOWER); }
METHOD(s_title) { return rt_str_title(m, self); }
METHOD(s_find) { return rt_str_find(m, self, a, "find"); }
METHOD(s_rfind) { return rt_str_find(m, self, a, "rfind"); }
METHOD(s_index) { return rt_str_find(m, self, a, "index"); }
METHOD(s_rindex) { return rt_str_find(m, self, a, "rindex"); }
METHOD(s_count) { return rt_str_find(m, self, a, "count"); }

METHOD(s_replace)
{
    int64_t count = -1;
    if (a[0].kind != V_STR || a[1].kind != V_STR ||
        (a[2].kind != V_MISSING && !rt_val_integer(a[2], &count)))
        return rt_tpl_fail(m, "replace needs two strings and an integer");
    return rt_str_replace(m, self, a[0], a[1], count);
}

METHOD(s_unprefix)
{
    bool has = rt_val_truth(m, rt_str_affix(m, self, a[0], false)) && a[0].kind == V_STR;
    return has ? rt_val_str(self.u.str + a[0].n, self.n - a[0].n) : self;
}
METHOD(s_unsuffix)
{
    bool has = rt_val_truth(m, rt_str_affix(m, self, a[0], true)) && a[0].kind == V_STR;
    return has ? rt_val_str(self.u.str, self.n - a[0].n) : self;
}

METHOD(s_join)
{
    rt_seq *s = rt_val_iterate(m, a[0]);
    rt_val item;
    rt_buf b = { 0 };
    for (int64_t i = 0; s && rt_seq_next(m, s, &i, &item);) {
        if (item.kind != V_STR)
            rt_tpl_fail(m, "join: item %lld is a %s, not a string", (long long)i - 1,
                        rt_val_type(item));
        if (i > 1)
            rt_buf_add(m, &b, self.u.str, self.n);
        rt_buf_add(m, &b, item.u.str, item.n);
    }
    return rt_buf_string(m, &b);
}

METHOD(l_count)
{
    int64_t n = 0;
    rt_val item;
    for (int64_t i = 0; rt_seq_next(m, self.u.seq, &i, &item);)
        n += rt_val_equal(m, item, a[0]);
    return rt_val_int(n);
}

METHOD(l_index)
{
    rt_val item;
    for (int64_t i = 0; rt_seq_next(m, self.u.seq, &i, &item);)
        if (rt_val_equal(m, item, a[0]))
            return rt_val_int(i - 1);
    return rt_tpl_fail(m, "index: the value is not in the list");
}

METHOD(any_copy) { return self; } /* values never change, so a copy is the value */

METHOD(d_get)
{
    if (!rt_val_in(m, a[0], self))
        return a[1].kind == V_MISSING ? rt_val_none() : a[1];
    return *rt_dict_find(m, self.u.dict, a[0]);
}

static rt_val dict_view(rt_tpl *m, rt_val self, rt_seq_kind kind)
{
    const rt_dict *d = self.u.dict;
    rt_val view = rt_seq_new(m, kind, d->n);
    for (int64_t i = 0; i < d->n && rt_tpl_step(m, kind == SEQ_ITEMS); i++) {
        rt_val pair = kind == SEQ_ITEMS ? rt_seq_new(m, SEQ_TUPLE, 2) : rt_val_none();
        if (m->failed)
            break;
        if (kind == SEQ_ITEMS) {
            pair.u.seq->item[0] = d->pair[i].key;
            pair.u.seq->item[1] = d->pair[i].value;
        }
        view.u.seq->item[i] = kind == SEQ_ITEMS  ? pair
                              : kind == SEQ_KEYS ? d->pair[i].key
                                                 : d->pair[i].value;
    }
    return view;
}
METHOD(d_items) { return dict_view(m, self, SEQ_ITEMS); }
METHOD(d_keys) { return dict_view(m, self, SEQ_KEYS); }
METHOD(d_values) { return dict_view(m, self, SEQ_VALUES); }

METHOD(o_cycle)
{
    if (!raw->n_pos)
        return rt_tpl_fail(m, "loop.cycle needs values");
    return raw->pos[self.u.loop->index0 % raw->n_pos];
}

METHOD(o_changed)
{
    rt_val now = rt_seq_new(m, SEQ_TUPLE, raw->n_pos);
    for (int i = 0; !m->failed && i < raw->n_pos; i++)
        now.u.seq->item[i] = raw->pos[i];
    rt_val before = self.u.loop->changed;
    bool same = !m->failed && before.kind == V_SEQ && rt_val_equal(m, before, now);
    self.u.loop->changed = now;
    return rt_val_bool(!same);
}

/* self: s str, l list, t tuple, r range, d dict, o loop. spec "*": reads its own arguments. */
static const struct {
    char self;
    const char *name, *spec;
    method_fn *fn;
} METHODS[] = {
    { 's', "capitalize", "", s_capitalize },
    { 's', "count", "sub =start end", s_count },
    { 's', "endswith", "suffix", s_ends },
    { 's', "find", "sub =start end", s_find },
    { 's', "index", "sub =start end", s_index },
    { 's', "join", "items", s_join },
    { 's', "lower", "", s_lower },
    { 's', "lstrip", "=chars", s_lstrip },
    { 's', "removeprefix", "prefix", s_unprefix },
    { 's', "removesuffix", "suffix", s_unsuffix },
    { 's', "replace", "old new =count", s_replace },
    { 's', "rfind", "sub =start end", s_rfind },
    { 's', "rindex", "sub =start end", s_rindex },
    { 's', "rsplit", "=sep maxsplit", s_rsplit },
    { 's', "rstrip", "=chars", s_rstrip },
    { 's', "split", "=sep maxsplit", s_split },
    { 's', "splitlines", "=keepends", s_lines },
    { 's', "startswith", "prefix", s_starts },
    { 's', "strip", "=chars", s_strip },
    { 's', "title", "", s_title },
    { 's', "upper", "", s_upper },
    { 'l', "count", "value", l_count },
    { 'l', "index", "value", l_index },
    { 'l', "copy", "", any_copy },
    { 't', "count", "value", l_count },
    { 't', "index", "value", l_index },
    { 'r', "count", "value", l_count },
    { 'r', "index", "value", l_index },
    { 'd', "copy", "", any_copy },
    { 'd', "get", "key =default", d_get },
    { 'd', "items", "", d_items },
    { 'd', "keys", "", d_keys },
    { 'd', "values", "", d_values },
    { 'o', "changed", "*", o_changed },
    { 'o', "cycle", "*", o_cycle },
};

/* Methods that would change their object, and methods of Python that we lack; between spaces. */
static const char UNSAFE_LIST[] = " append clear extend insert pop remove reverse sort ";
static const char UNSAFE_DICT[] = " clear pop popitem setdefault update ";
static const char LACKING_STR[] =
    " casefold center encode expandtabs format format_map isalnum isalpha isascii isdecimal "
    "isdigit "
    "isidentifier islower isnumeric isprintable isspace istitle isupper ljust maketrans partition "
    "rjust rpartition swapcase translate zfill ";
static const char LACKING_DICT[] = " fromkeys ";

static bool is_among(rt_val name, const char *words)
{
    for (const char *s = words + 1; *s; s += strcspn(s, " ") + 1)
        if (strcspn(s, " ") == name.n && !memcmp(s, name.u.str, name.n))
            return true;
    return false;
}

int rt_method_find(rt_tpl *m, rt_val self, rt_val name)
{
    static const char of_kind[] = { [V_STR] = 's', [V_DICT] = 'd', [V_LOOP] = 'o' };
    char type = of_kind[self.kind];
    if (self.kind == V_SEQ && self.u.seq->kind <= SEQ_RANGE)
        type = "ltr"[self.u.seq->kind];
    for (int i = 0; type && i < RT_COUNT(METHODS); i++)
        if (METHODS[i].self == type && rt_val_is(name, METHODS[i].name))
            return i;
    if (name.kind != V_STR)
        return -1;
    if (is_among(name, type == 'l' ? UNSAFE_LIST : type == 'd' ? UNSAFE_DICT : " "))
        return -2;
    if (is_among(name, type == 's' ? LACKING_STR : type == 'd' ? LACKING_DICT : " "))
        rt_tpl_fail(m, "%s.%.*s is not supported in chat templates", rt_val_type(self), (int)name.n,
                    name.u.str);
    bool dunder = name.n > 4 && !memcmp(name.u.str, "__", 2) &&
                  !memcmp(name.u.str + name.n - 2, "__", 2);
    return dunder && self.kind != V_DICT ? -2 : -1;
}

rt_val rt_method_call(rt_tpl *m, rt_val self, int id, const rt_args *args)
{
    rt_val slot[4];
    for (int i = 0; i < RT_COUNT(slot); i++)
        slot[i] = rt_val_missing();
    bool raw = METHODS[id].spec[0] == '*';
    method_fn *fn = METHODS[id].fn;
    if (args->n_kw && !raw && fn != s_split && fn != s_rsplit && fn != s_lines)
        return rt_tpl_fail(m, "%s takes no keyword arguments", METHODS[id].name);
    if (!raw && !rt_args_bind(m, METHODS[id].name, METHODS[id].spec, args, slot))
        return self;
    return m->failed ? self : fn(m, self, slot, args);
}

/* ---- loop ------------------------------------------------------------------------------------ */

rt_val rt_loop_attr(rt_tpl *m, const rt_loop *loop, rt_val name)
{
    const rt_seq *s = loop->seq;
    int64_t i = loop->index0, n = s->n - loop->base;
    bool end = i == n - 1; /* what comes next is the end, or the failure that waits there */
    bool far = rt_val_is(name, "length") || rt_val_is(name, "revindex") ||
               rt_val_is(name, "revindex0");
    bool next = rt_val_is(name, "last") || rt_val_is(name, "nextitem");
    if (s->failure && (far || (next && end)))
        m->failed = m->failed || rt_fail(m->err, "%s", s->failure);
    if (far)
        return rt_val_int(name.n == 6 ? n : name.n == 8 ? n - i : n - i - 1);
    if (rt_val_is(name, "last"))
        return rt_val_bool(end);
    if (rt_val_is(name, "nextitem"))
        return end ? rt_val_undef(UNDEF_HINT, rt_val_lit("there is no next item"))
                   : rt_seq_at(s, loop->base + i + 1);
    if (rt_val_is(name, "previtem"))
        return i ? rt_seq_at(s, loop->base + i - 1)
                 : rt_val_undef(UNDEF_HINT, rt_val_lit("there is no previous item"));
    if (rt_val_is(name, "first"))
        return rt_val_bool(i == 0);
    if (rt_val_is(name, "index0") || rt_val_is(name, "index"))
        return rt_val_int(name.n == 6 ? i : i + 1);
    if (rt_val_is(name, "depth0") || rt_val_is(name, "depth"))
        return rt_val_int(name.n == 6 ? 0 : 1);
    return rt_val_missing();
}

/* ---- functions ------------------------------------------------------------------------------- */

static rt_val fn_range(rt_tpl *m, const rt_args *args)
{
    int64_t at[3] = { 0, 0, 1 }, n;
    bool ok = args->n_pos >= 1 && args->n_pos <= 3 && !args->n_kw;
    for (int i = 0; ok && i < args->n_pos; i++)
        ok = rt_val_integer(args->pos[i], &at[args->n_pos == 1 ? 1 : i]);
    if (!ok || !at[2])
        return rt_tpl_fail(m, "range needs one to three integers and a step that is not zero");
    bool down = at[2] < 0;
    int64_t lo = down ? at[1] : at[0], hi = down ? at[0] : at[1], by = down ? -(at[2] + 1) : at[2];
    if (hi <= lo)
        n = 0;
    else if (__builtin_sub_overflow(hi, lo, &n))
        n = INT64_MAX;
    else /* by is the step, or one less than it when counting down, so that it always fits */
        n = (int64_t)(((uint64_t)n - 1) / ((uint64_t)by + down)) + 1;
    if (n > 100000)
        return rt_tpl_fail(m, "range of more than 100000 items");
    rt_val v = rt_seq_new(m, SEQ_RANGE, 0);
    if (!m->failed) {
        v.u.seq->n = n;
        v.u.seq->start = at[0];
        v.u.seq->stop = at[1];
        v.u.seq->step = at[2];
    }
    return v;
}

/* dict(...) and namespace(...): a mapping or pairs, then keywords. */
static rt_val fn_dict(rt_tpl *m, const rt_args *args, bool namespace)
{
    rt_val v = rt_dict_new(m, args->n_kw);
    if (args->n_pos > 1)
        return rt_tpl_fail(m, "dict and namespace take one mapping or list of pairs, and keywords");
    if (args->n_pos && args->pos[0].kind == V_UNDEF)
        return rt_undef_fail(m, args->pos[0]);
    if (args->n_pos && args->pos[0].kind == V_DICT) {
        const rt_dict *from = args->pos[0].u.dict;
        for (int64_t i = 0; i < from->n && !m->failed; i++)
            rt_dict_put(m, v.u.dict, from->pair[i].key, from->pair[i].value);
    } else if (args->n_pos) {
        rt_seq *s = rt_val_iterate(m, args->pos[0]);
        rt_val item;
        for (int64_t i = 0; s && rt_seq_next(m, s, &i, &item);) {
            rt_seq *pair = rt_val_iterate(m, item);
            if (pair && pair->n != 2)
                rt_tpl_fail(m, "dict: item %lld is not a pair", (long long)i - 1);
            if (!m->failed)
                rt_dict_put(m, v.u.dict, rt_seq_at(pair, 0), rt_seq_at(pair, 1));
        }
    }
    for (int i = 0; i < args->n_kw && !m->failed; i++)
        rt_dict_put(m, v.u.dict, args->kw[i].key, args->kw[i].value);
    for (int64_t i = 0; namespace && !m->failed && i < v.u.dict->n; i++) {
        rt_val key = v.u.dict->pair[i].key;
        if (key.kind == V_STR && key.n && key.u.str[0] == '_')
            return rt_tpl_fail(m, "a namespace cannot store names that begin with an underscore");
    }
    v.kind = namespace ? V_NAMESPACE : V_DICT;
    return v;
}

/* "2026-11-26" or "2026-11-26T08:30:00" from the context, else the machine's clock. */
static bool read_clock(rt_tpl *m, struct tm *now)
{
    time_t t = time(NULL);
    *now = (struct tm){ .tm_isdst = -1 };
    if (!m->clock) {
        localtime_r(&t, now);
        return true;
    }
    int y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0, end = 0;
    const char *text = cJSON_IsString(m->clock) ? m->clock->valuestring : "";
    int got = sscanf(text, "%4d-%2d-%2d%n", &y, &mo, &d, &end);
    if (got == 3 && (text[end] == 'T' || text[end] == ' ')) {
        int date = end + 1;
        got = sscanf(text + date, "%2d:%2d:%2d%n", &h, &mi, &s, &end);
        end += date;
    }
    bool ok = got == 3 && !text[end] && y >= 1900 && mo >= 1 && mo <= 12 && d >= 1 && d <= 31;
    if (!ok || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 || s > 60) {
        rt_tpl_fail(m, "strftime_now in the context must be like \"2026-11-26T08:30:00\"");
        return false;
    }
    *now = (struct tm){
        .tm_year = y - 1900, .tm_mon = mo - 1, .tm_mday = d, .tm_hour = h, .tm_min = mi, .tm_sec = s
    };
    timegm(now); /* fills in the day of the week and of the year */
    return true;
}

static rt_val fn_strftime(rt_tpl *m, const rt_args *args)
{
    struct tm now;
    char format[256], text[1024];
    rt_val f;
    if (!rt_args_bind(m, "strftime_now", "format", args, &f) || !read_clock(m, &now))
        return rt_val_none();
    if (f.kind != V_STR || f.n >= sizeof format)
        return rt_tpl_fail(m, "strftime_now needs a format of at most 255 bytes");
    for (uint32_t i = 0; i < f.n; i++) { /* widths and the like would be libc's own dialect */
        if (f.u.str[i] != '%')
            continue;
        i += i + 1 < f.n && f.u.str[i + 1] == '-' ? 2 : 1;
        if (i >= f.n || !f.u.str[i] || !strchr("aAbBcdHIjmMpSUwWxXyYZzeFTDRkl%", f.u.str[i]))
            return rt_tpl_fail(m, "strftime_now: this conversion is not supported");
    }
    memcpy(format, f.u.str, f.n);
    format[f.n] = 0;
    size_t n = strftime(text, sizeof text, format, &now);
    char *copy = rt_tpl_take(m, (int64_t)n);
    return copy ? rt_val_str(memcpy(copy, text, n), (int64_t)n) : rt_val_none();
}

static const char *const FUNCTIONS[] = { "range", "namespace", "dict", "raise_exception",
                                         "strftime_now" };

rt_val rt_function_find(rt_val name)
{
    for (int i = 0; i < RT_COUNT(FUNCTIONS); i++)
        if (rt_val_is(name, FUNCTIONS[i]))
            return (rt_val){ .kind = V_FUNCTION, .u.i = i };
    return rt_val_missing();
}

rt_val rt_function_call(rt_tpl *m, rt_function fn, const rt_args *args)
{
    rt_val message;
    switch (fn) {
    case FN_RANGE:
        return fn_range(m, args);
    case FN_NAMESPACE:
        return fn_dict(m, args, true);
    case FN_DICT:
        return fn_dict(m, args, false);
    case FN_STRFTIME:
        return fn_strftime(m, args);
    default:
        break;
    }
    if (!rt_args_bind(m, "raise_exception", "message", args, &message))
        return message;
    message = rt_val_text(m, message);
    return rt_tpl_fail(m, "%.*s", (int)rt_min(message.n, 800), message.u.str);
}
