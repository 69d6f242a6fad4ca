/* template_eval.c: walks the nodes of a template: statements, scopes, macros, expressions. Every
   node costs a step, every level of nesting is counted. A scope is opened by a loop's body, a
   macro, a captured block and `with`; assignments stay in the innermost one, as in jinja2. */
#include "corpora/template/template_impl.h"

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
    for (; part && rt_seq_next(m, s, &i, &item); part = part->next)
        assign(m, part, item);
    if (part || rt_seq_next(m, s, &i, &item))
        rt_tpl_fail(m, "%s values to unpack", part ? "not enough" : "too many");
}

/* ---- statements ------------------------------------------------------------------------------ */

/* Run body in a scope of its own. */
static flow exec_in(rt_tpl *m, rt_scope *scope, const rt_node *body)
{
    rt_scope *outer = m->scope;
    m->scope = scope;
    flow f = exec(m, body);
    m->scope = outer;
    return f;
}

/* What body writes, as a string, in that scope. */
rt_val rt_tpl_capture(rt_tpl *m, const rt_node *body, rt_scope *scope)
{
    rt_buf b = { 0 }, *out = m->out;
    if (++m->depth > m->limit.depth)
        rt_tpl_fail(m, "macros and blocks more than %lld deep: endless recursion?",
                    (long long)m->limit.depth);
    m->out = &b;
    exec_in(m, scope, body);
    m->out = out;
    m->depth--;
    return rt_buf_string(m, &b);
}

/* The items for which the loop's own "if" holds. */
static rt_seq *loop_filter(rt_tpl *m, const rt_node *n, rt_seq *s)
{
    rt_scope *outer = m->scope;
    rt_val list = rt_seq_new(m, SEQ_ONCE, 0), item;
    m->scope = rt_scope_open(m, outer);
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        assign(m, n->a, item);
        if (rt_val_truth(rt_tpl_eval(m, n->e)))
            list = rt_seq_push(m, list, item);
    }
    m->scope = outer;
    return list.u.seq;
}

static void exec_for(rt_tpl *m, const rt_node *n)
{
    rt_scope *outer = m->scope;
    rt_seq *s = rt_val_iterate(m, rt_tpl_eval(m, n->b));
    rt_loop *loop = rt_tpl_take(m, sizeof *loop);
    rt_val item;
    bool completed = false;
    if (n->e)
        s = loop_filter(m, n, s);
    *loop = (rt_loop){ .seq = s, .index0 = -1, .base = s->pos };
    m->scope = rt_scope_open(m, outer);
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        loop->index0++;
        m->scope->n = 0;
        rt_scope_set(m, 0, (rt_val){ .kind = V_LOOP, .u.loop = loop });
        assign(m, n->a, item);
        flow f = exec(m, n->c);
        completed |= f == FLOW_ON;
        if (f == FLOW_BREAK)
            break;
    }
    m->scope = outer;
    if (!completed && n->d) /* jinja2: also when every round broke off early */
        exec_in(m, rt_scope_open(m, outer), n->d);
}

static rt_val new_macro(rt_tpl *m, const rt_node *def)
{
    rt_macro *macro = rt_tpl_take(m, sizeof *macro);
    *macro = (rt_macro){ def, m->scope };
    return (rt_val){ .kind = V_MACRO, .u.macro = macro };
}

static flow exec_one(rt_tpl *m, const rt_node *n)
{
    rt_val v;
    switch ((rt_op)n->op) {
    case N_DATA:
        rt_buf_val(m, m->out, n->val);
        break;
    case N_PRINT:
        rt_buf_print(m, m->out, rt_tpl_eval(m, n->a));
        break;
    case N_IF:
        while (!rt_val_truth(rt_tpl_eval(m, n->a))) {
            if (!n->c || !n->c->flag || n->c->op != N_IF)
                return exec(m, n->c);
            n = n->c;
        }
        return exec(m, n->b);
    case N_FOR:
        exec_for(m, n);
        break;
    case N_SET:
        assign(m, n->a, rt_tpl_eval(m, n->b));
        break;
    case N_SETBLOCK:
        assign(m, n->a, rt_tpl_capture(m, n->b, rt_scope_open(m, m->scope)));
        break;
    case N_MACRO:
        rt_scope_set(m, n->id, new_macro(m, n));
        break;
    case N_CALL_BLOCK:
        v = new_macro(m, n->b);
        rt_buf_print(m, m->out, rt_tpl_call(m, n->a, &v));
        break;
    case N_GENERATION:
        exec_in(m, rt_scope_open(m, m->scope), n->a);
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
    rt_tpl_enter(m);
    for (; n && f == FLOW_ON; n = n->next) {
        m->line = n->line;
        rt_tpl_step(m, 1);
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
        for (const rt_node *a = n->a; a && a->next; a = a->next->next) {
            rt_val key = rt_tpl_eval(m, a), value = rt_tpl_eval(m, a->next);
            rt_dict_put(m, d.u.dict, key, value);
        }
        return d;
    }
    rt_val s = rt_seq_new(m, n->op == N_LIST ? SEQ_LIST : SEQ_TUPLE, count);
    int64_t i = 0;
    for (const rt_node *a = n->a; a; a = a->next)
        s.u.seq->item[i++] = rt_tpl_eval(m, a);
    return s;
}

static rt_val eval_concat(rt_tpl *m, const rt_node *n)
{
    rt_val s = rt_val_lit("");
    for (const rt_node *a = n->a; a; a = a->next) {
        rt_val part = rt_val_text(m, rt_tpl_eval(m, a));
        part.flag = 0;
        s = rt_val_concat(m, s, part);
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
    for (const rt_node *step = n->b; step; step = step->next) {
        rt_val right = rt_tpl_eval(m, step->a);
        m->line = step->line;
        if (!compare(m, step->flag, left, right))
            return rt_val_bool(false);
        left = right;
    }
    return rt_val_bool(true);
}

static rt_val eval_unary(rt_tpl *m, const rt_node *n)
{
    rt_val v = rt_tpl_eval(m, n->a);
    if (n->flag == '!')
        return rt_val_bool(!rt_val_truth(v));
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
    if (!n->fn)
        rt_tpl_fail(m, "there is no %s named '%.*s' in chat templates", filter ? "filter" : "test",
                    (int)rt_min(n->val.n, 80), n->val.u.str);
    rt_tpl_args(m, n->b, NULL, &args);
    m->line = n->line;
    return rt_builtin_call(m, n->fn, v, &args);
}

static rt_val eval_node(rt_tpl *m, const rt_node *n)
{
    rt_val a, b, bound[3];
    switch ((rt_op)n->op) {
    case N_CONST:
        return n->val;
    case N_NAME:
        return rt_scope_get(m, n->id);
    case N_LIST:
    case N_TUPLE:
    case N_DICT:
        return eval_items(m, n);
    case N_ATTR:
        a = rt_tpl_eval(m, n->a);
        m->line = n->line;
        return rt_val_attr(m, a, n->val);
    case N_ITEM:
        a = rt_tpl_eval(m, n->a);
        b = rt_tpl_eval(m, n->b);
        m->line = n->line;
        return rt_val_item(m, a, b);
    case N_SLICE:
        a = rt_tpl_eval(m, n->a);
        bound[0] = n->b ? rt_tpl_eval(m, n->b) : rt_val_none();
        bound[1] = n->c ? rt_tpl_eval(m, n->c) : rt_val_none();
        bound[2] = n->d ? rt_tpl_eval(m, n->d) : rt_val_none();
        return rt_val_slice(m, a, bound);
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
        return rt_val_truth(a) == (n->op == N_OR) ? a : rt_tpl_eval(m, n->b);
    case N_CONCAT:
        return eval_concat(m, n);
    case N_COMPARE:
        return eval_compare(m, n);
    case N_COND:
        a = rt_tpl_eval(m, n->a);
        if (rt_val_truth(a) || n->c)
            return rt_tpl_eval(m, rt_val_truth(a) ? n->b : n->c);
        return rt_val_hint("an if without else gave no value");
    default:
        rt_bug("template expression %d", n->op);
    }
}

rt_val rt_tpl_eval(rt_tpl *m, const rt_node *n)
{
    rt_tpl_enter(m);
    rt_val v = eval_node(m, n);
    m->nest--;
    return v;
}

void rt_tpl_run(rt_tpl *m)
{
    m->out = &m->root;
    m->scope = rt_scope_open(m, NULL);
    exec(m, m->t->body);
}
