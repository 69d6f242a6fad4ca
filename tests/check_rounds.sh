#!/bin/bash
# retort train --teacher: a student that learns on its own answers: rounds of one step, of several, and
# one before all; the same bytes whatever the batch, the threads and the kills; what a round tells is what
# its archive holds; warnings before a run that cannot work; one clear line for what is wrong.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 scratch=$2 tool=$(dirname "$1")/test-tool problems=$(dirname "$1")/reasoning-problems
kills=${RETORT_KILLS:-3}
root=$(cd "$(dirname "$0")/.." && pwd)
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

teacher=$root/examples/reasoning/teacher
"$problems" --n 300 --seed 1 --form trace >pairs.jsonl
"$problems" --n 20 --seed 2 --form problem >prompts.jsonl
expect 0 '' train --config "$root/examples/reasoning/student-config.json" --tokenizer "$teacher" --data pairs.jsonl \
    --out base --loss hard --steps 60 --batch-tokens 1200 --warmup 5 --learning-rate 0.004 --max-length 256
on="train --model base --teacher $teacher --prompts prompts.jsonl --loss reverse --rollouts 5 --rollout-tokens 40
    --warmup 0 --learning-rate 0.001 --max-length 256 --seed 3"
result() { # DIR: everything but the clock
    (cd "$1" && for f in config.json model.safetensors README.md round-*; do
        [ -d "$f" ] && f=$(echo "$f"/manifest.json "$f"/shard-*); sha256sum $f
    done; sed 's/"seconds":[0-9.e+-]*/ /' metrics.jsonl)
}

# --- live: a round before every step; the numbers of a round are its archive's
expect 0 '' $on --steps 6 --out live
[ "$(ls -d live/round-*.traces | wc -l)" = 6 ] || fail "rounds of a live run: $(ls live)"
[ "$(grep -c '"round":' live/metrics.jsonl)" = 6 ] || fail "metrics of a live run"
[ "$(sed -n 3p out.txt | cut -d' ' -f1)" = 2 ] || fail "table: $(cat out.txt)"
scored=$(sed -n 's/^teacher tokens scored *//p' out.txt)
[ -n "$scored" ] && [ "$("$tool" json live/retort.json options.teacher_tokens)" = "$scored" ] ||
    fail "teacher tokens of a live run: $scored scored, retort.json says $("$tool" json live/retort.json options.teacher_tokens)"
expect 0 '' archive verify live/round-0006.traces
# what a prompt counts, its answers count: the same when all count alike, otherwise not; archives keep it
sed 's/^{/{"weight":0.5,/' prompts.jsonl >halves.jsonl
awk '{ sub(/^{/, "{\"weight\":" (NR % 2 ? 0.5 : 2) ","); print }' prompts.jsonl >uneven.jsonl
for data in halves uneven; do expect 0 '' ${on/prompts.jsonl/$data.jsonl} --steps 6 --out $data; done
cmp -s live/model.safetensors halves/model.safetensors || fail "prompts that all count 0.5: other bytes"
cmp -s live/model.safetensors uneven/model.safetensors && fail "weights of prompts change nothing"
expect 0 '' verify live
expect 0 '' inspect live/round-0006.traces --json
grep -q '"sampler":"student".*"sampler_step":5' out.txt || fail "who wrote round 6: $(cat out.txt)"
entropy=$("$retort" archive stats live/round-0004.traces --json | sed -n 's/.*"entropy_nats":{"mean":\([0-9.]*\).*/\1/p')
told=$(sed -n 's/.*"round":4,.*"teacher_entropy":\([0-9.]*\).*/\1/p' live/metrics.jsonl)
[ -n "$told" ] && awk -v a="$entropy" -v b="$told" 'BEGIN { exit !(a - b < 2e-3 && b - a < 2e-3) }' ||
    fail "the teacher's entropy in round 4: $told in metrics.jsonl, $entropy in the archive"
# a step that learns from a whole round meets it with the student that wrote it: the loss is the KL, on
# the teacher's head too, so a little above
sed -nE 's/.*"loss":([0-9.e-]+),.*"reverse_kl":([0-9.e-]+).*/\1 \2/p' live/metrics.jsonl >both.txt
[ "$(wc -l <both.txt)" = 6 ] && awk '{ if ($1 < 0.999 * $2 || $1 > 1.02 * $2) exit 1 }' both.txt ||
    fail "reverse loss and KL of the same answers: $(cat both.txt)"

# --- a round is what `sample` and `score --student` make of the same student
expect 0 '' $on --steps 6 --rounds 1 --rollouts 30 --batch-tokens 400 --out offline
cp out.txt offline.txt
grep -c . offline/round-0001.jsonl | grep -qx 30 || fail "lines of a round: $(wc -l offline/round-0001.jsonl)"
expect 0 '' score --teacher "$teacher" --data offline/round-0001.traces --student base --out scored.traces --seed 3
more=$(sed -n 's/^teacher tokens scored *//p' offline.txt)
expect 0 '' train --model offline --data live/round-0001.traces --verdicts correct,wrong,unverified,unfinished --steps 1 --warmup 0 --out again
[ "$("$tool" json again/retort.json options.teacher_tokens)" -gt "$more" ] || fail "teacher tokens do not add up"
expect 0 '' archive export offline/round-0001.traces --soft --out a.jsonl
expect 0 '' archive export scored.traces --soft --out b.jsonl
same a.jsonl b.jsonl "a round against score --student"

# --- the same bytes: batch, threads, kills
expect 0 '' $on --steps 6 --out batch --rollout-batch 2 --threads 1
[ "$(result live)" = "$(result batch)" ] || fail "another batch: other bytes"
result live >live.txt
for k in $(seq "$kills"); do
    "$retort" $on --steps 6 -q --out killed --save-every 2 >/dev/null 2>err.txt & pid=$!
    sleep "0.$(printf %03d $((200 + RANDOM % 700)))"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
done
expect 0 '' $on --steps 6 --out killed --save-every 2
result killed | diff live.txt - >diff.txt || fail "kills: other bytes: $(head -3 diff.txt)"
few="$on --steps 6 --rounds 2 --rollouts 9 --batch-tokens 300"
expect 0 '' $few --out two
result two >two.txt
for k in $(seq "$kills"); do
    "$retort" $few -q --out cut --save-every 1 --rollout-batch 1 >/dev/null 2>err.txt & pid=$!
    sleep "0.$(printf %03d $((RANDOM % 900)))"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
done
expect 0 '' $few --out cut --save-every 1
result cut | diff two.txt - >diff.txt || fail "kills in a round: other bytes: $(head -3 diff.txt)"

# --- every loss that takes soft targets, adapters, a stage of a recipe
for loss in forward jsd skew skew-reverse tvd bucket; do
    expect 0 '' $on --steps 2 --loss $loss --out loss-$loss
done
expect 0 '' $on --steps 3 --lora-rank 4 --out adapter
expect 0 '' $on --steps 2 --loss reverse --temperature 2 --out warm
cat >recipe.json <<END
{"run": {"out": "run"},
 "student": {"command": "train", "model": "base", "teacher": "$teacher", "prompts": ["prompts.jsonl"], "out": "{out}/student",
             "loss": "jsd", "rollouts": 3, "rollout_tokens": 24, "steps": 2, "warmup": 0, "max_length": 256},
 "eval": {"command": "eval", "model": "{out}/student", "problems": ["prompts.jsonl"], "max_tokens": 24, "limit": 4}}
END
expect 0 '' run recipe.json --plan
expect 0 '' run recipe.json
expect 0 '' run recipe.json
expect 0 '' $on --steps 4 --out none --plan
absent none

# --- a privileged prompt is the teacher's alone: targets against the logits of both in f64
npy() { # OUT ids...
    local out=$1 header
    shift
    header="{'descr': '<i4', 'fortran_order': False, 'shape': ($#,), }"
    { printf '\223NUMPY\001\000\166\000%-117s\n' "$header"
      for i; do printf "\\x$(printf %x $((i % 256)))\\x$(printf %x $((i / 256)))\\0\\0"; done; } >"$out"
}
head -n 4 prompts.jsonl | sed 's/^{/{"privileged":"Ann has 3 eggs, and the answer is 12.",/' >told.jsonl
told="train --model base --teacher base --prompts told.jsonl --loss jsd --rollouts 4 --rollout-tokens 30 --steps 1
      --warmup 0 --max-length 256 --seed 3"
expect 0 '' $told --out self
for n in 0 3; do
    "$tool" tokens self/round-0001.traces $n own.npy || fail "tokens"
    expect 0 '' archive export self/round-0001.traces --soft --verdict unverified,correct,wrong,unfinished --out self.jsonl
    sed -n $((n + 1))p self.jsonl >one.jsonl
    ids=$("$tool" json one.jsonl tokens | tr -d '[]' | tr , ' ') prompt=$("$tool" json one.jsonl prompt_tokens)
    ask=$("$tool" json one.jsonl messages.0.content)
    printf '[{"role":"user","content":"%s\\n\\nAnn has 3 eggs, and the answer is 12."}]' "$ask" >seen.json
    expect 0 '' render --model base --messages seen.json --add-generation-prompt
    seen=$("$retort" tokenize -q --model base --special --whole <out.txt | tr -d '[]' | tr , ' ')
    set -- $seen
    more=$(($# - prompt))
    [ $more -gt 5 ] || fail "a privileged prompt of $# tokens, the student's of $prompt"
    set -- $ids
    shift "$prompt"
    npy seen.npy $seen "$@"
    expect 0 '' logits --model base --tokens seen.npy --out seen-logits.npy
    expect 0 '' logits --model base --tokens own.npy --out own-logits.npy
    "$tool" listed self/round-0001.traces $n seen-logits.npy own-logits.npy 8 16 0.0009765625 $more || fail "targets of a privileged prompt"
    "$tool" listed self/round-0001.traces $n own-logits.npy own-logits.npy 8 16 0.0009765625 2>/dev/null &&
        fail "a privileged prompt changes nothing"
done
# and a teacher that answers with it leaves samples without it
expect 0 '' sample --teacher "$teacher" --prompts told.jsonl --out told.traces --max-tokens 40 --limit 2
expect 0 '' archive verify told.traces
expect 0 '' archive export told.traces --soft --out told-soft.jsonl --verdict unverified,correct,wrong,unfinished
grep -q 'the answer is 12' told-soft.jsonl && fail "a sample holds what only the teacher was told"
expect 0 '' sample --teacher "$teacher" --prompts told.jsonl --out told.traces --max-tokens 40
printf '{"prompt":"1?","privileged":[{"role":"assistant","content":"2"}]}\n' >ends.jsonl
printf '{"prompt":"1?","privileged":7}\n' >seven.jsonl
printf '{"prompt":"1?","privileged":"2","response":"3"}\n' >pair.jsonl
expect 1 'ends.jsonl:1: .*privileged ends with the assistant' sample --teacher "$teacher" --prompts ends.jsonl --out none.traces
expect 1 'seven.jsonl:1: .*privileged is neither text' sample --teacher "$teacher" --prompts seven.jsonl --out none.traces
expect 1 'pair.jsonl:1: .*privileged.* is for prompts that are answered' score --teacher "$teacher" --data pair.jsonl --out none.traces
absent none.traces

# --- what cannot work is said before it costs much
prints 0 'round' "improbable .* learn from the teacher's own traces first" $on --steps 1 --rollouts 12 --out early
prints 0 'round' 'agree on .* answers already .*little to learn' train --model "$teacher" --teacher "$teacher" --prompts prompts.jsonl \
    --loss reverse --steps 1 --rollouts 6 --rollout-tokens 256 --learning-rate 0 --out itself --max-length 512

# --- what the tokens of answers count; answers that do not get beyond their thoughts teach nothing then
expect 0 '' $on --steps 2 --reasoning-weight 0.5 --entropy-share 0.3 --out weighed
head -n 1 weighed/metrics.jsonl | sed -E 's/.*"tokens":([0-9]+).*"rollout_tokens":([0-9]+).*/\1 \2/' |
    awk '{ n = int($2 * 3 / 10); exit $1 != n + (n * 10 < $2 * 3) }' || fail "three tenths of a round: $(head -n 1 weighed/metrics.jsonl)"
expect 1 'round 1: nothing to learn: no token counts in any of the 5' $on --steps 2 --rollout-tokens 2 --reasoning-weight 0 --out idle

# --- whatever is wrong
short=${on/--rollouts 5/}
expect 2 '--prompts needs --teacher' train --model base --prompts prompts.jsonl --out none
expect 2 '--teacher needs --prompts' train --model base --teacher "$teacher" --out none
expect 2 '--teacher needs --model' train --config "$root/examples/reasoning/student-config.json" --tokenizer "$teacher" \
    --teacher "$teacher" --prompts prompts.jsonl --out none
expect 2 'not both' $on --data pairs.jsonl --out none
expect 2 'missing --data PATH, or --teacher' train --model base --out none
expect 2 "--loss hard would learn the student's own tokens" $on --loss hard --out none
expect 2 '--rounds 9: more than --steps 4' $on --steps 4 --rounds 9 --out none
expect 2 'at most 64 tokens together' $on --head-max 60 --out none
expect 2 '--verdicts .* choose among --data' $on --verdicts correct --out none
expect 1 'nowhere: No such file' train --model base --teacher nowhere --prompts prompts.jsonl --out none
expect 1 'prompt .* tokens: --max-length' $on --max-length 8 --out none
cp -r base other && rm other/retort.json && sed -i 's/<think>/<thonk>/g' other/tokenizer.json
expect 1 '--teacher other: has another tokenizer' train --model base --teacher other --prompts prompts.jsonl --out none
expect 1 'made by other settings' $on --steps 6 --out live --rollouts 6
absent none
# a round that is gone cannot be answered again by a student that has moved on
"$retort" $few -q --out gone --save-every 1 >/dev/null 2>err.txt & pid=$!
until [ -e gone/checkpoint.safetensors ] || ! kill -0 $pid 2>/dev/null; do :; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
if [ -e gone/checkpoint.safetensors ]; then
    rm -r gone/round-0001.traces
    "$retort" $few -q --out gone >out.txt 2>err.txt
    [ $? = 1 ] && grep -q 'round-0001.traces: is gone, and the student has changed' err.txt ||
        grep -q '"step":3' gone/metrics.jsonl || fail "a round that is gone: $(cat err.txt)"
    rm -r gone
    expect 0 '' $few --out gone
    result gone | diff two.txt - >diff.txt || fail "begun anew: other bytes: $(head -3 diff.txt)"
fi
exit $failed
