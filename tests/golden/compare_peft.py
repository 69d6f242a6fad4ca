#!/usr/bin/env python3
"""compare_peft.py RETORT FOLDER: three optimizer steps of adapters by retort and by PEFT from the same start, on the
example's student (qwen3, f32): losses, and how far apart what the steps moved is. Needs torch, transformers, peft."""
import json, os, subprocess, sys
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

retort, folder = os.path.abspath(sys.argv[1]), sys.argv[2]
example = os.path.abspath("examples/reasoning")
os.makedirs(folder, exist_ok=True)
os.chdir(folder)
torch.set_num_threads(1)
with open("text.jsonl", "w") as f:
    for i in range(60):
        f.write(json.dumps({"id": f"p{i}", "prompt": f"What is {i} + 7?", "response": f"The sum of {i} and 7 is {i + 7}, dear friend."}) + "\n")


def run(*words):
    subprocess.run([retort, "-q", *words], check=True)


run("train", "--config", f"{example}/student-config.json", "--tokenizer", f"{example}/teacher", "--data", "text.jsonl",
    "--loss", "hard", "--steps", "5", "--batch-tokens", "600", "--out", "base", "--overwrite")
tokenizer = AutoTokenizer.from_pretrained("base")
docs = []
for line in open("text.jsonl"):
    r = json.loads(line)
    talk = [{"role": "user", "content": r["prompt"]}]
    prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(talk + [{"role": "assistant", "content": r["response"]}], tokenize=False)
    docs.append([tokenizer(t, add_special_tokens=False)["input_ids"] for t in (prompt, whole)])
tokens = sum(len(d[1]) for d in docs)  # a step takes every document once
for steps, rate, out in ((1, 0, "a0"), (1, 1e-3, "a1"), (3, 1e-3, "a3")):
    run("train", "--model", "base", "--data", "text.jsonl", "--loss", "hard", "--lora-rank", "8", "--lora-alpha", "16",
        "--batch-tokens", str(tokens), "--pass-tokens", "1024", "--schedule", "constant", "--warmup", "0", "--weight-decay", "0.01",
        "--clip", "0", "--beta2", "0.95", "--steps", str(steps), "--learning-rate", str(rate), "--out", out, "--overwrite")
ours = [json.loads(line)["loss"] for line in open("a3/metrics.jsonl")]

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32), "a0", is_trainable=True)
learned = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(learned, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
start, n, worst = load_file("a0/adapter_model.safetensors"), sum(len(w) - len(p) for p, w in docs), 0.0
for step in range(3):
    optimizer.zero_grad()
    total = 0.0
    for prompt, whole in docs:
        ids = torch.tensor([whole])
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum") / n
        loss.backward()
        total += loss.item()
    optimizer.step()
    worst = max(worst, abs(total - ours[step]) / total)
    print(f"step {step + 1}: loss {ours[step]:.6f}, PEFT {total:.6f}")
got, least = model.state_dict(), 1.0
for name, ours in load_file("a3/adapter_model.safetensors").items():
    a = (ours - start[name]).double().flatten()
    b = (got[name.replace(".weight", ".default.weight")] - start[name]).double().flatten()
    least = min(least, (torch.dot(a, b) / a.norm() / b.norm()).item())
print(f"largest difference of a loss {worst:.1e}; least cosine of what three steps moved {least:.9f}")
sys.exit(not (worst < 1e-5 and least > 0.999999))
