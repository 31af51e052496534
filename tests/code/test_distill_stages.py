"""The training stages: who learns from whom, what is frozen, what is carried over, what labels may do."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from kd_core.config.training import Distillation, FinetuneParams, PretrainParams, SelfDistillParams
from kd_core.distill import self_distill as self_distillation
from kd_core.distill.finetune import combined_answer, finetune, target_loss
from kd_core.distill.pretrain import held_out, multi_teacher_loss, pretrain
from kd_core.distill.self_distill import divergence, self_distill
from kd_core.distill.teach import fine_tune, pass_features_on, probe
from kd_core.distill.update import update
from kd_core.runtime.errors import ParamsError
from kd_core.tasks.encode import collate, encode
from kd_core.training.texts import outputs_of, validation_on
from tests.code.distilling import PROGRESS, TASK, copy_of, optimisation, same, tiny_student, tiny_teacher
from tests.code.tiny import LABELS, tiny_rows, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
KL = Distillation(divergence="kl", temperature=2.0)


def scores_for(rows: pd.DataFrame, classes: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(len(rows), classes, generator=torch.Generator().manual_seed(seed))


def batch_of(rows: pd.DataFrame, **scores: Tensor) -> dict[str, Tensor]:
    encoded = encode(rows, TOKENIZER, TASK)
    batch = collate(encoded, range(len(rows)), TOKENIZER.pad_token_id) | {"targets": encoded.targets}
    return batch | {f"scores:{name}": logits for name, logits in scores.items()}


def gradient(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def moved(model: torch.nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Parts (two levels of names) of which some weight differs from `before`."""
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    return {".".join(name.split(".")[:2]) for name in changed}


def pretrain_params(**changes: Any) -> PretrainParams:
    return PretrainParams(teachers=("a", "b"), optimisation=optimisation(), distillation=KL, **changes)


# Pre-training


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
    logits = model.decode(model.hidden_states(batch)[-1], batch["attention_mask"])
    expected = 0.0
    for name in ("a", "b"):
        p = (batch[f"scores:{name}"] / 2).softmax(-1)
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
    teacher = torch.nn.functional.one_hot(encode(rows, TOKENIZER, TASK).targets, 3) * 6.0
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


def test_held_out_rows_are_few_and_stable() -> None:
    ids = [f"row-{index}" for index in range(5000)]
    chosen = held_out(ids)
    assert 0.01 < float(chosen.float().mean()) < 0.03
    assert torch.equal(held_out(ids[::-1]).flip(0), chosen)


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


def test_live_teacher_with_another_tokenizer_is_refused() -> None:
    rows = tiny_rows(20)
    other = tiny_tokenizer()
    other.add_tokens(["newword"])
    model = tiny_student({"a": list(LABELS), "b": list(LABELS)})
    scores = {"a": scores_for(rows), "b": scores_for(rows)}
    with pytest.raises(ParamsError, match=r"live_teacher.*tokenizer"):
        pretrain(model, TOKENIZER, rows, scores, TASK, pretrain_params(), tiny_teacher(tokenizer=other), PROGRESS)


# Update


def test_update_replaces_the_decoders_and_no_bit_of_the_encoder() -> None:
    model = tiny_student({"a": ["x", "y"], "b": list(LABELS)})
    before = copy_of(model.encoder)
    update(model, ["t1", "t2", "t3"], ["p", "q", "r", "s"], "probabilities")
    assert same(model.encoder, before)
    assert list(model.decoders) == ["gold", "t1", "t2", "t3"]
    assert model.decoders["t3"].linear.weight.shape == (4, 16)
    assert model.config.labels == ["p", "q", "r", "s"]
    with pytest.raises(ParamsError, match="gold"):
        update(model, ["gold"], ["p", "q"], "probabilities")


# Fine-tuning


def finetune_params(alpha: float = 0.5, teachers: tuple[str, ...] = ("a",), **changes: Any) -> FinetuneParams:
    return FinetuneParams(
        teachers=teachers, alpha=alpha, distillation=KL, optimisation=optimisation(**({"epochs": 8} | changes))
    )


def target_student(**options: Any) -> Any:
    return tiny_student({"gold": list(LABELS), "a": list(LABELS)}, **options)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_weighs_gold_against_teachers(alpha: float) -> None:
    rows = tiny_rows(6)
    model, batch = target_student().eval(), batch_of(rows, a=scores_for(rows))
    losses = target_loss(finetune_params(alpha))(model, batch)
    logits = model.decode(model.hidden_states(batch)[-1], batch["attention_mask"])
    hard = torch.nn.functional.cross_entropy(logits["gold"], batch["targets"])
    p, q = (batch["scores:a"] / 2).softmax(-1), (logits["a"] / 2).softmax(-1)
    soft = 4 * (p * (p / q).log()).sum(-1).mean()
    assert losses["loss"].item() == pytest.approx(float(((1 - alpha) * hard + alpha * soft).detach()), abs=1e-5)
    losses["loss"].backward()
    assert (gradient(model.decoders["gold"]) > 0) == (alpha < 1)
    assert (gradient(model.decoders["a"]) > 0) == (alpha > 0)
    assert gradient(model.encoder) > 0


def test_unlabelled_rows_give_the_soft_part_only() -> None:
    rows = pd.concat([tiny_rows(4), tiny_rows(8, labels=None, seed=1)], ignore_index=True)
    model, batch = target_student(dropout=0.0).eval(), batch_of(rows, a=scores_for(rows))
    mixed = target_loss(finetune_params())(model, batch)
    labelled = target_loss(finetune_params())(model, {name: tensor[:4] for name, tensor in batch.items()})
    assert float(mixed["loss_gold"].detach()) == pytest.approx(float(labelled["loss_gold"].detach()), abs=1e-5)
    unlabelled = target_loss(finetune_params())(model, {name: tensor[4:] for name, tensor in batch.items()})
    assert float(unlabelled["loss_gold"].detach()) == 0.0
    model.zero_grad()
    unlabelled["loss"].backward()
    assert gradient(model.decoders["gold"]) == 0.0
    assert gradient(model.decoders["a"]) > 0


def test_without_teachers_only_gold_counts_whatever_alpha_is() -> None:
    rows = tiny_rows(6)
    model, batch = tiny_student().eval(), batch_of(rows)
    losses = target_loss(finetune_params(alpha=0.9, teachers=()))(model, batch)
    logits = model.decode(model.hidden_states(batch)[-1], batch["attention_mask"])
    expected = torch.nn.functional.cross_entropy(logits["gold"], batch["targets"])
    assert float(losses["loss"].detach()) == pytest.approx(float(expected), abs=1e-6)


def test_finetuning_learns_and_keeps_the_epoch_with_the_best_combined_answer() -> None:
    rows, valid = tiny_rows(120), tiny_rows(45, seed=2)
    model = target_student()
    params = finetune_params(epochs=6, learning_rate=0.02, patience=3)
    curves = finetune(model, TOKENIZER, rows, {"a": scores_for(rows)}, valid, TASK, params, PROGRESS)
    accuracies = [value for _, value in curves["valid_accuracy"]]
    encoded = encode(valid, TOKENIZER, TASK)
    kept = validation_on(model, combined_answer(model), encoded, TOKENIZER, 128)
    assert kept is not None
    assert kept.metrics()["accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
    assert max(accuracies) > 0.8


def test_finetuning_moves_the_encoder_and_every_decoder() -> None:
    rows, model = tiny_rows(20), target_student()
    before = copy_of(model)
    finetune(model, TOKENIZER, rows, {"a": scores_for(rows)}, rows, TASK, finetune_params(epochs=1), PROGRESS)
    assert moved(model, before) == {"encoder.embeddings", "encoder.encoder", "decoders.gold", "decoders.a"}


def test_validation_looks_at_the_combined_answer() -> None:
    rows = tiny_rows(9)
    model = target_student().eval()
    batch = batch_of(rows)
    logits = model.decode(model.hidden_states(batch)[-1], batch["attention_mask"])
    expected = (logits["gold"].softmax(-1) + logits["a"].softmax(-1)) / 2
    torch.testing.assert_close(combined_answer(model)(batch), expected)


# Self-distillation


def self_distill_params(**changes: Any) -> SelfDistillParams:
    return SelfDistillParams.model_validate(
        {"optimisation": optimisation(epochs=6, learning_rate=0.02), "width": 8} | changes
    )


def test_self_distillation_freezes_the_trunk_and_trains_every_branch() -> None:
    model = tiny_student(layers=3)
    before = {"encoder": copy_of(model.encoder), "decoders": copy_of(model.decoders)}
    curves = self_distill(model, TOKENIZER, tiny_rows(60, labels=None), TASK, self_distill_params(), PROGRESS)
    assert same(model.encoder, before["encoder"])
    assert same(model.decoders, before["decoders"])
    assert list(model.branches) == ["1", "2"]
    assert {"loss", "loss_1", "loss_2"} == set(curves)
    assert curves["loss"][-1][1] < 0.7 * curves["loss"][0][1]
    assert not any(parameter.requires_grad for parameter in model.trunk_parameters())


def test_self_distillation_reads_no_label() -> None:
    rows = tiny_rows(30)
    shuffled = rows.assign(label=rows["label"].tolist()[::-1])
    nonsense = rows.assign(label="not a label of the task")
    results = []
    for each in (rows, shuffled, nonsense):
        model = tiny_student(layers=2)
        self_distill(model, TOKENIZER, each, TASK, self_distill_params(), PROGRESS)
        results.append(copy_of(model.branches))
    assert all(torch.equal(results[0][name], other[name]) for other in results[1:] for name in results[0])


def test_trunk_outputs_that_do_not_fit_are_computed_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, recomputed = tiny_student(layers=3), tiny_student(layers=3)
    rows = tiny_rows(40, labels=None)
    self_distill(kept, TOKENIZER, rows, TASK, self_distill_params(), PROGRESS)
    monkeypatch.setattr(self_distillation, "CACHE_BYTES", 0)
    self_distill(recomputed, TOKENIZER, rows, TASK, self_distill_params(), PROGRESS)
    for name, tensor in kept.branches.state_dict().items():
        torch.testing.assert_close(recomputed.branches.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_cached_vectors_give_what_a_branch_gives_on_the_whole_text() -> None:
    """Branches learn the *combined* answer of two decoders that disagree."""
    model = target_student(layers=3)
    model.decoders["a"].linear.weight.data.mul_(200.0)
    rows = tiny_rows(12, labels=None)
    self_distill(model, TOKENIZER, rows, TASK, self_distill_params(), PROGRESS)
    batch = batch_of(rows)
    states = model.hidden_states(batch)
    trunk = model.answer(model.decode(states[-1], batch["attention_mask"]))
    expected = sum(
        float(divergence(model.branch_logits(layer, states[layer], batch["attention_mask"]), trunk, "branch_to_trunk"))
        for layer in (1, 2)
    )
    outputs = self_distillation._columns(model, self_distillation._trunk_outputs(model)(batch))
    losses = self_distillation.branch_loss("branch_to_trunk")(model.branches, outputs)
    assert float(losses["loss"].detach()) == pytest.approx(expected, abs=1e-5)


def test_direction_of_the_divergence() -> None:
    branch, trunk = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])
    forward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    backward = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert float(divergence(branch.log(), trunk, "branch_to_trunk")) == pytest.approx(forward, abs=1e-6)
    assert float(divergence(branch.log(), trunk, "trunk_to_branch")) == pytest.approx(backward, abs=1e-6)
    assert math.isfinite(float(divergence(branch.log(), torch.tensor([[1.0, 0.0]]), "branch_to_trunk")))


def test_a_model_of_one_layer_gets_no_branches() -> None:
    model = tiny_student(layers=1)
    assert self_distill(model, TOKENIZER, tiny_rows(9), TASK, self_distill_params(), PROGRESS) == {}
    assert len(model.branches) == 0


# Teachers and shared parts


def test_a_teacher_learns_the_gold_labels() -> None:
    teacher = tiny_teacher()
    tuned = optimisation(epochs=8, learning_rate=0.003, patience=4)
    curves = fine_tune(teacher, tiny_rows(150), tiny_rows(45, seed=3), tuned, PROGRESS)
    assert max(value for _, value in curves["valid_accuracy"]) > 0.8


def test_the_probe_sees_the_encoder_s_features_and_not_those_of_an_untrained_pooler() -> None:
    teacher = tiny_teacher()
    before = copy_of(teacher.model)
    torch.nn.init.constant_(teacher.model.bert.pooler.dense.weight, 0.0)  # every text looks the same behind it
    pass_features_on(teacher.model)
    changed = moved(teacher.model, before)
    assert changed == {"bert.pooler"}
    encoded = encode(tiny_rows(150), teacher.tokenizer, teacher.task)
    probe(teacher, encoded, 512)
    answers = outputs_of(teacher.model, teacher.logits, encoded, teacher.tokenizer, 512)
    assert float((answers.argmax(-1) == encoded.targets).float().mean()) > 0.6  # by chance: a third


def test_outputs_come_in_the_order_of_the_rows() -> None:
    rows = tiny_rows(20)
    encoded = encode(rows, TOKENIZER, TASK)
    model = tiny_student()
    lengths = outputs_of(model, lambda batch: batch["attention_mask"].sum(1), encoded, TOKENIZER, 40)
    assert lengths.tolist() == encoded.lengths
