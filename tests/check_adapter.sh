#!/bin/bash
# retort train --lora-rank and merge-adapter as a user runs them: adapters beside a model of f32 and of 4 bits, the
# same bytes whatever the threads, the memory mode and however often it was killed; the merged model measures as the
# adapted one did; the layout of PEFT in both directions; one clear line for what is wrong.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems
rm -rf "$dir" && mkdir -p "$dir"
tiny=$PWD/tests/golden/tiny teacher=$PWD/examples/reasoning/teacher student=$PWD/examples/reasoning/student-config.json
cd "$dir" || exit 1
exec=

"$problems" --n 60 --seed 3 --form trace >traces.jsonl && head -n 20 traces.jsonl >held.jsonl || exit 1
"$retort" -q train --config "$student" --tokenizer "$teacher" --data traces.jsonl --loss hard --out base --steps 4 --batch-tokens 600 \
    --pass-tokens 300 --warmup 1 && "$retort" -q quantize --model base --type Q4_0 --out four.gguf || exit 1
adapt() { # MODEL OUT [flags...]
    local model=$1 out=$2
    shift 2
    $exec "$retort" -q train --model "$model" --data traces.jsonl --loss hard --out "$out" --lora-rank 4 --lora-alpha 8 --steps 8 \
        --batch-tokens 600 --pass-tokens 300 --max-length 256 --save-every 2 --warmup 2 --learning-rate 2e-3 "$@"
}
bytes() { (cd "$1" && sha256sum adapter_config.json adapter_model.safetensors README.md tokenizer.json); }
ce() { sed -n 's/.*"eval_ce":\([0-9.]*\).*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
perplexity() { "$retort" eval --model "$1" --archive held.jsonl 2>/dev/null | sed -n 's/^perplexity *//p'; }
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN {exit !(a > 0 && b > 0 && (a - b) / b < t && (b - a) / b < t)}'; }

for model in "$teacher" base four.gguf; do
    rm -rf clean one killed merged
    adapt "$model" clean --eval-data held.jsonl || fail "$model: adapting"
    [ -e clean/checkpoint.safetensors ] && fail "$model: the checkpoint of a finished run was left behind"
    adapt "$model" one --threads 1 --recompute block --eval-data held.jsonl
    for file in adapter_config.json adapter_model.safetensors; do
        cmp -s clean/$file one/$file || fail "$model: one thread and recompute: other bytes in $file"
    done
    kills=0
    while [ $kills -lt 3 ]; do
        (exec=exec; adapt "$model" killed --eval-data held.jsonl) & pid=$!
        sleep "0.$((RANDOM % 9 + 1))"
        kill -9 $pid 2>/dev/null
        if wait $pid 2>/dev/null; then break; else kills=$((kills + 1)); fi
    done
    adapt "$model" killed --eval-data held.jsonl || fail "$model: the run after $kills kills"
    [ "$(bytes killed)" = "$(bytes clean)" ] || fail "$model: after $kills kills: other bytes"
    prints 0 '' 'with the adapters of' merge-adapter --model "$model" --adapter clean --out merged --dtype f32
    before=$(perplexity "$model") after=$(perplexity merged)
    awk -v a="$before" -v b="$after" 'BEGIN {exit !(b > 0 && b <= a)}' || fail "$model: nothing was learned: $before, $after"
    near "$(awk -v c="$(ce clean)" 'BEGIN {print exp(c)}')" "$after" 1e-3 || fail "$model: adapted $(ce clean), merged $after"
    "$retort" -q verify merged >/dev/null || fail "$model: merged does not verify"
    "$retort" -q verify clean >/dev/null || fail "$model: the adapter does not verify"
done

# a reference: the base that is in memory anyway is the model in its file, in every byte; it holds the student back
for model in ./base four.gguf; do
    for reference in base $model; do
        rm -rf held && adapt $model held --loss hard,reference:2 --reference $reference || fail "$model: reference $reference"
        head -n 1 held/metrics.jsonl | grep -q '"reference_kl":0[,}]' || fail "$model, $reference: $(head -n 1 held/metrics.jsonl)"
        tail -n 1 held/metrics.jsonl | grep -q '"reference_kl":0[,}]' && fail "$model, $reference: nothing was learned"
        [ $reference = base ] && mv held/adapter_model.safetensors by-base.safetensors
    done
    cmp -s by-base.safetensors held/adapter_model.safetensors || fail "$model: --reference base is not the model in its file"
done
apart() { sed -n 's/.*"reference_kl":\([0-9.e-]*\).*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
adapt ./base free --loss hard,reference:0.001 --reference base && adapt ./base held2 --loss hard,reference:2 --reference base
awk -v a="$(apart held2)" -v b="$(apart free)" 'BEGIN {exit !(0 < a && a < 0.9 * b)}' || fail "held $(apart held2), free $(apart free)"
expect 2 'give --lora-rank too' train --model base --data traces.jsonl --loss hard,reference:1 --reference base --out wrong --steps 2
expect 2 'needs --reference' train --model base --data traces.jsonl --loss hard,reference:1 --out wrong --steps 2
expect 2 '\-\-reference changes nothing alone' train --model base --data traces.jsonl --loss hard --reference ./base --out wrong --steps 2
expect 0 '' init --shape 3m --layers 1 --width 16 --heads 2 --kv-heads 2 --head-dim 8 --ffn-width 16 --tokenizer "$tiny" --out stranger
expect 1 'has another tokenizer' train --model base --data traces.jsonl --loss hard,reference:1 --reference stranger --out wrong --steps 2

# PEFT's own words: what it writes beside, and a list of names
sed 's/"use_rslora"/"lora_bias": false, "modules_to_save": null, "rank_pattern": {}, "init_lora_weights": true, "use_rslora"/' \
    clean/adapter_config.json >config.json
cp -r clean peft && mv config.json peft/adapter_config.json
prints 0 '' 'with the adapters' merge-adapter --model four.gguf --adapter peft --out merged2 --dtype f32
cmp -s merged/model.safetensors merged2/model.safetensors || fail "PEFT's keys change the model"
adapt "$teacher" some --lora-targets q_proj,o_proj --lora-stabilized || fail "some targets"
[ "$(python3 -c 'import json; print(len(json.load(open("some/adapter_config.json"))["target_modules"]))' 2>/dev/null || echo 2)" = 2 ] ||
    fail "targets of the file"

spoil() { # SED-EXPRESSION: a copy of the adapter whose config says something else
    rm -rf bad && cp -r clean bad && sed -i "$1" bad/adapter_config.json
}
merge="merge-adapter --model four.gguf --out wrong --adapter"
spoil 's/"LORA"/"IA3"/' && expect 1 'peft_type IA3: only LORA' $merge bad
spoil 's/"bias": "none"/"bias": "all"/' && expect 1 'bias "all"' $merge bad
spoil 's/"fan_in_fan_out": false/"use_dora": true/' && expect 1 'use_dora is not supported' $merge bad
spoil 's/"r": 4/"r": 5/' && expect 1 'is not \(5, .*another model' $merge bad
spoil 's/"r": 4/"r": 0/' && expect 1 '"r" must be' $merge bad
spoil 's/"q_proj"/"q.*"/' && expect 1 'names of projections' $merge bad
spoil 's/"q_proj"/"nothing"/' && expect 2 'no linear layer is called nothing' $merge bad
spoil 's/"q_proj",//' && expect 1 'of which the model takes' $merge bad
rm -rf bad && cp -r clean bad && truncate -s -7 bad/adapter_model.safetensors && expect 1 'adapter_model.safetensors' $merge bad
rm -rf bad && cp -r clean bad && printf x | dd of=bad/adapter_model.safetensors bs=1 seek=9000 conv=notrunc 2>/dev/null &&
    expect 1 'adapter_model.safetensors' $merge bad
expect 1 'adapter_config.json' $merge "$teacher"
expect 1 'an adapter, not a model: retort merge-adapter' generate --model clean --prompt a
expect 2 'give --model' train --config "$teacher/config.json" --tokenizer "$teacher" --data traces.jsonl --loss hard --out wrong --lora-rank 4
expect 2 'give --lora-rank too' train --model four.gguf --data traces.jsonl --loss hard --out wrong --lora-targets q_proj
expect 2 'called qproj' train --model four.gguf --data traces.jsonl --loss hard --out wrong --lora-rank 4 --lora-targets qproj
expect 2 'is the same as' merge-adapter --model four.gguf --adapter clean --out clean
absent wrong/model.safetensors

# as a GGUF beside its base: two tensors a layer, under the base's names
prints 0 '' 'parameters' quantize --model clean --type F32 --out adapter.gguf --base four.gguf
grep -aq 'blk.0.attn_q.weight.lora_a' adapter.gguf || fail "no adapter of queries in the GGUF"
expect 1 'not a model' inspect adapter.gguf
prints 0 'gguf +f16' '' quantize --model clean --base four.gguf --out adapter.gguf --plan
expect 1 'retort writes no GGUF' quantize --model clean --base "$teacher" --out wrong.gguf
absent wrong.gguf

# its plan is what it takes: four bits and adapters, not a gradient of every weight
"$retort" train --model four.gguf --data traces.jsonl --loss hard --out planned --lora-rank 4 --plan >plan.txt 2>/dev/null ||
    fail "the plan of adapters"
grep -qE '^  (memory|device)  adapters' plan.txt || fail "the plan names no adapters"
absent planned
exit $failed
