"""The models that are timed against each other, each from text to probabilities by the best plain method for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kd_core.evaluation.names import ADAPTIVE, TRUNK
from kd_core.evaluation.reference import reference_teachers
from kd_core.inference.batches import collate, encode
from kd_core.models.student import StudentModel
from kd_core.serving.exits.thresholds import Thresholds
from kd_core.serving.predictor import Predictor
from kd_core.serving.speed.costs import Costs
from kd_core.serving.speed.timing import measure_costs
from kd_core.tasks import heads
from kd_core.teachers.model import Teacher

PIPELINE = "pipeline:"


@dataclass(frozen=True)
class Contestant:
    """A model that answers a batch of rows; the batch is done when `answer` returns."""

    name: str
    answer: Callable[[pd.DataFrame], object]
    parameters: int
    size_mb: float
    """Weights on disk, 10⁶ bytes."""


def served_student(folder: Path) -> tuple[Predictor, Costs]:
    """The student as it serves on this machine, with as many threads as PyTorch has, and the timings that it uses."""
    predictor = Predictor.load(folder, planned=False, threads=torch.get_num_threads())
    costs = measure_costs(predictor)
    return predictor.planned_by(costs), costs


def all_contestants(student: Predictor, folder: Path, teachers: Path, device: torch.device) -> list[Contestant]:
    """The reference teachers, the biggest of them through a pipeline, and the student without and with early exits.

    :param folder: the student's folder, to count its parameters
    """
    folders = reference_teachers(teachers)
    loaded = [_teacher(each, device) for each in folders]
    biggest = max(range(len(loaded)), key=lambda index: loaded[index].parameters)
    piped = _pipeline(folders[biggest], loaded[biggest].parameters, device)
    return [*loaded, *piped, *at_thresholds(student, folder, {TRUNK: 0.0, ADAPTIVE: student.record.thresholds})]


def _teacher(folder: Path, device: torch.device) -> Contestant:
    teacher = Teacher.load(folder)
    teacher.model.to(device)
    answer = partial(_answer_teacher, teacher, device)
    return Contestant(f"teacher:{folder.name}", answer, _count(teacher.model), _weights_mb(folder))


def _answer_teacher(teacher: Teacher, device: torch.device, rows: pd.DataFrame) -> Tensor:
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    batch = collate(encoded, range(len(encoded)), teacher.tokenizer.pad_token_id)
    with torch.inference_mode():
        logits = teacher.logits({name: value.to(device) for name, value in batch.items()})
        return heads.of(teacher.kind).probabilities(logits).cpu()


def at_thresholds(student: Predictor, folder: Path, thresholds: Mapping[str, Thresholds]) -> list[Contestant]:
    """The student at named exit thresholds; at 0 it is the full model, which has neither branches nor segments."""
    model, found = StudentModel.from_pretrained(folder), []
    trunk, record = sum(parameter.numel() for parameter in model.trunk_parameters()), student.record
    for name, threshold in thresholds.items():
        files = [record.whole] if threshold == 0 else record.segments
        size = sum((folder / each.file).stat().st_size for each in files)
        answer = partial(student.predict_rows, threshold=threshold)
        parameters = trunk if name == TRUNK else _count(model)
        found.append(Contestant(name, answer, parameters, round(size / 1e6, 3)))
    return found


def _pipeline(folder: Path, parameters: int, device: torch.device) -> list[Contestant]:
    """The teacher as `transformers.pipeline` runs it, in fp32; empty if there is no pipeline for the kind of task."""
    teacher = Teacher.load(folder, precision="fp32")
    run = heads.of(teacher.kind).pipeline(teacher.model, teacher.tokenizer, teacher.max_length, device)
    if run is None:
        return []

    def answer(rows: pd.DataFrame) -> Any:
        return run(rows.to_dict("records") if teacher.pair else rows["text"].tolist())

    return [Contestant(f"{PIPELINE}{folder.name}", answer, parameters, _weights_mb(folder))]


def _count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _weights_mb(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6, 3)
