"""From the trained model's folder to the one that serves: the same weights, and inference.json beside them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.inference.adaptive import all_exits
from kd_core.inference.calibration import calibrate
from kd_core.inference.dial import Dial
from kd_core.inference.record import InferenceRecord, text_columns
from kd_core.inference.uncertainties import write_uncertainties
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.encode import encode

_TRAINING_FILES = ("history.json",)


def export(
    model_folder: Path,
    calibration: Path,
    target: Path,
    task: TaskParams,
    params: ExportParams,
    columns: Mapping[str, str] | None = None,
) -> Dial:
    """Calibrate the exits on the texts of `calibration` and write the servable model to `target`.

    Rows of one near-duplicate group are not independent, and the test counts independent ones: each group gives its
    first row. What is promised is therefore a share of groups, texts that resemble each other counting once.

    :param calibration: rows that no training stage has read; labels are not needed
    :param columns: our column → what the data source calls it; recorded, so that such files need no renaming
    :raises InvalidDataError: the model has other labels than the task, or there is no calibration row
    """
    model, tokenizer = StudentModel.from_pretrained(model_folder), load_tokenizer(model_folder)
    if (tuple(model.config.labels or ()), model.config.kind) != (task.labels, task.kind):
        raise InvalidDataError(f"{model_folder}: its labels or kind are not the task's; run the training stages again")
    rows = read_rows(calibration).drop_duplicates("group")
    exits = all_exits(model, encode(rows, tokenizer, task), tokenizer.pad_token_id)
    uncertainty = exits.uncertainty
    dial = calibrate(uncertainty[:, :-1], exits.disagrees, exits.layers, params.confidence)
    shutil.copytree(model_folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_TRAINING_FILES))
    InferenceRecord(
        kind=task.kind,
        labels=task.labels,
        pair=task.pair,
        max_length=task.max_length,
        text_columns=text_columns(task),
        columns={ours: theirs for ours, theirs in (columns or {}).items() if ours in text_columns(task)},
        layers=model.layer_count,
        exits=exits.layers,
        thresholds=dial.at(params.max_disagreement).thresholds,
        max_disagreement=params.max_disagreement,
        dial=dial,
        weights=fingerprint.of_value({file.name: fingerprint.of_file(file) for file in _weights(model_folder)}),
    ).write(target)
    write_uncertainties(target, exits.layers, uncertainty)
    return dial


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
