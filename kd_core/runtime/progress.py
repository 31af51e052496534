"""Progress events: one JSON line each, appended to the file named by KD_PROGRESS, for the programs that show them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")

_MINIMUM_INTERVAL_S = 0.5


class Progress:
    """Counts work done in one stage.

    Each event: stage, phase, done, total, unit, rate (units per second since the phase began), time (Unix
    seconds), and any further numbers (loss, accuracy). Without a file nothing is written.
    """

    def __init__(self, stage: str, path: str | os.PathLike[str] | None = None) -> None:
        self.stage = stage
        self._path = Path(path) if path else None
        self._phase = ""
        self._began = 0.0
        self._offset = 0.0
        self._last = 0.0

    @classmethod
    def from_environment(cls, stage: str) -> Progress:
        """Write where KD_PROGRESS says."""
        return cls(stage, os.environ.get("KD_PROGRESS"))

    def update(self, phase: str, done: float, total: float | None, unit: str = "rows", **numbers: float) -> None:
        """Report that `done` of `total` units of `phase` are finished; events closer than 0.5 s are dropped."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._began, self._offset, self._last = phase, now, done, 0.0
        finished = total is not None and done >= total
        if self._path is None or (now - self._last < _MINIMUM_INTERVAL_S and not finished):
            return
        self._last = now
        rate = (done - self._offset) / (now - self._began) if now > self._began else 0.0
        event = {
            "stage": self.stage,
            "phase": phase,
            "done": done,
            "total": total,
            "unit": unit,
            "rate": round(rate, 3),
            "time": round(time.time(), 3),
            **numbers,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def track(self, items: Iterable[Item], phase: str, total: int, unit: str = "rows") -> Iterator[Item]:
        """Yield `items`, reporting each as done when the next is asked for."""
        self.update(phase, 0, total, unit)
        done = 0
        for done, item in enumerate(items, start=1):
            yield item
            self.update(phase, done, total, unit)
