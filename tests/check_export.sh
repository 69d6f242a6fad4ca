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

# Beside a GGUF: a Modelfile and a card; not when they are not wanted, nor over what somebody else wrote.
grep -q '^FROM ./quick.gguf$' quick.Modelfile && grep -q '^PARAMETER stop "<|end|>"$' quick.Modelfile &&
    grep -q '^TEMPLATE """{{ range' quick.Modelfile || fail "quick.Modelfile: $(cat quick.Modelfile)"
grep -q 'KL to the source 0.0.* nats' quick.md && ! grep -q "$PWD" quick.md quick.Modelfile || fail "quick.md: $(cat quick.md)"
grep -q 'It was not tested' off.md || fail "off.md claims a test"
expect 0 '' quantize --model "$student" --type F16 --out alone.gguf --no-modelfile --no-card
absent alone.md && absent alone.Modelfile
echo 'my notes' >mine.md
expect 1 'mine.md: stands there already' quantize --model "$student" --type F16 --out mine.gguf
[ "$(cat mine.md)" = 'my notes' ] || fail 'notes were replaced'
absent mine.gguf
expect 1 'nowhere.jsonl' quantize --model "$student" --out no.gguf --test-text nowhere.jsonl
absent no.gguf && absent no.md && absent no.Modelfile
echo '{"messages":[{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"}]}' >text.jsonl
expect 0 '' quantize --model "$student" --type Q8_0 --out texts.gguf --test-text text.jsonl --json
[ "$("$tool" json out.txt self_test.texts)" = 28 ] || fail "28 texts tokenized: $(cat out.txt)"

# Provenance: what the source's card says stands in the file, and nothing that nobody said.
mkdir said && cp "$student"/* said/
printf -- '---\nlicense: apache-2.0\nbase_model:\n- Owner/Base-1B\n---\n# x\n' >said/README.md
expect 0 '' quantize --model said --type F16 --out said.gguf
for key in 'general.license' 'general.base_model.0.repo_url' 'https://huggingface.co/Owner/Base-1B'; do
    grep -qaF "$key" said.gguf || fail "said.gguf lacks $key"
done
grep -qaF general.license quick.gguf && fail "a licence that nobody stated"
grep -q '^license: apache-2.0$' said.md && grep -q '^base_model: Owner/Base-1B$' said.md || fail "said.md: $(head -6 said.md)"

# A template that retort cannot read is carried as it is, and said; a base model's end of text is not a chat's.
mkdir odd && cp "$student"/* odd/ && echo '{% include "other" %}' >odd/chat_template.jinja
prints 0 '' 'written as it is' quantize --model odd --type F16 --out odd.gguf
grep -qaF '{% include' odd.gguf && grep -q '^# no TEMPLATE: retort cannot read' odd.Modelfile || fail 'a template was lost'
mkdir base && cp "$student"/* base/ && sed -i 's/"eos_token": "<|end|>"/"eos_token": "<|pad|>"/' base/tokenizer_config.json
prints 0 '' 'ends answers with <.end.>, tokenizer_config.json says that <.pad.>' quantize --model base --type F16 --out base.gguf
grep -q 'stop "<|end|>"' base.Modelfile && grep -q 'stop "<|pad|>"' base.Modelfile || fail "base.Modelfile: $(cat base.Modelfile)"
expect 0 '' generate --model base.gguf --prompt 'Leo has 12 figs. Leo buys 30. How many now?' --max-tokens 64 --temperature 0

# Directories: retort runs the symmetric one, and its values are those of a GGUF of Q4_0; the others are read.
wide() { # DIR MODEL_TYPE ARCHITECTURE
    mkdir "$1" && cp "$student"/tokenizer*.json "$1"/
    cat >"$1/config.json" <<END
{"architectures": ["$3"], "model_type": "$2", "hidden_size": 128, "num_hidden_layers": 2, "vocab_size": 488,
 "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 192, "rms_norm_eps": 1e-5,
 "hidden_act": "silu", "tie_word_embeddings": false, "max_position_embeddings": 512, "rope_theta": 5000, "eos_token_id": 481}
END
    "$tool" random "$1/config.json" "$1/model.safetensors"
}
wide wide llama LlamaForCausalLM && wide biased qwen2 Qwen2ForCausalLM || fail 'models whose groups fill rows'
expect 0 '' quantize --model biased --format compressed-tensors --out biased.32
for format in compressed-tensors gptq awq; do
    for group in 32 64; do
        expect 0 '' quantize --model wide --format $format --group $group --out $format.$group --json
        [ "$("$tool" json out.txt self_test.rows)" -gt 50 ] || fail "$format: $(cat out.txt)"
        expect 0 '' verify $format.$group
    done
done
prints 0 '' 'nothing to do' quantize --model wide --format awq --group 64 --out awq.64
expect 1 'made by other settings' quantize --model wide --format gptq --out awq.64
expect 0 '' quantize --model wide --format gptq --out awq.64 --overwrite
grep -q awq old/awq.64/config.json && grep -q gptq awq.64/config.json || fail '--overwrite of a directory'
expect 1 'do not fill' quantize --model "$student" --format awq --out wrong
expect 2 "is a GGUF's" quantize --model wide --format gptq --type Q8_0 --out wrong
mkdir full && touch full/file
expect 1 'other files' quantize --model wide --format gptq --out full
ls -d wrong* full.tmp* 2>/dev/null | grep -q . && fail "left behind: $(ls)"

# Killed at any moment: nothing under the final name, or all of it.
for i in $(seq 0 19); do
    for what in "--model $student --type Q4_0 --out k.gguf --overwrite" "--model wide --format gptq --out k.dir"; do
        "$retort" -q quantize $what >/dev/null 2>&1 &
        sleep 0.0$((i % 10))$((i / 2))
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null
        for out in k.gguf k.dir; do
            [ ! -e $out ] || "$retort" -q verify $out >verify.txt 2>&1 || fail "kill $i left $out: $(head -2 verify.txt)"
        done
        rm -rf k.gguf k.dir
    done
done
expect 0 '' quantize --model wide --format gptq --out k.dir
[ "$(ls -d k.dir*)" = k.dir ] || fail "leftovers of killed runs stayed: $(ls -d k.dir*)"

# llama.cpp's base files: a model against its own has no KL, against a coarser one what --reference says.
for i in 1 2 3 4 5 6 7 8; do cat text.jsonl; done >texts.jsonl
expect 0 '' eval --model "$student" --archive texts.jsonl --kld-out s.kld --kld-window 32
expect 0 '' eval --model "$student" --kld-base s.kld --json
case $("$tool" json out.txt kl) in -*e-* | *e-* | 0 | 0.00000*) ;; *) fail "a model against itself: $(cat out.txt)" ;; esac
expect 0 '' eval --model quick.gguf --kld-base s.kld --json
"$tool" json out.txt perplexity_ratio_se >/dev/null || fail "no paired error: $(cat out.txt)"
expect 2 'two references' eval --model quick.gguf --kld-base s.kld --reference "$student" --archive text.jsonl
expect 1 'not one window' eval --model "$student" --archive text.jsonl --kld-out t.kld --kld-window 400
absent t.kld
head -c 900 s.kld >cut.kld
expect 1 'cut short' eval --model "$student" --kld-base cut.kld
exit $failed
