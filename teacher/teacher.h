/* teacher.h: a frozen model as a teacher: device, tokenizer with its way of talking, configuration,
   and weights once they are needed. Says who it is in an archive's manifest.
   Refuses: remote servers, sampling, scoring. */
#ifndef RT_TEACHER_H
#define RT_TEACHER_H

#include "core/network/needs.h"
#include "core/network/stream.h"
#include "core/network/weights.h"
#include "corpora/archive/trace.h"
#include "corpora/chat.h"

RT_BEGIN

typedef struct rt_teacher {
    const char *path; /* borrowed: model directory or .gguf */
    rt_dev *dev;
    rt_chat chat;
    rt_model model;    /* cfg since rt_teacher_open, shapes since _plan, weights since _read */
    int64_t vocab;     /* real ids; the head may have more rows */
    int64_t positions; /* longest sequence the model was made for */
    bool later;        /* an earlier stage will leave it: it is not there yet */
    rt_stream *stream; /* since _plan, when its weights are to be streamed (teacher/streaming.h) */
    bool beside;       /* dev is another's */
    bool unread;       /* known by its config alone: the manifest has no hash of its weights */
} rt_teacher;

/* Configuration and tokenizer, which must belong together. No weights yet. plan: a model that an
   earlier stage will leave serves as one that is there; NULL = none. */
int rt_teacher_open(rt_teacher *t, const char *path, const rt_dev_choice *device, const rt_needs *plan,
                    rt_err *err);
/* The same on a device that is another's and stays open, which calls rt_dev_ready when all is planned
   (weights are read by rt_model_read then). */
int rt_teacher_open_beside(rt_teacher *t, const char *path, rt_dev *d, const rt_needs *plan,
                           rt_err *err);
/* What the weights will take, and the rope table for sequences of `length`. */
void rt_teacher_plan(rt_teacher *t, int64_t length, bool streamed);
/* The weights, and the workspace of everything that was planned on t->dev. */
int rt_teacher_read(rt_teacher *t, rt_err *err);
/* Every token that ends a response in a model's way of talking ends generation too, also where
   generation_config.json names fewer: of every model that rt_teacher_open opens. */
void rt_teacher_stops(rt_config *c, const rt_chat *chat);
void rt_teacher_close(rt_teacher *t); /* accepts a zeroed teacher */

/* Name, hashes but that of the weights, vocabulary, template and precision path; the rest of *m as
   rt_trace_manifest_init leaves it. mode: "sample" (through a cache) or "score". */
int rt_teacher_manifest(rt_trace_manifest *m, const rt_teacher *t, const char *mode, rt_err *err);
/* The hash of the weights: reads all of their bytes once, so after everything else was checked.
   Nothing where t->unread. */
int rt_teacher_identity(rt_hash *weights, const rt_teacher *t, rt_err *err);

/* Weights, rope table and the workspace of all that was planned on t->dev; of streamed weights,
   where memory has a bound, also the process as it is: texts and tokenizer that have rows count
   twice. */
void rt_teacher_needs(const rt_teacher *t, rt_needs *p);

RT_END

#endif
