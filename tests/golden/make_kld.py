#!/usr/bin/env python3
"""kld.kld, kld.json: a base file of llama-perplexity --kl-divergence-base of made-up logits, written by numpy from
the description of the format alone, and the figures of other logits against it, in f64.

    pip install numpy; python3 tests/golden/make_kld.py        (made with numpy 2.4, python 3.11)
"""
import json
import os
import struct

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(7)
window, vocab, windows = 9, 13, 5  # odd, so that a row is padded
rows = window - 1 - window // 2
tokens = rng.integers(0, vocab, (windows, window)).astype(np.int32)
# multiples of 1/64: both programs read the same f32; wide enough that the cut at 16 nats is met
logits = (rng.integers(-1400, 1400, (windows, rows, vocab)) / 64).astype(np.float32)
logits[0, 0] = 2.5  # all alike: the scale is 0
other = (logits + (rng.integers(-200, 200, logits.shape) / 64)).astype(np.float32)

padded = 2 * ((vocab + 1) // 2)
blob = b"_logits_" + struct.pack("<3i", window, vocab, windows) + tokens.tobytes()
base = np.zeros((windows, rows, vocab))
for w in range(windows):
    for r in range(rows):
        x = logits[w, r]
        most = x.max()
        least = max(x.min(), np.float32(most - np.float32(16)))
        scale = np.float32(np.float32(most - least) / np.float32(65535))
        least_logp = np.float32(np.float64(least) - np.float64(most) - np.log(np.exp(x.astype(np.float64) - most).sum()))
        q = np.zeros(padded, np.uint16)
        if scale > 0:
            steps = np.rint((x - least) * np.float32(np.float32(1) / scale))
            q[:vocab] = np.where(x > least, steps, 0)
        blob += struct.pack("<2f", scale, least_logp) + q.tobytes()
        base[w, r] = np.float64(scale) * q[:vocab] + np.float64(least_logp)
with open(os.path.join(here, "kld.kld"), "wb") as f:
    f.write(blob)

x = other.astype(np.float64)
logp = x - x.max(-1, keepdims=True)
logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
kl = (np.where(base > -16, np.exp(base), 0) * (base - logp)).sum(-1).ravel()
nxt = tokens[:, window // 2 + 1:]
nll = -np.take_along_axis(logp, nxt[..., None], -1).ravel()
nll_base = -np.take_along_axis(base, nxt[..., None], -1).ravel()
dp = np.exp(-nll) - np.exp(-nll_base)
n = kl.size
se = lambda v: float(v.std(ddof=1) / np.sqrt(n))
same = float((logp.argmax(-1) == base.argmax(-1)).mean())
figures = {
    "kl": float(kl.mean()), "kl_se": se(kl), "kl_max": float(kl.max()), "kl_min": float(kl.min()),
    "kl_median": float(np.median(kl)), "kl_p99": float(np.quantile(kl, .99)), "kl_p10": float(np.quantile(kl, .1)),
    "agreement": same, "agreement_se": float(np.sqrt(same * (1 - same) / (n - 1))),
    "delta_p": float(dp.mean()), "delta_p_se": se(dp), "delta_p_rms": float(np.sqrt((dp ** 2).mean())),
    "delta_p_rms_se": float(se(dp ** 2) / (2 * np.sqrt((dp ** 2).mean()))),
    "delta_p_p95": float(np.quantile(dp, .95)),
    "perplexity_reference": float(np.exp(nll_base.mean())),
    "perplexity_reference_se": float(np.exp(nll_base.mean()) * se(nll_base)),
    "perplexity_se": float(np.exp(nll.mean()) * se(nll)),
    "perplexity_ratio": float(np.exp(nll.mean() - nll_base.mean())),
    "perplexity_ratio_se": float(np.exp(nll.mean() - nll_base.mean()) * se(nll - nll_base)),
    "log_perplexity_correlation": float(np.corrcoef(nll, nll_base)[0, 1]),
}
with open(os.path.join(here, "kld.json"), "w") as f:
    json.dump({"made_with": "numpy " + np.__version__, "window": window, "vocab": vocab, "windows": windows,
               "logits": [float(v) for v in logits.ravel()], "other": [float(v) for v in other.ravel()],
               "figures": figures}, f, indent=0)
