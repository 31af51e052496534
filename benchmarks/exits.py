"""The early exits of an arm's student: what each layer's branch answers, and who leaves where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.arms import TEST, Arm, Setting
from benchmarks.predictions import predict
from kd_core.config.data import Kind
from kd_core.serving.exits.outcomes import Exits, shares
from kd_core.tasks import decide
from kd_core.tasks.units import Units

LABEL = " with exits"
"""Follows an arm's name where its student answers with early exits."""


@dataclass(frozen=True)
class ExitTable:
    """One arm, the mean over seeds."""

    layers: tuple[int, ...]
    accuracy: dict[str, float]
    """Layer → accuracy (or the task's main metric) if all texts were answered there."""
    shares: dict[str, float]
    """Layer → share of the texts that leave there at the thresholds that the calibration split supports."""
    mean_layers: float
    """Layers that a text passes."""
    counts: np.ndarray
    """[S, N, K], of the student with early exits: what its main metric is made of."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the rows."""
        return {"accuracy": self.accuracy, "shares": self.shares, "mean_layers": self.mean_layers}


def mean_metric(counts: np.ndarray, kind: Kind) -> float:
    """The main metric, mean over seeds, of counts [S, N, K]."""
    return float(decide.of(kind).metric(counts.sum(axis=1)).mean())


def exits(setting: Setting, arm: Arm, seeds: Sequence[int], targets: Units, kind: Kind) -> ExitTable:
    """Train the arm's branches for each seed, calibrate them, and answer the test rows."""
    found, task = [], decide.of(kind)
    for seed in seeds:
        run = setting.run(arm, seed, ["export"])
        predictions = predict(run, "models/student", TEST, setting.bench)
        found.append((Exits(predictions.layers, predictions.exits, kind), predictions.thresholds or 0.0))
    layers = found[0][0].layers
    adaptive = [answers.simulate(thresholds) for answers, thresholds in found]
    accuracy = {
        str(layer): mean_metric(
            np.stack([task.counts(task.decisions(answers.only(layer)), targets) for answers, _ in found]), kind
        )
        for layer in layers
    }
    left = [shares(outcome.exit_layer, layers) for outcome in adaptive]
    return ExitTable(
        layers,
        accuracy,
        {layer: float(np.mean([each[layer] for each in left])) for layer in left[0]},
        float(np.mean([outcome.exit_layer.mean() for outcome in adaptive])),
        np.stack([task.counts(outcome.answers, targets) for outcome in adaptive]),
    )
