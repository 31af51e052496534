"""Divergences between distributions, for any kind that says what its logits' distributions are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from kd_core.config.training import Distillation
from kd_core.tasks.loss.protocol import Direction


class Distributions(Protocol):
    """What logits stand for: distributions over the last axis of `log_distributions`, whatever axes stand before it."""

    def probabilities(self, logits: Tensor) -> Tensor: ...  # noqa: D102
    def log_distributions(self, logits: Tensor) -> Tensor: ...  # noqa: D102
    def log_of(self, given: Tensor) -> Tensor: ...  # noqa: D102
    def as_logits(self, logs: Tensor) -> Tensor: ...  # noqa: D102


class Divergences:
    """`soft`, `average` and `divergence` of a kind's losses, from its distributions (docs/methods.md §1, §2)."""

    def __init__(self, distributions: Distributions) -> None:
        self._of = distributions

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, params: Distillation) -> Tensor:
        """D(teacher, student) of logits [B, U, C], summed over outputs.

        kl: KL(teacher ‖ student) of p(z / τ), × τ². mse: squared error of p(z); τ plays no part.
        """
        ours, theirs = student.float(), teacher.float()
        if params.divergence == "mse":
            return mean((self._of.probabilities(ours) - self._of.probabilities(theirs)).square(), mask)
        temperature = params.temperature
        found, wanted = self._of.log_distributions(ours / temperature), self._of.log_distributions(theirs / temperature)
        return _kl(found, wanted, mask) * temperature**2

    def average(self, teachers: Sequence[Tensor], weights: Tensor, params: Distillation) -> Tensor:
        """Logits […, C] that give `soft` the weighted average of the teachers' distributions.

        The average is one of probabilities, each teacher's logits divided by τ before: Σ_t w_t · p(z_t / τ). weights
        [T], summing to 1. For mse τ is 1.
        """
        temperature = params.temperature if params.divergence == "kl" else 1.0
        logs = torch.stack([self._of.log_distributions(logits / temperature) for logits in teachers], dim=-1)
        return temperature * self._of.as_logits(torch.logsumexp(logs + weights.log(), dim=-1))

    def divergence(self, branch: Tensor, trunk: Tensor, mask: Tensor, direction: Direction) -> Tensor:
        """KL(p_branch ‖ p_trunk), or for `trunk_to_branch` KL(p_trunk ‖ p_branch); logits and probabilities."""
        ours, target = self._of.log_distributions(branch), self._of.log_of(trunk)
        return _kl(target, ours, mask) if direction == "branch_to_trunk" else _kl(ours, target, mask)


def _kl(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    return mean(F.kl_div(found, wanted, reduction="none", log_target=True), mask)


def mean(values: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
    """[B, U, …], what the mask [B, U] leaves summed over the last axes: the mean over units, then over `rows` [B]."""
    by_unit = values.reshape(*mask.shape, -1).sum(-1) * mask
    by_row = by_unit.sum(1) / mask.sum(1).clamp_min(1)
    return by_row.mean() if rows is None else (by_row * rows).sum() / rows.sum().clamp_min(1)
