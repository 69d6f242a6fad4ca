/* template_value.c: the memory and the values of a render: pool and buffers under one cap, steps,
   failure, construction, truth, equality and order, as Python defines them for str, int, float,
   bool, None, list, tuple, dict and range. */
#include "corpora/template/template_impl.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/memory.h"

/* ---- memory, steps, failure ------------------------------------------------------------------ */

struct rt_chunk {
    rt_chunk *next, *prev;
    int64_t bytes, pad; /* of data, which is 16-byte aligned */
    char data[];
};

enum { CHUNK_MIN = 16 << 10, CHUNK_MAX = 1 << 20, NEST_MAX = 600 };

/* A chunk of so many bytes, new or grown out of old. */
static rt_chunk *grow_chunk(rt_tpl *m, rt_chunk *old, int64_t bytes)
{
    rt_pool *p = m->pool;
    int64_t more = bytes - (old ? old->bytes : -(int64_t)sizeof *old);
    if (more > p->limit - p->used)
        rt_tpl_fail(m, "more than %lld bytes of memory", (long long)p->limit);
    rt_chunk *c = rt_realloc(old, (int64_t)sizeof *c + bytes, 1, "a chat template");
    if (!old)
        *c = (rt_chunk){ .next = p->head };
    *(c->prev ? &c->prev->next : &p->head) = c;
    if (c->next)
        c->next->prev = c;
    c->bytes = bytes;
    p->used += more;
    p->peak = rt_max(p->peak, p->used);
    return c;
}

static void unlink_chunk(rt_pool *p, rt_chunk *c)
{
    *(c->prev ? &c->prev->next : &p->head) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    p->used -= c->bytes + (int64_t)sizeof *c;
}

void rt_pool_free(rt_pool *p)
{
    for (rt_chunk *c; (c = p->head); free(c))
        unlink_chunk(p, c);
    p->at = p->end = p->tip = NULL;
}

void *rt_tpl_take(rt_tpl *m, int64_t bytes)
{
    rt_pool *p = m->pool;
    bytes = rt_align_up(bytes, 8);
    if (bytes > p->end - p->at) {
        int64_t size = rt_min(rt_max(p->used / 4, CHUNK_MIN), CHUNK_MAX);
        if (bytes > size / 4) /* a large block gets its own chunk; the open one stays open */
            return grow_chunk(m, NULL, bytes)->data;
        p->at = grow_chunk(m, NULL, size)->data;
        p->end = p->at + size;
    }
    p->at += bytes;
    return p->at - bytes;
}

rt_val rt_tpl_fail(rt_tpl *m, const char *fmt, ...)
{
    char text[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    rt_fail(m->err, "chat template line %d: %s", m->line, text);
    longjmp(m->escape, 1);
}

bool rt_tpl_guard(rt_tpl *m, void (*work)(rt_tpl *m))
{
    if (setjmp(m->escape))
        return false;
    work(m);
    return true;
}

void rt_tpl_step(rt_tpl *m, int64_t cost)
{
    m->steps += cost;
    if (m->steps > m->limit.steps)
        rt_tpl_fail(m, "more than %lld steps: an endless loop?", (long long)m->limit.steps);
}

void rt_tpl_scan(rt_tpl *m, int64_t bytes) { rt_tpl_step(m, bytes >> 6); }

void rt_tpl_enter(rt_tpl *m)
{
    if (++m->nest > NEST_MAX)
        rt_tpl_fail(m, "values or expressions more than %d deep", NEST_MAX);
    rt_tpl_step(m, 1);
}

static rt_chunk *chunk_of(const rt_buf *b)
{
    return b->data ? (rt_chunk *)(void *)(b->data - sizeof(rt_chunk)) : NULL;
}

void rt_buf_add(rt_tpl *m, rt_buf *b, const char *s, int64_t n)
{
    if (n <= 0)
        return;
    if (n >= b->cap - b->n) { /* a byte stays free for the NUL of rt_buf_detach */
        int64_t cap = rt_max(b->n + n, rt_min(b->cap + b->cap / 2, b->cap + (4 << 20))) + 64;
        b->data = grow_chunk(m, chunk_of(b), cap)->data;
        b->cap = cap;
    }
    memcpy(b->data + b->n, s, (size_t)n);
    b->n += n;
    if (b == &m->root && b->n > m->limit.output_bytes)
        rt_tpl_fail(m, "more than %lld bytes of output", (long long)m->limit.output_bytes);
}

void rt_buf_puts(rt_tpl *m, rt_buf *b, const char *s) { rt_buf_add(m, b, s, (int64_t)strlen(s)); }
void rt_buf_val(rt_tpl *m, rt_buf *b, rt_val s) { rt_buf_add(m, b, s.u.str, s.n); }

static char *take_str(rt_tpl *m, int64_t n)
{
    char *s = rt_tpl_take(m, n);
    m->pool->tip = s + n;
    return s;
}

rt_val rt_buf_string(rt_tpl *m, rt_buf *b)
{
    rt_val v = rt_val_str(take_str(m, b->n), b->n);
    if (b->n)
        memcpy((char *)v.u.str, b->data, (size_t)b->n);
    if (b->data) {
        unlink_chunk(m->pool, chunk_of(b));
        free(chunk_of(b));
    }
    *b = (rt_buf){ 0 };
    return v;
}

char *rt_buf_detach(rt_tpl *m, rt_buf *b)
{
    rt_chunk *c = chunk_of(b);
    if (!c)
        return rt_strdup("");
    unlink_chunk(m->pool, c);
    char *text = memmove(c, b->data, (size_t)b->n);
    text[b->n] = 0;
    return rt_realloc(text, b->n + 1, 1, "a chat template");
}

/* ---- construction ---------------------------------------------------------------------------- */

rt_val rt_val_undef(rt_undef why, rt_val name)
{
    rt_val v = name.kind == V_STR ? name : rt_val_lit("value");
    v.kind = V_UNDEF;
    v.flag = (uint8_t)why;
    return v;
}

rt_val rt_undef_fail(rt_tpl *m, rt_val v)
{
    static const char *const says[][2] = { { "'", "' is undefined" },
                                           { "there is no attribute '", "'" },
                                           { "access to attribute '", "' is unsafe" },
                                           { "", "" } };
    rt_tpl_fail(m, "%s%.*s%s", says[v.flag][0], (int)rt_min(v.n, 200), v.u.str, says[v.flag][1]);
}

rt_val rt_val_concat(rt_tpl *m, rt_val a, rt_val b)
{
    rt_pool *p = m->pool;
    if (a.flag != b.flag) /* Markup escapes what joins it */
        return rt_val_concat(m, rt_str_escape(m, a), rt_str_escape(m, b));
    if (!a.n || !b.n)
        return a.n ? a : b;
    rt_tpl_scan(m, b.n);
    uintptr_t gap = (uintptr_t)p->at - (uintptr_t)p->tip;
    if (a.u.str + a.n == p->tip && gap < 8 && b.n <= p->end - p->tip) {
        memcpy(p->tip, b.u.str, b.n); /* a is the newest block: it grows */
        p->tip += b.n;
        p->at += rt_align_up(rt_max(p->tip - p->at, 0), 8);
    } else {
        rt_tpl_scan(m, a.n);
        char *s = take_str(m, (int64_t)a.n + b.n);
        memcpy(s, a.u.str, a.n);
        memcpy(s + a.n, b.u.str, b.n);
        a.u.str = s;
    }
    a.n += b.n;
    return a;
}

rt_val rt_seq_new(rt_tpl *m, rt_seq_kind kind, int64_t n)
{
    rt_seq *s = rt_tpl_take(m, (int64_t)sizeof *s + n * (int64_t)sizeof(rt_val));
    *s = (rt_seq){ .kind = kind, .n = n, .item = (rt_val *)(s + 1) };
    memset(s->item, 0, (size_t)n * sizeof(rt_val));
    return (rt_val){ .kind = V_SEQ, .u.seq = s };
}

rt_val rt_seq_as(rt_tpl *m, rt_seq_kind kind, const rt_seq *from)
{
    rt_val v = rt_seq_new(m, kind, 0);
    *v.u.seq = *from;
    v.u.seq->kind = kind;
    return v;
}

/* list + item, in amortised constant memory: lists that grow share one store, and only the list
   that ends where the store ends may append to it. */
rt_val rt_seq_push(rt_tpl *m, rt_val list, rt_val item)
{
    const rt_seq *old = list.u.seq;
    list = rt_seq_as(m, old->kind, old);
    rt_seq *s = list.u.seq;
    if (!s->room || *s->room != s->n || s->n >= s->cap) {
        s->cap = s->n + s->n / 2 + 6;
        s->room = rt_tpl_take(m, 8 + s->cap * (int64_t)sizeof(rt_val));
        s->item = (rt_val *)(s->room + 1);
        if (s->n)
            memcpy(s->item, old->item, (size_t)s->n * sizeof(rt_val));
        rt_tpl_scan(m, s->n * 16);
    }
    s->item[s->n++] = item;
    *s->room = s->n;
    return list;
}

rt_val rt_dict_new(rt_tpl *m, int64_t cap)
{
    rt_dict *d = rt_tpl_take(m, (int64_t)sizeof *d + cap * (int64_t)sizeof(rt_pair));
    *d = (rt_dict){ .pair = (rt_pair *)(d + 1), .cap = cap };
    return (rt_val){ .kind = V_DICT, .u.dict = d };
}

static void check_key(rt_tpl *m, rt_val v)
{
    bool tuple = v.kind == V_SEQ && v.u.seq->kind == SEQ_TUPLE;
    for (int64_t i = 0; tuple && i < v.u.seq->n; i++)
        check_key(m, v.u.seq->item[i]);
    if (v.kind == V_DICT || (v.kind == V_SEQ && !tuple))
        rt_tpl_fail(m, "a %s cannot be a key", rt_val_type(v));
}

rt_val *rt_dict_find(rt_tpl *m, const rt_dict *d, rt_val key)
{
    rt_tpl_step(m, d->n >> 4);
    for (int64_t i = 0; i < d->n; i++) {
        rt_val k = d->pair[i].key;
        bool str = key.kind == V_STR && k.kind == V_STR;
        if (str ? rt_str_same(key, k) : rt_val_equal(m, key, k))
            return &d->pair[i].value;
    }
    return NULL;
}

void rt_dict_put(rt_tpl *m, rt_dict *d, rt_val key, rt_val value)
{
    check_key(m, key);
    rt_val *there = rt_dict_find(m, d, key);
    if (there) {
        *there = value;
        return;
    }
    if (d->n == d->cap) {
        int64_t cap = d->cap * 2 + 4;
        rt_pair *pair = rt_tpl_take(m, cap * (int64_t)sizeof *pair);
        if (d->n)
            memcpy(pair, d->pair, (size_t)d->n * sizeof *pair);
        d->pair = pair;
        d->cap = cap;
    }
    d->pair[d->n++] = (rt_pair){ key, value };
}

/* ---- questions ------------------------------------------------------------------------------- */

const char *rt_val_type(rt_val v)
{
    static const char *const name[] = { "missing value", "undefined value", "none",     "bool",
                                        "int",           "float",           "str",      "list",
                                        "dict",          "namespace",       "function", "macro",
                                        "loop" };
    static const char *const seq[] = { "list", "tuple", "range", "view of a dict", "iterator" };
    return v.kind == V_SEQ ? seq[v.u.seq->kind] : name[v.kind];
}

bool rt_val_among(rt_val v, const char *words)
{
    for (const char *s = words; v.kind == V_STR && *s; s += strspn(s, " ")) {
        size_t n = strcspn(s, " ");
        if (n == v.n && !memcmp(s, v.u.str, n))
            return true;
        s += n;
    }
    return false;
}

bool rt_val_truth(rt_val v)
{
    switch ((rt_kind)v.kind) {
    case V_BOOL:
    case V_INT:
        return v.u.i != 0;
    case V_FLOAT:
        return v.u.f != 0;
    case V_STR:
        return v.n > 0;
    case V_SEQ:
        return v.u.seq->kind == SEQ_ONCE || v.u.seq->n > 0;
    case V_DICT:
        return v.u.dict->n > 0;
    default:
        return v.kind > V_NONE;
    }
}

bool rt_val_integer(rt_val v, int64_t *i)
{
    bool is = v.kind == V_INT || v.kind == V_BOOL;
    *i = is ? v.u.i : 0;
    return is;
}

bool rt_val_number(rt_val v, double *f)
{
    int64_t i;
    *f = rt_val_integer(v, &i) ? (double)i : v.kind == V_FLOAT ? v.u.f : 0;
    return v.kind >= V_BOOL && v.kind <= V_FLOAT;
}

/* -1, 0, 1 or 2 (NaN) for two numbers; an int and a float compare exactly, as in Python. */
static int order_numbers(rt_val a, rt_val b)
{
    double x, y;
    rt_val_number(a, &x);
    rt_val_number(b, &y);
    if (x != x || y != y)
        return 2;
    if (x != y || (a.kind == V_FLOAT && b.kind == V_FLOAT) || fabs(x) >= 0x1p63)
        return a.kind != V_FLOAT && b.kind != V_FLOAT ? (a.u.i > b.u.i) - (a.u.i < b.u.i)
                                                      : (x > y) - (x < y);
    int64_t i = a.kind == V_FLOAT ? (int64_t)x : a.u.i, j = b.kind == V_FLOAT ? (int64_t)y : b.u.i;
    return (i > j) - (i < j);
}

static int order_strings(rt_tpl *m, rt_val a, rt_val b)
{
    uint32_t n = a.n < b.n ? a.n : b.n;
    rt_tpl_scan(m, n);
    int c = n ? memcmp(a.u.str, b.u.str, n) : 0; /* UTF-8 sorts as its code points do */
    return c ? (c > 0) - (c < 0) : (a.n > b.n) - (a.n < b.n);
}

static bool equal_seqs(rt_tpl *m, const rt_seq *s, const rt_seq *t)
{
    if (s == t || s->kind != t->kind || s->n != t->n || s->kind > SEQ_RANGE)
        return s == t;
    for (int64_t i = 0; i < s->n; i++)
        if (!rt_val_equal(m, rt_seq_at(s, i), rt_seq_at(t, i)))
            return false;
    return true;
}

static bool equal_dicts(rt_tpl *m, const rt_dict *a, const rt_dict *b)
{
    if (a == b || a->n != b->n)
        return a == b;
    for (int64_t i = 0; i < a->n; i++) {
        const rt_val *v = rt_dict_find(m, b, a->pair[i].key);
        if (!v || !rt_val_equal(m, a->pair[i].value, *v))
            return false;
    }
    return true;
}

bool rt_val_equal(rt_tpl *m, rt_val a, rt_val b)
{
    double x, y;
    bool same;
    if (rt_val_number(a, &x) && rt_val_number(b, &y))
        return order_numbers(a, b) == 0;
    if (a.kind != b.kind)
        return false;
    rt_tpl_enter(m);
    if (a.kind == V_STR)
        same = a.n == b.n && order_strings(m, a, b) == 0;
    else if (a.kind == V_SEQ)
        same = equal_seqs(m, a.u.seq, b.u.seq);
    else if (a.kind == V_DICT)
        same = equal_dicts(m, a.u.dict, b.u.dict);
    else
        same = a.kind <= V_NONE || a.u.i == b.u.i;
    m->nest--;
    return same;
}

int rt_val_order(rt_tpl *m, rt_val a, rt_val b)
{
    double x, y;
    rt_tpl_step(m, 1);
    if (rt_val_number(a, &x) && rt_val_number(b, &y))
        return order_numbers(a, b);
    if (a.kind == V_STR && b.kind == V_STR)
        return order_strings(m, a, b);
    if (a.kind == V_UNDEF || b.kind == V_UNDEF)
        rt_undef_fail(m, a.kind == V_UNDEF ? a : b);
    if (!rt_val_is_list(a) || !rt_val_is_list(b) || a.u.seq->kind != b.u.seq->kind)
        rt_tpl_fail(m, "%s and %s cannot be ordered", rt_val_type(a), rt_val_type(b));
    const rt_seq *s = a.u.seq, *t = b.u.seq;
    int64_t i = 0, n = rt_min(s->n, t->n);
    rt_tpl_enter(m);
    while (i < n && rt_val_equal(m, s->item[i], t->item[i]))
        i++;
    int c = i < n ? rt_val_order(m, s->item[i], t->item[i]) : (s->n > t->n) - (s->n < t->n);
    m->nest--;
    return c;
}

int64_t rt_val_length(rt_tpl *m, rt_val v)
{
    if (v.kind == V_STR) {
        rt_tpl_scan(m, v.n);
        return rt_cp_count(v.u.str, v.n);
    }
    if (v.kind == V_SEQ && v.u.seq->kind != SEQ_ONCE)
        return v.u.seq->n;
    if (v.kind == V_DICT)
        return v.u.dict->n;
    if (v.kind != V_UNDEF)
        rt_tpl_fail(m, "a %s has no length", rt_val_type(v));
    return 0;
}

bool rt_val_in(rt_tpl *m, rt_val item, rt_val in)
{
    if (in.kind == V_DICT) {
        check_key(m, item);
        return rt_dict_find(m, in.u.dict, item) != NULL;
    }
    if (in.kind == V_STR) {
        if (item.kind != V_STR)
            rt_tpl_fail(m, "'in' a string needs a string, not %s", rt_val_type(item));
        rt_tpl_scan(m, in.n);
        return !item.n || (in.n && memmem(in.u.str, in.n, item.u.str, item.n));
    }
    rt_seq *s = rt_val_iterate(m, in);
    rt_val v;
    for (int64_t i = 0; rt_seq_next(m, s, &i, &v);)
        if (rt_val_equal(m, item, v))
            return true;
    return false;
}
