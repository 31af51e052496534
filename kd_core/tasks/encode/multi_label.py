"""Multi-label: a row is one unit; its target says of each label whether it applies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd_core.config.data import TaskParams
from kd_core.tasks.encode.classification import FEATURES, features, sizes
from kd_core.tasks.encode.gold import NO_LABEL, known_labels
from kd_core.tasks.units import Units

if TYPE_CHECKING:
    import pandas as pd


def targets(rows: pd.DataFrame, task: TaskParams) -> Units:
    """[N, C]: 1 where a label applies, 0 where not; NO_LABEL if unlabelled. Raises InvalidDataError naming a row."""
    found = np.full((len(rows), len(task.labels)), NO_LABEL, dtype=np.int64)
    for position, places in enumerate(known_labels(rows, task.labels)):
        if places is not None:
            found[position] = 0
            found[position, list(places)] = 1
    return Units.one_a_row(found)


__all__ = ["FEATURES", "features", "sizes", "targets"]
