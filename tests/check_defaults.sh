#!/bin/bash
# Every command as a user types it first: nothing but the flags it requires, on the example's real files
# (its teacher, its 900 problems and their archive, its student), then every choice of every flag that
# offers a choice, as `retort help` lists them. Size flags (batch, pass, length, rows) stay at their
# defaults: a crash at the sizes of everyday use is what this is here to find. Only --steps 2 (train) and
# --limit 8 (eval, score, and sample's choices) make it end. Each line runs twice: users do. Where that
# is slow (sanitizers, the strict device), RETORT_CHECK_ONCE=1: once, and one step.
# RETORT_REAL_MODEL=DIR|GGUF: also the example's first 100 problems with that model as the teacher.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 root=$PWD problems=$(dirname "$1")/reasoning-problems
rm -rf "$dir" && mkdir -p "$dir" && cd "$dir" || exit 1
# names without the tree's folder, which may hold a space: the rows below are split at spaces
ln -s "$root/examples/reasoning" reasoning
example=reasoning teacher=reasoning/teacher
lines=0

# try words...: twice, or once where a second time is rightly refused (once=yes). TIMES=1 shows seconds.
once=${RETORT_CHECK_ONCE:+yes} steps=$((${RETORT_CHECK_ONCE:-0} ? 1 : 2))
try() {
    local rc round begun=$SECONDS
    lines=$((lines + 1))
    for round in first ${once:-second}; do
        [ $round = yes ] && continue
        "$retort" "$@" >out.txt 2>err.txt <stdin.txt
        rc=$?
        [ $rc = 0 ] && continue
        fail "retort $*: exit $rc on the $round time: $(tail -n 3 err.txt)"
        return 1
    done
    [ -z "${TIMES:-}" ] || echo "$((SECONDS - begun)) s: $*"
}

# The choices of a command, one "--flag choice" a line, from its help.
choices() {
    "$retort" help "$1" | sed -nE 's/^  (--[a-z0-9-]+) ([^ ]+\|[^ ]+).*/\1 \2/p' |
    while read -r flag words; do
        case $words in *DIR*|*FILE*|*URL*|*PATH*) continue ;; esac
        [ "$flag" = --precision ] && continue # check_precision.sh, check_int8.sh
        for word in ${words//|/ }; do echo "$flag $word"; done
    done
}

"$problems" --n 900 --seed 1 --split train --form problem >problems.jsonl &&
    "$problems" --n 100 --seed 2 --split heldout --form trace >pairs.jsonl || exit 1
printf 'What is 2 + 2?\n\nnaïve\n' >stdin.txt
echo '[{"role":"user","content":"What is 2 + 2?"}]' >messages.json
# 40 token ids as .npy, by printf: a header of 128 bytes, then int32
header="{'descr': '<i4', 'fortran_order': False, 'shape': (40,), }"
{ printf '\223NUMPY\001\000\166\000%-117s\n' "$header"; for i in $(seq 5 44); do printf "\\x$(printf %x "$i")\\0\\0\\0"; done; } >tokens.npy

# The example's own recipe first: everything after it reads what it made.
out=example
mkdir -p "$out" && head -n 100 problems.jsonl >"$out/problems.jsonl" && head -n 20 problems.jsonl >"$out/heldout.jsonl" &&
    head -n 8 problems.jsonl >"$out/more.jsonl"
sets="--set student.rollouts=8"
for stage in warm student baseline; do sets="$sets --set $stage.steps=$steps"; done
for stage in teacher student baseline quantized; do sets="$sets --set eval_$stage.limit=8"; done
try run "$example/recipe.json" --out "$out" $sets

# and adapters beside its student, from which one command makes a model
try train --model "$out/student" --data "$out/traces.traces" --lora-rank 8 --steps $steps --out adapter

row() { # COMMAND -> the words it requires, with what makes it end
    case $1 in
    run) ;; # above
    sample) echo --teacher "$teacher" --prompts problems.jsonl --out data/a.traces ;;
    score) echo --teacher "$teacher" --data pairs.jsonl --out new/s.traces --limit 8 ;;
    train) echo --config "$example/student-config.json" --tokenizer "$teacher" --data data/a.traces --out new/student --steps $steps ;;
    init) echo --tokenizer "$teacher" --out new/start --layers 2 --width 64 --heads 2 --kv-heads 1 --head-dim 16 --ffn-width 96 ;;
    merge-adapter) echo --adapter adapter --out new/merged ;;
    quantize) echo --model "$out/student" --out new/student.gguf ;;
    eval) echo --model "$out/student" --problems problems.jsonl --archive "$out/traces.traces" --reference "$teacher" --limit 8 ;;
    generate) echo --model "$teacher" --prompt "1+1" ;;
    inspect) echo "$out/student-q4_0.gguf" ;;
    logits) echo --model "$out/student" --tokens tokens.npy --out new/logits.npy ;;
    tokenizer) echo --in problems.jsonl --out new/tokenizer ;;
    tokenize) echo --model "$teacher" ;;
    render) echo --model "$teacher" --messages messages.json ;;
    verify) echo "$out/student" ;;
    archive | doctor) echo ;;
    *) echo "?" ;;
    esac
}

mkdir -p new data
for command in $("$retort" help --check-tables | cut -d: -f1); do
    words=$(row "$command")
    case $command in
    help | run | serve) continue ;; # serve never ends: test_serve
    archive) # its verbs are its choices
        for verb in $("$retort" help archive | sed -nE 's/^  --words [^ ]+ [^ ]+ +(.*), then archives.*/\1/p' |
                      sed 's/ \[ID\]//g; s/ ARCHIVE//g; s/ or /, /; s/,/ /g'); do
            rm -rf new/other.traces && cp -r data/a.traces new/other.traces
            case $verb in
            merge) once=yes try archive merge data/a.traces --out new/merged.traces ;;
            *) try archive "$verb" new/other.traces ;;
            esac
        done
        [ -e new/merged.traces ] || fail "no verb of archive was tried"
        continue ;;
    esac
    [ "$words" = "?" ] && { fail "retort $command: this test has no row for it"; continue; }
    try "$command" $words
    [ "$command" = sample ] && words="${words/data/new} --limit 8"
    while read -r flag word; do
        # a choice that says how something is done is given that, and what has an output gets one of its own
        row=$words
        case "$command $flag $word" in
        *" lora4") row="--model $out/student-q4_0.gguf --data data/a.traces --out new/student --steps $steps" ;;
        "train --loss reference") row="$words --reference $teacher" ;;
        "quantize --format awq") row="$words --group 32" ;; # its 128 do not fill the rows of so small a model
        "quantize --method compensate") row="$words --archive data/a.traces" ;;
        "train --unmatched"*) row="$words --teacher-tokenizer $teacher" ;;
        "train --verify"*) row="--model $out/student --teacher $teacher --prompts problems.jsonl --loss reverse --rollouts 4
            --rollout-tokens 32 --out new/student --steps $steps" ;;
        esac
        try "$command" ${row//new\//new/$command${flag}-$word-} "$flag" "$word"
    done < <(choices "$command" | sed '/^$/d')
done

# each form of the student's start, and of what is evaluated and quantized
try train --model "$out/student" --data data/a.traces --out new/again --steps $steps
try train --model "$out/student" --data pairs.jsonl --loss hard --out new/hard --steps $steps --eval-data data/a.traces
try quantize --model "$out/student" --archive data/a.traces --out new/calibrated.gguf
try train --model "$out/student" --quantized "$out/student-q4_0.gguf" --data data/a.traces --out new/quantized --steps $steps
try eval --model "$out/student-q4_0.gguf" --problems problems.jsonl --limit 8
try score --teacher "$teacher" --data data/a.traces --out new/rescored.traces --limit 8
try score --teacher "$teacher" --data data/a.traces --out new/listed.traces --student "$out/student" --limit 8
try train --model "$out/student" --teacher "$teacher" --prompts problems.jsonl --loss reverse --out new/own --steps $steps

if [ -n "${RETORT_REAL_MODEL:-}" ]; then
    real=$RETORT_REAL_MODEL
    try inspect "$real"
    head -n 100 problems.jsonl >first.jsonl
    try sample --teacher "$real" --prompts first.jsonl --out real/a.traces
    try train --config "$example/student-config.json" --tokenizer "$real" --data real/a.traces --verdicts correct,wrong,unverified,unfinished --out real/student --steps $steps
    try train --model "$real" --data real/a.traces --verdicts correct,wrong,unverified,unfinished --out real/tuned --steps $steps
    try eval --model "$real" --problems first.jsonl --limit 8
    for type in $(choices quantize | sed -n 's/--type //p'); do
        try quantize --model "$real" --type "$type" --out "real/$type.gguf"
    done
fi
echo "check_defaults: $lines command lines, each $([ -n "$once" ] && echo once || echo twice)"
exit $failed
