"""Starts a run's process, draws the run while it works, and passes signals on to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from kd_core.runtime.errors import KDError, outside_failure
from kd_ops.bridge.stage_command import die_with_parent
from kd_ops.display.board import Board, StageView
from kd_ops.display.terminal import Painter

POLL_S = 0.4
GRACE_S = 90.0
"""How long a stopped run may take to write its checkpoints before it is killed."""
IDLE_GRACE_S = 5.0
"""The same where no stage is running: a scheduler left alone would try the stopped stage again."""


class RunInterruptedError(KDError):
    """The user or the system stopped the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class Child:
    """A process in its own group. While entered, SIGINT and SIGTERM go to the group, SIGHUP as SIGTERM, and a
    second one kills it. If this process is killed, the kernel kills the child.

    :param words: the command
    :param log: file that gets all its output
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path) -> None:
        self._words, self._environment, self._cwd, self.log = list(words), dict(environment), cwd, log
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = self._deadline = float("inf")
        self._terminals: list[int] = []
        self.signum = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Child]:
        """Start it; at the end nothing of its group is left."""
        kinds = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            kinds.append(signal.SIGHUP)
        self._terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        before = {kind: signal.signal(kind, self._forward) for kind in kinds}
        try:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._words,
                    env=self._environment,
                    cwd=self._cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            yield self
        finally:
            self._kill_group(signal.SIGKILL)
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def poll(self) -> int | None:
        """Exit status, None while it works; a stopped one is killed when its grace is over."""
        assert self._process is not None  # noqa: S101 -- entered
        if time.monotonic() > self._deadline:
            self._kill_group(signal.SIGKILL)
        status = self._process.poll()
        return status if status is None or status >= 0 else 128 - status

    def hurry(self) -> None:
        """Nothing is left that has work to save: end a stopped process soon."""
        self._deadline = min(self._deadline, self._asked + IDLE_GRACE_S)

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        again = self.signum != 0
        self.signum = self.signum or signum
        self._asked = min(self._asked, time.monotonic())
        self._deadline = min(self._deadline, self._asked + GRACE_S)
        ask = signum
        if signum == signal.SIGHUP:
            ask = signal.SIGTERM
            self._leave_terminal()
        self._kill_group(signal.SIGKILL if again else ask)

    def _leave_terminal(self) -> None:
        """It is gone: a write to it would fail, and so end the run before its checkpoints are written."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._terminals:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)

    def _kill_group(self, signum: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signum)


def watch(child: Child, board: Board, painter: Painter, starting: str) -> int:
    """Draw the run until `child` ends; its exit status. Raises RunInterruptedError if a signal stopped it.

    :param starting: what to say before the first stage
    """
    with child.running(), painter:
        while True:
            status = child.poll()
            finished = _news(board)
            if child.signum and not board.running():
                child.hurry()
            painter.show(board, finished, _note(child, board, starting))
            if status is not None:
                break
            time.sleep(POLL_S)
    if child.signum:
        raise RunInterruptedError(child.signum)
    return status


def _news(board: Board) -> list[StageView]:
    """The stages that ended; none while the runs' place does not answer: drawing must not end a run that goes on."""
    try:
        return board.poll()
    except Exception as error:
        if outside_failure(error) is None:
            raise
        return []


def _note(child: Child, board: Board, starting: str) -> str:
    if child.signum:
        return "stopping: waiting for checkpoints (once more to kill)"
    states = {view.status for view in board.stages.values()}
    if states == {"waiting"}:
        return starting
    return "recording, registering and judging the student" if states == {"done"} else "preparing the next stage"
