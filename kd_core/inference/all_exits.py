"""The answers of every exit in plain PyTorch: what the served graphs are held against, and students are compared by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kd_core.models.student import StudentModel
from kd_core.serving.exits.outcomes import Exits
from kd_core.tasks.decode import probabilities as probabilities_of
from kd_core.tasks.encode import Encoded, collate, token_batches

BATCH_TOKENS = 2048
"""Tokens of a batch, padding included."""


def exit_layers(model: StudentModel) -> tuple[int, ...]:
    """The layers (1-based) after which `model` can answer, ascending; without branches only the last."""
    return (*sorted(int(name) for name in model.branches), model.layer_count)


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


def all_exits(model: StudentModel, encoded: Encoded, pad_id: int, batch_tokens: int = BATCH_TOKENS) -> Exits:
    """The answers of every exit to all rows of `encoded`, in their order; `model` in eval mode."""
    layers = exit_layers(model)
    answers = np.zeros((len(encoded), len(layers), len(model.config.labels or ())), dtype=np.float32)
    for indices in token_batches(encoded.lengths, batch_tokens):
        answers[indices] = all_exits_batch(model, _batch(model, encoded, indices, pad_id)).cpu().numpy()
    return Exits(layers, answers, model.config.kind)


def _batch(model: StudentModel, encoded: Encoded, indices: list[int], pad_id: int) -> dict[str, Tensor]:
    return {name: value.to(model.device) for name, value in collate(encoded, indices, pad_id).items()}
