"""Whether exits pay on this machine, and when texts that stay wait for others.

What is decided never depends on the texts of a request or on their number: thresholds are followed as they are given,
or the whole graph answers. Both are what was evaluated, and an answer is the same in whatever company a text comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from kd_core.serving.costs import Costs
from kd_core.serving.profile import Profile

SIZES = (1, 8, 32, 128)
"""Texts of a request, for which exits must be faster than the whole graph."""

GAIN = 1.05
"""Expected speed-up from which exits are asked: timings, and what is expected from them, are not better than this."""


class Planner:
    """Decisions from one machine's costs and one model's profile."""

    def __init__(self, costs: Costs, profile: Profile, hidden: int) -> None:
        self.costs, self._profile, self._hidden = costs, profile, hidden
        self._length = float(profile.lengths.mean())
        self.pays = lru_cache(maxsize=256)(self._pays)

    def _pays(self, thresholds: tuple[float, ...]) -> bool:
        """Whether exits at these thresholds are expected to be faster than the whole graph, by GAIN at every size."""
        return any(thresholds) and all(self.speedup(thresholds, size) >= GAIN for size in SIZES)

    def speedup(self, thresholds: Sequence[float], size: int) -> float:
        """Seconds of the whole graph ÷ seconds with exits, expected for a request of `size` texts, padding aside."""
        return self._whole(size) / self._adaptive(np.asarray(thresholds, dtype=np.float64), size)

    def worthwhile(self, thresholds: Sequence[float]) -> tuple[float, ...]:
        """These thresholds with 0 at the exits that cost more than they save: those that a calibration should leave.

        One after the other goes, as long as that makes the largest request faster. Texts that would have left there
        leave later, so that a promise made for the thresholds given need not hold for these.
        """
        best = tuple(float(threshold) for threshold in thresholds)
        while any(best):
            fewer = [(*best[:place], 0.0, *best[place + 1 :]) for place, value in enumerate(best) if value > 0]
            fastest = max(fewer, key=lambda each: self.speedup(each, SIZES[-1]))
            if self.speedup(fastest, SIZES[-1]) <= self.speedup(best, SIZES[-1]):
                break
            best = fastest
        return best

    def waits(self, index: int, rows: int, length: int) -> bool:
        """Whether `rows` texts of `length` tokens before segment `index` (0-based) should wait to fill a batch.

        A text's share of the call falls in a fuller batch, but its hidden states are copied once more.
        """
        full = max(self.costs.batch_tokens // max(length, 1), 1)
        cost = self.costs.segments[index]
        alone, pooled = cost.of(rows, length) / rows, cost.of(full, length) / full
        return rows < full and alone > pooled + self.costs.moved * length * self._hidden

    def _whole(self, size: int) -> float:
        return self._calls(1.0, size) * self.costs.whole.call + size * self._marginal(-1)

    def _adaptive(self, thresholds: np.ndarray, size: int) -> float:
        seconds = 0.0
        for index, share in enumerate(self._profile.reach(thresholds)):
            seconds += self._calls(share, size) * self.costs.segments[index].call
            seconds += size * share * self._marginal(index)
            if 0 < index < len(thresholds) + 1 and size > 1 and thresholds[index - 1] > 0:
                seconds += size * share * self._length * self._hidden * self.costs.moved
        return seconds

    def _calls(self, share: float, size: int) -> float:
        """Calls of a graph that each of `size` texts comes to with this probability."""
        full = self.costs.batch_tokens / self._length
        return float(max(size * share / full, 1 - (1 - share) ** size))

    def _marginal(self, index: int) -> float:
        """Seconds for one more text in a batch; index -1: of the whole graph."""
        cost = self.costs.whole if index < 0 else self.costs.segments[index]
        return self._length * (cost.token + cost.square * self._length)
