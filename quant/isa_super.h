/* isa_super.h: what the searches of super-blocks share: one super-block of 16 sub-blocks, or two of 8
   side by side, a sub-block a lane. Text of isa.c. */

enum { SUPER = 256, SUBS = 8, PAIR = LANES / SUBS };

static float level_of(float value, float unit, int levels)
{
    float v = unit > 0 ? value / unit : 0;
    return v < (float)levels ? (float)(int)(v + 0.5f) : (float)levels;
}

/* The f16 super scale under which `value` is about `level`. Where it would vanish, the smallest f16
   stands in: tiny weights then use few levels instead of being lost. */
static float super_scale(float value, int level)
{
    float d = round_f16(value / (float)level);
    return d != 0 || value == 0 ? d : value / (float)level > 0 ? 0x1p-24f : -0x1p-24f;
}

/* One number for each super-block, in its lanes. */
RT_V16_FN rt_v16 halves(const float v[PAIR], int subs)
{
    float t[LANES];
    if (subs == LANES)
        return v16_set1(v[0]);
    for (int l = 0; l < LANES; l++)
        t[l] = v[l / SUBS];
    return v16_load(t);
}

/* The lanes of each super-block summed, one after the other. */
RT_V16_FN void sum_halves(float out[PAIR], rt_v16 v, int subs)
{
    float t[LANES];
    v16_store(t, v);
    for (int h = 0; h < PAIR; h++) {
        float sum = 0;
        for (int j = 0; j < subs && h * subs < LANES; j++)
            sum += t[h * subs + j];
        out[h] = sum;
    }
}

RT_V16_FN void levels_store(uint8_t *out, rt_v16 level, int offset)
{
    float t[LANES];
    v16_store(t, level);
    for (int l = 0; l < LANES; l++)
        out[l] = (uint8_t)((int)t[l] + offset);
}
