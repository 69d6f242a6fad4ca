#!/bin/bash
# A student of another vocabulary, as a user makes one: refused without a word about it, trained with it from the
# same archive, the same bytes however often it was killed; a model brought into the teacher's vocabulary; padding
# of an embedding is no other vocabulary; archives and texts mixed by weight. Each mistake is one clear line.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems teacher=$PWD/examples/reasoning/teacher
config=$PWD/examples/reasoning/student-config.json template=$PWD/examples/reasoning/chat_template.jinja
rm -rf "$dir" && mkdir -p "$dir"
cd "$dir" || exit 1

"$problems" --n 24 --seed 4 --form problem >problems.jsonl && "$problems" --n 300 --seed 5 --form trace >traces.jsonl &&
    "$retort" -q sample --teacher "$teacher" --prompts problems.jsonl --max-tokens 160 --out t.traces >/dev/null || exit 1
learn() { # OUT PRE VOCAB
    "$retort" -q tokenizer --in traces.jsonl --out "$1" --pre "$2" --vocab "$3" --special '<|user|>' \
        --special '<|assistant|>' --special '<|end|>' --added '<think>' --added '</think>' --eos '<|end|>' \
        --chat-template "$template" 2>/dev/null
}
learn other gpt-2 480 && learn third qwen2 300 || exit 1
train() { # OUT flags...
    out=$1
    shift
    $exec "$retort" train --data t.traces --out "$out" --steps 8 --batch-tokens 900 --pass-tokens 900 \
        --warmup 1 --max-length 512 --learning-rate 0.004 --save-every 2 "$@"
}
exec=
# --- a mismatch never trains silently, and says what to do
expect 1 'another tokenizer.*--teacher-tokenizer.*retort init --from.*retort archive export' \
    train --config "$config" --tokenizer other --data t.traces --out bad
expect 1 'neither the student.s .* nor' train --config "$config" --tokenizer other --data t.traces --out bad \
    --teacher-tokenizer third
expect 1 'nowhere' train --config "$config" --tokenizer other --data t.traces --out bad --teacher-tokenizer nowhere
expect 2 'temperature 1' train --config "$config" --tokenizer other --data t.traces --out bad \
    --teacher-tokenizer "$teacher" --temperature 2 --loss bucket
absent bad

# --- it learns: its loss falls, the archive's targets are nearer than before, and killed runs end the same
train clean --config "$config" --tokenizer other --teacher-tokenizer "$teacher" 2>said || fail "a clean run: $(cat said)"
grep -q 'in other tokens, .* begin with a token of both.* of several, .* their label alone' said || fail "nothing is said of the mapping: $(cat said)"
first=$(head -n 1 clean/metrics.jsonl | sed 's/.*"loss":\([0-9.]*\).*/\1/') last=$(tail -n 1 clean/metrics.jsonl |
    sed 's/.*"loss":\([0-9.]*\).*/\1/')
awk "BEGIN { exit !($last < $first) }" || fail "the loss does not fall: $first, $last"
bytes() { (cd "$1" && sha256sum config.json model.safetensors retort.json README.md tokenizer.json); }
kills=0
while [ $kills -lt 3 ]; do
    (exec=exec; train killed --config "$config" --tokenizer other --teacher-tokenizer "$teacher" -q) & pid=$!
    sleep "0.$((RANDOM % 6 + 3))"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null && rm -rf killed
    kills=$((kills + 1))
done
train killed --config "$config" --tokenizer other --teacher-tokenizer "$teacher" -q || fail "the run after $kills kills"
[ "$(bytes killed)" = "$(bytes clean)" ] || fail "after $kills kills: other bytes"
train tail --config "$config" --tokenizer other --teacher-tokenizer "$teacher" --unmatched tail -q
cmp -s tail/model.safetensors clean/model.safetensors && fail "--unmatched changes nothing"
train text --config "$config" --tokenizer other --teacher-tokenizer "$teacher" --loss hard -q || fail "labels alone"
"$retort" -q eval --model clean --archive t.traces --teacher-tokenizer "$teacher" --json >eval.json || fail "eval"
grep -q '"bits_per_byte"' eval.json && grep -q '"kl_archive"' eval.json || fail "eval says nothing: $(cat eval.json)"

# --- bits per byte are of the text that is learned, whatever its tokens: 9 bytes here
echo '{"prompt": "2+3", "response": "\\boxed{5}"}' >nine.jsonl
for model in clean "$teacher"; do
    "$retort" -q eval --model "$model" --archive nine.jsonl --json >nine.json || fail "eval $model"
    tr -d '"{}' <nine.json | tr ',' '\n' | awk -F: '!($1 in v) { v[$1] = $2 }
        END { want = v["cross_entropy"] * v["tokens"] / (9 * log(2)); d = v["bits_per_byte"] - want
              exit !(v["tokens"] > 1 && d < 1e-9 && d > -1e-9) }' || fail "bits per byte: $(cat nine.json)"
done

# --- the same vocabulary through the map is the same vocabulary
"$retort" -q eval --model "$teacher" --archive t.traces --teacher-tokenizer "$teacher" --json >mapped.json &&
    "$retort" -q eval --model "$teacher" --archive t.traces --json >plain.json
same mapped.json plain.json "a map that is not needed"

# --- padding: 512 tokens in an embedding of 640 rows need no flag
sed 's/{/{"vocab_size": 640,/' "$config" >padded.json
"$retort" -q train --config padded.json --tokenizer "$teacher" --data t.traces --out padded --steps 2 --warmup 0 \
    --batch-tokens 600 --max-length 512 || fail "a padded vocabulary"
grep -q '"vocab_size":[[:space:]]*640' padded/config.json || fail "the padding went"

# --- a model in another vocabulary: its own again is itself
"$retort" -q init --from "$teacher" --tokenizer "$teacher" --dtype f32 --out itself || fail "init --from"
"$retort" -q eval --model itself --archive t.traces --json >itself.json
for key in cross_entropy kl_archive; do
    [ "$(grep -o "\"$key\":[^,]*" itself.json)" = "$(grep -o "\"$key\":[^,]*" plain.json)" ] || fail "its own vocabulary: other $key"
done
"$retort" -q init --from clean --tokenizer "$teacher" --out moved && train going --model moved -q || fail "init --from, then train"
# --- an archive of that vocabulary and texts of none, mixed: the same bytes after kills; texts alone have no targets
mixed() { train "$1" --config "$config" --tokenizer other --teacher-tokenizer "$teacher" --data traces.jsonl --mix 0.6,0.4 "${@:2}"; }
mixed mixed 2>said || fail "a mixture: $(cat said)"
grep -q 'mix: t.traces is 60 % of the tokens' said || fail "nothing is said of the shares: $(cat said)"
(exec=exec; mixed cut -q) & pid=$!
sleep 0.7
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
mixed cut -q && [ "$(bytes cut)" = "$(bytes mixed)" ] || fail "a mixture that was killed: other bytes"
# what a token counts, of mapped targets and of texts beside them: each changes what is learned, at any threads
awk '{ sub(/^{/, NR % 2 ? "{\"weight\":0.5," : "{\"weight\":0,"); print }' traces.jsonl >weighed.jsonl
counts() { train "$1" --config "$config" --tokenizer other --teacher-tokenizer "$teacher" --data weighed.jsonl --mix 0.6,0.4 -q "${@:2}"; }
counts counts && counts parts --reasoning-weight 0.5 && counts few --reasoning-weight 0.5 --entropy-share 0.2 &&
    counts few-1 --reasoning-weight 0.5 --entropy-share 0.2 --threads 1 || fail "weights of mapped targets"
[ "$(bytes few)" = "$(bytes few-1)" ] || fail "weights of mapped targets: other bytes on one thread"
[ "$(cat {mixed,counts,parts,few}/model.safetensors | wc -c)" -gt 0 ] && [ "$(sha256sum {mixed,counts,parts,few}/model.safetensors |
    cut -d' ' -f1 | sort -u | wc -l)" = 4 ] || fail "weights of mapped targets change nothing"
grep -q 'nan\|inf' few/metrics.jsonl && fail "weights of mapped targets: $(cat few/metrics.jsonl)"
# an archive keeps what its texts count, and in other tokens they count the same: what all count alike changes nothing
for w in 1 2; do
    sed "s/^{/{\"weight\":$w,/" traces.jsonl | head -n 30 >w$w.jsonl
    awk -v w=$w '{ sub(/^{/, NR % 2 ? "{\"weight\":0.5," : "{\"weight\":" w ","); print }' traces.jsonl | head -n 30 >m$w.jsonl
    for s in w$w m$w; do
        "$retort" -q score --teacher "$teacher" --data $s.jsonl --out $s.traces >/dev/null &&
            "$retort" -q train --config "$config" --tokenizer other --teacher-tokenizer "$teacher" --data $s.traces --out by-$s \
                --steps 3 --warmup 1 --batch-tokens 900 --max-length 512 ||
            fail "$s.traces: weights in other tokens"
    done
done
cmp -s by-w1/model.safetensors by-w2/model.safetensors || fail "all count 2: learned otherwise than with 1 each"
[ "$(sha256sum by-{w1,m1,m2}/model.safetensors | cut -d' ' -f1 | sort -u | wc -l)" = 3 ] || fail "weights in other tokens change nothing"
cross="--config $config --tokenizer other --teacher-tokenizer $teacher --out bad --data t.traces"
sed 's/"weight":[0-9.]*/"weight":0/' weighed.jsonl >unlearned.jsonl
expect 1 'unlearned.jsonl: nothing to learn .* share' train $cross --data unlearned.jsonl --mix 1,1
expect 1 'no soft targets.*--mix' train $cross --data traces.jsonl
expect 2 'from 2 to' train $cross --mix 1
expect 2 'each of the 2 --data' train $cross --data traces.jsonl --mix 1,0
expect 2 'each of the 2 --data' train $cross --data traces.jsonl --mix 0.5
: >empty.jsonl
expect 1 'empty.jsonl: no documents to learn from' train $cross --data empty.jsonl --mix 1,1
expect 1 'traces.jsonl: nothing of it to mix in: --limit 5' train $cross --data traces.jsonl --mix 1,1 --limit 5
expect 2 'has another: prune it' init --from clean --tokenizer "$teacher" --layers 2 --out bad
expect 1 'nowhere' init --from nowhere --tokenizer "$teacher" --out bad
absent bad
exit $failed
