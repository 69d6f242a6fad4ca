#!/bin/bash
# retort run and mistakes: a wrong value, a missing input, a full disk, two runs at once, a foreign folder,
# an unreadable record, another name. On a finished run folder a mistake costs nothing: one line, and every
# finished output stays in its place; where work had begun, it is in old/ and the right settings bring it back.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems
rm -rf "$dir" && mkdir -p "$dir"
tests=$PWD/tests template=$PWD/examples/reasoning/chat_template.jinja
cd "$dir" || exit 1
dir=$PWD
. "$tests/run_small.sh"
run() { "$retort" -q run recipe.json "$@" >stdout 2>stderr; }
run || { fail "a clean run: $(cat stderr)"; exit 1; }
first=$(results run) here=$(cd run && find . | sort)
whole() { # WHAT: nothing was moved, made or lost
    [ "$(results run)" = "$first" ] || fail "$1: $(diff <(results run) <(echo "$first"))"
    [ "$(cd run && find . | sort)" = "$here" ] || fail "$1: $(diff <(cd run && find . | sort) <(echo "$here"))"
}
wrong() { # EXIT PATTERN flags...: one line, and nothing changes
    local want=$1 pattern=$2
    shift 2
    run "$@"
    local got=$?
    [ $got = "$want" ] || fail "exit $got instead of $want: $* ($(cat stderr))"
    [ "$(grep -c . stderr)" = 1 ] || fail "not one line: $*: $(cat stderr)"
    grep -q -- "$pattern" stderr || fail "no \"$pattern\" for $*: $(cat stderr)"
    whole "$*"
}

# --- wrong values, of every kind of key
wrong 2 'samples_per_shard.*out of bounds' --set traces.samples_per_shard=0
wrong 2 'must be an integer\|not an integer' --set student.steps=many
wrong 2 'must be a number' --set student.learning_rate=fast
wrong 2 'true or false' --set quantized.pure=perhaps
wrong 2 'did you mean forward' --set student.loss=froward
wrong 2 'must be a string' --set traces.teacher=3
wrong 2 'unknown key "stepz"; did you mean steps' --set student.stepz=3
wrong 2 'no stage "studnet"; did you mean student' --set studnet.steps=3
wrong 2 'no command "trian"; did you mean train' --set student.command=trian
wrong 2 'empty' --set quantized.out=
wrong 2 'cannot run recipes' --set judged.command=run
wrong 2 'rong' --set student.verdicts=rong
wrong 2 'no stage "jugded"' --set report.archive=jugded
wrong 2 'is no retort sample' --set report.archive=judged
# --- inputs that are not there or do not fit, at the beginning of the chain and at its end
wrong 1 'nowhere does not exist' --set traces.teacher=nowhere
wrong 1 'nowhere does not exist' --set traces.prompts=nowhere
wrong 1 'nowhere does not exist' --set student.tokenizer=nowhere
wrong 1 'nowhere does not exist' --set judged.problems=nowhere
wrong 1 'nowhere does not exist' --set judged.reference=nowhere --set traces.seed=9
wrong 1 'no documents' --set student.max_length=2
wrong 1 'recipe.json' --set student.config=recipe.json
wrong 1 'problems.jsonl' --set student.data=problems.jsonl
wrong 1 'tok' --set traces.teacher=tok
cp -r teacher cut && head -c 5000 teacher/model.safetensors >cut/model.safetensors
wrong 1 'cut.*model.safetensors' --set traces.teacher=cut
wrong 1 'cut.*model.safetensors' --set judged.reference=cut
# --- outputs that are somebody else's, one another's, or nothing
wrong 2 'empty' --out ""
wrong 2 'a path of its own' --set "student.out={out}"
wrong 2 'a path of its own' --set student.out=/
wrong 2 'a path of its own' --set student.out=recipe.json
wrong 2 'both write' --set "student.out={out}/a.traces"
wrong 2 'both write' --set "student.out={out}/a.traces/student"
wrong 2 'a later stage writes' --set student.out=teacher/student --set student.tokenizer=teacher
mkdir foreign && echo mine >foreign/file && echo mine >foreign.gguf
wrong 1 'has not made it' --set student.out=foreign
wrong 1 'has not made it' --set quantized.out=foreign.gguf
[ "$(cat foreign/file foreign.gguf)" = "$(printf 'mine\nmine')" ] || fail "what was ours is no longer"
mkdir -p other/student && echo mine >other/student/file
run --out other && fail "a folder of the user's was taken"
[ "$(cat other/student/file)" = mine ] || fail "a folder of the user's was touched"
[ -e other/a.traces ] && fail "a stage ran before the folder was seen"

# --- records that cannot be read: what stands there is not touched, and --fresh keeps it
for text in '' '{' '{}' '[1]' '{"key": 3}'; do
    cp run/stages/student.json kept.json
    printf '%s' "$text" >run/stages/student.json
    wrong 1 'record cannot be read'
    cp kept.json run/stages/student.json
done
cp -a run before
printf '' >run/stages/student.json
run --fresh || fail "--fresh over an empty record: $(cat stderr)"
[ "$(results run)" = "$first" ] || fail "--fresh: other bytes"
[ "$(results run | sort)" = "$(cd run/old && for s in traces.1/a.traces student.1/student quantized.1/student.gguf judged.1/quantized.json; do
    find $s -type f ! -name metrics.jsonl ! -name 'events.out.*' ! -name lock -exec sha256sum {} +; done | sed 's| \w*\.1/| |; s| quantized.json| eval/quantized.json|' | sort)" ] ||
    fail "--fresh did not keep what was there: $(find run/old)"
rm -rf run && mv before run

# --- a full disk: work had begun, so the old archive moved; the right settings take it back
(trap '' XFSZ; ulimit -f 8; run --set traces.seed=5) && fail "a full disk went unnoticed"
[ -z "$(lost "$first" run)" ] || fail "a full disk lost $(lost "$first" run)"
run || fail "after a full disk: $(cat stderr)"
[ "$(results run)" = "$first" ] || fail "after a full disk: other bytes"
[ "$(wc -l <stderr)" = 0 ] || fail "after a full disk: $(cat stderr)"
rm -rf run/old && here=$(cd run && find . | sort)

# --- two runs in one folder
"$retort" -q run recipe.json --set student.steps=100000 --set student.save_every=100000 >/dev/null 2>&1 & pid=$!
until [ -e run/old/student.1.json ] || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
run --set traces.seed=7 && fail "two runs in one folder"
grep -q 'another retort' stderr && [ "$(grep -c . stderr)" = 1 ] || fail "two runs: $(cat stderr)"
kill -9 $pid
wait $pid 2>/dev/null
[ -z "$(lost "$first" run)" ] || fail "two runs lost $(lost "$first" run)"
run || fail "after two runs: $(cat stderr)"
[ "$(results run)" = "$first" ] || fail "after two runs: other bytes"

# --- other names: an output and a stage that are called something else, an output outside the folder
rm -rf run/old
inode=$(stat -c %i run/student/model.safetensors)
run --set "student.out={out}/pupil" --set "quantized.model={out}/pupil" --set "judged.reference={out}/pupil" ||
    fail "another place: $(cat stderr)"
[ "$(stat -c %i run/pupil/model.safetensors)" = "$inode" ] || fail "another place was made anew"
run || fail "the first place again: $(cat stderr)"
[ "$(stat -c %i run/student/model.safetensors)" = "$inode" ] || fail "the first place was made anew"
sed 's/"traces":/"sampled":/; s/"archive": "traces"/"archive": "sampled"/' recipe.json >named.json
inode=$(stat -c %i run/a.traces/manifest.json)
"$retort" -q run named.json >stdout 2>stderr || fail "a renamed stage: $(cat stderr)"
[ "$(stat -c %i run/a.traces/manifest.json)" = "$inode" ] || fail "a renamed stage was made anew"
"$retort" -q run recipe.json >stdout 2>stderr || fail "its first name again: $(cat stderr)"
[ "$(results run)" = "$first" ] || fail "other names: other bytes"
outside="quantized.out=$dir/outside.gguf"
run --set "$outside" --set judged.model="$dir/outside.gguf" || fail "an output outside: $(cat stderr)"
sum=$(sha256sum <outside.gguf)
run --set "$outside" --set judged.model="$dir/outside.gguf" --set quantized.type=Q8_0 || fail "replaced outside: $(cat stderr)"
find run/old -name outside.gguf -exec sha256sum {} + | grep -q "^${sum%% *}" || fail "an output outside was lost"
run --out "" --set "$outside" && fail "--out \"\" was accepted"
[ -s outside.gguf ] || fail "--out \"\" removed an output outside"
run || fail "the first settings again: $(cat stderr)"
[ "$(results run)" = "$first" ] || fail "an output outside: other bytes"

# --- what people put beside a result costs nothing; of its own files every byte counts
echo '# mine' >run/student/README.md && echo note >run/student/note.txt && echo x >run/a.traces/note.txt
"$retort" run recipe.json >stdout 2>stderr || fail "notes beside results: $(cat stderr)"
[ "$(grep -c 'nothing has changed' stderr)" = 4 ] || fail "notes beside results: $(cat stderr)"
[ "$(cat run/student/note.txt)" = note ] || fail "a note beside a result is gone"
rm run/student/note.txt run/a.traces/note.txt
cp run/student/model.safetensors kept.bin
printf x | dd of=run/student/model.safetensors bs=1 seek=5000 conv=notrunc 2>/dev/null
"$retort" -q run recipe.json --dry-run >stdout || fail "--dry-run over a flipped byte"
grep -q '^student .*student/model.safetensors is damaged' stdout || fail "a flipped byte: $(cat stdout)"
run || fail "a run over a flipped byte: $(cat stderr)"
cmp run/student/model.safetensors kept.bin || fail "not made again"
[ "$(results run)" = "$first" ] || fail "after a flipped byte: other bytes"

# --- a lost shard: the archive is not made anew, it is repaired, and only what was lost is made again
mv run/a.traces/shard-00001.npz lost.npz
sum=$(sha256sum run/a.traces/* | sha256sum)
run && fail "a lost shard went unnoticed"
grep -q 'archive repair run/a.traces' stderr && [ "$(grep -c . stderr)" = 1 ] || fail "a lost shard: $(cat stderr)"
[ "$(sha256sum run/a.traces/* | sha256sum)" = "$sum" ] || fail "a damaged archive was touched"
"$retort" -q archive repair run/a.traces >/dev/null 2>&1
"$retort" run recipe.json >stdout 2>stderr || fail "a repaired archive: $(cat stderr)"
grep -q '4 of 6 samples are there already' stderr || fail "a repaired archive: $(cat stderr)"
[ "$(results run)" = "$first" ] || fail "a repaired archive: $(diff <(results run) <(echo "$first"))"
rm -rf run/a.traces.damaged

# --- an input that is gone later: its result stays; a long reading stops at the first Ctrl-C
mv problems.jsonl moved.jsonl
"$retort" run recipe.json >stdout 2>stderr || fail "an input that is gone: $(cat stderr)"
grep -q 'problems.jsonl is gone; its result stays' stderr || fail "not said: $(cat stderr)"
[ "$(results run)" = "$first" ] || fail "an input that is gone: other bytes"
mv moved.jsonl problems.jsonl
cp -r teacher large && truncate -s 4000G large/model-extra.bin
"$retort" run recipe.json --set traces.teacher=large >stdout 2>stderr & pid=$!
sleep 1
begun=$(date +%s)
kill -INT $pid
wait $pid
rc=$?
[ $rc = 130 ] || fail "interrupted while reading: exit $rc"
grep -q '^reading, MiB .*ETA' stderr || fail "reading shows no progress: $(cat stderr)"
[ $(($(date +%s) - begun)) -le 20 ] || fail "the first Ctrl-C was not heard for $(($(date +%s) - begun)) s"
[ "$(results run)" = "$first" ] || fail "interrupted while reading: other bytes"
exit $failed
