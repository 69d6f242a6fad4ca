#!/bin/sh
# run.sh: installs what is missing, builds twice (Release, and with AddressSanitizer and
# UndefinedBehaviorSanitizer) and runs every test in both. Arguments go to ctest: tests/run.sh -R arena
set -eu
cd "$(dirname "$0")/.."
. tests/setup.sh

install_packages
build_tree build
build_tree build-sanitize -DRETORT_SANITIZE=ON
status=0
for tree in build build-sanitize; do
    echo "== tests in $tree"
    ctest --test-dir "$tree" --output-on-failure -j "$(nproc)" "$@" || status=$?
done
exit $status
