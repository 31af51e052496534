"""Adaptive inference in plain PyTorch: certain texts are answered early and leave the batch (docs/methods.md §2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kd_core.inference.exits import Exits, Predictions
from kd_core.inference.thresholds import Thresholds, per_exit
from kd_core.models.student import StudentModel
from kd_core.tasks.decode import probabilities as probabilities_of
from kd_core.tasks.decode import uncertainty
from kd_core.tasks.encode import Encoded, collate, token_batches

BATCH_TOKENS = 2048
"""Tokens of a batch, padding included."""


def exit_layers(model: StudentModel) -> tuple[int, ...]:
    """The layers (1-based) after which `model` can answer, ascending; without branches only the last."""
    return (*sorted(int(name) for name in model.branches), model.layer_count)


def answer_batch(model: StudentModel, batch: Mapping[str, Tensor], threshold: Thresholds) -> tuple[Tensor, Tensor]:
    """Answer one batch with early exits.

    After layer l, a text whose branch has U < its threshold is answered by it and leaves; the others are packed
    together without the padding that only the leavers needed. The last layer always answers, by `model.answer`. A
    branch with threshold 0 is not asked: with 0 for all, the computation, and so each bit of the answers, is the full
    model's.

    :param batch: input_ids, attention_mask and, if any, token_type_ids, [B, L] on the model's device
    :param threshold: of all early exits, or one for each
    :returns: probabilities [B, C] float32 and exit layers [B] (1-based), in the order of the batch
    """
    with torch.inference_mode():
        mask, hidden = batch["attention_mask"], model.embed(batch)
        last, kind = model.layer_count, model.config.kind
        limits = dict(zip(exit_layers(model), per_exit(threshold, len(model.branches)), strict=False))
        rows = torch.arange(len(mask), device=mask.device)
        probabilities = torch.zeros(len(mask), len(model.config.labels or ()), device=mask.device)
        exits = torch.full_like(rows, last)
        for layer in range(1, last + 1):
            hidden = model.layer(layer - 1, hidden, mask)
            if layer == last:
                probabilities[rows] = model.answer(model.decode(hidden, mask))
            elif (limit := limits.get(layer, 0.0)) > 0:
                answers = probabilities_of(model.branch_logits(layer, hidden, mask), kind)
                certain = uncertainty(answers, kind) < limit
                probabilities[rows[certain]], exits[rows[certain]] = answers[certain], layer
                rows, hidden, mask = _repack(rows, hidden, mask, ~certain)
                if len(rows) == 0:
                    break
    return probabilities, exits


def _repack(rows: Tensor, hidden: Tensor, mask: Tensor, stay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Only the texts that stay, cut to the longest of them."""
    if bool(stay.all()):
        return rows, hidden, mask
    rows, hidden, mask = rows[stay], hidden[stay], mask[stay]
    used = mask.any(0).nonzero()
    length = int(used[-1]) + 1 if len(used) else 0
    return rows, hidden[:, :length], mask[:, :length]


def all_exits_batch(model: StudentModel, batch: Mapping[str, Tensor]) -> Tensor:
    """[B, E, C] float32: the answer of each exit to each text of the batch, in one pass."""
    with torch.inference_mode():
        mask = batch["attention_mask"]
        states = model.hidden_states(batch)
        answers = [
            probabilities_of(model.branch_logits(layer, states[layer], mask), model.config.kind)
            for layer in exit_layers(model)[:-1]
        ]
        return torch.stack([*answers, model.answer(model.decode(states[-1], mask))], dim=1)


def adaptive_predict(
    model: StudentModel, encoded: Encoded, threshold: Thresholds, pad_id: int, batch_tokens: int = BATCH_TOKENS
) -> Predictions:
    """Answers to all rows of `encoded`, in their order; they depend on the batches by rounding only (1e-5).

    :param model: in eval mode
    :param threshold: normalised entropy in [0, 1], or one for each early exit; 0: the full model
    """
    probabilities = torch.zeros(len(encoded), len(model.config.labels or ()))
    exits = torch.zeros(len(encoded), dtype=torch.long)
    for indices in token_batches(encoded.lengths, batch_tokens):
        answers, layers = answer_batch(model, _batch(model, encoded, indices, pad_id), threshold)
        probabilities[indices], exits[indices] = answers.cpu(), layers.cpu()
    kind = model.config.kind
    entropy = uncertainty(probabilities, kind) if len(encoded) else torch.zeros(0)
    return Predictions(probabilities.numpy(), exits.numpy(), entropy.numpy(), kind)


def all_exits(model: StudentModel, encoded: Encoded, pad_id: int, batch_tokens: int = BATCH_TOKENS) -> Exits:
    """The answers of every exit to all rows of `encoded`, in their order; `model` in eval mode."""
    layers = exit_layers(model)
    answers = np.zeros((len(encoded), len(layers), len(model.config.labels or ())), dtype=np.float32)
    for indices in token_batches(encoded.lengths, batch_tokens):
        answers[indices] = all_exits_batch(model, _batch(model, encoded, indices, pad_id)).cpu().numpy()
    return Exits(layers, answers, model.config.kind)


def _batch(model: StudentModel, encoded: Encoded, indices: list[int], pad_id: int) -> dict[str, Tensor]:
    return {name: value.to(model.device) for name, value in collate(encoded, indices, pad_id).items()}
