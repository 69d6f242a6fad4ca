#!/usr/bin/env python3
"""Makes tests/golden/models/gguf_*/: tiny models as GGUF files beside the logits and chosen experts that
transformers computes for the Hugging Face checkpoints they were made from.

    pip install torch==2.15.0 transformers==5.23.0 gguf==0.19.0 safetensors numpy
    python3 tests/golden/make_gguf_models.py                   (about a minute)
    python3 tests/golden/make_gguf_models.py DIR OUT.gguf      (any checkpoint of these families)

make_models.py makes the checkpoint in a temporary folder. Here its tensors take the names that the
`gguf` package's own map gives them, the forms llama.cpp's converter gives them (experts of a layer in
one tensor; llama's query and key rows in rotary pairs; kv_b of MLA split, keys transposed) and the keys that
converter writes. Matrices are bf16 as on disk, or what FORMS says: blocks that decode to exactly the
weights transformers ran with; the rest is f32."""
import json, os, re, shutil, sys, tempfile
import gguf, numpy as np, torch
from gguf import GGMLQuantizationType as Q
from safetensors import safe_open
import make_models as mm

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
ARCH = {"mixtral": "llama", "olmoe": "olmoe", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
        "glm4_moe": "glm4moe", "gpt_oss": "gpt-oss", "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2",
        "kimi_k2": "deepseek2", "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
TINY = dict(num_hidden_layers=2, hidden_size=16, intermediate_size=20, max_position_embeddings=256,
            num_attention_heads=2, num_key_value_heads=1, head_dim=10, num_experts_per_tok=2)
DEEP = dict({**TINY, "num_key_value_heads": 2, "head_dim": None}, moe_intermediate_size=8, qk_rope_head_dim=8,
            first_k_dense_replace=1, num_nextn_predict_layers=0, n_shared_experts=1)

MODELS = {
    "gguf_mixtral": ("mixtral", "bfloat16", dict(
        {**TINY, "head_dim": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 12},
        vocab_size=37, num_local_experts=4, rms_norm_eps=1e-5,
        sliding_window=None,
        rope_parameters=mm.plain(1000000.0))),
    "gguf_olmoe": ("olmoe", "bfloat16", dict(
        {**TINY, "head_dim": None, "intermediate_size": 10}, vocab_size=41, num_experts=5,
        norm_topk_prob=False, rope_parameters=mm.plain(10000.0))),
    "gguf_qwen2moe": ("qwen2_moe", "bfloat16", dict(
        {**TINY, "head_dim": None}, vocab_size=43, moe_intermediate_size=10, num_experts=4,
        shared_expert_intermediate_size=14, norm_topk_prob=False,
        rope_parameters=mm.plain(10000.0))),
    "gguf_qwen3moe": ("qwen3_moe", "bfloat16", dict(
        TINY, vocab_size=37, moe_intermediate_size=10, num_experts=5, norm_topk_prob=True,
        rope_parameters=mm.plain(1000000.0))),
    "gguf_glm45": ("glm4_moe", "bfloat16", dict(
        {**TINY, "head_dim": 12}, vocab_size=41, moe_intermediate_size=8, n_routed_experts=8, n_shared_experts=1,
        n_group=1, topk_group=1, first_k_dense_replace=1, norm_topk_prob=True, attention_bias=True,
        routed_scaling_factor=1.5, use_qk_norm=True, num_nextn_predict_layers=0,
        rope_parameters={**mm.plain(10000.0), "partial_rotary_factor": 0.5})),
    "gguf_v2_lite": ("deepseek_v2", "bfloat16", dict(
        DEEP, vocab_size=37, kv_lora_rank=10, q_lora_rank=None, qk_nope_head_dim=8, v_head_dim=10,
        n_routed_experts=6, n_group=1, topk_group=1, topk_method="greedy", norm_topk_prob=False,
        routed_scaling_factor=1.0, rms_norm_eps=1e-6,
        rope_parameters=mm.yarn(8.0, mscale=0.707, mscale_all_dim=0.707))),
    "gguf_r1": ("deepseek_v3", "float32", dict(
        {**DEEP, "hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 32}, vocab_size=40,
        kv_lora_rank=32, q_lora_rank=32, qk_nope_head_dim=32, v_head_dim=32, n_routed_experts=8,
        n_group=2, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.5, rms_norm_eps=1e-6,
        rope_parameters=mm.yarn(8.0, mscale=1.0, mscale_all_dim=1.0, beta_fast=16))),
    "gguf_gpt_oss": ("gpt_oss", "float32", dict(
        {**TINY, "hidden_size": 32, "intermediate_size": 32, "head_dim": 16}, vocab_size=35, num_local_experts=4,
        layer_types=["sliding_attention", "full_attention"], sliding_window=21, rms_norm_eps=1e-5,
        rope_parameters=mm.yarn(8.0, beta_fast=32, beta_slow=1, truncate=False))),
}
# Block types of gguf_r1 and gguf_gpt_oss, by the end of the GGUF name.
FORMS = (("token_embd", Q.Q8_0), ("output", Q.Q5_1), ("attn_k_b", Q.Q8_0), ("attn_v_b", Q.Q5_0),
         ("attn_q_a", Q.Q4_1), ("attn_q", Q.Q8_0), ("attn_k", Q.Q5_0), ("attn_v", Q.Q8_0), ("attn_q_b", Q.Q8_0), ("attn_kv_a_mqa", Q.F16), ("attn_output", Q.Q8_0),
         ("ffn_gate_exps", Q.MXFP4), ("ffn_up_exps", Q.Q4_0), ("ffn_down_exps", Q.Q5_0),
         ("shexp", Q.Q8_0), ("ffn_gate", Q.Q4_0), ("ffn_up", Q.Q8_0), ("ffn_down", Q.BF16))
SPLIT = "gguf_qwen3moe"  # in three parts
WHOLE_KV_B = "gguf_v2_lite"  # as files made before MLA was split
FUSED = "gguf_olmoe"  # gates and ups in one tensor, as newer files may have them
MTP = "gguf_glm45"  # with a further layer


def form_of(name):
    base = name.removesuffix(".weight")
    return next((t for end, t in FORMS if base.endswith(end)), None)


def block_decoded(x, kind):
    """What x becomes in the blocks of that type; blocks of it decode to itself."""
    for _ in range(8):
        y = gguf.quants.dequantize(gguf.quants.quantize(x, kind), kind).reshape(x.shape)
        if np.array_equal(x, y):
            return y
        x = y
    raise ValueError(f"{kind.name} never comes to rest")


def config_of(path):
    c = json.load(open(os.path.join(path, "config.json")))
    rope = dict(c.get("rope_scaling") or {}, **c.get("rope_parameters") or {})
    rope.setdefault("rope_theta", c.get("rope_theta", 10000.0))
    rope.setdefault("rope_type", rope.get("type", "default"))
    c["rope"] = rope
    return c


def tensors_of(path):
    out = {}
    for file in sorted(os.listdir(path)):
        if file.endswith(".safetensors") and file.startswith("model"):
            with safe_open(os.path.join(path, file), "pt") as f:
                out.update({k: f.get_tensor(k) for k in f.keys()})
    return out


def pairs(x, heads):
    """Rows of a head: halves in turns."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def stacked(tensors):
    """Experts of a layer as one tensor under the name the converter gives it."""
    out, stacks = {}, {}
    for name, x in tensors.items():
        m = re.fullmatch(r"model\.layers\.(\d+)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight", name)
        if m is None:
            out[name] = x
            continue
        kind = m[3]
        merged = (f"layers.{m[1]}.feed_forward.experts.{kind}.weight" if kind[0] == "w" else
                  f"model.layers.{m[1]}.mlp.experts.{kind}.weight")
        stacks.setdefault(merged, {})[int(m[2])] = x
    for name, parts in stacks.items():
        out[name] = torch.stack([parts[e] for e in range(len(parts))])
    return out


def transformed(c, tensors, whole_kv_b):
    kind, heads = c["model_type"], c["num_attention_heads"]
    for name, x in stacked(tensors).items():
        if ARCH[kind] == "llama" and re.search(r"self_attn\.[qk]_proj\.", name):
            x = pairs(x, heads if ".q_proj" in name else c["num_key_value_heads"])
        if name.endswith("kv_b_proj.weight") and not whole_kv_b:
            nope, dv = c["qk_nope_head_dim"], c["v_head_dim"]
            k, v = x.view(heads, nope + dv, -1).split([nope, dv], dim=1)
            yield name.replace("kv_b_proj", "k_b_proj"), k.transpose(1, 2).contiguous()
            yield name.replace("kv_b_proj", "v_b_proj"), v.contiguous()
            continue
        if kind == "gpt_oss" and (part := re.search(r"(gate_up|down)_proj(_bias)?$", name)):
            x = x if part[2] else x.transpose(1, 2)
            new = [("down", x)] if part[1] == "down" else [("gate", x[:, ::2]), ("up", x[:, 1::2])]
            for leaf, y in new:
                yield name[:part.start()] + f"{leaf}_proj." + ("bias" if part[2] else "weight"), y.contiguous()
            continue
        name += ".weight" if name.endswith("sinks") else ""
        if name.endswith("shared_expert_gate.weight"):
            x = x.squeeze(0)  # as transformers' reader wants it
        yield name.replace("e_score_correction_bias", "e_score_correction.bias"), x


def write_keys(w, c, layers, further):
    a, kind, rope = w.arch, c["model_type"], c["rope"]
    mla = "kv_lora_rank" in c
    def put(key, value, how=w.add_uint32):
        if value is not None:
            how(f"{a}.{key}", value)
    put("block_count", layers + further)
    put("nextn_predict_layers", further or None)
    put("context_length", c["max_position_embeddings"])
    put("embedding_length", c["hidden_size"])
    put("feed_forward_length", c["intermediate_size"])
    put("attention.head_count", c["num_attention_heads"])
    put("attention.head_count_kv", 1 if mla else c["num_key_value_heads"])
    put("attention.layer_norm_rms_epsilon", c["rms_norm_eps"], w.add_float32)
    put("vocab_size", c["vocab_size"])
    put("rope.freq_base", rope["rope_theta"], w.add_float32)
    put("expert_count", c.get("num_local_experts") or c.get("num_experts") or c.get("n_routed_experts"))
    put("expert_used_count", c.get("num_experts_per_tok"))
    put("expert_group_count", c.get("n_group"))
    put("expert_group_used_count", c.get("topk_group"))
    put("expert_feed_forward_length", c.get("moe_intermediate_size") or
        (c["intermediate_size"] if kind == "gpt_oss" else None))
    put("attention.sliding_window", c.get("sliding_window") if kind == "gpt_oss" else None)
    put("expert_shared_feed_forward_length", c.get("shared_expert_intermediate_size"))
    put("expert_shared_count", c.get("n_shared_experts"))
    put("leading_dense_block_count", c.get("first_k_dense_replace"))
    put("expert_weights_scale", c.get("routed_scaling_factor"), w.add_float32)
    if c.get("norm_topk_prob") and "n_routed_experts" in {k.replace("num_local", "n_routed") for k in c}:
        put("expert_weights_norm", True, w.add_bool)
    if kind in ("deepseek_v3", "kimi_k2", "glm4_moe"):
        put("expert_gating_func", int(gguf.ExpertGatingFuncType.SIGMOID))
    if rope["rope_type"] == "yarn":
        put("rope.scaling.type", "yarn", w.add_string)
        put("rope.scaling.factor", rope["factor"], w.add_float32)
        put("rope.scaling.original_context_length", rope["original_max_position_embeddings"])
        for key in "beta_fast", "beta_slow":
            put(f"rope.scaling.yarn_{key}", rope.get(key), w.add_float32)
        if rope.get("mscale_all_dim"):
            put("rope.scaling.yarn_log_multiplier", 0.1 * rope["mscale_all_dim"], w.add_float32)
    return mla


def write_heads(w, c, mla, whole_kv_b):
    turned = c.get("qk_rope_head_dim")
    if not mla:
        width = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
        part = c["rope"].get("partial_rotary_factor", c.get("partial_rotary_factor", 1))
        w.add_key_length(width)
        w.add_value_length(width)
        w.add_rope_dimension_count(int(width * part))
        return
    keys, rank = c["qk_nope_head_dim"] + turned, c["kv_lora_rank"]
    w.add_kv_lora_rank(rank)
    if c.get("q_lora_rank"):
        w.add_q_lora_rank(c["q_lora_rank"])
    w.add_rope_dimension_count(turned)
    w.add_key_length(keys if whole_kv_b else rank + turned)
    w.add_value_length(c["v_head_dim"] if whole_kv_b else rank)
    if not whole_kv_b:
        w.add_key_length_mla(keys)
        w.add_value_length_mla(c["v_head_dim"])


def add(w, name, x, forms):
    kind = form_of(name) if forms and x.dim() > 1 and name.endswith("weight") and "gate_inp" not in name else None
    if kind not in (None, Q.F32):
        w.add_tensor(name, gguf.quants.quantize(x.float().numpy(), kind), raw_dtype=kind)
    elif x.dtype == torch.bfloat16 and x.dim() > 1 and "gate_inp" not in name:
        w.add_tensor(name, x.view(torch.uint16).numpy().view(np.uint8), raw_dtype=Q.BF16)
    else:
        w.add_tensor(name, x.float().numpy())


def convert(source, out, whole_kv_b=False, forms=False, fused=False, further=0, split=0):
    c, tensors = config_of(source), tensors_of(source)
    arch = ARCH[c["model_type"]]
    layers = c["num_hidden_layers"]
    w = gguf.GGUFWriter(out, arch, split_max_tensors=split)
    w.add_tokenizer_model("no_vocab")
    mla = write_keys(w, c, layers, further)
    write_heads(w, c, mla, whole_kv_b)
    number = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch)
    names = gguf.get_tensor_name_map(number, layers)
    ready = {}
    for name, x in transformed(c, tensors, whole_kv_b):
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert new, name
        ready[new] = x
    for name in [n for n in ready if fused and "ffn_gate_exps" in n]:
        both = torch.cat([ready.pop(name), ready.pop(name.replace("gate", "up"))], dim=1)
        ready[name.replace("ffn_gate_exps", "ffn_gate_up_exps")] = both
    if further:
        ready[f"blk.{layers}.nextn.eh_proj.weight"] = torch.ones(4, 8)
        ready[f"blk.{layers}.attn_norm.weight"] = torch.ones(4)
    for name in sorted(ready):
        add(w, name, ready[name], forms)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def rest(state, c):
    """Weights that their blocks hold exactly."""
    def at_rest(x, name):
        kind = form_of(name)
        return torch.from_numpy(block_decoded(np.ascontiguousarray(x.float().numpy()), kind)) if kind else x
    oss = "kv_lora_rank" not in c
    heads, nope, dv = c["num_attention_heads"], c.get("qk_nope_head_dim"), c.get("v_head_dim")
    arch = gguf.MODEL_ARCH.GPT_OSS if oss else gguf.MODEL_ARCH.DEEPSEEK2
    names = gguf.get_tensor_name_map(arch, c["num_hidden_layers"])
    for key, x in state.items():
        if oss and x.dim() == 3:
            x = x.transpose(1, 2).clone()
            for first, step, leaf in ((0, 1, "down"),) if "down" in key else ((0, 2, "gate"), (1, 2, "up")):
                x[:, first::step] = at_rest(x[:, first::step], f"ffn_{leaf}_exps")
            state[key] = x.transpose(1, 2).contiguous()
        elif key.endswith("experts.gate_up_proj"):
            gate, up = x.chunk(2, dim=1)
            state[key] = torch.cat([at_rest(gate, "ffn_gate_exps"), at_rest(up, "ffn_up_exps")], dim=1)
        elif key.endswith("experts.down_proj"):
            state[key] = at_rest(x, "ffn_down_exps")
        elif key.endswith("kv_b_proj.weight"):
            k, v = x.view(heads, nope + dv, -1).split([nope, dv], dim=1)
            k = at_rest(k.transpose(1, 2), "attn_k_b").transpose(1, 2)
            state[key] = torch.cat([k, at_rest(v, "attn_v_b")], dim=1).reshape(x.shape)
        elif x.dim() == 2 and not re.search(r"mlp\.(gate|router)\.|_bias$", key):
            state[key] = at_rest(x, names.get_name(key, try_suffixes=(".weight",)))
    return state


def make(name):
    kind, dtype, values = MODELS[name]
    values = {k: v for k, v in values.items() if k != "head_dim" or v}
    out = os.path.join(HERE, name)
    forms = dtype == "float32"
    draw = mm.draw_weights
    if forms:
        def at_rest(*args):
            state, codes = draw(*args)
            return rest(state, values), codes
        mm.draw_weights = at_rest
    with tempfile.TemporaryDirectory() as scratch:
        mm.HERE = scratch
        for seed in [name + "_" * i for i in range(9)]:  # until no choice hangs by a thread
            mm.MODELS[seed] = (kind, dtype, 97, None, True, False, values)
            try:
                mm.make(seed)
                break
            except AssertionError as e:
                print("  no:", e)
        mm.draw_weights = draw
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        source = os.path.join(scratch, seed)
        for file in "tokens.npy", "logits.npy", "experts.npy":
            shutil.copy(os.path.join(source, file), out)
        convert(source, os.path.join(out, "model.gguf"), name == WHOLE_KV_B, forms, name == FUSED,
                int(name == MTP), 12 if name == SPLIT else 0)
        if len(sys.argv) == 2:  # keep the checkpoints too
            shutil.copytree(source, os.path.join(sys.argv[1], name), dirs_exist_ok=True)
    print("  ", sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out)), "bytes as GGUF")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        convert(*sys.argv[1:])
    else:
        for model_name in MODELS:
            make(model_name)
