"""What one threshold for all exits does to accuracy and depth: the points of the evaluation's curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_core.inference.exits import Exits


@dataclass(frozen=True)
class Point:
    """What one threshold does."""

    threshold: float
    accuracy: float
    mean_layers: float
    """Layers that a text passes on average."""


def at(exits: Exits, targets: npt.NDArray[np.int64], threshold: float) -> Point:
    """Accuracy against `targets` [N] and mean number of layers at one threshold."""
    outcome = exits.simulate(threshold)
    accuracy = float(np.mean(outcome.answers == targets))
    return Point(float(threshold), accuracy, float(outcome.exit_layer.mean()))
