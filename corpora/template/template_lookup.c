/* template_lookup.c: parts of values: iteration, items, attributes, slices, the way jinja2's
   sandbox and Python find them. Positions in strings are code points. Refuses: slices of ranges. */
#include "corpora/template/template_impl.h"

rt_val rt_seq_at(const rt_seq *s, int64_t i)
{
    return s->kind == SEQ_RANGE ? rt_val_int(s->start + i * s->step) : s->item[i];
}

bool rt_seq_next(rt_tpl *m, rt_seq *s, int64_t *i, rt_val *item)
{
    int64_t at = s->kind == SEQ_ONCE ? s->pos : *i;
    rt_tpl_step(m, 1);
    if (at >= s->n)
        return false;
    *item = rt_seq_at(s, at);
    s->pos += s->kind == SEQ_ONCE;
    (*i)++;
    return true;
}

static rt_seq *str_chars(rt_tpl *m, rt_val s)
{
    rt_seq *list = rt_seq_new(m, SEQ_LIST, rt_cp_count(s.u.str, s.n)).u.seq;
    uint32_t cp;
    rt_tpl_scan(m, s.n);
    for (int64_t at = 0, i = 0; at < s.n; at += list->item[i++].n)
        list->item[i] = rt_val_str(s.u.str + at, rt_cp_next(s.u.str + at, s.n - at, &cp));
    return list;
}

rt_seq *rt_val_iterate(rt_tpl *m, rt_val v)
{
    if (v.kind == V_SEQ)
        return v.u.seq;
    if (v.kind == V_STR)
        return str_chars(m, v);
    if (v.kind != V_DICT && v.kind != V_UNDEF)
        rt_tpl_fail(m, "a %s cannot be iterated", rt_val_type(v));
    rt_seq *keys = rt_seq_new(m, SEQ_LIST, v.kind == V_DICT ? v.u.dict->n : 0).u.seq;
    for (int64_t i = 0; i < keys->n; i++)
        keys->item[i] = v.u.dict->pair[i].key;
    return keys;
}

/* obj[key] without the fallback to attributes; V_MISSING when there is none. */
static rt_val item_of(rt_tpl *m, rt_val obj, rt_val key)
{
    int64_t i, n;
    if (obj.kind == V_DICT) {
        const rt_val *v = rt_dict_find(m, obj.u.dict, key);
        return v ? *v : rt_val_missing();
    }
    bool seq = obj.kind == V_SEQ && obj.u.seq->kind <= SEQ_RANGE;
    if ((!seq && obj.kind != V_STR) || !rt_val_integer(key, &i))
        return rt_val_missing();
    n = rt_val_length(m, obj);
    i += i < 0 ? n : 0;
    if (i < 0 || i >= n)
        return rt_val_missing();
    if (seq)
        return rt_seq_at(obj.u.seq, i);
    int64_t at = rt_cp_offset(obj.u.str, obj.n, i);
    uint32_t cp;
    rt_tpl_scan(m, at * 4);
    return rt_val_str(obj.u.str + at, rt_cp_next(obj.u.str + at, obj.n - at, &cp));
}

/* What loop.name is; V_MISSING when it is nothing. */
static rt_val loop_attr(const rt_loop *loop, rt_val name)
{
    int64_t i = loop->index0, n = loop->seq->n - loop->base;
    const struct {
        const char *name;
        rt_val val;
    } fact[] = { { "index", rt_val_int(i + 1) },    { "index0", rt_val_int(i) },
                 { "revindex", rt_val_int(n - i) }, { "revindex0", rt_val_int(n - i - 1) },
                 { "first", rt_val_bool(i == 0) },  { "last", rt_val_bool(i == n - 1) },
                 { "length", rt_val_int(n) },       { "depth", rt_val_int(1) },
                 { "depth0", rt_val_int(0) } };
    for (int k = 0; k < RT_COUNT(fact); k++)
        if (rt_val_among(name, fact[k].name))
            return fact[k].val;
    if (!rt_val_among(name, "previtem nextitem"))
        return rt_val_missing();
    i += name.u.str[0] == 'n' ? 1 : -1;
    return i >= 0 && i < n ? rt_seq_at(loop->seq, loop->base + i)
                           : rt_val_hint("there is no item before or after this one");
}

/* obj.name as Python's getattr: methods, loop facts, namespace variables; V_MISSING otherwise. */
static rt_val attr_of(rt_tpl *m, rt_val obj, rt_val name)
{
    if (obj.kind == V_NAMESPACE) {
        const rt_val *v = rt_dict_find(m, obj.u.dict, name);
        return v ? *v : rt_val_missing();
    }
    if (obj.kind == V_LOOP)
        return loop_attr(obj.u.loop, name);
    const rt_builtin *fn = rt_method_find(obj, name);
    if (fn)
        return rt_function_new(m, obj, fn);
    bool unsafe = obj.kind == V_DICT
                      ? rt_val_among(name, "clear pop popitem setdefault update")
                      : rt_val_is_list(obj) && obj.u.seq->kind == SEQ_LIST &&
                            rt_val_among(name,
                                         "append clear extend insert pop remove reverse sort");
    return unsafe ? rt_val_undef(UNDEF_UNSAFE, name) : rt_val_missing();
}

rt_val rt_val_item(rt_tpl *m, rt_val obj, rt_val key)
{
    if (obj.kind == V_UNDEF)
        return rt_undef_fail(m, obj);
    rt_val v = item_of(m, obj, key);
    if (v.kind == V_MISSING && key.kind == V_STR)
        v = attr_of(m, obj, key);
    return v.kind == V_MISSING ? rt_val_undef(UNDEF_ATTRIBUTE, key) : v;
}

rt_val rt_val_attr(rt_tpl *m, rt_val obj, rt_val name)
{
    if (obj.kind == V_UNDEF)
        return rt_undef_fail(m, obj);
    rt_val v = attr_of(m, obj, name);
    if (v.kind == V_MISSING)
        v = item_of(m, obj, name);
    return v.kind == V_MISSING ? rt_val_undef(UNDEF_ATTRIBUTE, name) : v;
}

/* Python's slice arithmetic: bounds of length n to first index and step; the result is the count.
 */
static int64_t slice_bounds(rt_tpl *m, const rt_val bound[3], int64_t n, int64_t *first,
                            int64_t *step)
{
    int64_t at[2];
    bool ok = bound[2].kind == V_NONE || rt_val_integer(bound[2], step);
    *step = bound[2].kind == V_NONE ? 1 : rt_max(rt_min(*step, INT32_MAX), -INT32_MAX);
    for (int k = 0; k < 2; k++) {
        int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
        bool none = bound[k].kind == V_NONE;
        ok = (none || rt_val_integer(bound[k], &at[k])) && ok;
        if (none)
            at[k] = (*step < 0) == (k == 0) ? high : low;
        else
            at[k] = rt_max(rt_min(at[k] + (at[k] < 0 ? n : 0), high), low);
    }
    if (!ok || !*step)
        rt_tpl_fail(m, "slice bounds must be integers and the step not zero");
    *first = at[0];
    return rt_max(
        *step > 0 ? rt_ceil_div(at[1] - at[0], *step) : rt_ceil_div(at[0] - at[1], -*step), 0);
}

static rt_val slice_str(rt_tpl *m, rt_val s, int64_t first, int64_t step, int64_t count)
{
    int64_t at = rt_cp_offset(s.u.str, s.n, first);
    rt_val v;
    rt_tpl_scan(m, s.n);
    if (step == 1 || count < 2) {
        v = rt_val_str(s.u.str + at, rt_cp_offset(s.u.str + at, s.n - at, count));
    } else {
        const rt_seq *c = str_chars(m, s);
        rt_buf b = { 0 };
        for (int64_t i = 0; i < count; i++, rt_tpl_step(m, 1))
            rt_buf_val(m, &b, c->item[first + i * step]);
        v = rt_buf_string(m, &b);
    }
    v.flag = s.flag;
    return v;
}

rt_val rt_val_slice(rt_tpl *m, rt_val obj, const rt_val bound[3])
{
    int64_t first, step;
    if (obj.kind == V_UNDEF)
        return rt_undef_fail(m, obj);
    if (obj.kind != V_STR && !rt_val_is_list(obj))
        return rt_tpl_fail(m, "a %s cannot be sliced", rt_val_type(obj));
    int64_t count = slice_bounds(m, bound, rt_val_length(m, obj), &first, &step);
    if (obj.kind == V_STR)
        return slice_str(m, obj, first, step, count);
    const rt_seq *s = obj.u.seq;
    rt_val v = rt_seq_new(m, s->kind, step == 1 ? 0 : count);
    rt_tpl_step(m, step == 1 ? 0 : count >> 4);
    v.u.seq->n = count;
    if (step == 1)
        v.u.seq->item = s->item + first;
    for (int64_t i = 0; step != 1 && i < count; i++)
        v.u.seq->item[i] = s->item[first + i * step];
    return v;
}
