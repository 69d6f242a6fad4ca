/* template_parse.h: what the two halves of the template parser and its lexer share. */
#ifndef RT_TEMPLATE_PARSE_H
#define RT_TEMPLATE_PARSE_H

#include "corpora/template/template_impl.h"

typedef enum rt_token_kind {
    T_EOF,
    T_DATA,
    T_PRINT_BEGIN,
    T_BLOCK_BEGIN,
    T_STRING,
    T_NUMBER,
    T_NAME,
    T_OP, /* op: the character, or D // E == N != G >= L <= */
    T_PRINT_END,
    T_BLOCK_END
} rt_token_kind;

typedef struct rt_token {
    rt_token_kind kind;
    int op, line;
    rt_val val; /* T_NUMBER: its value; T_DATA, T_STRING: the text; else as it is spelled */
} rt_token;

typedef struct rt_lexer {
    rt_tpl *m;
    const char *src; /* newlines are "\n", valid UTF-8, src[n] is 0 */
    int64_t n, at;
    int line;
    enum { LEX_TEXT, LEX_PRINT, LEX_BLOCK } state;
    char open[256]; /* brackets waiting to be closed */
    int n_open;
} rt_lexer;

rt_token rt_lexer_next(rt_lexer *x);

enum { RT_NAMES_MAX = 1024 };
typedef struct rt_parser {
    rt_tpl *m;
    rt_template *t;
    rt_lexer x;
    rt_token tok, ahead;
    bool has_ahead;
    bool reads_caller;                /* in the current macro */
    int depth, loops;                 /* nesting; for loops around the current statement */
    int32_t bucket[4 * RT_NAMES_MAX]; /* name index + 1 */
} rt_parser;

/* template_expr.c */
void rt_parse_next(rt_parser *p);
bool rt_parse_at(const rt_parser *p, const char *words); /* at one of these words or operators */
bool rt_parse_skip(rt_parser *p, const char *text);
void rt_parse_expect(rt_parser *p, const char *text);
_Noreturn void rt_parse_wrong(rt_parser *p, const char *expected);
void rt_parse_enter(rt_parser *p); /* one level of nesting; leave with p->depth-- */
rt_node *rt_parse_node(rt_parser *p, rt_op op, rt_node *a);
rt_node *rt_parse_name(rt_parser *p); /* the current token, as a variable */
rt_node *rt_parse_expression(rt_parser *p, bool with_cond);
rt_node *rt_parse_tuple(rt_parser *p, bool with_cond, bool parens); /* or one expression; "()" */

#endif
