"""Counts of rows and the metrics of their sums, as tasks give them to the statistics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_core.runtime.arrays import Floats


def row_counts(scores: npt.ArrayLike) -> Floats:
    """[N] scores of rows → [N, 2]: the score, and one row."""
    values = np.asarray(scores, dtype=np.float64)
    return np.stack([values, np.ones_like(values)], axis=-1)


def share(sums: Floats) -> Floats:
    """Score ÷ rows."""
    found: Floats = sums[..., 0] / sums[..., 1]
    return found


def entity_f1(sums: Floats) -> Floats:
    """F1 of (right, given, true) entities."""
    found: Floats = 2 * sums[..., 0] / (sums[..., 1] + sums[..., 2])
    return found
