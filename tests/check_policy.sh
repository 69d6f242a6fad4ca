#!/bin/bash
# A student's own text: `score --student` against the logits of both models in f64, in any batch, with
# streamed weights and after kills; who wrote and who scored an archive is known by hash; one clear line
# for what is wrong.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 scratch=$2 tool=$(dirname "$1")/test-tool problems=$(dirname "$1")/reasoning-problems
root=$(cd "$(dirname "$0")/.." && pwd)
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

# --- a student of a few steps, and what it says
teacher=$root/examples/reasoning/teacher
"$problems" --n 60 --seed 1 --form trace >pairs.jsonl
"$problems" --n 24 --seed 2 --form problem >prompts.jsonl
expect 0 '' train --config "$root/examples/reasoning/student-config.json" --tokenizer "$teacher" --data pairs.jsonl \
    --out student --loss hard --steps 30 --batch-tokens 1200 --warmup 5 --learning-rate 0.004 --max-length 256
expect 0 '' sample --teacher student --prompts prompts.jsonl --out rollouts.traces --max-tokens 24 --head-max 0 --limit 8

# --- the teacher's view of it, the student's tokens exact
score="score --teacher $teacher --data rollouts.traces --student student"
expect 0 '' $score --out scored.traces
expect 0 '' archive verify scored.traces
for n in 0 5; do
    "$tool" tokens rollouts.traces $n tokens.npy || fail "tokens of sample $n"
    expect 0 '' logits --model "$teacher" --tokens tokens.npy --out teacher.npy
    expect 0 '' logits --model student --tokens tokens.npy --out student.npy
    "$tool" listed scored.traces $n teacher.npy student.npy 8 16 0.0009765625 || fail "listed tokens of sample $n"
    "$tool" listed scored.traces $n teacher.npy student.npy 8 12 0.0009765625 2>/dev/null &&
        fail "the check of listed tokens does not see that some are missing"
done
expect 0 '' $score --out again.traces --pass-tokens 40 --head-rows 3 --threads 1
same scored.traces again.traces "scored alone or among others"
expect 0 '' $score --out streamed.traces --memory 120M
same scored.traces streamed.traces "streamed weights"
for k in 1 2 3; do
    "$retort" $score -q --out killed.traces --pass-tokens 60 >/dev/null 2>err.txt & pid=$!
    sleep "0.$(printf %03d $((RANDOM % 300)))"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
done
expect 0 '' $score --out killed.traces --pass-tokens 60
same scored.traces killed.traces "kills while scoring"

# --- who wrote it, who scored it, whose tokens are listed
hash_of() { expect 0 '' inspect "$1" --json; sed -n "s/.*\"$2\":\"\([0-9a-f]*\)\".*/\1/p" out.txt; }
[ "$(hash_of scored.traces sampler_hash)" = "$(hash_of rollouts.traces weights_hash)" ] || fail "who wrote it"
[ "$(hash_of scored.traces listed_hash)" = "$(hash_of rollouts.traces weights_hash)" ] || fail "whose tokens"
[ -n "$(hash_of scored.traces weights_hash)" ] || fail "who scored it"
expect 0 '' score --teacher student --data scored.traces --out twice.traces
[ "$(hash_of twice.traces sampler_hash)" = "$(hash_of rollouts.traces weights_hash)" ] || fail "who wrote what was scored twice"

# --- it is learned from, with the losses that need it
for loss in reverse jsd skew-reverse forward; do
    expect 0 '' train --model student --data scored.traces --out learned-$loss --loss $loss --verdicts unverified,unfinished \
        --steps 2 --warmup 0 --batch-tokens 400 --max-length 256
done

# --- one teacher, unless two are meant
expect 0 '' sample --teacher student --prompts prompts.jsonl --out own.traces --max-tokens 24 --limit 8
two="train --model student --data scored.traces --data own.traces --verdicts unverified,unfinished --steps 1
     --warmup 0 --batch-tokens 400 --max-length 256"
expect 1 '^retort train: own.traces: its teacher is student .*, that of the archives before it teacher .*--mix-teachers' \
    $two --out none --loss reverse
expect 0 '' $two --out mixed --loss reverse --mix-teachers
expect 0 '' $two --out hard --loss hard

# a student that goes on with another teacher is told so
expect 0 '' train --model learned-reverse --data scored.traces --verdicts unverified,unfinished --out on --loss reverse --steps 1 \
    --warmup 0 --batch-tokens 400 --max-length 256
expect 0 'learned-reverse learned from another teacher' train --model learned-reverse --data own.traces --verdicts unverified,unfinished \
    --out away --loss reverse --steps 1 --warmup 0 --batch-tokens 400 --max-length 256

# --- whatever is wrong
cp -r student other && rm other/retort.json && sed -i 's/<think>/<thonk>/g' other/tokenizer.json
expect 1 '^retort score: nowhere: No such file' score --teacher "$teacher" --data rollouts.traces --out none.traces --student nowhere
expect 2 'at most 64 tokens together' $score --out none.traces --head-max 60
expect 1 '^retort score: --student other: has another tokenizer' score --teacher "$teacher" --data rollouts.traces \
    --out none.traces --student other
expect 1 'another capture head_max' $score --out scored.traces --student-top 4
expect 1 'another capture head_max' score --teacher "$teacher" --data rollouts.traces --out scored.traces
absent none.traces
absent none
exit $failed
