#!/bin/bash
# big.sh RETORT FOLDER: what a model of 8B parameters takes on this machine: opens a checkpoint of random
# bf16 weights (16 GB, made here once), scores 4,096 tokens with it, writes it as Q4_K_M, and generates from that.
# For each: seconds, and the most memory that was not a file's (RssAnon, looked at ten times a second).
# Then a deepseek_v3 of 14 GB in fp8 (24 routed layers of 64 experts, width 2,048) whose weights are streamed within
# --memory 2G: one text too short for every expert, and 2,800 tokens; the account of each, and its most resident
# memory, file pages included (VmHWM).
# Not part of CI: 40 GB of disk, and about half an hour on two cores. PARTS="stream" does only that part.
set -u
retort=$(realpath "$1") here=$(dirname "$(realpath "$1")") dir=$2
tests=$(dirname "$(realpath "$0")")
mkdir -p "$dir/8b" && cd "$dir" || exit 1
parts=${PARTS:-resident stream}
[ -s 8b/config.json ] || cat >8b/config.json <<'J'
{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 36, "hidden_size": 4096,
 "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
 "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 40960, "tie_word_embeddings": false,
 "hidden_act": "silu", "attention_bias": false, "torch_dtype": "bfloat16", "eos_token_id": 0}
J
cp "$tests"/../examples/reasoning/teacher/tokenizer*.json 8b/
[[ $parts != *resident* || -s 8b/model.safetensors ]] || "$here/test-tool" random 8b/config.json 8b/model.safetensors || exit 1
"$here/reasoning-problems" --n 49 --seed 1 --form trace >texts.jsonl || exit 1

# peak NAME command...: the command, its seconds, its most RssAnon
peak() {
    local name=$1 most=0 now begun pid rc
    shift
    begun=$(date +%s.%N)
    "$@" >"$name.out" 2>"$name.err" &
    pid=$!
    while now=$(awk '/^RssAnon/ {print $2}' /proc/$pid/status 2>/dev/null) && [ -n "$now" ]; do
        [ "$now" -gt "$most" ] && most=$now
        sleep 0.1
    done
    wait $pid
    rc=$?
    echo "$name: exit $rc, $(awk -v a="$begun" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}') s, most RssAnon $((most / 1024)) MiB; $(tail -n 1 "$name.err" | tr '\r' '\n' | tail -n 1)"
}
if [[ $parts == *resident* ]]; then
    peak first-token "$retort" generate --model 8b --raw --prompt a --max-tokens 1
    peak first-token-again "$retort" generate --model 8b --raw --prompt a --max-tokens 1
    peak open "$retort" generate --model 8b --raw --prompt '' # which is refused once the model is open
    rm -rf texts.traces
    peak score "$retort" score --teacher 8b --data texts.jsonl --out texts.traces
    grep -E '^(positions|tokens)' score.out
    peak quantize "$retort" quantize --model 8b --type Q4_K_M --out 8b.gguf --overwrite
    peak generate "$retort" generate --model 8b.gguf --prompt "How many" --max-tokens 16
fi
[[ $parts == *stream* ]] || exit 0

mkdir -p 14g
cat >14g/config.json <<'J'
{"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 2048, "intermediate_size": 8192,
 "moe_intermediate_size": 1408, "num_hidden_layers": 25, "num_attention_heads": 16, "num_key_value_heads": 16,
 "q_lora_rank": 768, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
 "n_routed_experts": 64, "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 8,
 "topk_group": 4, "norm_topk_prob": true, "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
 "max_position_embeddings": 4096, "tie_word_embeddings": false, "vocab_size": 32768, "eos_token_id": 256,
 "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}}
J
cp "$tests"/golden/tiny/tokenizer*.json 14g/
[ -s 14g/model.safetensors ] || "$here/test-tool" random 14g/config.json 14g/model.safetensors || exit 1
echo '{"prompt": "2+3?", "response": "5"}' >one.jsonl
head -n 16 texts.jsonl >some.jsonl

# streamed NAME DATA: the account of scoring it within 2 GiB
streamed() {
    local most=0 now
    rm -rf "$1.traces"
    "$retort" score --teacher 14g --data "$2" --out "$1.traces" --memory 2G --no-identity >"$1.out" 2>"$1.err" &
    while now=$(awk '/^VmHWM/ {print $2}' /proc/$!/status 2>/dev/null) && [ -n "$now" ]; do
        most=$now
        sleep 0.1
    done
    wait $!
    echo "$1: exit $?, most VmHWM $((most / 1024)) MiB"
    grep -E '^(streaming|forecast)' "$1.err"
    sed -n '/^positions/p; /^passes/,$p' "$1.out"
}
streamed streamed-one one.jsonl
streamed streamed-some some.jsonl
