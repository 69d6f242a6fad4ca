/* test_matmul.c: every product of every device of this build against the numeric contract: each
   output element equals, bit for bit, a scalar chain of fused multiply-adds over ascending k in
   blocks of 2048, on every instruction set this machine has, with 1, 2 and 3 threads, for any
   number of rows. A device that rounds operands to bf16 is held to f64 within what that rounding
   may do, and to the same bits for a row whatever rows come with it; where it keeps activations in
   bf16, the cases run on those too. */
#include "core/base/rng.h"
#include "core/device/cpu/cpu.h"
#include "tests/device.h"
#include "tests/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES_MAX = 18, K_BLOCK = 2048 };

static rt_dev *devices[DEVICES_MAX];
static int n_devices;
static bool rounding; /* one of them rounds operands to bf16 */
static bool halves;   /* and keeps activations in it */

/* What activations of the running case are kept in. */
static struct {
    rt_dtype a, c;
} kept = { RT_F32, RT_F32 };

/* Pass 0 of a case, which comes last: on f32; pass 1: on a mixture with bf16 that `which` chooses.
   False: nobody takes it. */
static bool keep(int pass, int64_t which)
{
    static const rt_dtype mixture[][2] = { { RT_BF16, RT_BF16 },
                                           { RT_BF16, RT_F32 },
                                           { RT_F32, RT_BF16 } };
    kept.a = pass ? mixture[which % 3][0] : RT_F32;
    kept.c = pass ? mixture[which % 3][1] : RT_F32;
    return !pass || halves;
}
static bool in_half(void) { return kept.a == RT_BF16 || kept.c == RT_BF16; }
static bool takes(rt_dev *d) { return !in_half() || rt_dev_get(d).act == RT_BF16; }

/* Of a message: which device. */
static const char *about(rt_dev *d)
{
    static char text[64];
    rt_dev_facts f = rt_dev_get(d);
    snprintf(text, sizeof text, "%s %s, %d threads", f.name, f.isa, f.threads);
    return text;
}

static void open_devices(void)
{
    static const char *const isas[] = { "scalar", "avx2", "avx512" };
    rt_err err = { .text = "" };
    keep(0, 0); /* whatever a failed test left */
    while (n_devices > 0)
        rt_dev_close(devices[--n_devices]);
    const char *name;
    for (int kind = 0; (name = next_device(&kind));)
        for (int i = 0; i < 9; i++) {
            rt_dev *d;
            if (!open_device_named(&d, name, isas[i / 3], 1 + i % 3)) {
                ck_assert(i >= 3); /* scalar is everywhere */
                continue;
            }
            if (rt_dev_get(d).cpu_bits)
                ck_assert_str_eq(rt_dev_get(d).isa, isas[i / 3]);
            rt_tensor one = rt_tensor_2(NULL, RT_F32, 1, 1);
            rt_tensor wide = rt_tensor_2(NULL, RT_F32, 304, 304); /* of products in e4m3 */
            rt_dev_dry_begin(d); /* the least: large products go in several chunks */
            rt_matmul(d, &one, &one, false, &one, true, 0.0f);
            if (rt_dev_get(d).fp8)
                rt_matmul(d, &wide, &wide, false, &wide, true, 0.0f);
            rt_dev_dry_end(d);
            ck_assert_msg(rt_dev_ready(d, &err) == 0, "%s", err.text);
            devices[n_devices++] = d;
            rounding = rounding || rounds_to_bf16(d);
            halves = halves || rt_dev_get(d).act == RT_BF16;
            if (!rt_dev_get(d).cpu_bits)
                break; /* a GPU's instructions and threads are not ours to choose */
        }
}

/* --- data ----------------------------------------------------------------------------------------
 */

/* Nearest, ties to even. */
static uint16_t half_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return isnan(x) ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static float of_half(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* Numbers of bf16 where activations are. */
static float *floats(int64_t n, uint64_t seed)
{
    float *p = malloc((size_t)rt_max(n, 1) * sizeof(float));
    ck_assert_ptr_nonnull(p);
    for (int64_t i = 0; i < n; i++) {
        p[i] = rt_rng_uniform(seed, RT_RNG_DATA, (uint64_t)i) * 2.0f - 1.0f;
        if (in_half())
            p[i] = of_half(half_of(p[i]));
    }
    return p;
}

/* n elements of any dtype and what they decode to. Bytes of blocks stay below 0x3c, so that no two
   of them are an infinite f16 scale. */
static void *elements(rt_dtype t, int64_t n, uint64_t seed, float **decoded)
{
    if (t == RT_F32)
        return *decoded = floats(n, seed);
    int64_t bytes = rt_dtype_bytes(t, n);
    uint8_t *p = malloc((size_t)bytes);
    if (t == RT_BF16 && in_half()) { /* activations too */
        *decoded = floats(n, seed);
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)(void *)p)[i] = half_of((*decoded)[i]);
        return p;
    }
    *decoded = malloc((size_t)n * sizeof(float));
    ck_assert(p && *decoded);
    for (int64_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)rt_rng_below(seed, RT_RNG_DATA, (uint64_t)i, 0x3c);
    for (int64_t i = 0; t == RT_F8_E4M3 && i < bytes; i++) { /* every code but the two NaN */
        p[i] = (uint8_t)rt_rng_below(seed, RT_RNG_DATA, (uint64_t)i, 256);
        p[i] = (uint8_t)(p[i] & 127) == 127 ? 0 : p[i];
    }
    if (t == RT_F16 || t == RT_BF16) /* and some negative ones */
        for (int64_t i = 0; i < n; i += 3)
            p[2 * i + 1] |= 0x80;
    rt_decode_f32(*decoded, p, t, n);
    return p;
}

static void release(void *data, float *decoded)
{
    if (data != decoded)
        free(data);
    free(decoded);
}

/* --- the contract, one element at a time
 * ----------------------------------------------------------- */

struct view {
    const float *p;
    int64_t row, col;
}; /* element (i, j) is p[i * row + j * col] */

/* An element in f64, and the sum of the sizes of its products. */
struct near {
    double value, size;
};

static void chain(float *c, struct near *near, int64_t ldc, struct view a, struct view b, int64_t m,
                  int64_t n, int64_t k, bool add)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float *out = &c[i * ldc + j];
            struct near *exact = &near[i * ldc + j];
            bool onto = add;
            int64_t s = 0;
            *exact = (struct near){ add ? (double)*out : 0.0, add ? fabs((double)*out) : 0.0 };
            for (; rounding && s < k; s++) {
                double x = (double)a.p[i * a.row + s * a.col] * (double)b.p[s * b.row + j * b.col];
                exact->value += x;
                exact->size += fabs(x);
            }
            s = 0;
            do {
                float sum = 0.0f;
                for (int64_t end = rt_min(k, s + K_BLOCK); s < end; s++)
                    sum = fmaf(a.p[i * a.row + s * a.col], b.p[s * b.row + j * b.col], sum);
                *out = onto ? *out + sum : sum;
                onto = true;
            } while (s < k);
        }
}

static int64_t differing(const float *a, const float *b, int64_t n)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad += memcmp(a + i, b + i, sizeof(float)) != 0;
    return bad;
}

/* How many of n elements are not what the device owes: bits, or, where it rounds, f64 within
     2^-7 (1 + 2^-9)  both factors of a product rounded to 8 bits, and
     k 2^-22          sums of k products in f32, two roundings each, tensor cores cut instead;
   the first not where both are numbers of bf16 (floats, and b as rows of these). Of few rows by
   weights in f32, (k/32 + 40) 2^-21: the chain of a lane and what joins them, times eight for
   minima that cancel in a weight. Relative to the sizes of the products. A c of bf16 is rounded
   once: 2^-8 of itself. */
static int64_t wrong(rt_dev *d, const float *got, const float *want, const struct near *near,
                     int64_t n, int64_t k, rt_dtype b, bool few)
{
    if (!rounds_to_bf16(d))
        return differing(got, want, n);
    bool exact = in_half() && (b == RT_F32 || b == RT_BF16);
    double bound = few ? (double)(k / 32 + 40) * 0x1p-21
                       : (exact ? 0x1p-22 : 0x1p-7 + 0x1p-16) + (double)k * 0x1p-22;
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        double far = bound * near[i].size, value = fabs(near[i].value);
        if (kept.c == RT_BF16)
            far += 0x1p-8 * (value + far) + 0x1p-134; /* and what is subnormal */
        bad += !(fabs((double)got[i] - near[i].value) <= far);
    }
    return bad;
}

/* Elements that no product writes are themselves. */
static struct near *nears(const float *before, int64_t n)
{
    struct near *near = malloc((size_t)rt_max(n, 1) * sizeof *near);
    ck_assert_ptr_nonnull(near);
    for (int64_t i = 0; i < n; i++)
        near[i] = (struct near){ (double)before[i], 0.0 };
    return near;
}

/* Workspace holds NaN before a product. */
static void poison(rt_dev *d)
{
    if (strcmp(rt_dev_get(d).name, "cpu") == 0)
        memset(rt_cpu_of(d)->scratch, 0xff, (size_t)rt_cpu_of(d)->scratch_size);
}

/* Tensors of the host go to the device and c comes back. */
struct there {
    rt_tensor c, a, b, offset;
    rt_piece *piece;
    void *moved[64];
    int n;
};

static void *move(rt_dev *d, struct there *t, const void *host, int64_t bytes)
{
    ck_assert_int_lt(t->n, RT_COUNT(t->moved));
    return t->moved[t->n++] = put_bytes(d, host, bytes);
}

/* f32 of the host as `dtype` there. */
static rt_tensor put_as(rt_dev *d, const rt_tensor *host, rt_dtype dtype)
{
    if (dtype == RT_F32)
        return put_tensor(d, host);
    int64_t n = rt_tensor_elements(host);
    uint16_t *half = malloc((size_t)rt_max(n, 1) * sizeof *half);
    for (int64_t i = 0; i < n; i++)
        half[i] = half_of(((const float *)host->data)[i]);
    rt_tensor t = *host;
    t.dtype = dtype;
    t.data = half;
    t = put_tensor(d, &t);
    free(half);
    return t;
}

static struct there send(rt_dev *d, const rt_tensor *c, const rt_tensor *a, const rt_tensor *b,
                         const rt_tensor *offset, bool packed)
{
    struct there t = { .c = put_as(d, c, kept.c),
                       .a = put_as(d, a, kept.a),
                       .b = put_tensor(d, b) };
    if (offset)
        t.offset = put_tensor(d, offset);
    if (packed) {
        void *panels = rt_dev_alloc(d, rt_panels_bytes(d, b));
        rt_pack_weight(d, panels, &t.b);
        drop_tensor(d, &t.b); /* must not be read */
        t.b.panels = t.moved[t.n++] = panels;
    }
    return t;
}

static void receive(rt_dev *d, rt_tensor *c, struct there *t)
{
    int64_t n = rt_tensor_elements(c);
    if (t->c.dtype == RT_F32) {
        get_tensor(d, c, &t->c);
    } else {
        uint16_t *half = malloc((size_t)rt_max(n, 1) * sizeof *half);
        get_bytes(d, half, t->c.data, rt_tensor_bytes(&t->c));
        for (int64_t i = 0; i < n; i++)
            ((float *)c->data)[i] = of_half(half[i]);
        free(half);
        drop_tensor(d, &t->c);
    }
    drop_tensor(d, &t->a);
    drop_tensor(d, &t->b);
    drop_tensor(d, &t->offset);
    while (t->n)
        rt_dev_release(d, t->moved[--t->n]);
    free(t->piece);
}

/* c = a b + beta c on every device against the chain; the scalar device only when asked, it is
 * slow. */
static void check_kept(int64_t m, int64_t n, int64_t k, bool ta, bool tb, rt_dtype dtype, bool add,
                       bool packed)
{
    float *bf, *a = floats(m * k, 1), *before = floats(m * n, 3), *want = floats(m * n, 3);
    void *b = elements(dtype, n * k, 2, &bf);
    struct view va = { a, ta ? 1 : k, ta ? m : 1 }, vb = { bf, tb ? 1 : n, tb ? k : 1 };
    struct near *near = nears(before, m * n);
    chain(want, near, n, va, vb, m, n, k, add);
    for (int i = 0; i < n_devices; i++) {
        rt_dev *d = devices[i];
        if (!takes(d))
            continue;
        float *c = malloc((size_t)(m * n) * sizeof(float));
        memcpy(c, before, (size_t)(m * n) * sizeof(float));
        rt_tensor tc = rt_tensor_2(c, RT_F32, m, n);
        rt_tensor at = ta ? rt_tensor_2(a, RT_F32, k, m) : rt_tensor_2(a, RT_F32, m, k);
        rt_tensor bt = tb ? rt_tensor_2(b, dtype, n, k) : rt_tensor_2(b, dtype, k, n);
        struct there t = send(d, &tc, &at, &bt, NULL, packed);
        poison(d);
        rt_matmul(d, &t.c, &t.a, ta, &t.b, tb, add ? 1.0f : 0.0f);
        receive(d, &tc, &t);
        int64_t bad = wrong(d, c, want, near, m * n, k, dtype, !ta && tb && m <= 8 && k % 32 == 0);
        ck_assert_msg(bad == 0, "%s: (%d,%d,%d) %s ta %d %s tb %d to %s beta %d: %d bits differ",
                      about(d), (int)m, (int)n, (int)k, rt_dtype_get(kept.a)->name, ta,
                      rt_dtype_get(dtype)->name, tb, rt_dtype_get(kept.c)->name, add, (int)bad);
        free(c);
    }
    release(b, bf);
    free(a);
    free(before);
    free(want);
    free(near);
}

static void check_product(int64_t m, int64_t n, int64_t k, bool ta, bool tb, rt_dtype dtype,
                          bool add, bool packed)
{
    for (int pass = 2; pass-- > 0;)
        if (keep(pass, m + n / 3 + k / 9 + 2 * ta + tb))
            check_kept(m, n, k, ta, tb, dtype, add, packed);
}

static const int64_t odd[] = { 1, 5, 7, 11, 13, 31, 32, 33, 47, 64, 65, 100 };

START_TEST(every_row_count) /* 1 .. 40 rows */
{
    int64_t m = _i + 1, n = odd[m * 5 % RT_COUNT(odd)], k = odd[(m * 7 + 3) % RT_COUNT(odd)];
    for (int form = 0; form < 4; form++)
        for (int add = 0; add < 2; add++)
            check_product(m, n, k, form & 1, form & 2, RT_F32, add, false);
    check_product(m, n, k, false, true, RT_F32, m & 1, true);
}
END_TEST

START_TEST(long_sums) /* blocks of 2048, and sizes around them */
{
    static const int64_t k[] = { 2047, 2048, 2049, 4096, 4101 };
    for (int form = 0; form < 4; form++)
        check_product(15, 33, k[_i], form & 1, form & 2, RT_F32, form & 1, false);
    check_product(3, 33, k[_i], false, true, RT_F32, true, true);
}
END_TEST

START_TEST(many_chunks) /* b does not fit into the workspace at once */
{
    check_product(3, 600, 2050, false, _i, RT_F32, true, false);
}
END_TEST

START_TEST(many_tiles) /* more blocks of rows than threads; a wide edge */
{
    check_product(301, 70, 96, _i, !_i, RT_F32, false, false);
}
END_TEST

START_TEST(every_dtype)
{
    if (rt_dtype_get((rt_dtype)_i)->block == 1 && _i != RT_F16 && _i != RT_BF16 && _i != RT_F8_E4M3)
        return;
    if (_i == RT_M8 || _i == RT_V8) /* an optimizer's, never multiplied */
        return;
    for (int tb = 0; tb < 2; tb++) {
        int64_t block = rt_dtype_get((rt_dtype)_i)->block, n = tb           ? 41
                                                               : block == 1 ? 77
                                                                            : 2 * block;
        check_product(6, n, tb ? (block == 1 ? 301 : 3 * block) : 37, false, tb, (rt_dtype)_i, true,
                      false);
    }
    check_product(2, 70, 512, false, true, (rt_dtype)_i, false, true);
    static const int64_t rows[] = { 1, 2, 3, 14, 15, 33 };
    for (int i = 0; i < RT_COUNT(rows); i++) /* few rows: decoded and multiplied piece by piece */
        if (!rounding || i % 3 != 1)         /* an emulated GPU takes long */
            check_product(rows[i], 1 + 71 * i, i % 2 ? 2304 : 768, false, true, (rt_dtype)_i, i & 2,
                          false);
    check_product(1, 300, 2048, false, true, (rt_dtype)_i, true, false);
}
END_TEST

START_TEST(every_byte) /* as exponent of a block, as 8-bit code, whatever number it is or is not */
{
    enum { N = 256, K = 32, M = 3 };
    static const rt_dtype dtypes[] = { RT_MXFP4, RT_F8_E4M3 };
    int64_t row = rt_dtype_bytes(dtypes[_i], K);
    uint8_t *b = calloc(N, (size_t)row);
    float decoded[N * K], a[M * K] = { 0 }, c[M * N];
    for (int n = 0; n < N; n++) {
        b[n * row] = (uint8_t)n;
        b[n * row + 1] = 1;
    }
    rt_decode_f32(decoded, b, dtypes[_i], N * K);
    for (int m = 0; m < M; m++)
        a[m * K] = 1.0f; /* of every row of b its first element */
    for (int i = 0; i < n_devices; i++)
        for (int m = 1; m <= M; m += M - 1) {
            rt_dev *d = devices[i];
            rt_tensor ct = rt_tensor_2(c, RT_F32, m, N), at = rt_tensor_2(a, RT_F32, m, K);
            rt_tensor bt = rt_tensor_2(b, dtypes[_i], N, K);
            struct there t = send(d, &ct, &at, &bt, NULL, false);
            rt_matmul(d, &t.c, &t.a, false, &t.b, true, 0.0f);
            receive(d, &ct, &t);
            for (int j = 0; j < m * N; j++) {
                float want = decoded[j % N * K];
                ck_assert_msg(isnan(want) ? isnan(c[j]) : c[j] == want, "%s: %s, byte %d", about(d),
                              rt_dtype_get(dtypes[_i])->name, j % N);
            }
        }
    free(b);
}
END_TEST

/* Both operands bf16: on 16 bytes, or a number off; k less than, more than and no multiple of 32.
 */
START_TEST(two_halves)
{
    static const int64_t sizes[][3] = { { 9, 8, 8 },     { 16, 24, 16 },   { 72, 40, 40 },
                                        { 64, 64, 32 },  { 65, 72, 104 },  { 136, 136, 200 },
                                        { 304, 72, 64 }, { 40, 200, 72 },  { 33, 70, 45 },
                                        { 24, 36, 68 },  { 130, 260, 96 }, { 12, 8, 2056 } };
    int64_t m = sizes[_i][0], n = sizes[_i][1], k = sizes[_i][2];
    for (int form = 0; form < 4; form++)
        for (int kind = 0; kind < 3; kind++)
            if (keep(1, kind))
                check_kept(m, n, k, form & 1, form & 2, RT_BF16, kind != 1 || form & 1, false);
}
END_TEST

START_TEST(empty) /* no rows: nothing; no k: 0 or what was there */
{
    check_product(0, 5, 7, false, true, RT_F32, false, false);
    check_product(4, 5, 0, false, true, RT_F32, false, false);
    check_product(4, 5, 0, true, false, RT_F32, true, false);
}
END_TEST

/* --- e4m3 ----------------------------------------------------------------------------------------
 */

/* x over what makes the largest 448, rounded to the nearest code, ties to the even one; the
 * divisor. */
static float quantize(float *x, int64_t n)
{
    uint8_t code[127];
    float value[127], largest = 0.0f;
    for (int i = 0; i < 127; i++)
        code[i] = (uint8_t)i;
    rt_decode_f32(value, code, RT_F8_E4M3, 127);
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    float most = fmaxf(largest, 0x1p-100f), inverse = 448.0f / most;
    for (int64_t i = 0; i < n; i++) {
        float size = fabsf(x[i] * inverse);
        int best = 0;
        for (int c = 1; c < 127; c++) {
            float is = fabsf(value[c] - size), was = fabsf(value[best] - size);
            if (is < was || (is == was && c % 2 == 0))
                best = c;
        }
        x[i] = copysignf(value[best], x[i]);
    }
    return most / 448.0f;
}

/* y = x w^T on a device that rounds both to e4m3, against f64 of what they are rounded to. */
static void check_fp8(int64_t m, int64_t n, int64_t k, rt_dtype dtype, bool add, float size)
{
    float *bf, *a = floats(m * k, 1), *before = floats(m * n, 3);
    void *b = elements(dtype, n * k, 2, &bf);
    float *x = malloc((size_t)(m * k) * sizeof *x), *w = malloc((size_t)(n * k) * sizeof *w);
    for (int64_t i = 0; i < m * k; i++) /* of many sizes: some become subnormal, some 0 */
        a[i] = of_half(half_of(a[i] * size * (i % 5 ? 1.0f : ldexpf(1.0f, -(int)(i % 23)))));
    memcpy(x, a, (size_t)(m * k) * sizeof *x);
    memcpy(w, bf, (size_t)(n * k) * sizeof *w);
    double divisor = (double)quantize(x, m * k);
    divisor *= (double)quantize(w, n * k);
    rt_tensor ct = rt_tensor_2(before, RT_F32, m, n), at = rt_tensor_2(a, RT_F32, m, k);
    rt_tensor bt = rt_tensor_2(b, dtype, n, k);
    for (int i = 0; i < n_devices; i++) {
        rt_dev *d = devices[i];
        if (!rt_dev_get(d).fp8)
            continue;
        float *c = malloc((size_t)(m * n) * sizeof *c);
        rt_tensor got = rt_tensor_2(c, RT_F32, m, n);
        struct there t = send(d, &ct, &at, &bt, NULL, false);
        rt_matmul(d, &t.c, &t.a, false, &t.b, true, add ? 1.0f : 0.0f);
        receive(d, &got, &t);
        for (int64_t j = 0; j < m * n; j++) {
            double sum = 0.0, sizes = 0.0, old = add ? (double)before[j] : 0.0;
            for (int64_t l = 0; l < k; l++) {
                double one = (double)x[j / n * k + l] * (double)w[j % n * k + l] * divisor;
                sum += one;
                sizes += fabs(one);
            }
            double far = 0x1p-12 * sizes; /* of e4m3, tensor cores add up with 13 bits */
            far += 0x1p-8 * (fabs(sum + old) + far) + 0x1p-134;
            ck_assert_msg(fabs((double)c[j] - sum - old) <= far,
                          "%s: e4m3 (%d,%d,%d) %s by %s beta %d: element %d is %.9g, not %.9g",
                          about(d), (int)m, (int)n, (int)k, rt_dtype_get(kept.a)->name,
                          rt_dtype_get(dtype)->name, add, (int)j, (double)c[j], sum + old);
        }
        free(c);
    }
    release(b, bf);
    free(a);
    free(before);
    free(x);
    free(w);
}

START_TEST(e4m3)
{
    for (int kind = 0; kind < 3; kind += 2) { /* c is bf16 */
        if (!keep(1, kind))
            continue;
        check_fp8(256, 256, 256, RT_BF16, false, 1.0f);
        check_fp8(400, 272, 304, RT_F32, kind, 1000.0f);
        check_fp8(259, 304, 272, RT_BF16, !kind, 1e-9f);
    }
}
END_TEST

/* Each code, what lies halfway to the next, and the neighbours of that in f32, times a unit matrix.
 */
START_TEST(e4m3_codes)
{
    enum { N = 256 };
    static float x[N * N], want[N * N], w[N * N], y[N * N];
    for (int i = 0; i < N * N; i++) {
        uint8_t code[2] = { (uint8_t)(i / 8 % 126), (uint8_t)(i / 8 % 126 + 1) };
        float of[2];
        rt_decode_f32(of, code, RT_F8_E4M3, 2);
        float half = 0.5f * (of[0] + of[1]);
        const float each[] = { of[0], half, nextafterf(half, 0.0f), nextafterf(half, 1e9f) };
        const float nearest[] = { of[0], of[code[0] % 2], of[0], of[1] };
        x[i] = i % 2 ? -each[i / 2 % 4] : each[i / 2 % 4];
        want[i] = i % 2 ? -nearest[i / 2 % 4] : nearest[i / 2 % 4];
        w[i] = i / N == i % N;
    }
    x[0] = want[0] = 448.0f;
    rt_tensor yt = rt_tensor_2(y, RT_F32, N, N), wt = rt_tensor_2(w, RT_F32, N, N);
    rt_tensor xt = rt_tensor_2(x, RT_F32, N, N);
    for (int i = 0; i < n_devices && keep(1, 2); i++) {
        if (!rt_dev_get(devices[i]).fp8)
            continue;
        struct there t = send(devices[i], &yt, &xt, &wt, NULL, false);
        rt_matmul(devices[i], &t.c, &t.a, false, &t.b, true, 0.0f);
        receive(devices[i], &yt, &t);
        for (int j = 0; j < N * N; j++)
            ck_assert_msg(y[j] == want[j], "%.9g becomes %.9g, not %.9g", (double)x[j],
                          (double)y[j], (double)want[j]);
    }
}
END_TEST

/* A number that is not finite is in every result; nothing but 0 is 0. */
START_TEST(e4m3_ends)
{
    enum { N = 256 };
    static float a[N * N], b[N * N], c[N * N];
    static const float special[] = { NAN, INFINITY, 0.0f };
    for (int i = 0; i < n_devices && keep(1, 0); i++)
        for (int s = 0; s < 3 && rt_dev_get(devices[i]).fp8; s++) {
            for (int j = 0; j < N * N; j++)
                a[j] = s < 2 ? 1.0f : 0.0f, b[j] = 1.0f;
            a[N + 70] = special[s]; /* of the second half of a warp */
            rt_tensor ct = rt_tensor_2(c, RT_F32, N, N), at = rt_tensor_2(a, RT_F32, N, N);
            rt_tensor bt = rt_tensor_2(b, RT_F32, N, N);
            struct there t = send(devices[i], &ct, &at, &bt, NULL, false);
            rt_matmul(devices[i], &t.c, &t.a, false, &t.b, true, 0.0f);
            receive(devices[i], &ct, &t);
            for (int j = 0; j < N * N; j++)
                ck_assert(s < 2 ? isnan(c[j]) : c[j] == 0.0f);
        }
}
END_TEST

/* --- experts and heads
 * ----------------------------------------------------------------------------- */

enum { EXPERTS = 6 };
static const int32_t expert_rows[EXPERTS + 1] = { 0, 3, 3, 20, 21, 61, 61 };

static void check_grouped(bool ta, bool tb, rt_dtype dtype, bool add, bool packed, int64_t n,
                          int64_t k)
{
    int64_t rows = expert_rows[EXPERTS], size = ta ? EXPERTS * k * n : rows * n;
    float *bf, *a = floats(rows * k, 1), *before = floats(size, 3), *want = floats(size, 3);
    void *b = elements(dtype, ta ? rows * n : EXPERTS * n * k, 2, &bf);
    struct near *near = nears(before, size);
    for (int e = 0; e < EXPERTS; e++) {
        int64_t r0 = expert_rows[e], g = expert_rows[e + 1] - r0;
        if (ta)
            chain(want + e * k * n, near + e * k * n, n, (struct view){ a + r0 * k, 1, k },
                  (struct view){ bf + r0 * n, n, 1 }, k, n, g, add);
        else
            chain(want + r0 * n, near + r0 * n, n, (struct view){ a + r0 * k, k, 1 },
                  (struct view){ bf + e * n * k, tb ? 1 : n, tb ? k : 1 }, g, n, k, add);
    }
    rt_tensor at = rt_tensor_2(a, RT_F32, rows, k);
    rt_tensor bt = ta ? rt_tensor_2(b, dtype, rows, n)
                      : rt_tensor_3(b, dtype, EXPERTS, tb ? n : k, tb ? k : n);
    int32_t offset[EXPERTS + 1];
    for (int e = 0; e <= EXPERTS; e++)
        offset[e] = expert_rows[e] + 9; /* rows are counted from the first one's */
    rt_tensor ot = rt_tensor_1(offset, RT_I32, EXPERTS + 1);
    for (int i = 0; i < n_devices; i++) {
        rt_dev *d = devices[i];
        if (!takes(d))
            continue;
        float *c = malloc((size_t)size * sizeof(float));
        memcpy(c, before, (size_t)size * sizeof(float));
        rt_tensor ct = ta ? rt_tensor_3(c, RT_F32, EXPERTS, k, n) : rt_tensor_2(c, RT_F32, rows, n);
        struct there t = send(d, &ct, &at, &bt, &ot, packed);
        poison(d);
        rt_matmul_grouped(d, &t.c, &t.a, ta, &t.b, tb, &t.offset, add ? 1.0f : 0.0f);
        receive(d, &ct, &t);
        int64_t bad = wrong(d, c, want, near, size, ta ? rows : k, dtype, false);
        ck_assert_msg(bad == 0, "%s: grouped %s ta %d %s tb %d to %s: %d bits differ", about(d),
                      rt_dtype_get(kept.a)->name, ta, rt_dtype_get(dtype)->name, tb,
                      rt_dtype_get(kept.c)->name, (int)bad);
        free(c);
    }
    release(b, bf);
    free(a);
    free(before);
    free(want);
    free(near);
}

START_TEST(grouped)
{
    for (int kind = 4; kind-- > 0;) {
        if (!keep(kind > 0, kind))
            continue;
        check_grouped(false, true, RT_F32, _i, false, 70, 45);
        check_grouped(false, false, RT_F32, _i, false, 45, 70);
        check_grouped(true, false, RT_F32, _i, false, 70, 45);
        check_grouped(false, true, RT_F32, _i, true, 70, 45);
        check_grouped(false, true, RT_BF16, _i, false, 33, 45);
        check_grouped(false, true, RT_Q8_0, _i, true, 33, 64);
        check_grouped(false, false, RT_Q4_K, _i, false, 512, 9);
        if (kind == 0)
            continue;
        check_grouped(true, false, RT_BF16, _i, false, 72, 40);
        check_grouped(true, false, RT_BF16, _i, false, 70, 45);
        check_grouped(false, true, RT_BF16, _i, false, 72, 40);
        check_grouped(false, false, RT_BF16, _i, false, 136, 72);
    }
}
END_TEST

/* c(N,H,cw)[.., c0 : c0+out] = a(N,H,aw)[.., a0 : a0+in] · w_h, everything else of c untouched */
static void check_heads(bool tb, rt_dtype t, int64_t c0, int64_t a0)
{
    enum { ROWS = 19, HEADS = 5, W0 = 4, N = 37, W_ROWS = 50, COLS = 64, WIDE = 80 };
    int64_t in = tb ? COLS : N, out = tb ? N : COLS, total = ROWS * HEADS * WIDE;
    float *wf, *a = floats(total, 1), *want = floats(total, 3);
    void *w = elements(t, HEADS * W_ROWS * COLS, 2, &wf);
    struct near *near = nears(want, total);
    for (int64_t h = 0; h < HEADS; h++)
        chain(want + h * WIDE + c0, near + h * WIDE + c0, HEADS * WIDE,
              (struct view){ a + h * WIDE + a0, HEADS * WIDE, 1 },
              (struct view){ wf + (h * W_ROWS + W0) * COLS, tb ? 1 : COLS, tb ? COLS : 1 }, ROWS,
              out, in, false);
    for (int i = 0; i < n_devices; i++) {
        rt_dev *d = devices[i];
        if (!takes(d))
            continue;
        float *c = floats(total, 3);
        rt_tensor ct = rt_tensor_3(c, RT_F32, ROWS, HEADS, WIDE);
        rt_tensor at = rt_tensor_3(a, RT_F32, ROWS, HEADS, WIDE);
        rt_tensor wt = rt_tensor_3(w, t, HEADS, W_ROWS, COLS);
        struct there x = send(d, &ct, &at, &wt, NULL, false);
        poison(d);
        rt_matmul_heads(d, &x.c, c0, &x.a, a0, &x.b, W0, N, tb);
        receive(d, &ct, &x);
        ck_assert_msg(wrong(d, c, want, near, total, in, t, false) == 0,
                      "%s: heads %s tb %d %s to %s", about(d), rt_dtype_get(kept.a)->name, tb,
                      rt_dtype_get(t)->name, rt_dtype_get(kept.c)->name);
        free(c);
    }
    release(w, wf);
    free(a);
    free(want);
    free(near);
}

START_TEST(heads)
{
    for (int kind = 4; kind-- > 0;) {
        if (!keep(kind > 0, kind))
            continue;
        check_heads(_i, RT_F32, 3, 2);
        check_heads(_i, RT_BF16, 3, 2);
        check_heads(_i, RT_Q8_0, 3, 2);
        if (kind)
            check_heads(_i, RT_BF16, 8, 16);
    }
}
END_TEST

/* --- weights where they lie in a checkpoint ------------------------------------------------------
 */

/* Bytes for n rows of k columns of a code under scales, or of a dtype in an order of its own. */
struct lying {
    rt_piece piece;
    uint8_t *data, *scale;
    int64_t n, k, data_bytes, scale_bytes;
};

static struct lying lie(rt_code code, rt_dtype dtype, rt_dtype scale, int64_t n, int64_t k,
                        uint64_t seed)
{
    struct lying x = { .n = n, .k = k };
    rt_piece *p = &x.piece;
    *p = (rt_piece){ .code = code, .dtype = dtype, .step = 1, .scale_rows = 1, .scale_cols = 32 };
    p->row_bytes = code == RT_CODE_MXFP4 || code == RT_CODE_INT4 ? k / 2 : rt_dtype_bytes(dtype, k);
    p->scale_dtype = scale;
    if (code == RT_CODE_ROWS) { /* of a head of 14, interleaved: one of two interleaved matrices */
        p->first = 1;
        p->step = seed % 2 ? 2 : 1;
        p->pair = 14;
    } else if (code == RT_CODE_FP8) {
        p->scale_rows = 16;
        p->scale_cols = 64;
    } else {
        p->scale_cols = code == RT_CODE_INT4 ? 64 : 32;
    }
    p->scale_ld = rt_ceil_div(k, p->scale_cols);
    int64_t rows = 2 * (n + 14) + 1, scales = rows * p->scale_ld;
    x.data = malloc((size_t)(rows * p->row_bytes));
    x.scale = malloc((size_t)(4 * scales));
    for (int64_t i = 0; i < rows * p->row_bytes; i++) {
        x.data[i] = (uint8_t)rt_rng_below(seed, RT_RNG_DATA, (uint64_t)i, code ? 256 : 0x3c);
        if (code == RT_CODE_FP8 && (x.data[i] & 127) == 127)
            x.data[i] = 1;
    }
    for (int64_t i = 0; i < scales; i++) {
        float s = 0.25f + rt_rng_uniform(seed + 1, RT_RNG_DATA, (uint64_t)i);
        uint32_t bits;
        uint16_t half = rt_f32_to_f16(s);
        memcpy(&bits, &s, 4);
        if (scale == RT_BF16)
            half = (uint16_t)(bits >> 16);
        if (scale == RT_F32)
            memcpy(x.scale + 4 * i, &s, 4);
        else if (scale != RT_F8_E8M0)
            memcpy(x.scale + 2 * i, &half, 2);
        else
            x.scale[i] = (uint8_t)(120 + rt_rng_below(seed, RT_RNG_DATA, (uint64_t)i, 16));
    }
    p->data = x.data;
    p->scale = x.scale;
    x.data_bytes = rows * p->row_bytes;
    x.scale_bytes = 4 * scales;
    return x;
}

/* Their bytes on the device, as the weight b. */
static void lie_there(rt_dev *d, struct there *t, const struct lying *w, int n)
{
    t->piece = malloc((size_t)n * sizeof *t->piece);
    for (int e = 0; e < n; e++) {
        t->piece[e] = w[e].piece;
        t->piece[e].data = move(d, t, w[e].data, w[e].data_bytes);
        t->piece[e].scale = move(d, t, w[e].scale, w[e].scale_bytes);
    }
    t->b.piece = t->piece;
}

static const struct {
    rt_code code;
    rt_dtype dtype, scale;
} lyings[] = { { RT_CODE_ROWS, RT_BF16, RT_F32 },   { RT_CODE_ROWS, RT_Q4_1, RT_F32 },
               { RT_CODE_ROWS, RT_F16, RT_F32 },    { RT_CODE_ROWS, RT_F32, RT_F32 },
               { RT_CODE_FP8, RT_F8_E4M3, RT_F32 }, { RT_CODE_FP8, RT_F8_E4M3, RT_F16 },
               { RT_CODE_MXFP4, RT_U8, RT_F8_E8M0 }, { RT_CODE_INT4, RT_I32, RT_F32 },
               { RT_CODE_INT4, RT_I32, RT_BF16 } };

/* Experts of a stack where each lies, then heads of one matrix, few and many rows. */
static void check_pieces(int kind)
{
    enum { N = 70, K = 192, HEADS = 5, W0 = 6, PART = 8 };
    const int32_t few[EXPERTS + 1] = { 0, 3, 3, 20, 21, 61, 61 },
                                many[EXPERTS + 1] = { 0, 150, 150, 151, 160, 290, 300 };
    struct lying w[EXPERTS];
    rt_piece piece[EXPERTS];
    float *wf = malloc(sizeof *wf * EXPERTS * N * K), *a = floats(300 * K, 1),
          *want = floats(300 * N, 3);
    struct near *near = nears(want, 300 * N);
    for (int e = 0; e < EXPERTS; e++) {
        w[e] = lie(lyings[kind].code, lyings[kind].dtype, lyings[kind].scale, N, K,
                   (uint64_t)e + 10);
        piece[e] = w[e].piece;
        for (int64_t r = 0; r < N; r++)
            rt_piece_decode(wf + (e * N + r) * K, &piece[e], r, 0, K);
    }
    for (int form = 0; form < 2; form++) {
        int32_t offset[EXPERTS + 1];
        memcpy(offset, form ? many : few, sizeof offset);
        int64_t rows = offset[EXPERTS];
        for (int e = 0; e < EXPERTS; e++)
            chain(want + offset[e] * N, near + offset[e] * N, N,
                  (struct view){ a + offset[e] * K, K, 1 },
                  (struct view){ wf + (int64_t)e * N * K, 1, K }, offset[e + 1] - offset[e], N, K,
                  false);
        for (int i = 0; i < n_devices; i++) {
            rt_dev *d = devices[i];
            if (!takes(d))
                continue;
            float *c = floats(rows * N, 4);
            rt_tensor ct = rt_tensor_2(c, RT_F32, rows, N), at = rt_tensor_2(a, RT_F32, rows, K);
            rt_tensor wt = rt_tensor_3(NULL, RT_F32, EXPERTS, N, K);
            rt_tensor ot = rt_tensor_1(offset, RT_I32, EXPERTS + 1);
            struct there t = send(d, &ct, &at, &wt, &ot, false);
            lie_there(d, &t, w, EXPERTS);
            poison(d);
            rt_matmul_grouped(d, &t.c, &t.a, false, &t.b, true, &t.offset, 0.0f);
            receive(d, &ct, &t);
            ck_assert_msg(wrong(d, c, want, near, rows * N, K, RT_U8, false) == 0, "%s: experts",
                          about(d));
            free(c);
        }
    }
    for (int form = 0; form < 2; form++) { /* gradients go through the same weights */
        int32_t offset[EXPERTS + 1];
        memcpy(offset, form ? many : few, sizeof offset);
        int64_t rows = offset[EXPERTS];
        float *wide = floats(rows * K, 3);
        struct near *far = nears(wide, rows * K);
        for (int e = 0; e < EXPERTS; e++)
            chain(wide + offset[e] * K, far + offset[e] * K, K,
                  (struct view){ a + offset[e] * N, N, 1 },
                  (struct view){ wf + (int64_t)e * N * K, K, 1 }, offset[e + 1] - offset[e], K, N,
                  false);
        for (int i = 0; i < n_devices; i++) {
            rt_dev *d = devices[i];
            if (!takes(d))
                continue;
            float *c = floats(rows * K, 4);
            rt_tensor ct = rt_tensor_2(c, RT_F32, rows, K), at = rt_tensor_2(a, RT_F32, rows, N);
            rt_tensor wt = rt_tensor_3(NULL, RT_F32, EXPERTS, N, K);
            rt_tensor ot = rt_tensor_1(offset, RT_I32, EXPERTS + 1);
            struct there t = send(d, &ct, &at, &wt, &ot, false);
            lie_there(d, &t, w, EXPERTS);
            poison(d);
            rt_matmul_grouped(d, &t.c, &t.a, false, &t.b, false, &t.offset, 0.0f);
            receive(d, &ct, &t);
            ck_assert_msg(wrong(d, c, wide, far, rows * K, N, RT_U8, false) == 0, "%s: gradient",
                          about(d));
            free(c);
        }
        free(wide);
        free(far);
    }
    for (int tb = 0; tb < 2;
         tb++) { /* (19, HEADS, .) with heads of 14 rows, of which 8 from the 6th */
        int64_t in = tb ? K : PART, out = tb ? PART : K, rows = 19;
        for (int h = 0; h < HEADS; h++)
            chain(want + h * out, near + h * out, HEADS * out,
                  (struct view){ a + h * in, HEADS * in, 1 },
                  (struct view){ wf + (h * 14 + W0) * K, tb ? 1 : K, tb ? K : 1 }, rows, out, in,
                  false);
        for (int i = 0; i < n_devices; i++) {
            rt_dev *d = devices[i];
            if (!takes(d))
                continue;
            float *c = floats(rows * HEADS * out, 4);
            rt_tensor ct = rt_tensor_3(c, RT_F32, rows, HEADS, out);
            rt_tensor at = rt_tensor_3(a, RT_F32, rows, HEADS, in);
            rt_tensor wt = rt_tensor_3(NULL, RT_F32, HEADS, 14, K);
            struct there t = send(d, &ct, &at, &wt, NULL, false);
            lie_there(d, &t, w, 1);
            poison(d);
            rt_matmul_heads(d, &t.c, 0, &t.a, 0, &t.b, W0, PART, tb);
            receive(d, &ct, &t);
            ck_assert_msg(wrong(d, c, want, near, rows * HEADS * out, in, RT_U8, false) == 0,
                          "%s: heads tb %d", about(d), tb);
            free(c);
        }
    }
    for (int e = 0; e < EXPERTS; e++) {
        free(w[e].data);
        free(w[e].scale);
    }
    free(wf);
    free(a);
    free(want);
    free(near);
}

START_TEST(pieces)
{
    for (int pass = 2; pass-- > 0;)
        if (keep(pass, _i))
            check_pieces(_i);
}
END_TEST

/* More experts than a tile has rows, most of them with fewer rows, some with none. */
START_TEST(many_experts)
{
    enum { E = 201, N = 3, K = 5 };
    int32_t offset[E + 1] = { 7 }; /* rows are counted from it */
    for (int e = 0; e < E; e++) {
        int32_t few = e % 3 ? (int32_t)rt_rng_below(6, RT_RNG_DATA, (uint64_t)e, 9) : 0;
        offset[e + 1] = offset[e] + (e % 40 == 39 ? 63 + e / 40 % 3 : few);
    }
    int64_t rows = offset[E] - offset[0];
    float *a = floats(rows * K, 1), *w = floats(E * N * K, 2), *want = floats(rows * N, 3);
    struct near *near = nears(want, rows * N);
    for (int e = 0; e < E; e++) {
        int64_t first = offset[e] - offset[0];
        chain(want + first * N, near + first * N, N, (struct view){ a + first * K, K, 1 },
              (struct view){ w + e * N * K, 1, K }, offset[e + 1] - offset[e], N, K, false);
    }
    for (int i = 0; i < n_devices; i++) {
        float *c = floats(rows * N, 4);
        rt_tensor ct = rt_tensor_2(c, RT_F32, rows, N), at = rt_tensor_2(a, RT_F32, rows, K);
        rt_tensor wt = rt_tensor_3(w, RT_F32, E, N, K), ot = rt_tensor_1(offset, RT_I32, E + 1);
        struct there t = send(devices[i], &ct, &at, &wt, &ot, false);
        poison(devices[i]);
        rt_matmul_grouped(devices[i], &t.c, &t.a, false, &t.b, true, &t.offset, 0.0f);
        receive(devices[i], &ct, &t);
        ck_assert_msg(wrong(devices[i], c, want, near, rows * N, K, RT_F32, false) == 0, "%s",
                      about(devices[i]));
        free(c);
    }
    free(a);
    free(w);
    free(want);
    free(near);
}
END_TEST

/* Experts (E, K, what `lying` says) of which the weight is N columns: all of them, the second half,
   the odd ones, the even ones. Plain numbers at an odd address. */
static const rt_dtype across[] = { RT_F32, RT_F16, RT_BF16, RT_Q8_0, RT_Q4_K };

static void check_transposed(rt_dtype dtype, int lying)
{
    int block = rt_dtype_get(dtype)->block;
    if (block > 1 && lying > 1)
        return;
    int64_t n = block > 1 ? rt_max(block, 96) : 165, k = 70, wide = lying ? 2 * n : n;
    int64_t first = lying == 1 ? n : lying == 2, step = lying > 1 ? 2 : 1;
    static const int64_t rows[] = { 1, 2, 40, 150 };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        int64_t m = rows[i], each = rt_dtype_bytes(dtype, k * wide), odd_byte = block == 1;
        float *wf, *a = floats(EXPERTS * m * k, 1), *want = floats(EXPERTS * m * n, 3);
        struct near *near = nears(want, EXPERTS * m * n);
        uint8_t *w = elements(dtype, EXPERTS * k * wide, 2, &wf);
        uint8_t *moved = calloc(1, (size_t)(EXPERTS * each + 1));
        memcpy(moved + odd_byte, w, (size_t)(EXPERTS * each));
        int32_t offset[EXPERTS + 1] = { 0 };
        for (int64_t e = 0; e < EXPERTS; e++) {
            offset[e + 1] = (int32_t)((e + 1) * m);
            chain(want + e * m * n, near + e * m * n, n, (struct view){ a + e * m * k, k, 1 },
                  (struct view){ wf + e * k * wide + first, wide, step }, m, n, k, false);
        }
        for (int j = 0; j < n_devices; j++) {
            rt_dev *d = devices[j];
            if (!takes(d))
                continue;
            float *c = floats(EXPERTS * m * n, 4);
            rt_tensor ct = rt_tensor_2(c, RT_F32, EXPERTS * m, n);
            rt_tensor at = rt_tensor_2(a, RT_F32, EXPERTS * m, k);
            rt_tensor wt = rt_tensor_3(NULL, RT_F32, EXPERTS, n, k);
            rt_tensor ot = rt_tensor_1(offset, RT_I32, EXPERTS + 1);
            struct there t = send(d, &ct, &at, &wt, &ot, false);
            uint8_t *data = move(d, &t, moved, EXPERTS * each + 1);
            t.b.piece = t.piece = malloc(EXPERTS * sizeof *t.piece);
            for (int64_t e = 0; e < EXPERTS; e++)
                t.piece[e] = (rt_piece){ .code = RT_CODE_ROWS,
                                         .dtype = dtype,
                                         .data = data + odd_byte + e * each,
                                         .row_bytes = rt_dtype_bytes(dtype, wide),
                                         .first = first,
                                         .step = step,
                                         .transposed = k };
            poison(d);
            rt_matmul_grouped(d, &t.c, &t.a, false, &t.b, true, &t.offset, 0.0f);
            receive(d, &ct, &t);
            ck_assert_msg(wrong(d, c, want, near, EXPERTS * m * n, k, dtype, false) == 0,
                          "%s: %s, %d rows, lying %d", about(d), rt_dtype_get(dtype)->name, (int)m,
                          lying);
            free(c);
        }
        release(w, wf);
        free(moved);
        free(a);
        free(want);
        free(near);
    }
}

START_TEST(transposed)
{
    for (int pass = 2; pass-- > 0;)
        if (keep(pass, _i))
            check_transposed(across[_i / 4], _i % 4);
}
END_TEST

/* kv_b of MLA in two parts: all heads at once, and each head's keys or values. */
static void check_latent(rt_dtype dtype)
{
    enum { HEADS = 5, KEYS = 64, VALUES = 20, RANK = 96, EACH = KEYS + VALUES };
    float *kf, *vf, *wf = malloc(sizeof *wf * HEADS * EACH * RANK);
    uint8_t *k = elements(dtype, HEADS * RANK * KEYS, 2, &kf);
    uint8_t *v = elements(RT_BF16, HEADS * VALUES * RANK, 5, &vf);
    for (int h = 0; h < HEADS; h++)
        for (int r = 0; r < EACH; r++)
            for (int c = 0; c < RANK; c++)
                wf[(h * EACH + r) * RANK + c] = r < KEYS ? kf[(h * RANK + c) * KEYS + r]
                                                         : vf[(h * VALUES + r - KEYS) * RANK + c];
    const rt_piece piece = { .code = RT_CODE_LATENT,
                             .dtype = RT_BF16,
                             .scale_dtype = dtype,
                             .row_bytes = 2 * RANK,
                             .step = 1,
                             .transposed = RANK,
                             .scale_rows = KEYS,
                             .scale_cols = VALUES };
    static const int64_t rows[] = { 1, 3, 150 };
    for (int i = 0; i < RT_COUNT(rows) * 5; i++) { /* all; keys, values, each with tb and without */
        int64_t m = rows[i / 5], w0 = i % 5 > 2 ? KEYS : 0, n = i % 5 > 2 ? VALUES : KEYS;
        bool all = i % 5 == 0, tb = all || i % 5 % 2;
        int64_t in = all ? RANK : HEADS * (tb ? RANK : n), out = HEADS * (all  ? EACH
                                                                          : tb ? n
                                                                               : RANK);
        float *a = floats(m * in, 1), *want = floats(m * out, 3);
        struct near *near = nears(want, m * out);
        for (int h = 0; h < HEADS && !all; h++)
            chain(want + h * (out / HEADS), near + h * (out / HEADS), out, (struct view){ a + h * (in / HEADS), in, 1 },
                  (struct view){ wf + (h * EACH + w0) * RANK, tb ? 1 : RANK, tb ? RANK : 1 }, m,
                  out / HEADS, in / HEADS, false);
        if (all)
            chain(want, near, out, (struct view){ a, in, 1 }, (struct view){ wf, 1, RANK }, m, out,
                  in, true);
        for (int j = 0; j < n_devices; j++) {
            rt_dev *d = devices[j];
            if (!takes(d))
                continue;
            float *c = floats(m * out, 3);
            rt_tensor ct = all ? rt_tensor_2(c, RT_F32, m, out)
                               : rt_tensor_3(c, RT_F32, m, HEADS, out / HEADS);
            rt_tensor at = all ? rt_tensor_2(a, RT_F32, m, in)
                               : rt_tensor_3(a, RT_F32, m, HEADS, in / HEADS);
            rt_tensor wt = all ? rt_tensor_2(NULL, RT_F32, HEADS * EACH, RANK)
                               : rt_tensor_3(NULL, RT_F32, HEADS, EACH, RANK);
            struct there t = send(d, &ct, &at, &wt, NULL, false);
            t.b.piece = t.piece = malloc(sizeof piece);
            *t.piece = piece;
            t.piece->scale = move(d, &t, k, rt_dtype_bytes(dtype, HEADS * RANK * KEYS));
            t.piece->data = move(d, &t, v, 2 * HEADS * VALUES * RANK);
            poison(d);
            if (all)
                rt_matmul(d, &t.c, &t.a, false, &t.b, true, 1.0f);
            else
                rt_matmul_heads(d, &t.c, 0, &t.a, 0, &t.b, w0, n, tb);
            receive(d, &ct, &t);
            ck_assert_msg(wrong(d, c, want, near, m * out, in, dtype, false) == 0,
                          "%s: %s, %d rows, form %d", about(d), rt_dtype_get(dtype)->name, (int)m,
                          i % 5);
            free(c);
        }
        free(a);
        free(want);
        free(near);
    }
    release(k, kf);
    release(v, vf);
    free(wf);
}

START_TEST(latent)
{
    for (int pass = 2; pass-- > 0;)
        if (keep(pass, _i))
            check_latent(across[_i]);
}
END_TEST

/* --- the contract itself is a good sum
 * --------------------------------------------------------------- */

START_TEST(close_to_f64)
{
    enum { M = 17, N = 40, K = 4500 };
    float *a = floats(M * K, 1), *b = floats(N * K, 2), *c = floats(M * N, 3);
    rt_tensor at = rt_tensor_2(a, RT_F32, M, K), bt = rt_tensor_2(b, RT_F32, N, K);
    rt_tensor ct = rt_tensor_2(c, RT_F32, M, N);
    rt_dev *d = devices[n_devices - 1];
    struct there t = send(d, &ct, &at, &bt, NULL, false);
    rt_matmul(d, &t.c, &t.a, false, &t.b, true, 0.0f);
    receive(d, &ct, &t);
    double worst = 0.0, norm = 0.0;
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = 0.0;
            for (int64_t s = 0; s < K; s++)
                sum += (double)a[i * K + s] * (double)b[j * K + s];
            worst = fmax(worst, fabs(sum - (double)c[i * N + j]));
            norm = fmax(norm, fabs(sum));
        }
    ck_assert_msg(worst < (rounds_to_bf16(d) ? 4e-3 : 1e-6) * norm && worst > 0.0, "%.3g of %.3g",
                  worst, norm);
    free(a);
    free(b);
    free(c);
}
END_TEST

/* Rows [first, first + n) of a by b, into a place of their own. */
static float *rows_of_product(rt_dev *d, const float *a, int64_t first, int64_t rows, const void *b,
                              rt_dtype dtype, int64_t n, int64_t k)
{
    float *c = floats(rows * n, 3);
    rt_tensor ct = rt_tensor_2(c, RT_F32, rows, n),
              bt = rt_tensor_2((void *)(uintptr_t)b, dtype, n, k);
    rt_tensor at = rt_tensor_2((void *)(uintptr_t)(a + first * k), RT_F32, rows, k);
    struct there t = send(d, &ct, &at, &bt, NULL, false);
    rt_matmul(d, &t.c, &t.a, false, &t.b, true, 0.0f);
    receive(d, &ct, &t);
    return c;
}

/* Of few rows, of more: a device may do these in two ways. */
static void check_batches(rt_dtype dtype)
{
    enum { N = 200, K = 1280, MANY = 150 };
    static const struct {
        int64_t first, rows, of;
    } parts[] = { { 3, 1, 8 }, { 1, 3, 8 }, { 2, 6, 8 }, { 20, 9, MANY }, { 85, 65, MANY } };
    float *bf, *a = floats(MANY * K, 1);
    void *b = elements(dtype, N * K, 2, &bf);
    for (int i = 0; i < 2 * RT_COUNT(parts); i++) {
        rt_dev *d = devices[i % 2 ? n_devices - 1 : 0]; /* one of them is no CPU, if any is */
        if (!takes(d))
            continue;
        float *all = rows_of_product(d, a, 0, parts[i / 2].of, b, dtype, N, K);
        float *c = rows_of_product(d, a, parts[i / 2].first, parts[i / 2].rows, b, dtype, N, K);
        ck_assert_int_eq(differing(c, all + parts[i / 2].first * N, parts[i / 2].rows * N), 0);
        free(c);
        free(all);
    }
    release(b, bf);
    free(a);
}

START_TEST(same_bits_in_every_batch)
{
    static const rt_dtype dtypes[] = { RT_F32, RT_BF16, RT_Q4_K, RT_Q6_K };
    for (int pass = 2; pass-- > 0;)
        if (keep(pass, 0))
            check_batches(dtypes[_i]);
}
END_TEST

START_TEST(unknown_isa)
{
    rt_dev *d;
    rt_err err = { .text = "" };
    setenv("RETORT_ISA", "sse9", 1);
    ck_assert_int_eq(rt_dev_open(&d, "cpu", 1, &err), -1);
    unsetenv("RETORT_ISA");
    ck_assert_ptr_nonnull(strstr(err.text, "sse9"));
    ck_assert_int_eq(err.exit_code, 2);
    ck_assert_int_eq(rt_dev_open(&d, "tpu", 1, &err), -1);
    ck_assert_int_eq(rt_dev_open(&d, "cpu", -1, &err), -1);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { every_row_count, 40 },
                                 { long_sums, 5 },
                                 { many_chunks, 2 },
                                 { many_tiles, 2 },
                                 { every_dtype, RT_DTYPE_COUNT },
                                 { pieces, RT_COUNT(lyings) },
                                 { transposed, 4 * RT_COUNT(across) },
                                 { latent, RT_COUNT(across) - 1 },
                                 { every_byte, 2 },
                                 { two_halves, 12 },
                                 { e4m3, 1 },
                                 { e4m3_codes, 1 },
                                 { e4m3_ends, 1 },
                                 { empty, 1 },
                                 { grouped, 2 },
                                 { many_experts, 1 },
                                 { heads, 2 },
                                 { close_to_f64, 1 },
                                 { same_bits_in_every_batch, 4 },
                                 { unknown_isa, 1 } };
    return suite_run("matmul", open_devices, tests, RT_COUNT(tests));
}
