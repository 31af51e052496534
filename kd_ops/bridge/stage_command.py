"""Runs a stage's command in its own process group and passes on signals that stop it.

A signal to this process reaches the whole group as one SIGTERM. Components answer it with a checkpoint, and this
process waits for the group; a handler makes this work for PID 1 of a container too. If this process is killed
outright, the kernel kills the command, so that no orphan goes on writing.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from kd_ops.base.redaction import Redaction

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Stop:
    """Turns signals into the end of the running command or, if none runs, into SystemExit(143)."""

    def __init__(self) -> None:
        self.requested = False
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle SIGNALS while entered. Outside the main thread, where Python forbids this, nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    @contextmanager
    def passed_on(self, start: Callable[[], subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command; while entered, signals go to it. A signal during the start is not lost."""
        self._busy = True
        try:
            self._process = start()
            if self.requested:
                signal_group(self._process, signal.SIGTERM)
            yield self._process
        finally:
            self._busy, self._process = False, None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        if not self._busy:
            raise SystemExit(128 + signal.SIGTERM)
        if first and self._process is not None:
            signal_group(self._process, signal.SIGTERM)


def run_command(cmd: str, folder: Path, environment: Mapping[str, str], log: Path, stop: Stop) -> int:
    """Run the words of `cmd` without a shell in `folder`; its output goes to `log` and to standard error.

    Returns its exit status, 128 + n if signal n ended it.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            shlex.split(cmd),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=die_with_parent,
        )

    with log.open("ab") as file, stop.passed_on(start) as process:
        copier = threading.Thread(target=_copy, args=(process.stdout, file), daemon=True)
        copier.start()
        status = process.wait()
        signal_group(process, signal.SIGKILL)
        copier.join(timeout=10)
    return 128 - status if status < 0 else status


def signal_group(process: subprocess.Popen[bytes], signum: signal.Signals) -> None:
    """Send `signum` to the remaining processes of the command's group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)


def _copy(source: IO[bytes], file: IO[bytes]) -> None:
    """Copy lines to a file and to standard error, without secrets."""
    redaction = Redaction()
    for line in map(redaction.of_bytes, source):
        file.write(line)
        file.flush()
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends in any way; for `preexec_fn`. Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
