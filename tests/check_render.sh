# check_render.sh RETORT DIR: `retort render` as a user runs it: text on stdout and nothing else, one
# line on stderr and the right exit code for what is wrong.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 golden=$(dirname "$0")/golden
rm -rf "$dir" && mkdir -p "$dir/model" || exit 1

expect() { # expect NAME WANTED GOT
    [ "$2" = "$3" ] || { printf '%s\n--- wanted\n%s\n--- got\n%s\n' "$1" "$2" "$3"; failed=1; }
}
refuses() { # refuses CODE PATTERN ARGS...
    code=$1 pattern=$2
    shift 2
    message=$("$retort" render "$@" 2>&1 >"$dir/stdout")
    got=$?
    [ $got = "$code" ] && [ ! -s "$dir/stdout" ] && [ "$(printf '%s\n' "$message" | wc -l)" = 1 ] &&
        printf '%s' "$message" | grep -q -- "$pattern" ||
        { echo "render $*: exit $got, '$message', wanted exit $code and '$pattern'"; failed=1; }
}

cp "$golden/templates/qwen3.jinja" "$dir/model/chat_template.jinja"
echo '{"eos_token": {"content": "<|im_end|>"}}' >"$dir/model/tokenizer_config.json"
echo '[{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", "thinking": "easy"}]' \
    >"$dir/chat.json"
expect "messages" '<|im_start|>user
2+2?<|im_end|>
<|im_start|>assistant
<think>
easy
</think>

4<|im_end|>' "$("$retort" render --model "$dir/model" --messages "$dir/chat.json")"

expect "a GGUF" "[{'role': 'user', 'content': '2+2?'}, {'thinking': 'easy', 'role': 'assistant', 'content': '4', 'reasoning_content': 'easy'}]" \
    "$("$retort" render --model "$golden/tokenizers/qwen2.gguf" --messages "$dir/chat.json")"
refuses 1 'No such file' --model nowhere --messages "$dir/chat.json"

echo '{"messages": [{"role": "user", "content": "x"}], "enable_thinking": true}' >"$dir/object.json"
expect "object, prompt, set" '<|im_start|>user
x<|im_end|>
<|im_start|>assistant
<think>

</think>

.' "$("$retort" render --model "$dir/model" --messages "$dir/object.json" --add-generation-prompt \
    --set enable_thinking=false; echo .)"

echo '{{ strftime_now("%d %b %Y") }} {{ eos_token }} {{ n }}' >"$dir/model/chat_template.jinja"
expect "variables" '26 Nov 2026 <|im_end|> 1.0' "$("$retort" render --model "$dir/model" \
    --messages "$dir/chat.json" --set 'strftime_now="2026-11-26"' --set n=1.0)"

refuses 2 'NAME=JSON' --model "$dir/model" --messages "$dir/chat.json" --set name
refuses 2 'needs its quotes' --model "$dir/model" --messages "$dir/chat.json" --set name=text
refuses 2 messages --model "$dir/model"
refuses 1 'list of messages' --model "$dir/model" --messages "$dir/model/tokenizer_config.json"
refuses 1 'absent.json' --model "$dir/model" --messages "$dir/absent.json"
printf '\n{{ raise_exception("roles must alternate") }}' >"$dir/model/chat_template.jinja"
refuses 1 'line 2: roles must alternate' --model "$dir/model" --messages "$dir/chat.json"
rm "$dir/model/chat_template.jinja"
refuses 1 'no chat template' --model "$dir/model" --messages "$dir/chat.json"
[ $failed = 0 ] && rm -rf "$dir"
exit $failed
