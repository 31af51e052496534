"""inference.json: what, beside weights and tokenizer, a model folder needs to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kd_core.config.base import Count, Fraction, Section
from kd_core.config.data import Kind, TaskParams
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.dial import Dial
from kd_core.serving.folder import uncertainties

NAME = "inference.json"


class InferenceRecord(Section):
    """The task, the exits and the dial that their thresholds are chosen by."""

    kind: Kind
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
    max_disagreement: Fraction
    """What the manifest's thresholds were chosen for: share of texts answered otherwise than by the full model."""
    dial: Dial
    """What was calibrated, for this wish and any other."""
    weights: str
    """sha256 of the weights that it was calibrated with."""
    quantisation: dict[str, Any] = {}
    """What came of int8: asked, precision, agreement, min_agreement, rows; empty where none was asked for."""

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


def identity(folder: Path) -> str:
    """What a model's predictions are logged under: another one for other weights, thresholds or calibration.

    Over the bytes of the record, so that every release of this code says the same of one folder.
    """
    return fingerprint.of_file(folder / NAME)


def describe(folder: Path) -> dict[str, Any]:
    """What a later release needs to know of a model without reading its files; keys may be added, none may go.

    identity: what its predictions are logged under. exits: layers (1-based) with an exit. columns: ours → what the
    training data called them. profile: the Parquet file with a column `layer_N` for each exit, relative to the folder.
    """
    record = InferenceRecord.read(folder)
    return {
        "identity": identity(folder),
        "exits": list(record.exits),
        "columns": record.columns,
        "profile": uncertainties.NAME,
    }


def text_columns(task: TaskParams) -> tuple[str, ...]:
    """The columns that a row of this task is read from."""
    return ("text", "text_pair") if task.pair else ("text",)
