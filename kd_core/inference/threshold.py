"""The exit threshold: as fast as a stated loss on the validation split allows (docs/methods.md §2).

What may be lost is accuracy; multi-label: the task's main metric, which then stands wherever this module says accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_core.inference.exits import Exits, entropy
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.decisions import MAIN_METRIC, Integers, row_scores

MOST_CANDIDATES = 1000
CURVE_POINTS = 50
_DIGITS = 4


@dataclass(frozen=True)
class Point:
    """What one threshold does."""

    threshold: float
    accuracy: float
    mean_layers: float
    """Layers that a text passes on average."""

    def as_dict(self, metric: str) -> dict[str, float]:
        """For JSON, the accuracy under the name of the metric that it is."""
        return {"threshold": self.threshold, metric: self.accuracy, "mean_layers": self.mean_layers}


@dataclass(frozen=True)
class Choice:
    """The chosen threshold, what it does, and the curve that it was chosen from."""

    chosen: Point
    accuracy_full: float
    rows: int
    curve: tuple[Point, ...]
    """Ascending by threshold, thinned to about 50 points; the chosen one is among them."""
    metric: str = "accuracy"
    """What the points' accuracies are."""

    def as_dict(self) -> dict[str, Any]:
        """For inference.json: rows, <metric>_full, <metric>, mean_layers, curve."""
        return {
            "rows": self.rows,
            f"{self.metric}_full": self.accuracy_full,
            self.metric: self.chosen.accuracy,
            "mean_layers": self.chosen.mean_layers,
            "curve": [point.as_dict(self.metric) for point in self.curve],
        }


def candidates(exits: Exits) -> npt.NDArray[np.float64]:
    """Every threshold at which an outcome changes, rounded to 4 digits, with 0 and 1; ascending.

    Where there are more than 1,000, evenly spaced ones by rank are kept.
    """
    values = entropy(exits.probabilities[:, :-1], exits.kind).astype(np.float64).ravel()
    changes = np.unique(np.round(np.concatenate([[0.0], values, [1.0]]), _DIGITS))
    if len(changes) > MOST_CANDIDATES:
        changes = changes[np.linspace(0, len(changes) - 1, MOST_CANDIDATES).round().astype(int)]
    return changes


def at(exits: Exits, targets: Integers, threshold: float) -> Point:
    """Accuracy against `targets` ([N]; multi-label [N, C]) and mean number of layers at one threshold."""
    outcome = exits.simulate(threshold)
    accuracy = float(row_scores(outcome.probabilities, targets, exits.kind).mean())
    return Point(float(threshold), accuracy, float(outcome.exit_layer.mean()))


def choose(exits: Exits, targets: Integers, max_accuracy_loss: float) -> Choice:
    """The largest threshold whose accuracy is at most `max_accuracy_loss` below the full model's.

    Accuracy need not fall steadily with the threshold. What is promised holds for the chosen threshold itself; a
    smaller one may lose more. A larger one never exits later, so the largest is the fastest.

    :param exits: answers of every exit to the validation rows
    :param targets: [N], index of each row's label; multi-label [N, C], 1 where a label applies
    :param max_accuracy_loss: share of rows, for instance 0.005
    :raises InvalidDataError: no validation row
    """
    if len(targets) == 0:
        raise InvalidDataError("the validation split is empty: a threshold cannot be chosen; set data.reference.split")
    points = [at(exits, targets, threshold) for threshold in candidates(exits)]
    full = points[0]
    tolerance = 1e-9  # accuracies are ratios of counts; the loss allowed is a decimal number
    chosen = max(
        (point for point in points if full.accuracy - point.accuracy <= max_accuracy_loss + tolerance),
        key=lambda point: point.threshold,
    )
    return Choice(chosen, full.accuracy, len(targets), _thin(points, chosen), MAIN_METRIC[exits.kind])


def _thin(points: list[Point], chosen: Point) -> tuple[Point, ...]:
    kept = np.linspace(0, len(points) - 1, min(CURVE_POINTS, len(points))).round().astype(int)
    return tuple(sorted({*(points[index] for index in kept), chosen}, key=lambda point: point.threshold))
