/* quantization.h: what "quantization_config" of a config.json says about how weights are stored.
   Owns the list of methods that can be read; stored.h reads them. Refuses, by name, every method,
   format and option it does not know: a scale used wrongly gives a model that talks nonsense. */
#ifndef RT_QUANTIZATION_H
#define RT_QUANTIZATION_H

#include "core/base/json.h"

RT_BEGIN

typedef enum rt_quant_method {
    RT_QUANT_NONE,
    RT_QUANT_FP8,   /* "fp8": X is e4m3, X_scale_inv one number a block of X */
    RT_QUANT_MXFP4, /* "mxfp4": experts are X_blocks and X_scales */
    RT_QUANT_INT4   /* "compressed-tensors", "pack-quantized": X_packed, X_scale, X_shape */
} rt_quant_method;

typedef struct rt_quantization {
    rt_quant_method method;
    int64_t rows, cols; /* weights under one scale; INT4: one row, cols 0 = the whole row */
} rt_quantization;

/* config: the whole config.json; without the key, or null: RT_QUANT_NONE. what: in messages. */
int rt_quantization_parse(rt_quantization *q, const cJSON *config, const char *what, rt_err *err);

RT_END

#endif
