/* template_expr.c: expressions of templates, with jinja2's grammar and precedence, and the tokens
   and nodes both halves of the parser work with. */
#include "corpora/template_impl.h"

#include <string.h>

enum { DEPTH_MAX = 200 };

/* ---- tokens and nodes ------------------------------------------------------------------------ */

void rt_parse_next(rt_parser *p)
{
    if (p->has_ahead)
        p->tok = p->ahead;
    else
        rt_lexer_next(&p->x, &p->tok);
    p->has_ahead = false;
    p->m->line = p->tok.line;
}

static bool token_is(const rt_token *t, const char *text)
{
    bool word = t->kind == T_NAME || t->kind == T_OP || t->kind == T_PRINT_END ||
                t->kind == T_BLOCK_END;
    return word && rt_val_is(rt_val_str(t->s, t->n), text);
}

static bool ahead_is(rt_parser *p, const char *text)
{
    if (!p->has_ahead)
        rt_lexer_next(&p->x, &p->ahead);
    p->has_ahead = true;
    return token_is(&p->ahead, text);
}

bool rt_parse_at(const rt_parser *p, const char *text) { return token_is(&p->tok, text); }

bool rt_parse_skip(rt_parser *p, const char *text)
{
    bool yes = token_is(&p->tok, text);
    if (yes)
        rt_parse_next(p);
    return yes;
}

void rt_parse_wrong(rt_parser *p, const char *expected)
{
    static const char *const kind[] = { [T_EOF] = "the end of the template",
                                        [T_DATA] = "text",
                                        [T_PRINT_BEGIN] = "{{",
                                        [T_BLOCK_BEGIN] = "{%",
                                        [T_STRING] = "a string",
                                        [T_NUMBER] = "a number" };
    const rt_token *t = &p->tok;
    const char *other = t->kind < T_NAME ? kind[t->kind] : "";
    rt_tpl_fail(p->m, "expected %s, found %s%.*s", expected, other,
                t->kind < T_NAME ? 0 : (int)rt_min(t->n, 80), t->s ? t->s : "");
}

bool rt_parse_expect(rt_parser *p, const char *text)
{
    if (!rt_parse_skip(p, text))
        rt_parse_wrong(p, text);
    return !p->m->failed;
}

bool rt_parse_enter(rt_parser *p)
{
    if (++p->depth > DEPTH_MAX)
        rt_tpl_fail(p->m, "nested more than %d deep", DEPTH_MAX);
    return !p->m->failed;
}

/* Never NULL, so that callers can go on; after a failure nobody reads it. */
rt_node *rt_parse_node(rt_parser *p, rt_op op, rt_node *a)
{
    rt_node *n = rt_tpl_take(p->m, sizeof *n);
    if (!n)
        return &p->spare;
    *n = (rt_node){ .op = (uint8_t)op, .line = p->tok.line, .a = a };
    return n;
}

rt_node *rt_parse_name(rt_parser *p)
{
    rt_node *n = rt_parse_node(p, N_NAME, NULL);
    rt_template *t = p->t;
    uint64_t h = rt_hash64(p->tok.s ? p->tok.s : "", p->tok.n, 0) % RT_COUNT(p->bucket);
    rt_val name = rt_val_str(p->tok.s, p->tok.n);
    if (p->tok.kind != T_NAME)
        rt_parse_wrong(p, "a name");
    for (; p->bucket[h]; h = (h + 1) % RT_COUNT(p->bucket))
        if (rt_val_equal(p->m, t->name[p->bucket[h] - 1], name))
            break;
    if (!p->bucket[h] && t->n_names == RT_NAMES_MAX) {
        rt_tpl_fail(p->m, "more than %d different names", RT_NAMES_MAX);
        return n;
    }
    if (!p->bucket[h]) {
        t->name[t->n_names] = name;
        p->bucket[h] = ++t->n_names;
    }
    n->id = p->bucket[h] - 1;
    rt_parse_next(p);
    return n;
}

static rt_node *new_const(rt_parser *p, rt_val v)
{
    rt_node *n = rt_parse_node(p, N_CONST, NULL);
    n->val = v;
    return n;
}

/* ---- expressions ----------------------------------------------------------------------------- */

static rt_node *parse_unary(rt_parser *p, bool with_filter);

/* The items of a list or a dict (keys and values in turn), brackets included. */
static rt_node *parse_items(rt_parser *p, const char *close, bool pairs)
{
    rt_node *n = rt_parse_node(p, pairs ? N_DICT : N_LIST, NULL), **tail = &n->a;
    rt_parse_next(p);
    while (!p->m->failed && !rt_parse_at(p, close)) {
        *tail = rt_parse_expression(p, true);
        tail = &(*tail)->next;
        if (pairs && rt_parse_expect(p, ":")) {
            *tail = rt_parse_expression(p, true);
            tail = &(*tail)->next;
        }
        if (!rt_parse_skip(p, ","))
            break;
    }
    rt_parse_expect(p, close);
    return n;
}

static rt_node *parse_word(rt_parser *p)
{
    static const struct {
        const char *text;
        rt_val val;
    } constant[] = {
        { "true", { .kind = V_BOOL, .u.i = 1 } }, { "True", { .kind = V_BOOL, .u.i = 1 } },
        { "false", { .kind = V_BOOL } },          { "False", { .kind = V_BOOL } },
        { "none", { .kind = V_NONE } },           { "None", { .kind = V_NONE } }
    };
    static const char *const special[] = { "caller", "kwargs", "varargs" }; /* enum rt_catch */
    for (int i = 0; i < RT_COUNT(constant); i++)
        if (rt_parse_skip(p, constant[i].text))
            return new_const(p, constant[i].val);
    for (int i = 0; i < RT_COUNT(special); i++)
        if (rt_parse_at(p, special[i]))
            p->catches = (uint8_t)(p->catches | 1 << i);
    return rt_parse_name(p);
}

static rt_node *parse_primary(rt_parser *p)
{
    rt_node *n;
    rt_val v = p->tok.num;
    if (p->tok.kind == T_NAME)
        return parse_word(p);
    if (p->tok.kind == T_NUMBER) {
        n = new_const(p, v);
        rt_parse_next(p);
    } else if (p->tok.kind == T_STRING) {
        n = new_const(p, v);
        for (v = rt_val_lit(""); p->tok.kind == T_STRING && !p->m->failed; rt_parse_next(p))
            v = rt_val_concat(p->m, v, rt_val_str(p->tok.s, p->tok.n));
        n->val = v;
    } else if (rt_parse_skip(p, "(")) {
        n = rt_parse_tuple(p, true, true);
        rt_parse_expect(p, ")");
    } else if (rt_parse_at(p, "[") || rt_parse_at(p, "{")) {
        bool dict = rt_parse_at(p, "{");
        n = parse_items(p, dict ? "}" : "]", dict);
    } else {
        rt_parse_wrong(p, "an expression");
        n = new_const(p, v);
    }
    return n;
}

/* "(a, *b, c=d, **e)" with the parenthesis here. */
static rt_node *parse_args(rt_parser *p)
{
    rt_node *first = NULL, **tail = &first;
    int stage = 0; /* what went before: 1 a keyword, 2 *a, 3 **a */
    rt_parse_expect(p, "(");
    while (!p->m->failed && !rt_parse_at(p, ")")) {
        rt_node *n = *tail = rt_parse_node(p, N_ARG, NULL);
        tail = &n->next;
        n->flag = rt_parse_skip(p, "*") ? 1 : rt_parse_skip(p, "**") ? 2 : 0;
        if (!n->flag && p->tok.kind == T_NAME && ahead_is(p, "=")) {
            n->val = rt_val_str(p->tok.s, p->tok.n);
            rt_parse_next(p);
            rt_parse_next(p);
        }
        int kind = n->flag ? n->flag + 1 : n->val.kind == V_STR;
        if (kind == 1 ? stage == 3 : kind <= stage && stage > 0)
            rt_tpl_fail(p->m, "arguments in this order are not possible");
        stage = kind > stage ? kind : stage;
        n->a = rt_parse_expression(p, true);
        if (!rt_parse_skip(p, ","))
            break;
    }
    rt_parse_expect(p, ")");
    return first;
}

static rt_node *parse_subscript(rt_parser *p, rt_node *obj)
{
    rt_node *part[3] = { NULL, NULL, NULL }, *n;
    bool slice = false;
    rt_parse_next(p);
    for (int k = 0; k < 3 && !p->m->failed; k++) {
        if (!rt_parse_at(p, ":") && !rt_parse_at(p, "]"))
            part[k] = rt_parse_expression(p, true);
        if (k == 2 || !rt_parse_skip(p, ":"))
            break;
        slice = true;
    }
    if (!slice && !part[0])
        rt_parse_wrong(p, "a subscript");
    n = rt_parse_node(p, slice ? N_SLICE : N_ITEM, obj);
    n->b = part[0];
    if (slice) {
        n->c = part[1];
        n->d = part[2];
    }
    rt_parse_expect(p, "]");
    return n;
}

static rt_node *parse_call(rt_parser *p, rt_node *callee)
{
    rt_node *n = rt_parse_node(p, N_CALL, callee);
    n->b = parse_args(p);
    return n;
}

static rt_node *parse_postfix(rt_parser *p, rt_node *n)
{
    while (!p->m->failed) {
        if (rt_parse_at(p, "[")) {
            n = parse_subscript(p, n);
        } else if (rt_parse_at(p, "(")) {
            n = parse_call(p, n);
        } else if (rt_parse_skip(p, ".")) {
            bool index = p->tok.kind == T_NUMBER && p->tok.num.kind == V_INT;
            n = rt_parse_node(p, index ? N_ITEM : N_ATTR, n);
            if (index)
                n->b = new_const(p, p->tok.num);
            else if (p->tok.kind == T_NAME)
                n->val = rt_val_str(p->tok.s, p->tok.n);
            else
                rt_parse_wrong(p, "a name or a number");
            rt_parse_next(p);
        } else {
            break;
        }
    }
    return n;
}

/* The name of a filter or test here; its row is looked up once. */
static rt_node *parse_applied(rt_parser *p, rt_op op, rt_node *value)
{
    rt_node *n = rt_parse_node(p, op, value);
    if (p->tok.kind != T_NAME)
        rt_parse_wrong(p, op == N_FILTER ? "the name of a filter" : "the name of a test");
    n->val = rt_val_str(p->tok.s, p->tok.n);
    n->id = op == N_FILTER ? rt_filter_find(n->val) : rt_test_find(n->val);
    rt_parse_next(p);
    if (rt_parse_at(p, "."))
        rt_tpl_fail(p->m, "\".\" after a filter or test: put parentheses around what comes before");
    if (n->id == -1 && !p->soft && !p->unknown)
        p->unknown = n;
    if (rt_parse_at(p, "("))
        n->b = parse_args(p);
    return n;
}

rt_node *rt_parse_filter(rt_parser *p, rt_node *value) { return parse_applied(p, N_FILTER, value); }

static rt_node *parse_test(rt_parser *p, rt_node *value)
{
    rt_node *negation = rt_parse_skip(p, "not") ? rt_parse_node(p, N_UNARY, NULL) : NULL;
    rt_node *n = parse_applied(p, N_TEST, value);
    rt_token_kind kind = p->tok.kind;
    bool argument = kind == T_STRING || kind == T_NUMBER || kind == T_NAME || rt_parse_at(p, "[") ||
                    rt_parse_at(p, "{");
    if (!n->b && argument && rt_parse_at(p, "is"))
        rt_tpl_fail(p->m, "tests with \"is\" cannot be chained");
    if (!n->b && argument && !rt_parse_at(p, "else") && !rt_parse_at(p, "or") &&
        !rt_parse_at(p, "and")) {
        n->b = rt_parse_node(p, N_ARG, NULL);
        n->b->a = parse_postfix(p, parse_primary(p));
    }
    if (!negation)
        return n;
    negation->flag = '!';
    negation->a = n;
    return negation;
}

static rt_node *parse_unary(rt_parser *p, bool with_filter)
{
    rt_node *n;
    if (!rt_parse_enter(p))
        return new_const(p, p->tok.num);
    if (rt_parse_at(p, "-") || rt_parse_at(p, "+")) {
        n = rt_parse_node(p, N_UNARY, NULL);
        n->flag = (uint8_t)p->tok.op;
        rt_parse_next(p);
        n->a = parse_unary(p, false);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    while (with_filter && !p->m->failed) {
        if (rt_parse_skip(p, "|"))
            n = rt_parse_filter(p, n);
        else if (rt_parse_skip(p, "is"))
            n = parse_test(p, n);
        else if (rt_parse_at(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    p->depth--;
    return n;
}

/* + -, then ~, then * / // %, then **; all lean left. A chain of ~ is one node. */
static rt_node *parse_math(rt_parser *p, int level)
{
    static const char *const ops[] = { "+-", "~", "*/D%", "P" };
    if (level == RT_COUNT(ops))
        return parse_unary(p, true);
    rt_node *left = parse_math(p, level + 1), *last = left;
    while (!p->m->failed && p->tok.kind == T_OP && strchr(ops[level], p->tok.op)) {
        int op = p->tok.op;
        if (op != '~' || last == left) {
            left = rt_parse_node(p, op == '~' ? N_CONCAT : N_BINARY, left);
            left->flag = (uint8_t)op;
        }
        rt_parse_next(p);
        rt_node *right = parse_math(p, level + 1);
        if (op == '~')
            last = last->next = right;
        else
            last = left->b = right;
    }
    return left;
}

static int compare_op(rt_parser *p)
{
    int op = 0;
    if (p->tok.kind == T_OP && strchr("<>LGEN", p->tok.op))
        op = p->tok.op;
    else if (rt_parse_at(p, "in"))
        op = 'i';
    else if (rt_parse_at(p, "not") && ahead_is(p, "in"))
        op = 'n';
    for (int words = (op != 0) + (op == 'n'); words > 0; words--)
        rt_parse_next(p);
    return op;
}

static rt_node *parse_compare(rt_parser *p)
{
    rt_node *n = parse_math(p, 0), *chain = NULL, **tail = NULL;
    for (int op; !p->m->failed && (op = compare_op(p));) {
        rt_node *step = rt_parse_node(p, N_COMPARE_STEP, NULL);
        step->flag = (uint8_t)op;
        step->a = parse_math(p, 0);
        if (!chain) {
            chain = rt_parse_node(p, N_COMPARE, n);
            tail = &chain->b;
        }
        *tail = step;
        tail = &step->next;
    }
    return chain ? chain : n;
}

static rt_node *parse_not(rt_parser *p)
{
    if (!rt_parse_at(p, "not"))
        return parse_compare(p);
    rt_node *n = rt_parse_node(p, N_UNARY, NULL);
    n->flag = '!';
    rt_parse_next(p);
    if (rt_parse_enter(p))
        n->a = parse_not(p);
    p->depth--;
    return n;
}

static rt_node *parse_logic(rt_parser *p, rt_op op)
{
    rt_node *left = op == N_OR ? parse_logic(p, N_AND) : parse_not(p);
    while (!p->m->failed && rt_parse_skip(p, op == N_OR ? "or" : "and")) {
        left = rt_parse_node(p, op, left);
        left->b = op == N_OR ? parse_logic(p, N_AND) : parse_not(p);
    }
    return left;
}

rt_node *rt_parse_expression(rt_parser *p, bool with_cond)
{
    rt_node *unknown = p->unknown, *n;
    if (!rt_parse_enter(p))
        return new_const(p, p->tok.num);
    n = parse_logic(p, N_OR);
    while (with_cond && !p->m->failed && rt_parse_skip(p, "if")) {
        rt_node *cond = rt_parse_node(p, N_COND, NULL);
        cond->b = n;
        cond->a = parse_logic(p, N_OR);
        if (rt_parse_skip(p, "else"))
            cond->c = rt_parse_expression(p, true);
        n = cond;
        p->unknown = unknown; /* unknown filters in it fail only when reached */
    }
    p->depth--;
    return n;
}

rt_node *rt_parse_tuple(rt_parser *p, bool with_cond, bool parens)
{
    rt_node *tuple = rt_parse_node(p, N_TUPLE, NULL), **tail = &tuple->a;
    bool commas = false;
    while (!p->m->failed && p->tok.kind != T_PRINT_END && p->tok.kind != T_BLOCK_END &&
           !rt_parse_at(p, ")") && !(commas && rt_parse_at(p, "recursive"))) {
        *tail = rt_parse_expression(p, with_cond);
        tail = &(*tail)->next;
        if (!rt_parse_skip(p, ","))
            break;
        commas = true;
    }
    if (!tuple->a && !parens)
        rt_parse_wrong(p, "an expression");
    return commas || !tuple->a ? tuple : tuple->a;
}
