/* isa_matmul.h: the matrix product's inner loops, included by isa.c once an instruction set: the
   tile kernel and the packing of both operands. Layouts (matmul.c owns the loops around them):
     panel   32 columns of b over k: [k][32], columns past the edge 0
     tile    up to ISA_TILE_ROWS rows of a over k: [k][m]
   A tile kernel keeps its m x 32 sums in registers over all of k, so an output element is one chain
   of fused multiply-adds whatever m is and wherever the tile lies. */
#include "core/device/cpu/isa_columns.h"
#include "core/device/cpu/isa_unpack.h"
#include "core/device/cpu/simd.h"

#if defined(RT_ISA_avx512)
/* 28 sums + 2 of b + 1 of a in 32 registers */
enum { ISA_TILE_ROWS = 14, TILE_VECTORS = 2, TILE_TWINS = 10 };
#elif defined(RT_ISA_avx2)
/* 12 + 2 + 1 of 16 registers; two passes a panel */
enum { ISA_TILE_ROWS = 6, TILE_VECTORS = 1, TILE_TWINS = 0 };
#else
enum { ISA_TILE_ROWS = 4, TILE_VECTORS = 1, TILE_TWINS = 0 };
#endif

/* c(m,32) from a(k,m)ᵀ · panel(k,32); a step of k is lda floats.
   A broadcast of a that feeds two products costs an instruction; one that feeds a single product is
   folded into it. Folding TILE_TWINS rows balances decoding (6 a cycle, shared by the core's two
   threads) against loads (2 a cycle): 8 % faster when the sibling thread is busy, else the same.
   The compiler would merge the two broadcasts, so the second goes through a pointer it cannot see
   through. */
RT_V16_FN void tile_product(const int m, int64_t k, const float *a, int64_t lda, const float *panel,
                            float *c, int64_t ldc, enum rt_chain chain)
{
    for (int part = 0; part < 2; part += TILE_VECTORS) {
        const float *pa = a, *pb = panel + 16 * part;
        const float *twin = a;
        float *pc = c + 16 * part;
        __asm__("" : "+r"(twin));
        rt_v16 sum[ISA_TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 16
        for (int i = 0; i < m; i++)
#pragma GCC unroll 2
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[i][v] = chain == RT_CHAIN_ON ? v16_load(pc + i * ldc + 16 * v) : v16_zero();
#pragma GCC unroll 16
        for (int i = 0; i < m; i++)
            __builtin_prefetch(pc + i * ldc, 1);
        for (int64_t step = 0; step < k; step++, pa += lda, twin += lda, pb += 32) {
            rt_v16 b[TILE_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < TILE_VECTORS; v++) {
                b[v] = v16_load(pb + 16 * v);
                __builtin_prefetch(pb + 16 * v + 32 * 16);
            }
#pragma GCC unroll 16
            for (int i = 0; i < m; i++) {
#pragma GCC unroll 2
                for (int v = 0; v < TILE_VECTORS; v++) {
                    rt_v16 s = v16_set1(v == 1 && i < TILE_TWINS ? twin[i] : pa[i]);
                    sum[i][v] = v16_fma(s, b[v], sum[i][v]);
                }
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < m; i++)
#pragma GCC unroll 2
            for (int v = 0; v < TILE_VECTORS; v++) {
                float *p = pc + i * ldc + 16 * v;
                v16_store(p, chain == RT_CHAIN_ADD ? v16_add(v16_load(p), sum[i][v]) : sum[i][v]);
            }
    }
}

#define TILE_KERNEL(m)                                                                             \
    static void tile_##m(int64_t k, const float *a, int64_t lda, const float *panel, float *c,     \
                         int64_t ldc, enum rt_chain chain)                                         \
    {                                                                                              \
        tile_product(m, k, a, lda, panel, c, ldc, chain);                                          \
    }
TILE_KERNEL(1)
TILE_KERNEL(2)
TILE_KERNEL(3)
TILE_KERNEL(4)
#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
TILE_KERNEL(5)
TILE_KERNEL(6)
#endif
#if defined(RT_ISA_avx512)
TILE_KERNEL(7)
TILE_KERNEL(8)
TILE_KERNEL(9)
TILE_KERNEL(10)
TILE_KERNEL(11)
TILE_KERNEL(12)
TILE_KERNEL(13)
TILE_KERNEL(14)
#endif

static rt_tile_fn *const isa_tiles[ISA_TILE_ROWS + 1] = {
    NULL,   tile_1, tile_2, tile_3,  tile_4,
#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
    tile_5, tile_6,
#endif
#if defined(RT_ISA_avx512)
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12, tile_13, tile_14,
#endif
};

#if defined(RT_ISA_avx512)
enum { THIN_ROWS = 2, THIN_PANELS = 4 }; /* up to 16 chains at once: each waits for itself */
#else
enum { THIN_ROWS = 1, THIN_PANELS = 2 };
#endif

RT_V16_FN void thin_product(const int m, int64_t k, const float *tile, const float *panels,
                            int64_t stride, float *c, enum rt_chain chain)
{
    rt_v16 sum[THIN_ROWS][2 * THIN_PANELS];
#pragma GCC unroll 2
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * THIN_PANELS; v++)
            sum[i][v] = chain == RT_CHAIN_ON ? v16_load(c + (v / 2 * m + i) * RT_PANEL + v % 2 * 16)
                                             : v16_zero();
    for (int64_t step = 0; step < k; step++)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * THIN_PANELS; v++) {
            rt_v16 b = v16_load(panels + v / 2 * stride + step * RT_PANEL + v % 2 * 16);
#pragma GCC unroll 2
            for (int i = 0; i < m; i++)
                sum[i][v] = v16_fma(v16_set1(tile[step * m + i]), b, sum[i][v]);
        }
#pragma GCC unroll 2
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * THIN_PANELS; v++) {
            float *p = c + (v / 2 * m + i) * RT_PANEL + v % 2 * 16;
            v16_store(p, chain == RT_CHAIN_ADD ? v16_add(v16_load(p), sum[i][v]) : sum[i][v]);
        }
}

static void thin(int64_t m, int64_t k, const float *tile, const float *panels, int64_t stride,
                 int64_t count, float *c, enum rt_chain chain)
{
    int64_t p = 0;
    for (; m <= THIN_ROWS && p + THIN_PANELS <= count; p += THIN_PANELS)
        if (m == 1)
            thin_product(1, k, tile, panels + p * stride, stride, c + p * m * RT_PANEL, chain);
        else
            thin_product(THIN_ROWS, k, tile, panels + p * stride, stride, c + p * m * RT_PANEL,
                         chain);
    for (; p < count; p++)
        isa_tiles[m](k, tile, m, panels + p * stride, c + p * m * RT_PANEL, RT_PANEL, chain);
}

#if defined(RT_ISA_avx512)
enum { PAIR_ROWS = 6 }; /* 24 sums + 4 of b + 1 of a in 32 registers */
#else
enum { PAIR_ROWS = 1 };
#endif

RT_V16_FN void pair_product(const int m, int64_t k, const float *tile, const float *panel,
                            int64_t stride, float *c, int64_t ldc, enum rt_chain chain)
{
    rt_v16 sum[PAIR_ROWS][4];
#pragma GCC unroll 6
    for (int i = 0; i < m; i++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            sum[i][v] = chain == RT_CHAIN_ON ? v16_load(c + i * ldc + 16 * v) : v16_zero();
    for (int64_t step = 0; step < k; step++) {
        rt_v16 b[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            b[v] = v16_load(panel + v / 2 * stride + step * RT_PANEL + v % 2 * 16);
#pragma GCC unroll 6
        for (int i = 0; i < m; i++) {
            rt_v16 s = v16_set1(tile[step * m + i]);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                sum[i][v] = v16_fma(s, b[v], sum[i][v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < m; i++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            v16_store(c + i * ldc + 16 * v, sum[i][v]);
}

#define PAIR_KERNEL(m)                                                                             \
    static void pair_##m(int64_t k, const float *tile, const float *panel, int64_t stride,         \
                         float *c, int64_t ldc, enum rt_chain chain)                               \
    {                                                                                              \
        pair_product(m, k, tile, panel, stride, c, ldc, chain);                                    \
    }
PAIR_KERNEL(1)
#if defined(RT_ISA_avx512)
PAIR_KERNEL(2)
PAIR_KERNEL(3)
PAIR_KERNEL(4)
PAIR_KERNEL(5)
PAIR_KERNEL(6)
#endif

/* [m]: c(m,64) = or goes on from tile(k,m)ᵀ · two panels `stride` floats apart. For few rows: their
   chains in one panel would wait for themselves. */
typedef void pair_fn(int64_t k, const float *tile, const float *panel, int64_t stride, float *c,
                     int64_t ldc, enum rt_chain chain);
static pair_fn *const isa_pairs[PAIR_ROWS + 1] = {
    NULL,   pair_1,
#if defined(RT_ISA_avx512)
    pair_2, pair_3, pair_4, pair_5, pair_6,
#endif
};

enum { WIDEN = 256 /* elements widened at a time, a multiple of every block */, WIDEN_ROWS = 32 };

/* n numbers of any alignment as f32 */
static void widen(float *out, const uint8_t *p, rt_dtype dtype, int64_t n)
{
    if (dtype == RT_BF16) {
        for (int64_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, sizeof h);
            uint32_t u = (uint32_t)h << 16;
            memcpy(out + i, &u, sizeof u);
        }
        return;
    }
#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
    if (dtype == RT_F16) {
        int64_t i = 0;
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 2 * i))));
        rt_decode_f32(out + i, p + 2 * i, dtype, n - i);
        return;
    }
#endif
    rt_decode_f32(out, p, dtype, n);
}

/* Elements that begin or end inside a block: whole blocks are decoded, and the rest of them is left. */
static void widen_inside(float *out, const uint8_t *row, rt_dtype dtype, int64_t first, int64_t n)
{
    float whole[256];
    const int64_t block = rt_dtype_get(dtype)->block;
    for (int64_t at = first, end = first + n; at < end;) {
        int64_t from = at - at % block, take = rt_min(end, from + block) - at;
        rt_decode_f32(whole, row + rt_dtype_bytes(dtype, from), dtype, block);
        memcpy(out + at - first, whole + at % block, (size_t)take * sizeof *out);
        at += take;
    }
}

/* n elements of one row of b, from element `first`, as f32 */
static void widen_row(float *out, const struct rt_matrix *b, int64_t row, int64_t first, int64_t n)
{
    if (b->piece) {
        rt_piece_decode(out, b->piece, b->row0 + row, first, n);
        return;
    }
    const uint8_t *p = b->data;
    const int64_t block = rt_dtype_get(b->dtype)->block;
    if (!b->interleaved && (first % block || n % block)) {
        widen_inside(out, p + rt_dtype_bytes(b->dtype, row * b->ld), b->dtype, first, n);
        return;
    }
    p += rt_dtype_bytes(b->dtype, row * b->ld + first * (b->interleaved ? 2 : 1));
    if (!b->interleaved) {
        widen(out, p, b->dtype, n);
        return;
    }
    float both[2 * WIDEN];
    widen(both, p, b->dtype, 2 * n);
    for (int64_t i = 0; i < n; i++)
        out[i] = both[2 * i + b->interleaved - 1];
}

/* out(k,32) rows 0 .. k = 32 columns (those past `columns` are 0), read along k from src(32,ld) */
static void pack_panel_t(float *out, const float *src, int64_t ld, int64_t columns, int64_t k)
{
    for (int64_t step = 0; step < k; step += 16)
        for (int half = 0; half < 2; half++) {
            rt_v16 r[16];
            int left = (int)rt_min(16, k - step);
            for (int i = 0; i < 16; i++) {
                const float *p = src + (16 * half + i) * ld + step;
                r[i] = 16 * half + i >= columns ? v16_zero()
                       : left < 16              ? v16_load_n(p, left)
                                                : v16_load(p);
            }
            v16_transpose(r);
            for (int i = 0; i < left; i++)
                v16_store(out + (step + i) * RT_PANEL + 16 * half, r[i]);
        }
}

/* As many steps from k0 on as are read as they lie; k0 + what it returns is where others begin. */
static int64_t unpack_panel(float *out, const struct rt_matrix *b, int64_t n0, int64_t columns,
                            int64_t k0, int64_t k1)
{
    const struct taken *t = taken_of(b);
    int64_t steps = t && k0 % t->step == 0 ? (k1 - k0) / t->step * t->step : 0;
    if (steps == 0)
        return 0;
    struct reader r;
    reader_begin(&r, b, n0, columns, GROUPS);
    t->unpack(out, &r, k0, k0 + steps);
    return steps;
}

/* The chains of one row x over [k0, k1) and panels [p0, p0 + count), `sums` of them on; returns the
   steps that were made. */
static int64_t dot_panels(float *sums, const float *x, const struct rt_matrix *b, int64_t p0,
                          int64_t count, int64_t k0, int64_t k1)
{
    const uint8_t *at;
    int64_t full = count;
    const struct columns *plain = columns_begin(b, p0, &full, k0, &at);
    if (plain && full == count) {
        plain->dot(sums, x, at, rt_dtype_bytes(b->dtype, b->ld), count, k1 - k0);
        return k1 - k0;
    }
    const struct taken *t = b->t ? taken_of(b) : NULL;
    int64_t steps = t && k0 % t->step == 0 ? (k1 - k0) / t->step * t->step : 0;
    if (steps == 0)
        return 0;
    for (int64_t p = 0, side; p < count; p += side) {
        struct reader r;
        int64_t n0 = (p0 + p) * RT_PANEL;
        side = rt_min(count - p, DOT_GROUPS / GROUPS);
        if (side < DOT_GROUPS / GROUPS)
            side = 1;
        reader_begin(&r, b, n0, rt_min(side * RT_PANEL, b->n - n0), (int)side * GROUPS);
        t->dot(sums + p * RT_PANEL, x, &r, k0, k0 + steps);
    }
    return steps;
}

static void pack_panels_t(float *out, int64_t stride, const struct rt_matrix *b, int64_t p0,
                          int64_t count, int64_t k0, int64_t k1)
{
    float wide[RT_PANEL * WIDEN];
    for (int64_t p = 0; p < count; p++) {
        int64_t n0 = (p0 + p) * RT_PANEL, columns = rt_min(RT_PANEL, b->n - n0);
        int64_t done = unpack_panel(out + p * stride, b, n0, columns, k0, k1);
        for (int64_t k = k0 + done; k < k1; k += WIDEN) {
            int64_t len = rt_min(WIDEN, k1 - k);
            float *to = out + p * stride + (k - k0) * RT_PANEL;
            if (b->dtype == RT_F32 && !b->piece) {
                pack_panel_t(to, (const float *)b->data + n0 * b->ld + k, b->ld, columns, len);
                continue;
            }
            for (int64_t i = 0; i < columns; i++)
                widen_row(wide + i * WIDEN, b, n0 + i, k, len);
            pack_panel_t(to, wide, WIDEN, columns, len);
        }
    }
}

/* Full panels of plain numbers as they lie. Else 256 columns at a time, because blocks lie along n;
   few rows at a time, so that they stay in cache while their panels are written one after the
   other. */
static void pack_panels_n(float *out, int64_t stride, const struct rt_matrix *b, int64_t p0,
                          int64_t count, int64_t k0, int64_t k1)
{
    float wide[WIDEN_ROWS * WIDEN];
    int64_t done = count;
    const uint8_t *at;
    const struct columns *plain = columns_begin(b, p0, &done, k0, &at);
    if (plain)
        plain->pack(out, stride, at, rt_dtype_bytes(b->dtype, b->ld), done, k1 - k0);
    for (int64_t k = k0; k < k1; k += WIDEN_ROWS)
        for (int64_t p = plain ? done : 0; p < count; p += WIDEN / RT_PANEL) {
            int64_t n0 = (p0 + p) * RT_PANEL, rows = rt_min(WIDEN_ROWS, k1 - k);
            int64_t columns = rt_min(rt_min(WIDEN, (count - p) * RT_PANEL), b->n - n0);
            for (int64_t i = 0; i < rows; i++)
                widen_row(wide + i * WIDEN, b, k + i, n0, columns);
            for (int64_t n = 0; n < columns; n += RT_PANEL) {
                float *to = out + (p + n / RT_PANEL) * stride + (k - k0) * RT_PANEL;
                for (int64_t i = 0; i < rows; i++, to += RT_PANEL)
                    for (int half = 0; half < 32; half += 16) {
                        int left = (int)rt_max(0, rt_min(16, columns - n - half));
                        v16_store(to + half, v16_load_n(wide + i * WIDEN + n + half, left));
                    }
            }
        }
}

static void pack_panels(float *out, int64_t stride, const struct rt_matrix *b, int64_t p0,
                        int64_t count, int64_t k0, int64_t k1)
{
    (b->t ? pack_panels_t : pack_panels_n)(out, stride, b, p0, count, k0, k1);
}

/* m floats of v as row `step` of out(k,m): 16 are stored where the rows that follow will overwrite
   the rest, exactly m near the end. */
RT_V16_FN void store_row(float *out, int64_t step, int64_t m, int64_t k, rt_v16 v)
{
    if ((k - step) * m >= 16)
        v16_store(out + step * m, v);
    else
        v16_store_n(out + step * m, v, (int)m);
}

/* out(k,m): column i is the k floats at row[i] */
static void pack_rows(float *out, const float *const *row, int64_t m, int64_t k)
{
    if (m == 1) {
        memcpy(out, row[0], (size_t)k * sizeof *out);
        return;
    }
    if (m <= 3) {
        for (int64_t i = 0; i < m; i++)
            for (int64_t step = 0; step < k; step++)
                out[step * m + i] = row[i][step];
        return;
    }
    for (int64_t step = 0; step < k; step += 16) {
        rt_v16 r[16];
        int left = (int)rt_min(16, k - step);
        for (int i = 0; i < 16; i++)
            r[i] = i >= m      ? v16_zero()
                   : left < 16 ? v16_load_n(row[i] + step, left)
                               : v16_load(row[i] + step);
        v16_transpose(r);
        for (int i = 0; i < left; i++)
            store_row(out, step + i, m, k, r[i]);
    }
}

enum { AHEAD = 32 /* steps of k: those packed next (TILE_PIECE of matmul.c) */ };

static void pack_tile(float *out, const float *a, int64_t lda, bool ta, int64_t m, int64_t k)
{
    if (!ta) {
        const float *row[ISA_TILE_ROWS];
        for (int64_t i = 0; i < m; i++)
            row[i] = a + i * lda;
        pack_rows(out, row, m, k);
        return;
    }
    int64_t safe = (k - 1) * lda + m - 16; /* last offset from which 16 floats may be read */
    for (int64_t step = 0; step < k; step++) {
        const float *p = a + step * lda;
        /* rows of a are far apart, no hardware sees them coming; the pointer may pass the end */
        __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)(AHEAD * lda) * sizeof *p));
        rt_v16 v = step * lda <= safe ? v16_load(p) : v16_load_n(p, (int)m);
        store_row(out, step, m, k, v);
    }
}
