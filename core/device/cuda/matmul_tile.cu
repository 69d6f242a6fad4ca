/* matmul_tile.cu: matrix products on tensor cores: operands rounded to bf16 on the way into shared
   memory, sums in f32 in ascending steps of 16 of k, so that an element has the same bits whatever
   tile it falls into and whatever rows come with it. A block makes a tile of 128 x 128 elements,
   or of 64 x 64 where there are few; a warp 64 x 32 or 32 x 32 of it. While it multiplies 32 of k,
   the next 32 are under way: in registers, or, where both operands are bf16 on 16 bytes, straight
   into shared memory (cp.async), 64 ahead.
     In shared memory an operand lies as it does in memory, along k or across; ldmatrix turns it.
   The 16-byte parts of a row change places with the row's number, so that the eight rows that a
   phase of ldmatrix reads, and those that a phase of stores writes, lie in banks of their own.
   Three stages of two operands are 48 KiB and a thread has 128 registers: two blocks a
   multiprocessor on sm_89 and sm_90, one multiplies while the other decodes. (Codes across k in
   large tiles, the dx of a quantized weight, want more registers: one block.)
     Weights are decoded by runs of 16, one a thread and step; a line of 128 bytes serves the seven
   steps of k that its 4-bit codes cover, out of the L1 cache. Refuses: deciding when it runs, and
   splitting k. */
#include "core/device/cuda/matmul.h"

enum { STEP = 32, GROUP = 8 };

/* An operand's tile: ROWS x COLUMNS as they lie in memory, 16 elements a thread. */
template <int ROWS, int COLUMNS, int THREADS> struct part {
    static constexpr int BYTES = ROWS * COLUMNS * 2;
    static_assert(ROWS * COLUMNS == 16 * THREADS, "16 elements a thread");

    /* Where element (r, c) lies, c a multiple of 8 or what is left of 8. */
    LANES_FN int at(int r, int c)
    {
        return 2 * (r * COLUMNS + (c ^ (COLUMNS == 32 ? r / 2 % 4 : r % 8) * 8));
    }
    /* What lies so many rows (a multiple of 8) and columns (8, 16, 32 or 48, bits that are 0 in c)
       on from there. */
    LANES_FN int on(int there, int rows, int columns)
    {
        return (there ^ 2 * columns) + 2 * rows * COLUMNS;
    }

    static constexpr int QUADS = COLUMNS / 4, DOWN = THREADS / QUADS; /* of a row; to my next */

    /* x: the tile's corner, with so many rows and columns from there on; 0 where there are none. */
    template <typename T>
    LANES_FN void fetch(four<T> v[4], const T *x, int64_t ld, int rows, int columns, bool quads)
    {
        int r = (int)threadIdx.x / QUADS, c = (int)threadIdx.x % QUADS * 4;
        const T *from = x + r * ld + c;
        UNROLL for (int i = 0; i < 4; i++, r += DOWN, from += DOWN * ld)
            v[i].load(from, r < rows ? columns - c : 0, quads);
    }
    template <typename T> LANES_FN void put(uint8_t *to, const four<T> v[4])
    {
        const int first = at((int)threadIdx.x / QUADS, (int)threadIdx.x % QUADS * 4);
        UNROLL for (int i = 0; i < 4; i++)
            *(uint2 *)(void *)(to + on(first, i * DOWN, 0)) = v[i].bf16();
    }

    /* The same of bf16 on 16 bytes, put on its way: two copies a thread. */
    LANES_FN void copy(uint8_t *to, const uint16_t *x, int64_t ld, int rows, int columns)
    {
        constexpr int ACROSS = COLUMNS / 8;
        int r = (int)threadIdx.x / ACROSS, c = (int)threadIdx.x % ACROSS * 8;
        const int first = at(r, c), there = columns - c < 8 ? columns - c : 8;
        UNROLL for (int i = 0; i < 2; i++)
        {
            bool in = r + i * (THREADS / ACROSS) < rows && there > 0;
            copy_async(to + on(first, i * (THREADS / ACROSS), 0),
                       in ? x + (r + i * (THREADS / ACROSS)) * ld + c : x, in ? 2 * there : 0);
        }
    }

    /* A run of weights a thread, decoded: rows [row, row + rows) of b, from a column on of which so
       many are left: whole runs, but for `elements`, which takes them one by one. */
    LANES_FN void decode(uint8_t *to, const rt_piece *b, int form, bool elements, int64_t row,
                         int rows, int64_t column, int columns)
    {
        int r = (int)threadIdx.x / (COLUMNS / 16), c = (int)threadIdx.x % (COLUMNS / 16) * 16;
        uint4 *low = (uint4 *)(void *)(to + at(r, c));
        uint4 *high = (uint4 *)(void *)(to + on(at(r, c), 0, 8));
        uint32_t w[8];
        UNROLL for (int i = 0; i < 8; i++) w[i] = 0;
        if (elements) {
            int64_t stored = decode_row(b, row + (r < rows ? r : 0));
            for (int i = 0; i < 16; i++) {
                bool in = r < rows && c + i < columns;
                float x = in ? decode_piece(b, stored, column + c + i) : 0.0f;
                ((uint16_t *)(void *)(i < 8 ? low : high))[i % 8] = (uint16_t)bf16_bits(x);
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
        *low = make_uint4(w[0], w[1], w[2], w[3]);
        *high = make_uint4(w[4], w[5], w[6], w[7]);
    }
};

/* Two neighbours of c, the second where it is there; pairs: bf16 may be written two at a time. */
LANES_FN void put_two(const struct products *p, int64_t at, float x, float y, bool both, bool pairs)
{
    if (p->c16 && both && pairs) {
        uint32_t *to = (uint32_t *)(void *)((uint16_t *)p->c + at);
        const uint32_t was = p->add ? *to : 0;
        *to = p->add ? bf16_pair(bf16_value(was & 0xffffu) + x, bf16_value(was >> 16) + y)
                     : bf16_pair(x, y);
        return;
    }
    put_sum(p, at, x);
    if (both)
        put_sum(p, at + 1, y);
}

/* How b is read: rows of f32 or of bf16, runs (form: of what), anything element by element, or
   rows of bf16 copied as those of a are. */
enum way { F32_ROWS, BF16_ROWS, RUNS, ELEMENTS /* 3: tests/gpu/usage.sh */, COPIES };
template <way WAY> struct element_of {
    typedef float type;
};
template <> struct element_of<BF16_ROWS> {
    typedef uint16_t type;
};
template <> struct element_of<COPIES> {
    typedef uint16_t type;
};

template <int TILE, bool TA, bool TB, typename A, way WAY>
static __global__ void __launch_bounds__(TILE * 2, TILE == 64 ? 4 : WAY == RUNS && !TB ? 1 : 2)
    tile_kernel(const struct products p, int64_t tiles, int form, bool quads_a, bool quads_b,
                bool pairs)
{
    typedef typename element_of<WAY>::type B; /* of rows */
    constexpr int THREADS = TILE * 2, WARP_M = TILE / 2, MM = WARP_M / 16, NN = 4;
    constexpr int STAGES = WAY == COPIES ? 3 : 2;
    constexpr bool ROWS = WAY == F32_ROWS || WAY == BF16_ROWS;
    using part_a = part<TA ? STEP : TILE, TA ? TILE : STEP, THREADS>;
    using part_b = part<TB ? TILE : STEP, TB ? STEP : TILE, THREADS>;
    BLOCK_SHARED(uint4, shared, STAGES * (part_a::BYTES + part_b::BYTES) / 16);
    uint8_t *as = (uint8_t *)shared, *bs = as + STAGES * part_a::BYTES;

    /* Tiles of GROUP rows of tiles go down before they go right: together they read less. */
    int64_t across = rt_ceil_div(p.n, TILE), group = blockIdx.x / (across * GROUP) * GROUP;
    int64_t in = blockIdx.x % (across * GROUP), deep = rt_min(GROUP, tiles - group);
    struct tile t;
    if (!find_tile(&p, group + in % deep, TILE, &t)) /* the whole block */
        return;
    const rt_piece b = matrix_of_product(&p, t.g);
    int64_t n0 = in / deep * TILE, b_first = first_row_of_b(&p, &t);
    const A *a = (const A *)p.a + t.g * p.a_step + t.row0 * p.lda + (TA ? t.m0 : t.m0 * p.lda);
    const int64_t ldb = b.row_bytes / (int64_t)sizeof(B);
    const B *b_rows = (const B *)(const void *)b.data + (b.first + b_first) * ldb +
                      (TB ? n0 * ldb : n0);
    const int k_end = (int)t.k;
    const int left_m = (int)rt_min(t.m - t.m0, TILE), left_n = (int)rt_min(p.n - n0, TILE);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int m_warp = warp % 2 * WARP_M, n_warp = warp / 2 * 32;
    four<A> va[4];
    four<B> vb[4];
    float sum[MM][NN][4];
    UNROLL for (int i = 0; i < MM; i++)
        UNROLL for (int j = 0; j < NN; j++)
            UNROLL for (int e = 0; e < 4; e++)
                sum[i][j][e] = 0.0f;

    auto fetch = [&](int k) {
        int left = (k_end - k < STEP ? k_end - k : STEP);
        part_a::fetch(va, TA ? a + k * p.lda : a + k, p.lda, TA ? left : left_m, TA ? left_m : left,
                      quads_a);
        if (ROWS)
            part_b::fetch(vb, TB ? b_rows + k : b_rows + k * ldb, ldb, TB ? left_n : left,
                          TB ? left : left_n, quads_b);
    };
    auto put = [&](int k, int stage) {
        int left = (k_end - k < STEP ? k_end - k : STEP);
        part_a::put(as + stage * part_a::BYTES, va);
        if (ROWS)
            part_b::put(bs + stage * part_b::BYTES, vb);
        else
            part_b::decode(bs + stage * part_b::BYTES, &b, form, WAY == ELEMENTS,
                           b_first + (TB ? n0 : k), TB ? left_n : left,
                           TB ? k : n0, TB ? left : left_n);
    };
    auto copy = [&](int k, int stage) { /* a group, of nothing past the end */
        int left = (k_end - k < STEP ? k_end - k : STEP);
        if constexpr (WAY == COPIES)
            if (left > 0) {
                part_a::copy(as + stage * part_a::BYTES, TA ? a + k * p.lda : a + k, p.lda,
                             TA ? left : left_m, TA ? left_m : left);
                part_b::copy(bs + stage * part_b::BYTES, TB ? b_rows + k : b_rows + k * ldb, ldb,
                             TB ? left_n : left, TB ? left : left_n);
            }
        copy_commit();
    };
    const int at_a = TA ? part_a::at(lane / 16 * 8 + lane % 8, m_warp + lane / 8 % 2 * 8)
                        : part_a::at(m_warp + lane % 16, lane / 16 * 8);
    const int at_b = TB ? part_b::at(n_warp + lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8)
                        : part_b::at(lane % 16, n_warp + lane / 16 * 8);
    auto multiply = [&](int stage) {
        const uint8_t *sa = as + stage * part_a::BYTES, *sb = bs + stage * part_b::BYTES;
        UNROLL for (int kk = 0; kk < STEP; kk += 16) {
            uint32_t fa[MM][4], fb[NN / 2][4];
            UNROLL for (int i = 0; i < MM; i++)
                if (TA)
                    load_matrices_t(fa[i], sa + part_a::on(at_a, kk, i * 16));
                else
                    load_matrices(fa[i], sa + part_a::on(at_a, i * 16, kk));
            UNROLL for (int j = 0; j < NN / 2; j++)
                if (TB)
                    load_matrices(fb[j], sb + part_b::on(at_b, j * 16, kk));
                else
                    load_matrices_t(fb[j], sb + part_b::on(at_b, kk, j * 16));
            UNROLL for (int i = 0; i < MM; i++)
                UNROLL for (int j = 0; j < NN; j++)
                    mma_bf16(sum[i][j], fa[i], fb[j / 2] + j % 2 * 2);
        }
    };

    if (WAY == COPIES) {
        copy(0, 0);
        copy(STEP, 1);
        for (int k0 = 0, stage = 0; k0 < k_end; k0 += STEP, stage = (stage + 1) % STAGES) {
            copy_wait<1>();
            __syncthreads(); /* this stage is there, and the one before it read */
            copy(k0 + 2 * STEP, (stage + 2) % STAGES);
            multiply(stage);
        }
    } else {
        if (k_end > 0) {
            fetch(0);
            put(0, 0);
        }
        __syncthreads();
        for (int k0 = 0, stage = 0; k0 < k_end; k0 += STEP, stage ^= 1) {
            bool more = k_end - k0 > STEP;
            if (more)
                fetch(k0 + STEP);
            multiply(stage);
            if (more)
                put(k0 + STEP, stage ^ 1);
            __syncthreads();
        }
    }

    float scale = 1.0f; /* a constant but of two operands that may be e4m3 */
    if (WAY == COPIES && p.divisors)
        scale = p.divisors[0] * p.divisors[1];
    const int64_t c0 = t.g * p.c_step + (p.ta ? 0 : t.row0 * p.ldc) + t.m0 * p.ldc + n0;
    UNROLL for (int i = 0; i < MM; i++)
        UNROLL for (int j = 0; j < NN; j++)
            UNROLL for (int e = 0; e < 4; e += 2) {
                int m = m_warp + i * 16 + lane / 4 + e / 2 * 8;
                int n = n_warp + j * 8 + lane % 4 * 2;
                if (m < left_m && n < left_n)
                    put_two(&p, c0 + m * p.ldc + n, scale * sum[i][j][e],
                            scale * sum[i][j][e + 1], n + 1 < left_n, pairs);
            }
}

/* --- launches --------------------------------------------------------------------------------- */

template <int TILE, bool TA, bool TB, typename A, way WAY>
static void launch(rt_dev *d, const struct products *p, int64_t rows)
{
    const struct products args = *p;
    int64_t tiles = rt_cuda_tiles_of_rows(p, rows, TILE);
    bool quads_b = WAY == BF16_ROWS ? rt_cuda_has_rows(p, RT_BF16, 8)
                                    : rt_cuda_has_rows(p, RT_F32, 16);
    bool pairs = (uintptr_t)p->c % 4 == 0 && p->ldc % 2 == 0 && p->c_step % 2 == 0;
    auto kernel = tile_kernel<TILE, TA, TB, A, WAY>;
    LAUNCH(kernel, (unsigned)(tiles * rt_ceil_div(p->n, TILE)), TILE * 2, 0, rt_cuda_of(d)->stream,
           args, tiles, decode_form(&p->b.like), rt_cuda_a_is_by(p, 4), quads_b, pairs);
    rt_cuda_launched(d, "a product");
}

/* Of a transposed, b is activations: f32, or bf16. */
template <int TILE, typename A, way WAY>
static void launch_turned(rt_dev *d, const struct products *p, int64_t rows)
{
    if constexpr (WAY != RUNS && !(WAY == F32_ROWS && sizeof(A) == 2))
        if (p->ta && !p->tb)
            return launch<TILE, true, false, A, WAY>(d, p, rows);
    if constexpr (WAY == ELEMENTS)
        if (p->ta)
            return launch<TILE, true, true, A, WAY>(d, p, rows);
    if constexpr (WAY != BF16_ROWS)
        (p->tb ? launch<TILE, false, true, A, WAY> : launch<TILE, false, false, A, WAY>)(d, p, rows);
}

template <typename A>
static void product(rt_dev *d, const struct products *p, int64_t rows, bool small)
{
    bool straight = !p->ta || !p->tb, half = sizeof(A) == 2;
    if (half && straight && rt_cuda_a_is_by(p, 8) && rt_cuda_has_rows(p, RT_BF16, 16))
        (small ? launch_turned<64, uint16_t, COPIES> : launch_turned<128, uint16_t, COPIES>)(d, p,
                                                                                           rows);
    else if (straight && !(half && p->ta) && rt_cuda_has_rows(p, RT_F32, 4))
        (small ? launch_turned<64, A, F32_ROWS> : launch_turned<128, A, F32_ROWS>)(d, p, rows);
    else if (straight && !half && p->ta && rt_cuda_has_rows(p, RT_BF16, 2))
        launch_turned<64, float, BF16_ROWS>(d, p, rows); /* large tiles of these spill registers */
    else if (!p->ta && (p->tb ? p->k : p->n) % DECODE_RUN == 0 && rt_cuda_has_runs(p))
        (small ? launch_turned<64, A, RUNS> : launch_turned<128, A, RUNS>)(d, p, rows);
    else
        launch_turned<64, A, ELEMENTS>(d, p, rows);
}

/* Small tiles where large ones would leave a part of the GPU without work, or be mostly empty. */
void rt_cuda_product_tile(rt_dev *d, const struct products *p, int64_t rows)
{
    int64_t each = p->offset && !p->ta ? rt_ceil_div(rows, p->count) : p->m;
    int64_t large = rt_cuda_tiles_of_rows(p, rows, 128) * rt_ceil_div(p->n, 128);
    bool small = each <= 64 || p->n <= 64 || large < rt_cuda_of(d)->is.multiProcessorCount;
    (p->a16 ? product<uint16_t> : product<float>)(d, p, rows, small);
}
