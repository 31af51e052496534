"""Runs a command with Docker's secrets in its environment: each file /run/secrets/NAME is the variable NAME.

Libraries look for credentials in the environment; a secret in `docker inspect` or an image would be none. Kubernetes
puts its secrets into the environment itself.
"""

import os
import re
import sys
from pathlib import Path

SECRETS = Path("/run/secrets")
NAME = re.compile(r"[A-Z][A-Z0-9_]*")

if SECRETS.is_dir():
    for file in SECRETS.iterdir():
        if NAME.fullmatch(file.name) and file.is_file():
            os.environ[file.name] = file.read_text(encoding="utf-8").strip()
if len(sys.argv) < 2:
    sys.exit("with_secrets.py: give a command")
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 -- no shell is wanted
