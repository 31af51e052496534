"""profile.json: how long texts are and how sure each exit is of them, on rows of the data the model was made for.

What a choice of thresholds would save depends on how many texts leave where. The profile tells it without a model and
without a text: numbers only, from validation rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

NAME = "profile.json"
ROWS = 512
"""Rows kept at most: a share is then known to about two points."""
_DIGITS = 4


@dataclass(frozen=True)
class Profile:
    """N texts."""

    lengths: npt.NDArray[np.int64]
    """[N], tokens."""
    uncertainty: npt.NDArray[np.float64]
    """[N, E - 1], of each exit but the last."""

    def last(self, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """[N], the last segment (from 0) that each text comes to under `thresholds` [E - 1]."""
        stays = np.logical_and.accumulate(self.uncertainty >= thresholds, axis=1)
        return np.asarray(stays.sum(1), dtype=np.int64)

    def reach(self, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """[E], the share of texts that come to each segment under `thresholds` [E - 1]; the first is 1."""
        segments = np.arange(self.uncertainty.shape[1] + 1)
        return np.asarray((self.last(thresholds)[:, None] >= segments).mean(0), dtype=np.float64)

    def write(self, folder: Path) -> None:
        """Write profile.json, thinned to evenly spaced rows."""
        rows = np.unique(np.linspace(0, len(self.lengths) - 1, min(ROWS, len(self.lengths))).round().astype(int))
        found = {
            "lengths": self.lengths[rows].tolist(),
            "uncertainty": np.round(self.uncertainty[rows], _DIGITS).tolist(),
        }
        (folder / NAME).write_text(json.dumps(found) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Profile:
        """From the folder of the graphs."""
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        lengths = np.array(found["lengths"], dtype=np.int64)
        uncertainty = np.array(found["uncertainty"], dtype=np.float64).reshape(len(lengths), -1)
        return cls(lengths, uncertainty)
