#!/usr/bin/env python3
"""What others read out of the directories that `retort quantize --format` writes, by hand:

    pip install torch safetensors gguf numpy; pip install --no-deps compressed-tensors autoawq
    python3 tests/golden/compare_packed.py Q4_0.gguf COMPRESSED_DIR GPTQ_DIR AWQ_DIR GROUP_OF_AWQ

of one llama model: --type Q4_0 --pure, groups of 32 but for AWQ's. compressed-tensors, by its own unpack_from_int32, and
GPTQ, by numpy as its v1 is read, are the very values of the GGUF (by the gguf package); AWQ, by AutoAWQ's own
dequantize_gemm, is near them. The functions are taken out of their files: the packages import what needs a GPU."""
import ast
import glob
import json
import math
import os
import sys

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

NAMES = dict(zip("self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj".split(),
                 "attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down".split()))


def function(pattern, name, also=()):
    files = [f for d in sys.path for f in glob.glob(os.path.join(d, pattern), recursive=True)]
    path = [f for f in files if "def %s(" % name in open(f).read()][0]
    space = {"torch": torch, "math": math, "sys": sys, "np": np}
    for node in ast.parse(open(path).read()).body:
        if isinstance(node, ast.FunctionDef) and node.name in (name, *also):
            node.decorator_list = []
            exec("from __future__ import annotations\n" + ast.unparse(node), space)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in also:
            exec(ast.unparse(node), space)
    return space[name]


unpack = function("compressed_tensors/**/*.py", "unpack_from_int32")
dequantize = function("awq/utils/packing_utils.py", "dequantize_gemm",
                      ("AWQ_ORDER", "AWQ_REVERSE_ORDER", "unpack_awq", "reverse_awq_order"))
tensors = {t.name: t for t in gguf.GGUFReader(sys.argv[1]).tensors}
packed, gptq, awq = (load_file(os.path.join(d, "model.safetensors")) for d in sys.argv[2:5])
config = json.load(open(os.path.join(sys.argv[2], "config.json")))
heads = {"self_attn.q_proj": config["num_attention_heads"], "self_attn.k_proj": config["num_key_value_heads"]}


def halves(word):
    return np.stack([(word.view(np.uint32) >> np.uint32(4 * i)) & 15 for i in range(8)], -1).astype(np.int32)


worst = 0
for layer in range(config["num_hidden_layers"]):
    for name, short in NAMES.items():
        base, t = f"model.layers.{layer}.{name}.", tensors[f"blk.{layer}.{short}.weight"]
        x = gguf.quants.dequantize(t.data, t.tensor_type)
        if name in heads:  # rotary pairs stand side by side in GGUF's llama
            x = x.reshape(heads[name], x.shape[0] // heads[name] // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)
        code = unpack(packed[base + "weight_packed"], 4, torch.Size(x.shape)).numpy().astype(np.float32)
        scale = packed[base + "weight_scale"].float().numpy()
        assert ((code.reshape(*scale.shape, -1) * scale[..., None]).reshape(x.shape) == x).all(), base
        code = halves(gptq[base + "qweight"].numpy()).swapaxes(1, 2).reshape(x.shape[1], x.shape[0])
        zero = halves(gptq[base + "qzeros"].numpy()).reshape(-1, x.shape[0]) + 1
        group = gptq[base + "g_idx"].numpy()
        assert ((code - zero[group]) * gptq[base + "scales"].float().numpy()[group] == x.T).all(), base
        a = dequantize(awq[base + "qweight"], awq[base + "qzeros"], awq[base + "scales"], 4, int(sys.argv[5])).float().numpy().T
        worst = max(worst, float(np.linalg.norm(a - x) / np.linalg.norm(x)))
print("compressed-tensors and gptq: the values of Q4_0; awq: at most %.3f from them" % worst)
assert worst < 0.2
