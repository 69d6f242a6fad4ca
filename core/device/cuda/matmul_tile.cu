/* matmul_tile.cu: matrix products on tensor cores: operands rounded to bf16 on the way into shared
   memory, sums in f32 in ascending steps of 16 of k, so that an element has the same bits whatever
   tile it falls into and whatever rows come with it. A block makes a tile of 128 x 128 elements,
   or of 64 x 64 where there are few; a warp 64 x 32 or 32 x 32 of it. While it multiplies 32 of k,
   the next 32 are under way.
     In shared memory an operand lies as it does in memory, along k or across; ldmatrix turns it.
   Rows are 16 bytes longer than what they hold: 80 bytes along k, 272 or 144 across, so that the
   eight rows that a phase of ldmatrix reads begin in banks 0 20 8 28 16 4 24 12 (along) or 0 4 8
   .. 28 (across), none twice. Two stages of two operands are 40 KiB and a thread has 128
   registers: two blocks a multiprocessor on sm_89 and sm_90, one multiplies while the other
   decodes. (Codes across k in large tiles, the dx of a quantized weight, want 205 registers: one
   block.)
     Weights are decoded by runs of 16, one a thread and step; a line of 128 bytes serves the seven
   steps of k that its 4-bit codes cover, out of the L1 cache. Refuses: deciding when it runs, and
   splitting k. */
#include "core/device/cuda/matmul.h"

#include "core/device/cuda/mma.h"

enum { STEP = 32, GROUP = 8 };

/* An operand's tile: ROWS x COLUMNS as they lie in memory, 16 elements a thread. */
template <int ROWS, int COLUMNS, int THREADS> struct part {
    static constexpr int STRIDE = COLUMNS + 8; /* elements */
    static constexpr int BYTES = ROWS * STRIDE * 2;
    static_assert(ROWS * COLUMNS == 16 * THREADS, "16 elements a thread");

    static constexpr int QUADS = COLUMNS / 4, DOWN = THREADS / QUADS; /* of a row; to my next */

    /* x: the tile's corner, with so many rows and columns from there on; 0 where there are none. */
    LANES_FN void fetch(float4 v[4], const float *x, int64_t ld, int rows, int columns, bool quads)
    {
        int r = (int)threadIdx.x / QUADS, left = columns - (int)threadIdx.x % QUADS * 4;
        const float *from = x + r * ld + (int)threadIdx.x % QUADS * 4;
        for (int i = 0; i < 4; i++, r += DOWN, from += DOWN * ld) {
            v[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (r >= rows || left <= 0)
                continue;
            if (quads && left >= 4) {
                v[i] = *(const float4 *)(const void *)from;
                continue;
            }
            v[i].x = from[0];
            v[i].y = left > 1 ? from[1] : 0.0f;
            v[i].z = left > 2 ? from[2] : 0.0f;
            v[i].w = left > 3 ? from[3] : 0.0f;
        }
    }
    LANES_FN void put(uint8_t *to, const float4 v[4])
    {
        to += 2 * ((int)threadIdx.x / QUADS * STRIDE + (int)threadIdx.x % QUADS * 4);
        for (int i = 0; i < 4; i++, to += 2 * DOWN * STRIDE)
            *(uint2 *)(void *)to = make_uint2(bf16_pair(v[i].x, v[i].y), bf16_pair(v[i].z, v[i].w));
    }

    /* A run of weights a thread, decoded: rows [row, row + rows) of b, from a column on of which so
       many are left: whole runs, but for `elements`, which takes them one by one. */
    LANES_FN void decode(uint8_t *to, const rt_piece *b, int form, bool elements, int64_t row,
                         int rows, int64_t column, int columns)
    {
        int r = (int)threadIdx.x / (COLUMNS / 16), c = (int)threadIdx.x % (COLUMNS / 16) * 16;
        uint4 *at = (uint4 *)(void *)(to + 2 * (r * STRIDE + c));
        uint32_t w[8];
        UNROLL for (int i = 0; i < 8; i++) w[i] = 0;
        if (elements) {
            int64_t stored = decode_row(b, row + (r < rows ? r : 0));
            for (int i = 0; i < 16; i++) {
                bool in = r < rows && c + i < columns;
                float x = in ? decode_piece(b, stored, column + c + i) : 0.0f;
                ((uint16_t *)(void *)at)[i] = (uint16_t)bf16_bits(x);
            }
            return;
        }
        if (r < rows && c < columns) {
            struct decoded y;
            decode_run(&y, form, b, decode_row(b, row + r), (int)((column + c) / 16));
            UNROLL for (int i = 0; i < 8; i++)
                w[i] = bf16_pair(decode_run_at(&y, form, 2 * i),
                                 decode_run_at(&y, form, 2 * i + 1));
        }
        at[0] = make_uint4(w[0], w[1], w[2], w[3]);
        at[1] = make_uint4(w[4], w[5], w[6], w[7]);
    }
};

/* How b is read: rows of f32, runs (form: of what), or anything element by element. */
enum way { PLAIN, RUNS, ELEMENTS };

template <int TILE, bool TA, bool TB, way WAY>
static __global__ void __launch_bounds__(TILE * 2, TILE == 64 ? 4 : WAY == RUNS && !TB ? 1 : 2)
    tile_kernel(const struct products p, int64_t tiles, int form, bool quads_a, bool quads_b)
{
    constexpr int THREADS = TILE * 2, WARP_M = TILE / 2, MM = WARP_M / 16, NN = 4;
    using part_a = part<TA ? STEP : TILE, TA ? TILE : STEP, THREADS>;
    using part_b = part<TB ? TILE : STEP, TB ? STEP : TILE, THREADS>;
    BLOCK_SHARED(uint4, shared, 2 * (part_a::BYTES + part_b::BYTES) / 16);
    uint8_t *as = (uint8_t *)shared, *bs = as + 2 * part_a::BYTES;

    /* Tiles of GROUP rows of tiles go down before they go right: together they read less. */
    int64_t across = rt_ceil_div(p.n, TILE), group = blockIdx.x / (across * GROUP) * GROUP;
    int64_t in = blockIdx.x % (across * GROUP), deep = rt_min(GROUP, tiles - group);
    struct tile t;
    if (!find_tile(&p, group + in % deep, TILE, &t)) /* the whole block */
        return;
    const rt_piece b = matrix_of_product(&p, t.g);
    int64_t n0 = in / deep * TILE, b_first = first_row_of_b(&p, &t);
    const float *a = p.a + t.g * p.a_step + t.row0 * p.lda + (TA ? t.m0 : t.m0 * p.lda);
    const int64_t ldb = b.row_bytes / 4; /* of plain rows */
    const float *b_plain = (const float *)(const void *)b.data + (b.first + b_first) * ldb +
                           (TB ? n0 * ldb : n0);
    const int k_end = (int)t.k;
    const int left_m = (int)rt_min(t.m - t.m0, TILE), left_n = (int)rt_min(p.n - n0, TILE);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int m_warp = warp % 2 * WARP_M, n_warp = warp / 2 * 32;
    float4 va[4], vb[4];
    float sum[MM][NN][4];
    UNROLL for (int i = 0; i < MM; i++)
        UNROLL for (int j = 0; j < NN; j++)
            UNROLL for (int e = 0; e < 4; e++)
                sum[i][j][e] = 0.0f;

    auto fetch = [&](int k) {
        int left = (k_end - k < STEP ? k_end - k : STEP);
        part_a::fetch(va, TA ? a + k * p.lda : a + k, p.lda, TA ? left : left_m, TA ? left_m : left,
                      quads_a);
        if (WAY == PLAIN)
            part_b::fetch(vb, TB ? b_plain + k : b_plain + k * ldb, ldb,
                          TB ? left_n : left, TB ? left : left_n, quads_b);
    };
    auto put = [&](int k, int stage) {
        int left = (k_end - k < STEP ? k_end - k : STEP);
        part_a::put(as + stage * part_a::BYTES, va);
        if (WAY == PLAIN)
            part_b::put(bs + stage * part_b::BYTES, vb);
        else
            part_b::decode(bs + stage * part_b::BYTES, &b, form, WAY == ELEMENTS,
                           b_first + (TB ? n0 : k), TB ? left_n : left,
                           TB ? k : n0, TB ? left : left_n);
    };

    if (k_end > 0) {
        fetch(0);
        put(0, 0);
    }
    __syncthreads();
    int stage = 0;
    for (int k0 = 0; k0 < k_end; k0 += STEP, stage ^= 1) {
        bool more = k_end - k0 > STEP;
        if (more)
            fetch(k0 + STEP);
        const uint8_t *sa = as + stage * part_a::BYTES, *sb = bs + stage * part_b::BYTES;
        UNROLL for (int kk = 0; kk < STEP; kk += 16) {
            uint32_t fa[MM][4], fb[NN / 2][4];
            UNROLL for (int i = 0; i < MM; i++) {
                int m = m_warp + i * 16;
                if (TA)
                    load_matrices_t(fa[i], sa + 2 * ((kk + lane / 16 * 8 + lane % 8) *
                                                         part_a::STRIDE +
                                                     m + lane / 8 % 2 * 8));
                else
                    load_matrices(fa[i], sa + 2 * ((m + lane % 16) * part_a::STRIDE + kk +
                                                   lane / 16 * 8));
            }
            UNROLL for (int j = 0; j < NN / 2; j++) {
                int n = n_warp + j * 16;
                if (TB)
                    load_matrices(fb[j], sb + 2 * ((n + lane / 16 * 8 + lane % 8) * part_b::STRIDE +
                                                   kk + lane / 8 % 2 * 8));
                else
                    load_matrices_t(fb[j], sb + 2 * ((kk + lane % 16) * part_b::STRIDE + n +
                                                     lane / 16 * 8));
            }
            UNROLL for (int i = 0; i < MM; i++)
                UNROLL for (int j = 0; j < NN; j++)
                    mma_bf16(sum[i][j], fa[i], fb[j / 2] + j % 2 * 2);
        }
        if (more)
            put(k0 + STEP, stage ^ 1);
        __syncthreads();
    }

    float *c = p.c + t.g * p.c_step + (p.ta ? 0 : t.row0 * p.ldc) + t.m0 * p.ldc + n0;
    UNROLL for (int i = 0; i < MM; i++)
        UNROLL for (int j = 0; j < NN; j++)
            UNROLL for (int e = 0; e < 4; e++) {
                int m = m_warp + i * 16 + lane / 4 + e / 2 * 8;
                int n = n_warp + j * 8 + lane % 4 * 2 + e % 2;
                if (m < left_m && n < left_n)
                    c[m * p.ldc + n] = p.add ? c[m * p.ldc + n] + sum[i][j][e] : sum[i][j][e];
            }
}

/* --- launches --------------------------------------------------------------------------------- */

template <int TILE, bool TA, bool TB, way WAY>
static void launch(rt_dev *d, const struct products *p, int64_t rows)
{
    const struct products args = *p;
    const rt_piece *b = &p->b.like;
    int64_t tiles = rt_cuda_tiles_of_rows(p, rows, TILE);
    bool quads_b = (uintptr_t)b->data % 16 == 0 && b->row_bytes % 16 == 0 && p->b.each % 16 == 0;
    for (int64_t i = 0; p->b.table && i < p->count; i++)
        quads_b = quads_b && (uintptr_t)p->b.at[i].data % 16 == 0;
    auto kernel = tile_kernel<TILE, TA, TB, WAY>;
    LAUNCH(kernel, (unsigned)(tiles * rt_ceil_div(p->n, TILE)), TILE * 2, 0, rt_cuda_of(d)->stream,
           args, tiles, decode_form(b), rt_cuda_has_quads(p), quads_b);
    rt_cuda_launched(d, "a product");
}

template <int TILE, way WAY>
static void launch_turned(rt_dev *d, const struct products *p, int64_t rows)
{
    if constexpr (WAY != RUNS) /* of a transposed, b is activations */
        if (p->ta)
            return (p->tb ? launch<TILE, true, true, WAY>
                          : launch<TILE, true, false, WAY>)(d, p, rows);
    (p->tb ? launch<TILE, false, true, WAY> : launch<TILE, false, false, WAY>)(d, p, rows);
}

/* Small tiles where large ones would leave a part of the GPU without work, or be mostly empty. */
void rt_cuda_product_tile(rt_dev *d, const struct products *p, int64_t rows)
{
    int64_t each = p->offset && !p->ta ? rt_ceil_div(rows, p->count) : p->m;
    int64_t large = rt_cuda_tiles_of_rows(p, rows, 128) * rt_ceil_div(p->n, 128);
    bool small = each <= 64 || p->n <= 64 || large < rt_cuda_of(d)->is.multiProcessorCount;
    if (rt_cuda_is_plain(p))
        (small ? launch_turned<64, PLAIN> : launch_turned<128, PLAIN>)(d, p, rows);
    else if (!p->ta && (p->tb ? p->k : p->n) % DECODE_RUN == 0 && rt_cuda_has_runs(p))
        (small ? launch_turned<64, RUNS> : launch_turned<128, RUNS>)(d, p, rows);
    else
        launch_turned<64, ELEMENTS>(d, p, rows);
}
