"""Classification: a row is one unit; its target is the place of its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_core.config.data import TaskParams
from kd_core.runtime.arrays import Integers
from kd_core.tasks.encode.gold import NO_LABEL, known_labels
from kd_core.tasks.units import Units

if TYPE_CHECKING:
    import pandas as pd

FEATURES: tuple[str, ...] = ()


def sizes(texts: Sequence[Sequence[str]]) -> Integers:
    """[N], units of each row: 1."""
    return np.ones(len(texts[0]), dtype=np.int64)


def features(texts: Sequence[Sequence[str]], encodings: Sequence[Any]) -> Mapping[str, Units]:
    """None: the heads pool all tokens."""
    return {}


def targets(rows: pd.DataFrame, task: TaskParams) -> Units:
    """[N] index of each row's label; NO_LABEL if unlabelled. Raises InvalidDataError naming a row."""
    places = known_labels(rows, task.labels)
    return Units.one_a_row(np.array([NO_LABEL if row is None else row[0] for row in places], dtype=np.int64))
