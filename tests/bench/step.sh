#!/bin/sh
# step.sh: retort's training step and PyTorch's in turn, three times each, on the same cores: compare the
# medians. Needs `ninja -C build bench_step` and pip install torch transformers; PYTHON names another python. [threads]
set -eu
cd "$(dirname "$0")/../.."
for round in 1 2 3; do
    build/bench_step "${1:-0}"
    ${PYTHON:-python3} tests/bench/torch_step.py ${1:+"$1"} | head -n 1
done
