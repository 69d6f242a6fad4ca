#!/bin/bash
# examples/own-model/run.sh with the example's teacher and a dozen of its problems, as one who has a model and prompts
# would run it: the report at the end, nothing made again the second time, mistakes in one line.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems run=$PWD/examples/own-model/run.sh
rm -rf "$dir" && mkdir -p "$dir"
teacher=$PWD/examples/reasoning/teacher
cd "$dir" || exit 1
export RETORT=$retort OUT=$dir/a\ folder SHAPE=3m STEPS=3 MAX_TOKENS=160 SAMPLES=1

"$problems" --n 12 --seed 4 --form problem >prompts.jsonl || exit 1
"$run" "$teacher" prompts.jsonl >out.txt 2>err.txt || { fail "the chain"; tail -n 3 err.txt; }
grep -q '^4 bits' out.txt && [ -s "$OUT/student.gguf" ] || fail "no student of 4 bits in the report: $(tail -n 5 out.txt)"
[ "$(wc -l <"$OUT/heldout.jsonl")" = 2 ] && [ "$(wc -l <"$OUT/prompts.jsonl")" = 10 ] || fail "the last tenth is not held out"
"$run" "$teacher" prompts.jsonl --status >out.txt 2>err.txt
"$run" "$teacher" prompts.jsonl >out.txt 2>err.txt || fail "the second time"
grep -q 'train ' err.txt && fail "the second time trains again: $(grep 'train ' err.txt | head -1)"
"$run" "$teacher" >out.txt 2>err.txt && fail "one argument is enough"
[ "$(wc -l <err.txt)" = 1 ] || fail "usage is not one line"
head -n 1 prompts.jsonl >one.jsonl
"$run" "$teacher" one.jsonl >out.txt 2>err.txt && fail "one prompt is enough"
grep -q 'at least two' err.txt || fail "one prompt: $(cat err.txt)"
exit $failed
