#!/bin/bash
# retort run: a small recipe from a teacher to a GGUF, killed at random moments and started again, ends
# with the same bytes in the archive, the student and the GGUF as one clean run. KILLS=30 for the long
# form. Then: nothing is done twice, a changed value redoes what depends on it, --set and --fresh.
set -u
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems kills_wanted=${KILLS:-6}
rm -rf "$dir" && mkdir -p "$dir"
template=$PWD/examples/reasoning/chat_template.jinja
cd "$dir" || exit 1
failed=0
fail() { echo "FAIL: $*" >&2; failed=1; }

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
results() { (cd "$1" && find a.traces student student.gguf -type f ! -name metrics.jsonl ! -name lock | sort | xargs sha256sum); }

begun=$(date +%s%N)
"$retort" -q run recipe.json >report.txt 2>log || { fail "a clean run"; exit 1; }
[ -s clean/report.json ] || fail "no report.json"
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

# --- a plan before anything ran says what the stages then wrote; a probe leaves nothing behind
"$retort" -q run recipe.json --out none --plan --probe 2 --json >before.json 2>log || fail "--plan --probe: $(cat log)"
"$retort" -q run recipe.json --plan --json >after.json || fail "--plan --json"
"$retort" -q run recipe.json --plan >plan.txt || fail "--plan"
grep -q '^judged .*(took)' plan.txt || fail "no table: $(cat plan.txt)"
ls -d none* 2>/dev/null && fail "a plan or a probe left something behind"
python3 - <<'E' || fail "the plan: $(cat before.json after.json)"
import json, os
before, after = (json.load(open(f))["stages"] for f in ("before.json", "after.json"))
assert [s["stage"] for s in before] == ["traces", "student", "quantized", "judged"]
for b, a in zip(before, after):
    assert not b["done"] and a["done"] and "why" not in b and "why" not in a, (b, a)
    assert b["seconds"] > 0 and a["seconds"] > 0
    assert b["memory"]["bytes"] > 0
traces, student, quantized, judged = before
assert student["disk"]["model weights"] == os.path.getsize("clean/student/model.safetensors")
assert quantized["disk"]["bytes"] == os.path.getsize("clean/student.gguf")
archive = sum(os.path.getsize("clean/a.traces/" + f) for f in os.listdir("clean/a.traces"))
assert 0.5 * archive < traces["about"]["bytes"] < 20 * archive
for name in ("weights weights", "gradients gradients", "moment 1 moment 1"):
    assert student["memory"][name] == after[1]["memory"][name] > 0, name
assert student["units"] == 12 and traces["units"] == 80 and judged["units"] == 120
E
"$retort" run recipe.json --probe 2 2>log && fail "--probe without --plan was accepted"
exit $failed
