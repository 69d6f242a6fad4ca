/* packing.h: how 4-bit codes of a matrix lie in the directories that vLLM loads: compressed-tensors
   (pack-quantized), GPTQ, AWQ. One table of formats: tensors, their shapes, config.json; one
   function each way. compressed-tensors  weight_packed (O,I/8) eight codes of a row a word;
   weight_scale (O,I/G); weight_shape gptq                qweight (I/8,O) eight codes of a column;
   qzeros (I/G,O/8) zero - 1; scales (I/G,O); g_idx awq                 qweight (I,O/8) eight
   outputs in the order 0 2 4 6 1 3 5 7; qzeros so; scales (I/G,O) x = scale (code - zero); words
   are little-endian i32, the first code in the lowest bits. O outputs, I inputs, G inputs of a
   group. Refuses: choosing codes (group.h, encode.h). */
#ifndef RT_PACKING_H
#define RT_PACKING_H

#include "core/base/dtype.h"
#include "core/base/json.h"
#include "core/formats/safetensors.h"

RT_BEGIN

typedef enum rt_packing { RT_PACK_GGUF, RT_PACK_COMPRESSED, RT_PACK_GPTQ, RT_PACK_AWQ } rt_packing;
#define RT_PACK_CHOICES "gguf|compressed-tensors|gptq|awq"
rt_packing rt_pack_named(const char *name);

typedef struct rt_pack_part {
    const char *suffix; /* after the layer's name and a dot */
    rt_dtype dtype;
    int rank;
    int64_t dim[2];
} rt_pack_part;
enum { RT_PACK_PARTS = 4 };

/* The tensors of an (outputs, inputs) matrix; returns how many. */
int rt_pack_parts(rt_packing p, int64_t outputs, int64_t inputs, int64_t group,
                  rt_pack_part part[RT_PACK_PARTS]);
int64_t rt_pack_part_bytes(const rt_pack_part *part);
bool rt_pack_symmetric(rt_packing p);

typedef struct rt_codes {
    int64_t outputs, inputs, group;
    uint8_t *code;   /* (O,I) */
    uint16_t *scale; /* (O,I/G) f16 */
    uint8_t *zero;   /* (O,I/G) */
} rt_codes;

/* Part k as it lies in the file; data of rt_pack_part_bytes. */
void rt_pack(rt_packing p, int k, const rt_codes *c, void *data);
/* out (I) = row `row` of layer base ("model.layers.0.self_attn.q_proj") in an open directory. */
int rt_pack_read_row(rt_packing p, const rt_safetensors *st, const char *base, int64_t group,
                     int64_t row, float *out, int64_t inputs, rt_err *err);
/* "quantization_config" of config.json; cJSON_Delete it. */
cJSON *rt_pack_config(rt_packing p, int64_t group);

RT_END

#endif
