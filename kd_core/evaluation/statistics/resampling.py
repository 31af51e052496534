"""Metrics of several models on the same rows, under resampling of near-duplicate groups; numpy only.

Rows of one group are near-duplicates and are answered alike, so groups are resampled, never rows. A metric is computed
from summed counts, so it may be a mean (accuracy) or a ratio of sums (F1 over entities).

Each resample gives every group a random weight (the Bayesian bootstrap, Rubin 1981). An ordinary bootstrap has no width
if the test rows lack a case that can happen: two models that agree on 50 rows would be proven equal. So each resample
has one more, unseen group. It is answered in the worst way for a lower bound and in the best way for an upper bound
(Gaffke 2005). With right or wrong answers this is an exact test: it gives the bound of Clopper and Pearson if only one
of two models is ever right alone, and the exact test of McNemar against no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_core.evaluation.statistics.intervals import Estimate
from kd_core.runtime.arrays import Floats

Metric = Callable[[Floats], Floats]
"""Sums of counts [..., K] → the metric [...], from 0 (worst) to 1 (best)."""

_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Resampled:
    """The metric of each model on all rows and in R resamples, which all models share."""

    values: Mapping[str, float]
    draws: Mapping[str, Floats]
    """[R], without the unseen group."""
    unseen: Floats
    """[R], the weight of the unseen group, in (0, 1)."""

    def metric(self, name: str) -> Estimate:
        """The metric of one model."""
        known = self._known(name)
        return Estimate(self.values[name], known, known + self.unseen)

    def difference(self, first: str, second: str) -> Estimate:
        """Metric of `first` − metric of `second`, paired."""
        gain = self._known(first) - self._known(second)
        return Estimate(self.values[first] - self.values[second], gain - self.unseen, gain + self.unseen)

    def ratio(self, name: str, of: str) -> Estimate:
        """Metric of `name` ÷ metric of `of`; both above 0."""
        above, below = self._known(name), self._known(of)
        return Estimate(
            self.values[name] / self.values[of], above / (below + self.unseen), (above + self.unseen) / below
        )

    def gap_closed(self, name: str, low: str, high: str) -> Estimate:
        """(name − low) ÷ (high − low), over the resamples where `high` is better than `low`."""
        gain, gap = self._known(name) - self._known(low), self._known(high) - self._known(low)
        value = (self.values[name] - self.values[low]) / (self.values[high] - self.values[low])
        kept = gap > 0
        gain, gap, unseen = gain[kept], gap[kept], self.unseen[kept]
        return Estimate(value, (gain - unseen) / gap, (gain + unseen) / gap)

    def _known(self, name: str) -> Floats:
        """[R], the contribution of the seen groups to the metric."""
        return self.draws[name] * (1 - self.unseen)


def resample(
    counts: Mapping[str, npt.ArrayLike], groups: npt.ArrayLike, metric: Metric, resamples: int, seed: int
) -> Resampled:
    """Resample the groups of N rows.

    Groups with the same sums are interchangeable: the weights of n such groups add up to one draw from Gamma(n). So one
    draw for each *kind* of group replaces one draw for each group.

    :param counts: model → [N, K], counts of each row
    :param groups: [N], the group of each row
    :returns: the same for the same seed
    :raises ValueError: there are no rows, the shapes of counts differ, or `groups` has another length
    """
    stacked = _stack(counts, groups)
    sizes, sums = _by_group(stacked, groups)
    kinds, frequency = np.unique(np.concatenate([sizes[:, None], sums], axis=1), axis=0, return_counts=True)
    generator, size = np.random.default_rng(seed), float((sizes**2).sum() / sizes.sum())
    draws, unseen = [], []
    step = max(1, _CELLS_AT_ONCE // len(kinds))
    for start in range(0, resamples, step):
        part = min(step, resamples - start)
        drawn = generator.standard_gamma(frequency, size=(part, len(kinds))) @ kinds
        extra = generator.standard_exponential(part) * size
        unseen.append(extra / (extra + drawn[:, 0]))
        draws.append(metric(drawn[:, 1:].reshape(part, *stacked.shape[1:])))
    values, columns = metric(stacked.sum(axis=0)), np.concatenate(draws).T
    return Resampled(
        {name: float(value) for name, value in zip(counts, values, strict=True)},
        dict(zip(counts, columns, strict=True)),
        np.concatenate(unseen),
    )


def _stack(counts: Mapping[str, npt.ArrayLike], groups: npt.ArrayLike) -> Floats:
    """[N, M, K]"""
    arrays = [np.asarray(values, dtype=np.float64) for values in counts.values()]
    shapes, rows = {array.shape for array in arrays}, len(np.asarray(groups))
    if len(shapes) != 1 or arrays[0].ndim != 2 or not rows or len(arrays[0]) != rows:
        raise ValueError(f"counts {sorted(shapes)} and {rows} groups: all must be [N, K] of the same N ≥ 1 rows")
    return np.stack(arrays, axis=1)


def _by_group(stacked: Floats, groups: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Rows [G] and sums of all counts [G, M · K] of each group."""
    _, membership = np.unique(np.asarray(groups), return_inverse=True)
    columns = stacked.reshape(len(stacked), -1).T
    sums = [np.bincount(membership, weights=column) for column in columns]
    return np.bincount(membership).astype(np.float64), np.stack(sums, axis=1)
