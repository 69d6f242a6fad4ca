"""compare_tokenizers.py RETORT MODEL DIR TEXT: a vocabulary as huggingface/tokenizers and as retort read it.

MODEL is a GGUF (or a directory), DIR what retort wrote from it (train --tokenizer MODEL --out DIR). Tokenizes TEXT
by `tokenizers` from DIR/tokenizer.json and by `retort tokenize` from both, special tokens parsed and not, and prints
how many ids differ; status 1 when any does. Needs: pip install tokenizers."""
import json, subprocess, sys
from tokenizers import Tokenizer

program, model, directory, path = sys.argv[1:5]
text = open(path, encoding="utf-8", newline="").read()
reference = Tokenizer.from_file(directory + "/tokenizer.json")
bad = 0


def ours(source, special):
    run = subprocess.run([program, "tokenize", "--model", source, "--whole"] + ["--special"] * special,
                         input=text.encode(), capture_output=True)
    return json.loads(run.stdout) if run.returncode == 0 else sys.exit(run.stderr.decode())


def differ(a, b):
    return sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b))


for special in (True, False):
    reference.encode_special_tokens = not special
    want = reference.encode(text, add_special_tokens=False).ids
    counts = differ(want, ours(model, special)), differ(want, ours(directory, special))
    print(f"special {special}: {len(text.encode())} bytes, {len(want)} ids; {model}: {counts[0]} differ, "
          f"{directory}: {counts[1]} differ")
    bad += sum(counts)
sys.exit(bad > 0)
