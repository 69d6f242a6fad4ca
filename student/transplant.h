/* transplant.h: a trained model in the vocabulary of another: every weight stays as it is but the rows
   of the embedding and of the head, which are put together from the old ones. A token of the same
   bytes or role keeps its row; a new one gets the mean of the rows of the old tokens that spell it; a
   control token without a counterpart, and padding, the mean of all rows. Tokens of the old vocabulary
   that the new one lacks are gone. So it goes on from what it knows and has to learn to speak: train
   it. What it costs before that, `retort eval` says in bits per byte.
   Refuses: files of the output (init.c), models whose fused experts are not written. */
#ifndef RT_TRANSPLANT_H
#define RT_TRANSPLANT_H

#include "core/network/stored.h"
#include "core/network/weights.h"
#include "corpora/crossing/vocab_map.h"

RT_BEGIN

typedef struct rt_transplant {
    rt_config cfg; /* of what it starts from */
    rt_model old;  /* registry alone */
    rt_chat chat;  /* what it spoke */
    rt_vocab_map map; /* the new vocabulary's tokens in the old one's */
    rt_store store;
    float *rows;       /* (V, C) one of its tables */
    float *mean;       /* (C) of them */
    int64_t kept, made, unknown; /* rows of the new vocabulary: as they were, means, of no spelling */
} rt_transplant;

/* What a model of config `from` becomes. */
void rt_transplant_config(rt_config *cfg, const rt_config *from, const rt_chat *voice);
/* from: model directory or GGUF; voice: whose vocabulary it is to have, borrowed. Fills *cfg: what it
   will be. On failure it is to be closed, too. */
int rt_transplant_open(rt_transplant *t, rt_config *cfg, const char *from, const rt_chat *voice,
                       rt_err *err);
void rt_transplant_close(rt_transplant *t); /* accepts a zeroed one */
/* All of weight i of m, the registry of the model that it becomes. */
int rt_transplant_rows(rt_transplant *t, const rt_model *m, int i, float *host, rt_err *err);

RT_END

#endif
