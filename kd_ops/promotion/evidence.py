"""What the gate is given to decide by: numbers of the challenger, and counts of it and its rivals on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from kd_core.evaluation.statistics.resampling import Metric
from kd_core.runtime.arrays import Booleans, Floats

Groups = npt.NDArray[np.str_]


class Verdict(StrEnum):
    """What happens to a challenger."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"


@dataclass(frozen=True)
class Decision:
    """A verdict with its reasons in plain words and the numbers behind them."""

    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    proven: bool = False
    """Whether the challenger was shown to be better than the champion, and lost nothing against the version that
    accepted losses are counted from: they are counted from the challenger then."""


@dataclass(frozen=True)
class Speed:
    """A model's latency and what it can be compared by; None for what was not measured."""

    latency_ms: float | None
    """Median at batch 1."""
    relative: float | None
    """Latency ÷ that of the reference workload that was timed in turns with the model."""
    machine: str | None
    """Fingerprint of the machine."""


@dataclass(frozen=True)
class MostFrequent:
    """The answer that a model gives most often."""

    answer: str
    share: float
    """Of all test rows."""
    share_of_others: float | None
    """Of the test rows whose label is another one; None where there is no such row."""
    counted: str = "test rows"
    """What the shares are of: parts of rows, where each part has an answer."""


@dataclass(frozen=True)
class Measured:
    """What is known of a model apart from its single answers."""

    weights: str
    """Hash of the model's folder."""
    labels: tuple[str, ...]
    accuracy: float
    """Or what stands in for it: `metric`."""
    best_teacher_accuracy: float
    speedup: float | None
    """Throughput ÷ that of the slowest teacher at the largest measured batch."""
    speed: Speed
    kind: str
    """Of the task."""
    metric: str = "accuracy"
    """The task's main metric, in a person's words."""
    macro_f1: float | None = None
    """None for kinds of tasks that have none."""
    most_frequent: MostFrequent | None = None


@dataclass(frozen=True)
class JudgedRows:
    """The N test rows that are judged by, and the challenger's counts on them."""

    counts: Floats
    """[N, K]"""
    groups: Groups
    """[N], near-duplicate group of each row."""
    metric: Metric
    tfidf: Floats | None = None
    """[N, K], counts of the TF-IDF baseline."""
    slices: Mapping[str, Booleans] = field(default_factory=dict)
    """Name → [N], which rows belong to it."""


@dataclass(frozen=True)
class Champion:
    """The champion, and its counts on the challenger's test rows."""

    version: str
    weights: str
    labels: tuple[str, ...]
    counts: Floats
    """[N, K]"""
    speed: Speed
    kind: str


@dataclass(frozen=True)
class Origin:
    """The version that accepted losses are counted from: the last one that was shown to be better, or the first."""

    version: str
    counts: Floats
    """[N, K]"""
    spent: float = 0.0
    """Part of the margin that is used up already by versions before it that were deleted; infinite if not on record."""
    deleted: str | None = None
    """The version that losses should be counted from, where that was deleted."""
