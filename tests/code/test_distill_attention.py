"""Self-attention distillation against a plain reference, with padding, and with its hooks gone afterwards."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from kd_core.config.training import AttentionDistillation
from kd_core.distill import attention
from kd_core.distill.attention import AttentionDistiller, relation, relation_divergence
from kd_core.models.layers import encoder_layers
from kd_core.runtime.errors import ParamsError
from tests.code.distilling import tiny_student, tiny_teacher
from tests.code.tiny import ARCHITECTURES


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


def sharpened(*models: nn.Module) -> None:
    """Sharper relations than those of fresh weights; biases that are not zero."""
    for model in models:
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(12.0)
            if name.endswith("bias"):
                parameter.data.add_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter))


def last_input(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """What enters the last layer of a model, whatever its head."""
    output = model(**inputs, output_hidden_states=True)
    return output.hidden_states[-2]


PROJECTIONS = {
    "distilbert": ("attention", ("q_lin", "k_lin", "v_lin")),
    "mpnet": ("attention.attn", ("q", "k", "v")),
    "albert": ("albert_layers.0.attention", ("query", "key", "value")),
    "deberta-v2": ("attention.self", ("query_proj", "key_proj", "value_proj")),
    "deberta-v3": ("attention.self", ("query_proj", "key_proj", "value_proj")),
}
POST_NORM = ["albert", "bert", "camembert", "deberta-v2", "deberta-v3", "distilbert", "electra", "mpnet", "roberta",
             "xlm-roberta"]  # fmt: skip
"""A layer of these hands its input to the projections as it is."""


def last_projections(architecture: str, model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Q, K and V of the last layer, computed from what enters it."""
    path, names = PROJECTIONS.get(architecture, ("attention.self", ("query", "key", "value")))
    layer, hidden = encoder_layers(model)[-1].get_submodule(path), last_input(model, inputs)
    return [layer.get_submodule(name)(hidden) for name in names]


@torch.no_grad()
@pytest.mark.parametrize("architecture", POST_NORM)
@pytest.mark.parametrize(("heads", "regrouped"), [(4, None), (2, 8)])
def test_losses_compare_the_last_layers_of_both_models(architecture: str, heads: int, regrouped: int | None) -> None:
    """Queries with keys first, values with values second, of no layer but the last; widths and heads may differ."""
    student = tiny_student(model_type=architecture, layers=3, heads=heads).eval()
    teacher = tiny_teacher(model_type=architecture)
    sharpened(student, teacher.model)
    inputs = batch([6, 4], 6)
    with AttentionDistiller(
        teacher.model, student.encoder, AttentionDistillation(relation_heads=regrouped)
    ) as distiller:
        teacher.model(**inputs)
        student.hidden_states(inputs)
        found = distiller.losses(inputs["attention_mask"])
    sides = [last_projections(architecture, model, inputs) for model in (teacher.model, student.encoder)]
    for loss, (one, other) in zip(found, ((0, 1), (2, 2)), strict=True):
        theirs, ours = ([side[one], side[other]] for side in sides)
        wanted = reference_divergence(theirs, ours, [6, 4], regrouped or 4)
        assert float(loss) == pytest.approx(wanted, abs=1e-5, rel=0)
        assert wanted > 0.01
    assert abs(float(found[0]) - float(found[1])) > 1e-4, "the two could be confused"


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["albert", "bert", "distilbert", "electra", "roberta"])
def test_the_attention_loss_is_that_of_the_models_own_attention(architecture: str) -> None:
    student, teacher = tiny_student(model_type=architecture).eval(), tiny_teacher(model_type=architecture)
    sharpened(student, teacher.model)
    inputs, lengths = batch([6, 4, 1], 6), [6, 4, 1]
    assert teacher.model.config._attn_implementation == student.encoder.config._attn_implementation == "sdpa"
    with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
        teacher.model(**inputs)
        student.hidden_states(inputs)
        found = float(distiller.losses(inputs["attention_mask"])[0])
    maps = []
    for model in (teacher.model, student.encoder):
        model.set_attn_implementation("eager")
        maps.append(model(**inputs, output_attentions=True).attentions[-1])
    rows = [
        float((theirs * (theirs / ours).log()).sum())
        for text, length in enumerate(lengths)
        for head in range(4)
        for theirs, ours in zip(*(each[text, head, :length, :length] for each in maps), strict=True)
    ]
    assert found == pytest.approx(sum(rows) / len(rows), abs=1e-5, rel=0)
    assert found > 0.01


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["mpnet", "deberta-v2", "deberta-v3"])
def test_added_terms_of_attention_are_left_out(architecture: str) -> None:
    """A choice: MPNet's bias and DeBERTa's positions are in the attention, and not in the relation."""
    teacher = tiny_teacher(model_type=architecture)
    sharpened(teacher.model)
    inputs = batch([6], 6)
    query, key, _ = last_projections(architecture, teacher.model, inputs)
    own = teacher.model(**inputs, output_attentions=True).attentions[-1]
    assert (relation(query, key, inputs["attention_mask"], 4).exp() - own).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize(("length", "same"), [(3, True), (9, False)])
def test_a_modernbert_s_relation_is_its_attention_without_the_windows(length: int, same: bool) -> None:
    """Queries and keys are compared after their rotation; the last of three layers sees two tokens each side."""
    student, teacher = tiny_student(model_type="modernbert"), tiny_teacher(model_type="modernbert")
    sharpened(teacher.model)
    inputs = batch([length, 2], length)
    with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
        teacher.model(**inputs)
        query, key, value = distiller._teacher.take()
    teacher.model.set_attn_implementation("eager")
    own = teacher.model(**inputs, output_attentions=True).attentions[-1]
    found = relation(query, key, inputs["attention_mask"], 4).exp()
    assert torch.allclose(found[0], own[0], atol=1e-5) == same
    torch.testing.assert_close(found[1, :, :2], own[1, :, :2], atol=1e-5, rtol=0)
    layer = encoder_layers(teacher.model)[-1]
    projected = layer.attn.Wqkv(layer.attn_norm(last_input(teacher.model, inputs)))
    torch.testing.assert_close(value[0], projected[0].chunk(3, -1)[2], atol=1e-5, rtol=0)
    assert not torch.allclose(query[0], projected[0].chunk(3, -1)[0], atol=1e-3)


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


@pytest.mark.parametrize("theirs", ARCHITECTURES)
def test_any_architecture_may_teach_any_other(theirs: str) -> None:
    ours = list(ARCHITECTURES)[(list(ARCHITECTURES).index(theirs) + 3) % len(ARCHITECTURES)]
    student, teacher = tiny_student(model_type=ours), tiny_teacher(model_type=theirs)
    inputs = batch([5, 4], 5)
    with AttentionDistiller(teacher.model, student.encoder, AttentionDistillation()) as distiller:
        teacher.model(**inputs)
        student.hidden_states(inputs)
        losses = distiller.losses(inputs["attention_mask"])
    sum(losses).backward()
    assert all(torch.isfinite(loss) for loss in losses)
    trained = [name for name, parameter in student.named_parameters() if parameter.grad is not None]
    assert any(name.startswith(f"encoder.{'layers' if ours == 'modernbert' else ''}") for name in trained)


def test_unregrouped_relation_is_the_attention_of_the_model() -> None:
    teacher = tiny_teacher()
    teacher.model.set_attn_implementation("eager")
    inputs = batch([6, 3], 6)
    projected: dict[str, Tensor] = {}
    layer = encoder_layers(teacher.model)[-1].attention.self
    for name in ("query", "key"):
        getattr(layer, name).register_forward_hook(lambda m, i, o, name=name: projected.update({name: o}))
    own = teacher.model(**inputs, output_attentions=True).attentions[-1]
    ours = relation(projected["query"], projected["key"], inputs["attention_mask"], 4).exp()
    torch.testing.assert_close(ours[:, :, :3], own[:, :, :3], atol=1e-5, rtol=1e-5)


def test_other_head_counts_need_relation_heads() -> None:
    student, teacher = tiny_student(heads=2), tiny_teacher(heads=4)
    with pytest.raises(ParamsError, match=r"relation_heads.*4 heads.*student 2"):
        AttentionDistiller(teacher.model, student.encoder, AttentionDistillation())
    AttentionDistiller(teacher.model, student.encoder, AttentionDistillation(relation_heads=8))
    with pytest.raises(ParamsError, match="does not divide"):
        AttentionDistiller(teacher.model, student.encoder, AttentionDistillation(relation_heads=5))
