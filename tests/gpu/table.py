# table.py RESULTS.json: the speeds of a run of tests/gpu/run.sh beside PyTorch's, as a table.
import json, sys

r = json.load(open(sys.argv[1]))
peer = {p["name"]: p for p in r["peer"]}
print(f'{"":36} {"retort":>10} {"PyTorch":>10}  ratio')
for s in r["speeds"]:
    p = peer.get(s["name"])
    beside = f'{p["rate"]:10.1f} {s["rate"] / p["rate"]:6.2f}' if p else ""
    print(f'{s["name"]:36} {s["rate"]:10.1f} {beside}  {s["unit"]}')
