/* template_call.c: scopes of variables, and calls with their arguments: macros, methods, functions.
 */
#include "corpora/template_impl.h"

#include <string.h>

/* ---- scopes ---------------------------------------------------------------------------------- */

rt_scope *rt_scope_open(rt_tpl *m, rt_scope *parent)
{
    rt_scope *s = rt_tpl_take(m, sizeof *s);
    if (s)
        *s = (rt_scope){ .parent = parent };
    return s ? s : m->scope;
}

void rt_scope_set(rt_tpl *m, int32_t id, rt_val v)
{
    rt_scope *s = m->scope;
    if (m->failed)
        return;
    for (int32_t i = 0; i < s->n; i++)
        if (s->var[i].id == id) {
            s->var[i].val = v;
            return;
        }
    if (s->n == s->cap) {
        int32_t cap = s->cap * 2 + 4;
        rt_slot_var *var = rt_tpl_take(m, cap * (int64_t)sizeof *var);
        if (!var)
            return;
        if (s->n)
            memcpy(var, s->var, (size_t)s->n * sizeof *var);
        s->var = var;
        s->cap = cap;
    }
    s->var[s->n++] = (rt_slot_var){ id, v };
}

rt_val rt_scope_get(rt_tpl *m, int32_t id)
{
    for (const rt_scope *s = m->scope; s; s = s->parent) {
        m->steps += s->n >> 5;
        for (int32_t i = 0; i < s->n; i++)
            if (s->var[i].id == id)
                return s->var[i].val;
    }
    rt_val v = m->global[id];
    return v.kind == V_MISSING ? rt_val_undef(UNDEF_NAME, m->t->name[id]) : v;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void add_keyword(rt_tpl *m, rt_args *out, rt_val key, rt_val value)
{
    if (key.kind != V_STR)
        rt_tpl_fail(m, "a keyword argument's name must be a string");
    m->steps += out->n_kw;
    for (int i = 0; i < out->n_kw && !m->failed; i++)
        if (rt_val_equal(m, out->kw[i].key, key))
            rt_tpl_fail(m, "argument '%.*s' is given twice", (int)rt_min(key.n, 80), key.u.str);
    if (!m->failed)
        out->kw[out->n_kw++] = (rt_pair){ key, value };
}

/* Evaluate arguments; caller (or NULL) is one more keyword. */
bool rt_tpl_args(rt_tpl *m, const rt_node *list, const rt_val *caller, rt_args *out)
{
    int64_t n = 0, n_pos = 0, n_kw = caller != NULL, i = 0;
    for (const rt_node *a = list; a; a = a->next)
        n++;
    *out = (rt_args){ 0 };
    if (!n && !caller)
        return !m->failed;
    rt_val *v = rt_tpl_take(m, n * (int64_t)sizeof *v);
    for (const rt_node *a = list; a && !m->failed; a = a->next, i++) {
        v[i] = rt_tpl_eval(m, a->a);
        rt_seq *s = a->flag == 1 && !m->failed ? rt_val_iterate(m, v[i]) : NULL;
        if (a->flag == 2 && v[i].kind != V_DICT)
            rt_tpl_fail(m, "** needs a dict, not a %s", rt_val_type(v[i]));
        if (m->failed)
            return false;
        n_pos += a->flag == 1 ? s->n : !a->flag && a->val.kind == V_MISSING;
        n_kw += a->flag == 2 ? v[i].u.dict->n : !a->flag && a->val.kind != V_MISSING;
        if (s)
            v[i] = (rt_val){ .kind = V_SEQ, .u.seq = s };
    }
    out->pos = rt_tpl_take(m, n_pos * (int64_t)sizeof *out->pos);
    out->kw = rt_tpl_take(m, n_kw * (int64_t)sizeof *out->kw);
    i = 0;
    for (const rt_node *a = list; a && !m->failed; a = a->next, i++) {
        rt_val item;
        if (a->flag == 1)
            for (int64_t k = 0; out->n_pos < n_pos && rt_seq_next(m, v[i].u.seq, &k, &item);)
                out->pos[out->n_pos++] = item;
        else if (a->flag == 2)
            for (int64_t k = 0; k < v[i].u.dict->n && !m->failed; k++)
                add_keyword(m, out, v[i].u.dict->pair[k].key, v[i].u.dict->pair[k].value);
        else if (a->val.kind == V_MISSING)
            out->pos[out->n_pos++] = v[i];
        else
            add_keyword(m, out, a->val, v[i]);
    }
    if (caller && !m->failed)
        add_keyword(m, out, rt_val_lit("caller"), *caller);
    return !m->failed;
}

static rt_val take_keyword(rt_args *args, rt_val name)
{
    for (int i = 0; i < args->n_kw; i++)
        if (args->kw[i].key.n == name.n && !memcmp(args->kw[i].key.u.str, name.u.str, name.n)) {
            rt_val v = args->kw[i].value;
            args->n_kw--;
            memmove(args->kw + i, args->kw + i + 1, (size_t)(args->n_kw - i) * sizeof *args->kw);
            return v;
        }
    return rt_val_missing();
}

static int32_t find_id(const rt_tpl *m, const char *name)
{
    for (int32_t i = 0; i < m->t->n_names; i++)
        if (rt_val_is(m->t->name[i], name))
            return i;
    return 0; /* not named in the template, so it cannot be read either */
}

/* varargs, kwargs and caller, for the macros that name them; refuses what is left over. */
static void bind_rest(rt_tpl *m, const rt_node *def, rt_args *rest, int used)
{
    if (def->flag & CATCH_CALLER) {
        rt_val v = take_keyword(rest, rt_val_lit("caller"));
        if (v.kind == V_MISSING)
            v = rt_val_undef(UNDEF_HINT, rt_val_lit("no caller defined"));
        rt_scope_set(m, find_id(m, "caller"), v);
    }
    if (def->flag & CATCH_KWARGS) {
        rt_val d = rt_dict_new(m, rest->n_kw);
        for (int i = 0; i < rest->n_kw && !m->failed; i++)
            d.u.dict->pair[d.u.dict->n++] = rest->kw[i];
        rt_scope_set(m, find_id(m, "kwargs"), d);
    } else if (rest->n_kw) {
        rt_tpl_fail(m, "the macro takes no argument '%.*s'", (int)rt_min(rest->kw[0].key.n, 80),
                    rest->kw[0].key.u.str);
    }
    int64_t more = rt_max(rest->n_pos - used, 0);
    if (def->flag & CATCH_VARARGS) {
        rt_val t = rt_seq_new(m, SEQ_TUPLE, more);
        for (int64_t i = 0; i < more && !m->failed; i++)
            t.u.seq->item[i] = rest->pos[used + i];
        rt_scope_set(m, find_id(m, "varargs"), t);
    } else if (more) {
        rt_tpl_fail(m, "the macro takes not more than %d arguments", used);
    }
}

static rt_val call_macro(rt_tpl *m, const rt_macro *macro, const rt_args *args)
{
    const rt_node *def = macro->def;
    rt_scope *outer = m->scope, *scope = rt_scope_open(m, macro->closure);
    rt_args rest = *args;
    int i = 0;
    m->scope = scope;
    for (const rt_node *p = def->a; p && !m->failed; p = p->next, i++) {
        rt_val v = i < args->n_pos ? args->pos[i] : take_keyword(&rest, m->t->name[p->id]);
        rt_scope_set(m, p->id, v);
    }
    if (!m->failed)
        bind_rest(m, def, &rest, i);
    i = 0;
    for (const rt_node *p = def->a; p && !m->failed; p = p->next, i++) {
        rt_val v = rt_scope_get(m, p->id);
        if (v.kind == V_MISSING) {
            rt_scope_set(m, p->id, rt_val_undef(UNDEF_NAME, m->t->name[p->id]));
            if (p->a)
                rt_scope_set(m, p->id, rt_tpl_eval(m, p->a));
        }
    }
    m->scope = outer;
    return m->failed ? rt_val_none() : rt_tpl_capture(m, def->b, scope);
}

static rt_val call_value(rt_tpl *m, rt_val fn, const rt_args *args)
{
    switch ((rt_kind)fn.kind) {
    case V_FUNCTION:
        return rt_function_call(m, (rt_function)fn.u.i, args);
    case V_METHOD:
        return rt_method_call(m, fn.u.method->self, fn.u.method->id, args);
    case V_MACRO:
        return call_macro(m, fn.u.macro, args);
    case V_UNDEF:
        return rt_undef_fail(m, fn);
    default:
        return rt_tpl_fail(m, "a %s cannot be called", rt_val_type(fn));
    }
}

rt_val rt_tpl_call(rt_tpl *m, const rt_node *n, const rt_val *caller)
{
    rt_args args;
    rt_val fn = { 0 };
    int method = -1;
    if (n->a->op == N_ATTR) { /* the common case: a method of a value, without making it one */
        rt_val self = rt_tpl_eval(m, n->a->a);
        m->line = n->a->line;
        if (!m->failed && self.kind >= V_STR && self.kind <= V_DICT)
            method = rt_method_find(m, self, n->a->val);
        fn = method >= 0 || m->failed ? self : rt_val_attr(m, self, n->a->val);
    } else {
        fn = rt_tpl_eval(m, n->a);
    }
    if (m->failed || !rt_tpl_args(m, n->b, caller, &args))
        return fn;
    m->line = n->line;
    return method >= 0 ? rt_method_call(m, fn, method, &args) : call_value(m, fn, &args);
}
