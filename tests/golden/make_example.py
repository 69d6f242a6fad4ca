#!/usr/bin/env python3
"""Makes tests/golden/example/: what Hugging Face transformers computes for examples/reasoning/teacher.

    pip install torch==2.15.0 transformers==5.23.0 numpy     (what made the files)
    python3 tests/golden/make_example.py [STUDENT_DIR]

tokens.npy (200) i32, random ids; logits.npy (50, V) f32, every fourth position; experts.npy (routed layers,
200, A) i32, the chosen experts ascending. With STUDENT_DIR (a directory that retort train wrote) it also
prints how far transformers' logits for it are from `retort logits`: nothing is stored for it."""
import os, subprocess, sys, tempfile
import numpy as np, torch
from transformers import AutoModelForCausalLM

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
OUT = os.path.join(ROOT, "tests", "golden", "example")


def run(path, tokens):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, experts_implementation="eager").eval()
    chosen = []
    for layer in model.model.layers:
        router = getattr(layer.mlp, "gate", None)
        if router is not None and hasattr(layer.mlp, "experts"):
            layer.mlp.experts.register_forward_pre_hook(
                lambda module, args, kwargs=None: chosen.append(np.sort(args[1].reshape(len(tokens), -1).numpy(), axis=1)))
    with torch.no_grad():
        logits = model(torch.tensor(tokens, dtype=torch.long)[None]).logits[0].numpy()
    return logits, np.array(chosen, dtype=np.int32)


def main():
    os.makedirs(OUT, exist_ok=True)
    teacher = os.path.join(ROOT, "examples", "reasoning", "teacher")
    vocab = AutoModelForCausalLM.from_pretrained(teacher).config.vocab_size
    tokens = np.random.Generator(np.random.PCG64(7)).integers(0, vocab, 200).astype(np.int32)
    logits, experts = run(teacher, tokens)
    np.save(os.path.join(OUT, "tokens.npy"), tokens)
    np.save(os.path.join(OUT, "logits.npy"), logits[::4].astype(np.float32))
    np.save(os.path.join(OUT, "experts.npy"), experts)
    print("teacher: logits", logits.shape, "largest", np.abs(logits).max(), "experts", experts.shape)
    for path in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as tmp:
            ours = os.path.join(tmp, "logits.npy")
            subprocess.run([os.path.join(ROOT, "build", "retort"), "-q", "logits", "--model", path, "--tokens",
                            os.path.join(OUT, "tokens.npy"), "--out", ours], check=True)
            want = run(path, tokens)[0]
            print(path, "relative difference", np.abs(np.load(ours) - want).max() / np.abs(want).max())


main()
