"""The effect of one threshold for all exits on accuracy and depth: the points of the evaluation's curve.

Accuracy means the task's main metric throughout this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from kd_core.serving.exits.outcomes import Exits
from kd_core.tasks import decide
from kd_core.tasks.units import Units


@dataclass(frozen=True)
class Point:
    """The effect of one threshold."""

    threshold: float
    accuracy: float
    mean_layers: float
    """Layers that a text passes on average."""

    def as_dict(self, metric: str) -> dict[str, float]:
        """For JSON, with the accuracy under the metric's own name."""
        return {"threshold": self.threshold, metric: self.accuracy, "mean_layers": self.mean_layers}


def at(exits: Exits, targets: Units, threshold: float) -> Point:
    """Accuracy against gold and mean number of layers at one threshold."""
    outcome, kind = exits.simulate(threshold), decide.of(exits.kind)
    accuracy = float(kind.metric(kind.counts(outcome.answers, targets).sum(0)))
    return Point(float(threshold), accuracy, float(outcome.exit_layer.mean()))
