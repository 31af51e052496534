"""Every model's probabilities on the same rows, in the order of the task's labels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kd_core.config.data import TaskParams
from kd_core.inference.all_exits import all_exits
from kd_core.inference.batches import encode
from kd_core.inference.frozen_encoder import FrozenEncoder
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.outcomes import Exits
from kd_core.tasks import baseline
from kd_core.tasks.units import Units
from kd_core.teachers.asking import probabilities
from kd_core.teachers.model import Teacher


def of_teacher(teacher: Teacher, rows: pd.DataFrame, task: TaskParams) -> Units:
    """Probabilities [ΣU, C], in the teacher's own precision.

    Raises InvalidDataError if the teacher's labels or kind are not those of the task.
    """
    if (teacher.labels, teacher.kind) != (task.labels, task.kind):
        raise InvalidDataError(f"teacher {teacher.name}: its labels or kind are not the task's; run teach again")
    return probabilities(teacher, encode(rows, teacher.tokenizer, teacher.task))


def of_student(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Exits:
    """The answers of every exit of the student in `folder`; without branches the last layer is the only exit."""
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    return all_exits(model, encode(rows, tokenizer, task), tokenizer.pad_token_id)


def of_frozen_encoder(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Units:
    """Probabilities [ΣU, C] of the regression on the states of the student's base."""
    return FrozenEncoder.load(folder).answer(rows, task)


def of_baseline(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Units:
    """Probabilities [ΣU, C] of the baseline without a transformer."""
    return baseline.of(task.kind).answer(folder, rows, task)
