/* template_impl.h: what the sources of the template evaluator share and nobody else includes.
   A template is parsed into nodes once; a render walks them with one rt_tpl. All values live in the
   render's pool and are immutable, except namespaces, scopes and the position of one-shot
   iterators, so strings and slices share memory freely. Failure is sticky: rt_tpl_fail writes the
   error, sets `failed`, and everything returns early; a value made after that is never read. */
#ifndef RT_TEMPLATE_IMPL_H
#define RT_TEMPLATE_IMPL_H

#include "corpora/template.h"
#include "corpora/text.h"

/* ---- memory ---------------------------------------------------------------------------------- */

typedef struct rt_chunk rt_chunk;
typedef struct rt_pool {
    rt_chunk *head;
    char *at, *end;      /* free part of the newest chunk */
    char *tip;           /* where the newest string ends: it may grow in place */
    int64_t used, limit; /* bytes taken from malloc, buffers included */
    int64_t peak;
} rt_pool;

typedef struct rt_buf { /* growable bytes, charged to the pool's budget */
    char *data;
    int64_t n, cap;
} rt_buf;

void *rt_pool_take(rt_pool *p, int64_t bytes); /* 8-byte aligned, NULL when over the limit */
void rt_pool_free(rt_pool *p);

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum rt_kind {
    V_MISSING, /* no argument, no variable; never seen by a template */
    V_UNDEF,   /* str: what is undefined; flag: rt_undef */
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR, /* flag 1: marked safe (Markup) */
    V_SEQ,
    V_DICT,
    V_NAMESPACE, /* dict that {% set ns.x %} may change */
    V_FUNCTION,  /* i: rt_function */
    V_METHOD,
    V_MACRO,
    V_LOOP
} rt_kind;

typedef enum rt_undef { UNDEF_NAME, UNDEF_ATTRIBUTE, UNDEF_UNSAFE, UNDEF_HINT } rt_undef;

typedef struct rt_val {
    uint8_t kind, flag;
    uint32_t n; /* bytes of str */
    union {
        int64_t i; /* V_BOOL, V_INT, V_FUNCTION */
        double f;
        const char *str; /* UTF-8, not NUL-terminated */
        struct rt_seq *seq;
        struct rt_dict *dict; /* V_DICT, V_NAMESPACE */
        struct rt_method *method;
        struct rt_macro *macro;
        struct rt_loop *loop;
    } u;
} rt_val;

typedef enum rt_seq_kind {
    SEQ_LIST,
    SEQ_TUPLE,
    SEQ_RANGE,
    SEQ_KEYS,
    SEQ_VALUES,
    SEQ_ITEMS,
    SEQ_ONCE
} rt_seq_kind; /* SEQ_ONCE: a generator or iterator, no length, read once */

typedef struct rt_seq {
    rt_seq_kind kind;
    int64_t n;
    rt_val *item;              /* (n), NULL for a range */
    int64_t *room;             /* shared count of items used behind a list that may grow in place */
    int64_t cap;               /* of that store, counted from item */
    int64_t start, stop, step; /* range */
    int64_t pos;               /* SEQ_ONCE: items already read */
    const char *failure;       /* SEQ_ONCE: the error of making the next item; NULL = a plain end */
} rt_seq;

typedef struct rt_pair {
    rt_val key, value;
} rt_pair;
typedef struct rt_dict {
    rt_pair *pair; /* (n) in insertion order */
    int64_t n, cap;
} rt_dict;

typedef struct rt_method {
    rt_val self;
    int id;
} rt_method;

typedef struct rt_macro {
    const struct rt_node *def;
    struct rt_scope *closure;
} rt_macro;

typedef struct rt_loop {
    rt_seq *seq;
    int64_t index0, base; /* base: items a SEQ_ONCE had given away before the loop */
    rt_val changed;       /* arguments of the last loop.changed() */
} rt_loop;

/* ---- syntax ---------------------------------------------------------------------------------- */

typedef enum rt_op {
    /* statements */
    N_DATA,         /* val: text */
    N_PRINT,        /* a: expression */
    N_IF,           /* a: test, b: body, c: else body, or an N_IF with flag 1 for elif */
    N_FOR,          /* a: target, b: iterable, c: body, d: else body, e: filter */
    N_SET,          /* a: target, b: expression */
    N_SETBLOCK,     /* a: target, b: filter chain on N_BODY or NULL, c: body */
    N_MACRO,        /* id, a: N_PARAM list, b: body; flag: rt_catch */
    N_CALL_BLOCK,   /* a: N_CALL, b: an N_MACRO without name */
    N_FILTER_BLOCK, /* a: filter chain on N_BODY, b: body */
    N_WITH,         /* a: targets, b: expressions, c: body */
    N_GENERATION,   /* a: body */
    N_BREAK,
    N_CONTINUE,
    /* expressions */
    N_CONST,  /* val */
    N_NAME,   /* id */
    N_BODY,   /* the text that a block captured */
    N_LIST,   /* a: items */
    N_TUPLE,  /* a: items; also a target */
    N_DICT,   /* a: key, value, key, value, ... */
    N_ATTR,   /* a: object, val: name; as a target: namespace and attribute */
    N_ITEM,   /* a: object, b: key */
    N_SLICE,  /* a: object, b, c, d: start, stop, step or NULL */
    N_CALL,   /* a: callee, b: N_ARG list */
    N_FILTER, /* a: value, b: N_ARG list, val: name, id: table row or -1 */
    N_TEST,   /* as N_FILTER */
    N_ARG,    /* a: expression, val: keyword or V_MISSING; flag 1: *a, 2: **a */
    N_PARAM,  /* id, a: default or NULL */
    N_UNARY,  /* flag: '-', '+', '!' (not); a */
    N_BINARY, /* flag: + - * / D(floor) % P(power); a, b */
    N_AND,
    N_OR,
    N_CONCAT,       /* a: parts */
    N_COMPARE,      /* a: first, b: N_COMPARE_STEP list */
    N_COMPARE_STEP, /* flag: < > L(<=) G(>=) E(==) N(!=) i(in) n(not in); a */
    N_COND          /* a: test, b: value, c: else or NULL */
} rt_op;

enum rt_catch { CATCH_CALLER = 1, CATCH_KWARGS = 2, CATCH_VARARGS = 4 };

typedef struct rt_node {
    uint8_t op, flag;
    int32_t line, id;
    struct rt_node *a, *b, *c, *next; /* next: in a list of statements, items, arguments */
    union {
        rt_val val;
        struct {
            struct rt_node *d, *e;
        };
    };
} rt_node;

struct rt_template {
    rt_pool pool;
    rt_node *body;
    rt_val *name; /* (n_names) V_STR; nodes refer to variables by index */
    int32_t n_names, cap_names;
    rt_hash hash;
};

/* ---- lexer ----------------------------------------------------------------------------------- */

typedef enum rt_token_kind {
    T_EOF,
    T_DATA,
    T_PRINT_BEGIN,
    T_BLOCK_BEGIN,
    T_STRING,
    T_NUMBER,
    T_NAME, /* from here on s, n is the token as it is spelled */
    T_OP,   /* op: the character, or D // P ** E == N != G >= L <= */
    T_PRINT_END,
    T_BLOCK_END
} rt_token_kind;

typedef struct rt_token {
    rt_token_kind kind;
    int op, line;
    const char *s; /* T_DATA, T_STRING: the text */
    int64_t n;
    rt_val num; /* T_NUMBER */
} rt_token;

typedef struct rt_lexer {
    const char *src; /* newlines are "\n", valid UTF-8 */
    int64_t n, at;
    int line;
    enum { LEX_TEXT, LEX_PRINT, LEX_BLOCK, LEX_RAW } state;
    char open[256]; /* brackets waiting to be closed */
    int n_open;
    struct rt_tpl *m;
} rt_lexer;

void rt_lexer_next(rt_lexer *x, rt_token *token); /* T_EOF after a failure */

/* ---- the machine ----------------------------------------------------------------------------- */

typedef struct rt_slot_var {
    int32_t id;
    rt_val val;
} rt_slot_var;
typedef struct rt_scope {
    struct rt_scope *parent;
    rt_slot_var *var;
    int32_t n, cap;
} rt_scope;

typedef struct rt_args {
    rt_val *pos;
    int n_pos;
    rt_pair *kw; /* keys are V_STR */
    int n_kw;
} rt_args;

typedef struct rt_tpl {
    rt_pool *pool;
    rt_err *err;
    bool failed;
    bool spent; /* failed by a limit */
    int line;
    rt_template_limits limit;
    int64_t steps, depth, nest;
    const rt_template *t;
    rt_val *global; /* (n_names) context and functions */
    rt_scope *scope;
    rt_buf *out, root;
    rt_val body; /* of the block whose filters run */
    const cJSON *clock;
    rt_buf spans; /* of rt_template_span */
} rt_tpl;

/* template_eval.c */
int rt_tpl_run(rt_tpl *m);
rt_val rt_tpl_eval(rt_tpl *m, const rt_node *n);
rt_val rt_tpl_capture(rt_tpl *m, const rt_node *body, rt_scope *scope); /* what body writes */

/* template_call.c */
rt_scope *rt_scope_open(rt_tpl *m, rt_scope *parent);
void rt_scope_set(rt_tpl *m, int32_t id, rt_val v); /* in the innermost scope */
rt_val rt_scope_get(rt_tpl *m, int32_t id);
bool rt_tpl_args(rt_tpl *m, const rt_node *list, const rt_val *caller, rt_args *out);
rt_val rt_tpl_call(rt_tpl *m, const rt_node *n, const rt_val *caller); /* caller may be NULL */

/* template_parse.c */
int rt_tpl_parse(rt_tpl *m, rt_template *t, const char *src, int64_t n);

/* template_expr.c */
enum { RT_NAMES_MAX = 1024 };
typedef struct rt_parser {
    rt_tpl *m;
    rt_template *t;
    rt_lexer x;
    rt_token tok, ahead;
    bool has_ahead;
    bool soft;        /* inside an if: an unknown filter fails only when it is reached */
    uint8_t catches;  /* enum rt_catch of the names read in the current macro */
    int depth, loops; /* nesting; for loops around the current statement */
    rt_node *unknown; /* the first unknown filter or test that is not soft */
    rt_node spare;    /* what rt_parse_node returns after a failure */
    int32_t bucket[4 * RT_NAMES_MAX]; /* name index + 1 */
} rt_parser;
void rt_parse_next(rt_parser *p);
bool rt_parse_at(const rt_parser *p, const char *text); /* a word or an operator */
bool rt_parse_skip(rt_parser *p, const char *text);
bool rt_parse_expect(rt_parser *p, const char *text);
void rt_parse_wrong(rt_parser *p, const char *expected);
bool rt_parse_enter(rt_parser *p); /* one level of nesting; leave with p->depth-- */
rt_node *rt_parse_node(rt_parser *p, rt_op op, rt_node *a);
rt_node *rt_parse_name(rt_parser *p); /* the current token, as a variable */
rt_node *rt_parse_expression(rt_parser *p, bool with_cond);
rt_node *rt_parse_tuple(rt_parser *p, bool with_cond, bool parens); /* or one expression; "()" */
rt_node *rt_parse_filter(rt_parser *p, rt_node *value);

/* template_value.c. Constructors return V_UNDEF after a failure. */
RT_PRINTF(2, 3) rt_val rt_tpl_fail(rt_tpl *m, const char *fmt, ...);
void rt_tpl_exhaust(rt_tpl *m, const char *fmt, int64_t limit); /* fails, and sets spent */
bool rt_tpl_step(rt_tpl *m, int64_t cost);   /* false when the budget is spent (failed is set) */
bool rt_tpl_scan(rt_tpl *m, int64_t bytes);  /* the steps for reading that many bytes */
bool rt_tpl_enter(rt_tpl *m);                /* one level of nesting; leave with m->nest-- */
void *rt_tpl_take(rt_tpl *m, int64_t bytes); /* NULL after a failure */
void rt_buf_add(rt_tpl *m, rt_buf *b, const char *s, int64_t n);
void rt_buf_puts(rt_tpl *m, rt_buf *b, const char *s);
void rt_buf_free(rt_tpl *m, rt_buf *b);
rt_val rt_buf_string(rt_tpl *m, rt_buf *b); /* frees b */

rt_val rt_val_str(const char *s, int64_t n); /* borrowed */
rt_val rt_val_lit(const char *s);            /* a literal */
rt_val rt_val_int(int64_t i);
rt_val rt_val_float(double f);
rt_val rt_val_bool(bool b);
rt_val rt_val_none(void);
rt_val rt_val_missing(void);
rt_val rt_val_undef(rt_undef why, rt_val name);
rt_val rt_val_concat(rt_tpl *m, rt_val a, rt_val b);       /* of two strings */
rt_val rt_seq_new(rt_tpl *m, rt_seq_kind kind, int64_t n); /* items V_UNDEF, to be filled */
rt_val rt_seq_push(rt_tpl *m, rt_val list, rt_val item);   /* while building: list grows */
rt_val rt_dict_new(rt_tpl *m, int64_t cap);
void rt_dict_put(rt_tpl *m, rt_dict *d, rt_val key, rt_val value);
const rt_val *rt_dict_find(rt_tpl *m, const rt_dict *d, rt_val key); /* NULL: absent */

bool rt_val_is(rt_val v, const char *s); /* a string equal to s */
bool rt_val_truth(rt_tpl *m, rt_val v);
bool rt_val_equal(rt_tpl *m, rt_val a, rt_val b);
int rt_val_order(rt_tpl *m, rt_val a, rt_val b); /* -1, 0, 1 as Python sorts; 2 unordered NaN */
bool rt_val_in(rt_tpl *m, rt_val item, rt_val in);
bool rt_val_number(rt_val v, double *f);   /* bool, int or float */
bool rt_val_integer(rt_val v, int64_t *i); /* bool or int */
int64_t rt_val_length(rt_tpl *m, rt_val v);
const char *rt_val_type(rt_val v); /* Python's name, for messages */
rt_val rt_undef_fail(rt_tpl *m, rt_val undef);
/* What `for` walks over: v as a sequence (dict keys, characters). NULL after a failure. */
rt_seq *rt_val_iterate(rt_tpl *m, rt_val v);
rt_val rt_seq_at(const rt_seq *s, int64_t i);
/* The next item of an iteration; false at its end or after a failure. *i starts at 0. */
bool rt_seq_next(rt_tpl *m, rt_seq *s, int64_t *i, rt_val *item);
rt_val rt_val_item(rt_tpl *m, rt_val obj, rt_val key);
rt_val rt_val_attr(rt_tpl *m, rt_val obj, rt_val name);
rt_val rt_val_slice(rt_tpl *m, rt_val obj, const rt_val bound[3]);

/* template_math.c */
rt_val rt_val_binary(rt_tpl *m, int op, rt_val a, rt_val b); /* op as in N_BINARY */

/* template_text.c */
bool rt_cp_space(uint32_t cp);                          /* str.isspace */
bool rt_cp_word(uint32_t cp);                           /* may be part of a name */
int64_t rt_space_begin(const char *s, int64_t n);       /* bytes of leading white space */
int64_t rt_space_end(const char *s, int64_t n);         /* n without trailing white space */
int rt_cp_next(const char *s, int64_t n, uint32_t *cp); /* length >= 1, also on bad bytes */
int64_t rt_cp_count(const char *s, int64_t n);
int64_t rt_cp_offset(const char *s, int64_t n, int64_t index); /* byte where code point starts */
typedef enum rt_case { CASE_UPPER, CASE_LOWER, CASE_TITLE } rt_case;
void rt_buf_case(rt_tpl *m, rt_buf *b, rt_val s, int64_t at, int64_t end, rt_case how);
void rt_buf_print(rt_tpl *m, rt_buf *b, rt_val v); /* str(v) */
void rt_buf_repr(rt_tpl *m, rt_buf *b, rt_val v);  /* repr(v) */
void rt_buf_float(rt_tpl *m, rt_buf *b, double f);
rt_val rt_val_text(rt_tpl *m, rt_val v); /* str(v), keeping strings as they are */
rt_val rt_str_case(rt_tpl *m, rt_val s, rt_case first, rt_case rest); /* title: words by `first` */
rt_val rt_str_escape(rt_tpl *m, rt_val s);
bool rt_str_int(rt_val s, int base, int64_t *out);
bool rt_str_float(rt_val s, double *out);

/* template_json.c */
rt_val rt_val_from_json(rt_tpl *m, const cJSON *json);
rt_val rt_val_json(rt_tpl *m, rt_val v, const rt_val arg[4]);

/* template_filter.c, template_is.c. Row of a name: -1 unknown to jinja2, -2 known and refused. */
int rt_filter_find(rt_val name);
int rt_test_find(rt_val name);
rt_val rt_filter_apply(rt_tpl *m, int row, rt_val v, const rt_args *args);
bool rt_test_apply(rt_tpl *m, int row, rt_val v, const rt_args *args);
/* A list as a one-shot iterator. If making it failed into *late (not by a limit), the failure is
   kept behind its items and m goes on; *late is the caller's m->err meanwhile, outer the real one.
 */
rt_val rt_seq_late(rt_tpl *m, rt_val list, rt_err *late, rt_err *outer);
/* Arguments by name: spec "a b=c": names in order, those after '=' optional. slot (count). */
bool rt_args_bind(rt_tpl *m, const char *what, const char *spec, const rt_args *args, rt_val *slot);

/* template_method.c */
int rt_method_find(rt_tpl *m, rt_val self, rt_val name); /* -1: no such attribute, -2: unsafe */
rt_val rt_method_call(rt_tpl *m, rt_val self, int id, const rt_args *args);
rt_val rt_loop_attr(rt_tpl *m, const rt_loop *loop, rt_val name); /* V_MISSING: no such fact */
typedef enum rt_function { FN_RANGE, FN_NAMESPACE, FN_DICT, FN_RAISE, FN_STRFTIME } rt_function;
rt_val rt_function_find(rt_val name); /* V_MISSING when there is none */
rt_val rt_function_call(rt_tpl *m, rt_function fn, const rt_args *args);

/* template_string.c */
rt_val rt_str_strip(rt_tpl *m, rt_val s, rt_val chars, int sides); /* 1 left, 2 right, 3 both */
rt_val rt_str_lines(rt_tpl *m, rt_val s, bool keep);               /* splitlines */
rt_val rt_str_replace(rt_tpl *m, rt_val s, rt_val from, rt_val to, int64_t count);
rt_val rt_str_split(rt_tpl *m, rt_val s, const rt_val a[2], bool right); /* a: sep, maxsplit */
rt_val rt_str_affix(rt_tpl *m, rt_val s, rt_val what, bool end);
rt_val rt_str_find(rt_tpl *m, rt_val s, const rt_val a[3],
                   const char *how); /* a: sub, start, end */
rt_val rt_str_title(rt_tpl *m, rt_val s);

#endif
