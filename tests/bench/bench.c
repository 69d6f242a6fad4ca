/* bench.c: how fast the CPU backend is on this machine, as shares of what the machine can do:
   fused multiply-adds from registers and memory bandwidth, measured in the same run.
     bench [--threads N] [--seconds S] [--only products|rows|stored|attention|blas]
   S: seconds spent on each row of a table.
   A row alternates short runs with bursts of pure multiply-adds that last as long on as many
   threads, and prints the median of their ratios: a core whose speed drifts (shared with strangers,
   or hot) disturbs numerator and denominator alike. OpenBLAS is loaded when present: set
   OPENBLAS_CORETYPE, or it may run kernels of another processor. Not a test. */
#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/base/team.h"
#include "core/device/ops.h"
#include "tests/bench/peak.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double row_seconds = 0.5;

/* --- one row -------------------------------------------------------------------------------------
 */

struct timing {
    double seconds, share; /* medians: of a run, and of its multiply-adds by those of a burst */
};

typedef void run_fn(void *context);

/* `operations`: of one run, multiplications and additions. */
static struct timing measure(run_fn *run, void *context, rt_dev *d, double operations)
{
    rt_dev_facts f = rt_dev_get(d);
    enum { MAX = 1000, MIN = 5 };
    static double seconds[MAX], share[MAX];
    double stop = rt_now() + row_seconds;
    int n = 0;
    run(context);
    for (double last = 1e-3; n < MIN || (n < MAX && rt_now() < stop); n++) {
        double before = rt_peak_rate(f.isa, f.threads, last / 2), t = rt_now();
        run(context);
        seconds[n] = last = rt_now() - t;
        double after = rt_peak_rate(f.isa, f.threads, last / 2);
        share[n] = operations / last / (0.5 * (before + after));
    }
    return (struct timing){ rt_median(seconds, n), rt_median(share, n) };
}

static float *floats(int64_t n, uint64_t seed)
{
    float *p = rt_memory_alloc(n * 4, false);
    if (!p) {
        fprintf(stderr, "bench: no memory for %lld floats\n", (long long)n);
        exit(1);
    }
    for (int64_t i = 0; i < n; i++)
        p[i] = rt_rng_uniform(seed, RT_RNG_DATA, (uint64_t)i & 0xffff) - 0.5f;
    return p;
}

/* --- matrix products
 * ------------------------------------------------------------------------------- */

struct product {
    rt_dev *d;
    rt_tensor c, a, b;
    bool ta, tb;
    float beta;
};

static void run_product(void *context)
{
    struct product *p = context;
    rt_matmul(p->d, &p->c, &p->a, p->ta, &p->b, p->tb, p->beta);
}

static struct timing time_product(rt_dev *d, int64_t m, int64_t n, int64_t k, bool ta, bool tb,
                                  bool packed)
{
    float *a = floats(m * k, 1), *b = floats(n * k, 2), *c = floats(m * n, 3);
    struct product p = { .d = d, .ta = ta, .tb = tb, .beta = ta ? 1.0f : 0.0f };
    p.c = rt_tensor_2(c, RT_F32, m, n);
    p.a = ta ? rt_tensor_2(a, RT_F32, k, m) : rt_tensor_2(a, RT_F32, m, k);
    p.b = tb ? rt_tensor_2(b, RT_F32, n, k) : rt_tensor_2(b, RT_F32, k, n);
    void *panels = NULL;
    if (packed) {
        panels = rt_dev_alloc(d, rt_panels_bytes(d, &p.b));
        rt_pack_weight(d, panels, &p.b);
        p.b.panels = panels;
    }
    struct timing t = measure(run_product, &p, d, 2.0 * (double)m * (double)n * (double)k);
    rt_dev_release(d, panels);
    rt_memory_free(a);
    rt_memory_free(b);
    rt_memory_free(c);
    return t;
}

static void print_products(rt_dev *one, rt_dev *all)
{
    static const struct {
        const char *name;
        int64_t rows, in, out;
    } shapes[] = {
        { "attention 512 -> 512", 2048, 512, 512 }, { "gate, up 512 -> 1408", 2048, 512, 1408 },
        { "down 1408 -> 512", 2048, 1408, 512 },    { "head chunk 512 -> 8192", 2048, 512, 8192 },
        { "attention 512 -> 512", 8192, 512, 512 }, { "gate, up 512 -> 1408", 8192, 512, 1408 },
        { "down 1408 -> 512", 8192, 1408, 512 },
    };
    static const char *const kinds[] = { "y = x wT", "dx = dy w", "dw += dyT x" };
    printf("\n%-24s %6s %-12s %9s %11s %9s\n", "matrix product", "rows", "", "1 thread",
           "all threads", "GFLOP/s");
    for (int s = 0; s < RT_COUNT(shapes); s++)
        for (int kind = 0; kind < 3; kind++) {
            int64_t r = shapes[s].rows, i = shapes[s].in, o = shapes[s].out;
            int64_t m = kind < 2 ? r : o, n = kind == 0 ? o : i,
                    k = kind == 0   ? i
                        : kind == 1 ? o
                                    : r;
            struct timing t1 = time_product(one, m, n, k, kind == 2, kind == 0, false);
            struct timing tn = time_product(all, m, n, k, kind == 2, kind == 0, false);
            double operations = 2.0 * (double)m * (double)n * (double)k;
            printf("%-24s %6d %-12s %8.1f%% %10.1f%% %9.1f\n", shapes[s].name, (int)r, kinds[kind],
                   100 * t1.share, 100 * tn.share, operations / tn.seconds * 1e-9);
            fflush(stdout);
        }
}

/* What weights can be in a checkpoint: rows of a dtype, or codes under scales. */
static const struct form {
    const char *name;
    rt_dtype dtype;
    rt_code code;
    rt_dtype scale;
    int64_t rows, columns; /* that a scale belongs to */
} forms[] = { { "F32", RT_F32, 0, 0, 0, 0 },
              { "BF16", RT_BF16, 0, 0, 0, 0 },
              { "F16", RT_F16, 0, 0, 0, 0 },
              { "Q8_0", RT_Q8_0, 0, 0, 0, 0 },
              { "Q4_0", RT_Q4_0, 0, 0, 0, 0 },
              { "Q4_1", RT_Q4_1, 0, 0, 0, 0 },
              { "Q5_1", RT_Q5_1, 0, 0, 0, 0 },
              { "Q4_K", RT_Q4_K, 0, 0, 0, 0 },
              { "Q5_K", RT_Q5_K, 0, 0, 0, 0 },
              { "Q6_K", RT_Q6_K, 0, 0, 0, 0 },
              { "MXFP4", RT_MXFP4, 0, 0, 0, 0 },
              { "fp8+scales", RT_F8_E4M3, RT_CODE_FP8, RT_F32, 128, 128 },
              { "fp4+scales", RT_U8, RT_CODE_MXFP4, RT_F8_E8M0, 1, 32 },
              { "int4+scales", RT_I32, RT_CODE_INT4, RT_BF16, 1, 32 } };

/* What the weights hold does not change how long it takes. */
static struct timing time_stored(rt_dev *d, int64_t m, int64_t n, int64_t k, const struct form *f)
{
    bool nibbles = f->code == RT_CODE_MXFP4 || f->code == RT_CODE_INT4;
    int64_t row_bytes = nibbles ? k / 2 : rt_dtype_bytes(f->dtype, k);
    float *a = floats(m * k, 1), *c = floats(m * n, 3), *scale = floats(n * k / 4, 4);
    uint8_t *b = rt_memory_alloc(row_bytes * n, false);
    rt_piece piece = { .code = f->code,
                       .dtype = f->dtype,
                       .scale_dtype = f->scale,
                       .data = b,
                       .scale = (const uint8_t *)scale,
                       .row_bytes = row_bytes,
                       .step = 1,
                       .scale_rows = f->rows,
                       .scale_cols = f->columns };
    struct product p = { .d = d, .tb = true };
    p.c = rt_tensor_2(c, RT_F32, m, n);
    p.a = rt_tensor_2(a, RT_F32, m, k);
    p.b = rt_tensor_2(b, f->dtype, n, k);
    if (f->code) {
        piece.scale_ld = rt_ceil_div(k, f->columns);
        p.b = rt_tensor_2(NULL, RT_F32, n, k);
        p.b.piece = &piece;
    }
    memset(b, 0x31, (size_t)(row_bytes * n));
    struct timing time = measure(run_product, &p, d, 2.0 * (double)m * (double)n * (double)k);
    rt_memory_free(a);
    rt_memory_free(b);
    rt_memory_free(c);
    rt_memory_free(scale);
    return time;
}

static void print_stored(rt_dev *one, rt_dev *all)
{
    static const int64_t rows[] = { 1, 2, 4, 16, 64, 512 };
    const int64_t n = getenv("BN") ? atoi(getenv("BN")) : 4096,
                  k = getenv("BK") ? atoi(getenv("BK")) : 2048;
    printf("\n%-12s %6s %20s %22s\n", "as stored", "rows", "1 thread", "all threads");
    for (int t = 0; t < RT_COUNT(forms); t++)
        for (int i = 0; i < RT_COUNT(rows); i++) {
            struct timing t1 = time_stored(one, rows[i], n, k, &forms[t]);
            struct timing tn = time_stored(all, rows[i], n, k, &forms[t]);
            double weights = (double)(n * k);
            printf("%-12s %6d %7.1f%% %7.2f Gw/s %7.1f%% %7.2f Gw/s\n", forms[t].name, (int)rows[i],
                   100 * t1.share, weights / t1.seconds * 1e-9, 100 * tn.share,
                   weights / tn.seconds * 1e-9);
            fflush(stdout);
        }
}

static void print_few_rows(rt_dev *one, rt_dev *all)
{
    static const int64_t rows[] = { 1, 2, 4, 8, 16, 64 };
    printf("\n%-24s %6s %20s %20s\n", "packed once, few rows", "rows", "1 thread", "all threads");
    for (int big = 0; big < 2; big++)
        for (int i = 0; i < RT_COUNT(rows); i++) {
            int64_t n = big ? 8192 : 1408, k = big ? 2048 : 512;
            struct timing t1 = time_product(one, rows[i], n, k, false, true, true);
            struct timing tn = time_product(all, rows[i], n, k, false, true, true);
            double bytes = 4.0 * (double)(n * k);
            printf("%5d x %-16d %6d %7.1f%% %6.1f GB/s %7.1f%% %6.1f GB/s\n", (int)k, (int)n,
                   (int)rows[i], 100 * t1.share, bytes / t1.seconds * 1e-9, 100 * tn.share,
                   bytes / tn.seconds * 1e-9);
        }
}

/* --- attention
 * ------------------------------------------------------------------------------------ */

enum { ATTENTION_TENSORS = 9 };

struct attention {
    rt_dev *d;
    rt_tensor q, k, v, out, lse, dout, dq, dk, dv;
    rt_rows rows;
    bool backward;
};

static void run_attention(void *context)
{
    static const rt_attention_rule rule = { .scale = 0.125f };
    struct attention *a = context;
    if (a->backward)
        rt_attention_backward(a->d, &a->dq, &a->dk, &a->dv, &a->dout, &a->out, &a->lse, &a->q,
                              &a->k, &a->v, &a->rows, &rule);
    else
        rt_attention_forward(a->d, &a->out, &a->lse, &a->q, &a->k, &a->v, &a->rows, &rule);
}

/* Only products a causal mask leaves count as work: S and PV forward; S, dP, dV, dQ, dK backward.
 */
static void print_attention(rt_dev *one, rt_dev *all)
{
    static const struct {
        int64_t documents, length, heads, kv_heads, dk, dv;
    } shapes[] = {
        { 8, 512, 8, 8, 64, 64 },  { 8, 512, 8, 2, 64, 64 }, { 64, 64, 8, 8, 64, 64 },
        { 2, 2048, 8, 8, 64, 64 }, { 8, 512, 4, 4, 48, 32 },
    };
    printf("\n%-40s %-9s %9s %11s\n", "attention", "", "1 thread", "all threads");
    for (int i = 0; i < RT_COUNT(shapes); i++) {
        int64_t t = shapes[i].length, docs = shapes[i].documents, n = docs * t;
        int64_t h = shapes[i].heads, kh = shapes[i].kv_heads, dk = shapes[i].dk, dv = shapes[i].dv;
        int64_t widths[ATTENTION_TENSORS] = { h * dk, kh * dk, kh * dv, h * dv, h,
                                              h * dv, h * dk,  kh * dk, kh * dv };
        struct attention a = { .d = one };
        rt_tensor *tensors[] = { &a.q, &a.k, &a.v, &a.out, &a.lse, &a.dout, &a.dq, &a.dk, &a.dv };
        int64_t heads[] = { h, kh, kh, h, 0, h, h, kh, kh };
        for (int j = 0; j < ATTENTION_TENSORS; j++) {
            float *p = floats(n * widths[j], (uint64_t)j);
            *tensors[j] = heads[j] ? rt_tensor_3(p, RT_F32, n, heads[j], widths[j] / heads[j])
                                   : rt_tensor_2(p, RT_F32, n, widths[j]);
        }
        int32_t *offset = malloc((size_t)(docs + 1) * sizeof(*offset));
        int32_t *ids = calloc((size_t)n, sizeof(*ids));
        for (int64_t s = 0; s <= docs; s++)
            offset[s] = (int32_t)(s * t);
        a.rows = (rt_rows){ .n = n,
                            .s = docs,
                            .offset = rt_tensor_1(offset, RT_I32, docs + 1),
                            .token = rt_tensor_1(ids, RT_I32, n),
                            .pos = rt_tensor_1(ids, RT_I32, n) };
        double pairs = (double)(docs * h) * (double)t * (double)(t + 1) / 2.0;
        for (int back = 0; back < 2; back++) {
            double operations = 2.0 * pairs * (double)(back ? 3 * dk + 2 * dv : dk + dv);
            a.backward = back;
            a.d = one;
            struct timing t1 = measure(run_attention, &a, one, operations);
            a.d = all;
            struct timing tn = measure(run_attention, &a, all, operations);
            printf("%3d x %4d tokens, %d/%d heads of %2d, %2d  %-9s %8.1f%% %10.1f%%\n", (int)docs,
                   (int)t, (int)h, (int)kh, (int)dk, (int)dv, back ? "backward" : "forward",
                   100 * t1.share, 100 * tn.share);
            fflush(stdout);
        }
        for (int j = 0; j < ATTENTION_TENSORS; j++)
            rt_memory_free(tensors[j]->data);
        free(offset);
        free(ids);
    }
}

/* --- the yardstick
 * ---------------------------------------------------------------------------------- */

typedef void sgemm_fn(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);

struct blas {
    sgemm_fn *sgemm;
    int64_t m, n, k;
    float *a, *b, *c;
};

static void run_blas(void *context)
{
    struct blas *p = context;
    int m = (int)p->m, n = (int)p->n, k = (int)p->k;
    p->sgemm(101, 111, 112, m, n, k, 1.0f, p->a, k, p->b, k, 0.0f, p->c, n);
}

static void print_openblas(rt_dev *one, rt_dev *all)
{
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    struct blas p = { .m = 2048, .n = 1408, .k = 512 };
    char *(*corename)(void) = NULL;
    void (*set_threads)(int) = NULL;
    if (lib) {
        *(void **)(void *)&p.sgemm = dlsym(lib, "cblas_sgemm");
        *(void **)(void *)&corename = dlsym(lib, "openblas_get_corename");
        *(void **)(void *)&set_threads = dlsym(lib, "openblas_set_num_threads");
    }
    if (!p.sgemm || !corename || !set_threads) {
        printf("\nOpenBLAS: not here\n");
        return;
    }
    const char *type = getenv("OPENBLAS_CORETYPE");
    p.a = floats(p.m * p.k, 1);
    p.b = floats(p.n * p.k, 2);
    p.c = floats(p.m * p.n, 3);
    printf("\nOpenBLAS, kernels of %s, OPENBLAS_CORETYPE=%s: gate, up 512 -> 1408, 2048 rows\n",
           corename(), type ? type : "(unset)");
    double operations = 2.0 * (double)(p.m * p.n * p.k);
    set_threads(1);
    printf("  1 thread %.1f %% of peak", 100 * measure(run_blas, &p, one, operations).share);
    int threads = rt_dev_get(all).threads;
    set_threads(threads);
    printf(", %d threads %.1f %%\n", threads, 100 * measure(run_blas, &p, all, operations).share);
    rt_memory_free(p.a);
    rt_memory_free(p.b);
    rt_memory_free(p.c);
}

/* --- the machine
 * ------------------------------------------------------------------------------------ */

enum { FLOATS = 1 << 24 };

struct memory_sweep {
    float *x, *y;
};

static void sweep_unit(void *ctx, int64_t unit, int member)
{
    const struct memory_sweep *s = ctx;
    int64_t at = FLOATS * unit;
    (void)member;
    for (int64_t j = 0; j < FLOATS; j++)
        s->y[at + j] += 0.5f * s->x[at + j];
}

static void print_machine(const char *isa, int threads)
{
    for (int n = 1; n <= threads; n += threads > 1 ? threads - 1 : 1) {
        double rate[9], best = 0;
        for (int i = 0; i < RT_COUNT(rate); i++) {
            rate[i] = rt_peak_rate(isa, n, row_seconds / RT_COUNT(rate)) * 1e-9;
            best = rate[i] > best ? rate[i] : best;
        }
        printf("multiply-add peak, %d threads at once: median %.1f, best %.1f GFLOP/s\n", n,
               rt_median(rate, RT_COUNT(rate)), best);
    }
    rt_err err;
    rt_team *team;
    struct memory_sweep s = { floats((int64_t)FLOATS * threads, 1),
                              floats((int64_t)FLOATS * threads, 2) };
    if (rt_team_open(&team, threads, &err))
        rt_bug("%s", err.text);
    for (int n = 1; n <= threads; n += threads > 1 ? threads - 1 : 1) {
        double best = 1e9;
        for (int i = 0; i < 10; i++) {
            double t = rt_now();
            rt_team_run(team, sweep_unit, &s, n, n);
            t = rt_now() - t;
            best = t < best ? t : best;
        }
        printf("memory, y += a x, %d threads: %.1f GB/s\n", n, 12.0 * FLOATS * n / best * 1e-9);
    }
    rt_team_close(team);
    rt_memory_free(s.x);
    rt_memory_free(s.y);
}

static int open_device(rt_dev **d, int threads)
{
    rt_err err = { .text = "" };
    rt_tensor c = rt_tensor_2(NULL, RT_F32, 8192, 8192), b = rt_tensor_2(NULL, RT_F32, 8192, 2048);
    rt_tensor q = rt_tensor_3(NULL, RT_F32, 4096, 8, 64), lse = rt_tensor_2(NULL, RT_F32, 4096, 8);
    rt_rows rows = { .n = 4096, .s = 1, .longest = 2048, .offset = rt_tensor_1(NULL, RT_I32, 2) };
    rt_attention_rule rule = { .scale = 1 };
    if (rt_dev_open(d, "cpu", threads, &err))
        goto failed;
    rt_dev_dry_begin(*d);
    rt_matmul(*d, &c, &b, false, &b, true, 0.0f);
    rt_matmul(*d, &b, &c, true, &b, false, 0.0f);
    rt_attention_backward(*d, &q, &q, &q, &q, &q, &lse, &q, &q, &q, &rows, &rule);
    rt_dev_dry_end(*d);
    if (rt_dev_ready(*d, &err))
        goto failed;
    return 0;
failed:
    fprintf(stderr, "bench: %s\n", err.text);
    return -1;
}

int main(int argc, char **argv)
{
    int threads = 0;
    const char *only = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--threads"))
            threads = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seconds"))
            row_seconds = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--only"))
            only = argv[i + 1];
    }
    rt_dev *one, *all;
    if (open_device(&one, 1) || open_device(&all, threads))
        return 1;
    rt_dev_facts f = rt_dev_get(all);
    printf("instruction set %s, %d threads\n", f.isa, f.threads);
    print_machine(f.isa, f.threads);
    if (!only || !strcmp(only, "products"))
        print_products(one, all);
    if (!only || !strcmp(only, "rows"))
        print_few_rows(one, all);
    if (!only || !strcmp(only, "stored"))
        print_stored(one, all);
    if (!only || !strcmp(only, "attention"))
        print_attention(one, all);
    if (!only || !strcmp(only, "blas"))
        print_openblas(one, all);
    rt_dev_close(one);
    rt_dev_close(all);
    return 0;
}
