# compare.py A B TOLERANCE: two .npy files of logits (largest difference by the largest logit) or two metrics.jsonl
# (losses of the same steps, relative). Says the figure, exit 1 when it is larger.
import json, sys
import numpy as np

a, b, tolerance = sys.argv[1], sys.argv[2], float(sys.argv[3])
if a.endswith(".npy"):
    x, y = np.load(a).astype(np.float64), np.load(b).astype(np.float64)
    worst = float(np.abs(x - y).max() / np.abs(x).max())
else:
    x, y = ([json.loads(line) for line in open(path) if '"loss"' in line] for path in (a, b))
    assert len(x) == len(y) > 0, "other steps"
    worst = max(abs(p["loss"] - q["loss"]) / max(abs(p["loss"]), 1e-3) for p, q in zip(x, y))
print(f"largest difference {worst:.3g}, {tolerance:.3g} is allowed")
sys.exit(not worst <= tolerance)
