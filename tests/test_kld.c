/* Base files of llama-perplexity: bytes and figures against a numpy reading of the format
   (tests/golden/make_kld.py); a file that is not what it says is refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/formats/kld.h"
#include "student/divergence.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/kld."

static rt_err err;
static cJSON *golden;

static float *floats(const char *key, int n)
{
    const cJSON *list = rt_json_find(golden, key), *v;
    float *x = malloc((size_t)n * sizeof *x);
    int i = 0;
    ck_assert_int_eq(cJSON_GetArraySize(list), n);
    cJSON_ArrayForEach(v, list) x[i++] = (float)v->valuedouble;
    return x;
}

START_TEST(as_numpy_writes)
{
    rt_kld k;
    rt_out out;
    OK(rt_kld_open(&k, GOLDEN "kld", &err));
    ck_assert(k.window == 9 && k.vocab == 13 && k.windows == 5);
    int64_t rows = rt_kld_rows(k.window), bytes = rt_kld_row_bytes(k.vocab), n = k.windows * rows;
    float *logits = floats("logits", (int)(n * k.vocab));
    int32_t token[5 * 9];
    for (int i = 0; i < 45; i++)
        token[i] = rt_kld_token(&k, i / 9, i % 9);
    uint8_t *row = malloc((size_t)bytes);
    OK(rt_out_open(&out, "ours.kld", &err));
    OK(rt_kld_begin(&out, k.window, k.vocab, k.windows, token, &err));
    for (int64_t r = 0; r < n; r++) {
        rt_kld_encode(row, logits + r * k.vocab, k.vocab);
        OK(rt_out_write(&out, row, bytes, &err));
    }
    OK(rt_out_commit(&out, &err));
    rt_map ours;
    OK(rt_map_open(&ours, "ours.kld", &err));
    ck_assert_int_eq(ours.bytes, k.map.bytes);
    ck_assert_int_eq(ours.bytes, rt_kld_bytes(9, 13, 5));
    for (int64_t i = 0, head = 20 + 4 * 45; i < ours.bytes; i++) {
        bool least = i >= head && (i - head) % bytes >= 4 &&
                     (i - head) % bytes < 8; /* a sum of exponentials */
        ck_assert_msg(least || ours.data[i] == k.map.data[i], "byte %lld", (long long)i);
        if (least && (i - head) % bytes == 4) {
            float a, b;
            memcpy(&a, ours.data + i, 4);
            memcpy(&b, k.map.data + i, 4);
            ck_assert_msg(fabsf(a - b) <= 1e-6F * fabsf(b), "%g %g", (double)a, (double)b);
        }
    }
    rt_map_close(&ours);
    rt_kld_close(&k);
    free(row);
    free(logits);
}
END_TEST

START_TEST(figures)
{
    rt_kld k;
    rt_divergence d = { 0 };
    OK(rt_kld_open(&k, GOLDEN "kld", &err));
    int64_t rows = rt_kld_rows(k.window);
    float *other = floats("other", (int)(k.windows * rows * k.vocab)),
          *reference = malloc(13 * sizeof(float));
    cJSON *json = rt_json_object();
    const cJSON *want;
    rt_divergence_put(&d, json);
    ck_assert_ptr_null(json->child); /* nothing was added */
    for (int64_t w = 0; w < k.windows; w++)
        for (int64_t r = 0; r < rows; r++) {
            rt_kld_row(&k, w, r, reference);
            rt_divergence_row(&d, reference, other + (w * rows + r) * k.vocab, k.vocab,
                              rt_kld_token(&k, w, k.window / 2 + r + 1));
        }
    rt_divergence_put(&d, json);
    int n = 0;
    cJSON_ArrayForEach(want, rt_json_find(golden, "figures"))
    {
        const cJSON *got = rt_json_find(json, want->string);
        ck_assert_msg(got && fabs(got->valuedouble - want->valuedouble) <=
                                 2e-5 * fmax(1e-2, fabs(want->valuedouble)),
                      "%s: %g, numpy has %g", want->string, got ? got->valuedouble : NAN,
                      want->valuedouble);
        n++;
    }
    ck_assert_int_eq(n, 20);
    cJSON_Delete(json);
    rt_divergence_free(&d);
    rt_kld_close(&k);
    free(other);
    free(reference);
}
END_TEST

/* Every cut, and every head that says something else. */
START_TEST(hostile)
{
    char *data;
    int64_t bytes;
    rt_kld k;
    OK(rt_file_read(&data, &bytes, GOLDEN "kld", 1 << 20, &err));
    for (int64_t n = 0; n < bytes; n += 3) {
        OK(rt_file_write("bad.kld", data, n, &err));
        FAILS(rt_kld_open(&k, "bad.kld", &err), "bad.kld");
    }
    static const struct {
        int at;
        int32_t value;
    } BAD[] = { { 0, 7 },   { 8, 0 },          { 8, -9 },   { 8, 2 },          { 8, INT32_MAX },
                { 12, 0 },  { 12, 15 },        { 12, -13 }, { 12, INT32_MAX }, { 16, 0 },
                { 16, -5 }, { 16, INT32_MAX }, { 20, 13 },  { 20, -1 } };
    for (int i = 0; i < RT_COUNT(BAD); i++) {
        char *bad = malloc((size_t)bytes);
        memcpy(bad, data, (size_t)bytes);
        memcpy(bad + BAD[i].at, &BAD[i].value, 4);
        OK(rt_file_write("bad.kld", bad, bytes, &err));
        FAILS(rt_kld_open(&k, "bad.kld", &err), "bad.kld");
        free(bad);
    }
    free(data);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { as_numpy_writes, 1 }, { figures, 1 }, { hostile, 1 } };
    if (rt_json_load(&golden, GOLDEN "json", &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    int rc = suite_run("kld", NULL, tests, RT_COUNT(tests));
    cJSON_Delete(golden);
    return rc;
}
