"""Bootstrap intervals of a mean over rows, resampling near-duplicate groups instead of rows; numpy only.

Rows of one group are near-duplicates and answer alike, so that resampling rows would promise too narrow an interval.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def resample_means(values: npt.ArrayLike, groups: npt.ArrayLike, resamples: int, seed: int) -> Floats:
    """Means of `values` under resampling of whole groups with replacement.

    Groups with the same sum and size are interchangeable, so one multinomial draw over the *kinds* of groups has
    exactly the distribution of drawing the groups one by one, at a fraction of the cost.

    :param values: [N], for instance 1 where a model is right and 0 where it is wrong; or [N, K], K quantities that
        are resampled together
    :param groups: [N], the group of each row
    :returns: [resamples] (or [resamples, K]) float64, the same for the same seed
    :raises ValueError: no rows, or `groups` of another length
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or len(array) == 0 or len(array) != len(np.asarray(groups)):
        raise ValueError(f"{array.shape} values and {np.shape(groups)} groups: both must be [N] with N ≥ 1")
    _, membership = np.unique(np.asarray(groups), return_inverse=True)
    columns = [np.bincount(membership, weights=column) for column in array.reshape(len(array), -1).T]
    sizes = np.bincount(membership).astype(np.float64)
    kinds, frequency = np.unique(np.stack([sizes, *columns], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    shares = frequency / frequency.sum()
    means = []
    step = max(1, _CELLS_AT_ONCE // len(kinds))
    for start in range(0, resamples, step):
        drawn = generator.multinomial(len(sizes), shares, size=min(step, resamples - start)) @ kinds
        means.append(drawn[:, 1:] / drawn[:, :1])
    return np.concatenate(means).reshape(resamples, *array.shape[1:])


def mean_interval(
    values: npt.ArrayLike, groups: npt.ArrayLike, confidence: float, resamples: int, seed: int
) -> Interval:
    """The mean of `values` [N] with its two-sided percentile interval, by group.

    :param confidence: for instance 0.95
    """
    means = resample_means(values, groups, resamples, seed)
    return around(float(np.mean(np.asarray(values, dtype=np.float64))), means, confidence)


def around(value: float, resampled: Floats, confidence: float) -> Interval:
    """`value` with the two-sided percentile interval of its resamples [R]."""
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))
