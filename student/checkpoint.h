/* checkpoint.h: a training run's state as one safetensors file, replaced atomically: weights,
   moments, position, and a hash over all of it. Resuming gives the same bits as never having
   stopped: draws and order are functions of counters, so the position is all there is beside the
   numbers. Refuses: a file whose hash, shapes or recipe do not fit, with what to do. */
#ifndef RT_CHECKPOINT_H
#define RT_CHECKPOINT_H

#include "core/model.h"

RT_BEGIN

typedef struct rt_position {
    int64_t step;     /* optimizer steps done */
    int64_t document; /* documents consumed, over all epochs */
    int64_t tokens;   /* learned tokens so far */
    uint64_t recipe;  /* hash of what must not change across a resume */
} rt_position;

/* placements: weights, first and second moments. */
int rt_checkpoint_save(const char *path, rt_dev *d, const rt_weights *w, const rt_weights *m,
                       const rt_weights *v, const rt_position *at, rt_err *err);
/* Of the file that save would write. */
int64_t rt_checkpoint_bytes(const rt_weights *w);
/* at->recipe is compared, the rest filled. */
int rt_checkpoint_load(const char *path, rt_dev *d, rt_weights *w, rt_weights *m, rt_weights *v,
                       rt_position *at, rt_err *err);

RT_END

#endif
