#!/bin/sh
# run.sh TEACHER PROMPTS.jsonl [flags of retort run...]: the whole chain with a teacher and prompts of yours: any model
# directory or GGUF that retort reads answers the prompts (a {"prompt": "...", "answer": "..."} a line; the answer may be
# missing), a student of random weights and the teacher's tokenizer learns from the soft targets, is brought to 4 bits, and
# all three are measured on the last tenth of the prompts, which the student has not seen. Run again, it takes up where it
# stopped. SHAPE (25m), SAMPLES a prompt (2), MAX_TOKENS of an answer (256), STEPS (300) and OUT (out/own-model) are taken
# from the environment; `retort help init` lists the shapes. Installs what is missing and builds, unless RETORT names the program.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: $0 TEACHER PROMPTS.jsonl [flags of retort run...]" >&2
    exit 2
fi
teacher=$(realpath -- "$1") prompts=$(realpath -- "$2")
shift 2
cd "$(dirname "$0")/../.."
. tests/setup.sh

if [ -z "${RETORT-}" ]; then
    install_packages
    build_tree build
fi
out=${OUT:-out/own-model}
mkdir -p "$out"

# The last tenth, at least one, is held out.
all=$(grep -c . "$prompts") || { echo "$prompts: holds no prompts" >&2; exit 1; }
held=$(((all + 9) / 10))
[ "$held" -lt "$all" ] || { echo "$prompts: give at least two prompts" >&2; exit 1; }
put() { # NAME: standard input as a file of the run, written once it differs
    cat >"$out/$1.part"
    if cmp -s "$out/$1.part" "$out/$1"; then rm "$out/$1.part"; else mv "$out/$1.part" "$out/$1"; fi
}
grep . "$prompts" | head -n $((all - held)) | put prompts.jsonl
grep . "$prompts" | tail -n "$held" | put heldout.jsonl
quoted=$(printf '%s' "$teacher" | sed 's/[\\"]/\\&/g')
put recipe.json <<END
{
  "traces": {
    "command": "sample", "teacher": "$quoted", "prompts": ["{out}/prompts.jsonl"], "out": "{out}/traces.traces",
    "samples": ${SAMPLES:-2}, "max_tokens": ${MAX_TOKENS:-256}, "seed": 1
  },
  "heldout": {
    "command": "sample", "teacher": "$quoted", "prompts": ["{out}/heldout.jsonl"], "out": "{out}/heldout.traces",
    "max_tokens": ${MAX_TOKENS:-256}, "seed": 2
  },
  "start": {"command": "init", "shape": "${SHAPE:-25m}", "tokenizer": "$quoted", "out": "{out}/start"},
  "student": {
    "command": "train", "model": "{out}/start", "data": ["{out}/traces.traces"], "out": "{out}/student",
    "steps": ${STEPS:-300}, "batch_tokens": 4096, "pass_tokens": 2048, "max_length": 1024, "learning_rate": 0.002, "warmup": 30,
    "eval_data": ["{out}/heldout.traces"], "eval_every": 100
  },
  "small": {"command": "quantize", "model": "{out}/student", "out": "{out}/student.gguf"},
  "eval_teacher": {"command": "eval", "model": "$quoted", "archive": ["{out}/heldout.traces"], "out": "{out}/eval/teacher.json"},
  "eval_student": {
    "command": "eval", "model": "{out}/student", "archive": ["{out}/heldout.traces"], "out": "{out}/eval/student.json"
  },
  "eval_small": {
    "command": "eval", "model": "{out}/student.gguf", "reference": "{out}/student", "archive": ["{out}/heldout.traces"],
    "out": "{out}/eval/small.json"
  },
  "report": {
    "models": {"teacher": "eval_teacher", "student": "eval_student", "4 bits": "eval_small"},
    "kl": {"what 4 bits cost": "eval_small"}, "archive": "traces"
  }
}
END
exec "${RETORT:-build/retort}" run "$out/recipe.json" --out "$out" "$@"
