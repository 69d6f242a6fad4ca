#!/bin/bash
# retort tokenize and retort tokenizer as a user meets them.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
golden=$PWD/tests/golden/tokenizers
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

# expect CODE STDOUT STDERR-REGEX arguments...; stdin is in.txt
expect() {
    local code=$1 out=$2 err=$3 got
    shift 3
    "$retort" "$@" <in.txt >out.txt 2>err.txt
    got=$?
    if [ $got != "$code" ] || [ "$(cat out.txt)" != "$out" ] || ! grep -qE -- "$err" err.txt; then
        [ "$got" = "$code" ] && [ -z "$err" ] && [ "$(cat out.txt)" = "$out" ] && return
        echo "retort $*: exit $got, expected $code"
        sed 's/^/  stdout: /' out.txt | head -5
        sed 's/^/  stderr: /' err.txt | head -5
        failed=1
    fi
}
# same FILE FILE
same() { cmp "$1" "$2" || failed=1; }

# Every line comes back, whatever it holds: empty lines, CR, special spellings, bytes that are no UTF-8.
printf 'one two\n\n  \r\n<|endoftext|>x\n\xff\xc3(\xe4\xb8\xad\n\xef\xbb\xbfbom' >in.txt
for model in gpt-2 deepseek-v3 kimi-k2; do
    "$retort" tokenize --model "$golden/$model" --special <in.txt >ids.txt || failed=1
    [ "$(wc -l <ids.txt)" = 6 ] || { echo "$model: $(wc -l <ids.txt) lines of ids"; failed=1; }
    "$retort" tokenize --model "$golden/$model" --decode <ids.txt >back.txt || failed=1
    { cat in.txt; echo; } >want.txt
    same back.txt want.txt
done

printf 'hi<|im_end|>' >in.txt
ids=$("$retort" tokenize --model "$golden/qwen2" --special <in.txt)
expect 0 "$ids" '' tokenize --model "$golden/qwen2.gguf" --special
expect 0 "$ids" '' tokenize --model "$golden/qwen2/tokenizer.json" --special --whole
plain=$("$retort" tokenize --model "$golden/qwen2" <in.txt)
[ "$ids" != "$plain" ] || { echo "special tokens were parsed without --special"; failed=1; }
echo "$ids" >in.txt
expect 0 'hi' '' tokenize --model "$golden/qwen2" --decode --skip-special
echo '[1,"x"]' >in.txt
expect 1 '' 'stdin:1: not a JSON array of token ids' tokenize --model "$golden/qwen2" --decode
echo '[99999]' >in.txt
expect 1 '' '99999 is outside the vocabulary of 565' tokenize --model "$golden/qwen2" --decode
expect 1 '' 'nowhere' tokenize --model nowhere
expect 2 '' '--model' tokenize

# Learning: the same bytes out of a file, an archive and a directory; readable as any other tokenizer.
flags=(--vocab 420 --special '<|endoftext|>' --special '<|im_start|>' --special '<|im_end|>' --added '<think>'
    --added '</think>' --eos '<|im_end|>' --pad '<|endoftext|>')
mkdir dir && cp "$golden/seed.jsonl" dir/ && gzip -c dir/seed.jsonl >seed.jsonl.gz
for in in "$golden/seed.jsonl" seed.jsonl.gz dir; do
    expect 0 '' '16 records' tokenizer --in "$in" --out made --overwrite "${flags[@]}"
    same made/tokenizer.json "$golden/trained/tokenizer.json"
    same made/tokenizer_config.json "$golden/trained/tokenizer_config.json"
done
echo "{{ messages[0]['content'] }}" >template.jinja
expect 0 '' 'chat template without --eos' tokenizer --in dir --vocab 260 --out endless --chat-template template.jinja
expect 2 '' 'missing --in PATH' tokenizer --out made
expect 2 '' 'qwen7.*unknown' tokenizer --in dir --out made --pre qwen7
expect 2 '' 'token <x> is not among' tokenizer --in dir --out made --eos '<x>'
echo '{"nothing":1}' >bad.jsonl
expect 1 '' 'bad.jsonl:1: none of prompt' tokenizer --in bad.jsonl --out other
[ ! -e other ] || { echo "a failed run left other/"; failed=1; }
exit $failed
