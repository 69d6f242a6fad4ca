/* template_parse.c: statements of templates. Names become indices, so that scopes are short arrays
   of integers. Refuses: include, import, extends, block, autoescape, print, with, filter blocks,
   recursive loops, anything nested more than 200 deep. */
#include "corpora/template/template_parse.h"

static rt_node *parse_body(rt_parser *p, const char *ends);

static rt_node *parse_target(rt_parser *p, bool namespaces)
{
    rt_node *tuple = rt_parse_node(p, N_TUPLE, NULL), **tail = &tuple->a, *n;
    bool commas = false;
    rt_parse_enter(p);
    while ((p->tok.kind == T_NAME || rt_parse_at(p, "(")) && !rt_parse_at(p, "in")) {
        if (rt_parse_skip(p, "(")) {
            n = parse_target(p, false);
            rt_parse_expect(p, ")");
        } else {
            if (rt_parse_at(p, "true false none loop"))
                rt_parse_wrong(p, "a name that can be assigned to");
            n = rt_parse_name(p);
            if (namespaces && rt_parse_skip(p, ".")) {
                n = rt_parse_node(p, N_ATTR, n);
                n->val = p->tok.val;
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
    return commas ? tuple : tuple->a;
}

static void parse_for(rt_parser *p, rt_node *n)
{
    n->a = parse_target(p, false);
    rt_parse_expect(p, "in");
    n->b = rt_parse_tuple(p, false, false);
    if (rt_parse_skip(p, "if"))
        n->e = rt_parse_expression(p, true);
    if (rt_parse_at(p, "recursive"))
        rt_tpl_fail(p->m, "recursive loops are not supported: use a macro");
    p->loops++;
    n->c = parse_body(p, "endfor else");
    p->loops--;
    if (rt_parse_skip(p, "else"))
        n->d = parse_body(p, "endfor");
    rt_parse_next(p);
}

static void parse_if(rt_parser *p, rt_node *n)
{
    n->a = rt_parse_tuple(p, false, false);
    n->b = parse_body(p, "elif else endif");
    while (rt_parse_skip(p, "elif")) {
        n = n->c = rt_parse_node(p, N_IF, NULL);
        n->flag = 1;
        n->a = rt_parse_tuple(p, false, false);
        n->b = parse_body(p, "elif else endif");
    }
    if (rt_parse_skip(p, "else"))
        n->c = parse_body(p, "endif");
    rt_parse_next(p);
}

static void parse_set(rt_parser *p, rt_node *n)
{
    n->a = parse_target(p, true);
    if (rt_parse_skip(p, "=")) {
        n->b = rt_parse_tuple(p, true, false);
        return;
    }
    n->op = N_SETBLOCK;
    n->b = parse_body(p, "endset");
    rt_parse_next(p);
}

/* "(a, b=1)" of a macro or a call block. */
static void parse_signature(rt_parser *p, rt_node *macro)
{
    rt_node **tail = &macro->a;
    bool defaults = false;
    rt_parse_expect(p, "(");
    while (!rt_parse_at(p, ")")) {
        rt_node *n = rt_parse_name(p);
        n->op = N_PARAM;
        for (const rt_node *twin = macro->a; twin; twin = twin->next)
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

/* The body of a macro, and whether it reads caller without declaring it. */
static void parse_macro_body(rt_parser *p, rt_node *macro, const char *end)
{
    bool outer = p->reads_caller;
    int loops = p->loops;
    p->reads_caller = false;
    p->loops = 0;
    macro->b = parse_body(p, end);
    macro->flag = p->reads_caller;
    for (const rt_node *n = macro->a; n; n = n->next)
        if (rt_val_is(p->t->name[n->id], "caller")) {
            macro->flag = 0;
            if (!n->a && p->reads_caller)
                rt_tpl_fail(p->m, "the parameter caller needs a default");
        }
    p->reads_caller |= outer;
    p->loops = loops;
    rt_parse_next(p);
}

static void parse_macro(rt_parser *p, rt_node *n)
{
    n->id = rt_parse_name(p)->id;
    parse_signature(p, n);
    parse_macro_body(p, n, "endmacro");
}

static void parse_call_block(rt_parser *p, rt_node *n)
{
    n->b = rt_parse_node(p, N_MACRO, NULL);
    if (rt_parse_at(p, "("))
        parse_signature(p, n->b);
    n->a = rt_parse_expression(p, true);
    if (n->a->op != N_CALL)
        rt_tpl_fail(p->m, "expected a call");
    parse_macro_body(p, n->b, "endcall");
}

static void parse_generation(rt_parser *p, rt_node *n)
{
    int loops = p->loops;
    p->loops = 0;
    n->a = parse_body(p, "endgeneration");
    p->loops = loops;
    rt_parse_next(p);
}

static void parse_jump(rt_parser *p, rt_node *n)
{
    (void)n;
    if (!p->loops)
        rt_tpl_fail(p->m, "break or continue outside of a loop");
}

static rt_node *parse_statement(rt_parser *p)
{
    static const struct {
        const char *name;
        rt_op op;
        void (*parse)(rt_parser *p, rt_node *n);
    } tag[] = {
        { "for", N_FOR, parse_for },
        { "if", N_IF, parse_if },
        { "set", N_SET, parse_set },
        { "macro", N_MACRO, parse_macro },
        { "call", N_CALL_BLOCK, parse_call_block },
        { "generation", N_GENERATION, parse_generation },
        { "break", N_BREAK, parse_jump },
        { "continue", N_CONTINUE, parse_jump },
    };
    for (int i = 0; i < RT_COUNT(tag); i++)
        if (rt_parse_skip(p, tag[i].name)) {
            rt_node *n = rt_parse_node(p, tag[i].op, NULL);
            tag[i].parse(p, n);
            return n;
        }
    if (rt_parse_at(p, "block extends include import from autoescape print with filter raw"))
        rt_tpl_fail(p->m, "the tag %.*s is not supported in chat templates", (int)p->tok.val.n,
                    p->tok.val.u.str);
    rt_parse_wrong(p, "a tag");
}

/* Statements up to a tag in ends (words), which becomes the current token; NULL: up to the end. */
static rt_node *parse_body(rt_parser *p, const char *ends)
{
    rt_node *first = NULL, **tail = &first, *n;
    int line = p->tok.line;
    if (ends) {
        rt_parse_skip(p, ":");
        rt_parse_expect(p, "%}");
    }
    rt_parse_enter(p);
    for (; p->tok.kind != T_EOF; tail = &n->next) {
        if (p->tok.kind == T_DATA) {
            n = rt_parse_node(p, N_DATA, NULL);
            n->val = p->tok.val;
            rt_parse_next(p);
        } else if (p->tok.kind == T_PRINT_BEGIN) {
            n = rt_parse_node(p, N_PRINT, NULL);
            rt_parse_next(p);
            n->a = rt_parse_tuple(p, true, false);
            rt_parse_expect(p, "}}");
        } else {
            rt_parse_next(p);
            if (ends && rt_parse_at(p, ends))
                break;
            n = parse_statement(p);
            rt_parse_expect(p, "%}");
        }
        *tail = n;
    }
    p->depth--;
    if (ends && p->tok.kind == T_EOF)
        rt_tpl_fail(p->m, "the template ends before {%% %s %%} of line %d", ends, line);
    return first;
}

void rt_tpl_parse(rt_tpl *m)
{
    rt_template *t = m->t;
    rt_parser parser = { .m = m, .t = t }, *p = &parser;
    p->x = (rt_lexer){ .m = m, .src = m->source.u.str, .n = m->source.n, .line = 1 };
    t->name = rt_tpl_take(m, RT_NAMES_MAX * (int64_t)sizeof *t->name);
    p->tok = (rt_token){ .kind = T_NAME, .val = rt_val_lit("loop"), .line = 1 };
    rt_parse_name(p); /* index 0, where the evaluator looks for it; then the first real token */
    t->body = parse_body(p, NULL);
}
