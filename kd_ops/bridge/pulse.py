"""Runs beside a stage: gives signs of life, logs a line on progress for the scheduler at intervals, and uploads log and
progress if the run is not on this machine.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from kd_core.runtime.errors import outside_failure
from kd_ops.base.redaction import redact
from kd_ops.bridge.state import State
from kd_ops.runs.events import duration, newest_event, progress_line
from kd_ops.runs.runs import Run

INTERVAL_S = 10.0
BEATS_A_LINE = 3
"""Beats for each line on progress: one line every 30 s."""

_LOG = logging.getLogger(__name__)


class Pulse(threading.Thread):
    """Beats while entered. `log` and `progress` are local files: those of the run, or copies uploaded at each beat."""

    def __init__(self, run: Run, stage: str, folder: Path, state: State) -> None:
        super().__init__(daemon=True)
        self._run, self._stage, self._state = run, stage, state
        self._began = time.monotonic()
        self._end = threading.Event()
        self._uploads: dict[str, Path] = {}
        self.log = self._file(f"logs/{stage}.log", folder)
        self.progress = self._file(f"progress/{stage}.jsonl", folder)

    def __enter__(self) -> Pulse:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self.join()
        self._tried(self._upload)

    def run(self) -> None:
        """Beat until the end."""
        for beat in itertools.count(1):
            if self._end.wait(INTERVAL_S):
                return
            self._tried(self._state.beat)
            self._tried(self._upload)
            if beat % BEATS_A_LINE == 0:
                self._tried(self._say)

    def _say(self) -> None:
        """Write the stage's progress to standard error, next to the output of its command."""
        event = newest_event(self.progress.read_bytes()) if self.progress.is_file() else {}
        head = f"{self._stage}: at work for {duration(time.monotonic() - self._began)}"
        print(progress_line(head, event), file=sys.stderr, flush=True)

    def _tried(self, action: Callable[[], None]) -> None:
        """Run the action and only report what goes wrong: it must not fail a stage that works or has finished.

        This holds for bugs too: without signs of life, this living stage would be taken for dead.
        """
        try:
            action()
        except Exception as error:
            _LOG.warning("no sign of life, log or progress could be given: %s", redact(_told(error)))

    def _file(self, name: str, folder: Path) -> Path:
        path = self._run.local_path(name)
        if path is None:
            path = folder / ".dvc" / "tmp" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._uploads[name] = path
            if self._run.storage.exists(name):
                path.write_bytes(self._run.storage.read(name))
        return path

    def _upload(self) -> None:
        for name, path in self._uploads.items():
            if path.is_file():
                self._run.storage.write(name, path.read_bytes())


def _told(error: Exception) -> str:
    """The message of the error; for a bug, the traceback."""
    if (failure := outside_failure(error)) is not None:
        return str(failure)
    return str(error) if isinstance(error, OSError) else "".join(traceback.format_exception(error)).strip()
