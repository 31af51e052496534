"""Multi-label: F1 in three averages, subset accuracy, log-loss and calibration of the single label decisions.

Probabilities [N, C] against targets [N, C] of 0 and 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kd_core.tasks.decide import multi_label as task
from kd_core.tasks.metrics.classification import Floats, bins_of_confidence, expected_calibration_error, log_loss
from kd_core.tasks.units import Units


def quality(probabilities: Units, gold: Units) -> dict[str, float]:
    """example_f1, micro_f1, macro_f1, subset_accuracy, and log_loss and ece over all N · C label decisions.

    example_f1 is the mean over rows, micro_f1 that of all decisions together, macro_f1 the mean over the labels that
    are true or given anywhere; subset_accuracy is the share of rows with exactly the true labels.
    """
    from sklearn.metrics import f1_score

    given = task.decisions(probabilities)
    answers, targets = given.values, gold.values
    seen = (targets | answers).any(0)
    each = as_decisions(probabilities.values), targets.ravel()
    return {
        "example_f1": float(task.metric(task.counts(given, gold).sum(0))),
        "micro_f1": float(f1_score(targets, answers, average="micro", zero_division=0)),
        "macro_f1": float(f1_score(targets[:, seen], answers[:, seen], average="macro", zero_division=0)),
        "subset_accuracy": float((answers == targets).all(1).mean()),
        "log_loss": log_loss(*each),
        "ece": expected_calibration_error(*each),
    }


def reliability_bins(probabilities: Units, gold: Units) -> dict[str, NDArray[np.float64]]:
    """Per bin of confidence: decisions on a label (`rows`), mean `confidence` and `accuracy`."""
    return bins_of_confidence(as_decisions(probabilities.values), gold.values.ravel())


def as_decisions(probabilities: Floats) -> Floats:
    """[N · C, 2]: each label of each row as a choice between "does not apply" and "applies"."""
    applies = probabilities.reshape(-1)
    return np.stack([1 - applies, applies], axis=1)
