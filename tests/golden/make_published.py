#!/usr/bin/env python3
"""config.json of well-known checkpoints as their authors published them, with the number of parameters
that transformers makes of each.

    pip install transformers torch
    python3 tests/golden/make_published.py        writes tests/golden/published.jsonl

The models are built on torch's meta device: shapes without memory. transformers makes no layers for the
prediction of further tokens, and neither does retort. `active` is what the model card says, in billions."""
import json
import os

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))

BF16 = {"torch_dtype": "bfloat16", "use_cache": True, "initializer_range": 0.02}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
          "rope_type": "llama3"}
FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
MXFP4 = {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
                                    "lm_head"], "quant_method": "mxfp4"}


def llama(hidden, inter, layers, heads, kv, vocab=128256, **more):
    return {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
            "hidden_size": hidden, "intermediate_size": inter, "max_position_embeddings": 131072, "mlp_bias": False,
            "model_type": "llama", "num_attention_heads": heads, "num_hidden_layers": layers,
            "num_key_value_heads": kv, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": LLAMA3,
            "rope_theta": 500000.0, "tie_word_embeddings": False, "transformers_version": "4.42.3",
            "vocab_size": vocab, **BF16} | more


def mistral(**more):
    return {"architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
            "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
            "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False,
            "transformers_version": "4.42.0.dev0", "vocab_size": 32768, **BF16} | more


def mixtral(**more):
    return {"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
            "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
            "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32,
            "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": False, "rms_norm_eps": 1e-05,
            "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": None,
            "tie_word_embeddings": False, "transformers_version": "4.36.0.dev0", "vocab_size": 32000, **BF16} | more


def qwen2(hidden, inter, layers, heads, kv, vocab, **more):
    return {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
            "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": hidden, "intermediate_size": inter,
            "max_position_embeddings": 32768, "max_window_layers": layers, "model_type": "qwen2",
            "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": kv,
            "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": False,
            "transformers_version": "4.43.1", "use_sliding_window": False, "vocab_size": vocab, **BF16} | more


def qwen3(hidden, inter, layers, heads, kv, **more):
    return {"architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": hidden, "intermediate_size": inter, "max_position_embeddings": 40960,
            "max_window_layers": layers, "model_type": "qwen3", "num_attention_heads": heads,
            "num_hidden_layers": layers, "num_key_value_heads": kv, "rms_norm_eps": 1e-06, "rope_scaling": None,
            "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False,
            "transformers_version": "4.51.0", "use_sliding_window": False, "vocab_size": 151936, **BF16} | more


def qwen3_moe(hidden, inter, expert, layers, heads, **more):
    return qwen3(hidden, inter, layers, heads, 4, architectures=["Qwen3MoeForCausalLM"], decoder_sparse_step=1,
                 mlp_only_layers=[], model_type="qwen3_moe", moe_intermediate_size=expert, norm_topk_prob=True,
                 num_experts=128, num_experts_per_tok=8, output_router_logits=False, router_aux_loss_coef=0.001,
                 **more)


def deepseek(kind, **more):
    return {"architectures": [f"Deepseek{kind}ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
            "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekConfig"}, "aux_loss_alpha": 0.001,
            "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "hidden_act": "silu", "kv_lora_rank": 512,
            "max_position_embeddings": 163840, "moe_layer_freq": 1, "pretraining_tp": 1, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_theta": 10000, "seq_aux": True,
            "tie_word_embeddings": False, "v_head_dim": 128, **BF16} | more


def yarn(**more):
    return {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096, "type": "yarn"} | more


V3 = dict(first_k_dense_replace=3, hidden_size=7168, intermediate_size=18432, model_type="deepseek_v3",
          moe_intermediate_size=2048, n_group=8, n_routed_experts=256, n_shared_experts=1, norm_topk_prob=True,
          num_attention_heads=128, num_experts_per_tok=8, num_hidden_layers=61, num_key_value_heads=128,
          num_nextn_predict_layers=1, q_lora_rank=1536, quantization_config=FP8, rope_scaling=yarn(),
          routed_scaling_factor=2.5, scoring_func="sigmoid", topk_group=4, topk_method="noaux_tc", vocab_size=129280)


def glm(hidden, inter, expert, layers, heads, experts, dense, **more):
    return {"architectures": ["Glm4MoeForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
            "eos_token_id": [151329, 151336, 151338], "first_k_dense_replace": dense, "head_dim": 128,
            "hidden_act": "silu", "hidden_size": hidden, "intermediate_size": inter,
            "max_position_embeddings": 131072, "model_type": "glm4_moe", "moe_intermediate_size": expert,
            "n_group": 1, "n_routed_experts": experts, "n_shared_experts": 1, "norm_topk_prob": True,
            "num_attention_heads": heads, "num_experts_per_tok": 8, "num_hidden_layers": layers,
            "num_key_value_heads": 8, "num_nextn_predict_layers": 1, "pad_token_id": 151329,
            "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 1000000,
            "routed_scaling_factor": 2.5, "tie_word_embeddings": False, "topk_group": 1,
            "transformers_version": "4.54.0", "use_qk_norm": True, "vocab_size": 151552, **BF16} | more


def gpt_oss(layers, experts, **more):
    return {"architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
            "eos_token_id": 200002, "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu",
            "hidden_size": 2880, "initial_context_length": 4096, "initializer_range": 0.02,
            "intermediate_size": 2880, "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
            "max_position_embeddings": 131072, "model_type": "gpt_oss", "num_attention_heads": 64,
            "num_experts_per_tok": 4, "num_hidden_layers": layers, "num_key_value_heads": 8,
            "num_local_experts": experts, "output_router_logits": False, "pad_token_id": 199999,
            "quantization_config": MXFP4, "rms_norm_eps": 1e-05,
            "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                             "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": False},
            "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
            "tie_word_embeddings": False, "transformers_version": "4.55.0.dev0", "use_cache": True,
            "vocab_size": 201088}


MODELS = {  # name: (billions active as the model card says, 0 for all; config.json)
    "Llama-3.1-8B-Instruct": (0, llama(4096, 14336, 32, 32, 8)),
    "Llama-3.3-70B-Instruct": (0, llama(8192, 28672, 80, 64, 8)),
    "Llama-3.2-1B": (0, llama(2048, 8192, 16, 32, 8, head_dim=64, tie_word_embeddings=True,
                              rope_scaling=LLAMA3 | {"factor": 32.0})),
    "Llama-3.2-3B": (0, llama(3072, 8192, 28, 24, 8, head_dim=128, tie_word_embeddings=True,
                              rope_scaling=LLAMA3 | {"factor": 32.0})),
    "DeepSeek-R1-Distill-Llama-8B": (0, llama(4096, 14336, 32, 32, 8, eos_token_id=128001)),
    "Llama-2-7b-hf": (0, llama(4096, 11008, 32, 32, 32, 32000, bos_token_id=1, eos_token_id=2, rope_scaling=None,
                               rope_theta=10000.0, max_position_embeddings=4096)),
    "SmolLM2-135M": (0, llama(576, 1536, 30, 9, 3, 49152, bos_token_id=0, eos_token_id=0, rope_scaling=None,
                              rope_theta=100000, rope_interleaved=False, is_llama_config=True,
                              tie_word_embeddings=True, max_position_embeddings=8192)),
    "Mistral-7B-v0.1": (0, mistral(sliding_window=4096, rope_theta=10000.0, vocab_size=32000)),
    "Mistral-7B-Instruct-v0.3": (0, mistral()),
    "Mistral-Nemo-Instruct-2407": (0, mistral(hidden_size=5120, head_dim=128, num_hidden_layers=40,
                                              max_position_embeddings=131072, vocab_size=131072)),
    "Mixtral-8x7B-Instruct-v0.1": (12.9, mixtral()),
    "Mixtral-8x22B-Instruct-v0.1": (39, mixtral(hidden_size=6144, intermediate_size=16384, num_attention_heads=48,
                                                num_hidden_layers=56, max_position_embeddings=65536,
                                                vocab_size=32768)),
    "Qwen2.5-0.5B-Instruct": (0, qwen2(896, 4864, 24, 14, 2, 151936, tie_word_embeddings=True)),
    "Qwen2.5-7B-Instruct": (0, qwen2(3584, 18944, 28, 28, 4, 152064)),
    "DeepSeek-R1-Distill-Qwen-1.5B": (0, qwen2(1536, 8960, 28, 12, 2, 151936, eos_token_id=151643,
                                               max_position_embeddings=131072, max_window_layers=21,
                                               rope_theta=10000, sliding_window=4096, use_mrope=False)),
    "QwQ-32B": (0, qwen2(5120, 27648, 64, 40, 8, 152064, max_position_embeddings=40960)),
    "Qwen3-0.6B": (0, qwen3(1024, 3072, 28, 16, 8, tie_word_embeddings=True)),
    "Qwen3-4B": (0, qwen3(2560, 9728, 36, 32, 8, tie_word_embeddings=True)),
    "Qwen3-8B": (0, qwen3(4096, 12288, 36, 32, 8)),
    "Qwen3-32B": (0, qwen3(5120, 25600, 64, 64, 8)),
    "Qwen3-30B-A3B": (3.3, qwen3_moe(2048, 6144, 768, 48, 32)),
    "Qwen3-235B-A22B": (22, qwen3_moe(4096, 12288, 1536, 94, 64)),
    "Qwen3-Coder-480B-A35B-Instruct": (35, qwen3_moe(6144, 8192, 2560, 62, 96) | {
        "num_experts": 160, "num_key_value_heads": 8, "max_position_embeddings": 262144, "rope_theta": 10000000,
        "qkv_bias": False, "shared_expert_intermediate_size": 0, "use_qk_norm": True}),
    "Qwen1.5-MoE-A2.7B": (2.7, qwen2(2048, 5632, 24, 16, 16, 151936, architectures=["Qwen2MoeForCausalLM"],
                                     decoder_sparse_step=1, max_position_embeddings=8192, model_type="qwen2_moe",
                                     moe_intermediate_size=1408, norm_topk_prob=False, num_experts=60,
                                     num_experts_per_tok=4, output_router_logits=False, router_aux_loss_coef=0.001,
                                     shared_expert_intermediate_size=5632)),
    "Qwen2-57B-A14B-Instruct": (14, qwen2(3584, 18944, 28, 28, 4, 151936, architectures=["Qwen2MoeForCausalLM"],
                                          decoder_sparse_step=1, model_type="qwen2_moe", moe_intermediate_size=2560,
                                          norm_topk_prob=False, num_experts=64, num_experts_per_tok=8,
                                          output_router_logits=False, router_aux_loss_coef=0.001,
                                          shared_expert_intermediate_size=20480)),
    "OLMoE-1B-7B-0924": (1.3, {
        "architectures": ["OlmoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "clip_qkv": None,
        "eos_token_id": 50279, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 1024,
        "max_position_embeddings": 4096, "model_type": "olmoe", "norm_topk_prob": False, "num_attention_heads": 16,
        "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 16, "num_key_value_heads": 16,
        "output_router_logits": False, "pad_token_id": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
        "rope_theta": 10000.0, "router_aux_loss_coef": 0.01, "tie_word_embeddings": False, "vocab_size": 50304,
        **BF16}),
    "DeepSeek-V2-Lite-Chat": (2.4, deepseek(
        "V2", bos_token_id=100000, eos_token_id=100001, first_k_dense_replace=1, hidden_size=2048,
        intermediate_size=10944, model_type="deepseek_v2", moe_intermediate_size=1408, n_group=1,
        n_routed_experts=64, n_shared_experts=2, norm_topk_prob=False, num_attention_heads=16,
        num_experts_per_tok=6, num_hidden_layers=27, num_key_value_heads=16, q_lora_rank=None,
        rope_scaling=yarn(mscale=0.707, mscale_all_dim=0.707), routed_scaling_factor=1.0, scoring_func="softmax",
        topk_group=1, topk_method="greedy", vocab_size=102400)),
    "DeepSeek-V2-Chat": (21, deepseek(
        "V2", bos_token_id=100000, eos_token_id=100001, first_k_dense_replace=1, hidden_size=5120,
        intermediate_size=12288, model_type="deepseek_v2", moe_intermediate_size=1536, n_group=8,
        n_routed_experts=160, n_shared_experts=2, norm_topk_prob=False, num_attention_heads=128,
        num_experts_per_tok=6, num_hidden_layers=60, num_key_value_heads=128, q_lora_rank=1536,
        rope_scaling=yarn(mscale=0.707, mscale_all_dim=0.707), routed_scaling_factor=16.0,
        scoring_func="softmax", topk_group=3, topk_method="group_limited_greedy", vocab_size=102400)),
    "DeepSeek-V3": (37, deepseek("V3", **V3)),
    "DeepSeek-R1": (37, deepseek("V3", **V3)),
    "DeepSeek-V3.1": (37, deepseek("V3", **V3 | {"quantization_config": FP8 | {"scale_fmt": "ue8m0"}})),
    "Kimi-K2-Instruct": (32, deepseek("V3", **V3 | {
        "bos_token_id": 163584, "eos_token_id": 163585, "first_k_dense_replace": 1, "model_type": "kimi_k2",
        "n_group": 1, "n_routed_experts": 384, "num_attention_heads": 64, "num_key_value_heads": 64,
        "num_nextn_predict_layers": 0, "rope_theta": 50000.0, "max_position_embeddings": 131072,
        "routed_scaling_factor": 2.827, "topk_group": 1, "vocab_size": 163840,
        "rope_scaling": yarn(beta_fast=1.0, beta_slow=1.0, factor=32.0)})),
    "Moonlight-16B-A3B": (2.24, deepseek("V3", **V3 | {
        "bos_token_id": 163584, "eos_token_id": 163585, "first_k_dense_replace": 1, "hidden_size": 2048,
        "intermediate_size": 11264, "max_position_embeddings": 8192, "moe_intermediate_size": 1408, "n_group": 1,
        "n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 16, "num_experts_per_tok": 6,
        "num_hidden_layers": 27, "num_key_value_heads": 16, "num_nextn_predict_layers": 0, "q_lora_rank": None,
        "quantization_config": None, "rope_scaling": None, "rope_theta": 50000.0, "routed_scaling_factor": 2.446,
        "topk_group": 1, "vocab_size": 163840})),
    "GLM-4.5": (32, glm(5120, 12288, 1536, 92, 96, 160, 3)),
    "GLM-4.5-Air": (12, glm(4096, 10944, 1408, 46, 96, 128, 1, routed_scaling_factor=1.0, use_qk_norm=False)),
    "gpt-oss-20b": (3.6, gpt_oss(24, 32)),
    "gpt-oss-120b": (5.1, gpt_oss(36, 128)),
}


def main():
    with open(os.path.join(HERE, "published.jsonl"), "w", encoding="utf-8") as out:
        for name, (active, published) in MODELS.items():
            config = {k: v for k, v in published.items() if k not in ("quantization_config", "auto_map")}
            if config["model_type"] == "kimi_k2":
                config["model_type"] = "deepseek_v3"  # which transformers runs it as
            kind = config.pop("model_type")
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(
                    transformers.AutoConfig.for_model(kind, **config))
            stored = set(model.state_dict())  # with the routers' biases, which are buffers there
            total = sum(t.numel() for t in model.parameters())
            total += sum(t.numel() for name, t in model.named_buffers() if name in stored)
            print(f"{name:32} {total:17,}  {active or ''}")
            json.dump({"name": name, "parameters": total, "active": active, "config": published}, out,
                      separators=(",", ":"))
            out.write("\n")


main()
