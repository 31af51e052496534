"""Classification: one text, or a pair of texts, and its label or labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kd_core.config.data import TaskParams
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.encode.batches import Encoded
from kd_core.tasks.encode.targets import targets

if TYPE_CHECKING:
    import pandas as pd


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
        return Encoded([], None, targets(rows, task))
    tokens = tokenizer(
        *(rows[column].tolist() for column in columns), truncation=True, max_length=length, return_attention_mask=False
    )
    return Encoded(tokens["input_ids"], tokens.get("token_type_ids"), targets(rows, task))
