"""Teachers' scores beside the texts of a batch, and each decoder's distance from its own teacher.

docs/methods.md §1: targets of several teachers stay apart; they are never averaged into one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from kd_core.config.data import Kind
from kd_core.config.training import Distillation
from kd_core.tasks.loss import soft_loss
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
