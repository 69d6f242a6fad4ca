/* mix.c: a table of mixes, a table of the tensors that get another type in some layers, and one
   function; see mix.h. */
#include "quant/mix.h"

#include <string.h>

static const rt_mix mixes[] = {
    /* name, general.file_type, matrices, head, token_embd beside a head */
    { "F32", 0, RT_F32, RT_F32, RT_F32 },        { "F16", 1, RT_F16, RT_F16, RT_F16 },
    { "BF16", 32, RT_BF16, RT_BF16, RT_BF16 },   { "Q8_0", 7, RT_Q8_0, RT_Q8_0, RT_Q8_0 },
    { "Q6_K", 18, RT_Q6_K, RT_Q6_K, RT_Q6_K },   { "Q5_K_M", 17, RT_Q5_K, RT_Q6_K, RT_Q5_K },
    { "Q5_K_S", 16, RT_Q5_K, RT_Q6_K, RT_Q5_K }, { "Q5_1", 9, RT_Q5_1, RT_Q6_K, RT_Q5_1 },
    { "Q5_0", 8, RT_Q5_0, RT_Q6_K, RT_Q5_0 },    { "Q4_K_M", 15, RT_Q4_K, RT_Q6_K, RT_Q4_K },
    { "Q4_K_S", 14, RT_Q4_K, RT_Q6_K, RT_Q4_K }, { "Q4_1", 3, RT_Q4_1, RT_Q6_K, RT_Q4_1 },
    { "Q4_0", 2, RT_Q4_0, RT_Q6_K, RT_Q4_0 },    { "IQ4_NL", 25, RT_IQ4_NL, RT_Q6_K, RT_IQ4_NL },
    { "IQ4_XS", 30, RT_IQ4_XS, RT_Q6_K, RT_IQ4_XS }, { "MXFP4", 38, RT_MXFP4, RT_Q6_K, RT_MXFP4 },
    { "NVFP4", 39, RT_NVFP4, RT_Q6_K, RT_NVFP4 }, { "Q3_K_L", 13, RT_Q3_K, RT_Q6_K, RT_Q3_K },
    { "Q3_K_M", 12, RT_Q3_K, RT_Q6_K, RT_Q3_K }, { "Q3_K_S", 11, RT_Q3_K, RT_Q6_K, RT_Q3_K },
    { "Q2_K", 10, RT_Q2_K, RT_Q6_K, RT_Q2_K },   { "TQ2_0", 37, RT_TQ2_0, RT_Q6_K, RT_Q4_K },
    { "Q2_0", 41, RT_Q2_0, RT_Q6_K, RT_Q4_K },
};

typedef enum when {
    ALWAYS,
    FIRST_2,
    FIRST_4,
    SIXTEENTH,      /* the first of the layers */
    EIGHTH,
    EIGHTH_WEIGHED, /* where importance is known */
    EIGHTH_PLAIN,   /* where it is not */
    MORE_BITS,      /* the first and last eighth and every third between: where errors cost most */
    SHARED_4        /* four or more heads share keys and values */
} when;

/* The first row that holds counts. */
static const struct exception {
    const char *mix, *part;
    when when;
    rt_dtype type;
} exceptions[] = {
    { "Q5_K_M", "attn_v", MORE_BITS, RT_Q6_K },
    { "Q5_K_M", "ffn_down", MORE_BITS, RT_Q6_K },
    { "Q5_0", "ffn_down", EIGHTH_WEIGHED, RT_Q5_1 },
    { "Q4_K_M", "attn_v", MORE_BITS, RT_Q6_K },
    { "Q4_K_M", "ffn_down", MORE_BITS, RT_Q6_K },
    { "Q4_K_S", "attn_v", FIRST_4, RT_Q5_K },
    { "Q4_K_S", "ffn_down", EIGHTH, RT_Q5_K },
    { "Q4_0", "ffn_down", EIGHTH_WEIGHED, RT_Q4_1 },
    { "IQ4_NL", "attn_v", SHARED_4, RT_Q5_K },
    { "IQ4_NL", "ffn_down", EIGHTH_PLAIN, RT_Q5_K },
    { "IQ4_XS", "attn_v", SHARED_4, RT_Q5_K },
    { "IQ4_XS", "ffn_down", EIGHTH_PLAIN, RT_Q5_K },
    { "Q3_K_L", "attn_v", ALWAYS, RT_Q5_K },
    { "Q3_K_L", "attn_output", ALWAYS, RT_Q5_K },
    { "Q3_K_L", "ffn_down", ALWAYS, RT_Q5_K },
    { "Q3_K_M", "attn_v", FIRST_2, RT_Q5_K },
    { "Q3_K_M", "attn_v", ALWAYS, RT_Q4_K },
    { "Q3_K_M", "attn_output", ALWAYS, RT_Q4_K },
    { "Q3_K_M", "ffn_down", SIXTEENTH, RT_Q5_K },
    { "Q3_K_M", "ffn_down", ALWAYS, RT_Q4_K },
    { "Q2_K", "attn_v", SHARED_4, RT_Q4_K },
    { "Q2_K", "attn_v", ALWAYS, RT_Q3_K },
    { "Q2_K", "attn_output", ALWAYS, RT_Q3_K },
    { "Q2_K", "ffn_down", ALWAYS, RT_Q3_K },
};

/* What stands in for a type whose blocks a row does not fill. */
static const struct smaller {
    rt_dtype type, by;
} smaller[] = {
    { RT_Q2_0, RT_Q4_0 },    { RT_TQ2_0, RT_Q4_0 },   { RT_Q2_K, RT_Q4_0 }, { RT_Q3_K, RT_Q4_0 },
    { RT_IQ4_XS, RT_IQ4_NL }, { RT_NVFP4, RT_Q4_0 }, { RT_Q4_K, RT_Q5_0 }, { RT_Q5_K, RT_Q5_1 },
    { RT_Q6_K, RT_Q8_0 },
};

const rt_mix *rt_mix_find(const char *name)
{
    for (int i = 0; i < RT_COUNT(mixes); i++)
        if (!strcmp(mixes[i].name, name))
            return &mixes[i];
    return NULL;
}

static bool holds(when rule, const rt_mix_model *model, int64_t layer)
{
    int64_t n = model->layers;
    switch (rule) {
    case FIRST_2:
        return layer < 2;
    case FIRST_4:
        return layer < 4;
    case SIXTEENTH:
        return layer < n / 16;
    case EIGHTH:
        return layer < n / 8;
    case EIGHTH_WEIGHED:
        return layer < n / 8 && model->weighed;
    case EIGHTH_PLAIN:
        return layer < n / 8 && !model->weighed;
    case MORE_BITS:
        return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    case SHARED_4:
        return model->heads >= 4 * model->kv_heads;
    case ALWAYS:
        break;
    }
    return true;
}

static rt_dtype in_layer(const rt_mix *mix, const rt_mix_model *model, const char *part,
                         int64_t layer)
{
    rt_dtype t = mix->base;
    for (int i = 0; i < RT_COUNT(exceptions); i++) {
        const struct exception *e = &exceptions[i];
        if (!strcmp(e->mix, mix->name) && !strcmp(e->part, part) && holds(e->when, model, layer)) {
            t = e->type;
            break;
        }
    }
    /* the shape of Llama-2-70B and those after it: few values, which are cheap to keep well */
    bool few = model->layers == 80 && model->heads > model->kv_heads && !strcmp(part, "attn_v");
    return few && (t == RT_Q3_K || t == RT_Q4_K) ? RT_Q5_K : t;
}

static rt_dtype fallback(rt_dtype t, int64_t width)
{
    for (int i = 0; width % rt_dtype_get(t)->block && i < RT_COUNT(smaller); i++)
        if (smaller[i].type == t)
            t = smaller[i].by;
    return width % rt_dtype_get(t)->block ? RT_F16 : t;
}

rt_dtype rt_mix_dtype(const rt_mix *mix, const rt_mix_model *model, const char *name, int rank,
                      int64_t width, int64_t layer)
{
    const char *dot = strrchr(name, '.'), *part = dot ? dot + 1 : name;
    size_t n = strlen(part);
    if (rank < 2 || (n >= 5 && !strcmp(part + n - 5, "_norm")) || !strcmp(part, "ffn_gate_inp"))
        return RT_F32;
    bool embd = !strcmp(name, "token_embd"), head = !strcmp(name, "output") || (model->tied && embd);
    rt_dtype t = mix->base;
    if (model->pure)
        return fallback(t, width);
    if (head) /* of a width that is odd for the base: the larger of what fits */
        t = width % rt_dtype_get(t)->block ? RT_Q8_0 : mix->head;
    else if (embd)
        t = mix->embd;
    else if (layer >= 0)
        t = in_layer(mix, model, part, layer);
    return fallback(t, width);
}
