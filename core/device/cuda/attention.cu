/* attention.cu: attention in f32 for any head width: forward, backward and over the paged cache; a
   block works on one query row and head (forward, dq) or one key row and head (dk, dv), which reads
   its keys in tiles; softmax is made online. Sums stay in shared memory until they are whole, so
   that an output in bf16 is rounded once. No atomics: every output has one writer, so two runs give
   the same bits. Chooses who computes: a device that rounds to bf16 gives what the forms of
   attention_flash.cu, attention_flash_back.cu and attention_paged.cu hold to them. */
#include "core/device/cuda/attention.h"

enum { THREADS = 128, WIDTH_MAX = 640 /* of a head */, KEYS = 128 /* of a tile */ };

template <typename X> TEAM_FN float dot_rows(X x, struct elements y, int64_t n)
{
    float sum = 0.0f;
    for (int64_t i = 0; i < n; i++)
        sum = fmaf(x[i], y[i], sum);
    return sum;
}

/* block: a row and a query head */
static __global__ void attention_forward_kernel(const struct attention p)
{
    BLOCK_SHARED(float, weight, KEYS);
    BLOCK_SHARED(float, q, WIDTH_MAX);
    BLOCK_SHARED(float, out, WIDTH_MAX);
    int64_t row = blockIdx.x, head = blockIdx.y, kv = head / (p.heads / p.kv_heads);
    const struct view v = view_of(&p, row);
    const struct elements from = p.q.from((row * p.heads + head) * p.width_k);
    float max = p.sinks ? p.sinks[head] : -INFINITY, sum = p.sinks ? 1.0f : 0.0f;
    for (int64_t i = team_rank(); i < p.width_k; i += team_size())
        q[i] = from[i];
    for (int64_t i = team_rank(); i < p.width_v; i += team_size())
        out[i] = 0.0f;
    team_sync();
    for (int64_t t0 = v.first; t0 < v.end; t0 += KEYS) {
        int64_t tiles = rt_min(KEYS, v.end - t0);
        float top = max, w = 0.0f;
        for (int64_t j = team_rank(); j < tiles; j += team_size()) {
            weight[j] = p.scale * dot_rows(q, key_at(&p, &v, t0 + j, kv), p.width_k);
            top = lanes_max(top, weight[j]);
        }
        top = team_max_lanes(top);
        for (int64_t j = team_rank(); j < tiles; j += team_size()) {
            weight[j] = rt_expf(weight[j] - top);
            w += weight[j];
        }
        float back = rt_expf(max - top);
        sum = fmaf(sum, back, team_sum_lanes(w)); /* and all weights are written */
        max = top;
        for (int64_t i = team_rank(); i < p.width_v; i += team_size()) {
            float o = out[i] * back;
            for (int64_t j = 0; j < tiles; j++)
                o = fmaf(weight[j], value_at(&p, &v, t0 + j, kv)[i], o);
            out[i] = o;
        }
        team_sync();
    }
    for (int64_t i = team_rank(); i < p.width_v; i += team_size())
        p.out.put((row * p.heads + head) * p.width_v + i, out[i] / sum);
    if (p.lse && team_rank() == 0)
        p.lse[row * p.heads + head] = max + rt_logf(sum);
}

/* block: a row and a query head. ds = w (dout . v - dout . out), dq = scale sum ds k */
static __global__ void attention_backward_q_kernel(const struct attention p)
{
    BLOCK_SHARED(float, slope, KEYS);
    BLOCK_SHARED(float, dq, WIDTH_MAX);
    int64_t row = blockIdx.x, head = blockIdx.y, kv = head / (p.heads / p.kv_heads);
    int64_t at = row * p.heads + head;
    const struct view v = view_of(&p, row);
    const struct elements q = p.q.from(at * p.width_k), dout = p.dout.from(at * p.width_v);
    float delta = dot_rows(dout, p.out.from(at * p.width_v), p.width_v), lse = p.lse[at];
    for (int64_t i = team_rank(); i < p.width_k; i += team_size())
        dq[i] = 0.0f;
    for (int64_t t0 = v.first; t0 < v.end; t0 += KEYS) {
        int64_t tiles = rt_min(KEYS, v.end - t0);
        for (int64_t j = team_rank(); j < tiles; j += team_size()) {
            float score = p.scale * dot_rows(q, key_at(&p, &v, t0 + j, kv), p.width_k);
            float back = dot_rows(dout, value_at(&p, &v, t0 + j, kv), p.width_v) - delta;
            slope[j] = rt_expf(score - lse) * back * p.scale;
        }
        team_sync();
        for (int64_t i = team_rank(); i < p.width_k; i += team_size()) {
            float sum = dq[i];
            for (int64_t j = 0; j < tiles; j++)
                sum = fmaf(slope[j], key_at(&p, &v, t0 + j, kv)[i], sum);
            dq[i] = sum;
        }
        team_sync();
    }
    for (int64_t i = team_rank(); i < p.width_k; i += team_size())
        p.dq.put(at * p.width_k + i, dq[i]);
}

/* block: a key row and a key head, over the query rows that see it and the heads of its group */
static __global__ void attention_backward_k_kernel(const struct attention p)
{
    BLOCK_SHARED(float, slope, KEYS);
    BLOCK_SHARED(float, weight, KEYS);
    BLOCK_SHARED(float, dk, WIDTH_MAX);
    BLOCK_SHARED(float, dv, WIDTH_MAX);
    int64_t row = blockIdx.x, kv = blockIdx.y, group = p.heads / p.kv_heads;
    int64_t s = segment_of(&p, row), end = p.offset[s + 1], at = row * p.kv_heads + kv;
    const struct elements k = p.k.from(at * p.width_k), v = p.v.from(at * p.width_v);
    if (p.window)
        end = rt_min(end, row + p.window);
    for (int64_t i = team_rank(); i < p.width_k; i += team_size())
        dk[i] = 0.0f;
    for (int64_t i = team_rank(); i < p.width_v; i += team_size())
        dv[i] = 0.0f;
    for (int64_t head = kv * group; head < (kv + 1) * group; head++)
        for (int64_t r0 = row; r0 < end; r0 += KEYS) {
            int64_t tiles = rt_min(KEYS, end - r0);
            for (int64_t j = team_rank(); j < tiles; j += team_size()) {
                int64_t qat = (r0 + j) * p.heads + head;
                const struct elements dout = p.dout.from(qat * p.width_v);
                float score = p.scale * dot_rows(p.q.from(qat * p.width_k), k, p.width_k);
                float w = rt_expf(score - p.lse[qat]);
                float delta = dot_rows(dout, p.out.from(qat * p.width_v), p.width_v);
                weight[j] = w;
                slope[j] = w * (dot_rows(dout, v, p.width_v) - delta) * p.scale;
            }
            team_sync();
            for (int64_t i = team_rank(); i < p.width_k; i += team_size()) {
                float sum = dk[i];
                for (int64_t j = 0; j < tiles; j++)
                    sum = fmaf(slope[j], p.q[((r0 + j) * p.heads + head) * p.width_k + i], sum);
                dk[i] = sum;
            }
            for (int64_t i = team_rank(); i < p.width_v; i += team_size()) {
                float sum = dv[i];
                for (int64_t j = 0; j < tiles; j++)
                    sum = fmaf(weight[j], p.dout[((r0 + j) * p.heads + head) * p.width_v + i], sum);
                dv[i] = sum;
            }
            team_sync();
        }
    for (int64_t i = team_rank(); i < p.width_k; i += team_size())
        p.dk.put(at * p.width_k + i, dk[i]);
    for (int64_t i = team_rank(); i < p.width_v; i += team_size())
        p.dv.put(at * p.width_v + i, dv[i]);
}

/* block: a row and a key head; to: all of the cache */
static __global__ void kv_append_kernel(const struct attention p, struct elements to)
{
    int64_t row = blockIdx.x, head = blockIdx.y, s = segment_of(&p, row), t = p.pos[row];
    int64_t page = p.page[s * p.pages + t / RT_KV_PAGE], at = row * p.kv_heads + head;
    const struct elements k = p.k.from(at * p.width_k), v = p.v.from(at * p.width_v);
    int64_t key = key_in_cache(&p, page, t, head), value = value_in_cache(&p, page, t, head);
    for (int64_t i = team_rank(); i < cache_row(p.width_k); i += team_size())
        to.put(key + i, i < p.width_k ? k[i] : 0.0f);
    for (int64_t i = team_rank(); !p.v_in_k && i < cache_row(p.width_v); i += team_size())
        to.put(value + i, i < p.width_v ? v[i] : 0.0f);
}

/* --- launches ------------------------------------------------------------------------------------- */

static unsigned threads(void)
{
#ifdef RT_EMULATE
    return (unsigned)emu_team();
#else
    return THREADS;
#endif
}

static struct attention base_of(const rt_tensor *q, int64_t kv_heads, int64_t width_v,
                                const rt_rows *rows, const rt_attention_rule *rule)
{
    struct attention p = {};
    p.q = elements_of(q);
    p.offset = rt_i32(&rows->offset);
    p.n = rows->n, p.segments = rows->s;
    p.heads = q->dim[1], p.kv_heads = kv_heads;
    p.width_k = q->dim[2], p.width_v = width_v;
    p.scale = rule->scale, p.window = rule->window;
    p.sinks = rule->sinks ? rt_f32(rule->sinks) : NULL;
    if (p.width_k > WIDTH_MAX || width_v > WIDTH_MAX)
        rt_bug("device cuda: heads of %lld and %lld floats, at most %d", (long long)p.width_k,
               (long long)width_v, WIDTH_MAX);
    return p;
}

static struct elements cache_of(const rt_dev *d, const rt_kv *kv)
{
    return { kv->data, d->act == RT_BF16 };
}

static void use_pages(struct attention *p, const rt_rows *rows, bool v_in_k)
{
    p->pos = rt_i32(&rows->pos), p->page = rt_i32(&rows->page), p->pages = rows->page.dim[1];
    p->v_in_k = v_in_k;
}

static void attention_forward(rt_dev *d, rt_tensor *out, rt_tensor *lse, const rt_tensor *q,
                        const rt_tensor *k, const rt_tensor *v, const rt_rows *rows,
                        const rt_attention_rule *rule)
{
    struct attention p = base_of(q, k->dim[1], v->dim[2], rows, rule);
    p.k = elements_of(k), p.v = elements_of(v), p.out = elements_of(out), p.lse = rt_f32(lse);
    if (p.n && !(rt_cuda_of(d)->bf16 && rt_flash_forward(d, &p)))
        LAUNCH(attention_forward_kernel, dim3((unsigned)p.n, (unsigned)p.heads), threads(), 0,
               rt_cuda_of(d)->stream, p);
    rt_cuda_launched(d, "attention");
}

static void attention_backward(rt_dev *d, rt_tensor *dq, rt_tensor *dk, rt_tensor *dv,
                         const rt_tensor *dout, const rt_tensor *out, const rt_tensor *lse,
                         const rt_tensor *q, const rt_tensor *k, const rt_tensor *v,
                         const rt_rows *rows, const rt_attention_rule *rule)
{
    struct attention p = base_of(q, k->dim[1], v->dim[2], rows, rule);
    p.k = elements_of(k), p.v = elements_of(v), p.out = elements_of(out), p.lse = rt_f32(lse);
    p.dout = elements_of(dout), p.dq = elements_of(dq);
    p.dk = elements_of(dk), p.dv = elements_of(dv);
    if (p.n && !(rt_cuda_of(d)->bf16 && rt_flash_backward(d, &p))) {
        LAUNCH(attention_backward_q_kernel, dim3((unsigned)p.n, (unsigned)p.heads), threads(), 0,
               rt_cuda_of(d)->stream, p);
        LAUNCH(attention_backward_k_kernel, dim3((unsigned)p.n, (unsigned)p.kv_heads), threads(), 0,
               rt_cuda_of(d)->stream, p);
    }
    rt_cuda_launched(d, "attention's gradient");
}

static void attention_cached(rt_dev *d, rt_tensor *out, const rt_tensor *q, const rt_kv *kv,
                       const rt_rows *rows, const rt_attention_rule *rule)
{
    struct attention p = base_of(q, kv->heads, kv->dv, rows, rule);
    use_pages(&p, rows, kv->v_in_k);
    p.k = p.v = cache_of(d, kv), p.out = elements_of(out);
    if (p.n && !(p.k.bf16 && rt_paged_attention(d, &p)))
        LAUNCH(attention_forward_kernel, dim3((unsigned)p.n, (unsigned)p.heads), threads(), 0,
               rt_cuda_of(d)->stream, p);
    rt_cuda_launched(d, "attention over the cache");
}

static void kv_append(rt_dev *d, rt_kv *kv, const rt_tensor *k, const rt_tensor *v,
                       const rt_rows *rows)
{
    struct attention p = {};
    use_pages(&p, rows, kv->v_in_k);
    p.k = elements_of(k), p.v = elements_of(v ? v : k); /* of no use where they are columns of k */
    p.offset = rt_i32(&rows->offset), p.n = rows->n, p.segments = rows->s;
    p.kv_heads = kv->heads, p.width_k = kv->dk, p.width_v = kv->dv;
    const struct elements to = cache_of(d, kv);
    if (p.n)
        LAUNCH(kv_append_kernel, dim3((unsigned)p.n, (unsigned)p.kv_heads), threads(), 0,
               rt_cuda_of(d)->stream, p, to);
    rt_cuda_launched(d, "the cache");
}

static int64_t page_bytes(const rt_dev *d, const rt_kv *kv)
{
    return rt_dtype_bytes(d->act, cache_page(kv->heads, kv->dk, kv->dv, kv->v_in_k));
}

static int64_t kv_bytes(rt_dev *d, const rt_kv *kv) { return kv->pages * page_bytes(d, kv); }

static void kv_copy(rt_dev *d, rt_kv *kv, int64_t to, int64_t from)
{
    int64_t bytes = page_bytes(d, kv);
    rt_tensor y = rt_tensor_1((uint8_t *)kv->data + to * bytes, RT_U8, bytes);
    rt_tensor x = rt_tensor_1((uint8_t *)kv->data + from * bytes, RT_U8, bytes);
    if (to != from)
        d->ops->copy(d, &y, &x);
}

void rt_cuda_need_attention(rt_dev *d, const rt_attention_shape *s)
{
    struct rt_cuda *c = rt_cuda_of(d);
    if (c->bf16)
        c->product_need = rt_max(c->product_need, s->pages ? rt_paged_bytes(s) : rt_flash_bytes(s));
}

void rt_cuda_attention_ops(rt_ops *ops)
{
    ops->attention_forward = attention_forward;
    ops->attention_backward = attention_backward;
    ops->kv_bytes = kv_bytes;
    ops->kv_append = kv_append;
    ops->kv_copy = kv_copy;
    ops->attention_cached = attention_cached;
}
