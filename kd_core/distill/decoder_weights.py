"""Weights of the decoders in the combined answer, fitted on the validation split (docs/methods.md §1, infer)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kd_core.config.data import MULTI_LABEL, Kind
from kd_core.config.student import Combine

Floats = npt.NDArray[np.float64]
_DIGITS = 6


def fit(
    logits: Mapping[str, npt.ArrayLike], targets: npt.ArrayLike, mode: Combine, kind: Kind = "classification"
) -> dict[str, float]:
    """The weights, ≥ 0 and summing to 1, with the least log-loss of the combined answer: a convex problem.

    :param logits: decoder → [N, C] on labelled rows
    :param targets: [N] indices of labels; multi-label [N, C], 1 where a label applies
    :param mode: what is averaged, `probabilities` or `logits`
    """
    from scipy.optimize import minimize

    stacked = np.stack([np.asarray(values, dtype=np.float64) for values in logits.values()])
    gold = np.asarray(targets, dtype=np.int64)
    if kind == MULTI_LABEL:
        stacked, gold = _as_choices(stacked), gold.ravel()
    start = np.full(len(stacked), 1.0 / len(stacked))

    def loss(weights: Floats) -> float:
        return log_loss(stacked, gold, weights, mode)

    def excess(weights: Floats) -> float:
        return float(weights.sum()) - 1.0

    bounds = [(0.0, 1.0)] * len(stacked)
    found = minimize(loss, start, method="SLSQP", bounds=bounds, constraints={"type": "eq", "fun": excess})
    weights = np.clip(found.x, 0.0, None)
    return {name: round(float(w), _DIGITS) for name, w in zip(logits, weights / weights.sum(), strict=True)}


def log_loss(logits: Floats, targets: npt.NDArray[np.int64], weights: Floats, mode: Combine) -> float:
    """Mean negative log-probability of `targets` [N] under the combination of `logits` [D, N, C]."""
    rows = np.arange(len(targets))
    if mode == "logits":
        return float(-_log_softmax(np.tensordot(weights, logits, axes=1))[rows, targets].mean())
    answers = np.exp(_log_softmax(logits))[:, rows, targets]
    return float(-np.log(np.maximum(weights @ answers, np.finfo(np.float64).tiny)).mean())


def _as_choices(logits: Floats) -> Floats:
    """[D, N, C] → [D, N · C, 2]: each label of each row as a choice between "does not apply" and "applies".

    A sigmoid is the softmax over 0 and its logit, also of an average of logits.
    """
    choices: Floats = np.stack([np.zeros_like(logits), logits], axis=-1).reshape(len(logits), -1, 2)
    return choices


def _log_softmax(logits: Floats) -> Floats:
    from scipy.special import log_softmax

    result: Floats = log_softmax(logits, axis=-1)
    return result
