"""The runner `local`: each task starts one process of kd_ops beside the Airflow worker."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from dags.failures import WrongParams, failure
from dags.runners.tasks import ResolveTask, RunTask, StageTask, Task, TrackTask

PROJECT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 60.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def interpreter() -> str:
    """The Python that has requirements.lock: KD_PYTHON if it is set, else Airflow's own."""
    return os.environ.get("KD_PYTHON") or sys.executable


class ProcessOperator(Task):
    """Runs the module in the project's folder; its output goes to the task's log."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> Any:
        """Run the process to its end; returns the task's result."""
        words = self.words(context)
        if not self.answers:
            self.run_process(words)
            return self.done(context, {})
        with tempfile.TemporaryDirectory(prefix="kd-answer-") as folder:
            path = Path(folder, "answer.json")  # a file, so that output of libraries cannot get into the answer
            self.run_process([*words, "--answer", str(path)])
            return self.done(context, json.loads(path.read_text(encoding="utf-8")))

    def run_process(self, arguments: Sequence[str]) -> None:
        """Run the module with these arguments and copy its output to the log.

        No shell is used. Raises the failure class of an exit status other than 0, WrongParams if there is no Python.
        """
        command = [interpreter(), "-m", self.module, *arguments]
        try:
            self._process = subprocess.Popen(
                command,
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                preexec_fn=_stop_with_parent,
            )
        except OSError as error:
            raise WrongParams(f"{command[0]} (KD_PYTHON) cannot be started: {error.strerror}") from None
        for line in self._process.stdout or ():
            self.log.info("%s", line.rstrip())
        status = self._process.wait()
        status = 128 - status if status < 0 else status
        if status:
            raise failure(status, " ".join(command[1:]))

    def on_kill(self) -> None:
        """Pass on the signal to stop and wait for the checkpoint."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _stop_with_parent() -> None:
    """Have the kernel stop this process when the task's process ends, even by a kill, so that a retry is alone.

    The signal is SIGTERM, so that a checkpoint is written. (kd_ops has the same for its own children, but no DAG file
    may import it.)
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class ResolveOperator(ResolveTask, ProcessOperator):
    """`resolve` as a process."""


class RunOperator(RunTask, ProcessOperator):
    """A task on a run as a process."""


class TrackOperator(TrackTask, ProcessOperator):
    """The end of a run as a process."""


class StageOperator(StageTask, ProcessOperator):
    """A stage as a process."""
