/* dtype.h: the number formats of files and tensors, their sizes, and what their bits mean as f32.
   Refuses: encoding into blocks (quant/encode.h), tensors (core/device/tensor.h). */
#ifndef RT_DTYPE_H
#define RT_DTYPE_H

#include "core/base/base.h"

RT_BEGIN

typedef enum rt_dtype {
    RT_F32, RT_F16, RT_BF16, RT_I32, RT_U8,
    RT_Q8_0, RT_Q4_0, RT_Q4_K, RT_Q6_K, /* blocks along the innermost dimension */
    RT_Q4_1, RT_Q5_0, RT_Q5_1, RT_Q5_K, RT_IQ4_NL, RT_MXFP4, /* decoded only, no product of their own */
    RT_Q2_K, RT_Q3_K, RT_IQ4_XS, RT_NVFP4, RT_TQ2_0, RT_Q2_0, /* and by the element, not by runs */
    RT_F8_E4M3, RT_F8_E8M0, /* codes and scales of checkpoints: core/network/stored.h joins them */
    RT_M8, RT_V8, /* an optimizer's moments: core/device/kernels/moment.h */
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
int64_t rt_dtype_bytes(rt_dtype t, int64_t elements); /* elements % block == 0, else rt_bug */

/* Scalar conversions, round to nearest even. */
float rt_bf16_to_f32(uint16_t h);
uint16_t rt_f32_to_bf16(float f);
float rt_f16_to_f32(uint16_t h);
uint16_t rt_f32_to_f16(float f);

/* What the codes 0 .. 15 stand for in IQ4_NL and IQ4_XS, and (doubled, bit 3 is the sign) in MXFP4
   and NVFP4. */
#define RT_IQ4_VALUES                                                                              \
    {                                                                                              \
        -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113                   \
    }
#define RT_FP4_VALUES                                                                              \
    {                                                                                              \
        0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12                                    \
    }
/* Half of what NVFP4's scale stands for: 4 bits of exponent (bias 7), 3 of mantissa, the eighth bit
   ignored; 0 and 127 are 0. */
float rt_nvfp4_scale(uint8_t code);

/* Decode n elements (a multiple of the block) of any dtype to f32. core/base/decode.c; the block
   layouts are facts of GGUF (ggml-common.h). Encoding them well is quant/. */
void rt_decode_f32(float *out, const void *data, rt_dtype t, int64_t n);
/* The dtypes that weights are written in, of a choice of this name. */
#define RT_WRITTEN_DTYPES "f32|bf16|f16"
rt_dtype rt_dtype_written(const char *name);
/* As one of them, each rounded to nearest even. */
void rt_encode_f32(void *out, const float *x, int64_t n, rt_dtype t);
/* One group of a row whose codes and scales are tensors of their own, as safetensors keep them.
   Codes lie two a byte, the low half first. mxfp4: 32 E2M1 codes under 2^(exponent - 127);
   int4: n codes from code `first` on, each minus 8, times scale. */
void rt_decode_mxfp4(float *out, const uint8_t *codes, uint8_t exponent);
void rt_decode_int4(float *out, const uint8_t *codes, int64_t first, int64_t n, float scale);

RT_END

#endif
