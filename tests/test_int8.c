/* test_int8.c: products of the precision "int8" against their definition in ops.h, written out here
   one number at a time: the same bits from every instruction set of this machine, with one thread
   and with three, for every number of rows up to more than two tiles, of every dtype that has them;
   what lies in pieces, in stacks of experts; what no model should hold. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/processor.h"
#include "core/base/rng.h"
#include "core/device/cpu/int8.h"
#include "core/device/cpu/cpu.h"
#include "tests/device.h"
#include "tests/suite.h"

enum { BLOCK = 32 };

static const rt_dtype dtypes[] = { RT_Q4_0, RT_Q4_1, RT_Q5_0, RT_Q5_1,  RT_Q8_0,
                                   RT_Q4_K, RT_Q5_K, RT_Q6_K, RT_IQ4_NL };

/* --- data ------------------------------------------------------------------------------------- */

static uint32_t drawn(uint64_t *at, uint32_t below)
{
    return rt_rng_below(11, RT_RNG_DATA, (*at)++, below);
}

/* Of either sign, from 2^-10 to 2^5. */
static void put_f16(uint8_t *p, uint64_t *at)
{
    p[0] = (uint8_t)drawn(at, 256);
    p[1] = (uint8_t)(drawn(at, 2) * 128 + 5 * 4 + drawn(at, 60));
}

/* `blocks` blocks of any codes. */
static uint8_t *random_blocks(rt_dtype t, int64_t blocks, uint64_t seed)
{
    int64_t each = rt_dtype_get(t)->block_bytes;
    uint8_t *w = malloc((size_t)(blocks * each));
    uint64_t at = seed << 32;
    ck_assert_ptr_nonnull(w);
    for (int64_t b = 0; b < blocks; b++) {
        uint8_t *p = w + b * each;
        for (int64_t i = 0; i < each; i++)
            p[i] = (uint8_t)drawn(&at, 256);
        put_f16(t == RT_Q6_K ? p + 208 : p, &at);
        if (t == RT_Q4_1 || t == RT_Q5_1 || t == RT_Q4_K || t == RT_Q5_K)
            put_f16(p + 2, &at);
    }
    return w;
}

static float *random_floats(int64_t n, uint64_t seed)
{
    float *p = malloc((size_t)rt_max(n, 1) * sizeof *p);
    ck_assert_ptr_nonnull(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = rt_rng_uniform(seed, RT_RNG_DATA, (uint64_t)i) * 8.0f - 4.0f;
    return p;
}

/* --- the definition -------------------------------------------------------------------------- */

/* Of 32 columns: weight = s scale[half] code + m. */
struct weights32 {
    int code[BLOCK], scale[2]; /* scale: of Q6_K's halves, else 1 */
    float s, m;
    bool has_min;
};

static float f16_at(const uint8_t *p) { return rt_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }
static int bit_at(const uint8_t *p, int bit) { return p[bit / 8] >> (bit % 8) & 1; }

static struct weights32 weights_at(rt_dtype t, const uint8_t *p, int sub)
{
    static const int numbers[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113 };
    struct weights32 w = { .scale = { 1, 1 }, .s = f16_at(p) };
    for (int j = 0; j < BLOCK; j++) {
        int half = j / 16, in = j % 16, e = 32 * sub + j, quarter = sub % 4;
        switch (t) {
        case RT_Q8_0:
            w.code[j] = (int8_t)p[2 + j];
            break;
        case RT_Q4_0:
            w.code[j] = (p[2 + in] >> 4 * half & 15) - 8;
            break;
        case RT_IQ4_NL:
            w.code[j] = numbers[p[2 + in] >> 4 * half & 15];
            break;
        case RT_Q4_1:
            w.code[j] = p[4 + in] >> 4 * half & 15;
            break;
        case RT_Q5_0:
            w.code[j] = (p[6 + in] >> 4 * half & 15) + 16 * bit_at(p + 2, j) - 16;
            break;
        case RT_Q5_1:
            w.code[j] = (p[8 + in] >> 4 * half & 15) + 16 * bit_at(p + 4, j);
            break;
        case RT_Q4_K:
            w.code[j] = p[16 + e / 64 * 32 + j] >> 4 * (sub % 2) & 15;
            break;
        case RT_Q5_K:
            w.code[j] = (p[48 + e / 64 * 32 + j] >> 4 * (sub % 2) & 15) +
                        16 * bit_at(p + 16 + j, sub);
            break;
        default: /* Q6_K */
            w.code[j] = (p[64 * (sub / 4) + 32 * (quarter % 2) + j] >> 4 * (quarter / 2) & 15) +
                        16 * (p[128 + 32 * (sub / 4) + j] >> 2 * quarter & 3) - 32;
        }
    }
    w.has_min = t == RT_Q4_1 || t == RT_Q5_1 || t == RT_Q4_K || t == RT_Q5_K;
    if (t == RT_Q4_1 || t == RT_Q5_1)
        w.m = f16_at(p + 2);
    if (t == RT_Q4_K || t == RT_Q5_K) {
        const uint8_t *s = p + 4;
        int scale = sub < 4 ? s[sub] % 64 : s[sub + 4] % 16 + s[sub - 4] / 64 * 16;
        int min = sub < 4 ? s[sub + 4] % 64 : s[sub + 4] / 16 + s[sub] / 64 * 16;
        w.s *= (float)scale;
        w.m = -f16_at(p + 2) * (float)min;
    }
    if (t == RT_Q6_K) {
        w.s = f16_at(p + 208);
        w.scale[0] = (int8_t)p[192 + 2 * sub];
        w.scale[1] = (int8_t)p[193 + 2 * sub];
    }
    return w;
}

struct rounded32 {
    int q[BLOCK], sum;
    float d;
};

static struct rounded32 round32(const float *x)
{
    struct rounded32 r = { .d = 0 };
    float amax = 0;
    for (int j = 0; j < BLOCK; j++) {
        if (!isfinite(x[j])) {
            r.d = NAN;
            return r;
        }
        amax = fmaxf(amax, fabsf(x[j]));
    }
    if (amax < 0x1p-120f)
        return r;
    r.d = amax / 127.0f;
    float inverse = 127.0f / amax;
    for (int j = 0; j < BLOCK; j++) {
        r.q[j] = (int)nearbyintf(x[j] * inverse);
        r.sum += r.q[j];
    }
    return r;
}

/* want(m,n) = or += a(m,k) wᵀ; row[j]: which row of w is its j-th, or NULL. far(m,n), where not
   NULL: d times the sizes of the weights, summed. */
static void define(float *want, double *far, const float *a, int64_t m, const uint8_t *w,
                   rt_dtype t, int64_t n, int64_t k, const int64_t *row, bool add)
{
    int64_t blocks = k / BLOCK, per = rt_dtype_get(t)->block / BLOCK;
    struct rounded32 *rounded = malloc((size_t)rt_max(m * blocks, 1) * sizeof *rounded);
    float *sum = malloc((size_t)rt_max(m, 1) * sizeof *sum);
    ck_assert(rounded && sum);
    for (int64_t i = 0; i < m * blocks; i++)
        rounded[i] = round32(a + i * BLOCK);
    for (int64_t j = 0; j < n; j++) {
        const uint8_t *p = w + (row ? row[j] : j) * rt_dtype_bytes(t, k);
        for (int64_t i = 0; i < m; i++)
            sum[i] = 0;
        for (int64_t b = 0; b < blocks; b++) {
            struct weights32 v = weights_at(t, p + b / per * rt_dtype_get(t)->block_bytes,
                                            (int)(b % per));
            for (int64_t i = 0; i < m; i++) {
                const struct rounded32 *r = &rounded[i * blocks + b];
                int64_t s = 0;
                for (int e = 0; e < BLOCK; e++) {
                    int code = v.code[e] * v.scale[e / 16];
                    s += (int64_t)code * r->q[e];
                    if (far)
                        far[i * n + j] += fabs((double)v.s * code + (double)v.m) * (double)r->d;
                }
                sum[i] = fmaf((float)s, v.s * r->d, sum[i]);
                if (v.has_min)
                    sum[i] = fmaf(v.m, r->d * (float)r->sum, sum[i]);
            }
        }
        for (int64_t i = 0; i < m; i++)
            want[i * n + j] = add ? want[i * n + j] + sum[i] : sum[i];
    }
    free(rounded);
    free(sum);
}

/* --- devices ---------------------------------------------------------------------------------- */

static rt_dev *devices[2]; /* one thread, three */

static void open_devices(void)
{
    rt_err err = { .text = "" };
    for (int i = 0; i < 2; i++) {
        char name[] = "cpu", precision[] = "int8";
        rt_dev_choice c = { .name = name, .threads = 1 + 2 * i, .precision = precision };
        rt_tensor x = rt_tensor_2(NULL, RT_F32, 1, 8192), w = rt_tensor_2(NULL, RT_Q4_K, 1, 8192);
        rt_tensor y = rt_tensor_2(NULL, RT_F32, 1, 1);
        if (devices[i])
            rt_dev_close(devices[i]);
        OK(rt_dev_choose(&devices[i], &c, false, &err));
        ck_assert(rt_dev_get(devices[i]).int8);
        rt_dev_dry_begin(devices[i]);
        rt_matmul(devices[i], &y, &x, false, &w, true, 0);
        rt_dev_dry_end(devices[i]);
        OK(rt_dev_ready(devices[i], &err));
    }
}

/* Kernels of this machine, best first; false past the last. */
static bool use_kernels(rt_dev *d, int i)
{
    rt_simd most;
    rt_err err = { .text = "" };
    OK(rt_simd_choose(&most, &err));
    const struct rt_int8_isa *isa = rt_int8_get(most, i);
    rt_cpu_of(d)->int8 = isa ? isa : rt_int8_get(most, 0);
    return isa != NULL;
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void expect(rt_dev *d, const float *got, const float *want, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(same(got[i], want[i]), "%s %s, %d threads: element %lld is %.9g, not %.9g",
                      what, rt_cpu_of(d)->int8->name, rt_dev_get(d).threads, (long long)i,
                      (double)got[i], (double)want[i]);
}

/* The product on every device, and what it must be. */
static void check_product(rt_dtype t, const float *a, int64_t m, const uint8_t *w, int64_t n,
                          int64_t k, const rt_piece *piece, const int64_t *row, bool add)
{
    float *want = random_floats(m * n, 5);
    define(want, NULL, a, m, w, t, n, k, row, add);
    for (int i = 0; i < 2; i++)
        for (int kernels = 0; use_kernels(devices[i], kernels); kernels++) {
            rt_dev *d = devices[i];
            float *c = random_floats(m * n, 5);
            rt_tensor ct = rt_tensor_2(c, RT_F32, m, n);
            rt_tensor at = rt_tensor_2((void *)(uintptr_t)a, RT_F32, m, k);
            rt_tensor wt = rt_tensor_2((void *)(uintptr_t)w, t, n, k);
            if (piece) {
                wt = rt_tensor_2(NULL, RT_F32, n, k);
                wt.piece = piece;
            }
            int64_t bytes = rt_panels_bytes(d, &wt);
            ck_assert_int_gt(bytes, 0);
            uint8_t *panels = aligned_alloc(64, (size_t)rt_align_up(bytes, 64));
            memset(panels, 0xff, (size_t)bytes);
            memset(rt_cpu_of(d)->scratch, 0xff, (size_t)rt_cpu_of(d)->scratch_size);
            rt_pack_weight(d, panels, &wt);
            wt.panels = panels;
            rt_matmul(d, &ct, &at, false, &wt, true, add ? 1.0f : 0.0f);
            expect(d, c, want, m * n, rt_dtype_get(t)->name);
            free(panels);
            free(c);
        }
    free(want);
}

/* --- tests ------------------------------------------------------------------------------------ */

START_TEST(every_row_count)
{
    rt_dtype t = dtypes[_i];
    static const int64_t columns[] = { 1, 15, 16, 37 };
    int64_t k = rt_dtype_get(t)->block * 2;
    uint8_t *w = random_blocks(t, 37 * 2, 1);
    float *a = random_floats(19 * k, 2);
    for (int64_t m = 1; m <= 19; m++)
        check_product(t, a, m, w, columns[m % 4], k, NULL, NULL, m % 2);
    free(a);
    free(w);
}
END_TEST

/* More rows than are rounded together, more panels than a unit has. */
START_TEST(many)
{
    enum { M = 141, N = 75, K = 256 };
    rt_dtype t = dtypes[_i];
    uint8_t *w = random_blocks(t, N * K / rt_dtype_get(t)->block, 3);
    float *a = random_floats(M * K, 4);
    check_product(t, a, M, w, N, K, NULL, NULL, false);
    check_product(t, a, 1, w, N, K, NULL, NULL, true);
    free(a);
    free(w);
}
END_TEST

/* Codes and rows as large as they come: sums of products that 16 bits do not hold. */
START_TEST(extremes)
{
    enum { N = 16, K = 512, M = 6 };
    rt_dtype t = dtypes[_i];
    int64_t blocks = N * K / rt_dtype_get(t)->block, each = rt_dtype_get(t)->block_bytes;
    float a[M * K];
    for (int i = 0; i < M * K; i++)
        a[i] = (i / K % 2 ? -1.0f : 1.0f) * (i / K / 2 == 1 && i % 2 ? -2.5f : 2.5f);
    for (int fill = 0; fill < 3; fill++) {
        uint8_t *w = malloc((size_t)(blocks * each));
        memset(w, fill == 0 ? 0xff : fill == 1 ? 0x80 : 0x7f, (size_t)(blocks * each));
        for (int64_t b = 0; b < blocks; b++) {
            static const uint8_t one[2] = { 0x00, 0x3c };
            memcpy(w + b * each + (t == RT_Q6_K ? 208 : 0), one, 2);
            if (t == RT_Q4_1 || t == RT_Q5_1 || t == RT_Q4_K || t == RT_Q5_K)
                memcpy(w + b * each + 2, one, 2);
        }
        check_product(t, a, M, w, N, K, NULL, NULL, false);
        free(w);
    }
}
END_TEST

/* Rows of zeros, of what is not a number, of numbers too small and too large, of ties. */
START_TEST(hostile_rows)
{
    enum { N = 17, K = 256, M = 11 };
    rt_dtype t = dtypes[_i];
    uint8_t *w = random_blocks(t, N * K / rt_dtype_get(t)->block, 6);
    float *a = random_floats(M * K, 7);
    for (int j = 0; j < K; j++) {
        a[0 * K + j] = j % 2 ? 0.0f : -0.0f;
        a[3 * K + j] = j % 2 ? 0x1p-149f : -0x1p-130f;   /* below what is rounded */
        a[4 * K + j] = ldexpf((float)(j % 7) - 3, -122); /* just above it */
        a[5 * K + j] = j % 2 ? 3.4e38f : -3.4e38f;
        a[6 * K + j] = j % 32 ? (float)(j % 64) - 31.5f : 127.0f; /* ties */
        a[7 * K + j] = j % 32 ? 0x1p-140f : 1.0f;
    }
    a[1 * K + 40] = INFINITY;
    a[2 * K + 40] = NAN;
    a[8 * K + 255] = -INFINITY;
    check_product(t, a, M, w, N, K, NULL, NULL, false);
    for (int64_t m = 0; m < M; m++) /* alone */
        check_product(t, a + m * K, 1, w, N, K, NULL, NULL, false);
    free(a);
    free(w);
}
END_TEST

/* Every second row of a tensor; halves of every 8 rows interleaved; from the third on. */
START_TEST(pieces)
{
    enum { N = 24, K = 256, STORED = 2 * N + 3 };
    rt_dtype t = dtypes[_i];
    uint8_t *w = random_blocks(t, STORED * K / rt_dtype_get(t)->block, 8);
    float *a = random_floats(3 * K, 9);
    for (int lying = 0; lying < 3; lying++) {
        rt_piece piece = { .code = RT_CODE_ROWS,
                           .dtype = t,
                           .data = w,
                           .row_bytes = rt_dtype_bytes(t, K),
                           .first = lying == 2 ? 3 : 0,
                           .step = lying == 0 ? 2 : 1,
                           .pair = lying == 1 ? 8 : 0 };
        int64_t row[N];
        for (int64_t r = 0; r < N; r++)
            row[r] = lying == 0 ? 2 * r : lying == 1 ? r / 8 * 8 + r % 4 * 2 + r % 8 / 4 : r + 3;
        check_product(t, a, 3, w, N, K, &piece, row, false);
    }
    free(a);
    free(w);
}
END_TEST

/* A stack: experts with no rows, with one, with more than a tile. Rows count from offset[0]. */
START_TEST(experts)
{
    enum { E = 5, N = 21, K = 256 };
    static const int32_t offset[E + 1] = { 4, 5, 5, 8, 26, 28 };
    rt_dtype t = dtypes[_i];
    int64_t blocks = N * K / rt_dtype_get(t)->block, rows = offset[E] - offset[0];
    uint8_t *w = random_blocks(t, E * blocks, 10);
    float *a = random_floats(rows * K, 11), *want = random_floats(rows * N, 5);
    rt_piece piece[E];
    for (int e = 0; e < E; e++) {
        uint8_t *at = w + e * blocks * rt_dtype_get(t)->block_bytes;
        int64_t first = offset[e] - offset[0];
        define(want + first * N, NULL, a + first * K, offset[e + 1] - offset[e], at, t, N, K, NULL,
               true);
        piece[e] = (rt_piece){
            .dtype = t, .data = at, .row_bytes = rt_dtype_bytes(t, K), .step = 1
        };
    }
    for (int i = 0; i < 2; i++) {
        rt_dev *d = devices[i];
        use_kernels(d, 0);
        float *c = random_floats(rows * N, 5);
        rt_tensor ct = rt_tensor_2(c, RT_F32, rows, N), at = rt_tensor_2(a, RT_F32, rows, K);
        rt_tensor wt = rt_tensor_3(NULL, RT_F32, E, N, K);
        rt_tensor ot = rt_tensor_1((void *)(uintptr_t)offset, RT_I32, E + 1);
        wt.piece = piece;
        uint8_t *panels = aligned_alloc(64, (size_t)rt_align_up(rt_panels_bytes(d, &wt), 64));
        rt_pack_weight(d, panels, &wt);
        wt.panels = panels;
        rt_matmul_grouped(d, &ct, &at, false, &wt, true, &ot, 1.0f);
        expect(d, c, want, rows * N, rt_dtype_get(t)->name);
        free(panels);
        free(c);
    }
    free(a);
    free(want);
    free(w);
}
END_TEST

/* The rounding is all that is lost: each number of a row moves by half of its block's d at most. */
START_TEST(near_exact)
{
    enum { M = 5, N = 40, K = 1024 };
    rt_dtype t = dtypes[_i];
    uint8_t *w = random_blocks(t, N * K / rt_dtype_get(t)->block, 12);
    float *a = random_floats(M * K, 13), *wide = random_floats(N * K, 0),
          *c = random_floats(M * N, 0);
    double *far = calloc(M * N, sizeof *far), differs = 0;
    rt_decode_f32(wide, w, t, N * K);
    define(c, far, a, M, w, t, N, K, NULL, false);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = 0, size = 0;
            for (int64_t e = 0; e < K; e++) {
                double x = (double)a[i * K + e] * (double)wide[j * K + e];
                sum += x;
                size += fabs(x);
            }
            double off = fabs(sum - (double)c[i * N + j]);
            differs += off;
            ck_assert_msg(off <= 0.5 * far[i * N + j] * 1.001 + size * 0x1p-16, "%s: %g from exact",
                          rt_dtype_get(t)->name, off);
        }
    ck_assert(differs > 0);
    free(far);
    free(c);
    free(wide);
    free(a);
    free(w);
}
END_TEST

/* What is not in blocks, and what has no panels, is exact on such a device. */
START_TEST(others_are_exact)
{
    enum { N = 6, K = 64 };
    rt_err err = { .text = "" };
    rt_dev *d = devices[0], *plain;
    float *a = random_floats(K, 1), one[N], two[N];
    uint8_t *w = random_blocks(RT_Q8_0, N * K / 32, 2);
    rt_tensor at = rt_tensor_2(a, RT_F32, 1, K), wt = rt_tensor_2(w, RT_Q8_0, N, K);
    rt_tensor x = rt_tensor_2(one, RT_F32, 1, N), y = rt_tensor_2(two, RT_F32, 1, N);
    rt_piece mxfp4 = { .dtype = RT_MXFP4, .row_bytes = 34, .step = 1 }, across = mxfp4;
    across.dtype = RT_Q8_0;
    across.transposed = K;
    OK(rt_dev_open(&plain, "cpu", 1, &err));
    rt_dev_dry_begin(plain);
    rt_matmul(plain, &x, &at, false, &wt, true, 0);
    rt_dev_dry_end(plain);
    OK(rt_dev_ready(plain, &err));
    ck_assert(!rt_dev_get(plain).int8);
    rt_matmul(plain, &x, &at, false, &wt, true, 0);
    rt_matmul(d, &y, &at, false, &wt, true, 0);
    ck_assert_mem_eq(one, two, sizeof one);
    wt = rt_tensor_2(NULL, RT_F32, N, K);
    wt.piece = &mxfp4;
    ck_assert_int_eq(rt_panels_bytes(d, &wt), 0);
    wt.piece = &across;
    ck_assert_int_eq(rt_panels_bytes(d, &wt), 0);
    rt_dev_close(plain);
    free(w);
    free(a);
}
END_TEST

/* Only a CPU has it. */
START_TEST(unknown_precision)
{
    rt_err err = { .text = "" };
    rt_dev *d;
    char name[] = "cpu", precision[] = "int";
    rt_dev_choice c = { .name = name, .precision = precision };
    FAILS(rt_dev_choose(&d, &c, false, &err), "device cpu has exact|int8");
    ck_assert_int_eq(err.exit_code, 2);
}
END_TEST

int main(void)
{
    enum { EACH = RT_COUNT(dtypes) };
    const suite_test tests[] = { { every_row_count, EACH }, { many, EACH },
                                 { extremes, EACH },        { hostile_rows, EACH },
                                 { pieces, EACH },          { experts, EACH },
                                 { near_exact, EACH },      { others_are_exact, 1 },
                                 { unknown_precision, 1 } };
    return suite_run("int8", open_devices, tests, RT_COUNT(tests));
}
