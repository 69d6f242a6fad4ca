/* template_math.c: the operators + - * / // % as Python defines them for numbers, strings and
   lists. Refuses: results beyond 64 bits, powers, and formatting with '...' % values,
   which no chat template needs. */
#include "corpora/template/template_impl.h"

#include <math.h>

static rt_val int_binary(rt_tpl *m, int op, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool over = false;
    if (op == '+')
        over = __builtin_add_overflow(a, b, &r);
    else if (op == '-')
        over = __builtin_sub_overflow(a, b, &r);
    else if (op == '*')
        over = __builtin_mul_overflow(a, b, &r);
    else if (b == -1) /* // and %, where INT64_MIN must not reach the processor */
        over = op == 'D' && __builtin_sub_overflow((int64_t)0, a, &r);
    else if (op == 'D')
        r = a / b - (a % b != 0 && (a < 0) != (b < 0));
    else
        r = a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
    return over ? rt_tpl_fail(m, "integer beyond 64 bits") : rt_val_int(r);
}

static rt_val float_binary(int op, double a, double b)
{
    if (op == '+' || op == '-' || op == '*' || op == '/')
        return rt_val_float(op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : a / b);
    double mod = fmod(a, b), div = (a - mod) / b;
    if (mod != 0 && (b < 0) != (mod < 0)) {
        mod += b;
        div -= 1;
    } else if (mod == 0) {
        mod = copysign(0, b);
    }
    double floored = floor(div);
    floored += div - floored > 0.5;
    return rt_val_float(op == '%' ? mod : div != 0 ? floored : copysign(0, a / b));
}

static rt_val repeat(rt_tpl *m, rt_val v, int64_t times)
{
    bool str = v.kind == V_STR;
    int64_t size = str ? 1 : sizeof(rt_val), n = str ? v.n : v.u.seq->n, bytes;
    times = rt_max(times, 0);
    if (!rt_mul_ok(n * size, times, &bytes) || bytes > m->pool->limit)
        rt_tpl_fail(m, "more than %lld bytes of memory", (long long)m->pool->limit);
    rt_tpl_scan(m, bytes);
    rt_val r = str ? rt_val_str(rt_tpl_take(m, bytes), bytes)
                   : rt_seq_new(m, v.u.seq->kind, n * times);
    char *to = str ? (char *)r.u.str : (char *)r.u.seq->item;
    for (int64_t i = 0; n && i < times; i++)
        memcpy(to + i * n * size, str ? v.u.str : (const char *)v.u.seq->item, (size_t)(n * size));
    r.flag = v.flag;
    return r;
}

rt_val rt_val_binary(rt_tpl *m, int op, rt_val a, rt_val b)
{
    double x, y;
    int64_t times;
    bool la = rt_val_is_list(a), lb = rt_val_is_list(b);
    if (a.kind == V_UNDEF || b.kind == V_UNDEF)
        return rt_undef_fail(m, a.kind == V_UNDEF ? a : b);
    if (op == '%' && a.kind == V_STR)
        return rt_tpl_fail(m, "formatting with %% is not supported: join values with ~");
    if (rt_val_number(a, &x) && rt_val_number(b, &y)) {
        bool ints = a.kind != V_FLOAT && b.kind != V_FLOAT;
        if (y == 0 && (op == '/' || op == 'D' || op == '%'))
            return rt_tpl_fail(m, "division by zero");
        return ints && op != '/' ? int_binary(m, op, a.u.i, b.u.i) : float_binary(op, x, y);
    }
    if (op == '+' && a.kind == V_STR && b.kind == V_STR)
        return rt_val_concat(m, a, b);
    if (op == '+' && la && lb && a.u.seq->kind == b.u.seq->kind) {
        for (int64_t i = 0; i < b.u.seq->n; i++, rt_tpl_step(m, 1))
            a = rt_seq_push(m, a, b.u.seq->item[i]);
        return a;
    }
    if (op == '*' && (la || a.kind == V_STR) && rt_val_integer(b, &times))
        return repeat(m, a, times);
    if (op == '*' && (lb || b.kind == V_STR) && rt_val_integer(a, &times))
        return repeat(m, b, times);
    const char *sign = op == 'D' ? "//" : (const char[]){ (char)op, 0 };
    return rt_tpl_fail(m, "%s %s %s is not possible: use ~ to join values as text", rt_val_type(a),
                       sign, rt_val_type(b));
}
