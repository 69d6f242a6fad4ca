/* int8.c: products of the precision "int8" (int8.h): which weights go this way, their packing, and
   the loops around the tiles of isa_int8.c. Rows are rounded some at a time, all threads together;
   then units of some panels times all of these rows are computed. Refuses: weights that lie
   transposed or under scales of their own, and dtypes that are not in the table; their products are
   exact (matmul.c). */
#include "core/device/cpu/int8.h"

#include <string.h>

#include "core/device/cpu/cpu.h"

enum {
    CHUNK = 128,           /* rows rounded together: with their sums they lie in L2 */
    SUPER = 8,             /* blocks of a super-block */
    UNIT_BYTES = 64 << 10, /* of panels: few rows' unit, when there are enough for all threads */
    UNITS_THREAD = 4,
    ROUND_WORK = 8, /* of a number that is rounded, in multiply-adds */
    WORK = 32       /* multiply-adds that take as long as what rt_cpu_threads counts */
};

static const struct form {
    rt_dtype dtype;
    int bits;
    enum rt_int8_scales scales;
    int zero;
} forms[RT_INT8_KINDS] = {
#define FORM(name, dtype, bits, scales, zero) { dtype, bits, scales, zero },
    RT_INT8_FORMS(FORM)
#undef FORM
};

/* --- which ------------------------------------------------------------------------------------ */

const struct rt_int8_isa *rt_int8_get(rt_simd most, int i)
{
    static const struct rt_int8_isa *const all[] = {
#if defined(__x86_64__) || defined(__i386__)
        &rt_int8_avx512_vnni,
        &rt_int8_avx512,
        &rt_int8_avx2_vnni,
        &rt_int8_avx2,
#endif
        &rt_int8_scalar,
    };
    for (int n = 0; n < RT_COUNT(all); n++)
        if (all[n]->simd <= most && (!all[n]->vnni || rt_simd_vnni(all[n]->simd)) && i-- == 0)
            return all[n];
    return NULL;
}

static int kind_of(const rt_tensor *w)
{
    rt_dtype dtype = w->piece ? w->piece->dtype : w->dtype;
    int kind = 0;
    while (kind < RT_INT8_KINDS && forms[kind].dtype != dtype)
        kind++;
    return kind;
}

bool rt_int8_takes(const rt_dev *d, const rt_tensor *w)
{
    if (!rt_cpu_of(d)->int8 || kind_of(w) == RT_INT8_KINDS)
        return false;
    for (int64_t e = 0; w->piece && e < (w->rank == 3 ? w->dim[0] : 1); e++)
        if (w->piece[e].code != RT_CODE_ROWS || w->piece[e].transposed ||
            w->piece[e].dtype != w->piece->dtype)
            return false;
    return true;
}

/* --- packing ---------------------------------------------------------------------------------- */

static bool is_super(const struct form *f)
{
    return f->scales == RT_INT8_K || f->scales == RT_INT8_HALVES;
}

/* Bytes of scales ahead of a super-block, and of each block. */
static int64_t head_bytes(const struct form *f)
{
    return f->scales == RT_INT8_K ? 64 : f->scales == RT_INT8_HALVES ? 32 : 0;
}
static int64_t scale_bytes(const struct form *f) { return f->scales == RT_INT8_MIN ? 64 : 32; }

static int64_t panel_bytes(const struct form *f, int64_t k)
{
    int64_t blocks = k / RT_INT8_BLOCK;
    return blocks * (scale_bytes(f) + 64 * f->bits) + blocks / SUPER * head_bytes(f);
}

static int64_t matrix_bytes(const rt_tensor *w)
{
    const struct form *f = &forms[kind_of(w)];
    int64_t panels = rt_ceil_div(w->dim[w->rank - 2], RT_INT8_PANEL);
    return rt_align_up(panels * panel_bytes(f, w->dim[w->rank - 1]), RT_CACHE_LINE);
}

int64_t rt_int8_bytes(const rt_tensor *w)
{
    return (w->rank == 3 ? w->dim[0] : 1) * matrix_bytes(w);
}

/* Codes of block b (of a super-block) of what is stored at p. */
static void take_codes(uint8_t code[32], rt_dtype dtype, const uint8_t *p, int b)
{
    const uint8_t *nibbles = p + 2, *fifth = NULL;
    switch (dtype) {
    case RT_Q8_0:
        for (int j = 0; j < 32; j++)
            code[j] = (uint8_t)(p[2 + j] ^ 128);
        return;
    case RT_Q4_K:
    case RT_Q5_K:
        nibbles = p + (dtype == RT_Q4_K ? 16 : 48) + b / 2 * 32;
        for (int j = 0; j < 32; j++)
            code[j] = (uint8_t)((nibbles[j] >> (b % 2 * 4) & 15) |
                                (dtype == RT_Q5_K ? (p[16 + j] >> b & 1) << 4 : 0));
        return;
    case RT_Q6_K:
        nibbles = p + b / 4 * 64 + b % 2 * 32;
        for (int j = 0; j < 32; j++)
            code[j] = (uint8_t)((nibbles[j] >> (b % 4 / 2 * 4) & 15) |
                                (p[128 + b / 4 * 32 + j] >> (b % 4 * 2) & 3) << 4);
        return;
    case RT_Q4_1:
        nibbles = p + 4;
        break;
    case RT_Q5_0:
        fifth = p + 2;
        nibbles = p + 6;
        break;
    case RT_Q5_1:
        fifth = p + 4;
        nibbles = p + 8;
        break;
    default:
        break;
    }
    for (int j = 0; j < 32; j++) {
        code[j] = (uint8_t)(nibbles[j % 16] >> (j / 16 * 4) & 15);
        if (fifth)
            code[j] = (uint8_t)(code[j] | (fifth[j / 8] >> (j % 8) & 1) << 4);
    }
}

/* The scales of row `lane` and block b at out; of the first of a super-block those ahead of it,
   too. */
static void put_scales(uint8_t *out, const struct form *f, const uint8_t *p, int lane, int b)
{
    if (f->scales == RT_INT8_HALVES) {
        if (b == 0)
            memcpy(out - 32 + 2 * lane, p + 208, 2);
        out[lane] = p[192 + 2 * b];
        out[16 + lane] = p[193 + 2 * b];
        return;
    }
    if (f->scales != RT_INT8_K) {
        memcpy(out + 2 * lane, p, 2);
        if (f->scales == RT_INT8_MIN)
            memcpy(out + 32 + 2 * lane, p + 2, 2);
        return;
    }
    const uint8_t *s = p + 4;
    if (b == 0) {
        memcpy(out - 64 + 2 * lane, p, 2);
        out[-32 + 2 * lane] = p[2];
        out[-31 + 2 * lane] = p[3] ^ 128;
    }
    out[lane] = (uint8_t)(b < 4 ? s[b] & 63 : (s[b + 4] & 15) | (s[b - 4] >> 6) << 4);
    out[16 + lane] = (uint8_t)(b < 4 ? s[b + 4] & 63 : s[b + 4] >> 4 | (s[b] >> 6) << 4);
}

static void put_codes(uint8_t *out, int bits, int lane, const uint8_t code[32])
{
    for (int k = 0; k < 32; k++) {
        int g = k / 4, at = 4 * lane + k % 4, high = code[k] >> 4;
        if (bits == 8) {
            out[64 * g + at] = code[k];
            continue;
        }
        uint8_t *low = &out[g / 2 * 64 + at];
        *low = (uint8_t)(g % 2 ? *low | (code[k] & 15) << 4 : code[k] & 15);
        uint8_t *more = &out[256 + (bits == 6 ? g / 4 * 64 : 0) + at];
        int shift = bits == 6 ? g % 4 * 2 : g;
        if (bits > 4)
            *more = (uint8_t)(shift ? *more | high << shift : high);
    }
}

struct pack_job {
    const rt_tensor *w;
    const struct form *form;
    uint8_t *out;
    int64_t panels; /* of a matrix */
};

static const uint8_t *stored_row(const rt_tensor *w, int64_t e, int64_t r)
{
    int64_t rows = w->dim[w->rank - 2], k = w->dim[w->rank - 1];
    if (w->piece)
        return w->piece[e].data + rt_piece_row(&w->piece[e], r) * w->piece[e].row_bytes;
    return (const uint8_t *)w->data + rt_dtype_bytes(w->dtype, (e * rows + r) * k);
}

/* Rows past the last are zeros. */
static void pack_unit(void *ctx, int64_t unit, int member)
{
    const struct pack_job *j = ctx;
    const struct form *f = j->form;
    int64_t e = unit / j->panels, panel = unit % j->panels, k = j->w->dim[j->w->rank - 1];
    int64_t rows = rt_min(RT_INT8_PANEL, j->w->dim[j->w->rank - 2] - panel * RT_INT8_PANEL);
    int64_t bytes = panel_bytes(f, k), step = rt_dtype_get(f->dtype)->block_bytes;
    uint8_t *begin = j->out + e * matrix_bytes(j->w) + panel * bytes, code[32];
    (void)member;
    if (rows < RT_INT8_PANEL)
        memset(begin, 0, (size_t)bytes);
    for (int lane = 0; lane < rows; lane++) {
        const uint8_t *p = stored_row(j->w, e, panel * RT_INT8_PANEL + lane);
        uint8_t *out = begin;
        for (int64_t block = 0; block < k / RT_INT8_BLOCK; block++) {
            int b = is_super(f) ? (int)(block % SUPER) : 0;
            out += is_super(f) && b == 0 ? head_bytes(f) : 0;
            put_scales(out, f, p, lane, b);
            take_codes(code, f->dtype, p, b);
            put_codes(out + scale_bytes(f), f->bits, lane, code);
            out += scale_bytes(f) + 64 * f->bits;
            p += !is_super(f) || b == SUPER - 1 ? step : 0;
        }
    }
}

void rt_int8_pack(rt_dev *d, void *panels, const rt_tensor *w)
{
    struct pack_job job = { .w = w, .form = &forms[kind_of(w)], .out = panels };
    int64_t matrices = w->rank == 3 ? w->dim[0] : 1, k = w->dim[w->rank - 1];
    job.panels = rt_ceil_div(w->dim[w->rank - 2], RT_INT8_PANEL);
    rt_cpu_run(d, pack_unit, &job, matrices * job.panels,
               rt_cpu_threads(d, matrices * job.panels * RT_INT8_PANEL * k));
}

/* --- a product -------------------------------------------------------------------------------- */

struct product_job {
    const struct rt_int8_isa *isa;
    const struct rt_int8_product *p;
    const struct form *form;
    int kind;
    int64_t k, n, panels, panel_bytes;
    const uint8_t *data;
    struct rt_int8_block *x;        /* of the rows of the chunk, tile after tile */
    int64_t row0, rows;             /* the chunk */
    int64_t panels_unit, rows_unit; /* the last unit may have less */
};

/* Rows of the tile that begins where `left` rows are left. */
static int64_t tile_rows(const struct rt_int8_isa *isa, int64_t left)
{
    int64_t m = isa->rows;
    while (m > left)
        m /= 2;
    return m;
}

static void round_unit(void *ctx, int64_t unit, int member)
{
    const struct product_job *j = ctx;
    int64_t begin = unit * j->rows_unit, end = rt_min(j->rows, begin + j->rows_unit);
    (void)member;
    for (int64_t row = begin, m; row < end; row += m) {
        m = tile_rows(j->isa, j->rows - row);
        for (int64_t i = 0; i < m; i++)
            j->isa->round(j->x + row * (j->k / RT_INT8_BLOCK) + i, m,
                          j->p->a + (j->row0 + row + i) * j->p->lda, j->k, j->form->zero,
                          j->form->scales == RT_INT8_HALVES);
    }
}

static void store(const struct product_job *j, int64_t panel, int64_t row, int64_t m,
                  const float *tile)
{
    int64_t columns = rt_min(RT_INT8_PANEL, j->n - panel * RT_INT8_PANEL);
    for (int64_t i = 0; i < m; i++, tile += RT_INT8_PANEL) {
        float *c = j->p->c + (j->row0 + row + i) * j->p->ldc + panel * RT_INT8_PANEL;
        for (int64_t n = 0; n < columns; n++)
            c[n] = j->p->add ? c[n] + tile[n] : tile[n];
    }
}

static void product_unit(void *ctx, int64_t unit, int member)
{
    const struct product_job *j = ctx;
    float tile[RT_INT8_ROWS * RT_INT8_PANEL];
    int64_t end = rt_min(j->panels, (unit + 1) * j->panels_unit), blocks = j->k / RT_INT8_BLOCK;
    (void)member;
    for (int64_t panel = unit * j->panels_unit; panel < end; panel++)
        for (int64_t row = 0, m; row < j->rows; row += m) {
            m = tile_rows(j->isa, j->rows - row);
            int log = m == 8 ? 3 : m == 4 ? 2 : (int)m - 1;
            j->isa->dot[j->kind][log](j->data + panel * j->panel_bytes, blocks, j->x + row * blocks,
                                      tile);
            store(j, panel, row, m, tile);
        }
}

void rt_int8_run(rt_dev *d, const struct rt_int8_product *p)
{
    const rt_tensor *w = p->w;
    struct product_job job = { .isa = rt_cpu_of(d)->int8, .p = p, .kind = kind_of(w) };
    job.form = &forms[job.kind];
    job.k = w->dim[w->rank - 1];
    job.n = w->dim[w->rank - 2];
    job.panels = rt_ceil_div(job.n, RT_INT8_PANEL);
    job.panel_bytes = panel_bytes(job.form, job.k);
    job.data = (const uint8_t *)w->panels + p->e * matrix_bytes(w);
    if (rt_int8_workspace(job.k) > rt_cpu_of(d)->scratch_size)
        rt_bug("matmul: no workspace: no dry run had a product");
    job.x = (struct rt_int8_block *)(void *)rt_cpu_of(d)->scratch;
    job.rows_unit = RT_INT8_ROWS;
    for (; job.row0 < p->m; job.row0 += CHUNK) {
        job.rows = rt_min(CHUNK, p->m - job.row0);
        int64_t work = job.rows * job.k;
        rt_cpu_run(d, round_unit, &job, rt_ceil_div(job.rows, job.rows_unit),
                   rt_cpu_threads(d, work / ROUND_WORK));
        int threads = rt_cpu_threads(d, work * job.n / WORK);
        job.panels_unit = rt_min(UNIT_BYTES / job.panel_bytes,
                                 job.panels / (threads * UNITS_THREAD));
        job.panels_unit = rt_max(1, threads > 1 ? job.panels_unit : job.panels);
        rt_cpu_run(d, product_unit, &job, rt_ceil_div(job.panels, job.panels_unit), threads);
    }
}

int64_t rt_int8_workspace(int64_t k)
{
    return CHUNK * rt_ceil_div(k, RT_INT8_BLOCK) * (int64_t)sizeof(struct rt_int8_block);
}
