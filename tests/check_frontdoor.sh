#!/bin/bash
# The front door as a user meets it: what goes to stdout, what to stderr, and the exit codes.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
examples=$PWD/examples/reasoning
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

# expect CODE STDOUT-REGEX STDERR-REGEX arguments...; an empty regex means "nothing at all".
expect() { prints "$@"; }

expect 0 '^retort [0-9]+\.[0-9]+\.[0-9]+$' '' --version
expect 0 '^  doctor ' '' help
expect 0 '^  doctor ' '' --help
expect 0 '^usage: retort doctor' '' help doctor
expect 0 '^usage: retort doctor' '' doctor --help
expect 0 '^usage: retort doctor' '' doctor -h
expect 2 '' '^usage: retort COMMAND'
expect 2 '' '^retort: unknown command "docter"; did you mean doctor\?' docter
expect 2 '' '^retort: unknown command "qqqq" \(retort help' qqqq
expect 2 '' '^retort: unknown flag --recipe; the command comes first: retort COMMAND --recipe' --recipe x doctor
expect 2 '' '^retort: unknown command "docter"' help docter
expect 2 '' '^retort doctor: unknown flag --jsn; did you mean --json\?' doctor --jsn
expect 2 '' '^retort doctor: unexpected word "more"; values follow their flag; e.g. retort doctor' doctor more
expect 2 '' '^retort doctor: --section needs --recipe' doctor --section x
expect 2 '' '^retort doctor: --recipe needs a value' doctor --recipe
# what other programs call it
expect 2 '' 'unknown command "chat"; did you mean generate --chat\?' chat
expect 2 '' 'unknown command "evaluate"; did you mean eval\?' evaluate
expect 2 '' 'unknown command "distill"; did you mean run \(the whole chain\) or train\?' distill
expect 2 '' 'unknown command "convert"; did you mean quantize' convert
expect 2 '' 'unknown command "export"; did you mean quantize' help export
expect 2 '' 'unknown command "download"; retort fetches nothing' download
expect 2 '' 'unknown command "Fine_Tune"; did you mean train\?' Fine_Tune
expect 2 '' '^retort train: unknown flag --lr; did you mean --learning-rate\?' train --lr 1
expect 2 '' 'unknown flag --batch-size; did you mean --batch-tokens \(counted in tokens\)\?' train --batch-size 8
expect 2 '' 'unknown flag --batch-size; did you mean --batch\?' sample --batch-size 8
expect 2 '' 'unknown flag --max_new_tokens; did you mean --max-tokens\?' generate --max_new_tokens 8
# everything that is missing, at once, with a line to go by
expect 2 '' '^retort train: missing --out DIR: give it here .*; e.g. retort train --model' train
expect 2 '' '^retort sample: missing --prompts FILE, --teacher DIR\|GGUF, --out A.traces:' sample
expect 2 '' '^retort run: missing RECIPE.json: ' run
expect 2 '' '^retort generate: missing --model' generate
# an unset shell variable is no path, in no command
for command in $("$retort" help | sed -n 's/^  \([a-z]*\)  .*/\1/p' | grep -v help); do
    for flag in $("$retort" help "$command" | sed -nE 's/^  --([a-z-]+) (DIR|FILE|PATH|[A-Z]+\.[a-z]+|DIR\|GGUF|FILE\|A.traces).*/\1/p'); do
        expect 2 '' "^retort $command: --$flag: is empty" "$command" "--$flag" ''
        expect 2 '' "^retort $command: --$flag: is empty" "$command" "--$flag="
    done
done
expect 2 '' 'RECIPE.json: is empty' run ''
expect 2 '' '^note: --rows is given twice; the last one counts' archive --rows 1 --rows 2
# help says what there is: no flag that is refused, no usage with six dots
for command in '' $("$retort" help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
    "$retort" help $command >out.txt
    grep -nE -- '\.{4}|[ [(]-v\b' out.txt && { echo "help $command"; failed=1; }
    [ "$command" = help ] || [ -z "$command" ] || grep -q '^example:$' out.txt || { echo "help $command: no example"; failed=1; }
done
"$retort" help archive | grep -qF 'usage: retort archive [VERB ARCHIVE...] [flags]' || { echo 'usage of archive'; failed=1; }
"$retort" help train | grep -qF 'usage: retort train --out DIR [flags]' || { echo 'usage of train'; failed=1; }

expect 0 '^memory +total ' '' doctor
expect 0 '^memory +total ' '' -q doctor --quiet
expect 0 '"memory":\{"total_bytes":[0-9]+,' '' doctor --json
[ "$(wc -l <out.txt)" = 1 ] || { echo "doctor --json is not one line"; failed=1; }

# Recipes: a section by name, provenance, comments, mistakes with the nearest name.
echo '{"//":"mine","doctor":{"json":true,"// why":"scripts"},"look":{"json":true},"bad":{"jsn":1}}' >r.json
expect 0 '^\{"retort"' '' doctor --recipe r.json
expect 0 '^retort ' '' doctor --recipe=r.json --no-json
expect 0 '^\{"retort"' '' doctor --recipe r.json --section look
expect 0 '"//": "not default: json \(recipe\)"' '' doctor --recipe r.json --print-recipe
expect 0 '"//": "not default: json \(flag\)"' '' doctor --recipe r.json --no-json --print-recipe
expect 0 '"//": "all defaults"' '' doctor --print-recipe
cp out.txt printed.json
expect 0 '^retort ' '' doctor --recipe printed.json
expect 2 '' 'unknown key "jsn"; did you mean json\?' doctor --recipe r.json --section bad
expect 2 '' 'r.json: has no section "lok"; did you mean look\? \(--section' doctor --recipe r.json --section lok
echo '{"one":{"command":"tokenize","model":"{recipe}/m"},"two":{"command":"train","data":["a","{out}/b"]}}' >stages.json
expect 0 '"model": "\{recipe\}/m"' '' tokenize --recipe stages.json --section one --print-recipe
expect 2 '' 'section "one" is for the command "tokenize", not for train' train --recipe stages.json --section one
expect 2 '' '"model" of the recipe is \{recipe\}/m: only "retort run" knows' tokenize --recipe stages.json --section one
expect 2 '' '"data" of the recipe is \{out\}/b: .*; give --data' train --recipe stages.json --section two --out x
expect 1 '' 'nowhere' tokenize --recipe stages.json --section one --model nowhere
expect 1 '' '^retort doctor: none.json: cannot open: No such file' doctor --recipe none.json
printf '{"doctor":{},}' >torn.json
expect 1 '' '^retort doctor: torn.json:1:[0-9]+: malformed JSON' doctor --recipe torn.json

# Every option table of every command is sound; help of every command exists and prints nothing else.
expect 0 '^doctor: ' '' help --check-tables
for command in $("$retort" help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
    [ "$command" = help ] && continue
    expect 0 "^usage: retort $command" '' "$command" --help
    expect 0 "^  \"$command\": \{" '' "$command" --print-recipe
done

# a quiet run: nothing for people, and no table of a stage on stdout
echo '{"prompt": "Jon has 83 cards. Kim has 44 fewer. How many together?", "answer": "122"}' >p.jsonl
echo '{"run":{"out":"quiet"},"traces":{"command":"sample","teacher":"'"$examples"'/teacher","prompts":"p.jsonl",
       "out":"{out}/a.traces","max_tokens":4}}' >quiet.json
expect 0 '' '' -q run quiet.json
[ -s quiet/a.traces/manifest.json ] || { echo 'run -q wrote nothing'; failed=1; }

# One kind of thing where another belongs, and what is seldom meant: said by name.
model=$examples/teacher archive=quiet/a.traces shard=quiet/a.traces/shard-00000.npz gguf=m.gguf
echo '{"model_type":"llama","num_hidden_layers":1,"hidden_size":32,"num_attention_heads":2,"num_key_value_heads":1,"intermediate_size":32,
       "rms_norm_eps":1e-6,"max_position_embeddings":512}' >small.json
echo '{"prompt":"1+1?","response":"2","answer":"2"}' >pair.jsonl
expect 0 '' '^note: --warmup 50: the learning rate is still rising' train --config small.json --tokenizer "$model" --data pair.jsonl --loss hard --steps 2 --out s
expect 0 '' 'pair.jsonl is --data and --eval-data: nothing is held out' train --config small.json --tokenizer "$model" --data pair.jsonl \
    --eval-data ./pair.jsonl --loss hard --steps 2 --out s2
expect 0 '' 'm.gguf: ' quantize --model s --type F16 --out m.gguf
expect 1 '' 'is a trace archive, not a model' sample --teacher "$archive" --prompts p.jsonl --out x.traces
expect 1 '' 'is a .npz .a shard of an archive.*, not a model' sample --teacher "$shard" --prompts p.jsonl --out x.traces
expect 1 '' 'is a .safetensors file, weights alone, not a model' inspect s/model.safetensors
expect 1 '' 'is a trace archive, not a model' quantize --model "$archive" --type F16 --out x.gguf
expect 1 '' 'is a trace archive, not a model' eval --model "$archive" --problems p.jsonl
expect 1 '' 'is a GGUF, not a trace archive' archive stats "$gguf"
expect 1 '' 'is a model directory, not a trace archive' archive stats "$model"
expect 1 '' 'is a trace archive, not records or text' sample --teacher "$model" --prompts "$archive" --out x.traces
expect 1 '' 'is a model directory, not records or text' train --model "$model" --data "$model" --loss hard --out x
expect 1 '' 'is a GGUF, not records or text' train --model "$model" --data "$gguf" --loss hard --out x
mkdir records && cp pair.jsonl records/ && echo '{"text": "a manifest of somebody else"}' >records/manifest.json
expect 0 'not compared|samples' '' -q score --teacher "$model" --data records/pair.jsonl --out r1.traces
expect 1 '' 'records/manifest.json' eval --model s --problems records # read as records, not taken for an archive
ln -s loop loop
expect 1 '' 'loop: Too many levels of symbolic links' inspect loop
mkdir bare
expect 1 '' 'bare: no NAME.traces in it' archive list bare
expect 2 '' '^retort archive: --out -: is no name for standard output' archive export "$archive" --out -
expect 2 '' 'is not UTF-8 at byte 4' eval --model "out/"$'\xe9' --problems p.jsonl
printf '{"prompt":"a","answer":"1"}\n{"prompt":"b" "answer"}\n' >two.jsonl
expect 1 '' 'two.jsonl:2:[0-9]+: malformed JSON' eval --model s --problems two.jsonl
printf '{"prompt":"a","answer":1e999}\n' >big.jsonl
expect 1 '' 'big.jsonl:1: key "answer": a number is too large' eval --model s --problems big.jsonl
printf '{"prompt":"","answer":"1"}\n' >none.jsonl
expect 1 '' 'none.jsonl:1: prompt is empty' eval --model s --problems none.jsonl
printf '{"prompt":"a","answer":""}\n' >none.jsonl
expect 1 '' 'none.jsonl:1: answer is empty' eval --model s --problems none.jsonl
printf '{"prompt":"a","verify":"foo"}\n' >none.jsonl
expect 2 '' '"foo" is unknown' sample --teacher s --prompts none.jsonl --out x.traces
printf '{"prompt":"a","answr":"1"}\n' >none.jsonl
expect 0 'not compared' 'so none is judged; keys that are not read: answr' sample --teacher s --prompts none.jsonl --max-tokens 4 --out typo.traces
expect 1 '' '--group level: no problem has that key' eval --model s --problems p.jsonl --group level
sed 's/"answer"/"verify":"boxed","answer"/' p.jsonl >v.jsonl
expect 0 '^correct  *1 ' '' -q sample --teacher "$model" --prompts v.jsonl --max-tokens 160 --out turn.traces
expect 0 'all 1 samples' 'turn.traces: judged anew' sample --teacher "$model" --prompts v.jsonl --max-tokens 160 --verify none --out turn.traces
expect 1 's: whole' '1 of 2 paths could not be verified' verify nowhere s
expect 0 's/model.safetensors: whole' '' verify s m.gguf

# stdout was really written: a full disk, a closed descriptor, a reader that left.
if [ -e /dev/full ]; then
    "$retort" help >/dev/full 2>err.txt
    [ $? = 1 ] && grep -q '^retort: stdout: could not be written: No space left' err.txt ||
        { echo "a full disk goes unnoticed"; failed=1; }
    "$retort" doctor >/dev/full 2>err.txt
    [ $? = 1 ] && grep -q '^retort doctor: stdout' err.txt || { echo "a full disk goes unnoticed"; failed=1; }
fi
"$retort" doctor >&- 2>err.txt
[ $? = 1 ] && grep -q 'stdout: could not be written' err.txt || { echo "closed stdout goes unnoticed"; failed=1; }
"$retort" doctor </dev/null 2>&- >out.txt || { echo "closed stderr breaks the command"; failed=1; }

exit $failed
