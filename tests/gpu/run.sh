#!/bin/bash
# run.sh BUNDLE.tar.xz [OUT]: on a machine with a CUDA GPU, from the bundle of tests/gpu/bundle.sh: parity of every operation
# with float64 and with the CPU, a model's logits and training beside the CPU's, two runs with the same bits, the
# sanitizers of CUDA on small cases, lack of memory, then the speeds beside PyTorch's. Prints one table, writes
# OUT/results.json (device, driver, clocks, commit), says which part failed; exit 1 when one did. Needs the driver;
# compute-sanitizer, python3 with numpy and torch are used when they are there. Under 9 minutes without the decoding
# of an 8B model, which makes one on disk first; PARTS, a regular expression, chooses parts by their names.
set -u
cd "$(dirname "$0")/../.."
out=${2:-gpu-results} scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
bundle=$scratch/bundle
mkdir -p "$out" "$bundle"
tar -C "$bundle" -xf "$1" 2>/dev/null || python3 -m tarfile -e "$1" "$bundle" || exit 2
export CK_FORK=no RETORT_DEVICE=cuda
driver=/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu:/usr/lib64
blas=$(ls -d /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib 2>/dev/null | head -n 1)
loader=$(ls "$bundle"/lib/ld-linux-* | head -n 1)
run() { # PROGRAM ARGUMENT...: with the bundle's libraries, then the machine's driver and cuBLAS
    local program=$1
    shift
    "$loader" --library-path "$bundle/lib:$driver:${blas:-/none}" "$bundle/bin/$program" "$@"
}

rows=() failed=0
part() { # NAME SECONDS COMMAND...: a row of the table
    local name=$1 limit=$2 begun=$SECONDS rc
    shift 2
    [[ $name =~ ${PARTS:-.} ]] || return 0
    (timeout "$limit" bash -c "$(declare -f run); $(declare -p bundle driver blas loader scratch); $*") >"$out/${name// /_}.log" 2>&1
    rc=$?
    [ $rc = 0 ] || failed=1
    rows+=("$(printf '{"part": "%s", "ok": %s, "seconds": %d}' "$name" "$([ $rc = 0 ] && echo true || echo false)" $((SECONDS - begun)))")
    printf '%-36s %-6s %4d s\n' "$name" "$([ $rc = 0 ] && echo ok || echo "FAILED")" $((SECONDS - begun))
    [ $rc = 0 ] || tail -n 5 "$out/${name// /_}.log" | cut -c1-200 | sed 's/^/    /'
}

teacher=$PWD/examples/reasoning/teacher
describe=$(nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit,temperature.gpu --format=csv,noheader 2>/dev/null | head -n 1)
echo "device: ${describe:-no nvidia-smi}; commit $(cat "$bundle/commit")"
run retort doctor | grep -E '^(backends|nvidia)' | cut -c1-220

for precision in f32 bf16; do
    for test in ops matmul attention capture optim; do
        part "$test in $precision" 60 "RETORT_CUDA_PRECISION=$precision run test_$test"
    done
done
part "matmul in fp8" 60 "RETORT_CUDA_PRECISION=fp8 run test_matmul"
part "layers in f32" 90 "RETORT_CUDA_PRECISION=f32 run test_layers"
part "logits beside the CPU" 60 "cp tests/golden/example/tokens.npy \$scratch/t.npy
    run retort logits --model $teacher --tokens \$scratch/t.npy --out \$scratch/cpu.npy --device cpu &&
    RETORT_CUDA_PRECISION=f32 run retort logits --model $teacher --tokens \$scratch/t.npy --out \$scratch/f32.npy --device cuda &&
    RETORT_CUDA_PRECISION=bf16 run retort logits --model $teacher --tokens \$scratch/t.npy --out \$scratch/bf16.npy --device cuda &&
    python3 tests/gpu/compare.py \$scratch/cpu.npy \$scratch/f32.npy 1e-4 && python3 tests/gpu/compare.py \$scratch/cpu.npy \$scratch/bf16.npy 5e-2 0.05"
chain="for i in \$(seq 40); do echo \"{\\\"id\\\": \\\"p\$i\\\", \\\"prompt\\\": \\\"What is \$i + 7?\\\", \\\"response\\\": \\\"\$((i + 7))\\\"}\"; done >\$scratch/text.jsonl
    steps() { run retort score --teacher $teacher --data \$scratch/text.jsonl --out \$scratch/\$2.traces --device \$1 &&
        run retort train --config examples/reasoning/student-config.json --tokenizer $teacher --data \$scratch/\$2.traces --steps 10 --warmup 2 --batch-tokens 400 --max-length 128 --out \$scratch/\$2 --device \$1; }"
part "ten steps, loss beside the CPU" 120 "$chain; steps cpu a && steps cuda b && python3 tests/gpu/compare.py \$scratch/a/metrics.jsonl \$scratch/b/metrics.jsonl 2e-2"
part "two runs, the same bits" 120 "$chain; steps cuda c && steps cuda d && cmp \$scratch/c/model.safetensors \$scratch/d/model.safetensors"
mode() { echo "run retort train --config examples/reasoning/student-config.json --tokenizer $teacher --data \$scratch/a.traces --steps 6 --warmup 1 --batch-tokens 400 --pass-tokens 400 --max-length 128 --device cuda --out \$scratch/$1 --memory-mode $2"; }
part "memory modes, the same bits" 120 "$chain; steps cuda a >/dev/null && $(mode m1 stream) && $(mode m2 'stream --recompute block') && $(mode m3 'fused --recompute block') &&
    cmp \$scratch/m1/model.safetensors \$scratch/m2/model.safetensors && cmp \$scratch/m1/model.safetensors \$scratch/m3/model.safetensors"
# Llama-3.2-1B's shape at random, passes of 2,048 tokens: tokens a second of the last steps
shape='{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": true, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 4096}'
learn() { echo "run retort train --config \$scratch/1b.json --tokenizer $teacher --data \$scratch/long.jsonl --loss hard --steps 6 --warmup 1 --max-length 2048 --pass-tokens 2048 --device cuda --gpu-memory 24G --out \$scratch/l --overwrite --dtype bf16 $1 && sed -n 's/.*\"tokens\":\([0-9]*\),\"seconds\":\([0-9.e-]*\).*/\1 \2/p' \$scratch/l/metrics.jsonl | awk 'NR > 2 {t = \$1 - from; s += \$2} NR == 2 {from = \$1} END {printf \"%.0f tokens/s\\n\", t / s}' && rm -rf \$scratch/l"; }
for mode in "resident --batch-tokens 8192" "resident --batch-tokens 8192 --master-dtype bf16 --moments 8bit" "stream --batch-tokens 8192 --recompute block" "fused --batch-tokens 2048 --clip 0 --recompute block"; do
    part "learning 1B, ${mode%% --recompute*}" 120 "echo '$shape' >\$scratch/1b.json; for i in \$(seq 8); do printf '{\"text\": \"'; seq -s ' ' \$((i * 1000)) \$((i * 1000 + 399)) | tr -d '\\n'; echo '\"}'; done >\$scratch/long.jsonl; $(learn "--memory-mode $mode")"
done
part "lack of memory in one line" 30 "! run retort logits --model $teacher --tokens tests/golden/example/tokens.npy --out \$scratch/x.npy --device cuda --gpu-memory 1M 2>\$scratch/said; cat \$scratch/said; grep -q 'are needed' \$scratch/said"
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        part "$tool" 100 "compute-sanitizer --tool $tool --error-exitcode 9 --target-processes all \"\$loader\" --library-path \"\$bundle/lib:\$driver:\${blas:-/none}\" \$bundle/bin/retort logits --model $teacher --tokens tests/golden/example/tokens.npy --out \$scratch/s.npy --overwrite --device cuda"
    done
fi
part "speeds" 240 "run bench_device --device cuda >$out/speeds.jsonl"
part "a step of 25M beside two cores" 60 "run bench_step && RETORT_DEVICE=cpu run bench_step 2"
# Qwen3-8B's shape: 16 GB of random bf16 weights on this machine's disk, 5 GB as Q4_K_M
part "decoding 8B in Q4_K_M" 300 "mkdir -p \$scratch/8b && cp examples/reasoning/teacher/tokenizer*.json \$scratch/8b && sed -n '/^{\"model_type\": \"qwen3\"/,/^J\$/p' tests/big.sh | sed '\$d' >\$scratch/8b/config.json &&
    run test-tool random \$scratch/8b/config.json \$scratch/8b/model.safetensors && run retort quantize --model \$scratch/8b --type Q4_K_M --out \$scratch/8b.gguf &&
    rm -rf \$scratch/8b && run bench_generate \$scratch/8b.gguf 0 16 128"
command -v python3 >/dev/null && python3 -c 'import torch' 2>/dev/null && part "speeds of PyTorch" 240 "python3 tests/gpu/peer.py >$out/peer.jsonl"
{
    printf '{"device": "%s", "commit": "%s", "date": "%s",\n "parts": [%s],\n' "$describe" "$(cat "$bundle/commit")" "$(date -u +%FT%TZ)" "$(IFS=,; echo "${rows[*]}")"
    printf ' "speeds": [%s],\n' "$(paste -sd, "$out/speeds.jsonl" 2>/dev/null)"
    printf ' "peer": [%s]}\n' "$(paste -sd, "$out/peer.jsonl" 2>/dev/null)"
} >"$out/results.json"
python3 tests/gpu/table.py "$out/results.json" 2>/dev/null
exit $failed
