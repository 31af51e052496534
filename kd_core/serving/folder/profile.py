"""profile.parquet: how long the calibration texts are and how uncertain each exit is of them; numbers only, no text.

The profile shows without a model how many texts leave at each exit, and so what thresholds save. Drift is measured
against it: texts in service then leave at other exits than these, or with less certainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.rows import write_table
from kd_core.runtime.arrays import Floats, Integers
from kd_core.serving.exits.thresholds import Uncertainties

NAME = "profile.parquet"
ROWS = 512
"""Enough for plans: a share is then known to within about two points."""


@dataclass(frozen=True)
class Profile:
    """N texts."""

    lengths: Integers
    """[N], number of tokens."""
    uncertainty: Uncertainties
    """[N, E], uncertainty of each exit; the last is the full model."""

    def last(self, thresholds: Floats) -> Integers:
        """[N], the last segment (from 0) that each text reaches under `thresholds` [E - 1]."""
        stays = np.logical_and.accumulate(self.uncertainty[:, :-1] >= thresholds.astype(np.float32), axis=1)
        return np.asarray(stays.sum(1), dtype=np.int64)

    def reach(self, thresholds: Floats) -> Floats:
        """[E], the share of texts that reach each segment under `thresholds` [E - 1]; the first is 1."""
        segments = np.arange(self.uncertainty.shape[1])
        return np.asarray((self.last(thresholds)[:, None] >= segments).mean(0), dtype=np.float64)

    def thinned(self, rows: int = ROWS) -> Profile:
        """At most `rows` texts, evenly spaced."""
        places = np.linspace(0, len(self.lengths) - 1, min(rows, len(self.lengths))).round().astype(int)
        return Profile(self.lengths[places], self.uncertainty[places])

    def write(self, folder: Path, layers: Sequence[int]) -> None:
        """Write profile.parquet into a model's folder: `tokens`, and a column `layer_N` for each of `layers` [E]."""
        columns = {f"layer_{layer}": pa.array(self.uncertainty[:, place]) for place, layer in enumerate(layers)}
        write_table(folder / NAME, pa.table({"tokens": pa.array(self.lengths), **columns}))

    @classmethod
    def read(cls, folder: Path) -> Profile:
        """Read profile.parquet from a model's folder whose files were checked."""
        lengths, *exits = (column.to_numpy() for column in pq.read_table(folder / NAME).columns)
        return cls(lengths, np.stack(exits, axis=1))
