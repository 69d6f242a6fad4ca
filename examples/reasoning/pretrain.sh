#!/bin/sh
# pretrain.sh: makes the miniature teacher that comes with the example, from nothing: problems with
# their worked thoughts, a tokenizer, and one training run with hard labels and bias-balanced experts.
# The result, out/pretrain/teacher, is what examples/reasoning/teacher holds.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup.sh

install_packages
build_tree build
out=out/pretrain
mkdir -p $out
[ -e $out/pretrain.jsonl ] || {
    build/reasoning-problems --n 80000 --seed 5 --form trace >$out/pretrain.part
    head -n 20000 $out/pretrain.part >$out/words.jsonl
    build/reasoning-problems --n 300 --seed 6 --split heldout --form trace >$out/heldout.jsonl
    mv $out/pretrain.part $out/pretrain.jsonl
}
exec build/retort run examples/reasoning/pretrain.json "$@"
