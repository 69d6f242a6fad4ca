#!/usr/bin/env python3
"""`retort quantize --method ggml` beside llama.cpp's own llama_model_quantize: the type of every tensor
and every byte of it, with and without an importance matrix, for the types named (default: all). By hand:

  python3 tests/golden/compare_ggml.py build/retort MODEL.gguf [TYPE ...]

MODEL.gguf has F32 or F16 matrices (`retort quantize --type F16` makes one). The importance matrix is
random, written here as llama.cpp's legacy .dat, which retort reads; llama.cpp gets the same numbers.

Needs: pip install llama-cpp-py-sync==0.11739 gguf==0.19.0 cffi numpy
"""
import os
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from llama_cpp_py_sync import _cffi_bindings as bindings

FILE_TYPES = {"Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8, "Q4_K_M": 15,
              "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "IQ4_XS": 30, "NVFP4": 39,
              "Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "Q2_K": 10, "TQ2_0": 37, "Q2_0": 41}


def tensors(path):
    """name -> (type id, bytes); the reader of gguf knows fewer types than there are"""
    data = open(path, "rb").read()
    at = 24
    n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)
    size = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def text(at):
        n, = struct.unpack_from("<Q", data, at)
        return data[at + 8:at + 8 + n].decode(), at + 8 + n

    def skip(at, kind):
        if kind == 8:
            return text(at)[1]
        if kind == 9:
            inner, n = struct.unpack_from("<IQ", data, at)
            at += 12
            for _ in range(n):
                at = skip(at, inner)
            return at
        return at + size[kind]

    for _ in range(n_keys):
        _, at = text(at)
        kind, = struct.unpack_from("<I", data, at)
        at = skip(at + 4, kind)
    rows = []
    for _ in range(n_tensors):
        name, at = text(at)
        rank, = struct.unpack_from("<I", data, at)
        kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * rank)
        rows.append((name, kind, offset))
        at += 16 + 8 * rank
    start = (at + 31) // 32 * 32
    ends = sorted(r[2] for r in rows)[1:] + [len(data) - start]
    end = dict(zip(sorted(r[2] for r in rows), ends))
    return {name: (kind, data[start + o:start + end[o]].rstrip(b"\0")) for name, kind, o in rows}


def importance(path, model):
    """A random mean square for every matrix of a block, in the file and as {name: values}."""
    rng = np.random.default_rng(5)
    entries = {}
    for t in gguf.GGUFReader(model).tensors:
        if t.name.startswith("blk.") and len(t.shape) >= 2 and t.name.endswith(".weight"):
            experts = int(t.shape[2]) if len(t.shape) > 2 else 1
            entries[t.name] = rng.gamma(0.5, 1, int(t.shape[0]) * experts).astype(np.float32)
    with open(path, "wb") as f:
        f.write(struct.pack("<i", len(entries)))
        for name, values in entries.items():
            f.write(struct.pack("<i", len(name)) + name.encode())
            f.write(struct.pack("<ii", 1, len(values)) + values.tobytes())
        f.write(struct.pack("<ii", 1, 6) + b"random")
    return entries


def llama_quantize(ffi, lib, source, out, file_type, entries):
    p = ffi.new("llama_model_quantize_params *", lib.llama_model_quantize_default_params())
    p.ftype = file_type
    p.nthread = 2
    keep = []
    if entries:
        rows = ffi.new("struct llama_model_imatrix_data[]", len(entries) + 1)
        for row, (name, values) in zip(rows, entries.items()):
            keep += [ffi.new("char[]", name.encode()), ffi.from_buffer("float[]", values)]
            row.name, row.data, row.size = keep[-2], keep[-1], len(values)
        p.imatrix = rows
    return lib.llama_model_quantize(source.encode(), out.encode(), p)


def main():
    retort, model, types = sys.argv[1], sys.argv[2], sys.argv[3:] or list(FILE_TYPES)
    ffi, lib = bindings.get_ffi(), bindings.get_lib()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        dat, ours, theirs = (os.path.join(scratch, n) for n in ("imatrix.dat", "a.gguf", "b.gguf"))
        entries = importance(dat, model)
        for name in types:
            for weighed in (False, True):
                if llama_quantize(ffi, lib, model, theirs, FILE_TYPES[name],
                                  entries if weighed else None):
                    print(name, "refused by llama.cpp")
                    continue
                subprocess.run([retort, "-q", "quantize", "--model", model, "--type", name, "--out",
                                ours, "--method", "ggml", "--overwrite"] +
                               (["--importance", dat] if weighed else []), check=True)
                a, b = tensors(ours), tensors(theirs)
                off = [n for n in b if n not in a or a[n][0] != b[n][0]]
                differ = [n for n in b if n not in off and a[n][1] != b[n][1]]
                kinds = sorted({k for k, _ in b.values()})
                print(f"{name}{' weighed' if weighed else ''}: {len(b)} tensors of types {kinds}, "
                      f"{len(off)} of another type {off[:3]}, {len(differ)} of other bytes {differ[:3]}",
                      flush=True)
                bad += len(off) + len(differ) + (len(a) != len(b))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
