#!/bin/sh
# compile.sh LOG COMMAND...: runs nvcc and keeps in LOG what ptxas says of each kernel (registers, spills, memory:
# tests/gpu/usage.sh reads it); all else that it says stays on stderr.
log=$1
shift
"$@" -Xptxas -v 2>"$log"
status=$?
grep -v -e '^ptxas info' -e '^ *[0-9]* bytes stack frame' "$log" >&2
exit $status
