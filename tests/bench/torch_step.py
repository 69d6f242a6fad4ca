#!/usr/bin/env python3
"""The yardstick of bench_step: the same dense model, batch and optimizer in PyTorch on the same cores.

    pip install torch transformers
    python3 tests/bench/torch_step.py [threads]

Llama-style, 25M parameters (width 512, 6 layers, 8 heads, ffn 1408, vocabulary 6144), 8 documents of
512 tokens a step, AdamW, f32, scaled_dot_product_attention (eager attention where torch is too old to
have it: Debian 12's python3-torch with transformers 4.37.2 in a venv --system-site-packages). Prints
tokens/s of the median of 7 steps after 2 warm-up steps, the BLAS that torch was built with, and the
threads."""
import sys, time
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

threads = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
torch.set_num_threads(threads)
torch.manual_seed(0)
config = LlamaConfig(vocab_size=6144, hidden_size=512, intermediate_size=1408, num_hidden_layers=6,
                     num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=512,
                     tie_word_embeddings=False,
                     attn_implementation="sdpa" if hasattr(F, "scaled_dot_product_attention") else "eager")
model = LlamaForCausalLM(config).float().train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.05, foreach=True)
tokens = torch.randint(0, 6144, (8, 512))
seconds = []
for step in range(9):
    start = time.perf_counter()
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if step >= 2:
        seconds.append(time.perf_counter() - start)
took = sorted(seconds)[len(seconds) // 2]
n = sum(p.numel() for p in model.parameters())
blas = [l.strip() for l in torch.__config__.show().split("\n") if "BLAS" in l or "MKL" in l or "capability" in l]
print(f"torch {torch.__version__}: {n/1e6:.1f}M parameters, {threads} threads, {tokens.numel()/took:.0f} tokens/s, "
      f"{took*1e3:.0f} ms a step")
print("; ".join(blas)[:300])
