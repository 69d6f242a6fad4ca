/* mapping.h: the checkpoint of a frozen model, open as long as the model, and which of its weights
   stay in their bytes: read where they are mapped, or streamed (stream.h). Owns where each matrix
   lies. Refuses: reading any of them. */
#ifndef RT_MAPPING_H
#define RT_MAPPING_H

#include "core/network/spans.h"
#include "core/network/stored.h"

RT_BEGIN

typedef struct rt_mapping {
    rt_store store;
    rt_piece **piece; /* of each weight: its matrices as products read them, or NULL where the arena
                         has it; of a streamed one data and scale move to where it was read */
    rt_piece **where; /* the same in the memory of a device that cannot read files, or NULL */
    rt_spans spans;   /* for those */
    rt_stored **stored; /* the same as they lie in the map */
    int n;
    bool streamed, packs_f32;
    int64_t bytes;
} rt_mapping;

/* NULL when there is no checkpoint that opens: reading the model says why. */
rt_mapping *rt_mapping_open(const rt_config *cfg, const rt_params *list, const char *path,
                            bool streamed, bool packs_f32, bool maps_files);
const rt_piece *rt_mapping_on_device(rt_mapping *x, int i, int64_t n); /* x->where of weight i */
void rt_mapping_close(rt_mapping *x);                                  /* accepts NULL */

RT_END

#endif
