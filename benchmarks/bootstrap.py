"""Accuracies over seeds and rows, with intervals from a bootstrap of both.

Rows and seeds are crossed: every seed's student answers the same rows. Each resample therefore draws near-duplicate
groups of rows with replacement and, independently, seeds with replacement (the two-way or "pigeonhole" bootstrap, Owen
2007), the same draws for all contestants, so that differences between them are paired. With few seeds the part of the
interval that comes from them is rough; with one seed there is none, and the interval speaks of this one seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_core.evaluation.statistics.intervals import Interval, around, resample_means

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """The accuracy of each contestant, and its resamples."""

    values: Mapping[str, float]
    """The mean over seeds and rows."""
    deviations: Mapping[str, float]
    """Standard deviation of the accuracy over seeds; 0 with one."""
    draws: Mapping[str, Floats]
    """[R]"""
    confidence: float

    def accuracy(self, name: str) -> Interval:
        """With its interval."""
        return around(self.values[name], self.draws[name], self.confidence)

    def difference(self, first: str, second: str) -> Interval:
        """first − second, paired."""
        return around(self.values[first] - self.values[second], self._gain(first, second), self.confidence)

    def p_value(self, first: str, second: str) -> float:
        """Two-sided: twice the share of resamples on the other side of no difference, each count with one more."""
        draws = self._gain(first, second)
        sides = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
        return min(1.0, 2 * (1 + sides) / (1 + len(draws)))

    def share(self, name: str, of: str) -> Interval:
        """Accuracy of `name` ÷ accuracy of `of`."""
        return around(self.values[name] / self.values[of], self.draws[name] / self.draws[of], self.confidence)

    def gap_closed(self, name: str, low: str, high: str) -> Interval | None:
        """(name − low) ÷ (high − low); None unless the interval of high − low lies above zero."""
        if self.difference(high, low).low <= 0:
            return None
        gain, gap = self._gain(name, low), self._gain(high, low)
        value = (self.values[name] - self.values[low]) / (self.values[high] - self.values[low])
        return around(value, gain[gap > 0] / gap[gap > 0], self.confidence)

    def _gain(self, first: str, second: str) -> Floats:
        return self.draws[first] - self.draws[second]


def resample(
    scores: Mapping[str, npt.ArrayLike], groups: npt.ArrayLike, confidence: float, resamples: int, seed: int
) -> Resampled:
    """Resample rows and seeds.

    :param scores: contestant → [S, N] how right it answers each row with each seed, 0 to 1; [1, N] without seeds
    :param groups: [N], near-duplicate group of each row
    :raises ValueError: contestants with different numbers of seeds above 1
    """
    matrices = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    seeds = {len(matrix) for matrix in matrices.values()} - {1}
    if len(seeds) > 1:
        raise ValueError(f"contestants with {sorted(seeds)} seeds cannot be paired")
    drawn = _draw_seeds(seeds.pop() if seeds else 1, resamples, seed)
    stacked = np.concatenate(list(matrices.values())).T
    means = resample_means(stacked, groups, resamples, seed)
    draws, start = {}, 0
    for name, matrix in matrices.items():
        part = means[:, start : start + len(matrix)]
        draws[name] = (part * drawn).sum(1) if len(matrix) > 1 else part[:, 0]
        start += len(matrix)
    values = {name: float(matrix.mean()) for name, matrix in matrices.items()}
    return Resampled(values, {name: _deviation(matrix) for name, matrix in matrices.items()}, draws, confidence)


def _draw_seeds(seeds: int, resamples: int, seed: int) -> Floats:
    """[R, S], the share of each seed in each resample."""
    generator = np.random.default_rng([seed, seeds])
    drawn: Floats = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    return drawn


def _deviation(matrix: Floats) -> float:
    return float(matrix.mean(1).std(ddof=1)) if len(matrix) > 1 else 0.0
