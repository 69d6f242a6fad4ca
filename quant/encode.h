/* encode.h: f32 rows into GGUF blocks, searched rather than rounded. For each block the scales are
   chosen to minimise  sum_i w_i (x_i - decoded_i)^2  with the decoded value computed from the
   scales as stored (f16, 6-bit), where w_i = importance_i * sqrt(s2 + x_i^2) and s2 is the mean
   square of the row: large weights and, with importance (the mean square of each input column over
   calibration text, llama.cpp's "imatrix"), busy columns matter more.
   A row that already lies on a Q4_0 grid comes back as the same values exactly: blocks that were
   trained on the grid survive. Refuses: NaN and infinities; choosing the type (quant/mix.h). */
#ifndef RT_ENCODE_H
#define RT_ENCODE_H

#include "core/base/err.h"
#include "core/device/tensor.h"

RT_BEGIN

bool rt_encode_supported(rt_dtype t); /* F32, F16, BF16 and every block type of GGUF that is decoded */

/* x (rows, width) -> out, rows * rt_dtype_bytes(t, width) bytes. importance (width) >= 0 or NULL.
   width % block == 0. The bytes of a row do not depend on the rows that it is encoded with, so that
   threads may share them. Fails on a value that is not finite, and for F16 on one beyond its range,
   naming row and column. */
typedef int rt_encode_fn(void *out, const float *x, rt_dtype t, int64_t rows, int64_t width,
                         const float *importance, rt_err *err);
rt_encode_fn rt_encode;
/* The same with ggml's own choices instead, byte for byte (quant/ggml.h), which err more. Fails, too,
   where a scale of theirs is beyond f16. */
rt_encode_fn rt_encode_ggml;

RT_END

#endif
