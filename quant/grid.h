/* grid.h: what the scales of a block let its weights be. Every block type that is written decodes
   element i of sub-block j = i / sub as (d level_j) q_i - (dmin offset_j), each product rounded to
   f32 as core/base/decode.c does; the grid is all of that but the codes q. Who rounds with more in
   view than one block (quant/compensate.h), or learns scales (quantization-aware training), takes
   the grid of a block that was encoded, changes d, dmin and codes, and writes it back.
   Refuses: choosing anything; types whose codes are no steps of one size (IQ4_NL, MXFP4). */
#ifndef RT_GRID_H
#define RT_GRID_H

#include "core/base/dtype.h"

RT_BEGIN

enum { RT_GRID_MAX = 256, RT_GRID_SUBS = 16 };

typedef struct rt_grid {
    int32_t n, sub; /* elements of a block, of a sub-block */
    int32_t lo, hi; /* codes */
    float d, dmin;  /* as stored: f16 */
    bool has_dmin;  /* else dmin is 0 and every offset 0 */
    float level[RT_GRID_SUBS], offset[RT_GRID_SUBS]; /* whole numbers */
} rt_grid;

bool rt_grid_supported(rt_dtype t); /* Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K */
/* One block; code (n). */
void rt_grid_read(rt_grid *g, int8_t *code, const uint8_t *block, rt_dtype t);
/* The block whose codes and d, dmin are these; its levels and offsets stay as they are in it. */
void rt_grid_write(uint8_t *block, const rt_grid *g, const int8_t *code, rt_dtype t);

/* Element i as the block decodes it. */
static inline float rt_grid_value(const rt_grid *g, int i, int code)
{
    float scale = g->d * g->level[i / g->sub], offset = g->dmin * g->offset[i / g->sub];
    return scale * (float)code - offset;
}

RT_END

#endif
