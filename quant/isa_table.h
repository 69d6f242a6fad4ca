/* isa_table.h: codes of 4 bits that stand for the sixteen values of a table: the nearest of them, and
   blocks whose scale is a code of 8 bits without rounding of its own (MXFP4, NVFP4). Text of isa.c. */
#include "core/device/cpu/simd_words.h"

/* Ascending values, what lies halfway between each and the next, and their codes. */
typedef struct table {
    float value[16], between[16];
    uint8_t code[16];
} table;

static const table iq4_table = {
    RT_IQ4_VALUES,
    { -115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101 },
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }
};

/* Twice what E2M1 codes stand for; there is one zero. */
static const table fp4_table = {
    { -12, -8, -6, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 6, 8, 12 },
    { -10, -7, -5, -3.5f, -2.5f, -1.5f, -0.5f, 0, 0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10 },
    { 15, 14, 13, 12, 11, 10, 9, 0, 0, 1, 2, 3, 4, 5, 6, 7 }
};

/* Where in the table the nearest to v stands; of two that are as near, the upper. */
RT_V16_FN rt_v16i table_place(const table *t, rt_v16 v)
{
    rt_v16i at = v16i_bits(v16_zero());
    for (int step = 8; step; step /= 2) {
        rt_v16i up = v16i_add(at, (uint32_t)step);
        rt_v16 edge = v16_lookup(t->between, v16i_add(up, (uint32_t)-1));
        at = v16i_bits(v16_if_lt(v, edge, v16_from_bits(at), v16_from_bits(up)));
    }
    return at;
}

RT_V16_FN rt_v16 table_value(const table *t, rt_v16 v)
{
    return v16_lookup(t->value, table_place(t, v));
}

/* lanes_codes for values of a table. */
RT_V16_FN void lanes_table_codes(uint8_t *code, lanes *b, int n, const table *t)
{
    for (int i = 0; i < n; i++)
        v16_store(b->q[i], v16_from_int(table_place(t, v16_load(b->q[i]))));
    lanes_codes(code, b, n, 0);
    for (int i = 0; i < LANES * n; i++)
        code[i] = t->code[code[i]];
}

/* sum w (x - d value)^2 of the nearest values, which stay in q. */
RT_V16_FN rt_v16 table_error(lanes *b, int n, const table *t, rt_v16 d)
{
    rt_v16 inv = inverse(d), sum[2] = { v16_zero(), v16_zero() };
    inv = is_finite(inv, inv, v16_zero());
    FIT_EIGHT
    for (int i = 0; i < n; i++) {
        rt_v16 v = v16_load(b->x[i]), c = table_value(t, v16_mul(v, inv));
        rt_v16 e = v16_sub(v, v16_mul(c, d));
        v16_store(b->q[i], c);
        sum[i & 1] = v16_fma(v16_mul(v16_load(b->w[i]), e), e, sum[i & 1]);
    }
    return v16_add(sum[0], sum[1]);
}

/* Of the scales whose codes lie `from` .. `to` beside `near`, the best: its code is left in near, the
   values in q. scale_of: what a code stands for, twice that for E2M1. */
RT_V16_FN void table_scale(lanes *b, int n, const table *t, int near[LANES], int from, int to,
                           int last, float (*scale_of)(int))
{
    int best_code[LANES];
    float d[LANES], err[LANES], best[LANES];
    for (int step = from; step <= to + 1; step++) {
        for (int l = 0; l < LANES; l++) {
            int code = near[l] + step;
            code = code < 0 ? 0 : code > last ? last : code;
            d[l] = scale_of(step <= to ? code : best_code[l]);
        }
        v16_store(err, table_error(b, n, t, v16_load(d)));
        for (int l = 0; l < LANES && step <= to; l++)
            if (step == from || err[l] < best[l]) {
                int code = near[l] + step;
                best_code[l] = code < 0 ? 0 : code > last ? last : code;
                best[l] = err[l];
            }
    }
    memcpy(near, best_code, sizeof best_code);
}

RT_V16_FN void lanes_extreme(float top[LANES], const lanes *b, int n)
{
    rt_v16 a = v16_zero(), zero = a;
    for (int i = 0; i < n; i++) {
        rt_v16 v = v16_load(b->x[i]);
        a = v16_max(a, v16_max(v, v16_sub(zero, v)));
    }
    v16_store(top, a);
}

static float mxfp4_scale(int e) { return e == 0 ? 0x1p-128f : ldexpf(1, e - 128); }

static void mxfp4_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    for (int64_t at = 0; at < blocks; at += LANES) {
        lanes b;
        uint8_t code[LANES * BLOCK];
        float top[LANES];
        int e[LANES], count = (int)rt_min(LANES, blocks - at);
        lanes_load(b.x, x + at * BLOCK, BLOCK, count);
        lanes_load(b.w, w + at * BLOCK, BLOCK, count);
        lanes_extreme(top, &b, BLOCK);
        for (int l = 0; l < LANES; l++) {
            int exponent = 0;
            frexpf(top[l], &exponent); /* top in [2^(exponent - 1), 2^exponent) */
            e[l] = top[l] > 0 ? exponent - 1 - 2 + 127 : 0;
        }
        table_scale(&b, BLOCK, &fp4_table, e, -1, 1, 254, mxfp4_scale);
        lanes_table_codes(code, &b, BLOCK, &fp4_table);
        for (int l = 0; l < count; l++, p += 17) {
            p[0] = (uint8_t)e[l];
            pack_nibbles(p + 1, code + l * BLOCK);
        }
    }
}

static float nvfp4_scale(int code) { return rt_nvfp4_scale((uint8_t)code); }

/* Four blocks of four sub-blocks of 16 at once. */
static void nvfp4_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    enum { SIXTEEN = 16, QUARTERS = 4 };
    for (int64_t at = 0; at < blocks; at += QUARTERS) {
        lanes b;
        uint8_t code[LANES * SIXTEEN];
        float top[LANES];
        int near[LANES], count = (int)rt_min(QUARTERS, blocks - at);
        lanes_load(b.x, x + at * 64, SIXTEEN, count * QUARTERS);
        lanes_load(b.w, w + at * 64, SIXTEEN, count * QUARTERS);
        lanes_extreme(top, &b, SIXTEEN);
        for (int l = 0; l < LANES; l++)
            for (near[l] = 0; near[l] < 126 && nvfp4_scale(near[l]) * 12 < top[l];)
                near[l]++;
        table_scale(&b, SIXTEEN, &fp4_table, near, -4, 6, 126, nvfp4_scale);
        lanes_table_codes(code, &b, SIXTEEN, &fp4_table);
        for (int h = 0; h < count; h++, p += 36)
            for (int j = 0; j < QUARTERS; j++) {
                int l = h * QUARTERS + j;
                p[j] = (uint8_t)near[l];
                pack_sixteen(p + 4 + 8 * j, code + l * SIXTEEN);
            }
    }
}
