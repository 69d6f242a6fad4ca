/* attention_flash.cu: attention forward on tensor cores (Dao, FlashAttention-2), and for it and its
   gradients the copies in bf16 of rows that cp.async cannot move as they lie: f32, or bf16 of a
   width that is no multiple of 8. A block makes 64 query rows of a head, a warp
   16 of them with their softmax to itself; keys and values come a tile at a time, the values while
   the scores are made, the next keys while the values are summed: one buffer each. Of 100 KB
   shared, that is 4, 2, 2, 1, 1 blocks for the forms' 24, 36, 48, 64, 64 KB; a second buffer would
   make it one for heads of 128. Tiles do not cross segments, so that a row's bits do not depend on
   the batch. */
#include "core/device/cuda/flash.h"

enum { ROWS = 64 /* of a block */, THREADS = ROWS / 16 * 32 };

/* Each row of a warp after one more tile of keys: weights in place of scores, o and sum scaled to
   the new max. sum is the lane's own until the end. */
template <int DV, int KEYS>
LANES_FN void soften(float s[KEYS / 8][4], float o[DV / 8][4], float max[2], float sum[2])
{
    UNROLL
    for (int i = 0; i < 2; i++) {
        float top = max[i];
        UNROLL
        for (int n = 0; n < KEYS / 8; n++)
            top = fmaxf(top, fmaxf(s[n][2 * i], s[n][2 * i + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float base = top == -INFINITY ? 0.0f : top; /* nothing seen yet */
        float back = exp2_fast(max[i] - base);
        max[i] = top;
        sum[i] *= back;
        UNROLL
        for (int n = 0; n < DV / 8; n++)
            o[n][2 * i] *= back, o[n][2 * i + 1] *= back;
        UNROLL
        for (int n = 0; n < KEYS / 8; n++) {
            s[n][2 * i] = exp2_fast(s[n][2 * i] - base);
            s[n][2 * i + 1] = exp2_fast(s[n][2 * i + 1] - base);
            sum[i] += s[n][2 * i] + s[n][2 * i + 1];
        }
    }
}

/* block: a head and a tile of rows, the tiles with most keys first */
template <int DK, int DV, int KEYS>
static __global__ void __launch_bounds__(THREADS) flash_forward_kernel(const struct flash p)
{
    BLOCK_DYNAMIC(uint16_t, q);
    uint16_t *k = q + ROWS * DK, *v = k + KEYS * DK;
    struct span t;
    if (!find_span(&p.a, (int)(gridDim.y - 1 - blockIdx.y), ROWS, &t)) /* the whole block */
        return;
    int64_t heads = p.a.heads, kv_heads = p.a.kv_heads;
    int64_t head = blockIdx.x, kv = head / (heads / kv_heads);
    const uint16_t *keys = p.k + (t.first * kv_heads + kv) * p.dk;
    const uint16_t *values = p.v + (t.first * kv_heads + kv) * p.dv;
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16, row = t.at + warp_row;
    int end = (int)rt_min(t.at + ROWS, t.n);
    int key = (int)rt_max(0, t.at - p.window + 1) / KEYS * KEYS;
    float o[DV / 8][4] = {}, max[2], sum[2];
    max[0] = max[1] = p.a.sinks ? p.a.sinks[head] * INV_LN_2 : -INFINITY;
    sum[0] = sum[1] = p.a.sinks && lane % 4 == 0 ? 1.0f : 0.0f;
    load_tile<DK, ROWS, THREADS>(q, p.q + ((t.first + t.at) * heads + head) * p.dk, heads * p.dk,
                                 t.n - t.at, p.dk);
    load_tile<DK, KEYS, THREADS>(k, keys + key * kv_heads * p.dk, kv_heads * p.dk, t.n - key, p.dk);
    copy_commit();
    for (; key < end; key += KEYS) {
        float s[KEYS / 8][4] = {};
        copy_wait<0>();
        __syncthreads(); /* keys are there, values are done with */
        load_tile<DV, KEYS, THREADS>(v, values + key * kv_heads * p.dv, kv_heads * p.dv, t.n - key,
                                     p.dv);
        copy_commit();
        add_dots<DK, KEYS>(s, q, warp_row, k);
        bool all = sees_all(&p, row, key, KEYS);
        UNROLL
        for (int n = 0; n < KEYS / 8; n++)
            UNROLL
        for (int i = 0; i < 4; i++) {
            bool in = all ||
                      sees(&p, row + lane / 4 + i / 2 * 8, key + n * 8 + lane % 4 * 2 + i % 2);
            s[n][i] = in ? s[n][i] * p.scale2 : -INFINITY;
        }
        soften<DV, KEYS>(s, o, max, sum);
        copy_wait<0>();
        __syncthreads(); /* values are there, keys are done with */
        if (key + KEYS < end) {
            load_tile<DK, KEYS, THREADS>(k, keys + (key + KEYS) * kv_heads * p.dk, kv_heads * p.dk,
                                         t.n - key - KEYS, p.dk);
            copy_commit();
        }
        add_weighted<DV, KEYS, DV>(o, s, v, 0);
    }
    float by[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
        by[i] = 1.0f / sum[i];
        int r = row + lane / 4 + 8 * i;
        if (lane % 4 == 0 && r < t.n)
            p.a.lse[(t.first + r) * heads + head] = fmaf(max[i], LN_2, rt_logf(sum[i]));
    }
    put_rows<DV>(p.a.out.from(((t.first + row) * heads + head) * p.a.width_v), heads * p.a.width_v,
                 p.a.width_v, t.n - row, 0, o, by);
}

/* --- copies ---------------------------------------------------------------------------------------- */

enum { COPY_THREADS = 256 };

/* y(rows,width) bf16 = x(rows,from), 0 past it; a thread makes 8 */
static __global__ void flash_copy_kernel(uint16_t *y, const struct elements x, int64_t rows,
                                         int width, int from)
{
    int64_t i = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    int64_t row = i / (width / 8);
    int column = (int)(i % (width / 8)) * 8;
    if (row < rows)
        *(uint4 *)(void *)(y + row * width + column) = chunk_of(x.from(row * from), column, from);
}

/* warp: a row and a head. delta = bf16(dout) . out, as the gradient's own products see dout */
static __global__ void flash_stats_kernel(const struct attention p, float *lse2, float *delta)
{
    int64_t at = (int64_t)blockIdx.x * (COPY_THREADS / 32) + threadIdx.x / 32;
    float sum = 0.0f;
    if (at >= p.n * p.heads) /* the whole warp */
        return;
    const struct elements dout = p.dout.from(at * p.width_v), out = p.out.from(at * p.width_v);
    for (int64_t i = threadIdx.x % 32; i < p.width_v; i += 32)
        sum = fmaf(bf16_value(bf16_bits(dout[i])), out[i], sum);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
        int64_t to = at % p.heads * p.n + at / p.heads;
        lse2[to] = p.lse[at] * INV_LN_2;
        delta[to] = sum;
    }
}

/* --- launches -------------------------------------------------------------------------------------- */

static const struct {
    int dk, dv;
} forms[] = {
#define FORM(DK, DV, ...) { DK, DV },
    FLASH_FORMS(FORM)
#undef FORM
};

static int form_of(int64_t dk, int64_t dv)
{
    for (int i = 0; i < RT_COUNT(forms); i++)
        if (dk <= forms[i].dk && dv <= forms[i].dv)
            return i;
    return -1;
}

/* Rows of this width are read as they lie. */
static bool lies_well(const rt_attention_shape *s, int64_t width)
{
    return s->act == RT_BF16 && width % 8 == 0;
}

/* The parts of the workspace, one behind the other: bytes of all. */
struct copies {
    int64_t q, k, v, dout, lse2, delta, all;
};

static struct copies copies_of(int form, const rt_attention_shape *s)
{
    struct copies c;
    int64_t n = s->rows, heads = s->heads, kv_heads = s->kv_heads;
    int64_t dk = lies_well(s, s->dk) ? 0 : forms[form].dk;
    int64_t dv = lies_well(s, s->dv) ? 0 : forms[form].dv;
    c.q = 0;
    c.k = c.q + rt_align_up(n * heads * dk * 2, 256);
    c.v = c.k + rt_align_up(n * kv_heads * dk * 2, 256);
    c.dout = c.v + rt_align_up(n * kv_heads * dv * 2, 256);
    c.lse2 = c.dout + (s->backward ? rt_align_up(n * heads * dv * 2, 256) : 0);
    c.delta = c.lse2 + (s->backward ? rt_align_up(n * heads * 4, 256) : 0);
    c.all = c.delta + (s->backward ? rt_align_up(n * heads * 4, 256) : 0);
    return c;
}

int64_t rt_flash_bytes(const rt_attention_shape *s)
{
    int form = form_of(s->dk, s->dv);
    return form < 0 ? 0 : copies_of(form, s).all;
}

/* Rows `from` wide as rows of `width`: where they lie, or their copy. */
static const uint16_t *copy_rows(rt_dev *d, uint8_t *to, struct elements x, int64_t rows,
                                 int64_t width, int64_t from)
{
    uint16_t *y = (uint16_t *)(void *)to;
    if (x.bf16 && width == from)
        return (const uint16_t *)x.data;
    LAUNCH(flash_copy_kernel, (unsigned)rt_ceil_div(rows * (width / 8), COPY_THREADS), COPY_THREADS,
           0, rt_cuda_of(d)->stream, y, x, rows, (int)width, (int)from);
    return y;
}

/* The form's number, -1 = none; fills p. */
static int begin(rt_dev *d, struct flash *p, const struct attention *a)
{
    int form = form_of(a->width_k, a->width_v);
    if (form < 0)
        return -1;
    rt_attention_shape s = {};
    s.rows = a->n, s.heads = a->heads, s.kv_heads = a->kv_heads;
    s.dk = a->width_k, s.dv = a->width_v;
    s.backward = a->dout.data != NULL, s.act = a->q.bf16 ? RT_BF16 : RT_F32;
    const struct copies c = copies_of(form, &s);
    uint8_t *to = rt_cuda_scratch(d, c.all);
    p->a = *a;
    p->scale2 = a->scale * INV_LN_2;
    p->window = (int)(a->window ? rt_min(a->window, INT32_MAX / 2) : INT32_MAX / 2);
    p->dk = (int)(lies_well(&s, s.dk) ? s.dk : forms[form].dk);
    p->dv = (int)(lies_well(&s, s.dv) ? s.dv : forms[form].dv);
    p->q = copy_rows(d, to + c.q, a->q, a->n * a->heads, p->dk, a->width_k);
    p->k = copy_rows(d, to + c.k, a->k, a->n * a->kv_heads, p->dk, a->width_k);
    p->v = copy_rows(d, to + c.v, a->v, a->n * a->kv_heads, p->dv, a->width_v);
    if (!s.backward)
        return form;
    p->dout = copy_rows(d, to + c.dout, a->dout, a->n * a->heads, p->dv, a->width_v);
    const struct attention args = *a;
    float *lse2 = (float *)(void *)(to + c.lse2), *delta = (float *)(void *)(to + c.delta);
    p->lse2 = lse2, p->delta = delta;
    LAUNCH(flash_stats_kernel, (unsigned)rt_ceil_div(a->n * a->heads, COPY_THREADS / 32),
           COPY_THREADS, 0, rt_cuda_of(d)->stream, args, lse2, delta);
    return form;
}

bool rt_flash_run(rt_dev *d, const struct attention *a, rt_flash_form *const *form)
{
    struct flash p = {};
    int i = begin(d, &p, a);
    if (i >= 0)
        form[i](d, &p);
    return i >= 0;
}

template <int DK, int DV, int KEYS> static void forward(rt_dev *d, const struct flash *from)
{
    const struct flash p = *from;
    const int bytes = (ROWS * DK + KEYS * (DK + DV)) * 2;
    auto flash_forward = flash_forward_kernel<DK, DV, KEYS>;
    dim3 grid((unsigned)p.a.heads, flash_slots(&p.a, ROWS));
    ask_shared(d, flash_forward, bytes);
    LAUNCH(flash_forward, grid, THREADS, bytes, rt_cuda_of(d)->stream, p);
}

bool rt_flash_forward(rt_dev *d, const struct attention *a)
{
    static rt_flash_form *const form[] = {
#define FORM(DK, DV, KEYS, ...) forward<DK, DV, KEYS>,
        FLASH_FORMS(FORM)
#undef FORM
    };
    return rt_flash_run(d, a, form);
}
