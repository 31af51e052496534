"""Multi-label: the labels by F1, and which are given wrongly or not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_core.tasks.decide.multi_label import APPLIES, METRIC_NAME, decisions
from kd_core.tasks.sections.mistakes import most_frequent
from kd_core.tasks.units import Units

TITLE = "Multi-label classification"
DOES = "gives {texts} any of {labels} labels"
GIVEN = f"A text gets every label whose probability is above {APPLIES:.0%}, and none where no probability is."
REACHED = f"reaches {{share}} {METRIC_NAME} on {{texts}}"
FURTHER = {"micro_f1": "micro-F1", "subset_accuracy": "subset accuracy"}
COUNTED = "test rows"
BINNED = ("decisions on a label", "decisions")
HARDEST = (
    "The labels that the student finds hardest",
    "by F1, with early exits. Recall: how many of a label's texts are given it; precision: how many of the texts that "
    "are given it have it.",
)
LOWEST = "F1"
NOTHING = "–"
"""Stands in a mistake for the label that is missing on one side."""


def confusion(probabilities: Units, gold: Units, labels: Sequence[str]) -> dict[str, Any]:
    """All labels with rows, recall, precision and F1, the worst first; a mistake is one label given or not given."""
    true, given = gold.values, decisions(probabilities).values
    rows, answered, right = true.sum(0), given.sum(0), (true * given).sum(0)
    f1 = 2 * right / np.maximum(rows + answered, 1)
    worst = sorted((i for i in range(len(labels)) if rows[i]), key=lambda i: (f1[i], -rows[i], labels[i]))
    missed = [(int(count), label, NOTHING) for count, label in zip(rows - right, labels, strict=True)]
    wrong = [(int(count), NOTHING, label) for count, label in zip(answered - right, labels, strict=True)]
    return {
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
        "mistakes": most_frequent([*missed, *wrong]),
    }


def how(entry: Mapping[str, Any]) -> str:
    """How a label of `confusion` fares, in the card's words."""
    return f"{entry['f1']:.0%} on {entry['rows']}"
