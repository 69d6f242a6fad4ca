/* isa_blocks.h: blocks of 32 with a scale of their own: Q8_0, Q4_0, Q5_0. Text of isa.c. */

enum { BLOCK = 32 };

RT_V16_FN float round_f16(float d)
{
    d = d > 65504.0f ? 65504.0f : d < -65504.0f ? -65504.0f : d;
    return rt_f16_to_f32(rt_f32_to_f16(d));
}

/* One set of values can have several spellings, (d, q) and (d/2, 2q) say. Take the one with the
   smallest codes, positive d first, so that encoding what was decoded gives the same bytes. */
static float canonical(lanes *b, int l, float scale, int hi)
{
    int q[BLOCK], top = 0, low = 0, high = 0;
    for (int i = 0; i < BLOCK; i++) {
        q[i] = (int)b->q[i][l];
        low = q[i] < low ? q[i] : low;
        high = q[i] > high ? q[i] : high;
    }
    top = high > -low ? high : -low;
    if (scale < 0 && -low <= hi) {
        scale = -scale;
        for (int i = 0; i < BLOCK; i++)
            q[i] = -q[i];
    }
    for (int c = 1; c < top; c++) {
        float d = round_f16(scale * (float)top / (float)c);
        int i = 0;
        for (; i < BLOCK; i++) {
            int k = q[i] * c;
            if (k % top || d * (float)(k / top) != scale * (float)q[i])
                break;
        }
        if (i < BLOCK)
            continue;
        for (i = 0; i < BLOCK; i++)
            q[i] = q[i] * c / top;
        scale = d;
        break;
    }
    for (int i = 0; i < BLOCK; i++)
        b->q[i][l] = (float)q[i];
    return scale;
}

/* code[LANES * BLOCK], each minus s->lo, and d[LANES] of the next `count` <= LANES blocks */
RT_V16_FN void fit_blocks(uint8_t *code, float *d, const float *x, const float *w, int count,
                          const symmetric *s)
{
    lanes b;
    lanes_load(b.x, x, BLOCK, count);
    lanes_load(b.w, w, BLOCK, count);
    v16_store(d, fit_symmetric(&b, BLOCK, s).d);
    for (int l = 0; l < count && s->whole; l++)
        d[l] = canonical(&b, l, d[l], s->hi);
    lanes_codes(code, &b, BLOCK, -s->lo);
}

/* Blocks of a type with a scale alone: that, then what `put` makes of 32 codes. */
static void symmetric_encode(uint8_t *p, const float *x, const float *w, int64_t blocks,
                             const symmetric *codes, int bytes,
                             void (*put)(uint8_t *p, const uint8_t *c))
{
    for (int64_t at = 0; at < blocks; at += LANES) {
        uint8_t c[LANES * BLOCK];
        float d[LANES];
        int count = (int)rt_min(LANES, blocks - at);
        fit_blocks(c, d, x + at * BLOCK, w + at * BLOCK, count, codes);
        for (int l = 0; l < count; l++, p += bytes) {
            pack_f16(p, d[l]);
            put(p + 2, c + l * BLOCK);
        }
    }
}

static void put_bytes(uint8_t *p, const uint8_t *c)
{
    for (int j = 0; j < BLOCK; j++)
        p[j] = (uint8_t)(c[j] - 127);
}

static void put_five_bits(uint8_t *p, const uint8_t *c)
{
    pack_fifth_bits(p, c);
    pack_nibbles(p + 4, c);
}

static void q8_0_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    static const symmetric codes = { -127, 127, 124, 128.5f, 0.5f, false, true };
    symmetric_encode(p, x, w, blocks, &codes, 34, put_bytes);
}

static void q4_0_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    static const symmetric codes = { -8, 7, 6.5f, 10.5f, 0.25f, true, true };
    symmetric_encode(p, x, w, blocks, &codes, 18, pack_nibbles);
}

static void q5_0_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    static const symmetric codes = { -16, 15, 14, 19, 0.25f, false, true };
    symmetric_encode(p, x, w, blocks, &codes, 22, put_five_bits);
}
