#!/bin/bash
# retort train as a user runs it: the same bytes whatever the threads, the memory mode and however
# often it was killed; one clear line and exit 1 or 2 for what is wrong; nothing half-written.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems
rm -rf "$dir" && mkdir -p "$dir"
cd "$dir" || exit 1
exec=

"$problems" --n 400 --seed 3 --form trace >traces.jsonl &&
    "$retort" -q tokenizer --in traces.jsonl --out tok --vocab 400 --special '<|user|>' --special '<|assistant|>' \
        --special '<|end|>' --added '<think>' --added '</think>' --eos '<|end|>' \
        --chat-template "$OLDPWD/examples/reasoning/chat_template.jinja" 2>/dev/null || exit 1
cat >moe.json <<'E'
{"model_type": "deepseek_v3", "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "kv_lora_rank": 10,
 "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 8, "intermediate_size": 40, "moe_intermediate_size": 16,
 "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "norm_topk_prob": true,
 "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
E
train() { # OUT [flags...]
    out=$1
    shift
    $exec "$retort" -q train --config moe.json --tokenizer tok --data traces.jsonl --loss hard --out "$out" --steps 12 \
        --batch-tokens 600 --pass-tokens 300 --max-length 256 --save-every 2 --warmup 2 "$@"
}
bytes() { (cd "$1" && sha256sum config.json model.safetensors retort.json README.md tokenizer.json generation_config.json); }

begun=$(date +%s%N)
train clean || fail "a clean run"
took=$((($(date +%s%N) - begun) / 1000000))
[ -e clean/checkpoint.safetensors ] && fail "the checkpoint of a finished run was left behind"
[ "$(wc -l <clean/metrics.jsonl)" = 12 ] || fail "metrics.jsonl has not one line a step"
train one --threads 1 && [ "$(bytes one)" = "$(bytes clean)" ] || fail "1 thread: other bytes"
train three --threads 3 && [ "$(bytes three)" = "$(bytes clean)" ] || fail "3 threads: other bytes"
train block --recompute block
cmp -s block/model.safetensors clean/model.safetensors || fail "recompute block: other weights"

kills=0 exec=
while [ $kills -lt 8 ]; do
    (exec=exec; train killed --threads 2) & pid=$!
    sleep "$(printf '%d.%03d' 0 $((RANDOM % (took < 900 ? took : 900))))"
    kill -9 $pid 2>/dev/null
    if wait $pid 2>/dev/null; then rm -rf killed; else kills=$((kills + 1)); fi
done
train killed || fail "the run after $kills kills"
[ "$(bytes killed)" = "$(bytes clean)" ] || fail "after $kills kills: other bytes"
[ "$(wc -l <killed/metrics.jsonl)" = 12 ] || fail "after $kills kills: metrics.jsonl has not one line a step"
[ "$(grep -ao train/loss killed/events.out.tfevents.* | wc -l)" = 12 ] || fail "after $kills kills: not one event a step"
ls killed/*.tmp.* 2>/dev/null && fail "temporary files left behind"
echo "same bytes after $kills kills"

wrong() { # EXIT PATTERN command...
    want=$1 pattern=$2
    shift 2
    "$@" >stdout 2>stderr
    got=$?
    [ $got = "$want" ] || fail "exit $got instead of $want: $* ($(cat stderr))"
    [ "$(wc -l <stderr)" = 1 ] || fail "not one line: $*: $(cat stderr)"
    grep -q -- "$pattern" stderr || fail "no \"$pattern\" in: $(cat stderr)"
}
sed 's/deepseek_v3/gpt_17/' moe.json >unknown.json
sed 's/"hidden_size": 24/"hidden_size": -3/' moe.json >negative.json
head -c 100 moe.json >cut.json
wrong 1 'gpt_17' train bad --config unknown.json
cp "$OLDPWD/tests/golden/models/gpt_oss_clamped/config.json" oss.json && sed -i 's/"vocab_size": 61/"vocab_size": 400/' oss.json
wrong 1 'teach, not learn' train bad --config oss.json
wrong 1 'hidden_size' train bad --config negative.json
wrong 1 'cut.json' train bad --config cut.json
wrong 1 'nowhere.jsonl' train bad --data nowhere.jsonl
wrong 2 'learning-rate' train bad --learning-rat 3
wrong 2 'steps' train bad --steps many
wrong 1 'soft targets' train bad --loss forward
wrong 2 'did you mean forward' train bad --loss foward
wrong 2 'stands twice' train bad --loss hard:1,hard:2
wrong 2 'loss-change' train bad --loss-first forward --loss-change 0.5
wrong 2 'model' "$retort" train --data traces.jsonl --out bad
wrong 1 'nowhere' "$retort" train --model nowhere --data traces.jsonl --out bad
echo '{"prompt": "1+1", "answer": "2"}' >unanswered.jsonl
wrong 1 'unanswered.jsonl:1' train bad --data unanswered.jsonl
echo '{"text": ' >broken.jsonl
wrong 1 'broken.jsonl:1' train bad --data broken.jsonl
mkdir truncated shape pickle
for d in truncated shape pickle; do cp clean/*.json $d && rm $d/retort.json; done
head -c 3000 clean/model.safetensors >truncated/model.safetensors
wrong 1 'model.safetensors' "$retort" -q train --model truncated --data traces.jsonl --loss hard --out bad
sed 's/"hidden_size":[ \t]*24/"hidden_size": 32/' clean/config.json >shape/config.json
cp clean/model.safetensors shape
wrong 1 'shape' "$retort" -q train --model shape --data traces.jsonl --loss hard --out bad
printf 'PK\003\004pickle' >pickle/pytorch_model.bin
wrong 1 'pickle' "$retort" -q train --model pickle --data traces.jsonl --loss hard --out bad
[ -e bad/config.json ] && fail "a failed run wrote a model"
# a disk that is full: no file may grow past 20 KiB
(trap '' XFSZ; ulimit -f 20; train full) 2>stderr && fail "a full disk went unnoticed"
[ "$(grep -c . stderr)" = 1 ] || fail "a full disk: $(cat stderr)"
[ -e full/model.safetensors ] && fail "a full disk left a model"
# --- a cut run is taken up by the same work alone: every option and input that changes the result counts
cut() { train "$1" --steps 100 --save-every 1 --learning-rate 0.001 "${@:2}"; }
(exec=exec; cut cut) & pid=$!
until [ -e cut/checkpoint.safetensors ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
[ -e cut/checkpoint.safetensors ] || [ -e cut/checkpoint-before.safetensors ] || fail "no checkpoint to resume from" # between two renames
sed 's/"rms_norm_eps": 1e-6/"rms_norm_eps": 1e-6, "rope_theta": 50000/' moe.json >theta.json
sed '2,$!s/[0-9]/7/' traces.jsonl >other.jsonl
cmp -s traces.jsonl other.jsonl && fail "other.jsonl is traces.jsonl"
"$retort" -q tokenizer --in traces.jsonl --out tok2 --vocab 400 --special '<|end|>' --special '<|user|>' \
    --special '<|assistant|>' --added '<think>' --added '</think>' --eos '<|end|>' \
    --chat-template "$OLDPWD/examples/reasoning/chat_template.jinja" 2>/dev/null
for change in '--config theta.json' '--tokenizer tok2' '--data other.jsonl' '--data traces.jsonl --data other.jsonl' \
    '--seed 1' '--max-length 255' '--limit 399' '--verdicts correct' '--set x=1' '--steps 101' '--batch-tokens 601' \
    '--pass-tokens 301' '--head-rows 511' '--learning-rate 0.002' '--warmup 3' '--schedule linear' '--min-rate 0.2' \
    '--beta1 0.8' '--beta2 0.97' '--eps 1e-7' '--weight-decay 0.1' '--clip 2' '--balance-rate 0.01' '--dtype bf16'; do
    wrong 1 'made by other settings or data' cut cut $change
done
mv tok tok-moved && mv moe.json moe-moved.json # another place is not other content
(exec=exec; cut cut --config moe-moved.json --tokenizer tok-moved --threads 1 --save-every 7 --recompute block \
    --eval-data traces.jsonl --eval-every 60 --eval-limit 3) || fail "the same work was not taken up"
mv tok-moved tok && mv moe-moved.json moe.json
cut whole || fail "uninterrupted"
[ "$(bytes cut)" = "$(bytes whole)" ] || fail "taken up with other threads, memory and measurements: other bytes"

# --- one that died when all was written but its checkpoints: they go when it is found finished
before=$(bytes whole)
cp whole/model.safetensors whole/checkpoint.safetensors && cp whole/model.safetensors whole/checkpoint-before.safetensors
cut whole || fail "a finished run with checkpoints"
ls whole/checkpoint* 2>/dev/null && fail "a finished run kept its checkpoints"
[ "$(bytes whole)" = "$before" ] || fail "a finished run was written again"

# --- one document that counts among some that do not: of two epochs it may be the first and the last
for i in 1 2 3; do echo "{\"text\": \"$i is nothing\", \"weight\": 0}"; done >rare.jsonl
rare="train --config moe.json --tokenizer tok --data rare.jsonl --loss hard --steps 30 --batch-tokens 2 --out rare"
expect 1 'nothing to learn in its 3 documents' $rare
echo '{"text": "4 is learned", "weight": 0.5}' >>rare.jsonl
expect 0 '' $rare

# --- a learning rate of 0 learns nothing, and says so in numbers
train still --learning-rate 0 --steps 2 || fail "--learning-rate 0"
grep -aq 'nan\|null' still/metrics.jsonl && fail "--learning-rate 0: $(cat still/metrics.jsonl)"
"$retort" -q eval --model still --archive traces.jsonl --limit 2 --json 2>&1 | grep -q '"perplexity":[0-9]' ||
    fail "--learning-rate 0 left weights that are no numbers"

# --- problems that are answered between steps: what eval says of the model afterwards, and the same model
teacher=$OLDPWD/examples/reasoning/teacher
"$problems" --n 5 --seed 9 --form problem >problems.jsonl
again() { "$retort" -q train --model "$teacher" --data traces.jsonl --loss hard --steps 1 --warmup 0 --batch-tokens 100 --max-length 256 --out "$@"; }
again plain && again asked --eval-problems problems.jsonl --eval-samples 2 --eval-temperature 1.5 --eval-max-tokens 150 || fail "--eval-problems"
cmp -s plain/model.safetensors asked/model.safetensors || fail "--eval-problems: another model"
"$retort" -q eval --model asked --problems problems.jsonl --samples 2 --temperature 1.5 --max-tokens 150 --json >asked.json
number() { sed -n "s/.*\"$1\":\([0-9.e-]*\).*/\1/p" "$2"; }
for pair in 'eval_answers accuracy' 'eval_answers_se accuracy_se' 'eval_pass_at_2 2'; do
    awk -v a="$(number "${pair% *}" asked/metrics.jsonl)" -v b="$(number "${pair#* }" asked.json)" \
        'BEGIN { d = a - b; exit !(a != "" && b != "" && d < 1e-5 && d > -1e-5) }' ||
        fail "$pair: $(number "${pair% *}" asked/metrics.jsonl) and $(number "${pair#* }" asked.json)"
done
wrong 2 'give --eval-problems too' again bad --eval-samples 3
wrong 2 'give a temperature' again bad --eval-problems problems.jsonl --eval-samples 3
echo '{"prompt": "2+3"}' >unanswered.jsonl
wrong 1 'no "answer"' again bad --eval-problems unanswered.jsonl
echo "{\"prompt\": \"$(seq -s + 200)\", \"answer\": \"20100\"}" >long.jsonl
wrong 1 'there is room for' again bad --eval-problems long.jsonl
exit $failed
