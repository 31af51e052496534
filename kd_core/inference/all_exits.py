"""The answers of every exit in plain PyTorch: what the served graphs are held against, and students are compared by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kd_core.inference.asking import BATCH_TOKENS, ask
from kd_core.inference.batches import Encoded
from kd_core.models.student import StudentModel
from kd_core.serving.exits.outcomes import Exits
from kd_core.tasks import heads


def exit_layers(model: StudentModel) -> tuple[int, ...]:
    """The layers (1-based) after which `model` can answer, ascending; without branches only the last."""
    return (*sorted(int(name) for name in model.branches), model.layer_count)


def all_exits_batch(model: StudentModel, batch: Mapping[str, Tensor]) -> Tensor:
    """[B, U, E, C] float32: the answer of each exit to each unit of the batch, in one pass."""
    with torch.inference_mode():
        states, probabilities = model.hidden_states(batch), heads.of(model.config.kind).probabilities
        answers = [probabilities(model.branch_logits(layer, states[layer], batch)) for layer in exit_layers(model)[:-1]]
        return torch.stack([*answers, model.answer(model.decode(states[-1], batch))], dim=2)


def all_exits(model: StudentModel, encoded: Encoded, pad_id: int, batch_tokens: int = BATCH_TOKENS) -> Exits:
    """The answers of every exit to all rows of `encoded`, in their order; `model` in eval mode."""
    layers = exit_layers(model)
    if not len(encoded):
        nothing = np.zeros((0, len(layers), len(model.config.labels or ())), dtype=np.float32)
        return Exits(layers, nothing, model.config.kind)
    found = ask(model, lambda batch: all_exits_batch(model, batch), encoded, pad_id, batch_tokens)
    return Exits(layers, found.values, model.config.kind, found.offsets)
