"""Multi-label: averages of teachers, weights of teachers and decoders, and students that change their kind of task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig

from kd_core.config.base import parse
from kd_core.config.data import MULTI_LABEL, Kind, TaskParams
from kd_core.config.student import StudentParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Distillation, FinetuneParams
from kd_core.distill import decoder_weights, teacher_weights
from kd_core.distill.finetune import fit_decoder_weights, target_loss
from kd_core.distill.soft_targets import score_columns
from kd_core.distill.update import update
from kd_core.inference.batches import collate, encode
from kd_core.models.new_student import new_student
from kd_core.models.student import StudentModel
from kd_core.models.student_config import StudentConfig
from kd_core.runtime.errors import InvalidDataError
from kd_core.teachers.model import prepare
from tests.helpers.distilling import PROGRESS, copy_of, encoder_config, optimisation, same
from tests.helpers.one_unit import answered, average, decoded, finetune, hard_loss, one, soft_loss, targets_of, units_of
from tests.helpers.tiny import tiny_base, tiny_tokenizer
from tests.helpers.tiny_multi_label import LABELS, TASK, multi_label_rows

TOKENIZER = tiny_tokenizer()
KL, MSE = Distillation(divergence="kl", temperature=2.0), Distillation(divergence="mse")
ROWS = multi_label_rows(9)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), layers=1)


def student(base: Path, *decoders: str, kind: Kind = MULTI_LABEL) -> StudentModel:
    spec = StudentParams(base=str(base), layers=1, hidden=16, heads=2, dropout=0.0)
    return new_student(spec, dict.fromkeys(decoders, LABELS), LABELS, base, kind)


def scores(rows: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return torch.randn(rows, len(LABELS), generator=torch.Generator().manual_seed(seed)) * scale


def params(teachers: tuple[str, ...], **values: Any) -> FinetuneParams:
    given = {"teachers": teachers, "optimisation": optimisation(), "distillation": KL} | values
    return parse(FinetuneParams, given, "finetune")


def bernoulli(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q), summed over labels, mean over texts."""
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(-1).mean()


# One decoder for all teachers


@pytest.mark.parametrize("distillation", [KL, MSE])
def test_teachers_are_averaged_as_sigmoids_each_at_the_temperature(distillation: Distillation) -> None:
    first, second, ours = (scores(5, seed) for seed in range(3))
    tau = 2.0 if distillation.divergence == "kl" else 1.0
    target = 0.25 * (first / tau).sigmoid() + 0.75 * (second / tau).sigmoid()
    expected = 4 * bernoulli(target, (ours / tau).sigmoid())
    if distillation.divergence == "mse":
        expected = (target - ours.sigmoid()).square().sum(-1).mean()
    averaged = average([first, second], torch.tensor([0.25, 0.75]), distillation, MULTI_LABEL)
    torch.testing.assert_close((averaged / tau).sigmoid(), target)
    torch.testing.assert_close(soft_loss(ours, averaged, distillation, MULTI_LABEL), expected)


def test_one_decoder_learns_gold_and_the_average_of_sigmoids(base: Path) -> None:
    model, given = student(base, "gold").eval(), {"a": scores(9, 1), "b": scores(9, 2)}
    encoded = encode(ROWS, TOKENIZER, TASK)
    batch = (
        collate(encoded, range(9), TOKENIZER.pad_token_id)
        | {name: torch.from_numpy(each.values).unsqueeze(1) for name, each in score_columns(units_of(given)).items()}
        | {"targets": targets_of(encoded).unsqueeze(1)}
    )
    losses = target_loss(params(("a", "b"), alpha=0.7, decoders="one"))(model, batch)
    logits = decoded(model, batch)["gold"]
    target = torch.stack([(z / 2).sigmoid() for z in given.values()]).mean(0)
    soft = 4 * bernoulli(target, (logits / 2).sigmoid())
    torch.testing.assert_close(losses["loss"], 0.3 * hard_loss(logits, targets_of(encoded), MULTI_LABEL) + 0.7 * soft)


# Weights of teachers and decoders


def test_weights_by_validation_loss_follow_the_likelihood_of_all_decisions() -> None:
    targets = torch.tensor([[1, 0], [0, 0], [-100, -100]])
    sharp = torch.tensor([[2.0, -2.0], [-2.0, -2.0], [9.0, 9.0]])  # the last row has no label: must not count
    losses = [2 * float(np.log(1 + np.exp(-2.0))), 2 * float(np.log(2.0))]
    expected = np.exp(-np.array(losses)) / np.exp(-np.array(losses)).sum()
    weights = teacher_weights.by_validation_loss(
        {"sharp": one(sharp), "flat": one(torch.zeros(3, 2))}, one(targets), MULTI_LABEL
    )()
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-6)


def binary_log_loss(logits: np.ndarray, gold: np.ndarray, weights: np.ndarray, mode: str) -> float:
    """Of the combined answer; logits [D, N, C]."""
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    mean = np.tensordot(weights, logits, axes=1)
    p = sigmoid(mean) if mode == "logits" else np.tensordot(weights, sigmoid(logits), axes=1)
    return float(-np.log(np.where(gold == 1, p, 1 - p)).mean())


@pytest.mark.parametrize("mode", ["probabilities", "logits"])
def test_fitted_decoder_weights_have_the_least_binary_log_loss(mode: Any) -> None:
    random = np.random.default_rng(0)
    gold = random.integers(0, 2, (300, 4))
    sure = 2 * gold - 1
    logits = {
        "good": 2 * sure + random.normal(size=gold.shape),
        "other": 1.5 * sure + random.normal(size=gold.shape) * 1.5,
        "noise": random.normal(size=gold.shape) * 3,
    }
    weights = decoder_weights.fit(units_of(logits), one(gold), mode, MULTI_LABEL)
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert weights["noise"] < 0.1 < weights["good"]
    stacked = np.stack(list(logits.values()))
    best = binary_log_loss(stacked, gold, np.array(list(weights.values())), mode)
    for other in random.dirichlet(np.ones(3), 200):
        assert best <= binary_log_loss(stacked, gold, other, mode) + 1e-4


def test_weights_are_fitted_on_labelled_rows_and_are_the_answer(base: Path) -> None:
    rows, valid = multi_label_rows(60), multi_label_rows(40, seed=1)
    valid.at[3, "label"] = None
    model, tuned = student(base, "gold", "a"), optimisation(epochs=8, learning_rate=0.02)
    wanted = params(("a",), decoder_weights="fitted", teacher_weights="validation_loss", optimisation=tuned)
    given = {"a": scores(60, scale=20.0)}
    finetune(model, TOKENIZER, rows, given, valid, TASK, wanted, PROGRESS, None, {"a": scores(40)})
    weights = model.config.decoder_weights
    assert weights is not None
    assert weights["gold"] > 0.8, "the other decoder has learned noise"
    fit_decoder_weights(model, TOKENIZER.pad_token_id, encode(valid.drop(index=3), TOKENIZER, TASK), 256)
    assert model.config.decoder_weights == pytest.approx(weights, abs=1e-5)


# Kinds of tasks that follow one another


@pytest.mark.parametrize(("before", "after"), [(MULTI_LABEL, "classification"), ("classification", MULTI_LABEL)])
def test_update_takes_the_kind_of_the_new_task(base: Path, tmp_path: Path, before: Kind, after: Kind) -> None:
    model = student(base, "a", kind=before)
    encoder = copy_of(model.encoder)
    update(model, ["b"], ["yes", "no"], "probabilities", after)
    assert same(model.encoder, encoder)
    model.save_pretrained(tmp_path)
    loaded = StudentModel.from_pretrained(tmp_path)
    assert (loaded.config.kind, loaded.kind_of("gold"), loaded.kind_of("b")) == (after, after, after)
    logits = {"gold": torch.tensor([[2.0, 1.0]]), "b": torch.tensor([[2.0, 1.0]])}
    expected = logits["b"].sigmoid() if after == MULTI_LABEL else logits["b"].softmax(-1)
    torch.testing.assert_close(loaded.answer(logits), expected)


def test_a_student_teaches_its_own_kind_of_task_only(base: Path, tmp_path: Path) -> None:
    """Its config says nothing of kinds where rows have one label, which is saying that they have."""
    single, several = tmp_path / "single", tmp_path / "several"
    for folder, kind in ((single, "classification"), (several, MULTI_LABEL)):
        model = student(base, "gold", "other", kind=kind)  # type: ignore[arg-type]
        model.save_pretrained(folder)
        TOKENIZER.save_pretrained(folder)
    one = TaskParams(kind="classification", labels=LABELS, max_length=24)
    with pytest.raises(InvalidDataError, match=r"teacher t: its config says single_label_classification"):
        prepare("t", TeacherParams(weights=str(single)), TASK, single)
    with pytest.raises(InvalidDataError, match=r"teacher t: its config says multi_label_classification"):
        prepare("t", TeacherParams(weights=str(several)), one, several)
    teacher = prepare("t", TeacherParams(weights=str(several)), TASK, several)
    encoded = encode(ROWS, TOKENIZER, TASK)
    batch = collate(encoded, range(9), TOKENIZER.pad_token_id)
    own = StudentModel.from_pretrained(several).eval()
    wanted = answered(own, batch)
    torch.testing.assert_close(teacher.logits(batch).squeeze(1).sigmoid(), wanted)
    tuned = TeacherParams(weights=str(single), fine_tune=optimisation())
    assert prepare("t", tuned, TASK, single).kind == MULTI_LABEL, "a new classifier may be of any kind"


def test_a_config_says_nothing_of_kinds_where_rows_have_one_label() -> None:
    """As in folders that were written before configs named the kind."""
    config = StudentConfig(encoder=encoder_config(), decoders={"gold": ["a", "b"]}, labels=["a", "b"])
    assert config.kind == "classification"
    assert not {"problem_type", "decoder_kinds"} & set(config.to_diff_dict())
    assert AutoConfig.for_model("kd_student", problem_type="multi_label_classification").kind == MULTI_LABEL
