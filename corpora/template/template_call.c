/* template_call.c: scopes of variables, and calls with their arguments: macros, functions, methods.
 */
#include "corpora/template/template_impl.h"

/* ---- scopes ---------------------------------------------------------------------------------- */

rt_scope *rt_scope_open(rt_tpl *m, rt_scope *parent)
{
    rt_scope *s = rt_tpl_take(m, sizeof *s);
    *s = (rt_scope){ .parent = parent };
    return s;
}

void rt_scope_set(rt_tpl *m, int32_t id, rt_val v)
{
    rt_scope *s = m->scope;
    for (int32_t i = 0; i < s->n; i++)
        if (s->var[i].id == id) {
            s->var[i].val = v;
            return;
        }
    if (s->n == s->cap) {
        int32_t cap = s->cap * 2 + 4;
        rt_slot_var *var = rt_tpl_take(m, cap * (int64_t)sizeof *var);
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
    m->steps += out->n_kw;
    for (int i = 0; i < out->n_kw; i++)
        if (rt_str_same(out->kw[i].key, key))
            rt_tpl_fail(m, "argument '%.*s' is given twice", (int)rt_min(key.n, 80), key.u.str);
    out->kw[out->n_kw++] = (rt_pair){ key, value };
}

/* What stands behind * (as a list) or ** (a dict of names). */
static rt_val spread(rt_tpl *m, rt_val v, bool names)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, 0), item;
    if (names && v.kind != V_DICT)
        rt_tpl_fail(m, "** needs a dict, not a %s", rt_val_type(v));
    for (int64_t i = 0; names && i < v.u.dict->n; i++)
        if (v.u.dict->pair[i].key.kind != V_STR)
            rt_tpl_fail(m, "** needs names that are strings");
    if (names)
        return v;
    rt_seq *s = rt_val_iterate(m, v);
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);)
        list = rt_seq_push(m, list, item);
    return list;
}

/* Evaluate arguments; caller (or NULL) is one more keyword. */
void rt_tpl_args(rt_tpl *m, const rt_node *list, const rt_val *caller, rt_args *out)
{
    int64_t n = 0, n_pos = 0, n_kw = caller != NULL, k = 0;
    for (const rt_node *a = list; a; a = a->next)
        n++;
    rt_val *value = rt_tpl_take(m, n * (int64_t)sizeof *value);
    for (const rt_node *a = list; a; a = a->next, k++) {
        rt_val v = rt_tpl_eval(m, a->a);
        value[k] = a->flag ? spread(m, v, a->flag == 'P') : v;
        n_pos += a->flag == '*' ? value[k].u.seq->n : !a->flag && a->val.kind != V_STR;
        n_kw += a->flag == 'P' ? value[k].u.dict->n : a->val.kind == V_STR;
    }
    *out = (rt_args){ .pos = rt_tpl_take(m, n_pos * (int64_t)sizeof *out->pos) };
    out->kw = rt_tpl_take(m, n_kw * (int64_t)sizeof *out->kw);
    k = 0;
    for (const rt_node *a = list; a; a = a->next, k++) {
        if (a->flag == 'P')
            for (int64_t i = 0; i < value[k].u.dict->n; i++)
                add_keyword(m, out, value[k].u.dict->pair[i].key, value[k].u.dict->pair[i].value);
        else if (a->val.kind == V_STR)
            add_keyword(m, out, a->val, value[k]);
        for (int64_t i = 0; a->flag == '*' && i < value[k].u.seq->n; i++)
            out->pos[out->n_pos++] = value[k].u.seq->item[i];
        if (!a->flag && a->val.kind != V_STR)
            out->pos[out->n_pos++] = value[k];
    }
    if (caller)
        add_keyword(m, out, rt_val_lit("caller"), *caller);
}

static rt_val take_keyword(rt_args *args, rt_val name)
{
    for (int i = 0; i < args->n_kw; i++)
        if (rt_str_same(args->kw[i].key, name)) {
            rt_val v = args->kw[i].value;
            args->kw[i] = args->kw[--args->n_kw];
            return v;
        }
    return rt_val_missing();
}

static rt_val call_macro(rt_tpl *m, const rt_macro *macro, const rt_args *args)
{
    const rt_node *def = macro->def;
    rt_scope *outer = m->scope, *scope = rt_scope_open(m, macro->closure);
    rt_args rest = *args;
    int i = 0;
    m->scope = scope;
    for (const rt_node *p = def->a; p; p = p->next, i++)
        rt_scope_set(m, p->id,
                     i < args->n_pos ? args->pos[i] : take_keyword(&rest, m->t->name[p->id]));
    if (i < args->n_pos)
        rt_tpl_fail(m, "the macro takes not more than %d arguments", i);
    for (i = 0; def->flag && i < m->t->n_names; i++)
        if (rt_val_is(m->t->name[i], "caller")) {
            rt_val v = take_keyword(&rest, m->t->name[i]);
            rt_scope_set(m, i, v.kind == V_MISSING ? rt_val_hint("no caller defined") : v);
        }
    if (rest.n_kw)
        rt_tpl_fail(m, "the macro takes no argument '%.*s'", (int)rt_min(rest.kw[0].key.n, 80),
                    rest.kw[0].key.u.str);
    for (const rt_node *p = def->a; p; p = p->next)
        if (rt_scope_get(m, p->id).kind == V_MISSING) {
            rt_scope_set(m, p->id, rt_val_undef(UNDEF_NAME, m->t->name[p->id]));
            if (p->a)
                rt_scope_set(m, p->id, rt_tpl_eval(m, p->a));
        }
    m->scope = outer;
    return rt_tpl_capture(m, def->b, scope);
}

rt_val rt_tpl_call(rt_tpl *m, const rt_node *n, const rt_val *caller)
{
    rt_args args;
    rt_val fn, self = rt_val_missing();
    const rt_builtin *method = NULL;
    if (n->a->op == N_ATTR) { /* the common case: a method of a value, without making it one */
        self = rt_tpl_eval(m, n->a->a);
        m->line = n->a->line;
        method = rt_method_find(self, n->a->val);
        fn = method ? self : rt_val_attr(m, self, n->a->val);
    } else {
        fn = rt_tpl_eval(m, n->a);
    }
    rt_tpl_args(m, n->b, caller, &args);
    m->line = n->line;
    if (!method && fn.kind == V_FUNCTION) {
        self = fn.u.function->self;
        method = fn.u.function->fn;
    }
    if (method)
        return rt_builtin_call(m, method, self, &args);
    if (fn.kind == V_MACRO)
        return call_macro(m, fn.u.macro, &args);
    if (fn.kind == V_UNDEF)
        return rt_undef_fail(m, fn);
    return rt_tpl_fail(m, "a %s cannot be called", rt_val_type(fn));
}
