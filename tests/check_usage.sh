#!/bin/bash
# tests/gpu/usage.sh sees a kernel that spills its registers, and nothing where there is none: on what ptxas 13 said,
# and, where nvcc is, on a kernel of 64 live floats that is given 24 registers. The kernels of this build do not spill.
set -u
. "$(dirname "$0")/check.sh"
usage=$PWD/tests/gpu/usage.sh compile=$PWD/core/device/cuda/compile.sh dir=$2
rm -rf "$dir" && mkdir -p "$dir"
cd "$dir" || exit 1

said() { # KERNEL ARCH STORES LOADS
    cat <<END
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '$1' for '$2'
ptxas info    : Function properties for $1
    16 bytes stack frame, $3 bytes spill stores, $4 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 4224 bytes smem, 664 bytes cmem[0]
ptxas info    : Compile time = 63.278 ms
END
}
{ said _Z4goodPf sm_89 0 0; said _Z4goodPf sm_90 0 0; } >good.log
{ said _Z4goodPf sm_89 0 0; said _Z3badPf sm_90 8 12; } >bad.log
: >none.log
said _Z14product_kernelPf sm_90 8 12 >slow.log
"$usage" good.log >out.txt 2>err.txt || fail "refused where nothing spills: $(cat err.txt)"
grep -qxE 'sm_90 +168 +16 +0 +4224 +good' out.txt || fail "a kernel's line: $(cat out.txt)"
"$usage" good.log bad.log >out.txt 2>err.txt && fail "a spill went through"
grep -q 'bad (sm_90): 20 bytes' err.txt || fail "a spill is not named: $(cat err.txt)"
"$usage" good.log slow.log >out.txt 2>err.txt || fail "refused a kernel that need not be fast: $(cat err.txt)"
"$usage" none.log >/dev/null 2>&1 && fail "no kernels went through"

nvcc=$(sed -n 's/^NVCC:.*=//p' ../CMakeCache.txt)
[ -x "$nvcc" ] || exit $failed
[ ! -e ../cuda_kernels.log ] || "$usage" ../cuda_*.log >/dev/null || fail "registers of this build's kernels"
cat >spill.cu <<'END'
__global__ void spill(float *p)
{
    float a[64], sum = 0;
    for (int i = 0; i < 64; i++)
        a[i] = p[i * threadIdx.x];
    for (int j = 0; j < 64; j++)
        for (int i = 0; i < 64; i++)
            a[i] = a[i] * a[(i + 1) % 64] + p[j];
    for (int i = 0; i < 64; i++)
        sum += a[i];
    p[threadIdx.x] = sum;
}
END
for registers in 24 255; do
    "$compile" $registers.log "$nvcc" -maxrregcount=$registers -gencode arch=compute_90,code=sm_90 -c spill.cu \
        -o spill.o || fail "the planted kernel does not compile: $(cat $registers.log)"
done
"$usage" 24.log >/dev/null 2>&1 && fail "a kernel that spills went through: $(cat 24.log)"
"$usage" 255.log >/dev/null 2>err.txt || fail "a kernel with registers enough was refused: $(cat err.txt)"
sed -i 's/sum = 0/&, unused/' spill.cu
"$compile" warned.log "$nvcc" -gencode arch=compute_90,code=sm_90 -c spill.cu -o spill.o 2>err.txt ||
    fail "does not compile: $(cat err.txt)"
grep -q unused err.txt || fail "a warning of nvcc was kept from the terminal"
sed -i 's/sum = 0/sum = nothing/' spill.cu
"$compile" failed.log "$nvcc" -gencode arch=compute_90,code=sm_90 -c spill.cu -o spill.o 2>err.txt &&
    fail "the compiler's failure was lost"
grep -q nothing err.txt || fail "an error of nvcc was kept from the terminal"
exit $failed
