"""model.json: everything known about a model's folder, with a hash of each file that answers depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kd_core.config.base import Fraction
from kd_core.config.data import TaskParams
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import write_json
from kd_core.serving.exits.dial import Dial
from kd_core.serving.folder.network import File, Network

NAME = "model.json"


class ModelRecord(Network):
    """The graphs, and what export chose and measured for them."""

    schema_version: Literal[1] = 1
    columns: dict[str, str] = {}
    """Our text columns → their names in the training data, where these differ."""
    thresholds: tuple[Fraction, ...]
    """[E - 1]: a text leaves at the first exit whose uncertainty is below that exit's threshold."""
    max_disagreement: Fraction
    """The wish for which the thresholds were chosen: share of predictions that may differ from the full model's."""
    dial: Dial
    """The calibration, for this wish and any other."""
    profile: File
    """See kd_core.serving.folder.profile."""
    quantisation: dict[str, Any] = {}
    """The outcome of int8: asked, precision, agreement, min_agreement, rows; empty if int8 was not asked for."""
    weights: str
    """sha256 of the weights that the graphs hold."""

    @property
    def files(self) -> tuple[File, ...]:
        """Graphs, tokenizer and profile."""
        return (*super().files, self.profile)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns that an input must have."""
        return text_columns(self.task)

    def write(self, folder: Path) -> None:
        """Write model.json into a model's folder."""
        write_json(folder / NAME, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> ModelRecord:
        """Read model.json from a model's folder. Raises InvalidDataError naming the file if it is missing or wrong."""
        path = folder / NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError:
            raise InvalidDataError(f"{path}: missing; give a folder that the export stage wrote") from None
        except ValidationError as error:
            raise InvalidDataError(f"{path}: not a record of this version: {error}") from None

    def check_files(self, folder: Path) -> None:
        """Raises InvalidDataError naming the first file that is missing or not the one that was exported."""
        for each in self.files:
            path = folder / each.file
            if not path.is_file():
                raise InvalidDataError(f"{path}: missing; export the model again, or copy its folder whole")
            if fingerprint.of_file(path) != each.sha256:
                raise InvalidDataError(f"{path}: not the file that was exported; export the model again, or copy it")


def identity(folder: Path) -> str:
    """The identity under which a model's predictions are logged; it changes with weights, thresholds and calibration.

    It is a hash of the record's bytes, so every release of this code gives the same identity for one folder.
    """
    return fingerprint.of_file(folder / NAME)


def describe(folder: Path) -> dict[str, Any]:
    """What a later release must know about a model without reading its files; keys may be added, none removed.

    identity: see `identity`. exits: layers (1-based) with an exit. columns: ours → their names in the training data.
    profile: the Parquet file with a column `layer_N` for each exit, relative to the folder.
    """
    record = ModelRecord.read(folder)
    return {
        "identity": identity(folder),
        "exits": list(record.exits),
        "columns": record.columns,
        "profile": record.profile.file,
    }


def text_columns(task: TaskParams) -> tuple[str, ...]:
    """The columns that a row of this task is read from."""
    return ("text", "text_pair") if task.pair else ("text",)
