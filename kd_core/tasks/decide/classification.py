"""Classification: the most probable class; counts are (right, 1) a row, the metric is accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_core.runtime.arrays import Booleans, Floats, Integers
from kd_core.tasks.units import Units

MAIN_METRIC = "accuracy"
METRIC_NAME = "accuracy"

_SMALLEST = np.finfo(np.float32).tiny


def decisions(probabilities: Units) -> Units:
    """[ΣU, C] → [ΣU], the index of the most probable class."""
    return probabilities.with_values(np.asarray(probabilities.values.argmax(-1), dtype=np.int64))


def counts(given: Units, gold: Units) -> Floats:
    """[N, 2]: 1 where the row is answered rightly, and 1; both arguments hold the index of a class."""
    right = (given.values == gold.values).astype(np.float64)
    return np.stack([right, np.ones(len(gold))], axis=1)


def metric(sums: Floats) -> Floats:
    """[…, 2] sums of counts → […] accuracy; 0 where there is no row."""
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1), dtype=np.float64)


def same(given: Units, other: Units) -> Booleans:
    """[N], whether both decisions on a row are the same."""
    return given.with_values(given.values == other.values).every()


def uncertainty(probabilities: Units) -> NDArray[np.float32]:
    """[N] in [0, 1], 0 is certain: entropy ÷ log C (docs/methods.md §2)."""
    return normalised_entropy(probabilities.values)


def normalised_entropy(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """U = −Σ_c p_c log p_c ÷ log C over the last axis, in [0, 1]."""
    logs = np.log(np.maximum(probabilities, _SMALLEST))  # of 0 they are multiplied with 0
    values = (probabilities * logs).sum(-1) / -math.log(probabilities.shape[-1])
    normalised: NDArray[np.float32] = np.minimum(np.maximum(values, 0.0), 1.0).astype(np.float32)
    return normalised


def named(given: Units, labels: Sequence[str]) -> list[Any]:
    """[N], the decision on each row as it stands in a table and as gold labels do: the name of its class."""
    return [labels[index] for index in given.values]


def table(probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
    """Columns of [N] answers: label, and its probability."""
    label = named(decisions(probabilities), labels)
    return {"label": label, "probability": probabilities.values.max(-1, initial=0.0)}


def shares(probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
    """Label → [N], its probability."""
    return {label: probabilities.values[:, index] for index, label in enumerate(labels)}


def indicators(gold: Units, outputs: int) -> Integers:
    """[ΣU, C], 1 at the class of each unit."""
    return np.asarray(np.eye(outputs, dtype=np.int64)[gold.values], dtype=np.int64)


def choices(logits: Floats) -> Floats:
    """Logits [ΣU, C] as those of M independent choices between C' options, each a softmax: they are one each."""
    return logits


def chosen(gold: Integers) -> Integers:
    """[M], the option that gold takes of each choice."""
    return gold


def chances(probabilities: NDArray[Any]) -> Floats:
    """Probabilities [ΣU, C] as those of the choices, [M, C']."""
    exact = probabilities.astype(np.float64)
    return np.asarray(exact / exact.sum(-1, keepdims=True))


def log_loss(probabilities: Units, gold: Units) -> float:
    """Mean negative log-probability of gold, in nats."""
    return mean_log_loss(chances(probabilities.values), chosen(gold.values))


def mean_log_loss(probabilities: Floats, options: Integers) -> float:
    """Mean negative log-probability of `options` [M] of M choices [M, C']; 0 counts as the smallest step from 0."""
    given = np.clip(probabilities[np.arange(len(options)), options], np.finfo(np.float64).eps, 1.0)
    return float(-np.log(given).mean())
