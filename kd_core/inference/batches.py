"""Rows as token ids and units, and padded batches of them with a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kd_core.config.data import TaskParams
from kd_core.long_texts import LongTexts
from kd_core.runtime.arrays import Booleans
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import encode as encoders
from kd_core.tasks.encode.gold import NO_LABEL
from kd_core.tasks.units import UNIT_MASK, Units

if TYPE_CHECKING:
    import pandas as pd

Batch = dict[str, Tensor]

_NOISE = 0.05
"""Lengths are stretched by up to this share before sorting, so that each epoch meets other batches.

Rows of one length, of which there are many, mix anyway; more noise would pad short texts too much."""


@dataclass(frozen=True)
class Encoded:
    """N rows as token ids, not yet padded, and their units."""

    input_ids: list[list[int]]
    token_type_ids: list[list[int]] | None
    targets: Units
    """Gold, as the task's kind has it; NO_LABEL where a row has no label."""
    features: Mapping[str, Units] = field(default_factory=dict)
    """What heads must know of each unit."""

    @property
    def labelled(self) -> Booleans:
        """[N] whether a row has a label."""
        return self.targets.with_values(self.targets.values != NO_LABEL).every()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(ids) for ids in self.input_ids]

    def __len__(self) -> int:
        return len(self.input_ids)


def encode(rows: pd.DataFrame, tokenizer: Any, task: TaskParams, max_length: int | None = None) -> Encoded:
    """Token ids and units of `rows`, in their order; texts are cut to `max_length` tokens (None: the task's).

    Raises InvalidDataError naming the row for a label outside the task's, or a missing column.
    """
    columns, kind = ["text", "text_pair"] if task.pair else ["text"], encoders.of(task.kind)
    for column in columns:
        if column not in rows.columns:
            raise InvalidDataError(
                f"rows have no column {column!r}, which the task needs (data.…task.pair: {task.pair})"
            )
    if rows.empty:
        return Encoded([], None, kind.targets(rows, task))
    length = min(max_length or task.max_length, tokenizer.model_max_length)
    texts = [rows[column].tolist() for column in columns]
    asked = _cut(texts, rows, tokenizer, length, whole=bool(kind.FEATURES) and tokenizer.truncation_side == "left")
    tokens = tokenizer(*asked, truncation=True, max_length=length, return_attention_mask=False)
    features = kind.features(texts, tokens.encodings or [])
    return Encoded(tokens["input_ids"], tokens.get("token_type_ids"), kind.targets(rows, task), features)


def _cut(texts: list[list[str]], rows: pd.DataFrame, tokenizer: Any, length: int, whole: bool) -> list[list[str]]:
    """Long texts cut where that changes no token that is kept.

    Those of a tokenizer in plain Python, whose parts nobody can look at, are not cut, only limited in length; nor are
    those that must stay `whole`.
    """
    backend = None if whole else getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()  # that of the last call; the tokenizer sets its own with each
    long = LongTexts(backend, length, tokenizer.truncation_side)
    return [list(column) for column in long.cut(texts, lambda row: f"row {rows['id'].iloc[row]!r}")]


def collate(encoded: Encoded, indices: Sequence[int], pad_id: int) -> Batch:
    """The rows at `indices`, padded to the longest: input_ids, attention_mask and, if any, token_type_ids [B, L].

    And unit_mask and the features of their units, [B, U].
    """
    chosen = [encoded.input_ids[index] for index in indices]
    shape = (len(chosen), max(map(len, chosen), default=0))
    batch = {"input_ids": _pad(chosen, shape, pad_id), "attention_mask": _pad([[1] * len(c) for c in chosen], shape, 0)}
    if encoded.token_type_ids is not None:
        batch["token_type_ids"] = _pad([encoded.token_type_ids[index] for index in indices], shape, 0)
    batch[UNIT_MASK] = torch.from_numpy(encoded.targets.padded(indices)[1])
    return batch | {name: torch.from_numpy(units.padded(indices)[0]) for name, units in encoded.features.items()}


def _pad(values: Sequence[Sequence[int]], shape: tuple[int, int], fill: int) -> Tensor:
    return torch.tensor([[*row, *[fill] * (shape[1] - len(row))] for row in values], dtype=torch.long).reshape(shape)


def padded(units: Units, indices: Sequence[int]) -> Tensor:
    """[B, U, …] of the rows at `indices`, NO_LABEL behind the units of integers and 0 behind those of other numbers."""
    fill = NO_LABEL if np.issubdtype(units.values.dtype, np.integer) else 0
    return torch.from_numpy(units.padded(indices, fill)[0])


def token_batches(
    lengths: Sequence[int], batch_tokens: int, generator: torch.Generator | None = None
) -> list[list[int]]:
    """Row indices grouped so that rows × longest row ≤ `batch_tokens`; each row is in exactly one batch.

    A row longer than the budget stands alone. With a generator the grouping and the order of the batches are random;
    without, batches go from the longest rows to the shortest, so that memory is at its peak first.
    """
    sizes = torch.tensor(lengths, dtype=torch.float64)
    if generator is not None:
        sizes = sizes * (1 + _NOISE * torch.rand(len(lengths), generator=generator, dtype=torch.float64))
    batches = _fill(torch.argsort(sizes, descending=True, stable=True).tolist(), lengths, batch_tokens)
    if generator is None:
        return batches
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def _fill(order: list[int], lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        if not batches or longest * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches
