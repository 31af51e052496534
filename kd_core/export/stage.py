"""From the trained model's folder to the one that serves: its graphs in onnx/, model.json, and the same weights.

The weights stay for what learns from the student; whoever serves reads the graphs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.export.checking import serve_graphs
from kd_core.export.fit_dial import fit_dial
from kd_core.export.folder import hashed
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.exits.dial import Dial
from kd_core.serving.folder.profile import NAME as PROFILE
from kd_core.serving.folder.profile import Profile
from kd_core.serving.folder.record import ModelRecord, text_columns
from kd_core.tasks import encode

_TRAINING_FILES = ("history.json",)

RANGE_ROWS = 256
"""Calibration texts for the ranges of int8's activations at most."""
_SEED = 0


def export(
    model_folder: Path,
    calibration: Path,
    target: Path,
    task: TaskParams,
    params: ExportParams,
    columns: Mapping[str, str] | None = None,
) -> Dial:
    """Write the servable model to `target`, its exits calibrated on the texts of `calibration` as its graphs answer.

    Rows of one near-duplicate group are not independent, and the test counts independent ones: each group gives its
    first row. What is promised is therefore a share of groups, texts that resemble each other counting once. Rows that
    int8 takes its ranges from do not test the exits.

    :param calibration: rows that no training stage has read; labels are not needed
    :param columns: our column → what the data source calls it; recorded, so that such files need no renaming
    :raises InvalidDataError: the model has other labels than the task, or there is no calibration row
    :raises ParamsError: the student cannot be exported
    """
    model, tokenizer = StudentModel.from_pretrained(model_folder), load_tokenizer(model_folder)
    if (tuple(model.config.labels or ()), model.config.kind) != (task.labels, task.kind):
        raise InvalidDataError(f"{model_folder}: its labels or kind are not the task's; run the training stages again")
    if encode.of(task.kind).FEATURES:
        raise ParamsError(f"task.kind: {task.kind!r} asks of parts of a text; exported graphs answer whole texts only")
    rows = read_rows(calibration).drop_duplicates("group")
    ranges, rows = shared_out(rows, 0 if params.quantise == "none" else min(len(rows) // 2, RANGE_ROWS))
    shutil.copytree(model_folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_TRAINING_FILES))
    served = serve_graphs(model, tokenizer, task, params, rows, ranges, target)
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


def shared_out(rows: pd.DataFrame, taken: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`taken` rows by chance, and the others, each in their order.

    Rows come sorted by id, and ids may begin with what the label follows from: the first rows would be texts of other
    classes than those that are left, and the dial would be tested on texts unlike those that it promises for.
    """
    chosen = np.isin(np.arange(len(rows)), np.random.default_rng(_SEED).permutation(len(rows))[:taken])
    return rows[chosen], rows[~chosen]


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
