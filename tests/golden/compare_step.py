#!/usr/bin/env python3
"""compare_step.py RETORT FOLDER [PART...]: training of all weights by retort against what others wrote, on tiny models.
Needs torch >= 2.9, transformers, numpy, and torchao for `moments` (2.15.0, 5.24.0, 2.4.6, 0.18.0 gave README's figures); some minutes
on one core. Parts (all, if none is named):

gradients  one step of several passes, each loss: every tensor's gradient against transformers and autograd, f32
curve      300 steps of AdamW, clipping, schedule and order of documents included, against torch.optim.AdamW
muon       10 steps of --optimizer muon against torch.optim.Muon, in f32 and in the bfloat16 that it uses
moments    both moments of --moments 8bit against torchao's codes; 100 steps of it and of --master-dtype bf16

The losses are written from docs/losses.md over whole rows in float64, the order of documents from corpora/corpus.h.
Prints a table and exits 1 when a line misses its bound."""
import json, os, random, shutil, subprocess, sys, time, warnings
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, get_cosine_with_min_lr_schedule_with_warmup
from transformers.utils.logging import disable_progress_bar

if len(sys.argv) < 3:
    sys.exit(__doc__)
here = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(here))
from read_traces import samples

retort, folder = os.path.abspath(sys.argv[1]), sys.argv[2]
example = os.path.join(here, "../../examples/reasoning")
teacher = f"{example}/teacher"
os.makedirs(folder, exist_ok=True)
os.chdir(folder)
torch.set_num_threads(1)
disable_progress_bar()
warnings.filterwarnings("ignore", "Detected call of .lr_scheduler")  # which is what curve wants
missed = 0


def run(*words, **more):
    return subprocess.run([retort, "-q", *words], check=True, stdout=subprocess.DEVNULL, **more)


def line(what, value, bound, least=False):
    """A row of the table: value is bound at most, or at least."""
    global missed
    bad = not (value >= bound if least else value <= bound)
    missed += bad
    value = f"{value:.9f}" if least else f"{value:.2e}"
    print(f"{what:<66} {value:>12} {'>=' if least else '<='} {bound:g}{'   MISSED' if bad else ''}", flush=True)


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return (torch.dot(a, b) / a.norm() / b.norm()).item()


# ---- data: archives that retort made -----------------------------------------------------------------------------


def write_texts(path, n):
    """Texts that the teacher expects, in part; the rest of them leaves it unsure."""
    draw = random.Random(7)
    with open(path, "w") as f:
        for i in range(n):
            a, b = draw.randrange(2, 400), draw.randrange(2, 400)
            words = " ".join(draw.choice("cups Fay the of gives seven Leo boxes finds was how many sky 41 7+".split()) for _ in range(12))
            f.write(json.dumps({"messages": [
                {"role": "user", "content": f"Fay has {a} cups. Fay finds {b}. How many now?"},
                {"role": "assistant", "content": f"{words}. So {a}+{b} now {a + b}"}]}) + "\n")


def archive(out):
    """-> documents, in the archive's order"""
    return [s for k in sorted(os.listdir(out)) if k.startswith("shard") for s in samples(f"{out}/{k}")]


def scored():
    write_texts("texts.jsonl", 24)
    run("score", "--teacher", teacher, "--data", "texts.jsonl", "--out", "scored.traces", "--temperatures", "2")
    return archive("scored.traces")


def sampled(name, n, seed):
    with open(f"{name}.jsonl", "w") as f:
        subprocess.run([f"{os.path.dirname(retort)}/reasoning-problems", "--n", str(n), "--seed", str(seed)], check=True, stdout=f)
    run("sample", "--teacher", teacher, "--prompts", f"{name}.jsonl", "--out", f"{name}.traces", "--verify", "boxed",
        "--max-tokens", "256", "--seed", str(seed))
    return [s for s in archive(f"{name}.traces") if s["verdict"] == "correct"]


# ---- losses, from docs/losses.md ---------------------------------------------------------------------------------


def outcomes(rows, vocab, temperature):
    """The teacher's head as (rows, V) probabilities and a mask, its tail as (rows, 1), at a temperature."""
    p, mask = torch.zeros(len(rows), vocab, dtype=torch.float64), torch.zeros(len(rows), vocab, dtype=torch.bool)
    tail = torch.zeros(len(rows), 1, dtype=torch.float64)
    for i, r in enumerate(rows):
        ids, logp = zip(*r["head"])
        log_z = r["log_z"][0] if temperature != 1 else 0
        p[i, list(ids)] = torch.exp(torch.tensor(logp, dtype=torch.float64) / temperature - log_z)
        mask[i, list(ids)] = True
        tail[i] = np.exp(r["tail_logmass"])
        if temperature > 1:
            tail[i] = max(tail[i].item(), 1 - p[i].sum().item())
    return p, mask, tail


def kl(p, q):
    """sum p log(p/q) over outcomes, of which p may lack some"""
    return torch.where(p > 0, p * (torch.log(p.clamp_min(1e-300)) - torch.log(q.clamp_min(1e-300))), 0).sum(-1)


def forward_targets(p, rows, spacing):
    """The head p and the draws as one unbiased distribution, and its entropy"""
    for i, r in enumerate(rows):
        for token, hits in r["draws"]:
            p[i, token] += hits * spacing
    return p, torch.tensor([r["entropy"] for r in rows])


def forward_loss(logq, p, entropy):
    return -(p * logq).sum(-1) - entropy


def loss_of(name, logits, rows, labels, spacing, temperature):
    """-> (rows) of one term; logits (rows, V)"""
    logits = logits.double()
    if name == "hard":
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    logq = torch.log_softmax(logits / temperature, -1)
    p, mask, tail = outcomes(rows, logits.shape[1], temperature)
    if name == "forward":
        return forward_loss(logq, *forward_targets(p, rows, spacing))
    q = torch.where(mask, logq.exp(), 0)
    q_tail = torch.where(mask, 0, logq.exp()).sum(-1, keepdim=True)
    if name == "renorm":
        r = p / p.sum(-1, keepdim=True)
        return torch.where(mask, r * (torch.log(r.clamp_min(1e-300)) - logq), 0).sum(-1) * temperature**2
    floor = float(np.exp(-69))  # a lighter tail counts as that heavy inside a logarithm
    p, q = torch.cat([p, tail], -1), torch.cat([q, q_tail], -1)
    at = torch.cat([p[:, :-1], tail.clamp_min(floor)], -1)
    if name == "bucket":
        value = kl(p, q)
    elif name == "reverse":
        value = kl(q, at)
    elif name == "jsd":
        m = (at + q) / 2
        value = kl(p, m) / 2 + kl(q, m) / 2
    elif name == "skew":
        value = kl(p, 0.1 * at + 0.9 * q)
    elif name == "skew-reverse":
        value = kl(q, 0.1 * q + 0.9 * at)
    elif name == "tvd":
        value = (p - q).abs().sum(-1) / 2
    return value * temperature**2


def loss_rows(docs):
    """-> ids (documents, longest), padded on the right, where no causal row sees it; where rows lie, what they learn"""
    ids = torch.zeros(len(docs), max(len(d["tokens"]) for d in docs), dtype=torch.long)
    at, rows, labels = [], [], []
    for k, d in enumerate(docs):
        ids[k, : len(d["tokens"])] = torch.tensor(d["tokens"])
        for begin, end in d["spans"]:
            for t in range(max(begin, 1), end):
                at.append((k, t - 1))
                rows.append(d["soft"][t - d["soft_first"]])
                labels.append(d["tokens"][t])
    return ids, tuple(torch.tensor(at).T), rows, torch.tensor(labels)


# ---- models ------------------------------------------------------------------------------------------------------

TINY = {  # head_dim x heads is not the width; the tokenizer has 485 ids
    "llama": dict(vocab_size=496, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=16, tie_word_embeddings=False),
    "llama tied": dict(vocab_size=485, hidden_size=42, intermediate_size=72, num_hidden_layers=2, num_attention_heads=6,
                       num_key_value_heads=3, head_dim=10, tie_word_embeddings=True),
    "qwen3": dict(vocab_size=485, hidden_size=40, intermediate_size=68, num_hidden_layers=3, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=14, tie_word_embeddings=False),
    "qwen3 tied": dict(vocab_size=490, hidden_size=36, intermediate_size=60, num_hidden_layers=2, num_attention_heads=5,
                       num_key_value_heads=1, head_dim=16, tie_word_embeddings=True),
}
STUDENT = dict(vocab_size=485, hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4,
               num_key_value_heads=2, head_dim=24, tie_word_embeddings=False)  # qwen3; learns for a while


def make(out, family, scale, facts):
    """A model of transformers' making, with the teacher's tokenizer, on disk"""
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, max_position_embeddings=512, initializer_range=scale, pad_token_id=None, **facts)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    for key, w in model.named_parameters():
        if "norm" in key and scale > 0.1:
            torch.nn.init.uniform_(w, 0.5, 1.5)
    model.save_pretrained(out)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{teacher}/{file}", out)
    return model


def student():
    return make("student", "qwen3", 0.05, STUDENT)


def checkpoint(step, out, *words):
    """What retort's checkpoint after a step holds; the run goes on for one step and takes it away at its end."""
    kept = f"{out}.checkpoint"
    shutil.rmtree(out, ignore_errors=True)
    if os.path.exists(kept):
        os.remove(kept)
    p = subprocess.Popen([retort, "-q", "train", "--out", out, "--steps", str(step + 1), "--save-every", str(step), *words])
    while p.poll() is None:
        try:
            os.link(f"{out}/checkpoint.safetensors", kept)
            break
        except FileNotFoundError:
            time.sleep(0.0005)
    if p.wait() or not os.path.exists(kept):
        sys.exit(f"{out}: no checkpoint was seen")
    return load_file(kept)


# ---- the order of documents, from corpora/corpus.h ----------------------------------------------------------------


def philox(seed, stream, index):
    """The first word of Philox4x32-10 (Salmon et al. 2011)"""
    low = 0xFFFFFFFF
    c, k0, k1 = [index & low, index >> 32, stream, 0], seed & low, seed >> 32
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & low, (a >> 32) ^ c[3] ^ k1, a & low]
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c[0]


def place(n, seed, epoch, at):
    """A permutation of [0, n): a Feistel network over the next power of 4, walked until it falls inside"""
    half = 1
    while 4**half < n:
        half += 1
    while True:
        left, right = at >> half, at & (2**half - 1)
        for turn in range(4):
            mixed = left ^ philox(seed, 2, epoch << 34 ^ turn << 32 ^ right) & (2**half - 1)
            left, right = right, mixed
        at = left << half | right
        if at < n:
            return at


def batches(docs, seed, batch_tokens):
    """Whole documents until the next would pass batch_tokens"""
    index = 0
    while True:
        batch, tokens = [], 0
        while tokens < batch_tokens:
            d = docs[place(len(docs), seed, index // len(docs), index % len(docs))]
            if batch and tokens + len(d["tokens"]) > batch_tokens:
                break
            batch.append(d)
            tokens += len(d["tokens"])
            index += 1
        yield batch


# ---- training by torch -------------------------------------------------------------------------------------------

SETTINGS = dict(loss="forward", seed=5, batch_tokens=900, pass_tokens=400, max_length=400, clip=1, weight_decay=0.05, beta2=0.98)


def flags(**more):
    return [w for k, v in {**SETTINGS, **more}.items() for w in ("--" + k.replace("_", "-"), str(v))]


def adamw(weights, rate):
    """Decay is for matrices"""
    groups = [{"params": [w for w in weights if w.dim() > 1], "weight_decay": 0.05},
              {"params": [w for w in weights if w.dim() == 1], "weight_decay": 0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-8)


def learn(model, docs, steps, optimizers, schedules=()):
    """-> the losses of steps with SETTINGS"""
    feed, spacing, losses = batches(docs, SETTINGS["seed"], SETTINGS["batch_tokens"]), 1 / 32, []
    for _ in range(steps):
        batch = next(feed)
        ids, at, rows, _ = loss_rows(batch)
        p = torch.cat([cached(d, spacing)[0] for d in batch])
        entropy = torch.cat([cached(d, spacing)[1] for d in batch])
        loss = forward_loss(torch.log_softmax(model(ids).logits[at].double(), -1), p, entropy).mean()
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        for o in optimizers:
            o.step()
        for s in schedules:
            s.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def cached(d, spacing):
    if "target" not in d:
        rows = loss_rows([d])[2]
        d["target"] = forward_targets(outcomes(rows, 485, 1)[0], rows, spacing)
    return d["target"]


def metrics(out, key="loss"):
    return torch.tensor([json.loads(l)[key] for l in open(f"{out}/metrics.jsonl") if key in json.loads(l)], dtype=torch.float64)


# ---- parts -------------------------------------------------------------------------------------------------------


def curve():
    docs, steps, rate, warmup = sampled("train", 300, 1), 300, 2e-3, 30
    model = student()
    run("train", "--model", "student", "--data", "train.traces", "--steps", str(steps), "--learning-rate", str(rate),
        "--warmup", str(warmup), *flags(), "--out", "curve", "--overwrite")
    ours = metrics("curve")
    o = adamw(list(model.parameters()), rate)
    s = get_cosine_with_min_lr_schedule_with_warmup(o, warmup, steps, min_lr_rate=0.1)
    s.step()  # its first step has rate 0; retort begins with the second
    theirs = learn(model, docs, steps, [o], [s])
    apart = (ours - theirs).abs() / theirs
    print(f"loss at 1, 50, 300: retort {ours[0]:.6f} {ours[49]:.6f} {ours[-1]:.6f}, torch {theirs[0]:.6f} {theirs[49]:.6f} {theirs[-1]:.6f}")
    line("AdamW: loss, relative, first 50 steps", apart[:50].max().item(), 2e-5)
    line("AdamW: loss, relative, 300 steps", apart.max().item(), 1e-3)


def muon():
    docs, steps, rate, rounded = sampled("train", 300, 1), 10, 2e-3, torch.bfloat16
    student()
    run("train", "--model", "student", "--data", "train.traces", "--steps", str(steps), "--learning-rate", str(rate), "--warmup", "0",
        "--schedule", "constant", "--optimizer", "muon", "--momentum", "0.95", *flags(), "--out", "muon", "--overwrite")
    start, ours = load_file("student/model.safetensors"), load_file("muon/model.safetensors")
    for form, alike, least in ((torch.float32, 1e-4, 0.999999), (rounded, 1e-3, 0.999)):
        model = student()
        hidden = {k for k, w in model.named_parameters() if k.startswith("model.layers.") and w.dim() == 2}
        of = {k: [w for n, w in model.named_parameters() if (n in hidden) == k] for k in (True, False)}
        torch.bfloat16 = form  # which torch.optim.Muon takes by this name
        o = torch.optim.Muon(of[True], lr=rate, weight_decay=0.05, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw")
        theirs = learn(model, docs, steps, [o, adamw(of[False], rate)])
        torch.bfloat16 = rounded
        moved = {k: cosine(ours[k] - start[k], w.detach() - start[k]) for k, w in model.named_parameters()}
        form = str(form).split(".")[1]
        line(f"Muon in {form}: loss, relative, 10 steps", ((metrics("muon") - theirs).abs() / theirs).max().item(), alike)
        line(f"Muon in {form}: what moved, least cosine of a matrix", min(v for k, v in moved.items() if k in hidden), least, True)
        line(f"Muon in {form}: what moved, least cosine of the rest", min(v for k, v in moved.items() if k not in hidden), least, True)


def gradients():
    docs = scored()
    ids, at, rows, labels = loss_rows(docs)
    tokens = sum(len(d["tokens"]) for d in docs)
    spacing = json.load(open("scored.traces/manifest.json"))["capture"]["tail_spacing"]
    short = sum(len(r["head"]) == 1 for r in rows)
    print(f"{len(docs)} documents, {tokens} tokens, {len(rows)} rows, {short} of them with a head of one token")
    for name in TINY:
        out = name.replace(" ", "-")
        model = make(out, name.split()[0], 0.15, TINY[name])
        logits = model(ids).logits[at][:, :485]
        for loss, temperature in (("hard", 1), ("forward", 1), ("bucket", 1), ("renorm", 1), ("reverse", 1), ("jsd", 1),
                                  ("skew", 1), ("skew-reverse", 1), ("tvd", 1), ("bucket", 2), ("reverse", 2), ("jsd", 2)):
            model.zero_grad()
            want = loss_of(loss, logits, rows, labels, spacing, temperature).mean()
            want.backward(retain_graph=True)
            state = checkpoint(1, "run", "--model", out, "--data", "scored.traces", "--loss", loss, "--loss-first", "none",
                               "--temperature", str(temperature), "--batch-tokens", str(tokens), "--pass-tokens", "500", "--head-rows", "64",
                               "--learning-rate", "0", "--beta1", "0", "--clip", "0")
            ours = json.loads(open("run/metrics.jsonl").readline())["loss"]
            least, size = 1, 0
            for key, w in model.named_parameters():
                if w.grad is None or key not in {k[len("moment1."):] for k in state if k.startswith("moment1.")}:
                    sys.exit(f"{name}: {key} has no gradient to compare")
                g = state[f"moment1.{key}"]
                least = min(least, cosine(g, w.grad))
                size = max(size, abs(g.norm() / w.grad.norm() - 1).item())
            label = f"{name}, {loss}{f' at {temperature}' if temperature != 1 else ''}"
            line(f"{label}: loss, relative", abs(ours - want.item()) / abs(want.item()), 2e-5)
            line(f"{label}: gradient, least cosine of a tensor", least, 0.999999, True)
            line(f"{label}: gradient, norm of a tensor, relative", size, 1e-5)


def coded(block_bytes, qmap, signed):
    """What retort's codes (kernels/moment.h) say by torchao's map: blocks of a scale and 256 codes -> (elements)"""
    blocks = block_bytes.view(-1, 260)
    scale = blocks[:, :4].contiguous().view(torch.float32)
    zero, one = (qmap == 0).nonzero().item(), len(qmap) - 1
    code = torch.arange(256)
    index = torch.where(code <= 128, zero + code, zero - (code - 128)) if signed else code
    assert signed and one - zero == 128 or not signed and zero == 0
    return (scale * qmap[index][blocks[:, 4:].long()]).flatten()


def moments():
    from torchao.optim.subclass_8bit import OptimState8bit

    docs = sampled("train", 300, 1)
    sampled("heldout", 60, 2)
    student()
    plain = ["--model", "student", "--data", "train.traces", "--learning-rate", "2e-3", *flags()]
    whole, codes = (checkpoint(1, f"moments-{m}", *plain, "--warmup", "10", "--moments", m) for m in ("f32", "8bit"))
    for moment, signed in (("moment1.", True), ("moment2.", False)):
        keys = [k for k, v in codes.items() if k.startswith(moment) and v.dtype == torch.uint8]
        other, far, values = 0, 0, 0
        for k in keys:
            w = whole[k] if signed else whole[k].double().sqrt().float()  # ours keeps the root; torch's own f32 one is an ulp off at times
            theirs = OptimState8bit.zeros(w.shape, signed=signed, block_size=256)
            theirs.copy_(w)
            a, b = coded(codes[k], theirs.qmap, signed), theirs.dequantize().flatten()
            other += (a != b).sum().item()
            far = max(far, ((a - b).abs().view(-1, 256).amax(1) / b.view(-1, 256).abs().amax(1).clamp_min(1e-30)).max().item())
            values += a.numel()
        print(f"{len(keys)} matrices, {values} values, {other} of them another code; farthest apart, of their block's largest: {far:.1e}")
        line(f"{moment[:-1]}: share of values whose code is another than torchao's", other / values, 0)
    end = {}
    for form, words in (("f32", []), ("8bit", ["--moments", "8bit"]), ("bf16", ["--master-dtype", "bf16"]),
                        ("bf16 and 8bit", ["--moments", "8bit", "--master-dtype", "bf16"])):
        for seed in range(3):
            out = f"end-{form.replace(' ', '-')}-{seed}"
            run("train", *plain[:-2 * len(SETTINGS)], *flags(seed=seed), "--warmup", "10", "--steps", "100", *words, "--eval-data", "heldout.traces",
                "--out", out, "--overwrite")
            end[form, seed] = metrics(out, "eval_ce")[-1].item()
        value = [end[form, s] for s in range(3)]
        print(f"{form}: held-out cross-entropy after 100 steps, three seeds: {' '.join(f'{v:.4f}' for v in value)}")
        if form != "f32":
            line(f"{form}: held-out cross-entropy, from f32, relative, mean", abs(sum(value) / sum(end["f32", s] for s in range(3)) - 1), 1e-2)


def main():
    parts = {f.__name__: f for f in (gradients, curve, muon, moments)}
    if set(sys.argv[3:]) - set(parts):
        sys.exit(f"parts are {', '.join(parts)}")
    for name in sys.argv[3:] or parts:
        print(f"-- {name}")
        parts[name]()
    print(f"{missed} lines missed their bound")
    return missed > 0


sys.exit(main())
