"""Stage two: encoder, gold decoder and one decoder per reference teacher train together on the reference set.

docs/methods.md §1 (train the target model). Without reference teachers this is plain fine-tuning on gold labels; with
`decoders: one` it is the baseline 1-o-1 or, with several teachers, 1avg-o-1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from kd_core.config.data import Kind, TaskParams
from kd_core.config.training import FinetuneParams
from kd_core.distill import decoder_weights, teacher_weights
from kd_core.distill.soft_targets import averaged_loss, score_columns, side_by_side, teacher_losses
from kd_core.distill.teacher_weights import TeacherWeights
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
from kd_core.tasks.decode.classification import GOLD
from kd_core.tasks.encode import Encoded, encode
from kd_core.tasks.loss import hard_loss
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import Batch, Loss, train
from kd_core.training.texts import batches_of, outputs_of, validation_on

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
    valid_scores: Mapping[str, Tensor] | None = None,
) -> Curves:
    """Train all of `model` on labelled and unlabelled `rows` with `scores` (teacher → logits [N, C]).

    With patience, the epoch whose *combined* answer has the best main metric on `valid` is kept. `valid_scores`, those
    of the rows of `valid`, are needed for teacher weights by validation loss. Raises ParamsError if weights are to be
    found on labelled rows of `valid` and there are none.
    """
    encoded = encode(rows, tokenizer, task)
    optimisation = params.optimisation
    columns = {"targets": encoded.targets, **score_columns(scores)}
    batches = batches_of(encoded, tokenizer, optimisation.batch_tokens, columns)
    checked = encode(valid, tokenizer, task)
    validation = validation_on(model, combined_answer(model), checked, tokenizer, optimisation.batch_tokens, task.kind)
    weights = _teacher_weights(params, valid_scores or {}, checked, task.kind)
    loss = target_loss(params, weights)
    trained = nn.ModuleDict({"student": model, "teacher_weights": weights})
    curves = train(
        trained, lambda parts, batch: loss(parts["student"], batch), batches, optimisation, progress, state, validation
    )
    if params.decoder_weights == "fitted":
        fit_decoder_weights(model, tokenizer, checked, optimisation.batch_tokens)
    return curves


def _teacher_weights(
    params: FinetuneParams, valid_scores: Mapping[str, Tensor], valid: Encoded, kind: Kind
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
        logits = model.decode(model.hidden_states(batch)[-1], batch["attention_mask"])
        hard = hard_loss(logits[GOLD], batch["targets"], model.config.kind)
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


def fit_decoder_weights(model: StudentModel, tokenizer: Any, valid: Encoded, batch_tokens: int) -> None:
    """Set the weights of the combined answer, in place, to those with the least log-loss on the labelled rows.

    Raises ParamsError if there is none.
    """
    names, labelled = list(model.decoders), valid.labelled
    if not labelled.any():
        raise ParamsError("finetune.decoder_weights: fitted, but there are no labelled validation rows")
    outputs = outputs_of(model, side_by_side(model, names), valid, tokenizer, batch_tokens)
    by_decoder = outputs[labelled].chunk(len(names), dim=1)
    logits = {name: values.numpy() for name, values in zip(names, by_decoder, strict=True)}
    targets, config = valid.targets[labelled].numpy(), model.config
    config.decoder_weights = decoder_weights.fit(logits, targets, config.combine, config.kind)


def combined_answer(model: StudentModel) -> Callable[[Batch], Tensor]:
    """Batch → probabilities [B, C] of the model's combined answer."""

    def answer(batch: Batch) -> Tensor:
        return model.answer(model.decode(model.hidden_states(batch)[-1], batch["attention_mask"]))

    return answer
