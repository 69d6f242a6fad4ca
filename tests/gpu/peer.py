# peer.py: the rows of bench_device from PyTorch on the same GPU, a JSON object a line: bf16 products,
# scaled_dot_product_attention (flash), copies from pinned memory, fused AdamW. Needs torch with CUDA.
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
p = torch.nn.Parameter(torch.rand(4096, 14336, device=dev))
p.grad = torch.rand_like(p)
adamw = torch.optim.AdamW([p], lr=1e-5, fused=True)
measure("adamw", adamw.step, 28.0 * p.numel(), 1e9, "GB/s")
