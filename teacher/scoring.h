/* scoring.h: soft targets of given tokens: whole texts as the ragged rows of one pass, no cache, and
   what the capture operation leaves at the positions that are wanted. One text's targets do not
   depend on the others of its pass.
   `score` runs its teacher with it, and the model whose ids the teacher is asked for; training on a
   student's own answers runs its teacher with it.
   Refuses: where texts come from, archives, how weights are read. */
#ifndef RT_SCORING_H
#define RT_SCORING_H

#include "core/network/capture.h"
#include "core/network/model.h"

RT_BEGIN

typedef struct rt_scoring_text {
    const int32_t *token; /* (n) borrowed until its targets are taken */
    int64_t n, first, end; /* targets are of tokens [first, end), first >= 1 */
    uint64_t seed;         /* of the draws */
    const rt_soft *listed; /* row r: the ids listed for token first + r; NULL: none. Borrowed too */
    int64_t row;           /* of its first token in the pass */
    rt_soft soft;          /* its targets, once taken */
} rt_scoring_text;

typedef struct rt_scoring {
    rt_dev *d;
    const rt_model *m;
    int64_t vocab; /* real ids */
    rt_acts acts;
    rt_capture_buffers capture;
    rt_arena host; /* the arrays below */
    rt_cost cost;  /* of a pass of acts.shape.rows, all of them wanted */
    rt_scoring_text *text; /* (acts.shape.segments), n of them */
    int64_t n, rows;
    int32_t *token, *pos, *offset; /* host (rows) (rows) (texts + 1) */
    int32_t *index, *wanted;       /* (rows): rows that predict, and whose they are */
    bool not_finite;               /* why rt_scoring_take failed */
} rt_scoring;

/* Plans memory, which the list places and frees: passes of `rows` rows in `texts` texts of `longest`
   tokens at most, the head in chunks. What was planned before goes. */
void rt_scoring_plan(rt_scoring *s, rt_arenas *l, rt_dev *d, const rt_model *m, int64_t vocab,
                     const rt_soft_config *cfg, int64_t rows, int64_t texts, int64_t longest,
                     int64_t head_rows);
void rt_scoring_free(rt_scoring *s); /* before the list's memory goes; accepts a zeroed one */

void rt_scoring_clear(rt_scoring *s); /* no texts; memory kept */
bool rt_scoring_fits(const rt_scoring *s, int64_t n);
/* Its place; soft is empty. */
rt_scoring_text *rt_scoring_add(rt_scoring *s, const int32_t *token, int64_t n);
/* All layers, of a model that is resident. A caller that fills acts.hidden itself leaves it out. */
void rt_scoring_forward(rt_scoring *s);
/* From acts.hidden the targets of every text; waits for the device once. */
int rt_scoring_take(rt_scoring *s, rt_err *err);

RT_END

#endif
