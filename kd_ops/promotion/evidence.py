"""The gate's evidence: numbers of the challenger, and counts of it and its rivals on the test rows."""

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
    """The gate's verdict on a challenger."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"


@dataclass(frozen=True)
class Decision:
    """A verdict, its reasons in plain words and the numbers behind them."""

    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    proven: bool = False
    """Whether the challenger was shown to be better than the champion, and lost nothing against the version from which
    accepted losses are counted. From then on they are counted from the challenger."""


@dataclass(frozen=True)
class Speed:
    """A model's latency and the values that make it comparable; None for what was not measured."""

    latency_ms: float | None
    """Median latency at batch 1."""
    relative: float | None
    """Latency ÷ latency of the reference workload, which was timed in turns with the model."""
    machine: str | None
    """Fingerprint of the machine."""


@dataclass(frozen=True)
class MostFrequent:
    """A model's most frequent answer."""

    answer: str
    share: float
    """Share of all test rows."""
    share_of_others: float | None
    """Share of the test rows that have another label; None if there is no such row."""
    counted: str = "test rows"
    """The unit of the shares: test rows, or parts of rows if each part has an answer."""


@dataclass(frozen=True)
class Measured:
    """A model's numbers, without its single answers."""

    weights: str
    """Hash of the model's folder."""
    labels: tuple[str, ...]
    accuracy: float
    """Accuracy, or the main metric that `metric` names."""
    best_teacher_accuracy: float
    speedup: float | None
    """Throughput ÷ that of the slowest teacher at the largest measured batch."""
    speed: Speed
    kind: str
    """The kind of the task."""
    metric: str = "accuracy"
    """The name of the task's main metric, for people."""
    macro_f1: float | None = None
    """None for kinds of tasks without it."""
    most_frequent: MostFrequent | None = None


@dataclass(frozen=True)
class JudgedRows:
    """The N test rows of the judgement, and the challenger's counts on them."""

    counts: Floats
    """[N, K]"""
    groups: Groups
    """[N], near-duplicate group of each row."""
    metric: Metric
    tfidf: Floats | None = None
    """[N, K], counts of the TF-IDF baseline."""
    slices: Mapping[str, Booleans] = field(default_factory=dict)
    """Name of a slice → [N], which rows belong to it."""


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
    """The version from which accepted losses are counted: the last one shown to be better, or the first one."""

    version: str
    counts: Floats
    """[N, K]"""
    spent: float = 0.0
    """Part of the margin already used up by deleted versions before it; infinite if not on record."""
    deleted: str | None = None
    """The version from which losses should be counted, if that was deleted."""
