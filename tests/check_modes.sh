#!/bin/bash
# retort train --memory-mode, --master-dtype, --moments, --optimizer, --ema, --recompute and adapters as a user runs them:
# where weights and state lie changes no bit of what is learned, nor do threads, instruction sets, recomputing, passes'
# places and kills; a plan tells each mode's memory, and what does not fit is refused with settings that do, which then
# fit. Shapes: tied and not, with and without biases. RETORT_SEEDS="0 1 2" RETORT_KILLS=1: with each seed, and each of the
# configurations killed once and started again.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems
rm -rf "$dir" && mkdir -p "$dir"
teacher=$PWD/examples/reasoning/teacher student=$PWD/examples/reasoning/student-config.json
cd "$dir" || exit 1
exec=

"$problems" --n 60 --seed 3 --form trace >traces.jsonl && head -n 20 traces.jsonl >held.jsonl || exit 1
# the student of the example is tied; this one is not, and has biases and heads that are not width/heads wide
cat >untied.json <<'END'
{"model_type": "qwen2", "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
 "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 512, "tie_word_embeddings": false}
END
seed=0
learn() { # CONFIG OUT [flags...]; or a model in place of a CONFIG
    local out=$2 start="--model $1" data="traces.jsonl --loss hard"
    case $1 in *.json) start="--config $1 --tokenizer $teacher" ;; esac
    case " $* " in *" --loss "*) data=soft.traces ;; esac
    shift 2
    $exec "$retort" -q train $start --data $data --eval-data held.jsonl --out "$out" --seed "$seed" --steps 4 --batch-tokens 300 --pass-tokens 300 --max-length 256 --save-every 2 --eval-every 2 --eval-limit 4 --warmup 2 \
        --learning-rate 2e-3 "$@"
}
weights() { cat "$1"/*model.safetensors | sha256sum; } # of a model or of adapters
metrics() { sed 's/,"seconds":[^,}]*//' "$1/metrics.jsonl"; }
alike() { # CONFIG NAME OF flags...: bytes and figures are those of OF
    local config=$1 name=$2 of=$3
    shift 3
    rm -rf "$name"
    alikes=$((alikes + 1))
    if [ -n "${RETORT_KILLS-}" ]; then
        (exec=exec; learn "$config" "$name" "$@") & local pid=$!
        sleep "0.$(printf %03d $((RANDOM % 400)))"
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null
    fi
    learn "$config" "$name" "$@" || { fail "$config: $*"; return; }
    [ "$(weights "$name")" = "$(weights "$of")" ] || fail "$config: $*: other weights than $of"
    [ "$(metrics "$name")" = "$(metrics "$of")" ] || fail "$config: $*: other figures than $of"
}

"$problems" --n 30 --seed 5 --form problem >prompts.jsonl
"$retort" -q sample --teacher "$teacher" --prompts prompts.jsonl --out soft.traces --verify boxed --max-tokens 160 >/dev/null || fail sample
alikes=0 features=$("$retort" doctor --json)
lean="--master-dtype bf16 --moments 8bit"
for seed in ${RETORT_SEEDS:-0}; do for config in "$student" untied.json; do
    rm -rf plain lean free soft adapters
    learn "$config" plain && learn "$config" lean $lean && learn "$config" free $lean --clip 0 || fail "$config: resident"
    [ "$(weights plain)" != "$(weights lean)" ] || fail "$config: bf16 and codes change nothing"
    alike "$config" a lean --memory-mode stream
    alike "$config" a lean --memory-mode stream --threads 1 --recompute block
    alike "$config" a lean --memory-mode fused --recompute block
    alike "$config" a lean --memory-mode stream --recompute offload
    alike "$config" a lean --memory-mode fused --recompute offload
    alike "$config" a free --memory-mode fused --clip 0
    alike "$config" a plain --memory-mode stream --master-dtype f32 --moments f32
    alike "$config" a plain --memory-mode fused --master-dtype f32 --moments f32 --recompute block
    # several passes a step: fused refuses, the others agree
    learn "$config" passes $lean --pass-tokens 100 && alike "$config" a passes --memory-mode stream --pass-tokens 100
    alike "$config" a passes --pass-tokens 100 $lean --recompute offload
    learn "$config" muon --optimizer muon --ema 0.9 && learn "$config" muon8 --optimizer muon $lean || fail "$config: muon"
    [ "$(weights muon)" != "$(weights plain)" ] || fail "$config: muon and the mean change nothing"
    alike "$config" a muon --optimizer muon --ema 0.9 --memory-mode stream --master-dtype f32 --moments f32
    alike "$config" a muon8 --optimizer muon --memory-mode stream
    alike "$config" a muon8 --optimizer muon --memory-mode fused --recompute block
    alike "$config" a plain --threads 1 --recompute block
    alike "$config" a plain --threads 3 --recompute offload
    RETORT_ISA=scalar alike "$config" a plain
    case $features in *'"avx2"'*) RETORT_ISA=avx2 alike "$config" a plain ;; esac
    learn "$config" soft --loss forward:0.7,jsd:0.3 $lean || fail "$config: soft"
    alike "$config" a soft --loss forward:0.7,jsd:0.3 --memory-mode stream
    alike "$config" a soft --loss forward:0.7,jsd:0.3 --memory-mode fused --threads 1
    "$retort" -q quantize --model plain --type Q4_0 --overwrite --out four.gguf || fail "$config: quantize"
    for base in plain four.gguf; do
        rm -rf adapters
        learn $base adapters --lora-rank 4 || fail "$config: adapters beside $base"
        alike $base a adapters --lora-rank 4 --threads 1 --recompute block
        alike $base a adapters --lora-rank 4 --recompute offload
    done
    alike four.gguf a adapters --lora-rank 4 --memory-mode lora4 --threads 3
    rm -rf passes muon muon8
done; done
seed=0
[ -z "${RETORT_SEEDS-}" ] || echo "check_modes: $alikes runs alike, ${RETORT_KILLS:+each killed once, }seeds $RETORT_SEEDS"

# killed and started again: the same bytes, in each mode
for mode in "--memory-mode stream --recompute offload" "--memory-mode fused --recompute block" "--memory-mode stream --optimizer muon --ema 0.99"; do
    rm -rf clean killed
    learn untied.json clean $mode || fail "$mode"
    for kills in 1 2 3; do
        (exec=exec; learn untied.json killed $mode) & pid=$!
        sleep "0.$((RANDOM % 9 + 1))"
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null && break
    done
    learn untied.json killed $mode || fail "$mode: the run after kills"
    [ "$(weights clean)" = "$(weights killed)" ] || fail "$mode: after kills: other weights"
    [ "$(metrics clean)" = "$(metrics killed)" ] || fail "$mode: after kills: other figures"
done

# a checkpoint of one form is not taken for another's
rm -rf cut
(exec=exec; learn untied.json cut $lean --steps 400 --save-every 1) & pid=$!
until [ -e cut/checkpoint.safetensors ] || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
expect 1 'made by other settings' train --config untied.json --tokenizer "$teacher" --data traces.jsonl --eval-data held.jsonl \
    --loss hard --out cut --steps 400 --save-every 1 --batch-tokens 300 --pass-tokens 300 --max-length 256 --eval-every 2 --eval-limit 4 --warmup 2 \
    --learning-rate 2e-3

# plans and refusals
all="--device cpu --config untied.json --tokenizer $teacher --data traces.jsonl --loss hard --out no --batch-tokens 600 --pass-tokens 600 --max-length 256"
for mode in resident stream "fused --clip 0"; do
    prints 0 'memory +all' '' train -q $all --memory-mode $mode --plan
done
expect 1 'not enough memory: resident needs .*of 12.0 MiB.*these fit: --memory-mode .* --recompute block --pass-tokens [0-9]+$' \
    train $all --memory 12M
hint=$(sed -n 's/.*these fit: //p' err.txt)
expect 0 '' train $all --memory 12M --steps 2 $hint
expect 1 'nor do a shorter pass' train ${all/--out no/--out tiny} --memory 100K
expect 2 'lora-rank adapts a trained model' train $all --memory-mode lora4
expect 2 'needs --recompute block' train $all --memory-mode fused --recompute none
expect 2 'may not exceed --pass-tokens' train $all --memory-mode fused --clip 0 --batch-tokens 601
expect 2 '\-\-ema would need' train $all --memory-mode fused --clip 0 --ema 0.9
expect 2 'not for adapters' train --model plain --lora-rank 2 --optimizer muon --data traces.jsonl --loss hard --out no
expect 2 'adapters.*stay' train --model plain --lora-rank 2 --memory-mode stream --data traces.jsonl --loss hard --out no
expect 1 'wants a base of about 4' train --model plain --lora-rank 2 --memory-mode lora4 --data traces.jsonl --loss hard --out no
"$retort" -q quantize --model plain --type Q4_0 --out four.gguf || fail "quantize"
expect 0 '' train --model four.gguf --lora-rank 2 --memory-mode lora4 --data traces.jsonl --loss hard --out adapted --steps 2 --max-length 256
exit $failed
