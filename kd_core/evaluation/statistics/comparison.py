"""Paired comparison of two models on the same rows, by near-duplicate group; numpy only.

The promotion gate decides with these numbers, so they depend on no randomness but the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kd_core.evaluation.statistics.intervals import Estimate
from kd_core.evaluation.statistics.resampling import Metric, resample
from kd_core.runtime.arrays import Booleans

MINIMUM_SLICE_ROWS = 100
"""Slices with fewer rows say too little to judge a model by."""
POWER = 0.8
"""Chance to prove "not worse" for which `groups_needed` plans."""


@dataclass(frozen=True)
class Pair:
    """Counts of two models on the same N rows."""

    first: npt.ArrayLike
    """[N, K]"""
    second: npt.ArrayLike
    """[N, K]"""
    groups: npt.ArrayLike
    """[N], near-duplicate group of each row."""
    metric: Metric
    """Sums of counts [..., K] → [...]."""

    def difference(self, resamples: int, seed: int) -> Estimate:
        """Metric of the first − metric of the second.

        :raises ValueError: shapes differ, or there are no rows
        """
        return resample(
            {"first": self.first, "second": self.second}, self.groups, self.metric, resamples, seed
        ).difference("first", "second")

    def of(self, rows: Booleans) -> Pair:
        """The pair on the chosen rows."""
        return Pair(
            np.asarray(self.first)[rows], np.asarray(self.second)[rows], np.asarray(self.groups)[rows], self.metric
        )


def smallest_detectable(difference: Estimate, confidence: float) -> float:
    """The smallest difference that the test can tell from zero: z · standard error.

    :param confidence: one-sided, in (0.5, 1); z is the normal distribution's quantile there, 1.645 for 0.95
    """
    return NormalDist().inv_cdf(confidence) * difference.standard_error


def groups_needed(difference: Estimate, groups: int, confidence: float, margin: float) -> int:
    """About how many groups are needed to prove, in 4 of 5 tests, that two equal models differ by less than `margin`.

    For models that disagree as often as these, n solves (z + z') · s / √n + 1 / n = margin. Here s is the standard
    deviation of a group's difference, z' the quantile of 0.8, and 1 / n the weight of the unseen group.
    """
    quantiles = NormalDist().inv_cdf(confidence) + NormalDist().inv_cdf(POWER)
    width = quantiles * difference.standard_error * math.sqrt(groups)
    return math.ceil(((width + math.sqrt(width**2 + 4 * margin)) / (2 * margin)) ** 2)


@dataclass(frozen=True)
class SliceComparison:
    """One slice of the test rows: the difference, and its p-value against "not worse than the margin"."""

    name: str
    rows: int
    difference: float
    p_value: float
    """One-sided, corrected by Holm over all slices compared: small means clearly worse than the margin."""


def compare_slices(
    pair: Pair, slices: Mapping[str, Booleans], margin: float, resamples: int, seed: int
) -> list[SliceComparison]:
    """Test on each slice of at least 100 rows whether the first model is worse by more than `margin`.

    :param slices: name → [N] bool, which rows belong to it
    """
    large = {name: mask for name, mask in slices.items() if int(mask.sum()) >= MINIMUM_SLICE_ROWS}
    found = {name: pair.of(mask).difference(resamples, seed) for name, mask in large.items()}
    adjusted = holm([difference.p_not_below(-margin) for difference in found.values()])
    return [
        SliceComparison(name, int(large[name].sum()), difference.value, p_value)
        for (name, difference), p_value in zip(found.items(), adjusted, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; the order of `p_values` is kept.

    The i-th smallest of m (from 0) is multiplied by m − i; it is at least its predecessor and at most 1 [Holm 1979].
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
