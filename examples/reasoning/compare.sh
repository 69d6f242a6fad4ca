#!/bin/sh
# compare.sh: what do soft targets buy, and which kind? The example's student at two trace budgets, with
# three seeds, for every target kind: mean and spread (largest minus smallest) of exact answers, held-out
# KL to the teacher, and the student's entropy. An hour and a half on two cores: SEEDS, BUDGETS, KINDS and
# STEPS shorten it, KINDS="... full" lengthens it. Each run is kept under out/compare; run again, finished
# ones are not repeated. THREADS=1 BUDGETS=1000 and THREADS=1 BUDGETS=4000 may run side by side: THREADS is of each.
#   hard     labels only           forward  exact head + drawn tail (the default)
#   full     forward on an archive that kept 64 tokens a position, nearly the whole distribution
#   bucket   one tail bucket       renorm   head scaled to 1      reverse, jsd, skew, skew-reverse, tvd   on head + bucket,
#            after forward, as train does it from random weights (--loss-first)
set -eu
cd "$(dirname "$0")/../.."
seeds=${SEEDS:-0 1 2} budgets=${BUDGETS:-1000 4000} kinds=${KINDS:-hard forward bucket renorm reverse jsd}
steps=${STEPS:-1500} threads=${THREADS:-0} retort=build/retort out=out/compare teacher=examples/reasoning/teacher
mkdir -p $out

sample() { # NAME PROBLEMS SEED SPLIT
    [ -e "$out/$1.done" ] && return 0
    build/reasoning-problems --n "$2" --seed "$3" --split "$4" --form problem >"$out/$1.jsonl"
    $retort sample --teacher $teacher --prompts "$out/$1.jsonl" --out "$out/$1.traces" --verify boxed \
        --max-tokens 256 --seed "$3" --threads "$threads" >"$out/$1.txt"
    touch "$out/$1.done"
}
sample heldout 600 2 heldout
for budget in $budgets; do
    sample "t$budget" "$budget" 1 train
    case " $kinds " in *" full "*)
        [ -e "$out/f$budget.done" ] || {
            $retort score --teacher $teacher --data "$out/t$budget.traces" --out "$out/f$budget.traces" \
                --head-max 64 --head-floor 0 --tail-spacing 0.00390625 >/dev/null
            touch "$out/f$budget.done"
        } ;;
    esac
    for kind in $kinds; do
        for seed in $seeds; do
            run=$out/$budget-$kind-$seed data=$out/t$budget.traces loss=$kind
            [ -e "$run.json" ] && continue
            [ "$kind" = full ] && data=$out/f$budget.traces loss=forward
            $retort train --config examples/reasoning/student-config.json --tokenizer $teacher --data "$data" --out "$run" \
                --loss $loss --verdicts correct --steps "$steps" --batch-tokens 1800 --pass-tokens 1800 --threads "$threads" --seed "$seed" \
                --learning-rate 0.004 --warmup 100 --schedule linear --min-rate 0.05 --max-length 512
            $retort eval --model "$run" --reference $teacher --problems $out/heldout.jsonl --archive $out/heldout.traces \
                --max-tokens 256 --max-length 512 --threads "$threads" --out "$run.json" >/dev/null
        done
    done
done

field() { sed -n "s/^ *\"$1\":[[:space:]]*\([-0-9.e]*\),*\$/\1/p" "$2" | head -n 1; }
printf '%-7s %-8s %5s %18s %18s %18s\n' traces target seeds 'answers %' 'KL to teacher' 'entropy'
for budget in $budgets; do
    for kind in $kinds; do
        for seed in $seeds; do
            f=$out/$budget-$kind-$seed.json
            echo "$(field accuracy "$f") $(field kl "$f") $(field entropy "$f")"
        done | awk -v b="$budget" -v k="$kind" '
            { for (i = 1; i <= 3; i++) { s[i] += $i; if (NR == 1 || $i < lo[i]) lo[i] = $i; if (NR == 1 || $i > hi[i]) hi[i] = $i } }
            END { printf "%-7s %-8s %5d", b, k, NR
                  printf " %10.1f +- %4.1f", 100 * s[1] / NR, 100 * (hi[1] - lo[1])
                  for (i = 2; i <= 3; i++) printf " %9.4f +- %.4f", s[i] / NR, hi[i] - lo[i]
                  print "" }'
    done
done
