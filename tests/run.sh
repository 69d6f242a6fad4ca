#!/bin/sh
# run.sh: installs what is missing, builds Release, with AddressSanitizer and UndefinedBehaviorSanitizer on the
# emulated CUDA device, and on the strict device, runs every test in all three, then those whose threads share data under
# ThreadSanitizer, and the fuzz targets for a minute. Arguments go to ctest instead of the choice of tests: tests/run.sh -R arena
set -eu
cd "$(dirname "$0")/.."
. tests/setup.sh

RETORT_PACKAGES="$RETORT_PACKAGES g++ curl" # of the emulated CUDA device, and of docs/serve.md
install_packages
cuda=AUTO
[ -z "${CI-}" ] || ! command -v nvcc >/dev/null || cuda=ON # where warnings are errors
build_tree build -DRETORT_CUDA=$cuda
build_tree "build with sanitizers" -DRETORT_SANITIZE=ON -DRETORT_CUDA=EMULATE # users have folders with spaces: no test may split one
build_tree build-strict -DRETORT_STRICT=ON -DRETORT_CUDA=OFF
shared="test_team test_matmul test_attention test_layers test_export test_trace test_tokenizer test_sample test_stream test_serve"
RETORT_TARGETS=$shared build_tree build-tsan -DRETORT_TSAN=ON -DRETORT_CUDA=OFF
status=0
for tree in build "build with sanitizers" build-strict build-tsan; do
    echo "== tests in $tree"
    [ $tree != build-tsan ] || [ $# != 0 ] || set -- -R "^($(echo $shared | tr ' ' '|'))$"
    ctest --test-dir "$tree" --output-on-failure -j "$(nproc)" "$@" || status=$?
done
echo "== fuzz targets"
tests/fuzz/run.sh || status=$?
exit $status
