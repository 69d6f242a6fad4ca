#!/usr/bin/env python3
"""Golden files of the weight formats, made by the formats' own Python packages.

  blocks.gguf        random blocks of every type retort decodes, each beside the f32 values that
                     gguf.quants.dequantize gives for them ("q4_K" and "q4_K.f32")
  keys.gguf          one metadata key of every type and two tensors, by gguf.GGUFWriter: retort's
                     reader must read it and retort's writer must produce the same bytes
  small.safetensors  plain dtypes, a scalar and an empty tensor, by safetensors.numpy

Needs: pip install gguf==0.19.0 safetensors==0.8.0 numpy.  Run: python3 tests/golden/make_gguf.py
"""
import os

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(7)

# type: byte offsets of its f16 fields in a block
TYPES = {
    T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.IQ4_NL: [0],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.MXFP4: [],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.IQ4_XS: [0], T.NVFP4: [], T.TQ2_0: [64],
}
NAMES = {T.Q8_0: "q8_0", T.Q4_0: "q4_0", T.Q4_1: "q4_1", T.Q5_0: "q5_0", T.Q5_1: "q5_1",
         T.IQ4_NL: "iq4_nl", T.Q4_K: "q4_K", T.Q5_K: "q5_K", T.Q6_K: "q6_K",
         T.MXFP4: "mxfp4", T.Q2_K: "q2_K", T.Q3_K: "q3_K", T.IQ4_XS: "iq4_xs",
         T.NVFP4: "nvfp4", T.TQ2_0: "tq2_0"}


def blocks(t):
    """(2, 512) elements of random codes under finite scales, some of them subnormal."""
    elements, size = GGML_QUANT_SIZES[t]
    n = 1024 // elements
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in TYPES[t]:
        scale = (rng.standard_normal(n) * 10.0 ** rng.integers(-7, 1, n)).astype(np.float16)
        raw[:, at:at + 2] = scale.view(np.uint8).reshape(n, 2)
    if t == T.MXFP4:
        raw[:4, 0] = 0, 1, 254, 255
    return raw.reshape(2, -1)


def write_blocks():
    w = gguf.GGUFWriter(os.path.join(here, "blocks.gguf"), "llama")
    for t in TYPES:
        raw = blocks(t)
        w.add_tensor(NAMES[t], raw, raw_dtype=t)
        w.add_tensor(NAMES[t] + ".f32", gguf.quants.dequantize(raw, t).astype(np.float32))
    half = rng.standard_normal((2, 64)).astype(np.float16)
    w.add_tensor("f16", half)
    w.add_tensor("f16.f32", half.astype(np.float32))
    f32 = rng.standard_normal((2, 64)).astype(np.float32)
    brain = gguf.quants.quantize(f32, T.BF16)
    w.add_tensor("bf16", brain, raw_dtype=T.BF16)
    w.add_tensor("bf16.f32", gguf.quants.dequantize(brain, T.BF16).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_keys():
    w = gguf.GGUFWriter(os.path.join(here, "keys.gguf"), "qwen3")
    w.add_uint8("k.u8", 200)
    w.add_int8("k.i8", -100)
    w.add_uint16("k.u16", 60000)
    w.add_int16("k.i16", -30000)
    w.add_uint32("k.u32", 4000000000)
    w.add_int32("k.i32", -2000000000)
    w.add_float32("k.f32", 1.5)
    w.add_bool("k.bool", True)
    w.add_string("k.str", "grüße\n")
    w.add_uint64("k.u64", 1 << 40)
    w.add_int64("k.i64", -(1 << 40))
    w.add_float64("k.f64", 0.1)
    w.add_array("k.i32s", [1, -2, 3])
    w.add_array("k.f32s", [0.5, -0.25])
    w.add_array("k.strs", ["a", "", "Ġb c"])
    w.add_tensor("one", np.arange(5, dtype=np.float32))
    w.add_tensor("two.weight", np.arange(12, dtype=np.float16).reshape(3, 4))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_safetensors():
    save_file({
        "a.f32": np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5,
        "b.f16": np.arange(8, dtype=np.float16).reshape(2, 2, 2),
        "c.i32": np.array([1, -1], dtype=np.int32),
        "d.u8": np.array([1, 2, 255], dtype=np.uint8),
        "e.i64": np.array([1 << 40], dtype=np.int64),
        "f.scalar": np.array(0.5, dtype=np.float32),
        "g.empty": np.zeros((0, 4), dtype=np.float32),
    }, os.path.join(here, "small.safetensors"), metadata={"format": "np"})


write_blocks()
write_keys()
write_safetensors()
