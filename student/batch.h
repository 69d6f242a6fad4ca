/* batch.h: whole documents as the ragged rows of one pass, and the targets of its loss rows chunk
   by chunk: a row is a loss row when the token after it is to be learned and counts. Attention never crosses a
   document, the last row of a document predicts nothing, prompts cost no head row.
   Used by training and by evaluation, so both see the same targets. Refuses: order, losses. */
#ifndef RT_BATCH_H
#define RT_BATCH_H

#include "core/network/model.h"
#include "corpora/corpus.h"

RT_BEGIN

typedef struct rt_batch_shape {
    int64_t rows, documents; /* of a pass at most */
    int64_t head_rows;       /* loss rows of a chunk, M */
    rt_soft_config soft;     /* head_max 0: hard labels only */
    double temperature;      /* of the soft targets; must be 1 or one the archive kept log Z for */
    int64_t waiting;         /* loss rows between two waits for the device at most */
} rt_batch_shape;

typedef struct rt_loss_row {
    int32_t row, label;
    float weight;        /* of it in the loss, above 0 */
    float old_logp, advantage; /* of the label, 0 where the document has none */
    const rt_soft *soft; /* NULL: hard label only */
    int64_t soft_row;
} rt_loss_row;

typedef struct rt_batch {
    rt_batch_shape shape;
    int64_t n, s, n_loss;
    int32_t *token, *pos, *offset; /* host (rows) (rows) (documents+1) */
    rt_loss_row *loss;             /* host (rows) */
    int64_t items;                 /* of a chunk at most */
    int temperature_index;         /* into logz, -1 when T = 1 */
    rt_targets targets;            /* device, in the block at `there`, which `here` mirrors */
    uint8_t *there, *here;
    int64_t block;                 /* bytes of either */
    rt_tensor stats;               /* (M, RT_LOSS_COLUMNS) device */
    int32_t *h_index;              /* (M) */
    float *h_stats;  /* (waiting, RT_LOSS_COLUMNS), of which `kept` are on their way */
    uint8_t *h_soft; /* (waiting) which of them had a soft target */
    float *h_weight; /* (waiting) what they count */
    int64_t kept;
    rt_arena device, host;
} rt_batch;

/* Plans memory, which the list places and frees. */
void rt_batch_plan(rt_batch *b, rt_arenas *l, const rt_batch_shape *shape);
/* Whether the archive has what shape.temperature needs. */
int rt_batch_check(const rt_batch *b, rt_err *err);

void rt_batch_clear(rt_batch *b);
/* As full as it can be, of nothing: for a dry run, before it is placed. */
void rt_batch_fill(rt_batch *b);
bool rt_batch_fits(const rt_batch *b, int64_t tokens);
void rt_batch_add(rt_batch *b,
                  const rt_document *doc); /* borrowed, and not moved, until the pass is over */
/* The targets of loss rows [first, first + M) go to the device: returns how many there are, *index
   their rows. */
int64_t rt_batch_chunk(rt_dev *d, rt_batch *b, int64_t first, const int32_t **index);

/* Rows whose most probable token had a probability in [i, i + 1) / RT_CONFIDENCE_BINS, 1 in the
   last bin. */
enum { RT_CONFIDENCE_BINS = 15 };
typedef struct rt_confidence_bin {
    int64_t rows;
    double confidence, correct; /* sums */
} rt_confidence_bin;

/* Sums over loss rows of the columns of the loss operation, of RT_LOSS_TOTAL as each row counts. */
typedef struct rt_totals {
    double sum[RT_LOSS_COLUMNS];
    double weight;           /* what the rows count together (denominator of RT_LOSS_TOTAL) */
    int64_t rows, soft_rows; /* with any target; with a soft target (denominator of RT_LOSS_KL and
                                RT_LOSS_AGREE) */
    rt_confidence_bin bin[RT_CONFIDENCE_BINS];
} rt_totals;
/* Over the rows that have it; 0 when none has. */
double rt_totals_mean(const rt_totals *t, int column);
/* Expected calibration error (Guo et al. 2017, arXiv 1706.04599): how far confidence and accuracy lie
   apart in a bin, mean over rows. */
double rt_totals_ece(const rt_totals *t);
/* The statistics of n rows beginning at loss row `first` are on their way: after the next rt_sync
   rt_batch_totals adds those of all kept rows, in that order. */
void rt_batch_keep(rt_dev *d, rt_batch *b, int64_t first, int64_t n);
void rt_batch_totals(rt_batch *b, rt_totals *t);
/* Whether the loss rows of the batch have room beside those that are kept. */
bool rt_batch_has_room(const rt_batch *b);

RT_END

#endif
