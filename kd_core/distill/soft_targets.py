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
from kd_core.models.student import StudentModel
from kd_core.tasks.loss import average, soft_loss
from kd_core.training.loop import Batch


def score_columns(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
    return [soft_loss(logits[name], batch[f"scores:{name}"], params, kind_of(name)) for name in teachers]


def averaged_loss(
    logits: Tensor, batch: Batch, teachers: list[str], weights: Tensor, params: Distillation, kind: Kind
) -> Tensor:
    """D(Σ_t w_t p_teacher_t, p_decoder) of one decoder's logits [B, C]: 1-o-1, or with several teachers 1avg-o-1."""
    mean = average([batch[f"scores:{name}"] for name in teachers], weights, params, kind)
    return soft_loss(logits, mean, params, kind)


def side_by_side(model: StudentModel, decoders: list[str]) -> Callable[[Batch], Tensor]:
    """Batch → logits of the decoders in this order, [B, Σ C_t]."""

    def answer(batch: Batch) -> Tensor:
        logits = model.decode(model.hidden_states(batch)[-1], batch["attention_mask"])
        return torch.cat([logits[name] for name in decoders], dim=1)

    return answer
