#!/bin/bash
# What a command may write where: never over an input or what somebody else made, whatever the spelling;
# nothing finished is lost; damage is seen by `verify` and by every command that reads it.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 tool=$(dirname "$1")/test-tool golden=$PWD/tests/golden reasoning=$PWD/examples/reasoning/teacher
rm -rf "$dir" && mkdir -p "$dir"
cd "$dir" || exit 1
ln -s "$retort" retort && retort=./retort # without the tree's folder, which may hold a space
expect() { # EXIT PATTERN command...
    want=$1 pattern=$2
    shift 2
    "$@" >out.txt 2>err.txt </dev/null
    got=$?
    [ $got = "$want" ] || fail "exit $got instead of $want: $* ($(head -c 300 err.txt))"
    [ "$want" = 0 ] || [ "$(wc -l <err.txt)" = 1 ] || fail "not one line: $*: $(cat err.txt)"
    [ -z "$pattern" ] || grep -q -e "$pattern" err.txt || fail "no \"$pattern\" from $*: $(cat err.txt)"
}
sum() { (cd "$1" && find . -type f ! -name lock ! -name metrics.jsonl ! -name 'events.out.*' | sort | xargs sha256sum); }

cat >config.json <<'E'
{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 1, "num_key_value_heads": 1,
 "intermediate_size": 4, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "tie_word_embeddings": true, "rope_theta": 10000.0}
E
printf '{"text":"aba caba"}\n{"text":"abacus and more"}\n' >d.jsonl
printf '{"prompt":"aba","answer":"1"}\n' >p.jsonl
train() { # OUT [flags...]
    out=$1
    shift
    "$retort" -q train --config config.json --tokenizer "$golden/tiny" --data d.jsonl --loss hard --out "$out" \
        --steps 4 --threads 1 "$@"
}
train s || fail "a student"
train other --seed 7 || fail "another student"
cp "$golden/models/qwen3/tokens.npy" t.npy

# an output is no input, nor in one, nor around one
sum s >before
ln -s s link && ln s/model.safetensors hard.gguf && ln -s "$PWD/s/config.json" config.link
quantize="$retort -q quantize --type F16 --model s"
expect 2 'lies inside s' $quantize --out s/model.safetensors
expect 2 'lies inside' $quantize --out ./link/../s//new.gguf
expect 2 'is the same as' $quantize --out link
expect 2 'is the same as' $quantize --out s/
expect 2 'holds' $quantize --out .
expect 2 'is the same as' "$retort" -q quantize --type F16 --model other --importance hard.gguf --out s/model.safetensors
expect 2 'is the same as' "$retort" -q eval --model s --problems p.jsonl --out ./p.jsonl
expect 2 'lies inside' "$retort" -q eval --model s --problems p.jsonl --out s/config.json
expect 2 'is the same as' "$retort" -q logits --model s --tokens t.npy --out t.npy
expect 2 'is also written' "$retort" -q logits --model s --tokens t.npy --out l.npy --experts ./l.npy
expect 2 'is the same as' "$retort" -q train --model s --data d.jsonl --loss hard --out s --steps 2
expect 2 'is the same as' "$retort" -q train --model s --data d.jsonl --loss hard --out link --steps 2
expect 2 'holds' "$retort" -q train --config other/config.json --tokenizer "$golden/tiny" --data d.jsonl --loss hard --out other
expect 2 'lies inside' "$retort" -q sample --teacher s --prompts p.jsonl --out s/a.traces
expect 2 'is the same as' "$retort" -q tokenizer --in d.jsonl --out d.jsonl
expect 2 'lies inside' "$retort" -q eval --model s --problems p.jsonl --out "$PWD/config.link"
sum s | cmp -s before - || fail "an input was changed"

# files: of their kind and retort's, or --overwrite
echo mine >mine.txt && cp mine.txt keep.txt && cp "$golden/keys.gguf" foreign.gguf
expect 1 'is not a GGUF that retort wrote' $quantize --out mine.txt
expect 1 'is not a GGUF that retort wrote' $quantize --out foreign.gguf
expect 1 'is not a report' "$retort" -q eval --model s --problems p.jsonl --max-tokens 4 --out mine.txt
expect 1 'is not a report' "$retort" -q eval --model s --problems p.jsonl --max-tokens 4 --out config.json
expect 1 'is not a .npy' "$retort" -q logits --model s --tokens t.npy --out mine.txt
cmp -s mine.txt keep.txt && cmp -s foreign.gguf "$golden/keys.gguf" || fail "a file of somebody's was replaced"
expect 0 '' $quantize --out made/on/the/way/s.gguf
expect 0 '' $quantize --out made/on/the/way/s.gguf
expect 0 '' $quantize --out foreign.gguf --overwrite
cp made/on/the/way/s.gguf edited.gguf && head -c 32 /dev/zero >>edited.gguf && cp edited.gguf keep.gguf # ours once
expect 1 'is not a GGUF that retort wrote' $quantize --out edited.gguf
cmp -s edited.gguf keep.gguf || fail "a GGUF that another program wrote anew was replaced"
: >empty.gguf
expect 0 '' $quantize --out empty.gguf
# one of ours that says something else goes to old/ beside it; the same bytes stay; --overwrite replaces
[ ! -e made/on/the/way/old ] || fail "the same GGUF was moved aside"
cp made/on/the/way/s.gguf keep.gguf
expect 0 '' "$retort" -q quantize --type Q8_0 --model s --out made/on/the/way/s.gguf
cmp -s keep.gguf made/on/the/way/old/s.gguf || fail "another GGUF of ours was replaced"
expect 0 '' $quantize --out made/on/the/way/s.gguf --overwrite
[ "$(ls -A made/on/the/way | tr "\n" " ")" = "old s.Modelfile s.gguf s.md " ] && cmp -s keep.gguf made/on/the/way/s.gguf || fail "--overwrite of a GGUF"
expect 0 '' "$retort" -q eval --model s --problems p.jsonl --max-tokens 4 --out new/e.json
sed -i '1a\ "note": "mine",' new/e.json && cp new/e.json keep.json
for i in 1 2; do expect 0 '' "$retort" -q eval --model s --problems p.jsonl --max-tokens $i --out new/e.json; done
cmp -s keep.json new/old/e.json && [ -e new/old-2/e.json ] || fail "a report with a note in it was replaced: $(ls -R new)"
expect 1 'cannot make directory\|not a directory' "$retort" -q eval --model s --problems p.jsonl --out mine.txt/e.json
[ "$(wc -c <out.txt)" = 0 ] || fail "eval worked before it looked at its output"

# temporary files of killed writers go, those of living ones stay
cp empty.gguf a.gguf.tmp.4194304 && cp empty.gguf "a.gguf.tmp.$$" && cp empty.gguf b.gguf.tmp.4194304
expect 0 '' $quantize --out a.gguf
[ -e a.gguf.tmp.4194304 ] && fail "a leftover stayed"
[ -e "a.gguf.tmp.$$" ] && [ -e b.gguf.tmp.4194304 ] || fail "a file that is none of its leftovers went"

# directories
mkdir foreign && cp "$golden/models/qwen3/config.json" foreign/ && sum foreign >foreign.sum
expect 1 'foreign/config.json: stands there already' train foreign
sum foreign | cmp -s foreign.sum - || fail "a foreign directory was touched"
expect 1 'other files' "$retort" -q sample --teacher s --prompts p.jsonl --max-tokens 4 --out foreign
expect 1 'stands there already' "$retort" -q tokenizer --in d.jsonl --vocab 260 --out foreign
sum foreign | cmp -s foreign.sum - || fail "a foreign directory was touched"
expect 0 '' train foreign --overwrite
cmp -s foreign/old/config.json "$golden/models/qwen3/config.json" || fail "--overwrite lost what stood there"
expect 0 '' "$retort" verify foreign
expect 1 'finished work made by other settings' train other --seed 8
expect 1 'finished work made by other settings' train other --seed 7 --dtype bf16
sum other >other.sum
expect 0 '' train other --seed 7
sum other | cmp -s other.sum - || fail "a finished run was changed by the same command"
[ "$(wc -l <other/metrics.jsonl)" = 4 ] || fail "metrics of a finished run"
"$tool" flip other/model.safetensors 12000 && expect 0 '' train other --seed 7
sum other | cmp -s other.sum - || fail "a damaged finished run was not made again"
for i in 1 2; do expect 0 '' train other --seed $((7 + i)) --overwrite; done
(cd other/old && sha256sum --quiet -c <(grep -v old ../../other.sum)) || fail "what --overwrite moved is not what stood there"
[ -e other/old-2/model.safetensors ] || fail "the second --overwrite"
expect 0 '' "$retort" -q tokenizer --in d.jsonl --vocab 260 --out tok
expect 0 '' "$retort" -q tokenizer --in d.jsonl --vocab 260 --out tok
expect 1 'finished work made by other settings' "$retort" -q tokenizer --in d.jsonl --vocab 261 --out tok
expect 0 '' "$retort" -q tokenizer --in d.jsonl --vocab 261 --out tok --overwrite
[ -e tok/old/tokenizer.json ] || fail "--overwrite lost a tokenizer"
expect 0 '' "$retort" verify tok s made
sed -i 's/1/2/' tok/tokenizer.json
expect 1 'tokenizer.json: not as it was written' train t --tokenizer tok
expect 1 '1 thing is damaged' "$retort" verify tok

# merging again what is merged
expect 0 '' "$retort" -q sample --teacher s --prompts p.jsonl --max-tokens 4 --out a.traces
expect 0 '' "$retort" -q archive merge a.traces --out m.traces
sum m.traces >m.sum
expect 0 'nothing to do' "$retort" archive merge a.traces --out m.traces
sum m.traces | cmp -s m.sum - || fail "merging again changed the archive"
expect 0 '' "$retort" -q sample --teacher s --prompts p.jsonl --max-tokens 4 --seed 9 --out b.traces
expect 1 'stands there already' "$retort" -q archive merge b.traces --out m.traces
for i in 1 2; do expect 0 '' "$retort" -q archive export a.traces --out e.jsonl; done
[ ! -e old ] || fail "the same export was moved aside"
echo '{"by": "hand"}' >>e.jsonl && cp e.jsonl keep.jsonl
expect 0 '' "$retort" -q archive export a.traces --out e.jsonl
cmp -s keep.jsonl old/e.jsonl || fail "an export with a line written by hand was replaced"
expect 1 'is not an export' "$retort" -q archive export a.traces --out p.jsonl
expect 2 'is the same as' "$retort" -q archive merge a.traces --out ./a.traces
expect 0 '' "$retort" verify a.traces m.traces
# a link to an archive is followed, which grows where it stands; one to a file is replaced, and the file stays
mkdir disk && ln -s disk/l.traces l.traces && ln -s disk/l.gguf l.gguf && cp a.gguf disk/l.gguf
printf '{"prompt":"%s"}\n' aba caba abacus >three.jsonl
expect 0 '' "$retort" -q sample --teacher s --prompts three.jsonl --max-tokens 4 --limit 2 --out disk/l.traces
expect 0 '' "$retort" -q sample --teacher s --prompts three.jsonl --max-tokens 4 --out l.traces
expect 0 '' "$retort" -q sample --teacher s --prompts three.jsonl --max-tokens 4 --out once.traces
expect 0 '' "$retort" -q quantize --model s --type Q8_0 --out l.gguf
[ -L l.traces ] || fail "the link to an archive was replaced"
[ ! -L l.gguf ] && cmp -s a.gguf disk/l.gguf || fail "a file behind a link was written over"
[ "$(cd disk/l.traces && sha256sum manifest.json shard*)" = "$(cd once.traces && sha256sum manifest.json shard*)" ] ||
    fail "an archive that grew behind a link is not the one made at once: $(ls disk/l.traces)"
[ "$(ls -A disk | tr '\n' ' ')" = "l.gguf l.traces " ] || fail "left behind a link: $(ls -A disk)"
"$tool" flip disk/l.traces/shard-00000.npz 1000
"$retort" -q archive repair l.traces >/dev/null 2>&1
[ -L l.traces ] && [ -d disk/l.traces.damaged ] && [ ! -L disk/l.traces.damaged ] || fail "repair behind a link: $(ls -l . disk)"

# models that do not share a tokenizer have no divergence; a licence is text
expect 1 'another tokenizer' "$retort" -q eval --model s --archive d.jsonl --reference "$reasoning"
expect 1 'another tokenizer' "$retort" -q eval --model "$reasoning" --archive d.jsonl --reference s
printf '[{"model_type":"llama"}]' >list.json
expect 1 'list.json: not a JSON object' "$retort" -q train --config list.json --tokenizer "$golden/tiny" --data d.jsonl --loss hard --out list
expect 2 'is not UTF-8' "$retort" -q sample --teacher s --prompts three.jsonl --licence $'\xe9' --out licence.traces
expect 2 'one line, without' "$retort" -q sample --teacher s --prompts three.jsonl --licence $'a\nb' --out licence.traces
[ ! -e licence.traces ] || fail "a refused licence left an archive"
exit $failed
