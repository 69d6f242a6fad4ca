/* family.h: what each model_type is made of. A family is a row of parts that exist already
   (attention, norms, biases, router, names of routed weights) and of the groups of config.json keys
   it has. Adding one is adding a row to family.c. Refuses to know numbers: those are
   core/network/config.h's. */
#ifndef RT_FAMILY_H
#define RT_FAMILY_H

#include "core/device/ops.h"

RT_BEGIN

typedef enum rt_attn_kind { RT_ATTN_GQA, RT_ATTN_MLA } rt_attn_kind;

/* Keys of config.json that only some families have. */
enum rt_family_keys {
    RT_KEYS_ALL = 1,
    RT_KEYS_GQA = 2,
    RT_KEYS_MLA = 4,
    RT_KEYS_MOE = 8,       /* routed */
    RT_KEYS_DEEP = 16,     /* DeepSeek's names and groups */
    RT_KEYS_QMOE = 32,     /* num_experts */
    RT_KEYS_WIDTH = 64,    /* moe_intermediate_size; else an expert is intermediate_size wide */
    RT_KEYS_NORM = 128,    /* norm_topk_prob, default false; true where NOAUX */
    RT_KEYS_NOAUX = 256,   /* sigmoid router with a selection bias */
    RT_KEYS_STEP = 512,    /* decoder_sparse_step, mlp_only_layers */
    RT_KEYS_SHARED = 1024, /* shared_expert_intermediate_size */
    RT_KEYS_WINDOW = 2048, /* sliding_window of all layers */
    RT_KEYS_LAYERS = 4096, /* use_sliding_window, max_window_layers, layer_types */
    RT_KEYS_BIAS = 8192,   /* attention_bias */
    RT_KEYS_GLM = 16384,   /* use_qk_norm, partial_rotary_factor */
    RT_KEYS_OSS = 32768 /* swiglu_alpha, swiglu_limit, layer_types, attention_bias default true */
};

typedef enum rt_qk_norm {
    RT_QK_NONE,
    RT_QK_HEAD,    /* RMSNorm of each query and key head before rope */
    RT_QK_WHOLE,   /* of all query heads together, and all key heads */
    RT_QK_OPTIONAL /* of each head where config.json has use_qk_norm */
} rt_qk_norm;

typedef enum rt_attn_bias {
    RT_BIAS_NONE,
    RT_BIAS_QKV,          /* on q, k and v, always */
    RT_BIAS_QKV_OPTIONAL, /* where config.json has attention_bias */
    RT_BIAS_ALL_OPTIONAL  /* the same, and on the output */
} rt_attn_bias;

/* Names of routed layers below "model.layers.L."; gate, up, down; %d is the expert. */
typedef struct rt_moe_names {
    const char *router, *expert[3], *shared[3];
    const char *shared_gate; /* NULL = shared experts are added as they are */
    const char *router_bias, *expert_bias[3];
    bool interleaved; /* where experts are fused, their gate and up rows alternate */
} rt_moe_names;

typedef struct rt_family {
    const char *model_type;   /* config.json */
    const char *architecture; /* architectures[0] */
    const char *gguf;         /* general.architecture of a GGUF, NULL = none is read or written */
    rt_attn_kind attn;
    rt_qk_norm qk_norm;
    rt_attn_bias bias;
    bool sinks;                /* a learned sink a query head */
    bool gguf_interleaved;     /* GGUF stores q and k rows for adjacent-pair rope */
    bool gguf_norm_topk;       /* norm_topk_prob where GGUF has no key for it */
    bool routed;               /* some layers have routed experts */
    rt_router scoring;         /* of routed families; sigmoid ones have a selection bias */
    const rt_moe_names *names; /* of routed families */
    int keys;                  /* which keys config.json has beside those of all (config.c) */
    const char *needs[4];      /* keys whose absence transformers fills with a number of its own */
} rt_family;

const rt_family *rt_family_find(const char *model_type); /* or NULL */
/* The first of an architecture; routed and scoring: which, -1 = any; window: it must know windows.
 */
const rt_family *rt_family_find_gguf(const char *architecture, int routed, int scoring,
                                     bool window);
/* "llama, mistral, ...": what a refusal offers; gguf: names of GGUF. Returns out. */
const char *rt_family_list(char *out, size_t size, bool gguf);

RT_END

#endif
