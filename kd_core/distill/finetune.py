"""Stage two: encoder, gold decoder and one decoder per reference teacher train together on the reference set.

docs/methods.md §1 (train the target model). Without reference teachers this is plain fine-tuning on gold labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kd_core.config.data import TaskParams
from kd_core.config.training import FinetuneParams
from kd_core.distill.soft_targets import score_columns, teacher_losses
from kd_core.models.student import StudentModel
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
from kd_core.tasks.decode.classification import GOLD
from kd_core.tasks.encode import encode
from kd_core.tasks.loss import hard_loss
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import Batch, Loss, train
from kd_core.training.texts import batches_of, validation_on

if TYPE_CHECKING:
    import pandas as pd


def finetune(
    model: StudentModel,
    tokenizer: Any,
    rows: pd.DataFrame,
    scores: Mapping[str, Tensor],
    valid: pd.DataFrame,
    task: TaskParams,
    params: FinetuneParams,
    progress: Progress,
    state: Storage | None = None,
) -> Curves:
    """Train all of `model` on labelled and unlabelled `rows` with `scores` (teacher → logits [N, C]).

    With patience, the epoch whose *combined* answer has the best main metric on `valid` is kept.
    """
    encoded = encode(rows, tokenizer, task)
    optimisation = params.optimisation
    columns = {"targets": encoded.targets, **score_columns(scores)}
    batches = batches_of(encoded, tokenizer, optimisation.batch_tokens, columns)
    checked = encode(valid, tokenizer, task)
    validation = validation_on(model, combined_answer(model), checked, tokenizer, optimisation.batch_tokens, task.kind)
    return train(model, target_loss(params), batches, optimisation, progress, state, validation)


def target_loss(params: FinetuneParams) -> Loss:
    """L = (1 − α) · CE(gold, p_first) + α · Σ_t w_t · D(p_teacher_t, p_second_t), w uniform; CE alone without teachers.

    CE is the mean over the batch's labelled rows, D over all of them: unlabelled rows give the soft part only.
    """
    teachers = list(params.teachers)

    def loss(model: StudentModel, batch: Batch) -> dict[str, Tensor]:
        logits = model.decode(model.hidden_states(batch)[-1], batch["attention_mask"])
        hard = hard_loss(logits[GOLD], batch["targets"], model.config.kind)
        if not teachers:
            return {"loss": hard}
        losses = teacher_losses(logits, batch, teachers, params.distillation, model.kind_of)
        soft = torch.stack(losses).mean()
        parts = {f"loss_{name}": value for name, value in zip(teachers, losses, strict=True)}
        return {"loss": (1 - params.alpha) * hard + params.alpha * soft, "loss_gold": hard} | parts

    return loss


def combined_answer(model: StudentModel) -> Callable[[Batch], Tensor]:
    """Batch → probabilities [B, C] of the model's combined answer."""

    def answer(batch: Batch) -> Tensor:
        return model.answer(model.decode(model.hidden_states(batch)[-1], batch["attention_mask"]))

    return answer
