/* template_eval.c: walks the nodes of a template: statements, scopes, macros, expressions. Every
   node costs a step, every level of nesting is counted. A scope is opened by a loop's body, a
   macro, a captured block and `with`; assignments stay in the innermost one, as in jinja2. */
#include "corpora/template_impl.h"

#include <string.h>

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static rt_val eval(rt_tpl *m, const rt_node *n);
static flow exec(rt_tpl *m, const rt_node *n);

/* ---- scopes ---------------------------------------------------------------------------------- */

static rt_scope *open_scope(rt_tpl *m, rt_scope *parent)
{
    rt_scope *s = rt_tpl_take(m, sizeof *s);
    if (s)
        *s = (rt_scope){ .parent = parent };
    return s ? s : m->scope;
}

static void set_name(rt_tpl *m, int32_t id, rt_val v)
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

static rt_val get_name(rt_tpl *m, int32_t id)
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

static void assign(rt_tpl *m, const rt_node *target, rt_val v)
{
    m->line = target->line;
    if (target->op == N_NAME) {
        set_name(m, target->id, v);
        return;
    }
    if (target->op == N_ATTR) {
        rt_val ns = get_name(m, target->a->id);
        if (ns.kind != V_NAMESPACE)
            rt_tpl_fail(m, "only a namespace can be assigned to, this is a %s", rt_val_type(ns));
        else if (target->val.u.str[0] == '_')
            rt_tpl_fail(m, "a namespace cannot store names that begin with an underscore");
        else
            rt_dict_put(m, ns.u.dict, target->val, v);
        return;
    }
    rt_seq *s = rt_val_iterate(m, v);
    rt_val item;
    int64_t i = 0;
    const rt_node *part = target->a;
    for (; s && part && rt_seq_next(m, s, &i, &item); part = part->next)
        assign(m, part, item);
    if (s && (part || rt_seq_next(m, s, &i, &item)))
        rt_tpl_fail(m, "%s values to unpack", part ? "not enough" : "too many");
}

/* ---- statements ------------------------------------------------------------------------------ */

/* What body writes, as a string, in a scope under parent. */
static rt_val capture(rt_tpl *m, const rt_node *body, rt_scope *scope)
{
    rt_buf b = { 0 }, *out = m->out;
    rt_scope *outer = m->scope;
    if (++m->depth > m->limit.depth)
        rt_tpl_exhaust(m, "macros and blocks more than %lld deep: endless recursion?",
                       m->limit.depth);
    m->out = &b;
    m->scope = scope;
    if (!m->failed)
        exec(m, body);
    m->out = out;
    m->scope = outer;
    m->depth--;
    return rt_buf_string(m, &b);
}

/* The filters of a block on what it captured. */
static rt_val filtered(rt_tpl *m, const rt_node *chain, rt_val body)
{
    rt_val outer = m->body;
    m->body = body;
    rt_val v = eval(m, chain);
    m->body = outer;
    return v;
}

/* The items for which the loop's own "if" holds. */
static rt_seq *loop_filter(rt_tpl *m, const rt_node *n, rt_seq *s)
{
    rt_scope *outer = m->scope;
    rt_err *err = m->err, late = { 0 };
    rt_val list = rt_seq_new(m, SEQ_LIST, 0), item;
    m->scope = open_scope(m, outer);
    m->err = &late;
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        assign(m, n->a, item);
        if (rt_val_truth(m, eval(m, n->e)) && !m->failed)
            list = rt_seq_push(m, list, item);
    }
    m->scope = outer;
    list = rt_seq_late(m, list, &late, err);
    return m->failed ? NULL : list.u.seq;
}

static void exec_for(rt_tpl *m, const rt_node *n)
{
    rt_scope *outer = m->scope;
    rt_seq *s = rt_val_iterate(m, eval(m, n->b));
    rt_loop *loop = rt_tpl_take(m, sizeof *loop);
    rt_val item;
    bool completed = false;
    if (s && n->e && !m->failed)
        s = loop_filter(m, n, s);
    if (!s || !loop)
        return;
    *loop = (rt_loop){ .seq = s, .index0 = -1, .base = s->kind == SEQ_ONCE ? s->pos : 0 };
    m->scope = open_scope(m, outer);
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        loop->index0++;
        m->scope->n = 0;
        set_name(m, 0, (rt_val){ .kind = V_LOOP, .u.loop = loop });
        assign(m, n->a, item);
        flow f = m->failed ? FLOW_BREAK : exec(m, n->c);
        completed |= f == FLOW_ON;
        if (f == FLOW_BREAK)
            break;
    }
    m->scope = outer;
    if (!completed && n->d && !m->failed) { /* jinja2: also when every round broke off early */
        m->scope = open_scope(m, outer);
        exec(m, n->d);
        m->scope = outer;
    }
}

static void exec_generation(rt_tpl *m, const rt_node *n)
{
    rt_scope *outer = m->scope;
    rt_template_span span = { m->out->n, 0 };
    m->scope = open_scope(m, outer);
    exec(m, n->a);
    m->scope = outer;
    span.end = m->out->n;
    if (m->out == &m->root)
        rt_buf_add(m, &m->spans, (const char *)&span, sizeof span);
}

static flow exec_with(rt_tpl *m, const rt_node *n)
{
    rt_scope *outer = m->scope, *inner = open_scope(m, outer);
    for (const rt_node *t = n->a, *v = n->b; t && v && !m->failed; t = t->next, v = v->next) {
        rt_val value = eval(m, v); /* in the outer scope */
        m->scope = inner;
        assign(m, t, value);
        m->scope = outer;
    }
    m->scope = inner;
    flow f = m->failed ? FLOW_ON : exec(m, n->c);
    m->scope = outer;
    return f;
}

static rt_val new_macro(rt_tpl *m, const rt_node *def)
{
    rt_macro *macro = rt_tpl_take(m, sizeof *macro);
    if (!macro)
        return rt_val_none();
    *macro = (rt_macro){ def, m->scope };
    return (rt_val){ .kind = V_MACRO, .u.macro = macro };
}

static rt_val call(rt_tpl *m, const rt_node *n, const rt_val *caller);

static flow exec_one(rt_tpl *m, const rt_node *n)
{
    rt_val v;
    switch ((rt_op)n->op) {
    case N_DATA:
        rt_buf_add(m, m->out, n->val.u.str, n->val.n);
        break;
    case N_PRINT:
        v = eval(m, n->a);
        if (!m->failed)
            rt_buf_print(m, m->out, v);
        break;
    case N_IF:
        for (; n; n = n->c) {
            if (rt_val_truth(m, eval(m, n->a)) && !m->failed)
                return exec(m, n->b);
            if (m->failed || !n->c || n->c->op != N_IF || !n->c->flag)
                return m->failed ? FLOW_ON : exec(m, n->c);
        }
        break;
    case N_FOR:
        exec_for(m, n);
        break;
    case N_SET:
        v = eval(m, n->b);
        assign(m, n->a, v);
        break;
    case N_SETBLOCK:
        v = capture(m, n->c, open_scope(m, m->scope));
        if (n->b && !m->failed)
            v = filtered(m, n->b, v);
        assign(m, n->a, v);
        break;
    case N_MACRO:
        set_name(m, n->id, new_macro(m, n));
        break;
    case N_CALL_BLOCK:
        v = new_macro(m, n->b);
        v = call(m, n->a, &v);
        if (!m->failed)
            rt_buf_print(m, m->out, v);
        break;
    case N_FILTER_BLOCK:
        v = capture(m, n->b, open_scope(m, m->scope));
        v = m->failed ? v : filtered(m, n->a, v);
        if (!m->failed)
            rt_buf_print(m, m->out, v);
        break;
    case N_WITH:
        return exec_with(m, n);
    case N_GENERATION:
        exec_generation(m, n);
        break;
    case N_BREAK:
        return FLOW_BREAK;
    case N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        rt_bug("template statement %d", n->op);
    }
    return FLOW_ON;
}

static flow exec(rt_tpl *m, const rt_node *n)
{
    flow f = FLOW_ON;
    if (!rt_tpl_enter(m))
        return f;
    for (; n && f == FLOW_ON && !m->failed; n = n->next) {
        m->line = n->line;
        if (rt_tpl_step(m, 1))
            f = exec_one(m, n);
    }
    m->nest--;
    return f;
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
static bool eval_args(rt_tpl *m, const rt_node *list, const rt_val *caller, rt_args *out)
{
    int64_t n = 0, n_pos = 0, n_kw = caller != NULL, i = 0;
    for (const rt_node *a = list; a; a = a->next)
        n++;
    *out = (rt_args){ 0 };
    if (!n && !caller)
        return !m->failed;
    rt_val *v = rt_tpl_take(m, n * (int64_t)sizeof *v);
    for (const rt_node *a = list; a && !m->failed; a = a->next, i++) {
        v[i] = eval(m, a->a);
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
        set_name(m, find_id(m, "caller"), v);
    }
    if (def->flag & CATCH_KWARGS) {
        rt_val d = rt_dict_new(m, rest->n_kw);
        for (int i = 0; i < rest->n_kw && !m->failed; i++)
            d.u.dict->pair[d.u.dict->n++] = rest->kw[i];
        set_name(m, find_id(m, "kwargs"), d);
    } else if (rest->n_kw) {
        rt_tpl_fail(m, "the macro takes no argument '%.*s'", (int)rt_min(rest->kw[0].key.n, 80),
                    rest->kw[0].key.u.str);
    }
    int64_t more = rt_max(rest->n_pos - used, 0);
    if (def->flag & CATCH_VARARGS) {
        rt_val t = rt_seq_new(m, SEQ_TUPLE, more);
        for (int64_t i = 0; i < more && !m->failed; i++)
            t.u.seq->item[i] = rest->pos[used + i];
        set_name(m, find_id(m, "varargs"), t);
    } else if (more) {
        rt_tpl_fail(m, "the macro takes not more than %d arguments", used);
    }
}

rt_val rt_tpl_call_macro(rt_tpl *m, const rt_macro *macro, const rt_args *args)
{
    const rt_node *def = macro->def;
    rt_scope *outer = m->scope, *scope = open_scope(m, macro->closure);
    rt_args rest = *args;
    int i = 0;
    m->scope = scope;
    for (const rt_node *p = def->a; p && !m->failed; p = p->next, i++) {
        rt_val v = i < args->n_pos ? args->pos[i] : take_keyword(&rest, m->t->name[p->id]);
        set_name(m, p->id, v);
    }
    if (!m->failed)
        bind_rest(m, def, &rest, i);
    i = 0;
    for (const rt_node *p = def->a; p && !m->failed; p = p->next, i++) {
        rt_val v = get_name(m, p->id);
        if (v.kind == V_MISSING) {
            set_name(m, p->id, rt_val_undef(UNDEF_NAME, m->t->name[p->id]));
            if (p->a)
                set_name(m, p->id, eval(m, p->a));
        }
    }
    m->scope = outer;
    return m->failed ? rt_val_none() : capture(m, def->b, scope);
}

static rt_val call_value(rt_tpl *m, rt_val fn, const rt_args *args)
{
    switch ((rt_kind)fn.kind) {
    case V_FUNCTION:
        return rt_function_call(m, (rt_function)fn.u.i, args);
    case V_METHOD:
        return rt_method_call(m, fn.u.method->self, fn.u.method->id, args);
    case V_MACRO:
        return rt_tpl_call_macro(m, fn.u.macro, args);
    case V_UNDEF:
        return rt_undef_fail(m, fn);
    default:
        return rt_tpl_fail(m, "a %s cannot be called", rt_val_type(fn));
    }
}

static rt_val call(rt_tpl *m, const rt_node *n, const rt_val *caller)
{
    rt_args args;
    rt_val fn = { 0 };
    int method = -1;
    if (n->a->op == N_ATTR) { /* the common case: a method of a value, without making it one */
        rt_val self = eval(m, n->a->a);
        m->line = n->a->line;
        if (!m->failed && self.kind >= V_STR && self.kind <= V_DICT)
            method = rt_method_find(m, self, n->a->val);
        fn = method >= 0 || m->failed ? self : rt_val_attr(m, self, n->a->val);
    } else {
        fn = eval(m, n->a);
    }
    if (m->failed || !eval_args(m, n->b, caller, &args))
        return fn;
    m->line = n->line;
    return method >= 0 ? rt_method_call(m, fn, method, &args) : call_value(m, fn, &args);
}

/* ---- expressions ----------------------------------------------------------------------------- */

static rt_val eval_items(rt_tpl *m, const rt_node *n)
{
    int64_t count = 0;
    for (const rt_node *a = n->a; a; a = a->next)
        count++;
    if (n->op == N_DICT) {
        rt_val d = rt_dict_new(m, count / 2);
        for (const rt_node *a = n->a; a && a->next && !m->failed; a = a->next->next) {
            rt_val key = eval(m, a), value = eval(m, a->next);
            rt_dict_put(m, d.u.dict, key, value);
        }
        return d;
    }
    rt_val s = rt_seq_new(m, n->op == N_LIST ? SEQ_LIST : SEQ_TUPLE, count);
    int64_t i = 0;
    for (const rt_node *a = n->a; a && !m->failed; a = a->next)
        s.u.seq->item[i++] = eval(m, a);
    return s;
}

static rt_val eval_concat(rt_tpl *m, const rt_node *n)
{
    rt_val s = rt_val_lit("");
    for (const rt_node *a = n->a; a && !m->failed; a = a->next) {
        rt_val part = rt_val_text(m, eval(m, a));
        part.flag = 0;
        s = m->failed ? s : rt_val_concat(m, s, part);
    }
    return s;
}

static bool compare(rt_tpl *m, int op, rt_val a, rt_val b)
{
    if (op == 'E' || op == 'N')
        return rt_val_equal(m, a, b) == (op == 'E');
    if (op == 'i' || op == 'n')
        return rt_val_in(m, a, b) == (op == 'i');
    int c = rt_val_order(m, a, b);
    return op == '<' ? c == -1 : op == '>' ? c == 1 : c == 0 || c == (op == 'L' ? -1 : 1);
}

static rt_val eval_compare(rt_tpl *m, const rt_node *n)
{
    rt_val left = eval(m, n->a);
    for (const rt_node *step = n->b; step && !m->failed; step = step->next) {
        rt_val right = eval(m, step->a);
        m->line = step->line;
        if (m->failed || !compare(m, step->flag, left, right))
            return rt_val_bool(false);
        left = right;
    }
    return rt_val_bool(true);
}

static rt_val eval_unary(rt_tpl *m, const rt_node *n)
{
    rt_val v = eval(m, n->a);
    if (m->failed || n->flag == '!')
        return rt_val_bool(!rt_val_truth(m, v));
    if (v.kind == V_FLOAT)
        return rt_val_float(n->flag == '-' ? -v.u.f : v.u.f);
    return rt_val_binary(m, n->flag, rt_val_int(0), v.kind == V_STR ? rt_val_none() : v);
}

static rt_val eval_applied(rt_tpl *m, const rt_node *n)
{
    rt_args args;
    rt_val v = eval(m, n->a);
    bool filter = n->op == N_FILTER;
    m->line = n->line;
    if (n->id < 0)
        return rt_tpl_fail(m,
                           n->id == -1 ? "there is no %s named '%.*s'"
                                       : "the %s '%.*s' is not supported in chat templates",
                           filter ? "filter" : "test", (int)rt_min(n->val.n, 80), n->val.u.str);
    if (m->failed || !eval_args(m, n->b, NULL, &args))
        return v;
    m->line = n->line;
    return filter ? rt_filter_apply(m, n->id, v, &args)
                  : rt_val_bool(rt_test_apply(m, n->id, v, &args));
}

static rt_val eval_node(rt_tpl *m, const rt_node *n)
{
    rt_val a, b, bound[3];
    switch ((rt_op)n->op) {
    case N_CONST:
        return n->val;
    case N_NAME:
        return get_name(m, n->id);
    case N_BODY:
        return m->body;
    case N_LIST:
    case N_TUPLE:
    case N_DICT:
        return eval_items(m, n);
    case N_ATTR:
        a = eval(m, n->a);
        m->line = n->line;
        return m->failed ? a : rt_val_attr(m, a, n->val);
    case N_ITEM:
        a = eval(m, n->a);
        b = eval(m, n->b);
        m->line = n->line;
        return m->failed ? a : rt_val_item(m, a, b);
    case N_SLICE:
        a = eval(m, n->a);
        bound[0] = n->b ? eval(m, n->b) : rt_val_none();
        bound[1] = n->c ? eval(m, n->c) : rt_val_none();
        bound[2] = n->d ? eval(m, n->d) : rt_val_none();
        return m->failed ? a : rt_val_slice(m, a, bound);
    case N_CALL:
        return call(m, n, NULL);
    case N_FILTER:
    case N_TEST:
        return eval_applied(m, n);
    case N_UNARY:
        return eval_unary(m, n);
    case N_BINARY:
        a = eval(m, n->a);
        b = eval(m, n->b);
        m->line = n->line;
        return rt_val_binary(m, n->flag, a, b);
    case N_AND:
    case N_OR:
        a = eval(m, n->a);
        return m->failed || rt_val_truth(m, a) == (n->op == N_OR) ? a : eval(m, n->b);
    case N_CONCAT:
        return eval_concat(m, n);
    case N_COMPARE:
        return eval_compare(m, n);
    case N_COND:
        a = eval(m, n->a);
        if (!m->failed && rt_val_truth(m, a))
            return eval(m, n->b);
        return !m->failed && n->c
                   ? eval(m, n->c)
                   : rt_val_undef(UNDEF_HINT, rt_val_lit("an if without else gave no value"));
    default:
        rt_bug("template expression %d", n->op);
    }
}

static rt_val eval(rt_tpl *m, const rt_node *n)
{
    if (m->failed || !rt_tpl_enter(m))
        return rt_val_none();
    rt_val v = eval_node(m, n);
    m->nest--;
    return v;
}

int rt_tpl_run(rt_tpl *m)
{
    m->out = &m->root;
    m->scope = open_scope(m, NULL);
    if (m->scope)
        exec(m, m->t->body);
    return m->failed ? -1 : 0;
}
