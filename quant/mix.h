/* mix.h: which block type each tensor of a model gets under a type name such as Q4_K_M: llama.cpp's
   rules for dense models (src/llama-quant.cpp), so that sizes and names mean what people expect.
   One-dimensional tensors and norms stay F32. A width that does not fill a super-block of 256 falls
   back to a 32-element type of no fewer bits, and to F16 below that. */
#ifndef RT_MIX_H
#define RT_MIX_H

#include "core/device/tensor.h"

RT_BEGIN

typedef struct rt_mix {
    const char *name;
    int32_t file_type; /* general.file_type */
    rt_dtype base;     /* every matrix */
    rt_dtype head;     /* output, and token_embd when tied */
    rt_dtype extra;    /* attn_v and ffn_down of the layers that `layers` names */
    enum { RT_MIX_NONE, RT_MIX_MORE_BITS, RT_MIX_FIRST } layers;
} rt_mix;

/* Names for option tables: "F32|F16|BF16|Q8_0|Q6_K|Q5_K_M|Q5_K_S|Q4_K_M|Q4_K_S|Q4_0" */
#define RT_MIX_CHOICES "F32|F16|BF16|Q8_0|Q6_K|Q5_K_M|Q5_K_S|Q4_K_M|Q4_K_S|Q4_0"
const rt_mix *rt_mix_find(const char *name); /* or NULL */

/* name: GGUF name without ".weight" ("blk.3.attn_v"); layer -1 outside blocks; width of a row.
   pure: the base type for every matrix, for models whose weights were trained on its grid. */
rt_dtype rt_mix_dtype(const rt_mix *mix, const char *name, int rank, int64_t width, int64_t layer,
                      int64_t layers, bool tied, bool pure);

RT_END

#endif
