"""Decides whether exits pay on this machine, and when remaining texts wait for others.

The decision never depends on the texts of a request or on their number: the given thresholds are followed, or the whole
graph answers. Both were evaluated, and the answer to a text does not depend on the other texts of its request.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from kd_core.runtime.arrays import Floats
from kd_core.serving.folder.profile import Profile
from kd_core.serving.speed.costs import Cost, Costs

SIZES = (1, 8, 32, 128)
"""Sizes of requests, in texts, for which exits must be faster than the whole graph."""

GAIN = 1.2
"""Expected speed-up from which exits are used; the measured one can be a fifth less (benchmarks.inference)."""


class Planner:
    """Decisions from one machine's costs and one model's profile."""

    def __init__(self, costs: Costs, profile: Profile, hidden: int) -> None:
        self.costs, self._profile, self._hidden = costs, profile, hidden
        self._length = float(profile.lengths.mean())
        self.pays = lru_cache(maxsize=256)(self._pays)

    def _pays(self, thresholds: tuple[float, ...]) -> bool:
        """Whether exits at these thresholds are expected to be faster than the whole graph by GAIN at every size."""
        return any(thresholds) and all(self.speedup(thresholds, size) >= GAIN for size in SIZES)

    def speedup(self, thresholds: Sequence[float], size: int) -> float:
        """Expected seconds of the whole graph ÷ seconds with exits for a request of `size` texts, without padding."""
        return self._whole(size) / self._adaptive(np.asarray(thresholds, dtype=np.float64), size)

    def seconds_alone(self, thresholds: tuple[float, ...]) -> Floats:
        """[N], seconds in which each text of the profile is answered at these thresholds, each in its own request."""
        lengths = self._profile.lengths.astype(np.float64)
        if self.pays(thresholds):
            passed = np.cumsum([cost.of(1, lengths) for cost in self.costs.segments], axis=0)
            graphs = passed[self._profile.last(np.asarray(thresholds)), np.arange(len(lengths))]
        else:
            graphs = self.costs.whole.of(1, lengths)
        return graphs + self.costs.outside.of(1, lengths)

    def mean_seconds(self, thresholds: tuple[float, ...], size: int) -> float:
        """Mean seconds of a text at these thresholds, in a request of `size` texts like the profile's; no padding."""
        pays = self.pays(thresholds)
        graphs = self._adaptive(np.asarray(thresholds), size) if pays else self._whole(size)
        return (graphs / self.costs.lanes + self.costs.outside.of(size, self._length)) / size

    def waits(self, index: int, rows: int, length: int) -> bool:
        """Whether `rows` texts of `length` tokens before segment `index` (0-based) should wait to fill a batch.

        In a fuller batch each text's share of the call is smaller, but its hidden states are copied once more.
        """
        full = max(self.costs.batch_tokens // max(length, 1), 1)
        cost = self.costs.segments[index]
        alone, pooled = cost.of(rows, length) / rows, cost.of(full, length) / full
        return rows < full and alone > pooled + self.costs.moved * length * self._hidden

    def _whole(self, size: int) -> float:
        cost = self.costs.whole.among(size)
        return self._calls(1.0, size) * cost.call + size * self._marginal(cost)

    def _adaptive(self, thresholds: np.ndarray, size: int) -> float:
        seconds = 0.0
        for index, share in enumerate(self._profile.reach(thresholds)):
            cost = self.costs.segments[index].among(size)
            seconds += self._calls(share, size) * cost.call + size * share * self._marginal(cost)
            if 0 < index < len(thresholds) + 1 and size > 1 and thresholds[index - 1] > 0:
                seconds += size * share * self._length * self._hidden * self.costs.moved
        return seconds

    def _calls(self, share: float, size: int) -> float:
        """Expected calls of a graph that each of `size` texts reaches with probability `share`."""
        full = self.costs.batch_tokens / self._length
        return float(max(size * share / full, 1 - (1 - share) ** size))

    def _marginal(self, cost: Cost) -> float:
        """Seconds for one more text in a batch."""
        return self._length * (cost.token + cost.square * self._length)
