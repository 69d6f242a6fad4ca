#!/bin/bash
# --precision int8 of eval, generate and logits: near the exact products, the same bytes of every instruction set
# and number of threads, for every mix that quantize writes; refused where results must be exact. All of it on a
# CPU: where the first device of the build is a GPU, it is refused, too.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2
rm -rf "$dir" && mkdir -p "$dir"
teacher=$PWD/examples/reasoning/teacher tokens=$PWD/tests/golden/example/tokens.npy
cd "$dir" || exit 1
for i in $(seq 24); do echo "{\"prompt\": \"What is $i + 7?\", \"response\": \"$((i + 7))\"}"; done >text.jsonl
cp "$tokens" ids.npy || exit 1
expect 0 '' init --shape 3m --tokenizer "$teacher" --layers 2 --width 256 --head-dim 64 --out start --device cpu

logits() { # MODEL OUT [FLAG...]
    expect 0 '' logits --model "$1" --tokens ids.npy --out "$2" "${@:3}"
}
for type in Q4_0 Q8_0 Q4_K_M Q5_K_M; do
    expect 0 '' quantize --model start --type $type --out $type.gguf
    logits $type.gguf $type.exact
    logits $type.gguf $type.named --precision exact
    same $type.exact $type.named "$type, exact by name"
    logits $type.gguf $type.int8 --precision int8
    cmp -s $type.exact $type.int8 && fail "$type: int8 rounds nothing"
    for isa in scalar avx2 avx512; do
        export RETORT_ISA=$isa
        "$retort" doctor >/dev/null 2>&1 && logits $type.gguf $type.$isa --precision int8 --threads 3 &&
            same $type.int8 $type.$isa "$type, int8"
        unset RETORT_ISA
    done
    prints 0 . '' eval --model $type.gguf --reference $type.gguf --archive text.jsonl --precision int8 --json -q
    grep -q '"precision":"int8"' out.txt || fail "$type: eval does not say in what precision"
    sed -n 's/.*"kl":\([0-9.e+-]*\).*/\1/p' out.txt |
        awk '{ seen = $1 > 0 && $1 < 1e-3 } END { exit !seen }' || fail "$type: KL of int8 to exact: $(cat out.txt)"
done
expect 0 '' generate --model Q4_K_M.gguf --prompt "2 + 3" --max-tokens 5 --precision int8 --temperature 0
prints 0 'weights.int8' '' eval --model Q4_0.gguf --archive text.jsonl --precision int8 --plan
expect 0 '' eval --model start --archive text.jsonl --precision int8 # no blocks: exact
expect 2 'not one of f32\|bf16\|fp8' sample --teacher Q4_0.gguf --prompts text.jsonl --out a.traces --precision int8
expect 2 'device cpu has exact\|int8' generate --model Q4_0.gguf --prompt x --precision bf16 --device cpu
case $("$retort" doctor --json) in
*'"emulated'*)
    expect 2 'device cuda has f32\|bf16\|fp8' generate --model Q4_0.gguf --prompt x --precision int8 --device cuda
    ;;
esac
exit $failed
