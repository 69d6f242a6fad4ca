/* mix.h: which block type each tensor of a model gets under a type name such as Q4_K_M: llama.cpp's
   rules (src/llama-quant.cpp), so that sizes and names mean what people expect. One-dimensional
   tensors and norms stay F32. A width that does not fill the blocks of a type falls back to a
   32-element type of no fewer bits, and to F16 below that. MXFP4 is ours: every matrix in it, where
   llama.cpp has it for experts alone; NVFP4 falls back to Q4_0, where llama.cpp gives up. */
#ifndef RT_MIX_H
#define RT_MIX_H

#include "core/device/tensor.h"

RT_BEGIN

typedef struct rt_mix {
    const char *name;
    int32_t file_type; /* general.file_type */
    rt_dtype base;     /* every matrix */
    rt_dtype head;     /* output, and token_embd when tied */
    rt_dtype embd;     /* token_embd when not */
} rt_mix;

/* Names for option tables. */
#define RT_MIX_CHOICES                                                                             \
    "F32|F16|BF16|Q8_0|Q6_K|Q5_K_M|Q5_K_S|Q5_1|Q5_0|Q4_K_M|Q4_K_S|Q4_1|Q4_0|IQ4_NL|IQ4_XS|MXFP4|"  \
    "NVFP4|Q3_K_L|Q3_K_M|Q3_K_S|Q2_K|TQ2_0|Q2_0"
const rt_mix *rt_mix_find(const char *name); /* or NULL */

/* What the rules ask about the model. */
typedef struct rt_mix_model {
    int64_t layers, heads, kv_heads;
    bool tied;
    bool weighed; /* the importance of columns is known */
    bool pure;    /* the base type for every matrix, for weights that were trained on its grid */
} rt_mix_model;

/* name: GGUF name without ".weight" ("blk.3.attn_v"); layer -1 outside blocks; width of a row. */
rt_dtype rt_mix_dtype(const rt_mix *mix, const rt_mix_model *model, const char *name, int rank,
                      int64_t width, int64_t layer);

RT_END

#endif
