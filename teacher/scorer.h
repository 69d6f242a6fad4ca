/* scorer.h: the state of `retort score`, shared by its two files: score.c (the command, what is
   scored, the archive) and score_pass.c (memory, passes, targets). Private to them. */
#ifndef RT_SCORER_H
#define RT_SCORER_H

#include "core/base/log.h"
#include "teacher/inflight.h"
#include "teacher/scoring.h"
#include "teacher/work.h"

RT_BEGIN

enum { RT_SCORE_TEXTS = 1024 }; /* of a batch */

typedef struct rt_score_options {
    rt_archive_options a;
    rt_strlist data;
    char *turns, *listed;
    int64_t pass_tokens, head_rows, listed_top;
} rt_score_options;

/* One text of the running pass. */
typedef struct rt_score_text {
    rt_trace_sample sample; /* of an archive: owns memory; of a record: borrows from the list */
    rt_response response;   /* of a record */
    char id[RT_TRACE_ID_MAX + 1];
} rt_score_text;

typedef struct rt_scorer {
    const rt_score_options *o;
    rt_teacher teacher;
    rt_trace_reader *archive; /* or NULL: */
    int64_t *taken;           /* (count) its samples that are scored; NULL: the first `count` */
    rt_work work;
    rt_trace_manifest manifest;
    rt_trace_writer *writer;
    rt_scoring pass;   /* its texts are those of `text` */
    rt_teacher lister; /* the model whose ids the teacher is asked for, on its device; or zeroed */
    rt_scoring list;   /* its passes, of the same texts */
    rt_arena host;     /* `text`, `stream` */
    rt_arenas arenas;
    int64_t count, longest, left_out, at, done; /* at: next text to look at */
    rt_score_text *text;                        /* (RT_SCORE_TEXTS) */
    int64_t learned;
    int64_t head_rows, flight; /* rows of a chunk of the head; of a pass over streamed weights */
    rt_inflight fly;           /* of streamed weights */
    void *stream;              /* host (rows, C) as activations are, for those */
    char *pass_path;           /* where a pass is kept, OUT.pass */
    rt_hash salt;              /* of the teacher, for that */
    bool checkpoint, hopeless; /* passes are long; this one would end the same way again */
    rt_score_text placed;      /* of a sample that stands in an archive of another plan */
    rt_bytes_map ids;          /* of the archive's samples, in their order; for those */
    rt_progress progress;
    double begun;
} rt_scorer;

/* score.c. The next text of this part that the archive lacks into *t: 1, 0 when there is none, -1;
   text i; tokens that this part has to score. */
int rt_scorer_next(rt_scorer *s, rt_score_text *t, rt_err *err);
int rt_scorer_load(rt_scorer *s, rt_score_text *t, int64_t i, rt_err *err);
int64_t rt_scorer_tokens(const rt_scorer *s);

/* score_pass.c. Plans once; where --memory is too little, refuse: or plans the least and warns. */
int rt_scorer_plan(rt_scorer *s, bool refuse, rt_err *err);
void rt_scorer_needs(const rt_scorer *s, rt_needs *p);
/* Before there is an archive, so that a teacher that cannot be read leaves none behind. */
int rt_scorer_place(rt_scorer *s, rt_err *err);
/* The next texts into the archive, as many as a pass takes; *texts = 0: there were none. */
int rt_scorer_pass(rt_scorer *s, int64_t *texts, rt_err *err);
void rt_scorer_free(rt_scorer *s); /* what was planned and placed */

RT_END

#endif
