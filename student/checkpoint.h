/* checkpoint.h: a training run's state as one safetensors file in the run's directory: what it learns,
   the optimizer's state and position, each with a checksum. Two are kept, the last and the one before it, so that
   a damaged file costs some steps and not the run. Resuming gives the same bytes as never having
   stopped: draws and order are functions of counters, so the position is all there is beside the
   numbers. Refuses: a file whose shapes or recipe do not fit, with what to do. */
#ifndef RT_CHECKPOINT_H
#define RT_CHECKPOINT_H

#include "core/network/model.h"

RT_BEGIN

typedef struct rt_position {
    int64_t step;     /* optimizer steps done */
    int64_t document; /* documents consumed, over all epochs */
    int64_t tokens;   /* learned tokens so far */
    uint64_t recipe;  /* hash of what must not change across a resume */
} rt_position;

/* Placements of what is learned, each under the prefix of its tensors' names in the file, which
   keeps them as they lie: f32, bf16, or codes as bytes. */
typedef struct rt_checkpoint_state {
    int n;
    const char *prefix[4];
    rt_weights *part[4];
} rt_checkpoint_state;

/* What was the last checkpoint of dir becomes the one before. */
int rt_checkpoint_save(const char *dir, rt_dev *d, const rt_checkpoint_state *s,
                       const rt_position *at, rt_err *err);
/* Of the file that save would write. */
int64_t rt_checkpoint_bytes(const rt_checkpoint_state *s);
bool rt_checkpoint_there(const char *dir);
/* The last one, or, when that is damaged, the one before, which is then the last, and says so.
   at->recipe is compared, the rest filled. */
int rt_checkpoint_load(const char *dir, rt_dev *d, const rt_checkpoint_state *s, rt_position *at,
                       rt_err *err);
int rt_checkpoint_remove(const char *dir, rt_err *err); /* both, if they are there */

RT_END

#endif
