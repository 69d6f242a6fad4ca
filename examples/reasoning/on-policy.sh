#!/bin/sh
# on-policy.sh: what does the teacher's view of the student's own text buy? From one warm start (WARM steps on
# the traces of 900 problems) three ways to go on, of as many steps and about as many tokens that the teacher
# reads or writes:
#   traces    new traces of the teacher         offline   answers of the warm student, scored once
#   live      answers of the student of each step, scored before it
# for every loss, with every seed: exact answers, held-out KL to the teacher (of its text), and the student's
# entropy. An hour on two cores: STEPS, SEEDS, LOSSES and WAYS shorten it. Each run is kept under
# out/on-policy; run again, finished ones are not repeated.
set -eu
cd "$(dirname "$0")/../.."
seeds=${SEEDS:-0} losses=${LOSSES:-reverse forward jsd} ways=${WAYS:-traces offline live} steps=${STEPS:-100} warm=${WARM:-600}
threads=${THREADS:-0} retort=build/retort out=out/on-policy teacher=examples/reasoning/teacher each=21
mkdir -p $out
export LC_ALL=C

problems() { # NAME COUNT SEED SPLIT
    [ -e "$out/$1.jsonl" ] || build/reasoning-problems --n "$2" --seed "$3" --split "$4" --form problem >"$out/$1.jsonl"
}
sample() { # NAME SEED: again, it is there already
    $retort sample --teacher $teacher --prompts "$out/$1.jsonl" --out "$out/$1.traces" --verify boxed --max-tokens 256 \
        --seed "$2" --threads "$threads" >/dev/null
}
train() { # OUT STEPS RATE flags...
    run=$out/$1 n=$2 rate=$3
    shift 3
    $retort train --out "$run" --steps "$n" --learning-rate "$rate" --batch-tokens 1800 --pass-tokens 1800 --schedule linear \
        --min-rate 0.05 --max-length 512 --threads "$threads" "$@"
}
measure() { # RUN
    [ -e "$out/$1.json" ] || $retort eval --model "$out/$1" --reference $teacher --problems $out/heldout.jsonl \
        --archive $out/heldout.traces --max-tokens 256 --max-length 512 --threads "$threads" --out "$out/$1.json" >/dev/null
}
field() { sed -n "s/^ *\"$1\":[[:space:]]*\([-0-9.e]*\),*\$/\1/p" "$out/$2.json" | head -n 1; }

problems first 900 1 train
problems heldout 600 2 heldout
problems new $((steps * each)) 11 train
sample first 1
sample heldout 2
train warm "$warm" 0.004 --config examples/reasoning/student-config.json --tokenizer $teacher --data $out/first.traces \
    --loss forward --verdicts correct --warmup 100
measure warm
for seed in $seeds; do
    for loss in $losses; do
        for way in $ways; do
            name=$way-$loss-$seed go="--model $out/warm --loss $loss --warmup 10 --seed $seed"
            asked="--teacher $teacher --prompts $out/new.jsonl --rollout-tokens 256"
            case $way in
            traces)
                sample new 7
                train "$name" "$steps" 0.001 $go --data $out/new.traces --verdicts correct,wrong,unverified,unfinished ;;
            offline) train "$name" "$steps" 0.001 $go $asked --rounds 1 --rollouts $((steps * each)) >"$out/$name.txt" ;;
            live) train "$name" "$steps" 0.001 $go $asked --rollouts $each >"$out/$name.txt" ;;
            esac
            measure "$name"
        done
    done
done

printf '%-8s %-9s %5s %9s %8s %8s\n' way loss seed 'answers %' KL entropy
row() { # WAY LOSS SEED RUN
    printf '%-8s %-9s %5s %9s %8.4f %8.4f\n' "$1" "$2" "$3" "$(field accuracy "$4" | awk '{ printf "%.1f", 100 * $1 }')" \
        "$(field kl "$4")" "$(field entropy "$4")"
}
row warm forward - warm
for way in $ways; do
    for loss in $losses; do
        for seed in $seeds; do row "$way" "$loss" "$seed" "$way-$loss-$seed"; done
    done
done
