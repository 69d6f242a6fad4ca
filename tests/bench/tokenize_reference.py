#!/usr/bin/env python3
"""Speed, ids and decoded text of retort against Hugging Face tokenizers (pip install tokenizers xxhash) on one thread.

   tests/bench/tokenize_reference.py build/bench_tokenize MODEL_DIR TEXT...

Each file is one document. Processor time, the best of three; the reference is timed by its encode and by its
encode_batch_fast, which computes no offsets."""
import os
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import xxhash  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

bench, model, *paths = sys.argv[1:]
docs = [open(p, encoding="utf-8", newline="").read() for p in paths]
size = sum(os.path.getsize(p) for p in paths)
t = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))


def timed(f):
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        out = f()
        best = min(best, time.process_time() - begin)
    return size / best / 1e6, out


one, rows = timed(lambda: [t.encode(d, add_special_tokens=False).ids for d in docs])
fast, _ = timed(lambda: t.encode_batch_fast(docs, add_special_tokens=False))
ids = b"".join(i.to_bytes(4, "little", signed=True) for r in rows for i in r + [-1])
ours = subprocess.run([bench, model, *paths], check=True, capture_output=True, text=True).stdout
speed = float(ours.split()[0])
print(f"retort     {ours.strip()}")
print(f"tokenizers encode {one:.2f} MB/s, encode_batch_fast {fast:.2f} MB/s, {sum(map(len, rows))} tokens")
same = xxhash.xxh3_128_hexdigest(ids) in ours
text = "".join(t.decode(r, skip_special_tokens=False) for r in rows).encode()
decoded = xxhash.xxh3_128_hexdigest(text) in ours
back = "which is the original" if text == "".join(docs).encode() else "which this pipeline changes"
print(f"ids {'the same' if same else 'DIFFER'}, decoded text {'the same' if decoded else 'DIFFERS'}, {back}, {speed / max(one, fast):.1f} times as fast")
sys.exit(not (same and decoded))
