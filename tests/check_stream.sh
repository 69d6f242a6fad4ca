#!/bin/bash
# Teachers whose weights are read as they are needed (--memory), as a user runs them, on random checkpoints
# of bf16 and fp8: the archive of the resident run, within the bound, after any number of kills; every weight
# read once a pass and unrouted experts not; too little memory refused with the least that works.
# RETORT_KILLS=20 kills more often.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
tools=$(dirname "$retort")
here=$(cd "$(dirname "$0")" && pwd)
kills=${RETORT_KILLS:-3}
export OMP_WAIT_POLICY=passive # tests share the cores
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1
export XDG_CACHE_HOME=$PWD/cache

value() { "$tools/test-tool" json out.txt "$1" || fail "no $1 in $(cat out.txt)"; } # of the last --json
# An emulated GPU's memory is the process's own, which the bound is not about.
emulated=$("$retort" doctor --json | grep -c '"emulated')
within() {
    [ "$emulated" != 0 ] || [ "$(value stream.peak_bytes)" -le "$1" ] ||
        fail "$2: peak $(value stream.peak_bytes), allowed $1"
}

# --- two checkpoints of one shape, and texts
shape='"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 512,
 "intermediate_size": 1024, "moe_intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8,
 "num_key_value_heads": 8, "q_lora_rank": null, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16,
 "v_head_dim": 32, "n_routed_experts": 32, "num_experts_per_tok": 4, "n_shared_experts": 1,
 "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.5,
 "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 1024, "tie_word_embeddings": false,
 "vocab_size": 264, "eos_token_id": 256'
fp8='"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
 "weight_block_size": [128, 128]}'
mkdir -p bf16 fp8
echo "{$shape}" >bf16/config.json
echo "{$shape, $fp8}" >fp8/config.json
for model in bf16 fp8; do
    cp "$here"/golden/tiny/tokenizer*.json $model/
    "$tools/test-tool" random $model/config.json $model/model.safetensors || exit 1
done
for i in $(seq 0 60); do
    echo "{\"id\":\"p$i\",\"prompt\":\"$i plus $((i * 7))?\",\"response\":\"$((i * 8)), because $i and $((7 * i)) make it so\"}"
done >texts.jsonl
head -1 texts.jsonl | sed 's/"response.*/"response":"0"}/' >one.jsonl

# --- the archive of the resident run, within the bound, each weight once a pass
for model in bf16 fp8; do
    "$retort" score -q --teacher $model --data texts.jsonl --out $model.traces >/dev/null || fail "score $model"
    bytes=$(($(wc -c <$model/model.safetensors)))
    expect 0 '' score --teacher $model --data texts.jsonl --out $model-1.traces --memory 400M --json
    same $model.traces $model-1.traces "streamed in one batch"
    within $((400 << 20)) "one batch"
    [ "$(value stream.passes)" = 1 ] || fail "one batch: $(value stream.passes) passes"
    read=$(value stream.weights_bytes) held=$(value stream.held_bytes) left=$(value stream.experts_unread)
    [ $((read + held)) -le $bytes ] || fail "$model: $read and $held bytes read of $bytes"
    [ "$left" -gt 8 ] || [ $((read + held)) -ge $((bytes * 9 / 10)) ] || fail "$model: only $read bytes of $bytes read"
done
expect 0 '' score --teacher fp8 --data texts.jsonl --out fp8-2.traces --memory 150M --pass-tokens 700 --threads 3 --json
same fp8.traces fp8-2.traces "several passes"
within $((150 << 20)) "several passes"
expect 0 '' score --teacher fp8 --data one.jsonl --out one.traces --memory 150M --json
[ "$(value stream.experts_unread)" -gt 0 ] || fail "a short text has rows for every expert"
expect 0 '' score --teacher fp8 --data one.jsonl --out one-resident.traces
same one.traces one-resident.traces "a short text"
plan="--teacher fp8 --prompts texts.jsonl --limit 12 --max-tokens 20 --samples 2 --seed 3"
expect 0 '' sample $plan --out r.traces --batch 8
expect 0 '' sample $plan --out r-1.traces --memory 250M --json
same r.traces r-1.traces "sampled through streamed weights"
within $((250 << 20)) "sampled"
[ "$(value stream.weights_bytes)" -lt $(($(wc -c <fp8/model.safetensors) * 2)) ] ||
    fail "layers that had room were read again: $(value stream.weights_bytes) bytes"

# --- where direct reads are refused, plain ones
if [ -w /dev/shm ]; then
    shm=$(mktemp -d /dev/shm/retort-stream-XXXXXX)
    cp -r fp8 "$shm/"
    expect 0 '' score --teacher "$shm/fp8" --data one.jsonl --out shm.traces --memory 150M --json
    same one.traces shm.traces "another file system"
    rm -r "$shm"
fi

# --- several batches, kept between layers in a file that a killed run goes on with
batches="--teacher fp8 --data texts.jsonl --memory 150M"
[ "$emulated" = 0 ] || batches+=" --gpu-memory 52M"
"$retort" score $batches --out k.traces >out.txt 2>err.txt &
pid=$!
while [ ! -s k.traces.pass ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
kept=$([ -s k.traces.pass ] && echo yes)
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
# (under a sanitizer memory is too little for that: passes of one batch)
[ "$kept" ] || grep -q ' passes;' err.txt || fail "several batches are kept in no file: $(cat err.txt)"
for k in $(seq "$kills"); do
    "$retort" score $batches -q --out k.traces >/dev/null 2>err.txt &
    pid=$!
    sleep "0.$(printf %03d $((RANDOM % 800)))"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
done
expect 0 '' score $batches --out k.traces
same fp8.traces k.traces "kills while scoring"
absent k.traces.pass
rm -rf g.traces
"$retort" score $batches --out g.traces >out.txt 2>err.txt & # killed once a layer is kept
pid=$!
while [ "$(head -c 7 g.traces.pass 2>/dev/null | tr -d '\0')" != RTPASS1 ] && kill -0 $pid 2>/dev/null; do
    sleep 0.005
done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
if [ -s g.traces.pass ] && [ "$(head -c 7 g.traces.pass | tr -d '\0')" = RTPASS1 ]; then
    "$retort" score $batches --out g.traces >out.txt 2>err.txt
    grep -qE 'goes on at layer [0-9]+ of 6' err.txt || fail "a killed pass began anew: $(cat err.txt)"
else
    "$retort" score $batches -q --out g.traces >out.txt
fi
same fp8.traces g.traces "a pass that goes on"
for k in $(seq "$kills"); do
    "$retort" sample $plan -q --memory 250M --out ks.traces >/dev/null 2>err.txt &
    pid=$!
    sleep "0.$(printf %03d $((RANDOM % 800)))"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
done
expect 0 '' sample $plan --memory 250M --out ks.traces
same r.traces ks.traces "kills while sampling"

# --- what stands where a pass is kept and is none stays
echo mine >mine.traces.pass
expect 1 'mine.traces.pass: is in the way' score --teacher bf16 --data one.jsonl --out mine.traces --memory 250M
rm -rf mine.traces
expect 0 '' score --teacher bf16 --data one.jsonl --out mine.traces
grep -q mine mine.traces.pass || fail "a file of the user's was taken away"

# --- too little is refused with the least that works, and that works
for command in "score --data texts.jsonl" "sample --prompts texts.jsonl --max-tokens 8"; do
    command+=" --teacher bf16 --limit 3 --threads 2"
    expect 1 'too little for .*: the least that works is --memory [0-9]+M' $command --out least.traces --memory 20M
    absent least.traces
    expect 0 'too little for .*: the least that works is --memory' $command --out least.traces --memory 20M --plan
    least=$(sed 's/.*--memory \([0-9]*\)M (.*--plan.*/\1/' err.txt)
    expect 1 'the least that works' $command --out least.traces --memory $((least - 8))M
    expect 0 '' $command --out least.traces --memory ${least}M --json
    within $((least << 20)) "the least"
    [ $((5 * $(value stream.peak_bytes))) -gt $((2 * least << 20)) ] || # not all of it is touched
        fail "the least is ${least}M, taken were $(value stream.peak_bytes) bytes"
    rm -rf least.traces
done

# --- said before it starts, and planned
"$retort" score --teacher fp8 --data one.jsonl --out said.traces --memory 200M 2>err.txt >out.txt
grep -qE 'streaming within 200 MiB: .* a pass of [0-9]+ tokens, 1 pass;' err.txt || fail "forecast: $(cat err.txt)"
grep -qE 'forecast: .* tokens/s, .* hours \(.*\) for [0-9]+ tokens, an archive of about' err.txt || fail "forecast: $(cat err.txt)"
grep -qE '^weights read, bytes +[0-9]+' out.txt || fail "account: $(cat out.txt)"
expect 0 '' score --teacher fp8 --data texts.jsonl --out none.traces --memory 200M --plan
grep -qE '^  (memory|pinned) +stream +two layers' out.txt && grep -qE '^  file +weights +read a pass' out.txt || fail "--plan: $(cat out.txt)"
absent none.traces

# --- known by its bytes, which are read once; or not, and then the archive says so
rm -rf cache # what can be refused is, before a teacher of any size is read
expect 1 'too little' score --teacher fp8 --data one.jsonl --out i.traces --memory 1M
expect 2 'no cycle fits' sample --teacher fp8 --prompts one.jsonl --out i.traces --stop-repetition 3
expect 2 '--stop: ' sample --teacher fp8 --prompts one.jsonl --out i.traces --stop ''
expect 2 '--stop: ' sample --teacher fp8 --prompts one.jsonl --out i.traces --stop '' --plan
expect 2 'no cycle fits' generate --model fp8 --prompt 1 --stop-repetition 1
"$retort" score --teacher fp8 --data one.jsonl --out i.traces --memory 200M 2>err.txt >out.txt
grep -q 'read once to know it by its bytes' err.txt || fail "a new teacher: $(cat err.txt)"
"$retort" score --teacher fp8 --data one.jsonl --out i2.traces --memory 200M 2>err.txt >out.txt
grep -q 'read once to know it' err.txt && fail "a known teacher is read again"
expect 0 '' score --teacher fp8 --data one.jsonl --out u.traces --memory 200M --no-identity
expect 0 '' inspect u.traces --json
grep -q '"weights_hash":"not read"' out.txt || fail "no identity: $(cat out.txt)"
expect 1 'weights hash' score --teacher fp8 --data texts.jsonl --out i.traces --memory 200M --no-identity

# --- numbers of bytes
expect 2 '--memory: "2X" is not a number of bytes' score --teacher fp8 --data one.jsonl --out n.traces --memory 2X
expect 2 '--memory' score --teacher fp8 --data one.jsonl --out n.traces --memory -5
echo '{"score": {"teacher": "fp8", "data": "one.jsonl", "out": "n.traces", "memory": "0.25G"}}' >recipe.json
expect 0 '' score --recipe recipe.json --print-recipe
grep -q '"memory": *268435456' out.txt || fail "a recipe's memory: $(cat out.txt)"
absent n.traces
exit $failed
