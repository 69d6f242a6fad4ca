/* config_table.c: the numbers of rt_config that config.json holds, a row each: name, kind,
   families, default, bounds. Reading and writing (config.c, config_write.c) follow from it. */
#include "core/network/config_key.h"

#define KEY(name, kind, field, families, required, def, min, max)                                  \
    {                                                                                              \
        name, kind, offsetof(rt_config, field), families, required, def, min, max                  \
    }
#define DIM RT_DIM_MAX

const rt_config_key rt_config_keys[] = {
    KEY("num_hidden_layers", RT_KEY_INT, layers, RT_KEYS_ALL, true, 0, 1, 1024),
    KEY("hidden_size", RT_KEY_INT, width, RT_KEYS_ALL, true, 0, 1, DIM),
    KEY("vocab_size", RT_KEY_INT, vocab, RT_KEYS_ALL, true, 0, 2, RT_VOCAB_MAX),
    KEY("num_attention_heads", RT_KEY_INT, heads, RT_KEYS_ALL, true, 0, 1, 4096),
    KEY("num_key_value_heads", RT_KEY_INT, kv_heads, RT_KEYS_ALL, false, 0, 1, 4096),
    KEY("head_dim", RT_KEY_INT, head_dim, RT_KEYS_GQA, false, 0, 1, 4096),
    KEY("head_dim", RT_KEY_INT, head_dim, RT_KEYS_OSS, true, 0, 1, 4096),
    KEY("q_lora_rank", RT_KEY_INT, q_rank, RT_KEYS_MLA, false, 0, 0, DIM),
    KEY("kv_lora_rank", RT_KEY_INT, kv_rank, RT_KEYS_MLA, true, 0, 1, DIM),
    KEY("qk_nope_head_dim", RT_KEY_INT, nope_dim, RT_KEYS_MLA, true, 0, 1, 4096),
    KEY("qk_rope_head_dim", RT_KEY_INT, rope_dim, RT_KEYS_MLA, true, 0, 2, 4096),
    KEY("v_head_dim", RT_KEY_INT, v_dim, RT_KEYS_MLA, true, 0, 1, 4096),
    KEY("intermediate_size", RT_KEY_INT, ffn_width, RT_KEYS_ALL, true, 0, 1, DIM),
    KEY("moe_intermediate_size", RT_KEY_INT, expert_width, RT_KEYS_WIDTH, true, 0, 1, DIM),
    KEY("shared_expert_intermediate_size", RT_KEY_INT, shared_width, RT_KEYS_SHARED, true, 0, 1,
        DIM),
    KEY("n_routed_experts", RT_KEY_INT, experts, RT_KEYS_DEEP, true, 0, 1, RT_EXPERTS_MAX),
    KEY("num_experts", RT_KEY_INT, experts, RT_KEYS_QMOE, true, 0, 1, RT_EXPERTS_MAX),
    KEY("num_experts_per_tok", RT_KEY_INT, active, RT_KEYS_MOE, true, 0, 1, RT_CHOICES_MAX),
    KEY("n_shared_experts", RT_KEY_INT, shared, RT_KEYS_DEEP, false, 0, 0, 256),
    KEY("n_group", RT_KEY_INT, groups, RT_KEYS_DEEP, false, 1, 1, 256),
    KEY("topk_group", RT_KEY_INT, groups_kept, RT_KEYS_DEEP, false, 1, 1, 256),
    KEY("first_k_dense_replace", RT_KEY_INT, dense_first, RT_KEYS_DEEP, false, 0, 0, 1024),
    KEY("decoder_sparse_step", RT_KEY_INT, sparse_step, RT_KEYS_STEP, false, 1, 0, 1024),
    KEY("norm_topk_prob", RT_KEY_BOOL, norm_topk, RT_KEYS_NORM, false, 0, 0, 1),
    KEY("norm_topk_prob", RT_KEY_BOOL, norm_topk, RT_KEYS_NOAUX, false, 1, 0, 1),
    KEY("routed_scaling_factor", RT_KEY_FLOAT, route_scale, RT_KEYS_DEEP, false, 1, 1e-6, 1e6),
    KEY("sliding_window", RT_KEY_INT, window, RT_KEYS_WINDOW, false, 0, 0, 1 << 30),
    KEY("use_sliding_window", RT_KEY_BOOL, use_window, RT_KEYS_LAYERS, false, 0, 0, 1),
    KEY("max_window_layers", RT_KEY_INT, window_first, RT_KEYS_LAYERS, false, 28, 0, 1024),
    KEY("attention_bias", RT_KEY_BOOL, attention_bias, RT_KEYS_BIAS, false, 0, 0, 1),
    KEY("attention_bias", RT_KEY_BOOL, attention_bias, RT_KEYS_OSS, false, 1, 0, 1),
    KEY("swiglu_alpha", RT_KEY_FLOAT, swiglu_alpha, RT_KEYS_OSS, false, 1.702, 1e-3, 1e3),
    KEY("swiglu_limit", RT_KEY_FLOAT, swiglu_limit, RT_KEYS_OSS, false, 7, 1e-3, 1e6),
    KEY("use_qk_norm", RT_KEY_BOOL, qk_norm, RT_KEYS_GLM, false, 0, 0, 1),
    KEY("rms_norm_eps", RT_KEY_FLOAT, norm_eps, RT_KEYS_ALL, true, 0, 0, 1),
    KEY("initializer_range", RT_KEY_FLOAT, init_std, RT_KEYS_ALL, false, 0.02, 0, 10),
    KEY("tie_word_embeddings", RT_KEY_BOOL, tied, RT_KEYS_ALL, false, 0, 0, 1),
    KEY("rope_interleave", RT_KEY_BOOL, interleaved, RT_KEYS_MLA, false, 1, 0, 1),
    KEY("max_position_embeddings", RT_KEY_INT, max_positions, RT_KEYS_ALL, true, 0, 1, 1 << 30),
    { .name = NULL },
};

/* Keys of a rope_scaling (or rope_parameters) object, for the kinds in `families` bits below. */
enum { R_LINEAR = 1, R_LLAMA3 = 2, R_YARN = 4 };
const rt_config_scaling rt_config_scalings[] = { { RT_ROPE_LINEAR, R_LINEAR, "linear" },
                                                 { RT_ROPE_LLAMA3, R_LLAMA3, "llama3" },
                                                 { RT_ROPE_YARN, R_YARN, "yarn" },
                                                 { .name = NULL } };
const rt_config_key rt_config_rope_keys[] = {
    KEY("factor", RT_KEY_FLOAT, rope_factor, R_LINEAR | R_LLAMA3 | R_YARN, true, 1, 1e-3, 1e6),
    KEY("low_freq_factor", RT_KEY_FLOAT, rope_low, R_LLAMA3, true, 1, 1e-3, 1e6),
    KEY("high_freq_factor", RT_KEY_FLOAT, rope_high, R_LLAMA3, true, 4, 1e-3, 1e6),
    KEY("original_max_position_embeddings", RT_KEY_FLOAT, rope_original, R_LLAMA3 | R_YARN, false,
        0, 1, 1 << 30),
    KEY("beta_fast", RT_KEY_FLOAT, yarn_fast, R_YARN, false, 32, 1e-3, 1e6),
    KEY("beta_slow", RT_KEY_FLOAT, yarn_slow, R_YARN, false, 1, 1e-3, 1e6),
    KEY("mscale", RT_KEY_FLOAT, yarn_mscale, R_YARN, false, 0, 0, 1e3),
    KEY("mscale_all_dim", RT_KEY_FLOAT, yarn_mscale_all, R_YARN, false, 0, 0, 1e3),
    KEY("attention_factor", RT_KEY_FLOAT, yarn_attention, R_YARN, false, 0, 1e-6, 1e3),
    KEY("truncate", RT_KEY_BOOL, yarn_truncate, R_YARN, false, 1, 0, 1),
    { .name = NULL },
};

const char *rt_config_rope_name(const rt_config *cfg)
{
    for (const rt_config_scaling *r = rt_config_scalings; r->name; r++)
        if (r->kind == cfg->rope_scaling)
            return r->name;
    return "default";
}
