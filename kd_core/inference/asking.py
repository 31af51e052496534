"""Every row through a model: batches of like length, asked one after the other, answers in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from kd_core.inference.batches import Batch, Encoded, collate, token_batches
from kd_core.tasks.units import UNIT_MASK, Units

BATCH_TOKENS = 2048
"""Tokens of a batch, padding included."""


@torch.inference_mode()
def ask(
    model: nn.Module,
    answer: Callable[[Batch], Tensor],
    encoded: Encoded,
    pad_id: int,
    batch_tokens: int = BATCH_TOKENS,
) -> Units:
    """`answer` ([B, U, …] of a batch) for every row, in the rows' order, with `model` (which it calls) in eval mode.

    There is at least one row: without, nobody knows the shape of an answer.
    """
    device = next(model.parameters()).device
    model.eval()
    parts, order = [], []
    for indices in token_batches(encoded.lengths, batch_tokens):
        batch = {name: tensor.to(device) for name, tensor in collate(encoded, indices, pad_id).items()}
        found, mask = answer(batch).cpu(), batch[UNIT_MASK].cpu()
        parts.append(Units.of_sizes(found[mask].numpy(), mask.sum(1).numpy()))
        order.extend(indices)
    return Units.joined(parts).take(np.argsort(np.array(order), kind="stable"))
