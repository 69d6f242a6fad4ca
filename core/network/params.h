/* params.h: the registry of a model's weights. Registering a weight is one line in a layer file and
   the only place where its name, shape and habits occur; allocation, initialisation, optimizer
   groups, Hugging Face and GGUF names, checkpoints, gradient checks and `inspect` follow from the
   list. The same layer code registers weights, gradients and moments: four placements of one list.
 */
#ifndef RT_PARAMS_H
#define RT_PARAMS_H

#include "core/device/arenas.h"
#include "core/network/config.h"

RT_BEGIN

typedef enum rt_param_init {
    RT_INIT_NORMAL,
    RT_INIT_OUTPUT,
    RT_INIT_ONES,
    RT_INIT_ZEROS
} rt_param_init;

enum rt_param_flags {
    RT_PARAM_DECAY = 1, /* weight decay applies */
    RT_PARAM_PRODUCT =
        2,              /* right operand of a matrix product: frozen models read it where it lies */
    RT_PARAM_RAW = 4,   /* read other than through a product, too */
    RT_PARAM_FIXED = 8, /* no gradient (router selection bias) */
    RT_PARAM_BIAS = 16, /* GGUF calls it ".bias", not ".weight" */
    RT_PARAM_LINEAR = 32 /* the w of an rt_linear */
};

typedef struct rt_param {
    char name[96];   /* Hugging Face name; a stack over experts holds "%d" where the expert goes */
    char gguf[64];   /* GGUF name without ".weight", or "" */
    int layer;       /* -1 outside blocks */
    int64_t experts; /* E when the tensor is a stack (E,·,·) or (E,·), else 0 */
    rt_tensor *slot; /* the layer's own tensor; shape valid from registration, data after placing */
    rt_param_init init;
    unsigned flags;
} rt_param;

/* The dtype of a weight in one placement of the list; RT_DTYPE_COUNT: it has none there. */
typedef rt_dtype rt_param_form(const rt_param *p);
rt_dtype rt_param_form_bf16(const rt_param *p); /* matrices; the rest is small, and f32 */

typedef struct rt_params {
    rt_param *item;
    int n;
    int64_t cap; /* private */
    int layer;             /* of the registrations that follow; -1 outside blocks */
    int64_t total, active; /* parameters; multiplied for one token */
    rt_param_form *form;   /* of this placement; NULL: f32 all */
    rt_arena_where where;  /* the memory of this placement lies */
    bool in_turns;         /* layers take turns in the memory of the largest */
} rt_params;

/* One weight: dims outermost first, unused 0. name is relative to its layer
 * ("self_attn.q_proj.weight"). */
void rt_param_add(rt_params *p, rt_tensor *slot, const char *name, const char *gguf,
                  rt_param_init init, unsigned flags, int64_t d0, int64_t d1, int64_t d2);
void rt_params_free(rt_params *p);
void rt_param_expert_name(const rt_param *p, int64_t expert, char *out, size_t size);

/* Memory for every weight that has a form (training: weights, gradients, moments), under the label
   of a; the others get rank 0. A plan of arenas.h: params is an rt_params. */
void rt_params_plan(void *params, rt_arena *a);
/* All of a weight as it lies, from and to the host, wherever it lies; the next rt_sync ends it. */
void rt_params_put(const rt_params *p, int i, rt_dev *d, const void *host);
void rt_params_get(const rt_params *p, int i, rt_dev *d, void *host);
/* From f32 of the host, which is free when it returns; f32 or bf16 weights. */
int rt_params_write(const rt_params *p, int i, rt_dev *d, float *host, rt_err *err);
/* Elements [first, first + n) as f32 of the host. */
int rt_params_read(const rt_params *p, int i, int64_t first, int64_t n, rt_dev *d, float *host,
                   rt_err *err);
/* Random start on the device: N(0, init_std), output projections divided by sqrt(2 L); a draw is a
   function of (seed, index of the weight, element). */
int rt_params_init(rt_params *p, rt_dev *d, const rt_config *cfg, uint64_t seed, rt_err *err);
/* The same of weight i alone, in host memory. */
void rt_param_draw(const rt_params *p, int i, const rt_config *cfg, uint64_t seed, float *host);

RT_END

#endif
