#!/usr/bin/env python3
"""tests/golden/tiny: a byte-level tokenizer without merges (256 bytes and five markers), a chat
template with thoughts, and the shape of a teacher with latent attention and experts that trains in
seconds. Made with Hugging Face tokenizers; no weights."""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

here = pathlib.Path(__file__).parent / "tiny"
here.mkdir(exist_ok=True)

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_letters():
    """The 256 letters of byte-level vocabularies, by byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, spare = {}, 0x100
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(spare)
            spare += 1
    return [letters[b] for b in range(256)]


tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(byte_letters())}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(QWEN2), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
])
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>"])
tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ("<think>", "</think>")])
(here / "tokenizer.json").write_text(tokenizer.to_str())

template = (
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}{{- '<|assistant|>' }}"
    "{%- if message.reasoning_content %}"
    "{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}"
    "{{- message.content + '<|end|>' }}"
    "{%- else %}{{- '<|user|>' + message.content }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}")
(here / "tokenizer_config.json").write_text(json.dumps(
    {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|end|>",
     "chat_template": template}, indent=1) + "\n")

(here / "shape.json").write_text(json.dumps({
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 48,
    "intermediate_size": 80, "moe_intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": None, "kv_lora_rank": 24,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.5, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "max_position_embeddings": 128, "tie_word_embeddings": False,
    "vocab_size": 264, "eos_token_id": 256}, indent=1) + "\n")
