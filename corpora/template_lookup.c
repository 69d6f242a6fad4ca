/* template_lookup.c: parts of values: iteration, items, attributes, slices, the way jinja2's
   sandbox and Python find them. Positions in strings are code points. */
#include "corpora/template_impl.h"

#include <string.h>

rt_val rt_seq_at(const rt_seq *s, int64_t i)
{
    return s->kind == SEQ_RANGE ? rt_val_int(s->start + i * s->step) : s->item[i];
}

bool rt_seq_next(rt_tpl *m, rt_seq *s, int64_t *i, rt_val *item)
{
    int64_t at = s->kind == SEQ_ONCE ? s->pos : *i;
    if (!rt_tpl_step(m, 1))
        return false;
    if (at >= s->n) {
        if (s->failure && !m->failed)
            m->failed = rt_fail(m->err, "%s", s->failure) != 0;
        return false;
    }
    *item = rt_seq_at(s, at);
    s->pos += s->kind == SEQ_ONCE;
    (*i)++;
    return true;
}

static rt_seq *str_chars(rt_tpl *m, rt_val s)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, rt_cp_count(s.u.str, s.n));
    uint32_t cp;
    rt_tpl_scan(m, s.n);
    for (int64_t at = 0, i = 0; at < s.n && !m->failed; i++) {
        int len = rt_cp_next(s.u.str + at, s.n - at, &cp);
        list.u.seq->item[i] = rt_val_str(s.u.str + at, len);
        at += len;
    }
    return m->failed ? NULL : list.u.seq;
}

rt_seq *rt_val_iterate(rt_tpl *m, rt_val v)
{
    if (v.kind == V_SEQ)
        return v.u.seq;
    if (v.kind == V_STR)
        return str_chars(m, v);
    if (v.kind != V_DICT && v.kind != V_UNDEF) {
        rt_tpl_fail(m, "a %s cannot be iterated", rt_val_type(v));
        return NULL;
    }
    int64_t n = v.kind == V_DICT ? v.u.dict->n : 0;
    rt_val keys = rt_seq_new(m, SEQ_LIST, n);
    for (int64_t i = 0; i < n && !m->failed; i++)
        keys.u.seq->item[i] = v.u.dict->pair[i].key;
    return m->failed ? NULL : keys.u.seq;
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

/* obj.name as Python's getattr: methods, loop facts, namespace variables; V_MISSING otherwise. */
static rt_val attr_of(rt_tpl *m, rt_val obj, rt_val name)
{
    if (obj.kind == V_NAMESPACE) {
        const rt_val *v = rt_dict_find(m, obj.u.dict, name);
        return v ? *v : rt_val_missing();
    }
    if (obj.kind == V_LOOP) {
        rt_val v = rt_loop_attr(m, obj.u.loop, name);
        if (v.kind != V_MISSING)
            return v;
    }
    int id = rt_method_find(m, obj, name);
    if (id == -2)
        return rt_val_undef(UNDEF_UNSAFE, name);
    rt_method *method = id >= 0 ? rt_tpl_take(m, sizeof *method) : NULL;
    if (!method)
        return rt_val_missing();
    *method = (rt_method){ obj, id };
    return (rt_val){ .kind = V_METHOD, .u.method = method };
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

/* Python's slice arithmetic: bounds of length n to first index and count. */
static bool slice_bounds(rt_tpl *m, const rt_val bound[3], int64_t n, int64_t *first, int64_t *step,
                         int64_t *count)
{
    int64_t at[2];
    *step = 1;
    if (bound[2].kind != V_NONE && !rt_val_integer(bound[2], step))
        *step = 0;
    *step = rt_max(rt_min(*step, INT32_MAX), -INT32_MAX);
    bool ok = *step != 0;
    for (int k = 0; k < 2; k++) {
        int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
        if (bound[k].kind == V_NONE) {
            at[k] = (*step < 0) == (k == 0) ? high : low;
            continue;
        }
        ok = rt_val_integer(bound[k], &at[k]) && ok;
        at[k] += at[k] < 0 ? n : 0;
        at[k] = rt_max(rt_min(at[k], high), low);
    }
    if (!ok) {
        rt_tpl_fail(m, "slice bounds must be integers and the step not zero");
        return false;
    }
    *first = at[0];
    *count = *step > 0 ? rt_ceil_div(at[1] - at[0], *step) : rt_ceil_div(at[0] - at[1], -*step);
    *count = rt_max(*count, 0);
    return true;
}

static rt_val slice_str(rt_tpl *m, rt_val s, int64_t first, int64_t step, int64_t count)
{
    int64_t at = rt_cp_offset(s.u.str, s.n, first);
    rt_val v;
    rt_tpl_scan(m, s.n);
    if (step == 1 || count < 2) {
        v = rt_val_str(s.u.str + at, rt_cp_offset(s.u.str + at, s.n - at, count));
    } else {
        rt_seq *c = str_chars(m, s);
        rt_buf b = { 0 };
        for (int64_t i = 0; c && i < count && rt_tpl_step(m, 1); i++)
            rt_buf_add(m, &b, c->item[first + i * step].u.str, c->item[first + i * step].n);
        v = rt_buf_string(m, &b);
    }
    v.flag = s.flag;
    return v;
}

rt_val rt_val_slice(rt_tpl *m, rt_val obj, const rt_val bound[3])
{
    int64_t first, step, count;
    bool seq = obj.kind == V_SEQ && obj.u.seq->kind <= SEQ_RANGE;
    if (obj.kind == V_UNDEF)
        return rt_undef_fail(m, obj);
    if (obj.kind != V_STR && !seq)
        return rt_tpl_fail(m, "a %s cannot be sliced", rt_val_type(obj));
    if (!slice_bounds(m, bound, rt_val_length(m, obj), &first, &step, &count) || m->failed)
        return obj;
    if (obj.kind == V_STR)
        return slice_str(m, obj, first, step, count);
    rt_seq *s = obj.u.seq;
    bool shared = s->kind != SEQ_RANGE && step == 1;
    rt_val v = rt_seq_new(m, s->kind, shared || s->kind == SEQ_RANGE ? 0 : count);
    if (m->failed || !rt_tpl_step(m, shared ? 0 : count >> 4))
        return v;
    v.u.seq->n = count;
    if (s->kind == SEQ_RANGE) {
        v.u.seq->start = s->start + first * s->step;
        v.u.seq->step = s->step * step;
        v.u.seq->stop = v.u.seq->start + count * v.u.seq->step;
    } else if (shared) {
        v.u.seq->item = s->item + first;
    } else {
        for (int64_t i = 0; i < count; i++)
            v.u.seq->item[i] = s->item[first + i * step];
    }
    return v;
}
