#!/usr/bin/env python3
"""llama.cpp beside retort, for decode.sh. Needs numpy and xllamacpp (PyPI), in whose library the C
interface of llama.cpp lies; its structs are passed as bytes that are never looked into.

  llama.py speed MODEL.gguf THREADS TOKENS PROMPT ROUNDS   a line a round, as bench_decode prints
  llama.py logits MODEL.gguf TOKENS.npy OUT.npy            logits (T, V) f32, a token at a time

A round is started by a line on stdin, so that two programs can take turns."""
import ctypes
import glob
import os
import sys
import time

import numpy


class Bytes(ctypes.Structure):
    _fields_ = [("byte", ctypes.c_uint8 * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [("byte", ctypes.c_uint8 * 56)]


def load():
    import importlib.util

    where = os.path.dirname(importlib.util.find_spec("xllamacpp").origin)
    lib = ctypes.CDLL(glob.glob(os.path.join(where, "xllamacpp*.so"))[0])
    p = ctypes.c_void_p
    for name, result, args in [
        ("llama_backend_init", None, []),
        ("llama_log_set", None, [p, p]),
        ("llama_model_default_params", Bytes, []),
        ("llama_context_default_params", Bytes, []),
        ("llama_model_load_from_file", p, [ctypes.c_char_p, Bytes]),
        ("llama_init_from_model", p, [p, Bytes]),
        ("llama_set_n_threads", None, [p, ctypes.c_int32, ctypes.c_int32]),
        ("llama_get_memory", p, [p]),
        ("llama_memory_clear", None, [p, ctypes.c_bool]),
        ("llama_batch_get_one", Batch, [ctypes.POINTER(ctypes.c_int32), ctypes.c_int32]),
        ("llama_decode", ctypes.c_int32, [p, Batch]),
        ("llama_synchronize", None, [p]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [p, ctypes.c_int32]),
        ("llama_model_get_vocab", p, [p]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [p]),
        ("llama_print_system_info", ctypes.c_char_p, []),
    ]:
        f = getattr(lib, name)
        f.restype, f.argtypes = result, args
    return lib


class Llama:
    def __init__(self, path, threads, length):
        self.lib = lib = load()
        quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self.quiet = quiet(lambda *_: None)
        lib.llama_log_set(ctypes.cast(self.quiet, ctypes.c_void_p), None)
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(os.fsencode(path),
                                                    lib.llama_model_default_params())
        params = lib.llama_context_default_params()
        words = ctypes.cast(ctypes.byref(params), ctypes.POINTER(ctypes.c_uint32))
        words[0] = length  # n_ctx, the first field
        self.ctx = self.model and lib.llama_init_from_model(self.model, params)
        if not self.ctx:
            sys.exit(f"llama.py: {path}: llama.cpp does not take it")
        lib.llama_set_n_threads(self.ctx, threads, threads)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.ctx), True)

    def feed(self, tokens):
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        if self.lib.llama_decode(self.ctx, self.lib.llama_batch_get_one(ids, len(tokens))):
            sys.exit("llama.py: llama_decode failed")
        self.lib.llama_synchronize(self.ctx)

    def logits(self):
        p = self.lib.llama_get_logits_ith(self.ctx, -1)
        return numpy.ctypeslib.as_array(p, (self.vocab,)).copy()


def now():
    """By the clock, and of the process's own time."""
    return numpy.array([time.monotonic(), time.process_time()])


def speed(path, threads, tokens, prompt, rounds):
    llama = Llama(path, threads, prompt + tokens + 8)
    print(llama.lib.llama_print_system_info().decode(), flush=True)
    ids = numpy.random.default_rng(0).integers(0, llama.vocab, prompt + tokens)
    for _ in range(rounds):
        if not sys.stdin.readline():
            return
        llama.clear()
        llama.feed(ids[:16])
        begun = now()
        for i in range(tokens):  # greedy, as bench_decode chooses
            llama.feed([int(llama.logits().argmax()) if i else int(ids[16])])
        decode = tokens / (now() - begun)
        llama.clear()
        begun = now()
        llama.feed(ids[:prompt])
        read = prompt / (now() - begun)
        print(*(f"{x:.2f}" for x in (decode[0], read[0], decode[1], read[1])), flush=True)


def main():
    what, model = sys.argv[1:3]
    if what == "speed":
        speed(model, *map(int, sys.argv[3:7]))
        return
    tokens = numpy.load(sys.argv[3]).ravel()
    llama = Llama(model, len(os.sched_getaffinity(0)), len(tokens) + 8)
    rows = []
    for t in tokens:
        llama.feed([int(t)])
        rows.append(llama.logits())
    numpy.save(sys.argv[4], numpy.stack(rows).astype(numpy.float32))


main()
