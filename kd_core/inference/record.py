"""inference.json: what, beside weights and tokenizer, a model folder needs to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kd_core.config.base import Count, Fraction, Section
from kd_core.config.data import TaskParams
from kd_core.runtime.errors import InvalidDataError

NAME = "inference.json"


class InferenceRecord(Section):
    """The task, the exits and the threshold that was chosen for them."""

    kind: Literal["classification"]
    labels: tuple[str, ...]
    pair: bool
    max_length: Count
    text_columns: tuple[str, ...]
    """Columns that an input must have."""
    columns: dict[str, str] = {}
    """Ours → what the training data called them, where that was something else."""
    layers: Count
    """Layers of the full model."""
    exits: tuple[int, ...]
    """Layers (1-based) that have an exit; the last is the full model."""
    threshold: Fraction
    """A text leaves at the first exit whose normalised entropy is below it."""
    max_accuracy_loss: Fraction
    """What the threshold was allowed to cost on the validation split."""
    quantisation: dict[str, Any] = {}
    """What came of int8: asked, precision, agreement, min_agreement, rows; empty where none was asked for."""
    valid: dict[str, Any]
    """What it does there: rows, accuracy_full, accuracy, mean_layers, curve."""

    @property
    def task(self) -> TaskParams:
        """As the rest of the library describes a task."""
        return TaskParams(kind=self.kind, labels=self.labels, pair=self.pair, max_length=self.max_length)

    def write(self, folder: Path) -> None:
        """Write inference.json into a model's folder."""
        (folder / NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> InferenceRecord:
        """From a model's folder. Raises InvalidDataError naming the file if it is missing or wrong."""
        path = folder / NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError:
            raise InvalidDataError(f"{path}: missing; give a folder that the export stage wrote") from None
        except ValidationError as error:
            raise InvalidDataError(f"{path}: not a record of this version: {error}") from None


def text_columns(task: TaskParams) -> tuple[str, ...]:
    """The columns that a row of this task is read from."""
    return ("text", "text_pair") if task.pair else ("text",)
