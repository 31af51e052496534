"""Shared code of the training stages: writes a student and its history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_core.runtime.files import write_json

if TYPE_CHECKING:
    from components.base import Context
    from kd_core.models.student import StudentModel
    from kd_core.training.checkpoint import Curves
    from kd_core.training.work import Work


def work(context: Context, tokenizer: Any) -> Work:
    """A stage's tools for training: the tokenizer, and progress and state of its context."""
    from kd_core.training.work import Work

    return Work(tokenizer, context.progress, context.state)


def save_student(folder: Path, model: StudentModel, tokenizer: Any, curves: Curves, **counts: int) -> None:
    """Write weights, config, tokenizer and history.json (`curves` and `counts`)."""
    from kd_core.models.loading import save_tokenizer

    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    write_history(folder, curves, **counts)


def write_history(folder: Path, curves: Curves, **counts: int) -> None:
    """Write history.json."""
    write_json(folder / "history.json", {"curves": curves, **counts})
