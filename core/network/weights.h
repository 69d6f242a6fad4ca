/* weights.h: a model's weights from and to disk: a Hugging Face directory (config.json +
   safetensors) or a GGUF. Names come from the registry (params.h) alone. A missing tensor, an
   unknown tensor, a wrong shape or a dtype without conversion is an error that names it. Refuses:
   tokenizers and templates (corpora/), choosing a quantization (quant/). */
#ifndef RT_WEIGHTS_H
#define RT_WEIGHTS_H

#include "core/network/model.h"

RT_BEGIN

/* Registers the weights of cfg without memory: for plans and for a random start (rt_params_init).
 */
void rt_model_init(rt_model *m, const rt_config *cfg);
/* path: a model directory or a GGUF file. frozen: products keep packed panels and no rows.
   positions: length of the rope table. On failure nothing is left to free. Opening is planning
   (m->w.arena and m->rope_arena say what it takes, no memory yet) and then reading; after a failed
   read the model is to be freed. */
int rt_model_plan(rt_model *m, rt_dev *d, const char *path, bool frozen, int64_t positions,
                  rt_err *err);
/* The same for a description whose checkpoint need not be there. */
void rt_model_plan_config(rt_model *m, rt_dev *d, const rt_config *cfg, bool frozen,
                          int64_t positions);
int rt_model_read(rt_model *m, rt_dev *d, const char *path, rt_err *err);
int rt_model_open(rt_model *m, rt_dev *d, const char *path, bool frozen, int64_t positions,
                  rt_err *err);
/* Only the description of what is at path. */
int rt_model_config(rt_config *cfg, const char *path, rt_err *err);
/* config.json, generation_config.json and model.safetensors into dir, weights as dtype (F32, BF16,
   F16); deterministic bytes. Fixed f32 tensors (router bias) stay f32. */
int rt_model_save(const rt_model *m, rt_dev *d, const char *dir, rt_dtype dtype, rt_err *err);
/* Of the safetensors that save would write; the weights need no memory yet. */
int64_t rt_model_save_bytes(const rt_model *m, rt_dtype dtype);
/* Hash over names, shapes and stored bytes of a model at path: the archive's "which teacher was
 * this". */
int rt_model_hash(rt_hash *hash, const char *path, rt_err *err);
/* The same, without reading 700 GB twice: believed from the cache (core/base/identity.h). */
int rt_model_identity(rt_hash *hash, const char *path, rt_err *err);

RT_END

#endif
