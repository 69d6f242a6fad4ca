/* matmul.h: what the two ways of a matrix product share: the description of a batch of products, what
   a thread remembers between units, the rows it packs. Private to matmul.c and thin.c. */
#ifndef RT_CPU_MATMUL_H
#define RT_CPU_MATMUL_H

#include "core/device/cpu/cpu.h"

enum {
    TILE_FLOATS = 1 << 17, /* packed rows of a thread: half a megabyte, a part of L2 */
    THIN_ROWS = 128,       /* products of at most so many rows go piece by piece (thin.c) */
    THIN_PANELS = 4,       /* columns of a unit of such a product, in panels */
    THIN_PIECE = 64        /* of k: THIN_PANELS panels of it lie in L1 */
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
    int64_t next_unit; /* of few rows: the one after the last, whose weights were asked for */
};

/* A piece that lies transposed is a matrix in the other form. */
static inline void lay_transposed(struct rt_matrix *b)
{
    const rt_piece *p = b->piece;
    int64_t block = rt_dtype_get(p->dtype)->block;
    b->data = p->data + rt_dtype_bytes(p->dtype, p->step == 2 ? 0 : p->first);
    b->ld = p->row_bytes / rt_dtype_bytes(p->dtype, block) * block;
    b->t = !b->t;
    b->interleaved = p->step == 2 ? 1 + (int)p->first : 0;
    b->piece = NULL;
}

static inline struct product product_at(const struct batch *b, int64_t g)
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
    if (p.b.piece && p.b.piece->transposed)
        lay_transposed(&p.b);
    return p;
}

/* Nothing to do in this block of k: past its end, or an empty sum added to what is there. */
static inline bool idle(const struct product *p, int64_t k0)
{
    return p->m == 0 || (p->k <= k0 && (k0 > 0 || p->add));
}

static inline int64_t block_length(const struct product *p, int64_t k0)
{
    return rt_min(p->k - k0, RT_K_BLOCK);
}

static inline int64_t tiles_of(const struct run *r, const struct product *p)
{
    return rt_ceil_div(p->m, r->isa->tile_rows);
}

static inline int64_t tile_row(const struct product *p, int64_t tile, int64_t tiles)
{
    return p->m * tile / tiles; /* tiles of nearly equal height */
}

enum {
    THIN_FLOATS = THIN_PANELS * THIN_PIECE * RT_PANEL, /* widened columns of a piece */
    SUM_FLOATS = THIN_ROWS * THIN_PANELS * RT_PANEL,   /* chains of a unit */
    WALKER_FLOATS = 128,                               /* its struct walker, first */
    THREAD_FLOATS = WALKER_FLOATS + TILE_FLOATS + THIN_FLOATS + SUM_FLOATS
};

static inline int64_t tile_bytes(void) { return THREAD_FLOATS * (int64_t)sizeof(float); }

/* What a member remembers from unit to unit lies before its tiles. */
static inline struct walker *walker_of(const rt_dev *d, int member)
{
    _Static_assert(sizeof(struct walker) <= WALKER_FLOATS * sizeof(float), "room for a walker");
    return (struct walker *)(void *)(rt_cpu_of(d)->scratch + member * tile_bytes());
}

void rt_cpu_walkers_begin(const rt_dev *d, int threads);
/* Rows of tiles [begin, end) of w->p into w->tiles, each [k][m]. */
void rt_cpu_pack_block(const struct run *r, struct walker *w, int64_t begin, int64_t end);

/* Few rows: whether the call is one for thin.c; and that call. */
bool rt_cpu_is_thin(const struct run *r);
void rt_cpu_run_thin(struct run *r, rt_dev *d, int threads);

#endif
