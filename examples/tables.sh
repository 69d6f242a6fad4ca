#!/bin/sh
# tables.sh [TABLE...]: what does each choice buy? Students that differ in one thing, with three seeds each: mean, and largest
# minus smallest, of exact answers, held-out KL to the teacher and cross-entropy, and the teacher's tokens it took. Tables:
#   objectives  what is minimised, from random weights: labels and the kinds of soft targets (reverse, jsd, skew begin with forward)
#   optimizer   AdamW against Muon (which all others use)
#   policy      from a warm student, equal teacher tokens: new texts of the teacher, the student's answers scored once (offline; a
#               quarter of them) or before every step (live)
#   adapters    from a warm student: all weights against LoRA, on the teacher's new texts
#   vocabulary  a student of another vocabulary: labels and mapped targets against the teacher's own vocabulary
# The teacher is the miniature, its prompts the example's problems; or TEACHER=DIR|GGUF with PROMPTS=FILE.jsonl (232 lines), a
# student of SHAPE (25m), no answers to judge and fewer rows. Each run is kept under OUT (out/tables, one folder a teacher); run again, finished ones are
# not repeated, and PRINT=1 only prints. SEEDS, STEPS (of a run from random weights), MORE (of one from a warm student), TRACES (prompts)
# and THREADS are taken from the environment; two processes with other SEEDS may run side by side once the texts are there.
set -eu
[ $# -gt 0 ] || set -- objectives optimizer policy adapters vocabulary
cd "$(dirname "$0")/.."
export LC_ALL=C
seeds=${SEEDS:-0 1 2} threads=${THREADS:-0} retort=${RETORT:-build/retort} out=${OUT:-out/tables}
if [ -z "${TEACHER-}" ]; then
    teacher=examples/reasoning/teacher out=$out/miniature traces=${TRACES:-900} steps=${STEPS:-500} more=${MORE:-100} each=21
    length=512 answer=256 batch=1800 held=600 judged="--verdicts correct" verify="--verify boxed" weak=0.001
    rate="--learning-rate 0.004 --warmup $((steps / 10))"
else
    teacher=$TEACHER out=$out/$(basename "$TEACHER") traces=${TRACES:-100} steps=${STEPS:-100} more=${MORE:-14} each=8
    length=512 answer=192 batch=2048 held=20 judged="--verdicts correct,wrong,unverified,unfinished" verify="" weak=0.0003
    rate="--learning-rate 0.002 --warmup $((steps / 10))"
fi
any="--verdicts correct,wrong,unverified,unfinished"
mkdir -p "$out"

# ---- texts: the first prompts, held-out ones, and new ones for who goes on from a warm student
prompts() { # NAME FIRST COUNT SEED SPLIT
    [ -e "$out/$1.jsonl" ] && return
    if [ -z "${TEACHER-}" ]; then
        "$(dirname "$retort")/reasoning-problems" --n "$3" --seed "$4" --split "$5" --form problem >"$out/$1.part"
    else
        tail -n +"$2" "${PROMPTS:?a JSONL file of prompts for TEACHER}" | head -n "$3" >"$out/$1.part"
    fi
    mv "$out/$1.part" "$out/$1.jsonl"
}
sample() { # NAME SEED: finished, it says so and is left alone
    $retort sample --teacher "$teacher" --prompts "$out/$1.jsonl" --out "$out/$1.traces" $verify --max-tokens $answer --seed "$2" \
        --threads "$threads" >/dev/null
}
texts() {
    prompts heldout 1 $held 2 heldout
    prompts first $((held + 1)) "$traces" 1 train
    prompts new $((held + traces + 1)) $((more * each)) 11 train
    sample heldout 2
    sample first 1
}

# ---- a run: trained and measured once
start() { # TOKENIZER: of random weights
    if [ -z "${TEACHER-}" ]; then
        echo "--config examples/reasoning/student-config.json --tokenizer $1"
    else
        [ -e "$out/start" ] || $retort init --shape "${SHAPE:-25m}" --tokenizer "$1" --out "$out/start" >/dev/null
        echo "--model $out/start"
    fi
}
muon="--optimizer muon --weight-decay 0.5 --ema 0.99"
run() { # NAME flags of train...
    name=$1-$seed
    shift
    [ -n "${PRINT-}" ] || [ -e "$out/$name.json" ] && return
    $retort train --out "$out/$name" --batch-tokens $batch --pass-tokens $batch --schedule linear --min-rate 0.05 \
        --max-length $length --threads "$threads" --seed "$seed" "$@" >"$out/$name.txt"
    model=$out/$name
    case " $* " in *" --lora-rank "*) $retort merge-adapter --adapter "$model" --out "$model-merged" >/dev/null && model=$model-merged ;; esac
    problems="" other=""
    [ -n "${TEACHER-}" ] || problems="--problems $out/heldout.jsonl --max-tokens $answer"
    case " $* " in *" --teacher-tokenizer "*) other="--teacher-tokenizer $teacher" ;; *) other="--reference $teacher" ;; esac
    $retort eval --model "$model" $other $problems --archive "$out/heldout.traces" --max-length $length --threads "$threads" \
        --out "$out/$name.json" >/dev/null
}
fresh="$rate $muon $judged --steps $steps"
warm() { run forward $(start "$teacher") --loss forward $fresh --data "$out/first.traces"; }
after() { echo "--model $out/forward-$seed --steps $more --learning-rate $weak --warmup $((more / 10)) $muon"; }

# ---- tables: what a row is, and its runs
arm() { # ROW: for one seed
    first="--data $out/first.traces" asked="--teacher $teacher --prompts $out/new.jsonl --rollout-tokens $answer"
    case $1 in
    hard | bucket | renorm | reverse | jsd | skew) run "$1" $(start "$teacher") --loss "$1" $fresh $first ;;
    forward | muon | same | warm) warm ;;
    adamw) run adamw $(start "$teacher") --loss forward $fresh --optimizer adamw $first ;;
    new-forward | full) warm; run new-forward $(after) --loss forward $any --data "$out/new.traces" ;;
    new-hard) warm; run new-hard $(after) --loss hard $any --data "$out/new.traces" ;;
    lora) warm; run lora --model "$out/forward-$seed" --steps "$more" --learning-rate 0.004 --warmup $((more / 10)) --lora-rank 16 --loss forward \
              $any --data "$out/new.traces" ;;
    offline-*) warm; run "$1" $(after) --loss "${1#*-}" $asked --rounds 1 --rollouts $((more * each)) ;;
    quarter-*) warm; run "$1" $(after) --loss "${1#*-}" $asked --rounds 1 --rollouts $((more * each / 4)) ;;
    live-*) warm; run "$1" $(after) --loss "${1#*-}" $asked --rollouts $each ;;
    other-hard) run other-hard $(start "$out/other") --loss hard $fresh $first --teacher-tokenizer "$teacher" ;;
    other-mapped) run other-mapped $(start "$out/other") --loss forward $fresh $first --teacher-tokenizer "$teacher" ;;
    esac
}
rows() { # TABLE
    case $1 in
    objectives) [ -n "${TEACHER-}" ] && echo hard forward || echo hard forward bucket renorm reverse jsd skew ;;
    optimizer) echo adamw muon ;;
    policy) [ -n "${TEACHER-}" ] && echo warm new-forward offline-forward live-forward || echo warm new-hard new-forward offline-forward offline-jsd offline-reverse quarter-forward quarter-reverse live-forward live-reverse ;;
    adapters) echo warm full lora ;;
    vocabulary) [ -n "${TEACHER-}" ] || echo same other-hard other-mapped ;;
    *) echo "tables.sh: no table $1: objectives, optimizer, policy, adapters, vocabulary" >&2; exit 2 ;;
    esac
}
for table; do rows "$table" >/dev/null; done
[ -n "${PRINT-}" ] || texts
for table; do
    [ -z "${PRINT-}" ] || continue
    case $table in policy | adapters) sample new 11 ;; esac
    if [ "$table" = vocabulary ] && [ ! -e "$out/other" ] && [ -z "${TEACHER-}" ]; then
        "$(dirname "$retort")/reasoning-problems" --n 300 --seed 3 --form trace >"$out/texts.jsonl"
        $retort tokenizer --in "$out/texts.jsonl" --pre qwen2 --vocab 400 --special '<|user|>' --special '<|assistant|>' \
            --special '<|end|>' --added '<think>' --added '</think>' --eos '<|end|>' \
            --chat-template examples/reasoning/chat_template.jinja --out "$out/other" >/dev/null
    fi
    for seed in $seeds; do for row in $(rows "$table"); do arm "$row"; done; done
done

# ---- printed
field() { sed -n "s/^ *\"$1\":[[:space:]]*\([-0-9.e]*\),*\$/\1/p" "$2" | head -n 1; }
tokens() { # ARCHIVE... -> of all
    for archive; do $retort archive stats "$archive" --json | sed -n 's/.*"tokens":\([0-9]*\).*/\1/p'; done | awk '{ n += $1 } END { print n + 0 }'
}
taught() { # NAME: the teacher's tokens, read or written, beyond the warm student's
    case $1 in
    offline-* | quarter-* | live-*) tokens "$out/$1-$seed"/round-*.traces ;;
    new-* | lora) tokens "$out/new.traces" ;;
    *) tokens "$out/first.traces" ;;
    esac
}
for table; do
    printf '\n%-15s %5s %16s %18s %18s %9s\n' "$table" seeds 'answers %' 'KL to teacher' 'cross-entropy' 'tokens'
    for row in $(rows "$table"); do
        case $row in forward | muon | same | warm) name=forward ;; full) name=new-forward ;; *) name=$row ;; esac
        for seed in $seeds; do
            f=$out/$name-$seed.json
            [ -e "$f" ] || continue
            a=-
            [ -n "${TEACHER-}" ] || a=$(field accuracy "$f") # else that of a bin of the calibration
            k=$(field kl "$f") c=$(field cross_entropy "$f")
            echo "${a:--} ${k:--} ${c:--} $(taught "$name")"
        done | awk -v row="$row" '
            { for (i = 1; i <= 4; i++) { if ($i == "-") none[i] = 1; s[i] += $i; if (NR == 1 || $i < lo[i]) lo[i] = $i; if (NR == 1 || $i > hi[i]) hi[i] = $i } }
            END { if (!NR) { printf "%-15s     -\n", row; exit }
                  printf "%-15s %5d", row, NR
                  if (none[1]) printf " %16s", "-"; else printf " %8.1f +- %4.1f", 100 * s[1] / NR, 100 * (hi[1] - lo[1])
                  for (i = 2; i <= 3; i++) if (none[i]) printf " %18s", "-"; else printf " %8.4f +- %.4f", s[i] / NR, hi[i] - lo[i]
                  printf " %9d\n", s[4] / NR }'
    done
done
