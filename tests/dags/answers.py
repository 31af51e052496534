"""A stand-in for kd_ops.resolving.resolve, whose process does not end quietly."""

import atexit
import json
import sys
from pathlib import Path


def late() -> None:
    print("a warning on standard output")
    print("Exception ignored in: <function …>", file=sys.stderr)


atexit.register(late)
words = sys.argv[1:]
assert words[:6] == ["--recipe", "route", "--run", "weekly", "--set", "a.b=1"], words
teachers = ["deep", "shallow"]
answer = {"run_uri": "/runs/weekly", "settled": ["teach@deep"], "teachers": teachers, "pretraining_teachers": teachers}
Path(words[words.index("--answer") + 1]).write_text(json.dumps({**answer, "reference_teachers": ["shallow"]}))
print("resolved")
