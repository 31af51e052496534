"""Classification: the classes by recall, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_core.tasks.sections.mistakes import most_frequent
from kd_core.tasks.units import Units

TITLE = "Classification"
DOES = "classifies {texts} into {labels} labels"
GIVEN = "Every text gets one of the labels, also a text that belongs to none of them."
REACHED = "answers {share} of {texts} correctly"
FURTHER: Mapping[str, str] = {}
COUNTED = "test rows"
BINNED = ("test rows", "rows")
HARDEST = (
    "The classes that the student finds hardest",
    "by recall, with early exits. Each row adds up to 100%.",
)
LOWEST = "recall"


def confusion(probabilities: Units, gold: Units, labels: Sequence[str]) -> dict[str, Any]:
    """The confusion matrix, all classes with rows and recall, the worst first, and the most frequent mistakes."""
    predicted, size = probabilities.values.argmax(1), len(labels)
    matrix = np.bincount(gold.values * size + predicted, minlength=size * size).reshape(size, size)
    rows, right = matrix.sum(1), np.diag(matrix)
    present = [index for index in range(size) if rows[index]]
    worst = sorted(present, key=lambda index: (right[index] / rows[index], -rows[index], labels[index]))
    return {
        "labels": list(labels),
        "matrix": matrix.tolist(),
        "classes": [
            {"label": labels[index], "rows": int(rows[index]), "recall": float(right[index] / rows[index])}
            for index in worst
        ],
        "mistakes": most_frequent(
            (int(matrix[i, j]), labels[i], labels[j]) for i in range(size) for j in range(size) if i != j
        ),
    }


def how(entry: Mapping[str, Any]) -> str:
    """How a class of `confusion` fares, in the card's words."""
    return f"{entry['recall']:.0%} of {entry['rows']}"
