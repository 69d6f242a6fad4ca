#!/usr/bin/env python3
"""Golden renders of chat templates, by jinja2 exactly as transformers sets it up.

    pip install transformers jinja2
    python3 tests/golden/make_templates.py        writes tests/golden/templates.json

Input: templates/*.jinja (own templates in the style of known families) on the conversations below,
and the expressions of template_cases.txt (parted by lines "%%") on CASE_CONTEXT. A case that raises
is stored as null: retort must fail too. template_refused.txt holds what jinja2 renders and
retort refuses by design; nothing is stored for it, the test only checks that it fails.
"""
import datetime
import glob
import json
import os

import jinja2
import transformers
from transformers.utils import chat_template_utils as hf

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = datetime.datetime(2026, 11, 26, 8, 30, 5)

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Get the \"weather\" — now\nor later",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "City name", "enum": ["Rome", "Köln"]},
        "unit": {"type": ["string", "null"], "default": "c"},
        "days": {"type": "integer", "minimum": 1.0, "maximum": 7, "default": 3},
        "opts": {"type": "array", "items": {"type": "object", "properties": {
            "a": {"type": "number"}, "b": {"type": "boolean"}}, "required": ["a"]}}},
        "required": ["city"]}, "return": {"type": "string"}}}
CALL = {"id": "abcdef123", "type": "function", "function": {"name": "get_weather", "arguments": {
    "city": "Köln", "days": 3, "x": 1.0, "deep": {"a": [1, None, True], "b": "</think>"}}}}
CALL2 = {"id": "abcdef124", "type": "function",
         "function": {"name": "brave_search", "arguments": {"query": "time \\ \"now\""}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def tool(text, call_id="abcdef123"):
    return {"role": "tool", "content": text, "tool_call_id": call_id}


CHATS = {
    "plain": [user("hi <b> & 'q'")],
    "system": [system("Be good.\n"), user("  What is 2+2?\n\n")],
    "turns": [user("a"), assistant("b｜▁🎉"), user("c\u200b é")],
    "thoughts": [system("s"), user("a"), assistant("<think>\nreason\n</think>\n\nans"), user("c"),
                 assistant("<think>r2</think>ans2")],
    "fields": [user("a"), assistant("ans", reasoning_content="why\nso", thinking="why\nso"),
               user("b"), assistant("x", reasoning_content="\ny\n", thinking="\ny\n")],
    "one_call": [system("s"), user("w?"), assistant("", tool_calls=[CALL]),
                 tool("{\"t\": 20}"), assistant("It is 20.")],
    "two_calls": [user("w?"), assistant("let me", tool_calls=[CALL, CALL2]), tool("20"),
                  tool("21", "abcdef124"), assistant("done", reasoning_content="z")],
    "waiting": [user("w?"), assistant(None, tool_calls=[CALL]), tool({"content": [1, 2]})],
    "builtin": [user("w?"), assistant("", tool_calls=[CALL2]),
                {"role": "ipython", "content": ["r"]}],
    "parts": [user([{"type": "text", "text": "look "}, {"type": "image"},
                    {"type": "text", "text": "here"}]),
              assistant([{"type": "text", "text": "ok"}])],
    "wrong_order": [user("a"), user("b")],
    "empty": [],
}
SETTINGS = {
    "prompt": {"add_generation_prompt": True},
    "tools": {"add_generation_prompt": False, "tools": [TOOL], "thinking": True},
    "effort": {"add_generation_prompt": True, "tools": [TOOL], "reasoning_effort": "high",
               "enable_thinking": False, "thinking": True, "tools_in_user_message": False,
               "builtin_tools": ["brave_search", "code_interpreter"]},
}
USED_WITH = {"prompt": list(CHATS),
             "tools": ["system", "thoughts", "fields", "two_calls", "waiting"],
             "effort": ["plain", "one_call", "builtin", "parts", "empty"]}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "strftime_now": NOW.isoformat()}

CASE_CONTEXT = {
    "strftime_now": NOW.isoformat(), "s": "  Hello, Wörld ｜▁🎉 x \n", "t": "a,b,,c", "e": "",
    "n": 7, "f": 2.5, "z": 0, "neg": -3, "t1": True, "f1": False, "nul": None, "l": [3, 1, 2],
    "ls": ["b", "A", "c", "a"], "d": {"b": 1, "a": 2, "C": [1, {"x": None}]},
    "nested": [{"k": "x", "v": 1, "in": {"q": [1, 2]}}, {"k": "Y", "v": 3, "in": {"q": [5]}},
               {"k": "x", "v": 2}],
    "big": 9007199254740991, "fl": 1.0, "fx": 1e20, "fs": 1e-7, "fp": 0.1,
    "q": "it's \"q\"\\\n\t\x01é\u200b", "html": "<a href='x'>&</a>", "greek": "ΟΔΟΣ ΣΑΣ",
    "ger": "straße", "items": [1, 2, 3]}


def compiled(source):
    template = hf._compile_jinja_template(source)
    template.globals["strftime_now"] = NOW.strftime
    return template


def render(source, context):
    """Text, or None when it raises."""
    context = {k: v for k, v in context.items() if k != "strftime_now"}
    try:
        return compiled(source).render(**context)
    except Exception:  # whatever Python raises, retort must fail
        return None


def expression(line):
    return line if any(tag in line for tag in ("{%", "{{", "{#")) else "{{ " + line + " }}"


def read_cases(name):
    text = open(os.path.join(HERE, name), encoding="utf-8", newline="").read()
    return [expression(case) for case in text.removesuffix("\n").split("\n%%\n")]


def main():
    family = []
    for path in sorted(glob.glob(os.path.join(HERE, "templates", "*.jinja"))):
        source = open(path, encoding="utf-8").read()
        for chat, messages in CHATS.items():
            for setting, variables in SETTINGS.items():
                if chat not in USED_WITH[setting]:
                    continue
                text = render(source, dict(TOKENS, **variables, messages=messages))
                family.append({"template": os.path.basename(path), "chat": chat,
                               "setting": setting, "text": text})
    cases = [{"source": source, "text": render(source, CASE_CONTEXT)}
             for source in read_cases("template_cases.txt")]
    golden = {"made_with": f"jinja2 {jinja2.__version__}, transformers {transformers.__version__}",
              "tokens": TOKENS, "chats": CHATS, "settings": SETTINGS, "family": family,
              "case_context": CASE_CONTEXT, "cases": cases,
              "refused": read_cases("template_refused.txt")}
    with open(os.path.join(HERE, "templates.json"), "w", encoding="utf-8") as out:
        json.dump(golden, out, ensure_ascii=False, indent=0)
        out.write("\n")
    for name in ("family", "cases"):
        errors = sum(row["text"] is None for row in golden[name])
        print(f"{name}: {len(golden[name])} renders, {errors} of them errors")


if __name__ == "__main__":
    main()
