#include "quant/go_template.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH = 32, VARIABLES = 8, NAME = 16, ARGUMENTS = 4 };

typedef enum kind { NOTHING, BOOLEAN, NUMBER, STRING, MESSAGES } kind;

typedef struct value {
    kind kind;
    int64_t number;   /* BOOLEAN, NUMBER; of MESSAGES: the first */
    const char *text; /* STRING, not terminated */
    int64_t bytes;
} value;

typedef struct run {
    const char *at;
    const rt_turn *turn;
    int n, message; /* message: the dot of a range, -1 = the top */
    rt_text system, *out;
    struct {
        char name[NAME];
        value v;
    } variable[VARIABLES];
    int variables, depth;
    rt_err *err;
} run;

static int refuse(run *r, const char *what)
{
    return rt_fail(r->err, "template: %s at \"%.20s\"", what, r->at);
}

static bool truth(const value *v, int n_turns)
{
    return v->kind == STRING     ? v->bytes > 0
           : v->kind == MESSAGES ? v->number < n_turns
                                 : v->kind != NOTHING && v->number != 0;
}

static value words(const char *text) { return (value){ STRING, 0, text, (int64_t)strlen(text) }; }

/* ---- expressions ---- */

static void blanks(run *r)
{
    while (*r->at == ' ')
        r->at++;
}

static bool take(run *r, const char *word)
{
    size_t n = strlen(word);
    blanks(r);
    bool letters = (*word >= 'a' && *word <= 'z') || *word == '.' || *word == '$';
    char next = strncmp(r->at, word, n) ? 'x' : r->at[n];
    bool more = (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') || next == '.';
    if (strncmp(r->at, word, n) || (letters && more))
        return false;
    r->at += n;
    return true;
}

static bool take_variable(run *r, char name[NAME])
{
    size_t n = 0;
    blanks(r);
    if (*r->at != '$')
        return false;
    while (n + 1 < NAME && ((r->at[n + 1] >= 'a' && r->at[n + 1] <= 'z')))
        n++;
    if (n == 0 || n + 1 >= NAME)
        return false;
    memcpy(name, r->at, n + 1);
    name[n + 1] = 0;
    r->at += n + 1;
    return true;
}

static int set_variable(run *r, const char *name, value v)
{
    int i = 0;
    while (i < r->variables && strcmp(r->variable[i].name, name))
        i++;
    if (i == VARIABLES)
        return refuse(r, "too many variables");
    r->variables += i == r->variables;
    memcpy(r->variable[i].name, name, strlen(name) + 1);
    r->variable[i].v = v;
    return 0;
}

static int expression(run *r, value *v);

static int literal(run *r, value *v)
{
    if (*r->at == '"') {
        const char *end = strpbrk(r->at + 1, "\"\\\n");
        if (!end || *end != '"')
            return refuse(r, "no plain string");
        *v = (value){ STRING, 0, r->at + 1, end - r->at - 1 };
        r->at = end + 1;
        return 0;
    }
    char *end;
    *v = (value){ NUMBER, strtoll(r->at, &end, 10), NULL, 0 };
    if (end == r->at)
        return refuse(r, "not understood");
    r->at = end;
    return 0;
}

static int operand(run *r, value *v)
{
    char name[NAME];
    blanks(r);
    if (take(r, "(")) {
        if (expression(r, v))
            return -1;
        return take(r, ")") ? 0 : refuse(r, "no closing parenthesis");
    }
    if (take(r, "$.System") || (r->message < 0 && take(r, ".System")))
        *v = (value){ STRING, 0, r->system.data, r->system.bytes };
    else if (take(r, "$.Messages") || (r->message < 0 && take(r, ".Messages")))
        *v = (value){ MESSAGES, 0, NULL, 0 };
    else if (r->message >= 0 && take(r, ".Role"))
        *v = words(r->turn[r->message].role);
    else if (r->message >= 0 && take(r, ".Content"))
        *v = words(r->turn[r->message].content);
    else if (take_variable(r, name)) {
        for (int i = 0; i < r->variables; i++)
            if (!strcmp(r->variable[i].name, name)) {
                *v = r->variable[i].v;
                return 0;
            }
        return refuse(r, "an unknown variable before");
    } else
        return literal(r, v);
    return 0;
}

static bool same(const value *a, const value *b)
{
    return a->kind == b->kind &&
           (a->kind == STRING ? a->bytes == b->bytes && !memcmp(a->text, b->text, (size_t)a->bytes)
                              : a->number == b->number);
}

static int call(run *r, int function, value *v)
{
    enum { EQ, NE, AND, OR, NOT, LEN, SLICE };
    static const int WANTED[] = { 2, 2, 2, 2, 1, 1, 2 };
    value a[ARGUMENTS] = { { 0 } };
    for (int i = 0; i < WANTED[function]; i++)
        if (operand(r, &a[i]))
            return -1;
    bool x = truth(&a[0], r->n);
    switch (function) {
    case EQ:
    case NE:
        *v = (value){ BOOLEAN, same(&a[0], &a[1]) == (function == EQ), NULL, 0 };
        return a[0].kind == a[1].kind ? 0 : refuse(r, "different types are compared before");
    case AND:
        *v = x ? a[1] : a[0];
        return 0;
    case OR:
        *v = x ? a[0] : a[1];
        return 0;
    case NOT:
        *v = (value){ BOOLEAN, !x, NULL, 0 };
        return 0;
    case LEN:
        *v = (value){ NUMBER, a[0].kind == MESSAGES ? r->n - a[0].number : a[0].bytes, NULL, 0 };
        return a[0].kind == MESSAGES || a[0].kind == STRING ? 0
                                                            : refuse(r, "len of a number before");
    default:
        if (a[0].kind != MESSAGES || a[1].kind != NUMBER || a[1].number < 0 || a[1].number > r->n)
            return refuse(r, "a slice of something else before");
        *v = (value){ MESSAGES, a[1].number, NULL, 0 };
        return 0;
    }
}

static int expression(run *r, value *v)
{
    static const char *const FUNCTION[] = { "eq", "ne", "and", "or", "not", "len", "slice" };
    int bad = 0;
    if (++r->depth > DEPTH)
        return refuse(r, "too deep");
    for (int i = 0; i < RT_COUNT(FUNCTION); i++)
        if (take(r, FUNCTION[i])) {
            bad = call(r, i, v);
            r->depth--;
            return bad;
        }
    bad = operand(r, v);
    r->depth--;
    return bad;
}

/* ---- blocks ---- */

typedef enum stop { AT_END, AT_ELSE, AT_ELSE_IF, AT_TEXT_END } stop;

static int block(run *r, bool active, stop *s);

static int close_action(run *r) { return take(r, "}}") ? 0 : refuse(r, "not understood"); }

/* After "if": its branches up to the end. */
static int branches(run *r, bool active)
{
    bool taken = false;
    stop s = AT_ELSE_IF;
    while (s == AT_ELSE_IF || s == AT_ELSE) {
        value v = { BOOLEAN, 1, NULL, 0 };
        if ((s == AT_ELSE_IF && expression(r, &v)) || close_action(r))
            return -1;
        bool here = active && !taken && truth(&v, r->n), last = s == AT_ELSE;
        taken = taken || here;
        if (block(r, here, &s))
            return -1;
        if (s == AT_TEXT_END || (last && s != AT_END))
            return refuse(r, "an if without end");
    }
    return close_action(r);
}

/* After "range": the body once a message, or once in vain. */
static int messages(run *r, bool active)
{
    char index[NAME], each[NAME];
    if (!take_variable(r, index) || !take(r, ",") || !take_variable(r, each) || !take(r, ":=") ||
        !take(r, ".Messages") || close_action(r) || r->message >= 0)
        return refuse(r, "a range of something else before");
    const char *body = r->at;
    int times = active ? r->n : 0;
    stop s = AT_END;
    for (int i = 0; i < times || i == 0; i++) {
        r->at = body;
        r->message = i < times ? i : -1;
        if (set_variable(r, index, (value){ NUMBER, i, NULL, 0 }) || block(r, i < times, &s))
            return -1;
        if (s != AT_END)
            return refuse(r, "a range without end");
    }
    r->message = -1;
    return close_action(r);
}

/* An action that is not the end of a block; inside what is not active, values are not looked at. */
static int action(run *r, bool active)
{
    char name[NAME];
    value v = { 0 };
    const char *begin = r->at;
    if (!active) { /* but what nests must be stepped over */
        if (take(r, "if")) {
            r->at = strstr(r->at, "}}");
            stop s = AT_ELSE;
            while (s != AT_END) {
                if (!r->at || close_action(r) || block(r, false, &s) || s == AT_TEXT_END)
                    return -1;
                if (s == AT_ELSE_IF)
                    r->at = strstr(r->at, "}}");
            }
            return close_action(r);
        }
        if (take(r, "range"))
            return messages(r, false);
        r->at = strstr(r->at, "}}");
        return r->at ? close_action(r) : rt_fail(r->err, "template: an action without end");
    }
    if (take(r, "if"))
        return branches(r, active);
    if (take(r, "range"))
        return messages(r, active);
    if (take_variable(r, name) && take(r, ":=")) {
        if (expression(r, &v))
            return -1;
        return set_variable(r, name, v) || close_action(r) ? -1 : 0;
    }
    r->at = begin;
    if (expression(r, &v) || close_action(r))
        return -1;
    if (v.kind != STRING)
        return refuse(r, "something else than text is written before");
    return rt_text_add(r->out, v.text, v.bytes, r->err);
}

static int block(run *r, bool active, stop *s)
{
    if (++r->depth > DEPTH)
        return refuse(r, "too deep");
    for (;;) {
        const char *open = strstr(r->at, "{{");
        int64_t text = open ? open - r->at : (int64_t)strlen(r->at);
        if (active && rt_text_add(r->out, r->at, text, r->err))
            return -1;
        r->at += text;
        *s = AT_TEXT_END;
        if (!open)
            break;
        r->at += 2;
        if (*r->at == '-')
            return refuse(r, "a trim mark");
        if (take(r, "end")) {
            *s = AT_END;
            break;
        }
        if (take(r, "else")) {
            *s = take(r, "if") ? AT_ELSE_IF : AT_ELSE;
            break;
        }
        if (action(r, active))
            return -1;
    }
    r->depth--;
    return 0;
}

int rt_go_template_run(const char *source, const rt_turn *turn, int n, rt_text *out, rt_err *err)
{
    run r = { .at = source, .turn = turn, .n = n, .message = -1, .out = out, .err = err };
    stop s = AT_TEXT_END;
    int bad = rt_text_puts(&r.system, "", err);
    for (int i = 0; i < n && !bad; i++)
        if (!strcmp(turn[i].role, "system"))
            bad = (r.system.bytes && rt_text_puts(&r.system, "\n\n", err)) ||
                  rt_text_puts(&r.system, turn[i].content, err);
    bad = bad || block(&r, true, &s) || (s != AT_TEXT_END && refuse(&r, "an end too many before"));
    rt_text_free(&r.system);
    return bad ? -1 : 0;
}
