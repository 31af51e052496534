"""Self-attention distillation of every architecture: the relations that are compared are those of the models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kd_core.config.training import AttentionDistillation
from kd_core.distill.attention import AttentionDistiller, relation
from kd_core.models.layers import encoder_layers
from tests.helpers.distilling import random_batch, reference_divergence, tiny_student, tiny_teacher
from tests.helpers.tiny import ARCHITECTURES


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
    inputs = random_batch([6, 4], 6)
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
    inputs, lengths = random_batch([6, 4, 1], 6), [6, 4, 1]
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
    inputs = random_batch([6], 6)
    query, key, _ = last_projections(architecture, teacher.model, inputs)
    own = teacher.model(**inputs, output_attentions=True).attentions[-1]
    assert (relation(query, key, inputs["attention_mask"], 4).exp() - own).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize(("length", "same"), [(3, True), (9, False)])
def test_a_modernbert_s_relation_is_its_attention_without_the_windows(length: int, same: bool) -> None:
    """Queries and keys are compared after their rotation; the last of three layers sees two tokens each side."""
    student, teacher = tiny_student(model_type="modernbert"), tiny_teacher(model_type="modernbert")
    sharpened(teacher.model)
    inputs = random_batch([length, 2], length)
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


@pytest.mark.parametrize("theirs", ARCHITECTURES)
def test_any_architecture_may_teach_any_other(theirs: str) -> None:
    ours = list(ARCHITECTURES)[(list(ARCHITECTURES).index(theirs) + 3) % len(ARCHITECTURES)]
    student, teacher = tiny_student(model_type=ours), tiny_teacher(model_type=theirs)
    inputs = random_batch([5, 4], 5)
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
    inputs = random_batch([6, 3], 6)
    projected: dict[str, Tensor] = {}
    layer = encoder_layers(teacher.model)[-1].attention.self
    for name in ("query", "key"):
        getattr(layer, name).register_forward_hook(lambda m, i, o, name=name: projected.update({name: o}))
    own = teacher.model(**inputs, output_attentions=True).attentions[-1]
    ours = relation(projected["query"], projected["key"], inputs["attention_mask"], 4).exp()
    torch.testing.assert_close(ours[:, :, :3], own[:, :, :3], atol=1e-5, rtol=1e-5)
