#!/bin/bash
# 200 flipped bits in what retort wrote, then the commands that read it: each is an error of one line,
# or the result is the one without the flip; a checkpoint falls back to the one before it.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 tool=$(dirname "$1")/test-tool golden=$PWD/tests/golden
rm -rf "$dir" && mkdir -p "$dir"
cd "$dir" || exit 1
ln -s "$retort" retort && ln -s "$golden" golden && retort=./retort golden=golden # without the tree's folder, which may hold a space
cat >config.json <<'E'
{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 1, "num_key_value_heads": 1,
 "intermediate_size": 4, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "tie_word_embeddings": true, "rope_theta": 10000.0}
E
printf '{"text":"aba caba"}\n{"text":"abacus and more"}\n' >d.jsonl
train="$retort -q train --config config.json --tokenizer $golden/tiny --data d.jsonl --loss hard --threads 1"
$train --out s --steps 4 && "$retort" -q quantize --model s --type Q8_0 --out s.gguf || exit 1

generate() { "$retort" -q generate --model "$1" --prompt aba --temperature 0 --max-tokens 8 --threads 1 >$2; }
eval_data() { "$retort" -q eval --model "$1" --archive d.jsonl --threads 1 --json >$2; }
quantize() { "$retort" -q quantize --model "$1" --type F16 --out $2.gguf && mv $2.gguf $2; }
learn() { "$retort" -q train --model "$1" --data d.jsonl --loss hard --steps 1 --threads 1 --out $2.d --overwrite &&
    cp $2.d/model.safetensors $2; }
for command in generate eval_data quantize learn; do $command s $command.s || exit 1; done
for command in generate eval_data; do $command s.gguf $command.s.gguf || exit 1; done

RANDOM=5 seen=0 harmless=0
flip_and_read() { # MODEL FILE COMMAND
    bit=$(((RANDOM * 32768 + RANDOM) % (8 * $(stat -c %s "$2"))))
    "$tool" flip "$2" $bit
    "$retort" -q verify "$1" >verify.txt 2>&1 && fail "verify did not see bit $bit of $2"
    if $3 "$1" got 2>err.txt; then
        cmp -s got $3.$1 || fail "$3: another result without a word: bit $bit of $2"
        harmless=$((harmless + 1))
    else
        [ "$(wc -l <err.txt)" = 1 ] || fail "$3, bit $bit of $2: $(cat err.txt)"
        seen=$((seen + 1))
    fi
    "$tool" flip "$2" $bit
}
files=(s/model.safetensors s/model.safetensors s/model.safetensors s/tokenizer.json s/config.json s/tokenizer_config.json
    s/generation_config.json s/retort.json)
for ((i = 0; i < 120; i++)); do
    commands=(generate eval_data quantize learn)
    flip_and_read s ${files[i % 8]} ${commands[i / 8 % 4]}
done
for ((i = 0; i < 80; i++)); do
    commands=(generate eval_data)
    flip_and_read s.gguf s.gguf ${commands[i % 2]}
done
[ $harmless -le 20 ] || fail "only $seen of 200 flips were seen"
echo "$seen of 200 flips were errors, $harmless in bytes that nothing reads"

# A run that was stopped, its last checkpoint damaged: the same bytes in the end.
$train --out clean --steps 60 --save-every 100 || fail "a clean run"
for ((try = 0; try < 20; try++)); do
    rm -rf cut
    $train --out cut --steps 60 --save-every 1 & pid=$!
    until [ -e cut/checkpoint-before.safetensors ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ -e cut/checkpoint-before.safetensors ] && [ -e cut/checkpoint.safetensors ] && break
done
for ((i = 0; i < 8; i++)); do
    rm -rf again && cp -r cut again
    bit=$(((RANDOM * 32768 + RANDOM) % (8 * $(stat -c %s again/checkpoint.safetensors))))
    "$tool" flip again/checkpoint.safetensors $bit
    $train --out again --steps 60 --save-every 20 2>err.txt || fail "bit $bit of the last checkpoint: $(cat err.txt)"
    cmp -s again/model.safetensors clean/model.safetensors || fail "bit $bit of the last checkpoint: other bytes"
done
rm -rf again && cp -r cut again
for f in again/checkpoint*; do "$tool" flip $f 5000; done
$train --out again --steps 60 2>err.txt && fail "two damaged checkpoints went unnoticed"
grep -q 'no checkpoint in it is whole.*delete' err.txt && [ "$(wc -l <err.txt)" = 1 ] ||
    fail "two damaged checkpoints: $(cat err.txt)"
exit $failed
