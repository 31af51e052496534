"""Multi-label: teachers, students, exits, thresholds and the TF-IDF baseline, each with a sigmoid for every label."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from kd_core.config.data import MULTI_LABEL
from kd_core.config.student import StudentParams
from kd_core.config.training import Distillation, PretrainParams, SelfDistillParams
from kd_core.distill.pretrain import multi_teacher_loss
from kd_core.inference.all_exits import all_exits
from kd_core.inference.batches import collate, encode
from kd_core.models.new_student import new_student
from kd_core.models.student import StudentModel
from kd_core.serving.exits.curve import at
from kd_core.serving.exits.outcomes import Exits
from kd_core.tasks.units import Units
from tests.helpers.distilling import PROGRESS, optimisation
from tests.helpers.one_unit import (
    combine,
    decoded,
    divergence,
    one,
    pretrain,
    self_distill,
    soft_loss,
    targets_of,
    uncertainty,
    units_of,
    validation_on,
)
from tests.helpers.tiny import tiny_base, tiny_tokenizer
from tests.helpers.tiny_exits import one_by_one
from tests.helpers.tiny_multi_label import LABELS, TASK, multi_label_rows

TOKENIZER = tiny_tokenizer()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), layers=2)


# Students


def student(base: Path, **options: Any) -> StudentModel:
    spec = StudentParams(base=str(base), layers=3, hidden=16, heads=2, dropout=0.0)
    decoders = {"gold": LABELS, "one": LABELS}
    model = new_student(spec, decoders, LABELS, base, MULTI_LABEL, **options).eval()
    for decoder in model.decoders.values():
        torch.nn.init.normal_(decoder.linear.weight, std=2.0)
    return model


def batch_of(rows: pd.DataFrame) -> dict[str, Tensor]:
    return collate(encode(rows, TOKENIZER, TASK), range(len(rows)), TOKENIZER.pad_token_id)


def test_a_student_answers_with_sigmoids_and_gives_their_log_odds(base: Path, tmp_path: Path) -> None:
    model, batch = student(base), batch_of(multi_label_rows(6))
    logits = decoded(model, batch)
    expected = combine(logits, "probabilities", {}, MULTI_LABEL)
    torch.testing.assert_close(model.answer(logits), expected)
    torch.testing.assert_close(model(**batch).logits.sigmoid(), expected)
    model.save_pretrained(tmp_path)
    loaded = StudentModel.from_pretrained(tmp_path)
    assert loaded.config.kind == MULTI_LABEL
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_a_decoder_of_another_kind_trains_by_its_own_divergence_and_has_no_say(base: Path) -> None:
    """Stage one's teachers may belong to a task with one label a row."""
    model, rows = student(base, decoder_kinds={"one": "classification"}), multi_label_rows(6)
    scores = {
        name: torch.randn(6, 4, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(["gold", "one"])
    }
    batch = batch_of(rows) | {f"scores:{name}": logits.unsqueeze(1) for name, logits in scores.items()}
    logits = decoded(model, batch)
    torch.testing.assert_close(model.answer(logits), logits["gold"].sigmoid())
    losses = multi_teacher_loss(["gold", "one"], Distillation())(model, batch)
    torch.testing.assert_close(
        losses["loss_gold"], soft_loss(logits["gold"], scores["gold"], Distillation(), MULTI_LABEL)
    )
    torch.testing.assert_close(losses["loss_one"], soft_loss(logits["one"], scores["one"], Distillation()))
    params = PretrainParams(teachers=("gold", "one"), optimisation=optimisation(epochs=1))
    mixed = rows.assign(id=[f"row-{index}" for index in range(6)], label="a label of stage one")
    assert "loss_one" in pretrain(model, TOKENIZER, mixed, scores, TASK, params, None, PROGRESS)


def test_agreement_with_a_teacher_is_the_f1_of_its_answers(base: Path) -> None:
    """With labels as rare as these, equal "no" alone would look like agreement."""
    from kd_core.distill.pretrain import _agreement

    theirs = torch.tensor([[3.0, -3.0, -3.0, -3.0], [3.0, 3.0, -3.0, -3.0]])
    ours = torch.tensor([[-3.0, -3.0, -3.0, -3.0], [3.0, -3.0, -3.0, -3.0]])
    found = _agreement(one(ours), units_of({"a": theirs}), lambda name: MULTI_LABEL)
    assert found["agreement_a"] == pytest.approx((0 + 2 / 3) / 2)


def test_validation_looks_at_the_f1_of_each_row(base: Path) -> None:
    rows = multi_label_rows(9)
    rows.at[3, "label"] = None
    encoded = encode(rows, TOKENIZER, TASK)
    right = targets_of(encoded).clamp_min(0).float()
    order = iter([right[sorted(range(9), key=lambda i: -encoded.lengths[i])]])
    found = validation_on(torch.nn.Linear(1, 1), lambda batch: next(order), encoded, TOKENIZER, 10_000, MULTI_LABEL)
    assert found is not None
    assert found.score == "example_f1"
    assert found.metrics() == {"example_f1": 1.0}


# Branches and exits


def test_branches_are_bernoulli_distances_from_the_trunk() -> None:
    b, t = [0.9, 0.2], [0.5, 0.6]

    def kl(p: list[float], q: list[float]) -> float:
        each = zip(p, q, strict=True)
        return sum(x * math.log(x / y) + (1 - x) * math.log((1 - x) / (1 - y)) for x, y in each)

    logits, trunk = torch.logit(torch.tensor([b, b])), torch.tensor([t, t])
    assert divergence(logits, trunk, "branch_to_trunk", MULTI_LABEL).item() == pytest.approx(kl(b, t), rel=1e-5)
    assert divergence(logits, trunk, "trunk_to_branch", MULTI_LABEL).item() == pytest.approx(kl(t, b), rel=1e-5)
    assert math.isfinite(divergence(logits, torch.tensor([[0.0, 1.0]] * 2), "branch_to_trunk", MULTI_LABEL).item())


@pytest.fixture(scope="module")
def exiting(base: Path) -> StudentModel:
    """A student whose branches have learnt, sure of some texts."""
    model = student(base)
    params = SelfDistillParams(width=8, optimisation=optimisation(epochs=6, learning_rate=0.02))
    rows = multi_label_rows(60, None)
    curves = self_distill(model, TOKENIZER, rows, TASK, params, PROGRESS)
    assert curves["loss"][-1][1] < 0.7 * curves["loss"][0][1]
    exits = torch.from_numpy(all_exits(model.eval(), encode(rows, TOKENIZER, TASK), 0).probabilities)
    each = [divergence(torch.logit(exits[:, i]), exits[:, -1], "branch_to_trunk", MULTI_LABEL).item() for i in (0, 1)]
    assert curves["loss"][-1][1] == pytest.approx(sum(each), rel=0.2), "what was minimised is the Bernoulli divergence"
    return model


def test_simulation_is_execution_and_threshold_zero_the_full_model(exiting: StudentModel) -> None:
    rows = multi_label_rows(40)
    encoded = encode(rows, TOKENIZER, TASK)
    exits = all_exits(exiting, encoded, TOKENIZER.pad_token_id)
    middle = float(np.median(uncertainty(torch.from_numpy(exits.probabilities[:, 0]), MULTI_LABEL)))
    for threshold in (0.0, middle, 1.0):
        simulated = exits.simulate(threshold)
        executed = one_by_one(exiting, encoded, threshold)
        np.testing.assert_allclose(executed.probabilities, simulated.probabilities, atol=1e-5)
        np.testing.assert_allclose(executed.entropy, simulated.entropy, atol=1e-5)
        assert (executed.exit_layer == simulated.exit_layer).all()
        assert (executed.answers.values == simulated.answers.values).all()
        assert executed.answers.values.shape == (40, 4)
    assert 0 < (exits.simulate(middle).exit_layer == 1).sum() < 40


def test_an_early_answer_disagrees_where_any_label_does() -> None:
    """The sure branch lacks one label of two: the row counts whole for the dial, and by its F1 on the curve."""
    truth = Units.one_a_row([[1, 1, 0]] * 10)
    full, partly, unsure = [0.9, 0.9, 0.1], [0.99, 0.01, 0.01], [0.6, 0.6, 0.4]
    branch = [partly] * 3 + [unsure] * 7
    exits = Exits((1, 2), np.stack([np.array(branch), np.array([full] * 10)], axis=1).astype(np.float32), MULTI_LABEL)
    assert exits.disagrees.tolist() == [[True]] * 3 + [[False]] * 7
    assert exits.uncertainty.shape == (10, 2)
    assert at(exits, truth, 0.5).mean_layers == pytest.approx(1.7)
    assert at(exits, truth, 0.5).accuracy == pytest.approx(1 - 0.3 * (1 - 2 / 3))
    assert set(at(exits, truth, 0.5).as_dict("example_f1")) == {"threshold", "example_f1", "mean_layers"}
