#!/usr/bin/env python3
"""Reads a shard of a trace archive with numpy alone, from the words of FORMAT in corpora/archive/trace.h.

read_traces.py SHARD.npz...          a line of numbers a shard
read_traces.py --against EXPORT.jsonl SHARD.npz...
                                     every sample must equal `retort archive export --soft`
"""
import json
import math
import sys
import zipfile

import numpy as np


class Bits:
    def __init__(self, data):
        self.bit = np.unpackbits(data, bitorder="little").tolist()
        self.at = 0

    def take(self, n):
        value = sum(b << i for i, b in enumerate(self.bit[self.at:self.at + n]))
        assert self.at + n <= len(self.bit), "ran past the end"
        self.at += n
        return value

    def gamma(self):
        low = 0
        while self.take(1) == 0:
            low += 1
        return 1 << low | self.take(low)

    def rice(self, k):
        q = 0
        while self.take(1):
            q += 1
        return q << k | self.take(k)

    def ids(self, n, k):
        out, previous = [], -1
        for _ in range(n):
            previous += 1 + self.rice(k)
            out.append(previous)
        return out


def number(bits, width):
    q = bits.take(width)
    return -math.inf if q == (1 << width) - 1 else -q / 2048


def log_z(bits):
    v = bits.take(16)
    return (v - 65536 if v >= 32768 else v) / 1024


def row(bits, taken, vocab, temps, head_max):
    if bits.take(1):
        a, b = bits.take(8), bits.take(4)
        tail = -math.inf if a == 255 else -5.5 - a / 8
        t = math.exp(tail)
        logp = math.log1p(-t)
        entropy = 0 if a == 255 else -(1 - t) * logp - t * tail + t * math.log(vocab) * b / 15
        head, draws = [[taken, logp]], []
    else:
        inside, m, d = bits.take(1), bits.take((head_max - 1).bit_length()) + 1, bits.gamma() - 1
        k, w = bits.take(4), bits.take(4) + 1
        head_ids = sorted(bits.ids(m - inside, k) + [taken] * inside)
        drawn = bits.ids(d, k)
        draws = [[i, bits.gamma()] for i in drawn]
        head = [[i, number(bits, w)] for i in head_ids]
        assert len(set(head_ids) | set(drawn)) == m + d and max(head_ids + drawn) < vocab
        logp = dict(map(tuple, head))[taken] if inside else number(bits, w)
        entropy = -number(bits, w)
        tail = number(bits, w)
    return dict(head=head, draws=draws, tail_logmass=tail, entropy=entropy, taken_logp=logp,
                log_z=[log_z(bits) for _ in range(temps)])


def samples(path):
    z = np.load(path)
    meta = json.loads(zipfile.ZipFile(path).read("meta.json"))
    lines = zipfile.ZipFile(path).read("samples.jsonl").splitlines()
    vocab = meta["manifest"]["tokenizer"]["vocab_size"]
    capture = meta["manifest"]["capture"]
    temps, head_max = len(capture["temperatures"]), capture["head_max"]
    part = lambda name, i: slice(z[name + "_offsets"][i], z[name + "_offsets"][i + 1])
    verdicts = ["unverified", "correct", "wrong", "unfinished"]
    for i, line in enumerate(lines):
        s = json.loads(line)
        assert s["id"].encode() == z["id"][i] and s["index"] == z["index"][i]
        assert s["verdict"] == verdicts[z["verdict"][i]]
        tokens = z["tokens"][part("token", i)]
        records = z["records"][part("record", i)]
        first, bits, rows = int(z["soft_first"][i]), Bits(records), part("row", i)
        s["tokens"] = tokens.tolist()
        s["prompt_tokens"] = int(z["prompt_tokens"][i])
        s["spans"] = z["spans"][part("span", i)].tolist()
        weights = z["span_weights"][part("span", i)] if "span_weights" in z else np.ones(1)
        assert ("span_weights" in z) == (meta["version"] == 2)
        if (weights != 1).any():
            s["span_weights"] = weights.tolist()
        s["soft_first"] = first
        s["soft"] = [row(bits, int(tokens[first + r]), vocab, temps, head_max)
                     for r in range(rows.stop - rows.start)]
        assert len(bits.bit) - bits.at < 8 and not any(bits.bit[bits.at:]), "bits left over"
        yield s


def exported(s):
    """The stored line as the export tells it: the text itself, or the conversation with its response."""
    response = {"role": "assistant", "content": s.pop("answer")}
    thought, said = s.pop("reasoning"), s.pop("messages")
    if isinstance(said, str):
        return {**s, "text": said}
    if "weight" in s:
        response["weight"] = s.pop("weight")
    if thought:
        response["reasoning_content"] = thought
    return {**s, "messages": (said or []) + [response]}


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) or isinstance(b, float):
        if a is None or b is None:  # JSON has no -inf
            return a in (None, -math.inf) and b in (None, -math.inf)
        return abs(a - b) <= 1e-6 * max(1, abs(a))
    return a == b


def main(argv):
    want = None
    if argv and argv[0] == "--against":
        want = {s["id"]: s for s in map(json.loads, open(argv[1]))}
        argv = argv[2:]
    seen = 0
    for path in argv:
        n = positions = size = 0
        for s in samples(path):
            n += 1
            positions += len(s["soft"])
            if want is not None and not same(exported(s), want[s["id"]]):
                sys.exit(f"{path}: sample {s['id']} differs from the export")
        seen += n
        size = np.load(path)["records"].nbytes
        print(f"{path}: {n} samples, {positions} positions, {size / max(1, positions):.2f} B each")
    if want is not None and seen != len(want):
        sys.exit(f"{seen} samples in the shards, {len(want)} in the export")


if __name__ == "__main__":
    main(sys.argv[1:])
