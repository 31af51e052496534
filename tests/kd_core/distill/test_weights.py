"""Baselines and weights: one decoder for all teachers, teachers weighed against each other, decoders in the answer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kd_core.config.base import parse
from kd_core.config.data import CLASSIFICATION
from kd_core.config.training import Distillation, FinetuneParams, PretrainParams
from kd_core.distill import decoder_weights, teacher_weights
from kd_core.distill.finetune import fit_decoder_weights, target_loss
from kd_core.inference.batches import encode
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
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
    same,
    scores_for,
    tiny_student,
    tiny_teacher,
)
from tests.helpers.one_unit import average, decoded, finetune, one, pretrain, soft_loss, targets_of, units_of
from tests.helpers.tiny import LABELS, tiny_rows

MSE = Distillation(divergence="mse", temperature=2.0)


def params(teachers: tuple[str, ...] = ("a", "b"), **changes: Any) -> FinetuneParams:
    values = {"teachers": teachers, "distillation": KL, "optimisation": optimisation(epochs=3)} | changes
    return FinetuneParams.model_validate(values)


def student(*decoders: str, **options: Any) -> StudentModel:
    return tiny_student({name: list(LABELS) for name in decoders}, **options)


# One decoder for all teachers


@pytest.mark.parametrize("distillation", [KL, MSE])
def test_teachers_are_averaged_as_probabilities_each_at_the_temperature(distillation: Distillation) -> None:
    first, second, ours = (torch.randn(5, 3, generator=torch.Generator().manual_seed(n)) * 3 for n in range(3))
    tau = 2.0 if distillation.divergence == "kl" else 1.0
    target = 0.25 * (first / tau).softmax(-1) + 0.75 * (second / tau).softmax(-1)
    if distillation.divergence == "kl":
        expected = 4 * (target * (target / (ours / tau).softmax(-1)).log()).sum(-1).mean()
    else:
        expected = (target - ours.softmax(-1)).square().sum(-1).mean()
    averaged = average([first, second], torch.tensor([0.25, 0.75]), distillation)
    torch.testing.assert_close(soft_loss(ours, averaged, distillation), expected)


@pytest.mark.parametrize("teachers", [("a",), ("a", "b")])
def test_one_decoder_learns_gold_and_the_average(teachers: tuple[str, ...]) -> None:
    """1-o-1 and 1avg-o-1."""
    rows = tiny_rows(6)
    model = student("gold").eval()
    scores = {name: scores_for(rows, seed=index) for index, name in enumerate(teachers)}
    batch = batch_of(rows, **scores)
    losses = target_loss(params(teachers, alpha=0.7, decoders="one"))(model, batch)
    logits = decoded(model, batch)["gold"]
    target = torch.stack([(z / 2).softmax(-1) for z in scores.values()]).mean(0)
    soft = 4 * (target * (target / (logits / 2).softmax(-1)).log()).sum(-1).mean()
    hard = torch.nn.functional.cross_entropy(logits, batch["targets"].squeeze(1))
    torch.testing.assert_close(losses["loss"], 0.3 * hard + 0.7 * soft)
    losses["loss"].backward()
    assert gradient(model.encoder) > 0


# No stage one, or one of attention alone


def test_pretraining_on_attention_alone_moves_the_encoder_and_no_decoder() -> None:
    rows, model = tiny_rows(30), student("gold", dropout=0.0)
    before = copy_of(model)
    alone = PretrainParams.model_validate({"teachers": [], "optimisation": optimisation(epochs=1)})
    curves = pretrain(model, TOKENIZER, rows, {}, TASK, alone, tiny_teacher(), PROGRESS)
    first = {name: points[0][1] for name, points in curves.items()}
    assert first["loss"] == pytest.approx(first["relation_attention"] + first["relation_value"], abs=1e-5)
    assert moved(model, before) == {"encoder.embeddings", "encoder.encoder"}
    assert same(model.decoders, copy_of(student("gold", dropout=0.0).decoders))


# Weights of teachers


def test_fixed_weights_sum_to_one_and_weigh_the_losses() -> None:
    weights = teacher_weights.uniform(4)
    torch.testing.assert_close(weights(), torch.full((4,), 0.25))
    losses = [torch.tensor(float(value)) for value in (1, 2, 3, 6)]
    assert float(weights.total(losses)) == pytest.approx(3.0)


def test_weights_by_validation_loss_follow_the_likelihood_of_gold() -> None:
    targets = torch.tensor([0, 1, -100, 2])
    sharp = torch.nn.functional.one_hot(targets.clamp_min(0), 3) * 4.0
    flat = torch.zeros(4, 3)
    sharp[2] = torch.tensor([9.0, 0.0, 0.0])  # of a row without a label: must not count
    losses = [float(np.log(1 + 2 * np.exp(-4.0))), float(np.log(3.0))]
    expected = np.exp(-np.array(losses)) / np.exp(-np.array(losses)).sum()
    weights = teacher_weights.by_validation_loss(
        units_of({"sharp": sharp, "flat": flat}), one(targets), CLASSIFICATION
    )()
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-6)


def test_learned_weights_do_not_collapse_onto_the_easiest_teacher() -> None:
    weights = teacher_weights.learned(3)
    torch.testing.assert_close(weights(), torch.full((3,), 1 / 3))
    for _ in range(1000):
        weights.total([torch.tensor(0.01), torch.tensor(0.1), torch.tensor(0.4)])
    shares = weights()
    assert float(shares.sum()) == pytest.approx(1.0)
    np.testing.assert_allclose((shares * torch.tensor([0.01, 0.1, 0.4])).numpy(), float(shares[0]) * 0.01, rtol=1e-3)
    assert float(shares.min()) > 0.02


def test_learned_weights_forget_and_look_at_training_only() -> None:
    weights = teacher_weights.learned(2)
    for _ in range(2000):
        weights.total([torch.tensor(1.0), torch.tensor(9.0)])
    for _ in range(2000):
        weights.total([torch.tensor(9.0), torch.tensor(1.0)])
    assert float(weights()[1]) == pytest.approx(0.9, abs=0.01)
    before = weights().clone()
    weights.eval().total([torch.tensor(100.0), torch.tensor(0.1)])
    assert torch.equal(weights(), before)


def test_the_weights_in_use_weigh_the_target_loss() -> None:
    rows = tiny_rows(6)
    model = student("gold", "a", "b").eval()
    batch = batch_of(rows, a=scores_for(rows), b=scores_for(rows, seed=1))
    weights = teacher_weights.TeacherWeights(torch.tensor([0.9, 0.1]), 2)
    losses = target_loss(params(alpha=1.0), weights)(model, batch)
    expected = 0.9 * losses["loss_a"] + 0.1 * losses["loss_b"]
    torch.testing.assert_close(losses["loss"], expected)


@pytest.mark.parametrize("decoders", ["per_teacher", "one"])
def test_validation_loss_decides_how_much_a_teacher_teaches(decoders: str) -> None:
    """The scores of the validation rows weigh those of the training rows, which say nothing of gold here."""
    rows, valid = tiny_rows(30), tiny_rows(9, seed=1)
    scores = {"a": scores_for(rows), "b": scores_for(rows, seed=1)}
    gold = torch.nn.functional.one_hot(targets_of(encode(valid, TOKENIZER, TASK)), 3).float()
    valid_scores = {"a": 2 * gold, "b": -2 * gold}
    shares = teacher_weights.by_validation_loss(
        units_of(valid_scores), encode(valid, TOKENIZER, TASK).targets, CLASSIFICATION
    )()
    assert shares[0] > 0.8
    wanted = params(
        teacher_weights="validation_loss", decoders=decoders, alpha=1.0, optimisation=optimisation(epochs=1)
    )
    model = student("gold", *(["a", "b"] if decoders == "per_teacher" else []), dropout=0.0)
    before = copy.deepcopy(model)
    curves = finetune(model, TOKENIZER, rows, scores, valid, TASK, wanted, PROGRESS, None, valid_scores)
    if decoders == "per_teacher":
        first = {name: points[0][1] for name, points in curves.items()}
        expected = float(shares[0]) * first["loss_a"] + float(shares[1]) * first["loss_b"]
        assert first["loss"] == pytest.approx(expected, rel=1e-4)
        return
    turned = copy.deepcopy(before)
    swapped = {"a": valid_scores["b"], "b": valid_scores["a"]}
    finetune(turned, TOKENIZER, rows, scores, valid, TASK, wanted, PROGRESS, None, swapped)
    assert moved(turned, copy_of(model)), "other weights, another target"


class Stopping(Progress):
    """Ends the process' work after some updates, as a signal would."""

    def __init__(self, after: int) -> None:
        super().__init__("test")
        self._left = after

    def update(self, phase: str, done: float, total: float | None, unit: str = "rows", **numbers: float) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def test_learned_weights_are_part_of_a_checkpoint(tmp_path: Path) -> None:
    rows = tiny_rows(40)
    scores = {"a": scores_for(rows) * 0.1, "b": scores_for(rows, seed=1) * 5}
    wanted = params(teacher_weights="learned", optimisation=optimisation(epochs=3, checkpoint_seconds=1e-9))

    def run(progress: Progress, state: Storage | None) -> tuple[dict[str, Tensor], Any]:
        model = student("gold", "a", "b")
        curves = finetune(model, TOKENIZER, rows, scores, rows, TASK, wanted, progress, state)
        return copy_of(model), curves

    whole, curves = run(PROGRESS, None)
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(12), Storage(tmp_path))
    resumed, again = run(PROGRESS, Storage(tmp_path))
    assert again == curves
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    last = [curves[f"weight_{name}"][-1][1] for name in ("a", "b")]
    assert sum(last) == pytest.approx(1.0, abs=1e-5)
    assert last[0] > 0.6, "teacher a, all but indifferent, is followed at once"


# Weights of decoders


@pytest.mark.parametrize("mode", ["probabilities", "logits"])
def test_fitted_decoder_weights_have_the_least_log_loss(mode: Any) -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 300)
    gold = np.eye(3)[targets]
    logits = {
        "good": 3 * gold + random.normal(size=(300, 3)),
        "other": 2 * gold + random.normal(size=(300, 3)) * 1.5,
        "noise": random.normal(size=(300, 3)) * 3,
    }
    weights = decoder_weights.fit(units_of(logits), one(targets), mode, CLASSIFICATION)
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert min(weights.values()) >= 0
    assert weights["noise"] < 0.1 < weights["good"]
    stacked = np.stack(list(logits.values()))
    best = decoder_weights.log_loss(stacked, targets, np.array(list(weights.values())), mode)
    for other in random.dirichlet(np.ones(3), 200):
        assert best <= decoder_weights.log_loss(stacked, targets, other, mode) + 1e-4


def test_fitted_decoder_weights_are_the_model_s_answer_and_are_saved(tmp_path: Path) -> None:
    rows, valid = tiny_rows(60), tiny_rows(45, seed=1)
    model = student("gold", "a")
    nonsense = {"a": scores_for(rows) * 20}
    wanted = params(("a",), decoder_weights="fitted", optimisation=optimisation(epochs=8, learning_rate=0.02))
    finetune(model, TOKENIZER, rows, nonsense, valid, TASK, wanted, PROGRESS)
    weights = model.config.decoder_weights
    assert weights is not None
    assert weights["gold"] > 0.8, "the other decoder has learned noise"
    model.save_pretrained(tmp_path)
    loaded, batch = StudentModel.from_pretrained(tmp_path), batch_of(valid)
    with torch.no_grad():
        logits = decoded(loaded, batch)
        expected = weights["gold"] * logits["gold"].softmax(-1) + weights["a"] * logits["a"].softmax(-1)
        torch.testing.assert_close(loaded.answer(logits), expected)


def test_fitting_without_labelled_rows_is_refused() -> None:
    unlabelled = encode(tiny_rows(5, labels=None), TOKENIZER, TASK)
    with pytest.raises(ParamsError, match="decoder_weights"):
        fit_decoder_weights(student("gold"), TOKENIZER.pad_token_id, unlabelled, 64)


def test_weighing_teachers_by_validation_loss_without_labelled_rows_is_refused() -> None:
    """All would have the same loss, none, and so the same weight."""
    rows, unlabelled = tiny_rows(6), tiny_rows(5, labels=None)
    scores, valid_scores = ({name: scores_for(each) for name in ("a", "b")} for each in (rows, unlabelled))
    wanted = params(teacher_weights="validation_loss")
    with pytest.raises(ParamsError, match="teacher_weights: validation_loss, but"):
        finetune(student("gold", "a", "b"), TOKENIZER, rows, scores, unlabelled, TASK, wanted, PROGRESS, None,
                 valid_scores)  # fmt: skip


def test_learned_weights_with_one_decoder_are_refused() -> None:
    values = {"teachers": ["a", "b"], "decoders": "one", "teacher_weights": "learned", "optimisation": optimisation()}
    with pytest.raises(ParamsError, match=r"finetune: .*decoders: one take uniform or validation_loss"):
        parse(FinetuneParams, values, "finetune")
