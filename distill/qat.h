/* qat.h: quantization-aware training: passes read every matrix as the blocks of a GGUF would hold it,
   and the gradient is passed straight through to the weights behind (arXiv 1308.3432). The scales of
   every block are those of the file; the codes follow the weights, so what was learned is what is
   written: the same file with other codes. Beginning with the weights that were quantized, each moved
   into the cell of its code, the first step sees exactly the file.
   Works on f32 weights, which lie on the device; host and device each hold the largest, or all, once
   more. Refuses: block types without a grid (quant/grid.h), files of another model. */
#ifndef RT_QAT_H
#define RT_QAT_H

#include "core/base/team.h"
#include "core/network/model.h"
#include "core/network/stored.h"

RT_BEGIN

typedef struct rt_qat rt_qat;

/* The scales of path for the matrices of m, whose shapes are known. */
int rt_qat_open(rt_qat **q, const char *path, rt_model *m, int threads, rt_err *err);
void rt_qat_close(rt_qat *q); /* accepts NULL */
/* Plans what passes read, which the list places. */
void rt_qat_plan(rt_qat *q, rt_arenas *l);
int64_t rt_qat_host_bytes(const rt_qat *q);
/* Weights that lie outside the cell of their code move to its border. */
int rt_qat_begin(rt_qat *q, rt_err *err);
/* Between the two, the model's matrices are what their blocks decode to. */
int rt_qat_show(rt_qat *q, rt_err *err);
void rt_qat_hide(rt_qat *q);
/* The file with the codes, and vectors, as they are now, at out; before show. */
int rt_qat_write(rt_qat *q, const char *out, rt_err *err);

RT_END

#endif
