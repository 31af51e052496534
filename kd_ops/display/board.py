"""What is known of a run at work: each stage's state and its newest progress event, read from the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kd_core.runtime.storage import Storage
from kd_ops.lineage.provenance import origin
from kd_ops.runs.events import last_event
from kd_ops.runs.runs import Run, StageRecord

Status = Literal["waiting", "running", "done", "failed"]


@dataclass
class StageView:
    """One stage as a person sees it."""

    name: str
    status: Status = "waiting"
    cached: bool = False
    seconds: float = 0.0
    exit_code: int = 0
    tries: int = 0
    source: str = ""
    """The run that computed a cached stage, where it is known."""
    error: str = ""
    event: dict[str, Any] = field(default_factory=dict)
    """The newest progress event: phase, done, total, unit, rate and further numbers."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it in this try."""
        return self.status in ("done", "failed")


class Board:
    """The stages of a run, in the order of the graph.

    :param run: the run's folder
    :param store: where provenance tells which run computed a cached stage; None: do not ask
    :param names: the stages that the run will go through; those found in the folder only are added at the end
    """

    def __init__(self, run: Run, names: Sequence[str] = (), store: Storage | None = None) -> None:
        self.run, self._store = run, store
        self._ended: dict[str, tuple[str, int]] = {}
        self.stages: dict[str, StageView] = {name: StageView(name) for name in names}

    def poll(self) -> list[StageView]:
        """Read the folder again; the stages that finished since the last call, in order."""
        finished = []
        for name in self._names_found():
            view = self.stages.setdefault(name, StageView(name))
            if view.status == "done":
                continue
            self._read(view)
            end = (view.status, view.tries)
            if view.finished and self._ended.get(name) != end:
                self._ended[name] = end
                finished.append(view)
        return finished

    def running(self) -> list[StageView]:
        """Stages at work now."""
        return [view for view in self.stages.values() if view.status == "running"]

    def failed(self) -> list[StageView]:
        """Stages that ended badly."""
        return [view for view in self.stages.values() if view.status == "failed"]

    def position(self, name: str) -> int:
        """Place of a stage in the run, from 1."""
        return list(self.stages).index(name) + 1

    def _names_found(self) -> list[str]:
        found = self.run.started()
        return [name for name in self.stages if name in found] + sorted(found - self.stages.keys())

    def _read(self, view: StageView) -> None:
        record = self.run.stage(view.name)
        if record is None:
            return
        view.status, view.cached, view.seconds, view.tries = record.status, record.cached, record.seconds, record.tries
        view.exit_code, view.error = record.exit_code or 0, (record.error or "").strip()
        if view.cached and view.finished and not view.source:
            view.source = self._origin(record)
        if view.status == "running":
            view.event = last_event(self.run, view.name) or view.event

    def _origin(self, record: StageRecord) -> str:
        if self._store is None or record.key is None:
            return ""
        found = (origin(md5, record.stage, record.key, self._store) for md5 in record.outs.values())
        return next((run for run in found if run), "")
