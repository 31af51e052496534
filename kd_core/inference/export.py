"""From the trained model's folder to the one that serves: its graphs in onnx/, inference.json, and the same weights.

The weights stay for what learns from the student; whoever serves reads the graphs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.export.folder import finish
from kd_core.export.serve import serve_graphs
from kd_core.inference.exits import entropy
from kd_core.inference.record import InferenceRecord, text_columns
from kd_core.inference.threshold import Choice, choose
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.manifest import FOLDER
from kd_core.serving.profile import Profile
from kd_core.tasks.encode import encode

_TRAINING_FILES = ("history.json",)


def export(
    model_folder: Path,
    valid: Path,
    target: Path,
    task: TaskParams,
    params: ExportParams,
    calibration: Path,
    columns: Mapping[str, str] | None = None,
) -> Choice:
    """Write the servable model to `target` and choose its exit threshold on the rows of `valid`, as its graphs answer.

    :param calibration: texts for int8, where that is asked for
    :param columns: our column → what the data source calls it; recorded, so that such files need no renaming
    :raises InvalidDataError: the model has other labels than the task, or no row of `valid` is labelled
    :raises ParamsError: the student cannot be exported
    """
    model, tokenizer = StudentModel.from_pretrained(model_folder), load_tokenizer(model_folder)
    if tuple(model.config.labels or ()) != task.labels:
        raise InvalidDataError(f"{model_folder}: its labels are not the task's; run the training stages again")
    rows = read_rows(valid)
    rows = rows[rows["label"].notna()]
    targets = encode(rows, tokenizer, task).targets.numpy()
    shutil.copytree(model_folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_TRAINING_FILES))
    served = serve_graphs(model, tokenizer, task, params, rows, read_rows(calibration), target / FOLDER)
    tokens = served.tokens(rows)
    exits = served.executor.all_exits(tokens)
    choice = choose(exits, targets, params.max_accuracy_loss)
    profile = Profile(tokens.lengths, entropy(exits.probabilities[:, :-1]).astype("float64"))
    finish(served.manifest, profile, [choice.chosen.threshold] * (len(exits.layers) - 1), target / FOLDER)
    InferenceRecord(
        kind=task.kind,
        labels=task.labels,
        pair=task.pair,
        max_length=task.max_length,
        text_columns=text_columns(task),
        columns={ours: theirs for ours, theirs in (columns or {}).items() if ours in text_columns(task)},
        layers=model.layer_count,
        exits=exits.layers,
        threshold=choice.chosen.threshold,
        max_accuracy_loss=params.max_accuracy_loss,
        quantisation=served.quantisation,
        valid=choice.as_dict(),
    ).write(target)
    return choice
