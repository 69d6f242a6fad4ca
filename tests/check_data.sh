#!/bin/bash
# What people put in and what becomes of it: records, ids, turns, sources and archives, through the
# commands that read them. One clear line for whatever is wrong, and nothing lost without a word.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 scratch=$2
here=$(cd "$(dirname "$0")" && pwd)
teacher=$here/golden/student
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

score() { # DATA OUT [flags...]
    local data=$1 out=$2
    shift 2
    expect 0 '' score --teacher "$teacher" --data "$data" --out "$out" "$@"
}
train() { # CODE STDERR-REGEX OUT [flags...]
    local code=$1 err=$2 out=$3
    shift 3
    expect "$code" "$err" train --model "$teacher" --out "$out" --steps 2 "$@"
}

# --- hundreds of short documents in a step, at the default flags; one document in it
for i in $(seq 0 299); do echo "{\"prompt\":\"$i+1?\",\"response\":\"$((i % 10))\"}"; done >short.jsonl
head -1 short.jsonl >one.jsonl
score short.jsonl short.traces
score one.jsonl one.traces
for loss in forward bucket; do train 0 '' "short-$loss" --data short.traces --loss $loss; done
train 0 '' short-reverse --data short.traces --loss reverse --pass-tokens 2 --batch-tokens 2
train 0 '' short-hard --data short.jsonl --loss hard
train 0 '' short-both --data short.traces --data one.traces --eval-data short.traces --eval-every 1
train 0 '' one --data one.traces

# --- ids are kept as they are given, or refused with a line that names the record
long=$(printf 'x%.0s' $(seq 1000))
for id in '"AIME 2024 II-3"' '"数学-001"' '"naïve"' "\"$long\"" 1834567890123456789 1.50; do
    echo "{\"id\":$id,\"prompt\":\"2+2?\",\"response\":\"4\"}"
done >ids.jsonl
score ids.jsonl ids.traces
expect 0 '' sample --teacher "$teacher" --prompts ids.jsonl --out ids2.traces --max-tokens 4 --samples 2
for archive in ids.traces ids2.traces; do
    expect 0 '' archive export $archive
    for id in 'AIME 2024 II-3' '数学-001' 'naïve' "$long" 1834567890123456789 1.50; do
        grep -qF "\"prompt_id\":\"$id\"" out.txt || fail "$archive: the id $id is lost"
    done
done
expect 0 '' archive verify ids.traces ids2.traces
bad_id() { # REGEX ID
    printf '{"text":"a"}\n{"id":%s,"prompt":"2","response":"4"}\n' "$2" >bad.jsonl
    expect 1 "bad.jsonl:2: $1" score --teacher "$teacher" --data bad.jsonl --out none.traces
}
bad_id 'id "xx+\.\.\." has 1001 bytes; at most 1000' "\"x$long\""
bad_id 'id .* holds a control character' '"a\u001bb"'
bad_id 'id is neither text nor a number' '["a"]'
bad_id 'id is empty' '""'

# --- keys of other programs
other() { # REGEX JSON
    echo "$2" >bad.jsonl
    expect 1 "bad.jsonl:1: .*$1" train --model "$teacher" --loss hard --out none --data bad.jsonl
}
other 'its keys are question, solution; rename question to prompt, solution to response' '{"question":"a","solution":"b"}'
other 'rename instruction to prompt, output to response' '{"instruction":"a","input":"","output":"b"}'
other 'nothing to learn; keys that are not read: output, n' '{"prompt":"a","output":"b","n":1}'

# --- a record's tools are archived: the export gives the same prompt
cp -r "$teacher" tools
sed -i "s/{%- if add_generation_prompt %}/{%- if tools %}{{- tools | tojson }}{%- endif %}&/" tools/tokenizer_config.json
echo '{"id":"t","prompt":"2+2?","response":"4","tools":[{"name":"add","x":1.0,"none":null}]}' >tools.jsonl
expect 0 '' score --teacher tools --data tools.jsonl --out tools.traces
expect 0 '' archive export tools.traces --out tools2.jsonl
grep -qF '"tools":[{"name":"add","x":1.0}]' tools2.jsonl || fail "tools: $(cat tools2.jsonl)"
expect 0 '' score --teacher tools --data tools2.jsonl --out tools2.traces
for archive in tools tools2; do
    expect 0 '' archive export $archive.traces --soft
    sed 's/.*"tokens"//' out.txt >$archive.tokens
done
grep -q '\[' tools.tokens && cmp -s tools.tokens tools2.tokens || fail "tools: another prompt after export"
sed -i 's/,"tools":[^]]*]//' tools2.jsonl
expect 0 '' score --teacher tools --data tools2.jsonl --out tools3.traces
expect 0 '' archive export tools3.traces --soft
sed 's/.*"tokens"//' out.txt | cmp -s - tools.tokens && fail "tools are not in the prompt at all"

# --- what leaves documents out is said; what comes from where, too
train 1 'leaves out its samples: 300 unverified\)' none --data short.traces --verdicts correct
"$retort" train --model "$teacher" --data short.traces --data one.traces --out sources --steps 1 2>err.txt >out.txt
grep -q 'documents: 300 of short.traces, 1 of one.traces' err.txt || fail "sources: $(cat err.txt)"

# --- archives of other capture settings: longer heads mix, other draws do not
score short.jsonl k64.traces --head-max 64
train 0 '' mixed --data k64.traces --data short.traces
train 0 '' mixed2 --data short.traces --data k64.traces
score short.jsonl dense.traces --tail-spacing 0.25
train 1 'dense.traces: made with another --tail-spacing' none --data short.traces --data dense.traces
score short.jsonl warm.traces --temperatures 2
train 1 'warm.traces: made with another --temperatures' none --data short.traces --data warm.traces
score short.jsonl cut.traces --tail-spacing 0 --head-floor 0
train 2 'needs an archive with tail draws' none --data cut.traces # head_max cuts the tail

# --- tags: what is taken of them, and shares by them, are as if each tag had been a file of its own
for i in $(seq 0 79); do
    tag=math; [ $((i % 3)) = 0 ] && tag=code; [ $((i % 10)) = 9 ] && tag=
    echo "{\"id\":\"$i\",${tag:+\"tag\":\"$tag\",}\"prompt\":\"$i+1?\",\"response\":\"$((i % 10))\"}"
done >tagged.jsonl
for tag in math code; do
    grep "\"tag\":\"$tag\"" tagged.jsonl >$tag.jsonl
    score $tag.jsonl $tag-alone.traces
    score tagged.jsonl $tag.traces --only-tag $tag
    same $tag-alone.traces $tag.traces "--only-tag $tag"
    expect 0 '' sample --teacher "$teacher" --prompts tagged.jsonl --only-tag $tag --limit 5 --max-tokens 4 --out $tag-5.traces
    expect 0 '' archive export $tag-5.traces
    [ "$(grep -c "\"tag\":\"$tag\"" out.txt) $(wc -l <out.txt)" = '5 5' ] || fail "sample --only-tag: $(cat out.txt)"
done
score tagged.jsonl tagged.traces
expect 0 '' score --teacher "$teacher" --data tagged.traces --only-tag math --out again.traces
for archive in math again; do
    "$retort" archive export $archive.traces --soft | sed 's/"index":[0-9]*,//' >$archive.soft
done
cmp -s math.soft again.soft || fail "score --only-tag of an archive: other samples or targets"
score tagged.jsonl two.traces --only-tag math --only-tag code
[ "$("$retort" archive export two.traces | grep -c '"tag"')" = 72 ] || fail "two tags"
expect 1 'tagged.jsonl: none of 80 has the tag "poetry"' score --teacher "$teacher" --data tagged.jsonl --only-tag poetry --out none.traces
expect 1 'tagged.traces: none of 80 has the tag "poetry"' score --teacher "$teacher" --data tagged.traces --only-tag poetry --out none.traces
shares="--steps 3 --batch-tokens 60 --learning-rate 0.01"
train 0 '' by-file --data math.jsonl --data code.jsonl --loss hard --mix 7,3 $shares
train 0 '8 documents are left out: --mix has no share' by-tag --data tagged.jsonl --loss hard --mix math=7,code=3 $shares
train 0 '' by-two --data code.jsonl --data math.jsonl --loss hard --mix math=7,code=3 $shares
train 0 '' other-shares --data tagged.jsonl --loss hard --mix math=3,code=7 $shares
train 0 '' archives-by-file --data math.traces --data code.traces --mix 7,3 $shares
train 0 '8 documents are left out' archive-by-tag --data tagged.traces --mix math=7,code=3 $shares
for pair in by-file:by-tag by-file:by-two archives-by-file:archive-by-tag; do
    cmp -s ${pair%:*}/model.safetensors ${pair#*:}/model.safetensors || fail "$pair: other bytes"
done
cmp -s by-tag/model.safetensors other-shares/model.safetensors && fail "shares of tags change nothing"
train 1 'nothing to learn has the tag "poetry"' none --data tagged.jsonl --loss hard --mix math=7,poetry=3
for mix in math=1 math=1,math=2 math=0,code=1 =1,code=1 math=x,code=1 math=1,code math=1,code=1,; do
    train 2 'write shares|name two|twice' none --data tagged.jsonl --loss hard --mix $mix
done
for tag in '"a,b"' '""' '["a"]' '"a=b"'; do
    echo "{\"tag\":$tag,\"text\":\"a\"}" >bad.jsonl
    expect 1 'bad.jsonl:1: tag ' score --teacher "$teacher" --data bad.jsonl --out none.traces
done

# --- a limit of the model holds in every command: 512 positions
words=$(printf '7 %.0s' $(seq 400))
echo "{\"prompt\":\"$words\",\"response\":\"7\",\"answer\":\"7\"}" >long.jsonl
cat one.jsonl long.jsonl >some.jsonl
train 1 'longer than 512 tokens' none --data long.jsonl --loss hard
train 0 '1 documents are left out: longer than 512 tokens' some --data some.jsonl --loss hard
expect 1 'longer than 512 tokens' eval --model "$teacher" --archive long.jsonl
expect 1 'a problem has [0-9]+ tokens: this model was made for 512' eval --model "$teacher" --problems long.jsonl
expect 1 'has [0-9]+ tokens: this model was made for 512' sample --teacher "$teacher" --prompts long.jsonl --out none.traces
expect 1 'no text of 2 to 512 tokens' score --teacher "$teacher" --data long.jsonl --out none.traces
expect 1 'tokens' generate --model "$teacher" --prompt "$words"
echo '{"prompt":"2+2?","answer":"4"}' >ask.jsonl
expect 0 '' eval --model "$teacher" --problems ask.jsonl --max-tokens 100000
# answers to held-out prompts go on past the longest held-out text
expect 0 '' eval --model "$teacher" --archive some.jsonl --max-length 64 --max-tokens 300 --out shown.json

# --- all the assistant's turns are learned, or the last
echo '{"id":"c","conversations":[{"from":"human","value":"1"},{"from":"gpt","value":"2+3"},{"from":"human","value":"4"},{"from":"gpt","value":"5"}]}' >talk.jsonl
spans() { # ARCHIVE
    expect 0 '' archive export "$1" --soft
    sed 's/.*"spans":\(.*\),"soft_first".*/\1/' out.txt
}
score talk.jsonl all.traces
score talk.jsonl last.traces --turns last
[ "$(spans all.traces)" = '[[3,7],[10,12]]' ] || fail "spans of all turns: $(spans all.traces)"
[ "$(spans last.traces)" = '[[10,12]]' ] || fail "spans of the last turn: $(spans last.traces)"
learned() { sed -n 's/.*"tokens":\([0-9]*\),.*/\1/p' "$1/metrics.jsonl" | head -1; }
for turns in all last; do
    train 0 '' "hard-$turns" --data talk.jsonl --loss hard --turns $turns --batch-tokens 2
    train 0 '' "soft-$turns" --data all.traces --turns $turns --batch-tokens 2
done
[ "$(learned hard-all) $(learned soft-all)" = '6 6' ] && [ "$(learned hard-last) $(learned soft-last)" = '2 2' ] ||
    fail "tokens learned: $(for i in hard soft; do learned $i-all; learned $i-last; done)"

# --- an archive grows into the one that would have been made at once
for i in $(seq 0 39); do echo "{\"id\":\"q $i\",\"prompt\":\"$((i % 7))+$((i % 5))?\",\"answer\":\"$((i % 7 + i % 5))\"}"; done >grow.jsonl
head -25 grow.jsonl >first.jsonl
(sed -n '26,40p' grow.jsonl && head -25 grow.jsonl) >other-order.jsonl
sample() { # CODE STDERR-REGEX OUT [flags...]
    local code=$1 err=$2 out=$3
    shift 3
    expect "$code" "$err" sample --teacher "$teacher" --out "$out" --max-tokens 12 --temperature 1.3 \
        --samples-per-shard 16 --batch 8 "$@"
}
sample 0 '' once.traces --prompts grow.jsonl --samples 4
sample 0 '' grown.traces --prompts first.jsonl --samples 2 --limit 10
sample 0 '' grown.traces --prompts first.jsonl --samples 2
sample 0 '' grown.traces --prompts first.jsonl --samples 4
sample 0 '' grown.traces --prompts grow.jsonl --samples 4
same once.traces grown.traces "grown"
sample 0 '' reordered.traces --prompts first.jsonl --samples 4
sample 0 '' reordered.traces --prompts other-order.jsonl --samples 4
sample 0 '' once-reordered.traces --prompts other-order.jsonl --samples 4
same once-reordered.traces reordered.traces "grown in another order"
expect 0 '' archive verify grown.traces reordered.traces
# another answer judges anew; another prompt, or fewer, is refused by name and nothing changes
sed 's/"answer":"0"/"answer":"1"/' grow.jsonl >answers.jsonl
sample 0 '' once-answers.traces --prompts answers.jsonl --samples 4
sample 0 '' grown.traces --prompts answers.jsonl --samples 4
same once-answers.traces grown.traces "other answers"
sed '8s/"prompt":"[^"]*"/"prompt":"9+9?"/' answers.jsonl >changed.jsonl
sample 1 'id q 7 is another prompt in the archive' grown.traces --prompts changed.jsonl --samples 4
sample 1 'id q [0-9]+ of the archive is not in this input' grown.traces --prompts first.jsonl --samples 4
sample 1 'sample q [0-9]+/[23] of the archive is beyond --samples 2' grown.traces --prompts answers.jsonl --samples 2
sample 1 'another sampling temperature' grown.traces --prompts grow.jsonl --samples 4 --temperature 1
same once-answers.traces grown.traces "refused"
# parts grow as long as their samples stay theirs
for part in 0 1; do
    sample 0 '' part$part.traces --prompts first.jsonl --samples 4 --shard $part/2
    sample 0 '' part$part.traces --prompts grow.jsonl --samples 4 --shard $part/2
done
expect 0 '' archive merge part0.traces part1.traces --out parts.traces
same once.traces parts.traces "parts"
sample 1 "would be another part's" part1.traces --prompts grow.jsonl --samples 5 --shard 1/2
# killed anywhere while it grows
for i in $(seq "${RETORT_KILLS:-3}"); do
    rm -rf killed.traces* && sample 0 '' killed.traces --prompts first.jsonl --samples 2
    for k in 1 2 3; do
        "$retort" sample -q --teacher "$teacher" --out killed.traces --max-tokens 12 --temperature 1.3 --samples-per-shard 16 \
            --batch 8 --prompts grow.jsonl --samples 4 >/dev/null 2>&1 &
        pid=$!
        sleep "0.$(printf %03d $((RANDOM % 200)))"
        kill -KILL $pid 2>/dev/null
        wait $pid 2>/dev/null
    done
    sample 0 '' killed.traces --prompts grow.jsonl --samples 4
    same once.traces killed.traces "killed while growing"
    [ -e killed.traces.rebuild ] && fail "killed.traces.rebuild was left behind"
done
# what is scored grows too: of text, and of an archive that grew
expect 0 '' score --teacher "$teacher" --data grown.traces --out s-once.traces --samples-per-shard 16
expect 0 '' score --teacher "$teacher" --data grown.traces --out s.traces --samples-per-shard 16 --limit 30
expect 0 '' score --teacher "$teacher" --data grown.traces --out s.traces --samples-per-shard 16
same s-once.traces s.traces "scored archive"
head -100 short.jsonl >hundred.jsonl
score short.jsonl t-once.traces --samples-per-shard 64
score hundred.jsonl t.traces --samples-per-shard 64
score short.jsonl t.traces --samples-per-shard 64
same t-once.traces t.traces "scored text"
score talk.jsonl turns.traces --turns last
expect 1 'id c is another text in the archive, or other turns' score --teacher "$teacher" --data talk.jsonl --out turns.traces
# and trains to the same bytes
for archive in once-answers grown; do
    train 0 '' "from-$archive" --data $archive.traces --verdicts correct,wrong,unverified --batch-tokens 400
done
cmp -s from-once-answers/model.safetensors from-grown/model.safetensors || fail "trained on the grown archive: other bytes"

# --- texts of strangers cannot drive the terminal; a run that is done says so
printf '{"id":"esc","prompt":"a\\u001b[2Jb\\u009bc\\td","response":"\\u0007"}\n' >esc.jsonl
score esc.jsonl esc.traces
expect 0 '' archive show esc.traces esc --rows 0
LC_ALL=C grep -q "[$(printf '\001-\010\016-\037\177')]" out.txt && fail "show: control characters: $(cat -v out.txt)"
grep -qF 'a\x1b[2Jb\x9bc' out.txt && grep -qF '\x07' out.txt || fail "show: $(cat -v out.txt)"
expect 0 '' score --teacher "$teacher" --data esc.jsonl --out esc.traces
grep -q '^all 1 samples are there already' out.txt || fail "done: $(cat out.txt)"
sample 0 '' once.traces --prompts grow.jsonl --samples 4
grep -q '^all 160 samples are there already' out.txt || fail "done: $(cat out.txt)"

# --- what is not the file it stands for, wherever a file is opened
lfs() { printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 123456\n' 7; }
cp -r short.traces lfs.traces && lfs >lfs.traces/shard-00000.npz
lfs >lfs.jsonl && lfs >lfs.gguf
for name in config.json model.safetensors tokenizer.json tokenizer_config.json; do
    rm -rf lfs-model && cp -r "$teacher" lfs-model && lfs >lfs-model/$name
    expect 1 "$name: a Git LFS pointer, not the file: run 'git lfs pull'" generate --model lfs-model --prompt a
done
expect 1 'lfs.gguf: a Git LFS pointer' generate --model lfs.gguf --prompt a
expect 1 'lfs.jsonl: a Git LFS pointer' score --teacher "$teacher" --data lfs.jsonl --out none.traces
train 1 'shard-00000.npz: a Git LFS pointer' none --data lfs.traces
mkfifo pipe pipe.gguf pipe.json
for name in pipe pipe.gguf /dev/zero; do
    expect 1 "$name: is a (pipe|device)" score --teacher "$teacher" --data $name --out none.traces
done
expect 1 'pipe.gguf: is a pipe: give a file' generate --model pipe.gguf --prompt a
expect 1 'pipe.json: is a pipe: give a file' train --config pipe.json --tokenizer "$teacher" --data one.jsonl --loss hard --out none
for name in none none.traces; do [ -e $name ] && fail "$name was left behind"; done

exit $failed
