"""The main metric over seeds and rows, with bounds from resamples of both.

Rows and seeds are crossed: every seed's student answers the same rows. Each resample therefore weighs near-duplicate
groups of rows and, independently, draws seeds with replacement (a two-way bootstrap, Owen 2007), the same for all
contestants, so that differences between them are paired. With few seeds the part of the interval that comes from them
is rough; with one seed there is none, and the interval speaks of this one seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_core.evaluation.statistics.intervals import Interval
from kd_core.evaluation.statistics.resampling import Metric, Resampled, resample
from kd_core.runtime.arrays import Floats


@dataclass(frozen=True)
class Contestants:
    """The main metric of each contestant, its mean over seeds, and its resamples."""

    resampled: Resampled
    deviations: Mapping[str, float]
    """Standard deviation of the metric over seeds; 0 with one."""
    confidence: float

    @property
    def values(self) -> Mapping[str, float]:
        """The mean over seeds."""
        return self.resampled.values

    def metric(self, name: str) -> Interval:
        """With its interval."""
        return self.resampled.metric(name).interval(self.confidence)

    def difference(self, first: str, second: str) -> Interval:
        """first − second, paired."""
        return self.resampled.difference(first, second).interval(self.confidence)

    def p_value(self, first: str, second: str) -> float:
        """Two-sided, against no difference."""
        return self.resampled.difference(first, second).p_equal(0.0)

    def share(self, name: str, of: str) -> Interval:
        """Metric of `name` ÷ metric of `of`."""
        return self.resampled.ratio(name, of).interval(self.confidence)

    def gap_closed(self, name: str, low: str, high: str) -> Interval | None:
        """(name − low) ÷ (high − low); None unless the interval of high − low lies above zero."""
        if self.difference(high, low).low <= 0:
            return None
        return self.resampled.gap_closed(name, low, high).interval(self.confidence)


def compare(
    counts: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    metric: Metric,
    confidence: float,
    resamples: int,
    seed: int,
) -> Contestants:
    """Resample rows and seeds.

    :param counts: contestant → [S, N, K] counts of each row with each seed; [1, N, K] without seeds
    :param groups: [N], near-duplicate group of each row
    :raises ValueError: contestants with different numbers of seeds above 1
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in counts.items()}
    seeds = {len(array) for array in arrays.values()} - {1}
    if len(seeds) > 1:
        raise ValueError(f"contestants with {sorted(seeds)} seeds cannot be paired")
    drawn = _draw_seeds(seeds.pop() if seeds else 1, resamples, seed)
    each = {f"{name}/{index}": rows for name, array in arrays.items() for index, rows in enumerate(array)}
    found = resample(each, groups, metric, resamples, seed)
    draws, values, deviations = {}, {}, {}
    for name, array in arrays.items():
        keys = [f"{name}/{index}" for index in range(len(array))]
        columns = np.stack([found.draws[key] for key in keys], axis=1)
        draws[name] = (columns * drawn).sum(1) if len(keys) > 1 else columns[:, 0]
        single = np.array([found.values[key] for key in keys])
        values[name], deviations[name] = float(single.mean()), _deviation(single)
    return Contestants(Resampled(values, draws, found.unseen), deviations, confidence)


def _draw_seeds(seeds: int, resamples: int, seed: int) -> Floats:
    """[R, S], the share of each seed in each resample."""
    generator = np.random.default_rng([seed, seeds])
    drawn: Floats = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    return drawn


def _deviation(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
