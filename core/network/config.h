/* config.h: what a model is, as numbers: the architecture description that config.json of a Hugging
   Face directory and the metadata of a GGUF both fill. One table of families (family.c), one
   table of keys; reading, checking and writing config.json follow from them. Refuses: a model_type,
   rope scaling or routing rule it does not know, by name. */
#ifndef RT_CONFIG_H
#define RT_CONFIG_H

#include "core/base/json.h"
#include "core/formats/quantization.h"
#include "core/network/family.h"

RT_BEGIN

typedef enum rt_rope_scaling {
    RT_ROPE_PLAIN,
    RT_ROPE_LINEAR,
    RT_ROPE_LLAMA3,
    RT_ROPE_YARN
} rt_rope_scaling;

typedef struct rt_config {
    const rt_family *family;
    int64_t layers, width, vocab;          /* L, C, V (rows of the embedding) */
    int64_t heads, kv_heads, head_dim;     /* H, K, Dk = Dv (GQA) */
    int64_t q_rank, kv_rank;               /* Q (0 = none), R (MLA) */
    int64_t nope_dim, rope_dim, v_dim;     /* MLA: Dk = nope + rope, Dv */
                                           /* GQA: rope_dim of a head turn, 0 = all */
    int64_t ffn_width;                     /* F of dense layers */
    int64_t experts, active, expert_width; /* E, A, F of an expert */
    int64_t shared, shared_width; /* shared experts and their width, 0 = shared * expert_width */
    int64_t groups, groups_kept;
    int64_t dense_first;          /* layers 0 .. dense_first-1 are dense */
    int64_t sparse_step;          /* layer l is routed when (l + 1) % step == 0 */
    uint8_t dense_layer[256];     /* 1 = listed in mlp_only_layers */
    int64_t window, window_first; /* keys a row sees, 0 = all; layers below attend to all */
    bool use_window, qk_norm, attention_bias; /* as config.json says, where the family asks */
    uint8_t windowed[1024];                   /* 1 = the layer has the window */
    bool norm_topk, tied, interleaved;        /* interleaved: rope turns pairs (2i, 2i+1) */
    double route_scale, norm_eps, init_std;
    double swiglu_alpha, swiglu_limit; /* limit 0 = plain SwiGLU */
    double rope_theta;
    rt_rope_scaling rope_scaling;
    double rope_factor, rope_low, rope_high, rope_original; /* llama3; linear uses factor */
    bool yarn_truncate; /* the ends of yarn's ramp are whole dimensions */
    double yarn_fast, yarn_slow, yarn_mscale, yarn_mscale_all, yarn_attention; /* 0 = not given */
    int64_t max_positions;
    int64_t bos, eos[8], n_eos, pad; /* -1 = none */
    rt_quantization quantization;    /* of the weights on disk */
} rt_config;

/* what: the file's name in messages. */
int rt_config_parse(rt_config *cfg, const cJSON *json, const char *what, rt_err *err);
/* DIR/config.json; ids that end a text also from DIR/generation_config.json, where there is one. */
int rt_config_load(rt_config *cfg, const char *dir, rt_err *err);
/* The same from the keys and tensors of a GGUF (config_gguf.c). */
struct rt_gguf;
int rt_config_gguf(rt_config *cfg, const struct rt_gguf *g, rt_err *err);
int rt_config_check(const rt_config *cfg, const char *what, rt_err *err);
/* Hugging Face's config.json with dtype ("float32", "bfloat16"). cJSON_Delete it. */
cJSON *rt_config_json(const rt_config *cfg, const char *dtype);

const char *rt_config_rope_name(const rt_config *cfg); /* "yarn", ... or "default" */
bool rt_config_routed(const rt_config *cfg, int64_t layer);
int64_t rt_config_dk(const rt_config *cfg); /* width of a query/key head */
int64_t rt_config_dv(const rt_config *cfg);
int64_t rt_config_rope_dim(const rt_config *cfg);              /* P */
int64_t rt_config_window(const rt_config *cfg, int64_t layer); /* 0 = none */
rt_qk_norm rt_config_qk_norm(const rt_config *cfg);            /* never OPTIONAL */
bool rt_config_qkv_bias(const rt_config *cfg);
bool rt_config_output_bias(const rt_config *cfg);
int64_t rt_config_shared_width(const rt_config *cfg); /* 0 = no shared experts */
float rt_config_softmax_scale(const rt_config *cfg);
rt_swiglu_rule rt_config_swiglu(const rt_config *cfg);
rt_route_policy rt_config_route(const rt_config *cfg);
bool rt_config_is_eos(const rt_config *cfg, int32_t token);

/* The longest sequence a command may give the model when it would like `wanted`: positions the model
   was not made for are refused or left out by every command. */
int64_t rt_config_longest(const rt_config *cfg, int64_t wanted);
/* table (T,P) f32 on the host: cos P/2 | sin P/2 for positions 0 .. T-1, any scaling applied. */
void rt_config_rope_table(const rt_config *cfg, float *table, int64_t positions);
/* What Llama 3.1's scaling divides frequency i of P/2 by: 1 for short wavelengths, the factor for
   long ones, a blend between. */
double rt_config_rope_divisor(const rt_config *cfg, int64_t i);

RT_END

#endif
