/* tensor.h: what a tensor is, the dtypes, and the only glossary of shape letters.

     N rows (tokens) of a batch     S segments (sequences)      C model width      V vocabulary
     L layers                       H query heads               K key/value heads  D head width (Dk, Dv)
     R latent rank (MLA)            Q query latent rank (MLA)   P rope width (MLA)
     F ffn width                    E experts                   A active experts a token
     M rows of a head chunk         J soft-target items of a chunk

   Tensors are dense and row-major; a view may narrow only the outermost dimension (rows of a batch,
   one expert of E). Layers never look into data: it belongs to the backend that placed it. */
#ifndef RT_TENSOR_H
#define RT_TENSOR_H

#include "core/arena.h"
#include "core/base.h"

RT_BEGIN

typedef enum rt_dtype {
    RT_F32, RT_F16, RT_BF16, RT_I32, RT_U8,
    RT_Q8_0, RT_Q4_0, RT_Q4_K, RT_Q6_K, /* blocks along the innermost dimension */
    RT_Q4_1, RT_Q5_0, RT_Q5_1, RT_Q5_K, RT_IQ4_NL, RT_MXFP4, /* decoded only, no product of their own */
    RT_F8_E4M3, RT_F8_E8M0, /* codes and scales of checkpoints: core/stored.h joins them */
    RT_DTYPE_COUNT
} rt_dtype;

typedef struct rt_dtype_info {
    const char *name;      /* "f32", "q4_K" */
    int32_t block;         /* elements a block (1 for plain types) */
    int32_t block_bytes;
    int32_t gguf_type;     /* ggml_type id, -1 = none */
    const char *safetensors; /* "F32", NULL = none */
} rt_dtype_info;
const rt_dtype_info *rt_dtype_get(rt_dtype t);

typedef struct rt_tensor {
    void *data;
    rt_dtype dtype;
    int rank;
    int64_t dim[4];      /* outermost first; dim[rank-1] is contiguous; unused are 1 */
    const void *panels;  /* packed copy for matrix products, made by rt_pack_weight, or NULL */
} rt_tensor;

rt_tensor rt_tensor_1(void *data, rt_dtype t, int64_t a);
rt_tensor rt_tensor_2(void *data, rt_dtype t, int64_t a, int64_t b);
rt_tensor rt_tensor_3(void *data, rt_dtype t, int64_t a, int64_t b, int64_t c);
int64_t rt_tensor_elements(const rt_tensor *t);
int64_t rt_tensor_bytes(const rt_tensor *t);
int64_t rt_dtype_bytes(rt_dtype t, int64_t elements); /* elements % block == 0, else rt_bug */
/* rows [first, first + n) of the outermost dimension; panels are dropped */
rt_tensor rt_tensor_rows(const rt_tensor *t, int64_t first, int64_t n);
bool rt_tensor_same_shape(const rt_tensor *a, const rt_tensor *b);

/* Planned tensors: name is the slot name in --plan. */
rt_tensor rt_plan_1(rt_arena *a, const char *name, rt_dtype t, int64_t d0);
rt_tensor rt_plan_2(rt_arena *a, const char *name, rt_dtype t, int64_t d0, int64_t d1);
rt_tensor rt_plan_3(rt_arena *a, const char *name, rt_dtype t, int64_t d0, int64_t d1, int64_t d2);

static inline float *rt_f32(const rt_tensor *t) { return (float *)t->data; }
static inline int32_t *rt_i32(const rt_tensor *t) { return (int32_t *)t->data; }

/* Scalar conversions, round to nearest even. */
float rt_bf16_to_f32(uint16_t h);
uint16_t rt_f32_to_bf16(float f);
float rt_f16_to_f32(uint16_t h);
uint16_t rt_f32_to_f16(float f);

/* Decode n elements (a multiple of the block) of any dtype to f32. core/decode.c; the block layouts
   are facts of GGUF (ggml-common.h). Encoding them well is quant/. */
void rt_decode_f32(float *out, const void *data, rt_dtype t, int64_t n);
/* One group of a row whose codes and scales are tensors of their own, as safetensors keep them.
   Codes lie two a byte, the low half first. mxfp4: 32 E2M1 codes under 2^(exponent - 127);
   int4: n codes from code `first` on, each minus 8, times scale. */
void rt_decode_mxfp4(float *out, const uint8_t *codes, uint8_t exponent);
void rt_decode_int4(float *out, const uint8_t *codes, int64_t first, int64_t n, float scale);

RT_END

#endif
