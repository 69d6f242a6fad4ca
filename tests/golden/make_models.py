#!/usr/bin/env python3
"""Makes tests/golden/models/: tiny random checkpoints with the logits, chosen experts and gradients
that Hugging Face transformers computes for them. models/README.md says what each file is.

    pip install torch==2.15.0 transformers==5.23.0 safetensors numpy     (what made the files)
    python3 tests/golden/make_models.py                                  (about a minute)

Every number is a function of this file: weights and tokens come from numpy's PCG64 seeded by the
model's name. The reference is computed in float64 throughout: transformers casts norms, softmax,
routers and rotary angles to float32 whatever the model's dtype, so its modules get a `torch` whose
float32 is float64 (class Wide). Weights are first rounded to the dtype they are stored in.

Where transformers disagreed with DeepSeek's own code over time, 5.23.0 does what we want, and this
script checks it (check_router) instead of trusting it:
  - groups that are not kept are masked with -inf, not 0.0 (they differ where a kept expert's biased
    score is negative; the biases here are chosen so that this happens);
  - the weights of chosen experts are the scores without the selection bias (wrong in 4.57.0);
  - the norms inside q_a and kv_a use eps 1e-6 whatever rms_norm_eps says (as DeepSeek's code);
  - with yarn, the softmax scale carries mscale_all_dim squared.
Gradients are checked against differences of the loss along one random direction a weight; that is
how it showed that torch drops the gradient of the pad row (padding_idx), which build() takes out.
Refused: any model in which a choice of experts hangs on less than 1e-4 in float64."""
import importlib, json, os, shutil, sys, zlib
import numpy as np, torch, transformers
from safetensors.numpy import save_file
from safetensors.torch import load_file, save_file as save_torch
from transformers import AutoModelForCausalLM, modeling_rope_utils
from transformers.integrations.mxfp4 import _convert_moe_packed_tensors

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
ALIAS = {"kimi_k2": "deepseek_v3"}  # the same computation under another model_type
# Of these logits.npy has every position, and expert_weights.npy is kept.
WHOLE = ("deepseek_q", "deepseek_yarn", "qwen3_moe_norm", "qwen3_moe_step", "llama_scaled",
         "llama_tied", "qwen3", "qwen3_tied")
SIGMOID = ("deepseek_v3", "kimi_k2", "glm4_moe")
STEP = 8  # of the others the last position and every eighth before it
FLOAT = torch.Tensor.float

MLA = dict(num_hidden_layers=3, first_k_dense_replace=1, num_nextn_predict_layers=0)
SMALL = dict(num_hidden_layers=2, hidden_size=32, intermediate_size=40, max_position_embeddings=256)
MOE = dict(SMALL, hidden_size=24, intermediate_size=30, moe_intermediate_size=10)
DEEP = dict(MOE, num_hidden_layers=2, first_k_dense_replace=1, num_nextn_predict_layers=0,
            num_attention_heads=3, num_key_value_heads=3, kv_lora_rank=14, qk_nope_head_dim=8,
            qk_rope_head_dim=8, v_head_dim=10)


OSS = dict(num_hidden_layers=3, max_position_embeddings=512, rms_norm_eps=1e-5,
           tie_word_embeddings=False)


def plain(theta):
    return {"rope_type": "default", "rope_theta": theta}


def yarn(factor, **more):
    return {"rope_type": "yarn", "rope_theta": 10000.0, "factor": factor,
            "original_max_position_embeddings": 32, **more}


# name: (model_type, stored dtype, tokens, bytes a shard, old config.json, gradients, config)
MODELS = {
    "deepseek_q": ("deepseek_v3", "bfloat16", 101, None, False, True, dict(
        MLA, vocab_size=97, hidden_size=48, intermediate_size=70, moe_intermediate_size=12,
        num_attention_heads=3, num_key_value_heads=3, q_lora_rank=28, kv_lora_rank=18,
        qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=14, n_routed_experts=12, n_group=3,
        topk_group=2, num_experts_per_tok=3, n_shared_experts=2, norm_topk_prob=True,
        routed_scaling_factor=2.5, rms_norm_eps=1e-5, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
    "deepseek_yarn": ("deepseek_v3", "float32", 131, 60000, True, False, dict(
        MLA, num_hidden_layers=2, vocab_size=103, hidden_size=40, intermediate_size=56,
        moe_intermediate_size=12, num_attention_heads=2, num_key_value_heads=2, q_lora_rank=None,
        kv_lora_rank=20, qk_nope_head_dim=10, qk_rope_head_dim=16, v_head_dim=12,
        n_routed_experts=16, n_group=4, topk_group=2, num_experts_per_tok=5, n_shared_experts=1,
        norm_topk_prob=False, routed_scaling_factor=1.75, rms_norm_eps=1e-6,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                         "original_max_position_embeddings": 64, "beta_fast": 4, "beta_slow": 1,
                         "mscale": 1.0, "mscale_all_dim": 0.75})),
    "qwen3_moe_norm": ("qwen3_moe", "bfloat16", 101, None, False, False, dict(
        vocab_size=131, hidden_size=48, intermediate_size=60, moe_intermediate_size=14,
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        num_experts=10, num_experts_per_tok=3, norm_topk_prob=True, decoder_sparse_step=1,
        mlp_only_layers=[1], max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})),
    "qwen3_moe_step": ("qwen3_moe", "float32", 97, None, True, True, dict(
        vocab_size=101, hidden_size=36, intermediate_size=44, moe_intermediate_size=14,
        num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3, head_dim=10,
        num_experts=7, num_experts_per_tok=2, norm_topk_prob=False, decoder_sparse_step=2,
        mlp_only_layers=[], max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
    "llama_scaled": ("llama", "float32", 113, None, True, False, dict(
        vocab_size=113, hidden_size=48, intermediate_size=88, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=2, rms_norm_eps=1e-5,
        max_position_embeddings=512, tie_word_embeddings=False,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64})),
    "llama_tied": ("llama", "bfloat16", 97, None, False, True, dict(
        vocab_size=107, hidden_size=36, intermediate_size=52, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=10, rms_norm_eps=1e-5,
        max_position_embeddings=256, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0})),
    "qwen3": ("qwen3", "bfloat16", 101, 20000, False, True, dict(
        vocab_size=109, hidden_size=40, intermediate_size=68, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=14, rms_norm_eps=1e-6,
        max_position_embeddings=256, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})),
    "qwen3_tied": ("qwen3", "float32", 97, None, True, False, dict(
        vocab_size=127, hidden_size=32, intermediate_size=44, num_hidden_layers=2,
        num_attention_heads=5, num_key_value_heads=5, head_dim=8, rms_norm_eps=1e-6,
        max_position_embeddings=256, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
    "qwen2_window": ("qwen2", "bfloat16", 97, None, False, True, dict(
        SMALL, num_hidden_layers=3, vocab_size=61, num_attention_heads=4, num_key_value_heads=2,
        rms_norm_eps=1e-6, use_sliding_window=True, sliding_window=19, max_window_layers=1,
        rope_parameters=plain(1000000.0))),
    "qwen2_tied": ("qwen2", "float32", 101, None, True, False, dict(
        SMALL, hidden_size=36, vocab_size=53, num_attention_heads=3, num_key_value_heads=1,
        rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=plain(10000.0))),
    "qwen2_yarn": ("qwen2", "bfloat16", 113, None, True, False, dict(
        SMALL, hidden_size=40, vocab_size=59, num_attention_heads=4, num_key_value_heads=4,
        rms_norm_eps=1e-5, rope_parameters=yarn(4.0))),
    "mistral_window": ("mistral", "bfloat16", 97, None, False, True, dict(
        SMALL, vocab_size=61, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
        rms_norm_eps=1e-5, sliding_window=16, rope_parameters=plain(10000.0))),
    "mistral_plain": ("mistral", "float32", 101, None, True, False, dict(
        SMALL, hidden_size=30, vocab_size=57, num_attention_heads=5, num_key_value_heads=1,
        head_dim=6, rms_norm_eps=1e-5, sliding_window=None, rope_parameters=plain(1000000.0))),
    "mistral_long": ("mistral", "bfloat16", 131, None, True, False, dict(
        SMALL, hidden_size=36, vocab_size=63, num_attention_heads=6, num_key_value_heads=3,
        head_dim=6, rms_norm_eps=1e-5, sliding_window=70, rope_parameters=plain(10000.0))),
    "mixtral_two": ("mixtral", "bfloat16", 97, None, False, False, dict(
        SMALL, hidden_size=24, intermediate_size=14, vocab_size=61, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=8, num_experts_per_tok=2,
        rms_norm_eps=1e-5, sliding_window=None, rope_parameters=plain(1000000.0))),
    "mixtral_window": ("mixtral", "float32", 101, None, True, False, dict(
        SMALL, hidden_size=24, intermediate_size=10, vocab_size=53, num_attention_heads=3,
        num_key_value_heads=1, head_dim=8, num_local_experts=5, num_experts_per_tok=3,
        rms_norm_eps=1e-5, sliding_window=24, rope_parameters=plain(10000.0))),
    "mixtral_one": ("mixtral", "bfloat16", 99, 20000, True, False, dict(
        SMALL, num_hidden_layers=3, hidden_size=20, intermediate_size=12, vocab_size=47,
        num_attention_heads=2, num_key_value_heads=2, head_dim=10, num_local_experts=4,
        num_experts_per_tok=1, rms_norm_eps=1e-5, sliding_window=None, tie_word_embeddings=True,
        rope_parameters=plain(10000.0))),
    "qwen2_moe_gate": ("qwen2_moe", "bfloat16", 97, None, False, True, dict(
        MOE, vocab_size=61, num_attention_heads=4, num_key_value_heads=2, num_experts=6,
        num_experts_per_tok=2, shared_expert_intermediate_size=18, norm_topk_prob=False,
        rms_norm_eps=1e-6, rope_parameters=plain(1000000.0))),
    "qwen2_moe_mean": ("qwen2_moe", "float32", 101, None, True, False, dict(
        MOE, vocab_size=53, num_attention_heads=3, num_key_value_heads=1, num_experts=9,
        num_experts_per_tok=4, shared_expert_intermediate_size=22, norm_topk_prob=True,
        rms_norm_eps=1e-6, rope_parameters=plain(10000.0))),
    "qwen2_moe_step": ("qwen2_moe", "bfloat16", 99, None, True, False, dict(
        MOE, num_hidden_layers=4, vocab_size=57, num_attention_heads=2, num_key_value_heads=2,
        num_experts=5, num_experts_per_tok=1, shared_expert_intermediate_size=14,
        norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[1], rms_norm_eps=1e-6,
        tie_word_embeddings=True, rope_parameters=plain(10000.0))),
    "olmoe": ("olmoe", "bfloat16", 97, None, False, True, dict(
        SMALL, hidden_size=24, intermediate_size=10, vocab_size=61, num_attention_heads=4,
        num_key_value_heads=4, num_experts=8, num_experts_per_tok=3, norm_topk_prob=False,
        rms_norm_eps=1e-5, rope_parameters=plain(10000.0))),
    "olmoe_two": ("olmoe", "float32", 101, None, True, False, dict(
        SMALL, hidden_size=24, intermediate_size=12, vocab_size=53, num_attention_heads=6,
        num_key_value_heads=2, num_experts=5, num_experts_per_tok=2, norm_topk_prob=True,
        rms_norm_eps=1e-5, rope_parameters=plain(10000.0))),
    "olmoe_biases": ("olmoe", "bfloat16", 99, None, True, False, dict(
        SMALL, hidden_size=30, intermediate_size=10, vocab_size=57, num_attention_heads=3,
        num_key_value_heads=1, num_experts=6, num_experts_per_tok=2, norm_topk_prob=False,
        attention_bias=True, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters=plain(1000000.0))),
    "deepseek_lite": ("deepseek_v2", "bfloat16", 113, None, True, True, dict(
        DEEP, vocab_size=61, q_lora_rank=None, n_routed_experts=8, num_experts_per_tok=3,
        n_shared_experts=2, topk_method="greedy", n_group=1, topk_group=1, norm_topk_prob=False,
        routed_scaling_factor=1.0, rms_norm_eps=1e-6,
        rope_parameters=yarn(8.0, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.707))),
    "deepseek_limited": ("deepseek_v2", "float32", 101, None, True, False, dict(
        DEEP, vocab_size=53, num_attention_heads=2, num_key_value_heads=2, q_lora_rank=16,
        n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3, n_shared_experts=1,
        topk_method="group_limited_greedy", norm_topk_prob=False, routed_scaling_factor=4.0,
        rms_norm_eps=1e-6, rope_parameters=plain(10000.0))),
    "deepseek_greedy": ("deepseek_v2", "bfloat16", 97, None, False, False, dict(
        DEEP, vocab_size=57, q_lora_rank=18, n_routed_experts=6, n_group=3, topk_group=1,
        num_experts_per_tok=2, n_shared_experts=1, topk_method="greedy", norm_topk_prob=False,
        routed_scaling_factor=2.0, rms_norm_eps=1e-5, rope_parameters=plain(50000.0))),
    "glm4_moe": ("glm4_moe", "bfloat16", 97, None, False, True, dict(
        MOE, vocab_size=61, num_attention_heads=4, num_key_value_heads=2, head_dim=12,
        n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=1, n_group=1, topk_group=1,
        norm_topk_prob=True, routed_scaling_factor=2.5, first_k_dense_replace=1,
        attention_bias=True, use_qk_norm=True, rms_norm_eps=1e-5, num_mtp_layers=0,
        rope_parameters=dict(plain(1000000.0), partial_rotary_factor=0.5))),
    "glm4_moe_bias": ("glm4_moe", "float32", 101, None, True, False, dict(
        MOE, vocab_size=53, num_attention_heads=3, num_key_value_heads=1, head_dim=8,
        n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=1, n_group=1, topk_group=1,
        norm_topk_prob=True, routed_scaling_factor=1.0, first_k_dense_replace=1,
        attention_bias=True, use_qk_norm=False, rms_norm_eps=1e-5, num_mtp_layers=0,
        rope_parameters=dict(plain(10000.0), partial_rotary_factor=0.5))),
    "glm4_moe_twelve": ("glm4_moe", "bfloat16", 99, None, True, False, dict(
        MOE, num_hidden_layers=3, vocab_size=57, num_attention_heads=2, num_key_value_heads=2,
        head_dim=16, n_routed_experts=12, num_experts_per_tok=4, n_shared_experts=2, n_group=3,
        topk_group=2, norm_topk_prob=False, routed_scaling_factor=1.5, first_k_dense_replace=2,
        attention_bias=False, use_qk_norm=True, rms_norm_eps=1e-5, num_mtp_layers=0,
        tie_word_embeddings=True,
        rope_parameters=dict(plain(10000.0), partial_rotary_factor=0.25))),
    "deepseek_r1": ("deepseek_v3", "float32", 113, None, True, False, dict(
        DEEP, vocab_size=59, q_lora_rank=16, n_routed_experts=8, n_group=2, topk_group=1,
        num_experts_per_tok=2, n_shared_experts=1, norm_topk_prob=True, routed_scaling_factor=2.5,
        rms_norm_eps=1e-6,
        rope_parameters=yarn(4.0, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0))),
    "kimi_k2": ("kimi_k2", "bfloat16", 113, None, True, False, dict(
        DEEP, vocab_size=61, q_lora_rank=18, n_routed_experts=12, n_group=1, topk_group=1,
        num_experts_per_tok=4, n_shared_experts=1, norm_topk_prob=True,
        routed_scaling_factor=2.827, rms_norm_eps=1e-5,
        rope_parameters=yarn(8.0, beta_fast=1, beta_slow=1, mscale=1.0, mscale_all_dim=1.0))),
    "kimi_k2_plain": ("kimi_k2", "float32", 97, None, True, False, dict(
        DEEP, vocab_size=53, num_attention_heads=2, num_key_value_heads=2, q_lora_rank=16,
        n_routed_experts=7, n_group=1, topk_group=1, num_experts_per_tok=2, n_shared_experts=1,
        norm_topk_prob=True, routed_scaling_factor=2.827, rms_norm_eps=1e-6,
        rope_parameters=plain(50000.0))),
    "kimi_k2_three": ("kimi_k2", "bfloat16", 99, None, True, False, dict(
        DEEP, num_hidden_layers=3, vocab_size=57, q_lora_rank=12, n_routed_experts=5, n_group=1,
        topk_group=1, num_experts_per_tok=3, n_shared_experts=2, norm_topk_prob=True,
        routed_scaling_factor=2.446, rms_norm_eps=1e-6, rope_parameters=plain(50000.0))),
    "llama_linear": ("llama", "bfloat16", 107, 20000, True, False, dict(
        SMALL, vocab_size=61, hidden_size=36, num_attention_heads=6, num_key_value_heads=3,
        rms_norm_eps=1e-6, attention_bias=True, tie_word_embeddings=False,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5})),
    "qwen3_window": ("qwen3", "bfloat16", 99, None, False, False, dict(
        SMALL, num_hidden_layers=4, vocab_size=59, num_attention_heads=6, num_key_value_heads=2,
        head_dim=10, rms_norm_eps=1e-6, use_sliding_window=True, sliding_window=24,
        layer_types=["full_attention", "sliding_attention"] * 2, attention_bias=True,
        rope_parameters=plain(1000000.0))),
    "qwen3_moe_stretch": ("qwen3_moe", "bfloat16", 121, None, True, False, dict(
        MOE, vocab_size=57, num_attention_heads=4, num_key_value_heads=1, head_dim=8,
        num_experts=6, num_experts_per_tok=3, norm_topk_prob=True, decoder_sparse_step=1,
        mlp_only_layers=[], tie_word_embeddings=True, attention_bias=True, rms_norm_eps=1e-5,
        rope_parameters=yarn(4.0))),
    # limits near 1 instead of 7: many gates and ups are clamped
    "gpt_oss_clamped": ("gpt_oss", "bfloat16", 113, None, False, True, dict(
        OSS, hidden_size=24, intermediate_size=10, vocab_size=61, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=6, num_experts_per_tok=2,
        sliding_window=17, swiglu_limit=1.25,
        rope_parameters=yarn(8.0, truncate=False, beta_fast=32, beta_slow=1))),
    "gpt_oss_full": ("gpt_oss", "float32", 97, None, False, False, dict(
        OSS, hidden_size=20, intermediate_size=12, vocab_size=53, num_attention_heads=3,
        num_key_value_heads=1, head_dim=10, num_local_experts=5, num_experts_per_tok=4,
        sliding_window=40, swiglu_limit=0.9, swiglu_alpha=1.5, rope_parameters=plain(150000.0),
        layer_types=["full_attention", "full_attention", "sliding_attention"])),
    "gpt_oss_mxfp4": ("gpt_oss", "bfloat16", 101, None, True, False, dict(
        OSS, num_hidden_layers=2, hidden_size=64, intermediate_size=32, vocab_size=57,
        num_attention_heads=4, num_key_value_heads=2, head_dim=10, num_local_experts=4,
        num_experts_per_tok=1, sliding_window=16,
        rope_parameters=yarn(32.0, truncate=False, beta_fast=32, beta_slow=1))),
}
MXFP4 = ("gpt_oss_mxfp4",)  # experts in codes and scales on disk


class Wide:
    """torch with float64 in place of float32."""
    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def widen(module, wide):
    for m in (module, modeling_rope_utils):
        m.torch = Wide() if wide else torch
    torch.Tensor.float = torch.Tensor.double if wide else FLOAT


def make_config(kind, values, dtype):
    cls = transformers.AutoConfig.for_model(ALIAS.get(kind, kind)).__class__
    return cls(**values, bos_token_id=0, eos_token_id=1, pad_token_id=2, dtype=dtype)


def build(config, kind, wide):
    kind = ALIAS.get(kind, kind)
    widen(importlib.import_module(f"transformers.models.{kind}.modeling_{kind}"), wide)
    torch.set_default_dtype(torch.float64 if wide else torch.float32)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager",
                                             experts_implementation="eager")
    model = (model.double() if wide else model.float()).eval()
    model.model.embed_tokens.padding_idx = None  # else autograd drops the gradient of the pad row
    torch.set_default_dtype(torch.float32)
    return model


def draw_weights(name, model, kind, dtype):
    """One draw a tensor, scaled so that logits spread over several units and routers disagree."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tied = model.config.tie_word_embeddings
    state, bias, codes = {}, [], {}
    for key, old in model.state_dict().items():
        shape, z = tuple(old.shape), rng.standard_normal(tuple(old.shape))
        if key.endswith("e_score_correction_bias"):
            state[key] = torch.from_numpy(np.float32(0.3 * z - 0.45))  # both signs; f32 on disk
            bias.append(state[key])
            continue
        if name in MXFP4 and "mlp.experts" in key and not key.endswith("_bias"):
            e, cols, rows = shape
            codes[key + "_blocks"] = blocks = torch.from_numpy(
                rng.integers(0, 256, (e, rows, cols // 32, 16), dtype=np.uint8))
            codes[key + "_scales"] = scales = torch.from_numpy(
                rng.integers(121, 127, (e, rows, cols // 32), dtype=np.uint8))
            state[key] = _convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
            continue
        if key.endswith((".bias", "_bias")):
            z = 0.5 * z
        elif key.endswith("sinks"):
            z = 1.5 * z
        elif len(shape) == 1:
            z = 1 + 0.25 * z
        elif key.endswith("embed_tokens.weight"):
            z = z * (0.5 if tied else 1.0)
        elif key.endswith("lm_head.weight"):
            z = z * 2.5 / np.sqrt(shape[1])
        elif key.endswith(("mlp.gate.weight", "mlp.router.weight")):
            z = z * (2.5 if kind in SIGMOID else 1.5) / np.sqrt(shape[1])
        elif any(p in key for p in ("q_proj", "k_proj", "q_b_proj")):
            z = z * 1.6 / np.sqrt(shape[1])
        else:  # gpt-oss keeps stacks the other way round
            z = z * 1.2 / np.sqrt(shape[-2] if kind == "gpt_oss" and len(shape) == 3 else shape[-1])
        state[key] = torch.from_numpy(z).to(getattr(torch, dtype))
    assert not bias or min(map(torch.min, bias)) < 0 < max(map(torch.max, bias))
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    return state, codes


def forward(model, tokens):
    """logits (T, V), experts (Lmoe, T, A) ascending, their weights, the routers' outputs."""
    seen, hooks = [], []
    for layer in model.model.layers:
        router = getattr(layer.mlp, "gate", getattr(layer.mlp, "router", None))
        if router:
            hooks.append(router.register_forward_hook(
                lambda mod, args, out: seen.append((mod, [o.detach() for o in out]))))
    logits = model(torch.from_numpy(tokens)[None].long(), use_cache=False).logits[0]
    for h in hooks:
        h.remove()
    experts, weights = [], []
    for _, (_, w, ids) in seen:
        order = ids.argsort(dim=-1)
        experts.append(ids.gather(1, order).numpy().astype(np.int32))
        weights.append(w.gather(1, order).double().numpy())
    return logits, np.array(experts), np.array(weights), seen


def check_router(name, config, seen, experts, weights):
    """The original rule in numpy, from the router's logits alone; margins; does the mask matter?"""
    if not seen:
        return
    gap, differs, load = np.inf, 0, []
    for (module, (logits, _, _)), got, got_w in zip(seen, experts, weights):
        logits = logits.double().numpy()
        active = got.shape[1]
        grouped = getattr(config, "topk_method", None) != "greedy" and getattr(config, "n_group", 1)
        if config.model_type in SIGMOID:
            score = 1 / (1 + np.exp(-logits))
            choice = score + module.e_score_correction_bias.double().numpy()
            groups, kept = config.n_group, config.topk_group
            best2 = np.sort(choice.reshape(len(choice), groups, -1), -1)[..., -2:].sum(-1)
            rank = np.sort(best2, -1)
            if kept < groups:
                gap = min(gap, (rank[:, -kept] - rank[:, -kept - 1]).min())
            keep = np.repeat(best2 >= rank[:, -kept, None], choice.shape[1] // groups, axis=1)
            zero = np.where(keep, choice, 0.0)
            choice = np.where(keep, choice, -np.inf)
            other = np.sort(np.argsort(-zero, -1, kind="stable")[:, :active], -1)
        else:
            score = np.exp(logits - logits.max(-1, keepdims=True))
            score /= score.sum(-1, keepdims=True)
            choice, other = score, None
            if grouped and grouped > 1:  # DeepSeek-V2: the best of a group
                best = score.reshape(len(score), grouped, -1).max(-1)
                rank = np.sort(best, -1)
                kept = config.topk_group
                gap = min(gap, (rank[:, -kept] - rank[:, -kept - 1]).min())
                keep = np.repeat(best >= rank[:, -kept, None], score.shape[1] // grouped, axis=1)
                choice = np.where(keep, score, -np.inf)
        order = np.argsort(-choice, -1, kind="stable")
        ranked = np.take_along_axis(choice, order, -1)
        gap = min(gap, (ranked[:, active - 1] - ranked[:, active]).min())
        want = np.sort(order[:, :active], -1)
        assert (want == got).all(), f"{name}: transformers chose other experts than the rule"
        w = np.take_along_axis(score, want, -1)
        if getattr(config, "norm_topk_prob", True):  # Mixtral always does
            w = w / (w.sum(-1, keepdims=True) + 1e-20)
        w = w * getattr(config, "routed_scaling_factor", 1.0)
        assert np.abs(w - got_w).max() < 1e-12, f"{name}: transformers weighs experts differently"
        differs += 0 if other is None else int((other != want).any(-1).sum())
        load.append(np.bincount(got.ravel(), minlength=score.shape[1]))
    assert gap > 1e-4, f"{name}: a choice hangs on {gap:.1e}; change the name (the seed)"
    assert config.model_type not in SIGMOID or config.n_group == 1 or differs > 0, f"{name}: the mask never matters"
    print(f"  smallest margin of a choice {gap:.1e}; a 0.0 mask would differ at {differs} rows; "
          f"rows per expert {[l.tolist() for l in load]}")


def check_gradients(name, model, tokens):
    """Central differences of the loss along one random direction a parameter."""
    rng, labels = np.random.default_rng(1), torch.from_numpy(tokens[1:]).long()
    for key, p in model.named_parameters():
        z, ends = torch.from_numpy(rng.standard_normal(tuple(p.shape))), []
        for step in (3e-7, -6e-7):
            with torch.no_grad():
                p += step * z
                logits = model(torch.from_numpy(tokens)[None].long(), use_cache=False).logits[0]
                ends.append(torch.nn.functional.cross_entropy(logits[:-1], labels).item())
        with torch.no_grad():
            p += 3e-7 * z
        want, got = (ends[0] - ends[1]) / 6e-7, (p.grad * z).sum().item()
        assert abs(got - want) < 1e-5 * (abs(want) + 1e-2), f"{name}: {key}: {got} is not {want}"


def disk_names(grads):
    """transformers 5 keeps experts fused in memory; on disk and here they are one by one."""
    out = {}
    transposed = any("mlp.router" in key for key in grads)  # gpt-oss: (E, in, out), gate and up interleaved
    for key, g in grads.items():
        base, _, part = key.rpartition(".experts.")
        if transposed and base:
            rows = g.swapaxes(1, 2) if g.ndim == 3 else g
            kind = "bias" if part.endswith("_bias") else "weight"
            for e in range(g.shape[0]):
                name = f"{base}.experts.{e}."
                if part.startswith("down"):
                    out[f"{name}down_proj.{kind}"] = rows[e]
                else:
                    out[f"{name}gate_proj.{kind}"] = rows[e, 0::2]
                    out[f"{name}up_proj.{kind}"] = rows[e, 1::2]
        elif key.endswith("experts.gate_up_proj"):
            base = key[:-len("gate_up_proj")]
            for e in range(g.shape[0]):
                half = g.shape[1] // 2
                out[f"{base}{e}.gate_proj.weight"] = g[e, :half]
                out[f"{base}{e}.up_proj.weight"] = g[e, half:]
        elif key.endswith("experts.down_proj"):
            base = key[:-len("down_proj")]
            for e in range(g.shape[0]):
                out[f"{base}{e}.down_proj.weight"] = g[e]
        else:
            out[key] = g
    return {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in sorted(out.items())}


def pack(out, codes):
    """The experts of a saved model as codes and scales, as OpenAI publishes them."""
    path = f"{out}/model.safetensors"
    state = {k: v for k, v in load_file(path).items() if k + "_blocks" not in codes}
    save_torch(dict(state, **codes), path, metadata={"format": "pt"})
    config = json.load(open(f"{out}/config.json"))
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    json.dump(config, open(f"{out}/config.json", "w"), indent=2, sort_keys=True)
    open(f"{out}/config.json", "a").write("\n")


def old_config(path):
    """config.json as published checkpoints have it: rope_theta and rope_scaling beside each other,
    torch_dtype, rope type as `type` for yarn (DeepSeek) and `rope_type` for llama3 (Meta), the
    number of experts under its published name (5.23 writes qwen3_moe's as num_local_experts)."""
    config = json.load(open(path))
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    if kind == "default":
        config["rope_scaling"] = None
    else:
        config["rope_scaling"] = {("type" if kind == "yarn" else "rope_type"): kind, **rope}
    kind = config["model_type"]
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if kind == "llama":
        del config["head_dim"]  # width / heads here
    if kind.startswith("qwen"):
        config.pop("layer_types", None)
    local = config.pop("num_local_experts", None)
    if local:
        name = {"mixtral": "num_local_experts", "gpt_oss": "num_local_experts",
                "glm4_moe": "n_routed_experts"}
        config[name.get(kind, "num_experts")] = local
    if kind.startswith("deepseek"):
        for key in ("head_dim", "qk_head_dim", "rope_interleave"):
            config.pop(key, None)
        config.update(moe_layer_freq=1, ep_size=1)
    if kind == "deepseek_v2":
        config.update(scoring_func="softmax")
    if kind == "deepseek_v3":
        config.update(scoring_func="sigmoid", topk_method="noaux_tc")
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    json.dump(config, open(path, "w"), indent=2, sort_keys=True)
    open(path, "a").write("\n")


def make(name):
    kind, dtype, length, shard, old, gradients, values = MODELS[name]
    print(name)
    out = os.path.join(HERE, name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    config = make_config(kind, values, dtype)
    model = build(config, kind, wide=True)
    state, codes = draw_weights(name, model, kind, dtype)
    model.load_state_dict(state)
    rng = np.random.default_rng(zlib.crc32(name.encode()) + 1)
    tokens = rng.integers(0, config.vocab_size, length).astype(np.int32)
    logits, experts, weights, seen = forward(model, tokens)
    check_router(name, config, seen, experts, weights)
    np.save(f"{out}/tokens.npy", tokens)
    kept = logits if name in WHOLE else logits[(length - 1) % STEP::STEP]
    np.save(f"{out}/logits.npy", kept.detach().numpy().astype(np.float32))
    if seen:
        np.save(f"{out}/experts.npy", experts)
    if seen and name in WHOLE:
        np.save(f"{out}/expert_weights.npy", weights.astype(np.float32))
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.from_numpy(tokens[1:]).long())
    if gradients:
        loss.backward()
        check_gradients(name, model, tokens)
        grads = {k: p.grad.numpy() for k, p in model.named_parameters()}
        grads = disk_names(grads)
        last = f"layers.{len(model.model.layers) - 1}.mlp.experts."  # left out: size
        grads = {k: g for k, g in grads.items() if last not in k}
        assert all(np.abs(g).max() > 0 for k, g in grads.items() if ".experts." not in k)
        grads["loss"] = np.array([loss.item()], np.float32)
        save_file(grads, f"{out}/gradients.safetensors")

    # The checkpoint itself, through transformers' own writer.
    plain = build(config, kind, wide=False)
    plain.load_state_dict(state)
    plain = plain.to(getattr(torch, dtype))
    for key, value in plain.state_dict().items():
        assert key.endswith("e_score_correction_bias") or torch.equal(value, state[key]), key
    for layer in plain.model.layers:
        gate = getattr(layer.mlp, "gate", None)
        if hasattr(gate, "e_score_correction_bias"):
            i = layer.self_attn.layer_idx
            gate.e_score_correction_bias = torch.nn.Buffer(
                state[f"model.layers.{i}.mlp.gate.e_score_correction_bias"])
    plain.save_pretrained(out, max_shard_size=shard or "1GB")
    if old:
        old_config(f"{out}/config.json")
    if codes:
        pack(out, codes)

    # transformers as installed, float32, from the files: what a user would see.
    torch.set_default_dtype(torch.float32)
    # (its default grouped experts refuse widths that are no multiple of 16 bytes: eager)
    again = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32,
                                                 attn_implementation="eager",
                                                 experts_implementation="eager")
    with torch.no_grad():
        f32, f32_experts, _, _ = forward(again.eval(), tokens)
    error = (f32.double() - logits).abs().max() / logits.abs().max()
    assert error < 2e-5, f"{name}: float32 from the files is {error:.1e} away"
    assert (f32_experts == experts).all(), f"{name}: float32 chooses other experts"
    if kind in ALIAS:
        config = open(f"{out}/config.json").read()
        open(f"{out}/config.json", "w").write(config.replace(f'"{ALIAS[kind]}"', f'"{kind}"'))
    size = sum(os.path.getsize(f"{out}/{f}") for f in os.listdir(out))
    print(f"  {plain.num_parameters()} parameters, {size} bytes, loss {loss.item():.4f}, logits "
          f"{logits.min():.1f} .. {logits.max():.1f}, float32 off by {error:.1e}")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    for model_name in sys.argv[1:] or MODELS:
        make(model_name)
