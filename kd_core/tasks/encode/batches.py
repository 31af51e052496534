"""Encoded rows, and padded batches of them with a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NOISE = 0.05
"""Lengths are stretched by up to this share before sorting, so that each epoch meets other batches.

Rows of one length, of which there are many, mix anyway; more noise would pad short texts too much."""


@dataclass(frozen=True)
class Encoded:
    """N rows as token ids, not yet padded."""

    input_ids: list[list[int]]
    token_type_ids: list[list[int]] | None
    targets: torch.LongTensor
    """[N] index of the label; multi-label [N, C], 1 where a label applies; -100 where a row has no label."""

    @property
    def labelled(self) -> Tensor:
        """[N] whether a row has a label."""
        return (self.targets if self.targets.ndim == 1 else self.targets[:, 0]) != -100

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(ids) for ids in self.input_ids]

    def __len__(self) -> int:
        return len(self.input_ids)


def collate(encoded: Encoded, indices: Sequence[int], pad_id: int) -> dict[str, Tensor]:
    """The rows at `indices`, padded to the longest: input_ids, attention_mask and, if any, token_type_ids [B, L]."""
    chosen = [encoded.input_ids[index] for index in indices]
    shape = (len(chosen), max(map(len, chosen), default=0))
    batch = {"input_ids": _pad(chosen, shape, pad_id), "attention_mask": _pad([[1] * len(c) for c in chosen], shape, 0)}
    if encoded.token_type_ids is not None:
        batch["token_type_ids"] = _pad([encoded.token_type_ids[index] for index in indices], shape, 0)
    return batch


def _pad(values: Sequence[Sequence[int]], shape: tuple[int, int], fill: int) -> Tensor:
    return torch.tensor([[*row, *[fill] * (shape[1] - len(row))] for row in values], dtype=torch.long).reshape(shape)


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
