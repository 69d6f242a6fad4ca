/* template_parse.c: statements of templates. Names become indices, so that scopes are short arrays
   of integers. Refuses: include, import, extends, block, autoescape, print, recursive loops,
   anything nested more than 200 deep. */
#include "corpora/template_impl.h"

#include <string.h>

static rt_node *parse_body(rt_parser *p, const char *ends);

static rt_node *parse_target(rt_parser *p, bool namespaces)
{
    rt_node *tuple = rt_parse_node(p, N_TUPLE, NULL), **tail = &tuple->a, *n;
    bool commas = false;
    if (!rt_parse_enter(p))
        return tuple;
    while (!p->m->failed && (p->tok.kind == T_NAME || rt_parse_at(p, "(")) &&
           !rt_parse_at(p, "in")) {
        if (rt_parse_skip(p, "(")) {
            n = parse_target(p, false);
            rt_parse_expect(p, ")");
        } else {
            if (rt_parse_at(p, "true") || rt_parse_at(p, "false") || rt_parse_at(p, "none") ||
                rt_parse_at(p, "loop"))
                rt_parse_wrong(p, "a name that can be assigned to");
            n = rt_parse_name(p);
            if (namespaces && rt_parse_skip(p, ".")) {
                n = rt_parse_node(p, N_ATTR, n);
                n->val = rt_val_str(p->tok.s, p->tok.n);
                rt_parse_name(p);
            }
        }
        *tail = n;
        tail = &n->next;
        if (!rt_parse_skip(p, ","))
            break;
        commas = true;
    }
    if (!tuple->a)
        rt_parse_wrong(p, "a name that can be assigned to");
    p->depth--;
    return commas || !tuple->a ? tuple : tuple->a;
}

/* A body in a scope of its own, up to one of ends. */
static rt_node *parse_scope(rt_parser *p, const char *ends)
{
    bool soft = p->soft;
    p->soft = false;
    rt_node *body = parse_body(p, ends);
    p->soft = soft;
    return body;
}

static rt_node *parse_for(rt_parser *p, rt_node *n)
{
    n->a = parse_target(p, false);
    rt_parse_expect(p, "in");
    n->b = rt_parse_tuple(p, false, false);
    if (rt_parse_skip(p, "if"))
        n->e = rt_parse_expression(p, true);
    if (rt_parse_at(p, "recursive"))
        rt_tpl_fail(p->m, "recursive loops are not supported: use a macro");
    p->loops++;
    n->c = parse_scope(p, "endfor else");
    p->loops--;
    if (rt_parse_skip(p, "else"))
        n->d = parse_scope(p, "endfor");
    rt_parse_next(p);
    return n;
}

static rt_node *parse_if(rt_parser *p, rt_node *first)
{
    bool soft = p->soft;
    p->soft = true;
    for (rt_node *n = first;; n = n->c) {
        n->a = rt_parse_tuple(p, false, false);
        n->b = parse_body(p, "elif else endif");
        if (p->m->failed)
            return first;
        if (rt_parse_skip(p, "elif")) {
            n->c = rt_parse_node(p, N_IF, NULL);
            n->c->flag = 1;
            continue;
        }
        if (rt_parse_skip(p, "else"))
            n->c = parse_body(p, "endif");
        break;
    }
    p->soft = soft;
    rt_parse_next(p);
    return first;
}

static rt_node *parse_chain(rt_parser *p)
{
    rt_node *n = rt_parse_filter(p, rt_parse_node(p, N_BODY, NULL));
    while (!p->m->failed && rt_parse_skip(p, "|"))
        n = rt_parse_filter(p, n);
    return n;
}

static rt_node *parse_set(rt_parser *p, rt_node *n)
{
    n->a = parse_target(p, true);
    if (rt_parse_skip(p, "=")) {
        n->b = rt_parse_tuple(p, true, false);
        return n;
    }
    n->op = N_SETBLOCK;
    if (rt_parse_skip(p, "|"))
        n->b = parse_chain(p);
    n->c = parse_scope(p, "endset");
    rt_parse_next(p);
    return n;
}

/* "(a, b=1)" of a macro or a call block. */
static void parse_signature(rt_parser *p, rt_node *macro)
{
    rt_node **tail = &macro->a;
    bool defaults = false;
    rt_parse_expect(p, "(");
    while (!p->m->failed && !rt_parse_at(p, ")")) {
        rt_node *n = rt_parse_name(p);
        n->op = N_PARAM;
        for (const rt_node *twin = macro->a; twin && !p->m->failed; twin = twin->next)
            if (twin->id == n->id)
                rt_tpl_fail(p->m, "two parameters of one name");
        *tail = n;
        tail = &n->next;
        if (rt_parse_skip(p, "="))
            n->a = rt_parse_expression(p, true);
        else if (defaults)
            rt_tpl_fail(p->m, "a parameter without a default follows one with a default");
        defaults = n->a != NULL;
        if (!rt_parse_skip(p, ","))
            break;
    }
    rt_parse_expect(p, ")");
}

/* The body of a macro, and which of caller, kwargs and varargs it reads without declaring them. */
static void parse_macro_body(rt_parser *p, rt_node *macro, const char *end)
{
    static const char *const special[] = { "caller", "kwargs", "varargs" }; /* enum rt_catch */
    uint8_t outer = p->catches;
    int loops = p->loops;
    p->catches = 0;
    p->loops = 0;
    macro->b = parse_scope(p, end);
    macro->flag = p->catches;
    for (const rt_node *n = macro->a; n && !p->m->failed; n = n->next)
        for (int i = 0; i < RT_COUNT(special); i++)
            if (rt_val_is(p->t->name[n->id], special[i])) {
                macro->flag = (uint8_t)(macro->flag & ~(1u << i));
                if (i == 0 && !n->a && p->catches & CATCH_CALLER)
                    rt_tpl_fail(p->m, "the parameter caller needs a default");
            }
    p->catches |= outer;
    p->loops = loops;
    rt_parse_next(p);
}

static rt_node *parse_macro(rt_parser *p, rt_node *n)
{
    n->id = rt_parse_name(p)->id;
    parse_signature(p, n);
    parse_macro_body(p, n, "endmacro");
    return n;
}

static rt_node *parse_call_block(rt_parser *p, rt_node *n)
{
    n->b = rt_parse_node(p, N_MACRO, NULL);
    if (rt_parse_at(p, "("))
        parse_signature(p, n->b);
    n->a = rt_parse_expression(p, true);
    if (n->a->op != N_CALL)
        rt_tpl_fail(p->m, "expected a call");
    parse_macro_body(p, n->b, "endcall");
    return n;
}

static rt_node *parse_with(rt_parser *p, rt_node *n)
{
    rt_node **target = &n->a, **value = &n->b;
    while (!p->m->failed && p->tok.kind != T_BLOCK_END) {
        if (n->a)
            rt_parse_expect(p, ",");
        *target = rt_parse_name(p);
        target = &(*target)->next;
        rt_parse_expect(p, "=");
        *value = rt_parse_expression(p, true);
        value = &(*value)->next;
    }
    n->c = parse_scope(p, "endwith");
    rt_parse_next(p);
    return n;
}

static rt_node *parse_filter_block(rt_parser *p, rt_node *n)
{
    n->a = parse_chain(p);
    n->b = parse_scope(p, "endfilter");
    rt_parse_next(p);
    return n;
}

static rt_node *parse_generation(rt_parser *p, rt_node *n)
{
    int loops = p->loops;
    p->loops = 0;
    n->a = parse_scope(p, "endgeneration");
    p->loops = loops;
    rt_parse_next(p);
    return n;
}

static rt_node *parse_jump(rt_parser *p, rt_node *n)
{
    if (!p->loops)
        rt_tpl_fail(p->m, "break or continue outside of a loop");
    return n;
}

static rt_node *parse_statement(rt_parser *p)
{
    static const struct {
        const char *name;
        rt_op op;
        rt_node *(*parse)(rt_parser *p, rt_node *n);
    } tag[] = {
        { "for", N_FOR, parse_for },
        { "if", N_IF, parse_if },
        { "set", N_SET, parse_set },
        { "macro", N_MACRO, parse_macro },
        { "call", N_CALL_BLOCK, parse_call_block },
        { "with", N_WITH, parse_with },
        { "filter", N_FILTER_BLOCK, parse_filter_block },
        { "generation", N_GENERATION, parse_generation },
        { "break", N_BREAK, parse_jump },
        { "continue", N_CONTINUE, parse_jump },
    };
    static const char *const refused[] = { "block", "extends",    "include", "import",
                                           "from",  "autoescape", "print" };
    rt_node *n = rt_parse_node(p, N_CONST, NULL);
    for (int i = 0; i < RT_COUNT(tag); i++)
        if (rt_parse_skip(p, tag[i].name)) {
            n->op = (uint8_t)tag[i].op;
            return tag[i].parse(p, n);
        }
    for (int i = 0; i < RT_COUNT(refused); i++)
        if (rt_parse_at(p, refused[i]))
            rt_tpl_fail(p->m, "the tag %s is not supported in chat templates", refused[i]);
    rt_parse_wrong(p, "a tag");
    return n;
}

static bool at_end(const rt_parser *p, const char *ends)
{
    for (const char *s = ends; s && *s; s += strcspn(s, " "), s += *s == ' ')
        if (p->tok.kind == T_NAME && p->tok.n == (int64_t)strcspn(s, " ") &&
            !memcmp(p->tok.s, s, (size_t)p->tok.n))
            return true;
    return false;
}

/* Statements up to a tag in ends (words), which becomes the current token; NULL: up to the end. */
static rt_node *parse_body(rt_parser *p, const char *ends)
{
    rt_node *first = NULL, **tail = &first, *n;
    int line = p->tok.line;
    bool closed = !ends;
    if (ends) {
        rt_parse_skip(p, ":");
        rt_parse_expect(p, "%}");
    }
    rt_parse_enter(p);
    while (!p->m->failed && p->tok.kind != T_EOF) {
        if (p->tok.kind == T_DATA) {
            n = rt_parse_node(p, N_DATA, NULL);
            n->val = rt_val_str(p->tok.s, p->tok.n);
            rt_parse_next(p);
        } else if (p->tok.kind == T_PRINT_BEGIN) {
            n = rt_parse_node(p, N_PRINT, NULL);
            rt_parse_next(p);
            n->a = rt_parse_tuple(p, true, false);
            rt_parse_expect(p, "}}");
        } else {
            rt_parse_next(p);
            if ((closed = at_end(p, ends)))
                break;
            n = parse_statement(p);
            rt_parse_expect(p, "%}");
        }
        *tail = n;
        tail = &n->next;
    }
    p->depth--;
    if (!closed && ends && !p->m->failed)
        rt_tpl_fail(p->m, "the template ends before {%% %s %%} of line %d", ends, line);
    return first;
}

int rt_tpl_parse(rt_tpl *m, rt_template *t, const char *src, int64_t n)
{
    rt_parser p = { .m = m, .t = t, .x = { .src = src, .n = n, .line = 1, .m = m } };
    t->name = rt_tpl_take(m, RT_NAMES_MAX * (int64_t)sizeof *t->name);
    if (!t->name)
        return -1;
    p.tok = (rt_token){ .kind = T_NAME, .s = "loop", .n = 4, .line = 1 };
    rt_parse_name(&p); /* index 0, where the evaluator looks for it; then the first real token */
    t->body = parse_body(&p, NULL);
    if (p.unknown && !m->failed) {
        m->line = p.unknown->line;
        rt_tpl_fail(m, "there is no %s named '%.*s'", p.unknown->op == N_FILTER ? "filter" : "test",
                    (int)rt_min(p.unknown->val.n, 80), p.unknown->val.u.str);
    }
    return m->failed ? -1 : 0;
}
