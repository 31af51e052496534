"""What the containers of test_docker_runner.py run: `python -m module HOW FOLDER`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

how, folder = sys.argv[1], Path(sys.argv[2])
print("a line for the log", os.environ.get("KD_PROFILE"), flush=True)
if how.isdigit():
    sys.exit(int(how))
if how == "answer":
    Path(sys.argv[sys.argv.index("--answer") + 1]).write_text(json.dumps({"uid": os.getuid()}))
    print("and another one after the answer")
if how == "memory":
    held = []
    while True:
        held.append(b"x" * 10_000_000)
if how == "secret":
    print("secret" if os.environ.get("AWS_SECRET_ACCESS_KEY") == "from-a-file" else "none")
if how == "root":
    try:
        Path("/written").write_text("x")
    except OSError as error:
        print("refused:", error.strerror)
if how == "linger":
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "checkpoint").write_text("saved"), sys.exit(143)))
    (folder / "started").touch()
    time.sleep(120)
