# Sourced by the checks of retort run, with $retort, $problems and $template set, in an empty folder: a
# teacher of 35k parameters and recipe.json, whose whole chain takes a fraction of a second.
"$problems" --n 400 --seed 3 --form trace >traces.jsonl &&
    "$problems" --n 6 --seed 4 --form problem >problems.jsonl &&
    "$retort" -q tokenizer --in traces.jsonl --out tok --vocab 400 --special '<|user|>' --special '<|assistant|>' \
        --special '<|end|>' --added '<think>' --added '</think>' --eos '<|end|>' --chat-template "$template" 2>/dev/null || exit 1
cat >dense.json <<'E2'
{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
 "intermediate_size": 64, "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
E2
"$retort" -q train --config dense.json --tokenizer tok --data traces.jsonl --loss hard --out teacher --steps 5 \
    --batch-tokens 600 --pass-tokens 600 --max-length 256 --learning-rate 0.01 --warmup 2 || exit 1
cat >recipe.json <<'E2'
{"run": {"out": "run"},
 "traces": {"command": "sample", "teacher": "teacher", "prompts": ["problems.jsonl"], "out": "{out}/a.traces",
            "verify": "boxed", "max_tokens": 12, "samples_per_shard": 4},
 "student": {"command": "train", "config": "dense.json", "tokenizer": "teacher", "data": ["{out}/a.traces"],
             "out": "{out}/student", "verdicts": "correct,wrong,unverified,unfinished", "steps": 4, "batch_tokens": 60,
             "pass_tokens": 60, "max_length": 256, "save_every": 1, "warmup": 1},
 "quantized": {"command": "quantize", "model": "{out}/student", "type": "Q4_0", "out": "{out}/student.gguf"},
 "judged": {"command": "eval", "model": "{out}/student.gguf", "reference": "{out}/student", "problems": ["problems.jsonl"],
            "archive": ["{out}/a.traces"], "max_tokens": 4, "limit": 3, "out": "{out}/eval/quantized.json"},
 "report": {"models": {"quantized": "judged"}, "kl": {"student_quantized": "judged"}, "archive": "traces"}}
E2
# results DIR: the files of its finished outputs with their hashes
results() {
    (cd "$1" && find a.traces student student.gguf eval -type f ! -name metrics.jsonl ! -name 'events.out.*' ! -name lock | sort | xargs sha256sum)
}
# lost WANT DIR: the files of that list whose bytes are nowhere below DIR. One process, thousands of times.
lost() {
    local there sum name
    there=$(find "$2" -type f -exec sha256sum {} +)
    while read -r sum name; do
        [[ $there == *"$sum"* ]] || echo "$sum $name"
    done <<<"$1"
}
