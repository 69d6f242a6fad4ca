/* residual.h: what is between two layers of a pass over more rows than are computed at once: a file
   beside the archive that is a checkpoint, so that a killed pass goes on at the layer it had
   reached. The file holds two layers' inputs, of even and of odd ones, and a head for each that
   says whose they are and what they hash to; a layer's is written once its rows are on disk.
   Begun anew where it is of other rows, of another teacher, or damaged. Refuses: a file that
   is none of retort's. */
#ifndef RT_RESIDUAL_H
#define RT_RESIDUAL_H

#include "core/base/file.h"

RT_BEGIN

typedef struct rt_residual {
    char *path;
    int fd;
    int64_t rows, row_bytes, layer; /* layer: whose input is complete; 0 = none */
    rt_hash key;
    rt_hasher hasher; /* private: of the layer being put */
} rt_residual;

/* Rows that an unfinished pass at path was made of; 0 when there is none. */
int64_t rt_residual_rows(const char *path);
/* key: of all that the rows' numbers depend on. r->layer says where to go on. */
int rt_residual_open(rt_residual *r, const char *path, const rt_hash *key, int64_t rows,
                     int64_t row_bytes, rt_err *err);
/* Rows [first, first + n) of the input of `layer`; put ascends from row 0. */
int rt_residual_put(rt_residual *r, int64_t layer, int64_t first, int64_t n, const void *x,
                    rt_err *err);
int rt_residual_get(rt_residual *r, int64_t layer, int64_t first, int64_t n, void *x, rt_err *err);
/* The input of `layer` is whole: on disk before this returns. */
int rt_residual_commit(rt_residual *r, int64_t layer, rt_err *err);
void rt_residual_close(rt_residual *r, bool remove); /* accepts a zeroed r */
/* What a run that was killed left at path, if it did. */
void rt_residual_remove(const char *path);

RT_END

#endif
