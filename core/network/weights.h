/* weights.h: a model's weights from and to disk: a Hugging Face directory (config.json +
   safetensors) or a GGUF. Names come from the registry (params.h) alone. A missing tensor, an
   unknown tensor, a wrong shape or a dtype without conversion is an error that names it. Refuses:
   tokenizers and templates (corpora/), choosing a quantization (quant/). */
#ifndef RT_WEIGHTS_H
#define RT_WEIGHTS_H

#include "core/network/model.h"

RT_BEGIN

/* Registers the weights of cfg without memory. */
void rt_model_init(rt_model *m, const rt_config *cfg);
/* path: a model directory or a GGUF file. frozen: the matrices of products, and the embedding, stay
   in the bytes of their file, which is mapped (rt_model_mapped says how many), but for f32 of a
   small model, which is packed into panels. positions: length of the rope table. On failure nothing
   is left to free. Opening is planning (m->arenas say what it takes, no memory yet) and then
   reading; after a failed read the model is to be freed. */
int rt_model_plan(rt_model *m, rt_dev *d, const char *path, bool frozen, int64_t positions,
                  rt_err *err);
/* Frozen, for adapters to learn beside it (w.adapters, whose own memory rt_adapters_plan plans). */
int rt_model_plan_adapted(rt_model *m, rt_dev *d, const char *path, const rt_adapter_spec *spec,
                          int64_t positions, rt_err *err);
/* The same by a description, which may differ from that of the file. path NULL, or not to be read:
   the checkpoint is not there yet or never will be, and all weights are counted as f32. */
void rt_model_plan_config(rt_model *m, rt_dev *d, const rt_config *cfg, const char *path,
                          bool frozen, int64_t positions);
/* To learn all of its weights; they lie as `how` says (how->label is ignored). */
void rt_model_plan_learned(rt_model *m, rt_dev *d, const rt_config *cfg, const rt_placing *how,
                           int64_t positions);
/* The same of a frozen model whose matrices are read as a pass needs them (stream.h): none of them
   is touched where the file is mapped. */
void rt_model_plan_streamed(rt_model *m, rt_dev *d, const rt_config *cfg, const char *path,
                            int64_t positions);
/* Bytes that stay in the file; and of the largest weight that does not, which is read in one piece.
 */
int64_t rt_model_mapped(const rt_model *m);
int64_t rt_model_reading(const rt_model *m);
void rt_model_free(rt_dev *d, rt_model *m);
/* What reading does first, and all there is of a random start (rt_params_init): memory, and the
   rope table. */
int rt_model_place(rt_model *m, rt_err *err);
int rt_model_read(rt_model *m, rt_dev *d, const char *path, rt_err *err);
int rt_model_open(rt_model *m, rt_dev *d, const char *path, bool frozen, int64_t positions,
                  rt_err *err);
/* Only the description of what is at path. */
int rt_model_config(rt_config *cfg, const char *path, rt_err *err);
/* config.json, generation_config.json and model.safetensors into dir, weights as dtype (F32, BF16,
   F16); deterministic bytes. Fixed f32 tensors (router bias) stay f32. */
int rt_model_save(const rt_model *m, rt_dev *d, const char *dir, rt_dtype dtype, rt_err *err);
/* The same of weights that come one by one: rows puts all of weight i of the registry into host. */
typedef int rt_weight_rows(void *ctx, int i, float *host, rt_err *err);
int rt_model_save_rows(const rt_model *m, const char *dir, rt_dtype dtype, rt_weight_rows *rows,
                       void *ctx, rt_err *err);
/* Of the safetensors that save would write; the weights need no memory yet. */
int64_t rt_model_save_bytes(const rt_model *m, rt_dtype dtype);
/* Hash over names, shapes and stored bytes of a model at path: the archive's "which teacher was
 * this". */
int rt_model_hash(rt_hash *hash, const char *path, rt_err *err);
/* The same, without reading 700 GB twice: believed from the cache (core/base/identity.h). */
/* *read: bytes that had to be read for it. */
int rt_model_identity(rt_hash *hash, int64_t *read, const char *path, rt_err *err);

RT_END

#endif
