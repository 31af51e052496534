"""Classification: cross-entropy, and divergences summed over classes and averaged over the batch.

A multi-label row is one independent decision for each label: binary cross-entropies and Bernoulli divergences, summed
over the labels as the others are over classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from kd_core.config.data import MULTI_LABEL, Kind
from kd_core.config.training import Distillation
from kd_core.tasks.decode.distributions import as_logits, log_distributions, probabilities


def hard_loss(logits: Tensor, targets: Tensor, kind: Kind = "classification") -> Tensor:
    """Cross-entropy of logits [B, C] and targets [B], the mean over labelled rows; rows with -100 do not count.

    Multi-label: targets [B, C], binary cross-entropy summed over labels. 0, with a gradient of 0, if no row has any.
    """
    if kind == MULTI_LABEL:
        known = targets != -100
        wanted = targets.clamp_min(0).float()
        loss = F.binary_cross_entropy_with_logits(logits.float(), wanted, weight=known.float(), reduction="sum")
        return loss / known[:, 0].sum().clamp_min(1)
    labelled = (targets != -100).sum().clamp_min(1)
    return F.cross_entropy(logits.float(), targets, ignore_index=-100, reduction="sum") / labelled


def soft_loss(
    student_logits: Tensor, teacher_logits: Tensor, params: Distillation, kind: Kind = "classification"
) -> Tensor:
    """D(teacher, student) of logits [B, C]: summed over classes, mean over the batch (docs/methods.md §1).

    kl: KL(teacher ‖ student) of p(z / τ), × τ². mse: squared error of p(z); τ plays no part. p is the softmax;
    multi-label: a sigmoid for each label, KL between Bernoulli distributions.
    """
    student, teacher = student_logits.float(), teacher_logits.float()
    if params.divergence == "mse":
        return (probabilities(student, kind) - probabilities(teacher, kind)).square().sum(-1).mean()
    temperature = params.temperature
    divergence = F.kl_div(
        log_distributions(student / temperature, kind),
        log_distributions(teacher / temperature, kind),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def average(
    teacher_logits: Sequence[Tensor], weights: Tensor, params: Distillation, kind: Kind = "classification"
) -> Tensor:
    """Logits [B, C] that give `soft_loss` the weighted average of the teachers' distributions (docs/methods.md §1).

    The average is one of probabilities, each teacher's logits [B, C] divided by τ before: Σ_t w_t · p(z_t / τ).
    weights [T], summing to 1. For mse τ is 1.
    """
    temperature = params.temperature if params.divergence == "kl" else 1.0
    logs = torch.stack([log_distributions(logits / temperature, kind) for logits in teacher_logits], dim=-1)
    return temperature * as_logits(torch.logsumexp(logs + weights.log(), dim=-1), kind)
