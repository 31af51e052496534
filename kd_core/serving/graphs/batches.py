"""Groups texts of similar length into batches."""

from __future__ import annotations

import numpy as np

from kd_core.runtime.arrays import Integers
from kd_core.serving.speed.costs import UNTIMED_BATCH_TOKENS, Cost, Costs

_GUESSED_CALL = 64.0
"""Tokens that could be computed in the fixed time of a call, where nothing was timed."""


class Batching:
    """How batches are cut: at a number of tokens, and where one more call costs less than padding."""

    def __init__(self, costs: Costs | None, batch_tokens: int | None = None) -> None:
        self.batch_tokens = batch_tokens or (costs.batch_tokens if costs else UNTIMED_BATCH_TOKENS)
        self._costs = costs

    def cut(self, lengths: Integers, places: Integers | None = None) -> list[Integers]:
        """Places in `lengths` [N] (or the given ones), from the longest text to the shortest, in bounded batches.

        A batch ends when it is full: its rows times its longest text reach `batch_tokens` (a longer text is alone). It
        also ends where the padding of the next texts, up to its capacity, would cost more than a call.
        """
        if places is not None and len(places) == 1:
            return [places]
        order = np.argsort(-lengths if places is None else -lengths[places], kind="stable")
        order = order if places is None else places[order]
        sizes = lengths[order]
        batches, start = [], 0
        while start < len(order):
            longest = int(sizes[start])
            capacity = min(max(self.batch_tokens // max(longest, 1), 1), len(order) - start)
            end = start + self._worth(sizes[start : start + capacity], longest)
            batches.append(order[start:end])
            start = end
        return batches

    def _worth(self, sizes: Integers, longest: int) -> int:
        """How many of these texts, the longest first, to take: the cut that saves most padding, if worth a call."""
        rest = np.arange(len(sizes) - 1, 0, -1)  # texts that remain after a cut behind the first text, the second, …
        saved = rest * (longest - sizes[1:]) * (self._costs.padding if self._costs else 1.0)
        if len(saved) == 0 or saved.max() <= self.call_in_tokens(longest):
            return len(sizes)
        return int(saved.argmax()) + 1

    def call_in_tokens(self, length: int) -> float:
        """The fixed cost of a call, in computed tokens."""
        if self._costs is None:
            return _GUESSED_CALL
        cost: Cost = self._costs.whole
        return cost.call / max(cost.token + cost.square * length, 1e-12)
