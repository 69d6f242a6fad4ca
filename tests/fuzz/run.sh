#!/bin/sh
# run.sh [RUNS] [TARGET...]: builds the fuzz targets (clang, libFuzzer, AddressSanitizer,
# UndefinedBehaviorSanitizer) and runs each for RUNS executions (40000), from its seeds and from what
# earlier runs kept. One line a target; status 1 when anything was found. Logs, corpora, the inputs
# that were findings and each target's executions of all runs so far (TARGET.total) are in FUZZ_DIR
# (build-fuzz/work). Without clang's libFuzzer it says so and passes.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup.sh
work=${FUZZ_DIR:-build-fuzz/work}
slice=500000 # executions a process: what a killed run loses, and how long memory may fragment

RETORT_PACKAGES="$RETORT_PACKAGES clang libclang-rt-dev"
install_packages || true
probe='int LLVMFuzzerTestOneInput(const char *s, unsigned long n) { return !s || !n; }'
if ! echo "$probe" | clang -x c -fsanitize=fuzzer,address,undefined - -o /dev/null 2>/dev/null
then
    echo "fuzz: this machine has no clang with libFuzzer; the fuzz targets are left out"
    exit 0
fi
cmake -S . -B build-fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DRETORT_FUZZ=ON -DRETORT_CUDA=OFF >&2
cmake --build build-fuzz --target fuzzers >&2

runs=${1:-40000}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- $(cd tests/fuzz && ls fuzz_*.c | sed 's/fuzz_\(.*\)\.c/\1/')

# what LOG PATTERN: the last number that follows the pattern
last() { sed -nE "s/.*$2 *([0-9]+).*/\1/p" "$1" 2>/dev/null | tail -n 1; }

status=0
printf '%-12s %12s %14s %8s %9s %9s\n' target executions 'of all runs' exec/s coverage findings
for target; do
    mkdir -p "$work/$target" "$work/found/$target"
    log=$work/$target.log
    total=$(cat "$work/$target.total" 2>/dev/null || echo 0)
    done=0
    began=$(date +%s)
    while [ "$done" -lt "$runs" ]; do
        left=$((runs - done))
        failed=0
        build-fuzz/fuzz_$target -runs=$((left < slice ? left : slice)) -max_len=4096 -timeout=60 \
            -rss_limit_mb=256 -print_final_stats=1 -artifact_prefix="$work/found/$target/" \
            "$work/$target" tests/fuzz/seeds/"$target" >"$log" 2>&1 || failed=1
        ran=$(last "$log" number_of_executed_units:)
        [ -n "$ran" ] || ran=$(last "$log" '^#')
        done=$((done + ${ran:-0}))
        echo $((total + done)) >"$work/$target.total"
        if [ $failed = 1 ] || [ -z "$ran" ]; then
            cp "$log" "$work/found/$target.log"
            break
        fi
    done
    seconds=$(($(date +%s) - began))
    found=$(ls "$work/found/$target" | wc -l)
    [ "$failed$found" = 00 ] || status=1
    printf '%-12s %12d %14d %8d %9d %9d\n' "$target" "$done" "$(cat "$work/$target.total")" \
        $((done / (seconds > 0 ? seconds : 1))) "$(last "$log" cov:)" "$found"
done
[ $status = 0 ] || echo "fuzz: findings are in $work/found, what they did in $work/found/TARGET.log"
exit $status
