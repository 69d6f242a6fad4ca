/* attention_paged.cu: attention over the paged cache on tensor cores, of one new row a sequence or
   of many. Reading the cache, which is bf16, is what a block waits for: keys come by cp.async while
   the values before them are summed, values while their keys are weighed (not where they are
   columns of the keys, for which there is no second buffer); 16 pairs of a row and a head of one
   group share what is read of it (a group's heads on one row when decoding, all heads of MLA over
   its latent), and the keys of a sequence are split over blocks, SPLIT a block. Splits lie where
   positions say, and a second kernel joins them in ascending order: a row's bits depend neither on
   the batch nor on how a sequence was cut into calls. A warp makes the scores of 8 of a page's
   keys, then its share of the columns. */
#include "core/device/cuda/flash.h"

enum {
    ROWS = 16,
    KEYS = RT_KV_PAGE,
    WARPS = KEYS / 8,
    THREADS = WARPS * 32,
    SPLIT = 4 * KEYS,
    PITCH_S = KEYS + 8, /* of scores: float2 of 4 rows in different banks */
    PITCH_W = KEYS + 8, /* of weights: 8 rows of ldmatrix in different banks, as all pitches here */
    SHARED_MAX = 99 << 10
};
/* Of splits; more only for one row of a batch. */
static const int64_t PART_BYTES = (int64_t)64 << 20;

struct paged {
    struct attention a;
    int64_t row0, rows; /* of this launch */
    int wide_k, wide_v; /* columns of tiles */
    int splits;
    float scale2;
    float *out, *max, *sum; /* (rows,H,splits,Dv), (rows,H,splits) twice: max of scores / ln 2 */
};

LANES_FN int64_t part_of(const struct paged *p, int64_t row, int64_t head, int split)
{
    return ((row - p->row0) * p->a.heads + head) * p->splits + split;
}

struct pairs {                    /* of rows of one segment and heads of one group, row by row */
    int64_t segment, row0, first; /* pair `first` counts from row row0 */
    int n;
};

/* Where the rows of segment s begin, of those in this launch. */
LANES_FN int64_t begin_of(const struct paged *p, int64_t s)
{
    return rt_max(p->row0, rt_min(p->a.offset[s], p->row0 + p->rows));
}

/* As find_span (flash.h), by pairs. */
LANES_FN bool find_pairs(const struct paged *p, int64_t slot, struct pairs *out)
{
    int64_t low = 0, high = p->a.segments, group = p->a.heads / p->a.kv_heads;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if ((begin_of(p, middle) - p->row0) * group / ROWS + middle <= slot)
            low = middle;
        else
            high = middle;
    }
    out->segment = low;
    out->row0 = begin_of(p, low);
    out->first = (slot - ((out->row0 - p->row0) * group / ROWS + low)) * ROWS;
    int64_t left = (begin_of(p, low + 1) - out->row0) * group - out->first;
    out->n = (int)rt_min(left, ROWS);
    return left > 0;
}

/* A page's rows of a head on their way into a tile (KEYS,wide), 8 threads a row; from `rows` on,
   and past the cache's columns, 0. */
LANES_FN void load_page(uint16_t *tile, int pitch, int wide, const uint16_t *from, int step,
                        int rows)
{
    UNROLL
    for (int i = 0; i < KEYS; i += THREADS / 8) {
        int row = i + threadIdx.x / 8;
        for (int c = threadIdx.x % 8 * 8; c < wide; c += 64) {
            bool is = row < rows && c < step;
            copy_async(tile + row * pitch + c, from + (is ? row * step + c : 0), is ? 16 : 0);
        }
    }
}

/* Over the 16 threads of a row. */
LANES_FN float row_max(float x)
{
    for (int step = 8; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
LANES_FN float row_sum(float x)
{
    for (int step = 8; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* block: 16 pairs, a key head, a split. NV: blocks of 8 columns of values a warp */
template <int NV>
static __global__ void __launch_bounds__(THREADS, 1) paged_split_kernel(const struct paged p)
{
    BLOCK_DYNAMIC(uint16_t, q);
    BLOCK_SHARED(float2, score_pairs, ROWS * PITCH_S / 2);
    BLOCK_SHARED(uint4, weight_words, ROWS * PITCH_W / 8);
    BLOCK_SHARED(float, back, ROWS);
    float *score = (float *)(void *)score_pairs;
    uint16_t *weight = (uint16_t *)(void *)weight_words;
    const int pitch_k = p.wide_k + 8, pitch_v = p.a.v_in_k ? pitch_k : p.wide_v + 8;
    uint16_t *k = q + ROWS * pitch_k, *v = p.a.v_in_k ? k : k + KEYS * pitch_k;
    struct pairs t;
    if (!find_pairs(&p, blockIdx.x, &t)) /* the whole block */
        return;
    int64_t heads = p.a.heads, kv = blockIdx.y, group = heads / p.a.kv_heads;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, split = (int)blockIdx.z;
    /* keys that some row sees: rows of a segment follow each other */
    int64_t window = p.a.window ? p.a.window : INT64_MAX / 2;
    int64_t low = p.a.pos[t.row0 + t.first / group] + 1 - window;
    int64_t high = p.a.pos[t.row0 + (t.first + t.n - 1) / group] + 1;
    int64_t key = rt_max(rt_max(0, low) / KEYS * KEYS, (int64_t)split * SPLIT);
    high = rt_min(high, (int64_t)(split + 1) * SPLIT);
    if (key >= high) /* the whole block */
        return;
    /* a pair's softmax is 16 threads' */
    int pair = threadIdx.x / 16;
    int64_t row = t.row0 + (t.first + rt_min(pair, t.n - 1)) / group;
    int64_t head = kv * group + (t.first + rt_min(pair, t.n - 1)) % group;
    int64_t pos = p.a.pos[row];
    float max = -INFINITY, sum = 0.0f, o[NV][4] = {};
    const int32_t *page = p.a.page + t.segment * p.a.pages;
    const uint16_t *cache = (const uint16_t *)p.a.k.data;
    auto load_keys = [&](int64_t first) {
        load_page(k, pitch_k, p.wide_k, cache + key_in_cache(&p.a, page[first / KEYS], 0, kv),
                  (int)cache_row(p.a.width_k), (int)rt_min(KEYS, high - first));
        copy_commit();
    };
    load_keys(key);
    const struct elements from = p.a.q.from((row * heads + head) * p.a.width_k);
    for (int c = threadIdx.x % 16 * 8; c < p.wide_k; c += 128)
        *(uint4 *)(void *)(q + pair * pitch_k + c) = chunk_of(from, c, (int)p.a.width_k);
    for (; key < high; key += KEYS) {
        copy_wait<0>();
        __syncthreads(); /* keys are there; values, weights and back are done with */
        if (!p.a.v_in_k) {
            load_page(v, pitch_v, p.wide_v, cache + value_in_cache(&p.a, page[key / KEYS], 0, kv),
                      (int)cache_row(p.a.width_v), (int)rt_min(KEYS, high - key));
            copy_commit();
        }
        float s[4] = {};
        for (int c = 0; c < p.wide_k; c += 32) {
            uint32_t a[4], b[4];
            load_matrices(b, k + (warp * 8 + lane % 8) * pitch_k + c + lane / 8 * 8);
            load_matrices(a, q + lane % 16 * pitch_k + c + lane / 16 * 8);
            mma_bf16(s, a, b);
            load_matrices(a, q + lane % 16 * pitch_k + c + 16 + lane / 16 * 8);
            mma_bf16(s, a, b + 2);
        }
        float *to = score + lane / 4 * PITCH_S + warp * 8 + lane % 4 * 2;
        *(float2 *)(void *)to = make_float2(s[0], s[1]);
        *(float2 *)(void *)(to + 8 * PITCH_S) = make_float2(s[2], s[3]);
        __syncthreads();
        float x[KEYS / 16], top = max;
        UNROLL
        for (int i = 0; i < KEYS / 16; i++) {
            int64_t at = key + i * 16 + threadIdx.x % 16;
            bool in = at <= pos && pos - at < window;
            x[i] = in ? score[pair * PITCH_S + i * 16 + threadIdx.x % 16] * p.scale2 : -INFINITY;
            top = fmaxf(top, x[i]);
        }
        top = row_max(top);
        float base = top == -INFINITY ? 0.0f : top, part = 0.0f, by = exp2_fast(max - base);
        UNROLL
        for (int i = 0; i < KEYS / 16; i++) {
            x[i] = exp2_fast(x[i] - base);
            part += x[i];
            weight[pair * PITCH_W + i * 16 + threadIdx.x % 16] = (uint16_t)bf16_bits(x[i]);
        }
        sum = fmaf(sum, by, row_sum(part));
        max = top;
        if (threadIdx.x % 16 == 0)
            back[pair] = by;
        copy_wait<0>();
        __syncthreads(); /* weights and values are there; keys, if they are no values, done with */
        if (!p.a.v_in_k && key + KEYS < high)
            load_keys(key + KEYS);
        uint32_t w[KEYS / 16][4];
        UNROLL
        for (int i = 0; i < KEYS / 16; i++)
            load_matrices(w[i], weight + lane % 16 * PITCH_W + i * 16 + lane / 16 * 8);
        float by0 = back[lane / 4], by1 = back[lane / 4 + 8];
        UNROLL
        for (int n = 0; n < NV; n++) {
            o[n][0] *= by0, o[n][1] *= by0, o[n][2] *= by1, o[n][3] *= by1;
            UNROLL
            for (int i = 0; i < KEYS / 16; i += 2) {
                uint32_t b[4];
                load_matrices_t(b, v + (i * 16 + lane) * pitch_v + (warp * NV + n) * 8);
                mma_bf16(o[n], w[i], b);
                mma_bf16(o[n], w[i + 1], b + 2);
            }
        }
        if (p.a.v_in_k && key + KEYS < high) {
            __syncthreads(); /* the values are done with */
            load_keys(key + KEYS);
        }
    }
    if (threadIdx.x % 16 == 0 && pair < t.n) {
        p.max[part_of(&p, row, head, split)] = max;
        p.sum[part_of(&p, row, head, split)] = sum;
    }
    for (int i = 0; i < 2; i++) {
        int64_t at = t.first + lane / 4 + 8 * i;
        if (lane / 4 + 8 * i >= t.n)
            continue;
        float *out = p.out +
                     part_of(&p, t.row0 + at / group, kv * group + at % group, split) * p.a.width_v;
        UNROLL
        for (int n = 0; n < NV; n++)
            for (int j = 0; j < 2; j++) {
                int c = (warp * NV + n) * 8 + lane % 4 * 2 + j;
                if (c < p.a.width_v)
                    out[c] = o[n][2 * i + j];
            }
    }
}

/* block: a row and a head */
static __global__ void paged_join_kernel(const struct paged p)
{
    int64_t row = p.row0 + blockIdx.x, head = blockIdx.y;
    const struct view v = view_of(&p.a, row);
    int first = (int)(v.first / SPLIT), end = (int)rt_ceil_div(v.end, SPLIT);
    const float *max = p.max + part_of(&p, row, head, 0), *sum = p.sum + part_of(&p, row, head, 0);
    const float *parts = p.out + part_of(&p, row, head, 0) * p.a.width_v;
    float sink = p.a.sinks ? p.a.sinks[head] * INV_LN_2 : -INFINITY, top = sink;
    for (int i = first; i < end; i++)
        top = fmaxf(top, max[i]);
    float all = exp2_fast(sink - top);
    for (int i = first; i < end; i++)
        all = fmaf(sum[i], exp2_fast(max[i] - top), all);
    for (int64_t c = threadIdx.x; c < p.a.width_v; c += blockDim.x) {
        float o = 0.0f;
        for (int i = first; i < end; i++)
            o = fmaf(parts[i * p.a.width_v + c], exp2_fast(max[i] - top), o);
        p.a.out.put((row * p.a.heads + head) * p.a.width_v + c, o / all);
    }
}

/* --- launches -------------------------------------------------------------------------------------- */

/* Blocks of 8 columns of values a warp; 0 = no form. */
static int columns_of(int64_t dv)
{
    for (int nv = 1; nv <= 8; nv *= 2)
        if (dv <= nv * THREADS / 4)
            return nv;
    return 0;
}

static int wide_k_of(int64_t dk, int64_t dv, bool v_in_k)
{
    int wide = (int)rt_align_up(dk, 32);
    return v_in_k ? (int)rt_max(wide, columns_of(dv) * THREADS / 4) : wide;
}

static int64_t shared_of(int64_t dk, int64_t dv, bool v_in_k)
{
    int64_t pitch_k = wide_k_of(dk, dv, v_in_k) + 8, pitch_v = columns_of(dv) * THREADS / 4 + 8;
    return 2 * ((ROWS + KEYS) * pitch_k + (v_in_k ? 0 : KEYS * pitch_v));
}

static bool has_form(int64_t dk, int64_t dv, bool v_in_k)
{
    enum { REST = ROWS * (PITCH_S * 4 + PITCH_W * 2 + 4) };
    return columns_of(dv) && shared_of(dk, dv, v_in_k) + REST <= SHARED_MAX;
}

static int64_t row_bytes(int64_t heads, int64_t dv, int64_t pages)
{
    return heads * rt_ceil_div(pages * KEYS, SPLIT) * (dv + 2) * (int64_t)sizeof(float);
}

int64_t rt_paged_bytes(const rt_attention_shape *s)
{
    int64_t row = row_bytes(s->heads, s->dv, s->pages);
    return rt_max(row, rt_min(row * s->rows, PART_BYTES));
}

template <int NV> static void launch(rt_dev *d, const struct paged *from)
{
    const struct paged p = *from;
    const int64_t bytes = shared_of(p.a.width_k, p.a.width_v, p.a.v_in_k);
    const int64_t pairs = p.rows * (p.a.heads / p.a.kv_heads);
    auto paged_split = paged_split_kernel<NV>;
    dim3 grid((unsigned)(pairs / ROWS + p.a.segments), (unsigned)p.a.kv_heads, (unsigned)p.splits);
    ask_shared(d, paged_split, bytes);
    LAUNCH(paged_split, grid, THREADS, (size_t)bytes, rt_cuda_of(d)->stream, p);
}

bool rt_paged_attention(rt_dev *d, const struct attention *a)
{
    struct paged p = {};
    int nv = columns_of(a->width_v);
    if (!has_form(a->width_k, a->width_v, a->v_in_k))
        return false;
    p.a = *a;
    p.wide_k = wide_k_of(a->width_k, a->width_v, a->v_in_k), p.wide_v = nv * THREADS / 4;
    p.splits = (int)rt_ceil_div(a->pages * KEYS, SPLIT);
    p.scale2 = a->scale * INV_LN_2;
    int64_t row = row_bytes(a->heads, a->width_v, a->pages);
    p.out = (float *)(void *)rt_cuda_scratch(d, row);
    int64_t most = rt_min(a->n, rt_cuda_of(d)->scratch_size / row);
    p.max = p.out + most * a->heads * p.splits * a->width_v;
    p.sum = p.max + most * a->heads * p.splits;
    for (p.row0 = 0; p.row0 < a->n; p.row0 += p.rows) {
        p.rows = rt_min(most, a->n - p.row0);
        (nv == 1 ? launch<1> : nv == 2 ? launch<2> : nv == 4 ? launch<4> : launch<8>)(d, &p);
        LAUNCH(paged_join_kernel, dim3((unsigned)p.rows, (unsigned)a->heads), 128, 0,
               rt_cuda_of(d)->stream, p);
    }
    return true;
}
