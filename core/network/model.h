/* model.h: the one model, teacher and student alike: embedding, L blocks, final norm, head. There
   is one forward pass for training, scoring and generation; what differs is the plan of its
   activations. The head runs over chunks of rows, so (N,V) never exists. Owns weights and
   activations; refuses to know losses, sampling and files (core/network/weights.h). */
#ifndef RT_MODEL_H
#define RT_MODEL_H

#include "core/device/arenas.h"
#include "core/network/adapter.h"
#include "core/network/block.h"
#include "core/network/offload.h"

RT_BEGIN

/* One placement of the weights: the weights themselves, their gradients, a moment. */
typedef struct rt_weights {
    rt_params params;
    rt_tensor embed, final_norm, head; /* (V,C) (C) (V,C); head is embed's when tied */
    rt_block_w *block;                 /* (L) */
    rt_adapters *adapters;             /* what learns beside frozen weights, or NULL */
    rt_arena arena;
} rt_weights;

/* Registers every weight, without memory. */
void rt_weights_init(rt_weights *w, const rt_config *cfg);
/* How a placement lies: label: of its arena, "gradients". */
typedef struct rt_placing {
    const char *label;
    rt_param_form *form; /* NULL: f32 */
    rt_arena_where where;
    bool in_turns; /* layers take turns in the memory of the largest */
} rt_placing;
/* And plans memory for all of them, which the list places. */
void rt_weights_plan(rt_weights *w, rt_arenas *l, const rt_config *cfg, const rt_placing *how);
/* The same for what w learns: all of them, or its adapters alone. Every other tensor has rank 0. */
void rt_weights_plan_like(rt_weights *g, rt_arenas *l, const rt_config *cfg, const rt_weights *w,
                          const rt_placing *how);
/* What is learned; and the placement's list of it. */
const rt_params *rt_weights_learned(const rt_weights *w);
void rt_weights_free(rt_dev *d, rt_weights *w);

typedef struct rt_model {
    rt_config cfg;
    rt_weights w;
    rt_tensor rope; /* (T,P) cos | sin */
    rt_arena rope_arena;
    rt_arenas arenas; /* weights and rope */
    rt_dev *d;        /* that they are planned for */
    char *path;  /* where the weights were read, NULL = made at random */
    int64_t file_bytes; /* of the files that hold them */
    bool exact;         /* its products are, whatever the device's precision: set once planned */
    bool frozen;        /* no gradients; what weights.h says of memory */
    struct rt_mapping *mapping; /* of weights that stay in their file: mapping.h */
    const rt_visit *visit;      /* reads weights as a pass needs them (stream.h); NULL: all are
                                   resident */
} rt_model;

/* What a training pass keeps from forward to backward. The gradients are the same to the bit.
   none     what every layer's backward needs
   block    each layer's input, and runs the layer again in backward
   offload  the same, and the inputs are kept in the host's memory */
#define RT_RECOMPUTES "none|block|offload"
typedef enum rt_recompute {
    RT_RECOMPUTE_NONE,
    RT_RECOMPUTE_BLOCK,
    RT_RECOMPUTE_OFFLOAD
} rt_recompute;

/* The shape of a pass that activations are planned for. */
typedef struct rt_pass_shape {
    rt_plan_mode mode;
    rt_recompute recompute; /* TRAIN */
    int64_t rows, segments, longest; /* at most */
    int64_t head_rows;               /* rows of a head chunk, M */
    int64_t pages;                   /* DECODE: of the cache, RT_KV_PAGE tokens each */
    bool choices;                    /* keep which experts every layer chose */
} rt_pass_shape;

typedef struct rt_acts {
    rt_pass_shape shape;
    rt_dev *d;
    const rt_config *cfg;
    rt_arena arena, cache;
    rt_batched_list batched; /* what has as many rows as the batch */
    rt_rows rows;
    rt_tensor *stream;     /* (L+1) of (N,C), or one for all layers when not training; offload: two
                              for the inputs of all layers, and the last output */
    rt_offload inputs;     /* offload */
    rt_block_saved *saved; /* (L) */
    rt_block_saved grads;
    rt_tensor hidden, hidden_rstd; /* (N,C) (N) after the final norm, until a backward */
    rt_tensor dhidden, dstream;    /* (N,C) */
    rt_tensor load;   /* (L,E) rows an expert received since it was last zeroed; TRAIN */
    rt_tensor choice; /* (L,N,A) i32 chosen experts of routed layers, N = shape.rows;
                         shape.choices */
    rt_kv *kv;        /* (L) */
    rt_tensor index, head_in, dhead_in, logits; /* (M) (M,C) (M,C) (M,V) */
} rt_acts;

/* Plans memory, which the list places; a dry run shows the workspace. */
void rt_acts_plan(rt_acts *a, rt_arenas *l, rt_dev *d, const rt_model *m,
                  const rt_pass_shape *shape);
void rt_acts_free(rt_acts *a);

/* Pages that a sequence of n tokens lies in. */
static inline int64_t rt_kv_pages(int64_t n) { return rt_ceil_div(n, RT_KV_PAGE); }

/* The batch is n rows in s segments: dimensions become theirs, no pointer moves, and they are
   uploaded. Host arrays: token (n), pos (n), offset (s+1), page (s, rt_kv_pages(longest)) where
   they are decoded. More than the plan is rt_bug. */
void rt_acts_rows(rt_acts *a, int64_t n, int64_t s, const int32_t *token, const int32_t *pos,
                  const int32_t *offset, const int32_t *page);
/* Page `from` of every layer's cache as page `to`. */
void rt_acts_copy_page(rt_acts *a, int64_t to, int64_t from);

/* Of a dry run: rt_acts_rows of n rows in s segments, and a pass. What follows it is the caller's.
 */
void rt_acts_dry(rt_acts *a, const rt_model *m, int64_t n, int64_t s);

/* rows -> a->hidden, of a model whose weights are all resident. */
void rt_model_forward(rt_dev *d, const rt_model *m, rt_acts *a);
/* The same of any model: -1 when its visitor could not read a weight, or was interrupted. */
int rt_model_pass(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err);

/* More rows than activations are planned for, in batches of whole sequences: every batch goes
   through a layer before any goes through the next, so that a layer's weights are read once for
   all. */
typedef struct rt_flight {
    void *ctx;
    int64_t batches,
        layer; /* layer: the first to run; what lies before it was kept by an earlier run */
    /* Lays out the rows of a batch (rt_acts_rows) and, when layer > 0, puts the input of `layer`
       that was kept into a->stream[0]. */
    int (*load)(void *ctx, int64_t layer, int64_t batch, rt_err *err);
    /* Keeps a->stream[0], the input of `layer`. */
    int (*keep)(void *ctx, int64_t layer, int64_t batch, rt_err *err);
    /* All batches of `layer`'s input are kept; or NULL. */
    int (*kept)(void *ctx, int64_t layer, rt_err *err);
} rt_flight;

/* Through all layers; what the last one left is kept as the input of layer L. Not for training. */
int rt_model_fly(rt_dev *d, const rt_model *m, rt_acts *a, const rt_flight *f, rt_err *err);
/* The parts of a pass: rows of the embedding into a->stream[0]; one layer, entered and left. */
int rt_model_embed(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err);
int rt_model_layer(rt_dev *d, const rt_model *m, rt_acts *a, int64_t layer, rt_err *err);
/* a->hidden from a->stream[0], once a batch of layer L is loaded. */
void rt_model_final(rt_dev *d, const rt_model *m, rt_acts *a);
/* Once logits are not finite: runs the last rows again and says the first layer whose output is not
   either; the number of layers when all are. -1: rt_model_pass. */
int64_t rt_model_overflow(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err);
/* a->logits (n,V) = head of rows index[0..n) of a->hidden; n <= head_rows; index on the host. */
void rt_model_logits(rt_dev *d, const rt_model *m, rt_acts *a, const int32_t *index, int64_t n);
/* a->logits holds their gradient: gradient of the head += , rows of a->dhidden += . */
void rt_model_logits_backward(rt_dev *d, const rt_model *m, rt_weights *dw, rt_acts *a);
/* a->dhidden -> dw += . Call after the chunks of logits_backward; a->dhidden starts at zero in
 * rt_acts_rows. -1: rt_model_pass. */
int rt_model_backward(rt_dev *d, const rt_model *m, rt_weights *dw, rt_acts *a, rt_err *err);

RT_END

#endif
