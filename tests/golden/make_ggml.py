#!/usr/bin/env python3
"""ggml.safetensors: what ggml's own quantizer makes of a few rows, for tests/test_quant.c.

  rows (N, 512), importance (512)     f32: normal, heavy tails, one outlier, grid, constant, zero,
                                      positive, tiny and denormal values, scales near and beyond f16
  NAME, NAME.importance               bytes of ggml_quantize_chunk, without and with importance

ggml is the one inside xllamacpp, called through ctypes. Its ggml-base is compiled for plain x86-64:
no fused multiply-add, which would flip codes; the script looks for that in the library.

Needs: pip install xllamacpp==2026.10.11549 safetensors==0.8.0 numpy, objdump.
Run: python3 tests/golden/make_ggml.py
"""
import ctypes
import os
import subprocess

import numpy as np
import xllamacpp
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
WIDTH = 512
TYPES = {"q8_0": 8, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q2_K": 10, "q3_K": 11, "q4_K": 12,
         "q5_K": 13, "q6_K": 14, "iq4_nl": 20, "iq4_xs": 23, "mxfp4": 39, "nvfp4": 40, "tq2_0": 35,
         "q2_0": 42}


def library():
    path = os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp.abi3.so")
    symbols = subprocess.run(["nm", "-D", "--defined-only", path], check=True, capture_output=True,
                             text=True).stdout.split("\n")
    at = {line.split()[2]: int(line.split()[0], 16) for line in symbols if line}
    for name in ("quantize_q4_K", "quantize_q6_K", "quantize_iq4_nl", "quantize_q4_0"):
        code = subprocess.run(["objdump", "-d", f"--start-address={at[name]}",
                               f"--stop-address={at[name] + 4096}", path], check=True,
                              capture_output=True, text=True).stdout
        assert "mulss" in code and "vfmadd" not in code, f"{name}: fused multiply-adds"
    lib = ctypes.CDLL(path)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                                        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_void_p]
    return lib


def quantize(lib, t, x, importance):
    out = np.zeros(x.nbytes, np.uint8)
    n = lib.ggml_quantize_chunk(t, x.ctypes.data, out.ctypes.data, 0, len(x), WIDTH,
                                None if importance is None else importance.ctypes.data)
    return out[:n].reshape(len(x), -1)


def make_rows(rng):
    normal = rng.standard_normal((8, WIDTH)) * 0.02
    outlier = normal[1].copy()
    outlier[::129] *= 60
    constant = np.full(WIDTH, 0.25)
    constant[256:] = -0.25
    sparse = np.zeros(WIDTH)
    sparse[[100, 300, 301]] = 1, -2e-3, 3e-16
    return np.stack([
        normal[0], rng.standard_normal(WIDTH) ** 3 * 0.03, outlier,
        rng.integers(-8, 8, WIDTH) * 0.0123, constant, sparse, rng.random(WIDTH) + 0.5,
        normal[2] * 10.0 ** rng.integers(-8, -1, WIDTH // 32).repeat(32), normal[3] * 1e-37,
        normal[4] * 1e6, normal[5] * 1e8,
    ]).astype(np.float32)


rng = np.random.default_rng(42)
rows = make_rows(rng)
importance = (rng.standard_normal(WIDTH) ** 2).astype(np.float32)
importance[32:96] = 0
importance[::7] = 0
lib = library()
tensors = {"rows": rows, "importance": importance}
for name, t in TYPES.items():
    tensors[name] = quantize(lib, t, rows, None)
    tensors[name + ".importance"] = quantize(lib, t, rows, importance)
save_file(tensors, os.path.join(here, "ggml.safetensors"))
