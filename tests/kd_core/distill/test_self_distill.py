"""Self-distillation: the trunk is frozen, its combined answer is what branches learn, and no label is read."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kd_core.config.data import CLASSIFICATION
from kd_core.config.training import SelfDistillParams
from kd_core.distill import self_distill as self_distillation
from kd_core.tasks.heads import classification
from kd_core.tasks.units import UNIT_MASK
from tests.helpers.distilling import (
    PROGRESS,
    TASK,
    TOKENIZER,
    batch_of,
    copy_of,
    optimisation,
    same,
    target_student,
    tiny_student,
)
from tests.helpers.one_unit import divergence, self_distill
from tests.helpers.tiny import tiny_rows


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


def test_a_text_passes_through_the_trunk_once_however_many_epochs_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model, passed = tiny_student(layers=3), []
    forward = model.hidden_states

    def counting(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        passed.append(len(batch["input_ids"]))
        return forward(batch)

    monkeypatch.setattr(model, "hidden_states", counting)
    self_distill(model, TOKENIZER, tiny_rows(40, labels=None), TASK, self_distill_params(), PROGRESS)
    assert sum(passed) == 40


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
    trunk = model.answer(model.decode(states[-1], batch)).squeeze(1)
    expected = sum(
        float(divergence(model.branch_logits(layer, states[layer], batch).squeeze(1), trunk, "branch_to_trunk"))
        for layer in (1, 2)
    )
    trunk_outputs = self_distillation._trunk_outputs(model)(batch)
    outputs = self_distillation._columns(model, trunk_outputs, batch[UNIT_MASK])
    losses = self_distillation.branch_loss("branch_to_trunk", CLASSIFICATION)(model.branches, outputs)
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


def test_a_kind_of_task_may_have_no_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "BRANCHES", False)
    model = tiny_student(layers=2)
    assert self_distill(model, TOKENIZER, tiny_rows(9), TASK, self_distill_params(), PROGRESS) == {}
    assert len(model.branches) == 0
