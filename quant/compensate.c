/* compensate.c: stretches of columns from first to last; in a stretch, sixteen rows side by side. */
#include "quant/compensate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "quant/grid.h"
#include "quant/isa.h"

enum { LANES = 16, CHUNK = 2048, PASSES = 4 };

/* Of one thread; every array is (column of the stretch, row). */
typedef struct bench {
    float x[RT_STRETCH * LANES], z[RT_STRETCH * LANES];
    float e[RT_STRETCH * LANES], q[RT_STRETCH * LANES];
    float best_e[RT_STRETCH * LANES], best_q[RT_STRETCH * LANES];
    float c[RT_STRETCH * LANES], u[RT_STRETCH * LANES], v[RT_STRETCH * LANES];
    float rows[RT_STRETCH * LANES], weight[RT_STRETCH * LANES]; /* (row, column) for the encoder */
    uint8_t block[LANES * 512];
    int8_t code[RT_GRID_MAX];
    rt_grid grid[LANES], best[LANES];
    float loss[LANES];
    struct rt_feedback f;
} bench;

typedef struct work {
    const struct rt_encode_isa *isa;
    const rt_curvature *curve;
    rt_dtype type;
    int64_t n, rows, row_bytes; /* columns; rows of the chunk */
    const float *w;             /* (rows, n) */
    uint8_t *out;
    float *errors;              /* (n, rows) */
    float *carried;             /* (rows, width) into the stretch from before it */
    float *factor;              /* (n, width) of the stretch */
    int64_t at, width;          /* the stretch */
    bench *bench;               /* (threads) */
} work;

/* Its scales are searched first. */
bool rt_compensate_supported(rt_dtype t)
{
    return rt_grid_supported(t) && rt_encode_scalar.blocks[t];
}

static float round_f16(float d) { return rt_f16_to_f32(rt_f32_to_f16(d)); }

static bool fits_f16(double d) { return isfinite(d) && fabs(d) <= 65504; }

/* ---- one unit: a block of sixteen rows ---- */

static void set_scales(bench *b)
{
    struct rt_feedback *f = &b->f;
    for (int l = 0; l < LANES; l++) {
        const rt_grid *g = &b->grid[l];
        for (int j = 0; j < g->n / g->sub; j++) {
            float s = g->d * g->level[j];
            f->scale[j][l] = s;
            f->inverse[j][l] = s != 0 ? 1 / s : 0;
            f->offset[j][l] = g->dmin * g->offset[j];
        }
    }
}

/* The encoder's own choice for what the unit is to hold: scales to begin with. */
static void unit_fit(const work *k, bench *b)
{
    const struct rt_feedback *f = &b->f;
    int64_t bytes = rt_dtype_bytes(k->type, f->n);
    for (int l = 0; l < LANES; l++)
        for (int j = 0; j < f->n; j++) {
            b->rows[l * f->n + j] = f->z[(f->first + j) * LANES + l];
            b->weight[l * f->n + j] = f->weight[f->first + j];
        }
    k->isa->blocks[k->type](b->block, b->rows, b->weight, LANES);
    for (int l = 0; l < LANES; l++)
        rt_grid_read(&b->grid[l], b->code, b->block + l * bytes, k->type);
}

/* Rows whose loss is less than the best keep what was just rounded; true if there is one. */
static bool keep_better(bench *b)
{
    const struct rt_feedback *f = &b->f;
    bool better[LANES], any = false;
    for (int l = 0; l < LANES; l++) {
        better[l] = f->loss[l] < b->loss[l];
        any |= better[l];
        if (better[l]) {
            b->loss[l] = f->loss[l];
            b->best[l] = b->grid[l];
        }
    }
    for (int j = f->first * LANES; any && j < (f->first + f->n) * LANES; j += LANES)
        for (int l = 0; l < LANES; l++) {
            b->best_e[j + l] = better[l] ? b->e[j + l] : b->best_e[j + l];
            b->best_q[j + l] = better[l] ? b->q[j + l] : b->best_q[j + l];
        }
    return any;
}

/* d and dmin that cost least under the best codes: minimise the weighted square of
   c - d u + dmin v, where c, u and v are what x, level q and offset become once carried. */
static void unit_solve(const work *k, bench *b)
{
    struct rt_feedback *f = &b->f;
    float uu[LANES], uv[LANES], vv[LANES], cu[LANES], cv[LANES];
    float *plain = b->rows; /* free since the fit */
    bool offsets = b->best[0].has_dmin;
    for (int j = 0; j < f->n; j++)
        for (int l = 0; l < LANES; l++)
            plain[(f->first + j) * LANES + l] =
                b->best[l].level[j / f->sub] * b->best_q[(f->first + j) * LANES + l];
    k->isa->spread(f, b->u, plain);
    k->isa->dot(f, uu, b->u, b->u);
    k->isa->dot(f, cu, b->c, b->u);
    if (offsets) {
        for (int j = 0; j < f->n; j++)
            for (int l = 0; l < LANES; l++)
                plain[(f->first + j) * LANES + l] = b->best[l].offset[j / f->sub];
        k->isa->spread(f, b->v, plain);
        k->isa->dot(f, uv, b->u, b->v);
        k->isa->dot(f, vv, b->v, b->v);
        k->isa->dot(f, cv, b->c, b->v);
    }
    for (int l = 0; l < LANES; l++) {
        rt_grid *g = &b->grid[l];
        *g = b->best[l];
        double a = (double)uu[l], m = 0, r = 0, det = 0, s = (double)cu[l];
        if (offsets) {
            m = (double)uv[l], r = (double)vv[l];
            det = a * r - m * m;
        }
        double d = a > 0 ? s / a : (double)g->d, dmin = (double)g->dmin;
        if (det > 1e-9 * a * r) { /* c = d u - dmin v */
            d = (s * r - m * (double)cv[l]) / det;
            dmin = (m * s - a * (double)cv[l]) / det;
        } else if (offsets && a > 0) {
            d = (s + dmin * m) / a;
        }
        if (fits_f16(d) && fits_f16(dmin)) {
            g->d = round_f16((float)d);
            g->dmin = round_f16((float)dmin);
        }
    }
}

/* What is to be held once carried inside the unit: z + what x passes on. */
static void unit_constant(const work *k, bench *b)
{
    struct rt_feedback *f = &b->f;
    k->isa->spread(f, b->c, b->x);
    for (int i = f->first * LANES; i < (f->first + f->n) * LANES; i++)
        b->c[i] = b->c[i] - b->x[i] + b->z[i];
}

static void unit_round(const work *k, bench *b)
{
    struct rt_feedback *f = &b->f;
    unit_fit(k, b);
    unit_constant(k, b);
    for (int l = 0; l < LANES; l++)
        b->loss[l] = INFINITY;
    for (int pass = 0; pass <= PASSES; pass++) {
        if (pass)
            unit_solve(k, b);
        set_scales(b);
        k->isa->round(f);
        if (!keep_better(b))
            break;
    }
    size_t bytes = (size_t)(f->n * LANES) * sizeof *b->e;
    memcpy(b->e + f->first * LANES, b->best_e + f->first * LANES, bytes);
}

/* ---- a stretch of sixteen rows, by one thread ---- */

static void group_load(const work *k, bench *b, int64_t first, int count)
{
    for (int l = 0; l < LANES; l++) {
        int64_t r = first + rt_min(l, count - 1); /* the last row stands in for those beyond */
        const float *w = k->w + r * k->n + k->at, *in = k->carried + r * k->width;
        for (int64_t j = 0; j < k->width; j++) {
            b->x[j * LANES + l] = w[j];
            b->z[j * LANES + l] = k->at ? w[j] + in[j] : w[j];
        }
    }
}

static void group_store(const work *k, bench *b, int64_t first, int count)
{
    const struct rt_feedback *f = &b->f;
    int64_t bytes = rt_dtype_bytes(k->type, f->n);
    for (int l = 0; l < count; l++) {
        uint8_t *to = k->out + (first + l) * k->row_bytes + rt_dtype_bytes(k->type, k->at + f->first);
        memcpy(to, b->block + l * bytes, (size_t)bytes);
        for (int j = 0; j < f->n; j++)
            b->code[j] = (int8_t)b->best_q[(f->first + j) * LANES + l];
        rt_grid_write(to, &b->best[l], b->code, k->type);
    }
    for (int j = f->first; j < f->first + f->n; j++)
        memcpy(k->errors + (k->at + j) * k->rows + first, b->e + j * LANES,
               (size_t)count * sizeof *b->e);
}

static void group_round(void *ctx, int64_t unit, int member)
{
    const work *k = ctx;
    bench *b = &k->bench[member];
    struct rt_feedback *f = &b->f;
    int64_t first = unit * LANES;
    int count = (int)rt_min(LANES, k->rows - first);
    rt_grid shape;
    group_load(k, b, first, count);
    rt_grid_read(&shape, b->code, b->block, k->type);
    *f = (struct rt_feedback){ .n = shape.n, .sub = shape.sub, .lo = shape.lo, .hi = shape.hi,
                               .x = b->x, .z = b->z, .e = b->e, .q = b->q, .ld = k->n,
                               .nt = k->curve->ut + k->at * k->n + k->at,
                               .weight = k->curve->weight + k->at };
    for (; f->first < k->width; f->first += f->n) {
        if (f->first)
            k->isa->carry(f, b->z, 0, f->first);
        unit_round(k, b);
        group_store(k, b, first, count);
    }
}

/* ---- a matrix ---- */

/* carried(rows, width) = errorsᵀ of columns before the stretch times their rows of U. */
static void carry_in(const rt_compensation *by, work *k)
{
    for (int64_t j = 0; k->factor && j < k->width; j++)
        for (int64_t c = 0; c < k->at; c++)
            k->factor[c * k->width + j] = k->curve->ut[(k->at + j) * k->n + c];
    rt_tensor out = rt_tensor_2(k->carried, RT_F32, k->rows, k->width);
    rt_tensor e = rt_tensor_2(k->errors, RT_F32, k->at, k->rows);
    rt_tensor u = rt_tensor_2(k->factor, RT_F32, k->at, k->width);
    rt_matmul(by->d, &out, &e, true, &u, false, 0.0f);
}

static void chunk_round(const rt_compensation *by, work *k)
{
    for (k->at = 0; k->at < k->n; k->at += RT_STRETCH) {
        k->width = rt_min(RT_STRETCH, k->n - k->at);
        if (k->at)
            carry_in(by, k);
        rt_team_run(by->team, group_round, k, rt_ceil_div(k->rows, LANES), by->threads);
    }
}

int rt_compensate(const rt_compensation *by, uint8_t *out, const float *w, rt_dtype t, int64_t rows,
                  const rt_curvature *c, rt_err *err)
{
    static const char WHAT[] = "rows to quantize";
    work k = { .curve = c, .type = t, .n = c->n, .row_bytes = rt_dtype_bytes(t, c->n) };
    if (!rt_compensate_supported(t) || !c->ut)
        rt_bug("rt_compensate: %s, %s", rt_dtype_get(t)->name, c->ut ? "factored" : "not factored");
    for (int64_t i = 0; i < rows * c->n; i++)
        if (!(fabsf(w[i]) <= 65504))
            return rt_fail(err, "row %lld, column %lld: %g cannot be %s; is this checkpoint sound?",
                           (long long)(i / c->n), (long long)(i % c->n), (double)w[i],
                           rt_dtype_get(t)->name);
    if (rt_encode_choose(&k.isa, err))
        return -1;
    int64_t most = rt_min(rows, CHUNK);
    k.errors = rt_alloc(c->n * most, sizeof *k.errors, WHAT);
    k.carried = rt_alloc(most * RT_STRETCH, sizeof *k.carried, WHAT);
    k.factor = rt_alloc(c->n * RT_STRETCH, sizeof *k.factor, WHAT);
    k.bench = rt_alloc(by->threads, sizeof *k.bench, WHAT);
    for (int64_t r = 0; r < rows; r += CHUNK) {
        k.rows = rt_min(CHUNK, rows - r);
        k.w = w + r * k.n;
        k.out = out + r * k.row_bytes;
        chunk_round(by, &k);
    }
    free(k.errors);
    free(k.carried);
    free(k.factor);
    free(k.bench);
    return 0;
}

void rt_compensate_dry(rt_dev *d, int64_t n)
{
    rt_compensation by = { .d = d };
    work k = { .n = n, .rows = CHUNK, .at = n, .width = RT_STRETCH };
    rt_curvature c = { .n = n };
    k.curve = &c;
    carry_in(&by, &k);
}

int64_t rt_compensate_bytes(int64_t n)
{
    return n * (CHUNK + RT_STRETCH) * (int64_t)sizeof(float);
}
