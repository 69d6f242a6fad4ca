#!/bin/bash
# What `retort quantize` hands over, as its users meet it: the self-test passes what is whole, refuses what is
# not and leaves nothing under the final name, also when the process is killed; the file does not depend on it.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
tool=$(dirname "$retort")/test-tool
golden=$PWD/tests/golden
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1
student=$golden/student

# The self-test changes no byte, and says what it found.
for extent in quick full off; do
    prints 0 '' 'bits a weight' quantize --model "$student" --type Q4_0 --self-test $extent --out $extent.gguf --name s
    [ $extent = off ] || grep -q 'self-test: KL to the source 0.0.*same top token.*answers end with <|end|>' err.txt ||
        fail "--self-test $extent says: $(cat err.txt)"
done
same quick.gguf off.gguf
same quick.gguf full.gguf
exit $failed
