/* inflight.h: the rows of one pass over streamed weights: whole texts, more of them than are
   computed at once, in batches that each go through a layer before any goes through the next.
   Between two layers they are in a file (residual.h), where there are several batches or the pass
   is long. Refuses: which texts, and what is done with the outcome. */
#ifndef RT_INFLIGHT_H
#define RT_INFLIGHT_H

#include "teacher/residual.h"
#include "teacher/teacher.h"

RT_BEGIN

typedef struct rt_inflight_text {
    int64_t at, row;  /* the caller's number; of its first token in its batch */
    int64_t first, n; /* tokens */
} rt_inflight_text;

typedef struct rt_inflight_batch {
    int64_t text, texts, row, rows; /* texts [text, text + texts), rows of the pass likewise */
} rt_inflight_batch;

typedef struct rt_inflight {
    rt_teacher *teacher;
    rt_acts *acts;
    int32_t *token, *pos, *offset; /* borrowed: of a batch (rows) (rows) (texts + 1) */
    void *stream;                  /* borrowed: (rows, C) as activations are */
    int64_t texts_most;
    rt_inflight_text *text;
    rt_inflight_batch *batch;
    int32_t *id; /* (rows) of the pass */
    int64_t n, batches, rows, cap, cap_batches, cap_rows;
    rt_residual residual;
    void *ctx;
    void (*tick)(void *ctx, int64_t layer); /* all rows have passed so many layers */
} rt_inflight;

void rt_inflight_clear(rt_inflight *f); /* no texts, memory kept */
void rt_inflight_free(rt_inflight *f);
/* n <= rows of acts. */
void rt_inflight_add(rt_inflight *f, int64_t at, const int32_t *token, int64_t n);
/* Through all layers. path NULL: one batch, and nothing is kept; else the pass is kept there until
   rt_inflight_end, and taken up where a killed run left it. salt: what the rows' numbers depend on
   beside their tokens. */
int rt_inflight_run(rt_inflight *f, const char *path, const rt_hash *salt, rt_err *err);
/* acts->hidden of a batch, after run. */
int rt_inflight_take(rt_inflight *f, int64_t batch, rt_err *err);
void rt_inflight_end(rt_inflight *f, bool done); /* done: the file is no longer needed */

RT_END

#endif
