/* int8.h: products of the precision "int8" (numeric contract in core/device/ops.h): how weights of
   8 bits or fewer are packed for them, how rows are rounded, and what an instruction set offers.
   int8.c owns the packing and the loops, isa_int8.c the inner ones. Private to core/device/cpu.

   A panel is 16 rows of a weight, their blocks of 32 columns one after another. Of a block:
     scales   as the form has them (rt_int8_scales), 16 rows each
     codes    less than 8 bits: 4 x 64 bytes; byte 4 i + j of line l holds the low four bits of
              row i's code 8 l + j, and above them those of its code 8 l + 4 + j; then 64 bytes
              of fifth bits (bit g of byte 4 i + j belongs to code 4 g + j), or 128 of fifth and
              sixth ones (bits 2 (g % 4) on of byte 4 i + j of line g / 4).
              8 bits: 8 x 64 bytes; byte 4 i + j of line g is row i's code 4 g + j. */
#ifndef RT_CPU_INT8_H
#define RT_CPU_INT8_H

#include "core/base/processor.h"
#include "core/device/ops.h"

enum {
    RT_INT8_PANEL = 16, /* rows of a weight */
    RT_INT8_BLOCK = 32, /* columns that share a scale */
    RT_INT8_ROWS = 8    /* of a tile of activations, at most: 1, 2, 4 or 8 */
};

enum rt_int8_scales {
    RT_INT8_ONE,   /* f16 */
    RT_INT8_TABLE, /* f16; codes index the table of IQ4_NL */
    RT_INT8_MIN,   /* f16, and an f16 that is added */
    RT_INT8_K,     /* ahead of every 8 blocks f16 d and f16 -dmin; then u8 of d, u8 of dmin */
    RT_INT8_HALVES /* ahead of every 8 blocks f16 d; then i8 of each half of the block */
};

/* name, what stores it, bits of a code, scales, and the code that stands for 0 */
#define RT_INT8_FORMS(X)                                                                           \
    X(q4_0, RT_Q4_0, 4, RT_INT8_ONE, 8)                                                            \
    X(q4_1, RT_Q4_1, 4, RT_INT8_MIN, 0)                                                            \
    X(q5_0, RT_Q5_0, 5, RT_INT8_ONE, 16)                                                           \
    X(q5_1, RT_Q5_1, 5, RT_INT8_MIN, 0)                                                            \
    X(q8_0, RT_Q8_0, 8, RT_INT8_ONE, 128)                                                          \
    X(iq4_nl, RT_IQ4_NL, 4, RT_INT8_TABLE, 128)                                                    \
    X(q4_k, RT_Q4_K, 4, RT_INT8_K, 0)                                                              \
    X(q5_k, RT_Q5_K, 5, RT_INT8_K, 0)                                                              \
    X(q6_k, RT_Q6_K, 6, RT_INT8_HALVES, 32)

enum rt_int8_kind {
#define KIND(name, dtype, bits, scales, zero) RT_INT8_##name,
    RT_INT8_FORMS(KIND)
#undef KIND
        RT_INT8_KINDS
};

/* A block of a row of activations. */
struct rt_int8_block {
    float d, sum;    /* scale; d times the sum of q */
    int32_t base[2]; /* the code of 0 times the sum of q, negative: of all; of HALVES, of each */
    int8_t q[RT_INT8_BLOCK];
};

/* c(m,16) = a panel times a tile of m rows, whose blocks lie [block][m] */
typedef void rt_int8_dot_fn(const uint8_t *panel, int64_t blocks, const struct rt_int8_block *x,
                            float *c);

struct rt_int8_isa {
    const char *name;
    rt_simd simd;
    bool vnni;                       /* and products of bytes in one instruction (processor.h) */
    int64_t rows;                    /* most rows of a tile */
    rt_int8_dot_fn *const (*dot)[4]; /* [kind][log2 m] */
    /* one row of n columns to out[0], out[step], ... */
    void (*round)(struct rt_int8_block *out, int64_t step, const float *x, int64_t n, int64_t zero,
                  bool halves);
};

extern const struct rt_int8_isa rt_int8_scalar, rt_int8_avx2, rt_int8_avx2_vnni, rt_int8_avx512,
    rt_int8_avx512_vnni;
/* Of this build that this machine has, best first; NULL past the last. */
const struct rt_int8_isa *rt_int8_get(rt_simd most, int i);

/* Whether products with w go this way on d, which has the precision: by its dtype. */
bool rt_int8_takes(const rt_dev *d, const rt_tensor *w);
int64_t rt_int8_bytes(const rt_tensor *w); /* of its panels */
void rt_int8_pack(rt_dev *d, void *panels, const rt_tensor *w);
/* c(m,n) = or += a(m,k) wᵀ, w = matrix e of what was packed; rows of a and c lda and ldc floats
   apart */
struct rt_int8_product {
    const float *a;
    float *c;
    int64_t lda, ldc, m;
    const rt_tensor *w;
    int64_t e;
    bool add;
};
void rt_int8_run(rt_dev *d, const struct rt_int8_product *p);
int64_t rt_int8_workspace(int64_t k); /* bytes, of a product over k columns */

#endif
