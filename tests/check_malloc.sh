#!/bin/bash
# Every command with one allocation failing, or (a third) one and all after it (fail_malloc.c): either the
# same bytes as ever, or exit 1, one line "out of memory" and nothing half-written; then the command,
# run again, ends with the same bytes. A dozen of each command's; EVERY=1 takes them all, EVERY=4 START=3 the
# third of four parts that take them all together.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems shim=$(dirname "$1")/fail_malloc.so
[ -e "$shim" ] || { echo "no preloading under a sanitizer: skipped"; exit 0; }
rm -rf "$dir" && mkdir -p "$dir"
template=$PWD/examples/reasoning/chat_template.jinja
cd "$dir" || exit 1
total=0
export OMP_NUM_THREADS=1

"$problems" --n 24 --seed 3 --form trace >traces.jsonl && "$problems" --n 3 --seed 4 --form problem >problems.jsonl || exit 1
cat >moe.json <<'E'
{"model_type": "deepseek_v3", "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "kv_lora_rank": 8,
 "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4, "intermediate_size": 16, "moe_intermediate_size": 8,
 "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "norm_topk_prob": true,
 "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
E
cat >dense.json <<'E'
{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
 "intermediate_size": 32, "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
E
cat >recipe.json <<'E'
{"run": {"out": "out"},
 "student": {"command": "train", "config": "{recipe}/dense.json", "tokenizer": "{recipe}/tok", "data": ["{recipe}/traces.jsonl"],
             "loss": "hard", "out": "{out}/student", "steps": 1, "batch_tokens": 300, "pass_tokens": 300, "max_length": 256},
 "quantized": {"command": "quantize", "model": "{out}/student", "type": "Q8_0", "out": "{out}/student.gguf"}}
E

# What a command wrote, but for the measures of time in it.
files() {
    [ -e out ] && find out -type f ! -name metrics.jsonl ! -name 'events.out.*' ! -name lock ! -name journal ! -path '*/stages/*' ! -path '*/old/*' ! -name '*.tmp.*' |
        sort | xargs -r sha256sum
}
results() { files; cat stdout; }
words() { grep -avE '^("?seconds|"?tokens a second|tokens_per_second)|_seconds":' stdout >plain; mv plain stdout; }
run() { # VARIABLE N NAME: the command once
    env ${1:+"$1=$2"} LD_PRELOAD="$shim" "$retort" -q "${command[@]}" >stdout 2>stderr </dev/null
    rc=$?
    words
}
judge() { # VARIABLE N
    local now begun
    now=$(results)
    if [ $rc = 0 ]; then
        [ "$now" = "$want" ] || fail "$1=$2 ${command[*]}: exit 0 and other bytes: $(diff <(echo "$want") <(echo "$now") | head -5)"
        return
    fi
    [ $rc = 1 ] && [ "$(wc -l <stderr)" = 1 ] && grep -qE '[Oo]ut of memory|^libgomp: ' stderr ||
        fail "$1=$2 ${command[*]}: exit $rc: $(head -5 stderr)"
    for begun in $(grep -rls '"unfinished": true' out); do now=$(echo "$now" | grep -v "  $begun$"); done
    # (no process substitution here: bash takes the status of an old one for a new process of the same number)
    echo "$now" | grep '  out' | grep -v manifest.json >found
    grep -vxFf want found >odd && fail "$1=$2 ${command[*]}: half-written: $(cat odd)"
    run "" 0 # what was whole already is only told to be: other words, the same files
    now=$(files)
    [ $rc = 0 ] && [ "$now" = "$want_files" ] || fail "$1=$2, then again ${command[*]}: exit $rc: $(cat stderr; diff <(echo "$want_files") <(echo "$now") | head -5)"
}
check() { # NAME: $command, whose output is out
    local n at step begun=$SECONDS
    rm -rf out
    FAIL_MALLOC_COUNT=$PWD/count run "" 0
    [ $rc = 0 ] || { fail "$1: exit $rc: $(cat stderr)"; return; }
    n=$(cat count) want=$(results) want_files=$(files)
    echo "$want" >want
    step=${EVERY:-$((n / 12 + 1))}
    for ((at = ${START:-1 + RANDOM % step}; at <= n; at += step)); do
        total=$((total + 1)) variable=FAIL_MALLOC
        [ $((total % 3)) = 0 ] && variable=FAIL_MALLOC_FROM
        rm -rf out
        run $variable $at
        judge $variable $at
    done
    echo "$1: $n allocations, every ${step}th, $((SECONDS - begun)) s"
    rm -rf "$1" && [ -e out ] && mv out "$1"
    return 0
}

command=(tokenizer --in traces.jsonl --out out --vocab 264 --special '<|user|>' --special '<|assistant|>' --special '<|end|>'
    --added '<think>' --added '</think>' --eos '<|end|>' --chat-template "$template")
check tok
small=(--batch-tokens 300 --pass-tokens 300 --max-length 256)
command=(train --config moe.json --tokenizer tok --data traces.jsonl --loss hard --out out --steps 2 "${small[@]}" --learning-rate 0.01 --warmup 1)
check teacher
command=(sample --teacher teacher --prompts problems.jsonl --out out --max-tokens 8 --verify boxed)
check a.traces
command=(score --teacher teacher --data traces.jsonl --out out --pass-tokens 256 --limit 4)
check b.traces
for i in 0 1; do
    "$retort" -q sample --teacher teacher --prompts problems.jsonl --out s$i.traces --max-tokens 8 --shard $i/2 >/dev/null || exit 1
done
command=(archive merge s0.traces s1.traces --out out)
check c.traces
command=(train --config dense.json --tokenizer teacher --data b.traces --out out --steps 2 "${small[@]}" --warmup 1)
check student
command=(quantize --model student --type Q4_0 --out out)
check q.gguf
command=(eval --model q.gguf --problems problems.jsonl --max-tokens 8 --json)
check eval
command=(generate --model q.gguf --prompt "What is 2 + 3?" --max-tokens 4 --temperature 0)
check generate
command=(archive verify b.traces)
check verify
command=(run recipe.json)
check run
export OMP_NUM_THREADS=2
command=(score --teacher teacher --data traces.jsonl --out out --pass-tokens 256 --limit 4)
check threads
echo "$total failures of an allocation"
exit $failed
