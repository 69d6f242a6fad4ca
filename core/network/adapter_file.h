/* adapter_file.h: adapters as files, in the layout of PEFT (github.com/huggingface/peft):
   adapter_config.json, and adapter_model.safetensors with base_model.model.NAME.lora_A.weight (R,I) and
   lora_B.weight (O,R). Refuses: what PEFT can say and adapter.h is not (DoRA, biases, ranks of their
   own, other saved modules), whole weights. */
#ifndef RT_ADAPTER_FILE_H
#define RT_ADAPTER_FILE_H

#include "core/network/model.h"

RT_BEGIN

bool rt_adapter_is(const char *dir); /* adapter_config.json stands there */
/* spec->targets is the caller's to free; *base: the model it was made for as its file says, or NULL;
   free(). */
int rt_adapter_spec_read(rt_adapter_spec *spec, char **base, const char *dir, rt_err *err);
/* Weight i of adapters of that spec as f32 rows in host; dir's file, opened. */
struct rt_safetensors;
int rt_adapter_rows(const struct rt_safetensors *st, const char *dir, const rt_adapters *a, int i,
                    float *host, rt_err *err);
/* adapter_model.safetensors of dir: as many tensors as the adapters have. */
int rt_adapter_open(struct rt_safetensors *st, const char *dir, const rt_adapters *a, rt_err *err);
/* Into placed adapters of that spec. */
int rt_adapter_read(const char *dir, rt_dev *d, rt_adapters *a, rt_err *err);
int rt_adapter_save(const char *dir, rt_dev *d, const rt_adapters *a, const char *base,
                    rt_dtype dtype, rt_err *err);
int64_t rt_adapter_save_bytes(const rt_adapters *a, rt_dtype dtype); /* of the weights */

RT_END

#endif
