/* Codes of 4 bits: the words of three layouts against numpy's (tests/golden/make_pack.py), rows
   read back out of a written directory, and a fit of groups that no plain rounding beats. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/rng.h"
#include "quant/group.h"
#include "quant/packing.h"
#include "tests/suite.h"

static rt_err err;
static cJSON *golden;

static const char *const FORMATS[] = { "compressed-tensors", "gptq", "awq" };

static int number(const cJSON *list, int i)
{
    return (int)cJSON_GetArrayItem(list, i)->valuedouble;
}

static rt_codes golden_codes(bool symmetric)
{
    rt_codes c = { .outputs = 24, .inputs = 64, .group = 32 };
    const cJSON *code = rt_json_find(golden, "code"), *scale = rt_json_find(golden, "scale"),
                *zero = rt_json_find(golden, "zero");
    c.code = malloc(24 * 64);
    c.scale = malloc(24 * 2 * 2);
    c.zero = malloc(24 * 2);
    for (int i = 0; i < 24 * 64; i++)
        c.code[i] = (uint8_t)number(code, i);
    for (int i = 0; i < 24 * 2; i++) {
        c.scale[i] = (uint16_t)number(scale, i);
        c.zero[i] = symmetric ? 8 : (uint8_t)number(zero, i);
    }
    return c;
}

static void free_codes(rt_codes *c)
{
    free(c->code);
    free(c->scale);
    free(c->zero);
}

START_TEST(as_numpy_packs)
{
    rt_packing p = rt_pack_named(FORMATS[_i]);
    rt_codes c = golden_codes(rt_pack_symmetric(p));
    rt_pack_part part[RT_PACK_PARTS];
    int n = rt_pack_parts(p, c.outputs, c.inputs, c.group, part);
    const cJSON *want = rt_json_find(golden, FORMATS[_i]);
    ck_assert_int_eq(n, cJSON_GetArraySize(want));
    for (int k = 0; k < n; k++) {
        const cJSON *list = cJSON_GetArrayItem(want, k);
        uint8_t *data = malloc((size_t)rt_pack_part_bytes(&part[k]));
        rt_pack(p, k, &c, data);
        ck_assert_int_eq(part[k].dim[0] * part[k].dim[1], cJSON_GetArraySize(list));
        for (int i = 0; i < cJSON_GetArraySize(list); i++) {
            uint16_t half;
            int32_t word;
            memcpy(&half, data + 2 * i, 2);
            if (part[k].dtype == RT_I32)
                memcpy(&word, data + 4 * i, 4);
            ck_assert_msg((part[k].dtype == RT_F16 ? half : word) == number(list, i), "%s %s %d",
                          FORMATS[_i], part[k].suffix, i);
        }
        free(data);
    }
    free_codes(&c);
}
END_TEST

START_TEST(read_back)
{
    rt_packing p = rt_pack_named(FORMATS[1 + _i]);
    rt_codes c = golden_codes(rt_pack_symmetric(p));
    rt_pack_part part[RT_PACK_PARTS];
    rt_safetensors_writer w;
    rt_safetensors st;
    char name[64];
    float row[64];
    int n = rt_pack_parts(p, c.outputs, c.inputs, c.group, part);
    rt_safetensors_writer_init(&w, "packed.safetensors", 0);
    for (int k = 0; k < n; k++) {
        snprintf(name, sizeof name, "a.b.%s", part[k].suffix);
        rt_safetensors_writer_add(&w, name, part[k].dtype, part[k].rank, part[k].dim);
    }
    OK(rt_safetensors_writer_begin(&w, &err));
    for (int k = 0; k < n; k++) {
        uint8_t *data = malloc((size_t)rt_pack_part_bytes(&part[k]));
        rt_pack(p, k, &c, data);
        OK(rt_safetensors_writer_push(&w, data, rt_pack_part_bytes(&part[k]), &err));
        free(data);
    }
    OK(rt_safetensors_writer_commit(&w, &err));
    OK(rt_safetensors_open(&st, "packed.safetensors", &err));
    for (int64_t r = 0; r < c.outputs; r++) {
        OK(rt_pack_read_row(p, &st, "a.b", c.group, r, row, c.inputs, &err));
        for (int64_t i = 0; i < c.inputs; i++) {
            int64_t g = r * 2 + i / 32;
            ck_assert(row[i] ==
                      rt_f16_to_f32(c.scale[g]) * (float)(c.code[r * 64 + i] - c.zero[g]));
        }
    }
    FAILS(rt_pack_read_row(p, &st, "a.c", c.group, 0, row, c.inputs, &err), "a.c");
    FAILS(rt_pack_read_row(p, &st, "a.b", 16, 0, row, c.inputs, &err), "another shape");
    rt_safetensors_close(&st);
    free_codes(&c);
}
END_TEST

static double squares(const float *x, const float *w, int n, const uint8_t *code, double scale,
                      int zero)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)w[i] * pow((double)x[i] - scale * (code[i] - zero), 2);
    return sum;
}

/* Against the largest magnitude over 7, and the range over 15, each rounded to nearest. */
static double plain(const float *x, const float *w, int n, bool symmetric)
{
    float low = 0, high = 0;
    uint8_t code[256];
    for (int i = 0; i < n; i++)
        low = fminf(low, x[i]), high = fmaxf(high, x[i]);
    float scale = symmetric ? fmaxf(high, -low) / 7 : (high - low) / 15;
    int zero = symmetric ? 8 : (int)rintf(-low / scale);
    for (int i = 0; i < n; i++)
        code[i] = (uint8_t)fminf(fmaxf(rintf(x[i] / scale) + (float)zero, 0), 15);
    return squares(x, w, n, code, (double)scale, zero);
}

START_TEST(fits)
{
    double ours[2] = { 0 }, simple[2] = { 0 };
    for (int t = 0; t < 400; t++) {
        int n = t % 3 == 0 ? 32 : t % 3 == 1 ? 64 : 128;
        bool symmetric = t % 2;
        float x[128], w[128];
        uint8_t code[128], zero;
        uint16_t scale;
        for (int i = 0; i < n; i++) {
            float a = rt_rng_uniform(5, 1, (uint64_t)(t * 512 + i)),
                  b = rt_rng_uniform(5, 1, (uint64_t)(t * 512 + 256 + i));
            x[i] = (a - 0.45F) * (b + 0.01F) * (t % 7 ? 0.05F : 900.0F);
            w[i] = t % 5 ? 1 : b;
        }
        OK(rt_group_fit(x, t % 5 ? NULL : w, n, symmetric, code, &scale, &zero, &err));
        double error = squares(x, w, n, code, (double)rt_f16_to_f32(scale), zero);
        double than = plain(x, w, n, symmetric);
        ck_assert_msg(error <= than * 1.02, "group %d: %g, plain rounding has %g", t, error, than);
        ours[symmetric] += error / than, simple[symmetric] += 1;
    }
    ck_assert(ours[0] < 0.97 * simple[0] && ours[1] < 0.85 * simple[1]);
}
END_TEST

/* What lies on a grid comes back; zeros, one value, and values that f16 cannot scale. */
START_TEST(corners)
{
    float x[32] = { 0 };
    uint8_t code[32], zero;
    uint16_t scale;
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        memset(x, 0, sizeof x);
        OK(rt_group_fit(x, NULL, 32, symmetric, code, &scale, &zero, &err));
        for (int i = 0; i < 32; i++)
            ck_assert(rt_f16_to_f32(scale) * (float)(code[i] - zero) == 0);
        for (int i = 0; i < 32; i++)
            x[i] = 0.125F * (float)(i % 16 - (symmetric ? 8 : 3));
        OK(rt_group_fit(x, NULL, 32, symmetric, code, &scale, &zero, &err));
        for (int i = 0; i < 32; i++)
            ck_assert(rt_f16_to_f32(scale) * (float)(code[i] - zero) == x[i]);
        for (int i = 0; i < 32; i++)
            x[i] = 3;
        OK(rt_group_fit(x, NULL, 32, symmetric, code, &scale, &zero, &err));
        ck_assert(fabsf(rt_f16_to_f32(scale) * (float)(code[9] - zero) - 3) < 2e-3F);
        x[7] = NAN;
        FAILS(rt_group_fit(x, NULL, 32, symmetric, code, &scale, &zero, &err), "column 7");
        x[7] = 1e7F;
        FAILS(rt_group_fit(x, NULL, 32, symmetric, code, &scale, &zero, &err), "column 7");
    }
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { as_numpy_packs, 3 }, { read_back, 2 }, { fits, 1 }, { corners, 1 }
    };
    if (rt_json_load(&golden, RT_SOURCE_DIR "/tests/golden/pack.json", &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    int rc = suite_run("packing", NULL, tests, RT_COUNT(tests));
    cJSON_Delete(golden);
    return rc;
}
