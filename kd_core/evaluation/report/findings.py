"""Everything that the report and the model card show, read from the outputs of earlier stages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_core.config.data import TaskParams
from kd_core.evaluation.names import main_metric, metric_name
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import columns, sections
from kd_core.tasks.protocol import Sections

TABLES = ("exits", "reliability", "confusion")


@dataclass(frozen=True)
class Sources:
    """Paths of the files that the report reads."""

    dataset: Path
    details: Path
    metrics: Path
    measured: Path
    model: Path
    teachers: Path
    histories: Mapping[str, Path]
    """Stage → its history.json."""


@dataclass(frozen=True)
class Findings:
    """Everything that the report shows."""

    recipe: str
    task: TaskParams
    dataset: Mapping[str, Any]
    metrics: Mapping[str, Any]
    measured: Mapping[str, Any]
    model: Mapping[str, Any]
    tables: Mapping[str, Any]
    teachers: Mapping[str, Mapping[str, Any]]
    """Teacher → its teacher.json."""
    histories: Mapping[str, Mapping[str, Any]]
    """Stage → curve → [step, value] points."""

    @property
    def sections(self) -> Sections:
        """The sections for the kind of task."""
        return sections.of(self.task.kind)

    @property
    def listed(self) -> bool:
        """Whether a text may have several labels."""
        return columns.of(self.task.kind).LISTED

    @property
    def metric(self) -> str:
        """Key of the main metric."""
        return main_metric(self.metrics)

    @property
    def metric_name(self) -> str:
        """The main metric's name for people."""
        return metric_name(self.metrics)


def read(sources: Sources, recipe: str, task: TaskParams) -> Findings:
    """Read everything. Raises InvalidDataError naming a file that is missing or broken."""
    teachers = {path.parent.name: _read(path) for path in sorted(sources.teachers.glob("*/teacher.json"))}
    trained = {f"teacher {name}": sources.teachers / name / "history.json" for name in teachers}
    return Findings(
        recipe=recipe,
        task=task,
        dataset=_read(sources.dataset),
        metrics=_read(sources.metrics),
        measured=_read(sources.measured),
        model=_read(sources.model),
        tables={name: _read(sources.details / f"{name}.json") for name in TABLES},
        teachers=teachers,
        histories={name: _read(path)["curves"] for name, path in {**trained, **sources.histories}.items()},
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error}); run the stage that writes it again") from None
