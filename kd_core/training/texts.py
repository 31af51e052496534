"""Encoded rows as what the loop takes and what a model answers for them, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kd_core.config.data import Kind
from kd_core.tasks.decisions import MAIN_METRIC, row_scores
from kd_core.tasks.encode import Encoded, collate, token_batches
from kd_core.training.loop import Batch, Batches, Validation


def batches_of(encoded: Encoded, tokenizer: Any, batch_tokens: int, columns: Mapping[str, Tensor]) -> Batches:
    """Token batches of all rows; each carries its rows of `columns` (each [N, …]) beside the token ids."""

    def collate_rows(indices: list[int]) -> Batch:
        chosen = {name: column[indices] for name, column in columns.items()}
        return collate(encoded, indices, tokenizer.pad_token_id) | chosen

    lengths = encoded.lengths
    return Batches(lambda generator: token_batches(lengths, batch_tokens, generator), collate_rows)


@torch.no_grad()
def outputs_of(
    model: nn.Module, answer: Callable[[Batch], Tensor], encoded: Encoded, tokenizer: Any, batch_tokens: int
) -> Tensor:
    """`answer` for every row, [N, …] on the CPU in the rows' order, with `model` (which it calls) in eval mode."""
    device = next(model.parameters()).device
    model.eval()
    parts, order = [], []
    for indices in token_batches(encoded.lengths, batch_tokens, None):
        batch = collate(encoded, indices, tokenizer.pad_token_id)
        parts.append(answer({name: tensor.to(device) for name, tensor in batch.items()}).cpu())
        order.extend(indices)
    return torch.cat(parts)[torch.argsort(torch.tensor(order))]


def validation_on(
    model: nn.Module,
    answer: Callable[[Batch], Tensor],
    encoded: Encoded,
    tokenizer: Any,
    batch_tokens: int,
    kind: Kind = "classification",
) -> Validation | None:
    """The main metric of `answer`'s probabilities ([B, C], in the task's label order) on labelled rows.

    None if there are none.
    """
    labelled = encoded.labelled
    if not labelled.any():
        return None
    metric, targets = MAIN_METRIC[kind], encoded.targets[labelled].numpy()

    def metrics() -> dict[str, float]:
        probabilities = outputs_of(model, answer, encoded, tokenizer, batch_tokens)[labelled].numpy()
        return {metric: float(torch.from_numpy(row_scores(probabilities, targets, kind)).float().mean())}

    return Validation(metrics, metric)
