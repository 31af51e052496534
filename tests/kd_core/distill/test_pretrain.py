"""Stage one: each decoder learns from its own teacher, the encoder from all, from a live one by attention too."""

from __future__ import annotations

import pytest
import torch

from kd_core.config.training import Distillation, PretrainParams
from kd_core.distill.attention import AttentionDistiller
from kd_core.distill.pretrain import held_out, multi_teacher_loss, with_attention
from kd_core.inference.batches import encode
from kd_core.runtime.errors import ParamsError
from tests.helpers.distilling import (
    KL,
    PROGRESS,
    TASK,
    TOKENIZER,
    batch_of,
    copy_of,
    gradient,
    moved,
    optimisation,
    pretrain_params,
    same,
    scores_for,
    tiny_student,
    tiny_teacher,
)
from tests.helpers.one_unit import decoded, pretrain, targets_of
from tests.helpers.tiny import LABELS, tiny_rows, tiny_tokenizer


def test_each_initial_decoder_learns_from_its_own_teacher_only() -> None:
    rows = tiny_rows(6)
    model = tiny_student({"a": list(LABELS), "b": ["x", "y"]}, dropout=0.0).eval()
    batch = batch_of(rows, a=scores_for(rows), b=scores_for(rows, 2))
    loss = multi_teacher_loss(["a", "b"], KL)
    changed = batch | {"scores:a": scores_for(rows, seed=9)}
    gradients = []
    for each in (batch, changed):
        model.zero_grad()
        loss(model, each)["loss"].backward()
        gradients.append({n: d.linear.weight.grad.clone() for n, d in model.decoders.items()})
        assert gradient(model.encoder) > 0
    assert not torch.equal(gradients[0]["a"], gradients[1]["a"])
    assert torch.equal(gradients[0]["b"], gradients[1]["b"])


@torch.no_grad()
def test_pretraining_loss_is_the_uniform_sum_over_teachers() -> None:
    rows = tiny_rows(6)
    model = tiny_student({"a": list(LABELS), "b": list(LABELS)}).eval()
    batch = batch_of(rows, a=scores_for(rows), b=scores_for(rows, seed=1))
    losses = multi_teacher_loss(["a", "b"], KL)(model, batch)
    logits = decoded(model, batch)
    expected = 0.0
    for name in ("a", "b"):
        p = (batch[f"scores:{name}"].squeeze(1) / 2).softmax(-1)
        q = (logits[name] / 2).softmax(-1)
        expected += 0.5 * 4 * float((p * (p / q).log()).sum(-1).mean())
    assert float(losses["loss"]) == pytest.approx(expected, abs=1e-5)


def test_pretraining_moves_the_encoder_and_every_decoder() -> None:
    rows = tiny_rows(20)
    model = tiny_student({"a": list(LABELS), "b": list(LABELS)})
    before = copy_of(model)
    scores = {"a": scores_for(rows), "b": scores_for(rows, seed=1)}
    pretrain(model, TOKENIZER, rows, scores, TASK, pretrain_params(), None, PROGRESS)
    assert moved(model, before) == {"encoder.embeddings", "encoder.encoder", "decoders.a", "decoders.b"}


@pytest.mark.parametrize("divergence", ["kl", "mse"])
def test_pretraining_learns_and_reports_agreement(divergence: str) -> None:
    rows = tiny_rows(200)
    teacher = torch.nn.functional.one_hot(targets_of(encode(rows, TOKENIZER, TASK)), 3) * 6.0
    model = tiny_student({"a": list(LABELS), "b": list(LABELS)})
    params = PretrainParams(
        teachers=("a", "b"),
        optimisation=optimisation(epochs=6, learning_rate=0.02),
        distillation=Distillation.model_validate({"divergence": divergence}),
    )
    curves = pretrain(model, TOKENIZER, rows, {"a": teacher, "b": teacher}, TASK, params, None, PROGRESS)
    assert curves["loss"][-1][1] < 0.5 * curves["loss"][0][1]
    assert {"loss_a", "loss_b", "valid_agreement", "valid_agreement_a"} <= set(curves)
    assert curves["valid_agreement"][-1][1] > 0.6


def test_held_out_rows_teach_nothing() -> None:
    rows = tiny_rows(150)
    held, results = held_out(rows["id"].tolist()), []
    assert held.any()
    for factor in (1.0, -50.0):
        model, scores = tiny_student({"a": list(LABELS)}), scores_for(rows)
        scores[held] *= factor
        params = PretrainParams(teachers=("a",), optimisation=optimisation(epochs=1))
        pretrain(model, TOKENIZER, rows, {"a": scores}, TASK, params, None, PROGRESS)
        results.append(copy_of(model))
    assert all(torch.equal(results[1][name], tensor) for name, tensor in results[0].items())


@pytest.mark.parametrize("kind", ["uniform", "learned"])
def test_learned_weights_spare_the_teacher_that_is_hard_to_follow(kind: str) -> None:
    rows = tiny_rows(40)
    scores = {"a": scores_for(rows) * 0.1, "b": scores_for(rows, seed=1) * 5}
    model = tiny_student({"a": list(LABELS), "b": list(LABELS)})
    curves = pretrain(model, TOKENIZER, rows, scores, TASK, pretrain_params(teacher_weights=kind), None, PROGRESS)
    total, easy, hard = (curves[name][-1][1] for name in ("loss", "loss_a", "loss_b"))
    assert easy < 0.1 * hard
    assert (total == pytest.approx((easy + hard) / 2, rel=1e-4)) == (kind == "uniform")
    assert (total < (easy + hard) / 4) == (kind == "learned")


def test_held_out_rows_are_few_and_stable() -> None:
    ids = [f"row-{index}" for index in range(5000)]
    chosen = held_out(ids)
    assert 0.01 < float(chosen.mean()) < 0.03
    assert (held_out(ids[::-1])[::-1] == chosen).all()


def test_live_teacher_adds_both_relations() -> None:
    rows = tiny_rows(40)
    scores = {"a": scores_for(rows), "b": scores_for(rows, seed=1)}
    results = {}
    for alpha, beta in ((0.0, 0.0), (2.0, 3.0)):
        model = tiny_student({"a": list(LABELS), "b": list(LABELS)}, dropout=0.0)
        params = pretrain_params(attention={"alpha": alpha, "beta": beta})
        results[alpha] = pretrain(model, TOKENIZER, rows, scores, TASK, params, tiny_teacher(), PROGRESS)
        assert not any(module._forward_hooks for module in model.modules())
    first = {name: points[0][1] for name, points in results[2.0].items()}
    plain = {name: points[0][1] for name, points in results[0.0].items()}
    assert first["loss"] > plain["loss"]
    expected = 0.5 * (first["loss_a"] + first["loss_b"])
    expected += 2 * first["relation_attention"] + 3 * first["relation_value"]
    assert first["loss"] == pytest.approx(expected, abs=1e-4)


def test_live_teacher_is_frozen_and_without_dropout() -> None:
    rows, live = tiny_rows(8), tiny_teacher()
    student = tiny_student({"a": list(LABELS), "b": list(LABELS)}).eval()
    batch = batch_of(rows, a=scores_for(rows), b=scores_for(rows, seed=1))
    before, params = copy_of(live.model), pretrain_params()
    with AttentionDistiller(live.model.base_model, student.encoder, params.attention) as distiller:
        loss = with_attention(multi_teacher_loss(["a", "b"], KL), live, distiller, params)
        first, second = loss(student, batch), loss(student, batch)
    for name in ("relation_attention", "relation_value"):
        assert torch.equal(first[name], second[name]), "nothing in it is random"
    first["loss"].backward()
    assert all(parameter.grad is None for parameter in live.model.parameters())
    pretrain(student, TOKENIZER, rows, {"a": scores_for(rows), "b": scores_for(rows)}, TASK, params, live, PROGRESS)
    assert same(live.model, before)
    assert not live.model.training


def test_live_teacher_with_another_tokenizer_is_refused() -> None:
    rows = tiny_rows(20)
    other = tiny_tokenizer()
    other.add_tokens(["newword"])
    model = tiny_student({"a": list(LABELS), "b": list(LABELS)})
    scores = {"a": scores_for(rows), "b": scores_for(rows)}
    with pytest.raises(ParamsError, match=r"live_teacher.*tokenizer"):
        pretrain(model, TOKENIZER, rows, scores, TASK, pretrain_params(), tiny_teacher(tokenizer=other), PROGRESS)
