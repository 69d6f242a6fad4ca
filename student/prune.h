/* prune.h: a smaller dense model out of a larger one: fewer layers, residual channels, heads and
   feed-forward neurons, those kept that texts use most, as in Minitron (arXiv 2407.14679):
     layers     that change the residual stream most: 1 - cos of what goes in and comes out (block
                influence, arXiv 2403.03853), mean over tokens
     channels   largest mean absolute output of the norms that read them, over the layers that stay
     heads      largest mean absolute output of a head; key heads by the sum of their query heads, then
                the best query heads of each that stays
     neurons    largest mean absolute activation, each layer its own
   A norm sees fewer channels, so its weight is scaled by what the ones that went were of the mean square:
   what a text never used can go without a change. Refuses: training the result, routed models, MLA. */
#ifndef RT_PRUNE_H
#define RT_PRUNE_H

#include "core/network/needs.h"
#include "core/network/stored.h"
#include "student/batch.h"

RT_BEGIN

/* 0 = as it is. */
typedef struct rt_prune_shape {
    int64_t layers, width, heads, kv_heads, head_dim, ffn_width;
} rt_prune_shape;

/* What texts did to the source, sums over tokens. */
typedef struct rt_prune_scores {
    int64_t tokens;
    double *influence; /* (L) */
    double *norm;      /* (2L+1, C) |output| of each norm: attention, feed-forward, ..., the last */
    double *square;    /* (2L+1, C) of the stream that the norm reads */
    double *head;      /* (L, H) */
    double *neuron;    /* (L, F) */
} rt_prune_scores;

typedef struct rt_prune {
    const char *path;
    rt_config cfg;     /* of the source */
    rt_weights source; /* registry alone */
    rt_store store;
    rt_prune_scores scores;
    /* What stays, ascending, of the source's: */
    int64_t *layer;    /* (l) */
    int64_t *channel;  /* (c) */
    int64_t *query, *key; /* (l, h*D) (l, k*D) rows of projections */
    int64_t *neuron;   /* (l, f) */
    double *scale;     /* (2l+1) of the norms' weights; 1 where all channels stay */
    float *rows;       /* the largest weight of the source */
    const rt_model *model; /* what it becomes: registry alone */
} rt_prune;

/* *cfg: of what path becomes. */
int rt_prune_config(rt_config *cfg, const rt_config *source, const rt_prune_shape *shape,
                    const char *path, rt_err *err);
bool rt_prune_any(const rt_config *source, const rt_config *cfg); /* whether anything goes */
/* model: of that configuration, and stays. */
int rt_prune_open(rt_prune *p, const char *path, const rt_config *source, const rt_model *model,
                  rt_err *err);
/* The texts of c through the source, on d. */
int rt_prune_measure(rt_prune *p, rt_dev *d, const rt_corpus *c, int64_t pass_tokens, rt_err *err);
/* What that will take. */
int rt_prune_needs(const char *path, rt_dev *d, const rt_corpus *c, int64_t pass_tokens, rt_needs *p,
                   rt_err *err);
/* What stays, by the scores; cfg, the model's, gets the kinds of the layers that stay. */
void rt_prune_choose(rt_prune *p, rt_config *cfg);
/* A rt_weight_rows of model; ctx: a rt_prune. */
int rt_prune_rows(void *ctx, int i, float *host, rt_err *err);
void rt_prune_close(rt_prune *p); /* accepts a zeroed one */

RT_END

#endif
