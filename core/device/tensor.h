/* tensor.h: what a tensor is, and the only glossary of shape letters.

     N rows (tokens) of a batch     S segments (sequences)      C model width      V vocabulary
     L layers                       H query heads               K key/value heads  D head width (Dk, Dv)
     R latent rank (MLA)            Q query latent rank (MLA)   P rope width (MLA)
     F ffn width                    E experts                   A active experts a token
     M rows of a head chunk         J soft-target items of a chunk

   Tensors are dense and row-major; a view may narrow only the outermost dimension (rows of a batch,
   one expert of E). Layers never look into data: it belongs to the backend that placed it. */
#ifndef RT_TENSOR_H
#define RT_TENSOR_H

#include "core/base/arena.h"
#include "core/device/piece.h"

RT_BEGIN

typedef struct rt_tensor {
    void *data;
    rt_dtype dtype;
    int rank;
    int64_t dim[4];      /* outermost first; dim[rank-1] is contiguous; unused are 1 */
    const void *panels;  /* packed copy for matrix products, made by rt_pack_weight, or NULL */
    const rt_piece
        *piece; /* of a weight (I or E matrices, O rows each) that only products read: where
                   it lies in a checkpoint; dtype is then f32 and data NULL. Or NULL */
} rt_tensor;

rt_tensor rt_tensor_1(void *data, rt_dtype t, int64_t a);
rt_tensor rt_tensor_2(void *data, rt_dtype t, int64_t a, int64_t b);
rt_tensor rt_tensor_3(void *data, rt_dtype t, int64_t a, int64_t b, int64_t c);
int64_t rt_tensor_elements(const rt_tensor *t);
int64_t rt_tensor_bytes(const rt_tensor *t);
/* rows [first, first + n) of the outermost dimension; panels are dropped */
rt_tensor rt_tensor_rows(const rt_tensor *t, int64_t first, int64_t n);
bool rt_tensor_same_shape(const rt_tensor *a, const rt_tensor *b);

/* Planned tensors: name is the slot name in --plan. */
rt_tensor rt_plan_1(rt_arena *a, const char *name, rt_dtype t, int64_t d0);
rt_tensor rt_plan_2(rt_arena *a, const char *name, rt_dtype t, int64_t d0, int64_t d1);
rt_tensor rt_plan_3(rt_arena *a, const char *name, rt_dtype t, int64_t d0, int64_t d1, int64_t d2);

static inline float *rt_f32(const rt_tensor *t) { return (float *)t->data; }
static inline int32_t *rt_i32(const rt_tensor *t) { return (int32_t *)t->data; }

RT_END

#endif
