"""Weights of the decoders in the combined answer, fitted on the validation split (docs/methods.md §1, infer)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kd_core.config.data import Kind
from kd_core.config.student import Combine
from kd_core.runtime.arrays import Floats, Integers
from kd_core.tasks import decide
from kd_core.tasks.units import Units

_DIGITS = 6


def fit(logits: Mapping[str, Units], targets: Units, mode: Combine, kind: Kind) -> dict[str, float]:
    """The weights, ≥ 0 and summing to 1, with the least log-loss of the combined answer: a convex problem.

    :param logits: decoder → [ΣU, C] on labelled rows
    :param targets: gold of these rows
    :param mode: what is averaged, `probabilities` or `logits`
    """
    from scipy.optimize import minimize

    task = decide.of(kind)
    stacked = np.stack([task.choices(each.values.astype(np.float64)) for each in logits.values()])
    gold = task.chosen(targets.values)
    start = np.full(len(stacked), 1.0 / len(stacked))

    def loss(weights: Floats) -> float:
        return log_loss(stacked, gold, weights, mode)

    def excess(weights: Floats) -> float:
        return float(weights.sum()) - 1.0

    bounds = [(0.0, 1.0)] * len(stacked)
    found = minimize(loss, start, method="SLSQP", bounds=bounds, constraints={"type": "eq", "fun": excess})
    weights = np.clip(found.x, 0.0, None)
    return {name: round(float(w), _DIGITS) for name, w in zip(logits, weights / weights.sum(), strict=True)}


def log_loss(logits: Floats, targets: Integers, weights: Floats, mode: Combine) -> float:
    """Mean negative log-probability of `targets` [N] under the combination of `logits` [D, N, C]."""
    rows = np.arange(len(targets))
    if mode == "logits":
        return float(-_log_softmax(np.tensordot(weights, logits, axes=1))[rows, targets].mean())
    answers = np.exp(_log_softmax(logits))[:, rows, targets]
    return float(-np.log(np.maximum(weights @ answers, np.finfo(np.float64).tiny)).mean())


def _log_softmax(logits: Floats) -> Floats:
    from scipy.special import log_softmax

    result: Floats = log_softmax(logits, axis=-1)
    return result
