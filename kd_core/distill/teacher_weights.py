"""Weights of the teachers in a stage's loss: equal, by validation loss, or learned while the student trains.

docs/methods.md §1. Minimising Σ_t w_t · D_t over w as well would give everything to the teacher that is easiest to
follow. What is learned instead are the homoscedastic uncertainties of Kendall et al. (CVPR 2018),

    min over s of  Σ_t exp(−s_t) · D_t + s_t      with its solution  exp(−s_t) = 1 / D_t,

so that w_t ∝ 1 / D_t: no teacher is dropped and none drowns the others. D_t is its running mean over the batches so
far: the solution is known, so it is taken, and no gradient of s has a part in the clipped norm of the student's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kd_core.config.data import Kind
from kd_core.inference.batches import padded
from kd_core.tasks import loss
from kd_core.tasks.units import Units

MEMORY = 100
"""Batches that the running mean of a loss goes back, about."""


class TeacherWeights(nn.Module):
    """T weights that sum to 1. A module beside the student, so that checkpoints hold what was learned."""

    means: Tensor
    seen: Tensor

    def __init__(self, fixed: Tensor | None, teachers: int) -> None:
        """`fixed` [T]; None: learned, uniform before the first batch."""
        super().__init__()
        self._fixed = fixed
        self.register_buffer("means", torch.ones(teachers))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self) -> Tensor:
        """The weights [T]."""
        if self._fixed is not None:
            return self._fixed.to(self.means.device)
        inverse: Tensor = 1.0 / self.means.clamp_min(torch.finfo(torch.float32).eps)
        return inverse / inverse.sum()

    def total(self, losses: Sequence[Tensor]) -> Tensor:
        """Σ_t w_t · D_t of a batch's losses; 0 without teachers. In training the losses are remembered."""
        if not losses:
            return self.means.new_zeros(())
        stacked = torch.stack(list(losses))
        result: Tensor = (self() * stacked).sum()
        if self.training and self._fixed is None:
            rate = torch.clamp_min(1.0 / (self.seen + 1.0), 1.0 / MEMORY)
            self.means.lerp_(stacked.detach(), rate)
            self.seen.add_(1.0)
        return result


def uniform(teachers: int) -> TeacherWeights:
    """1 / T each."""
    return TeacherWeights(torch.full((teachers,), 1.0 / max(teachers, 1)), teachers)


def learned(teachers: int) -> TeacherWeights:
    """∝ 1 / D_t, the teachers' running losses."""
    return TeacherWeights(None, teachers)


def by_validation_loss(scores: Mapping[str, Units], targets: Units, kind: Kind) -> TeacherWeights:
    """∝ exp(−log-loss) of each teacher's scores on labelled rows: the likelihood that it gives a gold label.

    `targets` of all N rows (multi-label: the likelihood is that of all decisions on a row), NO_LABEL where there is no
    label.
    """
    rows = range(len(targets))
    gold, mask = padded(targets, rows), torch.from_numpy(targets.padded(rows)[1])
    losses = torch.stack([loss.of(kind).hard(padded(logits, rows), gold, mask) for logits in scores.values()])
    return TeacherWeights(torch.softmax(-losses, dim=0), len(scores))
