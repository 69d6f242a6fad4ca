/* matmul.c: matrix products of the CPU backend: the loops around the tile kernel of isa_matmul.h.
   Every product, plain, grouped by expert or by head, is a batch of products of equal width. b is
   packed into panels of 32 columns, a chunk of panels at a time, unless it was packed before; then
   units (block of row tiles x part of the panels) are computed, a thread packing its rows of a once
   a block. There are as many blocks as keep threads of unequal speed busy, and parts only when rows
   are too few for that: a block in two parts may be packed twice.
   Numeric contract (ops.h): k goes in blocks of 2048, whose sums are added to c in order;
   inside a block the tile kernel is one chain. Threads and tiles split outputs only. Allocates
   nothing: rt_cpu_need_product plans the workspace. */
#include "core/device/cpu/cpu.h"

#include <string.h>

enum {
    TILE_FLOATS = 1 << 17, /* packed rows of a thread: half a megabyte, a part of L2 */
    SLOT_PANELS = 8,       /* panels packed together: 256 columns, a multiple of any block */
    PIECE = 256,           /* of k packed by one unit of work */
    TILE_PIECE = 32,       /* of k packed for one tile before the next */
    PANEL_BYTES_MIN = SLOT_PANELS * RT_PANEL * RT_K_BLOCK * 4, /* one slot always fits */
    PANEL_BYTES_MAX = 32 << 20,
    ROWS_MAX = 14,
    THIN_ROWS = 128,        /* products of at most so many rows go piece by piece */
    THIN_PANELS = 4,        /* columns of a unit of such a product, in panels */
    THIN_PIECE = 64,        /* of k: THIN_PANELS panels of it lie in L1 */
    THIN_BYTES = 256 << 10, /* weights of a unit, which lie in L2 when their turn comes */
    UNITS_THREAD = 16, /* units a thread should find at least, so that the last ones end together */
    BLOCK_MIN = 2,     /* tiles of a block below which more units would cost more packing */
};

/* One product: c(m,n) = or += a(m,k) · b(k,n), a stored (k,m) when ta. */
struct product {
    const float *a;
    float *c;
    struct rt_matrix b;
    const float *panels; /* b already packed, [panel][k][32], or NULL */
    int64_t lda, ldc, m, k;
    bool ta, add;
};

/* Product g of a batch is `first` moved by g steps; with offset (groups + 1), product g takes rows
   offset[g] .. offset[g+1] of a, counted from offset[0]: as its m, or as its k (of b too) when ta.
 */
struct batch {
    struct product first;
    int64_t groups;
    int64_t a_step, c_step, panels_step; /* floats */
    int64_t b_step;                      /* bytes, where b has data */
    int64_t piece_step, piece_rows;      /* pieces, or rows of the one */
    const int32_t *offset;
};

/* One call as every thread sees it. A slot is up to SLOT_PANELS panels of one product; slots are
   numbered through all products, and a chunk of them is packed and used before the next. */
struct run {
    const struct rt_isa *isa;
    struct batch batch;
    int64_t panels, slot_panels, slots; /* of one product */
    int64_t k_max, tiles_block, parts;
    int64_t chunk;        /* slots */
    float *area;          /* (chunk, slot_panels, k_max, 32) */
    int64_t k0;           /* current block of k */
    int64_t slot0, slot1; /* current chunk */
};

/* What one thread remembers between units: its place in the chunk and the rows it has packed. */
struct walker {
    float *tiles;
    struct product p;
    int64_t group, base, units; /* units [base, base + units) belong to p */
    int64_t packed_group, packed_block, packed_k0;
};

static struct product product_at(const struct batch *b, int64_t g)
{
    struct product p = b->first;
    int64_t row = b->offset ? b->offset[g] - b->offset[0] : 0;
    int64_t rows = b->offset ? b->offset[g + 1] - b->offset[g] : 0;
    const uint8_t *data = p.b.data;
    if (p.b.piece) {
        p.b.piece += b->piece_step * g;
        p.b.row0 += b->piece_rows * g;
    }
    p.a += b->a_step * g + row * p.lda;
    p.c += b->c_step * g;
    if (data)
        data += b->b_step * g;
    if (p.panels)
        p.panels += b->panels_step * g;
    if (b->offset && p.ta) {
        p.k = rows;
        data += rt_dtype_bytes(p.b.dtype, row * p.b.ld);
    } else if (b->offset) {
        p.m = rows;
        p.c += row * p.ldc;
    }
    p.b.data = data;
    return p;
}

/* Nothing to do in this block of k: past its end, or an empty sum added to what is there. */
static bool idle(const struct product *p, int64_t k0)
{
    return p->m == 0 || (p->k <= k0 && (k0 > 0 || p->add));
}

static int64_t block_length(const struct product *p, int64_t k0)
{
    return rt_min(p->k - k0, RT_K_BLOCK);
}

/* Panels of product g that lie in slots before `slot`. */
static int64_t first_panel(const struct run *r, int64_t slot, int64_t g)
{
    return rt_min(rt_max(0, slot - g * r->slots) * r->slot_panels, r->panels);
}

static int64_t panels_in_chunk(const struct run *r, int64_t g)
{
    return first_panel(r, r->slot1, g) - first_panel(r, r->slot0, g);
}

static void pack_unit(const struct run *r, int64_t unit, int64_t pieces)
{
    int64_t slot = r->slot0 + unit / pieces, g = slot / r->slots;
    struct product p = product_at(&r->batch, g);
    int64_t first = slot % r->slots * r->slot_panels, k = unit % pieces * PIECE;
    int64_t count = rt_min(r->slot_panels, r->panels - first);
    if (idle(&p, r->k0) || k >= block_length(&p, r->k0))
        return;
    float *out = r->area + ((slot - r->slot0) * r->slot_panels * r->k_max + k) * RT_PANEL;
    int64_t end = rt_min(k + PIECE, block_length(&p, r->k0));
    r->isa->pack_panels(out, r->k_max * RT_PANEL, &p.b, first, count, r->k0 + k, r->k0 + end);
}

static int64_t tiles_of(const struct run *r, const struct product *p)
{
    return rt_ceil_div(p->m, r->isa->tile_rows);
}

static int64_t units_of(const struct run *r, const struct product *p, int64_t g)
{
    if (idle(p, r->k0))
        return 0;
    return rt_ceil_div(tiles_of(r, p), r->tiles_block) * rt_min(r->parts, panels_in_chunk(r, g));
}

static int64_t count_units(const struct run *r)
{
    int64_t units = 0;
    for (int64_t g = r->slot0 / r->slots; g * r->slots < r->slot1; g++) {
        struct product p = product_at(&r->batch, g);
        units += units_of(r, &p, g);
    }
    return units;
}

static void seek(const struct run *r, struct walker *w, int64_t unit)
{
    if (unit < w->base) {
        w->group = r->slot0 / r->slots - 1;
        w->base = w->units = 0;
    }
    while (unit >= w->base + w->units) {
        w->base += w->units;
        w->p = product_at(&r->batch, ++w->group);
        w->units = units_of(r, &w->p, w->group);
    }
}

static int64_t tile_row(const struct product *p, int64_t tile, int64_t tiles)
{
    return p->m * tile / tiles; /* tiles of nearly equal height */
}

static void edge_tile(const struct run *r, int64_t m, int64_t k, const float *tile,
                      const float *panel, float *c, int64_t ldc, int64_t columns, bool add)
{
    float t[ROWS_MAX * RT_PANEL];
    r->isa->tile[m](k, tile, m, panel, t, RT_PANEL, RT_CHAIN_SET);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < columns; j++)
            c[i * ldc + j] = add ? c[i * ldc + j] + t[i * RT_PANEL + j] : t[i * RT_PANEL + j];
}

/* Rows of tiles [begin, end) of w->p, each [k][m]. With ta the rows lie side by side in a: a few
   steps of k for all tiles, then the next, so that every line of a is fetched once. */
static void pack_block(const struct run *r, struct walker *w, int64_t begin, int64_t end)
{
    const struct product *p = &w->p;
    int64_t k = block_length(p, r->k0), tiles = tiles_of(r, p), step = p->ta ? TILE_PIECE : k;
    for (int64_t s = 0; s < k; s += step)
        for (int64_t t = begin, at = 0; t < end; t++) {
            int64_t row = tile_row(p, t, tiles), m = tile_row(p, t + 1, tiles) - row;
            const float *a = p->ta ? p->a + (r->k0 + s) * p->lda + row
                                   : p->a + row * p->lda + r->k0;
            r->isa->pack_tile(w->tiles + at + s * m, a, p->lda, p->ta, m, rt_min(step, k - s));
            at += m * k;
        }
}

/* The block's packed rows times panel n of w->p. */
static void compute_panel(const struct run *r, const struct walker *w, int64_t begin, int64_t end,
                          int64_t n)
{
    const struct product *p = &w->p;
    int64_t tiles = tiles_of(r, p), k = block_length(p, r->k0), columns = p->b.n - n * RT_PANEL;
    int64_t slot = w->group * r->slots + n / r->slot_panels - r->slot0;
    bool add = p->add || r->k0 > 0;
    const float *tile = w->tiles,
                *panel = p->panels ? p->panels + (n * p->k + r->k0) * RT_PANEL
                                   : r->area + (slot * r->slot_panels + n % r->slot_panels) *
                                                   r->k_max * RT_PANEL;
    for (int64_t t = begin; t < end; t++) {
        int64_t row = tile_row(p, t, tiles), m = tile_row(p, t + 1, tiles) - row;
        float *c = p->c + row * p->ldc + n * RT_PANEL;
        if (columns >= RT_PANEL)
            r->isa->tile[m](k, tile, m, panel, c, p->ldc, add ? RT_CHAIN_ADD : RT_CHAIN_SET);
        else
            edge_tile(r, m, k, tile, panel, c, p->ldc, columns, add);
        tile += m * k;
    }
}

static void compute_unit(const struct run *r, struct walker *w, int64_t unit)
{
    seek(r, w, unit);
    int64_t count = panels_in_chunk(r, w->group), parts = rt_min(r->parts, count);
    int64_t block = (unit - w->base) / parts, part = (unit - w->base) % parts;
    int64_t first = first_panel(r, r->slot0, w->group), begin = block * r->tiles_block;
    int64_t end = rt_min(tiles_of(r, &w->p), begin + r->tiles_block);
    if (w->packed_group != w->group || w->packed_block != block || w->packed_k0 != r->k0)
        pack_block(r, w, begin, end);
    w->packed_group = w->group;
    w->packed_block = block;
    w->packed_k0 = r->k0;
    for (int64_t n = count * part / parts; n < count * (part + 1) / parts; n++)
        compute_panel(r, w, begin, end, first + n);
}

/* --- few rows ------------------------------------------------------------------------------------
   All rows of a product fit beside the columns of a unit: its weights are widened a piece of k at a
   time into L1 and multiplied there, so that they are read once, in their own bytes. */

enum {
    THIN_FLOATS = THIN_PANELS * THIN_PIECE * RT_PANEL, /* widened columns of a piece */
    SUM_FLOATS = THIN_ROWS * THIN_PANELS * RT_PANEL,   /* chains of a unit */
    WALKER_FLOATS = 128,                               /* its struct walker, first */
    THREAD_FLOATS = WALKER_FLOATS + TILE_FLOATS + THIN_FLOATS + SUM_FLOATS
};

static int64_t tile_bytes(void) { return THREAD_FLOATS * (int64_t)sizeof(float); }

static bool is_thin(const struct run *r)
{
    const struct product *p = &r->batch.first;
    bool blocks_along_n = !p->b.t && (p->b.piece || rt_dtype_get(p->b.dtype)->block > 1);
    if (blocks_along_n || p->panels)
        return false;
    for (int64_t g = 0; g < r->batch.groups; g++) {
        struct product one = product_at(&r->batch, g);
        if (one.m > THIN_ROWS || one.m * rt_min(one.k, RT_K_BLOCK) > TILE_FLOATS)
            return false;
    }
    return true;
}

/* The sums of a unit's panels over one block of k, into c. */
static void thin_store(const struct product *p, const float *sums, int64_t tile_row, int64_t m,
                       int64_t panel0, int64_t count, bool add)
{
    for (int64_t n = 0; n < count; n++) {
        int64_t columns = rt_min(RT_PANEL, p->b.n - (panel0 + n) * RT_PANEL);
        for (int64_t i = 0; i < m; i++) {
            float *c = p->c + (tile_row + i) * p->ldc + (panel0 + n) * RT_PANEL;
            const float *sum = sums + (n * m + i) * RT_PANEL;
            for (int64_t j = 0; j < columns; j++)
                c[j] = add ? c[j] + sum[j] : sum[j];
        }
    }
}

static int64_t row_bytes(const struct rt_matrix *b)
{
    return b->piece ? b->piece->row_bytes : rt_dtype_bytes(b->dtype, b->ld);
}

/* Panels [unit * slot_panels, ...) of one product, over all of k. The rows of a unit lie one after
   the other; while they are read here and there, those of the next are asked for in their order. */
static void thin_unit(const struct run *base, struct walker *w, int64_t unit)
{
    struct run r = *base;
    int64_t g = unit / r.slots, panel0 = unit % r.slots * r.slot_panels;
    int64_t count = rt_min(r.slot_panels, r.panels - panel0);
    float *wide = w->tiles + TILE_FLOATS, *sums = wide + THIN_FLOATS;
    w->p = product_at(&r.batch, g);
    struct product *p = &w->p;
    const rt_piece *piece = p->b.piece;
    const uint8_t *ahead = piece ? piece->data : p->b.data;
    if (p->b.t && (!piece || piece->step == 1)) {
        int64_t bytes = count * RT_PANEL * row_bytes(&p->b);
        ahead += ((piece ? piece->first + p->b.row0 : 0) + panel0 * RT_PANEL) * row_bytes(&p->b);
        if (w->packed_group < 0) /* nobody asked for a thread's first unit */
            for (int64_t line = 0; line < bytes; line += 64)
                __builtin_prefetch(ahead + line, 0, 2);
        ahead += bytes;
        p->b.ahead = &ahead;
    }
    int64_t number[THIN_PANELS * RT_PANEL];
    if (p->b.t && piece) {
        p->b.number0 = panel0 * RT_PANEL;
        p->b.number = number;
        for (int64_t i = 0; i < count * RT_PANEL; i++)
            number[i] = rt_piece_row(piece, p->b.row0 + rt_min(p->b.number0 + i, p->b.n - 1));
    }
    int64_t tiles = tiles_of(&r, p);
    for (r.k0 = 0; r.k0 < rt_max(p->k, 1) && !idle(p, r.k0); r.k0 += RT_K_BLOCK) {
        int64_t k = block_length(p, r.k0);
        if (w->packed_group != g || w->packed_k0 != r.k0)
            pack_block(&r, w, 0, tiles);
        w->packed_group = g;
        w->packed_k0 = r.k0;
        int64_t begun = 0;
        if (p->m == 1) {
            memset(sums, 0, (size_t)(count * RT_PANEL) * sizeof *sums);
            begun = r.isa->dot_panels(sums, w->tiles, &p->b, panel0, count, r.k0, r.k0 + k);
        }
        for (int64_t s = begun; s < rt_max(k, 1); s += THIN_PIECE) {
            int64_t length = rt_min(THIN_PIECE, k - s);
            if (length > 0)
                r.isa->pack_panels(wide, THIN_PIECE * RT_PANEL, &p->b, panel0, count, r.k0 + s,
                                   r.k0 + s + length);
            const float *tile = w->tiles;
            float *sum = sums;
            for (int64_t t = 0; t < tiles; t++) {
                int64_t m = tile_row(p, t + 1, tiles) - tile_row(p, t, tiles);
                r.isa->thin(m, length, tile + s * m, wide, THIN_PIECE * RT_PANEL, count, sum,
                            s > 0 ? RT_CHAIN_ON : RT_CHAIN_SET);
                tile += m * k;
                sum += m * count * RT_PANEL;
            }
        }
        float *sum = sums;
        for (int64_t t = 0; t < tiles; t++) {
            int64_t row = tile_row(p, t, tiles), m = tile_row(p, t + 1, tiles) - row;
            thin_store(p, sum, row, m, panel0, count, p->add || r.k0 > 0);
            sum += m * count * RT_PANEL;
        }
    }
}

/* What a member remembers from unit to unit lies before its tiles. */
static struct walker *walker_of(const rt_dev *d, int member)
{
    _Static_assert(sizeof(struct walker) <= WALKER_FLOATS * sizeof(float), "room for a walker");
    return (struct walker *)(void *)(rt_cpu_of(d)->scratch + member * tile_bytes());
}

static void walkers_begin(const rt_dev *d, int threads)
{
    for (int i = 0; i < threads; i++) {
        struct walker *w = walker_of(d, i);
        memset(w, 0, sizeof *w);
        w->packed_group = w->packed_k0 = -1;
        w->tiles = (float *)(void *)w + WALKER_FLOATS;
    }
}

struct thin_job {
    const struct run *r;
    const rt_dev *d;
    int64_t units, chunk; /* products' units, taken chunk at a time: neighbours lie side by side */
};

static void thin_units(void *ctx, int64_t unit, int member)
{
    const struct thin_job *j = ctx;
    int64_t end = rt_min(j->units, (unit + 1) * j->chunk);
    for (int64_t u = unit * j->chunk; u < end; u++)
        thin_unit(j->r, walker_of(j->d, member), u);
}

static void run_thin(struct run *r, rt_dev *d, int threads)
{
    const struct rt_matrix *b = &r->batch.first.b;
    int64_t panel = rt_max(1, RT_PANEL * (b->t ? row_bytes(b) : r->k_max * 4));
    r->slot_panels = rt_max(1, rt_min(THIN_PANELS, THIN_BYTES / panel));
    r->slots = rt_ceil_div(r->panels, r->slot_panels);
    int64_t units = r->slots * r->batch.groups;
    struct thin_job job = { r, d, units, rt_max(1, rt_min(8, units / (threads * 4))) };
    walkers_begin(d, threads);
    rt_cpu_run(d, thin_units, &job, rt_ceil_div(units, job.chunk), threads);
}

/* --- one call ------------------------------------------------------------------------------------
 */

/* Largest k of the batch, and rows of all products together. */
static void measure(const struct batch *b, int64_t *k, int64_t *rows)
{
    *k = b->first.k;
    *rows = b->first.m * b->groups;
    if (!b->offset)
        return;
    int64_t longest = 0;
    for (int64_t g = 0; g < b->groups; g++)
        longest = rt_max(longest, b->offset[g + 1] - b->offset[g]);
    if (b->first.ta)
        *k = longest;
    else
        *rows = b->offset[b->groups] - b->offset[0];
}

struct chunk_job {
    const struct run *r;
    const rt_dev *d;
    int64_t pieces;
};

static void pack_one(void *ctx, int64_t unit, int member)
{
    const struct chunk_job *j = ctx;
    (void)member;
    pack_unit(j->r, unit, j->pieces);
}

static void compute_one(void *ctx, int64_t unit, int member)
{
    const struct chunk_job *j = ctx;
    compute_unit(j->r, walker_of(j->d, member), unit);
}

static void run_chunk(const struct run *r, const rt_dev *d, int threads)
{
    struct chunk_job job = { r, d, rt_ceil_div(r->k_max, PIECE) };
    if (!r->batch.first.panels)
        rt_cpu_run(d, pack_one, &job, (r->slot1 - r->slot0) * job.pieces, threads);
    for (int i = 0; i < threads; i++)
        walker_of(d, i)->base = INT64_MAX; /* the chunk's products differ: seek anew */
    rt_cpu_run(d, compute_one, &job, count_units(r), threads);
}

static void run_batch(rt_dev *d, const struct batch *batch)
{
    struct run r = { .isa = rt_cpu_isa(d), .batch = *batch };
    int64_t k, rows, n = batch->first.b.n;
    measure(batch, &k, &rows);
    if (rows == 0 || n == 0)
        return;
    bool packed = batch->first.panels != NULL;
    int64_t work = rows * n * k / 16;
    int threads = rt_cpu_threads(d, work + (packed ? 0 : batch->groups * n * k / 4));
    const struct rt_cpu *cpu = rt_cpu_of(d);
    int64_t tiles_share = cpu->threads * tile_bytes(), left = cpu->scratch_size - tiles_share;
    if (left < PANEL_BYTES_MIN)
        rt_bug("matmul: no workspace: no dry run had a product");

    r.k_max = rt_max(1, rt_min(k, RT_K_BLOCK));
    r.panels = rt_ceil_div(n, RT_PANEL);
    if (is_thin(&r)) {
        run_thin(&r, d, threads);
        return;
    }
    r.slot_panels = rt_min(r.panels, SLOT_PANELS);
    r.slots = rt_ceil_div(r.panels, r.slot_panels);
    r.area = (float *)(void *)(cpu->scratch + tiles_share);
    int64_t slots = r.slots * batch->groups;
    int64_t fit = left / (r.slot_panels * r.k_max * RT_PANEL * (int64_t)sizeof(float));
    r.chunk = packed ? slots : rt_min(fit, slots);
    /* a block of tiles fills its share of L2, unless that leaves threads without work */
    int64_t tiles = rt_ceil_div(rows, r.isa->tile_rows), want = UNITS_THREAD * threads;
    r.tiles_block = rt_max(1, TILE_FLOATS / (r.isa->tile_rows * r.k_max));
    if (threads > 1)
        r.tiles_block = rt_min(r.tiles_block, rt_max(BLOCK_MIN, tiles / want));
    r.parts = threads > 1 ? rt_ceil_div(want, rt_ceil_div(tiles, r.tiles_block)) : 1;

    walkers_begin(d, threads);
    for (r.k0 = 0; r.k0 < rt_max(k, 1); r.k0 += RT_K_BLOCK)
        for (r.slot0 = 0; r.slot0 < slots; r.slot0 = r.slot1) {
            r.slot1 = rt_min(slots, r.slot0 + r.chunk);
            run_chunk(&r, d, threads);
        }
}

static struct rt_matrix matrix_of(const rt_tensor *b, bool t)
{
    int64_t rows = b->dim[b->rank - 2], columns = b->dim[b->rank - 1];
    rt_dtype dtype = b->piece ? b->piece->dtype : b->dtype;
    return (struct rt_matrix){ b->data, dtype, t, columns, t ? rows : columns, .piece = b->piece };
}

static void matmul(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                   bool tb, float beta)
{
    struct product p = {
        .a = rt_f32(a),
        .lda = a->dim[1],
        .ta = ta,
        .m = a->dim[ta],
        .k = a->dim[!ta],
        .b = matrix_of(b, tb),
        .panels = tb ? b->panels : NULL,
        .c = rt_f32(c),
        .ldc = c->dim[1],
        .add = beta != 0.0f,
    };
    struct batch one = { .first = p, .groups = 1 };
    run_batch(d, &one);
}

static int64_t panel_floats(int64_t n, int64_t k) { return rt_align_up(n, RT_PANEL) * k; }

static void matmul_grouped(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                           bool tb, const rt_tensor *offset, float beta)
{
    struct product p = {
        .a = rt_f32(a),
        .lda = a->dim[1],
        .ta = ta,
        .m = ta ? a->dim[1] : 0,
        .k = ta ? 0 : a->dim[1],
        .b = matrix_of(b, tb),
        .panels = tb && !ta ? b->panels : NULL,
        .c = rt_f32(c),
        .ldc = c->dim[c->rank - 1],
        .add = beta != 0.0f,
    };
    struct batch experts = { .first = p, .groups = offset->dim[0] - 1, .offset = rt_i32(offset) };
    if (ta) {
        experts.c_step = c->dim[1] * c->dim[2];
    } else {
        experts.piece_step = 1;
        experts.b_step = rt_dtype_bytes(b->dtype, b->dim[1] * b->dim[2]);
        experts.panels_step = panel_floats(b->dim[1], b->dim[2]);
    }
    run_batch(d, &experts);
}

static void matmul_heads(rt_dev *d, rt_tensor *c, int64_t c0, const rt_tensor *a, int64_t a0,
                         const rt_tensor *w, int64_t w0, int64_t n, bool tb)
{
    int64_t heads = w->dim[0], rows = w->dim[1], cols = w->dim[2];
    const uint8_t *data = w->data;
    if (data)
        data += rt_dtype_bytes(w->dtype, w0 * cols);
    struct product p = {
        .a = rt_f32(a) + a0,
        .lda = heads * a->dim[2],
        .m = a->dim[0],
        .k = tb ? cols : n,
        .b = { data, w->piece ? w->piece->dtype : w->dtype, tb, cols, tb ? n : cols,
               .piece = w->piece, .row0 = w0 },
        .c = rt_f32(c) + c0,
        .ldc = heads * c->dim[2],
    };
    struct batch by_head = {
        .first = p,
        .groups = heads,
        .a_step = a->dim[2],
        .c_step = c->dim[2],
        .b_step = rt_dtype_bytes(w->dtype, rows * cols),
        .piece_rows = rows,
    };
    run_batch(d, &by_head);
}

/* --- weights packed once -------------------------------------------------------------------------
 */

static int64_t panels_bytes(rt_dev *d, const rt_tensor *w)
{
    (void)d;
    int64_t experts = w->rank == 3 ? w->dim[0] : 1;
    return experts * panel_floats(w->dim[w->rank - 2], w->dim[w->rank - 1]) *
           (int64_t)sizeof(float);
}

struct weight_job {
    const struct rt_isa *isa;
    struct rt_matrix b;
    float *panels;
    int64_t count, k, step; /* panels of a matrix; bytes between two */
};

static void pack_panel(void *ctx, int64_t unit, int member)
{
    const struct weight_job *j = ctx;
    struct rt_matrix one = j->b;
    (void)member;
    one.data = (const uint8_t *)j->b.data + unit / j->count * j->step;
    j->isa->pack_panels(j->panels + unit * j->k * RT_PANEL, 0, &one, unit % j->count, 1, 0, j->k);
}

static void pack_weight(rt_dev *d, void *panels, const rt_tensor *w)
{
    struct weight_job job = { .isa = rt_cpu_isa(d), .b = matrix_of(w, true), .panels = panels };
    int64_t experts = w->rank == 3 ? w->dim[0] : 1;
    job.k = job.b.ld;
    job.count = rt_ceil_div(job.b.n, RT_PANEL);
    job.step = rt_dtype_bytes(w->dtype, job.b.n * job.k);
    rt_cpu_run(d, pack_panel, &job, experts * job.count,
               rt_cpu_threads(d, experts * job.count * job.k * 8));
}

/* --- workspace -----------------------------------------------------------------------------------
 */

static void need_panels(rt_dev *d, int64_t floats)
{
    int64_t bytes = rt_max(PANEL_BYTES_MIN,
                           rt_min(PANEL_BYTES_MAX, floats * (int64_t)sizeof(float)));
    struct rt_cpu *cpu = rt_cpu_of(d);
    cpu->scratch_need = rt_max(cpu->scratch_need, cpu->threads * tile_bytes() + bytes);
}

void rt_cpu_need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k)
{
    need_panels(d, groups * panel_floats(n, rt_min(k, RT_K_BLOCK)));
}

void rt_cpu_matmul_ops(rt_ops *ops)
{
    ops->matmul = matmul;
    ops->matmul_grouped = matmul_grouped;
    ops->matmul_heads = matmul_heads;
    ops->panels_bytes = panels_bytes;
    ops->pack_weight = pack_weight;
}
