#!/usr/bin/env python3
"""Seeds of the fuzz targets, tests/fuzz/seeds/TARGET/*: small files of every form a reader knows,
cut from the golden files or written here byte by byte.

Needs nothing but Python and a built tree.  Run: python3 tests/fuzz/make_seeds.py build
"""
import glob
import gzip
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

here = os.path.dirname(os.path.abspath(__file__))
golden = os.path.join(here, "..", "golden")
build = sys.argv[1]


def put(target, name, data):
    folder = os.path.join(here, "seeds", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def load(path):
    with open(os.path.join(golden, path), "rb") as f:
        return f.read()


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# ---- safetensors ----

def safetensors():
    put("safetensors", "small", load("small.safetensors"))
    put("safetensors", "index", compact({"metadata": {"total_size": 8},
                                         "weight_map": {"a": "a.safetensors"}}))
    for i, kinds in enumerate([["F4", "F8_E4M3", "F8_E5M2", "F8_E8M0"], ["BOOL", "I8", "I16", "U16"],
                               ["C64", "F64", "U64", "U32"], ["F6_E2M3", "F6_E3M2"]]):
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for kind in kinds:
            bits = int("".join(c for c in kind.split("_")[0] if c.isdigit()) or 8)
            n = 8 * bits // 8
            header[kind.lower()] = {"dtype": kind, "shape": [2, 4], "data_offsets": [at, at + n]}
            at += n
        text = compact(header).encode()
        put("safetensors", f"kinds{i}", struct.pack("<Q", len(text)) + text + bytes(range(at)))


# ---- config.json ----

def config():
    for path in glob.glob(os.path.join(golden, "models", "*", "config.json")) + \
            glob.glob(os.path.join(golden, "stored", "*", "config.json")):
        c = json.load(open(path))
        for key in ("architectures", "transformers_version", "use_cache", "attention_dropout"):
            c.pop(key, None)
        name = os.path.basename(os.path.dirname(path))
        put("config", name, compact(c) + ('\n====\n{"eos_token_id":[2,7]}' if name < "g" else ""))


# ---- tokenizer.json ----

def cut_tokenizer(t, keep):
    """The first `keep` tokens of the vocabulary that matter, merges among them, ids from 0."""
    special = {a["content"] for a in t["added_tokens"][:3]}
    merges = [m if isinstance(m, list) else m.split(" ", 1) for m in t["model"]["merges"]]
    wanted = [w for m in merges[:6] for w in (*m, m[0] + m[1])]
    vocab = list(t["model"]["vocab"])
    order = [v for v in vocab if v in special] + wanted + vocab[:keep] + \
            [v for v in vocab if v.startswith("<0x4")]
    ids = {v: i for i, v in enumerate(dict.fromkeys(v for v in order if v in t["model"]["vocab"]))}
    for a in t["added_tokens"][:3]:
        ids.setdefault(a["content"], len(ids))
    t["added_tokens"] = [dict(a, id=ids[a["content"]]) for a in t["added_tokens"][:3]]
    t["model"]["vocab"] = {v: i for v, i in ids.items() if v in t["model"]["vocab"]}
    cut = [m for m in merges if all(w in ids for w in (*m, m[0] + m[1]))]
    t["model"]["merges"] = cut if isinstance(t["model"]["merges"][0], list) else \
        [" ".join(m) for m in cut]
    after = t.get("post_processor") or {}
    for p in after.get("processors", [after]):
        for s in p.get("special_tokens", {}).values():
            s["ids"] = [ids.get(w, 0) for w in s["tokens"]]
    return compact(t)


def tokenizer():
    for path in glob.glob(os.path.join(golden, "tokenizers", "*", "tokenizer.json")):
        name = os.path.basename(os.path.dirname(path))
        settings = open(os.path.join(os.path.dirname(path), "tokenizer_config.json")).read()
        put("tokenizer", name, cut_tokenizer(json.load(open(path)), 24) +
            ("\n====\n" + settings if len(name) % 2 else ""))
    put("tokenizer", "bytes", cut_tokenizer(json.loads(load("tokenizers/gpt-2/tokenizer.json")), 260))
    model = {"type": "BPE", "vocab": {c: i for i, c in enumerate([*"abcdefghi 12<>s▁é", "ab", "de"])},
             "merges": ["a b", "d e"], "unk_token": "a"}
    parts = {
        "pre_tokenizer": [
            *({"type": "Split", "pattern": {k: p}, "behavior": b, "invert": i}
              for k, p, b, i in [("Regex", "\\p{L}+", "Isolated", False),
                                 ("Regex", "\\s+(?!\\S)|\\d{1,3}", "Removed", True),
                                 ("String", "a", "MergedWithPrevious", False),
                                 ("Regex", "[^\\s\\p{L}&&[^1]]", "MergedWithNext", False),
                                 ("Regex", "(?i:'s|'t)|^x$", "Contiguous", False)]),
            {"type": "Digits", "individual_digits": True},
            {"type": "Punctuation", "behavior": "Isolated"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
            {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": False},
                {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}]}],
        "normalizer": [
            {"type": "NFC"}, {"type": "NFKC"}, {"type": "Strip", "strip_left": True,
                                                "strip_right": True},
            {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]}],
        "decoder": [
            {"type": "ByteLevel"}, {"type": "Metaspace", "replacement": "▁"},
            {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}],
    }
    for part, values in parts.items():
        for i, value in enumerate(values):
            put("tokenizer", f"{part}{i}", compact({part: value, "model": model, "added_tokens": [
                {"id": 40, "content": "<s>", "single_word": i % 2 == 0, "lstrip": i % 3 == 0,
                 "rstrip": i % 3 == 1, "normalized": i % 2 == 1, "special": i % 4 < 2}]}))


# ---- GGUF ----

TYPES = {int: (5, "<i"), float: (6, "<f"), bool: (7, "<?")}
SIZES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
         12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 30: (1, 2), 39: (32, 17),
         19: (256, 50), 24: (1, 1), 26: (1, 4)}


def gguf_string(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def gguf_value(v):
    if isinstance(v, str):
        return 8, gguf_string(v)
    if isinstance(v, list):
        each = [gguf_value(x) for x in v]
        return 9, struct.pack("<IQ", each[0][0] if each else 5, len(v)) + b"".join(b for _, b in each)
    kind, form = TYPES[type(v)]
    return kind, struct.pack(form, v)


def gguf(name, keys, tensors, version=3, alignment=32):
    head = struct.pack("<IIQQ", 0x46554747, version, len(tensors), len(keys))
    for key, value in keys.items():
        kind, data = gguf_value(value)
        head += gguf_string(key) + struct.pack("<I", kind) + data
    body = b""
    for key, (kind, *dims) in tensors.items():
        head += gguf_string(key) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *reversed(dims), kind,
                                               len(body))
        block, size = SIZES[kind]
        n = size
        for d in dims:
            n *= d
        body += bytes((37 * i + kind) % 251 for i in range(n // block))
        body += bytes(-len(body) % alignment)
    put("gguf", name, head + bytes(-len(head) % alignment) + body)


def ggufs():
    put("gguf", "keys", load("keys.gguf"))
    for kind, (block, _) in SIZES.items():
        gguf(f"type{kind}", {"general.architecture": "llama"}, {"t": (kind, 1, max(block, 4))})
    gguf("aligned", {"general.alignment": 8}, {"a": (0, 3), "b": (30, 2, 2, 2)}, 2, 8)
    model = {"block_count": 1, "embedding_length": 8, "feed_forward_length": 8, "context_length": 64,
             "attention.head_count": 2, "attention.head_count_kv": 1, "rope.freq_base": 1e4,
             "attention.layer_norm_rms_epsilon": 1e-5, "rope.scaling.type": "yarn",
             "rope.scaling.factor": 2.0, "rope.scaling.original_context_length": 32}
    moe = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 8}
    deep = {"expert_gating_func": 2, "expert_weights_norm": True, "expert_shared_count": 1,
            "expert_group_count": 2, "expert_group_used_count": 1, "leading_dense_block_count": 0}
    latent = {"attention.kv_lora_rank": 4, "attention.q_lora_rank": 0, "rope.dimension_count": 2,
              "attention.key_length_mla": 6, "attention.value_length_mla": 4,
              "attention.key_length": 6, "attention.value_length": 4}
    own = {"olmoe": moe, "qwen3moe": moe, "qwen2moe": moe | {"expert_shared_feed_forward_length": 8},
           "glm4moe": moe | deep | {"attention.key_length": 4, "rope.dimension_count": 2},
           "deepseek2": moe | deep | latent,
           "gpt-oss": moe | {"attention.sliding_window": 8, "attention.key_length": 4}}
    gguf("parts", {"split.no": 0, "split.count": 2, "split.tensors.count": 2}, {"a": (24, 4)})
    for arch in ("llama", "qwen2", "qwen3", *own):
        gguf(arch, {"general.architecture": arch, **{
            f"{arch}.{k}": v for k, v in (model | own.get(arch, {})).items()}},
             {"token_embd.weight": (0, 4, 8), "output.weight": (8, 4, 32)})
    gguf("freqs", {"general.architecture": "llama", **{
        f"llama.{k}": v for k, v in model.items() if "scaling" not in k}},
        {"token_embd.weight": (0, 4, 8), "rope_freqs.weight": (0, 2)})
    words = ["<unk>", "<s>", "</s>", "<0x0A>", "<0x41>", "▁", "t", "h", "e", "▁t", "he", "▁the", "1"]
    gguf("words-llama", {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(words))],
        "tokenizer.ggml.token_type": [2, 3, 3, 6, 6] + [1] * (len(words) - 5),
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": True, "tokenizer.chat_template": "{{ messages }}"}, {})
    for pre in ("qwen2", "llama-bpe", "gpt-2", "deepseek-v3"):
        gguf("words-" + pre, {
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre,
            "tokenizer.ggml.tokens": ["a", "t", "h", "e", "Ġ", "th", "the", "Ġthe", "1", "<s>"],
            "tokenizer.ggml.token_type": [1] * 9 + [3],
            "tokenizer.ggml.merges": ["t h", "th e", "Ġ the"],
            "tokenizer.ggml.eos_token_id": 9, "tokenizer.ggml.add_bos_token": False}, {})


# ---- the others ----

def templates():
    for path in glob.glob(os.path.join(golden, "templates", "*.jinja")):
        put("template", os.path.basename(path)[:-6], open(path, "rb").read())
    cases = load("template_cases.txt").decode().split("\n%%\n")
    for i in range(0, len(cases), 16):
        put("template", f"cases{i // 16}", "".join(
            c if "{" + "%" in c or "{{" in c else "{{ " + c + " }}\n" for c in cases[i:i + 16]))


def jsonl():
    call = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    records = {
        "prompt": [{"prompt": "1+1?", "answer": 2, "id": 7}, {"prompt": "x", "response": "\\boxed{3}",
                   "reasoning": "hm", "system": "s", "answer": "3", "verify": "boxed", "k": [1]}],
        "messages": [{"messages": [{"role": "system", "content": "s"},
                                   {"role": "user", "content": [{"type": "text", "text": "é"}]},
                                   {"role": "assistant", "content": None, "tool_calls": call,
                                    "reasoning_content": "r"},
                                   {"role": "tool", "content": "4"}], "answer": 1.5}],
        "sharegpt": [{"conversations": [{"from": "human", "value": "a"},
                                        {"from": "gpt", "value": "b", "weight": 1}], "system": "c"}],
        "text": [{"text": "a document\n\ttwo", "id": "t", "meta": {"a": None}}],
    }
    for name, list_ in records.items():
        lines = "\n".join(compact(r) for r in list_) + "\n"
        put("jsonl", name, lines)
        if name == "prompt":
            put("jsonl", "marked", b"\xef\xbb\xbf" + lines.replace("\n", "\r\n\r\n").encode())
            put("jsonl", "gzip", gzip.compress(lines.encode(), mtime=0))
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as z:
                z.writestr(zipfile.ZipInfo("a/b.jsonl"), lines)
            put("jsonl", "zip", packed.getvalue())


def traces():
    with tempfile.TemporaryDirectory() as scratch:
        def make(name, n, *state):
            subprocess.run([os.path.abspath(os.path.join(build, "test_trace")), "make", name, str(n), *state],
                           check=True, stdout=subprocess.DEVNULL, cwd=scratch)
            return lambda file: os.path.join(scratch, name, file)

        def bare(z): # without meta.json, which only repair and people read
            plain = io.BytesIO()
            with zipfile.ZipFile(plain, "w") as out:
                for entry in z.namelist():
                    if entry != "meta.json":
                        out.writestr(zipfile.ZipInfo(entry), z.read(entry))
            return plain.getvalue()

        two, six = make("two", 2), make("six", 6) # the sixth has weights
        with zipfile.ZipFile(two("shard-00000.npz")) as z:
            put("traces", "shard", bare(z))
            put("traces", "column", z.read("spans.npy"))
            put("traces", "ids", z.read("id.npy"))
        with zipfile.ZipFile(six("shard-00001.npz")) as z:
            put("traces", "weighted", bare(z))
        put("traces", "whole", open(two("shard-00000.npz"), "rb").read())
        put("traces", "manifest", open(two("manifest.json"), "rb").read())
        put("traces", "journal", open(make("open", 2, "open")("journal"), "rb").read())
        put("traces", "journal2", open(make("open6", 6, "open")("journal"), "rb").read())


def answers():
    pairs = json.loads(load("verify.json"))[::12] + json.loads(load("verify_pairs.json"))[::90]
    for i in range(0, len(pairs), 3):
        a, b, _ = pairs[i]
        put("answer", f"number{i}", f"\1{a}\n{b}")
    for i, (kind, text) in enumerate([(3, "so \\boxed{\\frac{1}{2}} or\n0.5"),
                                      (3, "\\boxed{\\text{x} = {5}\\,\\mathrm{km}}\n$5$ km"),
                                      (4, " a  b \n a b"), (2, "it is \\$1,234.50 %\n12.345"),
                                      (2, "1.5 \\times 10^{3} m\n1500"), (0, "x\ny"),
                                      (1, "the answer is 8 (3 more), 12 m^2\n8")]):
        put("answer", f"kind{i}", chr(kind) + text)


shutil.rmtree(os.path.join(here, "seeds"), ignore_errors=True)
for make in (safetensors, config, tokenizer, ggufs, templates, jsonl, traces, answers):
    make()
