#!/bin/sh
# usage.sh LOG...: what every kernel takes of a multiprocessor, from what ptxas said while it was compiled
# (core/device/cuda/compile.sh): one line a kernel and architecture. Exit 1 when one spills registers to memory, or when
# no kernel is found.
set -eu
# Products of f32, and of weights in forms that are read element by element (way ELEMENTS), are not meant to be fast.
may_spill='^product_kernel$|^tile_kernel<.*\(way\)3>$'
cat -- "$@" | c++filt | may_spill=$may_spill awk '
function put() {
    if (name == "") return
    printf "%-5s %9d %6d %6d %7d  %s\n", arch, registers, stack, spilled, shared, name
    kernels++
    if (spilled && name !~ ENVIRON["may_spill"]) spills = spills "\n  " name " (" arch "): " spilled " bytes"
}
BEGIN { print "arch  registers  stack spills  shared  kernel" }
/Compiling entry function/ {
    put()
    match($0, /for .sm_[0-9a-z]*/)
    arch = substr($0, RSTART + 5, RLENGTH - 5)
    name = substr($0, 1, RSTART - 3)
    sub(/^[^\047]*\047(void )?/, "", name)
    sub(/\([^()]*\)$/, "", name) # arguments
    registers = stack = spilled = shared = 0
}
/bytes stack frame/ { stack += $1; spilled += $5 + $9 } # also of functions that were not inlined
/ Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/)
    registers = substr($0, RSTART + 5, RLENGTH - 5)
    if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
}
END {
    put()
    if (!kernels) { print "usage: no kernel in what the compiler said" > "/dev/stderr"; exit 1 }
    if (spills) { print "usage: registers spilled to memory:" spills > "/dev/stderr"; exit 1 }
}'
