"""Classification: one text, or a pair of texts, and one label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from kd_core.config.data import TaskParams
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.encode.batches import Encoded

if TYPE_CHECKING:
    import pandas as pd

NO_LABEL = -100
"""Target of a row without a label; losses skip it."""


def encode(rows: pd.DataFrame, tokenizer: Any, task: TaskParams, max_length: int | None) -> Encoded:
    """See `kd_core.tasks.encode.encode`."""
    columns = ["text", "text_pair"] if task.pair else ["text"]
    for column in columns:
        if column not in rows.columns:
            raise InvalidDataError(
                f"rows have no column {column!r}, which the task needs (data.…task.pair: {task.pair})"
            )
    length = min(max_length or task.max_length, tokenizer.model_max_length)
    if rows.empty:
        return Encoded([], None, _targets(rows, task))
    tokens = tokenizer(
        *(rows[column].tolist() for column in columns), truncation=True, max_length=length, return_attention_mask=False
    )
    return Encoded(tokens["input_ids"], tokens.get("token_type_ids"), _targets(rows, task))


def _targets(rows: pd.DataFrame, task: TaskParams) -> torch.LongTensor:
    if "label" not in rows.columns:
        return cast(torch.LongTensor, torch.full((len(rows),), NO_LABEL, dtype=torch.long))
    index = {label: position for position, label in enumerate(task.labels)}
    labels = rows["label"]
    known = labels.isna() | labels.isin(list(index))
    if not known.all():
        row = rows[~known].iloc[0]
        raise InvalidDataError(f"row {row['id']!r}: label {row['label']!r} is not among the task's {len(index)} labels")
    targets = labels.map(index).fillna(NO_LABEL).astype("int64")
    return cast(torch.LongTensor, torch.from_numpy(targets.to_numpy(copy=True)))
