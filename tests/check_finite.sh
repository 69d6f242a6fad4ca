#!/bin/bash
# Weights that are not finite: every command that computes with them ends with exit 1 and one line
# that names the tensor, and leaves nothing under an output's name.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
golden=$PWD/tests/golden/student
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

# poke FILE TENSOR HEX...: the first bytes of a tensor, by the offsets of the header
poke() {
    local file=$1 tensor=$2 bytes=$3 head at
    head=$(od -An -tu8 -N8 "$file" | tr -d ' ')
    at=$(tail -c +9 "$file" | head -c "$head" | grep -oE "\"$tensor\":\{[^}]*\"data_offsets\":\[[0-9]+" | grep -oE '[0-9]+$')
    [ -n "$at" ] || { echo "no tensor $tensor in $file"; exit 1; }
    printf "$bytes" | dd of="$file" bs=1 seek=$((8 + head + at)) conv=notrunc status=none
}
# expect REGEX arguments...: exit 1, one line on stderr that matches
expect() {
    local err=$1 got
    shift
    "$retort" "$@" >out.txt 2>err.txt
    got=$?
    [ $got = 1 ] && [ "$(wc -l <err.txt)" = 1 ] && grep -qE -- "$err" err.txt && return
    echo "retort $*: exit $got"
    sed 's/^/  stderr: /' err.txt | head -5
    failed=1
}

echo '{"prompt":"1 + 1 = ?","response":"2","answer":"2"}' >d.jsonl
printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }" >t.npy
printf '\x01\0\0\0\x02\0\0\0\x03\0\0\0' >>t.npy
NAN='\x00\x00\xc0\x7f' INF='\x00\x00\x80\x7f'
for case in "model.norm.weight $NAN NaN" "model.layers.1.mlp.up_proj.weight $INF infinity" \
    "model.layers.0.self_attn.q_proj.weight $NAN NaN"; do
    set -- $case
    rm -rf m && cp -r "$golden" m && chmod -R u+w m
    poke m/model.safetensors "$1" "$2"
    says="logits are not finite: tensor $1.* holds $3"
    expect "$says" logits -q --model m --tokens t.npy --out l.npy
    expect "$says" generate -q --model m --prompt hi --max-tokens 3
    expect "$says" generate -q --model m --prompt hi --max-tokens 3 --temperature 0
    expect "$says" sample -q --teacher m --prompts d.jsonl --out a.traces --max-tokens 3
    expect "$says" score -q --teacher m --data d.jsonl --out b.traces
    : >c.traces.pass # as a pass that was killed leaves it: kept where going on can mend what ended it
    expect "$says" score -q --teacher m --data d.jsonl --out c.traces --memory 200M
    expect "$says" eval -q --model m --archive d.jsonl --out e.json
    expect "$says" eval -q --model m --problems d.jsonl --max-tokens 3 --out e.json
    expect "m: $says" eval -q --model "$golden" --reference m --archive d.jsonl --out e.json
    expect "step 1: m: $says" train -q --model m --data d.jsonl --loss hard --out s --steps 2
    expect "$1.* is not finite" quantize -q --model m --type Q8_0 --out q.gguf
    for out in c.traces.pass l.npy e.json q.gguf s/config.json s/checkpoint.safetensors; do
        [ ! -e $out ] || { echo "$1: $out was written"; failed=1; }
    done
    rm -rf a.traces b.traces c.traces s
done

# Finite weights whose products overflow: the layer is named.
rm -rf m && cp -r "$golden" m && chmod -R u+w m
for w in gate up down; do
    poke m/model.safetensors model.layers.1.mlp.${w}_proj.weight '\xff\xff\x7f\x7f\xff\xff\x7f\x7f\xff\xff\x7f\x7f\xff\xff\x7f\x7f'
done
expect 'all weights are: the output of layer 1 overflows' generate -q --model m --prompt hi --max-tokens 3
exit $failed
