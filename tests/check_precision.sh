#!/bin/bash
# Training on a GPU's own kernels in each of its precisions: the losses of a few steps in bf16 and in fp8 beside
# those in f32. Needs the emulated GPU (RETORT_CUDA=EMULATE), with blocks of 32 threads.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2
rm -rf "$dir" && mkdir -p "$dir"
case $("$retort" doctor --json) in
*'"emulated'*) ;;
*) exit 0 ;;
esac
teacher=$PWD/examples/reasoning/teacher student=$PWD/examples/reasoning/student-config.json
cd "$dir" || exit 1
for i in $(seq 24); do echo "{\"id\": \"p$i\", \"prompt\": \"What is $i + 7?\", \"response\": \"$((i + 7))\"}"; done >text.jsonl
"$retort" score --teacher "$teacher" --data text.jsonl --out a.traces --device cpu >stdout 2>stderr || fail "score: $(cat stderr)"

losses() { # PRECISION: of every step
    RETORT_EMULATE_TEAM=32 "$retort" train --config "$student" --tokenizer "$teacher" --data a.traces --steps 2 \
        --warmup 1 --batch-tokens 130 --max-length 128 --out "$1" --device cuda --precision "$1" >stdout 2>stderr ||
        fail "train in $1: $(cat stderr)"
    sed -n 's/.*"loss":\([0-9.e+-]*\).*/\1/p' "$1/metrics.jsonl" >"$1.losses"
    [ "$(wc -l <"$1.losses")" = 2 ] || fail "train in $1: losses $(tr '\n' ' ' <"$1.losses")"
}
losses f32
for near in bf16:0.002 fp8:0.01; do
    precision=${near%:*}
    losses "$precision"
    paste "$precision.losses" f32.losses |
        awk -v most="${near#*:}" '{ d = ($1 - $2) / $2; if (!(d * d <= most * most)) bad = 1 } END { exit bad }' ||
        fail "$precision: losses $(tr '\n' ' ' <"$precision.losses"), in f32 $(tr '\n' ' ' <f32.losses)"
done
cmp -s bf16.losses fp8.losses && fail "fp8 rounds nothing that bf16 does not: losses $(tr '\n' ' ' <fp8.losses)"
exit $failed
