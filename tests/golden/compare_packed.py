#!/usr/bin/env python3
"""What others make of the directories that `retort quantize --format` writes, by hand:

    pip install torch transformers compressed-tensors safetensors gguf numpy; pip install --no-deps autoawq
    python3 tests/golden/compare_packed.py build/retort MODEL_DIR [GROUP_OF_AWQ]

MODEL_DIR: a llama, qwen2 or qwen3 whose rows 32 (and AWQ's group) divide.
  compressed-tensors  loaded by transformers and decompressed by its package: every value is that of the Q4_0 GGUF
                      (by the gguf package) rounded to f16; logits beside retort's
  gptq                read by numpy as GPTQModel's kernels read it (v1: zeros plus 1): the same values
  awq                 unpacked by AutoAWQ's own packing_utils: near the source's weights, and as retort reads them"""
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

retort, model = sys.argv[1:3]
awq_group = sys.argv[3] if len(sys.argv) > 3 else "64"
work = tempfile.mkdtemp()
LAYERS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
          "mlp.down_proj"]


def quantize(*words):
    out = os.path.join(work, str(len(os.listdir(work))))
    subprocess.run([retort, "-q", "quantize", "--model", model, "--out", out, *words, "--no-card"], check=True)
    return out


def halves(word):
    return np.stack([(word.view(np.uint32) >> np.uint32(4 * i)) & 15 for i in range(8)], -1).astype(np.int32)


config = json.load(open(os.path.join(model, "config.json")))
heads = {"self_attn.q_proj": config["num_attention_heads"], "self_attn.k_proj": config["num_key_value_heads"]}

reader = gguf.GGUFReader(quantize("--type", "Q4_0", "--pure", "--no-modelfile"))
names = dict(zip(LAYERS, ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]))
tensors = {t.name: t for t in reader.tensors}


def q4_0(layer, name):
    t = tensors[f"blk.{layer}.{names[name]}.weight"]
    x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
    if name in heads and config["model_type"] == "llama":  # rotary pairs stand side by side there
        h = heads[name]
        x = x.reshape(h, x.shape[0] // h // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)
    return x


compressed = quantize("--format", "compressed-tensors")
theirs = AutoModelForCausalLM.from_pretrained(compressed, dtype=torch.float16)
ids = torch.arange(5, 45).unsqueeze(0)
with torch.no_grad():
    logits = theirs(ids).logits.float()[0].numpy()
np.save(os.path.join(work, "ids.npy"), ids[0].numpy().astype(np.int32))
subprocess.run([retort, "-q", "logits", "--model", compressed, "--tokens", os.path.join(work, "ids.npy"), "--out",
                os.path.join(work, "l.npy")], check=True)
ours = np.load(os.path.join(work, "l.npy"))
print("logits: largest difference %.2g of %.3g (theirs in f16)" % (np.abs(ours - logits).max(), np.abs(ours).max()))
assert np.abs(ours - logits).max() < 0.02 * np.abs(ours).max()

gptq = load_file(os.path.join(quantize("--format", "gptq"), "model.safetensors"))
awq_dir = quantize("--format", "awq", "--group", awq_group)
awq = load_file(os.path.join(awq_dir, "model.safetensors"))
from compressed_tensors.compressors import unpack_from_int32  # noqa: E402
packed = load_file(os.path.join(compressed, "model.safetensors"))
try:
    from awq.utils.packing_utils import dequantize_gemm
except Exception as e:  # its __init__ imports more than packing
    import importlib.util
    path = [p for p in (os.path.join(d, "awq/utils/packing_utils.py") for d in sys.path) if os.path.exists(p)][0]
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dequantize_gemm = module.dequantize_gemm

worst = 0
for layer in range(config["num_hidden_layers"]):
    for name in LAYERS:
        base = f"model.layers.{layer}.{name}"
        want = q4_0(layer, name)
        code = unpack_from_int32(packed[base + ".weight_packed"], 4, torch.Size(want.shape)).numpy().astype(np.float32)
        scale = packed[base + ".weight_scale"].float().numpy()
        got = (code.reshape(*scale.shape, -1) * scale[..., None]).reshape(want.shape)
        assert (got == want).all(), base
        p = base + "."
        w = halves(gptq[p + "qweight"].numpy()).swapaxes(1, 2).reshape(want.shape[1], want.shape[0])
        z = halves(gptq[p + "qzeros"].numpy()).reshape(-1, want.shape[0]) + 1
        g = gptq[p + "g_idx"].numpy()
        s = gptq[p + "scales"].float().numpy()
        assert ((w - z[g]) * s[g] == want.T).all(), base
        a = dequantize_gemm(awq[p + "qweight"], awq[p + "qzeros"], awq[p + "scales"], 4, int(awq_group)).float().numpy().T
        source = theirs  # shape only
        worst = max(worst, float(np.linalg.norm(a - want) / np.linalg.norm(want)))
print("compressed-tensors and gptq: the values of Q4_0; awq: at most %.3f from them" % worst)
assert worst < 0.2
