/* template_value.c: the memory and the values of a render: pool and buffers under one cap, steps,
   construction, equality and order, lookup, slices, arithmetic, as Python defines them for str,
   int, float, bool, None, list, tuple, dict and range. Refuses: integers beyond 64 bits. */
#include "corpora/template_impl.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory, steps, failure ------------------------------------------------------------------ */

struct rt_chunk {
    rt_chunk *next;
    int64_t bytes;
};

enum { CHUNK_MIN = 16 << 10, CHUNK_MAX = 1 << 20, NEST_MAX = 600 };

static bool charge(rt_pool *p, int64_t bytes)
{
    if (bytes > p->limit - p->used)
        return false;
    p->used += bytes;
    p->peak = rt_max(p->peak, p->used);
    return true;
}

void *rt_pool_take(rt_pool *p, int64_t bytes)
{
    bytes = rt_align_up(bytes, 8);
    if (bytes <= p->end - p->at) {
        p->at += bytes;
        return p->at - bytes;
    }
    int64_t head = rt_align_up((int64_t)sizeof(rt_chunk), 16);
    int64_t size = rt_min(rt_max(p->used / 4, CHUNK_MIN), CHUNK_MAX);
    bool own = bytes > size / 4; /* a large block gets its own chunk; the open one stays open */
    size = head + (own ? bytes : size);
    if (!charge(p, size))
        return NULL;
    rt_chunk *c = malloc((size_t)size);
    if (!c) {
        p->used -= size;
        return NULL;
    }
    *c = (rt_chunk){ .next = p->head, .bytes = size };
    p->head = c;
    if (own)
        return (char *)c + head;
    p->at = (char *)c + head + bytes;
    p->end = (char *)c + size;
    return p->at - bytes;
}

void rt_pool_free(rt_pool *p)
{
    for (rt_chunk *c = p->head, *next; c; c = next) {
        next = c->next;
        p->used -= c->bytes;
        free(c);
    }
    p->head = NULL;
    p->at = p->end = p->tip = NULL;
}

rt_val rt_tpl_fail(rt_tpl *m, const char *fmt, ...)
{
    char text[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!m->failed)
        rt_fail(m->err, "chat template line %d: %s", m->line, text);
    m->failed = true;
    return (rt_val){ .kind = V_UNDEF };
}

/* Limits end the render even where an ordinary failure would only end an iterator. */
void rt_tpl_exhaust(rt_tpl *m, const char *fmt, int64_t limit)
{
    char text[120];
    snprintf(text, sizeof text, fmt, (long long)limit);
    rt_tpl_fail(m, "%s", text);
    m->spent = true;
}

bool rt_tpl_step(rt_tpl *m, int64_t cost)
{
    m->steps += cost;
    if (m->steps > m->limit.steps)
        rt_tpl_exhaust(m, "more than %lld steps: an endless loop?", m->limit.steps);
    return !m->failed;
}

bool rt_tpl_scan(rt_tpl *m, int64_t bytes) { return rt_tpl_step(m, bytes >> 6); }

bool rt_tpl_enter(rt_tpl *m)
{
    if (++m->nest <= NEST_MAX)
        return rt_tpl_step(m, 1) || (m->nest--, false);
    m->nest--;
    rt_tpl_exhaust(m, "values or expressions more than %lld deep", NEST_MAX);
    return false;
}

void *rt_tpl_take(rt_tpl *m, int64_t bytes)
{
    void *p = m->failed ? NULL : rt_pool_take(m->pool, bytes);
    if (!p && !m->failed)
        rt_tpl_exhaust(m, "more than %lld bytes of memory", m->pool->limit);
    return p;
}

void rt_buf_add(rt_tpl *m, rt_buf *b, const char *s, int64_t n)
{
    if (m->failed || n <= 0)
        return;
    if (n > b->cap - b->n) {
        int64_t cap = rt_max(b->n + n, rt_min(b->cap + b->cap / 2, b->cap + (4 << 20))) + 64;
        char *data = charge(m->pool, cap - b->cap) ? realloc(b->data, (size_t)cap) : NULL;
        if (!data) {
            rt_tpl_exhaust(m, "more than %lld bytes of memory", m->pool->limit);
            return;
        }
        b->data = data;
        b->cap = cap;
    }
    memcpy(b->data + b->n, s, (size_t)n);
    b->n += n;
    if (b == &m->root && b->n > m->limit.output_bytes)
        rt_tpl_exhaust(m, "more than %lld bytes of output", m->limit.output_bytes);
}

void rt_buf_puts(rt_tpl *m, rt_buf *b, const char *s) { rt_buf_add(m, b, s, (int64_t)strlen(s)); }

void rt_buf_free(rt_tpl *m, rt_buf *b)
{
    m->pool->used -= b->cap;
    free(b->data);
    *b = (rt_buf){ 0 };
}

static char *take_str(rt_tpl *m, int64_t n)
{
    char *s = rt_tpl_take(m, n);
    if (s)
        m->pool->tip = s + n;
    return s;
}

rt_val rt_buf_string(rt_tpl *m, rt_buf *b)
{
    char *s = take_str(m, b->n);
    rt_val v = rt_val_str(s, s ? b->n : 0);
    if (s && b->n)
        memcpy(s, b->data, (size_t)b->n);
    rt_buf_free(m, b);
    return v;
}

/* ---- construction ---------------------------------------------------------------------------- */

rt_val rt_val_str(const char *s, int64_t n)
{
    return (rt_val){ .kind = V_STR, .n = (uint32_t)n, .u.str = s ? s : "" };
}
rt_val rt_val_lit(const char *s) { return rt_val_str(s, (int64_t)strlen(s)); }
rt_val rt_val_int(int64_t i) { return (rt_val){ .kind = V_INT, .u.i = i }; }
rt_val rt_val_float(double f) { return (rt_val){ .kind = V_FLOAT, .u.f = f }; }
rt_val rt_val_bool(bool b) { return (rt_val){ .kind = V_BOOL, .u.i = b }; }
rt_val rt_val_none(void) { return (rt_val){ .kind = V_NONE }; }
rt_val rt_val_missing(void) { return (rt_val){ .kind = V_MISSING }; }

rt_val rt_val_undef(rt_undef why, rt_val name)
{
    rt_val v = { .kind = V_UNDEF, .flag = (uint8_t)why };
    if (name.kind == V_STR) {
        v.n = name.n;
        v.u.str = name.u.str;
    }
    return v;
}

rt_val rt_undef_fail(rt_tpl *m, rt_val v)
{
    static const char *const says[] = { "'%.*s' is undefined", "there is no attribute '%.*s'",
                                        "access to attribute '%.*s' is unsafe", "%.*s" };
    char text[300];
    const char *name = v.u.str && v.n ? v.u.str : "value";
    int n = v.u.str && v.n ? (int)rt_min(v.n, 200) : 5;
    snprintf(text, sizeof text, says[v.flag & 3], n, name);
    return rt_tpl_fail(m, "%s", text);
}

rt_val rt_val_concat(rt_tpl *m, rt_val a, rt_val b)
{
    rt_pool *p = m->pool;
    uint8_t flag = a.flag | b.flag;
    int64_t n = (int64_t)a.n + b.n;
    if (flag && !(a.flag && b.flag)) { /* Markup escapes what joins it */
        rt_val *plain = a.flag ? &b : &a;
        *plain = rt_str_escape(m, *plain);
        return m->failed ? *plain : rt_val_concat(m, a, b);
    }
    if (!a.n || !b.n)
        return a.n ? a : b;
    rt_tpl_scan(m, b.n);
    uintptr_t gap = (uintptr_t)p->at - (uintptr_t)p->tip; /* a is the newest block: grow it */
    if (a.u.str + a.n == p->tip && gap < 8 && b.n <= p->end - p->tip) {
        memcpy(p->tip, b.u.str, b.n);
        p->tip += b.n;
        p->at += rt_align_up(rt_max(p->tip - p->at, 0), 8);
        rt_val v = rt_val_str(a.u.str, n);
        v.flag = flag;
        return v;
    }
    rt_tpl_scan(m, a.n);
    char *s = take_str(m, n);
    if (s) {
        memcpy(s, a.u.str, a.n);
        memcpy(s + a.n, b.u.str, b.n);
    }
    rt_val v = rt_val_str(s, s ? n : 0);
    v.flag = flag;
    return v;
}

rt_val rt_seq_new(rt_tpl *m, rt_seq_kind kind, int64_t n)
{
    rt_seq *s = rt_tpl_take(m, (int64_t)sizeof *s + n * (int64_t)sizeof(rt_val));
    if (!s)
        return rt_val_undef(UNDEF_NAME, rt_val_missing());
    *s = (rt_seq){ .kind = kind, .n = n, .item = (rt_val *)(s + 1) };
    memset(s->item, 0, (size_t)n * sizeof(rt_val));
    return (rt_val){ .kind = V_SEQ, .u.seq = s };
}

/* list + item, in amortised constant memory: lists that grow share one store, and only the list
   that ends where the store ends may append to it. */
rt_val rt_seq_push(rt_tpl *m, rt_val list, rt_val item)
{
    if (m->failed)
        return list;
    rt_seq *old = list.u.seq, *s = rt_tpl_take(m, sizeof *s);
    if (!s)
        return list;
    *s = *old;
    if (!old->room || *old->room != old->n || old->n >= old->cap) {
        s->cap = old->n + old->n / 2 + 6;
        s->room = rt_tpl_take(m, 8 + s->cap * (int64_t)sizeof(rt_val));
        if (!s->room)
            return list;
        s->item = (rt_val *)(s->room + 1);
        if (old->n)
            memcpy(s->item, old->item, (size_t)old->n * sizeof(rt_val));
        rt_tpl_scan(m, old->n * 16);
    }
    s->item[s->n++] = item;
    *s->room = s->n;
    return (rt_val){ .kind = V_SEQ, .u.seq = s };
}

rt_val rt_dict_new(rt_tpl *m, int64_t cap)
{
    rt_dict *d = rt_tpl_take(m, (int64_t)sizeof *d + cap * (int64_t)sizeof(rt_pair));
    if (!d)
        return rt_val_undef(UNDEF_NAME, rt_val_missing());
    *d = (rt_dict){ .pair = (rt_pair *)(d + 1), .cap = cap };
    return (rt_val){ .kind = V_DICT, .u.dict = d };
}

static bool hashable(rt_val v)
{
    if (v.kind == V_SEQ && v.u.seq->kind == SEQ_TUPLE)
        for (int64_t i = 0; i < v.u.seq->n; i++)
            if (v.u.seq->item[i].kind == V_SEQ || v.u.seq->item[i].kind == V_DICT)
                return false;
    return v.kind != V_DICT && (v.kind != V_SEQ || v.u.seq->kind == SEQ_TUPLE);
}

const rt_val *rt_dict_find(rt_tpl *m, const rt_dict *d, rt_val key)
{
    rt_tpl_step(m, d->n >> 4);
    for (int64_t i = 0; i < d->n; i++) {
        const rt_val *k = &d->pair[i].key;
        bool str = key.kind == V_STR && k->kind == V_STR;
        if (str ? key.n == k->n && !memcmp(key.u.str, k->u.str, key.n) : rt_val_equal(m, key, *k))
            return &d->pair[i].value;
    }
    return NULL;
}

void rt_dict_put(rt_tpl *m, rt_dict *d, rt_val key, rt_val value)
{
    if (m->failed)
        return;
    if (!hashable(key)) {
        rt_tpl_fail(m, "a %s cannot be a key", rt_val_type(key));
        return;
    }
    rt_val *there = (rt_val *)rt_dict_find(m, d, key);
    if (there) {
        *there = value;
        return;
    }
    if (d->n == d->cap) {
        int64_t cap = d->cap * 2 + 4;
        rt_pair *pair = rt_tpl_take(m, cap * (int64_t)sizeof *pair);
        if (!pair)
            return;
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
    static const char *const name[] = {
        "missing value", "undefined value", "none",     "bool",   "int",   "float", "str", "list",
        "dict",          "namespace",       "function", "method", "macro", "loop"
    };
    static const char *const seq[] = { "list",        "tuple",      "range",   "dict_keys",
                                       "dict_values", "dict_items", "iterator" };
    return v.kind == V_SEQ ? seq[v.u.seq->kind] : name[v.kind];
}

bool rt_val_is(rt_val v, const char *s)
{
    return v.kind == V_STR && v.n == strlen(s) && !memcmp(v.u.str, s, v.n);
}

bool rt_val_truth(rt_tpl *m, rt_val v)
{
    (void)m;
    switch ((rt_kind)v.kind) {
    case V_MISSING:
    case V_UNDEF:
    case V_NONE:
        return false;
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
        return true;
    }
}

bool rt_val_integer(rt_val v, int64_t *i)
{
    *i = v.kind == V_INT || v.kind == V_BOOL ? v.u.i : 0;
    return v.kind == V_INT || v.kind == V_BOOL;
}

bool rt_val_number(rt_val v, double *f)
{
    int64_t i;
    *f = rt_val_integer(v, &i) ? (double)i : v.kind == V_FLOAT ? v.u.f : 0;
    return v.kind == V_INT || v.kind == V_BOOL || v.kind == V_FLOAT;
}

/* -1, 0, 1 or 2 (NaN) for two numbers; an int and a float compare exactly, as in Python. */
static int order_numbers(rt_val a, rt_val b)
{
    double x, y;
    rt_val_number(a, &x);
    rt_val_number(b, &y);
    if (a.kind != V_FLOAT && b.kind != V_FLOAT)
        return (a.u.i > b.u.i) - (a.u.i < b.u.i);
    if (x != x || y != y)
        return 2;
    if (x != y || (a.kind == V_FLOAT && b.kind == V_FLOAT) || fabs(x) >= 0x1p63)
        return (x > y) - (x < y);
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

static bool equal_dicts(rt_tpl *m, const rt_dict *a, const rt_dict *b)
{
    if (a == b || a->n != b->n)
        return a == b;
    for (int64_t i = 0; i < a->n && !m->failed; i++) {
        const rt_val *v = rt_dict_find(m, b, a->pair[i].key);
        if (!v || !rt_val_equal(m, a->pair[i].value, *v))
            return false;
    }
    return true;
}

bool rt_val_equal(rt_tpl *m, rt_val a, rt_val b)
{
    double x, y;
    bool same = false;
    if (rt_val_number(a, &x) && rt_val_number(b, &y))
        return order_numbers(a, b) == 0;
    if (a.kind != b.kind || !rt_tpl_enter(m))
        return false;
    if (a.kind == V_STR) {
        same = a.n == b.n && order_strings(m, a, b) == 0;
    } else if (a.kind == V_SEQ) {
        rt_seq *s = a.u.seq, *t = b.u.seq;
        same = s == t ||
               (s->kind == t->kind && s->n == t->n && s->kind != SEQ_ONCE && s->kind != SEQ_VALUES);
        for (int64_t i = 0; same && s != t && i < s->n && !m->failed; i++)
            same = rt_val_equal(m, rt_seq_at(s, i), rt_seq_at(t, i));
    } else if (a.kind == V_DICT) {
        same = equal_dicts(m, a.u.dict, b.u.dict);
    } else {
        same = a.kind == V_UNDEF || a.kind == V_NONE || a.u.i == b.u.i;
    }
    m->nest--;
    return same;
}

int rt_val_order(rt_tpl *m, rt_val a, rt_val b)
{
    double x, y;
    int c = 0;
    if (!rt_tpl_enter(m))
        return 0;
    bool seqs = a.kind == V_SEQ && b.kind == V_SEQ && a.u.seq->kind == b.u.seq->kind &&
                a.u.seq->kind <= SEQ_TUPLE;
    if (rt_val_number(a, &x) && rt_val_number(b, &y)) {
        c = order_numbers(a, b);
    } else if (a.kind == V_STR && b.kind == V_STR) {
        c = order_strings(m, a, b);
    } else if (seqs) {
        rt_seq *s = a.u.seq, *t = b.u.seq;
        int64_t i = 0, n = rt_min(s->n, t->n);
        while (i < n && rt_val_equal(m, s->item[i], t->item[i]))
            i++;
        c = i < n ? rt_val_order(m, s->item[i], t->item[i]) : (s->n > t->n) - (s->n < t->n);
    } else if (a.kind == V_UNDEF || b.kind == V_UNDEF) {
        rt_undef_fail(m, a.kind == V_UNDEF ? a : b);
    } else {
        rt_tpl_fail(m, "%s and %s cannot be ordered", rt_val_type(a), rt_val_type(b));
    }
    m->nest--;
    return c;
}

int64_t rt_val_length(rt_tpl *m, rt_val v)
{
    if (v.kind == V_STR && rt_tpl_scan(m, v.n))
        return rt_cp_count(v.u.str, v.n);
    if (v.kind == V_SEQ && v.u.seq->kind != SEQ_ONCE)
        return v.u.seq->n;
    if (v.kind == V_DICT)
        return v.u.dict->n;
    if (v.kind != V_UNDEF && v.kind != V_STR)
        rt_tpl_fail(m, "a %s has no length", rt_val_type(v));
    return 0;
}

bool rt_val_in(rt_tpl *m, rt_val item, rt_val in)
{
    if (in.kind == V_DICT) {
        if (!hashable(item))
            rt_tpl_fail(m, "a %s cannot be a key", rt_val_type(item));
        return rt_dict_find(m, in.u.dict, item) != NULL;
    }
    if (in.kind == V_STR) {
        if (item.kind != V_STR)
            rt_tpl_fail(m, "'in' a string needs a string, not %s", rt_val_type(item));
        rt_tpl_scan(m, in.n);
        return !m->failed && (!item.n || (in.n && memmem(in.u.str, in.n, item.u.str, item.n)));
    }
    rt_seq *s = rt_val_iterate(m, in);
    rt_val v;
    for (int64_t i = 0; s && rt_seq_next(m, s, &i, &v);)
        if (rt_val_equal(m, item, v))
            return true;
    return false;
}
