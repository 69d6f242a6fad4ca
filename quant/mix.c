/* mix.c: one table of mixes and one function; see mix.h. */
#include "quant/mix.h"

#include <string.h>

static const rt_mix mixes[] = {
    /* name, general.file_type, matrices, head, attn_v and ffn_down of some layers */
    { "F32", 0, RT_F32, RT_F32, RT_F32, RT_MIX_NONE },
    { "F16", 1, RT_F16, RT_F16, RT_F16, RT_MIX_NONE },
    { "BF16", 32, RT_BF16, RT_BF16, RT_BF16, RT_MIX_NONE },
    { "Q8_0", 7, RT_Q8_0, RT_Q8_0, RT_Q8_0, RT_MIX_NONE },
    { "Q6_K", 18, RT_Q6_K, RT_Q6_K, RT_Q6_K, RT_MIX_NONE },
    { "Q5_K_M", 17, RT_Q5_K, RT_Q6_K, RT_Q6_K, RT_MIX_MORE_BITS },
    { "Q5_K_S", 16, RT_Q5_K, RT_Q6_K, RT_Q5_K, RT_MIX_NONE },
    { "Q4_K_M", 15, RT_Q4_K, RT_Q6_K, RT_Q6_K, RT_MIX_MORE_BITS },
    { "Q4_K_S", 14, RT_Q4_K, RT_Q6_K, RT_Q5_K, RT_MIX_FIRST },
    { "Q4_0", 2, RT_Q4_0, RT_Q6_K, RT_Q4_0, RT_MIX_NONE },
};

const rt_mix *rt_mix_find(const char *name)
{
    for (int i = 0; i < RT_COUNT(mixes); i++)
        if (!strcmp(mixes[i].name, name))
            return &mixes[i];
    return NULL;
}

/* The first and last eighth of the layers and every third between: where errors cost most. */
static bool more_bits(int64_t layer, int64_t layers)
{
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static bool is_extra(const rt_mix *mix, const char *part, int64_t layer, int64_t layers)
{
    bool v = !strcmp(part, "attn_v"), down = !strcmp(part, "ffn_down");
    switch (mix->layers) {
    case RT_MIX_MORE_BITS:
        return (v || down) && more_bits(layer, layers);
    case RT_MIX_FIRST:
        return (v && layer < 4) || (down && layer < layers / 8);
    case RT_MIX_NONE:
        break;
    }
    return false;
}

static rt_dtype fallback(rt_dtype t, int64_t width)
{
    if (width % rt_dtype_get(t)->block == 0)
        return t;
    rt_dtype smaller = t == RT_Q4_K   ? RT_Q5_0
                       : t == RT_Q5_K ? RT_Q5_1
                       : t == RT_Q6_K ? RT_Q8_0
                                      : RT_F16;
    return width % rt_dtype_get(smaller)->block == 0 ? smaller : RT_F16;
}

rt_dtype rt_mix_dtype(const rt_mix *mix, const char *name, int rank, int64_t width, int64_t layer,
                      int64_t layers, bool tied, bool pure)
{
    const char *dot = strrchr(name, '.'), *part = dot ? dot + 1 : name;
    size_t n = strlen(part);
    if (rank < 2 || (n >= 5 && !strcmp(part + n - 5, "_norm")) || !strcmp(part, "ffn_gate_inp"))
        return RT_F32;
    rt_dtype t = mix->base;
    if (!pure && (!strcmp(name, "output") || (tied && !strcmp(name, "token_embd"))))
        t = mix->head;
    else if (!pure && layer >= 0 && is_extra(mix, part, layer, layers))
        t = mix->extra;
    return fallback(t, width);
}
