/* ggml.h: rows into blocks as ggml's own quantizer chooses them (ggml_quantize_chunk), byte for byte,
   with and without an importance matrix: for files that are to equal llama-quantize's. Owns ggml's
   searches and their order of operations, every product and sum rounded to f32 by itself. A build of
   ggml-base for x86-64 has no fused multiply-add and agrees on every byte; one for a machine where
   the compiler fuses (arm64) flips a code now and then, and is not followed. Refuses: better choices
   (encode.h), rows that are not finite (its caller has looked). Private to quant/encode.c. */
#ifndef RT_QUANT_GGML_H
#define RT_QUANT_GGML_H

#include "core/base/dtype.h"

/* One row: x (width), importance (width) or NULL, out rt_dtype_bytes(t, width). A scale beyond f16
   becomes infinite, as there. */
typedef void rt_ggml_fn(uint8_t *out, const float *x, int64_t width, const float *importance);

rt_ggml_fn *rt_ggml_row(rt_dtype t); /* NULL: not a block type that ggml writes */

#endif
