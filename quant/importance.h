/* importance.h: how busy each input column of each matrix is: the mean square of that input over
   calibration text. Read from llama.cpp's imatrix in its GGUF form, or from a safetensors file with
   one F32 vector a matrix, both under GGUF names ("blk.0.attn_q.weight"). */
#ifndef RT_IMPORTANCE_H
#define RT_IMPORTANCE_H

#include "core/formats/gguf.h"
#include "core/formats/safetensors.h"

RT_BEGIN

typedef struct rt_importance {
    bool is_gguf;
    rt_gguf gguf;
    rt_safetensors st;
} rt_importance;

int rt_importance_open(rt_importance *imp, const char *path, rt_err *err);
void rt_importance_close(rt_importance *imp); /* accepts a zeroed imp */
/* out (width) for one matrix; *found false when the file does not speak of it. */
int rt_importance_read(const rt_importance *imp, const char *name, float *out, int64_t width,
                       bool *found, rt_err *err);

RT_END

#endif
