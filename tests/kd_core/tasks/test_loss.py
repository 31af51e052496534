"""Divergences are summed over classes and averaged over the batch (docs/methods.md §1)."""

from __future__ import annotations

import pytest
import torch

from kd_core.config.training import Distillation
from tests.helpers.one_unit import hard_loss, soft_loss

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(5, 7, generator=GENERATOR)
TEACHER = torch.randn(5, 7, generator=GENERATOR)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_kl_by_hand(temperature: float) -> None:
    p, q = (TEACHER / temperature).softmax(-1), (STUDENT / temperature).softmax(-1)
    by_row = [sum(float(a * (a / b).log()) for a, b in zip(pr, qr, strict=True)) for pr, qr in zip(p, q, strict=True)]
    expected = temperature**2 * sum(by_row) / len(by_row)
    loss = soft_loss(STUDENT, TEACHER, Distillation(divergence="kl", temperature=temperature))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_temperature_squared_keeps_the_gradient_alive() -> None:
    """Without × τ² the gradient would fall as 1 / τ²."""
    norms = []
    for temperature in (1.0, 20.0):
        student = STUDENT.clone().requires_grad_()
        soft_loss(student, TEACHER, Distillation(temperature=temperature)).backward()
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert norms[1] > norms[0] / 10


def test_mse_is_on_probabilities_summed_over_classes() -> None:
    p, q = TEACHER.softmax(-1), STUDENT.softmax(-1)
    expected = sum(float((a - b) ** 2) for a, b in zip(p.flatten(), q.flatten(), strict=True)) / 5
    assert soft_loss(STUDENT, TEACHER, Distillation(divergence="mse")).item() == pytest.approx(expected, rel=1e-5)


def test_hard_loss_is_the_mean_over_labelled_rows() -> None:
    targets = torch.tensor([1, -100, 3, -100, 0])
    labelled = targets >= 0
    expected = torch.nn.functional.cross_entropy(STUDENT[labelled], targets[labelled])
    torch.testing.assert_close(hard_loss(STUDENT, targets), expected)
