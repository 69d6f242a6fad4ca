/* isa_columns.h: a right operand of plain numbers whose columns lie side by side (no t: weights
   that are stored transposed), included by isa.c once an instruction set. Sixteen columns are
   sixteen lanes as they lie, so that a step of k is a load, and of halves a shift or two. Rows are
   far apart, where no hardware sees them coming: those some steps ahead are asked for. Refuses:
   blocks, a last panel that is not full (isa_matmul.h widens their rows). */
#include "core/device/cpu/simd_words.h"

enum { COLUMN_AHEAD = 128 /* steps of k */ };

/* How the columns of b lie in what they share a row with. */
enum { SIDE_BY_SIDE, EVEN_COLUMNS, ODD_COLUMNS };

/* Sixteen columns from p on. */
RT_V16_FN rt_v16 load_columns(const uint8_t *p, const rt_dtype t, const int which)
{
    if (t == RT_F32 && which == SIDE_BY_SIDE)
        return v16_load_bytes(p);
    if (t == RT_F32) {
        float picked[16];
        for (int i = 0; i < 16; i++)
            memcpy(&picked[i], p + 8 * i + 4 * (which == ODD_COLUMNS), 4);
        return v16_load(picked);
    }
    rt_v16i bits = which ? v16i_bits(v16_load_bytes(p)) : v16i_load_halves(p);
    if (t == RT_BF16)
        return v16_from_bits(which == ODD_COLUMNS ? v16i_and(bits, 0xffff0000u)
                                                  : v16i_shl(bits, 16));
    return v16_from_f16(which == ODD_COLUMNS    ? v16i_shr(bits, 16)
                        : which == EVEN_COLUMNS ? v16i_and(bits, 0xffff)
                                                : bits);
}

/* The same bytes COLUMN_AHEAD rows on, which may lie past the last one. */
RT_V16_FN void ask_for_columns(const uint8_t *p, int64_t ld, int64_t bytes)
{
    uintptr_t ahead = (uintptr_t)p + (uintptr_t)(COLUMN_AHEAD * ld);
    for (int64_t line = 0; line < bytes; line += 64)
        __builtin_prefetch((const void *)(ahead + (uintptr_t)line), 0, 3);
}

/* sum(16 * vectors) goes on with x(k) times the columns from p on, of rows `ld` bytes apart. */
RT_V16_FN void dot_columns(const int vectors, const rt_dtype t, const int which, float *sum,
                           const float *x, const uint8_t *p, int64_t ld, int64_t k)
{
    const int64_t bytes = (t == RT_F32 ? 64 : 32) * (which ? 2 : 1);
    rt_v16 s[8];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        s[v] = v16_load(sum + 16 * v);
    for (int64_t step = 0; step < k; step++, p += ld) {
        rt_v16 f = v16_set1(x[step]);
        ask_for_columns(p, ld, bytes * vectors);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            s[v] = v16_fma(f, load_columns(p + v * bytes, t, which), s[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        v16_store(sum + 16 * v, s[v]);
}

/* The same columns, `count` panels, as panels `stride` floats apart at out. */
RT_V16_FN void pack_columns(const rt_dtype t, const int which, float *out, int64_t stride,
                            const uint8_t *p, int64_t ld, int64_t count, int64_t k)
{
    const int64_t bytes = (t == RT_F32 ? 64 : 32) * (which ? 2 : 1);
    for (int64_t step = 0; step < k; step++, p += ld, out += RT_PANEL) {
        ask_for_columns(p, ld, 2 * bytes * count);
        for (int64_t n = 0; n < count; n++) {
            v16_store(out + n * stride, load_columns(p + 2 * n * bytes, t, which));
            v16_store(out + n * stride + 16, load_columns(p + (2 * n + 1) * bytes, t, which));
        }
    }
}

typedef void columns_dot_fn(float *sum, const float *x, const uint8_t *p, int64_t ld, int64_t count,
                            int64_t k);
typedef void columns_pack_fn(float *out, int64_t stride, const uint8_t *p, int64_t ld,
                             int64_t count, int64_t k);

#define COLUMNS(name, t, which)                                                                    \
    static void dot_##name(float *sum, const float *x, const uint8_t *p, int64_t ld,               \
                           int64_t count, int64_t k)                                               \
    {                                                                                              \
        const int64_t panel = ((t) == RT_F32 ? 128 : 64) * ((which) ? 2 : 1);                      \
        int64_t n = 0;                                                                             \
        for (; n + 4 <= count; n += 4)                                                             \
            dot_columns(8, t, which, sum + n * RT_PANEL, x, p + n * panel, ld, k);                 \
        for (; n < count; n++)                                                                     \
            dot_columns(2, t, which, sum + n * RT_PANEL, x, p + n * panel, ld, k);                 \
    }                                                                                              \
    static void pack_##name(float *out, int64_t stride, const uint8_t *p, int64_t ld,              \
                            int64_t count, int64_t k)                                              \
    {                                                                                              \
        pack_columns(t, which, out, stride, p, ld, count, k);                                      \
    }
COLUMNS(f32_side, RT_F32, SIDE_BY_SIDE)
COLUMNS(f32_even, RT_F32, EVEN_COLUMNS)
COLUMNS(f32_odd, RT_F32, ODD_COLUMNS)
COLUMNS(f16_side, RT_F16, SIDE_BY_SIDE)
COLUMNS(f16_even, RT_F16, EVEN_COLUMNS)
COLUMNS(f16_odd, RT_F16, ODD_COLUMNS)
COLUMNS(bf16_side, RT_BF16, SIDE_BY_SIDE)
COLUMNS(bf16_even, RT_BF16, EVEN_COLUMNS)
COLUMNS(bf16_odd, RT_BF16, ODD_COLUMNS)

static const struct columns {
    columns_dot_fn *dot;
    columns_pack_fn *pack;
} columns_of[RT_DTYPE_COUNT][3] = {
    [RT_F32] = { { dot_f32_side, pack_f32_side },
                 { dot_f32_even, pack_f32_even },
                 { dot_f32_odd, pack_f32_odd } },
    [RT_F16] = { { dot_f16_side, pack_f16_side },
                 { dot_f16_even, pack_f16_even },
                 { dot_f16_odd, pack_f16_odd } },
    [RT_BF16] = { { dot_bf16_side, pack_bf16_side },
                  { dot_bf16_even, pack_bf16_even },
                  { dot_bf16_odd, pack_bf16_odd } },
};

/* How the first of b's panels from p0 on, as many as are full (*count), are read; their first byte
   in row k; NULL where they are not of this file. */
static const struct columns *columns_begin(const struct rt_matrix *b, int64_t p0, int64_t *count,
                                           int64_t k, const uint8_t **p)
{
    const struct columns *how = &columns_of[b->dtype][b->interleaved];
    *count = rt_min(*count, b->n / RT_PANEL - p0);
    if (b->t || b->piece || !how->dot || *count <= 0)
        return NULL;
    int64_t column = p0 * RT_PANEL * (b->interleaved ? 2 : 1);
    *p = (const uint8_t *)b->data + rt_dtype_bytes(b->dtype, k * b->ld + column);
    return how;
}
