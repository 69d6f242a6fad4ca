# peer.py: the rows of bench_device from PyTorch on the same GPU, a JSON object a line: bf16 products,
# scaled_dot_product_attention (flash), copies from pinned memory, the head of a distillation step with a sparse
# target and a tail bucket (eager, and compiled under a name of its own), fused AdamW. Needs torch with CUDA.
import json, statistics, sys, time
import torch

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
dev = "cuda"


def measure(name, run, units, per, unit):
    times, seconds = 1, []
    for i in range(-2, 7):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(times):
            run()
        torch.cuda.synchronize()
        took = (time.perf_counter() - begun) / times
        if i < 0:
            times = max(1, min(200, int(0.02 / took)))
        else:
            seconds.append(took)
    median = statistics.median(seconds)
    print(json.dumps({"name": name, "seconds": median, "rate": round(units / median / per, 1), "unit": unit}), flush=True)


def bf16(*shape):
    return torch.rand(*shape, device=dev, dtype=torch.bfloat16) - 0.5


here = torch.empty(200 << 20, dtype=torch.uint8, pin_memory=True)
there = torch.empty(200 << 20, dtype=torch.uint8, device=dev)
measure("copy there", lambda: there.copy_(here, non_blocking=True), here.numel(), 1e9, "GB/s")
measure("copy back", lambda: here.copy_(there, non_blocking=True), here.numel(), 1e9, "GB/s")
for name, n, k in (("attention", 4096, 4096), ("gate", 14336, 4096), ("down", 4096, 14336)):
    x, w, dy = bf16(ROWS, k), bf16(n, k), bf16(ROWS, n)
    dw = torch.zeros(n, k, device=dev, dtype=torch.bfloat16)
    flops = 2.0 * ROWS * n * k
    measure("forward " + name, lambda: x @ w.t(), flops, 1e12, "TFLOP/s")
    measure("dx " + name, lambda: dy @ w, flops, 1e12, "TFLOP/s")
    measure("dw " + name, lambda: dw.addmm_(dy.t(), x), flops, 1e12, "TFLOP/s")
one, w = bf16(1, 4096), bf16(14336, 4096)
measure("one row bf16", lambda: one @ w.t(), w.numel() * 2.0, 1e9, "GB/s")
for h, g, dk, dv in ((32, 8, 64, 64), (32, 8, 128, 128), (16, 16, 192, 128), (16, 8, 256, 256)):
    q = bf16(1, h, ROWS, dk).requires_grad_()
    k = bf16(1, g, ROWS, dk).requires_grad_()
    v = bf16(1, g, ROWS, dv).requires_grad_()
    dout = bf16(1, h, ROWS, dv)
    flops = float(ROWS) * ROWS * h * (dk + dv)
    attend = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.1, enable_gqa=g < h)
    with torch.no_grad():
        measure(f"attention {dk}/{dv}", attend, flops, 1e12, "TFLOP/s")
    out = attend()
    measure(f"attention backward {dk}/{dv}", lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True),
            2.5 * flops, 1e12, "TFLOP/s")


def kd(logits, ids, logp, tail):
    logq = logits.float()
    logq = logq - torch.logsumexp(logq, 1, keepdim=True)
    head = logq.gather(1, ids)
    rest = torch.log1p(-torch.exp(head).sum(1).clamp(max=1 - 1e-6))
    p = torch.exp(logp)
    return (p * (logp - head)).sum() + (torch.exp(tail) * (tail - rest)).sum()


def dense(x, w, ids, logp, tail):
    return (x @ w.t()).sum()


def distilled(x, w, ids, logp, tail):
    return kd(x @ w.t(), ids, logp, tail)


for v in (128256, 248320):
    w = (bf16(v, 4096) * 0.05).requires_grad_()
    for n in (1024, 8192, 32768):
        x = bf16(n, 4096).requires_grad_()
        ids = torch.stack([torch.randperm(v, device=dev)[:64] for _ in range(16)]).repeat(n // 16, 1)
        logp = torch.log_softmax(torch.rand(n, 65, device=dev), 1)
        for name, fn in (("dense", dense), ("kd", distilled), ("kd compiled", torch.compile(distilled))):
            try:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
                step = lambda: torch.autograd.grad(fn(x, w, ids, logp[:, :64], logp[:, 64]), (x, w))
                measure(f"head {name} {n // 1024}k x {v // 1000}k", step, 6.0 * n * v * 4096, 1e12, "TFLOP/s")
                if name == "kd":
                    beside = (torch.cuda.max_memory_allocated() - held - w.numel() * 2) / 1e9
                    print(json.dumps({"name": f"head bytes {n // 1024}k x {v // 1000}k beside weights", "seconds": 0,
                                      "rate": round(beside, 3), "unit": "GB"}), flush=True)
            except Exception as e:
                print(f"head {name} {n} x {v}: {type(e).__name__}", file=sys.stderr)
    del w, x
p = torch.nn.Parameter(torch.rand(4096, 14336, device=dev))
p.grad = torch.rand_like(p)
adamw = torch.optim.AdamW([p], lr=1e-5, fused=True)
measure("adamw", adamw.step, 28.0 * p.numel(), 1e9, "GB/s")
