"""From rows to token ids and targets, and from those to padded batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kd_core.config.data import MULTI_LABEL, Kind, TaskParams
from kd_core.tasks.encode import classification
from kd_core.tasks.encode.batches import Encoded, collate, token_batches
from kd_core.tasks.encode.targets import NO_LABEL, targets

if TYPE_CHECKING:
    import pandas as pd

_KINDS: dict[Kind, Callable[..., Encoded]] = {
    "classification": classification.encode,
    MULTI_LABEL: classification.encode,
}


def encode(rows: pd.DataFrame, tokenizer: Any, task: TaskParams, max_length: int | None = None) -> Encoded:
    """Token ids and targets of `rows`, in their order; texts are cut to `max_length` tokens (None: the task's).

    Raises InvalidDataError naming the row for a label outside the task's, or a missing column.
    """
    return _KINDS[task.kind](rows, tokenizer, task, max_length)


__all__ = ["NO_LABEL", "Encoded", "collate", "encode", "targets", "token_batches"]
