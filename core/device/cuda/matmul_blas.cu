/* matmul_blas.cu: large products by plain weights (f32, bf16) through cuBLASLt, which is loaded
   when a device opens: where it is missing, or RETORT_CUDA_BLAS=0 says so, matmul_tile.cu does its
   work. Operands that are bf16 are read where they lie; those that are f32 are rounded in the
   workspace, a slice at a time. It multiplies e4m3 for matmul_fp8.cu, with the sums of Hopper's
   tensor cores added up in f32 (FAST_ACCUM stays off).
     The same bits in every batch: split-K is masked out, and a shape's algorithm is the one chosen
   for a full slice of rows, however few there are. Its workspace is ours. Refuses: products whose
   operands are not on 16 bytes, and few rows. */
#include "core/device/cuda/matmul.h"

#ifdef RT_EMULATE

void rt_cuda_blas_open(rt_dev *d) { (void)d; }
void rt_cuda_blas_close(rt_dev *d) { (void)d; }
void rt_cuda_need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                          const rt_tensor *b)
{
    (void)d, (void)groups, (void)n, (void)k, (void)a, (void)b;
}
bool rt_cuda_product_blas(rt_dev *d, const struct products *p) { return (void)d, (void)p, false; }
bool rt_cuda_blas_fits(rt_dev *d, const struct dense *s) { return (void)d, (void)s, false; }
void rt_cuda_blas_multiply(rt_dev *d, const struct dense *s, void *c, const void *a, const void *b,
                           void *own)
{
    (void)d, (void)s, (void)c, (void)a, (void)b, (void)own;
}

#else

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

enum { SHAPES = 64, THREADS = 256 };

#define CALLS(X)                                                                                   \
    X(Create)                                                                                      \
    X(Destroy)                                                                                     \
    X(Matmul)                                                                                      \
    X(MatmulAlgoCheck)                                                                             \
    X(MatmulAlgoGetHeuristic)                                                                      \
    X(MatmulDescCreate)                                                                            \
    X(MatmulDescDestroy)                                                                           \
    X(MatmulDescSetAttribute)                                                                      \
    X(MatmulPreferenceCreate)                                                                      \
    X(MatmulPreferenceDestroy)                                                                     \
    X(MatmulPreferenceSetAttribute)                                                                \
    X(MatrixLayoutCreate)                                                                          \
    X(MatrixLayoutDestroy)

struct rt_cuda_blas {
    void *library;
    cublasLtHandle_t handle;
#define ENTRY(name) decltype(&cublasLt##name) name;
    CALLS(ENTRY)
#undef ENTRY
    struct {
        struct dense shape; /* m is SLICE_ROWS */
        cublasLtMatmulAlgo_t algo;
        bool known;
    } chosen[SHAPES];
    int next;
};

void rt_cuda_blas_close(rt_dev *d)
{
    struct rt_cuda_blas *l = rt_cuda_of(d)->blas;
    if (!l)
        return;
    if (l->handle)
        (void)l->Destroy(l->handle);
    if (l->library)
        dlclose(l->library);
    free(l);
    rt_cuda_of(d)->blas = NULL;
}

void rt_cuda_blas_open(rt_dev *d)
{
    const char *said = getenv("RETORT_CUDA_BLAS");
    if (said && strcmp(said, "0") == 0)
        return;
    struct rt_cuda_blas *l = (struct rt_cuda_blas *)rt_alloc(1, sizeof *l, "cuBLASLt");
    rt_cuda_of(d)->blas = l;
    /* of the toolkit that compiled this: another may mean other things by the same names */
    char name[32];
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    l->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    bool whole = l->library != NULL;
#define ENTRY(name)                                                                                \
    whole = whole && (l->name = (decltype(l->name))dlsym(l->library, "cublasLt" #name)) != NULL;
    CALLS(ENTRY)
#undef ENTRY
    if (!whole || l->Create(&l->handle) != CUBLAS_STATUS_SUCCESS)
        rt_cuda_blas_close(d);
}

/* --- one slice -----------------------------------------------------------------------------------
   The library counts columns first, so it is told c' = b' a': its A is our b, its rows are our
   columns. */

struct call {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
};

static void end_call(const struct rt_cuda_blas *l, struct call *x)
{
    if (x->desc)
        (void)l->MatmulDescDestroy(x->desc);
    for (cublasLtMatrixLayout_t m : { x->a, x->b, x->c })
        if (m)
            (void)l->MatrixLayoutDestroy(m);
}

static bool begin_call(const struct rt_cuda_blas *l, struct call *x, const struct dense *s)
{
    const cublasOperation_t turned = CUBLAS_OP_T;
    const uint64_t m = (uint64_t)s->m, n = (uint64_t)s->n, k = (uint64_t)s->k;
    auto turn = [&](cublasLtMatmulDescAttributes_t which) {
        return l->MatmulDescSetAttribute(x->desc, which, &turned, sizeof turned);
    };
    bool ok =
        l->MatmulDescCreate(&x->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    ok = ok && (!s->tb || turn(CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_STATUS_SUCCESS);
    ok = ok && (!s->ta || turn(CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_STATUS_SUCCESS);
    auto lay = [&](cublasLtMatrixLayout_t *to, cudaDataType type, uint64_t rows, uint64_t columns,
                   int64_t ld) {
        ok = ok && l->MatrixLayoutCreate(to, type, rows, columns, ld) == CUBLAS_STATUS_SUCCESS;
    };
    const cudaDataType of = s->divisors ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    auto divide = [&](cublasLtMatmulDescAttributes_t which, const float *by) {
        ok = ok && l->MatmulDescSetAttribute(x->desc, which, &by, sizeof by) ==
                       CUBLAS_STATUS_SUCCESS;
    };
    if (s->divisors) {
        divide(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, s->divisors + 1);
        divide(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, s->divisors);
    }
    lay(&x->a, of, s->tb ? k : n, s->tb ? n : k, s->ldb);
    lay(&x->b, of, s->ta ? m : k, s->ta ? k : m, s->lda);
    lay(&x->c, s->c16 ? CUDA_R_16BF : CUDA_R_32F, n, m, s->ldc);
    if (!ok)
        end_call(l, x);
    return ok;
}

static bool ask(const struct rt_cuda_blas *l, const struct dense *s, cublasLtMatmulAlgo_t *algo)
{
    struct call x = {};
    cublasLtMatmulPreference_t how = NULL;
    cublasLtMatmulHeuristicResult_t best;
    const uint64_t own = BLAS_OWN;
    const uint32_t whole = CUBLASLT_REDUCTION_SCHEME_NONE, on = 16;
    int found = 0;
    if (!begin_call(l, &x, s))
        return false;
    bool ok = l->MatmulPreferenceCreate(&how) == CUBLAS_STATUS_SUCCESS;
    auto want = [&](cublasLtMatmulPreferenceAttributes_t name, const void *value, size_t bytes) {
        ok = ok &&
             l->MatmulPreferenceSetAttribute(how, name, value, bytes) == CUBLAS_STATUS_SUCCESS;
    };
    want(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &own, sizeof own);
    want(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole, sizeof whole);
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &on, sizeof on);
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &on, sizeof on);
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &on, sizeof on);
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &on, sizeof on);
    ok = ok && l->MatmulAlgoGetHeuristic(l->handle, x.desc, x.a, x.b, x.c, x.c, how, 1, &best,
                                         &found) == CUBLAS_STATUS_SUCCESS;
    ok = ok && found == 1 && best.state == CUBLAS_STATUS_SUCCESS;
    if (ok)
        *algo = best.algo;
    if (how)
        (void)l->MatmulPreferenceDestroy(how);
    end_call(l, &x);
    return ok;
}

/* The algorithm of a shape: as for a full slice of rows. NULL = none. */
static const cublasLtMatmulAlgo_t *algorithm(struct rt_cuda_blas *l, struct dense s)
{
    s.m = SLICE_ROWS;
    int i = 0;
    for (; i < SHAPES; i++) {
        const struct dense *o = &l->chosen[i].shape;
        if (o->m == s.m && o->n == s.n && o->k == s.k && o->lda == s.lda && o->ldb == s.ldb &&
            o->ldc == s.ldc && o->ta == s.ta && o->tb == s.tb && o->add == s.add && o->c16 == s.c16 &&
            !o->divisors == !s.divisors)
            break;
    }
    if (i == SHAPES) {
        i = l->next;
        l->next = (l->next + 1) % SHAPES;
        l->chosen[i].shape = s;
        l->chosen[i].known = ask(l, &s, &l->chosen[i].algo);
    }
    return l->chosen[i].known ? &l->chosen[i].algo : NULL;
}

/* Whether the shape's algorithm takes this many rows. */
bool rt_cuda_blas_fits(rt_dev *d, const struct dense *s)
{
    struct rt_cuda_blas *l = rt_cuda_of(d)->blas;
    const cublasLtMatmulAlgo_t *algo = l ? algorithm(l, *s) : NULL;
    struct call x = {};
    cublasLtMatmulHeuristicResult_t r;
    if (!algo || !begin_call(l, &x, s))
        return false;
    bool ok = l->MatmulAlgoCheck(l->handle, x.desc, x.a, x.b, x.c, x.c, algo, &r) ==
                  CUBLAS_STATUS_SUCCESS &&
              r.state == CUBLAS_STATUS_SUCCESS && r.workspaceSize <= (size_t)BLAS_OWN;
    end_call(l, &x);
    return ok;
}

void rt_cuda_blas_multiply(rt_dev *d, const struct dense *s, void *c, const void *a, const void *b,
                           void *own)
{
    struct rt_cuda_blas *l = rt_cuda_of(d)->blas;
    const float alpha = 1.0f, beta = s->add ? 1.0f : 0.0f;
    const cublasLtMatmulAlgo_t *algo = algorithm(l, *s);
    struct call x = {};
    bool begun = algo && begin_call(l, &x, s);
    bool ok = begun &&
              l->Matmul(l->handle, x.desc, &alpha, b, x.a, a, x.b, &beta, c, x.c, c, x.c, algo, own,
                        (size_t)BLAS_OWN, rt_cuda_of(d)->stream) == CUBLAS_STATUS_SUCCESS;
    if (begun)
        end_call(l, &x);
    (void)rt_cuda_ok(d, ok ? cudaGetLastError() : cudaErrorUnknown, "a product of cuBLASLt");
}

/* --- rounding --------------------------------------------------------------------------------- */

/* to (rows, columns) bf16 = from, rows so far apart; all multiples of 8. */
static __global__ void __launch_bounds__(THREADS)
    round_kernel(uint4 *to, int64_t ld_to, const float *from, int64_t ld, int64_t rows,
                 int64_t columns)
{
    int64_t across = columns / 8, all = rows * across;
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < all;
         i += gridDim.x * (int64_t)THREADS) {
        const float4 *x = (const float4 *)(const void *)(from + i / across * ld + i % across * 8);
        float4 u = x[0], v = x[1];
        to[i / across * (ld_to / 8) + i % across] =
            make_uint4(bf16_pair(u.x, u.y), bf16_pair(u.z, u.w), bf16_pair(v.x, v.y),
                       bf16_pair(v.z, v.w));
    }
}

static void round_rows(rt_dev *d, void *to, int64_t ld_to, const void *from, int64_t ld,
                       int64_t rows, int64_t columns)
{
    int64_t blocks = rt_min(rt_ceil_div(rows * columns / 8, THREADS), rt_cuda_blocks(d, 0));
    LAUNCH(round_kernel, (unsigned)blocks, THREADS, 0, rt_cuda_of(d)->stream, (uint4 *)to, ld_to,
           (const float *)from, ld, rows, columns);
    rt_cuda_launched(d, "rounding");
}

/* --- products --------------------------------------------------------------------------------- */

/* Of what has to be rounded first. */
static int64_t bytes_of_a(rt_dtype a, int64_t k)
{
    return a == RT_F32 ? rt_cuda_slice_of_a(k) : 0;
}
static int64_t bytes_of_b(int form, int64_t n, int64_t k)
{
    return form == RT_F32 ? rt_cuda_slice_of_b(n, k) : 0;
}

void rt_cuda_need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                          const rt_tensor *b)
{
    struct rt_cuda *c = rt_cuda_of(d);
    const int form = b->piece ? decode_form(b->piece) : (int)b->dtype;
    if (c->blas && groups == 1 && n >= SLICED_LEAST && k >= SLICED_LEAST && (form == RT_F32 || form == RT_BF16))
        c->product_need = rt_max(c->product_need, BLAS_OWN + bytes_of_a(a, k) + bytes_of_b(form, n, k));
}

bool rt_cuda_product_blas(rt_dev *d, const struct products *p)
{
    const rt_piece *b = &p->b.like;
    const bool round_b = rt_cuda_has_rows(p, RT_F32, 16), round_a = !p->a16;
    if (!rt_cuda_of(d)->blas || p->offset || p->count != 1 || p->b.table || p->m < SLICED_LEAST ||
        p->n < SLICED_LEAST || p->k < SLICED_LEAST || (!round_b && !rt_cuda_has_rows(p, RT_BF16, 16)))
        return false;
    if ((p->ta ? p->m : p->k) % 8 || (p->tb ? p->k : p->n) % 8 || p->ldc % 8 ||
        (uintptr_t)p->c % 16 || !rt_cuda_a_is_by(p, round_a ? 4 : 8))
        return false;
    const int size_a = round_a ? 4 : 2, size_b = round_b ? 4 : 2, size_c = p->c16 ? 2 : 4;
    const int form = round_b ? RT_F32 : RT_BF16;
    const int64_t ldb = b->row_bytes / size_b, step_n = round_b ? (int64_t)SLICE_COLUMNS : p->n;
    const uint8_t *first = b->data + (b->first + p->b_row0) * b->row_bytes;
    const int64_t a_bytes = bytes_of_a(round_a ? RT_F32 : RT_BF16, p->k);
    uint8_t *own = rt_cuda_scratch(d, BLAS_OWN + a_bytes + bytes_of_b(form, p->n, p->k));
    uint8_t *a_own = own + BLAS_OWN, *b_own = a_own + a_bytes;
    struct dense s = {};
    s.k = p->k, s.ldc = p->ldc, s.ta = p->ta, s.tb = p->tb, s.add = p->add, s.c16 = p->c16;
    s.lda = !round_a ? p->lda : p->ta ? (int64_t)SLICE_ROWS : p->k;
    for (int run = 0; run < 2; run++) /* nothing is begun that cannot be ended */
        for (int64_t n0 = 0; n0 < p->n; n0 += s.n) {
            s.n = rt_min(step_n, p->n - n0);
            s.ldb = !round_b ? ldb : p->tb ? p->k : s.n;
            const uint8_t *bs = first + (p->tb ? n0 * b->row_bytes : n0 * size_b);
            if (run && round_b)
                round_rows(d, b_own, s.ldb, bs, ldb, p->tb ? s.n : p->k, p->tb ? p->k : s.n);
            for (int64_t m0 = 0; m0 < p->m; m0 += s.m) {
                s.m = rt_min(SLICE_ROWS, p->m - m0);
                if (!run && !rt_cuda_blas_fits(d, &s))
                    return false;
                if (!run)
                    continue;
                const uint8_t *as = (const uint8_t *)p->a + m0 * (p->ta ? 1 : p->lda) * size_a;
                if (round_a && (n0 == 0 || p->m > SLICE_ROWS))
                    round_rows(d, a_own, s.lda, as, p->lda, p->ta ? p->k : s.m,
                               p->ta ? s.m : p->k);
                rt_cuda_blas_multiply(d, &s, (uint8_t *)p->c + (m0 * p->ldc + n0) * size_c,
                         round_a ? a_own : as, round_b ? b_own : bs, own);
            }
        }
    return true;
}

#endif
