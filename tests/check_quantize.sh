#!/bin/bash
# `retort quantize` as a user meets it: golden models through GGUF give the logits that transformers
# computed from the originals, a trained student's F16 GGUF is the one transformers read and gives the
# same greedy text, every type is readable and near, and bad input gets one clear line.
set -u
retort=$1
scratch=$2
models=$PWD/tests/golden/models
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1
failed=0

fail() {
    echo "check_quantize: $*"
    failed=1
}
# expect CODE STDERR-REGEX arguments...
expect() {
    local code=$1 err=$2 got
    shift 2
    "$retort" quantize "$@" >out.txt 2>err.txt
    got=$?
    if [ $got != "$code" ] || ! grep -qE -- "$err" err.txt; then
        fail "quantize $*: exit $got, expected $code and \"$err\""
        sed 's/^/  /' err.txt | head -5
    fi
}

# Largest difference of logits, relative to the largest golden logit, must stay below the limit.
cat >compare.py <<'PY'
import sys
import numpy as np
a, b, limit = np.load(sys.argv[1]), np.load(sys.argv[2] + "/logits.npy"), float(sys.argv[3])
n = len(np.load(sys.argv[2] + "/tokens.npy"))
at = np.arange(n) if len(b) == n else np.arange((n - 1) % 8, n, 8)  # the rows that b has
b, a = b[at < len(a)], a[at[at < len(a)]]
d = np.abs(a.astype(np.float64) - b).max() / np.abs(b).max()
print(f"{d:.3g}")
sys.exit(not (a.shape == b.shape and d <= limit))
PY
# name type limit: F32 is the 1e-4 that any implementation is held to; the rest was found by running
# and tells a broken layout (errors near 1) from rounding; tokens: a GGUF of a model with a sliding
# window ends where the window does
while read -r name type limit tokens; do
    python3 -c "import numpy as np; np.save('t.npy', np.load('$models/$name/tokens.npy')[:${tokens:-999}])"
    "$retort" -q quantize --model "$models/$name" --type "$type" --weights-only --out m.gguf &&
        "$retort" -q logits --model m.gguf --tokens t.npy --out l.npy ||
        { fail "$name $type"; continue; }
    got=$(python3 compare.py l.npy "$models/$name" "$limit") ||
        fail "$name $type: logits differ by $got of the largest, limit $limit"
done <<'LIST'
llama_scaled F32 1e-4
llama_scaled F16 5e-3
llama_tied F32 1e-4
llama_tied BF16 1e-4
qwen3 F32 1e-4
qwen3 BF16 1e-4
qwen3_tied F32 1e-4
qwen3_tied Q8_0 0.1
qwen2_tied F32 1e-4
qwen2_tied F16 5e-3
mistral_plain F32 1e-4
mistral_window F32 1e-4 16
mistral_long BF16 1e-4 70
LIST

# golden/student/greedy.json: transformers' greedy answers from the F16 GGUF alone and from the directory
student=$models/../student
"$retort" -q quantize --model "$student" --type F16 --out student.gguf || fail "the student as F16"
python3 - "$retort" "$student" <<'PY' || fail "the student is not what transformers reads"
import hashlib, json, subprocess, sys
retort, student = sys.argv[1:]
golden = json.load(open(student + "/greedy.json"))
assert hashlib.sha256(open("student.gguf", "rb").read()).hexdigest() == golden["gguf_sha256"], "another GGUF"
def run(*args, **more):
    return subprocess.run([retort, "-q", *args], check=True, stdout=subprocess.PIPE, text=True, **more).stdout
for answer in golden["answers"]:
    for model, want in ("student.gguf", answer["f16"]), (student, answer["f32"]):
        text = run("generate", "--model", model, "--prompt", answer["prompt"], "--temperature", "0",
                   "--max-tokens", str(golden["max_tokens"]))
        assert text == want["text"] + "\n", f"{model}: {text!r}, transformers {want['text']!r}"
        decoded = run("tokenize", "--model", model, "--decode", "--skip-special", input=json.dumps(want["ids"]))
        assert decoded == text, f"{model}: the ids are {decoded!r}"
PY

q=$models/qwen3
"$retort" quantize --model "$q" --type Q8_0 --weights-only --out a.gguf --plan --json >out.txt || fail "--plan"
planned=$(python3 -c 'import json; print(json.load(open("out.txt"))["disk"]["bytes"])')
[ -e a.gguf ] && fail 'a plan wrote a file'
expect 0 '' --model "$q" --type Q8_0 --weights-only --out a.gguf --json
python3 -c 'import json, os, sys; r = json.load(open("out.txt")); sys.exit(r["file_bytes"] != os.path.getsize("a.gguf"))' ||
    fail "the report's file_bytes is not the file's size"
[ "$planned" = "$(stat -c %s a.gguf)" ] || fail "planned $planned bytes, written $(stat -c %s a.gguf)"
expect 2 'quantize: --out' --model "$q"
expect 2 'Q4_K_M' --model "$q" --type Q4_K_X --out b.gguf
expect 1 'nowhere' --model nowhere --out b.gguf
expect 1 'tokenizer.json' --model "$q" --out b.gguf
expect 1 'no GGUF of model_type deepseek_v3' --model "$models/deepseek_q" --weights-only --out b.gguf
expect 1 'a GGUF is quantized already' --model a.gguf --out b.gguf
expect 1 'no/such' --model "$q" --weights-only --out no/such/b.gguf
mkdir cut pickle && cp "$models"/qwen3_tied/*.json cut && cp "$models"/qwen3_tied/*.json pickle
head -c 3000 "$models/qwen3_tied/model.safetensors" >cut/model.safetensors
expect 1 'cut/model.safetensors: ' --model cut --weights-only --out b.gguf
touch pickle/pytorch_model.bin
expect 1 'safe_serialization' --model pickle --weights-only --out b.gguf
[ -z "$(ls | grep b.gguf)" ] || fail "something was left behind: $(ls)"
exit $failed
