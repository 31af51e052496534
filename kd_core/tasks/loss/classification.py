"""Classification: cross-entropy, and divergences summed over classes and averaged over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from kd_core.config.training import Distillation


def hard_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [B, C] and targets [B], the mean over labelled rows; rows with -100 do not count.

    0, with a gradient of 0, if no row has a label.
    """
    labelled = (targets != -100).sum().clamp_min(1)
    return F.cross_entropy(logits.float(), targets, ignore_index=-100, reduction="sum") / labelled


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, params: Distillation) -> Tensor:
    """D(teacher, student) of logits [B, C]: summed over classes, mean over the batch (docs/methods.md §1).

    kl: KL(teacher ‖ student) of softmax(z / τ), × τ². mse: squared error of softmax(z); τ plays no part.
    """
    student, teacher = student_logits.float(), teacher_logits.float()
    if params.divergence == "mse":
        return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1).mean()
    temperature = params.temperature
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def average(teacher_logits: Sequence[Tensor], weights: Tensor, params: Distillation) -> Tensor:
    """Logits [B, C] that give `soft_loss` the weighted average of the teachers' distributions (docs/methods.md §1).

    The average is one of probabilities, each teacher's logits [B, C] divided by τ before: Σ_t w_t · softmax(z_t / τ).
    weights [T], summing to 1. For mse τ is 1.
    """
    temperature = params.temperature if params.divergence == "kl" else 1.0
    logs = torch.stack([F.log_softmax(logits.float() / temperature, dim=-1) for logits in teacher_logits])
    return temperature * torch.logsumexp(logs + weights.log()[:, None, None], dim=0)
