/* matmul.c: matrix products of the CPU backend: the loops around the tile kernel of isa_matmul.h.
   Every product, plain, grouped by expert or by head, is a batch of products of equal width; those
   of few rows go to thin.c. b is packed into panels of 32 columns, a chunk of panels at a time,
   unless it was packed before; then units (block of row tiles x part of the panels) are computed, a
   thread packing its rows of a once a block. There are as many blocks as keep threads of unequal
   speed busy, and parts only when rows are too few for that: a block in two parts may be packed
   twice. Numeric contract (ops.h): k goes in blocks of 2048, whose sums are added to c in order;
   inside a block the tile kernel is one chain. Threads and tiles split outputs only. Allocates
   nothing: rt_cpu_need_product plans the workspace. */
#include "core/device/cpu/matmul.h"
#include "core/device/cpu/int8.h"

#include <string.h>

enum {
    SLOT_PANELS = 8, /* panels packed together: 256 columns, a multiple of any block */
    PIECE = 256,     /* of k packed by one unit of work */
    TILE_PIECE = 32, /* of k packed for one tile before the next */
    PANEL_BYTES_MIN = SLOT_PANELS * RT_PANEL * RT_K_BLOCK * 4, /* one slot always fits */
    PANEL_BYTES_MAX = 32 << 20,
    ROWS_MAX = 14,
    UNITS_THREAD = 16, /* units a thread should find at least, so that the last ones end together */
    BLOCK_MIN = 2      /* tiles of a block below which more units would cost more packing */
};

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
void rt_cpu_pack_block(const struct run *r, struct walker *w, int64_t begin, int64_t end)
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
        rt_cpu_pack_block(r, w, begin, end);
    w->packed_group = w->group;
    w->packed_block = block;
    w->packed_k0 = r->k0;
    for (int64_t n = count * part / parts; n < count * (part + 1) / parts; n++)
        compute_panel(r, w, begin, end, first + n);
}

void rt_cpu_walkers_begin(const rt_dev *d, int threads)
{
    for (int i = 0; i < threads; i++) {
        struct walker *w = walker_of(d, i);
        memset(w, 0, sizeof *w);
        w->packed_group = w->packed_k0 = w->next_unit = -1;
        w->tiles = (float *)(void *)w + WALKER_FLOATS;
    }
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
    if (rt_cpu_is_thin(&r)) {
        rt_cpu_run_thin(&r, d, threads);
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

    rt_cpu_walkers_begin(d, threads);
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

/* One product a head: columns c0 on of c's rows of (heads, c_step) from columns a0 on of a's of
   (heads, a_step); a_step 0: a is the same for all. */
struct heads {
    const rt_tensor *a, *c;
    int64_t a0, a_step, c0, c_step, n;
    bool add;
};

static void run_heads(rt_dev *d, const struct heads *h, const struct rt_matrix *b, int64_t k,
                      int64_t b_step, int64_t piece_rows)
{
    struct product p = {
        .a = rt_f32(h->a) + h->a0,
        .lda = h->a->dim[h->a->rank - 1] * (h->a_step ? h->n : 1),
        .m = h->a->dim[0],
        .k = k,
        .b = *b,
        .c = rt_f32(h->c) + h->c0,
        .ldc = h->c_step * h->n,
        .add = h->add,
    };
    struct batch by_head = {
        .first = p,
        .groups = h->n,
        .a_step = h->a_step,
        .c_step = h->c_step,
        .b_step = b_step,
        .piece_rows = piece_rows,
    };
    run_batch(d, &by_head);
}

/* The same with the keys, or the values, of a latent. */
static void run_latent(rt_dev *d, const struct heads *h, const rt_piece *w, bool keys, bool tb)
{
    int64_t rank = w->transposed, wide = keys ? w->scale_rows : rank;
    int64_t high = keys ? rank : w->scale_cols;
    struct rt_matrix b = { .data = keys ? w->scale : w->data,
                           .dtype = keys ? w->scale_dtype : w->dtype,
                           .t = tb != keys,
                           .ld = wide };
    b.n = b.t ? high : wide;
    run_heads(d, h, &b, b.t ? wide : high, rt_dtype_bytes(b.dtype, wide * high), 0);
}

static bool packed_int8(const rt_dev *d, const rt_tensor *a, bool ta, const rt_tensor *b, bool tb)
{
    return tb && !ta && b->panels && a->dim[0] > 0 && rt_int8_takes(d, b);
}

/* One product, or one an expert. */
static void run_int8(rt_dev *d, rt_tensor *c, const rt_tensor *a, const rt_tensor *b,
                     const int32_t *offset, float beta)
{
    struct rt_int8_product p = { .lda = a->dim[1],
                                 .ldc = c->dim[1],
                                 .w = b,
                                 .add = beta != 0.0f };
    for (; p.e < (offset ? b->dim[0] : 1); p.e++) {
        int64_t row = offset ? offset[p.e] - offset[0] : 0;
        p.m = offset ? offset[p.e + 1] - offset[p.e] : a->dim[0];
        p.a = rt_f32(a) + row * p.lda;
        p.c = rt_f32(c) + row * p.ldc;
        rt_int8_run(d, &p);
    }
}

static void matmul(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                   bool tb, float beta)
{
    if (b->piece && b->piece->code == RT_CODE_LATENT) {
        int64_t keys = b->piece->scale_rows, each = keys + b->piece->scale_cols;
        struct heads h = {
            .a = a, .c = c, .c_step = each, .n = c->dim[1] / each, .add = beta != 0.0f
        };
        run_latent(d, &h, b->piece, true, tb);
        h.c0 = keys;
        run_latent(d, &h, b->piece, false, tb);
        return;
    }
    if (packed_int8(d, a, ta, b, tb)) {
        run_int8(d, c, a, b, NULL, beta);
        return;
    }
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
    if (packed_int8(d, a, ta, b, tb)) {
        run_int8(d, c, a, b, rt_i32(offset), beta);
        return;
    }
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
    int64_t rows = w->dim[1], cols = w->dim[2];
    struct heads h = { a, c, a0, a->dim[2], c0, c->dim[2], w->dim[0], false };
    if (w->piece && w->piece->code == RT_CODE_LATENT) {
        bool keys = w0 == 0;
        if (w0 != (keys ? 0 : w->piece->scale_rows) ||
            n != (keys ? w->piece->scale_rows : w->piece->scale_cols))
            rt_bug("matmul_heads: rows %lld + %lld of a latent", (long long)w0, (long long)n);
        run_latent(d, &h, w->piece, keys, tb);
        return;
    }
    struct rt_matrix b = matrix_of(w, tb);
    b.n = tb ? n : cols;
    b.row0 = w0;
    if (b.data)
        b.data = (const uint8_t *)b.data + rt_dtype_bytes(w->dtype, w0 * cols);
    run_heads(d, &h, &b, tb ? cols : n, rt_dtype_bytes(w->dtype, rows * cols), rows);
}

/* --- weights packed once -------------------------------------------------------------------------
 */

static int64_t panels_bytes(rt_dev *d, const rt_tensor *w)
{
    if (rt_int8_takes(d, w))
        return rt_int8_bytes(w);
    if (w->piece)
        return 0;
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
    if (rt_int8_takes(d, w)) {
        rt_int8_pack(d, panels, w);
        return;
    }
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
    rt_cpu_need_scratch(d, rt_cpu_of(d)->threads * tile_bytes() + bytes);
}

void rt_cpu_need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                         const rt_tensor *b)
{
    (void)a; /* every operand becomes the same panels */
    if (rt_int8_takes(d, b))
        rt_cpu_need_scratch(d, rt_int8_workspace(k));
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
