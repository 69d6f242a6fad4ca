/* measure.h: how well a model predicts held-out documents, without learning: cross-entropy, the
   unbiased KL estimate of an archive's soft targets, and the exact KL to a reference model read
   beside it. Used inside the training loop and by `retort eval`. */
#ifndef RT_MEASURE_H
#define RT_MEASURE_H

#include "student/batch.h"
#include "student/divergence.h"

RT_BEGIN

typedef struct rt_measured {
    rt_totals totals;
    double kl; /* sum over totals.rows against the reference */
} rt_measured;

/* What was measured of one document: of its learned tokens, in order. */
typedef struct rt_measured_document {
    int64_t index; /* in the corpus */
    const rt_document *doc;
    int64_t n;
    const rt_loss_row *row; /* (n) of the pass, */
    int64_t first;          /* in which the document begins at this row */
    const float *stats;     /* (n, RT_LOSS_COLUMNS) */
    const float *kl;        /* (n) to the reference, or NULL */
} rt_measured_document;

typedef struct rt_measure {
    rt_dev *d;
    const rt_model *m, *reference; /* reference NULL: none */
    int64_t vocab, longest;
    rt_acts *acts, own, reference_acts; /* acts: its own, or lent */
    rt_batch batch;
    rt_arena there, here; /* beside the batch */
    rt_arenas arenas;
    rt_cost cost;          /* of a pass of batch.shape.rows, all of them learned */
    rt_tensor kl, agree;   /* (M) */
    rt_tensor base;        /* (M, RT_LOSS_COLUMNS) of the reference */
    float *h_kl, *h_agree; /* (rows), of which `compared` are on their way */
    float *h_base;         /* (rows, RT_LOSS_COLUMNS) */
    rt_divergence *divergence; /* the caller's: every token against the reference is added; or NULL */
    int64_t compared;
    rt_document *docs;   /* (documents of a pass) */
    int64_t *index;      /* (documents of a pass) in the corpus */
    int (*watch)(void *ctx, const rt_measured_document *m, rt_err *err); /* each document, or NULL */
    void *watch_ctx;
} rt_measure;

/* vocab: real ids. shape.rows is raised to the longest document. lent: activations of m, planned for
   at least as much, that nobody else uses while something is measured; or NULL. */
void rt_measure_plan(rt_measure *ms, rt_dev *d, const rt_model *m, const rt_model *reference,
                     int64_t vocab, const rt_batch_shape *shape, int64_t longest, rt_acts *lent);
int rt_measure_place(rt_measure *ms, rt_err *err);
void rt_measure_free(rt_measure *ms);
/* Documents [0, limit) of c; limit 0 = all. label: of the progress line, NULL = none. */
int rt_measure_run(rt_measure *ms, const rt_corpus *c, int64_t limit, const char *label,
                   rt_measured *out, rt_err *err);
/* The documents of which[n], in that order. */
int rt_measure_these(rt_measure *ms, const rt_corpus *c, const int64_t *which, int64_t n,
                     rt_measured *out, rt_err *err);

RT_END

#endif
