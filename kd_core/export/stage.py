"""Turns the trained model's folder into the one that serves: graphs in onnx/, model.json and the same weights.

Serving reads the graphs; the weights are kept for models that learn from the student.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.export.checking import serve_graphs
from kd_core.export.fit_dial import fit_dial
from kd_core.export.folder import hashed
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.dial import Dial
from kd_core.serving.folder.profile import NAME as PROFILE
from kd_core.serving.folder.profile import Profile
from kd_core.serving.folder.record import ModelRecord, text_columns

_TRAINING_FILES = ("history.json",)


def export(
    model_folder: Path,
    calibration: Path,
    target: Path,
    task: TaskParams,
    params: ExportParams,
    columns: Mapping[str, str] | None = None,
    valid: Path | None = None,
) -> Dial:
    """Write the servable model to `target`, with exits calibrated on its graphs' answers to `calibration`.

    The test needs independent rows, and rows of one near-duplicate group are not, so each group gives its first row.
    The promise is therefore about a share of groups: similar texts count once. No choice about the graphs uses the rows
    that test the exits: `valid` decides whether int8 serves.

    :param calibration: rows that no training stage has read; labels are not needed
    :param columns: our column → its name in the data source; recorded so that such files need no renaming
    :param valid: rows for int8, if that is asked for; labels are not needed
    :raises InvalidDataError: the model has other labels than the task, or needed rows are missing
    :raises ParamsError: the student cannot be exported
    """
    model, tokenizer = StudentModel.from_pretrained(model_folder), load_tokenizer(model_folder)
    if (tuple(model.config.labels or ()), model.config.kind) != (task.labels, task.kind):
        raise InvalidDataError(f"{model_folder}: its labels or kind are not the task's; run the training stages again")
    rows = read_rows(calibration).drop_duplicates("group")
    others = rows[:0] if valid is None else read_rows(valid).drop_duplicates("group")
    shutil.copytree(model_folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_TRAINING_FILES))
    served = serve_graphs(model, tokenizer, task, params, rows, others, target)
    tokens = served.tokens(rows)
    exits = served.executor.all_exits(tokens)
    dial = fit_dial(exits.uncertainty[:, :-1], exits.disagrees, exits.layers, params.confidence)
    Profile(tokens.lengths, exits.uncertainty).write(target, exits.layers)
    ModelRecord(
        **dict(served.network),
        columns={ours: theirs for ours, theirs in (columns or {}).items() if ours in text_columns(task)},
        thresholds=dial.at(params.max_disagreement).thresholds,
        max_disagreement=params.max_disagreement,
        dial=dial,
        profile=hashed(PROFILE, target),
        quantisation=served.quantisation,
        weights=fingerprint.of_value({file.name: fingerprint.of_file(file) for file in _weights(model_folder)}),
    ).write(target)
    return dial


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
