#include "core/network/family.h"

#include <stdio.h>
#include <string.h>

static const rt_moe_names deepseek_names = {
    .router = "mlp.gate.weight",
    .expert = { "mlp.experts.%d.gate_proj.weight", "mlp.experts.%d.up_proj.weight",
                "mlp.experts.%d.down_proj.weight" },
    .shared = { "mlp.shared_experts.gate_proj.weight", "mlp.shared_experts.up_proj.weight",
                "mlp.shared_experts.down_proj.weight" },
};

static const rt_moe_names qwen_names = {
    .router = "mlp.gate.weight",
    .expert = { "mlp.experts.%d.gate_proj.weight", "mlp.experts.%d.up_proj.weight",
                "mlp.experts.%d.down_proj.weight" },
    .shared = { "mlp.shared_expert.gate_proj.weight", "mlp.shared_expert.up_proj.weight",
                "mlp.shared_expert.down_proj.weight" },
    .shared_gate = "mlp.shared_expert_gate.weight",
};

static const rt_moe_names mixtral_names = {
    .router = "block_sparse_moe.gate.weight",
    .expert = { "block_sparse_moe.experts.%d.w1.weight", "block_sparse_moe.experts.%d.w3.weight",
                "block_sparse_moe.experts.%d.w2.weight" },
};

static const rt_moe_names oss_names = {
    .router = "mlp.router.weight",
    .router_bias = "mlp.router.bias",
    .expert = { "mlp.experts.%d.gate_proj.weight", "mlp.experts.%d.up_proj.weight",
                "mlp.experts.%d.down_proj.weight" },
    .expert_bias = { "mlp.experts.%d.gate_proj.bias", "mlp.experts.%d.up_proj.bias",
                     "mlp.experts.%d.down_proj.bias" },
    .interleaved = true,
};

#define FAMILY(type, class) .model_type = type, .architecture = class "ForCausalLM"
#define EXPERTS(rule, table) .routed = true, .scoring = RT_ROUTE_##rule, .names = &table

static const rt_family families[] = {
    { FAMILY("llama", "Llama"), .gguf = "llama", .bias = RT_BIAS_ALL_OPTIONAL,
      .gguf_interleaved = true, .keys = RT_KEYS_GQA | RT_KEYS_BIAS },
    { FAMILY("mistral", "Mistral"), .gguf = "llama", .gguf_interleaved = true,
      .needs = { "sliding_window" }, .keys = RT_KEYS_GQA | RT_KEYS_WINDOW },
    { FAMILY("qwen2", "Qwen2"), .gguf = "qwen2", .bias = RT_BIAS_QKV,
      .keys = RT_KEYS_GQA | RT_KEYS_WINDOW | RT_KEYS_LAYERS },
    { FAMILY("qwen3", "Qwen3"), .gguf = "qwen3", .qk_norm = RT_QK_HEAD,
      .bias = RT_BIAS_ALL_OPTIONAL,
      .keys = RT_KEYS_GQA | RT_KEYS_WINDOW | RT_KEYS_LAYERS | RT_KEYS_BIAS },
    { FAMILY("mixtral", "Mixtral"), .gguf = "llama", .gguf_interleaved = true,
      .needs = { "rope_theta" }, .gguf_norm_topk = true, EXPERTS(SOFTMAX, mixtral_names),
      .keys = RT_KEYS_GQA | RT_KEYS_WINDOW | RT_KEYS_MOE | RT_KEYS_QMOE },
    { FAMILY("olmoe", "Olmoe"), .gguf = "olmoe", .qk_norm = RT_QK_WHOLE,
      .bias = RT_BIAS_ALL_OPTIONAL, EXPERTS(SOFTMAX, qwen_names),
      .keys = RT_KEYS_GQA | RT_KEYS_BIAS | RT_KEYS_MOE | RT_KEYS_QMOE | RT_KEYS_NORM },
    { FAMILY("qwen2_moe", "Qwen2Moe"), .gguf = "qwen2moe", .bias = RT_BIAS_QKV,
      EXPERTS(SOFTMAX, qwen_names),
      .keys = RT_KEYS_GQA | RT_KEYS_MOE | RT_KEYS_QMOE | RT_KEYS_WIDTH | RT_KEYS_NORM |
              RT_KEYS_STEP | RT_KEYS_SHARED },
    { FAMILY("qwen3_moe", "Qwen3Moe"), .gguf = "qwen3moe", .gguf_norm_topk = true,
      .qk_norm = RT_QK_HEAD, .bias = RT_BIAS_ALL_OPTIONAL, EXPERTS(SOFTMAX, qwen_names),
      .keys = RT_KEYS_GQA | RT_KEYS_BIAS | RT_KEYS_MOE | RT_KEYS_QMOE | RT_KEYS_WIDTH |
              RT_KEYS_NORM | RT_KEYS_STEP },
    { FAMILY("glm4_moe", "Glm4Moe"), .gguf = "glm4moe", .qk_norm = RT_QK_OPTIONAL,
      .bias = RT_BIAS_QKV_OPTIONAL, EXPERTS(SIGMOID, deepseek_names),
      .keys = RT_KEYS_GQA | RT_KEYS_BIAS | RT_KEYS_GLM | RT_KEYS_MOE | RT_KEYS_DEEP |
              RT_KEYS_WIDTH | RT_KEYS_NOAUX },
    { FAMILY("deepseek_v2", "DeepseekV2"), .gguf = "deepseek2", .attn = RT_ATTN_MLA,
      EXPERTS(SOFTMAX, deepseek_names),
      .keys = RT_KEYS_MLA | RT_KEYS_MOE | RT_KEYS_DEEP | RT_KEYS_WIDTH | RT_KEYS_NORM },
    { FAMILY("deepseek_v3", "DeepseekV3"), .gguf = "deepseek2", .attn = RT_ATTN_MLA,
      EXPERTS(SIGMOID, deepseek_names),
      .needs = { "n_group", "topk_group", "routed_scaling_factor" },
      .keys = RT_KEYS_MLA | RT_KEYS_MOE | RT_KEYS_DEEP | RT_KEYS_WIDTH | RT_KEYS_NOAUX },
    { FAMILY("kimi_k2", "DeepseekV3"), .attn = RT_ATTN_MLA, EXPERTS(SIGMOID, deepseek_names),
      .needs = { "n_group", "topk_group", "routed_scaling_factor" },
      .keys = RT_KEYS_MLA | RT_KEYS_MOE | RT_KEYS_DEEP | RT_KEYS_WIDTH | RT_KEYS_NOAUX },
    { FAMILY("gpt_oss", "GptOss"), .gguf = "gpt-oss", .gguf_norm_topk = true,
      .needs = { "rope_theta", "sliding_window" }, .bias = RT_BIAS_ALL_OPTIONAL, .sinks = true,
      EXPERTS(SOFTMAX, oss_names),
      .keys = RT_KEYS_GQA | RT_KEYS_WINDOW | RT_KEYS_MOE | RT_KEYS_QMOE | RT_KEYS_OSS },
};

const rt_family *rt_family_find(const char *model_type)
{
    for (int i = 0; i < RT_COUNT(families); i++)
        if (strcmp(families[i].model_type, model_type) == 0)
            return &families[i];
    return NULL;
}

/* A GGUF does not say which layers have the window: all, or the family does not choose. */
const rt_family *rt_family_find_gguf(const char *architecture, int routed, int scoring, bool window)
{
    const int all = RT_KEYS_WINDOW | RT_KEYS_LAYERS;
    for (int i = 0; i < RT_COUNT(families); i++) {
        const rt_family *f = &families[i];
        if (f->gguf && strcmp(f->gguf, architecture) == 0 &&
            (routed < 0 || f->routed == (bool)routed) &&
            (scoring < 0 || (int)f->scoring == scoring) &&
            (!window || (f->keys & all) == RT_KEYS_WINDOW))
            return f;
    }
    return NULL;
}

const char *rt_family_list(char *out, size_t size, bool gguf)
{
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < RT_COUNT(families) && at < size; i++) {
        const rt_family *f = &families[i];
        const char *name = gguf ? f->gguf : f->model_type;
        if (!name || (gguf && rt_family_find_gguf(name, -1, -1, false) != f))
            continue;
        int n = snprintf(out + at, size - at, "%s%s", at ? ", " : "", name);
        at += (size_t)rt_max(n, 0);
    }
    return out;
}
