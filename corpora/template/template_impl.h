/* template_impl.h: what the sources of the template evaluator share and nobody else includes.
   A template is parsed into nodes once; a render walks them with one rt_tpl. All values live in the
   render's pool and are immutable, except namespaces, scopes and the position of one-shot
   iterators, so strings and slices share memory freely. A failure writes the error and jumps to
   rt_tpl_guard: nothing after rt_tpl_fail runs, and all memory is the pool's, so nothing leaks. */
#ifndef RT_TEMPLATE_IMPL_H
#define RT_TEMPLATE_IMPL_H

#include <setjmp.h>
#include <string.h>

#include "corpora/template/template.h"
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

typedef struct rt_buf { /* growable bytes in a chunk of their own */
    char *data;
    int64_t n, cap;
} rt_buf;

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
    V_FUNCTION,  /* of our own, or a method with its object */
    V_MACRO,
    V_LOOP
} rt_kind;

typedef enum rt_undef { UNDEF_NAME, UNDEF_ATTRIBUTE, UNDEF_UNSAFE, UNDEF_HINT } rt_undef;

typedef struct rt_val {
    uint8_t kind, flag;
    uint32_t n; /* bytes of str */
    union {
        int64_t i; /* V_BOOL, V_INT */
        double f;
        const char *str; /* UTF-8, not NUL-terminated */
        struct rt_seq *seq;
        struct rt_dict *dict; /* V_DICT, V_NAMESPACE */
        struct rt_function *function;
        struct rt_macro *macro;
        struct rt_loop *loop;
    } u;
} rt_val;

/* SEQ_VIEW: keys, values or items of a dict. SEQ_ONCE: an iterator, no length, read once. */
typedef enum rt_seq_kind { SEQ_LIST, SEQ_TUPLE, SEQ_RANGE, SEQ_VIEW, SEQ_ONCE } rt_seq_kind;

typedef struct rt_seq {
    rt_seq_kind kind;
    int64_t n;
    rt_val *item;        /* (n), NULL for a range */
    int64_t *room;       /* shared count of items used behind a list that may grow in place */
    int64_t cap;         /* of that store, counted from item */
    int64_t start, step; /* range */
    int64_t pos;         /* SEQ_ONCE: items already read */
} rt_seq;

typedef struct rt_pair {
    rt_val key, value;
} rt_pair;
typedef struct rt_dict {
    rt_pair *pair; /* (n) in insertion order */
    int64_t n, cap;
} rt_dict;

typedef struct rt_macro {
    const struct rt_node *def;
    struct rt_scope *closure;
} rt_macro;

typedef struct rt_loop {
    rt_seq *seq;
    int64_t index0, base; /* base: items a SEQ_ONCE had given away before the loop */
} rt_loop;

/* ---- syntax ---------------------------------------------------------------------------------- */

typedef enum rt_op {
    /* statements */
    N_DATA,       /* val: text */
    N_PRINT,      /* a: expression */
    N_IF,         /* a: test, b: body, c: else body, or an N_IF with flag 1 for elif */
    N_FOR,        /* a: target, b: iterable, c: body, d: else body, e: filter */
    N_SET,        /* a: target, b: expression */
    N_SETBLOCK,   /* a: target, b: body */
    N_MACRO,      /* id, a: N_PARAM list, b: body; flag 1: reads caller without declaring it */
    N_CALL_BLOCK, /* a: N_CALL, b: an N_MACRO without name */
    N_GENERATION, /* a: body */
    N_BREAK,
    N_CONTINUE,
    /* expressions */
    N_CONST,  /* val */
    N_NAME,   /* id */
    N_LIST,   /* a: items */
    N_TUPLE,  /* a: items; also a target */
    N_DICT,   /* a: key, value, key, value, ... */
    N_ATTR,   /* a: object, val: name; as a target: namespace and attribute */
    N_ITEM,   /* a: object, b: key */
    N_SLICE,  /* a: object, b, c, d: start, stop, step or NULL */
    N_CALL,   /* a: callee, b: N_ARG list */
    N_FILTER, /* a: value, b: N_ARG list, val: name, fn: NULL when there is none */
    N_TEST,   /* as N_FILTER */
    N_ARG,    /* a: expression, val: keyword or V_MISSING; flag: '*' or 'P' (**) before it */
    N_PARAM,  /* id, a: default or NULL */
    N_UNARY,  /* flag: '-', '+', '!' (not); a */
    N_BINARY, /* flag: + - * / D(floor) %; a, b */
    N_AND,
    N_OR,
    N_CONCAT,       /* a: parts */
    N_COMPARE,      /* a: first, b: N_COMPARE_STEP list */
    N_COMPARE_STEP, /* flag: < > L(<=) G(>=) E(==) N(!=) i(in) n(not in); a */
    N_COND          /* a: test, b: value, c: else or NULL */
} rt_op;

typedef struct rt_node {
    uint8_t op, flag;
    int32_t line, id;
    struct rt_node *next; /* in a list of statements, items, arguments */
    struct rt_node *a, *b;
    union {
        struct rt_node *c;
        const struct rt_builtin *fn;
    };
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
    int32_t n_names;
    rt_hash hash;
};

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
    jmp_buf escape; /* to rt_tpl_guard */
    int line;
    rt_template_limits limit;
    int64_t steps, depth, nest;
    rt_template *t;
    rt_val source;        /* while parsing */
    const cJSON *context; /* while rendering */
    rt_val *global;       /* (n_names) context and functions */
    rt_scope *scope;
    rt_buf *out, root;
} rt_tpl;

/* A filter, test, function or method: one row of a table that ends with a row without fn. */
typedef struct rt_builtin {
    const char *names; /* between spaces */
    const char *spec;  /* "a b=c": arguments, those after '=' optional, <a>: not by
                          name; "*": fn reads raw */
    rt_val (*fn)(rt_tpl *m, rt_val self, const rt_val a[4], const rt_args *raw);
} rt_builtin;
typedef struct rt_function {
    rt_val self; /* V_MISSING: not a method */
    const rt_builtin *fn;
} rt_function;

extern const rt_builtin rt_filters[], rt_tests[], rt_functions[];
const rt_builtin *rt_builtin_find(const rt_builtin *table, rt_val name); /* NULL: none */
const rt_builtin *rt_method_find(rt_val self, rt_val name);
void rt_builtin_bind(rt_tpl *m, const rt_builtin *fn, const rt_args *args, rt_val slot[4]);
rt_val rt_builtin_call(rt_tpl *m, const rt_builtin *fn, rt_val self, const rt_args *args);
rt_val rt_function_new(rt_tpl *m, rt_val self, const rt_builtin *fn);

/* template_eval.c, template_call.c, template_parse.c */
void rt_tpl_parse(rt_tpl *m);
void rt_tpl_run(rt_tpl *m);
rt_val rt_tpl_eval(rt_tpl *m, const rt_node *n);
rt_val rt_tpl_capture(rt_tpl *m, const rt_node *body, rt_scope *scope); /* what body writes */
rt_scope *rt_scope_open(rt_tpl *m, rt_scope *parent);
void rt_scope_set(rt_tpl *m, int32_t id, rt_val v); /* in the innermost scope */
rt_val rt_scope_get(rt_tpl *m, int32_t id);
void rt_tpl_args(rt_tpl *m, const rt_node *list, const rt_val *caller, rt_args *out);
rt_val rt_tpl_call(rt_tpl *m, const rt_node *n, const rt_val *caller); /* caller may be NULL */

/* template_value.c */
bool rt_tpl_guard(rt_tpl *m, void (*work)(rt_tpl *m)); /* false: work failed */
/* Returns to rt_tpl_guard; typed so that it can stand where a value is due. */
_Noreturn RT_PRINTF(2, 3) rt_val rt_tpl_fail(rt_tpl *m, const char *fmt, ...);
void rt_tpl_step(rt_tpl *m, int64_t cost);
void rt_tpl_scan(rt_tpl *m, int64_t bytes); /* the steps for reading that many bytes */
void rt_tpl_enter(rt_tpl *m);               /* one level of nesting; leave with m->nest-- */
void *rt_tpl_take(rt_tpl *m, int64_t bytes);
void rt_buf_add(rt_tpl *m, rt_buf *b, const char *s, int64_t n);
void rt_buf_puts(rt_tpl *m, rt_buf *b, const char *s);
void rt_buf_val(rt_tpl *m, rt_buf *b, rt_val s);
rt_val rt_buf_string(rt_tpl *m, rt_buf *b); /* ends b */
char *rt_buf_detach(rt_tpl *m, rt_buf *b);  /* the caller's, NUL-terminated */

static inline rt_val rt_val_str(const char *s, int64_t n) /* borrowed */
{
    return (rt_val){ .kind = V_STR, .n = (uint32_t)n, .u.str = s ? s : "" };
}
static inline rt_val rt_val_lit(const char *s) { return rt_val_str(s, (int64_t)strlen(s)); }
static inline rt_val rt_val_int(int64_t i) { return (rt_val){ .kind = V_INT, .u.i = i }; }
static inline rt_val rt_val_float(double f) { return (rt_val){ .kind = V_FLOAT, .u.f = f }; }
static inline rt_val rt_val_bool(bool b) { return (rt_val){ .kind = V_BOOL, .u.i = b }; }
static inline rt_val rt_val_none(void) { return (rt_val){ .kind = V_NONE }; }
static inline rt_val rt_val_missing(void) { return (rt_val){ .kind = V_MISSING }; }
static inline bool rt_str_same(rt_val a, rt_val b)
{
    return a.n == b.n && !memcmp(a.u.str, b.u.str, a.n);
}
static inline bool rt_val_is(rt_val v, const char *s)
{
    return v.kind == V_STR && rt_str_same(v, rt_val_lit(s));
}
static inline bool rt_val_is_list(rt_val v) /* or a tuple */
{
    return v.kind == V_SEQ && v.u.seq->kind <= SEQ_TUPLE;
}
rt_val rt_val_undef(rt_undef why, rt_val name);
static inline rt_val rt_val_hint(const char *s) { return rt_val_undef(UNDEF_HINT, rt_val_lit(s)); }
_Noreturn rt_val rt_undef_fail(rt_tpl *m, rt_val undef);
rt_val rt_val_concat(rt_tpl *m, rt_val a, rt_val b);       /* of two strings */
rt_val rt_seq_new(rt_tpl *m, rt_seq_kind kind, int64_t n); /* items V_MISSING, to be filled */
rt_val rt_seq_as(rt_tpl *m, rt_seq_kind kind, const rt_seq *from); /* the same items */
rt_val rt_seq_push(rt_tpl *m, rt_val list, rt_val item);           /* while building: list grows */
rt_val rt_dict_new(rt_tpl *m, int64_t cap);
void rt_dict_put(rt_tpl *m, rt_dict *d, rt_val key, rt_val value);
rt_val *rt_dict_find(rt_tpl *m, const rt_dict *d, rt_val key); /* NULL: absent */
bool rt_val_among(rt_val v, const char *words);                /* a string, one of words */
bool rt_val_truth(rt_val v);
bool rt_val_equal(rt_tpl *m, rt_val a, rt_val b);
int rt_val_order(rt_tpl *m, rt_val a, rt_val b); /* -1, 0, 1 as Python sorts; 2 unordered NaN */
bool rt_val_in(rt_tpl *m, rt_val item, rt_val in);
bool rt_val_number(rt_val v, double *f);   /* bool, int or float */
bool rt_val_integer(rt_val v, int64_t *i); /* bool or int */
int64_t rt_val_length(rt_tpl *m, rt_val v);
const char *rt_val_type(rt_val v); /* Python's name, for messages */

/* template_lookup.c, template_math.c */
rt_seq *rt_val_iterate(rt_tpl *m, rt_val v); /* what `for` walks over: dict keys, characters */
rt_val rt_seq_at(const rt_seq *s, int64_t i);
/* The next item of an iteration; false at its end. *i starts at 0. */
bool rt_seq_next(rt_tpl *m, rt_seq *s, int64_t *i, rt_val *item);
rt_val rt_val_item(rt_tpl *m, rt_val obj, rt_val key);
rt_val rt_val_attr(rt_tpl *m, rt_val obj, rt_val name);
rt_val rt_val_slice(rt_tpl *m, rt_val obj, const rt_val bound[3]);
rt_val rt_val_binary(rt_tpl *m, int op, rt_val a, rt_val b); /* op as in N_BINARY */

/* template_text.c */
bool rt_cp_space(uint32_t cp);                          /* str.isspace */
int64_t rt_space_begin(const char *s, int64_t n);       /* bytes of leading white space */
int64_t rt_space_end(const char *s, int64_t n);         /* n without trailing white space */
int rt_cp_next(const char *s, int64_t n, uint32_t *cp); /* length >= 1, also on bad bytes */
int64_t rt_cp_count(const char *s, int64_t n);
int64_t rt_cp_offset(const char *s, int64_t n, int64_t index); /* byte where code point starts */
typedef enum rt_case { CASE_UPPER, CASE_LOWER, CASE_TITLE } rt_case;
rt_val rt_str_case(rt_tpl *m, rt_val s, rt_case first, rt_case rest);
rt_val rt_str_title(rt_tpl *m, rt_val s, bool filter); /* str.title, or the filter's own idea */
rt_val rt_str_escape(rt_tpl *m, rt_val s);
bool rt_str_int(rt_val s, int base, int64_t *out); /* int(s, base) */
bool rt_str_float(rt_val s, double *out);

/* template_write.c */
rt_val rt_val_from_json(rt_tpl *m, const cJSON *json);
rt_val rt_val_json(rt_tpl *m, rt_val v, const rt_val arg[4]); /* tojson */
void rt_buf_print(rt_tpl *m, rt_buf *b, rt_val v);            /* str(v) */
rt_val rt_val_text(rt_tpl *m, rt_val v);                      /* str(v), strings as they are */

/* template_string.c */
extern const rt_builtin rt_str_methods[];
rt_val rt_str_strip(rt_tpl *m, rt_val s, rt_val chars, int sides); /* 1 left, 2 right, 3 both */
rt_val rt_str_lines(rt_tpl *m, rt_val s);                          /* splitlines */
rt_val rt_str_replace(rt_tpl *m, rt_val s, rt_val from, rt_val to, rt_val count);
rt_val rt_str_format(rt_tpl *m, rt_val s, const rt_args *args); /* template_format.c */

#endif
