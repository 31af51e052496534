"""Teachers' scores beside the texts of a batch, and each decoder's distance from its own teacher.

docs/methods.md §1: targets of several teachers stay apart, each with its own decoder. Only where a single decoder is
asked for (`finetune.decoders: one`, a baseline) are they averaged, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kd_core.config.data import Kind
from kd_core.config.training import Distillation
from kd_core.inference.batches import Batch
from kd_core.models.student import StudentModel
from kd_core.tasks import loss
from kd_core.tasks.units import UNIT_MASK, Units


def score_columns(scores: Mapping[str, Units]) -> dict[str, Units]:
    """Teacher → logits as columns of a batch; a teacher may have any name, that of another column too."""
    return {f"scores:{name}": logits for name, logits in scores.items()}


def teacher_losses(
    logits: Mapping[str, Tensor],
    batch: Batch,
    teachers: list[str],
    params: Distillation,
    kind_of: Callable[[str], Kind],
) -> list[Tensor]:
    """D(p_teacher_t, p_decoder_t), each decoder against its own teacher's scores in the batch.

    `kind_of` tells what a decoder's logits stand for.
    """
    mask = batch[UNIT_MASK]
    return [loss.of(kind_of(name)).soft(logits[name], batch[f"scores:{name}"], mask, params) for name in teachers]


def averaged_loss(
    logits: Tensor, batch: Batch, teachers: list[str], weights: Tensor, params: Distillation, kind: Kind
) -> Tensor:
    """D(Σ_t w_t p_teacher_t, p_decoder) of one decoder's logits [B, U, C]: 1-o-1, or with several 1avg-o-1."""
    task = loss.of(kind)
    mean = task.average([batch[f"scores:{name}"] for name in teachers], weights, params)
    return task.soft(logits, mean, batch[UNIT_MASK], params)


def side_by_side(model: StudentModel, decoders: list[str]) -> Callable[[Batch], Tensor]:
    """Batch → logits of the decoders in this order, [B, U, Σ C_t]."""

    def answer(batch: Batch) -> Tensor:
        logits = model.decoded(batch)
        return torch.cat([logits[name] for name in decoders], dim=-1)

    return answer
