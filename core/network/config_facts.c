/* config_facts.c: what follows from an architecture description: which layers are routed or have a
   window, widths, biases, the rules of the router and of SwiGLU. Reads nothing; config.c and
   config_gguf.c have checked the numbers. */
#include <math.h>

#include "core/network/config.h"

bool rt_config_routed(const rt_config *cfg, int64_t layer)
{
    if (!cfg->family->routed || layer < cfg->dense_first)
        return false;
    if (layer < RT_COUNT(cfg->dense_layer) && cfg->dense_layer[layer])
        return false;
    return cfg->sparse_step > 0 && (layer + 1) % cfg->sparse_step == 0;
}

int64_t rt_config_dk(const rt_config *cfg)
{
    return cfg->family->attn == RT_ATTN_MLA ? cfg->nope_dim + cfg->rope_dim : cfg->head_dim;
}

int64_t rt_config_dv(const rt_config *cfg)
{
    return cfg->family->attn == RT_ATTN_MLA ? cfg->v_dim : cfg->head_dim;
}

int64_t rt_config_rope_dim(const rt_config *cfg)
{
    return cfg->rope_dim ? cfg->rope_dim : cfg->head_dim;
}

int64_t rt_config_window(const rt_config *cfg, int64_t layer)
{
    return cfg->windowed[layer] ? cfg->window : 0;
}

rt_qk_norm rt_config_qk_norm(const rt_config *cfg)
{
    if (cfg->family->qk_norm == RT_QK_OPTIONAL)
        return cfg->qk_norm ? RT_QK_HEAD : RT_QK_NONE;
    return cfg->family->qk_norm;
}

bool rt_config_qkv_bias(const rt_config *cfg)
{
    return cfg->family->bias == RT_BIAS_QKV || cfg->attention_bias;
}

bool rt_config_output_bias(const rt_config *cfg)
{
    return cfg->family->bias == RT_BIAS_ALL_OPTIONAL && cfg->attention_bias;
}

int64_t rt_config_shared_width(const rt_config *cfg)
{
    return cfg->shared_width ? cfg->shared_width : cfg->shared * cfg->expert_width;
}

rt_swiglu_rule rt_config_swiglu(const rt_config *cfg)
{
    if (cfg->swiglu_limit == 0)
        return (rt_swiglu_rule){ 1.0f, INFINITY, 0.0f };
    return (rt_swiglu_rule){ (float)cfg->swiglu_alpha, (float)cfg->swiglu_limit, 1.0f };
}

rt_route_policy rt_config_route(const rt_config *cfg)
{
    rt_route_policy p = { cfg->family->scoring,   (int32_t)cfg->experts,     (int32_t)cfg->active,
                          (int32_t)cfg->groups,   (int32_t)cfg->groups_kept, cfg->norm_topk,
                          (float)cfg->route_scale };
    return p;
}

bool rt_config_is_eos(const rt_config *cfg, int32_t token)
{
    for (int64_t i = 0; i < cfg->n_eos; i++)
        if (cfg->eos[i] == token)
            return true;
    return false;
}
