#!/bin/sh
# run.sh: the main job on one machine without a GPU: a small mixture-of-experts teacher (in
# examples/reasoning/teacher) writes about 900 reasoning traces with soft targets, a dense student
# learns from them, then from what the teacher says of its own answers to 2,100 more problems; a
# second one learns as many steps from hard labels only, the student is brought to 4 bits, all of
# them are judged on problems nobody has seen. Installs what is missing, builds,
# and goes on; run again, it takes up where it stopped. Results: out/reasoning, report.json among them.
# Arguments go to `retort run`, e.g. examples/run.sh --set student.loss=bucket
set -eu
cd "$(dirname "$0")/.."
. tests/setup.sh

install_packages
build_tree build
out=out/reasoning
mkdir -p $out
make_problems() { # NAME COUNT SEED SPLIT: written once, whole
    [ -e "$out/$1" ] && return
    build/reasoning-problems --n "$2" --seed "$3" --split "$4" --form problem >"$out/$1.part"
    mv "$out/$1.part" "$out/$1"
}
make_problems problems.jsonl 900 1 train
make_problems heldout.jsonl 600 2 heldout
make_problems more.jsonl 2100 11 train
exec build/retort run examples/reasoning/recipe.json "$@"
