"""From rows to token ids and targets, and from those to padded batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kd_core.config.data import TaskParams
from kd_core.tasks.encode import classification
from kd_core.tasks.encode.batches import Encoded, collate, token_batches

if TYPE_CHECKING:
    import pandas as pd

_KINDS = {"classification": classification.encode}


def encode(rows: pd.DataFrame, tokenizer: Any, task: TaskParams, max_length: int | None = None) -> Encoded:
    """Token ids and targets of `rows`, in their order; texts are cut to `max_length` tokens (None: the task's).

    Raises InvalidDataError naming the row for a label outside the task's, or a missing column.
    """
    return _KINDS[task.kind](rows, tokenizer, task, max_length)


__all__ = ["Encoded", "collate", "encode", "token_batches"]
