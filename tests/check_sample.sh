#!/bin/bash
# Sampling and scoring as a user runs them, on a teacher with latent attention and experts that is
# trained here in seconds: the same bytes for any batch, thread count, division into parts and any
# number of kills; one clear line for whatever is wrong. RETORT_KILLS=40 kills more often.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
here=$(cd "$(dirname "$0")" && pwd)
kills=${RETORT_KILLS:-3}
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

# --- the teacher, its prompts, and the archive everything is compared with
for i in $(seq 0 11); do
    a=$((i % 5 + 2)) b=$((i % 7 + 1))
    echo "{\"id\":\"p$i\",\"prompt\":\"$a+$b?\",\"reasoning\":\"$a and $b make $((a + b))\",\"response\":\"\\\\boxed{$((a + b))}\",\"answer\":\"$((a + b))\"}"
done >pairs.jsonl
expect 0 '' train --config "$here/golden/tiny/shape.json" --tokenizer "$here/golden/tiny" \
    --data pairs.jsonl --out teacher --loss hard --steps 100 --batch-tokens 500 \
    --learning-rate 0.015 --warmup 10 --threads 1
plan="--teacher teacher --prompts pairs.jsonl --samples 30 --temperature 1.3 --max-tokens 60
      --samples-per-shard 64 --temperatures 1.5,2 --seed 5"
expect 0 '' sample $plan --out a.traces --batch 8 --threads 1 --json
grep -qE '"samples":360,.*"correct":[1-9][0-9]*,"wrong":[1-9]' out.txt || fail "table: $(cat out.txt)"
grep -qE '"rules":\{.*"number":[1-9]' out.txt || fail "no rule in the table: $(cat out.txt)"
expect 0 '' archive verify a.traces
expect 0 '' sample $plan --out a.traces
expect 0 '' sample $plan --out b.traces --batch 5 --threads 3 --prefill-tokens 4
same a.traces b.traces "batch and threads"

# --- samples of a prompt share its beginning; few pages change nothing but time
expect 0 '' sample $plan --out few.traces --batch 16 --cache-tokens 128
same a.traces few.traces "a small cache"
"$retort" sample $plan --out shared.traces --batch 30 2>err.txt >/dev/null
grep -qE '[1-9][0-9]* of [0-9]+ prompt tokens were in the cache already' err.txt || fail "sharing: $(cat err.txt)"
same a.traces shared.traces "a shared prefix"

# --- a prompt alone gives the samples it gives among others
grep '"id":"p7"' pairs.jsonl >alone.jsonl
expect 0 '' sample ${plan/pairs.jsonl/alone.jsonl} --out alone.traces --batch 1
for name in a alone; do
    expect 0 '' archive export $name.traces --soft --verdict correct,wrong,unverified,unfinished --out $name-soft.jsonl
    grep '"prompt_id":"p7"' $name-soft.jsonl | sed 's/"index":[0-9]*,//' >$name-p7.jsonl
done
[ "$(wc -l <alone-p7.jsonl)" = 30 ] && same a-p7.jsonl alone-p7.jsonl "a prompt alone"

# --- a stop text ends a response, which is cut there and judged
expect 0 '' sample $plan --out stop.traces --stop ed{ --stop thonk
expect 0 '' archive verify stop.traces
expect 0 '' sample $plan --out stop2.traces --stop ed{ --stop thonk --batch 3 --threads 1
same stop.traces stop2.traces "stop texts, another batch"
expect 0 '' archive export stop.traces --out stop.jsonl
grep -q '"finish":"stop_string"' stop.jsonl || fail "no response ended at a stop text"
grep -qE '"content":"[^"]*ed\{' stop.jsonl && fail "a response was not cut at its stop text"
grep -F '"finish":"stop_string"' stop.jsonl | grep -qF '"content":"\\box"' || fail "no answer ends before its stop text"
expect 0 '' inspect stop.traces --json
grep -qF '"stop":"[\"ed{\",\"thonk\"]"' out.txt || fail "inspect, stop texts: $(cat out.txt)"
expect 1 'list of stop texts' sample $plan --out stop.traces --stop other
expect 1 'sampling min_p' sample $plan --out a.traces --min-p 0.1
expect 2 '--stop: a text of 0 bytes' sample $plan --out none.traces --stop ''
expect 2 '--stop: a text of 0 bytes' eval --model teacher --problems pairs.jsonl --stop ''
expect 2 '--stop: a text of 0 bytes' generate --model teacher --prompt 1 --stop ''
expect 0 '' eval --model teacher --problems pairs.jsonl --max-tokens 60 --json --stop boxed
grep -q '"accuracy":0,' out.txt || fail "eval --stop: $(cat out.txt)"
expect 0 '' sample $plan --out minp.traces --min-p 1
expect 0 '' sample $plan --out greedy.traces --top-k 1
for name in minp greedy; do expect 0 '' archive export $name.traces --out $name.jsonl; done
[ "$(grep -o '"content":"[^"]*"' minp.jsonl)" = "$(grep -o '"content":"[^"]*"' greedy.jsonl)" ] ||
    fail "--min-p 1 is not greedy"

# --- verdicts: one judgement in sample and eval; training takes the correct ones and says so
judged() { # EXPECTED record-key...: eval of two problems with that "verify"
    local want=$1
    head -2 pairs.jsonl | sed "s/^{/{$2/" >judged.jsonl
    expect 0 '' eval --model teacher --problems judged.jsonl --max-tokens 60 --json
    grep -qE -- "$want" out.txt || fail "eval, $2: no $want in $(cat out.txt)"
}
judged '"rules":\{"number":1\}' ''
judged '"rules":\{"number":1\}' '"verify":"number",'
judged '"accuracy":0,.*"rules":\{"exact":1\}' '"verify":"exact",'
judged '"unknown":1,.*"rules":\{"none":1\}' '"verify":"none",'
"$retort" train --model teacher --data a.traces --out taken --loss hard --steps 1 2>err.txt >/dev/null
grep -qE 'of 360 samples are left out by their verdict: .*[0-9]+ wrong' err.txt ||
    fail "training does not say what it left out: $(cat err.txt)"

# --- parts
for i in 0 1 2; do expect 0 '' sample $plan --out "part$i.traces" --shard $i/3; done
expect 0 '' archive merge part2.traces part0.traces part1.traces --out merged.traces
same a.traces merged.traces "three parts"
SLURM_ARRAY_TASK_ID=6 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=5 \
    "$retort" sample -q $plan --out slurm.traces >out.txt
same part1.traces slurm.traces "a job array"
OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3 "$retort" sample -q $plan --out mpi.traces >out.txt
same part2.traces mpi.traces "MPI ranks"

# --- scoring
expect 0 '' score --teacher teacher --data a.traces --out s.traces --seed 5
expect 0 '' archive verify s.traces
expect 0 '' score --teacher teacher --data a.traces --out s2.traces --seed 5 --pass-tokens 64 \
    --head-rows 5 --threads 3
same s.traces s2.traces "scored alone or among others"
expect 0 '' score --teacher teacher --data pairs.jsonl --out p.traces
echo '{"text":"2 and 3 make 5"}' >text.jsonl
expect 0 '' score --teacher teacher --data text.jsonl --out t.traces --json
grep -q '"positions":14,' out.txt || fail "a text of 14 bytes and its end has 14 targets: $(cat out.txt)"

# --- turns that count 0 are read and not scored; weights of others are kept
talk='{"messages": [{"role":"user","content":"1"},{"role":"assistant","content":"2","weight":W},{"role":"user","content":"3"},{"role":"assistant","content":"4"}]}'
for w in 0 1; do echo "$talk" | sed "s/W/$w/" >"talk$w.jsonl"; done
for w in 0 1; do
    expect 0 '' score --teacher teacher --data talk$w.jsonl --out talk$w.traces
    expect 0 '' archive export talk$w.traces --soft
    grep -o '"spans":.*,"soft_first"' out.txt | tr -cd ']' | wc -c >turns$w
done
[ "$(cat turns0 turns1 | tr -d ' \n')" = 23 ] || fail "spans of turns that count 0 and 1: $(cat turns0 turns1)"
cat >weighed.jsonl <<'END'
{"id":"a","tag":"math","weight":0.7,"messages":[{"role":"user","content":"1"},{"role":"assistant","content":"2","weight":0.3},{"role":"user","content":"3"},{"role":"assistant","reasoning":"1+1","content":"4","weight":1.7}]}
{"id":"b","prompt":"2+2?","response":"4","weight":0.5}
{"id":"c","text":"2 and 3 make 5","weight":0.1}
{"id":"d","messages":[{"role":"user","content":"1"},{"role":"assistant","content":"2","weight":0},{"role":"user","content":"3"},{"role":"assistant","content":"4"}]}
{"id":"e","prompt":"2+3?","response":"5","weight":0}
END
expect 0 '' score --teacher teacher --data weighed.jsonl --out weighed.traces
expect 0 '' archive verify weighed.traces
"$retort" archive export weighed.traces >again.jsonl
expect 0 '' score --teacher teacher --data again.jsonl --out again.traces
"$retort" archive export again.traces | cmp -s - again.jsonl || fail "an export with weights is exported otherwise"
for data in weighed.jsonl weighed.traces again.jsonl again.traces; do
    expect 0 '' train --config $here/golden/tiny/shape.json --tokenizer $here/golden/tiny --data $data --loss hard --steps 3 \
        --warmup 1 --batch-tokens 600 --out "by-$data"
    cmp -s "by-$data/model.safetensors" by-weighed.jsonl/model.safetensors || fail "$data: learned as if it counted otherwise"
done
sed 's/,"weight":[0-9.]*//g' weighed.jsonl >plain.jsonl
expect 0 '' score --teacher teacher --data plain.jsonl --out unweighed.traces
for data in plain.jsonl unweighed.traces; do
    expect 0 '' train --config $here/golden/tiny/shape.json --tokenizer $here/golden/tiny --data $data --loss hard --steps 3 \
        --warmup 1 --batch-tokens 600 --out "by-$data"
    cmp -s "by-$data/model.safetensors" by-weighed.jsonl/model.safetensors && fail "$data: weights change nothing"
done
grep -q '"version": 1' unweighed.traces/manifest.json && grep -q '"version": 2' weighed.traces/manifest.json ||
    fail "versions of archives without and with weights"
# other weights of the same texts are taken over, targets and all; turns that are learned anew are not
sed '2s/0.5/0.25/; 1s/"math"/"sums"/' weighed.jsonl >changed.jsonl
expect 0 '' score --teacher teacher --data changed.jsonl --out weighed.traces
expect 0 '' score --teacher teacher --data changed.jsonl --out changed.traces
diff -r weighed.traces changed.traces || fail "other weights in an archive that stands there"
expect 1 'other turns of it are learned' score --teacher teacher --data plain.jsonl --out weighed.traces
# a prompt's weight and tag go with its response
printf '{"id":"p","tag":"math","prompt":"2+2?","weight":0.5}\n{"id":"q","prompt":"3+2?"}\n' >some.jsonl
expect 0 '' sample --teacher teacher --prompts some.jsonl --out some.traces --max-tokens 8
expect 0 '' archive export some.traces --soft
grep -q '"id":"p/0".*"tag":"math".*"span_weights":\[0.5\]' out.txt || fail "weight and tag of a prompt: $(cut -c1-300 out.txt)"

# --- objectives: a mixture, one that follows another, what tokens count, those of large entropy: the same
# bytes on any threads; what an archive cannot give is refused by name
pupil="--config $here/golden/tiny/shape.json --tokenizer $here/golden/tiny --data a.traces --steps 4 --warmup 1
       --batch-tokens 600 --pass-tokens 200"
tokens() { sed -n 's/.*"step":4,.*"tokens":\([0-9]*\).*/\1/p' "$1/metrics.jsonl"; }
expect 0 '' train $pupil --out plain
same_anyhow() { # NAME flags...: on 1 and on 3 threads, and not the bytes of another objective
    for threads in 1 3; do expect 0 '' train $pupil "${@:2}" --out "$1-$threads" --threads $threads; done
    cmp -s "$1-1/model.safetensors" "$1-3/model.safetensors" || fail "$*: threads change the bytes"
    cmp -s "$1-1/model.safetensors" plain/model.safetensors && fail "$*: changes nothing"
    grep -q 'nan\|inf' "$1-1/metrics.jsonl" && fail "$*: $(cat "$1-1/metrics.jsonl")"
}
same_anyhow mixed --loss forward:0.7,reverse:0.3,hard:0.1
same_anyhow hot --loss bucket,jsd:0.5 --temperature 1.5
same_anyhow later --loss reverse --loss-change 0.25:0.75
same_anyhow few --entropy-share 0.1
same_anyhow more --entropy-share 0.1 --entropy-rest 0.5 --loss hard
same_anyhow answers --reasoning-weight 0
[ "$(tokens more-1)" = "$(tokens plain)" ] || fail "tokens that count less: $(tokens more-1) of $(tokens plain)"
[ "$(($(tokens few-1) * 9))" -lt "$(tokens plain)" ] || fail "a tenth of $(tokens plain) tokens: $(tokens few-1)"
[ "$(tokens answers-1)" -lt "$(tokens plain)" ] || fail "answers alone: $(tokens answers-1) of $(tokens plain)"
"$retort" train $pupil --out said --loss reverse --loss-change 0.25:0.75 2>err.txt
grep -q 'loss: forward for 25 % of the steps, then over to reverse until 75 %' err.txt || fail "a change: $(cat err.txt)"
expect 0 '' init --shape 3m --layers 1 --width 16 --heads 2 --kv-heads 2 --head-dim 8 --ffn-width 16 \
    --tokenizer "$here/golden/tiny" --out start
expect 0 '' init --from teacher --tokenizer "$here/golden/tiny" --out kept
for model in start kept teacher; do # random weights, and not
    "$retort" train --model $model --data a.traces --loss jsd --steps 1 --warmup 1 --out "from-$model" 2>$model.txt ||
        fail "--model $model: $(cat $model.txt)"
done
grep -q 'loss: forward for' start.txt || fail "jsd from random weights: $(cat start.txt)"
grep 'loss: ' kept.txt teacher.txt && fail "jsd from a trained model"
expect 1 '--temperatures 3' train $pupil --out none --loss bucket --temperature 3
expect 2 'temperature 1' train $pupil --out none --temperature 1.5
expect 2 'give --entropy-share too' train $pupil --out none --entropy-rest 0.5
expect 2 'nothing is left to learn' train $pupil --out none --reasoning-weight 0 --answer-weight 0
for loss in hard forward; do
    expect 1 'text has no soft targets' train ${pupil/a.traces/pairs.jsonl} --out none --loss $loss --entropy-share 0.5
done
expect 0 '' sample ${plan/--temperatures 1.5,2/} --out bare.traces --head-max 0
expect 1 'bare.traces: holds no soft targets' train ${pupil/a.traces/bare.traces} --out none
sed 's/"reasoning":"[^"]*",//' pairs.jsonl >thoughtless.jsonl
expect 1 'nothing to learn: no token counts in any of the 12 documents' train ${pupil/a.traces/thoughtless.jsonl} \
    --out none --loss hard --answer-weight 0
[ -e none/config.json ] && fail "a refused run wrote a model"

# --- what an archive shows of a text is the text, and what it exports can be scored and trained on
expect 0 '' archive export t.traces
grep -q '"text":"2 and 3 make 5"' out.txt && ! grep -q messages out.txt || fail "exported text: $(cat out.txt)"
expect 0 '' archive show t.traces "$(sed 's/.*"id":"\([^"]*\)".*/\1/' out.txt)" --rows 0
[ "$(tail -n +4 out.txt)" = $'\n[text]\n2 and 3 make 5' ] || fail "shown text: $(cat out.txt)"
for name in t p; do
    expect 0 '' archive export $name.traces --out $name.jsonl
    expect 0 '' score --teacher teacher --data $name.jsonl --out $name-again.traces
    for archive in $name $name-again; do
        expect 0 '' archive export $archive.traces --soft --out $archive-soft.jsonl
    done
    same $name-soft.jsonl $name-again-soft.jsonl "exported and scored again"
done
expect 0 '' archive export a.traces --verdict correct --out correct.jsonl
expect 0 '' train --config "$here/golden/tiny/shape.json" --tokenizer "$here/golden/tiny" \
    --data correct.jsonl --out pupil --loss hard --steps 2

# --- what goes round in a circle is ended, and is no answer
for i in 1 2 3 4; do
    echo "{\"prompt\":\"$i?\",\"response\":\"$(printf 'abc%.0s' {1..20})\",\"answer\":\"$i\"}"
done >circles.jsonl
expect 0 '' train --config "$here/golden/tiny/shape.json" --tokenizer "$here/golden/tiny" \
    --data circles.jsonl --out circler --loss hard --steps 60 --learning-rate 0.015 --warmup 5
expect 0 '' sample --teacher circler --prompts circles.jsonl --temperature 0 --max-tokens 300 \
    --stop-repetition 16 --out round.traces
expect 0 '' archive export round.traces
[ "$(grep -c '"finish":"repetition","verdict":"unfinished"' out.txt)" = 4 ] || fail "circles: $(cat out.txt)"
grep -q '"stop_repetition": 16' round.traces/manifest.json || fail "the manifest does not say --stop-repetition"

# --- kills: run again until it ends, killed at a random moment each time but the last
killed_run() { # OUT arguments...
    local out=$1 k
    shift
    for k in $(seq "$kills"); do
        "$retort" "$@" -q --out "$out" >/dev/null 2>err.txt &
        local pid=$!
        sleep "0.$(printf %03d $((RANDOM % 400)))"
        kill -KILL $pid 2>/dev/null
        wait $pid 2>/dev/null
    done
    expect 0 '' "$@" --out "$out"
}
killed_run k.traces sample $plan --batch 4
same a.traces k.traces "kills while sampling"
killed_run ks.traces score --teacher teacher --data a.traces --seed 5 --pass-tokens 200
same s.traces ks.traces "kills while scoring"

# --- an interrupt ends with 130, and the same command goes on
"$retort" sample $plan -q --out i.traces --batch 1 --threads 1 2>err.txt >/dev/null &
pid=$!
until [ -s i.traces/journal ] || ! kill -0 $pid 2>/dev/null; do :; done
kill -INT $pid 2>/dev/null
wait $pid
code=$?
[ $code = 130 ] || [ $code = 0 ] || fail "interrupted: exit $code"
[ $code = 0 ] || grep -q 'run the same command again' err.txt || fail "interrupted: $(cat err.txt)"
expect 0 '' sample $plan --out i.traces
same a.traces i.traces "an interrupt"

# --- a full disk: refused writes end the run with the file's name; room made, it goes on
(
    trap '' XFSZ
    ulimit -f 24
    exec "$retort" sample -q $plan --out full.traces
) >out.txt 2>err.txt
[ $? = 1 ] && [ "$(wc -l <err.txt)" = 1 ] && grep -q 'full.traces.*limit of a file.s size.*ulimit -f' err.txt ||
    fail "a full disk: $(cat err.txt)"
expect 0 '' sample $plan --out full.traces
same a.traces full.traces "a full disk"

# --- talking, numbers, looking
expect 0 '' generate --model teacher --prompt '3+4?' --temperature 0
cp out.txt greedy.txt
expect 0 '' generate --model teacher --prompt '3+4?' --temperature 0 --json
grep -q '"prompt_tokens":6,' out.txt || fail "generate --json: $(cat out.txt)"
grep -qF "$(sed -n 's/.*"reasoning":"\([^"]*\)".*/\1/p' out.txt)" greedy.txt || fail "generate: $(cat out.txt greedy.txt)"
# an archive's sample anew: its seed, of 64 bits, is what generate takes
expect 0 '' archive show a.traces p7/1 --json
LC_ALL=C grep -aoE '"(seed|reasoning_content)":"[^"]*"' out.txt | LC_ALL=C sort | LC_ALL=C cut -d'"' -f4 >shown.txt
expect 0 '' generate --model teacher --prompt '4+1?' --temperature 1.3 --top-p 1 --max-tokens 60 --seed "$(tail -1 shown.txt)" --json
LC_ALL=C grep -aqF "\"reasoning\":\"$(head -1 shown.txt)\"" out.txt || fail "generate --seed: $(cat shown.txt out.txt)"
[ "$(printf '2+3?\n\n4+4?\n' | "$retort" generate -q --model teacher --chat --json 2>err.txt | wc -l)" = 2 ] ||
    fail "a conversation of two questions: $(cat err.txt)"
expect 0 '' logits --model "$here/golden/models/deepseek_q" --tokens "$here/golden/models/deepseek_q/tokens.npy" \
    --out l.npy --experts e.npy
cmp -s e.npy "$here/golden/models/deepseek_q/experts.npy" || fail "logits: other experts"
[ "$(wc -c <l.npy)" = "$(wc -c <"$here/golden/models/deepseek_q/logits.npy")" ] || fail "logits: other size"
expect 0 '' inspect teacher --json
grep -q '"parameters":80356,"parameters_active":58176,' out.txt || fail "inspect: $(cat out.txt)"
grep -q '"template_family":"zephyr"' out.txt || fail "inspect: $(cat out.txt)"
golden=$here/golden/models/gpt_oss_clamped
expect 0 '' inspect "$golden"
grep -q 'output bias, sinks, window of 17 in 2 layers, yarn rope x 8, clamped SwiGLU' out.txt || fail "inspect: $(cat out.txt)"
mkdir -p part && cp "$golden/config.json" part/ && cp "$here/golden/models/llama_tied/model.safetensors" part/
expect 1 'embed_tokens.weight has shape' inspect part
expect 0 '' inspect a.traces --json
grep -q '"kind":"trace archive","mode":"sample","teacher":"teacher","precision":"f32; mla absorbed"' out.txt ||
    fail "inspect: $(cat out.txt)"
expect 0 '' inspect s.traces
grep -q 'f32; mla expanded' out.txt || fail "inspect: $(cat out.txt)"
expect 0 '' sample $plan --out none.traces --plan
grep -qE '^  memory +all +[0-9]+ ' out.txt || fail "--plan: $(cat out.txt)"
absent none.traces

# --- whatever is wrong
make_model() { rm -rf "$1" && cp -r teacher "$1"; }
make_model unknown && rm -f unknown/retort.json && sed -i 's/"deepseek_v3"/"mamba9"/' unknown/config.json
make_model torn && truncate -s 200000 torn/model.safetensors
make_model pickle && mv pickle/model.safetensors pickle/pytorch_model.bin
make_model small && rm -f small/retort.json && sed -i 's/"vocab_size": 264/"vocab_size": 200/' small/config.json
make_model shape && rm -f shape/retort.json && sed -i 's/"intermediate_size": 80/"intermediate_size": 81/' shape/config.json
make_model other && rm -f other/retort.json && sed -i 's/<think>/<thonk>/g' other/tokenizer.json
make_model mute && rm mute/tokenizer.json
echo '{"prompt":"1+1?"}' >unanswered.jsonl
printf '{"prompt":"1+1?","answer":"2"}\n{"prompt":\n' >torn.jsonl
printf '{"id":"a","prompt":"1"}\n{"id":"a","prompt":"2"}\n' >twice.jsonl
: >empty.jsonl
: >plain.txt
out="--prompts pairs.jsonl --out none.traces"
expect 1 '^retort sample: nowhere: No such file or directory' sample --teacher nowhere $out
expect 2 'a remote teacher is not supported' sample --teacher http://localhost:8000/v1 $out
expect 1 'model_type.*mamba9' sample --teacher unknown $out
expect 1 'torn/model.safetensors' sample --teacher torn $out
expect 1 '(pickle|pytorch_model.bin)' sample --teacher pickle $out
expect 1 'do not belong together' sample --teacher small $out
expect 1 'config.json says' sample --teacher shape $out
expect 1 'mute/tokenizer.json' sample --teacher mute $out
expect 2 'missing --prompts FILE' sample --teacher teacher --out none.traces
expect 2 '--teacher' sample $out
expect 1 'none.jsonl' sample --teacher teacher --prompts none.jsonl --out none.traces
expect 1 'torn.jsonl:2' sample --teacher teacher --prompts torn.jsonl --out none.traces
expect 1 'empty.jsonl: no records' sample --teacher teacher --prompts empty.jsonl --out none.traces
expect 1 'twice.jsonl:2: id a occurs twice' sample --teacher teacher --prompts twice.jsonl --out none.traces
printf '{"prompt":"1+%d?"}\n' 1 2 3 >thrice.jsonl && printf '{"prompt":"1+%d?"}\n' 1 2 1 2 3 1 >repeats.jsonl
expect 0 '' sample --teacher teacher --prompts thrice.jsonl --max-tokens 4 --out thrice.traces
expect 0 '3 records say what an earlier one said and are left out, the first of them repeats.jsonl:3' \
    sample --teacher teacher --prompts repeats.jsonl --max-tokens 4 --out repeats.traces
same thrice.traces repeats.traces "records that repeat"
expect 1 'unanswered.jsonl:1: no "answer"' sample --teacher teacher --prompts unanswered.jsonl \
    --out none.traces --verify boxed
expect 1 'text.jsonl:1: a "text" is not a prompt' sample --teacher teacher --prompts text.jsonl --out none.traces
expect 2 '--shard 3/3|part 3 of 3' sample --teacher teacher $out --shard 3/3
expect 2 'tail-spacing' sample --teacher teacher $out --tail-spacing 0.001
expect 2 '--temperatures' sample --teacher teacher $out --temperatures 1,2,3,4,5
expect 2 'head-max' score --teacher teacher --data pairs.jsonl --out none.traces --head-max 0
expect 1 'another tokenizer.*teacher with that vocabulary' score --teacher other --data a.traces --out none.traces
expect 1 'unanswered.jsonl:1: .*nothing to learn' score --teacher teacher --data unanswered.jsonl --out none.traces
expect 1 'plain.txt' sample --teacher teacher --prompts pairs.jsonl --out plain.txt/a.traces
expect 2 'either --prompt' generate --model teacher
expect 1 'has ids 0 to 96' logits --model "$here/golden/models/deepseek_q" \
    --tokens "$here/golden/models/qwen3_moe_norm/tokens.npy" --out none.npy
expect 1 'logits.npy' logits --model "$here/golden/models/deepseek_q" \
    --tokens "$here/golden/models/deepseek_q/logits.npy" --out none.npy
expect 2 'has none' logits --model "$here/golden/models/qwen3" \
    --tokens "$here/golden/models/qwen3/tokens.npy" --out l2.npy --experts none.npy
expect 1 'is not a model, a GGUF or a trace archive' inspect "$scratch"
for name in none.traces none.npy; do absent $name; done
"$retort" sample -q $plan --out a.traces --seed 6 >out.txt 2>err.txt
[ $? = 1 ] && grep -q 'seed' err.txt || fail "another seed into the same archive: $(cat err.txt)"
expect 0 '' archive verify a.traces
same a.traces b.traces "refused changes"
exit $failed
