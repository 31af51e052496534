"""How good predictions are, in plain numpy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kd_core.config.data import MULTI_LABEL, Kind
from kd_core.tasks.decisions import Floats, Integers
from kd_core.tasks.metrics import classification, multi_label
from kd_core.tasks.metrics.classification import accuracy, expected_calibration_error, macro_f1

_QUALITY = {"classification": classification.quality, MULTI_LABEL: multi_label.quality}


def quality(probabilities: Floats, targets: Integers, kind: Kind = "classification") -> dict[str, float]:
    """The task's metrics by name, the main one first; probabilities [N, C], targets as `decisions` gives them."""
    return _QUALITY[kind](probabilities, targets)


def log_loss(probabilities: Floats, targets: Integers, kind: Kind = "classification") -> float:
    """Mean negative log-probability of the true labels; multi-label: of all decisions on a label."""
    if kind == MULTI_LABEL:
        return classification.log_loss(multi_label.as_decisions(probabilities), targets.ravel())
    return classification.log_loss(probabilities, targets)


def reliability_bins(
    probabilities: Floats, targets: Integers, kind: Kind = "classification"
) -> dict[str, NDArray[np.float64]]:
    """Per bin of confidence: rows, confidence, accuracy; multi-label: of all label decisions instead of rows."""
    if kind == MULTI_LABEL:
        return classification.reliability_bins(multi_label.as_decisions(probabilities), targets.ravel())
    return classification.reliability_bins(probabilities, targets)


__all__ = ["accuracy", "expected_calibration_error", "log_loss", "macro_f1", "quality", "reliability_bins"]
