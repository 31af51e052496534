"""Params and rows for saved tiny teachers, and one whose texts may have several labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from kd_core.config.data import TaskParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Optimisation
from kd_core.inference.batches import collate, encode
from kd_core.teachers.model import Teacher, prepare, save_teacher
from tests.helpers.distilling import PROGRESS, optimisation
from tests.helpers.one_unit import fine_tune
from tests.helpers.tiny import tiny_base, tiny_rows
from tests.helpers.tiny_multi_label import TASK, multi_label_rows

FINE_TUNE = Optimisation(epochs=1, learning_rate=1e-3)


@dataclass(frozen=True)
class Taught:
    """A saved teacher of a kind of task, and rows that it is right about."""

    folder: Path
    rows: Callable[..., pd.DataFrame]
    task: TaskParams
    metric: str
    """What its contract calls its quality."""


def as_it_is(folder: Path, **values: object) -> TeacherParams:
    return TeacherParams.model_validate({"weights": str(folder), **values})


def batch_for(teacher: Teacher, rows: pd.DataFrame | None = None) -> dict[str, torch.Tensor]:
    """All `rows`, nine of its task if there are none, as the teacher reads them."""
    encoded = encode(tiny_rows(9) if rows is None else rows, teacher.tokenizer, teacher.task)
    return collate(encoded, range(len(encoded)), teacher.tokenizer.pad_token_id)


def multi_label_teacher(folder: Path) -> Path:
    """Fine-tuned until it is right about most rows, and saved."""
    base = tiny_base(folder / "base", layers=2)
    spec = as_it_is(base, fine_tune=optimisation(epochs=10, learning_rate=0.01, batch_tokens=512))
    torch.manual_seed(0)
    teacher = prepare("deep", spec, TASK, base)
    assert spec.fine_tune is not None
    curves = fine_tune(teacher, multi_label_rows(200, seed=1), multi_label_rows(60), spec.fine_tune, PROGRESS)
    assert curves["valid_example_f1"][-1][1] > 0.85
    save_teacher(teacher, folder / "saved", {})
    return folder / "saved"
