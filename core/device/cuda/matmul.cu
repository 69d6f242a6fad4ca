/* matmul.cu: matrix products: plain, grouped by expert, by head, from weights in any form. Says
   which kernel makes one, and holds that of f32: a block makes a tile of one product, a thread 4 x
   4 of its elements, in the order of the CPU's contract (ops.h), so that the bits are the CPU's.
   Activations are f32 then (rt_dev.act).
     Where products round to bf16 (struct rt_cuda) there are three others: of few rows, in f32 from
   the codes (matmul_vector.cu), on tensor cores (matmul_tile.cu), and cuBLASLt for many rows by
   plain weights (matmul_blas.cu). Each gives a row the same bits whatever rows come with it; which
   one it is depends on their number. A fourth rounds further and does not (matmul_fp8.cu). */
#include "core/device/cuda/matmul.h"

enum { K_BLOCK = 2048 }; /* of the CPU's contract: sums of blocks of k are added in order */
enum { TILE = 64, INNER = 16, EACH = 4, THREADS = TILE / EACH * (TILE / EACH) };

/* c = sum, or += sum, where the tile lies inside; sum = 0. */
TEAM_FN void put_tile(const struct products *p, const struct tile *t, float *c, int64_t n0,
                      float sum[EACH][EACH], bool add)
{
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            int64_t m = t->m0 + threadIdx.x / (TILE / EACH) * EACH + i;
            int64_t n = n0 + threadIdx.x % (TILE / EACH) + j * (TILE / EACH);
            if (m < t->m && n < p->n) {
                float *to = c + m * p->ldc + n;
                *to = add ? *to + sum[i][j] : sum[i][j];
            }
            sum[i][j] = 0.0f;
        }
}

static __global__ void __launch_bounds__(THREADS) product_kernel(const struct products p)
{
    BLOCK_SHARED(float, as, INNER * (TILE + 1));
    BLOCK_SHARED(float, bs, INNER * (TILE + 1));
    struct tile t;
    if (!find_tile(&p, blockIdx.y, TILE, &t)) /* the whole block */
        return;
    const rt_piece b = matrix_of_product(&p, t.g);
    int64_t n0 = (int64_t)blockIdx.x * TILE, b_first = first_row_of_b(&p, &t);
    const float *a = (const float *)p.a + t.g * p.a_step + t.row0 * p.lda;
    float *c = (float *)p.c + t.g * p.c_step + (p.ta ? 0 : t.row0 * p.ldc);
    int tx = threadIdx.x % (TILE / EACH), ty = threadIdx.x / (TILE / EACH);
    float sum[EACH][EACH];
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            sum[i][j] = 0.0f;
    bool add = p.add;
    for (int64_t k0 = 0; k0 < t.k; k0 += INNER) {
        for (int i = threadIdx.x; i < TILE * INNER; i += THREADS) {
            /* neighbours read neighbours, whichever way the operand lies */
            int ak = p.ta ? i / TILE : i % INNER, am = p.ta ? i % TILE : i / INNER;
            int bk = p.tb ? i % INNER : i / TILE, bn = p.tb ? i / INNER : i % TILE;
            int64_t k = k0 + ak, m = t.m0 + am, n = n0 + bn;
            as[ak * (TILE + 1) + am] = k < t.k && m < t.m ? a[p.ta ? k * p.lda + m : m * p.lda + k]
                                                          : 0.0f;
            k = k0 + bk;
            int64_t row = b_first + (p.tb ? n : k);
            bs[bk * (TILE + 1) + bn] = k < t.k && n < p.n
                                           ? decode_piece(&b, decode_row(&b, row), p.tb ? k : n)
                                           : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < INNER; k++) {
            float x[EACH], y[EACH];
            for (int i = 0; i < EACH; i++) {
                x[i] = as[k * (TILE + 1) + ty * EACH + i];
                y[i] = bs[k * (TILE + 1) + tx + i * (TILE / EACH)];
            }
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++)
                    sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
        }
        __syncthreads();
        if ((k0 + INNER) % K_BLOCK == 0 && k0 + INNER < t.k) {
            put_tile(&p, &t, c, n0, sum, add);
            add = true;
        }
    }
    put_tile(&p, &t, c, n0, sum, add);
}

/* --- launches ------------------------------------------------------------------------------------- */

/* rows: of all the products together, or each one's where they have no offset. */
static void run(rt_dev *d, const struct products *p, int64_t rows)
{
    int64_t tiles = rt_cuda_tiles_of_rows(p, rows, TILE);
    if (tiles <= 0 || p->n <= 0)
        return;
    if (rt_cuda_of(d)->bf16) {
        if (!rt_cuda_product_vector(d, p, rows) && !rt_cuda_product_fp8(d, p) &&
            !rt_cuda_product_blas(d, p))
            rt_cuda_product_tile(d, p, rows);
        return;
    }
    const struct products args = *p;
    dim3 grid((unsigned)rt_ceil_div(p->n, TILE), (unsigned)tiles);
    LAUNCH(product_kernel, grid, THREADS, 0, rt_cuda_of(d)->stream, args);
    rt_cuda_launched(d, "a product");
}

/* A stack whose matrices lie anywhere: as many launches as the table needs. */
static void run_pieces(rt_dev *d, struct products *p, const rt_piece *piece, int64_t n, int64_t rows)
{
    for (int64_t g = 0; g < n; g += p->count) {
        p->b.like = piece[g];
        p->b.table = true;
        p->first = g;
        for (p->count = 0; p->count < rt_min(TABLE, n - g); p->count++) {
            const rt_piece *q = &piece[g + p->count], *l = &p->b.like;
            if (q->code != l->code || q->dtype != l->dtype || q->row_bytes != l->row_bytes ||
                q->step != l->step || q->pair != l->pair || q->scale_dtype != l->scale_dtype ||
                q->scale_rows != l->scale_rows || q->scale_cols != l->scale_cols ||
                q->scale_ld != l->scale_ld || q->transposed != l->transposed)
                break;
            p->b.at[p->count].data = q->data;
            p->b.at[p->count].scale = q->scale;
            p->b.at[p->count].first = q->first;
        }
        run(d, p, rows);
    }
}

static struct matrices matrices_of(const rt_tensor *b)
{
    struct matrices m = {};
    int64_t rows = b->dim[b->rank - 2], columns = b->dim[b->rank - 1];
    if (b->piece) {
        m.like = *b->piece;
        return m;
    }
    m.like.code = RT_CODE_ROWS;
    m.like.dtype = b->dtype;
    m.like.data = (const uint8_t *)(b->panels ? b->panels : b->data);
    m.like.row_bytes = rt_dtype_bytes(b->dtype, columns);
    m.like.step = 1;
    m.each = rows * m.like.row_bytes;
    return m;
}

static void matmul(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                   bool tb, float beta)
{
    struct products p = {};
    p.a = a->data, p.a16 = a->dtype == RT_BF16, p.lda = a->dim[1], p.ta = ta;
    p.b = matrices_of(b), p.tb = tb;
    p.c = c->data, p.c16 = c->dtype == RT_BF16, p.ldc = c->dim[1], p.add = beta != 0.0f;
    p.m = c->dim[0], p.n = c->dim[1], p.k = a->dim[!ta], p.count = 1;
    run(d, &p, p.m);
}

static void matmul_grouped(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                           bool tb, const rt_tensor *offset, float beta)
{
    struct products p = {};
    p.a = a->data, p.a16 = a->dtype == RT_BF16, p.lda = a->dim[1], p.ta = ta;
    p.b = matrices_of(b), p.tb = tb;
    p.c = c->data, p.c16 = c->dtype == RT_BF16, p.ldc = c->dim[c->rank - 1], p.add = beta != 0.0f;
    p.m = ta ? a->dim[1] : 0, p.n = p.ldc, p.k = ta ? 0 : a->dim[1];
    p.count = offset->dim[0] - 1, p.offset = rt_i32(offset);
    if (ta) {
        p.c_step = c->dim[1] * c->dim[2];
        p.b.each = 0;
        run(d, &p, p.m);
    } else if (b->piece) {
        run_pieces(d, &p, b->piece, p.count, a->dim[0]);
    } else {
        run(d, &p, a->dim[0]);
    }
}

static void *element(const rt_tensor *t, int64_t at)
{
    return (uint8_t *)t->data + rt_dtype_bytes(t->dtype, at);
}

static void matmul_heads(rt_dev *d, rt_tensor *c, int64_t c0, const rt_tensor *a, int64_t a0,
                      const rt_tensor *w, int64_t w0, int64_t n, bool tb)
{
    int64_t heads = w->dim[0], rows = w->dim[1], cols = w->dim[2];
    struct products p = {};
    p.a = element(a, a0), p.a16 = a->dtype == RT_BF16;
    p.lda = heads * a->dim[2], p.a_step = a->dim[2];
    p.b = matrices_of(w), p.tb = tb;
    p.b.each = 0, p.b_step_rows = rows, p.b_row0 = w0; /* all heads' rows follow each other */
    p.c = element(c, c0), p.c16 = c->dtype == RT_BF16;
    p.ldc = heads * c->dim[2], p.c_step = c->dim[2];
    p.m = a->dim[0], p.n = tb ? n : cols, p.k = tb ? cols : n, p.count = heads;
    run(d, &p, p.m);
}

void rt_cuda_matmul_ops(rt_ops *ops)
{
    ops->matmul = matmul;
    ops->matmul_grouped = matmul_grouped;
    ops->matmul_heads = matmul_heads;
}
