#!/bin/bash
# What the shell and the system may refuse or send: every limit ends in one line that names it, every
# input that is no file in one line at once, and the first signal stops what is long.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems
rm -rf "$dir" && mkdir -p "$dir"
teacher=$PWD/examples/reasoning/teacher student=$PWD/examples/reasoning/student-config.json
cd "$dir" || exit 1
ln -s "$retort" retort && cp -r "$teacher" teacher && cp "$student" student.json || exit 1
retort=./retort teacher=teacher student=student.json # without the tree's folder, which may hold a space
refused() { # CODE PATTERN COMMAND...: one line on stderr that says it
    local want=$1 pattern=$2 rc
    shift 2
    timeout 120 "$@" >stdout 2>stderr </dev/null
    rc=$?
    [[ $rc = $want ]] && [ "$(wc -l <stderr)" = 1 ] && grep -qE "$pattern" stderr ||
        fail "$* : exit $rc, wanted $want \"$pattern\": $(head -3 stderr)"
}
"$problems" --n 12 --seed 3 --form trace >traces.jsonl && "$problems" --n 60000 --seed 3 --form trace >large.jsonl &&
    "$problems" --n 60000 --seed 4 --form problem >problems.jsonl && head -2 problems.jsonl >few.jsonl || exit 1
small=(--batch-tokens 300 --pass-tokens 300 --max-length 256)
learn=("$retort" -q train --config "$student" --tokenizer "$teacher" --loss hard "${small[@]}")

# --- the size of a file, descriptors, the stack, memory, threads
for command in "tokenizer --in traces.jsonl --vocab 300 --out a" "train --config $student --tokenizer $teacher --loss hard ${small[*]}
    --data traces.jsonl --steps 1 --out a" "sample --teacher $teacher --prompts few.jsonl --max-tokens 8 --out a" \
    "score --teacher $teacher --data traces.jsonl --out a"; do
    rm -rf a
    # shellcheck disable=SC2086
    refused 1 'ulimit -f' bash -c 'ulimit -f 1 && exec "$@"' - "$retort" -q $command
    ls -d a/model.safetensors a/tokenizer.json a/shard-* 2>/dev/null && fail "half of a file under its name: $command"
done
rm -rf a
refused 1 'ulimit -n' bash -c 'for fd in 3 4 5 6 7 8 9; do eval "exec $fd>&-"; done; ulimit -n 4 && exec "$@"' - "${learn[@]}" --data traces.jsonl --steps 1 --out a
if ! ldd "$retort" | grep -qE 'lib[at]san'; then # their own stacks and memory are larger
    refused 1 'ulimit -s' bash -c 'ulimit -s 200 && exec "$@"' - "$retort" doctor
    bash -c 'ulimit -Ss 200 && exec "$@"' - "$retort" doctor >/dev/null || fail "a small stack that may grow was refused"
    refused 1 'ulimit -v' bash -c 'ulimit -v 600000 && exec "$@"' - "${learn[@]}" --data traces.jsonl --steps 1 --out a --threads 1024
    least=$(($(stat -L -c %s "$retort") / 1024 + 8000)) # below its own size the kernel does not even begin
    for ((kib = least > 20000 ? least : 20000; kib < 140000; kib += 20000)); do
        rm -rf a
        bash -c "ulimit -v $kib"' && exec "$@"' - "${learn[@]}" --data traces.jsonl --steps 1 --out a --threads 1 >stdout 2>stderr
        rc=$?
        [ $rc = 0 ] || { [[ $rc = 1 || $rc = 127 ]] && [ "$(wc -l <stderr)" = 1 ]; } || fail "$kib KiB: exit $rc: $(cat stderr)"
    done
fi
for command in "train --data traces.jsonl --out a" "score --teacher $teacher --data traces.jsonl --out a" \
    "sample --teacher $teacher --prompts problems.jsonl --out a" "eval --model $teacher" "generate --model $teacher --prompt a" \
    "logits --model $teacher --tokens t.npy --out l.npy"; do
    # shellcheck disable=SC2086
    refused 2 '0 to 1024' "$retort" $command --threads 1025
done
[ -e a ] && rm -rf a

# --- what is no file, wherever one is read
mkfifo pipe && mkdir empty
cp -r "$teacher" holed && rm holed/config.json && mkfifo holed/config.json
for input in pipe /dev/zero; do
    for command in "train --config $input --tokenizer $teacher --data traces.jsonl --out a" "inspect $input" "run $input" \
        "train --config $student --tokenizer $input --data traces.jsonl --out a" "generate --model $input --prompt a" \
        "train --config $student --tokenizer $teacher --data $input --out a" "sample --teacher $teacher --prompts $input --out a" \
        "score --teacher $teacher --data $input --out a" "eval --model $teacher --problems $input" "eval --model $teacher --archive $input" \
        "tokenizer --in $input --vocab 300 --out a" "render --model $teacher --messages $input" "render --model $input --messages m" \
        "logits --model $teacher --tokens $input --out l.npy" "quantize --model $input --type Q4_0 --out q.gguf" \
        "archive verify $input" "archive merge $input --out a" "tokenize --model $input" "train --recipe $input"; do
        # shellcheck disable=SC2086
        refused '[12]' '' "$retort" -q $command
        [ -e a ] && fail "left something: $command" && rm -rf a
    done
done
for command in "inspect holed" "generate --model holed --prompt a" "run empty" "render --model $teacher --messages empty" \
    "train --config empty --tokenizer $teacher --data traces.jsonl --out a" "logits --model $teacher --tokens empty --out l.npy"; do
    # shellcheck disable=SC2086
    refused '[12]' '' "$retort" -q $command
done

# --- the first signal, while a long input is read
for signal in INT ${LONG:+TERM HUP}; do
    for command in "${learn[*]} --data large.jsonl --out a" "$retort score --teacher $teacher --data large.jsonl --out a" \
        "$retort sample --teacher $teacher --prompts problems.jsonl --out a" "$retort eval --model $teacher --problems problems.jsonl" \
        "$retort eval --model $teacher --archive large.jsonl" "$retort tokenizer --in large.jsonl --vocab 20000 --out a"; do
        # shellcheck disable=SC2086
        $command >stdout 2>stderr </dev/null & pid=$!
        sleep 0.3
        kill -$signal $pid 2>/dev/null
        wait $pid
        rc=$?
        [ $rc = 130 ] && grep -q interrupted stderr || fail "$signal: $command: exit $rc: $(cat stderr)"
        ls a/config.json a/tokenizer.json 2>/dev/null && fail "half-written: $command"
        rm -rf a
    done
done
"$retort" -q train --config "$student" --tokenizer "$teacher" --data traces.jsonl --loss hard "${small[@]}" --steps 100000 \
    --out a 2>stderr & pid=$!
until [ -s a/metrics.jsonl ] || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
kill -HUP $pid
wait $pid
rc=$?
[ $rc = 130 ] && [ "$(find a -name '*.safetensors' | wc -l)" -gt 0 ] || fail "SIGHUP while training: exit $rc, $(ls a): $(cat stderr)"
(trap '' HUP && exec "$retort" tokenize --model "$teacher" <pipe >stdout) & pid=$! # the trap stands before the pipe is open
exec 3>pipe
kill -HUP $pid
echo "2 + 3" >&3
exec 3>&-
wait $pid || fail "a hangup that was ignored (nohup) stopped it"
"$retort" tokenize --model "$teacher" <pipe >stdout 2>stderr & pid=$!
exec 3>pipe
sleep 0.2
kill -INT $pid
wait $pid
rc=$?
[ $rc = 130 ] || fail "SIGINT while waiting for stdin: exit $rc: $(cat stderr)"
exec 3>&-

# --- a model's file that is cut short while it is read where it lies (not by a device with its own memory)
if ! "$retort" doctor --json | grep -qE '"(strict"|emulated)'; then
    cp -r "$teacher" cut
    "$retort" generate --model cut --chat --max-tokens 3 <pipe >stdout 2>stderr & pid=$!
    exec 3>pipe
    for i in $(seq 100); do grep -q cut/model.safetensors /proc/$pid/maps && break; sleep 0.1; done
    truncate -s 4096 cut/model.safetensors
    echo "2 + 3" >&3
    exec 3>&-
    wait $pid
    rc=$?
    [ $rc = 1 ] && [ "$(grep -c 'was cut short or its disk failed' stderr)" = 1 ] || fail "a file cut short: exit $rc: $(cat stderr)"
fi

# --- what progress and training say of a measure
rm -rf a
"${learn[@]:0:1}" train "${learn[@]:3}" --data traces.jsonl --eval-data traces.jsonl --steps 1 --out a >stdout 2>stderr || fail "train: $(cat stderr)"
grep -q 'held-out cross-entropy' stderr || fail "no held-out line: $(cat stderr)"
grep -q 'KL to the teacher' stderr && fail "hard labels have no KL: $(grep KL stderr)"
grep -q '"eval_ce"' a/metrics.jsonl && ! grep -qE '"(eval_)?kl"' a/metrics.jsonl || fail "metrics: $(cat a/metrics.jsonl)"
"$retort" eval --model "$teacher" --archive traces.jsonl --json >result.json 2>stderr || fail "eval: $(cat stderr)"
said=$(grep -oE '12/12 \| cross-entropy [0-9.]+' stderr | tail -1 | grep -oE '[0-9.]+$')
is=$(grep -oE '"cross_entropy": *[0-9.]+' result.json | grep -oE '[0-9.]+$')
[ -n "$said" ] && [ "$said" = "$(LC_ALL=C printf %.4f "$is")" ] || fail "progress ends with $said, the result is $is: $(cat stderr result.json)"
exit $failed
