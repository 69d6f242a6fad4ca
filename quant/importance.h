/* importance.h: how busy each input column of each matrix is: the mean square of that input over
   calibration text, under GGUF names ("blk.0.attn_q.weight"). Read from llama.cpp's imatrix in its GGUF
   form and in its older one (.dat), or from a safetensors file with one F32 vector a matrix; written in
   both of llama.cpp's. Refuses: computing it. */
#ifndef RT_IMPORTANCE_H
#define RT_IMPORTANCE_H

#include "core/formats/gguf.h"
#include "core/formats/safetensors.h"

RT_BEGIN

/* One matrix, or the experts of one tensor. */
typedef struct rt_importance_entry {
    const char *name;    /* "blk.0.ffn_down.weight" */
    int64_t matrices, width;
    const float *sums;   /* (matrices, width) sums of squared inputs */
    const float *counts; /* (matrices) tokens that were summed, 0 for an expert that had none */
} rt_importance_entry;

/* What a file says beside its entries. */
typedef struct rt_importance_about {
    const char *dataset; /* a name */
    int64_t chunks, chunk_tokens;
} rt_importance_about;

/* As GGUF, or as the older form where the name ends in .dat; entries in the order of their names, which
   are unique. Both are atomic. */
int rt_importance_write(const char *path, const rt_importance_entry *entry, int64_t n,
                        const rt_importance_about *about, rt_err *err);

typedef struct rt_importance {
    enum { RT_IMPORTANCE_ST, RT_IMPORTANCE_GGUF, RT_IMPORTANCE_DAT } form;
    rt_gguf gguf;
    rt_safetensors st;
    rt_map dat;
    struct rt_importance_place *place; /* private: (n_places) where entries of dat lie */
    int64_t n_places;
} rt_importance;

int rt_importance_open(rt_importance *imp, const char *path, rt_err *err);
void rt_importance_close(rt_importance *imp); /* accepts a zeroed imp */
/* out (width): mean squares of the columns of one matrix, the `matrix`-th of `matrices` that NAME
   holds; all 1 for an expert that saw no token. *found false when the file does not speak of it. */
int rt_importance_read(const rt_importance *imp, const char *name, int64_t matrix, int64_t matrices,
                       float *out, int64_t width, bool *found, rt_err *err);

RT_END

#endif
