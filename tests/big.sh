#!/bin/bash
# big.sh RETORT FOLDER: what a model of 8B parameters takes on this machine: opens a checkpoint of random
# bf16 weights (16 GB, made here once), scores 4,096 tokens with it, writes it as Q4_K_M, and generates from that.
# For each: seconds, and the most memory that was not a file's (RssAnon, looked at ten times a second).
# Not part of CI: 25 GB of disk, and about half an hour on two cores.
set -u
retort=$(realpath "$1") here=$(dirname "$(realpath "$1")") dir=$2
tests=$(dirname "$(realpath "$0")")
mkdir -p "$dir/8b" && cd "$dir" || exit 1
[ -s 8b/config.json ] || cat >8b/config.json <<'J'
{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 36, "hidden_size": 4096,
 "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
 "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 40960, "tie_word_embeddings": false,
 "hidden_act": "silu", "attention_bias": false, "torch_dtype": "bfloat16", "eos_token_id": 0}
J
cp "$tests"/../examples/reasoning/teacher/tokenizer*.json 8b/
[ -s 8b/model.safetensors ] || "$here/test-tool" random 8b/config.json 8b/model.safetensors || exit 1
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
peak open "$retort" generate --model 8b --prompt a --max-tokens 1
peak open-again "$retort" generate --model 8b --prompt a --max-tokens 1
rm -rf texts.traces
peak score "$retort" score --teacher 8b --data texts.jsonl --out texts.traces
grep -E '^(positions|tokens)' score.out
peak quantize "$retort" quantize --model 8b --type Q4_K_M --out 8b.gguf --overwrite
peak generate "$retort" generate --model 8b.gguf --prompt "How many" --max-tokens 16
