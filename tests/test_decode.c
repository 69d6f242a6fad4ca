/* test_decode.c: kernels/decode.h against the decoders of files, bit for bit, on random bytes:
   every dtype and every code under scales, element by element and by runs. */
#include "core/base/rng.h"
#include "core/device/kernels/decode.h"
#include "tests/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { K = 1024, ROWS = 24 };

/* Equal bits; a NaN is a NaN. */
static bool same(float a, float b) { return memcmp(&a, &b, 4) == 0 || (isnan(a) && isnan(b)); }

static void check(const rt_piece *p)
{
    float *want = malloc(K * sizeof *want);
    int form = decode_form(p);
    bool runs = p->dtype != RT_F8_E8M0 && !(p->dtype >= RT_Q2_K && p->dtype <= RT_Q2_0);
    ck_assert(want && decode_has_runs(p) == runs);
    for (int64_t r = 0; r < ROWS; r++) {
        int64_t row = decode_row(p, r);
        ck_assert_int_eq(row, rt_piece_row(p, r));
        rt_piece_decode(want, p, r, 0, K);
        for (int64_t i = 0; i < K; i++)
            ck_assert_msg(same(decode_piece(p, row, i), want[i]), "form %d: element %d: %a, not %a",
                          form, (int)i, (double)decode_piece(p, row, i), (double)want[i]);
        for (int i = 0; decode_align(form) && i < K; i++) {
            struct decoded y;
            decode_run(&y, form, p, row, i / DECODE_RUN);
            float got = decode_run_at(&y, form, i % DECODE_RUN);
            ck_assert_msg(same(got, want[i]), "form %d: element %d of a run: %a, not %a", form, i,
                          (double)got, (double)want[i]);
        }
    }
    free(want);
}

static uint8_t *random_bytes(int64_t n, uint64_t seed)
{
    uint8_t *p = malloc((size_t)n);
    ck_assert_ptr_nonnull(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (uint8_t)rt_rng_below(seed, RT_RNG_DATA, (uint64_t)i, 256);
    return p;
}

START_TEST(dtypes) /* rows in an order of their own */
{
    rt_dtype t = (rt_dtype)_i;
    if (t == RT_I32 || t == RT_U8 || t == RT_M8 || t == RT_V8)
        return;
    rt_piece p = { .code = RT_CODE_ROWS, .dtype = t, .first = 1, .step = 2, .pair = ROWS };
    p.row_bytes = rt_dtype_bytes(t, K);
    uint8_t *data = random_bytes((2 * ROWS + 1) * p.row_bytes, (uint64_t)_i);
    p.data = data;
    check(&p);
    free(data);
}
END_TEST

START_TEST(codes)
{
    static const struct {
        rt_code code;
        rt_dtype dtype, scale;
        int64_t row_bytes, scale_rows, scale_cols;
    } all[] = { { RT_CODE_FP8, RT_F8_E4M3, RT_F32, K, 8, 128 },
                { RT_CODE_FP8, RT_F8_E4M3, RT_BF16, K, 1, 64 },
                { RT_CODE_FP8, RT_F8_E4M3, RT_F8_E8M0, K, 16, 128 },
                { RT_CODE_MXFP4, RT_U8, RT_F8_E8M0, K / 2, 1, 32 },
                { RT_CODE_INT4, RT_I32, RT_F16, K / 2, 1, 128 },
                { RT_CODE_INT4, RT_I32, RT_BF16, K / 2, 1, 32 } };
    if (_i == RT_COUNT(all)) { /* what has no runs says so */
        rt_piece p = { .code = RT_CODE_INT4, .scale_cols = 8, .row_bytes = K / 2 };
        ck_assert(!decode_has_runs(&p));
        p.scale_cols = 32;
        ck_assert(decode_has_runs(&p));
        p.data += 4;
        ck_assert(!decode_has_runs(&p));
        return;
    }
    rt_piece p = { .code = all[_i].code,
                   .dtype = all[_i].dtype,
                   .scale_dtype = all[_i].scale,
                   .row_bytes = all[_i].row_bytes,
                   .step = 1,
                   .scale_rows = all[_i].scale_rows,
                   .scale_cols = all[_i].scale_cols,
                   .scale_ld = K / all[_i].scale_cols };
    uint8_t *data = random_bytes(ROWS * p.row_bytes, 1);
    uint8_t *scale = random_bytes(4 * ROWS * p.scale_ld, 2);
    p.data = data;
    p.scale = scale;
    check(&p);
    free(data);
    free(scale);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { dtypes, RT_DTYPE_COUNT }, { codes, 7 } };
    return suite_run("decode", NULL, tests, RT_COUNT(tests));
}
