"""Server processes of tests: free ports, and an end that comes with the test process whatever happens to it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def free_ports(count: int, neighbour: int = 0) -> list[int]:
    """Ports on loopback that are free; with `neighbour`, so are the ports that much above them."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port + neighbour > 65000 or port in found:
                continue
            with suppress(OSError):
                if neighbour:
                    second.bind(("127.0.0.1", port + neighbour))
                found.append(port)
    return found


def start(
    command: Sequence[str], folder: Path, log: Path, user: int | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own; the kernel kills it when this process ends."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a server at once, children included."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until `ready`, which may raise OSError before. Fails with the end of the log."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            if ready():
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace")[-2000:])


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
