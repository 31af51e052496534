"""An estimate with its bounds and its p-values against a limit; numpy only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from kd_core.runtime.arrays import Booleans, Floats

_LUCK = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True)
class Interval:
    """An estimate with its two bounds."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Estimate:
    """A number with two sets of resamples: one errs on the low side, one on the high side."""

    value: float
    low_draws: Floats
    """[R]"""
    high_draws: Floats
    """[R]"""

    @property
    def standard_error(self) -> float:
        """Standard deviation of the resamples."""
        return float(self.low_draws.std())

    def interval(self, confidence: float) -> Interval:
        """The two-sided interval. With `confidence` 2c − 1, each bound is a one-sided bound at confidence c.

        The bounds are a few draws farther out than the quantiles, so that random draws make a bound too narrow in only
        1 of 100 seeds.
        """
        tail = (1 - confidence) / 2
        low, high = _order(self.low_draws, tail), -_order(-self.high_draws, tail)
        return Interval(self.value, min(low, self.value), max(high, self.value))

    def p_not_above(self, limit: float) -> float:
        """One-sided p-value against "not above `limit`": small where the truth is shown to be above it."""
        return _share(self.low_draws <= limit)

    def p_not_below(self, limit: float) -> float:
        """One-sided p-value against "not below `limit`": small where the truth is shown to be below it."""
        return _share(self.high_draws >= limit)

    def p_equal(self, limit: float) -> float:
        """Two-sided p-value against "equal to `limit`"."""
        return min(1.0, 2 * min(self.p_not_above(limit), self.p_not_below(limit)))


def _order(draws: Floats, tail: float) -> float:
    """A draw that, at 99 % confidence, has at most a share `tail` of all possible draws below it."""
    expected = tail * len(draws)
    rank = max(0, math.floor(expected - _LUCK * math.sqrt(expected * (1 - tail))))
    return float(np.partition(draws, rank)[rank])


def _share(beyond: Booleans) -> float:
    """Share of the resamples, with one added to both counts so that it is never zero."""
    return (1 + int(beyond.sum())) / (1 + len(beyond))
