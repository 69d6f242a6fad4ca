/* isa.h: what one instruction set offers the encoders. isa.c is one text compiled for each (scalar,
   AVX2, AVX-512); every copy exports one constant rt_encode_isa, and all copies write the same
   bytes. Private to quant/encode.c. */
#ifndef RT_QUANT_ISA_H
#define RT_QUANT_ISA_H

#include "core/base/dtype.h"

/* `blocks` blocks of one dtype, one after the other; x, w: their values and the weights of the
   errors, all finite. */
typedef void rt_blocks_fn(uint8_t *p, const float *x, const float *w, int64_t blocks);

struct rt_encode_isa {
    rt_blocks_fn *blocks[RT_DTYPE_COUNT]; /* NULL: no block type, or one that is not written */
    /* w, x (rows, width), width % 32 == 0: the weights of encode.h; no importance is below least */
    void (*weights)(float *w, const float *x, int64_t rows, int64_t width, const float *importance,
                    float least);
};

extern const struct rt_encode_isa rt_encode_scalar, rt_encode_avx2, rt_encode_avx512;

#endif
