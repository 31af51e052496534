"""The models that are timed against each other, each from text to probabilities in its own best plain way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kd_core.evaluation.names import ADAPTIVE, TRUNK, exits_name
from kd_core.evaluation.reference import reference_teachers
from kd_core.inference.adaptive import answer_batch
from kd_core.inference.predictor import Predictor
from kd_core.inference.thresholds import Thresholds
from kd_core.models.teacher import Teacher
from kd_core.tasks.decode import probabilities
from kd_core.tasks.encode import collate, encode

PIPELINE = "pipeline:"


@dataclass(frozen=True)
class Contestant:
    """A model that answers a batch of rows; the batch is done when `answer` returns."""

    name: str
    answer: Callable[[pd.DataFrame], object]
    parameters: int
    size_mb: float
    """Weights on disk, 10⁶ bytes."""


def all_contestants(student: Path, teachers: Path, device: torch.device) -> list[Contestant]:
    """The reference teachers, the biggest of them through a pipeline, and the student without and with early exits."""
    folders = reference_teachers(teachers)
    loaded = [_teacher(folder, device) for folder in folders]
    biggest = max(range(len(loaded)), key=lambda index: loaded[index].parameters)
    return [*loaded, _pipeline(folders[biggest], loaded[biggest].parameters, device), *_students(student, device)]


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
        return probabilities(logits, teacher.kind).cpu()


def _students(folder: Path, device: torch.device) -> list[Contestant]:
    predictor = Predictor.load(folder)
    predictor.model.to(device)
    trunk = sum(parameter.numel() for parameter in predictor.model.trunk_parameters())
    full, early = (partial(_answer_student, predictor, limit) for limit in (0.0, predictor.record.thresholds))
    size = _weights_mb(folder)
    return [
        Contestant(TRUNK, full, trunk, size),
        Contestant(ADAPTIVE, early, _count(predictor.model), size),
    ]


def at_thresholds(folder: Path, thresholds: Sequence[float], device: torch.device) -> list[Contestant]:
    """The student in full, and with early exits at each threshold, named as the evaluation names them."""
    predictor = Predictor.load(folder)
    predictor.model.to(device)
    limits = {TRUNK: 0.0} | {exits_name(threshold): threshold for threshold in thresholds}
    parameters, size = _count(predictor.model), _weights_mb(folder)
    return [
        Contestant(name, partial(_answer_student, predictor, limit), parameters, size) for name, limit in limits.items()
    ]


def _answer_student(predictor: Predictor, thresholds: Thresholds, rows: pd.DataFrame) -> Tensor:
    encoded = encode(rows, predictor.tokenizer, predictor.record.task)
    batch = collate(encoded, range(len(encoded)), predictor.tokenizer.pad_token_id)
    moved = {name: value.to(predictor.model.device) for name, value in batch.items()}
    return answer_batch(predictor.model, moved, thresholds)[0].cpu()


def _pipeline(folder: Path, parameters: int, device: torch.device) -> Contestant:
    """The teacher as `transformers.pipeline` runs it, in fp32, the whole list in one call."""
    from transformers import pipeline

    teacher = Teacher.load(folder, precision="fp32")
    run = pipeline("text-classification", model=teacher.model, tokenizer=teacher.tokenizer, device=device)

    def answer(rows: pd.DataFrame) -> Any:
        texts = rows.to_dict("records") if teacher.pair else rows["text"].tolist()
        return run(texts, batch_size=len(texts), truncation=True, max_length=teacher.max_length)

    return Contestant(f"{PIPELINE}{folder.name}", answer, parameters, _weights_mb(folder))


def _count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _weights_mb(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6, 3)
