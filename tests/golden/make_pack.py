#!/usr/bin/env python3
"""pack.json: one small matrix of 4-bit codes in the three layouts of Hugging Face directories, by numpy from the
readers' side: words are chosen so that unpacking as the readers do gives the codes back, which is asserted here.
  compressed-tensors  unpack_from_int32: value i of a row is bits 4i of word i // 8, less 8
  gptq (v1)           qweight[k // 8, o] >> 4 (k % 8); qzeros[g, o // 8] >> 4 (o % 8), plus 1
  awq (gemm)          nibbles of a word are read as 0 4 1 5 2 6 3 7: position i is nibble UNPACK[i]

    pip install numpy; python3 tests/golden/make_pack.py
"""
import json
import os

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(11)
outputs, inputs, group = 24, 64, 32
UNPACK = [0, 4, 1, 5, 2, 6, 3, 7]


def words(nibbles):  # (..., 8) -> i32
    n = nibbles.astype(np.uint32)
    return sum(n[..., i] << np.uint32(4 * i) for i in range(8)).astype(np.uint32).view(np.int32)


def nibbles(w):
    return np.stack([(w.view(np.uint32) >> np.uint32(4 * i)) & 15 for i in range(8)], -1)


def awq(a):  # (rows, cols) -> words (rows, cols / 8)
    r = a.reshape(a.shape[0], -1, 8)
    n = np.zeros_like(r)
    for i in range(8):
        n[..., UNPACK[i]] = r[..., i]
    w = words(n)
    assert (nibbles(w)[..., UNPACK].reshape(a.shape) == a).all()
    return w


code = rng.integers(0, 16, (outputs, inputs))
zero = rng.integers(0, 16, (outputs, inputs // group))
scale = rng.integers(1, 1 << 14, (outputs, inputs // group)).astype(np.uint16)  # bits of f16

packed = words(code.reshape(outputs, -1, 8))
assert ((nibbles(packed).reshape(code.shape).astype(int) - 8) == code - 8).all()
qweight = words(code.T.reshape(inputs // 8, 8, outputs).transpose(0, 2, 1))
assert (nibbles(qweight).transpose(0, 2, 1).reshape(inputs, outputs) == code.T).all()
stored = (np.full_like(zero, 8) - 1).T  # symmetric
qzeros = words(stored.reshape(inputs // group, -1, 8))

flat = lambda a: [int(v) for v in np.ascontiguousarray(a).ravel()]
golden = {
    "made_with": "numpy " + np.__version__, "outputs": outputs, "inputs": inputs, "group": group,
    "code": flat(code), "zero": flat(zero), "scale": flat(scale),
    "compressed-tensors": [flat(packed), flat(scale), [outputs, inputs]],
    "gptq": [flat(qweight), flat(qzeros), flat(scale.T), [i // group for i in range(inputs)]],
    "awq": [flat(awq(code.T)), flat(awq(zero.T)), flat(scale.T)],
}
with open(os.path.join(here, "pack.json"), "w") as f:
    json.dump(golden, f, separators=(",", ":"))
