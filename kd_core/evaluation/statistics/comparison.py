"""Is one model better than another on the same rows? Paired, by near-duplicate group; numpy only.

The promotion gate decides with these numbers, so they come from the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kd_core.evaluation.statistics.intervals import mean_interval, resample_means

Booleans = npt.NDArray[np.bool_]

MINIMUM_SLICE_ROWS = 100
"""Slices with fewer rows say too little to judge a model by."""


def paired_difference(
    challenger: npt.ArrayLike,
    champion: npt.ArrayLike,
    groups: npt.ArrayLike,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float, float]:
    """Main metric of the challenger − main metric of the champion, with its two-sided percentile interval.

    :param challenger: [N], how right it answers each row: 1 or 0, for other tasks than classification anything between
    :param champion: [N], the same rows in the same order
    :param groups: [N], near-duplicate group of each row; whole groups are resampled
    :returns: difference, low, high
    :raises ValueError: lengths differ or are zero
    """
    result = mean_interval(_gain(challenger, champion), groups, confidence, resamples, seed)
    return result.value, result.low, result.high


@dataclass(frozen=True)
class Disagreement:
    """Rows on which one of two models is right and the other not, or less (McNemar's counts)."""

    rows: int
    only_challenger: int
    only_champion: int
    discordance: float
    """Mean squared difference of the rows' scores: the share of such rows, where answers are right or wrong."""

    def smallest_detectable(self, confidence: float) -> float:
        """Difference in the main metric that so many rows can tell from none: z · √(discordance / n).

        :param confidence: one-sided, in (0.5, 1); z is the normal distribution's quantile there, 1.645 for 0.95
        """
        return NormalDist().inv_cdf(confidence) * math.sqrt(self.discordance / self.rows)


def disagreement(challenger: npt.ArrayLike, champion: npt.ArrayLike) -> Disagreement:
    """McNemar's counts of two models' scores, [N] each."""
    gain = _gain(challenger, champion)
    if len(gain) == 0:
        raise ValueError("no rows to compare on")
    return Disagreement(len(gain), int((gain > 0).sum()), int((gain < 0).sum()), float((gain**2).sum()) / len(gain))


@dataclass(frozen=True)
class SliceComparison:
    """One slice of the test rows: the difference, and how likely it is not to be worse than the margin."""

    name: str
    rows: int
    difference: float
    p_value: float
    """One-sided, corrected by Holm over all slices compared: small means clearly worse than the margin."""


def compare_slices(
    challenger: npt.ArrayLike,
    champion: npt.ArrayLike,
    groups: npt.ArrayLike,
    slices: Mapping[str, Booleans],
    margin: float,
    resamples: int,
    seed: int,
) -> list[SliceComparison]:
    """Compare on each slice of at least 100 rows: is the challenger worse there by more than `margin`?

    The p-value of a slice is the share of resamples whose difference is not below −margin, each side counted with
    one more (so it is never zero); then Holm's correction over the slices.

    :param slices: name → [N] bool, which rows belong to it
    """
    gain, names = _gain(challenger, champion), np.asarray(groups)
    large = {name: mask for name, mask in slices.items() if int(mask.sum()) >= MINIMUM_SLICE_ROWS}
    raw = []
    for mask in large.values():
        means = resample_means(gain[mask], names[mask], resamples, seed)
        raw.append((1 + int((means >= -margin).sum())) / (1 + resamples))
    return [
        SliceComparison(name, int(mask.sum()), float(gain[mask].mean()), p_value)
        for (name, mask), p_value in zip(large.items(), holm(raw), strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; the order of `p_values` is kept.

    The i-th smallest of m (from 0) is multiplied by m − i, never below its predecessor, at most 1 [Holm 1979].
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _gain(challenger: npt.ArrayLike, champion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """[N]: 1 where only the challenger is right, −1 where only the champion is; in between where answers can be."""
    first, second = np.asarray(challenger, dtype=np.float64), np.asarray(champion, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"answers of shapes {first.shape} and {second.shape}: both must be [N], on the same rows")
    return first - second
