"""Multi-label: each label above one half; counts are (F1 of the row's labels, 1), the metric is example-based F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_core.runtime.arrays import Booleans, Floats, Integers
from kd_core.tasks.decide.classification import mean_log_loss, metric, normalised_entropy, shares
from kd_core.tasks.units import Units

MAIN_METRIC = "example_f1"
METRIC_NAME = "example-based F1"
APPLIES = 0.5
"""A label is given where its probability is above this."""


def decisions(probabilities: Units) -> Units:
    """[ΣU, C] → [ΣU, C]: 1 for each label that is given."""
    return probabilities.with_values(np.asarray(probabilities.values > APPLIES, dtype=np.int64))


def counts(given: Units, gold: Units) -> Floats:
    """[N, 2]: F1 of the row's labels, 2 |given ∩ true| / (|given| + |true|), and 1.

    F1 is 1 where no label applies and none is given.
    """
    sizes = given.values.sum(1) + gold.values.sum(1)
    both = (given.values * gold.values).sum(1)
    f1 = np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)
    return np.stack([f1, np.ones(len(gold))], axis=1)


def same(given: Units, other: Units) -> Booleans:
    """[N], whether a row is given the same labels."""
    return given.with_values(given.values == other.values).every()


def uncertainty(probabilities: Units) -> NDArray[np.float32]:
    """[N] in [0, 1], 0 is certain: the mean over labels of the binary entropy ÷ log 2 (docs/methods.md §2)."""
    values = probabilities.values
    by_label = normalised_entropy(np.stack([values, 1 - values], axis=-1))
    return np.asarray(by_label.mean(-1), dtype=np.float32)


def named(given: Units, labels: Sequence[str]) -> list[Any]:
    """[N], the decision on each row as it stands in a table and as gold labels do: its labels, sorted."""
    names = np.array(labels, dtype=object)
    return [tuple(sorted(names[row == 1])) for row in given.values]


def table(probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
    """Columns of [N] answers: label, a tuple of all that apply, and probability, one of their probabilities."""
    label, index = named(decisions(probabilities), labels), {name: place for place, name in enumerate(labels)}
    rows = zip(probabilities.values, label, strict=True)
    return {"label": label, "probability": [tuple(float(each[index[name]]) for name in given) for each, given in rows]}


def indicators(gold: Units, outputs: int) -> Integers:
    """[ΣU, C], 1 where a label applies: as gold is."""
    return np.asarray(gold.values, dtype=np.int64)


def choices(logits: Floats) -> Floats:
    """Logits [ΣU, C] → [ΣU · C, 2]: each label as a choice between "does not apply" and "applies".

    A sigmoid is the softmax over 0 and its logit, also of an average of logits.
    """
    return np.stack([np.zeros_like(logits), logits], axis=-1).reshape(-1, 2)


def chosen(gold: Integers) -> Integers:
    """[ΣU · C], 1 where a label applies."""
    return gold.ravel()


def chances(probabilities: NDArray[Any]) -> Floats:
    """[ΣU, C] → [ΣU · C, 2]: how probable it is of each label that it does not apply, and that it does."""
    applies = probabilities.astype(np.float64).reshape(-1)
    return np.stack([1 - applies, applies], axis=1)


def log_loss(probabilities: Units, gold: Units) -> float:
    """Mean negative log-probability of all decisions on a label, in nats."""
    return mean_log_loss(chances(probabilities.values), chosen(gold.values))


__all__ = [
    "APPLIES",
    "MAIN_METRIC",
    "METRIC_NAME",
    "chances",
    "choices",
    "chosen",
    "counts",
    "decisions",
    "indicators",
    "log_loss",
    "metric",
    "named",
    "same",
    "shares",
    "table",
    "uncertainty",
]
