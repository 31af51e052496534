"""Branch self-distillation: exits on the inner layers learn the frozen trunk's answer on unlabelled text.

docs/methods.md §2, after CN114298287A and FastBERT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from accelerate import PartialState
from torch import Tensor, nn

from kd_core.config.data import Kind, TaskParams
from kd_core.config.training import SelfDistillParams
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
from kd_core.tasks.decode import log_distributions, log_of, pool
from kd_core.tasks.encode import Encoded, collate, encode, token_batches
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import Batch, Batches, Loss, train
from kd_core.training.texts import outputs_of

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["branch_to_trunk", "trunk_to_branch"]

CACHE_BYTES = 2 * 1024**3
"""Most memory that the trunk's outputs may take."""


def self_distill(
    model: StudentModel,
    tokenizer: Any,
    rows: pd.DataFrame,
    task: TaskParams,
    params: SelfDistillParams,
    progress: Progress,
    state: Storage | None = None,
) -> Curves:
    """Add branches on every layer but the last and train them alone; the trunk keeps every bit.

    Labels of `rows` are not read. A frozen trunk answers a text the same each time, so each text passes through it
    once; what is kept is one pooled vector a layer, since pooling is the first thing a branch does. Past CACHE_BYTES
    nothing is kept and the trunk runs again for each batch. A model of one layer has no inner layer: no branches, no
    curves.
    """
    if rows.empty:
        raise InvalidDataError("the reference data set has no unlabelled rows for the branches to learn from")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.add_branches(params.width, params.pooling, params.optimisation.seed)
    if not model.branches:
        return {}
    model.to(PartialState().device).eval()
    encoded = encode(rows.drop(columns="label", errors="ignore"), tokenizer, task)
    batches = _trunk_batches(model, encoded, tokenizer, params.optimisation.batch_tokens)
    loss = branch_loss(params.direction, model.config.kind)
    return train(model.branches, loss, batches, params.optimisation, progress, state)


def _trunk_batches(model: StudentModel, encoded: Encoded, tokenizer: Any, batch_tokens: int) -> Batches:
    """Batches of `layers` [B, L − 1, H], each inner layer's pooled output, and `answer` [B, C], the trunk's."""
    answer = _trunk_outputs(model)
    size = 4 * len(encoded) * (len(model.branches) * model.encoder.config.hidden_size + len(model.config.labels or []))
    if size <= CACHE_BYTES:
        cached = outputs_of(model, answer, encoded, tokenizer, batch_tokens)

    def collate_rows(indices: list[int]) -> Batch:
        if size <= CACHE_BYTES:
            return _columns(model, cached[indices])
        with torch.no_grad():
            tokens = collate(encoded, indices, tokenizer.pad_token_id)
            return _columns(model, answer({name: tensor.to(model.device) for name, tensor in tokens.items()}))

    return Batches(lambda generator: token_batches(encoded.lengths, batch_tokens, generator), collate_rows)


def _trunk_outputs(model: StudentModel) -> Callable[[Batch], Tensor]:
    """Token batch → [B, C + (L − 1) · H]: the combined answer and the pooled inner layers."""
    pooling = (model.config.branches or {})["pooling"]

    def answer(batch: Batch) -> Tensor:
        states, mask = model.hidden_states(batch), batch["attention_mask"]
        pooled = [pool(states[int(layer)], mask, pooling) for layer in model.branches]
        return torch.cat([model.answer(model.decode(states[-1], mask)), *pooled], dim=1)

    return answer


def _columns(model: StudentModel, outputs: Tensor) -> Batch:
    classes = len(model.config.labels or [])
    layers = outputs[:, classes:].reshape(len(outputs), len(model.branches), -1)
    return {"answer": outputs[:, :classes], "layers": layers}


def branch_loss(direction: Direction, kind: Kind = "classification") -> Loss:
    """L_ST: the mean over samples of the sum over branches of the KL between branch and trunk."""

    def loss(branches: nn.ModuleDict, batch: Batch) -> dict[str, Tensor]:
        one_token = batch["layers"].new_ones(len(batch["layers"]), 1)  # a pooled text is a text of one token
        parts = {
            f"loss_{layer}": divergence(
                branch(batch["layers"][:, [index]], one_token), batch["answer"], direction, kind
            )
            for index, (layer, branch) in enumerate(branches.items())
        }
        return {"loss": torch.stack(list(parts.values())).sum()} | parts

    return loss


def divergence(branch_logits: Tensor, trunk: Tensor, direction: Direction, kind: Kind = "classification") -> Tensor:
    """KL(p_branch ‖ p_trunk), or for `trunk_to_branch` KL(p_trunk ‖ p_branch); logits and probabilities [B, C].

    Summed over classes (multi-label: Bernoulli KL, over labels), mean over the batch.
    """
    branch, target = log_distributions(branch_logits, kind), log_of(trunk, kind)
    if direction == "branch_to_trunk":
        return F.kl_div(target, branch, reduction="batchmean", log_target=True)
    return F.kl_div(branch, target, reduction="batchmean", log_target=True)
