#!/bin/bash
# A GGUF wherever a model directory is taken: teacher, base of a student, its tokenizer, source of
# quantization, and every command that reads a model. What comes out is what the directory gives.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
golden=$PWD/tests/golden/student
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

run() {
    "$retort" "$@" >out.txt 2>err.txt && return
    fail "retort $*: $(tail -1 err.txt)"
}

cp -r "$golden" model && chmod -R u+w model
run quantize -q --model model --type F32 --out model.gguf

# Every type from the file is the bytes that the directory gives; a file quantized already is said.
types=$("$retort" quantize --help | grep -oE 'F32[A-Z0-9_|]*')
[ -n "$types" ] || fail 'no types in the help'
for type in ${types//|/ }; do
    run quantize -q --model model --type $type --out a.gguf
    run quantize -q --model model.gguf --type $type --out b.gguf
    same a.gguf b.gguf
done
run quantize --model model --type Q8_0 --out q8.gguf
run quantize --model q8.gguf --type Q4_0 --out q4.gguf
grep -q 'quantized already' err.txt || fail 'a second quantization went unsaid'

# One description, one vocabulary, one template.
for what in model model.gguf; do
    run logits -q --model $what --tokens "$golden/tokens.npy" --out $what.npy
    printf 'What is 3 + 4?\nnaïve\t<|im_start|>' >in.txt
    "$retort" tokenize --model $what --special <in.txt >$what.ids || fail "tokenize $what"
    echo '[{"role":"user","content":"What is 3 + 4?"}]' >m.json
    "$retort" render --model $what --messages m.json --add-generation-prompt >$what.text || fail "render $what"
    "$retort" generate -q --model $what --prompt 'What is 3 + 4?' --temperature 0 --max-tokens 20 >$what.said ||
        fail "generate $what"
    "$retort" inspect $what | grep -E 'fingerprint|template ' >$what.who || fail "inspect $what"
    echo '{"prompt":"What is 3 + 4?","response":"7","answer":"7"}' >d.jsonl
    run eval -q --model $what --archive d.jsonl --problems d.jsonl --max-tokens 20 --verify number --out $what.json
    run sample -q --teacher $what --prompts d.jsonl --max-tokens 20 --out $what.traces
    run score -q --teacher $what --data d.jsonl --out $what.scored
    run train -q --model $what --data d.jsonl --loss hard --steps 2 --out $what.trained
    run train -q --config model/config.json --tokenizer $what --data d.jsonl --loss hard --steps 1 --out $what.fresh
    run train -q --model $what --data model.traces --steps 1 --verdicts correct,wrong,unverified,unfinished --out $what.distilled
done
# Another file under the same name is another teacher, also where its weights are not read.
cp model.gguf swap.gguf
run sample -q --teacher swap.gguf --prompts d.jsonl --max-tokens 4 --out swap.traces --no-identity
run sample -q --teacher swap.gguf --prompts d.jsonl --max-tokens 4 --out swap.traces --no-identity --samples 2
cp q8.gguf swap.gguf
"$retort" sample -q --teacher swap.gguf --prompts d.jsonl --max-tokens 4 --out swap.traces --no-identity --samples 3 \
    >out.txt 2>err.txt && fail "another GGUF went on with an archive"
grep -q 'another teacher config hash' err.txt || fail "another GGUF: $(cat err.txt)"
# An answer that is cut ends its line before the note.
"$retort" generate --model model.gguf --prompt 'What is 3 + 4?' --temperature 0 --max-tokens 2 >both 2>&1
grep -qE '^2 tokens, .*cut at --max-tokens' both || fail "the note is glued to the answer: $(cat both)"
for x in npy ids text said who; do
    same model.$x model.gguf.$x
done
for x in trained fresh distilled; do
    same model.$x/model.safetensors model.gguf.$x/model.safetensors
done

# A student that began with a file is a directory like any other: the same vocabulary and template.
for dir in model.gguf.trained model.gguf.fresh; do
    for file in config.json generation_config.json tokenizer.json tokenizer_config.json; do
        [ -f $dir/$file ] || fail "$dir has no $file"
    done
    "$retort" inspect $dir | grep -E 'fingerprint|template ' >who || fail "inspect $dir"
    same who model.who
    "$retort" tokenize --model $dir --special <in.txt >ids || fail "tokenize $dir"
    same ids model.ids
done
# Keys that no table knows are named, once; null, false and empty ones say nothing.
cp -r model odd
sed -i 's/"hidden_act"/"attention_multiplier": 0.5, "odd_part": null, "off": false, "hidden_act"/' odd/config.json
"$retort" inspect odd >/dev/null 2>err.txt || fail 'inspect odd'
grep -q 'does not know and does not use: attention_multiplier:' err.txt || fail "unknown keys: $(cat err.txt)"
run train -q --model model.gguf --data d.jsonl --loss hard --steps 1 --learning-rate 0 --weight-decay 0 --out kept
run logits -q --model kept --tokens "$golden/tokens.npy" --out kept.npy
same kept.npy model.npy
exit $failed
