"""What one threshold for all exits does to accuracy and depth: the points of the evaluation's curve.

Multi-label: the task's main metric stands wherever this module says accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

from kd_core.serving.exits.outcomes import Exits
from kd_core.tasks.decisions import Integers, row_scores


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


def at(exits: Exits, targets: Integers, threshold: float) -> Point:
    """Accuracy against `targets` ([N]; multi-label [N, C]) and mean number of layers at one threshold."""
    outcome = exits.simulate(threshold)
    accuracy = float(row_scores(outcome.probabilities, targets, exits.kind).mean())
    return Point(float(threshold), accuracy, float(outcome.exit_layer.mean()))
