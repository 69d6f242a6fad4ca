/* group.h: groups of a row as 4-bit codes under one f16 scale, for the formats of Hugging Face
   directories: x ~ scale (code - zero), code and zero in 0 .. 15. The scale and the zero are
   searched to minimise sum_i w_i (x_i - scale (code_i - zero))^2 with the scale as stored. Refuses:
   NaN and infinities; blocks of GGUF (encode.h), layouts (packing.h). */
#ifndef RT_GROUP_H
#define RT_GROUP_H

#include "core/base/err.h"

RT_BEGIN

/* x (n), n a multiple of 16 up to 256; weight (n) >= 0 or NULL. symmetric: zero is 8. -1: x is not
 * finite, or beyond f16. */
int rt_group_fit(const float *x, const float *weight, int64_t n, bool symmetric, uint8_t *code,
                 uint16_t *scale, uint8_t *zero, rt_err *err);

RT_END

#endif
