"""tests/golden/events/: lines of a metrics.jsonl and the event file of them, framed and encoded by TensorBoard
itself (pip install tensorboard). The clock is the sum of the lines' seconds, as distill/events.h has it."""
import io
import json
import os
import struct

from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "events")
lines = [
    {"step": 1, "loss": 3.25, "ce": 3.5, "rate": 1e-05, "tokens": 1796, "seconds": 0.75},
    {"step": 2, "loss": -0.0001234, "ce": 2, "rate": 2e-05, "tokens": 3600, "seconds": 0.125, "kl": 1e30,
     "eval_ce": 2.125, "eval_kl": 0.5},
    {"step": 300, "loss": 1, "tokens": 123456789012, "seconds": 1000.5, "note": "text", "eval_ece": 0.01},
    {"step": 5000000000, "loss": 0},
]


def frame(event):
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


out, seconds = io.BytesIO(), 0.0
first = event_pb2.Event(file_version="brain.Event:2")
first.wall_time = 0.0
out.write(frame(first))
for line in lines:
    seconds += line.get("seconds", 0)
    event = event_pb2.Event(wall_time=seconds, step=line["step"])
    for key, value in line.items():
        if key == "step" or isinstance(value, str):
            continue
        tag = "eval/" + key[5:] if key.startswith("eval_") else "train/" + key
        event.summary.value.add(tag=tag, simple_value=value)
    out.write(frame(event))
with open(os.path.join(here, "metrics.jsonl"), "w") as f:
    f.write("".join(json.dumps(line) + "\n" for line in lines))
with open(os.path.join(here, "events"), "wb") as f:
    f.write(out.getvalue())
