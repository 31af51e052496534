"""The evaluation row by row and in the tables that pictures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd_core.config.data import MULTI_LABEL
from kd_core.evaluation.quality.quality import Answers
from kd_core.serving.exits.curve import at
from kd_core.serving.exits.outcomes import Exits, Predictions
from kd_core.tasks.decisions import MAIN_METRIC, Integers, decisions, named
from kd_core.tasks.metrics import reliability_bins

CURVE_STEPS = 51
CONFUSED_PAIRS = 12
NOTHING = "–"
"""Stands in a multi-label mistake for the label that is missing on one side."""


def examples(
    rows: pd.DataFrame,
    answers: Answers,
    adaptive: Predictions,
    labels: Sequence[str],
    slices: Mapping[str, npt.NDArray[np.bool_]],
) -> pd.DataFrame:
    """One line a test row: id, group, label, slices (bool), `<model>` and `<model>/counts`, exit_layer, entropy.

    Multi-label: lists of labels. Counts are a list of K numbers: what the main metric is made of.
    """
    columns: dict[str, Any] = {key: rows[key].tolist() for key in ("id", "group", "label")} | dict(slices)
    for model, probabilities in answers.probabilities.items():
        columns[model] = named(decisions(probabilities, answers.kind), labels, answers.kind)
        columns[f"{model}/counts"] = answers.counts(model).tolist()
    columns |= {"exit_layer": adaptive.exit_layer, "entropy": adaptive.entropy}
    return pd.DataFrame(columns)


def curve(exits: Exits, targets: Integers, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Main metric and mean number of layers over thresholds from 0 to 1, those asked for among them; ascending."""
    grid = {*(round(float(value), 4) for value in np.linspace(0, 1, CURVE_STEPS)), *thresholds}
    metric = MAIN_METRIC[exits.kind]
    return [at(exits, targets, threshold).as_dict(metric) for threshold in sorted(grid)]


def reliability(answers: Answers, models: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Model → per bin of confidence: rows (multi-label: decisions on a label), confidence, accuracy."""
    return {
        model: {
            key: values.tolist()
            for key, values in reliability_bins(answers.probabilities[model], answers.targets, answers.kind).items()
        }
        for model in models
    }


def confusion(answers: Answers, model: str, labels: Sequence[str]) -> dict[str, Any]:
    """The classes that `model` finds worst, with rows and recall, and its most frequent mistakes."""
    if answers.kind == MULTI_LABEL:
        return _label_confusion(answers, model, labels)
    predicted, size = answers.probabilities[model].argmax(1), len(labels)
    matrix = np.bincount(answers.targets * size + predicted, minlength=size * size).reshape(size, size)
    rows, right = matrix.sum(1), np.diag(matrix)
    present = [index for index in range(size) if rows[index]]
    worst = sorted(present, key=lambda index: (right[index] / rows[index], -rows[index], labels[index]))
    mistakes = [(int(matrix[i, j]), labels[i], labels[j]) for i in range(size) for j in range(size) if i != j]
    mistakes = sorted((m for m in mistakes if m[0]), key=lambda m: (-m[0], m[1], m[2]))[:CONFUSED_PAIRS]
    return {
        "model": model,
        "labels": list(labels),
        "matrix": matrix.tolist(),
        "classes": [
            {"label": labels[index], "rows": int(rows[index]), "recall": float(right[index] / rows[index])}
            for index in worst
        ],
        "mistakes": [{"rows": count, "label": truth, "predicted": answer} for count, truth, answer in mistakes],
    }


def _label_confusion(answers: Answers, model: str, labels: Sequence[str]) -> dict[str, Any]:
    """The labels of lowest F1, with rows, recall and precision; mistakes are labels given wrongly or not given."""
    true, given = answers.targets, decisions(answers.probabilities[model], MULTI_LABEL)
    rows, answered, right = true.sum(0), given.sum(0), (true * given).sum(0)
    f1 = 2 * right / np.maximum(rows + answered, 1)
    worst = sorted((i for i in range(len(labels)) if rows[i]), key=lambda i: (f1[i], -rows[i], labels[i]))
    mistakes = [(int(missed), label, NOTHING) for missed, label in zip(rows - right, labels, strict=True)]
    mistakes += [(int(wrong), NOTHING, label) for wrong, label in zip(answered - right, labels, strict=True)]
    mistakes = sorted((m for m in mistakes if m[0]), key=lambda m: (-m[0], m[1], m[2]))[:CONFUSED_PAIRS]
    return {
        "model": model,
        "labels": list(labels),
        "classes": [
            {
                "label": labels[index],
                "rows": int(rows[index]),
                "recall": float(right[index] / rows[index]),
                "precision": float(right[index] / answered[index]) if answered[index] else 0.0,
                "f1": float(f1[index]),
            }
            for index in worst
        ],
        "mistakes": [{"rows": count, "label": truth, "predicted": answer} for count, truth, answer in mistakes],
    }
