"""The exit threshold: as fast as a stated loss of accuracy on the validation split allows (docs/methods.md §2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_core.inference.exits import Exits, entropy
from kd_core.runtime.errors import InvalidDataError

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


@dataclass(frozen=True)
class Choice:
    """The chosen threshold, what it does, and the curve that it was chosen from."""

    chosen: Point
    accuracy_full: float
    rows: int
    curve: tuple[Point, ...]
    """Ascending by threshold, thinned to about 50 points; the chosen one is among them."""

    def as_dict(self) -> dict[str, Any]:
        """For inference.json: rows, accuracy_full, accuracy, mean_layers, curve."""
        return {
            "rows": self.rows,
            "accuracy_full": self.accuracy_full,
            "accuracy": self.chosen.accuracy,
            "mean_layers": self.chosen.mean_layers,
            "curve": [asdict(point) for point in self.curve],
        }


def candidates(exits: Exits) -> npt.NDArray[np.float64]:
    """Every threshold at which an outcome changes, rounded to 4 digits, with 0 and 1; ascending.

    Where there are more than 1,000, evenly spaced ones by rank are kept.
    """
    values = entropy(exits.probabilities[:, :-1]).astype(np.float64).ravel()
    changes = np.unique(np.round(np.concatenate([[0.0], values, [1.0]]), _DIGITS))
    if len(changes) > MOST_CANDIDATES:
        changes = changes[np.linspace(0, len(changes) - 1, MOST_CANDIDATES).round().astype(int)]
    return changes


def at(exits: Exits, targets: npt.NDArray[np.int64], threshold: float) -> Point:
    """Accuracy against `targets` [N] and mean number of layers at one threshold."""
    outcome = exits.simulate(threshold)
    accuracy = float(np.mean(outcome.answers == targets))
    return Point(float(threshold), accuracy, float(outcome.exit_layer.mean()))


def choose(exits: Exits, targets: npt.NDArray[np.int64], max_accuracy_loss: float) -> Choice:
    """The largest threshold whose accuracy is at most `max_accuracy_loss` below the full model's.

    Accuracy need not fall steadily with the threshold. What is promised holds for the chosen threshold itself; a
    smaller one may lose more. A larger one never exits later, so the largest is the fastest.

    :param exits: answers of every exit to the validation rows
    :param targets: [N], index of each row's label
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
    return Choice(chosen, full.accuracy, len(targets), _thin(points, chosen))


def _thin(points: list[Point], chosen: Point) -> tuple[Point, ...]:
    kept = np.linspace(0, len(points) - 1, min(CURVE_POINTS, len(points))).round().astype(int)
    return tuple(sorted({*(points[index] for index in kept), chosen}, key=lambda point: point.threshold))
