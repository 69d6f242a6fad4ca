/* attention.c: attention of the CPU backend: splits a batch into units (segment, key head) and
   gives them to threads; a unit's result does not depend on the split. Owns the layout of the
   cache: per page and head key panels [RT_KV_PAGE/32][Dk][32], then value panels
   [Dv/32][RT_KV_PAGE][32] (not when values are columns of the keys). The arithmetic is
   isa_attention.h. */
#include "core/device/cpu/attention.h"
#include "core/device/cpu/cpu.h"

#include <string.h>

/* ---- workspace ----------------------------------------------------------------------------------
 */

/* Floats of one unit with t keys: the larger of what the three functions lay out. */
static int64_t unit_floats(int64_t t, int64_t dk, int64_t dv, bool backward)
{
    int64_t padded = rt_align_up(t, RT_PANEL), wide_k = rt_align_up(dk, RT_PANEL),
            wide_v = rt_align_up(dv, RT_PANEL);
    int64_t tile = 16 * rt_max(padded, rt_max(dk, dv)) + 32;
    int64_t forward = padded * dk + wide_v * padded + 16 * padded + tile + 16 * wide_v;
    int64_t block = RT_ATTENTION_BLOCK;
    int64_t back = padded * (dk + dv) + wide_k * t + block * (2 * padded + wide_k + wide_v) +
                   t * (wide_k + wide_v) + tile;
    return backward ? rt_max(forward, back) : forward;
}

void rt_cpu_need_attention(rt_dev *d, const rt_attention_shape *s)
{
    rt_cpu_need_rows(d,
                     unit_floats(s->longest, s->dk, s->dv, s->backward) * (int64_t)sizeof(float));
}

enum {
    UNITS_THREAD = 4, /* units a thread should find at least */
    PART_ROWS = 128   /* of a unit's rows, that packing the keys again is little beside */
};

/* ---- units --------------------------------------------------------------------------------------
 */

/* One call: the unit with the tensors' starts filled in, and what moves with segment and head. */
struct call {
    struct rt_attention_unit base;
    const int32_t *offset;
    const int32_t *pos, *page; /* cached only */
    const rt_kv *kv;
    int64_t pages; /* of a segment at most */
    rt_attention_fn *fn;
    int64_t segments;
    int64_t parts; /* of a unit's rows, each of which packs the keys that it sees */
    bool split;    /* its rows may be computed apart */
    bool backward;
};

_Static_assert(RT_KV_PAGE % RT_PANEL == 0, "a page holds whole key panels");

static int64_t key_floats(const rt_kv *kv) { return RT_KV_PAGE * kv->dk; }
static int64_t head_floats(const rt_kv *kv) /* of a page */
{
    return key_floats(kv) + (kv->v_in_k ? 0 : RT_KV_PAGE * rt_align_up(kv->dv, RT_PANEL));
}

static float *cached_keys(const rt_kv *kv, int64_t page, int64_t head)
{
    return (float *)kv->data + (page * kv->heads + head) * head_floats(kv);
}

static struct rt_attention_unit unit_at(const struct call *c, int64_t i)
{
    struct rt_attention_unit u = c->base;
    int64_t s = i / u.kv_heads, head = i % u.kv_heads;
    u.row0 = c->offset[s];
    u.rows = c->offset[s + 1] - u.row0;
    u.head0 = head * u.group;
    if (c->kv) {
        u.pos0 = u.rows ? c->pos[u.row0] : 0;
        u.keys_at.data = cached_keys(c->kv, 0, head);
        u.keys_at.page = u.values_at.page = c->page + s * c->pages;
        u.values_at.data = u.keys_at.data + key_floats(c->kv);
    } else {
        int64_t at_k = (u.row0 * u.kv_heads + head) * u.dk,
                at_v = (u.row0 * u.kv_heads + head) * u.dv;
        u.k += at_k;
        u.v += at_v;
        if (c->backward) {
            u.dk_out += at_k;
            u.dv_out += at_v;
        }
    }
    u.keys = u.pos0 + u.rows;
    return u;
}

/* Its rows [begin, end), and the keys up to theirs. */
static struct rt_attention_unit rows_of(struct rt_attention_unit u, int64_t begin, int64_t end)
{
    u.row0 += begin;
    u.pos0 += begin;
    u.rows = end - begin;
    u.keys = u.pos0 + u.rows;
    return u;
}

struct units_job {
    const rt_dev *d;
    const struct call *c;
};

/* The last parts, which see most keys, come first. */
static void one_unit(void *ctx, int64_t i, int member)
{
    const struct units_job *j = ctx;
    const struct call *c = j->c;
    int64_t n = c->segments * c->base.kv_heads, part = c->parts - 1 - i / n;
    struct rt_attention_unit u = unit_at(c, i % n);
    if (c->parts > 1)
        u = rows_of(u, u.rows * part / c->parts, u.rows * (part + 1) / c->parts);
    int64_t bytes = unit_floats(u.keys, u.dk, u.dv, c->backward) * (int64_t)sizeof(float);
    if (u.rows)
        c->fn(&u, (float *)(void *)rt_cpu_scratch(j->d, member, bytes));
}

static void run_units(rt_dev *d, struct call *c)
{
    int64_t n = c->segments * c->base.kv_heads, work = 0, longest = 0;
    for (int64_t i = 0; i < n; i += c->base.kv_heads) {
        struct rt_attention_unit u = unit_at(c, i);
        work += u.rows * u.keys * u.heads * (u.dk + u.dv) / 32;
        longest = rt_max(longest, u.rows);
    }
    int threads = rt_cpu_threads(d, work);
    /* a long sequence with few key heads would leave threads without work */
    c->parts = 1;
    if (c->split && threads > 1 && n > 0)
        c->parts = rt_max(1, rt_min(longest / PART_ROWS, rt_ceil_div(UNITS_THREAD * threads, n)));
    struct units_job job = { d, c };
    rt_cpu_run(d, one_unit, &job, n * c->parts, (int)rt_min(n * c->parts, threads));
}

static struct call call_of(const rt_tensor *q, int64_t kv_heads, int64_t dv, const rt_rows *rows,
                           const rt_attention_rule *rule)
{
    struct call c = { .offset = rt_i32(&rows->offset), .segments = rows->s };
    c.base.q = rt_f32(q);
    c.base.heads = q->dim[1];
    c.base.kv_heads = kv_heads;
    c.base.group = q->dim[1] / kv_heads;
    c.base.dk = q->dim[2];
    c.base.dv = dv;
    c.base.scale = rule->scale;
    c.base.sinks = rule->sinks ? rt_f32(rule->sinks) : NULL;
    c.base.window = rule->window ? rule->window : (int64_t)1 << 40;
    return c;
}

/* ---- operations ---------------------------------------------------------------------------------
 */

static void attention_forward(rt_dev *d, rt_tensor *out, rt_tensor *lse, const rt_tensor *q,
                              const rt_tensor *k, const rt_tensor *v, const rt_rows *rows,
                              const rt_attention_rule *rule)
{
    struct call c = call_of(q, k->dim[1], v->dim[2], rows, rule);
    c.fn = rt_cpu_isa(d)->attention_forward;
    c.split = true;
    c.base.k = rt_f32(k);
    c.base.v = rt_f32(v);
    c.base.out = rt_f32(out);
    c.base.lse = rt_f32(lse);
    run_units(d, &c);
}

static void attention_backward(rt_dev *d, rt_tensor *dq, rt_tensor *dk, rt_tensor *dv,
                               const rt_tensor *dout, const rt_tensor *out, const rt_tensor *lse,
                               const rt_tensor *q, const rt_tensor *k, const rt_tensor *v,
                               const rt_rows *rows, const rt_attention_rule *rule)
{
    struct call c = call_of(q, k->dim[1], v->dim[2], rows, rule);
    c.fn = rt_cpu_isa(d)->attention_backward;
    c.backward = true;
    c.base.k = rt_f32(k);
    c.base.v = rt_f32(v);
    c.base.out = rt_f32(out);
    c.base.lse = rt_f32(lse);
    c.base.dout = rt_f32(dout);
    c.base.dq = rt_f32(dq);
    c.base.dk_out = rt_f32(dk);
    c.base.dv_out = rt_f32(dv);
    run_units(d, &c);
}

static int64_t kv_bytes(rt_dev *d, const rt_kv *kv)
{
    (void)d;
    return kv->pages * kv->heads * head_floats(kv) * (int64_t)sizeof(float);
}

struct append_job {
    rt_kv *kv;
    const rt_tensor *k, *v;
    const rt_rows *rows;
};

/* One head of one segment. */
static void append_unit(void *ctx, int64_t unit, int member)
{
    const struct append_job *j = ctx;
    const rt_kv *kv = j->kv;
    const rt_rows *rows = j->rows;
    int64_t s = unit / kv->heads, h = unit % kv->heads, pages = rows->page.dim[1];
    const int32_t *page = rt_i32(&rows->page) + s * pages, *pos = rt_i32(&rows->pos);
    (void)member;
    for (int64_t row = rt_i32(&rows->offset)[s]; row < rt_i32(&rows->offset)[s + 1]; row++) {
        int64_t i = pos[row] / RT_KV_PAGE, t = pos[row] % RT_KV_PAGE;
        if (pos[row] < 0 || i >= pages || page[i] < 0 || page[i] >= kv->pages)
            rt_bug("kv_append: position %d of segment %lld has no page", pos[row], (long long)s);
        float *keys = cached_keys(kv, page[i], h), *values = keys + key_floats(kv);
        const float *from = rt_f32(j->k) + (row * kv->heads + h) * kv->dk;
        keys += t / RT_PANEL * kv->dk * RT_PANEL + t % RT_PANEL;
        for (int64_t c = 0; c < kv->dk; c++)
            keys[c * RT_PANEL] = from[c];
        if (kv->v_in_k)
            continue;
        from = rt_f32(j->v) + (row * kv->heads + h) * kv->dv;
        for (int64_t c = 0; c < kv->dv; c++)
            values[(c / RT_PANEL * RT_KV_PAGE + t) * RT_PANEL + c % RT_PANEL] = from[c];
    }
}

static void kv_append(rt_dev *d, rt_kv *kv, const rt_tensor *k, const rt_tensor *v,
                      const rt_rows *rows)
{
    struct append_job job = { kv, k, v, rows };
    int64_t units = rows->s * kv->heads, work = rows->n * kv->heads * (kv->dk + kv->dv);
    rt_cpu_run(d, append_unit, &job, units, (int)rt_min(units, rt_cpu_threads(d, work)));
}

static void kv_copy(rt_dev *d, rt_kv *kv, int64_t to, int64_t from)
{
    size_t bytes = (size_t)(kv->heads * head_floats(kv)) * sizeof(float);
    (void)d;
    memmove(cached_keys(kv, to, 0), cached_keys(kv, from, 0), bytes);
}

static void attention_cached(rt_dev *d, rt_tensor *out, const rt_tensor *q, const rt_kv *kv,
                             const rt_rows *rows, const rt_attention_rule *rule)
{
    struct call c = call_of(q, kv->heads, kv->dv, rows, rule);
    c.fn = rt_cpu_isa(d)->attention_cached;
    c.kv = kv;
    c.pos = rt_i32(&rows->pos);
    c.page = rt_i32(&rows->page);
    c.pages = rows->page.dim[1];
    c.base.out = rt_f32(out);
    c.base.keys_at.tokens = c.base.values_at.tokens = RT_KV_PAGE;
    c.base.keys_at.step = c.base.values_at.step = kv->heads * head_floats(kv);
    c.base.v_in_k = kv->v_in_k;
    run_units(d, &c);
}

void rt_cpu_attention_ops(rt_ops *ops)
{
    ops->attention_forward = attention_forward;
    ops->attention_backward = attention_backward;
    ops->kv_bytes = kv_bytes;
    ops->kv_append = kv_append;
    ops->kv_copy = kv_copy;
    ops->attention_cached = attention_cached;
}
