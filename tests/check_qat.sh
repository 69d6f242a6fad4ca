#!/bin/bash
# train --quantized as a user meets it: the first step sees exactly the file, what is learned is what is
# written, a run that was stopped ends with the same bytes, and what cannot be is one line.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 scratch=$2 tool=$(dirname "$1")/test-tool student=$PWD/tests/golden/student
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

for i in 1 2 3 4 5 6 7 8; do echo "{\"prompt\":\"$i+$i?\",\"response\":\"$((i + i)), for $i and $i are so many\"}"; done >texts.jsonl
quick="--data texts.jsonl --batch-tokens 100 --pass-tokens 100 --max-length 256 --warmup 0 --weight-decay 0"

# llama's rows of queries and keys stand in another order in GGUF; qwen2 has biases; rows of 96 have blocks of
# 32 alone; vectors and a few plain matrices are learned beside blocks
for family in llama qwen2; do
    cat >$family.json <<J
{"model_type":"$family","num_hidden_layers":2,"hidden_size":96,"num_attention_heads":6,"num_key_value_heads":3,"head_dim":16,
"intermediate_size":256,"rms_norm_eps":1e-5,"rope_theta":10000,"max_position_embeddings":256,"tie_word_embeddings":true}
J
    expect 0 '' train --config $family.json --tokenizer "$student" --loss hard --steps 30 --learning-rate 3e-3 $quick --out $family
    for type in Q4_0 Q4_K_M Q5_K_M Q6_K Q8_0; do
        expect 0 '' quantize --model $family --type $type --out $family-$type.gguf
        expect 0 '' train --model $family --quantized $family-$type.gguf --loss hard --steps 1 --learning-rate 0 $quick --out same --overwrite
        cmp $family-$type.gguf same/model.gguf || fail "$family $type: nothing was learned, and the file is another"
    done
    "$retort" -q eval --model $family-Q4_0.gguf --archive texts.jsonl --json >before.json
    expect 0 '' train --model $family --quantized $family-Q4_0.gguf --loss hard --steps 20 --learning-rate 3e-4 $quick --out $family-tuned
    "$retort" -q eval --model $family-tuned/model.gguf --archive texts.jsonl --json >after.json
    awk -v a="$("$tool" json before.json cross_entropy)" -v b="$("$tool" json after.json cross_entropy)" \
        'BEGIN { exit !(b < 0.9 * a) }' || fail "$family: $(cat before.json after.json)"
    # the directory beside is what the file decodes to
    echo '1+1?' | "$retort" tokenize --model $family | tr -d '[] ' | tr , ' ' >ids.txt
    for form in $family-tuned $family-tuned/model.gguf; do
        "$retort" -q eval --model $form --archive texts.jsonl --json | sed 's/"model":[^,]*,//; s/"bytes":[^,]*,//; s/"teacher_tokens":[^,]*,//' >$(basename $form).json
    done
    cmp $family-tuned.json model.gguf.json || fail "$family: the directory and its GGUF differ"
done

# stopped in the middle, and gone on with
long="--model llama --loss hard --steps 120 --learning-rate 3e-4 --ema 0.5 $quick --save-every 2"
expect 0 '' train $long --quantized llama-Q4_0.gguf --out whole
"$retort" -q train $long --quantized llama-Q4_0.gguf --out parts &
for _ in $(seq 2000); do ls parts/*checkpoint* >list.txt 2>/dev/null && break; sleep 0.005; done
kill -9 $!
wait $! 2>/dev/null
[ -e parts/model.gguf ] && fail 'a file stands under its name before it is whole'
expect 0 '' train $long --quantized llama-Q4_0.gguf --out parts
cmp whole/model.gguf parts/model.gguf || fail 'a run that was killed ends elsewhere'
expect 1 'other settings' train $long --quantized llama-Q8_0.gguf --out parts

expect 1 'a model of 2 layers, width 96' train --model "$student" --quantized llama-Q4_0.gguf --loss hard $quick --out none
expect 1 'not a GGUF' train --model llama --quantized llama --loss hard $quick --out none
expect 0 '' quantize --model llama --type F16 --out f16.gguf
expect 1 'nothing of it is quantized' train --model llama --quantized f16.gguf --loss hard $quick --out none
expect 2 'without --config, --lora-rank' train --model llama --quantized llama-Q4_0.gguf --lora-rank 4 --loss hard $quick --out none
expect 2 'memory-mode resident' train --model llama --quantized llama-Q4_0.gguf --memory-mode stream --loss hard $quick --out none
[ -e none ] && fail 'a refused run left its folder'
exit $failed
