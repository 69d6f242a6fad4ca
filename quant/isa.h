/* isa.h: what one instruction set offers the encoders. isa.c is one text compiled for each (scalar,
   AVX2, AVX-512); every copy exports one constant rt_encode_isa, and all copies write the same
   bytes. Private to quant/encode.c and quant/compensate.c. */
#ifndef RT_QUANT_ISA_H
#define RT_QUANT_ISA_H

#include "core/base/dtype.h"
#include "core/base/err.h"

/* `blocks` blocks of one dtype, one after the other; x, w: their values and the weights of the
   errors, all finite. */
typedef void rt_blocks_fn(uint8_t *p, const float *x, const float *w, int64_t blocks);

/* A unit of columns [first, first + n) of a stretch of at most RT_STRETCH, of sixteen rows: every
   array is (column, 16). The unit is a block of a type: code q of sub-block j decodes as
   scale q - offset. */
enum { RT_STRETCH = 256 };
struct rt_feedback {
    int first, n, sub, lo, hi;
    const float *x; /* what is to be kept */
    const float *z; /* the same and the errors carried into it from before the unit */
    float *e, *q;   /* out: errors against x, codes */
    const float *nt; /* nt[j ld + k]: how much of the error of column k < j goes into column j */
    int64_t ld;
    const float *weight; /* (column) of the square of what is left */
    float scale[16][16], inverse[16][16], offset[16][16]; /* (sub-block, row) */
    float loss[16];                                       /* out */
};

struct rt_encode_isa {
    rt_blocks_fn *blocks[RT_DTYPE_COUNT]; /* NULL: no block type, or one that is not written */
    /* z of the unit += errors of columns [from, to) carried */
    void (*carry)(const struct rt_feedback *f, float *z, int from, int to);
    void (*round)(struct rt_feedback *f);
    /* what a change v of the unit's values becomes once it is carried inside it */
    void (*spread)(const struct rt_feedback *f, float *out, const float *v);
    void (*dot)(const struct rt_feedback *f, float out[16], const float *a, const float *b);
    /* w, x (rows, width), width % 32 == 0: the weights of encode.h; no importance is below least */
    void (*weights)(float *w, const float *x, int64_t rows, int64_t width, const float *importance,
                    float least);
};

/* What this machine has, or RETORT_ISA asks for; encode.c. */
int rt_encode_choose(const struct rt_encode_isa **isa, rt_err *err);

extern const struct rt_encode_isa rt_encode_scalar, rt_encode_avx2, rt_encode_avx512;

#endif
