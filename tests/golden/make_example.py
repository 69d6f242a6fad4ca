#!/usr/bin/env python3
"""Makes tests/golden/example/ and tests/golden/student/: what Hugging Face transformers computes for
examples/reasoning/teacher, and for a small student that retort trains from that teacher's traces.

    pip install torch==2.15.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6     (what made the files)
    python3 tests/golden/make_example.py [STUDENT_DIR]          needs build/retort; two minutes

example/  tokens.npy (200) i32, random ids; logits.npy (50, V) f32, every fourth position; experts.npy (routed
          layers, 200, A) i32, the chosen experts ascending.
student/  the student; tokens.npy and logits.npy as above; greedy.json: the SHA-256 of the F16 GGUF that
          `retort quantize` made and transformers read, and greedy answers from that GGUF alone (its weights,
          tokenizer and template) and from the directory.
With STUDENT_DIR (a directory that retort train wrote) only prints the same comparisons with retort for it."""
import hashlib, json, os, shutil, subprocess, sys, tempfile
import numpy as np, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
GOLDEN = os.path.join(ROOT, "tests", "golden")
TEACHER = os.path.join(ROOT, "examples", "reasoning", "teacher")
RETORT = os.path.join(ROOT, "build", "retort")
MAX_NEW = 160
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 3,
          "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 96, "rms_norm_eps": 1e-6, "rope_theta": 10000,
          "max_position_embeddings": 512, "tie_word_embeddings": True}


def retort(*args):
    return subprocess.run([RETORT, "-q", *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def problems(n, seed, split):
    return subprocess.run([os.path.join(ROOT, "build", "reasoning-problems"), "--n", str(n), "--seed", str(seed), "--split",
                           split], check=True, stdout=subprocess.PIPE, text=True).stdout


def load(path, **more):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **more).eval()


def run(model, tokens):
    chosen = []
    for layer in model.model.layers:
        router = getattr(layer.mlp, "gate", None)
        if router is not None and hasattr(layer.mlp, "experts"):
            layer.mlp.experts.register_forward_pre_hook(
                lambda module, args, kwargs=None: chosen.append(np.sort(args[1].reshape(len(tokens), -1).numpy(), axis=1)))
    with torch.no_grad():
        logits = model(torch.tensor(tokens, dtype=torch.long)[None]).logits[0].numpy()
    return logits, np.array(chosen, dtype=np.int32)


def random_tokens(model):
    return np.random.Generator(np.random.PCG64(7)).integers(0, model.config.vocab_size, 200).astype(np.int32)


def store(name, model):
    out = os.path.join(GOLDEN, name)
    os.makedirs(out, exist_ok=True)
    tokens = random_tokens(model)
    logits, experts = run(model, tokens)
    np.save(os.path.join(out, "tokens.npy"), tokens)
    np.save(os.path.join(out, "logits.npy"), logits[::4].astype(np.float32))
    if len(experts):
        np.save(os.path.join(out, "experts.npy"), experts)
    print(name, "logits", logits.shape, "largest", np.abs(logits).max(), "experts", experts.shape)


def greedy(model, tokenizer, prompts):
    """The answers, and the smallest lead of a chosen token over the next best, in logits."""
    answers, lead = [], np.inf
    for prompt in prompts:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                            return_tensors="pt", return_dict=True)["input_ids"]
        out = model.generate(ids, do_sample=False, max_new_tokens=MAX_NEW, output_scores=True, return_dict_in_generate=True)
        top = torch.stack(out.scores)[:, 0].topk(2).values
        lead = min(lead, (top[:, 0] - top[:, 1]).min().item())
        new = out.sequences[0, ids.shape[1]:]
        answers.append({"ids": new.tolist(), "text": tokenizer.decode(new, skip_special_tokens=True)})
    return answers, lead


def answers_of(student, prompts):
    """What transformers answers from the directory and from its F16 GGUF, and the GGUF's SHA-256."""
    with tempfile.TemporaryDirectory() as tmp:
        gguf = os.path.join(tmp, "f16.gguf")
        retort("quantize", "--model", student, "--type", "F16", "--out", gguf)
        with open(gguf, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        # transformers 5.23 drops a qwen3 file's attention.key_length and takes heads of 128
        cfg = AutoConfig.from_pretrained(student)
        shape = {"config": cfg} if cfg.model_type == "qwen3" else {}
        f16, lead16 = greedy(load(tmp, gguf_file="f16.gguf", **shape), AutoTokenizer.from_pretrained(tmp, gguf_file="f16.gguf"), prompts)
        f32, lead32 = greedy(load(student), AutoTokenizer.from_pretrained(student), prompts)
        print("smallest lead of a greedy token: F16", lead16, "f32", lead32)
        for prompt, a, b in zip(prompts, f16, f32):
            for path, want in (gguf, a), (student, b):
                got = retort("generate", "--model", path, "--prompt", prompt, "--temperature", "0", "--max-tokens", str(MAX_NEW))
                print("same text" if got == want["text"] + "\n" else "OTHER TEXT", path, repr(want["text"]))
    return {"gguf_sha256": digest, "max_tokens": MAX_NEW,
            "answers": [{"prompt": p, "f16": a, "f32": b} for p, a, b in zip(prompts, f16, f32)]}


def make_student(out):
    with tempfile.TemporaryDirectory() as tmp:
        inside = lambda name: os.path.join(tmp, name)
        with open(inside("config.json"), "w") as f:
            json.dump(CONFIG, f)
        with open(inside("problems.jsonl"), "w") as f:
            f.write(problems(300, 1, "train"))
        retort("sample", "--teacher", TEACHER, "--prompts", inside("problems.jsonl"), "--out", inside("a.traces"), "--verify",
               "boxed", "--max-tokens", "256", "--seed", "1")
        retort("train", "--config", inside("config.json"), "--tokenizer", TEACHER, "--data", inside("a.traces"), "--out",
               inside("student"), "--steps", "600", "--batch-tokens", "1800", "--learning-rate", "0.01", "--max-length", "256")
        os.makedirs(out, exist_ok=True)
        for name in "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json":
            shutil.copy(inside("student/" + name), os.path.join(out, name))


def main():
    prompts = [json.loads(line)["prompt"] for line in problems(4, 9, "heldout").splitlines()]
    for path in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as tmp:
            model, ours = load(path), os.path.join(tmp, "logits.npy")
            np.save(os.path.join(tmp, "tokens.npy"), random_tokens(model))
            retort("logits", "--model", path, "--tokens", os.path.join(tmp, "tokens.npy"), "--out", ours)
            want = run(model, random_tokens(model))[0]
            print(path, "relative difference", np.abs(np.load(ours) - want).max() / np.abs(want).max())
        answers_of(path, prompts)
    if not sys.argv[1:]:
        store("example", load(TEACHER, experts_implementation="eager"))
        student = os.path.join(GOLDEN, "student")
        make_student(student)
        store("student", load(student))
        with open(os.path.join(student, "greedy.json"), "w") as f:
            f.write(json.dumps(answers_of(student, prompts)).replace('{"prompt"', '\n{"prompt"') + "\n")


main()
