#!/bin/bash
# What people put in and what becomes of it: records, ids, turns, sources and archives, through the
# commands that read them. One clear line for whatever is wrong, and nothing lost without a word.
set -u
retort=$1 scratch=$2
here=$(cd "$(dirname "$0")" && pwd)
teacher=$here/golden/student
export OMP_WAIT_POLICY=passive # tests share the cores
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1
failed=0

fail() {
    echo "$*"
    failed=1
}

# expect CODE STDERR-REGEX arguments...: exit code, and one line on stderr, or none.
expect() {
    local code=$1 err=$2 got
    shift 2
    "$retort" "$@" -q >out.txt 2>err.txt
    got=$?
    if [ $got != "$code" ] || [ "$(wc -l <err.txt)" -gt 1 ] ||
        { [ -n "$err" ] && ! grep -qE -- "$err" err.txt; }; then
        fail "retort $*: exit $got, expected $code ${err:+and \"$err\"}"
        sed 's/^/  stdout: /' out.txt | head -5
        sed 's/^/  stderr: /' err.txt | head -5
    fi
}
score() { # DATA OUT [flags...]
    local data=$1 out=$2
    shift 2
    expect 0 '' score --teacher "$teacher" --data "$data" --out "$out" "$@"
}
train() { # CODE STDERR-REGEX OUT [flags...]
    local code=$1 err=$2 out=$3
    shift 3
    expect "$code" "$err" train --model "$teacher" --out "$out" --steps 2 "$@"
}

# --- hundreds of short documents in a step, at the default flags; one document in it
for i in $(seq 0 299); do echo "{\"prompt\":\"$i+1?\",\"response\":\"$((i % 10))\"}"; done >short.jsonl
head -1 short.jsonl >one.jsonl
score short.jsonl short.traces
score one.jsonl one.traces
for loss in forward bucket; do train 0 '' "short-$loss" --data short.traces --loss $loss; done
train 0 '' short-reverse --data short.traces --loss reverse --pass-tokens 2 --batch-tokens 2
train 0 '' short-hard --data short.jsonl --loss hard
train 0 '' short-both --data short.traces --data one.traces --eval-data short.traces --eval-every 1
train 0 '' one --data one.traces

exit $failed
