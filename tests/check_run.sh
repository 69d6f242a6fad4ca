#!/bin/bash
# retort run: a small recipe from a teacher to a GGUF, killed at random moments and started again, ends
# with the same bytes in the archive, the student and the GGUF as one clean run. KILLS=30 for the long
# form. Then: nothing is done twice, a changed value redoes what depends on it, --set and --fresh.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems kills_wanted=${KILLS:-6}
rm -rf "$dir" && mkdir -p "$dir"
template=$PWD/examples/reasoning/chat_template.jinja
cd "$dir" || exit 1

"$problems" --n 400 --seed 3 --form trace >traces.jsonl &&
    "$problems" --n 40 --seed 4 --form problem >problems.jsonl &&
    "$retort" -q tokenizer --in traces.jsonl --out tok --vocab 400 --special '<|user|>' --special '<|assistant|>' \
        --special '<|end|>' --added '<think>' --added '</think>' --eos '<|end|>' --chat-template "$template" 2>/dev/null || exit 1
cat >moe.json <<'E'
{"model_type": "deepseek_v3", "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "kv_lora_rank": 10,
 "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 8, "intermediate_size": 40, "moe_intermediate_size": 16,
 "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "norm_topk_prob": true,
 "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
E
cat >dense.json <<'E'
{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
 "intermediate_size": 64, "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
E
"$retort" -q train --config moe.json --tokenizer tok --data traces.jsonl --loss hard --out teacher --steps 20 \
    --batch-tokens 600 --pass-tokens 600 --max-length 256 --learning-rate 0.01 --warmup 2 || exit 1
cat >recipe.json <<'E'
{"run": {"out": "clean"},
 "traces": {"command": "sample", "teacher": "{recipe}/teacher", "prompts": ["{recipe}/problems.jsonl"], "out": "{out}/a.traces",
            "verify": "boxed", "max_tokens": 60, "samples": 2, "samples_per_shard": 16},
 "student": {"command": "train", "config": "{recipe}/dense.json", "tokenizer": "{recipe}/teacher", "data": ["{out}/a.traces"],
             "out": "{out}/student", "verdicts": "correct,wrong,unverified,unfinished", "steps": 12, "batch_tokens": 600,
             "pass_tokens": 600, "max_length": 256, "save_every": 2, "warmup": 2},
 "quantized": {"command": "quantize", "model": "{out}/student", "type": "Q4_0", "out": "{out}/student.gguf"},
 "judged": {"command": "eval", "model": "{out}/student.gguf", "reference": "{out}/student", "problems": ["{recipe}/problems.jsonl"],
            "archive": ["{out}/a.traces"], "max_tokens": 60, "out": "{out}/eval/quantized.json"},
 "report": {"models": {"quantized": "judged"}, "kl": {"student_quantized": "judged"}, "archive": "traces"}}
E
results() { (cd "$1" && find a.traces student student.gguf -type f ! -name metrics.jsonl ! -name 'events.out.*' ! -name lock | sort | xargs sha256sum); }

begun=$(date +%s%N)
"$retort" -q run recipe.json >report.txt 2>log || { fail "a clean run"; exit 1; }
[ -s clean/report.json ] || fail "no report.json"
for word in '<h2>Models' '<h2>Training' '<h2>Calibration' '<h2>What was made from what' '<small>quantize</small>'; do
    grep -q "$word" clean/report.html || fail "report.html: no $word"
done
grep -qE '<script|https?:|src=|url\(' clean/report.html && fail "report.html asks for something from elsewhere"
[ "$(cat clean/stages/*.json | grep -c '"peak_bytes":')" = 4 ] || fail "no peak memory of the stages"
grep -q 'quantized' report.txt || fail "no table: $(cat report.txt)"
took=$((($(date +%s%N) - begun) / 1000000))
want=$(results clean)
kills=0
while [ $kills -lt "$kills_wanted" ]; do
    "$retort" -q run recipe.json --out killed >/dev/null 2>&1 & pid=$!
    at=$(((RANDOM * 32768 + RANDOM) % took))
    sleep "$(printf '%d.%03d' $((at / 1000)) $((at % 1000)))"
    kill -9 $pid 2>/dev/null
    # one that got through begins again, so that every kill lands in a run
    if wait $pid 2>/dev/null; then rm -rf killed; else kills=$((kills + 1)); fi
done
"$retort" -q run recipe.json --out killed >/dev/null || fail "the run after $kills kills"
[ "$(results killed)" = "$want" ] || fail "after $kills kills: $(diff <(results killed) <(echo "$want"))"
echo "same bytes after $kills kills"

before=$(stat -c %Y.%i clean/student/model.safetensors clean/student.gguf)
"$retort" run recipe.json >/dev/null 2>log || fail "a second run"
[ "$(grep -c 'nothing has changed' log)" = 4 ] || fail "not every stage was skipped: $(cat log)"
"$retort" run recipe.json --set quantized.type=Q8_0 >/dev/null 2>log || fail "--set"
[ "$(grep -c 'nothing has changed' log)" = 2 ] || fail "a changed type redid the wrong stages: $(cat log)"
[ "$before" = "$(stat -c %Y.%i clean/student/model.safetensors clean/student.gguf)" ] && fail "Q8_0 wrote nothing"
"$retort" -q run recipe.json --fresh >/dev/null || fail "--fresh"
[ "$(results clean)" = "$want" ] || fail "--fresh: other bytes"
"$retort" run recipe.json --set quantised.type=Q8_0 2>log && fail "an unknown stage was accepted"
grep -q 'did you mean quantized' log || fail "no suggestion: $(cat log)"
"$retort" run recipe.json --set student.stepz=3 2>log && fail "an unknown key was accepted"
grep -q 'steps' log || fail "no suggestion: $(cat log)"

# --- what is replaced stays: every file of the first run is still somewhere below the run folder
kept() { # kept WANT: every file of that list is somewhere below clean
    find clean -type f -exec sha256sum {} + | cut -d' ' -f1 | sort -u >there.txt
    echo "$1" | cut -d' ' -f1 | sort -u | comm -23 - there.txt | grep . && fail "bytes are gone"
}
kept "$want"
"$retort" -q run recipe.json --set student.seed=1 >/dev/null || fail "another seed"
kept "$want"
"$retort" run recipe.json >/dev/null 2>log || fail "the first seed again"
[ "$(grep -c 'taken back' log)" = 3 ] || fail "nothing was taken back: $(cat log)"
[ "$(results clean)" = "$want" ] || fail "taken back: other bytes"

# --- what it would do, and why
snapshot() { find clean -exec stat -c '%n %s %y' {} + | sort; }
dry() {
    snapshot >before.txt
    "$retort" -q run recipe.json --dry-run "$@" >dry.txt 2>log || fail "--dry-run $*: $(cat log)"
    snapshot | cmp -s - before.txt || fail "--dry-run $* wrote something"
}
unchanged() { [ "$(grep -c 'nothing has changed' dry.txt)" = 4 ] || fail "$1 remakes: $(cat dry.txt)"; }
dry
unchanged "nothing"
dry --set student.learning_rate=0.001
grep -q '^student .*learning_rate 0.0003 -> 0.001$' dry.txt || fail "which setting: $(cat dry.txt)"
grep -q '^quantized .*stage student comes first' dry.txt || fail "which stage: $(cat dry.txt)"
cp problems.jsonl kept.jsonl && head -30 kept.jsonl >problems.jsonl
dry
grep -q '^traces .*input .*problems.jsonl changed' dry.txt || fail "which input: $(cat dry.txt)"
cp kept.jsonl problems.jsonl
mv clean/student.gguf kept.gguf && : >clean/student.gguf
dry
grep -q '^quantized .*student.gguf is damaged' dry.txt || fail "an empty GGUF: $(cat dry.txt)"
"$retort" -q run recipe.json >/dev/null || fail "a run over an empty GGUF"
cmp clean/student.gguf kept.gguf || fail "the GGUF was not made again"
rm clean/student.gguf
dry
grep -q '^quantized .*student.gguf is missing' dry.txt || fail "a missing GGUF: $(cat dry.txt)"
mv kept.gguf clean/student.gguf
"$retort" -q run recipe.json --status --json >status.json || fail "--status"
[ "$(grep -o '"state":"done"' status.json | wc -l)" = 4 ] || fail "status: $(cat status.json)"

# --- a part of a job array is other work than the whole
JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=2 dry
grep -q '^traces .*shard' dry.txt || fail "a part of a job array: $(cat dry.txt)"
dry
unchanged "the whole again"

# --- another spelling of the folder, another place of the folder: the same work
for spelled in ./clean clean/ "$PWD/clean" clean/../clean; do
    dry --out "$spelled"
    unchanged "$spelled"
done
ln -s clean linked
dry --out linked
unchanged "a link"
rm linked
mv clean renamed
"$retort" -q run recipe.json --dry-run --out renamed >dry.txt || fail "a renamed folder"
unchanged "a renamed folder"
mv renamed clean
"$retort" -q run recipe.json >quiet.txt 2>log && [ ! -s log ] || fail "-q is not quiet: $(head -3 log)"

# --- what the tables call free gives the same bytes
"$retort" -q run recipe.json --out free --set traces.batch=3 --set traces.prefill_tokens=5 --set traces.threads=1 \
    --set student.threads=3 --set student.save_every=5 --set student.recompute=block --set judged.batch=7 --set judged.pass_tokens=100 \
    --set judged.head_rows=7 >/dev/null ||
    fail "free options"
[ "$(results free)" = "$want" ] || fail "free options: $(diff <(results free) <(echo "$want"))"
cmp -s <(grep -v '"model"' free/eval/quantized.json) <(grep -v '"model"' clean/eval/quantized.json) ||
    fail "eval --batch: other numbers"

# --- a plan before anything ran says what the stages then wrote
"$retort" -q run recipe.json --out none --plan --json >before.json 2>log || fail "--plan: $(cat log)"
"$retort" -q run recipe.json --plan --json >after.json || fail "--plan --json"
"$retort" -q run recipe.json --plan >plan.txt || fail "--plan"
grep -q '^judged .*(took)' plan.txt || fail "no table: $(cat plan.txt)"
ls -d none* 2>/dev/null && fail "a plan left something behind"
# plan FILE STAGE KIND[|KIND] KEY: a number of a stage's plan. One line a stage: from "memory" to its name.
plan() {
    sed 's/{"memory"/\n{"memory"/g' "$1" | grep "\"stage\":\"$2\"" | grep -oE "\"($3)\":\{[^}]*" |
        grep -o "\"$4\":[0-9]*" | head -1 | grep -o '[0-9]*$'
}
[ "$(grep -o '"done":false' before.json | wc -l)" = 4 ] || fail "before: $(cat before.json)"
[ "$(grep -o '"done":true' after.json | wc -l)" = 4 ] || fail "after: $(cat after.json)"
grep -q '"why"' before.json after.json && fail "a stage was not planned: $(cat before.json)"
[ "$(plan before.json student disk 'model weights')" = "$(stat -c %s clean/student/model.safetensors)" ] ||
    fail "the student's bytes: $(plan before.json student disk 'model weights')"
[ "$(plan before.json quantized disk bytes)" = "$(stat -c %s clean/student.gguf)" ] ||
    fail "the GGUF's bytes: $(plan before.json quantized disk bytes)"
archive=$(cat clean/a.traces/* | wc -c) about=$(plan before.json traces about bytes)
[ "$about" -gt $((archive / 2)) ] && [ "$about" -lt $((archive * 20)) ] || fail "the archive's bytes: $about, $archive"
for name in 'weights weights' 'gradients gradients' 'moment 1 moment 1'; do
    [ "$(plan before.json student 'memory|device' "$name")" -gt 0 ] &&
        [ "$(plan before.json student 'memory|device' "$name")" = "$(plan after.json student 'memory|device' "$name")" ] ||
        fail "memory of $name"
done
units=$(grep -o '"units":[0-9]*' before.json | grep -o '[0-9]*$' | tr '\n' ' ')
[ "$units" = '80 12 1 120 ' ] || fail "units: $units"
times=$(grep -oE '"seconds_(at_most|expected)":[0-9.]*[1-9]' before.json | grep -oE '[a-z]+_?most|expected' | tr '\n' ' ')
[ "$times" = 'at_most expected at_most ' ] || fail "times of traces, student, judged: $times of $(cat before.json)"

# --- a recipe that begins with a tokenizer: what can be planned is, and the rest is said
cat >from-text.json <<'E'
{"run": {"out": "text"},
 "tokenizer": {"in": ["traces.jsonl"], "out": "{out}/tok", "vocab": 400},
 "student": {"command": "train", "config": "dense.json", "tokenizer": "{out}/tok", "data": ["traces.jsonl"], "loss": "hard",
             "steps": 2, "max_length": 256, "out": "{out}/student"}}
E
"$retort" -q run from-text.json --plan >plan.txt 2>log && fail "a plan with a hole in it is no success"
grep -q 'known once stage tokenizer has run' plan.txt || fail "no reason: $(cat plan.txt)"

# --- an archive that is yet to be written and then scored again is planned, streamed or not
for memory in 0 200M; do
    cat >again.json <<E
{"run": {"out": "again"},
 "traces": {"command": "sample", "teacher": "teacher", "prompts": ["problems.jsonl"], "out": "{out}/a.traces", "max_tokens": 60},
 "scored": {"command": "score", "teacher": "teacher", "data": ["{out}/a.traces"], "out": "{out}/b.traces", "memory": "$memory"}}
E
    "$retort" -q run again.json --plan --json >plan.json 2>log || fail "--plan of a second scoring: $(cat log)"
    [ "$(grep -o '"units":[0-9]*' plan.json | tail -1)" = '"units":40' ] || fail "a second scoring: $(cat plan.json)"
done
# --- too little --memory is refused before any stage runs
cat >little.json <<'E'
{"run": {"out": "little"},
 "student": {"command": "train", "config": "dense.json", "tokenizer": "tok", "data": ["traces.jsonl"], "loss": "hard",
             "steps": 1, "max_length": 256, "out": "{out}/student"},
 "traces": {"command": "sample", "teacher": "teacher", "prompts": ["problems.jsonl"], "out": "{out}/a.traces", "max_tokens": 60,
            "memory": "1M"}}
E
"$retort" -q run little.json >plan.txt 2>log && fail "--memory 1M ran"
grep -q 'stage traces: --memory 1M .* is too little' log && [ ! -e little/student ] || fail "--memory 1M: $(cat log)"
exit $failed
