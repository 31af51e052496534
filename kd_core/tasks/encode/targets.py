"""Labels as numbers, in the order of the task's label set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch

from kd_core.config.data import MULTI_LABEL, TaskParams
from kd_core.rows import label_sets
from kd_core.runtime.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

NO_LABEL = -100
"""Target of a row without a label; losses skip it."""


def targets(rows: pd.DataFrame, task: TaskParams) -> torch.LongTensor:
    """[N] index of each row's label; multi-label [N, C]: 1 where a label applies, 0 where not. NO_LABEL if unlabelled.

    Raises InvalidDataError naming the row for a label outside the task's.
    """
    index = {label: position for position, label in enumerate(task.labels)}
    if "label" not in rows.columns:
        rows = rows.assign(label=None)
    found = _indicators(rows, index) if task.kind == MULTI_LABEL else _indices(rows, index)
    return cast(torch.LongTensor, found)


def _indices(rows: pd.DataFrame, index: Mapping[str, int]) -> torch.Tensor:
    labels = rows["label"]
    known = labels.isna() | labels.isin(list(index))
    if not known.all():
        row = rows[~known].iloc[0]
        raise _unknown(row["id"], row["label"], index)
    return torch.from_numpy(labels.map(index).fillna(NO_LABEL).astype("int64").to_numpy(copy=True))


def _indicators(rows: pd.DataFrame, index: Mapping[str, int]) -> torch.Tensor:
    found = torch.full((len(rows), len(index)), NO_LABEL, dtype=torch.long)
    for position, labels in enumerate(label_sets(rows["label"])):
        if labels is None:
            continue
        found[position] = 0
        for label in labels:
            if label not in index:
                raise _unknown(rows["id"].iloc[position], label, index)
            found[position, index[label]] = 1
    return found


def _unknown(row: str, label: str, index: Mapping[str, int]) -> InvalidDataError:
    return InvalidDataError(f"row {row!r}: label {label!r} is not among the task's {len(index)} labels")
