"""Self-attention distillation against a plain reference, with padding, and with its hooks gone afterwards."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from kd_core.config.training import AttentionDistillation
from kd_core.distill.attention import AttentionDistiller, relation, relation_divergence
from kd_core.models.layers import encoder_layers
from kd_core.runtime.errors import ParamsError
from tests.code.distilling import tiny_student, tiny_teacher


def reference_divergence(teacher: list[Tensor], student: list[Tensor], lengths: list[int], heads: int) -> float:
    """The formula by loops over samples, heads and query positions, on unpadded slices only."""
    total, count = 0.0, 0
    for sample, length in enumerate(lengths):
        for head in range(heads):
            rows = []
            for one, other in (teacher, student):
                width = one.shape[-1] // heads
                part = slice(head * width, (head + 1) * width)
                x, y = one[sample, :length, part], other[sample, :length, part]
                rows.append(torch.softmax(x @ y.T / math.sqrt(width), dim=-1))
            for position in range(length):
                p, q = rows[0][position], rows[1][position]
                total += float((p * (p / q).log()).sum())
                count += 1
    return total / count


def batch(lengths: list[int], width: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids, mask = torch.zeros(len(lengths), width, dtype=torch.long), torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, 40, (length,), generator=generator)
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_equals_the_plain_formula(heads: int) -> None:
    generator = torch.Generator().manual_seed(3)
    lengths = [5, 2, 7]
    mask = torch.tensor([[1] * n + [0] * (7 - n) for n in lengths])
    tq, tk = (torch.randn(3, 7, 24, generator=generator) for _ in range(2))
    sq, sk = (torch.randn(3, 7, 8, generator=generator) for _ in range(2))
    found = relation_divergence(relation(tq, tk, mask, heads), relation(sq, sk, mask, heads), mask)
    assert float(found) == pytest.approx(reference_divergence([tq, tk], [sq, sk], lengths, heads), abs=1e-5)


def test_padding_changes_nothing() -> None:
    student, teacher = tiny_student().eval(), tiny_teacher()
    for parameter in [*student.parameters(), *teacher.model.parameters()]:
        parameter.data.mul_(5.0)  # sharper relations than those of fresh weights
    results = []
    for width in (6, 11):
        inputs = batch([6, 3], width)
        with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
            teacher.model(**inputs)
            student.hidden_states(inputs)
            results.append(torch.stack(distiller.losses(inputs["attention_mask"])))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)
    assert (results[0] > 1e-2).all()


def test_gradients_reach_the_student_only_and_stay_finite() -> None:
    student, teacher = tiny_student(), tiny_teacher()
    inputs = batch([6, 3, 1], 6)
    with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
        teacher.model(**inputs)
        student.hidden_states(inputs)
        sum(distiller.losses(inputs["attention_mask"])).backward()
    weights = encoder_layers(student.encoder)[-1].attention.self
    for projection in (weights.query, weights.key, weights.value):
        assert torch.isfinite(projection.weight.grad).all()
        assert projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_losses_compare_the_last_layers_of_both_models() -> None:
    """Queries with keys first, values with values second, of no layer but the last, on either side."""
    student, teacher = tiny_student(layers=3).eval(), tiny_teacher()
    for parameter in [*student.parameters(), *teacher.model.parameters()]:
        parameter.data.mul_(5.0)  # sharper relations than those of fresh weights
    inputs, mask = batch([6, 4], 6), batch([6, 4], 6)["attention_mask"]
    with torch.no_grad(), AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
        sides = []
        for encoder, states in (
            (teacher.model.base_model, teacher.model(**inputs, output_hidden_states=True).hidden_states),
            (student.encoder, student.hidden_states(inputs)),
        ):
            projections = encoder_layers(encoder)[-1].attention.self
            names = ("query", "key", "value")
            sides.append([nn.functional.linear(states[-2], getattr(projections, n).weight) for n in names])
            assert not any(getattr(projections, n).bias.any() for n in names), "fresh biases are zero"
        found = distiller.losses(mask)
    for loss, (one, other) in zip(found, ((0, 1), (2, 2)), strict=True):
        teachers, students = ([side[one], side[other]] for side in sides)
        assert float(loss) == pytest.approx(reference_divergence(teachers, students, [6, 4], 4), rel=1e-4)
    assert float(found[0]) != pytest.approx(float(found[1]), rel=0.01)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_are_gone_afterwards_even_after_an_error() -> None:
    student, teacher = tiny_student(), tiny_teacher()

    def broken() -> None:
        with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()):
            assert hooks(student) == hooks(teacher.model) == 3
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert hooks(student) == hooks(teacher.model) == 0


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "roberta", "electra", "mpnet"])
def test_projections_are_found_in_each_architecture(model_type: str) -> None:
    student, teacher = tiny_student(model_type=model_type), tiny_teacher(model_type=model_type)
    inputs = batch([5, 4], 5)
    with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
        teacher.model(**inputs)
        student.hidden_states(inputs)
        assert all(torch.isfinite(loss) for loss in distiller.losses(inputs["attention_mask"]))


def test_unregrouped_relation_is_the_attention_of_the_model() -> None:
    teacher = tiny_teacher()
    teacher.model.set_attn_implementation("eager")
    inputs = batch([6, 3], 6)
    projected: dict[str, Tensor] = {}
    layer = encoder_layers(teacher.model)[-1].attention.self
    for name in ("query", "key"):
        getattr(layer, name).register_forward_hook(lambda m, i, o, name=name: projected.update({name: o}))
    attention = teacher.model(**inputs, output_attentions=True).attentions[-1]
    ours = relation(projected["query"], projected["key"], inputs["attention_mask"], 4).exp()
    torch.testing.assert_close(ours[:, :, :3], attention[:, :, :3], atol=1e-5, rtol=1e-5)


def test_other_head_counts_need_relation_heads() -> None:
    student, teacher = tiny_student(heads=2), tiny_teacher(heads=4)
    with pytest.raises(ParamsError, match=r"relation_heads.*4 heads.*student 2"):
        AttentionDistiller(teacher.model, student.encoder, AttentionDistillation())
    AttentionDistiller(teacher.model, student.encoder, AttentionDistillation(relation_heads=8))
    with pytest.raises(ParamsError, match="does not divide"):
        AttentionDistiller(teacher.model, student.encoder, AttentionDistillation(relation_heads=5))
