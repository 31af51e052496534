"""The evaluation row by row and in the tables that pictures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd_core.evaluation.quality import Answers
from kd_core.inference.exits import Exits, Predictions
from kd_core.inference.threshold import at
from kd_core.tasks.metrics import reliability_bins

CURVE_STEPS = 51
CONFUSED_PAIRS = 12


def examples(
    rows: pd.DataFrame,
    answers: Answers,
    adaptive: Predictions,
    labels: Sequence[str],
    slices: Mapping[str, npt.NDArray[np.bool_]],
) -> pd.DataFrame:
    """One line a test row: id, group, label, slices (bool), `<model>` and `<model>/correct`, exit_layer, entropy."""
    names = np.array(labels, dtype=object)
    columns: dict[str, Any] = {key: rows[key].tolist() for key in ("id", "group", "label")} | dict(slices)
    for model, probabilities in answers.probabilities.items():
        columns[model] = names[probabilities.argmax(1)]
        columns[f"{model}/correct"] = answers.correct(model)
    columns |= {"exit_layer": adaptive.exit_layer, "entropy": adaptive.entropy}
    return pd.DataFrame(columns)


def curve(exits: Exits, targets: npt.NDArray[np.int64], thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Accuracy and mean number of layers over thresholds from 0 to 1, those asked for among them; ascending."""
    grid = {*(round(float(value), 4) for value in np.linspace(0, 1, CURVE_STEPS)), *thresholds}
    return [asdict(at(exits, targets, threshold)) for threshold in sorted(grid)]


def reliability(answers: Answers, models: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Model → per bin of confidence: rows, confidence, accuracy."""
    return {
        model: {
            key: values.tolist()
            for key, values in reliability_bins(answers.probabilities[model], answers.targets).items()
        }
        for model in models
    }


def confusion(answers: Answers, model: str, labels: Sequence[str]) -> dict[str, Any]:
    """The classes that `model` finds worst, with rows and recall, and its most frequent mistakes."""
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
