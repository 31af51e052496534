"""Texts that wait between two segments, packed by depth and length."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kd_core.runtime.arrays import Booleans, Integers
from kd_core.serving.graphs.graphs import Floats


@dataclass(frozen=True)
class Parked:
    """Texts of one batch and their hidden states after the same segment."""

    rows: Integers
    """[B], places in the request."""
    hidden: Floats
    """[B, L, H]; L is at least the length of the longest text."""

    def only(self, stay: Booleans, lengths: Integers) -> Parked:
        """The texts that stay, cut to the longest of them; `lengths` [N] of the whole request."""
        if stay.all():
            return self
        rows = self.rows[stay]
        return Parked(rows, self.hidden[stay, : int(lengths[rows].max(initial=0))])


@dataclass
class Pool:
    """All texts that wait at one depth."""

    parked: list[Parked] = field(default_factory=list)
    tokens: int = 0
    """Number of tokens, without padding."""

    def add(self, parked: Parked, lengths: Integers) -> None:
        """Add a batch to the pool."""
        self.parked.append(parked)
        self.tokens += int(lengths[parked.rows].sum())

    def take(self) -> list[Parked]:
        """Take all that waits out of the pool."""
        taken, self.parked, self.tokens = self.parked, [], 0
        return taken


def pack(parked: list[Parked], places: Integers, lengths: Integers) -> Parked:
    """One batch of the texts at `places` in the concatenation of `parked`, padded with zeros to its longest text."""
    rows = np.concatenate([each.rows for each in parked])
    if len(parked) == 1 and len(places) == len(rows):
        return parked[0]
    starts = np.cumsum([0, *(len(each.rows) for each in parked)])
    length = int(lengths[rows[places]].max())
    hidden = np.zeros((len(places), length, parked[0].hidden.shape[2]), dtype=np.float32)
    source = np.searchsorted(starts, places, side="right") - 1
    for number, each in enumerate(parked):
        into = np.flatnonzero(source == number)
        shared = min(length, each.hidden.shape[1])
        hidden[into, :shared] = each.hidden[places[into] - starts[number], :shared]
    return Parked(rows[places], hidden)
