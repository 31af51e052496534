"""Stage one: the encoder and one initial decoder per pre-training teacher learn from those teachers' scores.

docs/methods.md §1 (pre-train) and, switched on by a live teacher, §2 (self-attention distillation).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kd_core.config.data import Kind, TaskParams
from kd_core.config.training import Distillation, PretrainParams
from kd_core.distill import teacher_weights
from kd_core.distill.attention import AttentionDistiller
from kd_core.distill.soft_targets import score_columns, side_by_side, teacher_losses
from kd_core.distill.teacher_weights import TeacherWeights
from kd_core.inference.asking import ask
from kd_core.inference.batches import Batch, encode
from kd_core.models.student import StudentModel
from kd_core.runtime.arrays import Booleans
from kd_core.runtime.errors import ParamsError
from kd_core.tasks import decide, heads
from kd_core.tasks.units import Units
from kd_core.teachers.model import Teacher
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import Loss, Validation, train
from kd_core.training.texts import batches_of
from kd_core.training.work import Work

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT_PERCENT = 2
"""Rows that only measure how often each decoder agrees with its teacher."""


def pretrain(
    model: StudentModel,
    rows: pd.DataFrame,
    scores: Mapping[str, Units],
    task: TaskParams,
    params: PretrainParams,
    live: Teacher | None,
    work: Work,
) -> Curves:
    """Train all of `model`, whose decoders are named after their teachers, on `scores` (teacher → logits [ΣU, C_t]).

    Without scores only the live teacher's self-attention is distilled. Labels of `rows` are not read. Raises
    ParamsError if the live teacher's tokenizer is not the student's, or their heads do not fit.
    """
    held = held_out(rows["id"].tolist())
    kept = {"train": np.flatnonzero(~held), "held": np.flatnonzero(held)}
    pad_id, budget = work.tokenizer.pad_token_id, params.optimisation.batch_tokens
    texts = rows.drop(columns="label", errors="ignore")  # of the teachers' task, which need not be `task`
    encoded = {part: encode(texts.iloc[index], work.tokenizer, task) for part, index in kept.items()}
    columns = score_columns({name: logits.take(kept["train"]) for name, logits in scores.items()})
    batches = batches_of(encoded["train"], pad_id, budget, columns)

    def agreement() -> dict[str, float]:
        answer = side_by_side(model, list(scores))
        answers = ask(model, answer, encoded["held"], pad_id, budget)
        held_scores = {name: logits.take(kept["held"]) for name, logits in scores.items()}
        return _agreement(answers, held_scores, model.kind_of)

    validation = Validation(agreement, "agreement") if held.any() and scores else None
    weigh = teacher_weights.learned if params.teacher_weights == "learned" else teacher_weights.uniform
    weights = weigh(len(scores))
    with ExitStack() as stack:
        loss = multi_teacher_loss(list(scores), params.distillation, weights)
        if live is not None:
            check_same_tokenizer(live, work.tokenizer)
            distiller = stack.enter_context(AttentionDistiller(live.model.base_model, model.encoder, params.attention))
            loss = with_attention(loss, live, distiller, params)
        trained = nn.ModuleDict({"student": model, "teacher_weights": weights})
        objective: Loss = lambda parts, batch: loss(parts["student"], batch)  # noqa: E731
        return train(trained, objective, batches, params.optimisation, work, validation)


def multi_teacher_loss(teachers: list[str], distillation: Distillation, weights: TeacherWeights | None = None) -> Loss:
    """L = Σ_t w_t · D(p_teacher_t, p_decoder_t); no `weights`: uniform. 0 without teachers."""
    shares = weights or teacher_weights.uniform(len(teachers))

    def loss(model: StudentModel, batch: Batch) -> dict[str, Tensor]:
        logits = model.decoded(batch)
        losses = teacher_losses(logits, batch, teachers, distillation, model.kind_of)
        parts = {f"loss_{name}": value for name, value in zip(teachers, losses, strict=True)}
        return {"loss": shares.total(losses)} | parts

    return loss


def with_attention(inner: Loss, live: Teacher, distiller: AttentionDistiller, params: PretrainParams) -> Loss:
    """`inner` + α · L_AT + β · L_VR of the live teacher on the same batch.

    The teacher goes first: what its layers need is free again before the student keeps anything for its backward pass.
    """

    def loss(model: StudentModel, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            live.model.to(batch["input_ids"].device)
            live.logits(batch)
        losses = inner(model, batch)
        attention, value = distiller.losses(batch["attention_mask"])
        total = losses["loss"] + params.attention.alpha * attention + params.attention.beta * value
        return losses | {"loss": total, "relation_attention": attention, "relation_value": value}

    return loss


def check_same_tokenizer(live: Teacher, tokenizer: Any) -> None:
    """Raises ParamsError unless both cut every text into the same ids: positions must mean the same on both sides."""
    ours, theirs = (_tokenizer_identity(each) for each in (tokenizer, live.tokenizer))
    if ours != theirs:
        raise ParamsError(
            "pretrain.live_teacher: its tokenizer is not the student's, so their attention cannot be compared; "
            "name a teacher that shares student.base's tokenizer, or `none`"
        )


def _tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    """The whole tokenizer but for padding and truncation, which calls change."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in state.items() if key not in {"padding", "truncation"}}


def held_out(ids: list[str]) -> Booleans:
    """[N] whether a row is held out, by a stable hash of its id."""
    digests = [hashlib.sha256(each.encode()).digest() for each in ids]
    return np.array([int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT for digest in digests], dtype=bool)


def _agreement(answers: Units, scores: Mapping[str, Units], kind_of: Callable[[str], Kind]) -> dict[str, float]:
    """How far a decoder's answers are its teacher's (the main metric, the latter as gold): each, and the mean."""
    ends = np.cumsum([logits.values.shape[-1] for logits in scores.values()])
    parts = np.split(answers.values, ends[:-1], axis=-1)
    shares = {}
    for part, (name, logits) in zip(parts, scores.items(), strict=True):
        task, probabilities = decide.of(kind_of(name)), heads.of(kind_of(name)).probabilities
        ours, theirs = (
            task.decisions(answers.with_values(probabilities(torch.from_numpy(each)).numpy()))
            for each in (part, logits.values)
        )
        shares[f"agreement_{name}"] = float(task.metric(task.counts(ours, theirs).sum(0)))
    return {"agreement": sum(shares.values()) / len(shares)} | shares
