"""Self-attention distillation against a plain reference, with padding, and with its hooks gone afterwards."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from kd_core.config.training import AttentionDistillation
from kd_core.distill import attention
from kd_core.distill.attention import AttentionDistiller, relation_divergence
from kd_core.models.layers import encoder_layers
from kd_core.models.static_encoder import StaticConfig, StaticEncoder
from kd_core.runtime.errors import ParamsError
from tests.helpers.distilling import random_batch, reference_divergence, tiny_student, tiny_teacher


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_equals_the_plain_formula(heads: int) -> None:
    generator = torch.Generator().manual_seed(3)
    lengths = [5, 2, 7]
    mask = torch.tensor([[1] * n + [0] * (7 - n) for n in lengths])
    tq, tk = (torch.randn(3, 7, 24, generator=generator) for _ in range(2))
    sq, sk = (torch.randn(3, 7, 8, generator=generator) for _ in range(2))
    found = relation_divergence((tq, tk), (sq, sk), mask, heads)
    assert float(found) == pytest.approx(reference_divergence([tq, tk], [sq, sk], lengths, heads), abs=1e-5)


def plain_divergence(teacher: list[Tensor], student: list[Tensor], mask: Tensor, heads: int) -> Tensor:
    """The formula on whole padded batches, differentiated by autograd."""
    logs = []
    for one, other in (teacher, student):
        x, y = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (one, other))
        scores = (x @ y.mT) / math.sqrt(x.shape[-1]) + (mask[:, None, None, :] - 1) * 1e9
        logs.append(scores.log_softmax(-1))
    rows = (logs[0].exp() * (logs[0] - logs[1])).sum(-1) * mask[:, None, :]
    return rows.sum() / (mask.sum() * heads)


@pytest.mark.parametrize("elements", [1, 200, 2**19])
@pytest.mark.parametrize("values", [False, True])
def test_the_gradient_is_that_of_the_plain_formula(
    elements: int, values: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many texts are computed at a time, for queries with keys and for values with themselves."""
    monkeypatch.setattr(attention, "MAP_ELEMENTS", elements)
    generator = torch.Generator().manual_seed(4)
    mask = torch.tensor([[1] * n + [0] * (7 - n) for n in (5, 2, 7, 1)])
    teacher = [torch.randn(4, 7, 24, generator=generator) for _ in range(2)]
    student = [torch.randn(4, 7, 8, generator=generator, requires_grad=True) for _ in range(2)]
    if values:
        teacher, student = [teacher[0]] * 2, [student[0]] * 2
    losses = [
        relation_divergence((teacher[0], teacher[1]), (student[0], student[1]), mask, 4),
        plain_divergence(teacher, student, mask, 4),
    ]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=1e-5)
    wanted, found = (torch.autograd.grad(3 * loss, student, retain_graph=True) for loss in losses[::-1])
    for one, two in zip(found, wanted, strict=True):
        assert two.abs().max() > 1e-3
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)


def test_relations_of_bf16_projections_are_compared_in_fp32() -> None:
    mask = torch.ones(3, 7, dtype=torch.long)
    one, two = (torch.randn(3, 7, 8).bfloat16() for _ in range(2))
    two.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = relation_divergence((one, one), (two, two), mask, 2)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain_divergence([one.float()] * 2, [two.float()] * 2, mask, 2), atol=1e-5, rtol=0)
    loss.backward()
    assert two.grad is not None
    assert two.grad.dtype == torch.bfloat16


def test_padding_changes_nothing() -> None:
    student, teacher = tiny_student().eval(), tiny_teacher()
    for parameter in [*student.parameters(), *teacher.model.parameters()]:
        parameter.data.mul_(5.0)  # sharper relations than those of fresh weights
    results = []
    for width in (6, 11):
        inputs = random_batch([6, 3], width)
        with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
            teacher.model(**inputs)
            student.hidden_states(inputs)
            results.append(torch.stack(distiller.losses(inputs["attention_mask"])))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)
    assert (results[0] > 1e-2).all()


def test_gradients_reach_the_student_only_and_stay_finite() -> None:
    student, teacher = tiny_student(), tiny_teacher()
    inputs = random_batch([6, 3, 1], 6)
    with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
        teacher.model(**inputs)
        student.hidden_states(inputs)
        sum(distiller.losses(inputs["attention_mask"])).backward()
    weights = encoder_layers(student.encoder)[-1].attention.self
    for projection in (weights.query, weights.key, weights.value):
        assert torch.isfinite(projection.weight.grad).all()
        assert projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_hooks_are_gone_afterwards_even_after_an_error() -> None:
    student, teacher = tiny_student(), tiny_teacher()

    def broken() -> None:
        with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()):
            assert hooks(student) == hooks(teacher.model) == 4
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert hooks(student) == hooks(teacher.model) == 0


def test_other_head_counts_need_relation_heads() -> None:
    student, teacher = tiny_student(heads=2), tiny_teacher(heads=4)
    with pytest.raises(ParamsError, match=r"relation_heads.*4 heads.*student 2"):
        AttentionDistiller(teacher.model, student.encoder, AttentionDistillation())
    AttentionDistiller(teacher.model, student.encoder, AttentionDistillation(relation_heads=8))
    with pytest.raises(ParamsError, match="does not divide"):
        AttentionDistiller(teacher.model, student.encoder, AttentionDistillation(relation_heads=5))


def test_a_side_without_layers_is_refused() -> None:
    static, layered = StaticEncoder(StaticConfig(vocab_size=9, hidden_size=16)), tiny_student().encoder
    with pytest.raises(ParamsError, match="the student has no layers"):
        AttentionDistiller(layered, static, AttentionDistillation())
    with pytest.raises(ParamsError, match="the live teacher has no layers"):
        AttentionDistiller(static, layered, AttentionDistillation())
