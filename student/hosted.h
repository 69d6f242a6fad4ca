/* hosted.h: weights that are learned and lie in the host's memory: a layer is copied to one of two
   buffers of the device while the layer before it computes, in forward and again in backward; what
   lies outside layers is copied when a step begins, but for an embedding that is not the head too:
   of it only the rows of a pass are. Owns those buffers, and the model's visitor between begin and
   end. Refuses: changing weights, and routed experts, of which a pass would copy all.
 */
#ifndef RT_HOSTED_H
#define RT_HOSTED_H

#include "core/network/model.h"

RT_BEGIN

typedef struct rt_hosted {
    rt_model *m;
    rt_visit visit;
    int64_t layer_bytes; /* of a buffer */
    struct rt_hosted_buffer {
        uint8_t *data;
        int64_t layer; /* that it holds, or -1 */
        rt_mark ready, done;
    } buffer[2];
    uint8_t *outside;    /* device memory of weights outside layers */
    void **home;         /* (weights) where each lies on the host; NULL data: not moved */
    int64_t last;        /* layer entered last */
    bool wide_too;
    int64_t rows;        /* of a pass at most */
    int32_t *token;      /* host (rows) */
    uint8_t *gathered;   /* host (rows, C) of the embedding, as activations */
    float *wide;         /* (C) */
    bool begun;
    rt_arena there, here;
} rt_hosted;

/* m was planned by rt_model_plan_learned with weights on the host; it stays where it is. Plans
   memory, which the list places. rows: of any pass between begin and end at most. wide_too: f32 weights of
   the same shapes may stand in their place. */
void rt_hosted_plan(rt_hosted *h, rt_arenas *l, rt_model *m, int64_t rows,
                    bool wide_too);
void rt_hosted_free(rt_hosted *h); /* accepts a zeroed one */
/* From here to end passes of m read its weights, as they are now, on the device. */
void rt_hosted_begin(rt_hosted *h);
void rt_hosted_end(rt_hosted *h);

RT_END

#endif
