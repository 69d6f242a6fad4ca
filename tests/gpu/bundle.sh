#!/bin/bash
# bundle.sh BUILD FILE.tar.xz: what tests/gpu/run.sh needs on a machine that has a GPU and none of our libraries:
# the program, the tests of operations and the benches of a build with nvcc, stripped, and every shared library they
# use, the C library too. Under 60 MiB.
set -eu
cd "$(dirname "$0")/../.."
build=$1 file=$2 folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/bin" "$folder/lib"
for program in retort test_ops test_matmul test_attention test_capture test_optim test_layers bench_device bench_generate bench_step test-tool; do
    strip -o "$folder/bin/$program" "$build/$program"
done
for program in "$folder"/bin/*; do
    ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p'
done | sort -u | while read -r library; do
    cp -L "$library" "$folder/lib/"
done
strip --strip-unneeded "$folder"/lib/*.so* 2>/dev/null || true
git rev-parse HEAD >"$folder/commit" 2>/dev/null || echo unknown >"$folder/commit"
# xz finds what the programs have in common, which is most of them
tar -C "$folder" -c bin lib commit | xz -9 -T1 >"$file"
mib=$(($(stat -c %s "$file") / 1048576))
echo "$file: $mib MiB"
[ "$mib" -lt 60 ]
