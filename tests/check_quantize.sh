#!/bin/bash
# `retort quantize` as a user meets it: golden models through GGUF give the logits that transformers
# computed from the originals, a trained student's F16 GGUF is the one transformers read and gives the
# same greedy text, every type is readable and near, and bad input gets one clear line.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
tool=$(dirname "$retort")/test-tool
models=$PWD/tests/golden/models
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

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

# name type limit: F32 is the 1e-4 that any implementation is held to; the rest was found by running
# and tells a broken layout (errors near 1) from rounding; tokens: a GGUF of a model with a sliding
# window ends where the window does
while read -r name type limit tokens; do
    "$tool" head "$models/$name/tokens.npy" "${tokens:-999}" t.npy &&
        "$retort" -q quantize --model "$models/$name" --type "$type" --weights-only --out m.gguf &&
        "$retort" -q logits --model m.gguf --tokens t.npy --out l.npy ||
        { fail "$name $type"; continue; }
    got=$("$tool" near l.npy "$models/$name" "$limit" 2>&1) ||
        fail "$name $type: logits differ by $got of the largest"
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
golden() { "$tool" json "$student/greedy.json" "$1"; }
"$tool" bare student.gguf bare.gguf || fail "the student without checksums" # golden is older than they
[ "$(sha256sum <bare.gguf)" = "$(golden gguf_sha256)  -" ] || fail "another GGUF"
answers=0
while prompt=$(golden answers.$answers.prompt 2>/dev/null); do
    for form in f16 f32; do
        model=student.gguf
        [ $form = f32 ] && model=$student
        want=$(golden answers.$answers.$form.text)
        got=$("$retort" -q generate --model "$model" --prompt "$prompt" --temperature 0 \
            --max-tokens "$(golden max_tokens)")
        [ "$got" = "$want" ] || fail "$form, answer $answers: $got; transformers: $want"
        got=$(golden answers.$answers.$form.ids | "$retort" tokenize --model "$model" --decode --skip-special)
        [ "$got" = "$want" ] || fail "$form, answer $answers: its ids are $got"
    done
    answers=$((answers + 1))
done
[ $answers = 4 ] || fail "$answers answers in greedy.json, not 4"

q=$models/qwen3
"$retort" quantize --model "$q" --type Q8_0 --weights-only --out a.gguf --plan --json >out.txt || fail "--plan"
planned=$("$tool" json out.txt disk.bytes)
[ -e a.gguf ] && fail 'a plan wrote a file'
expect 0 '' --model "$q" --type Q8_0 --weights-only --out a.gguf --json
[ "$("$tool" json out.txt file_bytes)" = "$(stat -c %s a.gguf)" ] ||
    fail "the report's file_bytes is not the file's size"
[ "$planned" = "$(stat -c %s a.gguf)" ] || fail "planned $planned bytes, written $(stat -c %s a.gguf)"
expect 2 'quantize: --out' --model "$q"
expect 2 'Q4_K_M' --model "$q" --type Q4_K_X --out b.gguf
expect 1 'nowhere' --model nowhere --out b.gguf
expect 1 'tokenizer.json' --model "$q" --out b.gguf
expect 1 'no GGUF of model_type deepseek_v3' --model "$models/deepseek_q" --weights-only --out b.gguf
expect 0 '' --model a.gguf --type F32 --weights-only --out b.gguf
# every mix, calibrated on a few texts, by every method: the same bytes by any number of threads, and as planned
for i in 1 2 3 4; do echo "{\"prompt\":\"$i+$i?\",\"response\":\"$((i + i))\"}"; done >texts.jsonl
types=$("$retort" help quantize | sed -n 's/^ *--type \([^ ]*\).*/\1/p' | tr '|' ' ')
[ $(wc -w <<<"$types") -gt 9 ] || fail "types of the help: $types"
for type in $types; do
    for method in search ggml compensate; do
        [ $method = ggml ] && case $type in F32 | BF16 | MXFP4 | NVFP4) continue ;; esac
        expect 0 '' --model "$student" --type "$type" --method $method --archive texts.jsonl --threads 1 --out one.gguf --overwrite
        expect 0 '' --model "$student" --type "$type" --method $method --archive texts.jsonl --threads 3 --out three.gguf --overwrite
        cmp one.gguf three.gguf || fail "$type $method depends on threads"
    done
done
# what the texts say of columns, written for others and read again, is what it was
for form in gguf dat; do
    expect 0 '' --model "$student" --type Q4_0 --method ggml --archive texts.jsonl --importance-out i.$form --out one.gguf --overwrite
    expect 0 '' --model "$student" --type Q4_0 --method ggml --importance i.$form --out three.gguf --overwrite
    "$retort" -q logits --model one.gguf --tokens "$student/tokens.npy" --out one.npy
    "$retort" -q logits --model three.gguf --tokens "$student/tokens.npy" --out three.npy
    cmp one.npy three.npy || fail "importance through .$form"
done
expect 1 'is there already' --model "$student" --archive texts.jsonl --importance-out i.dat --out b.gguf
expect 2 'needs texts' --model "$student" --importance-out j.dat --out b.gguf
expect 2 'needs texts' --model "$student" --method compensate --out b.gguf
expect 2 'give one' --model "$student" --archive texts.jsonl --importance nowhere --out b.gguf
expect 1 'nowhere' --model "$student" --archive nowhere --out b.gguf
rm -f b.gguf
expect 1 'a.gguf' --model "$q" --weights-only --out a.gguf/b.gguf
mkdir cut pickle && cp "$models"/qwen3_tied/*.json cut && cp "$models"/qwen3_tied/*.json pickle
head -c 3000 "$models/qwen3_tied/model.safetensors" >cut/model.safetensors
expect 1 'cut/model.safetensors: ' --model cut --weights-only --out b.gguf
touch pickle/pytorch_model.bin
expect 1 'safe_serialization' --model pickle --weights-only --out b.gguf
[ -z "$(ls | grep b.gguf)" ] || fail "something was left behind: $(ls)"
exit $failed
