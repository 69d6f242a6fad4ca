#!/usr/bin/env python3
"""Makes tests/golden/stored/: weights in the forms checkpoints keep them in, each directory with
config.json, model.safetensors and want.safetensors (f32, by the model's own names; "%d" in a name:
a stack over experts), as the formats' own code turns them into numbers.

    pip install torch==2.15.0 transformers==5.23.0 compressed-tensors==0.20.0 safetensors numpy
    python3 tests/golden/make_stored.py

  fp8        e4m3 under blocks of 128x128, ragged at both ends. DeepSeek's kernel: f32(code) * scale.
             transformers 5.23.0 refuses ragged blocks (its Fp8Dequantize wants the grid to divide
             the weight, which DeepSeek-V3's own 576-row kv_a_proj_with_mqa does not); where blocks
             are whole, this script checks that both agree.
  deepseek   a tiny deepseek_v3 with small blocks and scales of every dtype, an MTP layer after the last
  mxfp4      gpt-oss: transformers.integrations.mxfp4; gate and up rows interleaved, biases
  gpt_oss    the same layout after dequantization: bf16 (E,in,out), interleaved
  fused_*    all experts in one tensor, (E,out,in) and (E,in,out), square ones among them
  int4*      compressed-tensors pack-quantized: its own packing and dequantization in f32 (in bf16,
             the dtype of the scales, it would round the products once more)"""
import json, os
import numpy as np, torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import _convert_moe_packed_tensors

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stored")
gen = torch.Generator().manual_seed(11)


def save(name, config, have, want):
    d = os.path.join(HERE, name)
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    save_file({k: v.contiguous() for k, v in have.items()}, os.path.join(d, "model.safetensors"))
    save_file({k: v.float().contiguous() for k, v in want.items()},
              os.path.join(d, "want.safetensors"))


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=gen).to(dtype)


def codes(*shape):
    """Every e4m3 code but the two that are not numbers."""
    x = torch.randint(0, 254, shape, generator=gen, dtype=torch.uint8)
    return torch.where(x >= 127, x + 1, x).view(torch.float8_e4m3fn)


def fp8(rows, cols, bm, bn, dtype=torch.float32):
    q = codes(rows, cols)
    s = random(-(-rows // bm), -(-cols // bn)).abs() * 0.01 + 1e-4
    if dtype == torch.float8_e8m0fnu:
        s = torch.exp2(torch.round(torch.log2(s)))
    s = s.to(dtype)
    wide = s.float().repeat_interleave(bm, 0)[:rows].repeat_interleave(bn, 1)[:, :cols]
    want = q.float() * wide
    if rows % bm == 0 and cols % bn == 0:
        theirs = Fp8Dequantize(None)._dequantize_one(q, s, torch.float32)
        assert torch.equal(theirs, want)
    return q, s, want


FP8 = dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic")


def make_fp8():
    have, want = {}, {}
    for name, rows, cols in (("a", 130, 133), ("b", 1, 129), ("c", 128, 3)):
        n = f"model.{name}.weight"
        have[n], have[n + "_scale_inv"], want[n] = fp8(rows, cols, 128, 128)
    have["model.norm.weight"] = want["model.norm.weight"] = random(5, dtype=torch.bfloat16)
    save("fp8", dict(model_type="deepseek_v3",
                     quantization_config=dict(FP8, weight_block_size=[128, 128])), have, want)


def make_deepseek():
    c = dict(model_type="deepseek_v3", hidden_size=24, intermediate_size=20, vocab_size=11,
             moe_intermediate_size=10, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=6,
             qk_rope_head_dim=4, v_head_dim=6, n_routed_experts=4, n_shared_experts=1, n_group=2,
             topk_group=1, num_experts_per_tok=2, first_k_dense_replace=1, norm_topk_prob=True,
             routed_scaling_factor=2.5, rms_norm_eps=1e-6, rope_theta=10000.0,
             max_position_embeddings=64, num_nextn_predict_layers=1, tie_word_embeddings=False,
             quantization_config=dict(FP8, weight_block_size=[16, 12], scale_fmt="ue8m0"))
    scales = [torch.float32, torch.bfloat16, torch.float8_e8m0fnu]
    have, want = {}, {}
    plain = lambda n, *shape, dtype=torch.bfloat16: have.update({n: random(*shape, dtype=dtype)})

    def quantized(n, rows, cols):
        s = scales[len(have) % 3]
        have[n], have[n + "_scale_inv"], want[n] = fp8(rows, cols, 16, 12, s)

    def mlp(n, f):
        quantized(n + ".gate_proj.weight", f, 24)
        quantized(n + ".up_proj.weight", f, 24)
        quantized(n + ".down_proj.weight", 24, f)

    plain("model.embed_tokens.weight", 11, 24)
    plain("lm_head.weight", 11, 24)
    plain("model.norm.weight", 24)
    for l in range(3):
        n = f"model.layers.{l}."
        plain(n + "input_layernorm.weight", 24)
        plain(n + "post_attention_layernorm.weight", 24)
        plain(n + "self_attn.q_a_layernorm.weight", 12)
        plain(n + "self_attn.kv_a_layernorm.weight", 8)
        quantized(n + "self_attn.q_a_proj.weight", 12, 24)
        quantized(n + "self_attn.q_b_proj.weight", 20, 12)
        quantized(n + "self_attn.kv_a_proj_with_mqa.weight", 12, 24)
        quantized(n + "self_attn.kv_b_proj.weight", 24, 8)
        quantized(n + "self_attn.o_proj.weight", 24, 12)
        if l == 0:
            mlp(n + "mlp", 20)
            continue
        plain(n + "mlp.gate.weight", 4, 24)
        plain(n + "mlp.gate.e_score_correction_bias", 4, dtype=torch.float32)
        mlp(n + "mlp.shared_experts", 10)
        for e in range(4):
            mlp(n + f"mlp.experts.{e}", 10)
    plain("model.layers.2.eh_proj.weight", 24, 48)  # of the MTP layer alone
    plain("model.layers.2.shared_head.norm.weight", 24)
    for n, x in have.items():
        if not n.endswith("_scale_inv") and n not in want:
            want[n] = x
    want = {n: x for n, x in want.items() if not n.startswith("model.layers.2.")}
    save("deepseek", c, have, want)


def part_names(layer="model.layers.0.mlp.experts"):
    return layer + ".%d.{}_proj.{}", layer + ".{}"


def make_gpt_oss():
    E, F, C = 2, 32, 96
    stack, fused = part_names()
    have, want = {}, {}
    for name, rows, cols in (("gate_up_proj", 2 * F, C), ("down_proj", C, F)):
        blocks = torch.randint(0, 256, (E, rows, cols // 32, 16), generator=gen, dtype=torch.uint8)
        scales = torch.randint(0, 255, (E, rows, cols // 32), generator=gen, dtype=torch.uint8)
        have[fused.format(name) + "_blocks"] = blocks
        have[fused.format(name) + "_scales"] = scales
        have[fused.format(name) + "_bias"] = bias = random(E, rows, dtype=torch.bfloat16)
        full = _convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)  # (E, in, out)
        for part, at in ((("gate", 0), ("up", 1)) if name == "gate_up_proj" else (("down", None),)):
            pick = slice(at, None, 2) if at is not None else slice(None)
            want[stack.format(part, "weight")] = full[:, :, pick].transpose(1, 2)
            want[stack.format(part, "bias")] = bias[:, pick]
    save("mxfp4", dict(model_type="gpt_oss", quantization_config=dict(quant_method="mxfp4")),
         have, want)
    for F, C in ((5, 7), (6, 6)):
        have, want = {}, {}
        up, down = random(E, C, 2 * F, dtype=torch.bfloat16), random(E, F, C, dtype=torch.bfloat16)
        bias = random(E, 2 * F, dtype=torch.bfloat16)
        have = {fused.format("gate_up_proj"): up, fused.format("gate_up_proj_bias"): bias,
                fused.format("down_proj"): down}
        for at, part in enumerate(("gate", "up")):
            want[stack.format(part, "weight")] = up[:, :, at::2].transpose(1, 2)
            want[stack.format(part, "bias")] = bias[:, at::2]
        want[stack.format("down", "weight")] = down.transpose(1, 2)
        save("gpt_oss_square" if F == C else "gpt_oss", dict(model_type="gpt_oss"), have, want)


def make_fused():
    """out: nn.Linear's order, as modules of transformers 5 hold experts; in: transposed."""
    stack, fused = part_names()
    for tag, E, F, C in (("", 2, 270, 3), ("_square_up", 2, 3, 6), ("_square_down", 2, 5, 5)):
        up, down = random(E, 2 * F, C), random(E, C, F)
        want = {stack.format("gate", "weight"): up[:, :F], stack.format("up", "weight"): up[:, F:],
                stack.format("down", "weight"): down}
        for turn in (False, True):
            t = (lambda x: x.transpose(1, 2)) if turn else (lambda x: x)
            save(f"fused_{'in' if turn else 'out'}{tag}", dict(model_type="qwen3_moe"),
                 {fused.format("gate_up_proj"): t(up), fused.format("down_proj"): t(down)}, want)


def make_int4():
    for name, rows, cols, group, dtype in (("int4", 6, 96, 32, torch.bfloat16),
                                           ("int4_channel", 5, 44, None, torch.float16)):
        q = torch.randint(-8, 8, (rows, cols), generator=gen, dtype=torch.int8)
        scale = (random(rows, cols // group if group else 1).abs() + 0.1).to(dtype)
        packed = pack_to_int32(q, 4)
        assert torch.equal(unpack_from_int32(packed, 4, torch.Size((rows, cols))), q)
        n = "model.x.weight"
        have = {n + "_packed": packed, n + "_scale": scale,
                n + "_shape": torch.tensor([rows, cols])}
        weights = dict(num_bits=4, type="int", symmetric=True, dynamic=False, actorder=None,
                       strategy="group" if group else "channel", group_size=group)
        want = {n: dequantize(x_q=q, scale=scale.float(), args=QuantizationArgs(**weights))}
        groups = dict(group_0=dict(targets=["Linear"], weights=weights, input_activations=None))
        save(name, dict(model_type="kimi_k2", quantization_config=dict(
            quant_method="compressed-tensors", format="pack-quantized", ignore=["lm_head"],
            config_groups=groups, quantization_status="compressed")), have, want)


make_fp8()
make_deepseek()
make_gpt_oss()
make_fused()
make_int4()
