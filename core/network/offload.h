/* offload.h: the inputs of a training pass's layers in the host's memory. On the device two tensors
   take turns: in forward a layer's input is copied away once the layer has run; in backward it is
   copied back beside the operations while the layer behind it computes. Owns the host's memory and
   the marks that keep the copies in order. Refuses: running layers (model.c), and owning the two.
 */
#ifndef RT_OFFLOAD_H
#define RT_OFFLOAD_H

#include "core/device/arenas.h"
#include "core/device/tensor.h"

RT_BEGIN

typedef struct rt_offload {
    rt_dev *d; /* NULL: nothing is offloaded */
    int64_t layers, bytes; /* bytes: of the most rows */
    void **home;           /* (L) host memory of each layer's input */
    struct rt_offload_turn {
        const rt_tensor *x; /* (N,C) as many rows as the pass has */
        int64_t layer;      /* whose input it holds since the last keep or bring */
        rt_mark ready, done;
    } turn[2];
    rt_arena arena;
} rt_offload;

/* Plans memory, which the list places. x: (2), planned for the most rows; they stay where they are,
   and the input of layer l lies in x[l % 2]. */
void rt_offload_plan(rt_offload *o, rt_arenas *l, rt_dev *d, int64_t layers, const rt_tensor *x);
void rt_offload_free(rt_offload *o); /* accepts a zeroed one */

/* Forward, each layer once in ascending order, behind it: its input may be overwritten then. */
void rt_offload_keep(rt_offload *o, int64_t layer);
/* Backward, each layer in descending order: its input is there for what follows, up to done; that
   of the layer before it is on its way. All were kept, and are until the next pass's keep. */
void rt_offload_bring(rt_offload *o, int64_t layer);
void rt_offload_done(rt_offload *o, int64_t layer);

RT_END

#endif
