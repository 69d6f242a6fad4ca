#!/bin/sh
# four-bits.sh MODEL CALIBRATION HELDOUT: how close is a file of few bits to the model it was made of? One table: the same bytes,
# codes chosen in several ways, measured on held-out text: KL of the file to the model (nats a token), tokens whose most probable
# continuation is the same, perplexity; the last rows measure against the archive's teacher, beside the model trained the same steps on.
#   search      every block by itself              importance  the same, weighted by the inputs over the calibration texts
#   ggml        llama.cpp's choice, with that importance matrix
#   compensate  errors carried into later columns  qat         then trained: the codes that bring the model's own logits back
#   qat-teacher, control    trained on the archive's targets: the file's codes; the model itself
# MODEL is a Hugging Face directory or a GGUF; both texts are archives or JSONL (qat-teacher wants soft targets). TYPE (Q4_K_M), STEPS
# (300), RATE (3e-6), BATCH (5400 tokens), TOKENS of calibration (32768), THREADS and OUT (out/four-bits) come from the environment.
# Run again, what is finished is not repeated.
set -eu
[ $# = 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
export LC_ALL=C
model=$1 texts=$2 held=$3 type=${TYPE:-Q4_K_M} steps=${STEPS:-300} rate=${RATE:-3e-6} batch=${BATCH:-5400}
retort=${RETORT:-build/retort} threads=${THREADS:-0} out=${OUT:-out/four-bits}/$(basename "$model")-$type
length=${LENGTH:-512} tokens=${TOKENS:-32768}
mkdir -p "$out"

encode() { # NAME flags of quantize...
    name=$1
    shift
    [ -e "$out/$name.gguf" ] ||
        $retort -q quantize --model "$model" --type "$type" --threads "$threads" --out "$out/$name.gguf" "$@"
}
learn() { # NAME flags of train...
    name=$1
    shift
    $retort -q train --model "$model" --out "$out/$name" --steps "$steps" --learning-rate "$rate" --warmup $((steps / 15)) \
        --weight-decay 0 --batch-tokens "$batch" --pass-tokens 2048 --max-length "$length" --threads "$threads" "$@"
}
measure() { # NAME MODEL
    [ -e "$out/$1.json" ] ||
        $retort -q eval --model "$2" --reference "$model" --archive "$held" --max-length "$length" --threads "$threads" \
            --out "$out/$1.json" >/dev/null
}
calibrated="--archive $texts --calibration-tokens $tokens"
encode search
encode importance --method search $calibrated
encode ggml --method ggml $calibrated
encode compensate $calibrated
learn qat --quantized "$out/compensate.gguf" --loss reference --reference "$model" --data "$texts"
for name in search importance ggml compensate; do measure $name "$out/$name.gguf"; done
measure qat "$out/qat/model.gguf"
rows="search importance ggml compensate qat"
if $retort archive stats "$texts" --json >/dev/null 2>&1; then
    learn qat-teacher --quantized "$out/compensate.gguf" --loss forward --data "$texts"
    learn control --loss forward --data "$texts"
    measure model "$model"
    measure qat-teacher "$out/qat-teacher/model.gguf"
    measure control "$out/control"
    rows="$rows qat-teacher control model"
fi

field() { sed -n "s/^ *\"$1\":[[:space:]]*\([-0-9.e]*\),*\$/\1/p" "$2" | head -n 1; }
printf '%-14s %12s %14s %10s %12s %16s\n' "$type" bytes 'KL to model' 'same top' perplexity 'KL to teacher'
for name in $rows; do
    f=$out/$name.json
    printf '%-14s %12s %14.7f %9.2f%% %12.5f %16s\n' "$name" "$(field bytes "$f")" "$(field kl "$f")" \
        "$(awk -v a="$(field agreement "$f")" 'BEGIN { print 100 * a }')" "$(field perplexity "$f")" "$(field kl_archive "$f")"
done
