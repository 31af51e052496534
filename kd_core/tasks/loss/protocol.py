"""What the losses of a kind offer; docs/tasks.md. B rows, U units a row (padded, `mask` [B, U]), C outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor

from kd_core.config.training import Distillation

Direction = Literal["branch_to_trunk", "trunk_to_branch"]


class Loss(Protocol):
    """Scalars: means over a row's units, then over rows."""

    def hard(self, logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """From gold: logits [B, U, C], targets [B, U, …]; rows with NO_LABEL do not count, 0 if no other is left."""

    def soft(self, student: Tensor, teacher: Tensor, mask: Tensor, params: Distillation) -> Tensor:
        """D(teacher, student) of logits [B, U, C]."""

    def average(self, teachers: Sequence[Tensor], weights: Tensor, params: Distillation) -> Tensor:
        """Logits [B, U, C] that give `soft` the weighted average of the teachers' distributions; weights [T]."""

    def divergence(self, branch: Tensor, trunk: Tensor, mask: Tensor, direction: Direction) -> Tensor:
        """KL between a branch's logits and the trunk's probabilities, both [B, U, C]."""
