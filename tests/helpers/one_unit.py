"""Losses, heads and decisions of one unit a row, asked with arrays [B, C]: what most formulas are written for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd_core.config.data import CLASSIFICATION
from kd_core.distill import finetune as stage_two
from kd_core.distill import pretrain as stage_one
from kd_core.distill import self_distill as branches
from kd_core.distill.finetune import Scored
from kd_core.inference.asking import ask
from kd_core.tasks import decide, heads, loss
from kd_core.tasks.heads import modules
from kd_core.tasks.units import Units
from kd_core.teachers import teaching
from kd_core.training import texts
from kd_core.training.work import Work


def mask_of(logits: Tensor) -> Tensor:
    return torch.ones(len(logits), 1, dtype=torch.bool)


def hard_loss(logits: Tensor, targets: Tensor, kind: str = CLASSIFICATION) -> Tensor:
    return loss.of(kind).hard(logits.unsqueeze(1), targets.unsqueeze(1), mask_of(logits))


def soft_loss(student: Tensor, teacher: Tensor, params: Any, kind: str = CLASSIFICATION) -> Tensor:
    return loss.of(kind).soft(student.unsqueeze(1), teacher.unsqueeze(1), mask_of(student), params)


def average(teachers: Sequence[Tensor], weights: Tensor, params: Any, kind: str = CLASSIFICATION) -> Tensor:
    return loss.of(kind).average(teachers, weights, params)


def divergence(branch: Tensor, trunk: Tensor, direction: Any, kind: str = CLASSIFICATION) -> Tensor:
    return loss.of(kind).divergence(branch.unsqueeze(1), trunk.unsqueeze(1), mask_of(branch), direction)


def combine(
    logits: Mapping[str, Tensor], mode: Any, weights: Mapping[str, float], kind: str = CLASSIFICATION
) -> Tensor:
    return modules.combine(logits, mode, weights, heads.of(kind))


def probabilities(logits: Tensor, kind: str = CLASSIFICATION) -> Tensor:
    return heads.of(kind).probabilities(logits)


def logits_of(given: Tensor, kind: str = CLASSIFICATION) -> Tensor:
    return heads.of(kind).logits_of(given)


def uncertainty(given: Tensor, kind: str = CLASSIFICATION) -> Tensor:
    return torch.from_numpy(decide.of(kind).uncertainty(Units.one_a_row(given.numpy())))


def one(values: Any) -> Units:
    """[N, …] as units."""
    return Units.one_a_row(np.asarray(values))


def decoded(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each decoder's logits [B, C]."""
    return {name: logits.squeeze(1) for name, logits in model.decoded(batch).items()}


def answered(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The combined answer [B, C]."""
    return model.answer(model.decoded(batch)).squeeze(1)  # type: ignore[no-any-return]


def units_of(scores: Mapping[str, Any] | None) -> dict[str, Units]:
    return {name: values if isinstance(values, Units) else one(values) for name, values in (scores or {}).items()}


def finetune(
    model: Any, tokenizer: Any, rows: Any, scores: Any, valid: Any, task: Any, params: Any, progress: Any,
    state: Any = None, valid_scores: Any = None,
) -> Any:  # fmt: skip
    known = Scored(valid, units_of(valid_scores))
    return stage_two.finetune(
        model, Scored(rows, units_of(scores)), known, task, params, Work(tokenizer, progress, state)
    )


def pretrain(
    model: Any, tokenizer: Any, rows: Any, scores: Any, task: Any, params: Any, live: Any, progress: Any,
    state: Any = None,
) -> Any:  # fmt: skip
    return stage_one.pretrain(model, rows, units_of(scores), task, params, live, Work(tokenizer, progress, state))


def self_distill(
    model: Any, tokenizer: Any, rows: Any, task: Any, params: Any, progress: Any, state: Any = None
) -> Any:
    return branches.self_distill(model, rows, task, params, Work(tokenizer, progress, state))


def fine_tune(teacher: Any, rows: Any, valid: Any, optimisation: Any, progress: Any, state: Any = None) -> Any:
    return teaching.fine_tune(teacher, rows, valid, optimisation, Work(teacher.tokenizer, progress, state))


def validation_on(
    model: Any, answer: Any, encoded: Any, tokenizer: Any, budget: int, kind: str = CLASSIFICATION
) -> Any:
    """`answer` gives [B, U, C] or [B, C]."""
    return texts.validation_on(
        model, lambda batch: by_unit(answer(batch)), encoded, tokenizer.pad_token_id, budget, kind
    )


def outputs_of(model: Any, answer: Any, encoded: Any, tokenizer: Any, budget: int) -> Tensor:
    """`answer` for every row, [N, …]."""
    found = ask(model, lambda batch: by_unit(answer(batch)), encoded, tokenizer.pad_token_id, budget)
    return torch.from_numpy(found.values)


def by_unit(found: Tensor) -> Tensor:
    return found if found.dim() == 3 else found.unsqueeze(1)


def targets_of(encoded: Any) -> Tensor:
    return torch.from_numpy(encoded.targets.values)
