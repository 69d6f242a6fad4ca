#!/bin/bash
# A device that is lost in the middle (a driver that dies, a card that falls off the bus): the command ends
# in one line that says so, exit 1, nothing is half-written, and the same command run again ends in the
# bytes of an undisturbed run. Needs a device that can be told to fail: the strict one (RETORT_STRICT=ON) or the
# emulated GPU (RETORT_CUDA=EMULATE). There also: no driver, an old one, no such GPU, too little memory.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2
rm -rf "$dir" && mkdir -p "$dir"
case $("$retort" doctor --json) in
*'"strict"'*) emulated= fails=RETORT_STRICT_FAIL words='operation [0-9]* failed' ;;
*'"emulated'*) emulated=yes fails=RETORT_EMULATE_FAIL words='device cuda:0 (emulated): .* failed: .*start the command again' ;;
*) exit 0 ;;
esac
teacher=$PWD/examples/reasoning/teacher student=$PWD/examples/reasoning/student-config.json
tokens=$PWD/tests/golden/example/tokens.npy
cd "$dir" || exit 1
cp "$tokens" ids.npy || exit 1
for i in $(seq 12); do echo "{\"id\": \"p$i\", \"prompt\": \"What is $i + 7?\", \"response\": \"$((i + 7))\"}"; done >text.jsonl

run() { # NAME [FLAG...]: the command, into out.NAME
    local name=$1
    shift
    [ $name != offload ] || set -- --recompute offload "$@"
    case $name in
    sample) "$retort" sample --teacher "$teacher" --prompts text.jsonl --max-tokens 12 --out out.sample "$@" ;;
    score) "$retort" score --teacher "$teacher" --data text.jsonl --out out.score "$@" ;;
    train | offload) "$retort" train --config "$student" --tokenizer "$teacher" --data whole.score --steps 6 --warmup 2 \
        --save-every 2 --batch-tokens 200 --pass-tokens 200 --max-length 128 --out out.$name "$@" ;;
    eval) "$retort" eval --model "$teacher" --archive whole.score --json "$@" >out.eval ;;
    logits) "$retort" logits --model "$teacher" --tokens ids.npy --out out.logits "$@" ;;
    generate) "$retort" generate --model "$teacher" --prompt "2 + 3" --max-tokens 5 "$@" >out.generate ;;
    esac
}

settled() { # without what differs from run to run
    sed -i 's/"seconds":[^,}]*//' "$1/metrics.jsonl" 2>/dev/null
    rm -f "$1"/events.out.*
}
same() { settled out.$1; diff -r out.$1 whole.$1 >diff 2>&1; }

for name in score sample train offload eval logits generate; do
    run $name >stdout 2>stderr || { fail "$name: $(cat stderr)"; continue; }
    settled out.$name
    mv out.$name whole.$name
    for at in 1 40 333 2500; do
        rm -rf out.$name
        export $fails=$at
        run $name >stdout 2>stderr
        rc=$?
        unset $fails
        if [ $rc = 0 ]; then # it had ended before
            same $name || fail "$name, failure at $at after the end: $(head -3 diff)"
            continue
        fi
        [ $rc = 1 ] && [ "$(grep -c "$words" stderr)" = 1 ] || fail "$name, failure at $at: exit $rc: $(tail -3 stderr)"
        run $name >stdout 2>stderr || fail "$name, again after a failure at $at: $(cat stderr)"
        same $name || fail "$name, again after a failure at $at: other bytes: $(head -3 diff)"
    done
done

says() { # WHAT WORDS COMMAND...: exit 1 or 2, one line that holds the words
    local what=$1 said=$2
    shift 2
    "$@" >stdout 2>stderr
    rc=$?
    [ $rc = 1 ] || [ $rc = 2 ] || fail "$what: exit $rc"
    [ "$(grep -c "$said" stderr)" = 1 ] && [ "$(wc -l <stderr)" = 1 ] || fail "$what: it says: $(cat stderr)"
}
if [ -n "$emulated" ]; then
    logits() { "$retort" logits --model "$teacher" --tokens ids.npy --out out.logits "$@"; }
    with() { # SETTING ARGUMENT...: logits under it
        local setting=$1
        shift
        (export "$setting" && logits "$@")
    }
    says 'no driver' 'no NVIDIA driver is loaded' with RETORT_EMULATE_DRIVER=unloaded
    says 'an old driver' 'update the NVIDIA driver' with RETORT_EMULATE_DRIVER=old
    says 'no GPU' 'no GPU was found' with RETORT_EMULATE_DRIVER=none
    says 'no such GPU' 'there is 1: use cuda:0' logits --device cuda:7
    says 'no such device' 'use cuda or cpu' logits --device gpu
    says 'a bound on a CPU' 'bounds the memory of a GPU' logits --device cpu --gpu-memory 1G
    says 'a precision on a CPU' 'device cpu has exact|int8' logits --device cpu --precision bf16
    says 'no such precision' 'f32|bf16|fp8' logits --precision fp4
    says 'a GPU too old for fp8' 'fp8 needs 8.9' with RETORT_EMULATE_ARCH=86 --precision fp8
    says 'a small GPU' 'are needed, device cuda has' with RETORT_EMULATE_MEMORY=1000000
    says 'a small bound' 'are needed, device cuda has' logits --gpu-memory 1M
    # what --plan says of the GPU's memory is what is taken: so much is enough, and less is not
    export RETORT_EMULATE_TEAM=3 # whose workspace is the device's
    for name in score sample train offload eval; do
        rm -rf out.$name
        mode=
        case $name in train | offload) mode="--memory-mode resident" ;; esac # or it would take another
        run $name $mode --plan >stdout 2>stderr
        [ $name != eval ] || mv out.eval stdout # which is JSON
        device=$(grep -oE '"device":\{"bytes":[0-9]+|^ +device +all +[0-9]+' stdout | grep -oE '[0-9]+$')
        [ "${device:-0}" -gt 0 ] || { fail "$name --plan: no memory of the device: $(cat stdout stderr)"; continue; }
        run $name $mode --gpu-memory "$device" >stdout 2>stderr || fail "$name within its plan: $(cat stderr)"
        rm -rf out.$name
        says "$name within less than its plan" "device cuda\|of the device's memory" run $name $mode -q --gpu-memory $((device - 1))
    done
    unset RETORT_EMULATE_TEAM
    # inputs of layers lie in the host's memory, and that is told where they do not fit the device's
    run offload --overwrite --memory-mode stream --plan >stdout 2>stderr
    grep -qE '^ +pinned +activations +block.stream' stdout || fail "offload --plan: $(cat stdout stderr)"
    device=$(grep -oE '^ +device +all +[0-9]+' stdout | grep -oE '[0-9]+$')
    says 'less memory' 'these fit: --memory-mode [a-z]* --recompute offload --pass-tokens 200$' run train -q --overwrite \
        --recompute none --gpu-memory "$device"
    hint=$(sed -n 's/.*these fit: //p' stderr)
    run train -q --overwrite --gpu-memory "$device" $hint 2>stderr || fail "$hint: $(cat stderr)"
    rm -f out.logits
    logits --device cpu 2>stderr && logits --device cuda:0 --gpu-memory 2G --overwrite 2>stderr || fail "logits: $(cat stderr)"
fi
exit $failed
