"""Classification: accuracy, macro-F1, log-loss and calibration of probabilities [ΣU, C] against targets [ΣU]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_core.tasks.units import Units

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

BINS = 15


def accuracy(probabilities: Floats, targets: Integers) -> float:
    """Share of rows whose most probable class is the target."""
    return float(np.mean(probabilities.argmax(1) == targets))


def macro_f1(probabilities: Floats, targets: Integers) -> float:
    """Mean of the F1 of every class that is a target or a prediction."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, probabilities.argmax(1), average="macro", zero_division=0))


def log_loss(probabilities: Floats, targets: Integers) -> float:
    """Mean negative log-probability of the target, in nats."""
    from sklearn import metrics

    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    return float(metrics.log_loss(targets, exact, labels=np.arange(exact.shape[1])))


def bins_of_confidence(probabilities: Floats, targets: Integers, bins: int = BINS) -> dict[str, NDArray[np.float64]]:
    """Rows by confidence (the largest probability) in `bins` equal-width bins over (0, 1].

    Returns per bin: `rows`, mean `confidence` and `accuracy` (both 0 where a bin is empty).
    """
    confidence = probabilities.max(1).astype(np.float64)
    correct = (probabilities.argmax(1) == targets).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = np.bincount(index, minlength=bins).astype(np.float64)
    sums = {"confidence": confidence, "accuracy": correct}
    means = {name: np.bincount(index, values, minlength=bins) / np.maximum(rows, 1) for name, values in sums.items()}
    return {"rows": rows, **means}


def expected_calibration_error(probabilities: Floats, targets: Integers) -> float:
    """Mean |confidence − accuracy| over 15 equal-width bins of confidence, weighted by rows (Guo et al. 2017)."""
    bins = bins_of_confidence(probabilities, targets)
    return float(np.average(np.abs(bins["confidence"] - bins["accuracy"]), weights=bins["rows"]))


def quality(probabilities: Units, gold: Units) -> dict[str, float]:
    """accuracy, macro_f1, log_loss and ece of all decisions."""
    each = probabilities.values, gold.values
    return {
        "accuracy": accuracy(*each),
        "macro_f1": macro_f1(*each),
        "log_loss": log_loss(*each),
        "ece": expected_calibration_error(*each),
    }


def reliability_bins(probabilities: Units, gold: Units) -> dict[str, NDArray[np.float64]]:
    """Per bin of confidence: decisions (`rows`), mean `confidence` and `accuracy`."""
    return bins_of_confidence(probabilities.values, gold.values)
