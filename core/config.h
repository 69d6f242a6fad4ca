/* config.h: what a model is, as numbers: the architecture description that config.json of a Hugging
   Face directory and the metadata of a GGUF both fill. One table of families (model_type), one
   table of keys; reading, checking and writing config.json follow from them. Refuses: a model_type,
   rope scaling or routing rule it does not know, by name. */
#ifndef RT_CONFIG_H
#define RT_CONFIG_H

#include "core/json.h"
#include "core/ops.h"
#include "core/quantization.h"

RT_BEGIN

typedef enum rt_attn_kind { RT_ATTN_GQA, RT_ATTN_MLA } rt_attn_kind;

typedef enum rt_rope_scaling {
    RT_ROPE_PLAIN,
    RT_ROPE_LINEAR,
    RT_ROPE_LLAMA3,
    RT_ROPE_YARN
} rt_rope_scaling;

/* One row a model_type. A family is a set of parts that exist already; adding one is adding a row.
 */
typedef struct rt_family {
    const char *model_type;   /* config.json */
    const char *architecture; /* architectures[0] */
    const char *gguf;         /* general.architecture, NULL = retort writes no GGUF of it */
    rt_attn_kind attn;
    bool routed;           /* some layers have routed experts */
    rt_router scoring;     /* default of routed families */
    bool qk_norm;          /* RMSNorm of each query and key head before rope */
    bool gguf_interleaved; /* GGUF stores q and k rows for adjacent-pair rope */
} rt_family;

typedef struct rt_config {
    const rt_family *family;
    int64_t layers, width, vocab;          /* L, C, V (rows of the embedding) */
    int64_t heads, kv_heads, head_dim;     /* H, K, Dk = Dv (GQA) */
    int64_t q_rank, kv_rank;               /* Q (0 = none), R (MLA) */
    int64_t nope_dim, rope_dim, v_dim;     /* MLA: Dk = nope + rope, Dv */
    int64_t ffn_width;                     /* F of dense layers */
    int64_t experts, active, expert_width; /* E, A, F of an expert */
    int64_t shared; /* shared experts; their width is shared * expert_width */
    int64_t groups, groups_kept;
    int64_t dense_first;               /* layers 0 .. dense_first-1 are dense */
    int64_t sparse_step;               /* layer l is routed when (l + 1) % step == 0 */
    uint8_t dense_layer[256];          /* 1 = listed in mlp_only_layers */
    bool norm_topk, tied, interleaved; /* interleaved: rope turns pairs (2i, 2i+1) */
    double route_scale, norm_eps, init_std;
    double rope_theta;
    rt_rope_scaling rope_scaling;
    double rope_factor, rope_low, rope_high, rope_original; /* llama3; linear uses factor */
    double yarn_fast, yarn_slow, yarn_mscale, yarn_mscale_all, yarn_attention; /* 0 = not given */
    const float *rope_freqs; /* (P/2) divisors from a GGUF, borrowed, or NULL */
    int64_t max_positions;
    int64_t bos, eos[8], n_eos, pad; /* -1 = none */
    rt_quantization quantization;    /* of the weights on disk */
} rt_config;

const rt_family *rt_family_find(const char *model_type); /* or NULL */
const rt_family *rt_family_find_gguf(const char *architecture);

/* what: the file's name in messages. */
int rt_config_parse(rt_config *cfg, const cJSON *json, const char *what, rt_err *err);
/* DIR/config.json; ids that end a text also from DIR/generation_config.json, where there is one. */
int rt_config_load(rt_config *cfg, const char *dir, rt_err *err);
int rt_config_check(const rt_config *cfg, const char *what, rt_err *err);
/* Hugging Face's config.json with dtype ("float32", "bfloat16"). cJSON_Delete it. */
cJSON *rt_config_json(const rt_config *cfg, const char *dtype);

bool rt_config_routed(const rt_config *cfg, int64_t layer);
int64_t rt_config_dk(const rt_config *cfg); /* width of a query/key head */
int64_t rt_config_dv(const rt_config *cfg);
int64_t rt_config_rope_dim(const rt_config *cfg); /* P */
float rt_config_softmax_scale(const rt_config *cfg);
rt_route_policy rt_config_route(const rt_config *cfg);
bool rt_config_is_eos(const rt_config *cfg, int32_t token);

/* table (T,P) f32 on the host: cos P/2 | sin P/2 for positions 0 .. T-1, any scaling applied. */
void rt_config_rope_table(const rt_config *cfg, float *table, int64_t positions);

RT_END

#endif
