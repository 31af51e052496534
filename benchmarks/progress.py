"""What a benchmark is doing: one line a stage on standard error, and on a terminal how far the present one is."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.status import Status

from kd_ops.runs.events import newest_event

_SECONDS = 1.0


class Board:
    """Counts the jobs of a benchmark and shows the stages that they compute."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._job, self._number, self._total = "", 0, 0

    def start(self, jobs: int) -> None:
        """Begin to count this many jobs."""
        self._number, self._total = 0, jobs

    def job(self, name: str) -> None:
        """What the next stages are computed for."""
        self._number += 1
        self._job = f"[dim]{self._number:>3}/{self._total}[/] {name}"

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """While entered, the progress file that it yields is watched; at the end a line says how long it took."""
        began, stop = time.monotonic(), threading.Event()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "progress.jsonl"
            path.touch()
            line = f"{self._job}  {name}"
            with self._console.status(line) as status:
                watcher = threading.Thread(target=_watch, args=(path, line, status, stop), daemon=True)
                watcher.start()
                try:
                    yield path
                finally:
                    stop.set()
                    watcher.join()
        self._console.print(f"{line}  [dim]{time.monotonic() - began:.1f} s[/]")


def _watch(path: Path, line: str, status: Status, stop: threading.Event) -> None:
    while not stop.wait(_SECONDS):
        event = newest_event(path.read_bytes())
        if not event:
            continue
        share = f"{event['done'] / event['total']:.0%}" if event["total"] else f"{event['done']}"
        status.update(f"{line}  {event['phase']} {share}")
