/* template_eval.c: walks the nodes of a template: statements, scopes, macros, expressions. Every
   node costs a step, every level of nesting is counted. A scope is opened by a loop's body, a
   macro, a captured block and `with`; assignments stay in the innermost one, as in jinja2. */
#include "corpora/template_impl.h"

#include <string.h>

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow exec(rt_tpl *m, const rt_node *n);

static void assign(rt_tpl *m, const rt_node *target, rt_val v)
{
    m->line = target->line;
    if (target->op == N_NAME) {
        rt_scope_set(m, target->id, v);
        return;
    }
    if (target->op == N_ATTR) {
        rt_val ns = rt_scope_get(m, target->a->id);
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
rt_val rt_tpl_capture(rt_tpl *m, const rt_node *body, rt_scope *scope)
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
    rt_val v = rt_tpl_eval(m, chain);
    m->body = outer;
    return v;
}

/* The items for which the loop's own "if" holds. */
static rt_seq *loop_filter(rt_tpl *m, const rt_node *n, rt_seq *s)
{
    rt_scope *outer = m->scope;
    rt_err *err = m->err, late = { 0 };
    rt_val list = rt_seq_new(m, SEQ_LIST, 0), item;
    m->scope = rt_scope_open(m, outer);
    m->err = &late;
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        assign(m, n->a, item);
        if (rt_val_truth(m, rt_tpl_eval(m, n->e)) && !m->failed)
            list = rt_seq_push(m, list, item);
    }
    m->scope = outer;
    list = rt_seq_late(m, list, &late, err);
    return m->failed ? NULL : list.u.seq;
}

static void exec_for(rt_tpl *m, const rt_node *n)
{
    rt_scope *outer = m->scope;
    rt_seq *s = rt_val_iterate(m, rt_tpl_eval(m, n->b));
    rt_loop *loop = rt_tpl_take(m, sizeof *loop);
    rt_val item;
    bool completed = false;
    if (s && n->e && !m->failed)
        s = loop_filter(m, n, s);
    if (!s || !loop)
        return;
    *loop = (rt_loop){ .seq = s, .index0 = -1, .base = s->kind == SEQ_ONCE ? s->pos : 0 };
    m->scope = rt_scope_open(m, outer);
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        loop->index0++;
        m->scope->n = 0;
        rt_scope_set(m, 0, (rt_val){ .kind = V_LOOP, .u.loop = loop });
        assign(m, n->a, item);
        flow f = m->failed ? FLOW_BREAK : exec(m, n->c);
        completed |= f == FLOW_ON;
        if (f == FLOW_BREAK)
            break;
    }
    m->scope = outer;
    if (!completed && n->d && !m->failed) { /* jinja2: also when every round broke off early */
        m->scope = rt_scope_open(m, outer);
        exec(m, n->d);
        m->scope = outer;
    }
}

static void exec_generation(rt_tpl *m, const rt_node *n)
{
    rt_scope *outer = m->scope;
    rt_template_span span = { m->out->n, 0 };
    m->scope = rt_scope_open(m, outer);
    exec(m, n->a);
    m->scope = outer;
    span.end = m->out->n;
    if (m->out == &m->root)
        rt_buf_add(m, &m->spans, (const char *)&span, sizeof span);
}

static flow exec_with(rt_tpl *m, const rt_node *n)
{
    rt_scope *outer = m->scope, *inner = rt_scope_open(m, outer);
    for (const rt_node *t = n->a, *v = n->b; t && v && !m->failed; t = t->next, v = v->next) {
        rt_val value = rt_tpl_eval(m, v); /* in the outer scope */
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

static flow exec_one(rt_tpl *m, const rt_node *n)
{
    rt_val v;
    switch ((rt_op)n->op) {
    case N_DATA:
        rt_buf_add(m, m->out, n->val.u.str, n->val.n);
        break;
    case N_PRINT:
        v = rt_tpl_eval(m, n->a);
        if (!m->failed)
            rt_buf_print(m, m->out, v);
        break;
    case N_IF:
        for (; n; n = n->c) {
            if (rt_val_truth(m, rt_tpl_eval(m, n->a)) && !m->failed)
                return exec(m, n->b);
            if (m->failed || !n->c || n->c->op != N_IF || !n->c->flag)
                return m->failed ? FLOW_ON : exec(m, n->c);
        }
        break;
    case N_FOR:
        exec_for(m, n);
        break;
    case N_SET:
        v = rt_tpl_eval(m, n->b);
        assign(m, n->a, v);
        break;
    case N_SETBLOCK:
        v = rt_tpl_capture(m, n->c, rt_scope_open(m, m->scope));
        if (n->b && !m->failed)
            v = filtered(m, n->b, v);
        assign(m, n->a, v);
        break;
    case N_MACRO:
        rt_scope_set(m, n->id, new_macro(m, n));
        break;
    case N_CALL_BLOCK:
        v = new_macro(m, n->b);
        v = rt_tpl_call(m, n->a, &v);
        if (!m->failed)
            rt_buf_print(m, m->out, v);
        break;
    case N_FILTER_BLOCK:
        v = rt_tpl_capture(m, n->b, rt_scope_open(m, m->scope));
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

/* ---- expressions ----------------------------------------------------------------------------- */

static rt_val eval_items(rt_tpl *m, const rt_node *n)
{
    int64_t count = 0;
    for (const rt_node *a = n->a; a; a = a->next)
        count++;
    if (n->op == N_DICT) {
        rt_val d = rt_dict_new(m, count / 2);
        for (const rt_node *a = n->a; a && a->next && !m->failed; a = a->next->next) {
            rt_val key = rt_tpl_eval(m, a), value = rt_tpl_eval(m, a->next);
            rt_dict_put(m, d.u.dict, key, value);
        }
        return d;
    }
    rt_val s = rt_seq_new(m, n->op == N_LIST ? SEQ_LIST : SEQ_TUPLE, count);
    int64_t i = 0;
    for (const rt_node *a = n->a; a && !m->failed; a = a->next)
        s.u.seq->item[i++] = rt_tpl_eval(m, a);
    return s;
}

static rt_val eval_concat(rt_tpl *m, const rt_node *n)
{
    rt_val s = rt_val_lit("");
    for (const rt_node *a = n->a; a && !m->failed; a = a->next) {
        rt_val part = rt_val_text(m, rt_tpl_eval(m, a));
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
    rt_val left = rt_tpl_eval(m, n->a);
    for (const rt_node *step = n->b; step && !m->failed; step = step->next) {
        rt_val right = rt_tpl_eval(m, step->a);
        m->line = step->line;
        if (m->failed || !compare(m, step->flag, left, right))
            return rt_val_bool(false);
        left = right;
    }
    return rt_val_bool(true);
}

static rt_val eval_unary(rt_tpl *m, const rt_node *n)
{
    rt_val v = rt_tpl_eval(m, n->a);
    if (m->failed || n->flag == '!')
        return rt_val_bool(!rt_val_truth(m, v));
    if (v.kind == V_FLOAT)
        return rt_val_float(n->flag == '-' ? -v.u.f : v.u.f);
    return rt_val_binary(m, n->flag, rt_val_int(0), v.kind == V_STR ? rt_val_none() : v);
}

static rt_val eval_applied(rt_tpl *m, const rt_node *n)
{
    rt_args args;
    rt_val v = rt_tpl_eval(m, n->a);
    bool filter = n->op == N_FILTER;
    m->line = n->line;
    if (n->id < 0)
        return rt_tpl_fail(m,
                           n->id == -1 ? "there is no %s named '%.*s'"
                                       : "the %s '%.*s' is not supported in chat templates",
                           filter ? "filter" : "test", (int)rt_min(n->val.n, 80), n->val.u.str);
    if (m->failed || !rt_tpl_args(m, n->b, NULL, &args))
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
        return rt_scope_get(m, n->id);
    case N_BODY:
        return m->body;
    case N_LIST:
    case N_TUPLE:
    case N_DICT:
        return eval_items(m, n);
    case N_ATTR:
        a = rt_tpl_eval(m, n->a);
        m->line = n->line;
        return m->failed ? a : rt_val_attr(m, a, n->val);
    case N_ITEM:
        a = rt_tpl_eval(m, n->a);
        b = rt_tpl_eval(m, n->b);
        m->line = n->line;
        return m->failed ? a : rt_val_item(m, a, b);
    case N_SLICE:
        a = rt_tpl_eval(m, n->a);
        bound[0] = n->b ? rt_tpl_eval(m, n->b) : rt_val_none();
        bound[1] = n->c ? rt_tpl_eval(m, n->c) : rt_val_none();
        bound[2] = n->d ? rt_tpl_eval(m, n->d) : rt_val_none();
        return m->failed ? a : rt_val_slice(m, a, bound);
    case N_CALL:
        return rt_tpl_call(m, n, NULL);
    case N_FILTER:
    case N_TEST:
        return eval_applied(m, n);
    case N_UNARY:
        return eval_unary(m, n);
    case N_BINARY:
        a = rt_tpl_eval(m, n->a);
        b = rt_tpl_eval(m, n->b);
        m->line = n->line;
        return rt_val_binary(m, n->flag, a, b);
    case N_AND:
    case N_OR:
        a = rt_tpl_eval(m, n->a);
        return m->failed || rt_val_truth(m, a) == (n->op == N_OR) ? a : rt_tpl_eval(m, n->b);
    case N_CONCAT:
        return eval_concat(m, n);
    case N_COMPARE:
        return eval_compare(m, n);
    case N_COND:
        a = rt_tpl_eval(m, n->a);
        if (!m->failed && rt_val_truth(m, a))
            return rt_tpl_eval(m, n->b);
        return !m->failed && n->c
                   ? rt_tpl_eval(m, n->c)
                   : rt_val_undef(UNDEF_HINT, rt_val_lit("an if without else gave no value"));
    default:
        rt_bug("template expression %d", n->op);
    }
}

rt_val rt_tpl_eval(rt_tpl *m, const rt_node *n)
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
    m->scope = rt_scope_open(m, NULL);
    if (m->scope)
        exec(m, m->t->body);
    return m->failed ? -1 : 0;
}
