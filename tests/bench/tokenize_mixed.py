#!/usr/bin/env python3
"""Eight pipelines on 2 MB of mixed text each, against Hugging Face tokenizers: ids, decoded text, speed.

    pip install tokenizers==0.23.3 xxhash gguf
    python3 tests/bench/tokenize_mixed.py build/bench_tokenize [MB]

The pipelines are those of tests/golden/make_tokenizers.py with vocabularies of 12,000 learned from a part of
the text. The text is a function of this file: words of twelve scripts, emoji with joiners, combining marks,
code, numbers, long white space, any assigned character, the special tokens of all pipelines. One thread."""
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import make_tokenizers as golden  # noqa: E402

RANGES = [(0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x66F),
          (0x904, 0x96F), (0xE01, 0xE5B), (0x3041, 0x30FF), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3)]
EMOJI = ["👨‍👩‍👧‍👦", "👩🏿‍🚀", "🏳️‍🌈", "1️⃣", "🇩🇪", "😀", "👍🏽", "✨", "🧑🏻‍❤️‍💋‍🧑🏾"]
CODE = ["for (int i = 0; i < n; i++)\n", "    return x->next ? x : NULL;\n", "\tif not self.done:\n\t\tyield\n", "}\n\n",
        "#define A(x) ((x) + 1) // twice\n", "SELECT * FROM t WHERE id='7' AND n>=1.5e-3;\r\n", "<a href=\"x?y=1&z=2\">k</a>\n"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|begin_of_text|>", "<|eot_id|>", "<s>", "</s>",
           "<unk>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<0x0A>"]
rng = random.Random(20)
ASSIGNED = [chr(c) for c in range(0x20, 0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
COMMON = ["".join(chr(rng.randint(*r)) for _ in range(rng.randint(1, 8))) for r in RANGES * 2 for _ in range(400)]


def piece():
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(["", " ", " ", " ", "\n"]) + rng.choice(COMMON)
    if kind < 0.68:
        low, high = rng.choice(RANGES)
        return " " + "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12)))
    if kind < 0.74:
        return rng.choice(CODE)
    if kind < 0.80:
        return rng.choice([" ", "", "-", "$"]) + str(rng.randint(0, 10 ** rng.randint(1, 12)))
    if kind < 0.85:
        return "".join(rng.choice(["'s", "'LL", "n't", ", ", ". ", "...", "?!", " (", ")", "\"", " – ", "/", "://", "@"]) for _ in "12")
    if kind < 0.88:
        return rng.choice(EMOJI)
    if kind < 0.91:
        return rng.choice("aeinosuк한न") + "".join(chr(rng.randint(0x300, 0x36F)) for _ in range(rng.randint(1, 4)))
    if kind < 0.94:
        return rng.choice([" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", " \n"]) * rng.randint(1, 60)
    if kind < 0.95:
        return rng.choice(SPECIAL)
    return "".join(rng.choice(ASSIGNED) for _ in range(rng.randint(1, 4)))


def document(size):
    parts, n = [], 0
    while n < size:
        parts.append(piece())
        n += len(parts[-1].encode())
    return "".join(parts)


bench, mb = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 2.1
docs = [document(20000) for _ in range(int(mb * 50) + 1)]
golden.SEED = [line for d in docs[:20] for line in re.findall(r"[^\n]*\n|[^\n]+", d)]
small = golden.train
golden.train = lambda t, vocab, *a, **kw: small(t, 12000, *a, **(kw | ({"alphabet": 4000} if kw.get("alphabet") else {})))
worst = 0
with tempfile.TemporaryDirectory() as root:
    paths = [os.path.join(root, f"{i:04}.txt") for i in range(len(docs))]
    for path, text in zip(paths, docs):
        open(path, "w", encoding="utf-8", newline="").write(text)
    for name, t, _ in golden.pipelines():
        model = os.path.join(root, name)
        os.makedirs(model)
        t.save(os.path.join(model, "tokenizer.json"))
        print(f"{name}: {t.get_vocab_size()} tokens, {sum(map(os.path.getsize, paths)) / 1e6:.2f} MB", flush=True)
        reference = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenize_reference.py")
        worst |= subprocess.run([sys.executable, reference, bench, model, *paths]).returncode
sys.exit(worst)
