"""Arrays of units: a row has one or more of them, and rows need not have equally many.

A unit is what one decision is about: the text in classification, a word in tagging, a token in generation. How many
units a row has follows from the row alone, never from a tokenizer, so all models agree on it. On the device a batch
pads them, [B, U, …] with a mask [B, U]; everywhere else they lie one after the other, [ΣU, …], as here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_core.runtime.arrays import Booleans, Floats, Integers

UNIT_MASK = "unit_mask"
"""[B, U] in a batch, where a row has a unit."""


@dataclass(frozen=True)
class Units:
    """The values of N rows' units."""

    values: npt.NDArray[Any]
    """[ΣU, …], row after row."""
    offsets: Integers
    """[N + 1]: row n has the units from offsets[n] up to offsets[n + 1]."""
    single: bool = False
    """Whether each row is known to be one unit: then nobody looks for the places of its units."""

    @classmethod
    def one_a_row(cls, values: npt.ArrayLike) -> Units:
        """[N, …] where each row is one unit."""
        array = np.asarray(values)
        return cls(array, np.arange(len(array) + 1, dtype=np.int64), single=True)

    @classmethod
    def of_sizes(cls, values: npt.ArrayLike, sizes: npt.ArrayLike) -> Units:
        """[ΣU, …] with the number of each row's units, [N]."""
        return cls(np.asarray(values), np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))]))

    @classmethod
    def joined(cls, parts: Sequence[Units]) -> Units:
        """The rows of all parts (at least one), one after the other."""
        sizes = np.concatenate([part.sizes for part in parts])
        return cls.of_sizes(np.concatenate([part.values for part in parts]), sizes)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Integers:
        """[N], units of each row."""
        return np.diff(self.offsets)

    @property
    def row_of_unit(self) -> Integers:
        """[ΣU], the row that each unit belongs to."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def with_values(self, values: npt.NDArray[Any]) -> Units:
        """Other values [ΣU, …] of the same units."""
        return Units(values, self.offsets, self.single)

    def take(self, rows: npt.ArrayLike) -> Units:
        """The rows at these places, or those where a mask [N] is true."""
        chosen = np.asarray(rows)
        if self.single:
            return Units.one_a_row(self.values[chosen])
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        places, mask = self._places(chosen)
        return Units.of_sizes(self.values[places[mask]], self.sizes[chosen])

    def padded(self, rows: npt.ArrayLike, fill: float = 0) -> tuple[npt.NDArray[Any], Booleans]:
        """The rows at these places as [B, U, …], `fill` behind the units of shorter rows, and the mask [B, U]."""
        places, mask = self._places(np.asarray(rows, dtype=np.int64))
        found = np.full((*mask.shape, *self.values.shape[1:]), fill, dtype=self.values.dtype)
        found[mask] = self.values[places[mask]]
        return found, mask

    def sums(self) -> Floats:
        """[N, …], the sum over each row's units; 0 where it has none."""
        found = np.zeros((len(self), *self.values.shape[1:]), dtype=np.float64)
        np.add.at(found, self.row_of_unit, self.values)
        return found

    def means(self) -> Floats:
        """[N, …], the mean over each row's units; 0 where it has none."""
        sizes = np.maximum(self.sizes, 1).reshape(-1, *(1,) * (self.values.ndim - 1))
        return np.asarray(self.sums() / sizes, dtype=np.float64)

    def every(self) -> Booleans:
        """[N], whether all values of all units of a row are true."""
        wrong = Units(~self.values.reshape(len(self.values), -1).astype(bool), self.offsets)
        return np.asarray(wrong.sums().reshape(len(self), -1).sum(1) == 0, dtype=bool)

    def _places(self, rows: Integers) -> tuple[Integers, Booleans]:
        sizes = self.sizes[rows]
        steps = np.arange(sizes.max(initial=0))
        return self.offsets[rows][:, None] + steps, steps < sizes[:, None]
