/* embedding.h: rows of an embedding that is streamed: those of a pass's tokens are read from its
   checkpoint, neighbours on the disk together and each once, and made activations on the host. Owns the
   buffers of one such read. Refuses: an embedding that is the head too, which is held (stream.h).
 */
#ifndef RT_EMBEDDING_H
#define RT_EMBEDDING_H

#include "core/network/parcels.h"

RT_BEGIN

typedef struct rt_embedding {
    rt_parcels *all;
    const rt_stored *stored; /* NULL: there is none, and it takes no memory */
    int64_t bytes, weights;  /* read for the last pass; of them of weights */
    bool plain;              /* a direct read was refused */
    uint8_t *block;          /* rows as they are stored */
    float *wide;             /* one as f32, a few as activations */
    int32_t *token;          /* private copy of a batch's */
    int64_t cap_token;
} rt_embedding;

void rt_embedding_plan(rt_embedding *e, rt_arena *a); /* twice, like every plan */
void rt_embedding_free(rt_embedding *e);
/* y(N,C) = rows token(N), on the device when it returns. */
int rt_embedding_rows(rt_embedding *e, rt_dev *d, rt_tensor *y, const rt_tensor *token,
                      rt_err *err);

RT_END

#endif
