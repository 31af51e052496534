"""Branch self-distillation: exits on the inner layers learn the frozen trunk's answer on unlabelled text.

docs/methods.md §2, after CN114298287A and FastBERT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from torch import Tensor, nn

from kd_core.config.data import Kind, TaskParams
from kd_core.config.training import SelfDistillParams
from kd_core.inference.asking import ask
from kd_core.inference.batches import Batch, Encoded, collate, encode, padded, token_batches
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import heads
from kd_core.tasks import loss as losses
from kd_core.tasks.loss.protocol import Direction
from kd_core.tasks.units import UNIT_MASK
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import Batches, Loss, train
from kd_core.training.work import Work

if TYPE_CHECKING:
    import pandas as pd

CACHE_BYTES = 2 * 1024**3
"""Most memory that the trunk's outputs may take."""


def self_distill(
    model: StudentModel, rows: pd.DataFrame, task: TaskParams, params: SelfDistillParams, work: Work
) -> Curves:
    """Add branches on every layer but the last and train them alone; the trunk keeps every bit.

    Labels of `rows` are not read. A frozen trunk answers a text the same each time, so each text passes through it
    once; what is kept is one vector a unit and layer, since gathering these is the first thing a branch does. Past
    CACHE_BYTES nothing is kept and the trunk runs again for each batch. A model of one layer has no inner layer, and
    some kinds of tasks have no branches: then there are no curves, and the model stays as it is.
    """
    if rows.empty:
        raise InvalidDataError("the reference data set has no unlabelled rows for the branches to learn from")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if not heads.of(task.kind).BRANCHES:
        return {}
    model.add_branches(params.width, params.pooling, params.optimisation.seed)
    if not model.branches:
        return {}
    model.to(PartialState().device).eval()
    encoded = encode(rows.drop(columns="label", errors="ignore"), work.tokenizer, task)
    batches = _trunk_batches(model, encoded, work.tokenizer.pad_token_id, params.optimisation.batch_tokens)
    loss = branch_loss(params.direction, model.config.kind)
    return train(model.branches, loss, batches, params.optimisation, work)


def _trunk_batches(model: StudentModel, encoded: Encoded, pad_id: int, batch_tokens: int) -> Batches:
    """Batches of `layers` [B, U, L − 1, H], each inner layer's units, and `answer` [B, U, C], the trunk's."""
    answer, units = _trunk_outputs(model), len(encoded.targets.values)
    size = 4 * units * (len(model.branches) * model.encoder.config.hidden_size + len(model.config.labels or []))
    if size <= CACHE_BYTES:
        cached = ask(model, answer, encoded, pad_id, batch_tokens)

    def collate_rows(indices: list[int]) -> Batch:
        if size <= CACHE_BYTES:
            mask = torch.from_numpy(encoded.targets.padded(indices)[1])
            return _columns(model, padded(cached, indices), mask)
        with torch.no_grad():
            tokens = {name: each.to(model.device) for name, each in collate(encoded, indices, pad_id).items()}
            return _columns(model, answer(tokens), tokens[UNIT_MASK])

    return Batches(lambda generator: token_batches(encoded.lengths, batch_tokens, generator), collate_rows)


def _trunk_outputs(model: StudentModel) -> Callable[[Batch], Tensor]:
    """Token batch → [B, U, C + (L − 1) · H]: the combined answer and the inner layers' units."""

    def answer(batch: Batch) -> Tensor:
        states = model.hidden_states(batch)
        gathered = [model.branch(int(layer)).gathered(states[int(layer)], batch) for layer in model.branches]
        return torch.cat([model.answer(model.decode(states[-1], batch)), *gathered], dim=-1)

    return answer


def _columns(model: StudentModel, outputs: Tensor, mask: Tensor) -> Batch:
    classes = len(model.config.labels or [])
    layers = outputs[..., classes:].reshape(*mask.shape, len(model.branches), -1)
    return {"answer": outputs[..., :classes], "layers": layers, UNIT_MASK: mask}


def branch_loss(direction: Direction, kind: Kind) -> Loss:
    """L_ST: the mean over samples of the sum over branches of the KL between branch and trunk."""
    divergence = losses.of(kind).divergence

    def loss(branches: nn.ModuleDict, batch: Batch) -> dict[str, Tensor]:
        answer, mask = batch["answer"], batch[UNIT_MASK]
        parts = {
            f"loss_{layer}": divergence(branch(batch["layers"][:, :, index]), answer, mask, direction)
            for index, (layer, branch) in enumerate(branches.items())
        }
        return {"loss": torch.stack(list(parts.values())).sum()} | parts

    return loss
