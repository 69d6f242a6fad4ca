/* thin.c: matrix products of few rows. All rows of a product fit beside the columns of a unit: its
   weights are widened a piece of k at a time into L1 and multiplied there, so that they are read
   once, in their own bytes. Refuses: b that was packed before, and blocks along n that are wider
   than a panel. */
#include "core/device/cpu/matmul.h"

#include <string.h>

enum {
    THIN_BYTES = 256 << 10, /* weights of a unit, which lie in L2 when their turn comes */
    DOT_PANELS = 2          /* panels that a product of one row reads side by side, at most */
};

bool rt_cpu_is_thin(const struct run *r)
{
    struct product p = product_at(&r->batch, 0);
    bool blocks_along_n = !p.b.t && (p.b.piece || rt_dtype_get(p.b.dtype)->block > RT_PANEL);
    if (blocks_along_n || p.panels)
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
   the other; while they are read here and there, those of the next (of one row's product, those
   read side by side next) are asked for in their order. */
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
        int64_t reach = p->m == 1 ? rt_min(count, DOT_PANELS) : count;
        int64_t bytes = reach * RT_PANEL * row_bytes(&p->b);
        ahead += ((piece ? piece->first + p->b.row0 : 0) + panel0 * RT_PANEL) * row_bytes(&p->b);
        if (unit != w->next_unit) /* nobody asked for it */
            for (int64_t line = 0; line < bytes; line += 64)
                __builtin_prefetch(ahead + line, 0, 2);
        ahead += bytes;
        p->b.ahead = &ahead;
    }
    w->next_unit = panel0 + count < r.panels ? unit + 1 : -1; /* another matrix lies elsewhere */
    int64_t number[THIN_PANELS * RT_PANEL];
    if (p->b.t && piece && (piece->step != 1 || piece->pair)) {
        p->b.number0 = panel0 * RT_PANEL;
        p->b.number = number;
        for (int64_t i = 0; i < count * RT_PANEL; i++)
            number[i] = rt_piece_row(piece, p->b.row0 + rt_min(p->b.number0 + i, p->b.n - 1));
    }
    int64_t tiles = tiles_of(&r, p);
    for (r.k0 = 0; r.k0 < rt_max(p->k, 1) && !idle(p, r.k0); r.k0 += RT_K_BLOCK) {
        int64_t k = block_length(p, r.k0);
        if (w->packed_group != g || w->packed_k0 != r.k0)
            rt_cpu_pack_block(&r, w, 0, tiles);
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

void rt_cpu_run_thin(struct run *r, rt_dev *d, int threads)
{
    struct product first = product_at(&r->batch, 0);
    int64_t panel = rt_max(1, RT_PANEL * (first.b.t ? row_bytes(&first.b) : r->k_max * 4));
    r->slot_panels = rt_max(1, rt_min(THIN_PANELS, THIN_BYTES / panel));
    if (r->slot_panels > DOT_PANELS) /* whole readers */
        r->slot_panels -= r->slot_panels % DOT_PANELS;
    r->slots = rt_ceil_div(r->panels, r->slot_panels);
    int64_t units = r->slots * r->batch.groups;
    struct thin_job job = { r, d, units, rt_max(1, rt_min(8, units / (threads * 4))) };
    rt_cpu_walkers_begin(d, threads);
    rt_cpu_run(d, thin_units, &job, rt_ceil_div(units, job.chunk), threads);
}
