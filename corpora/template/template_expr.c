/* template_expr.c: expressions of templates, with jinja2's grammar and precedence, and the tokens
   and nodes both halves of the parser work with. */
#include "corpora/template/template_parse.h"

enum { DEPTH_MAX = 200 };

/* ---- tokens and nodes ------------------------------------------------------------------------ */

void rt_parse_next(rt_parser *p)
{
    p->tok = p->has_ahead ? p->ahead : rt_lexer_next(&p->x);
    p->has_ahead = false;
    p->m->line = p->tok.line;
}

static bool token_is(const rt_token *t, const char *words)
{
    return t->kind >= T_NAME && rt_val_among(t->val, words);
}

static bool ahead_is(rt_parser *p, const char *text)
{
    if (!p->has_ahead)
        p->ahead = rt_lexer_next(&p->x);
    p->has_ahead = true;
    return token_is(&p->ahead, text);
}

bool rt_parse_at(const rt_parser *p, const char *words) { return token_is(&p->tok, words); }

bool rt_parse_skip(rt_parser *p, const char *text)
{
    bool yes = token_is(&p->tok, text);
    if (yes)
        rt_parse_next(p);
    return yes;
}

void rt_parse_wrong(rt_parser *p, const char *expected)
{
    static const char *const kind[] = {
        "the end of the template", "text", "{{", "{%", "a string", "a number"
    };
    rt_val found = p->tok.kind < T_NAME ? rt_val_lit(kind[p->tok.kind]) : p->tok.val;
    rt_tpl_fail(p->m, "expected %s, found %.*s", expected, (int)rt_min(found.n, 80), found.u.str);
}

void rt_parse_expect(rt_parser *p, const char *text)
{
    if (!rt_parse_skip(p, text))
        rt_parse_wrong(p, text);
}

void rt_parse_enter(rt_parser *p)
{
    if (++p->depth > DEPTH_MAX)
        rt_tpl_fail(p->m, "nested more than %d deep", DEPTH_MAX);
}

rt_node *rt_parse_node(rt_parser *p, rt_op op, rt_node *a)
{
    rt_node *n = rt_tpl_take(p->m, sizeof *n);
    *n = (rt_node){ .op = (uint8_t)op, .line = p->tok.line, .a = a };
    return n;
}

static rt_node *const_node(rt_parser *p, rt_val v)
{
    rt_node *n = rt_parse_node(p, N_CONST, NULL);
    n->val = v;
    return n;
}

/* The current token, a name, as text. */
static rt_val take_word(rt_parser *p, const char *expected)
{
    rt_val v = p->tok.val;
    if (p->tok.kind != T_NAME)
        rt_parse_wrong(p, expected);
    rt_parse_next(p);
    return v;
}

rt_node *rt_parse_name(rt_parser *p)
{
    rt_node *n = rt_parse_node(p, N_NAME, NULL);
    rt_template *t = p->t;
    rt_val name = take_word(p, "a name");
    uint64_t h = rt_hash64(name.u.str, name.n, 0) % RT_COUNT(p->bucket);
    while (p->bucket[h] && !rt_str_same(t->name[p->bucket[h] - 1], name))
        h = (h + 1) % RT_COUNT(p->bucket);
    if (!p->bucket[h] && t->n_names == RT_NAMES_MAX)
        rt_tpl_fail(p->m, "more than %d different names", RT_NAMES_MAX);
    if (!p->bucket[h]) {
        t->name[t->n_names] = name;
        p->bucket[h] = ++t->n_names;
    }
    n->id = p->bucket[h] - 1;
    return n;
}

/* ---- expressions ----------------------------------------------------------------------------- */

static rt_node *parse_unary(rt_parser *p, bool with_filter);

/* The items of a list or a dict (keys and values in turn), brackets included. */
static rt_node *parse_items(rt_parser *p)
{
    bool pairs = rt_parse_at(p, "{");
    const char *close = pairs ? "}" : "]";
    rt_node *n = rt_parse_node(p, pairs ? N_DICT : N_LIST, NULL), **tail = &n->a;
    rt_parse_next(p);
    while (!rt_parse_at(p, close)) {
        *tail = rt_parse_expression(p, true);
        tail = &(*tail)->next;
        if (pairs) {
            rt_parse_expect(p, ":");
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
    if (rt_parse_skip(p, "true True"))
        return const_node(p, rt_val_bool(true));
    if (rt_parse_skip(p, "false False"))
        return const_node(p, rt_val_bool(false));
    if (rt_parse_skip(p, "none None"))
        return const_node(p, rt_val_none());
    p->reads_caller |= rt_parse_at(p, "caller");
    return rt_parse_name(p);
}

static rt_node *parse_primary(rt_parser *p)
{
    rt_val v = p->tok.val;
    rt_node *n;
    if (p->tok.kind == T_NAME)
        return parse_word(p);
    if (rt_parse_at(p, "[ {"))
        return parse_items(p);
    if (rt_parse_skip(p, "(")) {
        n = rt_parse_tuple(p, true, true);
        rt_parse_expect(p, ")");
        return n;
    }
    if (p->tok.kind != T_NUMBER && p->tok.kind != T_STRING)
        rt_parse_wrong(p, "an expression");
    n = const_node(p, v);
    for (rt_parse_next(p); v.kind == V_STR && p->tok.kind == T_STRING; rt_parse_next(p))
        n->val = rt_val_concat(p->m, n->val, p->tok.val);
    return n;
}

/* "(a, b=c)" with the parenthesis here. */
static rt_node *parse_args(rt_parser *p)
{
    rt_node *first = NULL, **tail = &first;
    bool keywords = false, star = false, stars = false;
    rt_parse_expect(p, "(");
    while (!rt_parse_at(p, ")")) {
        rt_node *n = *tail = rt_parse_node(p, N_ARG, NULL);
        tail = &n->next;
        if (stars || (star && rt_parse_at(p, "*")))
            rt_tpl_fail(p->m, "an argument after **, or a second *");
        if (rt_parse_at(p, "* **")) {
            n->flag = (uint8_t)p->tok.op;
            star = star || n->flag == '*';
            stars = n->flag == 'P';
            rt_parse_next(p);
        } else if (p->tok.kind == T_NAME && ahead_is(p, "=")) {
            n->val = take_word(p, "");
            rt_parse_next(p);
            keywords = true;
        } else if (keywords || star) {
            rt_tpl_fail(p->m, "an argument without a name follows one with a name, or a *");
        }
        n->a = rt_parse_expression(p, true);
        if (!rt_parse_skip(p, ","))
            break;
    }
    rt_parse_expect(p, ")");
    return first;
}

static rt_node *parse_subscript(rt_parser *p, rt_node *obj)
{
    rt_node *part[3] = { NULL }, *n;
    bool slice = false;
    rt_parse_next(p);
    for (int k = 0; k < 3; k++) {
        if (!rt_parse_at(p, ": ]"))
            part[k] = rt_parse_expression(p, true);
        if (k == 2 || !rt_parse_skip(p, ":"))
            break;
        slice = true;
    }
    if (!slice && !part[0])
        rt_parse_wrong(p, "a subscript");
    n = rt_parse_node(p, slice ? N_SLICE : N_ITEM, obj);
    n->b = part[0];
    n->c = part[1];
    n->d = part[2];
    rt_parse_expect(p, "]");
    return n;
}

static rt_node *parse_postfix(rt_parser *p, rt_node *n)
{
    for (;;) {
        if (rt_parse_at(p, "[")) {
            n = parse_subscript(p, n);
        } else if (rt_parse_at(p, "(")) {
            n = rt_parse_node(p, N_CALL, n);
            n->b = parse_args(p);
        } else if (rt_parse_skip(p, ".")) {
            bool index = p->tok.kind == T_NUMBER && p->tok.val.kind == V_INT;
            n = rt_parse_node(p, index ? N_ITEM : N_ATTR, n);
            if (index) {
                n->b = const_node(p, p->tok.val);
                rt_parse_next(p);
            } else {
                n->val = take_word(p, "a name or a number");
            }
        } else {
            return n;
        }
    }
}

/* A filter or test by its name here. */
static rt_node *parse_applied(rt_parser *p, rt_op op, rt_node *value)
{
    rt_node *n = rt_parse_node(p, op, value);
    n->val = take_word(p, op == N_FILTER ? "the name of a filter" : "the name of a test");
    n->fn = rt_builtin_find(op == N_FILTER ? rt_filters : rt_tests, n->val);
    if (rt_parse_at(p, "."))
        rt_tpl_fail(p->m, "\".\" after a filter or test: put parentheses around what comes before");
    if (rt_parse_at(p, "("))
        n->b = parse_args(p);
    return n;
}

static rt_node *parse_test(rt_parser *p, rt_node *value)
{
    rt_node *negation = rt_parse_skip(p, "not") ? rt_parse_node(p, N_UNARY, NULL) : NULL;
    rt_node *n = parse_applied(p, N_TEST, value);
    rt_token_kind kind = p->tok.kind;
    bool argument = kind == T_STRING || kind == T_NUMBER || kind == T_NAME || rt_parse_at(p, "[ {");
    if (!n->b && rt_parse_at(p, "is"))
        rt_tpl_fail(p->m, "tests with \"is\" cannot be chained");
    if (!n->b && argument && !rt_parse_at(p, "else or and")) {
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
    rt_parse_enter(p);
    if (rt_parse_at(p, "- +")) {
        n = rt_parse_node(p, N_UNARY, NULL);
        n->flag = (uint8_t)p->tok.op;
        rt_parse_next(p);
        n->a = parse_unary(p, false);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    while (with_filter) {
        if (rt_parse_skip(p, "|"))
            n = parse_applied(p, N_FILTER, n);
        else if (rt_parse_skip(p, "is"))
            n = parse_test(p, n);
        else if (rt_parse_at(p, "("))
            n = parse_postfix(p, n);
        else
            break;
    }
    p->depth--;
    return n;
}

/* + -, then ~, then * / // %; all lean left. A chain of ~ is one node. */
static rt_node *parse_math(rt_parser *p, int level)
{
    static const char *const ops[] = { "+-", "~", "*/D%" };
    if (level == RT_COUNT(ops))
        return parse_unary(p, true);
    rt_node *left = parse_math(p, level + 1), *last = left;
    while (p->tok.kind == T_OP && strchr(ops[level], p->tok.op)) {
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

/* The comparison here, consumed: its flag as in N_COMPARE_STEP; 0 when there is none. */
static uint8_t compare_op(rt_parser *p)
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
    return (uint8_t)op;
}

static rt_node *parse_compare(rt_parser *p)
{
    rt_node *n = parse_math(p, 0), **tail = NULL;
    for (uint8_t op; (op = compare_op(p)); tail = &(*tail)->next) {
        if (!tail) {
            n = rt_parse_node(p, N_COMPARE, n);
            tail = &n->b;
        }
        *tail = rt_parse_node(p, N_COMPARE_STEP, NULL);
        (*tail)->flag = op;
        (*tail)->a = parse_math(p, 0);
    }
    return n;
}

static rt_node *parse_not(rt_parser *p)
{
    if (!rt_parse_at(p, "not"))
        return parse_compare(p);
    rt_node *n = rt_parse_node(p, N_UNARY, NULL);
    n->flag = '!';
    rt_parse_next(p);
    rt_parse_enter(p);
    n->a = parse_not(p);
    p->depth--;
    return n;
}

static rt_node *parse_logic(rt_parser *p, rt_op op)
{
    rt_node *left = op == N_OR ? parse_logic(p, N_AND) : parse_not(p);
    while (rt_parse_skip(p, op == N_OR ? "or" : "and")) {
        left = rt_parse_node(p, op, left);
        left->b = op == N_OR ? parse_logic(p, N_AND) : parse_not(p);
    }
    return left;
}

rt_node *rt_parse_expression(rt_parser *p, bool with_cond)
{
    rt_parse_enter(p);
    rt_node *n = parse_logic(p, N_OR);
    while (with_cond && rt_parse_skip(p, "if")) {
        rt_node *cond = rt_parse_node(p, N_COND, NULL);
        cond->b = n;
        cond->a = parse_logic(p, N_OR);
        if (rt_parse_skip(p, "else"))
            cond->c = rt_parse_expression(p, true);
        n = cond;
    }
    p->depth--;
    return n;
}

rt_node *rt_parse_tuple(rt_parser *p, bool with_cond, bool parens)
{
    rt_node *tuple = rt_parse_node(p, N_TUPLE, NULL), **tail = &tuple->a;
    bool commas = false;
    while (!rt_parse_at(p, "}} %} )")) {
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
