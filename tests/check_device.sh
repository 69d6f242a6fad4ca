#!/bin/bash
# A device that is lost in the middle (a driver that dies, a card that falls off the bus): the command ends
# in one line that says so, exit 1, nothing is half-written, and the same command run again ends in the
# bytes of an undisturbed run. Needs the strict device (RETORT_STRICT=ON), which can be told to fail.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2
rm -rf "$dir" && mkdir -p "$dir"
"$retort" doctor --json | grep -q '"strict"' || exit 0
teacher=$PWD/examples/reasoning/teacher student=$PWD/examples/reasoning/student-config.json
tokens=$PWD/tests/golden/example/tokens.npy
cd "$dir" || exit 1
cp "$tokens" ids.npy || exit 1
for i in $(seq 12); do echo "{\"id\": \"p$i\", \"prompt\": \"What is $i + 7?\", \"response\": \"$((i + 7))\"}"; done >text.jsonl

run() { # NAME: the command, into out.NAME
    case $1 in
    sample) "$retort" sample --teacher "$teacher" --prompts text.jsonl --max-tokens 12 --out out.sample ;;
    score) "$retort" score --teacher "$teacher" --data text.jsonl --out out.score ;;
    train) "$retort" train --config "$student" --tokenizer "$teacher" --data whole.score --steps 6 --warmup 2 \
        --save-every 2 --batch-tokens 200 --pass-tokens 200 --max-length 128 --out out.train ;;
    eval) "$retort" eval --model "$teacher" --archive whole.score --json >out.eval ;;
    logits) "$retort" logits --model "$teacher" --tokens ids.npy --out out.logits ;;
    generate) "$retort" generate --model "$teacher" --prompt "2 + 3" --max-tokens 5 >out.generate ;;
    esac
}

settled() { sed -i 's/"seconds":[^,}]*//' "$1/metrics.jsonl" 2>/dev/null; } # what differs from run to run
same() { settled out.$1; diff -r out.$1 whole.$1 >diff 2>&1; }

for name in score sample train eval logits generate; do
    run $name >stdout 2>stderr || { fail "$name: $(cat stderr)"; continue; }
    settled out.$name
    mv out.$name whole.$name
    for at in 1 40 333 2500; do
        rm -rf out.$name
        RETORT_STRICT_FAIL=$at run $name >stdout 2>stderr
        rc=$?
        if [ $rc = 0 ]; then # it had ended before
            same $name || fail "$name, failure at $at after the end: $(head -3 diff)"
            continue
        fi
        [ $rc = 1 ] && [ "$(grep -c "operation $at failed" stderr)" = 1 ] || fail "$name, failure at $at: exit $rc: $(tail -3 stderr)"
        run $name >stdout 2>stderr || fail "$name, again after a failure at $at: $(cat stderr)"
        same $name || fail "$name, again after a failure at $at: other bytes: $(head -3 diff)"
    done
done
exit $failed
