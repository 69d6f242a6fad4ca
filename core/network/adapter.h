/* adapter.h: low-rank adapters of linear layers (LoRA, arXiv 2106.09685): beside a frozen w, each
   chosen layer learns y = x wᵀ + s (x downᵀ) upᵀ. Which layers get one, their memory, their random
   start. What they compute: linear.h; their files: adapter_file.h. Refuses: adapting anything but a
   linear layer (norms, embedding, head). */
#ifndef RT_ADAPTER_H
#define RT_ADAPTER_H

#include "core/device/arenas.h"
#include "core/network/params.h"

RT_BEGIN

typedef struct rt_adapter_spec {
    int64_t rank; /* R; 0 = no adapters */
    double alpha; /* s = alpha / R, or alpha / sqrt(R) (rank-stabilized, arXiv 2312.03732) */
    bool rank_stabilized;
    char *targets; /* names of projections, "q_proj,v_proj", or "all": every one but routers */
} rt_adapter_spec;

typedef struct rt_adapters {
    rt_adapter_spec spec; /* targets: owned */
    float scale;          /* s */
    bool off;             /* passes are the base's alone */
    rt_params params;     /* down (R,I) and up (O,R) of each layer, which gguf names; of experts
                             (E,R,I) and (E,O,R) */
    int64_t rows;         /* of the two below */
    rt_dtype act;
    rt_tensor inner, dinner; /* (rows, R) s x downᵀ and its gradient: a product's own, shared by all */
    rt_arena arena, scratch;
} rt_adapters;

static inline int rt_adapters_layers(const rt_adapters *a) { return a->params.n / 2; }

/* Registers adapters for the linear layers of `of` that spec names. A target that no layer has is
   an error. */
int rt_adapters_new(rt_adapters **a, rt_params *of, const rt_adapter_spec *spec, rt_err *err);
void rt_adapters_free(rt_dev *d, rt_adapters *a); /* accepts NULL */
/* Their f32 memory, and scratch for products of as many rows. */
void rt_adapters_plan(rt_adapters *a, rt_arenas *l, rt_dev *d, int64_t rows);
/* down uniform in ±1/sqrt(I), up zero: what is adapted begins as it was. */
int rt_adapters_init(rt_adapters *a, rt_dev *d, uint64_t seed, rt_err *err);

RT_END

#endif
