"""A folder laid out as a run's, with tiny random models and rows: what evaluate, measure and report read."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Optimisation
from kd_core.inference import frozen_encoder
from kd_core.rows import write_rows
from kd_core.tasks import baseline
from kd_core.teachers.model import prepare, save_teacher
from tests.helpers.tiny import tiny_base, tiny_rows
from tests.helpers.tiny_exits import TASK, exported_student, save_student, tiny_student

CHECKED = "data/checked/reference"
LABEL_NAMES = {"red": ["apple"], "green": ["the river", "river"]}
"""What the texts call their labels; blue has no name."""


def tiny_teacher(folder: Path, scratch: Path, name: str, layers: int, role: str = "reference") -> None:
    """A teacher's folder as the teach stage leaves it."""
    base = tiny_base(scratch / name, layers=layers, seed=layers)
    torch.manual_seed(layers)
    params = TeacherParams(weights=str(base), data=role, fine_tune=Optimisation(epochs=1, learning_rate=1e-3))
    record = {"gold_accuracy": 0.5, "entropy": 0.25, "log_loss": 1.125, "rows": 40}
    save_teacher(prepare(name, params, TASK, base), folder / name, record)
    (folder / name / "history.json").write_text(json.dumps({"curves": {"loss": [[1, 2.0], [2, 1.0]]}}))


def tiny_run(root: Path, scratch: Path, test_rows: int = 240) -> Path:
    """Fill `root`; three teachers, one of them of the pre-training task."""
    for name, layers in (("big", 4), ("small", 2)):
        tiny_teacher(root / "teachers", scratch, name, layers)
    tiny_teacher(root / "teachers", scratch, "other", 1, role="pretraining")
    exported_student(scratch / "exported").rename(_parent(root / "models" / "student"))
    save_student(tiny_student(scratch / "alone", branches=False), root / "models" / "alone")
    train = tiny_rows(60, seed=7)
    frozen_encoder.fit(tiny_base(scratch / "base", layers=2), train, TASK).save(root / "models" / "frozen")
    baseline.of(TASK.kind).fit(train, TASK, _made(root / "models" / "tfidf"))
    write_rows(root / CHECKED / "test.parquet", tiny_rows(test_rows, seed=1))
    write_rows(root / CHECKED / "calibration.parquet", tiny_rows(40, seed=2))
    (root / CHECKED / "dataset.json").write_text(json.dumps({"label_names": LABEL_NAMES}))
    (root / "machine.json").write_text(json.dumps({"cpu": "test", "cores": 2}))
    return root


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
