"""What the readers of gold labels of several kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kd_core.rows import label_sets
from kd_core.runtime.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

NO_LABEL = -100
"""Target of a unit without a label; losses skip it."""


def known_labels(rows: pd.DataFrame, labels: Sequence[str]) -> list[tuple[int, ...] | None]:
    """[N], the places of each row's labels in the label set; None where a row has no label.

    Raises InvalidDataError naming the row for a label outside the set.
    """
    if "label" not in rows.columns:
        return [None] * len(rows)
    index = {label: place for place, label in enumerate(labels)}
    found: list[tuple[int, ...] | None] = []
    for position, row in enumerate(label_sets(rows["label"])):
        unknown = [label for label in row or () if label not in index]
        if unknown:
            name = rows["id"].iloc[position]
            raise InvalidDataError(f"row {name!r}: label {unknown[0]!r} is not among the task's {len(index)} labels")
        found.append(None if row is None else tuple(index[label] for label in row))
    return found
