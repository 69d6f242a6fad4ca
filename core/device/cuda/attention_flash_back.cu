/* attention_flash_back.cu: gradients of attention on tensor cores, in two kernels that mirror each
   other: dq by tiles of query rows over the keys, dk and dv by tiles of keys over the query rows
   and the heads of the group, in this order. Scores are made twice, 7 products instead of 5; in
   return every output has one writer, without atomics. A warp has 16 rows to itself: scores, their
   gradients and outputs stay in its registers, which is what bounds the forms: dk and dv of 128
   columns are 128 floats a thread, and with them 250 registers (nvcc 13, sm_89), 255 where keys are
   192 wide; of 256 columns a block makes half. What streams by has two buffers: the next is on its
   way while one is worked on; 48, 72, 96, 60, 96 KB of shared memory. */
#include "core/device/cuda/flash.h"

/* ROWS rows of x (dk wide) and y (dv), which begin `row` rows on, as the next group. */
template <int DK, int DV, int ROWS, int THREADS>
LANES_FN void load_stage(const struct flash *p, uint16_t *to, const uint16_t *x, const uint16_t *y,
                         int64_t row, int64_t heads, int rows)
{
    load_tile<DK, ROWS, THREADS>(to, x + row * heads * p->dk, heads * p->dk, rows, p->dk);
    load_tile<DV, ROWS, THREADS>(to + ROWS * DK, y + row * heads * p->dv, heads * p->dv, rows,
                                 p->dv);
    copy_commit();
}

/* block: a head and a tile of query rows, the tiles with most keys first.
   ds = w (dout . v - delta), dq = scale sum ds k */
template <int DK, int DV, int WARPS, int KEYS>
static __global__ void __launch_bounds__(WARPS * 32) flash_backward_q_kernel(const struct flash p)
{
    enum { ROWS = WARPS * 16, THREADS = WARPS * 32, STAGE = KEYS * (DK + DV) };
    BLOCK_DYNAMIC(uint16_t, q);
    uint16_t *dout = q + ROWS * DK, *stage = dout + ROWS * DV, *other = stage + STAGE;
    struct span t;
    if (!find_span(&p.a, (int)(gridDim.y - 1 - blockIdx.y), ROWS, &t)) /* the whole block */
        return;
    int64_t heads = p.a.heads, kv_heads = p.a.kv_heads;
    int64_t head = blockIdx.x, kv = head / (heads / kv_heads), at = (t.first + t.at) * heads + head;
    const uint16_t *keys = p.k + (t.first * kv_heads + kv) * p.dk;
    const uint16_t *values = p.v + (t.first * kv_heads + kv) * p.dv;
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16, row = t.at + warp_row;
    int end = (int)rt_min(t.at + ROWS, t.n);
    int key = (int)rt_max(0, t.at - p.window + 1) / KEYS * KEYS;
    float dq[DK / 8][4] = {}, lse2[2], delta[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        int r = row + lane / 4 + 8 * i;
        lse2[i] = r < t.n ? p.lse2[head * p.a.n + t.first + r] : INFINITY; /* weights are 0 */
        delta[i] = r < t.n ? p.delta[head * p.a.n + t.first + r] : 0.0f;
    }
    load_tile<DK, ROWS, THREADS>(q, p.q + at * p.dk, heads * p.dk, t.n - t.at, p.dk);
    load_tile<DV, ROWS, THREADS>(dout, p.dout + at * p.dv, heads * p.dv, t.n - t.at, p.dv);
    load_stage<DK, DV, KEYS, THREADS>(&p, stage, keys, values, key, kv_heads, t.n - key);
    for (; key < end; key += KEYS) {
        const uint16_t *k = stage, *v = stage + KEYS * DK;
        copy_wait<0>();
        __syncthreads(); /* this stage is there, the other one done with */
        if (key + KEYS < end)
            load_stage<DK, DV, KEYS, THREADS>(&p, other, keys, values, key + KEYS, kv_heads,
                                              t.n - key - KEYS);
        stage = other, other = (uint16_t *)k;
        if (key > row + 15 || row - (key + KEYS - 1) >= p.window) /* the whole warp sees none */
            continue;
        float s[KEYS / 8][4] = {}, ds[KEYS / 8][4] = {};
        add_dots<DK, KEYS>(s, q, warp_row, k);
        add_dots<DV, KEYS>(ds, dout, warp_row, v);
        bool all = sees_all(&p, row, key, KEYS);
        UNROLL
        for (int n = 0; n < KEYS / 8; n++)
            UNROLL
        for (int i = 0; i < 4; i++) {
            bool in = all ||
                      sees(&p, row + lane / 4 + i / 2 * 8, key + n * 8 + lane % 4 * 2 + i % 2);
            float w = in ? exp2_fast(fmaf(s[n][i], p.scale2, -lse2[i / 2])) : 0.0f;
            ds[n][i] = w * (ds[n][i] - delta[i / 2]);
        }
        add_weighted<DK, KEYS, DK>(dq, ds, k, 0);
    }
    const float by[2] = { p.a.scale, p.a.scale };
    put_rows<DK>(p.a.dq.from(((t.first + row) * heads + head) * p.a.width_k), heads * p.a.width_k,
                 p.a.width_k, t.n - row, 0, dq, by);
}

/* block: a key head, a tile of keys and a part of the columns.
   dv = sum w dout, dk = scale sum ds q */
template <int DK, int DV, int WARPS, int ROWS, int PARTS>
static __global__ void __launch_bounds__(WARPS * 32) flash_backward_k_kernel(const struct flash p)
{
    enum { KEYS = WARPS * 16, THREADS = WARPS * 32, STAGE = ROWS * (DK + DV) };
    enum { PART_K = DK / PARTS, PART_V = DV / PARTS };
    BLOCK_DYNAMIC(uint16_t, k);
    uint16_t *v = k + KEYS * DK, *stage = v + KEYS * DV, *other = stage + STAGE;
    struct span t;
    if (!find_span(&p.a, (int)blockIdx.y, KEYS, &t)) /* the whole block */
        return;
    int64_t heads = p.a.heads, kv_heads = p.a.kv_heads, kv = blockIdx.x;
    int64_t at = (t.first + t.at) * kv_heads + kv;
    int lane = threadIdx.x % 32, warp_key = threadIdx.x / 32 * 16, key = t.at + warp_key;
    int column_k = (int)blockIdx.z * PART_K, column_v = (int)blockIdx.z * PART_V;
    int end = (int)rt_min(t.at + KEYS - 1 + (int64_t)p.window, t.n);
    int tiles = (end - t.at + ROWS - 1) / ROWS, group = (int)(heads / kv_heads);
    float dk[PART_K / 8][4] = {}, dv[PART_V / 8][4] = {};
    load_tile<DK, KEYS, THREADS>(k, p.k + at * p.dk, kv_heads * p.dk, t.n - t.at, p.dk);
    load_tile<DV, KEYS, THREADS>(v, p.v + at * p.dv, kv_heads * p.dv, t.n - t.at, p.dv);
    for (int i = -1; i < tiles * group; i++) {
        if (i >= 0) {
            copy_wait<0>();
            __syncthreads(); /* this stage is there, the other one done with */
        }
        if (i + 1 < tiles * group) {
            int64_t h = kv * group + (i + 1) / tiles;
            int r = t.at + (i + 1) % tiles * ROWS;
            load_stage<DK, DV, ROWS, THREADS>(&p, other, p.q + (t.first * heads + h) * p.dk,
                                              p.dout + (t.first * heads + h) * p.dv, r, heads,
                                              t.n - r);
        }
        const uint16_t *q = stage, *dout = stage + ROWS * DK;
        stage = other, other = (uint16_t *)q;
        int64_t head = kv * group + i / tiles;
        int row = t.at + i % tiles * ROWS;
        if (i < 0 || row + ROWS - 1 < key || row - (key + 15) >= p.window) /* the whole warp */
            continue;
        const float *lse2 = p.lse2 + head * p.a.n + t.first,
                    *delta = p.delta + head * p.a.n + t.first;
        float w[ROWS / 8][4] = {}, ds[ROWS / 8][4] = {};
        add_dots<DK, ROWS>(w, k, warp_key, q);
        add_dots<DV, ROWS>(ds, v, warp_key, dout);
        UNROLL
        for (int n = 0; n < ROWS / 8; n++)
            UNROLL
        for (int j = 0; j < 2; j++) {
            int r = row + n * 8 + lane % 4 * 2 + j;
            float l = r < t.n ? lse2[r] : INFINITY, d = r < t.n ? delta[r] : 0.0f;
            UNROLL
            for (int i2 = j; i2 < 4; i2 += 2) {
                float x = exp2_fast(fmaf(w[n][i2], p.scale2, -l));
                w[n][i2] = sees(&p, r, key + lane / 4 + i2 / 2 * 8) ? x : 0.0f;
                ds[n][i2] = w[n][i2] * (ds[n][i2] - d);
            }
        }
        add_weighted<DV, ROWS, PART_V>(dv, w, dout, column_v);
        add_weighted<DK, ROWS, PART_K>(dk, ds, q, column_k);
    }
    const float by[2] = { p.a.scale, p.a.scale }, one[2] = { 1.0f, 1.0f };
    at = (t.first + key) * kv_heads + kv;
    put_rows<PART_K>(p.a.dk.from(at * p.a.width_k), kv_heads * p.a.width_k, p.a.width_k, t.n - key,
                     column_k, dk, by);
    put_rows<PART_V>(p.a.dv.from(at * p.a.width_v), kv_heads * p.a.width_v, p.a.width_v, t.n - key,
                     column_v, dv, one);
}

/* --- launches -------------------------------------------------------------------------------------- */

template <typename K>
static void launch(rt_dev *d, K *flash_backward, dim3 grid, unsigned threads, int bytes,
                   const struct flash *from)
{
    const struct flash p = *from;
    ask_shared(d, flash_backward, bytes);
    LAUNCH(flash_backward, grid, threads, bytes, rt_cuda_of(d)->stream, p);
}

template <int DK, int DV, int WARPS, int ROWS, int PARTS>
static void backward(rt_dev *d, const struct flash *p)
{
    const int bytes = (WARPS * 16 + 2 * ROWS) * (DK + DV) * 2;
    unsigned slots = flash_slots(&p->a, WARPS * 16);
    launch(d, flash_backward_q_kernel<DK, DV, WARPS, ROWS>, dim3((unsigned)p->a.heads, slots),
           WARPS * 32, bytes, p);
    launch(d, flash_backward_k_kernel<DK, DV, WARPS, ROWS, PARTS>,
           dim3((unsigned)p->a.kv_heads, slots, PARTS), WARPS * 32, bytes, p);
}

bool rt_flash_backward(rt_dev *d, const struct attention *a)
{
    static rt_flash_form *const form[] = {
#define FORM(DK, DV, KEYS, ...) backward<DK, DV, __VA_ARGS__>,
        FLASH_FORMS(FORM)
#undef FORM
    };
    return rt_flash_run(d, a, form);
}
