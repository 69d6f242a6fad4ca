/* strict_ops.c: the operations of the strict device: each keeps its arguments by value, and when
   its turn comes looks at the memory of every tensor and runs the CPU's. One line an operation says
   what its arguments are. Refuses: when that is, and whose memory it is (strict.c). */
#include <string.h>

#include "core/device/strict/strict_inside.h"

struct held {
    rt_tensor t;
    bool there;
};

static struct held hold(const rt_tensor *t)
{
    return t ? (struct held){ *t, true } : (struct held){ .there = false };
}

static rt_tensor *of(struct held *h) { return h->there ? &h->t : NULL; }

static void look_output(const struct item *it, const struct held *h)
{
    if (h->there && h->t.rank > 0 && rt_tensor_bytes(&h->t) > 0)
        rt_strict_use(it, h->t.data, rt_tensor_bytes(&h->t));
}

static void look_piece(const struct item *it, const rt_tensor *t)
{
    int64_t n = t->rank == 3 ? t->dim[0] : 1;
    for (int64_t e = 0; e < n; e++) {
        const rt_piece *p = &t->piece[e];
        rt_strict_use(it, p->data + rt_piece_data(p, 1).first, p->row_bytes);
        if (p->code != RT_CODE_ROWS)
            rt_strict_use(it, p->scale + rt_piece_scales(p, 1).first, 1);
        if (it->what[0] == 'm' && strstr(it->what, "heads"))
            break; /* one piece of all heads */
    }
}

/* Nobody wrote what still holds the fresh pattern. */
static void look_input(const struct item *it, const struct held *h)
{
    const rt_tensor *t = &h->t;
    if (!h->there || t->rank == 0 || rt_tensor_bytes(t) == 0)
        return;
    if (t->piece)
        look_piece(it, t);
    if (t->panels)
        rt_strict_use(it, t->panels, 1);
    if (t->piece || t->panels)
        return;
    rt_strict_use(it, t->data, rt_tensor_bytes(t));
    const uint32_t *word = t->data;
    for (int64_t i = 0; (t->dtype == RT_F32 || t->dtype == RT_I32) && i < rt_tensor_elements(t);
         i++)
        if (word[i] == RT_STRICT_FRESH)
            rt_strict_fault(it->what, it->caller, "element %lld of an input was never written",
                            (long long)i);
}

static void look_address(const struct item *it, const rt_tensor *t, bool input)
{
    struct held h = { *t, t->rank > 0 };
    if (input)
        look_input(it, &h);
    else
        look_output(it, &h);
}

/* Kinds of parameters: OUT, IN tensors (ADD: an output that was something before; SUM: so with beta
   1; ANY: an input parts of which nobody wrote), V a value, P a struct, and the structs of tensors.
   Each kind says its field, its parameter, how it is kept, what is passed on and what is looked at
   before. */
#define FIELD_OUT(x) struct held x;
#define PARAM_OUT(x) , rt_tensor *x
#define SAVE_OUT(x) a->x = hold(x);
#define PASS_OUT(x) , of(&a->x)
#define LOOK_OUT(x) look_output(it, &a->x);
#define FIELD_IN(x) struct held x;
#define PARAM_IN(x) , const rt_tensor *x
#define SAVE_IN(x) a->x = hold(x);
#define PASS_IN(x) , of(&a->x)
#define LOOK_IN(x) look_input(it, &a->x);
#define FIELD_ADD(x) struct held x;
#define PARAM_ADD(x) , rt_tensor *x
#define SAVE_ADD(x) a->x = hold(x);
#define PASS_ADD(x) , of(&a->x)
#define LOOK_ADD(x) look_input(it, &a->x);
#define FIELD_SUM(x) struct held x;
#define PARAM_SUM(x) , rt_tensor *x
#define SAVE_SUM(x) a->x = hold(x);
#define PASS_SUM(x) , of(&a->x)
#define LOOK_SUM(x) (a->beta != 0.0f ? look_input : look_output)(it, &a->x);
#define FIELD_ANY(x) struct held x;
#define PARAM_ANY(x) , const rt_tensor *x
#define SAVE_ANY(x) a->x = hold(x);
#define PASS_ANY(x) , of(&a->x)
#define LOOK_ANY(x) look_output(it, &a->x);
#define FIELD_V(type, x) type x;
#define PARAM_V(type, x) , type x
#define SAVE_V(type, x) a->x = x;
#define PASS_V(type, x) , a->x
#define LOOK_V(type, x)
#define FIELD_P(type, x) type x;
#define PARAM_P(type, x) , const type *x
#define SAVE_P(type, x) a->x = *x;
#define PASS_P(type, x) , &a->x
#define LOOK_P(type, x)
#define FIELD_ROWS(x) rt_rows x;
#define PARAM_ROWS(x) , const rt_rows *x
#define SAVE_ROWS(x) a->x = *x;
#define PASS_ROWS(x) , &a->x
#define LOOK_ROWS(x)                                                                               \
    look_address(it, &a->x.offset, true);                                                          \
    look_address(it, &a->x.page, false);
#define FIELD_RULE(x)                                                                              \
    rt_attention_rule x;                                                                           \
    struct held sinks_of_rule;
#define PARAM_RULE(x) , const rt_attention_rule *x
#define SAVE_RULE(x) a->x = *x, a->x.sinks = NULL, a->sinks_of_rule = hold(x->sinks);
#define PASS_RULE(x) , &a->x
#define LOOK_RULE(x)                                                                               \
    look_input(it, &a->sinks_of_rule);                                                             \
    a->x.sinks = of(&a->sinks_of_rule);
#define FIELD_CACHE(x) rt_kv x;
#define PARAM_CACHE(x) , rt_kv *x
#define SAVE_CACHE(x) a->x = *x;
#define PASS_CACHE(x) , &a->x
#define LOOK_CACHE(x) rt_strict_use(it, a->x.data, 1);
#define FIELD_CACHED(x) rt_kv x;
#define PARAM_CACHED(x) , const rt_kv *x
#define SAVE_CACHED(x) a->x = *x;
#define PASS_CACHED(x) , &a->x
#define LOOK_CACHED(x) rt_strict_use(it, a->x.data, 1);
#define FIELD_TARGETS(x) rt_targets x;
#define PARAM_TARGETS(x) , const rt_targets *x
#define SAVE_TARGETS(x) a->x = *x;
#define PASS_TARGETS(x) , &a->x
#define LOOK_TARGETS(x)                                                                            \
    look_address(it, &a->x.label, true), look_address(it, &a->x.weight, true);                     \
    look_address(it, &a->x.offset, true), look_address(it, &a->x.head_n, true);                    \
    look_address(it, &a->x.id, true), look_address(it, &a->x.logp, true);                          \
    look_address(it, &a->x.hits, true), look_address(it, &a->x.tail, true);                        \
    look_address(it, &a->x.entropy, true), look_address(it, &a->x.logz, true);                     \
    look_address(it, &a->x.old_logp, true), look_address(it, &a->x.advantage, true);               \
    look_address(it, &a->x.reference, true);
#define FIELD_CAPTURED(x) rt_capture x;
#define PARAM_CAPTURED(x) , rt_capture *x
#define SAVE_CAPTURED(x) a->x = *x;
#define PASS_CAPTURED(x) , &a->x
#define LOOK_CAPTURED(x)                                                                           \
    look_address(it, &a->x.head_id, false), look_address(it, &a->x.draw_id, false);                \
    look_address(it, &a->x.logz, false), look_address(it, &a->x.taken, false);

#define EACH1(F, a) F##a
#define EACH2(F, a, ...) F##a EACH1(F, __VA_ARGS__)
#define EACH3(F, a, ...) F##a EACH2(F, __VA_ARGS__)
#define EACH4(F, a, ...) F##a EACH3(F, __VA_ARGS__)
#define EACH5(F, a, ...) F##a EACH4(F, __VA_ARGS__)
#define EACH6(F, a, ...) F##a EACH5(F, __VA_ARGS__)
#define EACH7(F, a, ...) F##a EACH6(F, __VA_ARGS__)
#define EACH8(F, a, ...) F##a EACH7(F, __VA_ARGS__)
#define EACH9(F, a, ...) F##a EACH8(F, __VA_ARGS__)
#define EACH10(F, a, ...) F##a EACH9(F, __VA_ARGS__)
#define EACH11(F, a, ...) F##a EACH10(F, __VA_ARGS__)
#define COUNT(a, b, c, d, e, f, g, h, i, j, k, n, ...) EACH##n
#define EACH(F, ...) COUNT(__VA_ARGS__, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)(F, __VA_ARGS__)

/* Equal arguments have equal bytes; where the compiler cannot see to it, none are compared. */
#if HAS_CLEAR_PADDING
#define CLEAR_PADDING(a) __builtin_clear_padding(a)
#else
#define CLEAR_PADDING(a) ((void)(a))
#endif

#define LATE(name, ...)                                                                            \
    struct args_##name {                                                                           \
        struct item it;                                                                            \
        EACH(FIELD_, __VA_ARGS__)                                                                  \
    };                                                                                             \
    static void run_##name(rt_dev *cpu, struct item *it)                                           \
    {                                                                                              \
        struct args_##name *a = (struct args_##name *)it;                                          \
        EACH(LOOK_, __VA_ARGS__)                                                                   \
        cpu->ops->name(cpu EACH(PASS_, __VA_ARGS__));                                              \
    }                                                                                              \
    static void name(rt_dev *d EACH(PARAM_, __VA_ARGS__))                                          \
    {                                                                                              \
        struct args_##name *a = rt_strict_later(d, #name, run_##name, sizeof *a);                  \
        EACH(SAVE_, __VA_ARGS__)                                                                   \
        CLEAR_PADDING(a);                                                                          \
    }

LATE(copy, OUT(y), IN(x))
LATE(zero, OUT(y))
LATE(matmul, SUM(c), IN(a1), V(bool, ta), IN(b), V(bool, tb), V(float, beta))
LATE(matmul_grouped, SUM(c), IN(a1), V(bool, ta), IN(b), V(bool, tb), IN(offset), V(float, beta))
LATE(matmul_heads, OUT(c), V(int64_t, c0), ANY(a1), V(int64_t, a0), IN(w), V(int64_t, w0),
     V(int64_t, n), V(bool, tb))
LATE(pack_weight, V(void *, panels), IN(w))
LATE(gather_rows, OUT(y), ANY(x), IN(index))
LATE(scatter_add_rows, ADD(x), IN(y), IN(index))
LATE(unpermute_rows, ADD(x), IN(y), IN(slot))
LATE(scale, OUT(y), IN(x), V(float, s))
LATE(bias_forward, ADD(y), IN(b), IN(offset))
LATE(bias_backward, ADD(db), IN(dy), IN(offset))
LATE(rmsnorm_forward, OUT(y), OUT(rstd), IN(x), IN(w), V(float, eps))
LATE(rmsnorm_backward, OUT(dx), ADD(dw), IN(dy), IN(x), IN(w), IN(rstd), V(float, beta))
LATE(rope, OUT(x), IN(table), IN(pos), V(int64_t, first), V(bool, interleaved), V(bool, backward))
LATE(attention_forward, OUT(out), OUT(lse), IN(q), IN(k), IN(v), ROWS(rows), RULE(rule))
LATE(attention_backward, OUT(dq), OUT(dk), OUT(dv), IN(dout), IN(out), IN(lse), IN(q), IN(k), IN(v),
     ROWS(rows), RULE(rule))
LATE(sinks_backward, ADD(dsinks), IN(dout), IN(out), IN(lse), IN(sinks))
LATE(kv_append, CACHE(kv), IN(k), IN(v), ROWS(rows))
LATE(kv_copy, CACHE(kv), V(int64_t, to), V(int64_t, from))
LATE(attention_cached, OUT(out), IN(q), CACHED(kv), ROWS(rows), RULE(rule))
LATE(mla_expand_forward, OUT(k), OUT(v), IN(kvb), IN(kr))
LATE(mla_expand_backward, OUT(dkvb), OUT(dkr), IN(dk), IN(dv))
LATE(copy_columns, OUT(y), V(int64_t, y0), ANY(x), V(int64_t, x0), V(int64_t, n))
LATE(swiglu_forward, OUT(y), IN(gate), IN(up), P(rt_swiglu_rule, rule))
LATE(swiglu_backward, OUT(dgate), OUT(dup), IN(dy), IN(gate), IN(up), P(rt_swiglu_rule, rule))
LATE(route_forward, OUT(idx), OUT(weight), OUT(score), IN(logits), IN(bias), P(rt_route_policy, p))
LATE(route_backward, OUT(dlogits), IN(dweight), IN(idx), IN(weight), IN(score),
     P(rt_route_policy, p))
LATE(route_sort, OUT(offset), OUT(row), OUT(slot), IN(idx))
LATE(route_balance, ADD(bias), IN(load), V(float, rate))
LATE(route_load, ADD(load), IN(offset))
LATE(combine_forward, ADD(y), IN(ys), IN(slot), IN(weight))
LATE(combine_backward, OUT(dys), OUT(dweight), IN(dy), IN(ys), IN(slot), IN(weight))
LATE(loss, OUT(stats), ADD(logits), TARGETS(t), P(rt_loss_spec, spec), V(int64_t, vocab),
     V(float, scale), V(bool, gradient))
LATE(sample, OUT(token), IN(logits), IN(seed), IN(index), P(rt_sampling, s), V(int64_t, vocab))
LATE(capture_rows, CAPTURED(out), ADD(logits), IN(token), IN(seed), IN(index), IN(listed),
     P(rt_soft_config, c), V(int64_t, vocab))
LATE(kl_rows, OUT(kl), OUT(agree), IN(p), IN(q), V(int64_t, vocab))
LATE(sumsq, OUT(partial), IN(g))
LATE(adamw_step, ADD(w), ADD(m), ADD(v), IN(g), P(rt_adamw, h))
LATE(momentum, OUT(u), ADD(m), IN(g), V(float, beta), V(float, grad_scale), V(bool, nesterov))
LATE(unit_norm, OUT(y), IN(x), IN(partial))
LATE(axpby, SUM(y), IN(x), V(float, alpha), V(float, beta), P(rt_rounding, r))

/* Answers of the host, at once. */
static int64_t panels_bytes(rt_dev *d, const rt_tensor *w)
{
    rt_dev *cpu = rt_strict_cpu(d);
    return cpu->ops->panels_bytes(cpu, w);
}

static int64_t kv_bytes(rt_dev *d, const rt_kv *kv)
{
    rt_dev *cpu = rt_strict_cpu(d);
    return cpu->ops->kv_bytes(cpu, kv);
}

void rt_strict_ops(rt_ops *ops)
{
#define ENTRY(name) ops->name = name;
    RT_OPS(ENTRY)
#undef ENTRY
}
