"""Stage two: encoder, gold decoder and one decoder per reference teacher train together on the reference set.

docs/methods.md §1 (train the target model). Without reference teachers this is plain fine-tuning on gold labels; with
`decoders: one` it is the baseline 1-o-1 or, with several teachers, 1avg-o-1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from kd_core.config.data import Kind, TaskParams
from kd_core.config.training import FinetuneParams
from kd_core.distill import decoder_weights, teacher_weights
from kd_core.distill.soft_targets import averaged_loss, score_columns, side_by_side, teacher_losses
from kd_core.distill.teacher_weights import TeacherWeights
from kd_core.inference.asking import ask
from kd_core.inference.batches import Batch, Encoded, encode
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from kd_core.tasks import loss as losses_of
from kd_core.tasks.heads.modules import GOLD
from kd_core.tasks.units import UNIT_MASK, Units
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import Loss, train
from kd_core.training.texts import TARGETS, batches_of, validation_on
from kd_core.training.work import Work

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Scored:
    """Rows, and what teachers say of them."""

    rows: pd.DataFrame
    scores: Mapping[str, Units] = field(default_factory=dict)
    """Teacher → its logits [ΣU, C] of these rows."""


def finetune(
    model: StudentModel, rows: Scored, valid: Scored, task: TaskParams, params: FinetuneParams, work: Work
) -> Curves:
    """Train all of `model` on labelled and unlabelled `rows` with their scores.

    With patience, the epoch whose *combined* answer has the best main metric on `valid` is kept. The scores of `valid`
    are needed for teacher weights by validation loss only. Raises ParamsError if weights are to be found on labelled
    rows of `valid` and there are none.
    """
    encoded, checked = (encode(each.rows, work.tokenizer, task) for each in (rows, valid))
    optimisation, pad_id = params.optimisation, work.tokenizer.pad_token_id
    columns = {TARGETS: encoded.targets, **score_columns(rows.scores)}
    batches = batches_of(encoded, pad_id, optimisation.batch_tokens, columns)
    validation = validation_on(model, combined_answer(model), checked, pad_id, optimisation.batch_tokens, task.kind)
    weights = _teacher_weights(params, valid.scores, checked, task.kind)
    loss = target_loss(params, weights)
    trained = nn.ModuleDict({"student": model, "teacher_weights": weights})
    curves = train(trained, lambda parts, batch: loss(parts["student"], batch), batches, optimisation, work, validation)
    if params.decoder_weights == "fitted":
        fit_decoder_weights(model, pad_id, checked, optimisation.batch_tokens)
    return curves


def _teacher_weights(
    params: FinetuneParams, valid_scores: Mapping[str, Units], valid: Encoded, kind: Kind
) -> TeacherWeights:
    teachers = len(params.teachers)
    if teachers and params.teacher_weights == "validation_loss":
        if not valid.labelled.any():
            raise ParamsError("finetune.teacher_weights: validation_loss, but there are no labelled validation rows")
        scores = {name: valid_scores[name] for name in params.teachers}
        return teacher_weights.by_validation_loss(scores, valid.targets, kind)
    learned = params.teacher_weights == "learned"
    return teacher_weights.learned(teachers) if learned else teacher_weights.uniform(teachers)


def target_loss(params: FinetuneParams, weights: TeacherWeights | None = None) -> Loss:
    """L = (1 − α) · CE(gold, p_first) + α · Σ_t w_t · D(p_teacher_t, p_second_t); CE alone without teachers.

    With one decoder, p_first learns both: L = (1 − α) · CE(gold, p_first) + α · D(Σ_t w_t · p_teacher_t, p_first).
    CE is the mean over the batch's labelled rows, D over all of them: unlabelled rows give the soft part only. No
    `weights`: uniform.
    """
    teachers, alpha = list(params.teachers), params.alpha
    shares = weights or teacher_weights.uniform(len(teachers))

    def loss(model: StudentModel, batch: Batch) -> dict[str, Tensor]:
        logits = model.decoded(batch)
        hard = losses_of.of(model.config.kind).hard(logits[GOLD], batch[TARGETS], batch[UNIT_MASK])
        if not teachers:
            return {"loss": hard}
        if params.decoders == "one":
            soft = averaged_loss(logits[GOLD], batch, teachers, shares(), params.distillation, model.config.kind)
            return {"loss": (1 - alpha) * hard + alpha * soft, "loss_gold": hard, "loss_average": soft}
        losses = teacher_losses(logits, batch, teachers, params.distillation, model.kind_of)
        parts = {f"loss_{name}": value for name, value in zip(teachers, losses, strict=True)}
        if params.teacher_weights == "learned":
            parts |= {f"weight_{name}": share for name, share in zip(teachers, shares(), strict=True)}
        return {"loss": (1 - alpha) * hard + alpha * shares.total(losses), "loss_gold": hard} | parts

    return loss


def fit_decoder_weights(model: StudentModel, pad_id: int, valid: Encoded, batch_tokens: int) -> None:
    """Set the weights of the combined answer, in place, to those with the least log-loss on the labelled rows.

    Raises ParamsError if there is none.
    """
    names, labelled = list(model.decoders), valid.labelled
    if not labelled.any():
        raise ParamsError("finetune.decoder_weights: fitted, but there are no labelled validation rows")
    outputs = ask(model, side_by_side(model, names), valid, pad_id, batch_tokens).take(labelled)
    by_decoder = np.split(outputs.values, len(names), axis=-1)
    logits = {name: outputs.with_values(values) for name, values in zip(names, by_decoder, strict=True)}
    targets, config = valid.targets.take(labelled), model.config
    config.decoder_weights = decoder_weights.fit(logits, targets, config.combine, config.kind)


def combined_answer(model: StudentModel) -> Callable[[Batch], Tensor]:
    """Batch → probabilities [B, U, C] of the model's combined answer."""

    def answer(batch: Batch) -> Tensor:
        return model.answer(model.decoded(batch))

    return answer
