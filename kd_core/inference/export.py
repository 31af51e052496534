"""From the trained model's folder to the one that serves: the same weights, and inference.json beside them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from kd_core.config.data import TaskParams
from kd_core.inference.adaptive import all_exits
from kd_core.inference.record import InferenceRecord, text_columns
from kd_core.inference.threshold import Choice, choose
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.encode import encode

_TRAINING_FILES = ("history.json",)


def export(
    model_folder: Path,
    valid: Path,
    target: Path,
    task: TaskParams,
    max_accuracy_loss: float,
    columns: Mapping[str, str] | None = None,
) -> Choice:
    """Choose the exit threshold on the rows of `valid` and write the servable model to `target`.

    :param max_accuracy_loss: of the main metric on the validation rows, for instance 0.005
    :param columns: our column → what the data source calls it; recorded, so that such files need no renaming
    :raises InvalidDataError: the model has other labels than the task, or no row of `valid` is labelled
    """
    model, tokenizer = StudentModel.from_pretrained(model_folder), load_tokenizer(model_folder)
    if (tuple(model.config.labels or ()), model.config.kind) != (task.labels, task.kind):
        raise InvalidDataError(f"{model_folder}: its labels or kind are not the task's; run the training stages again")
    rows = read_rows(valid)
    encoded = encode(rows[rows["label"].notna()], tokenizer, task)
    exits = all_exits(model, encoded, tokenizer.pad_token_id)
    choice = choose(exits, encoded.targets.numpy(), max_accuracy_loss)
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
        threshold=choice.chosen.threshold,
        max_accuracy_loss=max_accuracy_loss,
        valid=choice.as_dict(),
    ).write(target)
    return choice
