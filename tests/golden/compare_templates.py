#!/usr/bin/env python3
"""Any chat templates through `retort render` and through jinja2 as transformers sets it up.

    pip install transformers jinja2
    python3 tests/golden/compare_templates.py build/retort TEMPLATE.jinja ...

Each on the conversations and variables of make_templates.py. A line for every template with a difference or
with something that only one of the two refuses, then the sums; status 1 when a text differs."""
import copy
import json
import os
import subprocess
import sys
import tempfile

import make_templates as golden

retort, *paths = sys.argv[1:]
same = refused = differ = 0
with tempfile.TemporaryDirectory() as model:
    messages = os.path.join(model, "messages.json")
    for path in paths:
        source = open(path, encoding="utf-8", newline="").read()
        open(os.path.join(model, "chat_template.jinja"), "w", encoding="utf-8", newline="").write(source)
        odd = []
        for chat, setting in ((c, s) for s, chats in golden.USED_WITH.items() for c in chats):
            variables = golden.TOKENS | golden.SETTINGS[setting]
            given = {"tools": None, "documents": None} | variables
            aliased = golden.hf._alias_reasoning_fields(copy.deepcopy(golden.CHATS[chat]))
            wanted = golden.render(source, copy.deepcopy(given | {"messages": aliased}))
            json.dump({"messages": golden.CHATS[chat]} | variables, open(messages, "w"))
            run = subprocess.run([retort, "render", "--model", model, "--messages", messages], capture_output=True)
            text = run.stdout.decode() if run.returncode == 0 else None
            if text == wanted:
                same += 1
            elif None in (text, wanted):
                refused += 1
                odd.append(run.stderr.decode().strip() or f"{chat}, {setting}: only jinja2 refuses")
            else:
                differ += 1
                at = next((i for i, (a, b) in enumerate(zip(text, wanted)) if a != b), min(len(text), len(wanted)))
                odd.append(f"{chat}, {setting}: {text[at:at + 30]!r} for {wanted[at:at + 30]!r} at {at}")
        for line in sorted(set(odd)):
            print(f"{os.path.basename(path)}: {line}")
print(f"{len(paths)} templates: {same} renders the same, {refused} refused by one, {differ} differ")
sys.exit(differ > 0)
