/* grid.c: where the codes and scales of each block type lie; layouts: core/base/decode.c. */
#include "quant/grid.h"

#include "core/base/err.h"
#include "quant/pack.h"

/* Bytes of a block at which things begin; -1: it has none. Codes are nibbles, but for Q8_0 and Q6_K. */
typedef struct layout {
    rt_dtype type;
    int32_t n, sub, lo, hi;
    int d, m;     /* f16 */
    int levels;   /* six bits each in 12 bytes, or int8 each (Q6_K) */
    int fifth;    /* of codes: 32 bits a block of 32, or 32 bytes a super-block */
    int codes;
} layout;

static const layout layouts[] = {
    { RT_Q8_0, 32, 32, -128, 127, 0, -1, -1, -1, 2 },
    { RT_Q4_0, 32, 32, -8, 7, 0, -1, -1, -1, 2 },
    { RT_Q4_1, 32, 32, 0, 15, 0, 2, -1, -1, 4 },
    { RT_Q5_0, 32, 32, -16, 15, 0, -1, -1, 2, 6 },
    { RT_Q5_1, 32, 32, 0, 31, 0, 2, -1, 4, 8 },
    { RT_Q4_K, 256, 32, 0, 15, 0, 2, 4, -1, 16 },
    { RT_Q5_K, 256, 32, 0, 31, 0, 2, 4, 16, 48 },
    { RT_Q6_K, 256, 16, -32, 31, 208, -1, 192, -1, 0 },
};

static const layout *layout_of(rt_dtype t)
{
    for (int i = 0; i < RT_COUNT(layouts); i++)
        if (layouts[i].type == t)
            return &layouts[i];
    return NULL;
}

bool rt_grid_supported(rt_dtype t) { return layout_of(t) != NULL; }

static float get_f16(const uint8_t *p) { return rt_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

/* Sub-block j of the twelve bytes of Q4_K and Q5_K. */
static void get_six_bits(const uint8_t *s, int j, float *level, float *offset)
{
    int sc = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    int m = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
    *level = (float)sc;
    *offset = (float)m;
}

/* ---- codes: one place for where each lies; put true writes them ---- */

static void move_bits(uint8_t *byte, int shift, int bits, int *v, int up, bool put)
{
    int mask = (1 << bits) - 1;
    if (put)
        *byte = (uint8_t)((*byte & ~(mask << shift)) | ((*v >> up & mask) << shift));
    else
        *v |= (*byte >> shift & mask) << up;
}

static void move_code(uint8_t *p, const layout *l, int i, int *v, bool put)
{
    if (l->type == RT_Q8_0) {
        move_bits(p + l->codes + i, 0, 8, v, 0, put);
    } else if (l->type == RT_Q6_K) {
        int half = i / 128, at = i % 128, quarter = at / 32, k = at % 32;
        move_bits(p + 64 * half + 32 * (quarter % 2) + k, quarter / 2 * 4, 4, v, 0, put);
        move_bits(p + 128 + 32 * half + k, 2 * quarter, 2, v, 4, put);
    } else if (l->n == 32) {
        move_bits(p + l->codes + i % 16, i / 16 * 4, 4, v, 0, put);
        if (l->fifth >= 0)
            move_bits(p + l->fifth + i / 8, i % 8, 1, v, 4, put);
    } else {
        move_bits(p + l->codes + i / 64 * 32 + i % 32, i / 32 % 2 * 4, 4, v, 0, put);
        if (l->fifth >= 0)
            move_bits(p + l->fifth + i % 32, i / 32, 1, v, 4, put);
    }
}

/* Codes are stored from 0 on but for Q8_0's, which are signed bytes. */
static int bias_of(const layout *l) { return l->type == RT_Q8_0 ? 0 : l->lo; }

void rt_grid_read(rt_grid *g, int8_t *code, const uint8_t *block, rt_dtype t)
{
    const layout *l = layout_of(t);
    if (!l)
        rt_bug("grid of %s", rt_dtype_get(t)->name);
    *g = (rt_grid){ .n = l->n, .sub = l->sub, .lo = l->lo, .hi = l->hi };
    g->has_dmin = l->m >= 0;
    g->d = get_f16(block + l->d);
    if (g->has_dmin)
        g->dmin = l->levels >= 0 ? get_f16(block + l->m) : -get_f16(block + l->m);
    for (int j = 0; j < l->n / l->sub; j++) {
        g->level[j] = 1;
        g->offset[j] = g->has_dmin;
        if (t == RT_Q6_K)
            g->level[j] = (float)(int8_t)block[l->levels + j];
        else if (l->levels >= 0)
            get_six_bits(block + l->levels, j, &g->level[j], &g->offset[j]);
    }
    for (int i = 0; i < l->n; i++) {
        int v = 0;
        move_code((uint8_t *)(uintptr_t)block, l, i, &v, false);
        code[i] = (int8_t)(t == RT_Q8_0 ? (int)(int8_t)v : v + bias_of(l));
    }
}

void rt_grid_write(uint8_t *block, const rt_grid *g, const int8_t *code, rt_dtype t)
{
    const layout *l = layout_of(t);
    if (!l)
        rt_bug("grid of %s", rt_dtype_get(t)->name);
    pack_f16(block + l->d, g->d);
    if (l->m >= 0)
        pack_f16(block + l->m, l->levels >= 0 ? g->dmin : -g->dmin);
    for (int i = 0; i < l->n; i++) {
        int v = code[i] - bias_of(l);
        move_code(block, l, i, &v, true);
    }
}
